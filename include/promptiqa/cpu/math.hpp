// exp, erf, GELU and the logistic function of short vectors, for the bodies in this folder.
// Surprising choice: the float versions are polynomials of our own, without tables and without branches, so every
// instruction set gives the same accuracy; the double versions go through the standard library lane by lane.
//
// Largest errors found in tests/cpu/math_test.cpp over all of the range (units in the last place of float):
// exp 1.01, erf 1.22. Infinities, NaN and overflow behave as in <cmath>; nothing here survives -ffast-math.
#pragma once

#include <cmath>
#include <cstdint>
#include <cstring>
#include <type_traits>
#include <utility>

#include <promptiqa/core/macros.hpp>

namespace promptiqa::cpu {

/// The element type of a vector.
template <class V>
using element_t = std::remove_cv_t<std::remove_reference_t<decltype(std::declval<V&>()[0])>>;

namespace detail {

/// The unsigned integers a float vector is made of.
template <class V>
struct FloatBits {
  typedef std::uint32_t Unsigned __attribute__((vector_size(sizeof(V))));
  typedef std::int32_t Signed __attribute__((vector_size(sizeof(V))));
};

/// y = |x|.
template <class V>
PROMPTIQA_ALWAYS_INLINE void float_abs(V& y, const V& x) {
  using U = typename FloatBits<V>::Unsigned;
  U bits;
  std::memcpy(&bits, &x, sizeof(V));
  bits &= 0x7FFFFFFFu;
  std::memcpy(&y, &bits, sizeof(V));
}

/// exp of floats: exp(n ln 2 + r) = 2^n exp(r), |r| <= ln(2) / 2.
template <class V>
PROMPTIQA_ALWAYS_INLINE void float_exp(V& y, const V& x) {
  using U = typename FloatBits<V>::Unsigned;
  using I = typename FloatBits<V>::Signed;
  const V lowest = V{} - 104.0f, highest = V{} + 89.0f;  // beyond, the result is 0 or infinite anyway
  V clamped = x < lowest ? lowest : x;                   // a NaN passes both comparisons
  clamped = clamped > highest ? highest : clamped;
  constexpr float round_to_integer = 12582912.0f;  // 1.5 * 2^23: the low bits of the sum are the rounded integer
  const V shifted = clamped * 1.44269504f + round_to_integer;
  const V n = shifted - round_to_integer;
  // ln 2 in two parts; the first has so few bits that n * first is exact.
  V r = clamped - n * 0.693359375f;
  r = r - n * -2.12194440e-4f;
  V p = r * 0x1.6a21b0p-10f + 0x1.123b68p-7f;
  p = p * r + 0x1.5558fap-5f;
  p = p * r + 0x1.555490p-3f;
  p = p * r + 0x1.fffffcp-2f;
  p = (p * r) * r + r;
  p = p + 1.0f;
  // 2^n in two factors: n reaches from -150 (below the smallest number) to 128 (above the largest power).
  U bits;
  std::memcpy(&bits, &shifted, sizeof(V));
  bits -= 0x4B400000u;
  I exponent;
  std::memcpy(&exponent, &bits, sizeof(V));
  const I half = exponent >> 1;
  U half_bits, rest_bits;
  std::memcpy(&half_bits, &half, sizeof(V));
  rest_bits = (bits - half_bits + 127u) << 23;
  half_bits = (half_bits + 127u) << 23;
  V first, second;
  std::memcpy(&first, &half_bits, sizeof(V));
  std::memcpy(&second, &rest_bits, sizeof(V));
  y = (p * first) * second;
}

/// For a = |x|: erf(a) for a < 1 in `small` (anything elsewhere) and erfc(a) for a >= 1 in `large`.
/// Above 4 erfc decays as exp(-a^2), right to a factor of three where it is below 2e-8.
template <class V>
PROMPTIQA_ALWAYS_INLINE void float_erf_parts(V& small, V& large, const V& a) {
  const V s = a * a;
  V p = s * 0x1.496a32p-14f + -0x1.a3f700p-11f;
  p = p * s + 0x1.5405b2p-8f;
  p = p * s + -0x1.b7f90ep-6f;
  p = p * s + 0x1.ce2cf8p-4f;
  p = p * s + -0x1.81273ep-2f;
  p = p * s + 0x1.06eba8p-3f;
  small = p * a + a;
  const V four = V{} + 4.0f, zero = {};
  const V t = a < four ? a : four;
  V q = t * 0x1.d9fa24p-17f + -0x1.5c395ap-12f;
  q = q * t + 0x1.d0906ap-9f;
  q = q * t + -0x1.79a55ap-6f;
  q = q * t + 0x1.ab3a84p-4f;
  q = q * t + 0x1.468bd0p-1f;
  q = q * t + 0x1.207948p+0f;
  q = q * t + 0x1.0064cap-11f;
  const V beyond = s - 16.0f;
  q = q + (beyond > zero ? beyond : zero);
  const V minus_q = -q;
  float_exp(large, minus_q);
}

/// The standard normal distribution function, Phi(x), with small relative error in the left tail down to -5.6.
template <class V>
PROMPTIQA_ALWAYS_INLINE void float_normal_cdf(V& y, const V& x) {
  const V zero = {}, one = V{} + 1.0f;
  const V z = x * 0.707106781f;
  V a, small, large;
  float_abs(a, z);
  float_erf_parts(small, large, a);
  const V erfc = a >= one ? large : one - small;
  y = x < zero ? 0.5f * erfc : one - 0.5f * erfc;
}

}  // namespace detail

/// y = exp(x). y may be x in all of these.
template <class V, class T = element_t<V>>
PROMPTIQA_ALWAYS_INLINE void vector_exp(V& y, const V& x) {
  if constexpr (std::is_same_v<T, float>) {
    detail::float_exp(y, x);
  } else {
    V result = {};
    for (int i = 0; i < static_cast<int>(sizeof(V) / sizeof(T)); ++i) result[i] = std::exp(x[i]);
    y = result;
  }
}

/// y = erf(x).
template <class V, class T = element_t<V>>
PROMPTIQA_ALWAYS_INLINE void vector_erf(V& y, const V& x) {
  if constexpr (std::is_same_v<T, float>) {
    const V one = V{} + 1.0f;
    V a, small, large;
    detail::float_abs(a, x);
    detail::float_erf_parts(small, large, a);
    const V magnitude = a >= one ? one - large : small;
    typename detail::FloatBits<V>::Unsigned bits, sign;
    std::memcpy(&bits, &magnitude, sizeof(V));
    std::memcpy(&sign, &x, sizeof(V));
    bits |= sign & 0x80000000u;
    std::memcpy(&y, &bits, sizeof(V));
  } else {
    V result = {};
    for (int i = 0; i < static_cast<int>(sizeof(V) / sizeof(T)); ++i) result[i] = std::erf(x[i]);
    y = result;
  }
}

/// y = x Phi(x), the exact GELU; gelu(-infinity) = -0.
template <class V, class T = element_t<V>>
PROMPTIQA_ALWAYS_INLINE void vector_gelu(V& y, const V& x) {
  if constexpr (std::is_same_v<T, float>) {
    const V lowest = V{} - 40.0f;  // Phi is 0 long before: keeps 0 * infinity away
    V phi;
    detail::float_normal_cdf(phi, x);
    y = (x < lowest ? lowest : x) * phi;
  } else {
    V result = {};
    for (int i = 0; i < static_cast<int>(sizeof(V) / sizeof(T)); ++i) {
      const T v = x[i];
      result[i] = (v < T(-40) ? T(-40) : v) * (T(0.5) * std::erfc(v * T(-0.70710678118654752440)));
    }
    y = result;
  }
}

/// y = d gelu(x) / dx = Phi(x) + x phi(x).
template <class V, class T = element_t<V>>
PROMPTIQA_ALWAYS_INLINE void vector_gelu_derivative(V& y, const V& x) {
  constexpr T inverse_sqrt_2pi = T(0.39894228040143267794);
  if constexpr (std::is_same_v<T, float>) {
    const V lowest = V{} - 40.0f, highest = V{} + 40.0f;  // phi is 0 there: keeps 0 * infinity away
    V c = x < lowest ? lowest : x;
    c = c > highest ? highest : c;
    const V exponent = (c * c) * -0.5f;
    V cdf, density;
    detail::float_normal_cdf(cdf, x);
    detail::float_exp(density, exponent);
    y = (c * inverse_sqrt_2pi) * density + cdf;
  } else {
    V result = {};
    for (int i = 0; i < static_cast<int>(sizeof(V) / sizeof(T)); ++i) {
      const T v = x[i], c = v < T(-40) ? T(-40) : v > T(40) ? T(40) : v;
      const T density = inverse_sqrt_2pi * std::exp(c * c * T(-0.5));
      result[i] = T(0.5) * std::erfc(v * T(-0.70710678118654752440)) + c * density;
    }
    y = result;
  }
}

/// y = 1 / (1 + exp(-x)).
template <class V, class T = element_t<V>>
PROMPTIQA_ALWAYS_INLINE void vector_sigmoid(V& y, const V& x) {
  const V minus_x = -x;
  V e;
  vector_exp<V, T>(e, minus_x);
  y = T(1) / (T(1) + e);
}

}  // namespace promptiqa::cpu
