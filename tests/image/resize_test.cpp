// resize_cubic against stored results of OpenCV.
// Surprising choice: values may differ by one level in one of a thousand, because a value halfway between two levels is
// decided by the last bit of the float sums, in OpenCV as here.
#include "catch.hpp"

#include <string>
#include <vector>

#include <promptiqa/image/resize.hpp>

#include "image/image_files.hpp"

using namespace promptiqa;
using image_files::difference;
using image_files::read_ppm;

TEST_CASE("resize_cubic is OpenCV's INTER_CUBIC") {
  int compared = 0;
  for (const auto& entry : std::filesystem::directory_iterator(image_files::folder())) {
    const std::string name = entry.path().filename().string();
    const std::size_t source = name.find(".source.ppm");
    if (name.rfind("resize_", 0) != 0 || source == std::string::npos) continue;
    const std::string stem = name.substr(0, source);
    for (const auto& other : std::filesystem::directory_iterator(image_files::folder())) {
      const std::string result = other.path().filename().string();
      if (result == name || result.rfind(stem + ".", 0) != 0) continue;
      const Image expected = read_ppm(result);
      const auto d = difference(resize_cubic(read_ppm(name), expected.height(), expected.width()), expected);
      INFO(result << ": " << d.largest << " levels, fraction " << d.fraction);
      CHECK(d.same_size);
      CHECK(d.largest <= 1);
      CHECK(d.fraction <= 0.001);
      ++compared;
    }
  }
  CHECK(compared == 14);
}

TEST_CASE("resize_cubic: flat stays flat, same size stays the same") {
  const std::vector<std::uint8_t> flat(3 * 5 * 7, 201);
  const Image out = resize_cubic(Image::view(flat.data(), 7, 5, 3), 31, 11);
  for (int y = 0; y < 31; ++y)
    for (int i = 0; i < 33; ++i) REQUIRE(out.row(y)[i] == 201);
  const Image source = read_ppm("resize_same_size.source.ppm");
  const auto d = difference(resize_cubic(source, source.height(), source.width()), source);
  CHECK(d.same_size);
  CHECK(d.largest == 0);
}

TEST_CASE("resize_cubic gives the same from every layout of one picture") {
  const Image rgb = read_ppm("resize_fractal_down.source.ppm");
  const int width = rgb.width(), height = rgb.height();
  const std::size_t stride = 4 * static_cast<std::size_t>(width) + 13;
  std::vector<std::uint8_t> bgra(stride * static_cast<std::size_t>(height), 99);
  for (int y = 0; y < height; ++y)
    for (int x = 0; x < width; ++x)
      for (int c = 0; c < 3; ++c)
        bgra[static_cast<std::size_t>(y) * stride + static_cast<std::size_t>(4 * x + 2 - c)] = rgb.row(y)[3 * x + c];
  const Image view = Image::view(bgra.data(), width, height, 4, stride, ChannelOrder::bgr, "view");
  const Image out = resize_cubic(view, 50, 60);
  const auto d = difference(out, resize_cubic(rgb, 50, 60));
  CHECK(d.same_size);
  CHECK(d.largest == 0);
  CHECK(out.name() == "view");
}

TEST_CASE("resize_cubic refuses sizes that are not positive and empty images") {
  const Image source = read_ppm("resize_same_size.source.ppm");
  CHECK_THROWS_AS(resize_cubic(source, 0, 5), ImageError);
  CHECK_THROWS_AS(resize_cubic(source, 5, -1), ImageError);
  CHECK_THROWS_AS(resize_cubic(Image(), 5, 5), ImageError);
}

TEST_CASE("resize_short_side keeps the aspect ratio") {
  const auto sides = [](int width, int height, int pixels) {
    const std::vector<std::uint8_t> grey(static_cast<std::size_t>(3 * width * height), 90);
    const Image image = resize_short_side(Image::view(grey.data(), width, height, 3), pixels);
    CHECK(*image.row(0) == 90);
    return std::vector<int>{image.width(), image.height()};
  };
  CHECK(sides(30, 20, 10) == std::vector<int>{15, 10});
  CHECK(sides(20, 30, 40) == std::vector<int>{40, 60});
  CHECK(sides(7, 5, 3) == std::vector<int>{4, 3});  // 4.2
  CHECK(sides(11, 4, 2) == std::vector<int>{6, 2});  // 5.5: half a pixel rounds up
  CHECK(sides(9, 9, 9) == std::vector<int>{9, 9});
  CHECK_THROWS_AS(sides(9, 9, 0), ImageError);
  CHECK_THROWS_WITH(sides(3000, 1, 512), ContainsSubstring("too long and narrow"));
}
