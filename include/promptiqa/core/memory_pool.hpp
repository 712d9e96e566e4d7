// Storage and MemoryPool: reference-counted blocks of memory that are recycled, not freed.
// Surprising choice: a released block goes back to its pool's free list together with its bookkeeping, so
// inference allocates nothing once it has run once; the pool lives as long as any block of it.
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <map>
#include <memory>
#include <mutex>
#include <vector>

#include <promptiqa/core/error.hpp>
#include <promptiqa/core/macros.hpp>

namespace promptiqa {

class MemoryPool;

/// One block of memory. Handled through StorageRef only.
struct Storage {
  void* data = nullptr;
  std::size_t capacity = 0;               // bytes
  std::uint64_t id = 0;                   // unique for each hand-out; gradients are kept per id
  std::atomic<std::int64_t> references{0};
  std::shared_ptr<MemoryPool> pool;       // where the block goes back to; null for foreign memory
  MemoryPool* home = nullptr;             // whose copies reach the block; null for foreign memory, which is the host's
  std::shared_ptr<const void> owner;      // keeps memory alive that is not the block's own (a mapped file, a slab)
  bool read_only = false;                 // foreign memory is
};

/// Counted reference to a Storage: copies share the block, the last one gives it back. Thread-safe as shared_ptr is.
class StorageRef {
 public:
  StorageRef() = default;
  explicit StorageRef(Storage* storage) : storage_(storage) {
    if (storage_) storage_->references.fetch_add(1, std::memory_order_relaxed);
  }
  StorageRef(const StorageRef& other) : StorageRef(other.storage_) {}
  StorageRef(StorageRef&& other) noexcept : storage_(other.storage_) { other.storage_ = nullptr; }
  StorageRef& operator=(StorageRef other) noexcept {
    std::swap(storage_, other.storage_);
    return *this;
  }
  ~StorageRef() {
    if (storage_ && storage_->references.fetch_sub(1, std::memory_order_acq_rel) == 1) release(storage_);
  }

  Storage* operator->() const { return storage_; }
  explicit operator bool() const { return storage_ != nullptr; }
  /// True when no other reference shares the block: it may then be overwritten.
  bool unique() const { return storage_ && storage_->references.load(std::memory_order_acquire) == 1; }

 private:
  static void release(Storage* storage);
  Storage* storage_ = nullptr;
};

/// Recycles memory by size class (eighths of a power of two; 64-byte aligned). Safe from many threads. Host memory,
/// unless a device's pool overrides where it comes from and how it is copied; that one must trim() in its destructor.
class MemoryPool : public std::enable_shared_from_this<MemoryPool> {
 public:
  static std::shared_ptr<MemoryPool> create() { return std::shared_ptr<MemoryPool>(new MemoryPool); }
  virtual ~MemoryPool();
  MemoryPool(const MemoryPool&) = delete;
  MemoryPool& operator=(const MemoryPool&) = delete;

  /// A block of at least `bytes` bytes, uninitialised. Throws std::bad_alloc when there is no memory.
  StorageRef allocate(std::size_t bytes);

  /// Memory somebody else owns, kept alive through `owner` and never written to or freed by the library.
  static StorageRef foreign(const void* data, std::size_t bytes, std::shared_ptr<const void> owner);

  /// A block inside a larger one, which it keeps alive.
  static StorageRef part_of(std::shared_ptr<const StorageRef> whole, void* data, std::size_t bytes);

  /// A number no block has had: the id of a block that is handed out again.
  static std::uint64_t next_id();

  /// Gives every block that nobody uses back to the system.
  void trim();

  /// Copies into and out of a block of this pool; the host's side may be used again when they return.
  virtual void copy_from_host(void* to, const void* from, std::size_t bytes);
  virtual void copy_to_host(void* to, const void* from, std::size_t bytes);
  /// Waits until everything has been done that was asked of the device; there is nothing to wait for on the host.
  virtual void synchronize() {}

  /// Bytes obtained from the system and not given back, and how many requests the system has had. For tests.
  std::size_t bytes_reserved() const;
  std::uint64_t system_allocations() const;

 protected:
  MemoryPool() = default;
  virtual void* system_allocate(std::size_t bytes);
  virtual void system_free(void* data);

 private:
  friend class StorageRef;
  void put_back(Storage* storage);

  mutable std::mutex mutex_;
  std::map<std::size_t, std::vector<Storage*>> free_;  // by capacity
  std::size_t reserved_ = 0;
  std::uint64_t allocations_ = 0;
};

}  // namespace promptiqa

#if PROMPTIQA_WITH_BODIES
#include <promptiqa/core/memory_pool.ipp>
#endif
