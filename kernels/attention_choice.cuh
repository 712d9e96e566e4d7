// Which attention kernel runs: by element type, head dimension and device.
// Surprising choice: the choice is a template that calls back with the kernel's types, so forward and backward share
// it.
#pragma once

#include <string>
#include <type_traits>

#include "attention_tile.cuh"
#include "blas.hpp"

namespace promptiqa::cuda {

/// Calls run(Tile()) and returns true when a tiled kernel with `own` matrices of its own rows can do it: heads of up to
/// 128 elements (double: 64), where the device has the shared memory. Tensor cores for bfloat16 from sm_80 on, by
/// warpgroups where the device and this build have them, and for float where TF32 is allowed. `Steps` says how many
/// rows of the other side a step has, and how large a warpgroup's tiles are.
template <class Steps, class T, class Run>
bool with_attention_tile(const DeviceTraits& traits, const AttentionArgs<T>& args, int own, Run&& run) {
  const auto with_tile = [&](auto tile) {
    using Tile = decltype(tile);
    if (Tile::shared_bytes(own, 4 * Tile::step) > traits.shared_bytes) return false;
    run(tile);
    return true;
  };
  const auto with_math = [&](auto math, auto step) {
    using Math = decltype(math);
    constexpr int Step = decltype(step)::value;
    if (args.head_dim <= 32) return with_tile(AttentionTile<Math, 32, Step>());
    if (args.head_dim <= 64) return with_tile(AttentionTile<Math, 64, Step>());
    if constexpr (std::is_same_v<T, double>)
      return false;  // it would not fit into registers
    else
      return args.head_dim <= 128 && with_tile(AttentionTile<Math, 128, Step>());
  };
  if (args.queries > 0x7FFFFF00 || args.keys > 0x7FFFFF00) return false;
  if constexpr (std::is_same_v<T, bfloat16>)
    if (traits.wgmma && args.head_dim > 32) {
      if (args.head_dim <= 64 && with_tile(typename Steps::Warpgroup64())) return true;
      if constexpr (!std::is_void_v<typename Steps::Warpgroup128>)
        if (args.head_dim > 64 && args.head_dim <= 128 && with_tile(typename Steps::Warpgroup128())) return true;
    }
  if constexpr (!std::is_same_v<T, double>) {
    using Mma = std::conditional_t<std::is_same_v<T, bfloat16>, Bf16Math, Tf32Math>;
    if (has_tensor_cores<T>(traits)) return with_math(Mma(), std::integral_constant<int, Steps::mma>());
  }
  return with_math(PlainMath<accumulate_t<T>>(), std::integral_constant<int, Steps::plain>());
}

/// The tiles of each kernel. Registers decide how many warpgroups a multiprocessor has at once: while one computes
/// exponentials, another multiplies. Those of one block share the rows that pass by, which spares the L2 cache; blocks
/// of one do not wait for each other.
struct AttentionForwardSteps {
  static constexpr int plain = 32, mma = 64;
  using Warpgroup64 = WarpgroupTile<64, 64, 2, 2>;
  using Warpgroup128 = WarpgroupTile<128, 64, 2, 1>;
};
struct AttentionDqSteps {
  static constexpr int plain = 32, mma = 32;
  using Warpgroup64 = WarpgroupTile<64, 64, 1, 3>;
  using Warpgroup128 = WarpgroupTile<128, 64, 2, 1>;
};
struct AttentionDkvSteps {
  static constexpr int plain = 32, mma = 32;
  using Warpgroup64 = WarpgroupTile<64, 64, 1, 2>;
  using Warpgroup128 = void;  // dk, dv and the scores together would spill
};

/// True when all rows can be read and written in 16 bytes.
template <class T, class... Pointers>
bool attention_vectors(const AttentionArgs<T>& f, Pointers... more) {
  const std::int64_t strides[] = {f.head_dim, f.q_batch, f.q_head, f.q_row,   f.k_batch, f.k_head, f.k_row,
                                  f.v_batch,  f.v_head,  f.v_row,  f.o_batch, f.o_head,  f.o_row};
  for (std::int64_t stride : strides)
    if (stride % vector_width<T> != 0) return false;
  return aligned(f.q, 16) && aligned(f.k, 16) && aligned(f.v, 16) && aligned(f.o, 16) && (... && aligned(more, 16));
}

/// Blocks for `length` rows of every pair, `rows` of them each.
template <class T>
unsigned attention_blocks(const Op& op, const AttentionArgs<T>& f, std::int64_t length, int rows) {
  return blocks_for(op, f.batch * f.heads * ceil_div(length, rows), 1);
}

}  // namespace promptiqa::cuda
