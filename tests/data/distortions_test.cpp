// Distortions and the filters they are made of: order of levels, the same bytes everywhere, what each name promises.
// Surprising choice: filters are compared with slow definitions written here, not with stored pictures.
#include <promptiqa/data/distortions.hpp>
#include <promptiqa/data/filters.hpp>
#include <promptiqa/data/jpeg.hpp>
#include <promptiqa/data/wavelet.hpp>
#include <promptiqa/image/file.hpp>
#include <promptiqa/image/resize.hpp>
#include <promptiqa/metrics/full_reference.hpp>

#include <algorithm>
#include <cmath>
#include <map>
#include <set>
#include <string>
#include <vector>

#include "catch.hpp"
#include "generated_pictures.hpp"

using namespace promptiqa;
using data_test::bytes;
using data_test::flat_picture;
using data_test::generated_picture;

namespace {

std::uint64_t checksum(const Image& image) {  // FNV-1a
  std::uint64_t hash = 0xcbf29ce484222325ull;
  for (const std::uint8_t byte : bytes(image)) hash = (hash ^ byte) * 0x100000001b3ull;
  return hash;
}

Image spoiled(const Image& image, const char* name, int level, std::uint64_t seed = 1) {
  return distort(image, distortion_index(name), level, seed);
}

// Mean and standard deviation of distorted - original, all channels or one.
struct Moments {
  double mean, deviation;
};
Moments difference(const Image& a, const Image& b) {
  const auto x = bytes(a), y = bytes(b);
  double sum = 0, squares = 0;
  for (std::size_t i = 0; i < x.size(); ++i) {
    const double d = static_cast<double>(y[i]) - x[i];
    sum += d, squares += d * d;
  }
  const auto n = static_cast<double>(x.size());
  return {sum / n, std::sqrt(squares / n - sum / n * (sum / n))};
}

double share_of_changed_pixels(const Image& a, const Image& b) {
  const auto x = bytes(a), y = bytes(b);
  std::size_t changed = 0;
  for (std::size_t i = 0; i < x.size(); i += 3) changed += !std::equal(&x[i], &x[i] + 3, &y[i]);
  return static_cast<double>(changed) / (static_cast<double>(x.size()) / 3);
}

distortion::Plane random_plane(int width, int height, std::uint64_t seed) {
  distortion::Plane plane;
  for (int i = 0; i < width * height; ++i)
    plane.push_back(static_cast<std::int32_t>(counter_uniform(seed, static_cast<std::uint64_t>(i)) * 65280));
  return plane;
}

}  // namespace

TEST_CASE("distortions have unique names and numbers") {
  CHECK(distortion_count() >= 24);
  std::set<std::string> names;
  for (int i = 0; i < distortion_count(); ++i) {
    names.insert(distortion_name(i));
    CHECK(distortion_index(distortion_name(i)) == i);
  }
  CHECK(names.size() == static_cast<std::size_t>(distortion_count()));
}

TEST_CASE("distort refuses what it cannot do") {
  const Image image = generated_picture(16, 16, 1);
  CHECK_THROWS_WITH(distort(image, -1, 1, 1), ContainsSubstring("distortion -1"));
  CHECK_THROWS_AS(distort(image, distortion_count(), 1, 1), Error);
  CHECK_THROWS_WITH(distort(image, 0, 0, 1), ContainsSubstring("gaussian_blur: level must be 1 to 5, got 0"));
  CHECK_THROWS_AS(distort(image, 0, 6, 1), Error);
  CHECK_THROWS_AS(distort(generated_picture(7, 30, 1), 0, 1, 1), ImageError);
  CHECK_THROWS_AS(distort(generated_picture(30, 7, 1), 0, 1, 1), ImageError);
  CHECK_THROWS_AS(distort(Image(), 0, 1, 1), ImageError);
  CHECK_THROWS_AS(distortion_name(distortion_count()), Error);
  CHECK_THROWS_WITH(distortion_index("bokeh"), ContainsSubstring("bokeh"));
}

