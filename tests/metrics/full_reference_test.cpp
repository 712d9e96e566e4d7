// PSNR, SSIM, MS-SSIM, FSIM, GMSD and VIF against other implementations (golden/metric_vectors.txt) and at their edges.
// Surprising choice: expected values come with their tolerances; make_metric_vectors.py gives the reasons.
#include <promptiqa/metrics/full_reference.hpp>

#include <cmath>
#include <fstream>
#include <map>
#include <sstream>
#include <string>
#include <thread>
#include <vector>

#include "catch.hpp"
#include "metrics/metric_pictures.hpp"

using namespace promptiqa;

namespace {

using Metric = double (*)(const Image&, const Image&);

struct Case {
  const char* name;
  Metric metric;
  int least;         // smallest side
  double identical;  // value of a picture against itself
};

const Case cases[] = {{"psnr", psnr, 1, INFINITY}, {"ssim", ssim, 11, 1},  {"ms_ssim", ms_ssim, 176, 1},
                      {"fsim", fsim, 8, 1},        {"fsimc", fsimc, 8, 1}, {"gmsd", gmsd, 3, 0},
                      {"vif", vif, 41, 1}};

Metric find(const std::string& name) {
  for (const Case& c : cases)
    if (name == c.name) return c.metric;
  throw std::runtime_error("unknown metric " + name);
}

Image plain(int width, int height, int value) {
  return metric_pictures::make(width, height, [&](int, int, int) { return value; });
}

}  // namespace

TEST_CASE("metrics agree with other implementations") {
  std::ifstream file(PROMPTIQA_TEST_DIR "/golden/metric_vectors.txt");
  REQUIRE(file);
  std::map<std::string, int> seen;
  std::map<std::string, std::pair<Image, Image>> pictures;
  for (std::string line; std::getline(file, line);) {
    if (line[0] == '#') continue;
    INFO(line);
    std::istringstream words(line);
    int width = 0, height = 0;
    std::string kind, name, source;
    double tolerance = 0, expected = 0;
    words >> width >> height >> kind >> name >> source >> tolerance >> expected;
    REQUIRE(words);
    auto& [reference, distorted] = pictures[std::to_string(width) + " " + std::to_string(height) + kind];
    if (reference.empty()) {
      reference = metric_pictures::picture(width, height);
      distorted = metric_pictures::distort(reference, kind);
    }
    const double value = find(name)(reference, distorted);
    CHECK(std::isfinite(value));
    CHECK(value == Approx(expected).epsilon(0).margin(tolerance));
    ++seen[name];
  }
  for (const Case& c : cases) {
    INFO(c.name);
    CHECK(seen[c.name] >= 8);
  }
}

TEST_CASE("a picture is like itself") {
  const Image image = metric_pictures::picture(200, 180);
  for (const Case& c : cases) {
    INFO(c.name);
    const double value = c.metric(image, image);
    // Sums of 4e4 terms near 1 in float64; VIF's own guard of 1e-10 against division by 0 costs about 1e-10.
    CHECK(value == Approx(c.identical).epsilon(0).margin(c.metric == vif ? 1e-9 : 1e-12));
  }
  CHECK(psnr(image, image) == INFINITY);
  CHECK(gmsd(image, image) == 0);
}

TEST_CASE("stronger distortion is worse") {
  const Image image = metric_pictures::picture(200, 180);
  const Image weak = metric_pictures::distort(image, "blur"), strong = metric_pictures::distort(weak, "blocks");
  for (const Case& c : cases) {
    INFO(c.name);
    const double sign = c.identical == 0 ? -1 : 1;
    CHECK(sign * c.metric(image, weak) > sign * c.metric(image, strong));
  }
}

TEST_CASE("PSNR by hand") {
  const Image black = plain(4, 3, 0), grey = plain(4, 3, 51);
  CHECK(psnr(black, grey) == Approx(20 * std::log10(5)));
  const Image one = metric_pictures::make(4, 3, [](int x, int y, int c) { return x == 1 && y == 2 && c == 1 ? 6 : 0; });
  CHECK(psnr(black, one) == Approx(10 * std::log10(255.0 * 255 * 36 / 36)));  // 36 values, one squared error of 36
}

TEST_CASE("gray pictures count like RGB pictures of equal channels") {
  std::vector<std::uint8_t> gray;
  for (std::uint32_t i = 0; i < 200 * 180; ++i)
    gray.push_back(static_cast<std::uint8_t>(metric_pictures::mix(i % 200 / 5, i / 200 / 7, 1)));
  const Image one = Image::from_vector(gray, 200, 180, 1);
  const Image three =
      metric_pictures::make(200, 180, [&](int x, int y, int) { return gray[static_cast<std::size_t>(200 * y + x)]; });
  REQUIRE(three.is_rgb8());
  const Image blurred = metric_pictures::distort(three, "blur");
  for (const Case& c : cases) {
    INFO(c.name);
    CHECK(c.metric(one, blurred) == c.metric(three, blurred));
    CHECK(c.metric(blurred, one) == c.metric(blurred, three));
  }
  CHECK(fsim(one, blurred) == Approx(fsimc(one, blurred)).epsilon(1e-14));
}

