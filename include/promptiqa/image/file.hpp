// Reading pictures from files: PNG, JPEG, BMP, TGA and binary PNM. Opt-in: the only header that needs stb_image.
// Surprising choice: a damaged file is an error where other readers guess (a grey lower half, made-up pixels): a score
// for half a picture would look like any other score.
//
// Pixels follow cv2.imread(path, IMREAD_COLOR), except that JPEG decoders differ by a few levels. Details:
// - 16-bit PNG and PNM: the high byte. PNM values are not rescaled when maxval is not 255. 16-bit BMP: low bits zero.
// - Palette, tRNS, alpha: colours as stored, transparency ignored. Gamma and colour profiles are ignored.
// - CMYK and YCCK JPEG: stored inverted as Adobe writes them, with or without Adobe's marker.
// - Truncated files, wrong PNG checksums, JPEG without an end marker: ImageError. A JPEG whose coded data is damaged
//   but whose structure is whole may still decode to wrong pixels: nothing in the format can tell.
//
// In header-only mode each translation unit that includes this header gets its own static stb_image; with
// promptiqa::compiled it exists once, in the library, and stb_image.h is not needed by users.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>

#include <promptiqa/image/file_format.hpp>
#include <promptiqa/image/image.hpp>

namespace promptiqa {

/// Limits against files that are hostile or broken, and how to treat orientation.
struct ImageOptions {
  std::uint64_t max_pixels = 100'000'000;             // width * height; checked before anything is decoded
  std::uint64_t max_file_bytes = 512u * 1024 * 1024;  // checked before the file is read
  bool apply_orientation = true;                      // turn by EXIF, as cv2.imread does
};

/// Reads and decodes a picture; its name() is the path. The format is recognised by content, not by extension.
/// Throws FileError when the path is missing, unreadable or no regular file (a folder, a pipe, a device), ImageError
/// when the contents are no picture, of a format that is not supported (which is named), damaged, or beyond the limits.
Image load_image(const std::string& path, const ImageOptions& options = {});

/// The same for a file's bytes in memory, which are not needed afterwards. `name` is for messages and name().
Image load_image_from_memory(std::span<const std::uint8_t> file, const ImageOptions& options = {},
                             const std::string& name = {});

}  // namespace promptiqa

#if PROMPTIQA_WITH_BODIES
#include <promptiqa/image/file.ipp>
#endif
