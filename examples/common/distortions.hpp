// Five ways to make a photograph worse, each at three levels.
// Surprising choice: JPEG goes through a real encoder and decoder in memory, so its artefacts are the real ones.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <string>
#include <vector>

#include <promptiqa/image/file.hpp>

#include "noise.hpp"
#include "picture_file.hpp"
#include "raster.hpp"

namespace examples {

inline std::uint8_t to_byte(float v) { return static_cast<std::uint8_t>(std::clamp(std::lround(v), 0l, 255l)); }

/// Gaussian blur; sigma in pixels, borders replicated.
inline Photo blurred(const Photo& photo, float sigma) {
  const int reach = static_cast<int>(std::ceil(3 * sigma));
  std::vector<float> weights;
  for (int i = -reach; i <= reach; ++i)
    weights.push_back(std::exp(-0.5f * static_cast<float>(i * i) / (sigma * sigma)));
  float total = 0;
  for (float w : weights) total += w;
  for (float& w : weights) w /= total;
  std::vector<float> values(photo.rgb.begin(), photo.rgb.end()), next(values.size());
  const auto index = [&](int x, int y, int c) {
    return (static_cast<std::size_t>(y) * static_cast<std::size_t>(photo.width) + static_cast<std::size_t>(x)) * 3 +
           static_cast<std::size_t>(c);
  };
  for (const bool along_x : {true, false}) {
    for (int y = 0; y < photo.height; ++y)
      for (int x = 0; x < photo.width; ++x)
        for (int c = 0; c < 3; ++c) {
          float sum = 0;
          for (int i = -reach; i <= reach; ++i) {
            const int sx = along_x ? std::clamp(x + i, 0, photo.width - 1) : x,
                      sy = along_x ? y : std::clamp(y + i, 0, photo.height - 1);
            sum += weights[static_cast<std::size_t>(i + reach)] * values[index(sx, sy, c)];
          }
          next[index(x, y, c)] = sum;
        }
    values.swap(next);
  }
  Photo out{photo.width, photo.height, {}};
  for (float v : values) out.rgb.push_back(to_byte(v));
  return out;
}

/// Gaussian noise in every channel; sigma in levels of 255.
inline Photo noisy(const Photo& photo, float sigma, std::uint32_t seed) {
  Photo out = photo;
  Random random(seed);
  for (std::uint8_t& v : out.rgb) v = to_byte(static_cast<float>(v) + sigma * random.normal());
  return out;
}

/// Contrast about the mean: 1 changes nothing, 0 is flat.
inline Photo less_contrast(const Photo& photo, float factor) {
  double sum = 0;
  for (std::uint8_t v : photo.rgb) sum += v;
  const float mean = static_cast<float>(sum / static_cast<double>(photo.rgb.size()));
  Photo out = photo;
  for (std::uint8_t& v : out.rgb) v = to_byte(mean + factor * (static_cast<float>(v) - mean));
  return out;
}

/// Blocks of size x size pixels, each their mean.
inline Photo pixelated(const Photo& photo, int size) {
  Photo out = photo;
  for (int y0 = 0; y0 < photo.height; y0 += size)
    for (int x0 = 0; x0 < photo.width; x0 += size)
      for (std::size_t c = 0; c < 3; ++c) {
        const auto each = [&](auto&& visit) {
          for (int y = y0; y < std::min(y0 + size, photo.height); ++y)
            for (int x = x0; x < std::min(x0 + size, photo.width); ++x)
              visit(
                  (static_cast<std::size_t>(y) * static_cast<std::size_t>(photo.width) + static_cast<std::size_t>(x)) *
                      3 +
                  c);
        };
        int sum = 0, count = 0;
        each([&](std::size_t i) { sum += photo.rgb[i], ++count; });
        each([&](std::size_t i) { out.rgb[i] = static_cast<std::uint8_t>((sum + count / 2) / count); });
      }
  return out;
}

/// Through a JPEG encoder and back; quality 1..100.
inline Photo jpeg_compressed(const Photo& photo, int quality) {
  const promptiqa::Image decoded = promptiqa::load_image_from_memory(encode_jpeg(photo, quality));
  Photo out{decoded.width(), decoded.height(), std::vector<std::uint8_t>(photo.rgb.size())};
  for (int y = 0; y < out.height; ++y)
    decoded.copy_row_rgb8(y, out.rgb.data() + static_cast<std::size_t>(y) * static_cast<std::size_t>(out.width) * 3);
  return out;
}

inline constexpr int distortion_levels = 3;
inline const std::vector<std::string>& distortion_names() {
  static const std::vector<std::string> names = {"blur", "noise", "jpeg", "contrast", "pixelate"};
  return names;
}

/// The photo with a distortion of distortion_names() at level 1..3.
inline Photo distorted(const Photo& photo, const std::string& name, int level, std::uint32_t seed) {
  const auto i = static_cast<std::size_t>(level - 1);
  if (name == "blur") return blurred(photo, std::vector<float>{1.2f, 2.5f, 5}[i]);
  if (name == "noise") return noisy(photo, std::vector<float>{12, 28, 60}[i], seed);
  if (name == "jpeg") return jpeg_compressed(photo, std::vector<int>{30, 12, 4}[i]);
  if (name == "contrast") return less_contrast(photo, std::vector<float>{0.6f, 0.35f, 0.15f}[i]);
  return pixelated(photo, std::vector<int>{3, 6, 12}[i]);
}

}  // namespace examples
