// The Fourier transforms of phase congruency against their definition, of every kind of length.
// Surprising choice: each lane has a signal of its own, so a mix-up of lanes shows.
#include <promptiqa/metrics/fft.hpp>

#include <cmath>
#include <complex>
#include <random>
#include <vector>

#include "catch.hpp"

using namespace promptiqa;
using detail::Fft;
using detail::FftBlock;

namespace {

constexpr int lanes = FftBlock::lanes;

FftBlock random_block(int size) {
  std::mt19937 random(static_cast<unsigned>(size));
  FftBlock block(size);
  for (std::vector<double>* part : {&block.re, &block.im})
    for (double& value : *part) value = static_cast<double>(random() % 2001) / 1000 - 1;
  return block;
}

}  // namespace

// 131 and 134 = 2 * 67: one prime beyond those done directly, and one within; 1 does nothing.
TEST_CASE("transforms of every kind of length equal their definition and come back") {
  for (int size : {1, 2, 3, 4, 5, 6, 7, 8, 9, 11, 12, 15, 16, 25, 30, 60, 64, 77, 97, 127, 131, 134, 262, 320, 321}) {
    INFO(size);
    const Fft fft(size);
    CHECK(fft.size() == size);
    const FftBlock input = random_block(size);
    FftBlock block = input;
    fft.forward(block);
    double worst = 0;
    for (int k = 0; k < size; ++k)
      for (int lane = 0; lane < lanes; ++lane) {
        std::complex<double> sum = 0;
        for (int j = 0; j < size; ++j) {
          const auto at = static_cast<std::size_t>(j * lanes + lane);
          sum += std::complex<double>(input.re[at], input.im[at]) * std::polar(1.0, -2 * M_PI * (j * k % size) / size);
        }
        const auto at = static_cast<std::size_t>(k * lanes + lane);
        const double error = std::abs(sum - std::complex<double>(block.re[at], block.im[at]));
        worst = std::isfinite(error) ? std::max(worst, error) : INFINITY;
      }
    // The definition's own sum of `size` terms of size 1 is off by a few size * 2^-53.
    CHECK(worst < 1e-14 * (size + 10));
    fft.inverse(block);
    worst = 0;
    for (std::size_t i = 0; i < block.re.size(); ++i)
      worst = std::max({worst, std::abs(block.re[i] / size - input.re[i]), std::abs(block.im[i] / size - input.im[i])});
    CHECK(worst < 1e-13);
  }
}

TEST_CASE("lengths that make no sense are refused") {
  CHECK_THROWS_AS(Fft(0), ShapeError);
  CHECK_THROWS_AS(Fft(-3), ShapeError);
  CHECK_THROWS_AS(Fft((1 << 28) + 1), ShapeError);
}
