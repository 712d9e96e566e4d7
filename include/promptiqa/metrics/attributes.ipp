// Bodies of the picture attributes.
// Surprising choice: colourfulness sums integers, so a gray picture has exactly 0.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <string>
#include <vector>

#include <promptiqa/metrics/attributes.hpp>
#include <promptiqa/metrics/plane.hpp>

namespace promptiqa {

namespace detail {

inline double variance(const std::vector<double>& values) {
  double sum = 0, squares = 0;
  for (double value : values) sum += value;
  const double mean = sum / static_cast<double>(values.size());
  for (double value : values) squares += (value - mean) * (value - mean);
  return squares / static_cast<double>(values.size());
}

// 4 c - up - down - left - right of luma, without the outermost pixels.
inline std::vector<double> laplacian(const char* attribute, const Image& image) {
  const Plane plane = luma(image);
  if (plane.width < 3 || plane.height < 3)
    throw ImageError(std::string(attribute) + ": " + image_label(image.name()) +
                     " must have at least 3 x 3 pixels, got " + std::to_string(plane.width) + " x " +
                     std::to_string(plane.height));
  std::vector<double> values;
  values.reserve(static_cast<std::size_t>(plane.width - 2) * static_cast<std::size_t>(plane.height - 2));
  for (int y = 1; y + 1 < plane.height; ++y) {
    const double *above = plane.row(y - 1), *here = plane.row(y), *below = plane.row(y + 1);
    for (int x = 1; x + 1 < plane.width; ++x)
      values.push_back(4 * here[x] - above[x] - below[x] - here[x - 1] - here[x + 1]);
  }
  return values;
}

}  // namespace detail

PROMPTIQA_INLINE double brightness(const Image& image) { return detail::mean(detail::luma(image)); }

PROMPTIQA_INLINE double contrast(const Image& image) { return std::sqrt(detail::variance(detail::luma(image).values)); }

PROMPTIQA_INLINE double colourfulness(const Image& image) {
  const Image rgb = to_rgb8(image);
  // Sums of rg and of 2 yb, both integers, and of their squares; at most 510^2 a pixel, so 2^45 pixels fit.
  std::int64_t rg_sum = 0, rg_squares = 0, yb_sum = 0, yb_squares = 0;
  for (int y = 0; y < rgb.height(); ++y) {
    const std::uint8_t* row = rgb.row(y);
    for (int x = 0; x < rgb.width(); ++x, row += 3) {
      const int rg = row[0] - row[1], yb = row[0] + row[1] - 2 * row[2];
      rg_sum += rg, rg_squares += rg * rg, yb_sum += yb, yb_squares += yb * yb;
    }
  }
  const double count = static_cast<double>(rgb.width()) * rgb.height();
  const double rg_mean = static_cast<double>(rg_sum) / count, yb_mean = static_cast<double>(yb_sum) / (2 * count);
  const double rg_variance = static_cast<double>(rg_squares) / count - rg_mean * rg_mean;
  const double yb_variance = static_cast<double>(yb_squares) / (4 * count) - yb_mean * yb_mean;
  return std::sqrt(std::max(0.0, rg_variance + yb_variance)) + 0.3 * std::hypot(rg_mean, yb_mean);
}

PROMPTIQA_INLINE double sharpness(const Image& image) {
  return std::log1p(detail::variance(detail::laplacian("sharpness", image)));
}

PROMPTIQA_INLINE double noise(const Image& image) {
  std::vector<double> values = detail::laplacian("noise", image);
  for (double& value : values) value = std::abs(value);
  return detail::median(values);
}

}  // namespace promptiqa
