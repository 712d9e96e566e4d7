// make_cuda_context and the pool of device memory.
// Surprising choice: compiled by the C++ compiler, with no CUDA header; the tests link the same file with an emulated
// runtime.
#include <new>

#include <promptiqa/core/error.hpp>
#include <promptiqa/cuda.hpp>
#include "kernel_table.hpp"
#include "runtime.hpp"

namespace promptiqa {

namespace {

/// A queue that is closed with its last user.
struct OwnedQueue {
  explicit OwnedQueue(int ordinal) : queue(cuda::open_queue(ordinal)) {}
  ~OwnedQueue() { cuda::close_queue(queue); }
  OwnedQueue(const OwnedQueue&) = delete;
  OwnedQueue& operator=(const OwnedQueue&) = delete;
  cuda::Queue queue;
};

/// Device memory in the order of one queue. A block that is released may be handed out at once: whoever gets it works
/// behind its last user in the same queue.
class DevicePool final : public MemoryPool {
 public:
  explicit DevicePool(std::shared_ptr<OwnedQueue> owner) : owner_(std::move(owner)) {}
  ~DevicePool() override { trim(); }

  void copy_from_host(void* to, const void* from, std::size_t bytes) override {
    cuda::copy_to_device(owner_->queue, to, from, bytes);
  }
  void copy_to_host(void* to, const void* from, std::size_t bytes) override {
    cuda::copy_to_host(owner_->queue, to, from, bytes);
  }

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

}  // namespace

std::vector<std::string> cuda_devices() {
  std::vector<std::string> names;
  const int count = cuda::device_count();
  for (int i = 0; i < count; ++i) names.push_back(cuda::device_name(i));
  return names;
}

Context make_cuda_context(int ordinal, std::shared_ptr<ThreadPool> pool) {
  const int count = cuda::device_count();
  if (ordinal < 0 || ordinal >= count)
    throw CudaError("cuda: expected a device below " + std::to_string(count) + ", got " + std::to_string(ordinal) +
                    (count == 0 ? ": this machine has no CUDA device" : ""));
  if (!pool) pool = std::make_shared<ThreadPool>(0);
  const auto owner = std::make_shared<OwnedQueue>(ordinal);
  Context::DeviceParts parts;
  parts.device = Device::cuda;
  parts.execution = std::shared_ptr<void>(owner, &owner->queue);
  parts.memory = std::make_shared<DevicePool>(owner);
  parts.float_kernels = &cuda::kernel_table<float>();
  parts.double_kernels = &cuda::kernel_table<double>();
  return Context::on_device(std::move(parts), std::move(pool));
}

void synchronize(const Context& ctx) {
  if (ctx.device() != Device::cuda) return;
  cuda::synchronize(*static_cast<cuda::Queue*>(ctx.kernel_context().execution));
}

}  // namespace promptiqa
