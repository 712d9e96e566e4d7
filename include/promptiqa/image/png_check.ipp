// Checks a PNG file and writes it anew with nothing but the chunks that pixels come from.
// Surprising choice: checksums are verified, which stb_image never does, and the palette is filled up with black: an
// index beyond it then reads black, as with libpng, where stb_image reads uninitialised stack.
#pragma once

#include <array>
#include <cstdint>

#include <promptiqa/image/byte_reader.hpp>
#include <promptiqa/image/decoders.hpp>

namespace promptiqa::detail {

inline std::uint32_t crc32(Bytes bytes) {
  // Four tables: four bytes a step, so that checking takes a small part of the time of decoding.
  static const auto tables = [] {
    std::array<std::array<std::uint32_t, 256>, 4> t{};
    for (std::uint32_t n = 0; n < 256; ++n) {
      std::uint32_t c = n;
      for (int k = 0; k < 8; ++k) c = c & 1 ? 0xedb88320u ^ (c >> 1) : c >> 1;
      t[0][n] = c;
    }
    for (std::size_t n = 0; n < 256; ++n)
      for (std::size_t k = 1; k < 4; ++k) t[k][n] = t[0][t[k - 1][n] & 0xff] ^ (t[k - 1][n] >> 8);
    return t;
  }();
  std::uint32_t crc = 0xffffffffu;
  std::size_t i = 0;
  for (; i + 4 <= bytes.size(); i += 4) {
    crc ^= static_cast<std::uint32_t>(bytes[i]) | static_cast<std::uint32_t>(bytes[i + 1]) << 8 |
           static_cast<std::uint32_t>(bytes[i + 2]) << 16 | static_cast<std::uint32_t>(bytes[i + 3]) << 24;
    crc = tables[3][crc & 0xff] ^ tables[2][crc >> 8 & 0xff] ^ tables[1][crc >> 16 & 0xff] ^ tables[0][crc >> 24];
  }
  for (; i < bytes.size(); ++i) crc = tables[0][(crc ^ bytes[i]) & 0xff] ^ (crc >> 8);
  return ~crc;
}

inline void append_u32be(std::vector<std::uint8_t>& out, std::uint32_t v) {
  for (int shift = 24; shift >= 0; shift -= 8) out.push_back(static_cast<std::uint8_t>(v >> shift));
}

// Chunk header; stb_image ignores the checksum, so callers append four zeros for it.
inline void append_chunk_header(std::vector<std::uint8_t>& out, std::size_t length, const char* type) {
  append_u32be(out, static_cast<std::uint32_t>(length));
  out.insert(out.end(), type, type + 4);
}

PROMPTIQA_INLINE CheckedStream check_png(Bytes bytes, const std::string& name, std::uint64_t max_pixels) {
  const auto fail = [&name](const std::string& what) -> ImageError {
    return ImageError(image_label(name) + ": PNG: " + what);
  };
  const ByteReader file{bytes};
  if (!file.has(8, 25)) throw fail("truncated in the header");
  if (!file.starts_with(12, "IHDR") || file.u32be(8) != 13) throw fail("the first chunk is not IHDR");
  const std::uint32_t depth = file.u8(24), colour = file.u8(25), interlace = file.u8(28);
  const bool small_depth = depth == 1 || depth == 2 || depth == 4;
  const bool fits = colour == 0   ? small_depth || depth == 8 || depth == 16
                    : colour == 3 ? small_depth || depth == 8
                                  : (colour == 2 || colour == 4 || colour == 6) && (depth == 8 || depth == 16);
  if (!fits)
    throw fail("no such format: bit depth " + std::to_string(depth) + ", colour type " + std::to_string(colour));
  if (file.u8(26) != 0 || file.u8(27) != 0 || interlace > 1) throw fail("unknown compression, filter or interlacing");
  if (file.u32be(16) > 0x7fffffffu || file.u32be(20) > 0x7fffffffu) throw fail("width or height out of range");
  check_size(name, file.u32be(16), file.u32be(20), max_pixels);

  std::vector<Bytes> data;
  Bytes palette;
  std::size_t data_bytes = 0;
  bool ended = false;
  for (std::size_t at = 8; !ended;) {
    if (!file.has(at, 12)) throw fail("truncated: there is no IEND chunk");
    const std::size_t length = file.u32be(at);
    if (length > 0x7fffffffu || !file.has(at + 12, length)) throw fail("truncated inside a chunk");
    const Bytes body = bytes.subspan(at + 8, length);
    const bool critical = (file.u8(at + 4) & 0x20) == 0;
    if (critical && crc32(bytes.subspan(at + 4, length + 4)) != file.u32be(at + 8 + length))
      throw fail("wrong checksum of chunk " + std::to_string(at) + " bytes into the file: the file is damaged");
    if (file.starts_with(at + 4, "IDAT")) {
      if (data_bytes > 0x7fffffffu - length) throw fail("pixel data beyond 2 GiB");
      data.push_back(body);
      data_bytes += length;
    } else if (file.starts_with(at + 4, "PLTE")) {
      if (length == 0 || length % 3 != 0 || length > 768) throw fail("palette of " + std::to_string(length) + " bytes");
      if (!palette.empty() || !data.empty()) throw fail("misplaced palette");
      palette = body;
    } else if (file.starts_with(at + 4, "IEND")) {
      ended = true;
    } else if (critical && !(file.starts_with(at + 4, "IHDR") && at == 8)) {
      throw fail("unknown critical chunk " + std::to_string(at) + " bytes into the file");
    }
    at += 12 + length;
  }
  if (data.empty()) throw fail("no pixel data");
  if (colour == 3 && palette.empty()) throw fail("palette image without a palette");

  CheckedStream out;
  out.width = static_cast<int>(file.u32be(16));
  out.height = static_cast<int>(file.u32be(20));
  out.bytes.reserve(8 + 25 + 780 + 12 + data_bytes + 12);
  out.bytes.assign(bytes.begin(), bytes.begin() + 33);
  if (colour == 3) {
    append_chunk_header(out.bytes, 768, "PLTE");
    out.bytes.insert(out.bytes.end(), palette.begin(), palette.end());
    out.bytes.resize(out.bytes.size() + (768 - palette.size()) + 4);
  }
  append_chunk_header(out.bytes, data_bytes, "IDAT");
  for (const Bytes& part : data) out.bytes.insert(out.bytes.end(), part.begin(), part.end());
  out.bytes.resize(out.bytes.size() + 4);
  append_chunk_header(out.bytes, 0, "IEND");
  out.bytes.resize(out.bytes.size() + 4);
  // The inflated data has one filter byte a row (twice as many rows when interlaced); stb_image's buffer for it grows
  // by doubling. A stream that inflates to more is a decompression bomb.
  const std::uint64_t channels = colour == 2 ? 3 : colour == 4 ? 2 : colour == 6 ? 4 : colour == 3 ? 4 : 1;
  const std::uint64_t pixels = static_cast<std::uint64_t>(out.width) * static_cast<std::uint64_t>(out.height);
  const std::uint64_t raw = pixels * channels * 2 + 16 * (static_cast<std::uint64_t>(out.height) + 16);
  out.largest_block = static_cast<std::size_t>(2 * raw + 2 * data_bytes + (1u << 16));
  return out;
}

}  // namespace promptiqa::detail
