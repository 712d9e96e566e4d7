// bfloat16: the upper half of a float, as a storage type.
// Surprising choice: it has no arithmetic. Kernels widen it to float, compute, and round once; C++17, so that .cu files
// can read it.
#pragma once

#include <cstdint>
#include <cstring>

#include <promptiqa/core/kernel_table.hpp>

namespace promptiqa {

/// One sign, eight exponent and seven fraction bits.
struct bfloat16 {
  std::uint16_t bits;
};

/// The same number; exact.
inline float to_float(bfloat16 x) {
  const std::uint32_t bits = static_cast<std::uint32_t>(x.bits) << 16;
  float value;
  std::memcpy(&value, &bits, sizeof value);
  return value;
}

/// The nearest bfloat16, ties to even; a NaN stays one. Without a branch, so that loops over it become vectors.
inline bfloat16 to_bfloat16(float x) {
  std::uint32_t bits;
  std::memcpy(&bits, &x, sizeof bits);
  const std::uint32_t nan = bits >> 16 | 0x40u;
  const std::uint32_t rounded = (bits + 0x7FFFu + (bits >> 16 & 1u)) >> 16;
  return {static_cast<std::uint16_t>((bits & 0x7FFFFFFFu) > 0x7F800000u ? nan : rounded)};
}

/// Sums of bfloat16 numbers are kept in float.
template <>
struct Accumulate<bfloat16> {
  using type = float;
};

}  // namespace promptiqa
