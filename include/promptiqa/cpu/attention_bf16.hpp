// Scaled dot-product attention with bfloat16 operands, on the micro-kernel of gemm.
// Surprising choice: the softmax writes its probabilities, as pairs, over the beginning of the row of scores it has
// just read, so they are what the second product reads without another copy.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <limits>

#include <promptiqa/core/kernel_table.hpp>
#include <promptiqa/core/memory_pool.hpp>
#include <promptiqa/core/thread_pool.hpp>
#include <promptiqa/cpu/attention.hpp>
#include <promptiqa/cpu/gemm.hpp>
#include <promptiqa/cpu/math.hpp>
#include <promptiqa/cpu/parallel.hpp>

#if PROMPTIQA_X86_64
namespace promptiqa::cpu {

namespace detail {

/// Sizes of one (batch entry, head) pair's scratch, in packed elements or floats: both have four bytes.
struct AttentionBf16Plan {
  using Tile = GemmTile<float, Avx512Bf16>;
  static constexpr std::int64_t block_rows = 7 * Tile::rows;  // of queries: their scores stay in the second-level cache

  explicit AttentionBf16Plan(const AttentionArgs<float>& args)
      : blocks(ceil_div(args.queries, block_rows)),
        key_panels(ceil_div(args.keys, Tile::columns)),
        value_panels(ceil_div(args.head_dim, Tile::columns)),
        dim_depth(packed_depth<float, Avx512Bf16>(args.head_dim)),
        key_depth(packed_depth<float, Avx512Bf16>(args.keys)),
        pitch(key_panels * Tile::columns + Tile::width) {}  // never a multiple of 1 KB

