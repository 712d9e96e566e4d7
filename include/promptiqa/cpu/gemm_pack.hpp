// Copies pieces of matrices into the panels the micro-kernels read: panel[kk * Panel + j], zero where j is past
// the edge, kk counting packed elements.
// Surprising choice: a panel is transposed W x W elements at a time inside vector registers; element by element
// it would cost as much as the product itself when the other operand has few rows.
#pragma once

#include <algorithm>
#include <cstdint>
#include <cstring>
#include <type_traits>
#include <utility>

#include <promptiqa/cpu/gemm_micro_kernel.hpp>
#include <promptiqa/cpu/packed_element.hpp>
#include <promptiqa/cpu/parallel.hpp>
#include <promptiqa/cpu/simd.hpp>

namespace promptiqa::cpu {

/// A matrix seen as (k, lanes): element (kk, j) is data[kk * k_stride + j * lane_stride]; one stride is 1.
template <class T>
struct PanelSource {
  const T* data;
  std::int64_t k_stride, lane_stride;
};

namespace detail {

// One round of a transposition: pairs (x[i], x[i + W / 2]) are interleaved into (y[2 i], y[2 i + 1]). After
// log2(W) rounds, y is x transposed.
template <class V, std::size_t... L>
PROMPTIQA_ALWAYS_INLINE void interleave(V& low, V& high, const V& x, const V& y, std::index_sequence<L...>) {
  constexpr int w = sizeof...(L);
  low = __builtin_shufflevector(x, y, (static_cast<int>(L) / 2 + (L % 2 ? w : 0))...);
  high = __builtin_shufflevector(x, y, (w / 2 + static_cast<int>(L) / 2 + (L % 2 ? w : 0))...);
}
template <class V, std::size_t W, std::size_t... I>
PROMPTIQA_ALWAYS_INLINE void transpose_round(V (&to)[W], const V (&from)[W], std::index_sequence<I...>) {
  (interleave(to[2 * I], to[2 * I + 1], from[I], from[I + W / 2], std::make_index_sequence<W>()), ...);
}
template <class V, std::size_t W>
PROMPTIQA_ALWAYS_INLINE void transpose(V (&x)[W]) {
  V y[W];
  const auto round = std::make_index_sequence<W / 2>();
  if constexpr (W == 2) {
    transpose_round(y, x, round);
    std::memcpy(x, y, sizeof(x));
  } else {
    transpose_round(y, x, round);
    transpose_round(x, y, round);
    if constexpr (W >= 8) transpose_round(y, x, round);
    if constexpr (W == 8) std::memcpy(x, y, sizeof(x));
    if constexpr (W == 16) transpose_round(x, y, round);
  }
}

// Lanes that lie beside each other in memory: rows are copied.
template <class T, int Panel>
PROMPTIQA_ALWAYS_INLINE void pack_contiguous(T* panel, const PanelSource<T>& source, std::int64_t k,
                                             std::int64_t lanes) {
  const T* row = source.data;
  for (std::int64_t kk = 0; kk < k; ++kk, panel += Panel, row += source.k_stride) {
    if (lanes == Panel) {
      std::memcpy(panel, row, Panel * sizeof(T));
    } else {
      std::memcpy(panel, row, static_cast<std::size_t>(lanes) * sizeof(T));
      std::fill(panel + lanes, panel + Panel, T(0));
    }
  }
}

// The same into pairs: two rows are interleaved.
template <int Panel, int First>
PROMPTIQA_ALWAYS_INLINE void pack_pairs(Bfloat16Pair* panel, const PanelSource<float>& source, std::int64_t k,
                                        std::int64_t lanes) {
  constexpr int stored = std::min(Panel - First, Pair16::width);
  const int count = static_cast<int>(std::clamp<std::int64_t>(lanes - First, 0, stored));
  const float* row = source.data + First;
  for (std::int64_t kk = 0; kk < k; kk += 2, panel += Panel, row += 2 * source.k_stride) {
    Float16::Vector even, odd = {};
    load_some<Float16, float>(even, row, count);
    if (kk + 1 < k) load_some<Float16, float>(odd, row + source.k_stride, count);
    Pair16::Vector pairs;
    make_pairs(pairs, even, odd);
    std::memcpy(panel + First, &pairs, stored * sizeof(Bfloat16Pair));
  }
}
template <int Panel, std::size_t... Group>
PROMPTIQA_ALWAYS_INLINE void pack_pairs_groups(Bfloat16Pair* panel, const PanelSource<float>& source, std::int64_t k,
                                               std::int64_t lanes, std::index_sequence<Group...>) {
  (pack_pairs<Panel, static_cast<int>(Group) * Pair16::width>(panel, source, k, lanes), ...);
}

// The first packed elements of a row that has `depth` >= 1 elements of T left.
template <class S, class T>
PROMPTIQA_ALWAYS_INLINE void load_packed(typename S::Vector& v, const T* p, std::int64_t depth) {
  if constexpr (std::is_same_v<S, Pair16>) {
    load_pairs(v, p, depth);
  } else if (depth >= S::width) {
    S::load(v, p);
  } else {
    S::load_part(v, p, static_cast<int>(depth));
  }
}

// Lanes that are rows in memory: W lanes from `First` on, transposed a square at a time. `First + W` may pass the
// panel's end.
template <class T, class Isa, int Panel, int First>
PROMPTIQA_ALWAYS_INLINE void pack_transposed(packed_element_t<T, Isa>* panel, const PanelSource<T>& source,
                                             std::int64_t k, std::int64_t lanes) {
  constexpr int group = PackedElement<T, Isa>::depth;
  using S = std::conditional_t<group == 2, Pair16, Simd<T, Isa::bytes>>;
  constexpr int stored = Panel - First < S::width ? Panel - First : S::width;
  const T* rows = source.data + First * source.lane_stride;
  const std::int64_t packed_k = packed_depth<T, Isa>(k);
  for (std::int64_t kk = 0; kk < packed_k; kk += S::width) {
    const int depth = static_cast<int>(std::min<std::int64_t>(S::width, packed_k - kk));
    typename S::Vector square[S::width];
    for (int j = 0; j < S::width; ++j) {
      if (j >= stored || First + j >= lanes)
        square[j] = typename S::Vector{};
      else
        load_packed<S>(square[j], rows + j * source.lane_stride + group * kk, k - group * kk);
    }
    transpose(square);
    auto* to = panel + kk * Panel + First;
    if (depth == S::width) {
      for (int i = 0; i < S::width; ++i) std::memcpy(to + i * Panel, &square[i], stored * sizeof(*to));
    } else {
      for (int i = 0; i < depth; ++i) std::memcpy(to + i * Panel, &square[i], stored * sizeof(*to));
    }
  }
}
template <class T, class Isa, int Panel, std::size_t... Group>
PROMPTIQA_ALWAYS_INLINE void pack_transposed_groups(packed_element_t<T, Isa>* panel, const PanelSource<T>& source,
                                                    std::int64_t k, std::int64_t lanes,
                                                    std::index_sequence<Group...>) {
  constexpr int width = Simd<T, Isa::bytes>::width;
  (pack_transposed<T, Isa, Panel, static_cast<int>(Group) * width>(panel, source, k, lanes), ...);
}

}  // namespace detail

/// Fills one panel of packed_depth(k) * Panel packed elements from `lanes` <= Panel lanes of a matrix; the other lanes
/// become zero.
template <class T, class Isa, int Panel>
void pack_panel(packed_element_t<T, Isa>* panel, const PanelSource<T>& source, std::int64_t k, std::int64_t lanes) {
  constexpr int width = Simd<T, Isa::bytes>::width;
  constexpr std::make_index_sequence<(Panel + width - 1) / width> groups;
  Isa::run([&]() PROMPTIQA_SIMD_LAMBDA {
    if (source.lane_stride != 1)
      detail::pack_transposed_groups<T, Isa, Panel>(panel, source, k, lanes, groups);
    else if constexpr (PackedElement<T, Isa>::depth == 2)
      detail::pack_pairs_groups<Panel>(panel, source, k, lanes, groups);
    else
      detail::pack_contiguous<T, Panel>(panel, source, k, lanes);
  });
}

}  // namespace promptiqa::cpu
