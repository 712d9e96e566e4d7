// Full-reference image quality: PSNR, SSIM, MS-SSIM, FSIM, GMSD and VIF of a distorted picture against its reference.
// Surprising choice: all but PSNR and FSIMc look at luma only, and luma is not rounded to 8 bits.
#pragma once

#include <memory>

#include <promptiqa/core/error.hpp>
#include <promptiqa/core/macros.hpp>
#include <promptiqa/image/image.hpp>

namespace promptiqa {

// Every function reads both pictures as 8-bit RGB by the rules of Image::copy_row_rgb8 (gray is repeated, alpha
// dropped). "Luma" is 0.299 R + 0.587 G + 0.114 B (BT.601) in 0..255, not rounded; exactly the gray value of a gray
// picture. Every function throws ImageError when the sizes differ, a picture is empty, holds a NaN or is too small.
// Thread safe. Costs are of one thread and a pair of 480 x 320 pictures on a 2023 server core.

/// Peak signal-to-noise ratio in dB: 10 log10(255^2 / MSE), the mean over all pixels and all three channels.
/// Identical pictures: +infinity. Any size. About 0.1 ms.
double psnr(const Image& reference, const Image& distorted);

/// Structural similarity, at most 1, higher is better: Wang, Bovik, Sheikh, Simoncelli, "Image quality assessment: from
/// error visibility to structural similarity", IEEE TIP 2004, as the authors' ssim.m computes it. On luma; 11 x 11
/// Gaussian window of sigma 1.5, weighted population moments, only where the window fits entirely ('valid'), mean of
/// the map; K1 = 0.01, K2 = 0.03, L = 255. Before that, with f = round(min(width, height) / 256), if f > 1: mean over
/// f x f pixels, borders mirrored, then every f-th pixel. At least 11 x 11 pixels after that. About 6 ms.
double ssim(const Image& reference, const Image& distorted);

/// Multi-scale structural similarity, 0 to 1, higher is better: Wang, Simoncelli, Bovik, "Multiscale structural
/// similarity for image quality assessment", Asilomar 2003, as the authors' msssim.m computes it: five scales with
/// exponents 0.0448, 0.2856, 0.3001, 0.2363, 0.1333, mean contrast-structure of the first four times mean SSIM of the
/// fifth, windows and constants as in ssim() without its first downsampling; between scales mean over 2 x 2 pixels,
/// borders mirrored, then every second pixel. A scale whose mean is negative counts as 0 (msssim.m returns a complex
/// number there). At least 176 x 176 pixels. About 7 ms.
double ms_ssim(const Image& reference, const Image& distorted);

/// Feature similarity, 0 to 1, higher is better: Zhang, Zhang, Mou, Zhang, "FSIM: a feature similarity index for image
/// quality assessment", IEEE TIP 2011, as the authors' FeatureSIM.m computes it. On luma; with
/// F = round(min(width, height) / 256), if F > 1: mean over F x F pixels, zeros outside, then every F-th pixel; phase
/// congruency by phasecong2.m (4 scales, 4 orientations), Scharr gradients / 16, T1 = 0.85, T2 = 160, weighted by the
/// larger phase congruency. Two pictures without any feature, for which FeatureSIM.m returns 0 / 0, are weighted
/// equally. At least 8 x 8 pixels. About 110 ms, or 40 with FsimReference; more where a side has large prime factors
/// (481 x 321: 140 and 60 ms).
double fsim(const Image& reference, const Image& distorted);

/// FSIMc of the same paper: FSIM with the similarity of I and Q of YIQ (T3 = T4 = 200, lambda = 0.03; the real part of
/// the power where similarities are negative, as in FeatureSIM.m). Equals fsim() for gray pictures.
double fsimc(const Image& reference, const Image& distorted);

/// FSIM and FSIMc of many distorted versions of one picture, whose features are computed once. Cheap to copy; safe to
/// use from many threads. Holds about 100 bytes a pixel.
class FsimReference {
 public:
  /// Throws ImageError as fsim() does.
  explicit FsimReference(const Image& reference);

  /// fsim(reference, distorted), the very same value.
  double fsim(const Image& distorted) const;

  /// fsimc(reference, distorted), the very same value.
  double fsimc(const Image& distorted) const;

 private:
  struct Features;
  std::shared_ptr<const Features> features_;
};

/// Gradient magnitude similarity deviation, LOWER is better, 0 = identical: Xue, Zhang, Mou, Bovik, "Gradient magnitude
/// similarity deviation: a highly efficient perceptual image quality index", IEEE TIP 2014, as the authors' GMSD.m
/// computes it. On luma: mean over 2 x 2 pixels and every second pixel, Prewitt gradients / 3 (both with zeros outside
/// the picture), T = 170, sample standard deviation (n - 1) of the map. At least 3 x 3 pixels. About 1 ms.
double gmsd(const Image& reference, const Image& distorted);

/// Visual information fidelity in the pixel domain, 0 = nothing left, 1 = identical, may exceed 1 for enhanced
/// contrast, higher is better: Sheikh, Bovik, "Image information and visual quality", IEEE TIP 2006, in the authors'
/// multi-scale pixel version vifp_mscale.m. On luma; scales 1 to 4 with Gaussian windows of 17, 9, 5 and 3 pixels and
/// sigma = size / 5, 'valid' filtering; before scales 2 to 4 the picture is filtered with that scale's window and every
/// second pixel kept; noise variance 2. A reference without any variation, for which vifp_mscale.m returns 0 / 0,
/// gives 1. At least 41 x 41 pixels. About 12 ms.
double vif(const Image& reference, const Image& distorted);

}  // namespace promptiqa

#if PROMPTIQA_WITH_BODIES
#include <promptiqa/metrics/fsim.ipp>
#include <promptiqa/metrics/full_reference.ipp>
#endif
