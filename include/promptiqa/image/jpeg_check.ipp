// Checks a JPEG file and writes it anew with nothing but the segments that pixels come from.
// Surprising choice: it refuses what libjpeg refuses too (tables used before they are defined, more than 256 Huffman
// codes, components never coded), because stb_image 2.27 then overruns its tables or shows uninitialised memory.
#pragma once

#include <array>
#include <cstdint>

#include <promptiqa/image/byte_reader.hpp>
#include <promptiqa/image/decoders.hpp>

namespace promptiqa::detail {

/// One pass over the segments of a JPEG file.
class JpegChecker {
 public:
  JpegChecker(Bytes bytes, const std::string& name, std::uint64_t max_pixels)
      : bytes_(bytes), file_{bytes}, name_(name), max_pixels_(max_pixels) {}

  CheckedStream run() {
    out_.bytes.reserve(bytes_.size() + 16);
    out_.bytes = {0xff, 0xd8};
    at_ = 2;
    for (;;) {
      const std::uint32_t marker = next_marker();
      if (marker == 0xd9) break;
      if (marker <= 0x01 || (marker >= 0xd0 && marker <= 0xd8)) continue;  // no body
      const std::size_t length = file_.u16be(at_);
      if (length < 2 || !file_.has(at_, length)) throw fail("truncated inside a segment");
      segment_ = bytes_.subspan(at_, length);
      const bool keep = check_segment(marker, ByteReader{segment_});
      if (keep) append(marker, segment_);
      at_ += length;
      if (marker == 0xda) copy_scan();
    }
    if (components_ == 0) throw fail("no frame header");
    for (std::size_t c = 0; c < components_; ++c)
      if (!component_[c].coded) throw fail("a colour component has no data");
    out_.bytes.push_back(0xff);
    out_.bytes.push_back(0xd9);
    return std::move(out_);
  }

 private:
  struct Component {
    std::uint32_t id = 0;
    std::uint32_t quantisation = 0;
    bool coded = false;
  };

  ImageError fail(const std::string& what) const { return ImageError(image_label(name_) + ": JPEG: " + what); }

  // Skips what does not belong to a segment, as libjpeg does.
  std::uint32_t next_marker() {
    for (;;) {
      while (at_ < bytes_.size() && bytes_[at_] != 0xff) ++at_;
      while (at_ < bytes_.size() && bytes_[at_] == 0xff) ++at_;
      if (at_ >= bytes_.size()) throw fail("truncated: there is no end marker");
      const std::uint32_t marker = bytes_[at_++];
      if (marker != 0) return marker;
    }
  }

  void append(std::uint32_t marker, Bytes body) {
    out_.bytes.push_back(0xff);
    out_.bytes.push_back(static_cast<std::uint8_t>(marker));
    out_.bytes.insert(out_.bytes.end(), body.begin(), body.end());
  }

  // Segments include their two bytes of length. True when decoding needs the segment.
  bool check_segment(std::uint32_t marker, const ByteReader& segment) {
    switch (marker) {
      case 0xdb: check_quantisation(segment); return true;
      case 0xc4: check_huffman(segment); return true;
      case 0xdd:
        if (segment.size() != 4) throw fail("restart interval of wrong length");
        return true;
      case 0xc0: case 0xc1: case 0xc2: check_frame(marker == 0xc2, segment); return true;
      case 0xda: check_scan(segment); return true;
      case 0xe0: return segment.starts_with(2, "JFIF\0");
      case 0xee:
        if (!segment.starts_with(2, "Adobe") || segment.size() < 14) return false;
        adobe_ = true;
        return true;
      case 0xc3: case 0xc5: case 0xc6: case 0xc7:
        throw fail("lossless and hierarchical JPEG is not supported");
      case 0xc9: case 0xca: case 0xcb: case 0xcc: case 0xcd: case 0xce: case 0xcf:
        throw fail("arithmetic coding is not supported");
      default: return false;
    }
  }

  void check_quantisation(const ByteReader& segment) {
    std::size_t at = 2;
    while (at < segment.size()) {
      const std::uint32_t precision = segment.u8(at) >> 4, table = segment.u8(at) & 15;
      const std::size_t bytes = 1 + (precision ? 128u : 64u);
      if (precision > 1 || table > 3 || !segment.has(at, bytes)) throw fail("broken quantisation table");
      quantisation_[table] = true;
      at += bytes;
    }
  }

  // stb_image 2.27 writes code lengths beyond its table when there are more than 256 codes.
  void check_huffman(const ByteReader& segment) {
    std::size_t at = 2;
    while (at < segment.size()) {
      const std::uint32_t kind = segment.u8(at) >> 4, table = segment.u8(at) & 15;
      if (kind > 1 || table > 3 || !segment.has(at, 17)) throw fail("broken Huffman table");
      std::size_t codes = 0;
      std::uint32_t next = 0;  // canonical code, of the current length
      for (std::size_t length = 1; length <= 16; ++length) {
        const std::uint32_t count = segment.u8(at + length);
        codes += count;
        next += count;
        if (next > 1u << length) throw fail("Huffman table with impossible code lengths");
        next <<= 1;
      }
      if (codes > 256 || !segment.has(at + 17, codes)) throw fail("broken Huffman table");
      huffman_[kind][table] = true;
      at += 17 + codes;
    }
  }