TEST_CASE("plain pictures have values, not NaN") {
  // Of every gray level: luma of plain areas must not turn into variance by rounding.
  for (int level = 0; level < 256; level += 5) {
    INFO(level);
    const Image flat = metric_pictures::make(43, 41, [&](int, int, int c) { return (level + 90 * c) % 256; });
    const Image textured = metric_pictures::picture(43, 41);
    for (const Case& c : cases) {
      if (c.least > 41) continue;
      INFO(c.name);
      CHECK(c.metric(flat, flat) == Approx(c.identical).margin(1e-12));
      CHECK(std::isfinite(c.metric(flat, textured)));
      CHECK(std::isfinite(c.metric(textured, flat)));
    }
    CHECK(vif(flat, textured) == 1);
    CHECK(vif(textured, flat) < 1e-6);
  }
  // Luminance term alone: (2 a b + C1) / (a^2 + b^2 + C1).
  CHECK(ssim(plain(16, 16, 100), plain(16, 16, 50)) == Approx((2 * 5000 + 6.5025) / (12500 + 6.5025)));
}

TEST_CASE("MS-SSIM of opposite structures is 0") {
  const Image image = metric_pictures::picture(176, 176);
  const Image negative =
      metric_pictures::make(176, 176, [&](int x, int y, int c) { return 255 - image.row(y)[3 * x + c]; });
  CHECK(ms_ssim(image, negative) == 0);
}

TEST_CASE("the smallest pictures, and what is refused") {
  for (const Case& c : cases) {
    INFO(c.name);
    const int n = c.least;
    for (const auto& [width, height] : {std::pair{n, n}, std::pair{n, n + 1}, std::pair{n + 3, n}}) {
      const Image image = metric_pictures::picture(width, height);
      CHECK(std::isfinite(c.metric(image, metric_pictures::distort(image, "noise"))));
    }
    const Image good = metric_pictures::picture(n + 1, n + 1), other = metric_pictures::picture(n + 1, n + 2);
    CHECK_THROWS_AS(c.metric(good, Image()), ImageError);
    CHECK_THROWS_AS(c.metric(Image(), good), ImageError);
    CHECK_THROWS_AS(c.metric(good, other), ImageError);
    CHECK_THROWS_WITH(c.metric(good, other),
                      ContainsSubstring(std::string(c.name) + ": ") && ContainsSubstring("one size"));
    if (n == 1) continue;
    const Image narrow = metric_pictures::picture(n - 1, n + 50), flat = metric_pictures::picture(n + 50, n - 1);
    CHECK_THROWS_AS(c.metric(narrow, narrow), ImageError);
    CHECK_THROWS_AS(c.metric(flat, flat), ImageError);
    CHECK_THROWS_WITH(c.metric(flat, flat), ContainsSubstring("at least " + std::to_string(n)));
    const Image line = metric_pictures::picture(1, 300);
    CHECK_THROWS_AS(c.metric(line, line), ImageError);
  }
}

TEST_CASE("a prepared reference gives the same FSIM") {
  const Image image = metric_pictures::picture(70, 50);
  const FsimReference reference(image);
  for (const char* kind : {"noise", "blur", "blocks"}) {
    const Image distorted = metric_pictures::distort(image, kind);
    CHECK(reference.fsim(distorted) == fsim(image, distorted));
    CHECK(reference.fsimc(distorted) == fsimc(image, distorted));
    CHECK(fsimc(image, distorted) != fsim(image, distorted));
  }
  CHECK_THROWS_AS(reference.fsim(metric_pictures::picture(50, 70)), ImageError);
  CHECK_THROWS_WITH(reference.fsimc(metric_pictures::picture(50, 70)), ContainsSubstring("fsimc: "));
  CHECK_THROWS_AS(FsimReference(metric_pictures::picture(7, 70)), ImageError);
  CHECK_THROWS_AS(FsimReference(Image()), ImageError);
}

TEST_CASE("a NaN pixel is refused") {
  std::vector<float> pixels(200 * 200 * 3, 0.5f);
  pixels[1234] = NAN;
  const Image broken = Image::view(pixels.data(), 200, 200, 3), good = plain(200, 200, 128);
  for (const Case& c : cases) {
    INFO(c.name);
    CHECK_THROWS_AS(c.metric(good, broken), ImageError);
    CHECK_THROWS_AS(c.metric(broken, good), ImageError);
  }
}

TEST_CASE("metrics may run on many threads") {
  const Image image = metric_pictures::picture(180, 176), distorted = metric_pictures::distort(image, "noise");
  std::vector<double> alone, together(std::size(cases));
  for (const Case& c : cases) alone.push_back(c.metric(image, distorted));
  std::vector<std::thread> threads;
  for (std::size_t i = 0; i < std::size(cases); ++i)
    threads.emplace_back([&, i] { together[i] = cases[i].metric(image, distorted); });
  for (std::thread& thread : threads) thread.join();
  CHECK(alone == together);
}
