// Sums along an axis and over everything.
// Surprising choice: long sums are cut into parts whose length is fixed, each part is one block's or warp's work, and a
// second launch adds the parts in order: no atomics, the same bits in every run and on every device.
#pragma once

#include "reduce.cuh"
#include "launch.cuh"

namespace promptiqa::cuda {

/// A sum along the axis of (outer, axis, inner), cut into `parts` parts of `length` entries (the last one shorter).
struct AxisSum {
  std::int64_t outer, axis, inner, parts, length;
};

/// y[o, part, i] = scale * sum of x[o, a, i] over the part, for inner > 1: a block of (32, 8) has 32 columns i.
template <class In, class Out, class A>
__global__ void __launch_bounds__(256) sum_columns_kernel(AxisSum sum, A scale, const In* x, Out* y) {
  PROMPTIQA_SHARED(A, sums, 8 * 32);
  const std::int64_t tiles = ceil_div(sum.inner, 32);
  const std::int64_t column = blockIdx.x % tiles * 32 + threadIdx.x, item = blockIdx.x / tiles;  // item = (o, part)
  const std::int64_t o = item / sum.parts, begin = item % sum.parts * sum.length;
  const std::int64_t end = begin + sum.length < sum.axis ? begin + sum.length : sum.axis;
  A total = 0;
  if (column < sum.inner)
    for (std::int64_t a = begin + threadIdx.y; a < end; a += 8)
      total += widen(x[(o * sum.axis + a) * sum.inner + column]);
  sums[threadIdx.y * 32 + threadIdx.x] = total;
  __syncthreads();
  if (threadIdx.y > 0 || column >= sum.inner) return;
  for (unsigned row = 1; row < 8; ++row) total += sums[row * 32 + threadIdx.x];
  y[item * sum.inner + column] = narrow<Out>(total * scale);
}

/// The same for inner = 1: a warp for each (o, part), four to a block of (32, 4).
template <class In, class Out, class A>
__global__ void __launch_bounds__(128) sum_rows_kernel(AxisSum sum, A scale, const In* x, Out* y) {
  const std::int64_t item = std::int64_t{blockIdx.x} * 4 + threadIdx.y;
  if (item >= sum.outer * sum.parts) return;
  const std::int64_t o = item / sum.parts, begin = item % sum.parts * sum.length;
  const std::int64_t end = begin + sum.length < sum.axis ? begin + sum.length : sum.axis;
  A total = 0;
  for (std::int64_t a = begin + threadIdx.x; a < end; a += 32) total += widen(x[o * sum.axis + a]);
  total = warp_sum(total);
  if (threadIdx.x == 0) y[item] = narrow<Out>(total * scale);
}

/// |a[i] - b[i]|.
template <class T>
struct AbsoluteDifference {
  const T *a, *b;
  PROMPTIQA_DEVICE double operator()(std::int64_t i) const {
    const accumulate_t<T> d = widen(a[i]) - widen(b[i]);
    return d < 0 ? -d : d;
  }
};
/// x[i]^2.
template <class T>
struct Square {
  const T* x;
  PROMPTIQA_DEVICE double operator()(std::int64_t i) const {
    const accumulate_t<T> v = widen(x[i]);
    return v * v;
  }
};

constexpr std::int64_t terms_per_block = 8192;

/// partial[block] = the sum of term(i) over the block's terms_per_block elements.
template <class Term>
__global__ void __launch_bounds__(256) sum_terms_kernel(std::int64_t count, Term term, double* partial) {
  const std::int64_t begin = blockIdx.x * terms_per_block;
  const std::int64_t end = begin + terms_per_block < count ? begin + terms_per_block : count;
  double total = 0;
  for (std::int64_t i = begin + threadIdx.x; i < end; i += blockDim.x) total += term(i);
  total = block_sum(total);
  if (threadIdx.x == 0) partial[blockIdx.x] = total;
}

/// One block: result = sum of the partial sums * scale, added to what is there when `add`.
template <class Out>
__global__ void __launch_bounds__(256) finish_sum_kernel(std::int64_t parts, const double* partial, double scale, bool add, Out* result) {
  double total = 0;
  for (std::int64_t i = threadIdx.x; i < parts; i += blockDim.x) total += partial[i];
  total = block_sum(total) * scale;
  if (threadIdx.x > 0) return;
  if (add) total += static_cast<double>(widen(*result));
  *result = narrow<Out>(static_cast<accumulate_t<Out>>(total));
}

}  // namespace promptiqa::cuda
