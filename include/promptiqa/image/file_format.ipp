// Bodies: signatures of image files.
// Surprising choice: HEIC and AVIF are told apart by all brands of their "ftyp" box, not by the major one only.
#pragma once

#include <cctype>

#include <promptiqa/image/byte_reader.hpp>
#include <promptiqa/image/file_format.hpp>

namespace promptiqa {

namespace detail {

/// Facts of a TGA header that decoding needs.
struct TgaHeader {
  bool valid = false;  // no contradictions, and of a kind stb_image decodes
  bool run_length = false;
  int width = 0, height = 0;
  std::size_t pixel_bytes = 0;  // in the file: an index or a colour
  std::size_t data_offset = 0;  // behind header, identification and colour map
};

inline TgaHeader parse_tga_header(const ByteReader& file) {
  TgaHeader header;
  if (!file.has(0, 18)) return header;
  const std::uint32_t map_type = file.u8(1), kind = file.u8(2), map_start = file.u16le(3), map_length = file.u16le(5);
  const std::uint32_t map_bits = file.u8(7), bits = file.u8(16), descriptor = file.u8(17);
  const bool indexed = kind == 1 || kind == 9, colour = kind == 2 || kind == 10, gray = kind == 3 || kind == 11;
  if (!indexed && !colour && !gray) return header;
  if (descriptor & 0xc0) return header;  // interleaving nobody used; must be 0
  if (indexed) {
    if (map_type != 1 || map_length == 0 || map_start != 0 || bits != 8) return header;
    if (map_bits != 15 && map_bits != 16 && map_bits != 24 && map_bits != 32) return header;
  } else {
    if (map_type != 0 || map_length != 0) return header;
    if (colour && bits != 15 && bits != 16 && bits != 24 && bits != 32) return header;
    if (gray && bits != 8) return header;
  }
  header.run_length = kind >= 9;
  header.width = static_cast<int>(file.u16le(12));
  header.height = static_cast<int>(file.u16le(14));
  header.pixel_bytes = (bits + 7) / 8;
  header.data_offset = 18 + file.u8(0) + std::size_t{map_length} * ((map_bits + 7) / 8);
  header.valid = header.width > 0 && header.height > 0 && header.data_offset < file.size();
  return header;
}

// True when every pixel the header promises is there. stb_image would make up the missing ones.
inline bool tga_is_complete(const ByteReader& file, const TgaHeader& header) {
  const std::uint64_t pixels = static_cast<std::uint64_t>(header.width) * static_cast<std::uint64_t>(header.height);
  if (!header.run_length) return (file.size() - header.data_offset) / header.pixel_bytes >= pixels;
  std::size_t at = header.data_offset;
  for (std::uint64_t done = 0; done < pixels;) {
    if (!file.has(at, 1)) return false;
    const std::uint32_t packet = file.u8(at);
    const std::size_t count = (packet & 0x7f) + 1;
    const std::size_t bytes = (packet & 0x80 ? 1 : count) * header.pixel_bytes;
    if (!file.has(at + 1, bytes)) return false;
    at += 1 + bytes;
    done += count;
  }
  return true;
}

// A brand anywhere in the ftyp box (the ISO base media file format of HEIC and AVIF).
template <std::size_t N>
bool has_brand(const ByteReader& file, const char (&brand)[N]) {
  if (!file.starts_with(4, "ftyp")) return false;
  const std::size_t end = file.u32be(0) < 256 ? file.u32be(0) : 256;
  for (std::size_t at = 8; at + 4 <= end; at += 4)
    if (at != 12 && file.starts_with(at, brand)) return true;
  return false;
}

}  // namespace detail

PROMPTIQA_INLINE FileFormat identify_format(std::span<const std::uint8_t> bytes) {
  const detail::ByteReader file{bytes};
  if (file.starts_with(0, "\x89PNG\r\n\x1a\n")) return FileFormat::png;
  if (file.starts_with(0, "\xff\xd8\xff")) return FileFormat::jpeg;
  if (file.starts_with(0, "BM") && file.has(0, 26) && file.u32le(14) <= 124) return FileFormat::bmp;
  if (file.u8(0) == 'P' && file.u8(1) >= '1' && file.u8(1) <= '7' && std::isspace(static_cast<int>(file.u8(2))))
    return FileFormat::pnm;
  if (file.starts_with(0, "GIF8")) return FileFormat::gif;
  if (file.starts_with(0, "RIFF") && file.starts_with(8, "WEBP")) return FileFormat::webp;
  if (detail::has_brand(file, "avif") || detail::has_brand(file, "avis")) return FileFormat::avif;
  if (detail::has_brand(file, "heic") || detail::has_brand(file, "heix") || detail::has_brand(file, "hevc") ||
      detail::has_brand(file, "mif1") || detail::has_brand(file, "heif"))
    return FileFormat::heic;
  if (file.starts_with(0, "\xff\x0a") || file.starts_with(4, "JXL ")) return FileFormat::jxl;
  if (file.starts_with(4, "jP  ") || file.starts_with(0, "\xff\x4f\xff\x51")) return FileFormat::jpeg2000;
  if (file.starts_with(0, "II*\0") || file.starts_with(0, "MM\0*") || file.starts_with(0, "II+\0") ||
      file.starts_with(0, "MM\0+"))
    return FileFormat::tiff;
  if (file.starts_with(0, "8BPS")) return FileFormat::psd;
  if (file.starts_with(0, "#?RADIANCE") || file.starts_with(0, "#?RGBE")) return FileFormat::hdr;
  if (file.starts_with(0, "\x76\x2f\x31\x01")) return FileFormat::exr;
  if (file.starts_with(0, "\0\0\1\0")) return FileFormat::ico;
  if (file.starts_with(0, "qoif")) return FileFormat::qoi;
  if (file.starts_with(0, "%PDF")) return FileFormat::pdf;
  if (file.starts_with(0, "<svg")) return FileFormat::svg;
  const detail::TgaHeader tga = detail::parse_tga_header(file);
  if (tga.valid && detail::tga_is_complete(file, tga)) return FileFormat::tga;
  return FileFormat::unknown;
}

PROMPTIQA_INLINE const char* format_name(FileFormat format) {
  switch (format) {
    case FileFormat::png: return "PNG";
    case FileFormat::jpeg: return "JPEG";
    case FileFormat::bmp: return "BMP";
    case FileFormat::tga: return "TGA";
    case FileFormat::pnm: return "PNM";
    case FileFormat::gif: return "GIF";
    case FileFormat::webp: return "WebP";
    case FileFormat::heic: return "HEIC";
    case FileFormat::avif: return "AVIF";
    case FileFormat::jxl: return "JPEG XL";
    case FileFormat::jpeg2000: return "JPEG 2000";
    case FileFormat::tiff: return "TIFF";
    case FileFormat::psd: return "Photoshop";
    case FileFormat::hdr: return "Radiance HDR";
    case FileFormat::exr: return "OpenEXR";
    case FileFormat::ico: return "ICO";
    case FileFormat::qoi: return "QOI";
    case FileFormat::pdf: return "PDF";
    case FileFormat::svg: return "SVG";
    case FileFormat::unknown: break;
  }
  return "unknown";
}

PROMPTIQA_INLINE bool is_decodable(FileFormat format) {
  return format == FileFormat::png || format == FileFormat::jpeg || format == FileFormat::bmp ||
         format == FileFormat::tga || format == FileFormat::pnm;
}

PROMPTIQA_INLINE bool has_image_extension(const std::string& path) {
  const std::size_t name = path.find_last_of("/\\") == std::string::npos ? 0 : path.find_last_of("/\\") + 1;
  const std::size_t dot = path.rfind('.');
  if (dot == std::string::npos || dot <= name) return false;  // ".png" alone is a hidden file's name
  std::string extension = path.substr(dot + 1);
  for (char& c : extension) c = static_cast<char>(std::tolower(static_cast<unsigned char>(c)));
  for (const char* known : {"png", "jpg", "jpeg", "jpe", "jfif", "bmp", "dib", "tga", "pnm", "ppm", "pgm"})
    if (extension == known) return true;
  return false;
}

}  // namespace promptiqa
