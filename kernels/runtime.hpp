// What the library needs of the CUDA runtime, without its headers: devices, memory, copies, one stream.
// Surprising choice: two bodies exist, runtime.cu for a device and emulation/runtime.cpp for tests on a CPU; nothing
// above this header knows which one it is linked with.
#pragma once

#include <cstddef>
#include <string>

#include <promptiqa/core/error.hpp>
#include <promptiqa/core/kernel_table.hpp>
#include <promptiqa/core/memory_pool.hpp>

namespace promptiqa::cuda {

struct Capture;

/// A stream of a device: everything a Context does there happens in this order.
struct Queue {
  int ordinal = 0;
  void* stream = nullptr;           // cudaStream_t
  void* blas = nullptr;             // handle of the matrix products' library, made at the first one
  Capture* capture = nullptr;       // while launches are noted for a graph instead of done
  const char* op = nullptr;         // that is running
  const char* latest_op = nullptr;  // that began: outputs are asked for before their kernel does
};

/// What errors of memory begin with: "OP: memory", or between two kernels "memory, after OP", before which a Context
/// puts the op that asks.
inline std::string memory_of(const Queue& queue) {
  if (queue.op) return std::string(queue.op) + ": memory";
  return queue.latest_op ? std::string("memory, after ") + queue.latest_op : "memory";
}

/// Throws CudaError for a call that a graph cannot hold, while one is captured.
inline void refuse_in_capture(const Queue& queue, const char* call) {
  if (queue.capture)
    throw CudaError(std::string("graph: ") + call +
                    " while launches are captured: run the same work before, until it needs no more of this");
}

/// Devices that can be used. Throws CudaError when the driver is missing or too old.
int device_count();
/// "NVIDIA H100 80GB HBM3, compute capability 9.0".
std::string device_name(int ordinal);

/// A stream of its own on a device. Throws CudaError when there is no such device.
Queue open_queue(int ordinal);
/// Waits for its work and ends it.
void close_queue(Queue& queue) noexcept;

/// Memory of the device, in the order of the queue. Throws CudaError when there is none left.
void* allocate(const Queue& queue, std::size_t bytes);
void release(const Queue& queue, void* data) noexcept;

/// Copies that are in the queue's order and, seen from the host, done when they return.
void copy_to_device(const Queue& queue, void* to, const void* from, std::size_t bytes);
void copy_to_host(const Queue& queue, void* to, const void* from, std::size_t bytes);
/// Waits until everything queued has been done. Throws CudaError for a fault of any earlier kernel.
void synchronize(const Queue& queue);

/// Launches and matrix products in their order with all arguments, to be done again and again.
struct Graph;

/// From here on launches and matrix products of the queue are noted, not done. allocate(), the copies and
/// synchronize() throw CudaError; what is released stays until the graph is destroyed. Other queues are not concerned.
void begin_capture(Queue& queue);
/// What was noted. Throws CudaError when nothing could be made of it; the capture has ended in any case.
Graph* end_capture(Queue& queue);
/// Forgets what was noted.
void abandon_capture(Queue& queue) noexcept;
/// Does all of it, after all work queued before. Every address must still be valid.
void replay(const Queue& queue, Graph& graph);
/// Launches, products and the like in the graph.
std::size_t size(const Graph& graph);
/// Before its queue is closed.
void destroy(const Queue& queue, Graph* graph) noexcept;

/// One call of one op: what its launches and their errors need to know. Its queue's device becomes this thread's.
struct Op {
  Op(const char* op_name, const KernelContext& kc);
  ~Op() { queue.op = outer; }
  Op(const Op&) = delete;
  Op& operator=(const Op&) = delete;
  const char* name;
  Queue& queue;
  MemoryPool& memory;
  const char* outer;  // op that this one is part of
};

}  // namespace promptiqa::cuda
