// Bodies of the bulk conversions between stored elements and floats.
// Surprising choice: only IEEE half has an instruction-set body (F16C); the other loops are simple enough for the
// compiler to vectorise for the baseline.
#pragma once

#include <cmath>
#include <cstring>
#include <limits>

#include <promptiqa/io/dtype.hpp>
#if PROMPTIQA_X86_64
#include <cpuid.h>
#include <immintrin.h>
#endif

namespace promptiqa {
namespace detail {

#if PROMPTIQA_X86_64
inline bool has_f16c() {
  static const bool supported = [] {
    unsigned a = 0, b = 0, c = 0, d = 0;
    return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") && __get_cpuid(1, &a, &b, &c, &d) &&
           (c >> 29 & 1u);
  }();
  return supported;
}

// Both handle a multiple of eight elements and return how many that was.
PROMPTIQA_TARGET_AVX2 inline std::size_t halves_to_floats(const unsigned char* source, std::size_t count,
                                                          float* target) {
  std::size_t i = 0;
  for (; i + 8 <= count; i += 8)
    _mm256_storeu_ps(target + i, _mm256_cvtph_ps(_mm_loadu_si128(reinterpret_cast<const __m128i*>(source + 2 * i))));
  return i;
}

PROMPTIQA_TARGET_AVX2 inline std::size_t floats_to_halves(const float* source, std::size_t count,
                                                          unsigned char* target) {
  std::size_t i = 0;
  for (; i + 8 <= count; i += 8)
    _mm_storeu_si128(reinterpret_cast<__m128i*>(target + 2 * i),
                     _mm256_cvtps_ph(_mm256_loadu_ps(source + i), _MM_FROUND_TO_NEAREST_INT));
  return i;
}
#endif

// target[i] = convert(source[i]) where either side may be unaligned.
template <class From, class To, class Convert>
void convert_elements(const unsigned char* source, std::size_t count, unsigned char* target, Convert convert) {
  for (std::size_t i = 0; i < count; ++i) {
    From from;
    std::memcpy(&from, source + i * sizeof(From), sizeof(From));
    const To to = convert(from);
    std::memcpy(target + i * sizeof(To), &to, sizeof(To));
  }
}

// Rounded to odd, so that a second rounding to 16 bits gives what one rounding would have given.
inline float narrow_to_odd(float value) { return value; }
inline float narrow_to_odd(double value) {
  const float nearest = static_cast<float>(value);
  if (static_cast<double>(nearest) == value || value != value) return nearest;
  auto bits = std::bit_cast<std::uint32_t>(nearest);
  if (std::abs(static_cast<double>(nearest)) > std::abs(value)) --bits;  // towards zero, whatever the sign
  return std::bit_cast<float>(bits | 1u);
}

template <class T>
std::int64_t nearest_integer(T value) {
  constexpr T limit = static_cast<T>(0x1p63);
  if (value >= limit) return std::numeric_limits<std::int64_t>::max();
  if (value >= -limit) return static_cast<std::int64_t>(std::nearbyint(value));
  return value < -limit ? std::numeric_limits<std::int64_t>::min() : 0;  // 0: a NaN
}

template <class T>
void decode_elements(DType dtype, const void* source, std::size_t count, T* target) {
  if (count == 0) return;
  const auto* from = static_cast<const unsigned char*>(source);
  auto* to = reinterpret_cast<unsigned char*>(target);
  switch (dtype) {
    case DType::f32:
      convert_elements<float, T>(from, count, to, [](float x) { return static_cast<T>(x); });
      return;
    case DType::f64:
      convert_elements<double, T>(from, count, to, [](double x) { return static_cast<T>(x); });
      return;
    case DType::i64:
      convert_elements<std::int64_t, T>(from, count, to, [](std::int64_t x) { return static_cast<T>(x); });
      return;
    case DType::bf16:
      convert_elements<std::uint16_t, T>(from, count, to,
                                         [](std::uint16_t x) { return static_cast<T>(bfloat16_to_float(x)); });
      return;
    case DType::f16: {
      std::size_t done = 0;
#if PROMPTIQA_X86_64
      if constexpr (sizeof(T) == sizeof(float))
        if (has_f16c()) done = halves_to_floats(from, count, target);
#endif
      convert_elements<std::uint16_t, T>(from + 2 * done, count - done, to + sizeof(T) * done,
                                         [](std::uint16_t x) { return static_cast<T>(half_to_float(x)); });
      return;
    }
  }
}

template <class T>
void encode_elements(DType dtype, const T* source, std::size_t count, void* target) {
  if (count == 0) return;
  const auto* from = reinterpret_cast<const unsigned char*>(source);
  auto* to = static_cast<unsigned char*>(target);
  switch (dtype) {
    case DType::f32:
      convert_elements<T, float>(from, count, to, [](T x) { return static_cast<float>(x); });
      return;
    case DType::f64:
      convert_elements<T, double>(from, count, to, [](T x) { return static_cast<double>(x); });
      return;
    case DType::i64:
      convert_elements<T, std::int64_t>(from, count, to, [](T x) { return nearest_integer(x); });
      return;
    case DType::bf16:
      convert_elements<T, std::uint16_t>(from, count, to, [](T x) { return float_to_bfloat16(narrow_to_odd(x)); });
      return;
    case DType::f16: {
      std::size_t done = 0;
#if PROMPTIQA_X86_64
      if constexpr (sizeof(T) == sizeof(float))
        if (has_f16c()) done = floats_to_halves(source, count, to);
#endif
      convert_elements<T, std::uint16_t>(from + sizeof(T) * done, count - done, to + 2 * done,
                                         [](T x) { return float_to_half(narrow_to_odd(x)); });
      return;
    }
  }
}
}  // namespace detail

PROMPTIQA_INLINE void decode(DType dtype, const void* source, std::size_t count, float* target) {
  detail::decode_elements(dtype, source, count, target);
}
PROMPTIQA_INLINE void decode(DType dtype, const void* source, std::size_t count, double* target) {
  detail::decode_elements(dtype, source, count, target);
}
PROMPTIQA_INLINE void encode(DType dtype, const float* source, std::size_t count, void* target) {
  detail::encode_elements(dtype, source, count, target);
}
PROMPTIQA_INLINE void encode(DType dtype, const double* source, std::size_t count, void* target) {
  detail::encode_elements(dtype, source, count, target);
}

}  // namespace promptiqa
