// Attention, softmax(scale q k^T) v, without its matrix of scores: keys pass by in steps, and what has been summed up
// is scaled down whenever a larger score appears (the online softmax of FlashAttention). Surprising choice: powers of 2
// instead of e, so that scale and base cost one multiplication a score.
#pragma once

#include "attention_tile.cuh"
#include "reduce.cuh"

namespace promptiqa::cuda {

/// A block has Tile::rows queries of one head, a warp 16 of them.
template <class T, class Tile>
__global__ void __launch_bounds__(Tile::threads, Tile::blocks_at_once)
    attention_kernel(AttentionArgs<T> args, bool vectors) {
  using Operand = typename Tile::Operand;
  using Sum = typename Tile::Sum;
  const AttentionBlock block = attention_block(args.heads, args.queries, Tile::rows);
  const T* q = args.q + block.b * args.q_batch + block.h * args.q_head;
  const T* k = args.k + block.b * args.k_batch + block.h * args.k_head;
  const T* v = args.v + block.b * args.v_batch + block.h * args.v_head;
  const int queries = static_cast<int>(args.queries), keys = static_cast<int>(args.keys);
  const int head_dim = static_cast<int>(args.head_dim), warp_first = static_cast<int>(threadIdx.x) / 32 * 16;
  // Warps without rows only help to load.
  const bool busy = block.first + warp_first / Tile::rows_together * Tile::rows_together < queries;

  constexpr int steps_size = 2 * Tile::step_size;  // this step's keys or values, and the next one's
  const Shared<Operand> memory = dynamic_shared<Operand>(0, Tile::own_size + 2 * steps_size);
  const Shared<Operand> q_tile = memory, k_tiles = q_tile + Tile::own_size, v_tiles = k_tiles + steps_size;
  const auto load_step = [&](int first, int stage) {
    load_rows<Tile, Tile::step>(k_tiles + stage * Tile::step_size, k, args.k_row, first, keys, head_dim, vectors);
    load_rows<Tile, Tile::step>(v_tiles + stage * Tile::step_size, v, args.v_row, first, keys, head_dim, vectors);
  };
  load_rows<Tile, Tile::rows>(q_tile, q, args.q_row, block.first, queries, head_dim, vectors);
  commit_copies();
  load_step(0, 0);
  commit_copies();
  wait_for_step<Tile>();
  const typename Tile::Own own = Tile::own_rows(q_tile, warp_first);

  const Sum factor = args.scale * static_cast<Sum>(log2_of_e);
  Fragment<Sum, Tile::columns> o;
  o.clear();
  Sum largest[2] = {-static_cast<Sum>(INFINITY), -static_cast<Sum>(INFINITY)}, total[2] = {0, 0};
  for (int first = 0, stage = 0; first < keys; first += Tile::step, stage ^= 1) {
    if (first + Tile::step < keys) load_step(first + Tile::step, stage ^ 1);
    commit_copies();
    wait_for_step<Tile>();

    if (busy) {
      Fragment<Sum, Tile::step_columns> scores;
      Tile::rows_times_rows(scores, own, k_tiles + stage * Tile::step_size);
      scores.for_each([&](Sum& s, int, int) { s *= factor; });
      if (first + Tile::step > keys)  // what lies behind the last key does not count
        scores.for_each([&](Sum& s, int, int column) {
          if (first + column >= keys) s = -static_cast<Sum>(INFINITY);
        });
      Sum step_largest[2] = {largest[0], largest[1]};
      scores.for_each(
          [&](Sum& s, int second, int) { step_largest[second] = step_largest[second] < s ? s : step_largest[second]; });
      Sum shift[2], shrink[2];
      for (int i = 0; i < 2; ++i) {
        step_largest[i] = quad_max(step_largest[i]);
        shift[i] = step_largest[i] == -static_cast<Sum>(INFINITY) ? Sum(0) : step_largest[i];
        shrink[i] = power_of_2(largest[i] - shift[i]);
        largest[i] = step_largest[i];
        total[i] *= shrink[i];
      }
      scores.for_each([&](Sum& s, int second, int) {
        s = power_of_2(s - shift[second]);
        total[second] += s;
      });
      o.for_each([&](Sum& value, int second, int) { value *= shrink[second]; });
      Tile::add_fragment_times_matrix(o, scores, v_tiles + stage * Tile::step_size);
    }
    __syncthreads();  // the next but one step's rows come into these tiles
  }

  const Sum sums[2] = {quad_sum(total[0]), quad_sum(total[1])}, factors[2] = {1 / sums[0], 1 / sums[1]};
  T* out = args.o + block.b * args.o_batch + block.h * args.o_head;
  store_rows<Tile>(out, args.o_row, block.first + warp_first, queries, head_dim, vectors, o, factors);
  if (args.log_sum_exp && threadIdx.x % 4 == 0)
    for (int i = 0; i < 2; ++i) {
      const int row = block.first + warp_first + fragment_row() + 8 * i;
      if (row < queries)
        args.log_sum_exp[block.pair * args.queries + row] = largest[i] * static_cast<Sum>(log_of_2) + log(sums[i]);
    }
}

/// The same for any head dimension: a warp a query, a key after the other; lane l has elements l, l + 32, ...
template <class T>
__global__ void __launch_bounds__(32) attention_row_kernel(AttentionArgs<T> args) {
  using A = accumulate_t<T>;
  const AttentionBlock block = attention_block(args.heads, args.queries, 1);
  const int head_dim = static_cast<int>(args.head_dim), lane = static_cast<int>(threadIdx.x);
  const T* q = args.q + block.b * args.q_batch + block.h * args.q_head + block.first * args.q_row;
  const T* k = args.k + block.b * args.k_batch + block.h * args.k_head;
  const T* v = args.v + block.b * args.v_batch + block.h * args.v_head;
  T* out = args.o + block.b * args.o_batch + block.h * args.o_head + block.first * args.o_row;
  const Shared<A> o = dynamic_shared<A>(0, static_cast<std::size_t>(head_dim));
  for (int d = lane; d < head_dim; d += 32) o[d] = A(0);
  A largest = -static_cast<A>(INFINITY), total = 0;
  for (std::int64_t j = 0; j < args.keys; ++j, k += args.k_row, v += args.v_row) {
    A score = 0;
    for (int d = lane; d < head_dim; d += 32) score += widen(q[d]) * widen(k[d]);
    score = args.scale * warp_sum(score);
    const A above = largest < score ? score : largest, shift = above == -static_cast<A>(INFINITY) ? A(0) : above;
    const A shrink = exp(largest - shift), p = exp(score - shift);
    largest = above;
    total = total * shrink + p;
    for (int d = lane; d < head_dim; d += 32) o[d] = o[d] * shrink + p * widen(v[d]);
  }
  for (int d = lane; d < head_dim; d += 32) out[d] = narrow<T>(o[d] / total);
  if (args.log_sum_exp && lane == 0) args.log_sum_exp[block.pair * args.queries + block.first] = largest + log(total);
}

}  // namespace promptiqa::cuda
