// Splitting a loop over a Context's thread pool, and the small loops over vectors that the bodies here share.
// Surprising choice: chunks depend on the number of threads, so nothing may be summed across the elements of a
// chunk into one result; sums use fixed blocks instead and give the same bits for any number of threads.
#pragma once

#include <algorithm>
#include <cstdint>

#include <promptiqa/core/kernel_table.hpp>
#include <promptiqa/core/memory_pool.hpp>
#include <promptiqa/core/thread_pool.hpp>
#include <promptiqa/cpu/simd.hpp>

namespace promptiqa::cpu {

inline ThreadPool& pool_of(const KernelContext& kc) { return *static_cast<ThreadPool*>(kc.execution); }
inline MemoryPool& memory_of(const KernelContext& kc) { return *static_cast<MemoryPool*>(kc.memory); }

/// a / b rounded up, for a >= 0 and b > 0.
inline std::int64_t ceil_div(std::int64_t a, std::int64_t b) { return (a + b - 1) / b; }

/// `total` cut into equal blocks of at most `limit`, each a multiple of `multiple`.
inline std::int64_t even_block(std::int64_t total, std::int64_t limit, std::int64_t multiple) {
  const std::int64_t blocks = std::max<std::int64_t>(1, ceil_div(total, limit));
  return ceil_div(ceil_div(total, blocks), multiple) * multiple;
}

/// Begin of part i when [0, n) is cut into `parts` nearly equal ones.
inline std::int64_t part_begin(std::int64_t i, std::int64_t n, std::int64_t parts) { return i * n / parts; }

/// Elements below which a loop that only streams memory is not worth a second thread.
inline constexpr std::int64_t stream_grain = 16384;

/// Calls body(begin, end) for consecutive ranges that cover [0, n), in parallel when n > grain. A range has at
/// least `grain` items (the last one may have fewer) and begins at a multiple of `multiple`.
template <class Body>
void parallel_ranges(const KernelContext& kc, std::int64_t n, std::int64_t grain, std::int64_t multiple, Body&& body) {
  if (n <= 0) return;
  ThreadPool& pool = pool_of(kc);
  if (n <= grain || pool.size() == 1) {
    body(std::int64_t{0}, n);
    return;
  }
  // A few ranges a thread, so that a thread that starts late finds less left to do.
  const std::int64_t wanted = 4 * static_cast<std::int64_t>(pool.size());
  std::int64_t step = std::max(grain, (n + wanted - 1) / wanted);
  step = (step + multiple - 1) / multiple * multiple;
  pool.parallel_for((n + step - 1) / step,
                    [&](std::int64_t i) { body(i * step, std::min(n, (i + 1) * step)); });
}

/// The same over single elements: ranges begin at a cache line.
template <class Body>
void parallel_elements(const KernelContext& kc, std::int64_t n, Body&& body) {
  parallel_ranges(kc, n, stream_grain, 64, body);
}

/// The same over rows of `columns` elements, each of which costs `work` streamed elements' time.
template <class Body>
void parallel_rows(const KernelContext& kc, std::int64_t rows, std::int64_t columns, std::int64_t work, Body&& body) {
  const std::int64_t cost = std::max<std::int64_t>(1, columns * work);
  parallel_ranges(kc, rows, std::max<std::int64_t>(1, stream_grain / cost), 1, body);
}

// ---- loops over vectors: S is a Simd<T, Bytes> --------------------------------------------------------------------

/// v = the `count` elements at p, the others `fill`; count is a constant S::width in the body of a loop.
template <class S, class T>
PROMPTIQA_ALWAYS_INLINE void load_some(typename S::Vector& v, const T* p, int count, T fill = T(0)) {
  if (count == S::width) {
    S::load(v, p);
  } else {
    T lanes[S::width];
    for (int i = 0; i < S::width; ++i) lanes[i] = fill;
    for (int i = 0; i < count; ++i) lanes[i] = p[i];
    S::load(v, lanes);
  }
}
template <class S, class T>
PROMPTIQA_ALWAYS_INLINE void store_some(T* p, const typename S::Vector& v, int count) {
  if (count == S::width)
    S::store(p, v);
  else
    S::store_part(p, v, count);
}

/// Calls body(i, count) for vectors that cover [0, n): count is S::width but for the last.
template <class S, class Body>
PROMPTIQA_ALWAYS_INLINE void for_each_vector(std::int64_t n, Body&& body) {
  std::int64_t i = 0;
  for (; i + S::width <= n; i += S::width) body(i, S::width);
  if (i < n) body(i, static_cast<int>(n - i));
}

/// The sum of a vector's lanes, in a fixed order.
template <class S, class T>
PROMPTIQA_ALWAYS_INLINE T sum_of_lanes(const typename S::Vector& v) {
  T lanes[S::width];
  S::store(lanes, v);
  for (int half = S::width / 2; half > 0; half /= 2)
    for (int i = 0; i < half; ++i) lanes[i] += lanes[i + half];
  return lanes[0];
}
template <class S, class T>
PROMPTIQA_ALWAYS_INLINE T largest_lane(const typename S::Vector& v) {
  T lanes[S::width];
  S::store(lanes, v);
  for (int half = S::width / 2; half > 0; half /= 2)
    for (int i = 0; i < half; ++i) lanes[i] = lanes[i] < lanes[i + half] ? lanes[i + half] : lanes[i];
  return lanes[0];
}

/// The sum over [0, n) of what term(v, i, count) puts into v for elements i .. i + count - 1 (lanes from count on
/// are ignored). Four running vectors are emptied into a double after 64 rounds: the error stays that of some
/// dozen float additions however large n is.
template <class S, class T, class Term>
PROMPTIQA_ALWAYS_INLINE double sum_of_terms(std::int64_t n, Term&& term) {
  using V = typename S::Vector;
  constexpr std::int64_t step = 4 * S::width, block = 64 * step;
  double total = 0;
  std::int64_t i = 0;
  while (i + step <= n) {
    V s0 = {}, s1 = {}, s2 = {}, s3 = {}, v0, v1, v2, v3;
    const std::int64_t end = std::min(n, i + block);
    for (; i + step <= end; i += step) {
      term(v0, i, S::width);
      term(v1, i + S::width, S::width);
      term(v2, i + 2 * S::width, S::width);
      term(v3, i + 3 * S::width, S::width);
      s0 += v0;
      s1 += v1;
      s2 += v2;
      s3 += v3;
    }
    s0 = (s0 + s1) + (s2 + s3);
    total += static_cast<double>(sum_of_lanes<S, T>(s0));
  }
  if (i == n) return total;
  V s = {}, v;
  for (; i + S::width <= n; i += S::width) {
    term(v, i, S::width);
    s += v;
  }
  if (i < n) {
    const int count = static_cast<int>(n - i);
    term(v, i, count);
    T lanes[S::width];
    S::store(lanes, v);
    load_some<S, T>(v, lanes, count);
    s += v;
  }
  return total + static_cast<double>(sum_of_lanes<S, T>(s));
}

/// start plus part(begin, n) of fixed blocks of [0, count), added in order: the same bits for any number of threads.
/// Throws std::bad_alloc.
template <class Part>
double sum_in_blocks(const KernelContext& kc, std::int64_t count, double start, Part&& part) {
  constexpr std::int64_t block = 65536;
  const std::int64_t blocks = ceil_div(count, block);
  const StorageRef scratch = memory_of(kc).allocate(static_cast<std::size_t>(blocks) * sizeof(double));
  double* sums = static_cast<double*>(scratch->data);
  pool_of(kc).parallel_for(
      blocks, [&](std::int64_t i) { sums[i] = part(i * block, std::min(block, count - i * block)); });
  for (std::int64_t i = 0; i < blocks; ++i) start += sums[i];
  return start;
}

}  // namespace promptiqa::cpu
