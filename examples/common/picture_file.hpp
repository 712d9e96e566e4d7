// Pixels to PNG.
// Surprising choice: encoded in memory, then written and renamed, so that a stopped run leaves no half file.
#pragma once

#include <cstdint>
#include <stdexcept>
#include <string>
#include <vector>

#include <promptiqa/io/atomic_file.hpp>

#include "raster.hpp"

#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wunused-function"
#pragma GCC diagnostic ignored "-Wmissing-field-initializers"
#define STB_IMAGE_WRITE_IMPLEMENTATION
#define STB_IMAGE_WRITE_STATIC
#define STBI_WRITE_NO_STDIO
#include <stb_image_write.h>
#pragma GCC diagnostic pop

namespace examples {

namespace detail {
inline void append_bytes(void* target, void* data, int size) {
  auto& bytes = *static_cast<std::vector<std::uint8_t>*>(target);
  const auto* first = static_cast<const std::uint8_t*>(data);
  bytes.insert(bytes.end(), first, first + size);
}
}  // namespace detail

/// Writes the photo as a PNG file. Throws promptiqa::FileError.
inline void write_png(const std::string& path, const Photo& photo) {
  std::vector<std::uint8_t> bytes;
  if (!stbi_write_png_to_func(detail::append_bytes, &bytes, photo.width, photo.height, 3, photo.rgb.data(),
                              3 * photo.width))
    throw std::runtime_error(path + ": PNG encoding failed");
  promptiqa::AtomicFile file(path);
  file.write(bytes.data(), bytes.size());
  file.commit();
}

}  // namespace examples