TEST_CASE("each level is worse than the one before") {
  for (std::uint64_t seed = 1; seed <= 4; ++seed) {
    const int width = 90 + 37 * static_cast<int>(seed), height = 130 - 17 * static_cast<int>(seed);
    const Image image = generated_picture(width, height, seed);
    for (int kind = 0; kind < distortion_count(); ++kind) {
      INFO(distortion_name(kind) << ", seed " << seed);
      double before = 60;  // the first level does something that is more than rounding
      for (int level = 1; level <= distortion_levels; ++level) {
        const double now = psnr(image, distort(image, kind, level, seed));
        INFO("level " << level << ": " << now << " dB after " << before);
        CHECK(now < before);
        before = now;
      }
      CHECK(before < 35);  // and the last one is no trifle
    }
  }
}

TEST_CASE("any size from 8 x 8, gray or with alpha, keeps its size and name") {
  const int sizes[][2] = {{8, 8}, {9, 31}, {64, 8}, {17, 13}, {33, 50}};
  for (int kind = 0; kind < distortion_count(); ++kind)
    for (const auto& size : sizes)
      for (const int channels : {1, 3, 4}) {
        const Image image = generated_picture(size[0], size[1], 5, channels);
        for (const int level : {1, 5}) {
          const Image out = distort(image, kind, level, 9);
          INFO(distortion_name(kind) << " " << size[0] << " x " << size[1]);
          REQUIRE(out.is_rgb8());
          REQUIRE(out.width() == size[0]);
          REQUIRE(out.height() == size[1]);
          REQUIRE(out.name() == "generated 5");
        }
      }
}

TEST_CASE("only kinds that draw something depend on the seed") {
  const Image image = generated_picture(64, 64, 2);
  const std::set<std::string> fixed = {"gaussian_blur",     "lens_blur",    "colour_diffusion", "jpeg",
                                       "jpeg2000",          "brighten",     "darken",           "contrast_decrease",
                                       "contrast_increase", "desaturation", "oversaturation",   "quantisation",
                                       "pixelation",        "rescaling",    "oversharpening",   "blur_and_jpeg"};
  for (int kind = 0; kind < distortion_count(); ++kind) {
    INFO(distortion_name(kind));
    std::set<std::uint64_t> different;
    for (std::uint64_t seed = 1; seed <= 12; ++seed) different.insert(checksum(distort(image, kind, 4, seed)));
    CHECK((different.size() == 1) == (fixed.count(distortion_name(kind)) == 1));
    CHECK(checksum(distort(image, kind, 4, 3)) == checksum(distort(image, kind, 4, 3)));
  }
}

TEST_CASE("the bytes are the same on every machine") {
  // Made by this code, with GCC 12 and Clang 14, with and without optimisation; kinds with JPEG are left out because
  // they follow the version of stb.
  const std::map<std::string, std::uint64_t> expected = {
      {"gaussian_blur", 0xf430796157ceb66ull},
      {"lens_blur", 0x368c869306763901ull},
      {"motion_blur", 0xc9eb6969f2322dbdull},
      {"colour_diffusion", 0x4685a494de979652ull},
      {"white_noise", 0x39db35f852ba3902ull},
      {"colour_noise", 0xc1bc472a6e90a6c3ull},
      {"correlated_noise", 0x4314249555191846ull},
      {"impulse_noise", 0x94f5a94dbdbb438bull},
      {"multiplicative_noise", 0xa1b2394d8bab6cd2ull},
      {"jpeg2000", 0x105c2aa18993f5b4ull},
      {"brighten", 0x7e3064fc61254690ull},
      {"darken", 0x37cd17dadb5cb2e6ull},
      {"mean_shift", 0xab2bbe593345390full},
      {"contrast_decrease", 0x7c1e60ada4ea1938ull},
      {"contrast_increase", 0xbefb1f8b2115d057ull},
      {"desaturation", 0x18aa3f276611c292ull},
      {"oversaturation", 0xc25283aa139cd087ull},
      {"colour_shift", 0xff804b5a1fd1e66ull},
      {"chromatic_aberration", 0xf5bd80f1e7e02520ull},
      {"quantisation", 0x29ca25af7d7175eeull},
      {"dithered_quantisation", 0x8759ea042966b855ull},
      {"pixelation", 0x61b9c31c980a73f5ull},
      {"rescaling", 0x77a8a94b6a03f44bull},
      {"oversharpening", 0x4d09bb21d002329bull},
      {"denoising", 0xda2d3f79962d5cd6ull},
      {"jitter", 0xc26a96f4e691d654ull},
      {"block_loss", 0xd2b289f76458649eull},
      {"blur_and_noise", 0x71fd4dbf9c0bed02ull},
  };
  const Image image = generated_picture(61, 47, 77);
  CHECK(checksum(image) == 0x50a37c0bc265d0f9ull);
  for (int kind = 0; kind < distortion_count(); ++kind) {
    const std::string name = distortion_name(kind);
    if (name.find("jpeg") != std::string::npos && name != "jpeg2000") continue;
    std::uint64_t all = 0;
    for (int level = 1; level <= distortion_levels; ++level)
      all = all * 31 + checksum(distort(image, kind, level, 1234567890123ull));
    INFO(name << " 0x" << std::hex << all);
    const auto found = expected.find(name);
    CHECK(found != expected.end());
    if (found != expected.end()) CHECK(found->second == all);
  }
}

