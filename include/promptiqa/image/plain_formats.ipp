// Decoders of the formats without compression, BMP and PNM.
// Surprising choice: these are not stb_image's: its PNM reader gets 16-bit values wrong on little-endian machines and
// ignores truncation, its BMP reader shows uninitialised memory for palette indices beyond the palette.
#pragma once

#include <cctype>
#include <cstdint>
#include <cstring>
#include <utility>

#include <promptiqa/image/byte_reader.hpp>
#include <promptiqa/image/decoders.hpp>

namespace promptiqa::detail {

PROMPTIQA_INLINE void check_size(const std::string& name, std::uint64_t width, std::uint64_t height,
                                 std::uint64_t max_pixels) {
  const std::string size = std::to_string(width) + " x " + std::to_string(height);
  if (width == 0 || height == 0) throw ImageError(image_label(name) + ": has no pixels: " + size);
  // stb_image and Image count in int.
  constexpr std::uint64_t hard_limit = 0x7fffffffu / 8;
  const std::uint64_t limit = max_pixels < hard_limit ? max_pixels : hard_limit;
  if (width > limit / height)
    throw ImageError(image_label(name) + ": " + size + " is more than the limit of " + std::to_string(limit) +
                     " pixels");
}

namespace bmp {

/// The part of a BMP header that decoding needs.
struct Header {
  std::uint64_t width = 0, height = 0;
  bool top_down = false;
  std::uint32_t bits = 0;
  std::size_t palette_offset = 0, palette_entries = 0, palette_entry_bytes = 4;
  std::size_t pixels_offset = 0;
  std::uint32_t red = 0, green = 0, blue = 0;  // masks of 16 and 32 bits
};

inline Header parse(const ByteReader& file, const std::string& name) {
  const auto fail = [&name](const std::string& what) { return ImageError(image_label(name) + ": BMP: " + what); };
  const std::uint32_t header_bytes = file.u32le(14);
  if (!file.has(14, header_bytes)) throw fail("truncated in the header");
  Header header;
  std::uint32_t compression = 0, colours = 0;
  if (header_bytes == 12) {
    header.width = file.u16le(18);
    header.height = file.u16le(20);
    header.bits = file.u16le(24);
    header.palette_entry_bytes = 3;
  } else if (header_bytes >= 40) {
    const auto width = static_cast<std::int32_t>(file.u32le(18));
    const std::int64_t height = static_cast<std::int32_t>(file.u32le(22));
    if (width < 1 || height == 0) throw fail("width or height out of range");
    header.width = static_cast<std::uint64_t>(width);
    header.height = static_cast<std::uint64_t>(height < 0 ? -height : height);
    header.top_down = height < 0;
    header.bits = file.u16le(28);
    compression = file.u32le(30);
    colours = file.u32le(46);
  } else {
    throw fail("unknown header of " + std::to_string(header_bytes) + " bytes");
  }
  const std::uint32_t bits = header.bits;
  if (bits != 1 && bits != 4 && bits != 8 && bits != 16 && bits != 24 && bits != 32)
    throw fail(std::to_string(bits) + " bits a pixel are not supported");
  const bool bit_fields = (compression == 3 || compression == 6) && bits >= 16 && bits != 24;
  if (compression != 0 && !bit_fields)
    throw fail("compression " + std::to_string(compression) + " is not supported (run-length, JPEG or PNG inside)");
  header.palette_offset = 14 + std::size_t{header_bytes};
  if (bit_fields) {  // inside the longer headers, behind the short one: the same place
    if (!file.has(54, 12)) throw fail("truncated in the header");
    header.red = file.u32le(54);
    header.green = file.u32le(58);
    header.blue = file.u32le(62);
  } else if (bits == 16) {
    header.red = 0x7c00, header.green = 0x3e0, header.blue = 0x1f;
  } else if (bits == 32) {
    header.red = 0xff0000, header.green = 0xff00, header.blue = 0xff;
  }
  header.pixels_offset = file.u32le(10);
  if (header.pixels_offset < header.palette_offset) throw fail("pixels overlap the header");
  if (bits <= 8) {
    const std::size_t most = std::size_t{1} << bits;
    header.palette_entries = colours == 0 || colours > most ? most : colours;
    const std::size_t room = (header.pixels_offset - header.palette_offset) / header.palette_entry_bytes;
    if (header.palette_entries > room) header.palette_entries = room;
  }
  return header;
}

// Masks that are whole bytes, or the two common layouts of 16 bits. cv2 leaves the low bits zero, and so do we.
inline bool mask_shift(std::uint32_t mask, int& shift, int& bits) {
  if (mask == 0) return false;
  shift = 0;
  while (!(mask >> shift & 1)) ++shift;
  bits = 0;
  while (shift + bits < 32 && (mask >> (shift + bits) & 1)) ++bits;
  const std::uint32_t ones = bits == 32 ? 0xffffffffu : (1u << bits) - 1;
  return bits <= 8 && mask == ones << shift;
}

}  // namespace bmp

PROMPTIQA_INLINE Image decode_bmp(Bytes bytes, const std::string& name, std::uint64_t max_pixels) {
  const ByteReader file{bytes};
  const auto fail = [&name](const std::string& what) { return ImageError(image_label(name) + ": BMP: " + what); };
  const bmp::Header header = bmp::parse(file, name);
  check_size(name, header.width, header.height, max_pixels);
  const std::size_t width = static_cast<std::size_t>(header.width), height = static_cast<std::size_t>(header.height);
  const std::size_t row_bytes = (width * header.bits + 31) / 32 * 4;
  const std::size_t last_row = (width * header.bits + 7) / 8;  // writers leave the final padding out
  if (!file.has(header.pixels_offset, row_bytes * (height - 1) + last_row)) throw fail("truncated");

  std::uint8_t palette[256][3] = {};  // indices beyond the palette are black, as with cv2
  for (std::size_t i = 0; i < header.palette_entries; ++i)
    for (std::size_t c = 0; c < 3; ++c)
      palette[i][c] =
          static_cast<std::uint8_t>(file.u8(header.palette_offset + i * header.palette_entry_bytes + 2 - c));
  const std::uint32_t masks[3] = {header.red, header.green, header.blue};
  int shift[3] = {}, mask_bits[3] = {};
  if (header.bits == 16 || header.bits == 32)
    for (std::size_t c = 0; c < 3; ++c)
      if (!bmp::mask_shift(masks[c], shift[c], mask_bits[c])) throw fail("colour masks that are not supported");

  std::vector<std::uint8_t> rgb(width * height * 3);
  for (std::size_t y = 0; y < height; ++y) {
    const std::uint8_t* in = bytes.data() + header.pixels_offset + row_bytes * (header.top_down ? y : height - 1 - y);
    std::uint8_t* out = rgb.data() + y * width * 3;
    for (std::size_t x = 0; x < width; ++x, out += 3) {
      if (header.bits <= 8) {
        const std::size_t bit = x * header.bits;
        const std::uint32_t index = in[bit / 8] >> (8 - header.bits - bit % 8) & ((1u << header.bits) - 1);
        std::memcpy(out, palette[index], 3);
      } else if (header.bits == 24) {
        out[0] = in[3 * x + 2], out[1] = in[3 * x + 1], out[2] = in[3 * x];
      } else {
        const std::uint8_t* p = in + x * (header.bits / 8);
        std::uint32_t v = static_cast<std::uint32_t>(p[0]) | static_cast<std::uint32_t>(p[1]) << 8;
        if (header.bits == 32) v |= static_cast<std::uint32_t>(p[2]) << 16 | static_cast<std::uint32_t>(p[3]) << 24;
        for (std::size_t c = 0; c < 3; ++c)
          out[c] = static_cast<std::uint8_t>((v & masks[c]) >> shift[c] << (8 - mask_bits[c]));
      }
    }
  }
  return Image::from_vector(std::move(rgb), static_cast<int>(width), static_cast<int>(height), 3, ChannelOrder::rgb,
                            name);
}

PROMPTIQA_INLINE Image decode_pnm(Bytes bytes, const std::string& name, std::uint64_t max_pixels) {
  const ByteReader file{bytes};
  const auto fail = [&name](const std::string& what) { return ImageError(image_label(name) + ": PNM: " + what); };
  if (file.u8(1) != '5' && file.u8(1) != '6')
    throw fail(std::string("P") + static_cast<char>(file.u8(1)) + " is not supported, only binary P5 and P6");
  const int channels = file.u8(1) == '6' ? 3 : 1;
  std::size_t at = 2;
  std::uint64_t numbers[3] = {};  // width, height, maxval
  for (std::uint64_t& number : numbers) {
    for (;; ++at) {
      if (file.u8(at) == '#')
        while (at < file.size() && file.u8(at) != '\n') ++at;
      if (at >= file.size() || !std::isspace(static_cast<int>(file.u8(at)))) break;
    }
    if (!std::isdigit(static_cast<int>(file.u8(at)))) throw fail("broken header");
    for (; std::isdigit(static_cast<int>(file.u8(at))); ++at) {
      number = 10 * number + (file.u8(at) - '0');
      if (number > 0x7fffffffu) throw fail("width, height or maxval out of range");
    }
  }
  if (!std::isspace(static_cast<int>(file.u8(at)))) throw fail("broken header");
  ++at;  // exactly one; the next byte may be a pixel
  if (numbers[2] < 1 || numbers[2] > 65535) throw fail("maxval must be 1 to 65535");
  check_size(name, numbers[0], numbers[1], max_pixels);
  const std::size_t value_bytes = numbers[2] > 255 ? 2 : 1;
  const std::size_t values = static_cast<std::size_t>(numbers[0] * numbers[1]) * static_cast<std::size_t>(channels);
  if (!file.has(at, values * value_bytes)) throw fail("truncated");
  std::vector<std::uint8_t> pixels(values);
  for (std::size_t i = 0; i < values; ++i) pixels[i] = bytes[at + i * value_bytes];  // high byte first
  return Image::from_vector(std::move(pixels), static_cast<int>(numbers[0]), static_cast<int>(numbers[1]), channels,
                            ChannelOrder::rgb, name);
}

}  // namespace promptiqa::detail
