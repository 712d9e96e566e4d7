// A picture through a JPEG encoder and back, in memory. Opt-in like image/file.hpp: needs stb's image and image_write.
// Surprising choice: decoded by load_image's decoder, so the pixels are those of a file saved and scored.
#pragma once

#include <cstdint>
#include <vector>

#include <promptiqa/image/image.hpp>

namespace promptiqa {

/// The picture as a baseline JPEG file; quality 1 to 100, chroma at half resolution up to 90. Throws Error for another
/// quality, ImageError for an empty picture or one of more than 65535 pixels a side.
std::vector<std::uint8_t> encode_jpeg(const Image& image, int quality);

/// encode_jpeg, decoded again; keeps the name.
Image jpeg_compressed(const Image& image, int quality);

}  // namespace promptiqa

#if PROMPTIQA_WITH_BODIES
#include <promptiqa/data/jpeg.ipp>
#endif
