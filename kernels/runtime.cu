// The bodies of runtime.hpp and launch() for a device.
// Surprising choice: device memory comes from the stream's own pool (cudaMallocAsync), so that neither allocating nor
// freeing ever waits for the device.
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include <promptiqa/core/error.hpp>
#include "blas.hpp"
#include "launch.cuh"
#include "runtime.hpp"

namespace promptiqa::cuda {

struct Capture {
  std::vector<void*> released;  // captured launches may work there
};
struct Graph {
  cudaGraphExec_t executable = nullptr;
  std::size_t nodes = 0;
  std::vector<void*> released;
};

namespace {

cudaStream_t stream_of(const Queue& queue) { return static_cast<cudaStream_t>(queue.stream); }

void check(cudaError_t code, const char* call, const char* op) {
  if (code == cudaSuccess) return;
  cudaGetLastError();  // a refused call must not show up again in the next one
  throw CudaError(std::string(op) + ": " + call + " failed: " + cudaGetErrorString(code) + " (" +
                  cudaGetErrorName(code) + ")");
}

}  // namespace

int device_count() {
  int count = 0;
  const cudaError_t code = cudaGetDeviceCount(&count);
  if (code == cudaErrorNoDevice) {
    cudaGetLastError();
    return 0;
  }
  int driver = 0;
  if (code == cudaErrorInsufficientDriver && cudaDriverGetVersion(&driver) == cudaSuccess && driver == 0) {
    cudaGetLastError();
    throw CudaError("cuda: this machine has no NVIDIA driver (cudaGetDeviceCount failed: cudaErrorInsufficientDriver)");
  }
  check(code, "cudaGetDeviceCount", "cuda");
  return count;
}

std::string device_name(int ordinal) {
  cudaDeviceProp properties;
  check(cudaGetDeviceProperties(&properties, ordinal), "cudaGetDeviceProperties", "cuda");
  return std::string(properties.name) + ", compute capability " + std::to_string(properties.major) + "." +
         std::to_string(properties.minor);
}

Queue open_queue(int ordinal) {
  Queue queue;
  queue.ordinal = ordinal;
  check(cudaSetDevice(ordinal), "cudaSetDevice", "cuda");
  cudaStream_t stream = nullptr;
  check(cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking), "cudaStreamCreateWithFlags", "cuda");
  queue.stream = stream;
  return queue;
}

void close_queue(Queue& queue) noexcept {
  if (!queue.stream) return;
  cudaSetDevice(queue.ordinal);
  cudaStreamSynchronize(stream_of(queue));
  close_blas(queue);
  cudaStreamDestroy(stream_of(queue));
  queue.stream = nullptr;
}

void* allocate(const Queue& queue, std::size_t bytes) {
  refuse_in_capture(queue, "memory is asked for");
  void* data = nullptr;
  const std::string what = memory_of(queue);
  check(cudaSetDevice(queue.ordinal), "cudaSetDevice", what.c_str());
  check(cudaMallocAsync(&data, bytes, stream_of(queue)),
        ("cudaMallocAsync of " + std::to_string(bytes) + " bytes").c_str(), what.c_str());
  return data;
}

void release(const Queue& queue, void* data) noexcept {
  if (queue.capture) {
    queue.capture->released.push_back(data);
    return;
  }
  cudaSetDevice(queue.ordinal);
  cudaFreeAsync(data, stream_of(queue));
}

void copy_to_device(const Queue& queue, void* to, const void* from, std::size_t bytes) {
  if (bytes == 0) return;
  refuse_in_capture(queue, "the host's memory is copied to the device");
  check(cudaSetDevice(queue.ordinal), "cudaSetDevice", "copy to the device");
  check(cudaMemcpyAsync(to, from, bytes, cudaMemcpyHostToDevice, stream_of(queue)), "cudaMemcpyAsync",
        "copy to the device");
  check(cudaStreamSynchronize(stream_of(queue)), "cudaStreamSynchronize", "copy to the device");
}

