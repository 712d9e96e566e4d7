// Activations, broadcast arithmetic, dropout, the L1 loss, filling and adding.
// Surprising choice: broadcasting first merges dimensions until the innermost is one long run in which each operand
// either advances or stands still, so four short loops serve every shape.
#pragma once

#include <cmath>
#include <cstdint>
#include <cstring>
#include <type_traits>

#include <promptiqa/core/kernel_table.hpp>
#include <promptiqa/cpu/math.hpp>
#include <promptiqa/cpu/parallel.hpp>

namespace promptiqa::cpu {

namespace detail {

/// y[i] = f(x[i]) for [begin, end); f(v) changes a vector in place. y may be x.
template <class S, class T, class F>
PROMPTIQA_ALWAYS_INLINE void map_vectors(T* y, const T* x, std::int64_t n, F&& f) {
  for_each_vector<S>(n, [&](std::int64_t i, int count) PROMPTIQA_SIMD_LAMBDA {
    typename S::Vector v;
    load_some<S, T>(v, x + i, count);
    f(v);
    store_some<S, T>(y + i, v, count);
  });
}

/// y[i] = f(a[i], b[i]): f(v, w) leaves the result in v.
template <class S, class T, class F>
PROMPTIQA_ALWAYS_INLINE void map_pairs(T* y, const T* a, const T* b, std::int64_t n, F&& f) {
  for_each_vector<S>(n, [&](std::int64_t i, int count) PROMPTIQA_SIMD_LAMBDA {
    typename S::Vector v, w;
    load_some<S, T>(v, a + i, count);
    load_some<S, T>(w, b + i, count);
    f(v, w);
    store_some<S, T>(y + i, v, count);
  });
}

template <class S, class T>
PROMPTIQA_ALWAYS_INLINE void unary_range(const UnaryArgs<T>& args, std::int64_t begin, std::int64_t n) {
  using V = typename S::Vector;
  const T* x = args.x + begin;
  T* y = args.y + begin;
  const V zero = {};
  switch (args.kind) {
    case UnaryKind::relu:  // a NaN is not below zero and stays
      map_vectors<S, T>(y, x, n, [&](V& v) PROMPTIQA_SIMD_LAMBDA { v = v < zero ? zero : v; });
      break;
    case UnaryKind::gelu:
      map_vectors<S, T>(y, x, n, [&](V& v) PROMPTIQA_SIMD_LAMBDA { vector_gelu<V, T>(v, v); });
      break;
    case UnaryKind::sigmoid:
      map_vectors<S, T>(y, x, n, [&](V& v) PROMPTIQA_SIMD_LAMBDA { vector_sigmoid<V, T>(v, v); });
      break;
    case UnaryKind::scale_shift:
      map_vectors<S, T>(y, x, n, [&](V& v) PROMPTIQA_SIMD_LAMBDA { v = v * args.alpha + args.beta; });
      break;
  }
}

template <class S, class T>
PROMPTIQA_ALWAYS_INLINE void unary_backward_range(const UnaryBackwardArgs<T>& args, std::int64_t begin,
                                                  std::int64_t n) {
  using V = typename S::Vector;
  const T *x = args.x + begin, *y = args.y + begin, *dy = args.dy + begin;
  T* dx = args.dx + begin;
  const V zero = {};
  switch (args.kind) {
    case UnaryKind::relu:
      map_pairs<S, T>(dx, x, dy, n, [&](V& v, V& w) PROMPTIQA_SIMD_LAMBDA { v = v <= zero ? zero : w; });
      break;
    case UnaryKind::gelu:
      map_pairs<S, T>(dx, x, dy, n, [&](V& v, V& w) PROMPTIQA_SIMD_LAMBDA {
        vector_gelu_derivative<V, T>(v, v);
        v = v * w;
      });
      break;
    case UnaryKind::sigmoid:
      map_pairs<S, T>(dx, y, dy, n, [&](V& v, V& w) PROMPTIQA_SIMD_LAMBDA { v = (v * (T(1) - v)) * w; });
      break;
    case UnaryKind::scale_shift:
      map_vectors<S, T>(dx, dy, n, [&](V& v) PROMPTIQA_SIMD_LAMBDA { v = v * args.alpha; });
      break;
  }
}

// ---- broadcasting -----------------------------------------------------------------------------------------------

/// BinaryArgs with dimensions of size 1 dropped and neighbours merged wherever both operands allow it.
struct BroadcastLoops {
  int rank = 0;  // at least 1
  std::int64_t dims[6], a_strides[6], b_strides[6];
};

template <class T>
BroadcastLoops merge_dimensions(const BinaryArgs<T>& args) {
  BroadcastLoops loops;
  for (int i = 0; i < args.rank; ++i) {
    if (args.dims[i] == 1) continue;
    const int last = loops.rank - 1;
    if (last >= 0 && loops.a_strides[last] == args.a_strides[i] * args.dims[i] &&
        loops.b_strides[last] == args.b_strides[i] * args.dims[i]) {
      loops.dims[last] *= args.dims[i];
      loops.a_strides[last] = args.a_strides[i];
      loops.b_strides[last] = args.b_strides[i];
    } else {
      loops.dims[loops.rank] = args.dims[i];
      loops.a_strides[loops.rank] = args.a_strides[i];
      loops.b_strides[loops.rank] = args.b_strides[i];
      ++loops.rank;
    }
  }
  if (loops.rank == 0) {
    loops.rank = 1;
    loops.dims[0] = 1;
    loops.a_strides[0] = loops.b_strides[0] = 1;
  }
  return loops;
}

template <class S, BinaryKind Kind, class T>
PROMPTIQA_ALWAYS_INLINE void binary_run(T* y, const T* a, const T* b, std::int64_t n, bool a_moves, bool b_moves) {
  using V = typename S::Vector;
  const auto apply = [](V& v, const V& w) PROMPTIQA_SIMD_LAMBDA {
    if constexpr (Kind == BinaryKind::add) v = v + w;
    if constexpr (Kind == BinaryKind::subtract) v = v - w;
    if constexpr (Kind == BinaryKind::multiply) v = v * w;
  };
  if (a_moves && b_moves) {
    map_pairs<S, T>(y, a, b, n, apply);
    return;
  }
  V still;
  if (a_moves) {
    S::fill(still, *b);
    map_vectors<S, T>(y, a, n, [&](V& v) PROMPTIQA_SIMD_LAMBDA { apply(v, still); });
  } else if (b_moves) {
    S::fill(still, *a);
    map_vectors<S, T>(y, b, n, [&](V& v) PROMPTIQA_SIMD_LAMBDA {
      V w = still;
      apply(w, v);
      v = w;
    });
  } else {
    V other;
    S::fill(still, *a);
    S::fill(other, *b);
    apply(still, other);
    for_each_vector<S>(n, [&](std::int64_t i, int count) PROMPTIQA_SIMD_LAMBDA {
      store_some<S, T>(y + i, still, count);
    });
  }
}

/// Runs [begin, end) of the loops, numbered with the innermost dimension cut into pieces of `piece` elements.
template <class S, BinaryKind Kind, class T>
PROMPTIQA_ALWAYS_INLINE void binary_range(const BinaryArgs<T>& args, const BroadcastLoops& loops, std::int64_t piece,
                                          std::int64_t begin, std::int64_t end) {
  const int inner = loops.rank - 1;
  const std::int64_t length = loops.dims[inner], pieces = (length + piece - 1) / piece;
  const std::int64_t a_step = loops.a_strides[inner], b_step = loops.b_strides[inner];
  for (std::int64_t item = begin; item < end; ++item) {
    const std::int64_t row = item / pieces, first = item % pieces * piece, n = std::min(piece, length - first);
    std::int64_t a = first * a_step, b = first * b_step, rest = row;
    for (int d = inner - 1; d >= 0; --d) {
      const std::int64_t i = rest % loops.dims[d];
      rest /= loops.dims[d];
      a += i * loops.a_strides[d];
      b += i * loops.b_strides[d];
    }
    binary_run<S, Kind, T>(args.y + row * length + first, args.a + a, args.b + b, n, a_step != 0, b_step != 0);
  }
}

/// A scalar loop for operands that advance by more than one element: no op makes them, the contract allows them.
template <class T>
void binary_strided(const BinaryArgs<T>& args, const BroadcastLoops& loops) {
  std::int64_t count = 1;
  for (int d = 0; d < loops.rank; ++d) count *= loops.dims[d];
  for (std::int64_t item = 0; item < count; ++item) {
    std::int64_t a = 0, b = 0, rest = item;
    for (int d = loops.rank - 1; d >= 0; --d) {
      const std::int64_t i = rest % loops.dims[d];
      rest /= loops.dims[d];
      a += i * loops.a_strides[d];
      b += i * loops.b_strides[d];
    }
    const T v = args.a[a], w = args.b[b];
    args.y[item] = args.kind == BinaryKind::add ? v + w : args.kind == BinaryKind::subtract ? v - w : v * w;
  }
}

}  // namespace detail

/// The body of KernelTable::unary; see UnaryArgs.
template <class T, class Isa>
void unary(const KernelContext& kc, const UnaryArgs<T>& args) {
  using S = Simd<T, Isa::bytes>;
  parallel_elements(kc, args.count, [&](std::int64_t begin, std::int64_t end) {
    Isa::run([&]() PROMPTIQA_SIMD_LAMBDA { detail::unary_range<S, T>(args, begin, end - begin); });
  });
}

/// The body of KernelTable::unary_backward; see UnaryBackwardArgs.
template <class T, class Isa>
void unary_backward(const KernelContext& kc, const UnaryBackwardArgs<T>& args) {
  using S = Simd<T, Isa::bytes>;
  parallel_elements(kc, args.count, [&](std::int64_t begin, std::int64_t end) {
    Isa::run([&]() PROMPTIQA_SIMD_LAMBDA { detail::unary_backward_range<S, T>(args, begin, end - begin); });
  });
}

/// The body of KernelTable::binary; see BinaryArgs.
template <class T, class Isa>
void binary(const KernelContext& kc, const BinaryArgs<T>& args) {
  using S = Simd<T, Isa::bytes>;
  const detail::BroadcastLoops loops = detail::merge_dimensions(args);
  const int inner = loops.rank - 1;
  const std::int64_t length = loops.dims[inner];
  std::int64_t rows = 1;
  for (int d = 0; d < inner; ++d) rows *= loops.dims[d];
  if (rows == 0 || length == 0) return;
  const auto unit = [](std::int64_t stride) { return stride == 0 || stride == 1; };
  if (!unit(loops.a_strides[inner]) || !unit(loops.b_strides[inner])) return detail::binary_strided(args, loops);
  const std::int64_t piece = std::min(length, stream_grain);
  const std::int64_t items = rows * ((length + piece - 1) / piece);
  parallel_rows(kc, items, piece, 1, [&](std::int64_t begin, std::int64_t end) {
    Isa::run([&]() PROMPTIQA_SIMD_LAMBDA {
      switch (args.kind) {
        case BinaryKind::add:
          detail::binary_range<S, BinaryKind::add, T>(args, loops, piece, begin, end);
          break;
        case BinaryKind::subtract:
          detail::binary_range<S, BinaryKind::subtract, T>(args, loops, piece, begin, end);
          break;
        case BinaryKind::multiply:
          detail::binary_range<S, BinaryKind::multiply, T>(args, loops, piece, begin, end);
          break;
      }
    });
  });
}

namespace detail {

/// keep[i] = -1 where counter_uniform(key, first + i) >= p, else 0, for a vector of lanes. `least` is p * 2^53 rounded
/// up: the generator's 53 bits are compared before they become a double, so no conversion is needed.
template <class Lane, int Bytes>
PROMPTIQA_ALWAYS_INLINE void kept_lanes(typename Simd<Lane, Bytes>::Vector& keep, std::uint64_t key,
                                        std::uint64_t first, std::int64_t least) {
  using Words = Simd<std::uint64_t, Bytes>;
  using Signed = Simd<std::int64_t, Bytes>;
  using Narrow = Simd<Lane, Words::width * static_cast<int>(sizeof(Lane))>;
  Lane lanes[Simd<Lane, Bytes>::width];
  std::uint64_t indices[Words::width];
  for (int i = 0; i < Words::width; ++i) indices[i] = static_cast<std::uint64_t>(i);
  for (int part = 0; part < Simd<Lane, Bytes>::width; part += Words::width) {
    typename Words::Vector z;
    Words::load(z, indices);
    z = (z + (first + static_cast<std::uint64_t>(part))) * 0x9E3779B97F4A7C15ull + key;
    for (int round = 0; round < 2; ++round) {
      z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9ull;
      z = (z ^ (z >> 27)) * 0x94D049BB133111EBull;
      z ^= z >> 31;
      z += 0x9E3779B97F4A7C15ull;
    }
    z >>= 11;
    typename Signed::Vector bits;
    std::memcpy(&bits, &z, sizeof bits);
    bits = bits >= least;
    typename Narrow::Vector narrow = __builtin_convertvector(bits, typename Narrow::Vector);
    Narrow::store(lanes + part, narrow);
  }
  Simd<Lane, Bytes>::load(keep, lanes);
}

}  // namespace detail

/// The body of KernelTable::dropout; see DropoutArgs.
template <class T, class Isa>
void dropout(const KernelContext& kc, const DropoutArgs<T>& args) {
  using S = Simd<T, Isa::bytes>;
  using Lane = std::conditional_t<sizeof(T) == 4, std::int32_t, std::int64_t>;
  const T factor = static_cast<T>(1 / (1 - args.p));
  const std::int64_t least = static_cast<std::int64_t>(std::ceil(args.p * 0x1.0p53));
  parallel_ranges(kc, args.count, stream_grain / 4, 64, [&](std::int64_t begin, std::int64_t end) {
    Isa::run([&]() PROMPTIQA_SIMD_LAMBDA {
      const T* x = args.x + begin;
      T* y = args.y + begin;
      for_each_vector<S>(end - begin, [&](std::int64_t i, int count) PROMPTIQA_SIMD_LAMBDA {
        typename S::Vector v;
        const typename S::Vector zero = {};
        typename Simd<Lane, Isa::bytes>::Vector keep;
        detail::kept_lanes<Lane, Isa::bytes>(keep, args.key, static_cast<std::uint64_t>(begin + i), least);
        load_some<S, T>(v, x + i, count);
        v = keep ? v * factor : zero;
        store_some<S, T>(y + i, v, count);
      });
    });
  });
}

/// The body of KernelTable::l1_loss; see L1LossArgs.
template <class T, class Isa>
void l1_loss(const KernelContext& kc, const L1LossArgs<T>& args) {
  using S = Simd<T, Isa::bytes>;
  using V = typename S::Vector;
  const double sum = sum_in_blocks(kc, args.count, 0, [&](std::int64_t begin, std::int64_t n) {
    double part = 0;
    Isa::run([&]() PROMPTIQA_SIMD_LAMBDA {
      part = sum_of_terms<S, T>(n, [&](V& v, std::int64_t i, int count) PROMPTIQA_SIMD_LAMBDA {
        V w;
        const V zero = {};
        load_some<S, T>(v, args.a + begin + i, count);
        load_some<S, T>(w, args.b + begin + i, count);
        v = v - w;
        v = v < zero ? -v : v;
      });
    });
    return part;
  });
  *args.loss = static_cast<T>(sum / static_cast<double>(args.count));
}

/// The body of KernelTable::l1_loss_backward; see L1LossBackwardArgs.
template <class T, class Isa>
void l1_loss_backward(const KernelContext& kc, const L1LossBackwardArgs<T>& args) {
  using S = Simd<T, Isa::bytes>;
  using V = typename S::Vector;
  const T step = *args.dloss / static_cast<T>(args.count);
  parallel_elements(kc, args.count, [&](std::int64_t begin, std::int64_t end) {
    Isa::run([&]() PROMPTIQA_SIMD_LAMBDA {
      const V zero = {}, up = V{} + step, down = V{} - step;
      detail::map_pairs<S, T>(args.da + begin, args.a + begin, args.b + begin, end - begin,
                              [&](V& v, V& w) PROMPTIQA_SIMD_LAMBDA { v = v > w ? up : (v < w ? down : zero); });
    });
  });
}

/// The body of KernelTable::fill; see FillArgs.
template <class T, class Isa>
void fill(const KernelContext& kc, const FillArgs<T>& args) {
  parallel_elements(kc, args.count, [&](std::int64_t begin, std::int64_t end) {
    std::fill(args.y + begin, args.y + end, args.value);
  });
}

/// The body of KernelTable::add_in_place; see AddInPlaceArgs.
template <class T, class Isa>
void add_in_place(const KernelContext& kc, const AddInPlaceArgs<T>& args) {
  using S = Simd<T, Isa::bytes>;
  using V = typename S::Vector;
  parallel_elements(kc, args.count, [&](std::int64_t begin, std::int64_t end) {
    Isa::run([&]() PROMPTIQA_SIMD_LAMBDA {
      detail::map_pairs<S, T>(args.y + begin, args.y + begin, args.x + begin, end - begin,
                              [&](V& v, V& w) PROMPTIQA_SIMD_LAMBDA { v = v + w; });
    });
  });
}

}  // namespace promptiqa::cpu
