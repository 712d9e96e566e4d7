// Bodies of jpeg.hpp: the one place that knows stb_image_write.
// Surprising choice: fused multiply-adds are switched off for its cosine transform, or the same picture would be coded
// differently on machines that have them.
#pragma once

#include <promptiqa/data/jpeg.hpp>
#include <promptiqa/image/file.hpp>

#if defined(INCLUDE_STB_IMAGE_WRITE_H)
#error "include <promptiqa/data/jpeg.hpp> before <stb_image_write.h>, or link promptiqa::compiled"
#endif

#define STB_IMAGE_WRITE_IMPLEMENTATION
#define STB_IMAGE_WRITE_STATIC
#define STBI_WRITE_NO_STDIO
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wpragmas"
#pragma GCC diagnostic ignored "-Wunused-function"
#pragma GCC diagnostic ignored "-Wmissing-field-initializers"
#pragma GCC diagnostic ignored "-Wold-style-cast"
#pragma GCC diagnostic ignored "-Wsign-compare"
#pragma GCC diagnostic ignored "-Wcast-qual"
#if defined(__clang__)
#pragma clang fp contract(off)
#elif defined(__GNUC__)
#pragma GCC push_options
#pragma GCC optimize("fp-contract=off")
#endif
#include <stb_image_write.h>
#if defined(__clang__)
#pragma clang fp contract(on)
#elif defined(__GNUC__)
#pragma GCC pop_options
#endif
#pragma GCC diagnostic pop
#undef STB_IMAGE_WRITE_IMPLEMENTATION
#undef STB_IMAGE_WRITE_STATIC
#undef STBI_WRITE_NO_STDIO

namespace promptiqa {

namespace detail {
inline void append_jpeg_bytes(void* target, void* data, int size) {
  auto& bytes = *static_cast<std::vector<std::uint8_t>*>(target);
  const auto* first = static_cast<const std::uint8_t*>(data);
  bytes.insert(bytes.end(), first, first + size);
}
}  // namespace detail

PROMPTIQA_INLINE std::vector<std::uint8_t> encode_jpeg(const Image& image, int quality) {
  if (quality < 1 || quality > 100)
    throw Error("encode_jpeg: quality must be 1 to 100, got " + std::to_string(quality));
  if (image.width() > 65535 || image.height() > 65535)
    throw ImageError(detail::image_label(image.name()) + ": too large for JPEG");
  const Image rgb = to_rgb8(image);
  const std::size_t row_bytes = static_cast<std::size_t>(rgb.width()) * 3;
  std::vector<std::uint8_t> packed;
  const std::uint8_t* pixels = rgb.row(0);
  if (rgb.row_stride() != row_bytes) {  // the encoder knows no stride
    for (int y = 0; y < rgb.height(); ++y) packed.insert(packed.end(), rgb.row(y), rgb.row(y) + row_bytes);
    pixels = packed.data();
  }
  std::vector<std::uint8_t> bytes;
  if (!stbi_write_jpg_to_func(detail::append_jpeg_bytes, &bytes, rgb.width(), rgb.height(), 3, pixels, quality))
    throw ImageError(detail::image_label(image.name()) + ": JPEG encoding failed");
  return bytes;
}

PROMPTIQA_INLINE Image jpeg_compressed(const Image& image, int quality) {
  return load_image_from_memory(encode_jpeg(image, quality), {}, image.name());
}

}  // namespace promptiqa
