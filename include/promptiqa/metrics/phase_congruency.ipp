// Bodies of phase congruency.
// Surprising choice: phasecong2.m transforms every filter back to estimate its answer to noise; by Parseval's theorem
// the same sums are taken over the transfer functions themselves.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstddef>

#include <promptiqa/metrics/phase_congruency.hpp>

namespace promptiqa::detail {

// Frequencies of an n-point transform in cycles per pixel as phasecong2.m has them: odd lengths divide by n - 1.
inline std::vector<double> frequencies(int n) {
  std::vector<double> f(static_cast<std::size_t>(n));
  for (int i = 0; i < n; ++i) {
    const int signed_index = i <= (n - 1) / 2 ? i : i - n;
    f[static_cast<std::size_t>(i)] = static_cast<double>(signed_index) / (n % 2 == 0 ? n : std::max(n - 1, 1));
  }
  return f;
}

PROMPTIQA_INLINE GroupedPlane::GroupedPlane(int width, int height)
    : width_(width), height_(height), values_(static_cast<std::size_t>(groups()) * group_size()) {}

PROMPTIQA_INLINE void GroupedPlane::copy_rows(int g, double* block) const {
  constexpr int lanes = FftBlock::lanes;
  const int first = g * lanes, rows = std::min(lanes, height_ - first);
  for (int from = 0; from < groups(); ++from) {
    const double* tile = group(from) + static_cast<std::size_t>(first) * lanes;
    double* out = block + static_cast<std::size_t>(from) * lanes * lanes;
    const int columns = std::min(lanes, width_ - from * lanes);
    if (rows == lanes && columns == lanes) {
      for (int x = 0; x < lanes; ++x)
        for (int y = 0; y < lanes; ++y) out[x * lanes + y] = tile[y * lanes + x];
    } else {
      for (int x = 0; x < columns; ++x)
        for (int y = 0; y < lanes; ++y) out[x * lanes + y] = y < rows ? tile[y * lanes + x] : 0;
    }
  }
}

// Real and imaginary part of a picture or a spectrum.
struct ComplexPlane {
  GroupedPlane re, im;
  ComplexPlane(int width, int height) : re(width, height), im(width, height) {}
};

PROMPTIQA_INLINE PhaseCongruency::PhaseCongruency(int width, int height)
    : width_(width), height_(height), along_x_(width), along_y_(height) {
  constexpr double pi = 3.14159265358979323846, theta_sigma = pi / orientations / 1.2;
  const double radial_denominator = 2 * std::log(0.55) * std::log(0.55);
  for (GroupedPlane& plane : radial_) plane = GroupedPlane(height, width);
  for (GroupedPlane& plane : angular_) plane = GroupedPlane(height, width);
  const std::vector<double> fx = frequencies(width), fy = frequencies(height);
  for (int x = 0; x < width; ++x)
    for (int y = 0; y < height; ++y) {
      const double u = fx[static_cast<std::size_t>(x)], v = fy[static_cast<std::size_t>(y)], theta = std::atan2(-v, u);
      for (int o = 0; o < orientations; ++o) {
        double distance = std::abs(theta - o * pi / orientations);
        distance = std::min(distance, 2 * pi - distance);
        angular_[static_cast<std::size_t>(o)].at(y, x) =
            std::exp(-distance * distance / (2 * theta_sigma * theta_sigma));
      }
      const double squared_radius = u * u + v * v;
      if (squared_radius == 0) continue;  // no filter lets the mean pass
      const int mirror_x = x > width / 2 ? width - x : x, mirror_y = y > height / 2 ? height - y : y;
      if (mirror_x < x || mirror_y < y) {  // |frequency| of an earlier one
        for (GroupedPlane& plane : radial_) plane.at(y, x) = plane.at(mirror_y, mirror_x);
        continue;
      }
      const double log_radius = 0.5 * std::log(squared_radius);
      const double low_pass = 1 / (1 + std::pow(squared_radius / (0.45 * 0.45), 15));
      for (int s = 0; s < scales; ++s) {
        const double octaves = log_radius + std::log(6.0 * (1 << s));
        radial_[static_cast<std::size_t>(s)].at(y, x) = low_pass * std::exp(-octaves * octaves / radial_denominator);
      }
    }
  // Noise of power 1 gives the finest scale the mean square `finest`, and the sum over scales that of `summed`, of
  // which phasecong2.m takes the even part, the real part of the filters' impulse responses.
  for (std::size_t o = 0; o < orientations; ++o) {
    double finest = 0, summed = 0;
    for (int x = 0; x < width; ++x)
      for (int y = 0; y < height; ++y) {
        const double angular = angular_[o].at(y, x);
        const double even = 0.5 * (angular + angular_[o].at(y > 0 ? height - y : 0, x > 0 ? width - x : 0));
        double radial = 0;
        for (const GroupedPlane& plane : radial_) radial += plane.at(y, x);
        const double filter = radial_[0].at(y, x) * angular;
        finest += filter * filter;
        summed += radial * radial * even * even;
      }
    noise_gain_[o] = finest > 0 ? summed / finest : 0;
  }
}

// Answers of all scales at eight pixels side by side to the energy that agrees in phase and to their summed amplitude.
// Even answers are real parts, odd ones imaginary parts.
inline void phase_energy(const std::array<const double*, 4>& even, const std::array<const double*, 4>& odd,
                         double* energy, double* amplitude, double* finest) {
  constexpr double epsilon = 0.0001;
  for (int lane = 0; lane < FftBlock::lanes; ++lane) {
    double even_sum = 0, odd_sum = 0, amplitudes = 0;
    for (std::size_t s = 0; s < even.size(); ++s) {
      even_sum += even[s][lane];
      odd_sum += odd[s][lane];
      amplitudes += std::sqrt(even[s][lane] * even[s][lane] + odd[s][lane] * odd[s][lane]);
    }
    const double inverse = 1 / (std::sqrt(even_sum * even_sum + odd_sum * odd_sum) + epsilon);
    const double mean_even = even_sum * inverse, mean_odd = odd_sum * inverse;
    double sum = 0;
    for (std::size_t s = 0; s < even.size(); ++s)
      sum += even[s][lane] * mean_even + odd[s][lane] * mean_odd -
             std::abs(even[s][lane] * mean_odd - odd[s][lane] * mean_even);
    energy[lane] = sum;
    amplitude[lane] = amplitudes;
    finest[lane] = even[0][lane] * even[0][lane] + odd[0][lane] * odd[0][lane];
  }
}

// The energy that noise alone would reach, from the median answer of the finest scale, which is mostly noise.
PROMPTIQA_INLINE double PhaseCongruency::noise_threshold(std::vector<double>& finest_energy, int orientation) const {
  constexpr double half_pi = 1.57079632679489661923;
  const double mean = median(finest_energy) / std::log(2.0);  // of an exponential distribution
  const double tau = std::sqrt(mean * noise_gain_[static_cast<std::size_t>(orientation)]);
  return (tau * std::sqrt(half_pi) + 2 * tau * std::sqrt(2 - half_pi)) / 1.7;
}

PROMPTIQA_INLINE Plane PhaseCongruency::operator()(const Plane& picture) const {
  constexpr int lanes = FftBlock::lanes;
  const double scale = 1.0 / (static_cast<double>(width_) * height_);
  FftBlock row_block(width_);
  std::array<FftBlock, scales> column_blocks = {FftBlock(height_), FftBlock(height_), FftBlock(height_),
                                                FftBlock(height_)};

  ComplexPlane half_way(width_, height_), spectrum(height_, width_);  // the spectrum is transposed
  for (int g = 0; g < half_way.re.groups(); ++g) {
    FftBlock& block = column_blocks[0];
    const int count = std::min(lanes, width_ - g * lanes);
    std::fill(block.re.begin(), block.re.end(), 0.0);
    std::fill(block.im.begin(), block.im.end(), 0.0);
    for (int y = 0; y < height_; ++y)
      std::copy_n(picture.row(y) + g * lanes, count, block.re.data() + static_cast<std::size_t>(y) * lanes);
    along_y_.forward(block);
    std::copy(block.re.begin(), block.re.end(), half_way.re.group(g));
    std::copy(block.im.begin(), block.im.end(), half_way.im.group(g));
  }
  for (int g = 0; g < spectrum.re.groups(); ++g) {
    half_way.re.copy_rows(g, row_block.re.data());
    half_way.im.copy_rows(g, row_block.im.data());
    along_x_.forward(row_block);
    std::copy(row_block.re.begin(), row_block.re.end(), spectrum.re.group(g));
    std::copy(row_block.im.begin(), row_block.im.end(), spectrum.im.group(g));
  }

  Plane energy_sum(width_, height_), amplitude_sum(width_, height_), energy(width_, height_), finest(width_, height_);
  const ComplexPlane answer(height_, width_);
  std::array<ComplexPlane, scales> answers = {answer, answer, answer, answer};  // transposed, half transformed
  for (int o = 0; o < orientations; ++o) {
    for (std::size_t s = 0; s < scales; ++s)
      for (int g = 0; g < spectrum.re.groups(); ++g) {
        const double *radial = radial_[s].group(g), *angular = angular_[static_cast<std::size_t>(o)].group(g);
        const double *re = spectrum.re.group(g), *im = spectrum.im.group(g);
        for (std::size_t i = 0; i < row_block.re.size(); ++i) {
          const double filter = radial[i] * angular[i] * scale;
          row_block.re[i] = re[i] * filter;
          row_block.im[i] = im[i] * filter;
        }
        along_x_.inverse(row_block);
        std::copy(row_block.re.begin(), row_block.re.end(), answers[s].re.group(g));
        std::copy(row_block.im.begin(), row_block.im.end(), answers[s].im.group(g));
      }
    for (int x = 0, g = 0; x < width_; x += lanes, ++g) {
      for (std::size_t s = 0; s < scales; ++s) {
        answers[s].re.copy_rows(g, column_blocks[s].re.data());
        answers[s].im.copy_rows(g, column_blocks[s].im.data());
        along_y_.inverse(column_blocks[s]);
      }
      const int count = std::min(lanes, width_ - x);
      for (int y = 0; y < height_; ++y) {
        std::array<const double*, scales> even, odd;
        for (std::size_t s = 0; s < scales; ++s) {
          even[s] = column_blocks[s].re.data() + static_cast<std::size_t>(y) * lanes;
          odd[s] = column_blocks[s].im.data() + static_cast<std::size_t>(y) * lanes;
        }
        double energies[lanes], amplitudes[lanes], finest_energies[lanes];
        phase_energy(even, odd, energies, amplitudes, finest_energies);
        std::copy_n(energies, count, energy.row(y) + x);
        std::copy_n(finest_energies, count, finest.row(y) + x);
        for (int lane = 0; lane < count; ++lane) amplitude_sum.row(y)[x + lane] += amplitudes[lane];
      }
    }
    const double threshold = noise_threshold(finest.values, o);
    for (std::size_t i = 0; i < energy.values.size(); ++i)
      energy_sum.values[i] += std::max(energy.values[i] - threshold, 0.0);
  }
  return combine(energy_sum, amplitude_sum, [](double e, double a) { return a > 0 ? e / a : 0.0; });
}

}  // namespace promptiqa::detail
