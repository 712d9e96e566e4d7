// CUDA's built-in functions as kernels call them: barriers, shuffles, votes, atomics, loads, bits, 16-bit floats.
// Surprising choice: where each is called is a default argument, so that reports name the line of the kernel.
#pragma once

#include <cmath>
#include <cstdint>
#include <cstring>
#include <math.h>  // exp, sqrt ... for float in the global namespace, as device code has them

#include "block.hpp"
#include "shared_memory.hpp"
#include "vector_types.hpp"

namespace promptiqa::emulation {

// ---- barriers ---------------------------------------------------------------------------------------------------

inline void __syncthreads(const char* file = __builtin_FILE(), int line = __builtin_LINE()) {
  block_barrier({file, line});
}
inline void __syncwarp(unsigned mask = 0xFFFFFFFFu, const char* file = __builtin_FILE(), int line = __builtin_LINE()) {
  warp_exchange(sync_warp, {file, line}, mask, nullptr, 0);
}
inline void __threadfence() {}
inline void __threadfence_block() {}

// ---- warp shuffles and votes ------------------------------------------------------------------------------------

/// The value of lane `source`, after all lanes of the mask have met.
template <class T>
T shuffle(const char* what, Site site, unsigned mask, T value, int source) {
  static_assert(sizeof(T) == 2 || sizeof(T) == 4 || sizeof(T) == 8, "a shuffle moves 2, 4 or 8 bytes");
  warp_exchange(what, site, mask, &value, sizeof(T));
  T result;
  std::memcpy(&result, warp_value(what, site, static_cast<unsigned>(source)), sizeof(T));
  return result;
}

inline void check_width(const char* what, Site site, int width) {
  if (width < 1 || width > 32 || (width & (width - 1)) != 0)
    report(std::string("calls ") + what + " with width " + std::to_string(width), site);
}

template <class T>
T __shfl_sync(unsigned mask, T value, int source, int width = 32, const char* file = __builtin_FILE(),
              int line = __builtin_LINE()) {
  check_width("__shfl_sync", {file, line}, width);
  const int lane = static_cast<int>(lane_number());
  return shuffle("__shfl_sync", {file, line}, mask, value, (lane & ~(width - 1)) + (source & (width - 1)));
}
template <class T>
T __shfl_up_sync(unsigned mask, T value, unsigned delta, int width = 32, const char* file = __builtin_FILE(),
                 int line = __builtin_LINE()) {
  check_width("__shfl_up_sync", {file, line}, width);
  const int lane = static_cast<int>(lane_number()), source = lane - static_cast<int>(delta);
  return shuffle("__shfl_up_sync", {file, line}, mask, value, source < (lane & ~(width - 1)) ? lane : source);
}
template <class T>
T __shfl_down_sync(unsigned mask, T value, unsigned delta, int width = 32, const char* file = __builtin_FILE(),
                   int line = __builtin_LINE()) {
  check_width("__shfl_down_sync", {file, line}, width);
  const int lane = static_cast<int>(lane_number()), source = lane + static_cast<int>(delta);
  return shuffle("__shfl_down_sync", {file, line}, mask, value, source > (lane | (width - 1)) ? lane : source);
}
template <class T>
T __shfl_xor_sync(unsigned mask, T value, int lanes, int width = 32, const char* file = __builtin_FILE(),
                  int line = __builtin_LINE()) {
  check_width("__shfl_xor_sync", {file, line}, width);
  const int lane = static_cast<int>(lane_number()), source = lane ^ lanes;
  return shuffle("__shfl_xor_sync", {file, line}, mask, value, source > (lane | (width - 1)) ? lane : source);
}

/// Bit i is lane i's predicate; lanes that take no part have 0.
inline unsigned ballot(const char* what, Site site, unsigned mask, int predicate) {
  const int vote = predicate != 0;
  warp_exchange(what, site, mask, &vote, sizeof vote);
  unsigned result = 0;
  for (unsigned lane = 0; lane < 32; ++lane)
    if (warp_participants() >> lane & 1u) {
      int other;
      std::memcpy(&other, warp_value(what, site, lane), sizeof other);
      result |= static_cast<unsigned>(other) << lane;
    }
  return result;
}
inline unsigned __ballot_sync(unsigned mask, int predicate, const char* file = __builtin_FILE(),
                              int line = __builtin_LINE()) {
  return ballot("__ballot_sync", {file, line}, mask, predicate);
}
inline int __any_sync(unsigned mask, int predicate, const char* file = __builtin_FILE(), int line = __builtin_LINE()) {
  return ballot("__any_sync", {file, line}, mask, predicate) != 0;
}
inline int __all_sync(unsigned mask, int predicate, const char* file = __builtin_FILE(), int line = __builtin_LINE()) {
  return ballot("__all_sync", {file, line}, mask, predicate) == warp_participants();
}

// ---- memory -----------------------------------------------------------------------------------------------------

template <class T>
T __ldg(const T* p) {
  return *p;
}
/// Threads of a block take turns, so a plain addition is atomic.
template <class T>
T atomicAdd(T* p, T value) {
  const T old = *p;
  *p = old + value;
  return old;
}
template <class T>
T atomicAdd(const SharedPointer<T>& p, T value) {
  return p.atomic_add(value);
}
inline int atomicMax(int* p, int value) {
  const int old = *p;
  if (value > old) *p = value;
  return old;
}

// ---- bits and arithmetic ----------------------------------------------------------------------------------------

inline unsigned __float_as_uint(float x) {
  unsigned bits;
  std::memcpy(&bits, &x, sizeof bits);
  return bits;
}
inline float __uint_as_float(unsigned bits) {
  float x;
  std::memcpy(&x, &bits, sizeof x);
  return x;
}
inline int __popc(unsigned x) { return __builtin_popcount(x); }
inline int __clz(int x) { return x == 0 ? 32 : __builtin_clz(static_cast<unsigned>(x)); }
inline int __ffs(int x) { return __builtin_ffs(x); }
inline float __fdividef(float a, float b) { return a / b; }
inline float __fmul_rn(float a, float b) { return a * b; }
inline float __fadd_rn(float a, float b) { return a + b; }
inline float __fdiv_rn(float a, float b) { return a / b; }
inline int __float2int_rn(float x) { return static_cast<int>(std::nearbyint(x)); }
inline float __expf(float x) { return std::exp(x); }
inline float rsqrtf(float x) { return 1 / std::sqrt(x); }
inline float fdividef(float a, float b) { return a / b; }

// ---- 16-bit floats, as bits ---------------------------------------------------------------------------------------

/// float to bfloat16, to nearest and ties to even; a NaN stays one.
inline std::uint16_t float_to_bfloat16_bits(float x) {
  const unsigned bits = __float_as_uint(x);
  if ((bits & 0x7FFFFFFFu) > 0x7F800000u) return static_cast<std::uint16_t>(0x7FFFu);
  return static_cast<std::uint16_t>((bits + 0x7FFFu + (bits >> 16 & 1u)) >> 16);
}

/// float to IEEE half, to nearest and ties to even.
inline std::uint16_t float_to_half_bits(float x) {
  const unsigned bits = __float_as_uint(x), sign = bits >> 16 & 0x8000u, magnitude = bits & 0x7FFFFFFFu;
  if (magnitude > 0x7F800000u) return static_cast<std::uint16_t>(0x7FFFu);
  if (magnitude >= 0x477FF000u) return static_cast<std::uint16_t>(sign | 0x7C00u);  // 65520 and above
  if (magnitude < 0x38800000u) {  // below 2^-14: a multiple of 2^-24
    const float scaled = std::nearbyint(__uint_as_float(magnitude) * 0x1p24f);
    return static_cast<std::uint16_t>(sign | static_cast<unsigned>(scaled));
  }
  const unsigned rounded = magnitude + 0xFFFu + (magnitude >> 13 & 1u);
  return static_cast<std::uint16_t>(sign | ((rounded - 0x38000000u) >> 13));
}
inline float half_bits_to_float(std::uint16_t half) {
  const unsigned sign = static_cast<unsigned>(half & 0x8000u) << 16, exponent = half >> 10 & 31u, rest = half & 0x3FFu;
  if (exponent == 0) {
    const float magnitude = static_cast<float>(rest) * 0x1p-24f;
    return sign ? -magnitude : magnitude;
  }
  if (exponent == 31) return __uint_as_float(sign | 0x7F800000u | rest << 13);
  return __uint_as_float(sign | (exponent + 112) << 23 | rest << 13);
}

}  // namespace promptiqa::emulation
