// launch(): the one way to start a kernel, on a device or in emulation.
// Surprising choice: a grid without blocks is no error: there is nothing to do for a tensor without elements.
#pragma once

#include <cstdint>
#include <string>
#include <tuple>
#include <utility>

#include <promptiqa/core/error.hpp>
#include "portability.cuh"
#include "runtime.hpp"
#if PROMPTIQA_EMULATED
#include "emulation/graph.hpp"
#endif

namespace promptiqa::cuda {

#if !PROMPTIQA_EMULATED
/// The untyped launch; see runtime.cu.
void launch_kernel(const void* kernel, dim3 grid, dim3 block, std::size_t shared_bytes, const Op& op, void** arguments);
#endif

/// Runs kernel(arguments...) for every thread of the grid, after all work queued before. Throws CudaError naming the
/// op when the launch is refused.
template <class... Parameters, class... Arguments>
void launch(void (*kernel)(Parameters...), dim3 grid, dim3 block, std::size_t shared_bytes, const Op& op,
            const Arguments&... arguments) {
  if (grid.x == 0 || grid.y == 0 || grid.z == 0) return;
  std::tuple<Parameters...> values(static_cast<Parameters>(arguments)...);
#if PROMPTIQA_EMULATED
  submit(op.queue, [=, name = op.name] {
    const auto function = kernel;  // copies on the stack: what a kernel reads on the heap is a fault
    const std::tuple<Parameters...> parameters = values;
    run_grid(name, grid, block, shared_bytes, [&] { std::apply(function, parameters); });
  });
#else
  std::apply(
      [&](Parameters&... parameter) {
        void* pointers[] = {static_cast<void*>(&parameter)...};
        launch_kernel(reinterpret_cast<const void*>(kernel), grid, block, shared_bytes, op, pointers);
      },
      values);
#endif
}

/// a / b rounded up, for a >= 0 and b > 0.
__host__ PROMPTIQA_DEVICE constexpr std::int64_t ceil_div(std::int64_t a, std::int64_t b) { return (a + b - 1) / b; }

/// Blocks for `items`, `per_block` of them each. Throws CudaError when a grid cannot have so many.
inline unsigned blocks_for(const Op& op, std::int64_t items, std::int64_t per_block) {
  const std::int64_t blocks = ceil_div(items, per_block);
  if (blocks > 0x7FFFFFFF)
    throw CudaError(std::string(op.name) + ": expected at most 2147483647 blocks, got " + std::to_string(blocks));
  return static_cast<unsigned>(blocks);
}

/// Calls run(Index()) with the unsigned type in which a kernel computes its indices, none of which exceeds `largest`: 32
/// bits where they do, because divisions by 64 take several times as long.
template <class Run>
void with_index_type(std::int64_t largest, Run&& run) {
  if (largest < std::int64_t{1} << 32)
    run(std::uint32_t());
  else
    run(std::uint64_t());
}

/// True when p can be read in vectors of `bytes`.
inline bool aligned(const void* p, std::size_t bytes) { return reinterpret_cast<std::uintptr_t>(p) % bytes == 0; }

}  // namespace promptiqa::cuda