  void check_frame(bool progressive, const ByteReader& segment) {
    if (components_ != 0) throw fail("two frame headers");
    if (segment.u8(2) != 8) throw fail(std::to_string(segment.u8(2)) + " bits a sample; only 8 are supported");
    const std::uint32_t count = segment.u8(7);
    if (count != 1 && count != 3 && count != 4) throw fail(std::to_string(count) + " colour components");
    if (segment.size() != 8 + 3 * std::size_t{count}) throw fail("frame header of wrong length");
    check_size(name_, segment.u16be(5), segment.u16be(3), max_pixels_);
    std::uint32_t widest = 1, tallest = 1;
    for (std::size_t c = 0; c < count; ++c) {
      const std::uint32_t h = segment.u8(9 + 3 * c) >> 4, v = segment.u8(9 + 3 * c) & 15;
      component_[c].id = segment.u8(8 + 3 * c);
      component_[c].quantisation = segment.u8(10 + 3 * c);
      if (h < 1 || h > 4 || v < 1 || v > 4 || component_[c].quantisation > 3) throw fail("broken frame header");
      for (std::size_t other = 0; other < c; ++other)
        if (component_[other].id == component_[c].id) throw fail("two colour components of one name");
      widest = h > widest ? h : widest;
      tallest = v > tallest ? v : tallest;
    }
    components_ = count;
    progressive_ = progressive;
    out_.width = static_cast<int>(segment.u16be(5));
    out_.height = static_cast<int>(segment.u16be(3));
    // The coefficients of one component, or the output, whichever is larger; both padded to whole blocks.
    const std::uint64_t wide = static_cast<std::uint64_t>(out_.width) + 8 * widest;
    const std::uint64_t tall = static_cast<std::uint64_t>(out_.height) + 8 * tallest;
    out_.largest_block = static_cast<std::size_t>(wide * tall * 4 + (1u << 16));
    // Four components without Adobe's marker are CMYK for libjpeg; stb_image would take them for YCbCr.
    if (count == 4 && !adobe_)
      append(0xee, Bytes(reinterpret_cast<const std::uint8_t*>("\0\016Adobe\0\144\0\0\0\0\0"), 14));
  }

  void check_scan(const ByteReader& segment) {
    constexpr int max_scans = 200;  // each costs a pass over the picture, however few bytes it has
    if (components_ == 0) throw fail("scan before the frame header");
    if (++scans_ > max_scans) throw fail("more than " + std::to_string(max_scans) + " scans");
    const std::size_t count = segment.u8(2);
    if (count < 1 || count > components_ || segment.size() != 6 + 2 * count) throw fail("broken scan header");
    const std::uint32_t first = segment.u8(3 + 2 * count), last = segment.u8(4 + 2 * count);
    const std::uint32_t high = segment.u8(5 + 2 * count) >> 4, low = segment.u8(5 + 2 * count) & 15;
    if (progressive_) {
      if (first > last || last > 63 || high > 13 || low > 13 || (first == 0 && last != 0) || (first > 0 && count > 1))
        throw fail("broken progressive scan");
      if (high != 0 && high != low + 1) throw fail("broken progressive scan");
    } else if (first != 0 || high != 0 || low != 0) {
      throw fail("broken scan header");
    }
    std::array<bool, 4> seen{};
    for (std::size_t i = 0; i < count; ++i) {
      std::size_t which = 0;
      while (which < components_ && component_[which].id != segment.u8(3 + 2 * i)) ++which;
      if (which == components_ || seen[which]) throw fail("scan of an unknown or repeated component");
      seen[which] = true;
      const std::uint32_t dc = segment.u8(4 + 2 * i) >> 4, ac = segment.u8(4 + 2 * i) & 15;
      const bool uses_dc = first == 0 && high == 0, uses_ac = !progressive_ || first > 0;
      if (dc > 3 || ac > 3 || (uses_dc && !huffman_[0][dc]) || (uses_ac && !huffman_[1][ac]))
        throw fail("scan uses a Huffman table that was not defined");
      if (!quantisation_[component_[which].quantisation])
        throw fail("scan uses a quantisation table that was not defined");
      if (progressive_ && !uses_dc && !component_[which].coded) throw fail("progressive scans in the wrong order");
      component_[which].coded = true;
    }
  }

  // Coded data up to the next marker that is not a restart.
  void copy_scan() {
    const std::size_t begin = at_;
    for (;;) {
      while (at_ < bytes_.size() && bytes_[at_] != 0xff) ++at_;
      if (!file_.has(at_, 2)) throw fail("truncated inside the pixel data");
      const std::uint32_t next = bytes_[at_ + 1];
      if (next == 0 || (next >= 0xd0 && next <= 0xd7)) {
        at_ += 2;
      } else if (next == 0xff) {
        at_ += 1;  // fill byte
      } else {
        break;
      }
    }
    out_.bytes.insert(out_.bytes.end(), bytes_.begin() + static_cast<std::ptrdiff_t>(begin),
                      bytes_.begin() + static_cast<std::ptrdiff_t>(at_));
  }

  Bytes bytes_;
  ByteReader file_;
  const std::string& name_;
  std::uint64_t max_pixels_;
  CheckedStream out_;
  std::size_t at_ = 0;
  Bytes segment_;
  std::size_t components_ = 0;
  std::array<Component, 4> component_{};
  std::array<bool, 4> quantisation_{};
  std::array<std::array<bool, 4>, 2> huffman_{};
  bool progressive_ = false;
  bool adobe_ = false;
  int scans_ = 0;
};

PROMPTIQA_INLINE CheckedStream check_jpeg(Bytes file, const std::string& name, std::uint64_t max_pixels) {
  return JpegChecker(file, name, max_pixels).run();
}

}  // namespace promptiqa::detail