TEST_CASE("noises have the strength and the kind that their names say") {
  const Image flat = flat_picture(200, 200, 120);
  // 120,000 values: the standard error of a standard deviation is sigma / 490, of a mean sigma / 346. Five of them,
  // and 0.3 levels squared for rounding to bytes, which adds a variance of 1/12.
  const double sigmas[] = {5, 10, 18, 30, 48};
  for (int level = 1; level <= 4; ++level) {  // level 5 is clipped at 0 and 255
    const Moments m = difference(flat, spoiled(flat, "white_noise", level));
    const double sigma = sigmas[level - 1];
    CHECK(m.mean == Approx(0).margin(5 * sigma / 346));
    CHECK(m.deviation == Approx(std::sqrt(sigma * sigma + 1.0 / 12)).margin(5 * sigma / 490));
  }
  // Colour noise leaves luma alone (to rounding and clipping, which level 1 has none of).
  const Image coloured = spoiled(flat, "colour_noise", 1);
  const auto rgb = bytes(coloured);
  double largest = 0;
  for (std::size_t i = 0; i < rgb.size(); i += 3)
    largest = std::max(largest, std::fabs(0.299 * rgb[i] + 0.587 * rgb[i + 1] + 0.114 * rgb[i + 2] - 120));
  CHECK(largest < 0.6);
  CHECK(difference(flat, coloured).deviation > 4);
  // Correlated noise is smooth: neighbours differ by less than those of white noise of the same strength.
  const auto roughness = [](const Image& image) {
    const auto v = bytes(image);
    double sum = 0;
    for (std::size_t i = 3; i < v.size(); ++i) sum += std::abs(v[i] - v[i - 3]);
    return sum / static_cast<double>(v.size());
  };
  const Image correlated = spoiled(flat, "correlated_noise", 3);
  CHECK(difference(flat, correlated).deviation == Approx(14).margin(0.6));
  CHECK(roughness(correlated) < 0.5 * roughness(spoiled(flat, "white_noise", 3)));
  // Impulses: the stated share of pixels, each black or white, half and half.
  const Image impulses = spoiled(flat, "impulse_noise", 3);
  CHECK(share_of_changed_pixels(flat, impulses) == Approx(0.03).margin(5 * std::sqrt(0.03 / 40000)));
  const auto values = bytes(impulses);
  const auto white = std::count(values.begin(), values.end(), 255), black = std::count(values.begin(), values.end(), 0);
  CHECK(white + black + std::count(values.begin(), values.end(), 120) == 120000);
  CHECK(static_cast<double>(white) / static_cast<double>(white + black) ==
        Approx(0.5).margin(5 * 0.5 / std::sqrt(1200)));
  // Multiplicative noise is in proportion to the value.
  const double bright =
      difference(flat_picture(99, 99, 160), spoiled(flat_picture(99, 99, 160), "multiplicative_noise", 2)).deviation;
  const double dark =
      difference(flat_picture(99, 99, 40), spoiled(flat_picture(99, 99, 40), "multiplicative_noise", 2)).deviation;
  CHECK(bright == Approx(160 * 23 / 256.0).epsilon(0.03));
  CHECK(dark == Approx(40 * 23 / 256.0).epsilon(0.03));
  // The three channels are independent: the mean product of two is far below sigma^2.
  const auto noisy = bytes(spoiled(flat, "white_noise", 3));
  double product = 0;
  for (std::size_t i = 0; i < noisy.size(); i += 3) product += (noisy[i] - 120.0) * (noisy[i + 1] - 120.0);
  CHECK(product / 40000 == Approx(0).margin(5 * 18 * 18 / 200.0));
}

