// The bodies of runtime.hpp for tests on a CPU: one emulated device.
// Surprising choice: there is nothing to wait for: a launch has been done when it returns.
#include "../blas.hpp"
#include "../runtime.hpp"

#include <cstring>

#include <promptiqa/core/error.hpp>
#include "device_memory.hpp"

namespace promptiqa::cuda {

int device_count() { return 1; }

std::string device_name(int) { return "emulated on the CPU"; }

Queue open_queue(int ordinal) {
  if (ordinal != 0) throw CudaError("cuda: cudaSetDevice failed: there is one emulated device");
  Queue queue;
  queue.stream = &queue.stream;  // not null, as a real one
  return queue;
}
void close_queue(Queue& queue) noexcept {
  close_blas(queue);
  queue.stream = nullptr;
}

void* allocate(const Queue&, std::size_t bytes) { return emulation::device_allocate(bytes); }
void release(const Queue&, void* data) noexcept {  // broken canaries end the program: better seen than not
  emulation::device_free(data);
}

void copy_to_device(const Queue&, void* to, const void* from, std::size_t bytes) {
  if (bytes > 0) std::memcpy(to, from, bytes);
}
void copy_to_host(const Queue&, void* to, const void* from, std::size_t bytes) {
  if (bytes > 0) std::memcpy(to, from, bytes);
}
void synchronize(const Queue&) {}

Op::Op(const char* op_name, const KernelContext& kc)
    : name(op_name), queue(*static_cast<Queue*>(kc.execution)), memory(*static_cast<MemoryPool*>(kc.memory)) {}

}  // namespace promptiqa::cuda
