// Difference hashes (dHash): 256 bits that near-duplicates of a picture share, whatever its size or compression.
// Surprising choice: all in integers with exact area averages, so the bits are the same on every machine.
#pragma once

#include <algorithm>
#include <array>
#include <bit>
#include <cstdint>
#include <vector>

#include <promptiqa/image/image.hpp>

namespace examples {

/// Bit 16 r + c says whether cell (r, c + 1) is brighter than cell (r, c).
using DifferenceHash = std::array<std::uint64_t, 4>;

/// Pictures whose hashes differ in no more bits than this are near-duplicates.
inline constexpr int near_duplicate_bits = 30;

/// The hash of a picture: its grey values 299 R + 587 G + 114 B are averaged over 16 rows of 17 cells that cover all of
/// it, parts of pixels by their share; then each cell is compared with its right neighbour. Throws ImageError for an
/// empty image.
inline DifferenceHash difference_hash(const promptiqa::Image& picture) {
  constexpr std::int64_t rows = 16, columns = 17;
  const promptiqa::Image rgb = promptiqa::to_rgb8(picture);
  const std::int64_t width = rgb.width(), height = rgb.height();
  // Lengths are in units of 1/17 pixel across and 1/16 pixel down: cell c begins at c * width, pixel x at x * 17.
  std::vector<std::int64_t> sums(static_cast<std::size_t>(rows * columns), 0);
  for (std::int64_t y = 0; y < height; ++y) {
    const std::uint8_t* row = rgb.row(static_cast<int>(y));
    std::array<std::int64_t, columns> line{};
    for (std::int64_t x = 0; x < width; ++x) {
      const std::int64_t grey = 299 * row[3 * x] + 587 * row[3 * x + 1] + 114 * row[3 * x + 2];
      for (std::int64_t at = x * columns, end = at + columns; at < end;) {
        const std::int64_t cell = at / width, next = std::min(end, (cell + 1) * width);
        line[static_cast<std::size_t>(cell)] += grey * (next - at);
        at = next;
      }
    }
    for (std::int64_t at = y * rows, end = at + rows; at < end;) {
      const std::int64_t cell = at / height, next = std::min(end, (cell + 1) * height);
      for (std::int64_t c = 0; c < columns; ++c)
        sums[static_cast<std::size_t>(cell * columns + c)] += line[static_cast<std::size_t>(c)] * (next - at);
      at = next;
    }
  }
  DifferenceHash hash{};
  for (std::int64_t r = 0; r < rows; ++r)
    for (std::int64_t c = 0; c + 1 < columns; ++c) {
      const auto cell = static_cast<std::size_t>(r * columns + c), bit = static_cast<std::size_t>(16 * r + c);
      if (sums[cell + 1] > sums[cell]) hash[bit / 64] |= std::uint64_t{1} << (bit % 64);
    }
  return hash;
}

/// Number of bits in which two hashes differ, 0 .. 256.
inline int distance(const DifferenceHash& a, const DifferenceHash& b) {
  int bits = 0;
  for (std::size_t i = 0; i < a.size(); ++i) bits += std::popcount(a[i] ^ b[i]);
  return bits;
}

}  // namespace examples
