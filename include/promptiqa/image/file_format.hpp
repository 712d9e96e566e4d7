// Which image format a file has, by its first bytes; which names look like images, for folder scans.
// Surprising choice: formats that cannot be decoded are recognised too, so that the error can name them.
#pragma once

#include <cstdint>
#include <span>
#include <string>

#include <promptiqa/core/macros.hpp>

namespace promptiqa {

enum class FileFormat {
  png, jpeg, bmp, tga, pnm,  // decoded by load_image
  gif, webp, heic, avif, jxl, jpeg2000, tiff, psd, hdr, exr, ico, qoi, pdf, svg,  // recognised only
  unknown
};

/// The format of a file's contents. TGA has no signature: its header must be free of contradictions and the file large
/// enough for the pixels it promises.
FileFormat identify_format(std::span<const std::uint8_t> file);

/// "PNG", "JPEG" and so on, for messages.
const char* format_name(FileFormat format);

/// True when load_image can decode the format.
bool is_decodable(FileFormat format);

/// True when the path ends in .png .jpg .jpeg .jpe .jfif .bmp .dib .tga .pnm .ppm or .pgm, in any case.
bool has_image_extension(const std::string& path);

}  // namespace promptiqa

#if PROMPTIQA_WITH_BODIES
#include <promptiqa/image/file_format.ipp>
#endif