void copy_to_host(const Queue& queue, void* to, const void* from, std::size_t bytes) {
  if (bytes == 0) return;
  refuse_in_capture(queue, "a result is copied to the host");
  check(cudaSetDevice(queue.ordinal), "cudaSetDevice", "copy to the host");
  check(cudaMemcpyAsync(to, from, bytes, cudaMemcpyDeviceToHost, stream_of(queue)), "cudaMemcpyAsync",
        "copy to the host");
  check(cudaStreamSynchronize(stream_of(queue)), "cudaStreamSynchronize", "copy to the host");
}

void synchronize(const Queue& queue) {
  refuse_in_capture(queue, "the host waits");
  check(cudaSetDevice(queue.ordinal), "cudaSetDevice", "synchronize");
  check(cudaStreamSynchronize(stream_of(queue)), "cudaStreamSynchronize", "synchronize");
}

void begin_capture(Queue& queue) {
  check(cudaSetDevice(queue.ordinal), "cudaSetDevice", "graph");
  auto capture = std::make_unique<Capture>();
  // Of this thread only: what others allocate meanwhile is their affair.
  check(cudaStreamBeginCapture(stream_of(queue), cudaStreamCaptureModeThreadLocal), "cudaStreamBeginCapture", "graph");
  queue.capture = capture.release();
}

Graph* end_capture(Queue& queue) {
  auto graph = std::make_unique<Graph>();
  {
    const std::unique_ptr<Capture> capture(queue.capture);
    queue.capture = nullptr;
    graph->released = std::move(capture->released);
  }
  cudaGraph_t captured = nullptr;
  cudaError_t code = cudaStreamEndCapture(stream_of(queue), &captured);
  const char* call = "cudaStreamEndCapture";
  if (code == cudaSuccess) {
    call = "cudaGraphGetNodes";
    code = cudaGraphGetNodes(captured, nullptr, &graph->nodes);
    if (code == cudaSuccess) {
      call = "cudaGraphInstantiate";
      code = cudaGraphInstantiate(&graph->executable, captured, 0);
    }
    cudaGraphDestroy(captured);
  }
  if (code != cudaSuccess) destroy(queue, graph.release());
  check(code, call, "graph");
  return graph.release();
}

void abandon_capture(Queue& queue) noexcept {
  if (!queue.capture) return;
  const std::unique_ptr<Capture> capture(queue.capture);
  queue.capture = nullptr;
  cudaGraph_t captured = nullptr;
  cudaStreamEndCapture(stream_of(queue), &captured);
  if (captured) cudaGraphDestroy(captured);
  cudaGetLastError();  // a call that a capture refuses has ended it
  for (void* data : capture->released) release(queue, data);
}

void replay(const Queue& queue, Graph& graph) {
  refuse_in_capture(queue, "a graph is replayed");
  check(cudaSetDevice(queue.ordinal), "cudaSetDevice", "graph");
  check(cudaGraphLaunch(graph.executable, stream_of(queue)), "cudaGraphLaunch", "graph");
}

std::size_t size(const Graph& graph) { return graph.nodes; }

void destroy(const Queue& queue, Graph* graph) noexcept {
  if (graph->executable) cudaGraphExecDestroy(graph->executable);
  for (void* data : graph->released) release(queue, data);
  delete graph;
}

Op::Op(const char* op_name, const KernelContext& kc)
    : name(op_name),
      queue(*static_cast<Queue*>(kc.execution)),
      memory(*static_cast<MemoryPool*>(kc.memory)),
      outer(queue.op) {
  check(cudaSetDevice(queue.ordinal), "cudaSetDevice", name);
  queue.op = queue.latest_op = name;
}

void launch_kernel(const void* kernel, dim3 grid, dim3 block, std::size_t shared_bytes, const Op& op,
                   void** arguments) {
  if (shared_bytes > (std::size_t{48} << 10))
    check(cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, static_cast<int>(shared_bytes)),
          "cudaFuncSetAttribute", op.name);
  check(cudaLaunchKernel(kernel, grid, block, arguments, shared_bytes, stream_of(op.queue)), "cudaLaunchKernel",
        op.name);
}

}  // namespace promptiqa::cuda
