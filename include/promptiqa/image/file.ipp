// Bodies of load_image: reads the file, recognises the format, checks, decodes, turns.
// Surprising choice: only regular files are opened; opening a pipe would block until somebody writes to it.
#pragma once

#include <filesystem>
#include <fstream>
#include <system_error>
#include <utility>
#include <vector>

#include <promptiqa/image/decoders.hpp>
#include <promptiqa/image/file.hpp>
#include <promptiqa/image/jpeg_check.ipp>
#include <promptiqa/image/orientation.hpp>
#include <promptiqa/image/plain_formats.ipp>
#include <promptiqa/image/png_check.ipp>
#include <promptiqa/image/stb_decoder.ipp>

namespace promptiqa {

namespace detail {

inline std::vector<std::uint8_t> read_file(const std::string& path, std::uint64_t max_bytes) {
  namespace fs = std::filesystem;
  std::error_code error;
  const fs::file_status status = fs::status(path, error);
  if (status.type() == fs::file_type::not_found) throw FileError("image file '" + path + "': no such file");
  if (error) throw FileError("image file '" + path + "': " + error.message());
  if (status.type() == fs::file_type::directory) throw FileError("image file '" + path + "': is a folder");
  if (status.type() != fs::file_type::regular) throw FileError("image file '" + path + "': is not a regular file");
  const std::uintmax_t size = fs::file_size(path, error);
  if (error) throw FileError("image file '" + path + "': " + error.message());
  if (size == 0) throw ImageError("image '" + path + "': the file is empty");
  if (size > max_bytes)
    throw ImageError("image '" + path + "': the file has " + std::to_string(size) + " bytes, the limit is " +
                     std::to_string(max_bytes));
  std::ifstream in(path, std::ios::binary);
  if (!in) throw FileError("image file '" + path + "': cannot be opened for reading");
  std::vector<std::uint8_t> bytes(static_cast<std::size_t>(size));
  in.read(reinterpret_cast<char*>(bytes.data()), static_cast<std::streamsize>(size));
  if (static_cast<std::uintmax_t>(in.gcount()) != size)
    throw FileError("image file '" + path + "': read " + std::to_string(in.gcount()) + " of " + std::to_string(size) +
                    " bytes");
  return bytes;
}

inline Image decode(Bytes file, const ImageOptions& options, const std::string& name) {
  const FileFormat format = identify_format(file);
  switch (format) {
    case FileFormat::png: {
      const CheckedStream png = check_png(file, name, options.max_pixels);
      return decode_with_stb(png.bytes, png.largest_block, "PNG", name);
    }
    case FileFormat::jpeg: {
      const CheckedStream jpeg = check_jpeg(file, name, options.max_pixels);
      return decode_with_stb(jpeg.bytes, jpeg.largest_block, "JPEG", name);
    }
    case FileFormat::tga: {
      const TgaHeader tga = parse_tga_header(ByteReader{file});
      check_size(name, static_cast<std::uint64_t>(tga.width), static_cast<std::uint64_t>(tga.height),
                 options.max_pixels);
      const std::size_t pixels = static_cast<std::size_t>(tga.width) * static_cast<std::size_t>(tga.height);
      return decode_with_stb(file, pixels * 4 + (1u << 19), "TGA", name);
    }
    case FileFormat::bmp: return decode_bmp(file, name, options.max_pixels);
    case FileFormat::pnm: return decode_pnm(file, name, options.max_pixels);
    case FileFormat::unknown:
      throw ImageError(image_label(name) + ": not an image of a known format (PNG, JPEG, BMP, TGA, PNM), or damaged");
    default:
      throw ImageError(image_label(name) + ": " + format_name(format) +
                       " is not supported (PNG, JPEG, BMP, TGA and PNM are)");
  }
}

}  // namespace detail

PROMPTIQA_INLINE Image load_image_from_memory(std::span<const std::uint8_t> file, const ImageOptions& options,
                                              const std::string& name) {
  if (file.empty()) throw ImageError(detail::image_label(name) + ": the file is empty");
  // stb_image counts bytes in int.
  const std::uint64_t limit = options.max_file_bytes < 0x7fff0000u ? options.max_file_bytes : 0x7fff0000u;
  if (file.size() > limit)
    throw ImageError(detail::image_label(name) + ": the file has " + std::to_string(file.size()) +
                     " bytes, the limit is " + std::to_string(limit));
  const Image image = detail::decode(file, options, name);
  return options.apply_orientation ? apply_orientation(image, orientation_from_file(file)) : image;
}

PROMPTIQA_INLINE Image load_image(const std::string& path, const ImageOptions& options) {
  const std::vector<std::uint8_t> file = detail::read_file(path, options.max_file_bytes);
  return load_image_from_memory(file, options, path);
}

}  // namespace promptiqa
