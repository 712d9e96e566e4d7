// Bounds-checked reading of big and little endian numbers out of bytes nobody has vouched for.
// Surprising choice: reading past the end gives 0 and is asked about with has(), so parsers stay free of pointers.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

namespace promptiqa::detail {

/// Bytes with checked access; offsets are absolute.
struct ByteReader {
  std::span<const std::uint8_t> bytes;

  std::size_t size() const { return bytes.size(); }
  /// True when `count` bytes at `offset` exist; safe for every value of both.
  bool has(std::size_t offset, std::size_t count) const {
    return offset <= bytes.size() && count <= bytes.size() - offset;
  }
  std::uint32_t u8(std::size_t offset) const { return offset < bytes.size() ? bytes[offset] : 0u; }
  std::uint32_t u16be(std::size_t o) const { return u8(o) << 8 | u8(o + 1); }
  std::uint32_t u16le(std::size_t o) const { return u8(o + 1) << 8 | u8(o); }
  std::uint32_t u32be(std::size_t o) const { return u16be(o) << 16 | u16be(o + 2); }
  std::uint32_t u32le(std::size_t o) const { return u16le(o + 2) << 16 | u16le(o); }
  /// True when the text stands at `offset`; for string literals, whose final zero does not count.
  template <std::size_t N>
  bool starts_with(std::size_t offset, const char (&text)[N]) const {
    if (!has(offset, N - 1)) return false;
    for (std::size_t i = 0; i + 1 < N; ++i)
      if (bytes[offset + i] != static_cast<std::uint8_t>(text[i])) return false;
    return true;
  }
};

}  // namespace promptiqa::detail
