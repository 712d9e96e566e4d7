// Scaled dot-product attention and its gradients for one instruction set.
// Surprising choice: a block of query rows keeps its scores against all keys (a few hundred kilobytes that stay in
// the second-level cache) instead of an online softmax over key blocks: with keys and values packed once per
// head, that is less work and one plain softmax, and each row's result is the same for any split of the work.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <limits>

#include <promptiqa/core/kernel_table.hpp>
#include <promptiqa/core/memory_pool.hpp>
#include <promptiqa/core/thread_pool.hpp>
#include <promptiqa/cpu/math.hpp>
#include <promptiqa/cpu/panel_product.hpp>

namespace promptiqa::cpu {

/// How attention cuts one (batch entry, head) pair into blocks, and the scratch sizes that follow, in elements.
template <class T, class Isa>
struct AttentionPlan {
  using Tile = PanelTile<T, Isa>;

  AttentionPlan(const AttentionArgs<T>& args, std::int64_t rows)
      : block_rows(std::max<std::int64_t>(1, std::min(args.queries, args.head_dim > 256 ? 4 * rows : rows))),
        blocks((args.queries + block_rows - 1) / block_rows),
        columns(Tile::padded(args.keys)),
        pitch(columns),
        transposed_size(Tile::packed_size(args.head_dim, args.keys)),
        plain_size(Tile::packed_size(args.keys, args.head_dim)),
        row_size(Tile::packed_size(block_rows, args.head_dim)) {
    // Rows a multiple of 1 KiB apart would share few cache sets when they are read down a column.
    if (pitch * static_cast<std::int64_t>(sizeof(T)) % 1024 == 0) pitch += Tile::width;
  }

