// Contexts of CUDA devices: link promptiqa::cuda and use them as any other; no nvcc and no CUDA header is needed.
// Surprising choice: nothing here waits for the device but copies to the host; work of one Context happens in the order
// of its calls, so a tensor that two Contexts share must be kept until both have synchronised.
#pragma once

#include <cstddef>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include <promptiqa/core/context.hpp>
#include <promptiqa/core/thread_pool.hpp>

namespace promptiqa {

/// The names of the CUDA devices, by ordinal; empty when there is none. Throws CudaError when the driver is missing or
/// too old for the library.
std::vector<std::string> cuda_devices();

struct CudaOptions {
  /// Products, attention and convolutions of floats may round their operands to TF32 (10 fraction bits; sums stay
  /// float), which tensor cores multiply several times as fast. From compute capability 8.0 on.
  bool allow_tf32 = false;
  /// Matrix products of floats round their operands to bfloat16; sums and results stay float, as do weights and the
  /// optimiser: mixed-precision training of a Model<float>. Attention and convolutions use TF32, which rounds less.
  bool bf16_products = false;
  /// Kernels of bfloat16 use Hopper's own products of four warps together (wgmma) where the device is one and the library
  /// was built for sm_90a. The sums' order, and with it their last bits, is another without.
  bool wgmma = true;
};

/// A Context whose tensors live on CUDA device `ordinal` and whose ops run there, in a stream of their own. What stays
/// on the CPU (reading images) uses `pool`, or a fresh one with all cores. Throws CudaError when the driver is missing,
/// there is no such device, or a later call fails; what() names the CUDA call and the op.
Context make_cuda_context(int ordinal, std::shared_ptr<ThreadPool> pool = nullptr, const CudaOptions& options = {});

/// Waits until everything asked of a CUDA context has been done; returns at once for another one. Throws CudaError for
/// a fault of any op before.
void synchronize(const Context& ctx);

/// Inference of one batch size as a graph of the device: captured once, then replayed by one call, without the cost of
/// launching each kernel.
///
///     Tensor<float> pixels = ctx.zeros<float>(Shape{8, 3, 224, 224}), features;
///     CudaGraph graph = CudaGraph::capture(ctx, [&](Context& c) { features = model.image_features(c, pixels); });
///     ctx.memory().copy_from_host(pixels.mutable_data(), ...);   // for every batch
///     graph.replay();
///     features.host();
///
/// The addresses of all tensors are fixed: what `work` reads is to be overwritten in place, its results stay where they
/// are and change with every replay. Everything that `work` refers to on the device (inputs, weights) must live as
/// long as the graph. Not for several threads at once.
class CudaGraph {
 public:
  /// Runs `work` twice, which makes it ready (memory, packed weights, cuBLAS), then captures a third run, which the
  /// device does not do: results hold valid values only after a replay. `work` gets a context of the same device
  /// and stream with memory of its own, which nothing else is given while the graph or a result lives.
  /// Throws CudaError when ctx is not a CUDA context, or when the third run does what a graph cannot repeat: copying to
  /// or from the host, asking for memory that the second did not need, waiting. Whatever `work` throws is passed on;
  /// nothing is being captured then.
  static CudaGraph capture(Context& ctx, const std::function<void(Context&)>& work);

  /// Asks the device to do all of it, after everything that its stream has been asked before. Does not wait.
  void replay();

  /// Kernels and matrix products in the graph.
  std::size_t size() const;

  CudaGraph(CudaGraph&&) noexcept;
  CudaGraph& operator=(CudaGraph&&) noexcept;
  ~CudaGraph();

 private:
  struct State;
  explicit CudaGraph(std::unique_ptr<State> state);
  std::unique_ptr<State> state_;
};

}  // namespace promptiqa
