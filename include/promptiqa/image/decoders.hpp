// Internal interfaces of load_image: one decoder a format, all from bytes in memory.
// Surprising choice: stb_image only ever sees PNG and JPEG streams that were checked and written anew by us, because
// widely installed versions of it (2.27) overrun buffers or read uninitialised memory on malformed ones.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include <promptiqa/image/image.hpp>

namespace promptiqa::detail {

using Bytes = std::span<const std::uint8_t>;

/// What a checked stream holds, known before decoding.
struct CheckedStream {
  std::vector<std::uint8_t> bytes;  // a minimal, well-formed file of the same format
  int width = 0;
  int height = 0;
  std::size_t largest_block = 0;  // no single allocation of a correct decoding is larger, in bytes
};

/// Throws ImageError when width or height is not positive or width * height is beyond the limit.
void check_size(const std::string& name, std::uint64_t width, std::uint64_t height, std::uint64_t max_pixels);

/// Checks structure, checksums and size of a PNG file; keeps IHDR, the palette filled up to 256 entries, pixel data.
CheckedStream check_png(Bytes file, const std::string& name, std::uint64_t max_pixels);

/// Checks segments, tables and size of a JPEG file; keeps what decoding needs.
CheckedStream check_jpeg(Bytes file, const std::string& name, std::uint64_t max_pixels);

/// Uncompressed BMP of 1, 4, 8, 16, 24 or 32 bits a pixel.
Image decode_bmp(Bytes file, const std::string& name, std::uint64_t max_pixels);

/// Binary PGM and PPM (P5, P6), 8 or 16 bits.
Image decode_pnm(Bytes file, const std::string& name, std::uint64_t max_pixels);

}  // namespace promptiqa::detail