  std::int64_t block_rows, blocks;  // query rows of a block, number of blocks
  std::int64_t columns, pitch;      // keys rounded up to whole vectors; elements between rows of scores
  std::int64_t transposed_size;     // k^T (D, Nk) or v^T in panels
  std::int64_t plain_size;          // k (Nk, D) or v in panels
  std::int64_t row_size;            // a block's rows of q or do (rows, D) in panels
  std::int64_t score_size() const { return block_rows * pitch; }
  std::int64_t row_values() const { return Tile::padded(block_rows); }  // one number for each row of a block
};

/// How many pairs one task takes: small problems share a task, so that its scratch costs nothing against the work.
inline std::int64_t attention_pairs_per_task(std::int64_t pairs, std::int64_t work_of_pair, int threads) {
  constexpr std::int64_t worthwhile = 1 << 19;  // multiply-adds
  const std::int64_t share = (pairs + threads - 1) / threads;
  return std::max<std::int64_t>(1, std::min(share, worthwhile / std::max<std::int64_t>(1, work_of_pair)));
}

/// Turns `rows` rows of scores into exp(score - largest of the row) and writes each row's 1 / sum and log of its
/// softmax denominator (unless null). Columns from `keys` up to a whole vector become 0.
template <class T, class Isa>
void attention_softmax(T* scores, std::int64_t rows, std::int64_t keys, std::int64_t pitch, T* inverse_sum,
                       T* log_sum_exp) {
  using S = Simd<T, Isa::bytes>;
  using Vector = typename S::Vector;
  Isa::run([&]() PROMPTIQA_SIMD_LAMBDA {
    constexpr int width = S::width;
    constexpr T lowest = -std::numeric_limits<T>::infinity();
    const std::int64_t columns = PanelTile<T, Isa>::padded(keys);
    for (std::int64_t i = 0; i < rows; ++i) {
      T* row = scores + i * pitch;
      for (std::int64_t j = keys; j < columns; ++j) row[j] = lowest;
      Vector x, most, shift, sum = {};
      T lanes[width];
      S::load(most, row);
      for (std::int64_t j = width; j < columns; j += width) {
        S::load(x, row + j);
        most = x > most ? x : most;
      }
      S::store(lanes, most);
      T largest = lowest;
      for (int l = 0; l < width; ++l) largest = lanes[l] > largest ? lanes[l] : largest;
      broadcast(shift, largest);
      for (std::int64_t j = 0; j < columns; j += width) {
        S::load(x, row + j);
        x = x - shift;
        vector_exp(x, x);
        sum += x;
        S::store(row + j, x);
      }
      S::store(lanes, sum);
      T total = 0;
      for (int l = 0; l < width; ++l) total += lanes[l];
      inverse_sum[i] = T(1) / total;
      if (log_sum_exp) log_sum_exp[i] = largest + std::log(total);
    }
  });
}

/// One block of query rows of pair (b, h), from packed keys (k^T) and values.
template <class T, class Isa>
void attention_block(const AttentionArgs<T>& args, const AttentionPlan<T, Isa>& plan, std::int64_t pair,
                     std::int64_t block, const T* keys, const T* values, T* scores, T* inverse_sum) {
  const std::int64_t b = pair / args.heads, h = pair % args.heads;
  const std::int64_t row = block * plan.block_rows, rows = std::min(plan.block_rows, args.queries - row);
  const T* q = args.q + b * args.q_batch + h * args.q_head + row * args.q_row;
  T* o = args.o + b * args.o_batch + h * args.o_head + row * args.o_row;
  panel_product<T, Isa>({rows, plan.columns, args.head_dim, q, args.q_row, 1, keys, scores, plan.pitch, args.scale,
                         nullptr, nullptr, false});
  attention_softmax<T, Isa>(scores, rows, args.keys, plan.pitch, inverse_sum,
                            args.log_sum_exp ? args.log_sum_exp + pair * args.queries + row : nullptr);
  panel_product<T, Isa>({rows, args.head_dim, args.keys, scores, plan.pitch, 1, values, o, args.o_row, T(1),
                         inverse_sum, nullptr, false});
}

/// o = softmax(scale * q k^T) v; see AttentionArgs. Any sizes >= 1. Throws std::bad_alloc.
template <class T, class Isa>
void attention(const KernelContext& ctx, const AttentionArgs<T>& args) {
  auto& pool = *static_cast<ThreadPool*>(ctx.execution);
  auto& memory = *static_cast<MemoryPool*>(ctx.memory);
  const AttentionPlan<T, Isa> plan(args, 96);
  const std::int64_t pairs = args.batch * args.heads, work = args.queries * args.keys * args.head_dim;
  const std::int64_t packed_size = plan.transposed_size + plan.plain_size;
  const std::int64_t block_size = plan.score_size() + plan.row_values();

  const auto pack_keys = [&](std::int64_t pair, T* packed) {
    const T* k = args.k + pair / args.heads * args.k_batch + pair % args.heads * args.k_head;
    pack_transposed_panels<T, Isa>(packed, k, args.k_row, args.head_dim, args.keys);
  };
  const auto pack_values = [&](std::int64_t pair, T* packed) {
    const T* v = args.v + pair / args.heads * args.v_batch + pair % args.heads * args.v_head;
    pack_panels<T, Isa>(packed, v, args.v_row, args.keys, args.head_dim);
  };

  // Too few pairs to keep the threads evenly busy: the threads share each pair instead.
  const std::int64_t threads = pool.size();
  if (pairs < 2 * threads && pairs % threads != 0 && plan.blocks > 1 && work > (1 << 20)) {
    const StorageRef shared = memory.allocate(static_cast<std::size_t>(packed_size) * sizeof(T));
    T* keys = static_cast<T*>(shared->data);
    T* values = keys + plan.transposed_size;
    for (std::int64_t pair = 0; pair < pairs; ++pair) {
      pool.parallel_for(2, [&](std::int64_t which) { which ? pack_values(pair, values) : pack_keys(pair, keys); });
      pool.parallel_for(plan.blocks, [&](std::int64_t block) {
        const StorageRef scratch = memory.allocate(static_cast<std::size_t>(block_size) * sizeof(T));
        T* scores = static_cast<T*>(scratch->data);
        attention_block<T, Isa>(args, plan, pair, block, keys, values, scores, scores + plan.score_size());
      });
    }
    return;
  }

  const std::int64_t group = attention_pairs_per_task(pairs, work, pool.size());
  pool.parallel_for((pairs + group - 1) / group, [&](std::int64_t task) {
    const StorageRef scratch = memory.allocate(static_cast<std::size_t>(packed_size + block_size) * sizeof(T));
    T* keys = static_cast<T*>(scratch->data);
    T* values = keys + plan.transposed_size;
    T* scores = values + plan.plain_size;
    for (std::int64_t pair = task * group; pair < std::min(pairs, (task + 1) * group); ++pair) {
      pack_keys(pair, keys);
      pack_values(pair, values);
      for (std::int64_t block = 0; block < plan.blocks; ++block)
        attention_block<T, Isa>(args, plan, pair, block, keys, values, scores, scores + plan.score_size());
    }
  });
}

/// From scores s and dp = do v^T of a block: p = exp(s - log_sum_exp) over s, scale * p * (dp - delta) over dp.
template <class T, class Isa>
void attention_backward_scores(T* s, T* dp, std::int64_t rows, std::int64_t columns, std::int64_t pitch,
                               const T* log_sum_exp, const T* delta, T scale) {
  using S = Simd<T, Isa::bytes>;
  using Vector = typename S::Vector;
  Isa::run([&]() PROMPTIQA_SIMD_LAMBDA {
    Vector factor;
    broadcast(factor, scale);
    for (std::int64_t i = 0; i < rows; ++i) {
      Vector shift, mean;
      broadcast(shift, log_sum_exp[i]);
      broadcast(mean, delta[i]);
      for (std::int64_t j = i * pitch; j < i * pitch + columns; j += S::width) {
        Vector p, d;
        S::load(p, s + j);
        S::load(d, dp + j);
        p = p - shift;
        vector_exp(p, p);
        d = (d - mean) * p * factor;
        S::store(s + j, p);
        S::store(dp + j, d);
      }
    }
  });
}

/// delta[i] = sum(do * o) over row i.
template <class T, class Isa>
void attention_delta(T* delta, const T* d_o, const T* o, std::int64_t row_step, std::int64_t rows, std::int64_t dim) {
  using S = Simd<T, Isa::bytes>;
  using Vector = typename S::Vector;
  Isa::run([&]() PROMPTIQA_SIMD_LAMBDA {
    for (std::int64_t i = 0; i < rows; ++i, d_o += row_step, o += row_step) {
      Vector x, y, sum = {};
      std::int64_t d = 0;
      for (; d + S::width <= dim; d += S::width) {
        S::load(x, d_o + d);
        S::load(y, o + d);
        sum += x * y;
      }
      T lanes[S::width], total = 0;
      S::store(lanes, sum);
      for (int l = 0; l < S::width; ++l) total += lanes[l];
      for (; d < dim; ++d) total += d_o[d] * o[d];
      delta[i] = total;
    }
  });
}

/// dq, dk, dv from d_o; see AttentionBackwardArgs. A pair belongs to one task, which adds the blocks' shares of dk
/// and dv in order: no atomics, and the same bits for any number of threads. Throws std::bad_alloc.
template <class T, class Isa>
void attention_backward(const KernelContext& ctx, const AttentionBackwardArgs<T>& args) {
  const AttentionArgs<T>& f = args.forward;
  auto& pool = *static_cast<ThreadPool*>(ctx.execution);
  auto& memory = *static_cast<MemoryPool*>(ctx.memory);
  const AttentionPlan<T, Isa> plan(f, 48);
  const std::int64_t pairs = f.batch * f.heads, dim = f.head_dim;
  const std::int64_t group = attention_pairs_per_task(pairs, f.queries * f.keys * dim, pool.size());
  const std::int64_t size = 2 * plan.transposed_size + plan.plain_size + 2 * plan.row_size + 2 * plan.score_size() +
                            plan.row_values();

  pool.parallel_for((pairs + group - 1) / group, [&](std::int64_t task) {
    const StorageRef scratch = memory.allocate(static_cast<std::size_t>(size) * sizeof(T));
    T* keys_t = static_cast<T*>(scratch->data);        // k^T (D, Nk), v^T (D, Nk), k (Nk, D) of the pair
    T* values_t = keys_t + plan.transposed_size;
    T* keys = values_t + plan.transposed_size;
    T* q_rows = keys + plan.plain_size;                // q (rows, D), do (rows, D) of the block
    T* d_o_rows = q_rows + plan.row_size;
    T* p = d_o_rows + plan.row_size;                   // p (rows, Nk), ds (rows, Nk)
    T* ds = p + plan.score_size();
    T* delta = ds + plan.score_size();
    for (std::int64_t pair = task * group; pair < std::min(pairs, (task + 1) * group); ++pair) {
      const std::int64_t b = pair / f.heads, h = pair % f.heads;
      const std::int64_t q_pair = b * f.q_batch + h * f.q_head, k_pair = b * f.k_batch + h * f.k_head;
      const std::int64_t v_pair = b * f.v_batch + h * f.v_head, o_pair = b * f.o_batch + h * f.o_head;
      for (std::int64_t row = 0; f.queries == 0 && row < f.keys; ++row) {  // no block below would write them
        std::fill_n(args.dk + k_pair + row * f.k_row, dim, T(0));
        std::fill_n(args.dv + v_pair + row * f.v_row, dim, T(0));
      }
      pack_transposed_panels<T, Isa>(keys_t, f.k + k_pair, f.k_row, dim, f.keys);
      pack_transposed_panels<T, Isa>(values_t, f.v + v_pair, f.v_row, dim, f.keys);
      pack_panels<T, Isa>(keys, f.k + k_pair, f.k_row, f.keys, dim);
      for (std::int64_t row = 0; row < f.queries; row += plan.block_rows) {
        const std::int64_t rows = std::min(plan.block_rows, f.queries - row);
        const T* q = f.q + q_pair + row * f.q_row;
        const T* d_o = args.d_o + o_pair + row * f.o_row;
        const bool add = row > 0;
        pack_panels<T, Isa>(q_rows, q, f.q_row, rows, dim);
        pack_panels<T, Isa>(d_o_rows, d_o, f.o_row, rows, dim);
        attention_delta<T, Isa>(delta, d_o, f.o + o_pair + row * f.o_row, f.o_row, rows, dim);

        panel_product<T, Isa>({rows, plan.columns, dim, q, f.q_row, 1, keys_t, p, plan.pitch, f.scale, nullptr,
                               nullptr, false});
        panel_product<T, Isa>({rows, plan.columns, dim, d_o, f.o_row, 1, values_t, ds, plan.pitch, T(1), nullptr,
                               nullptr, false});
        attention_backward_scores<T, Isa>(p, ds, rows, plan.columns, plan.pitch,
                                          f.log_sum_exp + pair * f.queries + row, delta, f.scale);

        panel_product<T, Isa>({rows, dim, f.keys, ds, plan.pitch, 1, keys, args.dq + q_pair + row * f.q_row, f.q_row,
                               T(1), nullptr, nullptr, false});
        panel_product<T, Isa>({f.keys, dim, rows, ds, 1, plan.pitch, q_rows, args.dk + k_pair, f.k_row, T(1), nullptr,
                               nullptr, add});
        panel_product<T, Isa>({f.keys, dim, rows, p, 1, plan.pitch, d_o_rows, args.dv + v_pair, f.v_row, T(1), nullptr,
                               nullptr, add});
      }
    }
  });
}

}  // namespace promptiqa::cpu
