// Bodies of luma planes and their filters.
// Surprising choice: a separable filter runs down the columns into one row buffer and then along that row, so there is
// no intermediate picture; inner loops run along a row, which compilers turn into vector code.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <limits>
#include <string>

#include <promptiqa/metrics/plane.hpp>

namespace promptiqa::detail {

PROMPTIQA_INLINE Plane weighted_channels(const Image& image, int r, int g, int b) {
  if (image.empty()) throw ImageError(image_label(image.name()) + ": has no pixels");
  Plane plane(image.width(), image.height());
  std::vector<std::uint8_t> converted(image.is_rgb8() ? 0 : static_cast<std::size_t>(image.width()) * 3);
  for (int y = 0; y < image.height(); ++y) {
    const std::uint8_t* rgb = image.row(y);
    if (!image.is_rgb8()) {
      image.copy_row_rgb8(y, converted.data());
      rgb = converted.data();
    }
    double* out = plane.row(y);
    for (int x = 0; x < image.width(); ++x, rgb += 3) out[x] = (r * rgb[0] + g * rgb[1] + b * rgb[2]) / 1000.0;
  }
  return plane;
}

// In thousandths the sum is an integer, so the luma of a gray pixel is that gray exactly.
PROMPTIQA_INLINE Plane luma(const Image& image) { return weighted_channels(image, 299, 587, 114); }

PROMPTIQA_INLINE void check_pair(const char* metric, const Image& reference, const Image& distorted, int least) {
  const auto size = [](const Image& image) {
    return std::to_string(image.width()) + " x " + std::to_string(image.height());
  };
  for (const Image* image : {&reference, &distorted})
    if (image->empty()) throw ImageError(std::string(metric) + ": " + image_label(image->name()) + " has no pixels");
  if (reference.width() != distorted.width() || reference.height() != distorted.height())
    throw ImageError(std::string(metric) + ": reference and distorted picture must have one size, got " +
                     image_label(reference.name()) + " of " + size(reference) + " and " +
                     image_label(distorted.name()) + " of " + size(distorted));
  if (reference.width() < least || reference.height() < least)
    throw ImageError(std::string(metric) + ": " + image_label(reference.name()) + " must have at least " +
                     std::to_string(least) + " x " + std::to_string(least) + " pixels, got " + size(reference));
}

PROMPTIQA_INLINE std::vector<double> gaussian_window(int size, double sigma) {
  std::vector<double> window(static_cast<std::size_t>(size));
  double sum = 0;
  for (int i = 0; i < size; ++i) {
    const double distance = i - (size - 1) / 2;
    sum += window[static_cast<std::size_t>(i)] = std::exp(-distance * distance / (2 * sigma * sigma));
  }
  for (double& weight : window) weight /= sum;
  return window;
}

PROMPTIQA_INLINE Plane filter_valid(const Plane& in, std::span<const double> window, int step) {
  const int size = static_cast<int>(window.size()), middle = size / 2;
  const int valid_width = in.width - size + 1, valid_height = in.height - size + 1;
  Plane out((valid_width + step - 1) / step, (valid_height + step - 1) / step);
  std::vector<double> column_sums(static_cast<std::size_t>(in.width)), row_sums(static_cast<std::size_t>(valid_width));
  double *columns = column_sums.data(), *sums = row_sums.data();
  for (int y = 0; y < out.height; ++y) {
    const double* centre = in.row(y * step + middle);
    for (int x = 0; x < in.width; ++x) columns[x] = window[static_cast<std::size_t>(middle)] * centre[x];
    for (int k = 1; k <= middle; ++k) {
      const double *above = in.row(y * step + middle - k), *below = in.row(y * step + middle + k);
      const double weight = window[static_cast<std::size_t>(middle + k)];
      for (int x = 0; x < in.width; ++x) columns[x] += weight * (above[x] + below[x]);
    }
    for (int x = 0; x < valid_width; ++x) sums[x] = window[static_cast<std::size_t>(middle)] * columns[x + middle];
    for (int k = 1; k <= middle; ++k) {
      const double *left = columns + middle - k, *right = columns + middle + k;
      const double weight = window[static_cast<std::size_t>(middle + k)];
      for (int x = 0; x < valid_width; ++x) sums[x] += weight * (left[x] + right[x]);
    }
    double* target = out.row(y);
    for (int x = 0; x < out.width; ++x) target[x] = sums[x * step];
  }
  return out;
}

// Where coordinate i of n lies in the picture, or -1 for a zero outside it.
inline int border_index(int i, int n, Border border) {
  if (border == Border::zero) return i < 0 || i >= n ? -1 : i;
  while (i < 0 || i >= n) i = i < 0 ? -1 - i : 2 * n - 1 - i;
  return i;
}

PROMPTIQA_INLINE Plane box_downsample(const Plane& in, int size, Border border) {
  Plane out((in.width - 1) / size + 1, (in.height - 1) / size + 1);
  std::vector<double> columns(static_cast<std::size_t>(in.width));
  const int before = (size - 1) / 2;
  const double weight = 1.0 / (static_cast<double>(size) * size);
  for (int y = 0; y < out.height; ++y) {
    std::fill(columns.begin(), columns.end(), 0.0);
    for (int k = 0; k < size; ++k) {
      const int source = border_index(y * size - before + k, in.height, border);
      if (source < 0) continue;
      const double* row = in.row(source);
      for (int x = 0; x < in.width; ++x) columns[static_cast<std::size_t>(x)] += row[x];
    }
    double* target = out.row(y);
    for (int x = 0; x < out.width; ++x) {
      double sum = 0;
      for (int k = 0; k < size; ++k) {
        const int source = border_index(x * size - before + k, in.width, border);
        if (source >= 0) sum += columns[static_cast<std::size_t>(source)];
      }
      target[x] = sum * weight;
    }
  }
  return out;
}

PROMPTIQA_INLINE int automatic_downsampling(const Image& image) {
  return std::max(1, (std::min(image.width(), image.height()) - 128) / 256 + 1);
}

PROMPTIQA_INLINE Plane gradient_magnitude(const Plane& in, double side, double middle) {
  Plane out(in.width, in.height);
  const auto padded_width = static_cast<std::size_t>(in.width) + 2;
  const std::vector<double> zeros(padded_width);
  // Weighted sum and difference along the three rows of a column, with one zero before and after.
  std::vector<double> sums(padded_width), differences(padded_width);
  double *sum = sums.data() + 1, *difference = differences.data() + 1;
  for (int y = 0; y < in.height; ++y) {
    const double* above = y > 0 ? in.row(y - 1) : zeros.data();
    const double* here = in.row(y);
    const double* below = y + 1 < in.height ? in.row(y + 1) : zeros.data();
    for (int x = 0; x < in.width; ++x) {
      sum[x] = side * (above[x] + below[x]) + middle * here[x];
      difference[x] = below[x] - above[x];
    }
    double* target = out.row(y);
    for (int x = 0; x < in.width; ++x) {
      const double horizontal = sum[x + 1] - sum[x - 1];
      const double vertical = side * (difference[x - 1] + difference[x + 1]) + middle * difference[x];
      target[x] = std::sqrt(horizontal * horizontal + vertical * vertical);
    }
  }
  return out;
}

PROMPTIQA_INLINE double mean(const Plane& plane) {
  double sum = 0;
  for (double value : plane.values) sum += value;
  return sum / static_cast<double>(plane.values.size());
}

PROMPTIQA_INLINE double median(std::vector<double>& values) {
  const auto middle = values.begin() + static_cast<std::ptrdiff_t>(values.size() / 2);
  std::nth_element(values.begin(), middle, values.end());
  return values.size() % 2 == 1 ? *middle : 0.5 * (*middle + *std::max_element(values.begin(), middle));
}

}  // namespace promptiqa::detail
