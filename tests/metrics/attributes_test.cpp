// Attributes of pictures against NumPy's values of the same definitions (golden/attribute_vectors.txt) and by hand.
// Surprising choice: the tolerance is 1e-9 of the value, what float64 sums of thousands of terms keep with a margin.
#include <promptiqa/metrics/attributes.hpp>

#include <cmath>
#include <fstream>
#include <sstream>
#include <string>
#include <vector>

#include "catch.hpp"
#include "metrics/metric_pictures.hpp"

using namespace promptiqa;

namespace {

using Attribute = double (*)(const Image&);
const std::vector<Attribute> all = {brightness, contrast, colourfulness, sharpness, noise};

Image plain(int r, int g, int b) {
  return metric_pictures::make(7, 5, [&](int, int, int c) { return c == 0 ? r : c == 1 ? g : b; });
}

}  // namespace

TEST_CASE("attributes agree with NumPy") {
  std::ifstream file(PROMPTIQA_TEST_DIR "/golden/attribute_vectors.txt");
  REQUIRE(file);
  int lines = 0;
  for (std::string line; std::getline(file, line);) {
    if (line[0] == '#') continue;
    INFO(line);
    std::istringstream words(line);
    int width = 0, height = 0;
    std::string kind;
    words >> width >> height >> kind;
    const Image image = metric_pictures::distort(metric_pictures::picture(width, height), kind);
    for (Attribute attribute : all) {
      double expected = NAN;
      words >> expected;
      REQUIRE(words);
      CHECK(attribute(image) == Approx(expected).epsilon(1e-9));
    }
    ++lines;
  }
  CHECK(lines == 12);
}

TEST_CASE("attributes of plain pictures") {
  const Image grey = plain(90, 90, 90), red = plain(255, 0, 0), blue = plain(0, 0, 255);
  CHECK(brightness(grey) == 90);
  CHECK(brightness(red) == Approx(0.299 * 255));
  CHECK(colourfulness(grey) == 0);
  CHECK(colourfulness(red) == Approx(0.3 * std::hypot(255, 127.5)));
  CHECK(colourfulness(blue) == Approx(0.3 * 255));
  for (const Image& image : {grey, red, blue}) {
    CHECK(contrast(image) == Approx(0).margin(1e-10));
    CHECK(sharpness(image) == Approx(0).margin(1e-10));
    CHECK(noise(image) == Approx(0).margin(1e-10));
  }
}

TEST_CASE("attributes of a checkerboard by hand") {
  const Image board = metric_pictures::make(8, 8, [](int x, int y, int) { return (x + y) % 2 ? 200 : 100; });
  CHECK(brightness(board) == Approx(150));
  CHECK(contrast(board) == Approx(50));
  CHECK(noise(board) == Approx(400));  // each pixel differs by 100 from all four neighbours
  CHECK(sharpness(board) == Approx(std::log(1 + 400.0 * 400)));
}

TEST_CASE("attributes read gray, BGR and 16-bit pictures as 8-bit RGB") {
  const Image rgb = metric_pictures::picture(20, 10);
  std::vector<std::uint8_t> bgr, gray;
  std::vector<std::uint16_t> wide;
  for (int y = 0; y < 10; ++y)
    for (int x = 0; x < 20; ++x) {
      const std::uint8_t* p = rgb.row(y) + 3 * x;
      bgr.insert(bgr.end(), {p[2], p[1], p[0]});
      gray.push_back(p[1]);
      for (int c = 0; c < 3; ++c) wide.push_back(static_cast<std::uint16_t>(p[c] * 256 + 77));
    }
  const Image repeated = metric_pictures::make(20, 10, [&](int x, int y, int) { return rgb.row(y)[3 * x + 1]; });
  for (Attribute attribute : all) {
    CHECK(attribute(Image::view(bgr.data(), 20, 10, 3, 0, ChannelOrder::bgr)) == attribute(rgb));
    CHECK(attribute(Image::view(wide.data(), 20, 10, 3)) == attribute(rgb));
    CHECK(attribute(Image::view(gray.data(), 20, 10, 1)) == attribute(repeated));
  }
}

TEST_CASE("attributes refuse what they cannot measure") {
  for (Attribute attribute : all) CHECK_THROWS_AS(attribute(Image()), ImageError);
  for (const auto& [width, height] : {std::pair{1, 9}, std::pair{9, 2}, std::pair{1, 1}}) {
    const Image image = metric_pictures::picture(width, height);
    CHECK(std::isfinite(brightness(image)));
    CHECK(std::isfinite(contrast(image)));
    CHECK(std::isfinite(colourfulness(image)));
    CHECK_THROWS_AS(sharpness(image), ImageError);
    CHECK_THROWS_WITH(noise(image), ContainsSubstring("noise: ") && ContainsSubstring("3 x 3"));
  }
}
