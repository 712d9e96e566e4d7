// Bodies of FSIM and FSIMc.
// Surprising choice: two pictures without any feature, for which the authors' code returns 0 / 0, have equal weights.
#pragma once

#include <algorithm>
#include <cmath>
#include <complex>
#include <cstddef>
#include <memory>

#include <promptiqa/metrics/full_reference.hpp>
#include <promptiqa/metrics/phase_congruency.hpp>
#include <promptiqa/metrics/plane.hpp>

namespace promptiqa {

namespace detail {

// (2 x y + t) / (x^2 + y^2 + t), the similarity that all parts of FSIM use.
inline double fsim_similarity(double x, double y, double t) { return (2 * x * y + t) / (x * x + y * y + t); }

// Y, I or Q of YIQ, shrunk by the factor for pictures of this size.
inline Plane fsim_channel(const Image& image, int r, int g, int b) {
  const int factor = automatic_downsampling(image);
  Plane plane = weighted_channels(image, r, g, b);
  return factor > 1 ? box_downsample(plane, factor, Border::zero) : plane;
}

inline Plane fsim_luma(const Image& image) { return fsim_channel(image, 299, 587, 114); }

// What FSIM compares of a picture's luma.
struct FsimFeatures {
  Plane congruency, gradient;
  FsimFeatures(const Plane& luma, const PhaseCongruency& phase_congruency)
      : congruency(phase_congruency(luma)), gradient(gradient_magnitude(luma, 3.0 / 16, 10.0 / 16)) {}  // Scharr
};

}  // namespace detail

struct FsimReference::Features {
  Image image;
  detail::Plane luma;  // declared before what is made from it
  detail::PhaseCongruency phase_congruency;
  detail::FsimFeatures features;

  explicit Features(const Image& reference)
      : image(to_rgb8(reference)),
        luma(detail::fsim_luma(image)),
        phase_congruency(luma.width, luma.height),
        features(luma, phase_congruency) {}

  double compare(const char* metric, const Image& distorted, bool chromatic) const;
};

PROMPTIQA_INLINE double FsimReference::Features::compare(const char* metric, const Image& distorted,
                                                         bool chromatic) const {
  detail::check_pair(metric, image, distorted, 8);
  const detail::FsimFeatures other(detail::fsim_luma(distorted), phase_congruency);
  const auto alike = detail::fsim_similarity;
  detail::Plane similarity =
      detail::combine(features.gradient, other.gradient, [&](double x, double y) { return alike(x, y, 160); });
  if (chromatic) {
    const detail::Plane i_r = detail::fsim_channel(image, 596, -274, -322);
    const detail::Plane q_r = detail::fsim_channel(image, 211, -523, 312);
    const detail::Plane i_d = detail::fsim_channel(distorted, 596, -274, -322);
    const detail::Plane q_d = detail::fsim_channel(distorted, 211, -523, 312);
    for (std::size_t i = 0; i < similarity.values.size(); ++i) {
      const double colour = alike(i_r.values[i], i_d.values[i], 200) * alike(q_r.values[i], q_d.values[i], 200);
      similarity.values[i] *= std::pow(std::complex<double>(colour), 0.03).real();
    }
  }
  double weighted = 0, weights = 0, unweighted = 0;
  for (std::size_t i = 0; i < similarity.values.size(); ++i) {
    const double r = features.congruency.values[i], d = other.congruency.values[i], weight = std::max(r, d);
    const double value = similarity.values[i] * alike(r, d, 0.85);
    weighted += value * weight;
    weights += weight;
    unweighted += value;
  }
  return weights > 0 ? weighted / weights : unweighted / static_cast<double>(similarity.values.size());
}

PROMPTIQA_INLINE FsimReference::FsimReference(const Image& reference) {
  detail::check_pair("fsim", reference, reference, 8);
  features_ = std::make_shared<const Features>(reference);
}

PROMPTIQA_INLINE double FsimReference::fsim(const Image& distorted) const {
  return features_->compare("fsim", distorted, false);
}

PROMPTIQA_INLINE double FsimReference::fsimc(const Image& distorted) const {
  return features_->compare("fsimc", distorted, true);
}

PROMPTIQA_INLINE double fsim(const Image& reference, const Image& distorted) {
  detail::check_pair("fsim", reference, distorted, 8);
  return FsimReference(reference).fsim(distorted);
}

PROMPTIQA_INLINE double fsimc(const Image& reference, const Image& distorted) {
  detail::check_pair("fsimc", reference, distorted, 8);
  return FsimReference(reference).fsimc(distorted);
}

}  // namespace promptiqa
