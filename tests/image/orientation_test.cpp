// EXIF orientation: the tag in both byte orders, in broken data, and the eight ways to turn.
// Surprising choice: broken EXIF is expected to be ignored, not reported.
#include "catch.hpp"

#include <algorithm>
#include <array>
#include <string>
#include <vector>

#include <promptiqa/image/orientation.hpp>

#include "image/image_files.hpp"

using namespace promptiqa;
using Bytes = std::vector<std::uint8_t>;

namespace {

Bytes exif(bool little, std::uint8_t value, std::uint32_t directory = 8, std::uint8_t tag_low = 0x12) {
  const auto u16 = [little](Bytes& out, std::uint32_t v) {
    const auto low = static_cast<std::uint8_t>(v), high = static_cast<std::uint8_t>(v >> 8);
    out.push_back(little ? low : high);
    out.push_back(little ? high : low);
  };
  const auto u32 = [&u16, little](Bytes& out, std::uint32_t v) {
    u16(out, little ? v & 0xffff : v >> 16);
    u16(out, little ? v >> 16 : v & 0xffff);
  };
  Bytes out = little ? Bytes{'I', 'I', 42, 0} : Bytes{'M', 'M', 0, 42};
  u32(out, directory);
  u16(out, 1);
  u16(out, 0x0100u | tag_low);
  u16(out, 3);
  u32(out, 1);
  u16(out, value);
  u16(out, 0);
  u32(out, 0);
  return out;
}

Bytes jpeg_with(const std::vector<Bytes>& app1_bodies) {
  Bytes file = {0xff, 0xd8};
  for (const Bytes& body : app1_bodies) {
    const std::size_t length = body.size() + 2;
    file.insert(file.end(), {0xff, 0xe1, static_cast<std::uint8_t>(length >> 8), static_cast<std::uint8_t>(length)});
    file.insert(file.end(), body.begin(), body.end());
  }
  file.insert(file.end(), {0xff, 0xda, 0, 2, 0xff, 0xd9});
  return file;
}

Bytes with_marker(const Bytes& tiff) {
  const Bytes marker = {'E', 'x', 'i', 'f', 0, 0};
  Bytes body(marker.size() + tiff.size());
  std::copy(tiff.begin(), tiff.end(), std::copy(marker.begin(), marker.end(), body.begin()));
  return body;
}

}  // namespace

TEST_CASE("orientation_from_exif reads both byte orders") {
  for (const bool little : {true, false})
    for (std::uint8_t value = 1; value <= 8; ++value) CHECK(orientation_from_exif(exif(little, value)) == value);
}

TEST_CASE("orientation_from_exif takes broken data for orientation 1") {
  for (const bool little : {true, false}) {
    CHECK(orientation_from_exif(exif(little, 0)) == 1);
    CHECK(orientation_from_exif(exif(little, 9)) == 1);
    CHECK(orientation_from_exif(exif(little, 6, 8, 0x13)) == 1);         // another tag
    CHECK(orientation_from_exif(exif(little, 6, 4)) == 1);               // the directory inside the header
    CHECK(orientation_from_exif(exif(little, 6, 0)) == 1);               // pointing at itself
    CHECK(orientation_from_exif(exif(little, 6, 0xffffffffu)) == 1);     // beyond the end, and overflowing
    CHECK(orientation_from_exif(exif(little, 6, 0xfffffff0u)) == 1);
    const Bytes good = exif(little, 6);
    for (std::size_t length = 0; length < good.size(); ++length) {
      const int found = orientation_from_exif(std::span<const std::uint8_t>(good).first(length));
      CHECK(found == (length >= 20 ? 6 : 1));  // the two bytes of the value end at 20
    }
    Bytes many = good;  // 65535 entries promised, one there
    many[8] = many[9] = 0xff;
    CHECK(orientation_from_exif(many) == 6);
    many[11] = many[10] = 0x77;
    CHECK(orientation_from_exif(many) == 1);
  }
  CHECK(orientation_from_exif({}) == 1);
}

