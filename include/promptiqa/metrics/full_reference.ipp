// Bodies of PSNR, SSIM, MS-SSIM, GMSD and VIF.
// Surprising choice: SSIM needs the two variances only as their sum, so four filtered planes do instead of five.
#pragma once

#include <algorithm>
#include <array>
#include <cmath>
#include <cstdint>
#include <limits>
#include <string>
#include <vector>

#include <promptiqa/metrics/full_reference.hpp>
#include <promptiqa/metrics/plane.hpp>

namespace promptiqa {

namespace detail {

inline constexpr double ssim_c1 = (0.01 * 255) * (0.01 * 255), ssim_c2 = (0.03 * 255) * (0.03 * 255);
inline constexpr int ssim_window = 11;

// Means of the SSIM map and of its contrast-structure factor.
struct Similarity {
  double ssim, contrast_structure;
};

inline Similarity structural_similarity(const Plane& a, const Plane& b) {
  const std::vector<double> window = gaussian_window(ssim_window, 1.5);
  const Plane mean_a = filter_valid(a, window), mean_b = filter_valid(b, window);
  const Plane squares = filter_valid(combine(a, b, [](double x, double y) { return x * x + y * y; }), window);
  const Plane products = filter_valid(combine(a, b, [](double x, double y) { return x * y; }), window);
  double ssim_sum = 0, contrast_sum = 0;
  for (std::size_t i = 0; i < products.values.size(); ++i) {
    const double mean_product = mean_a.values[i] * mean_b.values[i];
    const double mean_squares = mean_a.values[i] * mean_a.values[i] + mean_b.values[i] * mean_b.values[i];
    const double contrast =
        (2 * (products.values[i] - mean_product) + ssim_c2) / (squares.values[i] - mean_squares + ssim_c2);
    contrast_sum += contrast;
    ssim_sum += contrast * (2 * mean_product + ssim_c1) / (mean_squares + ssim_c1);
  }
  const auto count = static_cast<double>(products.values.size());
  return {ssim_sum / count, contrast_sum / count};
}

// What one scale of VIF adds to both sums, in nats.
inline void add_vif_scale(const Plane& reference, const Plane& distorted, const std::vector<double>& window,
                          double& kept, double& total) {
  constexpr double noise = 2, least = 1e-10;
  const Plane mean_r = filter_valid(reference, window), mean_d = filter_valid(distorted, window);
  const auto product = [](double x, double y) { return x * y; };
  const Plane square_r = filter_valid(combine(reference, reference, product), window);
  const Plane square_d = filter_valid(combine(distorted, distorted, product), window);
  const Plane products = filter_valid(combine(reference, distorted, product), window);
  for (std::size_t i = 0; i < products.values.size(); ++i) {
    double variance_r = std::max(0.0, square_r.values[i] - mean_r.values[i] * mean_r.values[i]);
    const double variance_d = std::max(0.0, square_d.values[i] - mean_d.values[i] * mean_d.values[i]);
    const double covariance = products.values[i] - mean_r.values[i] * mean_d.values[i];
    double gain = covariance / (variance_r + least), residual = variance_d - gain * covariance;
    if (variance_r < least) gain = 0, residual = variance_d, variance_r = 0;
    if (variance_d < least) gain = 0, residual = 0;
    if (gain < 0) gain = 0, residual = variance_d;
    residual = std::max(residual, least);
    kept += std::log1p(gain * gain * variance_r / (residual + noise));
    total += std::log1p(variance_r / noise);
  }
}

}  // namespace detail

PROMPTIQA_INLINE double psnr(const Image& reference, const Image& distorted) {
  detail::check_pair("psnr", reference, distorted, 1);
  const Image a = to_rgb8(reference), b = to_rgb8(distorted);
  const std::size_t row_values = 3 * static_cast<std::size_t>(a.width());
  double sum = 0;
  for (int y = 0; y < a.height(); ++y) {
    const std::uint8_t *p = a.row(y), *q = b.row(y);
    std::uint64_t row_sum = 0;
    for (std::size_t x = 0; x < row_values; ++x) {
      const int difference = p[x] - q[x];
      row_sum += static_cast<std::uint32_t>(difference * difference);
    }
    sum += static_cast<double>(row_sum);
  }
  if (sum == 0) return std::numeric_limits<double>::infinity();
  return 10 * std::log10(255.0 * 255.0 * static_cast<double>(row_values) * a.height() / sum);
}

PROMPTIQA_INLINE double ssim(const Image& reference, const Image& distorted) {
  detail::check_pair("ssim", reference, distorted, detail::ssim_window);  // a picture that is shrunk is larger anyway
  detail::Plane a = detail::luma(reference), b = detail::luma(distorted);
  const int factor = detail::automatic_downsampling(reference);
  if (factor > 1) {
    a = detail::box_downsample(a, factor, detail::Border::mirror);
    b = detail::box_downsample(b, factor, detail::Border::mirror);
  }
  return detail::structural_similarity(a, b).ssim;
}

PROMPTIQA_INLINE double ms_ssim(const Image& reference, const Image& distorted) {
  constexpr std::array<double, 5> exponents = {0.0448, 0.2856, 0.3001, 0.2363, 0.1333};
  detail::check_pair("ms_ssim", reference, distorted, detail::ssim_window << (exponents.size() - 1));
  detail::Plane a = detail::luma(reference), b = detail::luma(distorted);
  double product = 1;
  for (std::size_t scale = 0; scale < exponents.size(); ++scale) {
    if (scale > 0) {
      a = detail::box_downsample(a, 2, detail::Border::mirror);
      b = detail::box_downsample(b, 2, detail::Border::mirror);
    }
    const detail::Similarity similarity = detail::structural_similarity(a, b);
    const double factor = scale + 1 < exponents.size() ? similarity.contrast_structure : similarity.ssim;
    product *= std::pow(std::max(factor, 0.0), exponents[scale]);
  }
  return product;
}

PROMPTIQA_INLINE double gmsd(const Image& reference, const Image& distorted) {
  constexpr double t = 170;
  detail::check_pair("gmsd", reference, distorted, 3);
  const auto gradient = [](const Image& image) {
    const detail::Plane half = detail::box_downsample(detail::luma(image), 2, detail::Border::zero);
    return detail::gradient_magnitude(half, 1.0 / 3, 1.0 / 3);  // Prewitt
  };
  const detail::Plane map = detail::combine(gradient(reference), gradient(distorted),
                                            [](double x, double y) { return (2 * x * y + t) / (x * x + y * y + t); });
  const double mean = detail::mean(map);
  double squares = 0;
  for (double value : map.values) squares += (value - mean) * (value - mean);
  return std::sqrt(squares / static_cast<double>(map.values.size() - 1));
}

PROMPTIQA_INLINE double vif(const Image& reference, const Image& distorted) {
  detail::check_pair("vif", reference, distorted, 41);
  detail::Plane a = detail::luma(reference), b = detail::luma(distorted);
  // Moves no variance, and keeps rounding in E[x^2] - E[x]^2 of plain areas well below the 1e-10 that counts as plain.
  for (detail::Plane* plane : {&a, &b})
    for (double& value : plane->values) value -= 128;
  double kept = 0, total = 0;
  for (int scale = 1; scale <= 4; ++scale) {
    const int size = (1 << (5 - scale)) + 1;
    const std::vector<double> window = detail::gaussian_window(size, size / 5.0);
    if (scale > 1) {
      a = detail::filter_valid(a, window, 2);
      b = detail::filter_valid(b, window, 2);
    }
    detail::add_vif_scale(a, b, window, kept, total);
  }
  return total > 0 ? kept / total : 1;
}

}  // namespace promptiqa
