// Gradients of attention, with p = softmax(s), s = scale q k^T, and delta = sum(do * o) of each query:
// dv = p^T do, ds = p * (do v^T - delta), dq = scale ds k, dk = scale ds^T q. p comes from log_sum_exp, block by block.
// Surprising choice: two kernels, one with the queries' rows and one with the keys', compute p twice; in return nobody
// adds to what another block has written, and the bits are the same in every run.
#pragma once

#include "attention_tile.cuh"
#include "reduce.cuh"

namespace promptiqa::cuda {

/// delta (B, H, Nq) = sum(do * o): a warp a query.
template <class T>
__global__ void __launch_bounds__(128) attention_delta_kernel(AttentionBackwardArgs<T> args, accumulate_t<T>* delta) {
  using A = accumulate_t<T>;
  const AttentionArgs<T>& f = args.forward;
  const std::int64_t row = std::int64_t{blockIdx.x} * 4 + threadIdx.y;
  if (row >= f.batch * f.heads * f.queries) return;
  const std::int64_t pair = row / f.queries;
  const std::int64_t first = pair / f.heads * f.o_batch + pair % f.heads * f.o_head + row % f.queries * f.o_row;
  A sum = 0;
  for (int d = static_cast<int>(threadIdx.x); d < f.head_dim; d += 32)
    sum += widen(args.d_o[first + d]) * widen(f.o[first + d]);
  sum = warp_sum(sum);
  if (threadIdx.x == 0) delta[row] = sum;
}

/// dq: a block has Tile::rows queries of one head, a warp 16 of them; keys pass by.
template <class T, class Tile>
__global__ void __launch_bounds__(Tile::threads, Tile::blocks_at_once)
    attention_dq_kernel(AttentionBackwardArgs<T> args, const accumulate_t<T>* delta, bool vectors) {
  using Operand = typename Tile::Operand;
  using Sum = typename Tile::Sum;
  const AttentionArgs<T>& f = args.forward;
  const AttentionBlock block = attention_block(f.heads, f.queries, Tile::rows);
  const std::int64_t q_pair = block.b * f.q_batch + block.h * f.q_head,
                     o_pair = block.b * f.o_batch + block.h * f.o_head;
  const T* k = f.k + block.b * f.k_batch + block.h * f.k_head;
  const T* v = f.v + block.b * f.v_batch + block.h * f.v_head;
  const int queries = static_cast<int>(f.queries), keys = static_cast<int>(f.keys);
  const int head_dim = static_cast<int>(f.head_dim), warp_first = static_cast<int>(threadIdx.x) / 32 * 16;
  // Warps without rows only help to load.
  const bool busy = block.first + warp_first / Tile::rows_together * Tile::rows_together < queries;

  constexpr int steps_size = 2 * Tile::step_size;
  const Shared<Operand> memory = dynamic_shared<Operand>(0, 2 * Tile::own_size + 2 * steps_size);
  const Shared<Operand> q_tile = memory, do_tile = q_tile + Tile::own_size;
  const Shared<Operand> k_tiles = do_tile + Tile::own_size, v_tiles = k_tiles + steps_size;
  const auto load_step = [&](int first, int stage) {
    load_rows<Tile, Tile::step>(k_tiles + stage * Tile::step_size, k, f.k_row, first, keys, head_dim, vectors);
    load_rows<Tile, Tile::step>(v_tiles + stage * Tile::step_size, v, f.v_row, first, keys, head_dim, vectors);
  };
  load_rows<Tile, Tile::rows>(q_tile, f.q + q_pair, f.q_row, block.first, queries, head_dim, vectors);
  load_rows<Tile, Tile::rows>(do_tile, args.d_o + o_pair, f.o_row, block.first, queries, head_dim, vectors);
  commit_copies();
  load_step(0, 0);
  commit_copies();
  wait_for_step<Tile>();
  const typename Tile::Own q_rows = Tile::own_rows(q_tile, warp_first), do_rows = Tile::own_rows(do_tile, warp_first);

  Sum row_log[2] = {0, 0}, row_delta[2] = {0, 0};  // log_sum_exp to the base 2
  for (int i = 0; i < 2; ++i) {
    const int row = block.first + warp_first + fragment_row() + 8 * i;
    if (row >= queries) continue;
    row_log[i] = f.log_sum_exp[block.pair * f.queries + row] * static_cast<Sum>(log2_of_e);
    row_delta[i] = delta[block.pair * f.queries + row];
  }
  const Sum factor = f.scale * static_cast<Sum>(log2_of_e);
  Fragment<Sum, Tile::columns> dq;
  dq.clear();
  for (int first = 0, stage = 0; first < keys; first += Tile::step, stage ^= 1) {
    if (first + Tile::step < keys) load_step(first + Tile::step, stage ^ 1);
    commit_copies();
    wait_for_step<Tile>();

    if (busy) {
      const Shared<Operand> k_tile = k_tiles + stage * Tile::step_size, v_tile = v_tiles + stage * Tile::step_size;
      Fragment<Sum, Tile::step_columns> p, ds;
      Tile::rows_times_rows(p, q_rows, k_tile);
      Tile::rows_times_rows(ds, do_rows, v_tile);
      p.for_each([&](Sum& s, int second, int) { s = power_of_2(s * factor - row_log[second]); });
      if (first + Tile::step > keys)  // what lies behind the last key does not count
        p.for_each([&](Sum& s, int, int column) {
          if (first + column >= keys) s = 0;
        });
      PROMPTIQA_UNROLL
      for (int j = 0; j < Tile::step_columns; ++j)
        for (int i = 0; i < 4; ++i) ds.values[j][i] = p.values[j][i] * (ds.values[j][i] - row_delta[i / 2]);
      Tile::add_fragment_times_matrix(dq, ds, k_tile);
    }
    __syncthreads();
  }
  const Sum factors[2] = {f.scale, f.scale};
  store_rows<Tile>(args.dq + q_pair, f.q_row, block.first + warp_first, queries, head_dim, vectors, dq, factors);
}

/// dk and dv: a block has Tile::rows keys of one head, a warp 16 of them; queries pass by. Scores are transposed here:
/// (key, query).
template <class T, class Tile>
__global__ void __launch_bounds__(Tile::threads, Tile::blocks_at_once)
    attention_dkv_kernel(AttentionBackwardArgs<T> args, const accumulate_t<T>* delta, bool vectors) {
  using Operand = typename Tile::Operand;
  using Sum = typename Tile::Sum;
  const AttentionArgs<T>& f = args.forward;
  const AttentionBlock block = attention_block(f.heads, f.keys, Tile::rows);
  const std::int64_t k_pair = block.b * f.k_batch + block.h * f.k_head,
                     v_pair = block.b * f.v_batch + block.h * f.v_head;
  const T* q = f.q + block.b * f.q_batch + block.h * f.q_head;
  const T* d_o = args.d_o + block.b * f.o_batch + block.h * f.o_head;
  const int queries = static_cast<int>(f.queries), keys = static_cast<int>(f.keys);
  const int head_dim = static_cast<int>(f.head_dim), warp_first = static_cast<int>(threadIdx.x) / 32 * 16;
  // Warps without rows only help to load.
  const bool busy = block.first + warp_first / Tile::rows_together * Tile::rows_together < keys;

  constexpr int steps_size = 2 * Tile::step_size, tiles_size = 2 * Tile::own_size + 2 * steps_size;
  const Shared<Operand> memory = dynamic_shared<Operand>(0, tiles_size);
  const Shared<Operand> k_tile = memory, v_tile = k_tile + Tile::own_size;
  const Shared<Operand> q_tiles = v_tile + Tile::own_size, do_tiles = q_tiles + steps_size;
  const Shared<Sum> logs = dynamic_shared<Sum>(tiles_size * sizeof(Operand), 2 * Tile::step);
  const Shared<Sum> deltas =
      dynamic_shared<Sum>(tiles_size * sizeof(Operand) + 2 * Tile::step * sizeof(Sum), 2 * Tile::step);
  const auto load_step = [&](int first, int stage) {
    load_rows<Tile, Tile::step>(q_tiles + stage * Tile::step_size, q, f.q_row, first, queries, head_dim, vectors);
    load_rows<Tile, Tile::step>(do_tiles + stage * Tile::step_size, d_o, f.o_row, first, queries, head_dim, vectors);
    for (int i = static_cast<int>(threadIdx.x); i < Tile::step; i += Tile::threads) {
      const bool inside = first + i < queries;
      const std::int64_t row = block.pair * f.queries + first + i;
      logs[stage * Tile::step + i] = inside ? f.log_sum_exp[row] * static_cast<Sum>(log2_of_e) : Sum(0);
      deltas[stage * Tile::step + i] = inside ? delta[row] : Sum(0);
    }
  };
  load_rows<Tile, Tile::rows>(k_tile, f.k + k_pair, f.k_row, block.first, keys, head_dim, vectors);
  load_rows<Tile, Tile::rows>(v_tile, f.v + v_pair, f.v_row, block.first, keys, head_dim, vectors);
  commit_copies();
  load_step(0, 0);
  commit_copies();
  wait_for_step<Tile>();
  const typename Tile::Own k_rows = Tile::own_rows(k_tile, warp_first), v_rows = Tile::own_rows(v_tile, warp_first);

  const Sum factor = f.scale * static_cast<Sum>(log2_of_e);
  Fragment<Sum, Tile::columns> dk, dv;
  dk.clear();
  dv.clear();
  for (int first = 0, stage = 0; first < queries; first += Tile::step, stage ^= 1) {
    if (first + Tile::step < queries) load_step(first + Tile::step, stage ^ 1);
    commit_copies();
    wait_for_step<Tile>();

    if (busy) {
      const Shared<Operand> q_tile = q_tiles + stage * Tile::step_size, do_tile = do_tiles + stage * Tile::step_size;
      Fragment<Sum, Tile::step_columns> p, ds;
      Tile::rows_times_rows(p, k_rows, q_tile);
      Tile::rows_times_rows(ds, v_rows, do_tile);
      p.for_each([&](Sum& s, int, int column) {
        const Sum log = logs[stage * Tile::step + column];
        s = power_of_2(s * factor - log);
      });
      if (first + Tile::step > queries)  // what lies behind the last query does not count
        p.for_each([&](Sum& s, int, int column) {
          if (first + column >= queries) s = 0;
        });
      Tile::add_fragment_times_matrix(dv, p, do_tile);
      ds.for_each([&](Sum& d, int, int column) {
        const Sum mean = deltas[stage * Tile::step + column];
        d -= mean;
      });
      PROMPTIQA_UNROLL
      for (int j = 0; j < Tile::step_columns; ++j)
        for (int i = 0; i < 4; ++i) ds.values[j][i] *= p.values[j][i];
      Tile::add_fragment_times_matrix(dk, ds, q_tile);
    }
    __syncthreads();
  }
  const Sum scales[2] = {f.scale, f.scale}, ones[2] = {1, 1};
  store_rows<Tile>(args.dk + k_pair, f.k_row, block.first + warp_first, keys, head_dim, vectors, dk, scales);
  store_rows<Tile>(args.dv + v_pair, f.v_row, block.first + warp_first, keys, head_dim, vectors, dv, ones);
}

/// dq of one query for any head dimension: a warp; lane l has elements l, l + 32, ...
template <class T>
__global__ void __launch_bounds__(32)
    attention_dq_row_kernel(AttentionBackwardArgs<T> args, const accumulate_t<T>* delta) {
  using A = accumulate_t<T>;
  const AttentionArgs<T>& f = args.forward;
  const AttentionBlock block = attention_block(f.heads, f.queries, 1);
  const int head_dim = static_cast<int>(f.head_dim), lane = static_cast<int>(threadIdx.x);
  const std::int64_t q_first = block.b * f.q_batch + block.h * f.q_head + block.first * f.q_row;
  const T* q = f.q + q_first;
  const T* d_o = args.d_o + block.b * f.o_batch + block.h * f.o_head + block.first * f.o_row;
  const T* k = f.k + block.b * f.k_batch + block.h * f.k_head;
  const T* v = f.v + block.b * f.v_batch + block.h * f.v_head;
  const A log_sum_exp = f.log_sum_exp[block.pair * f.queries + block.first],
          mean = delta[block.pair * f.queries + block.first];
  const Shared<A> dq = dynamic_shared<A>(0, static_cast<std::size_t>(head_dim));
  for (int d = lane; d < head_dim; d += 32) dq[d] = A(0);
  for (std::int64_t j = 0; j < f.keys; ++j, k += f.k_row, v += f.v_row) {
    A score = 0, dp = 0;
    for (int d = lane; d < head_dim; d += 32) {
      score += widen(q[d]) * widen(k[d]);
      dp += widen(d_o[d]) * widen(v[d]);
    }
    const A p = exp(f.scale * warp_sum(score) - log_sum_exp), ds = f.scale * p * (warp_sum(dp) - mean);
    for (int d = lane; d < head_dim; d += 32) dq[d] += ds * widen(k[d]);
  }
  for (int d = lane; d < head_dim; d += 32) args.dq[q_first + d] = narrow<T>(dq[d]);
}

/// dk and dv of one key.
template <class T>
__global__ void __launch_bounds__(32)
    attention_dkv_row_kernel(AttentionBackwardArgs<T> args, const accumulate_t<T>* delta) {
  using A = accumulate_t<T>;
  const AttentionArgs<T>& f = args.forward;
  const AttentionBlock block = attention_block(f.heads, f.keys, 1);
  const int head_dim = static_cast<int>(f.head_dim), lane = static_cast<int>(threadIdx.x);
  const std::int64_t k_first = block.b * f.k_batch + block.h * f.k_head + block.first * f.k_row;
  const std::int64_t v_first = block.b * f.v_batch + block.h * f.v_head + block.first * f.v_row;
  const T *k = f.k + k_first, *v = f.v + v_first;
  const T* q = f.q + block.b * f.q_batch + block.h * f.q_head;
  const T* d_o = args.d_o + block.b * f.o_batch + block.h * f.o_head;
  const Shared<A> dk = dynamic_shared<A>(0, 2 * static_cast<std::size_t>(head_dim)), dv = dk + head_dim;
  for (int d = lane; d < head_dim; d += 32) dk[d] = dv[d] = A(0);
  for (std::int64_t i = 0; i < f.queries; ++i, q += f.q_row, d_o += f.o_row) {
    A score = 0, dp = 0;
    for (int d = lane; d < head_dim; d += 32) {
      score += widen(q[d]) * widen(k[d]);
      dp += widen(d_o[d]) * widen(v[d]);
    }
    const std::int64_t row = block.pair * f.queries + i;
    const A p = exp(f.scale * warp_sum(score) - f.log_sum_exp[row]), ds = f.scale * p * (warp_sum(dp) - delta[row]);
    for (int d = lane; d < head_dim; d += 32) {
      dk[d] += ds * widen(q[d]);
      dv[d] += p * widen(d_o[d]);
    }
  }
  for (int d = lane; d < head_dim; d += 32) {
    args.dk[k_first + d] = narrow<T>(dk[d]);
    args.dv[v_first + d] = narrow<T>(dv[d]);
  }
}

}  // namespace promptiqa::cuda
