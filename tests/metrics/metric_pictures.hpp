// Pictures for metrics: value noise with a disc, and distortions of it, the same as in golden/make_metric_vectors.py.
// Surprising choice: integer arithmetic only, so C++ and Python make the very same pixels and no file is needed.
#pragma once

#include <algorithm>
#include <cstdint>
#include <stdexcept>
#include <string>
#include <vector>

#include <promptiqa/image/image.hpp>

namespace metric_pictures {

inline std::uint32_t mix(std::uint32_t x, std::uint32_t y, std::uint32_t c) {
  std::uint32_t h = x * 374761393u + y * 668265263u + c * 2246822519u;
  h = (h ^ (h >> 13)) * 1274126177u;
  return h ^ (h >> 16);
}

inline int value_noise(int x, int y, int c, int cell) {
  const int fx = x % cell, fy = y % cell;
  const auto corner = [&](int i, int j) {
    const std::uint32_t random = mix(static_cast<std::uint32_t>(x / cell + i), static_cast<std::uint32_t>(y / cell + j),
                                     static_cast<std::uint32_t>(c + 16 * cell));
    return static_cast<int>(random % 256);
  };
  const int top = corner(0, 0) * (cell - fx) + corner(1, 0) * fx;
  const int bottom = corner(0, 1) * (cell - fx) + corner(1, 1) * fx;
  return (top * (cell - fy) + bottom * fy) / (cell * cell);
}

/// 8-bit RGB pixels f(x, y, c).
template <class F>
promptiqa::Image make(int width, int height, F f) {
  std::vector<std::uint8_t> pixels;
  for (int y = 0; y < height; ++y)
    for (int x = 0; x < width; ++x)
      for (int c = 0; c < 3; ++c) pixels.push_back(static_cast<std::uint8_t>(f(x, y, c)));
  return promptiqa::Image::from_vector(pixels, width, height, 3);
}

inline promptiqa::Image picture(int width, int height) {
  return make(width, height, [&](int x, int y, int c) {
    const int value = (4 * value_noise(x, y, c, 64) + 2 * value_noise(x, y, c, 16) + value_noise(x, y, c, 4)) / 7;
    const int dx = 2 * x - width, dy = 2 * y - height;
    return std::min(value + (dx * dx + dy * dy < height * height / 4 && c != 1 ? 60 : 0), 255);
  });
}

inline promptiqa::Image distort(const promptiqa::Image& image, const std::string& kind) {
  const int width = image.width(), height = image.height();
  const auto at = [&](int x, int y, int c) {
    return int{image.row(std::clamp(y, 0, height - 1))[3 * std::clamp(x, 0, width - 1) + c]};
  };
  return make(width, height, [&](int x, int y, int c) {
    if (kind == "noise") {
      const std::uint32_t random =
          mix(static_cast<std::uint32_t>(x), static_cast<std::uint32_t>(y), static_cast<std::uint32_t>(c + 7));
      return std::clamp(at(x, y, c) + static_cast<int>(random % 61) - 30, 0, 255);
    }
    if (kind == "blur") {
      int sum = 12;
      for (int j = -2; j <= 2; ++j)
        for (int i = -2; i <= 2; ++i) sum += at(x + i, y + j, c);
      return sum / 25;
    }
    if (kind == "contrast") return (3 * at(x, y, c) + 260) / 5;
    if (kind == "blocks") return at(x / 8 * 8, y / 8 * 8, c);
    if (kind == "tint") return 255 - at(x, y, 2 - c);
    throw std::runtime_error("unknown distortion " + kind);
  });
}

}  // namespace metric_pictures
