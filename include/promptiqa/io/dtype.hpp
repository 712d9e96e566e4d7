// Element types of stored tensors and the conversions between them.
// Surprising choice: 16-bit types are plain std::uint16_t with functions, not classes: they exist in files only,
// computation is in float or double.
#pragma once

#include <bit>
#include <cstddef>
#include <cstdint>

#include <promptiqa/core/bfloat16.hpp>
#include <promptiqa/core/macros.hpp>

namespace promptiqa {

static_assert(std::endian::native == std::endian::little, "promptiqa reads its little-endian files in place");

/// Element type of a stored tensor: IEEE single, half, bfloat16, IEEE double, 64-bit integer.
enum class DType { f32, f16, bf16, f64, i64 };

/// Bytes of one element.
constexpr std::size_t dtype_size(DType dtype) {
  return dtype == DType::f32 ? 4 : dtype == DType::f64 || dtype == DType::i64 ? 8 : 2;
}

/// The name used in files and messages: "F32", "F16", "BF16", "F64", "I64".
constexpr const char* dtype_name(DType dtype) {
  switch (dtype) {
    case DType::f32:
      return "F32";
    case DType::f16:
      return "F16";
    case DType::bf16:
      return "BF16";
    case DType::f64:
      return "F64";
    default:
      return "I64";
  }
}

/// The value of an IEEE half given its bits. Exact; a NaN keeps its payload and becomes quiet.
inline float half_to_float(std::uint16_t half) {
  const std::uint32_t sign = static_cast<std::uint32_t>(half & 0x8000u) << 16;
  const std::uint32_t magnitude = static_cast<std::uint32_t>(half & 0x7FFFu) << 13;
  const std::uint32_t normal = magnitude + ((127u - 15u) << 23);
  const std::uint32_t special = (magnitude | 0x7F800000u) | (magnitude > 0x0F800000u ? 0x00400000u : 0u);
  // A subnormal m * 2^-24 is (2^-14 + m * 2^-24) - 2^-14: no float subnormal is ever touched.
  const std::uint32_t subnormal =
      std::bit_cast<std::uint32_t>(std::bit_cast<float>(magnitude + 0x38800000u) - 0x1p-14f);
  return std::bit_cast<float>(sign | (magnitude >= 0x0F800000u   ? special
                                      : magnitude >= 0x00800000u ? normal
                                                                 : subnormal));
}

/// The bits of the IEEE half nearest to a float, ties to even; above 65519.99 it is infinite. A NaN stays a NaN.
inline std::uint16_t float_to_half(float value) {
  const auto bits = std::bit_cast<std::uint32_t>(value);
  const std::uint32_t sign = bits >> 16 & 0x8000u;
  const std::uint32_t magnitude = bits & 0x7FFFFFFFu;
  const std::uint32_t nan = 0x7E00u | (magnitude >> 13 & 0x3FFu);
  const std::uint32_t normal = (magnitude - ((127u - 15u) << 23) + 0xFFFu + (magnitude >> 13 & 1u)) >> 13;
  // The last bit of 0.5f is worth 2^-24, as that of a subnormal half: the addition does the rounding.
  const std::uint32_t subnormal =
      std::bit_cast<std::uint32_t>(std::bit_cast<float>(magnitude < 0x38800000u ? magnitude : 0u) + 0.5f) - 0x3F000000u;
  const std::uint32_t half = magnitude > 0x7F800000u    ? nan
                             : magnitude >= 0x47800000u ? 0x7C00u
                             : magnitude >= 0x38800000u ? normal
                                                        : subnormal;
  return static_cast<std::uint16_t>(sign | half);
}

/// The value of a bfloat16 given its bits. Exact.
inline float bfloat16_to_float(std::uint16_t bits) { return to_float(bfloat16{bits}); }

/// The bits of the bfloat16 nearest to a float, ties to even. A NaN stays a NaN.
inline std::uint16_t float_to_bfloat16(float value) { return to_bfloat16(value).bits; }

/// Reads `count` stored elements into floats or doubles. `source` may be unaligned. A conversion to a wider type is
/// exact, others round to nearest, ties to even.
void decode(DType dtype, const void* source, std::size_t count, float* target);
void decode(DType dtype, const void* source, std::size_t count, double* target);

/// Stores `count` floats or doubles as elements of `dtype`, rounded once to nearest, ties to even. `target` may be
/// unaligned. I64 clamps to its range and takes NaN as 0.
void encode(DType dtype, const float* source, std::size_t count, void* target);
void encode(DType dtype, const double* source, std::size_t count, void* target);

}  // namespace promptiqa

#if PROMPTIQA_WITH_BODIES
#include <promptiqa/io/dtype.ipp>
#endif
