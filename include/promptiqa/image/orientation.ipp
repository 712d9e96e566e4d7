// Bodies: EXIF parsing and the eight ways to turn a picture.
// Surprising choice: only the first directory is read and no offset but the first is followed, so there is nothing a
// hostile file could loop through.
#pragma once

#include <algorithm>
#include <cstring>
#include <utility>
#include <vector>

#include <promptiqa/image/byte_reader.hpp>
#include <promptiqa/image/orientation.hpp>

namespace promptiqa {

namespace detail {

// As the outer function, but 0 = no orientation entry, so that a later segment may still have one.
inline int find_orientation(std::span<const std::uint8_t> tiff) {
  const ByteReader reader{tiff};
  const bool little = reader.starts_with(0, "II*\0");
  if (!little && !reader.starts_with(0, "MM\0*")) return 0;
  const std::size_t directory = little ? reader.u32le(4) : reader.u32be(4);
  if (!reader.has(directory, 2)) return 0;
  const std::size_t entries = little ? reader.u16le(directory) : reader.u16be(directory);
  for (std::size_t i = 0; i < entries; ++i) {
    const std::size_t entry = directory + 2 + 12 * i;
    if (!reader.has(entry, 10)) return 0;  // tag, type, count, and the two bytes of the value that matter
    if ((little ? reader.u16le(entry) : reader.u16be(entry)) != 0x0112) continue;
    const std::uint32_t value = little ? reader.u16le(entry + 8) : reader.u16be(entry + 8);
    return value >= 1 && value <= 8 ? static_cast<int>(value) : 1;
  }
  return 0;
}

inline int orientation_from_jpeg(std::span<const std::uint8_t> file) {
  const ByteReader reader{file};
  std::size_t at = 2;  // behind SOI
  while (at < file.size()) {
    if (file[at++] != 0xff) continue;  // garbage between segments
    while (at < file.size() && file[at] == 0xff) ++at;
    const std::uint32_t marker = reader.u8(at++);
    if (marker == 0xda || marker == 0xd9) return 1;              // the first scan, the end
    if (marker <= 0x01 || (marker >= 0xd0 && marker <= 0xd8)) continue;  // markers without a body
    const std::size_t length = reader.u16be(at);
    if (length < 2 || !reader.has(at, length)) return 1;
    if (marker == 0xe1 && length >= 8 && reader.starts_with(at + 2, "Exif\0\0")) {
      const int found = find_orientation(file.subspan(at + 8, length - 8));
      if (found) return found;
    }
    at += length;
  }
  return 1;
}

inline int orientation_from_png(std::span<const std::uint8_t> file) {
  const ByteReader reader{file};
  for (std::size_t at = 8; reader.has(at, 12);) {
    const std::size_t length = reader.u32be(at);
    if (!reader.has(at + 12, length)) return 1;
    if (reader.starts_with(at + 4, "eXIf")) {
      const int found = find_orientation(file.subspan(at + 8, length));
      return found ? found : 1;
    }
    at += 12 + length;
  }
  return 1;
}

}  // namespace detail

PROMPTIQA_INLINE int orientation_from_exif(std::span<const std::uint8_t> tiff) {
  const int found = detail::find_orientation(tiff);
  return found ? found : 1;
}

PROMPTIQA_INLINE int orientation_from_file(std::span<const std::uint8_t> file) {
  const detail::ByteReader reader{file};
  if (reader.starts_with(0, "\xff\xd8\xff")) return detail::orientation_from_jpeg(file);
  if (reader.starts_with(0, "\x89PNG\r\n\x1a\n")) return detail::orientation_from_png(file);
  return 1;
}

PROMPTIQA_INLINE Image apply_orientation(const Image& image, int orientation) {
  const std::string label = detail::image_label(image.name());
  if (image.empty()) throw ImageError(label + ": has no pixels");
  if (orientation < 1 || orientation > 8)
    throw ImageError(label + ": expected an orientation of 1 to 8, got " + std::to_string(orientation));
  if (orientation == 1) return image;
  const bool transpose = orientation >= 5;
  // Which way the output's columns and rows run through the source's x and y.
  const bool flip_x = orientation == 2 || orientation == 3 || orientation == 7 || orientation == 8;
  const bool flip_y = orientation == 3 || orientation == 4 || orientation == 6 || orientation == 7;
  const int width = transpose ? image.height() : image.width();
  const int height = transpose ? image.width() : image.height();
  const std::size_t pixel = static_cast<std::size_t>(image.channels()) * bytes_of(image.type());
  auto pixels = std::make_shared<std::vector<std::uint8_t>>(static_cast<std::size_t>(width) *
                                                            static_cast<std::size_t>(height) * pixel);
  // In tiles: a turned picture is read along columns, and whole columns of a large one do not fit the cache.
  constexpr int tile = 32;
  for (int top = 0; top < height; top += tile)
    for (int left = 0; left < width; left += tile)
      for (int y = top; y < std::min(top + tile, height); ++y) {
        std::uint8_t* out =
            pixels->data() + (static_cast<std::size_t>(y) * static_cast<std::size_t>(width) +
                              static_cast<std::size_t>(left)) * pixel;
        for (int x = left; x < std::min(left + tile, width); ++x, out += pixel) {
          const int along_x = transpose ? y : x, along_y = transpose ? x : y;
          const int source_x = flip_x ? image.width() - 1 - along_x : along_x;
          const int source_y = flip_y ? image.height() - 1 - along_y : along_y;
          std::memcpy(out, image.row(source_y) + static_cast<std::size_t>(source_x) * pixel, pixel);
        }
      }
  std::shared_ptr<const void> first(pixels, pixels->data());
  return Image::owning(std::move(first), image.type(), width, height, image.channels(), 0, image.order(), image.name());
}

}  // namespace promptiqa
