// From a picture to the model's input: 8-bit RGB, resized, scaled to -1..1, channels first.
// Surprising choice: the aspect ratio is not kept and values pass through 8 bits after the resize, because the
// model was trained that way.
#pragma once

#include <promptiqa/image/image.hpp>

namespace promptiqa {

/// Writes the picture as float (3, size, size): 8-bit RGB, resize_cubic to size x size, x / 255, (x - 0.5) / 0.5.
/// `out_chw` has room for 3 * size * size floats. Throws ImageError for an empty image, NaN pixels or size < 1.
void preprocess_to_chw(const Image& image, int size, float* out_chw);

}  // namespace promptiqa

#if PROMPTIQA_WITH_BODIES
#include <promptiqa/image/preprocess.ipp>
#endif