TEST_CASE("blurs keep a flat picture and spread a point to the width of their kernel") {
  const Image flat = flat_picture(40, 30, 77);
  for (const char* name :
       {"gaussian_blur", "lens_blur", "motion_blur", "colour_diffusion", "rescaling", "pixelation", "oversharpening",
        "contrast_decrease", "contrast_increase", "jitter", "chromatic_aberration", "desaturation", "oversaturation"})
    for (int level = 1; level <= distortion_levels; ++level) {
      INFO(name);
      CHECK((bytes(spoiled(flat, name, level)) == bytes(flat)));
    }
  // Second moments of the kernels along x and y, and what is expected of them.
  const auto moments = [](const std::vector<distortion::Tap>& taps) {
    double total = 0, xx = 0, yy = 0, xy = 0;
    for (const auto& tap : taps) {
      total += tap.weight;
      xx += static_cast<double>(tap.weight) * tap.dx * tap.dx;
      yy += static_cast<double>(tap.weight) * tap.dy * tap.dy;
      xy += static_cast<double>(tap.weight) * tap.dx * tap.dy;
    }
    CHECK(total == 1 << distortion::kernel_bits);
    return std::array<double, 3>{xx / total, yy / total, xy / total};
  };
  for (const double sigma : {0.7, 2.0, 5.0}) {
    // Cut at 3 sigma, where 2.7% of the variance lies beyond.
    CHECK(moments(distortion::gaussian_taps(sigma, true))[0] == Approx(sigma * sigma).epsilon(0.05));
    CHECK(moments(distortion::gaussian_taps(sigma, true))[1] == 0);
    CHECK(moments(distortion::gaussian_taps(sigma, false))[1] == Approx(sigma * sigma).epsilon(0.05));
  }
  for (const int radius : {32, 80, 112}) {
    // A disk's variance along an axis is r^2 / 4; averaging it over pixels adds that of a pixel, 1 / 12.
    const double r = radius / 16.0;
    CHECK(moments(distortion::disk_taps(radius))[0] == Approx(r * r / 4 + 1.0 / 12).margin(0.05));
    CHECK(moments(distortion::disk_taps(radius))[1] == Approx(r * r / 4 + 1.0 / 12).margin(0.05));
  }
  for (const int slope : {-64, -20, 0, 37, 64})
    for (const int length : {3, 9, 23}) {
      // A line of length l - 1, variance (l - 1)^2 / 12 along it; bilinear splatting adds at most 1/4 a side.
      const auto [xx, yy, xy] = moments(distortion::line_taps(length, slope, false));
      const double along = (length - 1) * (length - 1) / 12.0;
      CHECK(xx + yy == Approx(along).epsilon(0.05).margin(0.5));
      CHECK(xy == Approx(along * 64 * slope / (64.0 * 64 + slope * slope)).epsilon(0.05).margin(0.15));
      const auto steep = moments(distortion::line_taps(length, slope, true));
      CHECK(steep[0] == Approx(yy).margin(1e-3));
      CHECK(steep[1] == Approx(xx).margin(1e-3));
    }
}

