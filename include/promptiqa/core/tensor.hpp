// Tensor<T>: a shape over shared, contiguous, row-major memory.
// Surprising choice: that is all. No strides, no lazy expressions; the only view is a reshape, so the
// gradient of a tensor and of any view of it are the same numbers and share one identity.
#pragma once

#include <algorithm>
#include <cstdint>
#include <span>
#include <string>
#include <type_traits>
#include <utility>
#include <vector>

#include <promptiqa/core/error.hpp>
#include <promptiqa/core/memory_pool.hpp>
#include <promptiqa/core/shape.hpp>

namespace promptiqa {

/// Where a tensor's memory lives.
enum class Device { cpu, cuda };

template <class T>
class Tensor {
 public:
  /// An empty tensor: no memory, false in a condition.
  Tensor() = default;

  /// A tensor over an existing block. Throws ShapeError when the block is too small for the shape.
  Tensor(StorageRef storage, Shape shape, Device device = Device::cpu)
      : storage_(std::move(storage)), shape_(std::move(shape)), device_(device) {
    if (!storage_ || storage_->capacity < static_cast<std::size_t>(shape_.numel()) * sizeof(T))
      throw ShapeError("tensor: the memory is too small for shape " + shape_.str());
  }

  const Shape& shape() const { return shape_; }
  std::int64_t dim(int i) const { return shape_[i]; }
  int rank() const { return shape_.rank(); }
  std::int64_t numel() const { return storage_ ? shape_.numel() : 0; }
  Device device() const { return device_; }
  explicit operator bool() const { return static_cast<bool>(storage_); }

  /// The elements, in row-major order. On CUDA this is a device address.
  const T* data() const { return storage_ ? static_cast<const T*>(storage_->data) : nullptr; }
  /// The same for writing: only into memory that an op has just allocated or that is a parameter. Throws Error for
  /// memory somebody else owns (weights left in the mapped file): writing there would end the process.
  T* mutable_data() {
    if (storage_ && storage_->read_only)
      throw Error("tensor " + shape_.str() +
                  ": its memory is a file's and read-only; load weights for training to change them");
    return storage_ ? static_cast<T*>(storage_->data) : nullptr;
  }

  /// The elements of a CPU tensor. Throws Error for a tensor of a device: host() copies those.
  std::span<const T> values() const {
    if (device_ != Device::cpu)
      throw Error("values: expected a tensor in the CPU's memory, got " + shape_.str() +
                  " on a device; host() copies it");
    return {data(), static_cast<std::size_t>(numel())};
  }

  /// A copy of the elements, from whichever device they are on. Waits for the work that makes them.
  std::vector<T> host() const {
    std::vector<T> copy(static_cast<std::size_t>(numel()));
    copy_to(0, numel(), copy.data());
    return copy;
  }

  /// Copies elements [begin, begin + count) to the host, from whichever device they are on. Waits as host() does.
  void copy_to(std::int64_t begin, std::int64_t count, T* host) const {
    if (count == 0) return;
    if (device_ == Device::cpu)
      std::copy(data() + begin, data() + begin + count, host);
    else
      storage_->home->copy_to_host(host, data() + begin, static_cast<std::size_t>(count) * sizeof(T));
  }

  /// The single element of a one-element tensor, from whichever device it is on. Throws ShapeError otherwise.
  T item() const {
    if (numel() != 1) throw ShapeError("item: expected a tensor of one element, got shape " + shape_.str());
    T value;
    copy_to(0, 1, &value);
    return value;
  }

  /// The same memory under another shape; one dimension may be -1 and is computed.
  /// Throws ShapeError when the number of elements differs.
  Tensor reshape(std::initializer_list<std::int64_t> dims) const {
    Shape shape;  // checks the product of the given dimensions
    int unknown = -1;
    for (std::int64_t d : dims) {
      const bool computed = d == -1 && unknown < 0;
      if (computed) unknown = shape.rank();
      shape.push_back(computed ? 1 : d);
    }
    const std::int64_t known = shape.numel();
    if (unknown >= 0) shape.set(unknown, known ? shape_.numel() / known : 0);
    return reshape(shape);
  }
  Tensor reshape(const Shape& shape) const {
    if (shape.numel() != shape_.numel())
      throw ShapeError("reshape: expected " + std::to_string(shape_.numel()) + " elements as in " + shape_.str() +
                       ", got shape " + shape.str());
    Tensor view = *this;
    view.shape_ = shape;
    return view;
  }

  /// Identity of the memory: equal for a tensor and its reshapes, never reused. 0 for an empty tensor.
  std::uint64_t id() const { return storage_ ? storage_->id : 0; }
  const StorageRef& storage() const { return storage_; }

 private:
  StorageRef storage_;
  Shape shape_;
  Device device_ = Device::cpu;
};

}  // namespace promptiqa
