// Launches of attention's forward kernels.
// Surprising choice: heads of more than 128 elements take a kernel of one warp a query, slow but without a limit.
#include "attention.cuh"
#include "attention_choice.cuh"
#include "kernel_table.hpp"

namespace promptiqa::cuda {

template <class T>
void attention(const KernelContext& kc, const AttentionArgs<T>& args) {
  const Op op("attention", kc);
  if (args.batch * args.heads * args.queries == 0) return;
  const bool vectors = attention_vectors(args);
  const bool tiled = with_attention_tile<AttentionForwardSteps>(device_traits(op), args, 1, [&](auto tile) {
    using Tile = decltype(tile);
    launch(attention_kernel<T, Tile>, attention_blocks(op, args, args.queries, Tile::rows), Tile::threads,
           Tile::shared_bytes(1, 0), op, args, vectors);
  });
  if (tiled) return;
  launch(attention_row_kernel<T>, attention_blocks(op, args, args.queries, 1), 32,
         static_cast<std::size_t>(args.head_dim) * sizeof(accumulate_t<T>), op, args);
}
PROMPTIQA_CUDA_INSTANTIATE(attention, AttentionArgs)

}  // namespace promptiqa::cuda
