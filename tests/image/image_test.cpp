// Image: what is accepted, and how every pixel type becomes 8-bit RGB.
// Surprising choice: the conversions are tested by the promise they serve: one picture, one result, whatever its type.
#include "catch.hpp"

#include <array>
#include <cmath>
#include <cstring>
#include <limits>
#include <memory>
#include <vector>

#include <promptiqa/image/image.hpp>
#include <promptiqa/image/preprocess.hpp>

using namespace promptiqa;

namespace {

std::vector<std::uint8_t> rgb_bytes(const Image& image) {
  const Image rgb = to_rgb8(image);
  std::vector<std::uint8_t> bytes;
  for (int y = 0; y < rgb.height(); ++y) bytes.insert(bytes.end(), rgb.row(y), rgb.row(y) + 3 * rgb.width());
  return bytes;
}

std::vector<std::uint8_t> some_pixels(std::size_t count) {
  std::vector<std::uint8_t> pixels(count);
  std::uint32_t state = 12345;
  for (std::uint8_t& p : pixels) p = static_cast<std::uint8_t>((state = state * 1664525u + 1013904223u) >> 24);
  return pixels;
}

}  // namespace

TEST_CASE("Image refuses arguments that describe no picture") {
  const std::array<std::uint8_t, 64> pixels{};
  const std::uint8_t* p = pixels.data();
  CHECK_THROWS_AS(Image::view(static_cast<const std::uint8_t*>(nullptr), 2, 2, 3), ImageError);
  CHECK_THROWS_AS(Image::view(p, 0, 2, 3), ImageError);
  CHECK_THROWS_AS(Image::view(p, 2, -1, 3), ImageError);
  CHECK_THROWS_AS(Image::view(p, 2, 2, 0), ImageError);
  CHECK_THROWS_AS(Image::view(p, 2, 2, 5), ImageError);
  CHECK_THROWS_WITH(Image::view(p, 2, 2, 3, 5, ChannelOrder::rgb, "a.png"),
                    ContainsSubstring("a.png") && ContainsSubstring("6 bytes") && ContainsSubstring("5"));
  CHECK_THROWS_AS(Image::view(p, 2, 2, 3, std::numeric_limits<std::size_t>::max()), ImageError);
  CHECK_THROWS_AS(Image::view(p, 2, 3, 3, std::numeric_limits<std::size_t>::max() / 4), ImageError);
  CHECK_THROWS_AS(Image::from_vector(std::vector<std::uint8_t>(11), 2, 2, 3), ImageError);
  CHECK_THROWS_AS(Image::owning(nullptr, PixelType::u8, 2, 2, 3), ImageError);
  CHECK_THROWS_AS(to_rgb8(Image()), ImageError);
  CHECK(Image().empty());
  // A stride that is never stepped over may be anything large.
  CHECK_NOTHROW(Image::view(p, 2, 1, 3, std::numeric_limits<std::size_t>::max()));
}

TEST_CASE("Image: gray is repeated, alpha dropped, BGR swapped, strides honoured") {
  const std::array<std::uint8_t, 8> p = {10, 20, 30, 40, 50, 60, 70, 80};
  using Bytes = std::vector<std::uint8_t>;
  CHECK(rgb_bytes(Image::view(p.data(), 2, 1, 1)) == Bytes{10, 10, 10, 20, 20, 20});
  CHECK(rgb_bytes(Image::view(p.data(), 2, 1, 2)) == Bytes{10, 10, 10, 30, 30, 30});
  CHECK(rgb_bytes(Image::view(p.data(), 2, 1, 4)) == Bytes{10, 20, 30, 50, 60, 70});
  CHECK(rgb_bytes(Image::view(p.data(), 2, 1, 3, 0, ChannelOrder::bgr)) == Bytes{30, 20, 10, 60, 50, 40});
  CHECK(rgb_bytes(Image::view(p.data(), 2, 1, 4, 0, ChannelOrder::bgr)) == Bytes{30, 20, 10, 70, 60, 50});
  CHECK(rgb_bytes(Image::view(p.data(), 1, 2, 1, 5)) == Bytes{10, 10, 10, 60, 60, 60});
  CHECK(rgb_bytes(Image::view(p.data(), 1, 2, 3, 4)) == Bytes{10, 20, 30, 50, 60, 70});
}

