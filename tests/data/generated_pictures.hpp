// Pictures that tests of distortions and synthesis use instead of photographs.
// Surprising choice: integers only, so that checksums of them mean the same on every machine.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include <promptiqa/core/kernel_table.hpp>
#include <promptiqa/image/image.hpp>

namespace data_test {

/// Soft coloured areas, sharp edges and fine texture, all away from black and white; another seed, another picture.
inline promptiqa::Image generated_picture(int width, int height, std::uint64_t seed, int channels = 3) {
  const auto random = [&](std::uint64_t i, int count) {
    return static_cast<int>(promptiqa::counter_uniform(seed, i) * count);
  };
  const int edge_x = width / 3 + random(1, width / 3 + 1), edge_y = height / 3 + random(2, height / 3 + 1);
  std::vector<std::uint8_t> pixels;
  std::uint64_t at = 100;
  for (int y = 0; y < height; ++y)
    for (int x = 0; x < width; ++x)
      for (int c = 0; c < channels; ++c) {
        int v = 90 + 70 * ((x + 3 * c * width / 7) % width) / width + 40 * y / height * (c == 1 ? 1 : -1);
        if (x > edge_x) v += 35 - 20 * c;
        if (y > edge_y) v += 10 + 15 * c;
        const int period = 7 + random(3, 5);
        if ((x / period + y / (period + 2)) % 2 == 0) v -= 18;
        v += random(++at, 9) - 4;
        pixels.push_back(static_cast<std::uint8_t>(v < 20 ? 20 : v > 235 ? 235 : v));
      }
  return promptiqa::Image::from_vector(std::move(pixels), width, height, channels, promptiqa::ChannelOrder::rgb,
                                       "generated " + std::to_string(seed));
}

/// The same value everywhere.
inline promptiqa::Image flat_picture(int width, int height, int level) {
  return promptiqa::Image::from_vector(
      std::vector<std::uint8_t>(static_cast<std::size_t>(width) * static_cast<std::size_t>(height) * 3,
                                static_cast<std::uint8_t>(level)),
      width, height, 3);
}

/// All bytes of an 8-bit RGB picture.
inline std::vector<std::uint8_t> bytes(const promptiqa::Image& image) {
  std::vector<std::uint8_t> all;
  for (int y = 0; y < image.height(); ++y) all.insert(all.end(), image.row(y), image.row(y) + 3 * image.width());
  return all;
}

}  // namespace data_test