TEST_CASE("filters match their definitions") {
  const int width = 23, height = 17;
  const distortion::Plane in = random_plane(width, height, 3);
  const auto at = [&](int x, int y) {
    return in[static_cast<std::size_t>(std::clamp(y, 0, height - 1) * width + std::clamp(x, 0, width - 1))];
  };
  SECTION("convolution") {
    const auto taps = distortion::line_taps(9, 23, false);
    const auto out = distortion::convolved(in, width, height, taps);
    for (int y = 0; y < height; ++y)
      for (int x = 0; x < width; ++x) {
        std::int64_t sum = 8192;
        for (const auto& tap : taps) sum += std::int64_t{tap.weight} * at(x + tap.dx, y + tap.dy);
        REQUIRE(out[static_cast<std::size_t>(y * width + x)] == sum >> 14);
      }
  }
  SECTION("median") {
    for (const int side : {3, 5, 13}) {
      const auto out = distortion::median_filtered(in, width, height, side);
      for (int y = 0; y < height; ++y)
        for (int x = 0; x < width; ++x) {
          std::vector<int> window;
          for (int v = -side / 2; v <= side / 2; ++v)
            for (int u = -side / 2; u <= side / 2; ++u) window.push_back(distortion::to_byte(at(x + u, y + v)));
          std::sort(window.begin(), window.end());
          REQUIRE(out[static_cast<std::size_t>(y * width + x)] == 256 * window[window.size() / 2]);
        }
    }
  }
  SECTION("shrinking keeps the mean and averages whole blocks") {
    const auto whole = distortion::shrunk(random_plane(24, 15, 4), 24, 15, 8, 5);
    const auto source = random_plane(24, 15, 4);
    for (int y = 0; y < 5; ++y)
      for (int x = 0; x < 8; ++x) {
        double sum = 0;
        for (int v = 0; v < 3; ++v)
          for (int u = 0; u < 3; ++u) sum += source[static_cast<std::size_t>((3 * y + v) * 24 + 3 * x + u)];
        CHECK(whole[static_cast<std::size_t>(y * 8 + x)] == Approx(sum / 9).margin(1));  // rounded twice
      }
    const auto mean = [](const distortion::Plane& plane) {
      double sum = 0;
      for (const std::int32_t v : plane) sum += v;
      return sum / static_cast<double>(plane.size());
    };
    CHECK(mean(distortion::shrunk(in, width, height, 10, 7)) == Approx(mean(in)).margin(1));
    CHECK(distortion::shrunk(in, width, height, width, height) == in);
  }
  SECTION("bicubic resizing is that of resize_cubic, at positions rounded to 1/64 pixel") {
    const Image image = generated_picture(width, height, 6);
    const distortion::Planes planes = distortion::to_planes(image);
    distortion::Planes larger{57, 40, {}};
    for (std::size_t c = 0; c < 3; ++c)
      larger.channel[c] = distortion::resized_cubic(planes.channel[c], width, height, 57, 40);
    const auto ours = bytes(distortion::to_image(larger, "")), theirs = bytes(resize_cubic(image, 40, 57));
    // Slopes of this picture reach 60 levels a pixel, times 1/128 pixel along both axes, and rounding.
    for (std::size_t i = 0; i < ours.size(); ++i) REQUIRE(std::abs(ours[i] - theirs[i]) <= 2);
    CHECK(distortion::resized_cubic(in, width, height, width, height) == in);
  }
  SECTION("colour planes come back") {
    distortion::Planes planes{width, height, {in, random_plane(width, height, 8), random_plane(width, height, 9)}};
    const auto back = distortion::to_rgb(distortion::to_luma_chroma(planes));
    // Luma and chroma are rounded to 1/256 level, and chroma is stretched by at most 1.8 on the way back.
    for (std::size_t c = 0; c < 3; ++c)
      for (std::size_t i = 0; i < planes.pixels(); ++i)
        REQUIRE(std::abs(back.channel[c][i] - planes.channel[c][i]) <= 3);
    const auto luma = distortion::to_luma_chroma(planes).channel[0][5];
    CHECK(luma ==
          Approx(0.299 * planes.channel[0][5] + 0.587 * planes.channel[1][5] + 0.114 * planes.channel[2][5]).margin(2));
  }
  SECTION("division rounds to nearest, halves up, for either sign") {
    CHECK(distortion::divided(7, 2) == 4);
    CHECK(distortion::divided(-7, 2) == -3);
    CHECK(distortion::divided(-8, 3) == -3);
    CHECK(distortion::divided(-7, 3) == -2);
    CHECK(distortion::divided(7, 3) == 2);
  }
}