  std::int64_t blocks, key_panels, value_panels;
  std::int64_t dim_depth, key_depth;  // head_dim and keys in pairs
  std::int64_t pitch;                 // between rows of scores
  std::int64_t keys_size() const { return key_panels * Tile::columns * dim_depth; }
  std::int64_t values_size() const { return value_panels * Tile::columns * key_depth; }
  std::int64_t queries_size() const { return block_rows * dim_depth; }
  std::int64_t scores_size() const { return block_rows * pitch; }
  std::int64_t size() const { return keys_size() + values_size() + queries_size() + scores_size() + block_rows; }
};

/// For each row: probabilities exp(scale * (score - largest)) as pairs over the row's beginning, 1 / their sum, and
/// the log of the softmax denominator unless null. That is of scores whose operands were rounded; a backward pass that
/// recomputes them from floats gets probabilities that add up to 1 only as nearly as bfloat16 allows.
inline void attention_softmax_bf16(float* scores, std::int64_t rows, std::int64_t keys, std::int64_t pitch, float scale,
                                   float* inverse_sum, float* log_sum_exp) {
  using V = Float16::Vector;
  Avx512Bf16::run([&]() PROMPTIQA_SIMD_LAMBDA {
    constexpr float lowest = -std::numeric_limits<float>::infinity();
    const std::int64_t columns = ceil_div(keys, 32) * 32;
    V factor;
    broadcast(factor, scale);
    for (std::int64_t i = 0; i < rows; ++i) {
      float* row = scores + i * pitch;
      V x, y, most, shift, sum = {};
      // scale may be of either sign; scaled scores are what softmax sees.
      broadcast(most, lowest);
      for (std::int64_t j = 0; j < columns; j += 16) {
        Float16::load(x, row + j);
        x = x * factor;
        if (j + 16 > keys)
          for (std::int64_t l = std::max<std::int64_t>(keys - j, 0); l < 16; ++l) x[l] = lowest;
        Float16::store(row + j, x);
        most = x > most ? x : most;
      }
      const float largest = largest_lane<Float16, float>(most);
      broadcast(shift, largest);
      for (std::int64_t j = 0; j < columns; j += 32) {
        Float16::load(x, row + j);
        Float16::load(y, row + j + 16);
        x = x - shift;
        y = y - shift;
        vector_exp(x, x);
        vector_exp(y, y);
        sum = sum + x;
        sum = sum + y;
        const V even = __builtin_shufflevector(x, y, 0, 2, 4, 6, 8, 10, 12, 14, 16, 18, 20, 22, 24, 26, 28, 30);
        const V odd = __builtin_shufflevector(x, y, 1, 3, 5, 7, 9, 11, 13, 15, 17, 19, 21, 23, 25, 27, 29, 31);
        Pair16::Vector pairs;
        make_pairs(pairs, even, odd);
        std::memcpy(row + j / 2, &pairs, sizeof(pairs));
      }
      const float total = sum_of_lanes<Float16, float>(sum);
      inverse_sum[i] = 1.0f / total;
      if (log_sum_exp) log_sum_exp[i] = largest + std::log(total);
    }
  });
}

/// o[i, j] = factor[i] * tile[i, j] for `columns` columns.
inline void attention_store_bf16(float* o, std::int64_t o_row, const float* tile, const float* factor,
                                 std::int64_t rows, std::int64_t columns) {
  Avx512Bf16::run([&]() PROMPTIQA_SIMD_LAMBDA {
    for (std::int64_t i = 0; i < rows; ++i) {
      Float16::Vector f;
      broadcast(f, factor[i]);
      for_each_vector<Float16>(columns, [&](std::int64_t j, int count) PROMPTIQA_SIMD_LAMBDA {
        Float16::Vector x;
        Float16::load(x, tile + i * GemmTile<float, Avx512Bf16>::columns + j);
        x = x * f;
        store_some<Float16, float>(o + i * o_row + j, x, count);
      });
    }
  });
}

/// All blocks [begin, end) of query rows of one pair, from packed keys and values; `scratch` follows them.
inline void attention_blocks_bf16(const AttentionArgs<float>& args, const AttentionBf16Plan& plan, std::int64_t pair,
                                  std::int64_t begin, std::int64_t end, const Bfloat16Pair* keys,
                                  const Bfloat16Pair* values, Bfloat16Pair* scratch) {
  using Tile = AttentionBf16Plan::Tile;
  const auto& kernels = micro_kernels<float, Avx512Bf16>;
  const std::int64_t b = pair / args.heads, h = pair % args.heads;
  Bfloat16Pair* const queries = scratch;
  float* const scores = reinterpret_cast<float*>(queries + plan.queries_size());
  float* const inverse_sum = scores + plan.scores_size();
  alignas(64) float tile[Tile::rows * Tile::columns];
  for (std::int64_t block = begin; block < end; ++block) {
    const std::int64_t first = block * plan.block_rows, rows = std::min(plan.block_rows, args.queries - first);
    const float* q = args.q + b * args.q_batch + h * args.q_head + first * args.q_row;
    float* o = args.o + b * args.o_batch + h * args.o_head + first * args.o_row;
    for (std::int64_t row = 0; row < rows; row += Tile::rows)
      pack_panel<float, Avx512Bf16, Tile::rows>(queries + row * plan.dim_depth, {q + row * args.q_row, 1, args.q_row},
                                                args.head_dim, std::min<std::int64_t>(Tile::rows, rows - row));
    for (std::int64_t panel = 0; panel < plan.key_panels; ++panel) {
      const Bfloat16Pair* k = keys + panel * Tile::columns * plan.dim_depth;
      for (std::int64_t row = 0; row < rows; row += Tile::rows)
        kernels[static_cast<std::size_t>(std::min<std::int64_t>(Tile::rows, rows - row) - 1)][1](
            {plan.dim_depth, queries + row * plan.dim_depth, 1, Tile::rows, k, Tile::columns,
             scores + row * plan.pitch + panel * Tile::columns, plan.pitch, false, k, 0});
    }
    attention_softmax_bf16(scores, rows, args.keys, plan.pitch, args.scale, inverse_sum,
                           args.log_sum_exp ? args.log_sum_exp + pair * args.queries + first : nullptr);
    const auto* probabilities = reinterpret_cast<const Bfloat16Pair*>(scores);
    for (std::int64_t panel = 0; panel < plan.value_panels; ++panel) {
      const std::int64_t columns = std::min<std::int64_t>(Tile::columns, args.head_dim - panel * Tile::columns);
      const Bfloat16Pair* v = values + panel * Tile::columns * plan.key_depth;
      for (std::int64_t row = 0; row < rows; row += Tile::rows) {
        const std::int64_t count = std::min<std::int64_t>(Tile::rows, rows - row);
        kernels[static_cast<std::size_t>(count - 1)][columns > Tile::width ? 1 : 0](
            {plan.key_depth, probabilities + row * plan.pitch, plan.pitch, 1, v, Tile::columns, tile, Tile::columns,
             false, v, 0});
        attention_store_bf16(o + row * args.o_row + panel * Tile::columns, args.o_row, tile, inverse_sum + row, count,
                             columns);
      }
    }
  }
}

}  // namespace detail

/// o = softmax(scale * q k^T) v with q, k, v and the probabilities rounded to bfloat16 and float sums; see
/// AttentionArgs. Any sizes >= 1. The same bits for any number of threads. Throws std::bad_alloc.
inline void attention_bf16(const KernelContext& kc, const AttentionArgs<float>& args) {
  ThreadPool& pool = pool_of(kc);
  MemoryPool& memory = memory_of(kc);
  const detail::AttentionBf16Plan plan(args);
  const std::int64_t pairs = args.batch * args.heads;
  const std::int64_t group =
      attention_pairs_per_task(pairs, args.queries * args.keys * args.head_dim, pool.size());
  // Blocks of one pair are shared out when there are too few pairs to keep the threads evenly busy.
  const std::int64_t threads = pool.size();
  const bool split = pairs < 2 * threads && pairs % threads != 0 && plan.blocks > 1;
  const std::int64_t parts = split ? std::min<std::int64_t>(plan.blocks, threads) : 1;
  pool.parallel_for(ceil_div(pairs, group) * parts, [&](std::int64_t task) {
    const StorageRef memory_block = memory.allocate(static_cast<std::size_t>(plan.size()) * sizeof(float));
    auto* keys = static_cast<Bfloat16Pair*>(memory_block->data);
    Bfloat16Pair* values = keys + plan.keys_size();
    const std::int64_t part = task % parts, first = task / parts * group;
    for (std::int64_t pair = first; pair < std::min(pairs, first + group); ++pair) {
      const float* k = args.k + pair / args.heads * args.k_batch + pair % args.heads * args.k_head;
      const float* v = args.v + pair / args.heads * args.v_batch + pair % args.heads * args.v_head;
      detail::pack_matrix_on<float, Avx512Bf16>(nullptr, {k, args.head_dim, args.keys, args.k_row, true, keys});
      detail::pack_matrix_on<float, Avx512Bf16>(nullptr, {v, args.keys, args.head_dim, args.v_row, false, values});
      detail::attention_blocks_bf16(args, plan, pair, part * plan.blocks / parts, (part + 1) * plan.blocks / parts,
                                    keys, values, values + plan.values_size());
    }
  });
}

}  // namespace promptiqa::cpu
#endif
