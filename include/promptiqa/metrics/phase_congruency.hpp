// Phase congruency: how well the Fourier components of a picture agree in phase at a pixel, which marks features.
// Surprising choice: the filters depend on the size of the picture only, so one bank serves reference and distorted.
#pragma once

#include <array>
#include <cstddef>
#include <vector>

#include <promptiqa/core/macros.hpp>
#include <promptiqa/metrics/fft.hpp>
#include <promptiqa/metrics/plane.hpp>

namespace promptiqa::detail {

/// A plane in groups of eight columns, each row by row: a group is what FftBlock holds, so transforms along columns
/// read and write straight through memory. The last group has columns of zeros where the width is not a multiple of
/// eight.
class GroupedPlane {
 public:
  GroupedPlane() = default;
  GroupedPlane(int width, int height);

  int width() const { return width_; }
  int height() const { return height_; }
  int groups() const { return (width_ + FftBlock::lanes - 1) / FftBlock::lanes; }
  double* group(int g) { return values_.data() + static_cast<std::size_t>(g) * group_size(); }
  const double* group(int g) const { return values_.data() + static_cast<std::size_t>(g) * group_size(); }
  std::size_t group_size() const { return static_cast<std::size_t>(height_) * FftBlock::lanes; }
  double& at(int x, int y) { return values_[index(x, y)]; }
  double at(int x, int y) const { return values_[index(x, y)]; }

  /// Rows 8 g to 8 g + 7 as the lanes of a block of width() values; zeros where there is no such row.
  void copy_rows(int g, double* block) const;

 private:
  std::size_t index(int x, int y) const {
    return static_cast<std::size_t>(x / FftBlock::lanes) * group_size() +
           static_cast<std::size_t>(y) * FftBlock::lanes + static_cast<std::size_t>(x % FftBlock::lanes);
  }

  int width_ = 0, height_ = 0;
  std::vector<double> values_;
};

/// Kovesi's phase congruency with the log-Gabor filters and the noise threshold of FSIM's phasecong2.m: 4 scales from a
/// wavelength of 6 pixels, doubling; 4 orientations; sigma on f 0.55; angular sigma (pi / 4) / 1.2; low pass
/// 1 / (1 + (f / 0.45)^30); k = 2, the noise estimate divided by 1.7; epsilon 0.0001.
class PhaseCongruency {
 public:
  /// For pictures of this size.
  PhaseCongruency(int width, int height);

  /// The map, 0 to 1, of a picture of that size. 0 where no filter answers at all, for which phasecong2.m has 0 / 0.
  Plane operator()(const Plane& picture) const;

 private:
  static constexpr int scales = 4, orientations = 4;

  double noise_threshold(std::vector<double>& finest_energy, int orientation) const;

  int width_, height_;
  Fft along_x_, along_y_;
  // Transfer functions are radial_[scale] * angular_[orientation], frequency zero first; transposed, because the
  // transform along x is the last one there and the first one back.
  std::array<GroupedPlane, scales> radial_;
  std::array<GroupedPlane, orientations> angular_;
  std::array<double, orientations> noise_gain_;  // of the summed response, over that of the finest scale
};

}  // namespace promptiqa::detail

#if PROMPTIQA_WITH_BODIES
#include <promptiqa/metrics/phase_congruency.ipp>
#endif
