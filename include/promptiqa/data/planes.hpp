// A colour picture as three planes of fixed-point numbers, and its way to luma and chroma.
// Surprising choice: integers, in 1/256 of an 8-bit level, instead of floats: compilers contract and reorder floating
// point differently, and a distortion must give the same bytes everywhere.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#include <promptiqa/image/image.hpp>

namespace promptiqa::distortion {

constexpr std::int32_t one_level = 256;  // of 255

/// One channel, row by row.
using Plane = std::vector<std::int32_t>;

/// Red, green, blue (or luma and two chromas) of one size. Values may leave 0..255 levels until to_image().
struct Planes {
  int width = 0, height = 0;
  std::array<Plane, 3> channel;

  std::size_t pixels() const { return static_cast<std::size_t>(width) * static_cast<std::size_t>(height); }
};

/// `numerator / denominator` to nearest, halves up; the denominator is positive.
inline std::int64_t divided(std::int64_t numerator, std::int64_t denominator) {
  const std::int64_t twice = 2 * numerator + denominator, by = 2 * denominator;
  return twice / by - (twice % by < 0 ? 1 : 0);
}

/// 0..255 levels.
inline std::uint8_t to_byte(std::int32_t value) {
  const std::int32_t level = (value + one_level / 2) >> 8;
  return static_cast<std::uint8_t>(level < 0 ? 0 : level > 255 ? 255 : level);
}

/// The picture as 8-bit RGB, by to_rgb8's rules.
Planes to_planes(const Image& image);

/// Rounded to nearest and clamped to 8-bit RGB.
Image to_image(const Planes& planes, const std::string& name);

/// RGB to BT.601 luma and chroma (full range, chroma around 0), and back.
Planes to_luma_chroma(const Planes& rgb);
Planes to_rgb(const Planes& luma_chroma);

}  // namespace promptiqa::distortion

#if PROMPTIQA_WITH_BODIES
#include <promptiqa/data/planes.ipp>
#endif