TEST_CASE("Image: 8-bit RGB is used in place, an owned image outlives its maker") {
  const std::vector<std::uint8_t> pixels = some_pixels(12);
  const Image view = Image::view(pixels.data(), 2, 2, 3);
  CHECK(to_rgb8(view).row(0) == pixels.data());
  Image copy;
  {
    const Image owned = Image::from_vector(some_pixels(12), 2, 2, 3);
    copy = owned;
  }
  CHECK(rgb_bytes(copy) == pixels);
}

TEST_CASE("Image: the same picture as 8-bit, 16-bit and float gives the same pixels and the same model input") {
  constexpr int width = 16, height = 16;
  std::vector<std::uint8_t> bytes(3 * width * height);
  for (std::size_t i = 0; i < bytes.size(); ++i) bytes[i] = static_cast<std::uint8_t>(i);  // every level occurs
  std::vector<std::uint16_t> words;
  std::vector<float> floats;
  for (const std::uint8_t b : bytes) {
    words.push_back(static_cast<std::uint16_t>(257 * b));
    floats.push_back(static_cast<float>(b) / 255.0f);
  }
  const Image as_bytes = Image::view(bytes.data(), width, height, 3);
  const Image as_words = Image::view(words.data(), width, height, 3);
  const Image as_floats = Image::view(floats.data(), width, height, 3);
  CHECK(rgb_bytes(as_words) == bytes);
  CHECK(rgb_bytes(as_floats) == bytes);
  std::vector<float> expected(3 * 9 * 9), got(3 * 9 * 9);
  preprocess_to_chw(as_bytes, 9, expected.data());
  preprocess_to_chw(as_words, 9, got.data());
  CHECK(got == expected);
  preprocess_to_chw(as_floats, 9, got.data());
  CHECK(got == expected);
}

TEST_CASE("Image: 16 bits keep the high byte, floats are clamped and rounded, NaN is an error that names the image") {
  using Bytes = std::vector<std::uint8_t>;
  const std::array<std::uint16_t, 3> words = {0x00ff, 0x0100, 0xfeff};
  CHECK(rgb_bytes(Image::view(words.data(), 1, 1, 3)) == Bytes{0, 1, 254});
  const float infinity = std::numeric_limits<float>::infinity();
  const std::array<float, 6> floats = {-0.5f, 1.5f, 0.5f, infinity, -infinity, 0.4f / 255.0f};
  CHECK(rgb_bytes(Image::view(floats.data(), 2, 1, 3)) == Bytes{0, 255, 128, 255, 0, 0});
  std::array<float, 8> with_nan = {0, 0, 0, 0, 0, 0, 0, std::numeric_limits<float>::quiet_NaN()};
  CHECK_NOTHROW(to_rgb8(Image::view(with_nan.data(), 2, 1, 4)));  // alpha is not looked at
  CHECK_THROWS_WITH(to_rgb8(Image::view(with_nan.data(), 8, 1, 1, 0, ChannelOrder::rgb, "depth.bin")),
                    ContainsSubstring("depth.bin") && ContainsSubstring("NaN"));
  // Also where no tap of the resize would read it: 100 rows to one.
  std::vector<float> tall(100, 0.5f);
  tall[3] = std::numeric_limits<float>::quiet_NaN();
  float chw[3];
  CHECK_THROWS_AS(preprocess_to_chw(Image::view(tall.data(), 1, 100, 1), 1, chw), ImageError);
}

TEST_CASE("Image: 16-bit and float pixels may lie at odd addresses") {
  std::array<std::uint8_t, 25> raw{};
  const std::array<float, 3> values = {0.0f, 0.5f, 1.0f};
  std::memcpy(raw.data() + 1, values.data(), sizeof(values));
  const std::shared_ptr<const void> odd(raw.data() + 1, [](const void*) {});
  const Image image = Image::owning(odd, PixelType::f32, 1, 1, 3);
  CHECK(rgb_bytes(image) == std::vector<std::uint8_t>{0, 128, 255});
}

TEST_CASE("preprocess_to_chw: planes, in -1..1") {
  const std::array<std::uint8_t, 3> pixel = {0, 51, 255};
  std::vector<float> chw(3 * 4, 7.0f);
  preprocess_to_chw(Image::view(pixel.data(), 1, 1, 3), 2, chw.data());
  for (std::size_t i = 0; i < 4; ++i) {
    CHECK(chw[i] == -1.0f);
    CHECK(std::abs(chw[4 + i] + 0.6f) < 1e-6f);  // three roundings of values below 1: 3 * 2^-24 * 2
    CHECK(chw[8 + i] == 1.0f);
  }
  CHECK_THROWS_AS(preprocess_to_chw(Image::view(pixel.data(), 1, 1, 3), 0, chw.data()), ImageError);
}