TEST_CASE("compression") {
  const Image image = generated_picture(96, 70, 11);
  SECTION("JPEG is a file of that quality, decoded") {
    const std::vector<std::uint8_t> file = encode_jpeg(image, 28);
    CHECK(identify_format(file) == FileFormat::jpeg);
    CHECK((bytes(spoiled(image, "jpeg", 2)) == bytes(load_image_from_memory(file))));
    CHECK(encode_jpeg(image, 90).size() > file.size());
    CHECK(psnr(image, jpeg_compressed(image, 95)) > 38);
    CHECK(jpeg_compressed(image, 50).name() == image.name());
    CHECK_THROWS_AS(encode_jpeg(image, 0), Error);
    CHECK_THROWS_AS(encode_jpeg(image, 101), Error);
    CHECK_THROWS_AS(encode_jpeg(Image(), 50), ImageError);
    // A view with a stride is the same picture.
    std::vector<std::uint8_t> padded;
    for (int y = 0; y < 70; ++y) {
      padded.insert(padded.end(), image.row(y), image.row(y) + 96 * 3);
      padded.insert(padded.end(), 11, 0);
    }
    CHECK(encode_jpeg(Image::view(padded.data(), 96, 70, 3, 96 * 3 + 11), 28) == file);
  }
  SECTION("wavelet quantisation of the smallest step is nearly invisible, at any size") {
    for (const auto& [width, height] : {std::pair(96, 70), std::pair(8, 8), std::pair(33, 9), std::pair(101, 67)}) {
      const Image picture = generated_picture(width, height, 12);
      const auto out = distortion::to_image(distortion::wavelet_quantised(distortion::to_planes(picture), 1), "");
      // Nearly all coefficients fall into the dead zone: uniform errors within 1 level in luma, 2 in chroma, which is
      // stretched by up to 1.8. A variance of about 2 is 45 dB.
      CHECK(psnr(picture, out) > 44);
    }
  }
  SECTION("coefficients have the scale of pixels: white noise below the step is removed, far above it stays") {
    // With basis functions of unit length, noise of 8 levels has coefficients of 8 levels: within +-60 but for none.
    const Image flat = flat_picture(128, 128, 128);
    const Image noisy = spoiled(flat, "white_noise", 2);  // sigma 10
    const auto denoised = [&](int step) {
      return difference(flat,
                        distortion::to_image(distortion::wavelet_quantised(distortion::to_planes(noisy), step), ""))
          .deviation;
    };
    CHECK(denoised(60) < 3);
    CHECK(denoised(4) > 8);
  }
}

TEST_CASE("light and colour") {
  const Image image = generated_picture(80, 60, 21);
  const auto original = bytes(image);
  const auto mean = [](const std::vector<std::uint8_t>& v) {
    double sum = 0;
    for (const auto b : v) sum += b;
    return sum / static_cast<double>(v.size());
  };
  SECTION("brighter and darker") {
    CHECK(mean(bytes(spoiled(image, "brighten", 1))) > mean(original) + 3);
    CHECK(mean(bytes(spoiled(image, "darken", 1))) < mean(original) - 3);
    CHECK((bytes(spoiled(flat_picture(8, 8, 128), "darken", 3))[0] == 64));  // 255 (128/255)^2 = 64.25
  }
  SECTION("contrast keeps the mean luma and scales the rest") {
    const double deviation = difference(flat_picture(80, 60, 0), image).deviation;
    const Image weak = spoiled(image, "contrast_decrease", 2);
    double luma_mean = 0;
    for (std::size_t i = 0; i < original.size(); i += 3)
      luma_mean += (0.299 * original[i] + 0.587 * original[i + 1] + 0.114 * original[i + 2]) / 4800;
    CHECK(difference(flat_picture(80, 60, 0), weak).deviation == Approx(deviation * 159 / 256).epsilon(0.03));
    // The mean over channels is not quite luma's: 97/256 of the difference of the two is lost.
    CHECK(difference(image, weak).mean == Approx((luma_mean - mean(original)) * 97 / 256).margin(0.3));
    CHECK(difference(flat_picture(80, 60, 0), spoiled(image, "contrast_increase", 1)).deviation > 1.1 * deviation);
  }
  SECTION("saturation") {
    const auto gray = bytes(spoiled(image, "desaturation", 5));
    const auto vivid = bytes(spoiled(image, "oversaturation", 1));
    const auto spread = [](const std::vector<std::uint8_t>& v) {
      double sum = 0;
      for (std::size_t i = 0; i < v.size(); i += 3)
        sum += std::max({v[i], v[i + 1], v[i + 2]}) - std::min({v[i], v[i + 1], v[i + 2]});
      return sum;
    };
    CHECK(spread(gray) == 0);
    CHECK(spread(bytes(spoiled(image, "desaturation", 2))) == Approx(spread(original) / 2).epsilon(0.03));
    CHECK(spread(vivid) > 1.2 * spread(original));
  }
  SECTION("shifts") {
    const Image flat = flat_picture(20, 20, 100);
    std::set<int> ups;
    for (std::uint64_t seed = 1; seed <= 40; ++seed) {
      const auto v = bytes(spoiled(flat, "mean_shift", 2, seed));
      CHECK((v == bytes(flat_picture(20, 20, 120)) || v == bytes(flat_picture(20, 20, 80))));
      ups.insert(v[0]);
      const auto c = bytes(spoiled(flat, "colour_shift", 2, seed));
      CHECK(std::set<int>(c.begin(), c.begin() + 3) == std::set<int>{82, 118});
    }
    CHECK(ups.size() == 2);
  }
  SECTION("few levels") {
    const auto levels = [](const Image& picture) {
      const auto v = bytes(picture);
      return std::set<int>(v.begin(), v.end());
    };
    CHECK(levels(spoiled(image, "quantisation", 5)).size() <= 4);
    for (const int v : levels(spoiled(image, "dithered_quantisation", 5))) CHECK(v % 85 == 0);
    // Dither keeps the mean where plain rounding does not.
    const Image flat = flat_picture(100, 100, 60);
    CHECK(difference(flat, spoiled(flat, "dithered_quantisation", 5)).mean == Approx(0).margin(1.5));
    CHECK(difference(flat, spoiled(flat, "quantisation", 5)).mean == Approx(25));
  }
  SECTION("chromatic aberration moves red and blue apart and leaves green") {
    const auto v = bytes(spoiled(image, "chromatic_aberration", 2));
    bool moved_x = true, moved_y = true;
    const auto at = [&](int x, int y, int c) { return original[static_cast<std::size_t>(3 * (y * 80 + x) + c)]; };
    for (int y = 2; y < 58; ++y)
      for (int x = 2; x < 78; ++x) {
        const std::uint8_t* p = &v[static_cast<std::size_t>(3 * (y * 80 + x))];
        REQUIRE(p[1] == at(x, y, 1));
        moved_x = moved_x && p[0] == at(x + 2, y, 0) && p[2] == at(x - 2, y, 2);
        moved_y = moved_y && p[0] == at(x, y + 2, 0) && p[2] == at(x, y - 2, 2);
      }
    CHECK((moved_x || moved_y));
  }
}

