// What a packed panel is made of: T itself, or pairs of bfloat16 that one instruction multiplies and adds.
// Surprising choice: bfloat16 exists inside products only. Tensors stay float, operands are rounded while they are
// packed, sums are float: a backend, not an element type, so no other kernel needs a second body.
#pragma once

#include <cstdint>
#include <cstring>

#include <promptiqa/core/bfloat16.hpp>
#include <promptiqa/cpu/simd.hpp>

namespace promptiqa::cpu {

/// Elements of one lane of a panel for `depth` neighbouring k, and how products of them are summed.
template <class T, class Isa>
struct PackedElement {
  using type = T;
  static constexpr int depth = 1;
};

/// Two bfloat16 values of neighbouring k: the even one in the low half.
struct Bfloat16Pair {
  std::uint32_t bits;
};

#if PROMPTIQA_X86_64
template <>
struct PackedElement<float, Avx512Bf16> {
  using type = Bfloat16Pair;
  static constexpr int depth = 2;
};
#endif

template <class T, class Isa>
using packed_element_t = typename PackedElement<T, Isa>::type;

/// k in packed elements.
template <class T, class Isa>
constexpr std::int64_t packed_depth(std::int64_t k) {
  return (k + PackedElement<T, Isa>::depth - 1) / PackedElement<T, Isa>::depth;
}

/// to = a packed element of the values of its `depth` neighbouring k.
template <class T>
void set_packed(T& to, const T (&values)[1]) {
  to = values[0];
}
inline void set_packed(Bfloat16Pair& to, const float (&values)[2]) {
  to.bits = to_bfloat16(values[0]).bits | static_cast<std::uint32_t>(to_bfloat16(values[1]).bits) << 16;
}

namespace detail {

using Float16 = Simd<float, 64>;
using Pair16 = Simd<std::uint32_t, 64>;

// bits = x rounded to bfloat16, to nearest and ties to even, in the high half of each lane; a NaN stays one.
PROMPTIQA_ALWAYS_INLINE void round_to_bfloat16(Pair16::Vector& bits, const Float16::Vector& x) {
  Pair16::Vector u;
  std::memcpy(&u, &x, sizeof(u));
  const Pair16::Vector rounded = u + (0x7FFFu + ((u >> 16) & 1u));
  bits = (x == x ? rounded : (u | 0x400000u)) & 0xFFFF0000u;
}

/// pairs = (even[i], odd[i]) as bfloat16.
PROMPTIQA_ALWAYS_INLINE void make_pairs(Pair16::Vector& pairs, const Float16::Vector& even,
                                        const Float16::Vector& odd) {
  Pair16::Vector low, high;
  round_to_bfloat16(low, even);
  round_to_bfloat16(high, odd);
  pairs = (low >> 16) | high;
}

/// pairs = (p[0], p[1]), (p[2], p[3]), ...: 16 of `count` >= 1 elements, zeros behind them.
PROMPTIQA_ALWAYS_INLINE void load_pairs(Pair16::Vector& pairs, const float* p, std::int64_t count) {
  Float16::Vector first, second = {};
  if (count >= 32) {
    Float16::load(first, p);
    Float16::load(second, p + 16);
  } else if (count > 16) {
    Float16::load(first, p);
    Float16::load_part(second, p + 16, static_cast<int>(count - 16));
  } else {
    Float16::load_part(first, p, static_cast<int>(count));
  }
  const Float16::Vector even =
      __builtin_shufflevector(first, second, 0, 2, 4, 6, 8, 10, 12, 14, 16, 18, 20, 22, 24, 26, 28, 30);
  const Float16::Vector odd =
      __builtin_shufflevector(first, second, 1, 3, 5, 7, 9, 11, 13, 15, 17, 19, 21, 23, 25, 27, 29, 31);
  make_pairs(pairs, even, odd);
}

}  // namespace detail

}  // namespace promptiqa::cpu
