// Plane: one channel of a picture as doubles, and the filters that image metrics are made of.
// Surprising choice: filtering and downsampling are one step where papers do both: fewer pixels are computed.
#pragma once

#include <cstddef>
#include <span>
#include <vector>

#include <promptiqa/core/macros.hpp>
#include <promptiqa/image/image.hpp>

namespace promptiqa::detail {

/// height x width doubles, row-major, zero at first.
struct Plane {
  int width = 0, height = 0;
  std::vector<double> values;

  Plane() = default;
  Plane(int plane_width, int plane_height)
      : width(plane_width),
        height(plane_height),
        values(static_cast<std::size_t>(plane_width) * static_cast<std::size_t>(plane_height)) {}
  double* row(int y) { return values.data() + static_cast<std::size_t>(y) * static_cast<std::size_t>(width); }
  const double* row(int y) const {
    return values.data() + static_cast<std::size_t>(y) * static_cast<std::size_t>(width);
  }
};

/// (r R + g G + b B) / 1000 of every pixel. Throws ImageError for an empty picture or a NaN.
Plane weighted_channels(const Image& image, int r, int g, int b);

/// BT.601 luma, 0.299 R + 0.587 G + 0.114 B, exactly the gray value where R = G = B. Throws as weighted_channels does.
Plane luma(const Image& image);

/// A picture of another size or smaller than least x least: ImageError that names `metric`, the pictures and sizes.
void check_pair(const char* metric, const Image& reference, const Image& distorted, int least);

/// `size` samples of a Gaussian around the middle, sum 1; size odd.
std::vector<double> gaussian_window(int size, double sigma);

/// Correlation with the outer product of `window` with itself, only where it fits ('valid'), every `step`-th pixel of
/// the result in both directions. The picture is at least as large as the window; the window is symmetric and odd.
Plane filter_valid(const Plane& in, std::span<const double> window, int step = 1);

/// What lies outside a picture: zeros, or its mirror image with the border pixel repeated.
enum class Border { zero, mirror };

/// Mean over size x size pixels, rows and columns -(size - 1) / 2 to size / 2 around a pixel, for every size-th pixel.
Plane box_downsample(const Plane& in, int size, Border border);

/// round(min(width, height) / 256), halves up, at least 1: by this the authors of SSIM and FSIM shrink large pictures.
int automatic_downsampling(const Image& image);

/// Length of the gradient from 3 x 3 differences, whose three lines weigh `side`, `middle` and `side`; zeros outside.
Plane gradient_magnitude(const Plane& in, double side, double middle);

/// f(a, b) of every two pixels of planes of one size.
template <class F>
Plane combine(const Plane& a, const Plane& b, F f) {
  Plane out(a.width, a.height);
  for (std::size_t i = 0; i < out.values.size(); ++i) out.values[i] = f(a.values[i], b.values[i]);
  return out;
}

/// The mean of a plane.
double mean(const Plane& plane);

/// The median, of an even number of values the mean of the two middle ones, as NumPy and MATLAB have it. Not of none.
/// Changes the order of the values.
double median(std::vector<double>& values);

}  // namespace promptiqa::detail

#if PROMPTIQA_WITH_BODIES
#include <promptiqa/metrics/plane.ipp>
#endif
