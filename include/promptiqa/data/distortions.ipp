// Bodies of distortions.hpp: one function a kind, which takes the planes, the level 0..4 and random numbers.
// Surprising choice: the strengths are ours, chosen so that each kind spans hardly visible to very annoying; TID2013
// and KADID-10k publish their pictures but not all of their parameters.
#pragma once

#include <algorithm>
#include <array>
#include <cmath>
#include <iterator>
#include <string>
#include <utility>
#include <vector>

#include <promptiqa/data/counter_random.hpp>
#include <promptiqa/data/distortions.hpp>
#include <promptiqa/data/filters.ipp>
#include <promptiqa/data/jpeg.ipp>
#include <promptiqa/data/planes.ipp>
#include <promptiqa/data/wavelet.ipp>

namespace promptiqa {

namespace distortion {

// A strength for each level. Fractions are multiples of 1/256, so that products with them are exact.
template <class T>
using Levels = std::array<T, distortion_levels>;

template <class F>
void for_each_value(Planes& planes, F change) {
  for (std::size_t c = 0; c < 3; ++c)
    for (std::size_t i = 0; i < planes.pixels(); ++i) planes.channel[c][i] = change(planes.channel[c][i], c, i);
}

// ---- building blocks that several kinds share ----

/// Adds independent normal noise to channels first..2; sigma in levels.
inline void add_noise(Planes& planes, std::int64_t sigma, const CounterRandom& random, std::size_t first = 0) {
  for (std::size_t c = first; c < 3; ++c)
    for (std::size_t i = 0; i < planes.pixels(); ++i)
      planes.channel[c][i] += static_cast<std::int32_t>(sigma * random.normal(3 * i + c) >> 8);
}

inline Planes through_jpeg(const Planes& in, int quality) {
  return to_planes(jpeg_compressed(to_image(in, {}), quality));
}

/// mean + factor / 256 * (value - mean), the mean being that of luma over the picture.
inline Planes with_contrast(Planes planes, std::int64_t factor) {
  const Planes luma = to_luma_chroma(planes);
  std::int64_t sum = 0;
  for (const std::int32_t v : luma.channel[0]) sum += v;
  const std::int64_t mean = divided(sum, static_cast<std::int64_t>(planes.pixels()));
  for_each_value(planes, [&](std::int64_t v, std::size_t, std::size_t) {
    return static_cast<std::int32_t>(mean + divided(factor * (v - mean), 256));
  });
  return planes;
}

/// luma + factor / 256 * (value - luma).
inline Planes with_saturation(Planes planes, std::int64_t factor) {
  const Planes luma = to_luma_chroma(planes);
  for_each_value(planes, [&](std::int64_t v, std::size_t, std::size_t i) {
    return static_cast<std::int32_t>(luma.channel[0][i] + divided(factor * (v - luma.channel[0][i]), 256));
  });
  return planes;
}

/// 255 (v / 255)^exponent. std::pow may differ in its last bits between libraries, but for the exponents in use no
/// value lies within 0.0002 of a half, where that would show.
inline Planes with_gamma(Planes planes, double exponent) {
  std::array<std::int32_t, 256> curve;
  for (std::size_t v = 0; v < curve.size(); ++v)
    curve[v] =
        one_level * static_cast<std::int32_t>(std::lround(255 * std::pow(static_cast<double>(v) / 255, exponent)));
  for_each_value(planes, [&](std::int32_t v, std::size_t, std::size_t) { return curve[to_byte(v)]; });
  return planes;
}

/// The nearest of `count` equally spaced levels; `dither` adds up to half a step before.
template <class F>
Planes with_fewer_levels(Planes planes, std::int64_t count, F dither) {
  const std::int64_t full = 255 * one_level;
  for_each_value(planes, [&](std::int64_t v, std::size_t c, std::size_t i) {
    const std::int64_t index = divided(v * (count - 1) * 256 + full * dither(c, i), full * 256);
    return static_cast<std::int32_t>(std::clamp<std::int64_t>(index, 0, count - 1) * full / (count - 1));
  });
  return planes;
}

// ---- blurs ----

inline Planes gaussian_blur(const Planes& in, std::size_t level, const CounterRandom&) {
  constexpr Levels<double> sigma = {0.7, 1.2, 2, 3.2, 5};
  return gaussian_blurred(in, sigma[level]);
}

inline Planes lens_blur(const Planes& in, std::size_t level, const CounterRandom&) {
  constexpr Levels<int> radius_16ths = {20, 32, 48, 80, 112};
  Planes out = in;
  for (Plane& plane : out.channel) plane = convolved(plane, in.width, in.height, disk_taps(radius_16ths[level]));
  return out;
}

inline Planes motion_blur(const Planes& in, std::size_t level, const CounterRandom& random) {
  constexpr Levels<int> length = {3, 5, 9, 15, 23};
  const int slope = static_cast<int>(random.below(0, 129)) - 64;
  const auto taps = line_taps(length[level], slope, random.below(1, 2) == 1);
  Planes out = in;
  for (Plane& plane : out.channel) plane = convolved(plane, in.width, in.height, taps);
  return out;
}

inline Planes colour_diffusion(const Planes& in, std::size_t level, const CounterRandom&) {
  constexpr Levels<double> sigma = {3, 6, 10, 16, 24};
  Planes planes = to_luma_chroma(in);
  for (std::size_t c = 1; c < 3; ++c)
    planes.channel[c] = gaussian_blurred(planes.channel[c], in.width, in.height, sigma[level]);
  return to_rgb(planes);
}

// ---- noises ----

inline Planes white_noise(const Planes& in, std::size_t level, const CounterRandom& random) {
  constexpr Levels<int> sigma = {5, 10, 18, 30, 48};
  Planes out = in;
  add_noise(out, sigma[level], random);
  return out;
}

inline Planes colour_noise(const Planes& in, std::size_t level, const CounterRandom& random) {
  constexpr Levels<int> sigma = {6, 12, 22, 36, 55};
  Planes planes = to_luma_chroma(in);
  add_noise(planes, sigma[level], random, 1);
  return to_rgb(planes);
}

inline Planes correlated_noise(const Planes& in, std::size_t level, const CounterRandom& random) {
  constexpr Levels<int> sigma = {4, 8, 14, 23, 36};  // of the sum; blurring by 1.5 pixels divides by 2 sqrt(pi) 1.5
  Planes noise{in.width, in.height, {}}, out = in;
  for (Plane& plane : noise.channel) plane.resize(in.pixels());
  add_noise(noise, 16, random);
  noise = gaussian_blurred(noise, 1.5);
  for_each_value(out, [&](std::int32_t v, std::size_t c, std::size_t i) {
    return v + static_cast<std::int32_t>(divided(noise.channel[c][i] * std::int64_t{sigma[level]} * 85, 16 * 16));
  });
  return out;
}

inline Planes impulse_noise(const Planes& in, std::size_t level, const CounterRandom& random) {
  constexpr Levels<std::uint64_t> per_mille = {3, 10, 30, 70, 140};
  Planes out = in;
  for_each_value(out, [&](std::int32_t v, std::size_t, std::size_t i) {
    if (random.below(2 * i, 1000) >= per_mille[level]) return v;
    return random.below(2 * i + 1, 2) == 1 ? 255 * one_level : 0;
  });
  return out;
}

inline Planes multiplicative_noise(const Planes& in, std::size_t level, const CounterRandom& random) {
  constexpr Levels<std::int64_t> sigma_256ths = {10, 23, 41, 69, 108};
  Planes out = in;
  for_each_value(out, [&](std::int64_t v, std::size_t c, std::size_t i) {
    return static_cast<std::int32_t>(v + (v * (sigma_256ths[level] * random.normal(3 * i + c) >> 8) >> 16));
  });
  return out;
}

// ---- compression ----

inline Planes jpeg(const Planes& in, std::size_t level, const CounterRandom&) {
  constexpr Levels<int> quality = {55, 28, 16, 9, 5};
  return through_jpeg(in, quality[level]);
}

inline Planes jpeg2000(const Planes& in, std::size_t level, const CounterRandom&) {
  constexpr Levels<int> step = {16, 32, 60, 110, 190};
  return wavelet_quantised(in, step[level]);
}

// ---- light and colour ----

inline Planes brighten(const Planes& in, std::size_t level, const CounterRandom&) {
  constexpr Levels<double> exponent = {0.85, 0.7, 0.55, 0.42, 0.3};
  return with_gamma(in, exponent[level]);
}

inline Planes darken(const Planes& in, std::size_t level, const CounterRandom&) {
  constexpr Levels<double> exponent = {1.2, 1.5, 2, 2.7, 3.8};
  return with_gamma(in, exponent[level]);
}

inline Planes mean_shift(const Planes& in, std::size_t level, const CounterRandom& random) {
  constexpr Levels<int> shift = {10, 20, 35, 55, 80};
  const int by = (random.below(0, 2) == 1 ? shift[level] : -shift[level]) * one_level;
  Planes out = in;
  for_each_value(out, [&](std::int32_t v, std::size_t, std::size_t) { return v + by; });
  return out;
}

inline Planes contrast_decrease(const Planes& in, std::size_t level, const CounterRandom&) {
  constexpr Levels<int> factor = {205, 159, 115, 77, 46};
  return with_contrast(in, factor[level]);
}

inline Planes contrast_increase(const Planes& in, std::size_t level, const CounterRandom&) {
  constexpr Levels<int> factor = {307, 371, 461, 614, 870};
  return with_contrast(in, factor[level]);
}

inline Planes desaturation(const Planes& in, std::size_t level, const CounterRandom&) {
  constexpr Levels<int> factor = {192, 128, 77, 31, 0};
  return with_saturation(in, factor[level]);
}

inline Planes oversaturation(const Planes& in, std::size_t level, const CounterRandom&) {
  constexpr Levels<int> factor = {359, 486, 691, 1024, 1664};
  return with_saturation(in, factor[level]);
}

inline Planes colour_shift(const Planes& in, std::size_t level, const CounterRandom& random) {
  constexpr Levels<int> shift = {8, 18, 32, 50, 75};
  const auto signs = static_cast<int>(random.below(0, 6)) + 1;  // neither all up nor all down
  Planes out = in;
  for_each_value(out, [&](std::int32_t v, std::size_t c, std::size_t) {
    return v + ((signs >> c & 1) ? shift[level] : -shift[level]) * one_level;
  });
  return out;
}

inline Planes chromatic_aberration(const Planes& in, std::size_t level, const CounterRandom& random) {
  constexpr Levels<int> shift = {1, 2, 4, 7, 11};  // red one way, blue the other
  const bool along_x = random.below(0, 2) == 1;
  Planes out = in;
  for_each_value(out, [&](std::int32_t, std::size_t c, std::size_t i) {
    const int by = (1 - static_cast<int>(c)) * shift[level];
    const int x = static_cast<int>(i % static_cast<std::size_t>(in.width)) + (along_x ? by : 0);
    const int y = static_cast<int>(i / static_cast<std::size_t>(in.width)) + (along_x ? 0 : by);
    return in
        .channel[c][static_cast<std::size_t>(std::clamp(y, 0, in.height - 1)) * static_cast<std::size_t>(in.width) +
                    static_cast<std::size_t>(std::clamp(x, 0, in.width - 1))];
  });
  return out;
}

inline Planes quantisation(const Planes& in, std::size_t level, const CounterRandom&) {
  constexpr Levels<int> count = {24, 14, 9, 6, 4};
  return with_fewer_levels(in, count[level], [](std::size_t, std::size_t) { return 0; });
}

inline Planes dithered_quantisation(const Planes& in, std::size_t level, const CounterRandom& random) {
  constexpr Levels<int> count = {24, 14, 9, 6, 4};
  return with_fewer_levels(in, count[level], [&](std::size_t c, std::size_t i) {
    return static_cast<std::int64_t>(random.below(3 * i + c, 256)) - 128;
  });
}

// ---- resolution ----

inline Planes pixelation(const Planes& in, std::size_t level, const CounterRandom&) {
  constexpr Levels<int> sides = {2, 3, 5, 8, 12};
  const int side = sides[level];
  Planes out = in;
  for (Plane& plane : out.channel)
    for (int y0 = 0; y0 < in.height; y0 += side)
      for (int x0 = 0; x0 < in.width; x0 += side) {
        const int width = std::min(side, in.width - x0), height = std::min(side, in.height - y0);
        const auto each = [&](auto visit) {
          for (int y = y0; y < y0 + height; ++y)
            for (int x = x0; x < x0 + width; ++x)
              visit(plane[static_cast<std::size_t>(y) * static_cast<std::size_t>(in.width) +
                          static_cast<std::size_t>(x)]);
        };
        std::int64_t sum = 0;
        each([&](std::int32_t v) { sum += v; });
        const auto mean = static_cast<std::int32_t>(divided(sum, std::int64_t{width} * height));
        each([&](std::int32_t& v) { v = mean; });
      }
  return out;
}

inline Planes rescaling(const Planes& in, std::size_t level, const CounterRandom&) {
  constexpr Levels<int> percent = {70, 50, 35, 22, 14};
  const int width = std::max(1, static_cast<int>(std::int64_t{in.width} * percent[level] / 100));
  const int height = std::max(1, static_cast<int>(std::int64_t{in.height} * percent[level] / 100));
  Planes out = in;
  for (Plane& plane : out.channel)
    plane = resized_cubic(shrunk(plane, in.width, in.height, width, height), width, height, in.width, in.height);
  return out;
}

// ---- processing ----

inline Planes oversharpening(const Planes& in, std::size_t level, const CounterRandom&) {
  constexpr Levels<int> halves = {2, 4, 7, 11, 18};
  const Planes blurred = gaussian_blurred(in, 1.5);
  Planes out = in;
  for_each_value(out, [&](std::int32_t v, std::size_t c, std::size_t i) {
    return v + halves[level] * (v - blurred.channel[c][i]) / 2;
  });
  return out;
}

// A noisy picture after a median filter that is as wide as the noise is strong.
inline Planes denoising(const Planes& in, std::size_t level, const CounterRandom& random) {
  constexpr Levels<int> side = {3, 5, 7, 9, 13}, sigma = {8, 15, 24, 35, 60};
  Planes out = in;
  add_noise(out, sigma[level], random);
  for (Plane& plane : out.channel) plane = median_filtered(plane, in.width, in.height, side[level]);
  return out;
}

// Each pixel is taken from a place near by.
inline Planes jitter(const Planes& in, std::size_t level, const CounterRandom& random) {
  constexpr Levels<std::int64_t> sigma_256ths = {128, 256, 448, 768, 1280};  // of a pixel
  const auto moved = [&](std::size_t at, std::uint64_t i, int limit) {
    const std::int64_t place = static_cast<std::int64_t>(at) * 256 + (sigma_256ths[level] * random.normal(i) >> 16);
    return std::clamp<std::int64_t>(place, 0, (limit - 1) * 256);
  };
  const auto row = static_cast<std::size_t>(in.width);
  Planes out = in;
  for (std::size_t i = 0; i < in.pixels(); ++i) {
    const std::int64_t x = moved(i % row, 2 * i, in.width), y = moved(i / row, 2 * i + 1, in.height);
    const std::int32_t fx = static_cast<std::int32_t>(x & 255), fy = static_cast<std::int32_t>(y & 255);
    const std::size_t at = static_cast<std::size_t>(y >> 8) * row + static_cast<std::size_t>(x >> 8);
    const std::size_t right = fx ? 1 : 0, down = fy ? row : 0;  // no neighbour is read that has no weight
    for (std::size_t c = 0; c < 3; ++c) {
      const std::int32_t* p = in.channel[c].data() + at;
      const std::int32_t upper = (p[0] * (256 - fx) + p[right] * fx) >> 8;
      const std::int32_t lower = (p[down] * (256 - fx) + p[down + right] * fx) >> 8;
      out.channel[c][i] = (upper * (256 - fy) + lower * fy) >> 8;
    }
  }
  return out;
}

// Square blocks of a grid are lost and show one random colour each: those with the smallest random numbers.
inline Planes block_loss(const Planes& in, std::size_t level, const CounterRandom& random) {
  constexpr Levels<std::size_t> per_mille = {5, 15, 35, 80, 160};
  const int side = std::max(2, std::min(in.width, in.height) / 16);
  const auto columns = static_cast<std::size_t>((in.width + side - 1) / side);
  const auto rows = static_cast<std::size_t>((in.height + side - 1) / side);
  std::vector<std::pair<std::uint64_t, std::size_t>> order;
  for (std::size_t b = 0; b < columns * rows; ++b) order.emplace_back(random.bits(4 * b), b);
  std::sort(order.begin(), order.end());
  const std::size_t lost = std::max(level + 1, columns * rows * per_mille[level] / 1000);
  std::vector<bool> is_lost(columns * rows);
  for (std::size_t k = 0; k < lost; ++k) is_lost[order[k].second] = true;
  Planes out = in;
  for_each_value(out, [&](std::int32_t v, std::size_t c, std::size_t i) {
    const std::size_t x = i % static_cast<std::size_t>(in.width), y = i / static_cast<std::size_t>(in.width);
    const std::size_t b = y / static_cast<std::size_t>(side) * columns + x / static_cast<std::size_t>(side);
    return is_lost[b] ? static_cast<std::int32_t>(random.below(4 * b + 1 + c, 256)) * one_level : v;
  });
  return out;
}

// ---- mixtures: two causes, each weaker than alone ----

inline Planes blur_and_jpeg(const Planes& in, std::size_t level, const CounterRandom&) {
  constexpr Levels<double> sigma = {0.6, 1, 1.5, 2.2, 3.2};
  constexpr Levels<int> quality = {60, 38, 24, 14, 8};
  return through_jpeg(gaussian_blurred(in, sigma[level]), quality[level]);
}

inline Planes blur_and_noise(const Planes& in, std::size_t level, const CounterRandom& random) {
  constexpr Levels<double> sigma = {0.6, 1, 1.5, 2.2, 3.2};
  constexpr Levels<int> noise = {4, 7, 12, 20, 32};
  Planes out = gaussian_blurred(in, sigma[level]);
  add_noise(out, noise[level], random);
  return out;
}

inline Planes noise_and_jpeg(const Planes& in, std::size_t level, const CounterRandom& random) {
  constexpr Levels<int> noise = {4, 8, 14, 22, 34}, quality = {60, 38, 24, 14, 8};
  Planes out = in;
  add_noise(out, noise[level], random);
  return through_jpeg(out, quality[level]);
}

struct Kind {
  const char* name;
  Planes (*apply)(const Planes&, std::size_t level, const CounterRandom&);
};

// The numbers of kinds are stored with pictures made from them: add new ones at the end.
inline constexpr Kind kinds[] = {
    {"gaussian_blur", gaussian_blur},
    {"lens_blur", lens_blur},
    {"motion_blur", motion_blur},
    {"colour_diffusion", colour_diffusion},
    {"white_noise", white_noise},
    {"colour_noise", colour_noise},
    {"correlated_noise", correlated_noise},
    {"impulse_noise", impulse_noise},
    {"multiplicative_noise", multiplicative_noise},
    {"jpeg", jpeg},
    {"jpeg2000", jpeg2000},
    {"brighten", brighten},
    {"darken", darken},
    {"mean_shift", mean_shift},
    {"contrast_decrease", contrast_decrease},
    {"contrast_increase", contrast_increase},
    {"desaturation", desaturation},
    {"oversaturation", oversaturation},
    {"colour_shift", colour_shift},
    {"chromatic_aberration", chromatic_aberration},
    {"quantisation", quantisation},
    {"dithered_quantisation", dithered_quantisation},
    {"pixelation", pixelation},
    {"rescaling", rescaling},
    {"oversharpening", oversharpening},
    {"denoising", denoising},
    {"jitter", jitter},
    {"block_loss", block_loss},
    {"blur_and_jpeg", blur_and_jpeg},
    {"blur_and_noise", blur_and_noise},
    {"noise_and_jpeg", noise_and_jpeg},
};

inline const Kind& kind(int distortion) {
  if (distortion < 0 || distortion >= distortion_count())
    throw Error("distortion " + std::to_string(distortion) + ": there are kinds 0 to " +
                std::to_string(distortion_count() - 1));
  return kinds[distortion];
}

}  // namespace distortion

PROMPTIQA_INLINE int distortion_count() { return static_cast<int>(std::size(distortion::kinds)); }

PROMPTIQA_INLINE const char* distortion_name(int distortion) { return distortion::kind(distortion).name; }

PROMPTIQA_INLINE int distortion_index(std::string_view name) {
  for (int i = 0; i < distortion_count(); ++i)
    if (name == distortion::kinds[i].name) return i;
  throw Error("there is no distortion '" + std::string(name) + "'");
}

PROMPTIQA_INLINE Image distort(const Image& image, int distortion, int level, std::uint64_t seed) {
  const distortion::Kind& kind = distortion::kind(distortion);
  if (level < 1 || level > distortion_levels)
    throw Error(std::string(kind.name) + ": level must be 1 to " + std::to_string(distortion_levels) + ", got " +
                std::to_string(level));
  if (!image.empty() && (image.width() < 8 || image.height() < 8))
    throw ImageError(detail::image_label(image.name()) + ": distortions need at least 8 x 8 pixels, got " +
                     std::to_string(image.width()) + " x " + std::to_string(image.height()));
  const distortion::CounterRandom random(seed, static_cast<std::uint64_t>(distortion));
  return distortion::to_image(kind.apply(distortion::to_planes(image), static_cast<std::size_t>(level - 1), random),
                              image.name());
}

}  // namespace promptiqa
