// CudaGraph: capture of a computation's launches, and their replay.
// Surprising choice: the captured work has a pool of its own over the same queue, so its blocks are recycled within the
// graph as in any run, and nobody else ever gets one.
#include <utility>

#include <promptiqa/core/error.hpp>
#include <promptiqa/cuda.hpp>
#include "device_pool.hpp"
#include "runtime.hpp"

namespace promptiqa {

/// Members are destroyed last to first: the graph before the memory it works in.
struct CudaGraph::State {
  explicit State(Context own) : context(std::move(own)) {}
  ~State() {
    if (graph) cuda::destroy(queue(), graph);
  }
  cuda::Queue& queue() const { return *static_cast<cuda::Queue*>(context.kernel_context().execution); }

  Context context;
  cuda::Graph* graph = nullptr;
};

namespace {

/// A context of the same queue and kernels with a pool of its own.
Context with_own_memory(const Context& ctx) {
  auto* pool = ctx.device() == Device::cuda ? dynamic_cast<cuda::DevicePool*>(&ctx.memory()) : nullptr;
  if (!pool) throw CudaError("graph: expected a CUDA context");
  const std::shared_ptr<cuda::OwnedQueue> owner = pool->owner();
  Context::DeviceParts parts;
  parts.device = Device::cuda;
  parts.execution = std::shared_ptr<void>(owner, &owner->queue);
  parts.memory = std::make_shared<cuda::DevicePool>(owner);
  parts.float_kernels = &ctx.kernels<float>();
  parts.double_kernels = &ctx.kernels<double>();
  parts.bfloat16_kernels = &ctx.kernels<bfloat16>();
  return Context::on_device(std::move(parts), ctx.shared_pool());
}

}  // namespace

CudaGraph CudaGraph::capture(Context& ctx, const std::function<void(Context&)>& work) {
  auto state = std::make_unique<State>(with_own_memory(ctx));
  // Two runs: results of the one are still held while the other runs, as they will be during the capture.
  work(state->context);
  work(state->context);
  cuda::synchronize(state->queue());  // an error of theirs belongs to them
  cuda::begin_capture(state->queue());
  try {
    work(state->context);
  } catch (...) {
    cuda::abandon_capture(state->queue());
    throw;
  }
  state->graph = cuda::end_capture(state->queue());
  return CudaGraph(std::move(state));
}

void CudaGraph::replay() { cuda::replay(state_->queue(), *state_->graph); }

std::size_t CudaGraph::size() const { return cuda::size(*state_->graph); }

CudaGraph::CudaGraph(std::unique_ptr<State> state) : state_(std::move(state)) {}
CudaGraph::CudaGraph(CudaGraph&&) noexcept = default;
CudaGraph& CudaGraph::operator=(CudaGraph&&) noexcept = default;
CudaGraph::~CudaGraph() = default;

}  // namespace promptiqa
