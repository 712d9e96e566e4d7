// Short vectors and run-time choice of the instruction set.
// Surprising choice: bodies are written once with the compilers' vector extensions and compiled per instruction
// set by calling them inside a function with a target attribute. Everything such a body calls must be
// PROMPTIQA_ALWAYS_INLINE and take vectors by reference, or it is compiled for the baseline instead.
#pragma once

#include <cstdint>
#include <cstring>
#include <utility>

#include <promptiqa/core/macros.hpp>

namespace promptiqa::cpu {

template <class V, class T, int... I>
PROMPTIQA_ALWAYS_INLINE void broadcast_lanes(V& v, const T& x, std::integer_sequence<int, I...>) {
  const T lanes[] = {(static_cast<void>(I), x)...};
  std::memcpy(&v, lanes, sizeof(V));
}

/// v = x in every lane. Spelt as an array because g++ turns x - V{} into one masked insert per lane when the
/// calling lambda's own target has no such vectors.
template <class V, class T>
PROMPTIQA_ALWAYS_INLINE void broadcast(V& v, const T& x) {
  broadcast_lanes(v, x, std::make_integer_sequence<int, static_cast<int>(sizeof(V) / sizeof(T))>{});
}

/// A vector of Bytes / sizeof(T) elements, and the same type for unaligned loads and stores.
template <class T, int Bytes>
struct Simd {
  static constexpr int width = Bytes / static_cast<int>(sizeof(T));
  typedef T Vector __attribute__((vector_size(Bytes)));

  static PROMPTIQA_ALWAYS_INLINE void load(Vector& v, const T* p) { std::memcpy(&v, p, Bytes); }
  static PROMPTIQA_ALWAYS_INLINE void store(T* p, const Vector& v) { std::memcpy(p, &v, Bytes); }
  /// The first `count` elements, the others zero.
  static PROMPTIQA_ALWAYS_INLINE void load_part(Vector& v, const T* p, int count) {
    T lanes[width] = {};
    for (int i = 0; i < count; ++i) lanes[i] = p[i];
    std::memcpy(&v, lanes, Bytes);
  }
  static PROMPTIQA_ALWAYS_INLINE void store_part(T* p, const Vector& v, int count) {
    T lanes[width];
    std::memcpy(lanes, &v, Bytes);
    for (int i = 0; i < count; ++i) p[i] = lanes[i];
  }
  static PROMPTIQA_ALWAYS_INLINE void fill(Vector& v, T x) { broadcast(v, x); }
};

/// Instruction sets. Isa::run(f) calls f compiled for the set; write f as `[&]() PROMPTIQA_SIMD_LAMBDA { ... }`.
#define PROMPTIQA_SIMD_LAMBDA __attribute__((always_inline))

struct Portable {
  static constexpr int bytes = 16;
  static constexpr const char* name = "portable";
  static bool supported() { return true; }
  template <class F>
  static void run(F&& f) {
    f();
  }
};

#if PROMPTIQA_X86_64
struct Avx2 {
  static constexpr int bytes = 32;
  static constexpr const char* name = "avx2";
  static bool supported() { return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma"); }
  template <class F>
  PROMPTIQA_TARGET_AVX2 static void run(F&& f) {
    f();
  }
};

struct Avx512 {
  static constexpr int bytes = 64;
  static constexpr const char* name = "avx512";
  static bool supported() {
    return Avx2::supported() && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512dq") &&
           __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512vl");
  }
  template <class F>
  PROMPTIQA_TARGET_AVX512 static void run(F&& f) {
    f();
  }
};

/// AVX-512 with products of bfloat16 pairs: float products of this set round their operands (packed_element.hpp).
struct Avx512Bf16 : Avx512 {
  static constexpr const char* name = "avx512_bf16";
  static bool supported() { return Avx512::supported() && __builtin_cpu_supports("avx512bf16"); }
};
#endif

}  // namespace promptiqa::cpu
