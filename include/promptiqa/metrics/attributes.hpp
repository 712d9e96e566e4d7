// Properties of a picture, without reference or opinion: brightness, contrast, colourfulness, sharpness, noise.
// Surprising choice: sharpness and noise are taken from the same Laplacian, so a noisy picture also counts as sharp.
#pragma once

#include <promptiqa/core/error.hpp>
#include <promptiqa/core/macros.hpp>
#include <promptiqa/image/image.hpp>

namespace promptiqa {

// Every function reads the picture as 8-bit RGB by the rules of Image::copy_row_rgb8. Luma is
// 0.299 R + 0.587 G + 0.114 B in 0..255, not rounded. Standard deviations and variances are those of the population
// (division by n). Every function throws ImageError when the picture is empty or holds a NaN. All depend on the size
// at which the picture is given: compare pictures of one size.

/// Mean luma, 0 to 255.
double brightness(const Image& image);

/// Standard deviation of luma, 0 to 127.5.
double contrast(const Image& image);

/// Colourfulness of Hasler and Suesstrunk, "Measuring colourfulness in natural images", SPIE 2003: with rg = R - G and
/// yb = (R + G) / 2 - B, the root of their summed variances plus 0.3 times the root of their summed squared means.
/// 0 for a gray picture, about 110 for an extremely colourful one.
double colourfulness(const Image& image);

/// ln(1 + variance of the Laplacian): the 4-neighbour Laplacian of luma where all neighbours exist. 0 for a plain
/// picture. At least 3 x 3 pixels, else ImageError.
double sharpness(const Image& image);

/// Median of |Laplacian| (the same Laplacian), in levels: most of a picture is smooth, so the median tells the noise
/// there. At least 3 x 3 pixels, else ImageError.
double noise(const Image& image);

}  // namespace promptiqa

#if PROMPTIQA_WITH_BODIES
#include <promptiqa/metrics/attributes.ipp>
#endif
