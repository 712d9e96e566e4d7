// Shared memory of an emulated block: every element knows whether it was written, by whom and in which barrier epoch.
// Surprising choice: a missing barrier is found although threads run one after the other: two threads that touch an
// element without a barrier between them, one of them writing, are a race whatever the values were.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <type_traits>

#include "block.hpp"

namespace promptiqa::emulation {

enum class Access { read, write, atomic };

/// A named range of the running block's shared memory.
struct SharedRange {
  unsigned char* data;
  std::size_t first;  // of its bytes, among all of the block's
  std::size_t bytes;
  const char* name;
};

/// Whether the address is of this OS thread's shared memory.
bool in_shared_memory(const void* p);

/// The range of a variable of the running block: `identity` is one address a variable. Reports when the block's static
/// shared memory outgrows 48 KiB.
SharedRange static_shared_range(const char* name, const void* identity, std::size_t bytes);
/// Bytes [first, first + bytes) of the launch's dynamic shared memory.
SharedRange dynamic_shared_range(std::size_t first, std::size_t bytes);

/// Checks one access of the running thread to bytes [offset, offset + bytes) of a range, and remembers it. Reports an
/// access out of bounds, misaligned, to what nobody has written, or that races with another thread's.
void check_shared(const SharedRange& range, std::ptrdiff_t offset, std::size_t bytes, std::size_t alignment,
                  std::size_t element_bytes, Access access);

/// The byte of dynamic shared memory at that place of a range. Reports static memory.
std::size_t place_in_dynamic_memory(const SharedRange& range, std::ptrdiff_t offset);

/// Tensor cores (and copy engines) see shared memory through a proxy of their own: what a thread has written is theirs
/// to read once that thread has called this (fence.proxy.async) and a barrier has been passed behind it.
void publish_to_async_proxy();
/// Those bytes of dynamic shared memory, read through that proxy on behalf of the running thread. Reports what
/// check_shared does, and what its writer has not published.
const unsigned char* read_by_tensor_cores(std::size_t first, std::size_t bytes);

/// What `T*` to shared memory is on a device: a position in a range.
template <class T>
class SharedPointer {
 public:
  static_assert(std::is_trivially_copyable_v<T> && sizeof(T) % 2 == 0, "shared memory is watched in pairs of bytes");

  SharedPointer(const SharedRange& range, std::ptrdiff_t element = 0) : range_(range), element_(element) {}

  /// One element: reading and writing are checked.
  class Element {
   public:
    Element(const SharedRange& range, std::ptrdiff_t element) : range_(range), element_(element) {}
    operator T() const {
      T value;
      const SharedPointer at(range_, element_);
      at.read(&value, sizeof(T), alignof(T));
      return value;
    }
    const Element& operator=(const T& value) const {
      const SharedPointer at(range_, element_);
      at.write(&value, sizeof(T), alignof(T));
      return *this;
    }
    const Element& operator=(const Element& other) const { return *this = static_cast<T>(other); }
    const Element& operator+=(const T& value) const { return *this = static_cast<T>(*this) + value; }
    const Element& operator*=(const T& value) const { return *this = static_cast<T>(*this) * value; }
    Element(const Element&) = default;

   private:
    SharedRange range_;
    std::ptrdiff_t element_;
  };

  Element operator[](std::ptrdiff_t i) const { return Element(range_, element_ + i); }
  Element operator*() const { return (*this)[0]; }
  SharedPointer operator+(std::ptrdiff_t i) const { return SharedPointer(range_, element_ + i); }
  SharedPointer operator-(std::ptrdiff_t i) const { return SharedPointer(range_, element_ - i); }
  SharedPointer& operator+=(std::ptrdiff_t i) {
    element_ += i;
    return *this;
  }

  const SharedRange& range() const { return range_; }
  std::ptrdiff_t offset() const { return element_ * static_cast<std::ptrdiff_t>(sizeof(T)); }

  /// Any bytes from here on as one access: how vector accesses and asynchronous copies are made.
  void read(void* to, std::size_t bytes, std::size_t alignment) const {
    check_shared(range_, offset(), bytes, alignment, sizeof(T), Access::read);
    std::memcpy(to, range_.data + offset(), bytes);
  }
  void write(const void* from, std::size_t bytes, std::size_t alignment) const {
    check_shared(range_, offset(), bytes, alignment, sizeof(T), Access::write);
    std::memcpy(range_.data + offset(), from, bytes);
  }
  /// Adds to the element; atomics do not race with each other.
  T atomic_add(T value) const {
    check_shared(range_, offset(), sizeof(T), alignof(T), sizeof(T), Access::atomic);
    T old;
    std::memcpy(&old, range_.data + offset(), sizeof(T));
    const T sum = old + value;
    std::memcpy(range_.data + offset(), &sum, sizeof(T));
    return old;
  }
  /// The same memory seen as elements of another type.
  template <class U>
  SharedPointer<U> as() const {
    SharedRange rest = range_;
    rest.data += offset();
    rest.first += static_cast<std::size_t>(offset());
    rest.bytes -= static_cast<std::size_t>(offset());
    return SharedPointer<U>(rest);
  }

 private:
  SharedRange range_;
  std::ptrdiff_t element_;
};

}  // namespace promptiqa::emulation
