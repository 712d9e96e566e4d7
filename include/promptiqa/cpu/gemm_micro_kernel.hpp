// The register-tiled heart of gemm: tile = A panel (rows x k) times B panel (k x columns), per instruction set.
// Surprising choice: the same few lines stand here once per instruction set, because only a function that names
// its target may use that target's fused multiply-add, and compilers fuse a * b + c only under some flags.
//
// A is read through two strides, so one kernel serves packed A, plain A and transposed A. Loops over the tile are
// fold expressions: the accumulators must become registers at every optimisation level.
#pragma once

#include <array>
#include <cstdint>
#include <utility>

#include <promptiqa/cpu/packed_element.hpp>
#include <promptiqa/cpu/simd.hpp>
#if PROMPTIQA_X86_64
#include <immintrin.h>
#endif

namespace promptiqa::cpu {

/// Rows and columns of the register tile; `columns` is also the width of a packed panel of B.
/// 14 x 2 vectors + 2 of B + 1 of A fill 32 registers, 6 x 2 + 2 + 1 fill 16.
template <class T, class Isa>
struct GemmTile {
  static constexpr int width = Isa::bytes / static_cast<int>(sizeof(T));  // elements of one vector
  static constexpr int rows = Isa::bytes == 64 ? 14 : 6;
  static constexpr int columns = 2 * width;
};

/// One call of a micro-kernel: tile[i, j] = sum over kk < k of a[i * a_row + kk * a_k] * b[kk * b_k + j], plus the
/// old tile[i, j] when `accumulate`. The tile's rows lie tile_row elements apart; whole vectors are written.
/// With P = Bfloat16Pair an element of a and b is two of k.
template <class T, class P = T>
struct MicroKernelArgs {
  std::int64_t k;
  const P* a;
  std::int64_t a_row, a_k;
  const P* b;
  std::int64_t b_k;
  T* tile;
  std::int64_t tile_row;
  bool accumulate;
  const P* prefetch;           // read soon: each step of k asks for the cache line there, `prefetch_step` elements on
  std::int64_t prefetch_step;  // from the one before
  // The sum may go over several stretches of k: stretch s reads its k rows of b at b + shifts[s], and the next
  // k * a_k of a. A convolution's stretches are the elements of its kernel.
  std::int64_t stretches = 1;
  const std::int64_t* shifts = nullptr;  // null for one stretch at b
};

template <class T, class P = T>
using MicroKernel = void (*)(const MicroKernelArgs<T, P>&);

namespace detail {

// Addresses of A: one pointer for three rows, which base + index addressing reaches with a_row and 2 * a_row.
template <class T, int Rows>
struct RowPointers {
  static constexpr int count = (Rows + 2) / 3;
  const T* p[count];

