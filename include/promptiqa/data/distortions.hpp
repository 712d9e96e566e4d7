// Ways to make a photograph worse, each at five levels: what TID2013 and KADID-10k are made of. Opt-in like
// image/file.hpp: header-only use needs stb_image and stb_image_write.
// Surprising choice: one seed gives one pattern of noise (or of lost blocks, or one direction) that only grows from
// level to level, so a series of levels is a series.
#pragma once

#include <cstdint>
#include <string_view>

#include <promptiqa/image/image.hpp>

namespace promptiqa {

/// Levels of every distortion: 1 (hardly visible) to 5 (very annoying).
constexpr int distortion_levels = 5;

/// How many kinds there are; they are numbered from 0.
int distortion_count();

/// "gaussian_blur", "jpeg" and so on. Throws Error unless 0 <= distortion < distortion_count().
const char* distortion_name(int distortion);

/// The number of a name. Throws Error for an unknown one.
int distortion_index(std::string_view name);

/// The picture, as 8-bit RGB of its own size, spoiled. The same arguments give the same bytes on every machine (kinds
/// with JPEG in them: with the same version of stb). Lengths are in pixels: a level does more to a small picture. Gray
/// pictures count as RGB: colour noise and colour shift colour them, and kinds that only spread or scale colour
/// (desaturation, oversaturation, colour_diffusion) leave them as they are. Kinds that draw nothing ignore the seed.
/// PSNR falls from level to level on nearly every picture. One thread, 5 to 60 ms for 768 x 512 pixels. Throws Error
/// unless 0 <= distortion < distortion_count() and 1 <= level <= distortion_levels, ImageError for a picture smaller
/// than 8 x 8 or with NaN pixels.
Image distort(const Image& image, int distortion, int level, std::uint64_t seed);

}  // namespace promptiqa

#if PROMPTIQA_WITH_BODIES
#include <promptiqa/data/distortions.ipp>
#endif
