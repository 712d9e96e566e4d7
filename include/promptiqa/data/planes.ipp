// Bodies of planes.hpp.
// Surprising choice: luma weights are multiples of 1/65536 that add to exactly 1, so a grey picture keeps its values.
#pragma once

#include <utility>

#include <promptiqa/data/planes.hpp>

namespace promptiqa::distortion {

PROMPTIQA_INLINE Planes to_planes(const Image& image) {
  const Image rgb = to_rgb8(image);
  Planes planes{rgb.width(), rgb.height(), {}};
  for (Plane& plane : planes.channel) plane.resize(planes.pixels());
  std::size_t i = 0;
  for (int y = 0; y < rgb.height(); ++y) {
    const std::uint8_t* p = rgb.row(y);
    for (int x = 0; x < rgb.width(); ++x, ++i, p += 3)
      for (std::size_t c = 0; c < 3; ++c) planes.channel[c][i] = p[c] * one_level;
  }
  return planes;
}

PROMPTIQA_INLINE Image to_image(const Planes& planes, const std::string& name) {
  std::vector<std::uint8_t> rgb(planes.pixels() * 3);
  for (std::size_t c = 0; c < 3; ++c)
    for (std::size_t i = 0; i < planes.pixels(); ++i) rgb[3 * i + c] = to_byte(planes.channel[c][i]);
  return Image::from_vector(std::move(rgb), planes.width, planes.height, 3, ChannelOrder::rgb, name);
}

PROMPTIQA_INLINE Planes to_luma_chroma(const Planes& rgb) {
  Planes out = rgb;
  for (std::size_t i = 0; i < rgb.pixels(); ++i) {
    const std::int64_t r = rgb.channel[0][i], g = rgb.channel[1][i], b = rgb.channel[2][i];
    const std::int64_t luma = (19595 * r + 38470 * g + 7471 * b + 32768) >> 16;
    out.channel[0][i] = static_cast<std::int32_t>(luma);
    out.channel[1][i] = static_cast<std::int32_t>((36984 * (b - luma) + 32768) >> 16);  // 0.5 / (1 - 0.114)
    out.channel[2][i] = static_cast<std::int32_t>((46745 * (r - luma) + 32768) >> 16);  // 0.5 / (1 - 0.299)
  }
  return out;
}

PROMPTIQA_INLINE Planes to_rgb(const Planes& luma_chroma) {
  Planes out = luma_chroma;
  for (std::size_t i = 0; i < out.pixels(); ++i) {
    const std::int64_t luma = luma_chroma.channel[0][i], cb = luma_chroma.channel[1][i], cr = luma_chroma.channel[2][i];
    out.channel[0][i] = static_cast<std::int32_t>(luma + ((91881 * cr + 32768) >> 16));
    out.channel[1][i] = static_cast<std::int32_t>(luma - ((22554 * cb + 46802 * cr + 32768) >> 16));
    out.channel[2][i] = static_cast<std::int32_t>(luma + ((116130 * cb + 32768) >> 16));
  }
  return out;
}

}  // namespace promptiqa::distortion
