// Bodies of Storage and MemoryPool.
// Surprising choice: ids come from one process-wide counter, the only global state of the library.
#pragma once

#include <cstdlib>
#include <cstring>
#include <limits>
#include <new>

#include <promptiqa/core/memory_pool.hpp>
#if defined(__linux__)
#include <sys/mman.h>
#endif

namespace promptiqa {

namespace detail {
// Eighths of a power of two: at most 12.5% is wasted and sizes that differ a little share a list.
inline std::size_t size_class(std::size_t bytes) {
  std::size_t step = 64;
  while (step * 16 < bytes) step *= 2;
  return (bytes + step - 1) / step * step;
}
}  // namespace detail

PROMPTIQA_INLINE void StorageRef::release(Storage* storage) {
  if (storage->pool) {
    const std::shared_ptr<MemoryPool> pool = std::move(storage->pool);  // outlives the call, maybe not the block
    pool->put_back(storage);
  } else {
    delete storage;
  }
}

PROMPTIQA_INLINE MemoryPool::~MemoryPool() {
  for (auto& [capacity, blocks] : free_)
    for (Storage* block : blocks) {
      std::free(block->data);
      delete block;
    }
}

PROMPTIQA_INLINE StorageRef MemoryPool::allocate(std::size_t bytes) {
  if (bytes > std::numeric_limits<std::size_t>::max() / 4) throw std::bad_alloc();  // rounding up must not overflow
  const std::size_t capacity = detail::size_class(bytes ? bytes : 1);
  Storage* block = nullptr;
  {
    std::lock_guard<std::mutex> lock(mutex_);
    auto& blocks = free_[capacity];
    if (!blocks.empty()) {
      block = blocks.back();
      blocks.pop_back();
    }
  }
  if (!block) {
    auto fresh = std::make_unique<Storage>();
    fresh->data = system_allocate(capacity);
    fresh->capacity = capacity;
    block = fresh.release();
    std::lock_guard<std::mutex> lock(mutex_);
    reserved_ += capacity;
    ++allocations_;
  }
  block->id = next_id();
  block->pool = shared_from_this();
  block->home = this;
  return StorageRef(block);
}

PROMPTIQA_INLINE StorageRef MemoryPool::foreign(const void* data, std::size_t bytes,
                                                std::shared_ptr<const void> owner) {
  auto* block = new Storage;
  block->data = const_cast<void*>(data);
  block->capacity = bytes;
  block->id = next_id();
  block->owner = std::move(owner);
  block->read_only = true;
  return StorageRef(block);
}

PROMPTIQA_INLINE StorageRef MemoryPool::part_of(std::shared_ptr<const StorageRef> whole, void* data,
                                                std::size_t bytes) {
  auto* block = new Storage;
  block->data = data;
  block->capacity = bytes;
  block->id = next_id();
  block->home = (*whole)->home;
  block->owner = std::move(whole);
  return StorageRef(block);
}

PROMPTIQA_INLINE std::uint64_t MemoryPool::next_id() {
  static std::atomic<std::uint64_t> counter{0};
  return counter.fetch_add(1, std::memory_order_relaxed) + 1;
}

PROMPTIQA_INLINE void MemoryPool::put_back(Storage* storage) {
  std::lock_guard<std::mutex> lock(mutex_);
  try {
    free_[storage->capacity].push_back(storage);
  } catch (const std::bad_alloc&) {  // no memory to remember it by: a release must not throw
    system_free(storage->data);
    reserved_ -= storage->capacity;
    delete storage;
  }
}

PROMPTIQA_INLINE void MemoryPool::trim() {
  std::lock_guard<std::mutex> lock(mutex_);
  for (auto& [capacity, blocks] : free_) {
    for (Storage* block : blocks) {
      system_free(block->data);
      reserved_ -= capacity;
      delete block;
    }
    blocks.clear();
  }
}

PROMPTIQA_INLINE std::size_t MemoryPool::bytes_reserved() const {
  std::lock_guard<std::mutex> lock(mutex_);
  return reserved_;
}

PROMPTIQA_INLINE std::uint64_t MemoryPool::system_allocations() const {
  std::lock_guard<std::mutex> lock(mutex_);
  return allocations_;
}

PROMPTIQA_INLINE void* MemoryPool::system_allocate(std::size_t bytes) {
  constexpr std::size_t huge_page = std::size_t{2} << 20;
  const std::size_t alignment = bytes >= 2 * huge_page ? huge_page : 64;
  const std::size_t padded = (bytes + alignment - 1) / alignment * alignment;
  void* data = std::aligned_alloc(alignment, padded);
  if (!data) throw std::bad_alloc();
#if defined(__linux__) && defined(MADV_HUGEPAGE)
  if (alignment == huge_page) madvise(data, padded, MADV_HUGEPAGE);
#endif
  return data;
}

PROMPTIQA_INLINE void MemoryPool::system_free(void* data) { std::free(data); }

PROMPTIQA_INLINE void MemoryPool::copy_from_host(void* to, const void* from, std::size_t bytes) {
  if (bytes > 0) std::memcpy(to, from, bytes);
}
PROMPTIQA_INLINE void MemoryPool::copy_to_host(void* to, const void* from, std::size_t bytes) {
  if (bytes > 0) std::memcpy(to, from, bytes);
}

}  // namespace promptiqa
