// Bodies of SHA-256: the compression function in plain C++ and with the x86 SHA extensions.
// Surprising choice: the round constants are computed at compile time (the fractional parts of the cube roots of the
// first 64 primes), so there is no table to mistype.
#pragma once

#include <algorithm>
#include <bit>
#include <cstring>

#include <promptiqa/io/sha256.hpp>
#if PROMPTIQA_X86_64
#include <cpuid.h>
#include <immintrin.h>
#endif

namespace promptiqa {
namespace detail {

// floor(2^32 * frac(p^(1/3))): the largest r with r^3 <= p * 2^96, found bit by bit, its low 32 bits.
constexpr std::uint32_t cube_root_fraction(std::uint32_t p) {
  // r < 2^35, so r^3 needs 105 bits: compare by long multiplication in 32-bit limbs.
  std::uint64_t root = 0;
  for (int bit = 34; bit >= 0; --bit) {
    const std::uint64_t r = root | std::uint64_t{1} << bit;
    const std::uint32_t r_limbs[2] = {static_cast<std::uint32_t>(r), static_cast<std::uint32_t>(r >> 32)};
    std::uint32_t cube[5] = {1, 0, 0, 0, 0};
    for (int factor = 0; factor < 3; ++factor) {
      std::uint32_t product[5] = {};
      for (int j = 0; j < 2; ++j) {
        std::uint64_t carry = 0;
        for (int i = 0; i + j < 5; ++i) {
          carry += static_cast<std::uint64_t>(cube[i]) * r_limbs[j] + product[i + j];
          product[i + j] = static_cast<std::uint32_t>(carry);
          carry >>= 32;
        }
      }
      for (int i = 0; i < 5; ++i) cube[i] = product[i];
    }
    const bool at_most = cube[4] == 0 && (cube[3] < p || (cube[3] == p && (cube[2] | cube[1] | cube[0]) == 0));
    if (at_most) root = r;
  }
  return static_cast<std::uint32_t>(root);
}

constexpr std::array<std::uint32_t, 64> sha256_constants() {
  std::array<std::uint32_t, 64> k{};
  std::size_t found = 0;
  for (std::uint32_t p = 2; found < k.size(); ++p) {
    bool prime = true;
    for (std::uint32_t d = 2; d * d <= p; ++d) prime = prime && p % d != 0;
    if (prime) k[found++] = cube_root_fraction(p);
  }
  return k;
}
alignas(16) inline constexpr std::array<std::uint32_t, 64> sha256_k = sha256_constants();

inline std::uint32_t load_big_endian(const unsigned char* p) {
  return std::uint32_t{p[0]} << 24 | std::uint32_t{p[1]} << 16 | std::uint32_t{p[2]} << 8 | std::uint32_t{p[3]};
}

inline void sha256_compress_portable(std::uint32_t* state, const unsigned char* blocks, std::size_t count) {
  for (; count > 0; --count, blocks += 64) {
    std::uint32_t w[64];
    for (int t = 0; t < 16; ++t) w[t] = load_big_endian(blocks + 4 * t);
    for (int t = 16; t < 64; ++t) {
      const std::uint32_t s0 = std::rotr(w[t - 15], 7) ^ std::rotr(w[t - 15], 18) ^ w[t - 15] >> 3;
      const std::uint32_t s1 = std::rotr(w[t - 2], 17) ^ std::rotr(w[t - 2], 19) ^ w[t - 2] >> 10;
      w[t] = s1 + w[t - 7] + s0 + w[t - 16];
    }
    std::uint32_t a = state[0], b = state[1], c = state[2], d = state[3];
    std::uint32_t e = state[4], f = state[5], g = state[6], h = state[7];
    for (std::size_t t = 0; t < 64; ++t) {
      const std::uint32_t s1 = std::rotr(e, 6) ^ std::rotr(e, 11) ^ std::rotr(e, 25);
      const std::uint32_t t1 = h + s1 + ((e & f) ^ (~e & g)) + sha256_k[t] + w[t];
      const std::uint32_t s0 = std::rotr(a, 2) ^ std::rotr(a, 13) ^ std::rotr(a, 22);
      const std::uint32_t t2 = s0 + ((a & b) ^ (a & c) ^ (b & c));
      h = g, g = f, f = e, e = d + t1;
      d = c, c = b, b = a, a = t1 + t2;
    }
    state[0] += a, state[1] += b, state[2] += c, state[3] += d;
    state[4] += e, state[5] += f, state[6] += g, state[7] += h;
  }
}

#if PROMPTIQA_X86_64
inline bool has_sha_extensions() {
  unsigned a = 0, b = 0, c = 0, d = 0;
  return __builtin_cpu_supports("sse4.1") && __builtin_cpu_supports("ssse3") &&
         __get_cpuid_count(7, 0, &a, &b, &c, &d) && (b >> 29 & 1u);
}

// The instructions keep the state as two vectors (A,B,E,F) and (C,D,G,H), highest lane first.
__attribute__((target("sha,sse4.1,ssse3"))) inline void sha256_compress_x86(std::uint32_t* state,
                                                                            const unsigned char* blocks,
                                                                            std::size_t count) {
  const auto lane = [state](int i) { return static_cast<int>(state[i]); };
  __m128i abef = _mm_set_epi32(lane(0), lane(1), lane(4), lane(5));
  __m128i cdgh = _mm_set_epi32(lane(2), lane(3), lane(6), lane(7));
  const __m128i swap_bytes = _mm_set_epi32(0x0C0D0E0F, 0x08090A0B, 0x04050607, 0x00010203);
  for (; count > 0; --count, blocks += 64) {
    const __m128i abef_before = abef, cdgh_before = cdgh;
    __m128i w[4];  // the last sixteen words of the message schedule
    for (int i = 0; i < 4; ++i)
      w[i] = _mm_shuffle_epi8(_mm_loadu_si128(reinterpret_cast<const __m128i*>(blocks + 16 * i)), swap_bytes);
    for (int group = 0; group < 16; ++group) {  // four rounds each
      __m128i& now = w[group & 3];
      if (group >= 4) {
        const __m128i& w1 = w[(group + 1) & 3];
        const __m128i& w2 = w[(group + 2) & 3];
        const __m128i& w3 = w[(group + 3) & 3];
        now = _mm_add_epi32(_mm_sha256msg1_epu32(now, w1), _mm_alignr_epi8(w3, w2, 4));
        now = _mm_sha256msg2_epu32(now, w3);
      }
      __m128i input = _mm_add_epi32(now, _mm_load_si128(reinterpret_cast<const __m128i*>(sha256_k.data() + 4 * group)));
      cdgh = _mm_sha256rnds2_epu32(cdgh, abef, input);
      input = _mm_shuffle_epi32(input, 0x0E);
      abef = _mm_sha256rnds2_epu32(abef, cdgh, input);
    }
    abef = _mm_add_epi32(abef, abef_before);
    cdgh = _mm_add_epi32(cdgh, cdgh_before);
  }
  std::uint32_t lanes[8];
  _mm_storeu_si128(reinterpret_cast<__m128i*>(lanes), abef);
  _mm_storeu_si128(reinterpret_cast<__m128i*>(lanes + 4), cdgh);
  state[0] = lanes[3], state[1] = lanes[2], state[4] = lanes[1], state[5] = lanes[0];
  state[2] = lanes[7], state[3] = lanes[6], state[6] = lanes[5], state[7] = lanes[4];
}
#endif
}  // namespace detail

PROMPTIQA_INLINE Sha256::Sha256(bool portable)
    : compress_(detail::sha256_compress_portable), state_{0x6A09E667, 0xBB67AE85, 0x3C6EF372, 0xA54FF53A,
                                                          0x510E527F, 0x9B05688C, 0x1F83D9AB, 0x5BE0CD19} {
#if PROMPTIQA_X86_64
  static const bool extensions = detail::has_sha_extensions();
  if (!portable && extensions) compress_ = detail::sha256_compress_x86;
#else
  (void)portable;
#endif
}

PROMPTIQA_INLINE void Sha256::update(const void* data, std::size_t bytes) {
  if (bytes == 0) return;
  const auto* next = static_cast<const unsigned char*>(data);
  const auto filled = static_cast<std::size_t>(bytes_ % 64);
  bytes_ += bytes;
  if (filled > 0) {
    const std::size_t part = std::min(bytes, 64 - filled);
    std::memcpy(block_.data() + filled, next, part);
    next += part;
    bytes -= part;
    if (filled + part < 64) return;
    compress_(state_.data(), block_.data(), 1);
  }
  compress_(state_.data(), next, bytes / 64);
  next += bytes / 64 * 64;
  if (bytes % 64 > 0) std::memcpy(block_.data(), next, bytes % 64);
}

PROMPTIQA_INLINE std::array<std::uint8_t, 32> Sha256::digest() const {
  // The message, a one bit, zeros up to 56 modulo 64, the length in bits as 64 big-endian bits.
  std::array<std::uint32_t, 8> state = state_;
  const auto filled = static_cast<std::size_t>(bytes_ % 64);
  unsigned char tail[128] = {};
  std::memcpy(tail, block_.data(), filled);
  tail[filled] = 0x80;
  const std::size_t blocks = filled < 56 ? 1 : 2;
  const std::uint64_t bits = bytes_ * 8;
  for (std::size_t i = 0; i < 8; ++i) tail[64 * blocks - 1 - i] = static_cast<unsigned char>(bits >> 8 * i);
  compress_(state.data(), tail, blocks);
  std::array<std::uint8_t, 32> result{};
  for (std::size_t i = 0; i < 32; ++i) result[i] = static_cast<std::uint8_t>(state[i / 4] >> (24 - 8 * (i % 4)));
  return result;
}

PROMPTIQA_INLINE std::string Sha256::hex() const {
  constexpr const char* digits = "0123456789abcdef";
  std::string text;
  for (const std::uint8_t byte : digest()) {
    text += digits[byte >> 4];
    text += digits[byte & 15];
  }
  return text;
}

}  // namespace promptiqa
