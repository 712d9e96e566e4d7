// A queue with its owner, and the pool of device memory in its order.
// Surprising choice: several pools may share one queue: a graph has one of its own, whose blocks nobody else is given.
#pragma once

#include <memory>
#include <utility>

#include <promptiqa/core/error.hpp>
#include "runtime.hpp"

namespace promptiqa::cuda {

/// A queue that is closed with its last user.
struct OwnedQueue {
  explicit OwnedQueue(int ordinal) : queue(open_queue(ordinal)) {}
  ~OwnedQueue() { close_queue(queue); }
  OwnedQueue(const OwnedQueue&) = delete;
  OwnedQueue& operator=(const OwnedQueue&) = delete;
  Queue queue;
};

/// Device memory in the order of one queue. A block that is released may be handed out at once: whoever gets it works
/// behind its last user in the same queue.
class DevicePool final : public MemoryPool {
 public:
  explicit DevicePool(std::shared_ptr<OwnedQueue> owner) : owner_(std::move(owner)) {}
  ~DevicePool() override { trim(); }

  const std::shared_ptr<OwnedQueue>& owner() const { return owner_; }

  void copy_from_host(void* to, const void* from, std::size_t bytes) override {
    cuda::copy_to_device(owner_->queue, to, from, bytes);
  }
  void copy_to_host(void* to, const void* from, std::size_t bytes) override {
    cuda::copy_to_host(owner_->queue, to, from, bytes);
  }
  void synchronize() override { cuda::synchronize(owner_->queue); }

 protected:
  void* system_allocate(std::size_t bytes) override {
    try {
      return cuda::allocate(owner_->queue, bytes);
    } catch (const CudaError&) {  // perhaps what lies idle here is what is missing
      trim();
      return cuda::allocate(owner_->queue, bytes);
    }
  }
  void system_free(void* data) override { cuda::release(owner_->queue, data); }

 private:
  std::shared_ptr<OwnedQueue> owner_;
};

}  // namespace promptiqa::cuda
