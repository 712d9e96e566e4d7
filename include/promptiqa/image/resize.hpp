// Bicubic resizing by OpenCV's INTER_CUBIC convention, the one the model was trained with.
// Surprising choice: there is no antialiasing, also when shrinking 20 times: each output value reads 4 x 4 source
// pixels and no others. Wrong for looking at, right for scores that must match, and nearly independent of source size.
#pragma once

#include <cstdint>

#include <promptiqa/image/image.hpp>

namespace promptiqa {

/// Writes `image`, converted to 8-bit RGB, resized to out_height x out_width as tightly packed 8-bit RGB rows:
/// a = -0.75, half-pixel centres, border pixels replicated, computed in float, rounded to nearest, clamped.
/// `out` has room for out_height * out_width * 3 bytes and does not overlap the image. The aspect ratio is the caller's
/// affair. Throws ImageError for an empty image, an output size that is not positive, or NaN pixels.
void resize_cubic(const Image& image, int out_height, int out_width, std::uint8_t* out);

/// The same as a new Image that keeps the name.
Image resize_cubic(const Image& image, int out_height, int out_width);

/// The same, keeping the aspect ratio, so that the shorter side gets `pixels` (lengths rounded to nearest). Throws
/// ImageError when pixels is not positive or the result would have more than 100 million pixels.
Image resize_short_side(const Image& image, int pixels);

}  // namespace promptiqa

#if PROMPTIQA_WITH_BODIES
#include <promptiqa/image/resize.ipp>
#endif
