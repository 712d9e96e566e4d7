// Build-mode and instruction-set macros shared by every header.
// Surprising choice: a body is `inline` only in header-only mode; with PROMPTIQA_COMPILED the same
// body is compiled once into the static library and the headers then declare it only.
#pragma once

#if defined(PROMPTIQA_COMPILED)
#define PROMPTIQA_INLINE
#else
#define PROMPTIQA_INLINE inline
#endif

// True for header-only users. The library's own sources include the .ipp files they instantiate by name.
#if !defined(PROMPTIQA_COMPILED)
#define PROMPTIQA_WITH_BODIES 1
#else
#define PROMPTIQA_WITH_BODIES 0
#endif

// x86-64 gets run-time dispatched AVX2 and AVX-512 bodies; every other machine the portable ones.
#if (defined(__x86_64__) || defined(_M_X64)) && (defined(__GNUC__) || defined(__clang__))
#define PROMPTIQA_X86_64 1
#define PROMPTIQA_TARGET_AVX2 __attribute__((target("avx2,fma,f16c")))
#define PROMPTIQA_TARGET_AVX512 __attribute__((target("avx512f,avx512dq,avx512bw,avx512vl,avx2,fma,f16c")))
#define PROMPTIQA_TARGET_AVX512_BF16 \
  __attribute__((target("avx512bf16,avx512f,avx512dq,avx512bw,avx512vl,avx2,fma,f16c")))
#else
#define PROMPTIQA_X86_64 0
#define PROMPTIQA_TARGET_AVX2
#define PROMPTIQA_TARGET_AVX512
#define PROMPTIQA_TARGET_AVX512_BF16
#endif

#define PROMPTIQA_ALWAYS_INLINE __attribute__((always_inline)) inline
