// Pictures to the model's input on the device of a Context: preprocess_to_chw for a batch.
// Surprising choice: a device resizes itself, from the bytes as they are: only the rows that are read are uploaded, and
// the result has the bits that the CPU computes.
#pragma once

#include <span>

#include <promptiqa/core/context.hpp>
#include <promptiqa/image/image.hpp>

namespace promptiqa {

/// The pictures as (count, 3, size, size), in the memory of ctx's device, as preprocess_to_chw makes them; ctx's pool
/// works on several at once. Throws ImageError for an empty image, NaN pixels or size < 1.
template <class T>
Tensor<T> prepare_images(Context& ctx, std::span<const Image> images, int size);

}  // namespace promptiqa

#if PROMPTIQA_WITH_BODIES
#include <promptiqa/image/prepare.ipp>
#endif