TEST_CASE("resolution, blocks and jitter") {
  const Image image = generated_picture(60, 48, 31);
  SECTION("pixels of a block are equal") {
    const Image out = spoiled(image, "pixelation", 3);
    for (int y = 0; y < 48; ++y)
      for (int x = 0; x < 60; ++x)
        for (int c = 0; c < 3; ++c) REQUIRE(out.row(y)[3 * x + c] == out.row(y / 5 * 5)[3 * (x / 5 * 5) + c]);
  }
  SECTION("blocks are lost one after the other and never come back") {
    double before = 0;
    std::vector<std::uint8_t> previous = bytes(image);
    const auto original = previous;
    for (int level = 1; level <= distortion_levels; ++level) {
      const Image out = spoiled(image, "block_loss", level, 5);
      const double share = share_of_changed_pixels(image, out);
      CHECK(share > before);
      before = share;
      const auto now = bytes(out);
      for (std::size_t i = 0; i < now.size(); ++i)
        if (previous[i] != original[i]) REQUIRE(now[i] == previous[i]);
      previous = now;
    }
    CHECK(before == Approx(0.16).margin(0.01));
  }
  SECTION("jitter takes pixels from near by, the farther the higher the level") {
    // On a ramp of one level a pixel, the difference is the displacement.
    std::vector<std::uint8_t> ramp;
    for (int y = 0; y < 60; ++y)
      for (int x = 0; x < 240; ++x) ramp.insert(ramp.end(), 3, static_cast<std::uint8_t>(x + 5));
    const Image picture = Image::from_vector(std::move(ramp), 240, 60, 3);
    CHECK(difference(picture, spoiled(picture, "jitter", 5)).deviation == Approx(5).epsilon(0.05));
    CHECK(difference(picture, spoiled(picture, "jitter", 3)).deviation == Approx(1.75).epsilon(0.08));
    CHECK(difference(picture, spoiled(picture, "jitter", 5)).mean == Approx(0).margin(0.3));
  }
}
