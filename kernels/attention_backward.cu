// Launches of attention's backward kernels.
// Surprising choice: the same three launches whichever kernels are chosen: delta, dq, then dk and dv.
#include "attention_backward.cuh"
#include "attention_choice.cuh"
#include "kernel_table.hpp"

namespace promptiqa::cuda {

template <class T>
void attention_backward(const KernelContext& kc, const AttentionBackwardArgs<T>& args) {
  using A = accumulate_t<T>;
  const Op op("attention_backward", kc);
  const AttentionArgs<T>& f = args.forward;
  const std::int64_t rows = f.batch * f.heads * f.queries;
  const StorageRef scratch = op.memory.allocate(static_cast<std::size_t>(rows) * sizeof(A));
  A* delta = static_cast<A*>(scratch->data);
  launch(attention_delta_kernel<T>, blocks_for(op, rows, 4), dim3(32, 4), 0, op, args, delta);

  const bool vectors = attention_vectors(f, args.d_o, args.dq, args.dk, args.dv);
  const DeviceTraits traits = device_traits(op);
  const std::size_t row_bytes = static_cast<std::size_t>(f.head_dim) * sizeof(A);
  const bool dq_tiled = with_attention_tile<AttentionDqSteps>(traits, f, 2, [&](auto tile) {
    using Tile = decltype(tile);
    launch(attention_dq_kernel<T, Tile>, attention_blocks(op, f, f.queries, Tile::rows), Tile::threads,
           Tile::shared_bytes(2, 0), op, args, delta, vectors);
  });
  if (!dq_tiled)
    launch(attention_dq_row_kernel<T>, attention_blocks(op, f, f.queries, 1), 32, row_bytes, op, args, delta);
  const bool dkv_tiled = with_attention_tile<AttentionDkvSteps>(traits, f, 2, [&](auto tile) {
    using Tile = decltype(tile);
    launch(attention_dkv_kernel<T, Tile>, attention_blocks(op, f, f.keys, Tile::rows), Tile::threads,
           Tile::shared_bytes(2, 4 * Tile::step), op, args, delta, vectors);
  });
  if (!dkv_tiled)
    launch(attention_dkv_row_kernel<T>, attention_blocks(op, f, f.keys, 1), 32, 2 * row_bytes, op, args, delta);
}
PROMPTIQA_CUDA_INSTANTIATE(attention_backward, AttentionBackwardArgs)

}  // namespace promptiqa::cuda