TEST_CASE("orientation_from_file finds the first APP1 segment that has one") {
  const Bytes xmp = {'h', 't', 't', 'p', ':', '/', '/', 'n', 's', '.', 'a', 'd', 'o', 'b', 'e', 0};
  CHECK(orientation_from_file(jpeg_with({with_marker(exif(true, 6))})) == 6);
  CHECK(orientation_from_file(jpeg_with({xmp, with_marker(exif(false, 8))})) == 8);
  CHECK(orientation_from_file(jpeg_with({with_marker(exif(true, 6, 8, 0x0f)), with_marker(exif(true, 3))})) == 3);
  CHECK(orientation_from_file(jpeg_with({with_marker(exif(true, 6)), with_marker(exif(true, 3))})) == 6);
  CHECK(orientation_from_file(jpeg_with({exif(true, 6)})) == 1);  // no marker
  Bytes late = jpeg_with({});
  const Bytes early = jpeg_with({with_marker(exif(true, 6))});
  late.insert(late.end(), early.begin() + 2, early.end());
  CHECK(orientation_from_file(late) == 1);  // behind the first scan
  Bytes cut = early;
  for (; !cut.empty(); cut.pop_back()) CHECK_NOTHROW(orientation_from_file(cut));
  CHECK(orientation_from_file({}) == 1);
}

TEST_CASE("apply_orientation turns as the numbers say, whatever the pixel type") {
  // 3 x 2 pixels: 0 1 2 / 3 4 5
  const std::array<std::vector<std::uint8_t>, 8> expected = {{{0, 1, 2, 3, 4, 5},
                                                              {2, 1, 0, 5, 4, 3},
                                                              {5, 4, 3, 2, 1, 0},
                                                              {3, 4, 5, 0, 1, 2},
                                                              {0, 3, 1, 4, 2, 5},
                                                              {3, 0, 4, 1, 5, 2},
                                                              {5, 2, 4, 1, 3, 0},
                                                              {2, 5, 1, 4, 0, 3}}};
  const std::array<std::uint8_t, 8> bytes = {0, 1, 2, 77, 3, 4, 5, 77};  // stride 4
  std::array<std::uint16_t, 12> words;                                  // two channels
  for (std::size_t i = 0; i < words.size(); ++i) words[i] = static_cast<std::uint16_t>(i / 2 << 8 | 0xa0);
  for (int orientation = 1; orientation <= 8; ++orientation) {
    INFO("orientation " << orientation);
    const auto& want = expected[static_cast<std::size_t>(orientation - 1)];
    for (const Image& image : {Image::view(bytes.data(), 3, 2, 1, 4, ChannelOrder::rgb, "n"),
                               Image::view(words.data(), 3, 2, 2)}) {
      const Image turned = apply_orientation(image, orientation);
      REQUIRE(turned.width() == (orientation >= 5 ? 2 : 3));
      REQUIRE(turned.height() == (orientation >= 5 ? 3 : 2));
      CHECK(turned.type() == image.type());
      CHECK(turned.channels() == image.channels());
      CHECK(turned.name() == image.name());
      const Image rgb = to_rgb8(turned);
      for (int i = 0; i < 6; ++i)
        CHECK(rgb.row(i / turned.width())[3 * (i % turned.width())] == want[static_cast<std::size_t>(i)]);
    }
  }
  const Image image = Image::view(bytes.data(), 3, 2, 1, 4);
  CHECK_THROWS_AS(apply_orientation(image, 0), ImageError);
  CHECK_THROWS_AS(apply_orientation(image, 9), ImageError);
  CHECK_THROWS_AS(apply_orientation(Image(), 2), ImageError);
}

TEST_CASE("apply_orientation: pictures larger than its tiles, turned there and back") {
  const Image source = image_files::read_ppm("resize_fractal_down.source.ppm");
  for (int there = 2; there <= 8; ++there) {
    const int back = there == 6 ? 8 : there == 8 ? 6 : there;
    const auto d = image_files::difference(apply_orientation(apply_orientation(source, there), back), source);
    CHECK(d.same_size);
    CHECK(d.largest == 0);
  }
}
