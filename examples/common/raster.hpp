// Linear-light colours and the pictures the scenes are drawn into.
// Surprising choice: scenes are drawn at twice the size and averaged in linear light; only develop() makes bytes.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <vector>

namespace examples {

/// A colour or a direction.
struct Vec3 {
  float x = 0, y = 0, z = 0;

  friend Vec3 operator+(Vec3 a, Vec3 b) { return {a.x + b.x, a.y + b.y, a.z + b.z}; }
  friend Vec3 operator-(Vec3 a, Vec3 b) { return {a.x - b.x, a.y - b.y, a.z - b.z}; }
  friend Vec3 operator*(Vec3 a, Vec3 b) { return {a.x * b.x, a.y * b.y, a.z * b.z}; }
  friend Vec3 operator*(Vec3 a, float s) { return {a.x * s, a.y * s, a.z * s}; }
};

inline float dot(Vec3 a, Vec3 b) { return a.x * b.x + a.y * b.y + a.z * b.z; }
inline float length(Vec3 a) { return std::sqrt(dot(a, a)); }
inline Vec3 normalised(Vec3 a) { return a * (1.0f / std::max(length(a), 1e-12f)); }
inline Vec3 mix(Vec3 a, Vec3 b, float t) { return a + (b - a) * t; }
inline float mix(float a, float b, float t) { return a + (b - a) * t; }
inline Vec3 reflected(Vec3 d, Vec3 n) { return d - n * (2 * dot(d, n)); }

/// 0 below `low`, 1 above `high`, smooth in between.
inline float smooth_step(float low, float high, float x) {
  const float t = std::clamp((x - low) / (high - low), 0.0f, 1.0f);
  return t * t * (3 - 2 * t);
}

/// A picture in linear light.
struct Raster {
  int width, height;
  std::vector<Vec3> pixels;

  Raster(int w, int h) : width(w), height(h), pixels(static_cast<std::size_t>(w) * static_cast<std::size_t>(h)) {}
  Vec3& at(int x, int y) {
    return pixels[static_cast<std::size_t>(y) * static_cast<std::size_t>(width) + static_cast<std::size_t>(x)];
  }
  const Vec3& at(int x, int y) const { return const_cast<Raster*>(this)->at(x, y); }

  /// Half the size: the mean of every 2 x 2 pixels.
  Raster halved() const {
    Raster out(width / 2, height / 2);
    for (int y = 0; y < out.height; ++y)
      for (int x = 0; x < out.width; ++x)
        out.at(x, y) =
            (at(2 * x, 2 * y) + at(2 * x + 1, 2 * y) + at(2 * x, 2 * y + 1) + at(2 * x + 1, 2 * y + 1)) * 0.25f;
    return out;
  }
};

/// 8-bit sRGB pixels, three a pixel, rows without gaps.
struct Photo {
  int width = 0, height = 0;
  std::vector<std::uint8_t> rgb;
};

/// What a camera does last: exposure from the picture's own brightness, a filmic curve, the sRGB curve, 8 bits.
inline Photo develop(const Raster& raster) {
  std::vector<float> light;
  for (const Vec3& c : raster.pixels) light.push_back(0.2126f * c.x + 0.7152f * c.y + 0.0722f * c.z);
  const auto bright = light.begin() + static_cast<std::ptrdiff_t>(light.size() * 96 / 100);
  std::nth_element(light.begin(), bright, light.end());
  const float exposure = 0.55f / std::max(*bright, 1e-6f);
  const auto curve = [&](float x) {
    x = std::max(x * exposure, 0.0f);
    x = x * (2.51f * x + 0.03f) / (x * (2.43f * x + 0.59f) + 0.14f);  // a common fit of the ACES film curve
    x = std::clamp(x, 0.0f, 1.0f);
    x = x <= 0.0031308f ? 12.92f * x : 1.055f * std::pow(x, 1 / 2.4f) - 0.055f;
    return static_cast<std::uint8_t>(std::lround(255 * x));
  };
  Photo photo{raster.width, raster.height, {}};
  photo.rgb.reserve(raster.pixels.size() * 3);
  for (const Vec3& c : raster.pixels)
    for (float v : {c.x, c.y, c.z}) photo.rgb.push_back(curve(v));
  return photo;
}

}  // namespace examples
