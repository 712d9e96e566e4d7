// Body of wavelet_quantised: CDF 9/7 by lifting, in integers.
// Surprising choice: each lifting step is undone exactly, whatever its rounding, so only quantisation (and the scaling
// of the bands, to 1/256 level) changes the picture.
#pragma once

#include <algorithm>
#include <utility>

#include <promptiqa/data/wavelet.hpp>

namespace promptiqa::distortion {

class Wavelet97 {
 public:
  /// One decomposition of `line`: first half low frequencies, second half high ones.
  static void forward(std::vector<std::int32_t>& line, std::vector<std::int32_t>& scratch) {
    lift(line, 1, alpha);
    lift(line, 0, beta);
    lift(line, 1, gamma);
    lift(line, 0, delta);
    const std::size_t low = (line.size() + 1) / 2;
    for (std::size_t i = 0; i < line.size(); ++i)
      scratch[i % 2 == 0 ? i / 2 : low + i / 2] = scaled(line[i], i % 2 == 0 ? grow : shrink);
    std::copy(scratch.begin(), scratch.begin() + static_cast<std::ptrdiff_t>(line.size()), line.begin());
  }

  static void inverse(std::vector<std::int32_t>& line, std::vector<std::int32_t>& scratch) {
    const std::size_t low = (line.size() + 1) / 2;
    for (std::size_t i = 0; i < line.size(); ++i)
      scratch[i] = scaled(line[i % 2 == 0 ? i / 2 : low + i / 2], i % 2 == 0 ? shrink : grow);
    std::copy(scratch.begin(), scratch.begin() + static_cast<std::ptrdiff_t>(line.size()), line.begin());
    lift(line, 0, -delta);
    lift(line, 1, -gamma);
    lift(line, 0, -beta);
    lift(line, 1, -alpha);
  }

 private:
  // The filter's constants in 1/65536; the scaling makes basis functions of (nearly) unit length.
  static constexpr std::int64_t alpha = -103949, beta = -3472, gamma = 57862, delta = 29066;
  static constexpr std::int64_t grow = 75340, shrink = 57007;  // 1.149604, 1 / 1.149604

  static std::int32_t scaled(std::int32_t v, std::int64_t factor) {
    return static_cast<std::int32_t>((v * factor + 32768) >> 16);
  }

  // Adds factor * (left + right neighbour) to every second element; mirrored at the ends. Rounded towards 0, so that
  // -factor takes away what factor added.
  static void lift(std::vector<std::int32_t>& line, std::size_t first, std::int64_t factor) {
    const std::size_t n = line.size();
    for (std::size_t i = first; i < n; i += 2) {
      const std::int64_t left = line[i > 0 ? i - 1 : 1], right = line[i + 1 < n ? i + 1 : n - 2];
      line[i] += static_cast<std::int32_t>(factor * (left + right) / 65536);
    }
  }
};

// All decompositions of the top left width x height part, forward or inverse.
inline void transform_97(Plane& plane, int stride, int width, int height, bool forward) {
  const auto lines = [&](bool along_x) {
    const int count = along_x ? height : width, length = along_x ? width : height;
    std::vector<std::int32_t> line(static_cast<std::size_t>(length)), scratch(line.size());
    const auto at = [&](int k, int i) -> std::int32_t& {
      const int x = along_x ? i : k, y = along_x ? k : i;
      return plane[static_cast<std::size_t>(y) * static_cast<std::size_t>(stride) + static_cast<std::size_t>(x)];
    };
    for (int k = 0; k < count; ++k) {
      for (int i = 0; i < length; ++i) line[static_cast<std::size_t>(i)] = at(k, i);
      forward ? Wavelet97::forward(line, scratch) : Wavelet97::inverse(line, scratch);
      for (int i = 0; i < length; ++i) at(k, i) = line[static_cast<std::size_t>(i)];
    }
  };
  lines(forward);
  lines(!forward);
}

PROMPTIQA_INLINE Planes wavelet_quantised(const Planes& rgb, int step) {
  Planes planes = to_luma_chroma(rgb);
  std::vector<std::pair<int, int>> sizes;  // of the part that each decomposition splits
  for (int w = rgb.width, h = rgb.height; sizes.size() < 5 && w >= 4 && h >= 4; w = (w + 1) / 2, h = (h + 1) / 2)
    sizes.emplace_back(w, h);
  for (std::size_t c = 0; c < 3; ++c) {
    Plane& plane = planes.channel[c];
    for (const auto& [w, h] : sizes) transform_97(plane, rgb.width, w, h, true);
    const std::int32_t width = (c == 0 ? step : 2 * step) * one_level;
    for (std::int32_t& v : plane) {
      const std::int32_t index = v / width;  // towards 0: the dead zone is twice as wide
      v = index == 0 ? 0 : index * width + (index > 0 ? width / 2 : -width / 2);
    }
    for (auto size = sizes.rbegin(); size != sizes.rend(); ++size)
      transform_97(plane, rgb.width, size->first, size->second, false);
  }
  return to_rgb(planes);
}

}  // namespace promptiqa::distortion
