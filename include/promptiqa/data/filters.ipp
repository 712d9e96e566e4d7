// Bodies of filters.hpp.
// Surprising choice: a kernel of any shape is a list of taps, and each tap is one pass along a row: this is what
// compilers turn into vector code without help.
#pragma once

#include <algorithm>
#include <array>
#include <cmath>
#include <cstdlib>
#include <utility>

#include <promptiqa/data/filters.hpp>

namespace promptiqa::distortion {

// Weights of any scale to integers that add to 2^14. What rounding leaves goes to the tap in the middle; all have one.
inline std::vector<Tap> normalised_taps(const std::vector<Tap>& places, const std::vector<double>& weights) {
  double total = 0;
  for (const double weight : weights) total += weight;
  std::vector<Tap> taps;
  std::int32_t left = 1 << kernel_bits;
  std::size_t middle = 0;
  for (std::size_t i = 0; i < places.size(); ++i) {
    const auto weight = static_cast<std::int32_t>(std::lround(weights[i] / total * (1 << kernel_bits)));
    if (weight == 0) continue;
    taps.push_back({places[i].dx, places[i].dy, weight});
    left -= weight;
    if (places[i].dx == 0 && places[i].dy == 0) middle = taps.size() - 1;
  }
  taps[middle].weight += left;
  return taps;
}

PROMPTIQA_INLINE std::vector<Tap> gaussian_taps(double sigma, bool along_x) {
  std::vector<Tap> places;
  std::vector<double> weights;
  const int reach = static_cast<int>(std::ceil(3 * sigma));
  for (int i = -reach; i <= reach; ++i) {
    places.push_back({along_x ? i : 0, along_x ? 0 : i, 0});
    // std::exp may differ in its last bits between libraries; no weight in use lies within 0.001 of a half.
    weights.push_back(std::exp(-0.5 * i * i / (sigma * sigma)));
  }
  return normalised_taps(places, weights);
}

PROMPTIQA_INLINE std::vector<Tap> disk_taps(int radius_16ths) {
  std::vector<Tap> places;
  std::vector<double> weights;
  const int reach = (radius_16ths + 15) / 16;
  for (int dy = -reach; dy <= reach; ++dy)
    for (int dx = -reach; dx <= reach; ++dx) {
      int inside = 0;  // of 8 x 8 points of this pixel
      for (int v = -7; v <= 7; v += 2)
        for (int u = -7; u <= 7; u += 2) {
          const int x = 16 * dx + u, y = 16 * dy + v;
          inside += x * x + y * y <= radius_16ths * radius_16ths;
        }
      places.push_back({dx, dy, 0});
      weights.push_back(inside);
    }
  return normalised_taps(places, weights);
}

PROMPTIQA_INLINE std::vector<Tap> line_taps(int length, int slope, bool steep) {
  // Steps of a sixteenth of a pixel, in 1/4096 pixel. Of the standard functions only sqrt is exact everywhere.
  const double norm = std::sqrt(static_cast<double>(64 * 64 + slope * slope));
  const long major = std::lround(64 * 256 / norm), minor = std::lround(slope * 256 / norm);
  const int reach = length / 2 + 2, side = 2 * reach + 1;
  std::vector<double> grid(static_cast<std::size_t>(side) * static_cast<std::size_t>(side));
  for (int i = -8 * (length - 1); i <= 8 * (length - 1); ++i) {  // a line of one pixel is that pixel
    const long x = i * (steep ? minor : major), y = i * (steep ? major : minor);
    const long x0 = x >> 12, y0 = y >> 12, fx = x & 4095, fy = y & 4095;
    for (long v = 0; v < 2; ++v)
      for (long u = 0; u < 2; ++u)
        grid[static_cast<std::size_t>((y0 + v + reach) * side + x0 + u + reach)] +=
            static_cast<double>((u ? fx : 4096 - fx) * (v ? fy : 4096 - fy));
  }
  std::vector<Tap> places;
  for (int y = -reach; y <= reach; ++y)
    for (int x = -reach; x <= reach; ++x) places.push_back({x, y, 0});
  return normalised_taps(places, grid);
}

PROMPTIQA_INLINE Plane convolved(const Plane& in, int width, int height, const std::vector<Tap>& taps) {
  int reach = 0;
  for (const Tap& tap : taps) reach = std::max(reach, std::abs(tap.dx));
  const auto row_values = static_cast<std::size_t>(width);
  const std::size_t padded_row = row_values + 2 * static_cast<std::size_t>(reach);
  Plane padded(padded_row * static_cast<std::size_t>(height));
  for (int y = 0; y < height; ++y) {
    const std::int32_t* from = in.data() + static_cast<std::size_t>(y) * row_values;
    std::int32_t* to = padded.data() + static_cast<std::size_t>(y) * padded_row;
    std::fill(to, to + reach, from[0]);
    std::copy(from, from + width, to + reach);
    std::fill(to + reach + width, to + padded_row, from[width - 1]);
  }
  Plane out(in.size());
  std::vector<std::int32_t> sum(row_values);
  for (int y = 0; y < height; ++y) {
    std::fill(sum.begin(), sum.end(), 1 << (kernel_bits - 1));
    for (const Tap& tap : taps) {
      const int source = std::clamp(y + tap.dy, 0, height - 1);
      const std::int32_t* from = padded.data() + static_cast<std::size_t>(source) * padded_row + reach + tap.dx;
      const std::int32_t weight = tap.weight;
      for (std::size_t x = 0; x < row_values; ++x) sum[x] += weight * from[x];
    }
    std::int32_t* to = out.data() + static_cast<std::size_t>(y) * row_values;
    for (std::size_t x = 0; x < row_values; ++x) to[x] = sum[x] >> kernel_bits;
  }
  return out;
}

PROMPTIQA_INLINE Plane gaussian_blurred(const Plane& in, int width, int height, double sigma) {
  return convolved(convolved(in, width, height, gaussian_taps(sigma, true)), width, height,
                   gaussian_taps(sigma, false));
}

PROMPTIQA_INLINE Planes gaussian_blurred(const Planes& in, double sigma) {
  Planes out{in.width, in.height, {}};
  for (std::size_t c = 0; c < 3; ++c) out.channel[c] = gaussian_blurred(in.channel[c], in.width, in.height, sigma);
  return out;
}

PROMPTIQA_INLINE Plane median_filtered(const Plane& in, int width, int height, int side) {
  // Huang's sliding histogram: `below` counts window values under the current median.
  const int reach = side / 2, half = side * side / 2;
  const auto row_values = static_cast<std::size_t>(width);
  std::vector<std::uint8_t> bytes(in.size());
  for (std::size_t i = 0; i < in.size(); ++i) bytes[i] = to_byte(in[i]);
  Plane out(in.size());
  for (int y = 0; y < height; ++y) {
    std::array<int, 256> histogram{};
    int median = 0, below = 0;
    const auto change = [&](int x, int step) {
      const auto column = static_cast<std::size_t>(std::clamp(x, 0, width - 1));
      for (int dy = -reach; dy <= reach; ++dy) {
        const auto row = static_cast<std::size_t>(std::clamp(y + dy, 0, height - 1));
        const int value = bytes[row * row_values + column];
        histogram[static_cast<std::size_t>(value)] += step;
        if (value < median) below += step;
      }
    };
    for (int x = -reach; x < reach; ++x) change(x, 1);
    for (int x = 0; x < width; ++x) {
      change(x + reach, 1);
      while (below > half) below -= histogram[static_cast<std::size_t>(--median)];
      while (below + histogram[static_cast<std::size_t>(median)] <= half)
        below += histogram[static_cast<std::size_t>(median++)];
      out[static_cast<std::size_t>(y) * row_values + static_cast<std::size_t>(x)] = median * one_level;
      change(x - reach, -1);
    }
  }
  return out;
}

// Element i of output row or column `at` reads `in[index[k]]` with `weight[k]`, which add to `total`.
struct ResamplingTaps {
  std::vector<std::vector<std::pair<int, std::int64_t>>> of;
  std::int64_t total;
};

inline Plane resampled(const Plane& in, int width, const ResamplingTaps& columns, const ResamplingTaps& rows) {
  const std::size_t in_height = in.size() / static_cast<std::size_t>(width), out_width = columns.of.size();
  Plane along_x(in_height * out_width), out(rows.of.size() * out_width);
  for (std::size_t y = 0; y < in_height; ++y)
    for (std::size_t x = 0; x < out_width; ++x) {
      std::int64_t sum = 0;
      for (const auto& [index, weight] : columns.of[x])
        sum += weight * in[y * static_cast<std::size_t>(width) + static_cast<std::size_t>(index)];
      along_x[y * out_width + x] = static_cast<std::int32_t>(divided(sum, columns.total));
    }
  for (std::size_t y = 0; y < rows.of.size(); ++y)
    for (std::size_t x = 0; x < out_width; ++x) {
      std::int64_t sum = 0;
      for (const auto& [index, weight] : rows.of[y])
        sum += weight * along_x[static_cast<std::size_t>(index) * out_width + x];
      out[y * out_width + x] = static_cast<std::int32_t>(divided(sum, rows.total));
    }
  return out;
}

// In units of 1 / out_size pixel, source pixel j is [j, j + 1) * out_size, output pixel i is [i, i + 1) * in_size.
inline ResamplingTaps area_taps(std::int64_t in_size, std::int64_t out_size) {
  ResamplingTaps taps{{}, in_size};
  for (std::int64_t i = 0; i < out_size; ++i) {
    std::vector<std::pair<int, std::int64_t>> one;
    for (std::int64_t j = i * in_size / out_size; j < in_size && j * out_size < (i + 1) * in_size; ++j)
      one.emplace_back(static_cast<int>(j),
                       std::min((j + 1) * out_size, (i + 1) * in_size) - std::max(j * out_size, i * in_size));
    taps.of.push_back(std::move(one));
  }
  return taps;
}

inline ResamplingTaps bicubic_taps(std::int64_t in_size, std::int64_t out_size) {
  ResamplingTaps taps{{}, 4 * 64 * 64 * 64};
  for (std::int64_t i = 0; i < out_size; ++i) {
    const std::int64_t centre = divided(((2 * i + 1) * in_size - out_size) * 64, 2 * out_size);
    const std::int64_t first = centre >> 6, t = centre & 63, s = 64 - t;
    const std::int64_t weight[4] = {-3 * t * s * s, 5 * t * t * t - 9 * 64 * t * t + taps.total,
                                    5 * s * s * s - 9 * 64 * s * s + taps.total, -3 * s * t * t};
    std::vector<std::pair<int, std::int64_t>> one;
    for (std::int64_t k = 0; k < 4; ++k)
      one.emplace_back(static_cast<int>(std::clamp<std::int64_t>(first + k - 1, 0, in_size - 1)), weight[k]);
    taps.of.push_back(std::move(one));
  }
  return taps;
}

PROMPTIQA_INLINE Plane shrunk(const Plane& in, int width, int height, int out_width, int out_height) {
  return resampled(in, width, area_taps(width, out_width), area_taps(height, out_height));
}

PROMPTIQA_INLINE Plane resized_cubic(const Plane& in, int width, int height, int out_width, int out_height) {
  return resampled(in, width, bicubic_taps(width, out_width), bicubic_taps(height, out_height));
}

}  // namespace promptiqa::distortion