  PROMPTIQA_ALWAYS_INLINE RowPointers(const T* a, std::int64_t row) {
    for (int i = 0; i < count; ++i) p[i] = a + 3 * i * row;
  }
  template <std::size_t... G>
  PROMPTIQA_ALWAYS_INLINE void advance(std::int64_t step, std::index_sequence<G...>) {
    ((p[G] += step), ...);
  }
};

// Stores the accumulators, adding what the tile held before when asked to.
template <class T, int Bytes, int Vectors, class P, std::size_t... I>
PROMPTIQA_ALWAYS_INLINE void store_tile(const MicroKernelArgs<T, P>& args,
                                        const typename Simd<T, Bytes>::Vector (&sum)[sizeof...(I)],
                                        std::index_sequence<I...>) {
  using S = Simd<T, Bytes>;
  const auto store = [&](T* p, const typename S::Vector& v) PROMPTIQA_SIMD_LAMBDA {
    if (args.accumulate) {
      typename S::Vector old;
      S::load(old, p);
      old += v;
      S::store(p, old);
    } else {
      S::store(p, v);
    }
  };
  (store(args.tile + static_cast<std::int64_t>(I / Vectors) * args.tile_row + (I % Vectors) * S::width, sum[I]), ...);
}

template <class V, class T>
PROMPTIQA_ALWAYS_INLINE void broadcast_portable(V& v, const T* p) {
  v = *p - V{};
}
template <class V>
PROMPTIQA_ALWAYS_INLINE void multiply_add_portable(V& sum, const V& a, const V& b) {
  sum += a * b;
}

template <int Vectors, class T, class V, std::size_t Size, std::size_t... I>
PROMPTIQA_ALWAYS_INLINE void row_portable(V (&sum)[Size], const T* a, const V (&b)[2], std::size_t row,
                                          std::index_sequence<I...>) {
  V x;
  broadcast_portable(x, a);
  (multiply_add_portable(sum[row * Vectors + I], x, b[I]), ...);
}

template <class T, int Vectors, std::size_t... R>
void micro_kernel_portable(const MicroKernelArgs<T>& args, std::index_sequence<R...>) {
  using S = Simd<T, 16>;
  typename S::Vector sum[sizeof...(R) * Vectors] = {}, b[2];
  RowPointers<T, sizeof...(R)> a(args.a, args.a_row);
  const T* soon = args.prefetch;
  for (std::int64_t s = 0; s < args.stretches; ++s) {
    const T* next_b = args.shifts ? args.b + args.shifts[s] : args.b;
    for (std::int64_t kk = 0; kk < args.k; ++kk) {
      S::load(b[0], next_b);
      if constexpr (Vectors == 2) S::load(b[1], next_b + S::width);
      (row_portable<Vectors>(sum, a.p[R / 3] + static_cast<std::int64_t>(R % 3) * args.a_row, b, R,
                             std::make_index_sequence<Vectors>()),
       ...);
      a.advance(args.a_k, std::make_index_sequence<(sizeof...(R) + 2) / 3>());
      next_b += args.b_k;
      __builtin_prefetch(soon, 0, 2);
      soon += args.prefetch_step;
    }
  }
  store_tile<T, 16, Vectors>(args, sum, std::make_index_sequence<sizeof...(R) * Vectors>());
}

#if PROMPTIQA_X86_64
PROMPTIQA_TARGET_AVX2 PROMPTIQA_ALWAYS_INLINE void broadcast_avx2(Simd<float, 32>::Vector& v, const float* p) {
  v = _mm256_set1_ps(*p);
}
PROMPTIQA_TARGET_AVX2 PROMPTIQA_ALWAYS_INLINE void multiply_add_avx2(Simd<float, 32>::Vector& sum,
                                                                     const Simd<float, 32>::Vector& a,
                                                                     const Simd<float, 32>::Vector& b) {
  sum = _mm256_fmadd_ps(a, b, sum);
}
PROMPTIQA_TARGET_AVX2 PROMPTIQA_ALWAYS_INLINE void broadcast_avx2(Simd<double, 32>::Vector& v, const double* p) {
  v = _mm256_set1_pd(*p);
}
PROMPTIQA_TARGET_AVX2 PROMPTIQA_ALWAYS_INLINE void multiply_add_avx2(Simd<double, 32>::Vector& sum,
                                                                     const Simd<double, 32>::Vector& a,
                                                                     const Simd<double, 32>::Vector& b) {
  sum = _mm256_fmadd_pd(a, b, sum);
}

template <int Vectors, class T, class V, std::size_t Size, std::size_t... I>
PROMPTIQA_TARGET_AVX2 PROMPTIQA_ALWAYS_INLINE void row_avx2(V (&sum)[Size], const T* a, const V (&b)[2],
                                                            std::size_t row, std::index_sequence<I...>) {
  V x;
  broadcast_avx2(x, a);
  (multiply_add_avx2(sum[row * Vectors + I], x, b[I]), ...);
}

template <class T, int Vectors, std::size_t... R>
PROMPTIQA_TARGET_AVX2 void micro_kernel_avx2(const MicroKernelArgs<T>& args, std::index_sequence<R...>) {
  using S = Simd<T, 32>;
  typename S::Vector sum[sizeof...(R) * Vectors] = {}, b[2];
  RowPointers<T, sizeof...(R)> a(args.a, args.a_row);
  const T* soon = args.prefetch;
  for (std::int64_t s = 0; s < args.stretches; ++s) {
    const T* next_b = args.shifts ? args.b + args.shifts[s] : args.b;
    for (std::int64_t kk = 0; kk < args.k; ++kk) {
      S::load(b[0], next_b);
      if constexpr (Vectors == 2) S::load(b[1], next_b + S::width);
      (row_avx2<Vectors>(sum, a.p[R / 3] + static_cast<std::int64_t>(R % 3) * args.a_row, b, R,
                         std::make_index_sequence<Vectors>()),
       ...);
      a.advance(args.a_k, std::make_index_sequence<(sizeof...(R) + 2) / 3>());
      next_b += args.b_k;
      __builtin_prefetch(soon, 0, 2);
      soon += args.prefetch_step;
    }
  }
  store_tile<T, 32, Vectors>(args, sum, std::make_index_sequence<sizeof...(R) * Vectors>());
}

PROMPTIQA_TARGET_AVX512 PROMPTIQA_ALWAYS_INLINE void broadcast_avx512(Simd<float, 64>::Vector& v, const float* p) {
  v = _mm512_set1_ps(*p);
}
PROMPTIQA_TARGET_AVX512 PROMPTIQA_ALWAYS_INLINE void multiply_add_avx512(Simd<float, 64>::Vector& sum,
                                                                         const Simd<float, 64>::Vector& a,
                                                                         const Simd<float, 64>::Vector& b) {
  sum = _mm512_fmadd_ps(a, b, sum);
}
PROMPTIQA_TARGET_AVX512 PROMPTIQA_ALWAYS_INLINE void broadcast_avx512(Simd<double, 64>::Vector& v, const double* p) {
  v = _mm512_set1_pd(*p);
}
PROMPTIQA_TARGET_AVX512 PROMPTIQA_ALWAYS_INLINE void multiply_add_avx512(Simd<double, 64>::Vector& sum,
                                                                         const Simd<double, 64>::Vector& a,
                                                                         const Simd<double, 64>::Vector& b) {
  sum = _mm512_fmadd_pd(a, b, sum);
}

template <int Vectors, class T, class V, std::size_t Size, std::size_t... I>
PROMPTIQA_TARGET_AVX512 PROMPTIQA_ALWAYS_INLINE void row_avx512(V (&sum)[Size], const T* a, const V (&b)[2],
                                                                std::size_t row, std::index_sequence<I...>) {
  V x;
  broadcast_avx512(x, a);
  (multiply_add_avx512(sum[row * Vectors + I], x, b[I]), ...);
}

template <class T, int Vectors, std::size_t... R>
PROMPTIQA_TARGET_AVX512 void micro_kernel_avx512(const MicroKernelArgs<T>& args, std::index_sequence<R...>) {
  using S = Simd<T, 64>;
  typename S::Vector sum[sizeof...(R) * Vectors] = {}, b[2];
  RowPointers<T, sizeof...(R)> a(args.a, args.a_row);
  const T* soon = args.prefetch;
  for (std::int64_t s = 0; s < args.stretches; ++s) {
    const T* next_b = args.shifts ? args.b + args.shifts[s] : args.b;
    for (std::int64_t kk = 0; kk < args.k; ++kk) {
      S::load(b[0], next_b);
      if constexpr (Vectors == 2) S::load(b[1], next_b + S::width);
      (row_avx512<Vectors>(sum, a.p[R / 3] + static_cast<std::int64_t>(R % 3) * args.a_row, b, R,
                           std::make_index_sequence<Vectors>()),
       ...);
      a.advance(args.a_k, std::make_index_sequence<(sizeof...(R) + 2) / 3>());
      next_b += args.b_k;
      __builtin_prefetch(soon, 0, 2);
      soon += args.prefetch_step;
    }
  }
  store_tile<T, 64, Vectors>(args, sum, std::make_index_sequence<sizeof...(R) * Vectors>());
}

template <int Vectors, std::size_t Size, std::size_t... I>
PROMPTIQA_TARGET_AVX512_BF16 PROMPTIQA_ALWAYS_INLINE void row_avx512_bf16(__m512 (&sum)[Size], const Bfloat16Pair* a,
                                                                          const __m512i (&b)[2], std::size_t row,
                                                                          std::index_sequence<I...>) {
  const __m512i x = _mm512_set1_epi32(static_cast<int>(a->bits));
  ((sum[row * Vectors + I] = _mm512_dpbf16_ps(sum[row * Vectors + I], (__m512bh)x, (__m512bh)b[I])), ...);
}

template <int Vectors, std::size_t... R>
PROMPTIQA_TARGET_AVX512_BF16 void micro_kernel_avx512_bf16(const MicroKernelArgs<float, Bfloat16Pair>& args,
                                                           std::index_sequence<R...>) {
  __m512 sum[sizeof...(R) * Vectors] = {};
  __m512i b[2];
  RowPointers<Bfloat16Pair, sizeof...(R)> a(args.a, args.a_row);
  const Bfloat16Pair* soon = args.prefetch;
  for (std::int64_t s = 0; s < args.stretches; ++s) {
    const Bfloat16Pair* next_b = args.shifts ? args.b + args.shifts[s] : args.b;
    for (std::int64_t kk = 0; kk < args.k; ++kk) {
      b[0] = _mm512_loadu_si512(next_b);
      if constexpr (Vectors == 2) b[1] = _mm512_loadu_si512(next_b + 16);
      (row_avx512_bf16<Vectors>(sum, a.p[R / 3] + static_cast<std::int64_t>(R % 3) * args.a_row, b, R,
                                std::make_index_sequence<Vectors>()),
       ...);
      a.advance(args.a_k, std::make_index_sequence<(sizeof...(R) + 2) / 3>());
      next_b += args.b_k;
      __builtin_prefetch(soon, 0, 2);
      soon += args.prefetch_step;
    }
  }
  typename Simd<float, 64>::Vector stored[sizeof...(R) * Vectors];
  std::memcpy(stored, sum, sizeof(sum));
  store_tile<float, 64, Vectors>(args, stored, std::make_index_sequence<sizeof...(R) * Vectors>());
}
#endif

template <class T, class Isa, int Vectors, std::size_t... R>
void micro_kernel(const MicroKernelArgs<T, packed_element_t<T, Isa>>& args) {
  constexpr std::index_sequence<R...> rows;
#if PROMPTIQA_X86_64
  if constexpr (PackedElement<T, Isa>::depth == 2)
    micro_kernel_avx512_bf16<Vectors>(args, rows);
  else if constexpr (Isa::bytes == 64)
    micro_kernel_avx512<T, Vectors>(args, rows);
  else if constexpr (Isa::bytes == 32)
    micro_kernel_avx2<T, Vectors>(args, rows);
  else
#endif
    micro_kernel_portable<T, Vectors>(args, rows);
}

template <class T, class Isa, int Vectors, std::size_t... R>
constexpr MicroKernel<T, packed_element_t<T, Isa>> micro_kernel_of(std::index_sequence<R...>) {
  return &micro_kernel<T, Isa, Vectors, R...>;
}
template <class T, class Isa, std::size_t... Rows>
constexpr auto micro_kernel_table(std::index_sequence<Rows...>) {
  return std::array<std::array<MicroKernel<T, packed_element_t<T, Isa>>, 2>, sizeof...(Rows)>{
      {{{micro_kernel_of<T, Isa, 1>(std::make_index_sequence<Rows + 1>()),
         micro_kernel_of<T, Isa, 2>(std::make_index_sequence<Rows + 1>())}}...}};
}

}  // namespace detail

/// The micro-kernels of an instruction set: [rows - 1][vectors of columns - 1].
template <class T, class Isa>
inline constexpr auto micro_kernels =
    detail::micro_kernel_table<T, Isa>(std::make_index_sequence<GemmTile<T, Isa>::rows>());

}  // namespace promptiqa::cpu
