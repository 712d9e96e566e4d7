// Fast Fourier transforms of any length in double precision, for phase congruency.
// Surprising choice: eight transforms run side by side, so that every step is vector code whatever the length.
#pragma once

#include <cstddef>
#include <memory>
#include <vector>

#include <promptiqa/core/error.hpp>
#include <promptiqa/core/macros.hpp>

namespace promptiqa::detail {

/// Eight complex series of one length, side by side: value i of series `lane` is at [i * lanes + lane].
struct FftBlock {
  static constexpr int lanes = 8;

  explicit FftBlock(int size);
  std::vector<double> re, im;
  std::vector<double> spare_re, spare_im;  // room for Fft to work in
};

/// Discrete Fourier transform of one length. Cheap for products of 2, 3 and 5, dearer by the largest prime factor, and
/// never worse than n log n. Immutable, so threads may share one.
class Fft {
 public:
  /// Throws ShapeError unless 1 <= size <= 2^28.
  explicit Fft(int size);

  int size() const { return size_; }

  /// X[k] = sum over j of x[j] exp(-2 pi i j k / size), in place, of all lanes.
  void forward(FftBlock& block) const;

  /// x[j] = sum over k of X[k] exp(+2 pi i j k / size): not divided by size.
  void inverse(FftBlock& block) const;

 private:
  // One step of a mixed-radix transform.
  struct Pass {
    int radix;
    std::vector<double> twiddle_re, twiddle_im;  // [p * radix + j] = exp(-2 pi i p j / length at this step)
    std::vector<double> root_re, root_im;        // radix-th roots of unity
  };
  // A length with a large prime factor, as a convolution with a chirp at a length without one (Bluestein 1970).
  struct Chirp;

  void run_passes(FftBlock& block) const;
  void run_chirp(FftBlock& block) const;

  int size_;
  std::vector<Pass> passes_;
  std::shared_ptr<const Chirp> chirp_;  // null where passes_ do it
};

}  // namespace promptiqa::detail

#if PROMPTIQA_WITH_BODIES
#include <promptiqa/metrics/fft.ipp>
#endif
