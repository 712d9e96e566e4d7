// Body of preprocess_to_chw.
// Surprising choice: there are only 256 possible results, so they come from a table.
#pragma once

#include <array>

#include <promptiqa/image/preprocess.hpp>
#include <promptiqa/image/resize.hpp>

namespace promptiqa {

PROMPTIQA_INLINE void preprocess_to_chw(const Image& image, int size, float* out_chw) {
  const Image resized = resize_cubic(image, size, size);
  std::array<float, 256> level;
  for (std::size_t v = 0; v < level.size(); ++v) level[v] = (static_cast<float>(v) / 255.0f - 0.5f) / 0.5f;
  const std::size_t plane = static_cast<std::size_t>(size) * static_cast<std::size_t>(size);
  const std::uint8_t* rgb = resized.row(0);
  for (std::size_t i = 0; i < plane; ++i)
    for (std::size_t c = 0; c < 3; ++c) out_chw[c * plane + i] = level[rgb[3 * i + c]];
}

}  // namespace promptiqa
