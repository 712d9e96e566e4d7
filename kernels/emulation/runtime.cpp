// The bodies of runtime.hpp for tests on a CPU: one emulated device, or several that share the memory.
// Surprising choice: there is nothing to wait for: a launch has been done when it returns. In a graph it is a closure
// over copies of its arguments: what a replay needs of the host besides them is not there any more.
#include "../runtime.hpp"
#include "../blas.hpp"
#include "graph.hpp"

#include <cstring>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include <promptiqa/core/error.hpp>
#include "device_memory.hpp"

namespace promptiqa::cuda {

struct Graph {
  std::vector<std::function<void()>> work;
  std::vector<void*> released;  // while it was captured
};
struct Capture {
  Graph graph;
};

void submit(const Queue& queue, std::function<void()> work) {
  if (queue.capture) {
    queue.capture->graph.work.push_back(std::move(work));
  } else {
    const emulation::DeviceAccess access;
    work();
  }
}

void begin_capture(Queue& queue) {
  refuse_in_capture(queue, "another capture begins");
  queue.capture = new Capture;
}
Graph* end_capture(Queue& queue) {
  const std::unique_ptr<Capture> capture(queue.capture);
  queue.capture = nullptr;
  return new Graph(std::move(capture->graph));
}
void abandon_capture(Queue& queue) noexcept {
  if (queue.capture) destroy(queue, end_capture(queue));
}
void replay(const Queue& queue, Graph& graph) {
  refuse_in_capture(queue, "a graph is replayed");
  const emulation::DeviceAccess access;
  for (const auto& work : graph.work) work();
}
std::size_t size(const Graph& graph) { return graph.work.size(); }
void destroy(const Queue& queue, Graph* graph) noexcept {
  for (void* data : graph->released) release(queue, data);
  delete graph;
}

int device_count() { return emulation::devices; }

std::string device_name(int) { return "emulated on the CPU"; }

Queue open_queue(int ordinal) {
  if (ordinal < 0 || ordinal >= emulation::devices)
    throw CudaError("cuda: cudaSetDevice failed: there is no emulated device " + std::to_string(ordinal));
  Queue queue;
  queue.ordinal = ordinal;
  queue.stream = &queue.stream;  // not null, as a real one
  return queue;
}
void close_queue(Queue& queue) noexcept {
  close_blas(queue);
  queue.stream = nullptr;
}

void* allocate(const Queue& queue, std::size_t bytes) {
  refuse_in_capture(queue, "memory is asked for");
  if (bytes > emulation::largest_block)
    throw CudaError(memory_of(queue) + ": cudaMallocAsync of " + std::to_string(bytes) + " bytes failed: emulated");
  return emulation::device_allocate(bytes);
}
void release(const Queue& queue, void* data) noexcept {  // broken canaries end the program: better seen than not
  if (queue.capture)
    queue.capture->graph.released.push_back(data);
  else
    emulation::device_free(data);
}

void copy_to_device(const Queue& queue, void* to, const void* from, std::size_t bytes) {
  if (bytes == 0) return;
  refuse_in_capture(queue, "the host's memory is copied to the device");
  const emulation::DeviceAccess access;
  std::memcpy(to, from, bytes);
}
void copy_to_host(const Queue& queue, void* to, const void* from, std::size_t bytes) {
  if (bytes == 0) return;
  refuse_in_capture(queue, "a result is copied to the host");
  const emulation::DeviceAccess access;
  std::memcpy(to, from, bytes);
}
void synchronize(const Queue& queue) { refuse_in_capture(queue, "the host waits"); }

Op::Op(const char* op_name, const KernelContext& kc)
    : name(op_name),
      queue(*static_cast<Queue*>(kc.execution)),
      memory(*static_cast<MemoryPool*>(kc.memory)),
      outer(queue.op) {
  queue.op = queue.latest_op = name;
}

}  // namespace promptiqa::cuda
