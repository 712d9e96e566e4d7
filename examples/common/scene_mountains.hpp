// A landscape: mountains in haze under clouds, or the same behind a lake.
// Surprising choice: rays march over a height map, not a mesh; the lake is one more ray, reflected.
#pragma once

#include <cstdint>
#include <optional>
#include <vector>

#include "noise.hpp"
#include "raster.hpp"

namespace examples {

class Landscape {
 public:
  Landscape(std::uint32_t seed, bool lake) : seed_(hash_bits(seed)), lake_(lake), heights_(side * side) {
    Random random(seed_);
    const float turn = random.uniform(0.5f, 1.1f) * (random.uniform() < 0.5f ? -1.0f : 1.0f);
    sun_ = normalised({std::sin(turn) * 1.2f, random.uniform(0.45f, 0.75f), -std::cos(turn) * 0.6f});
    for (int j = 0; j < side; ++j)
      for (int i = 0; i < side; ++i) {
        const float x = (static_cast<float>(i) / side - 0.5f) * extent, z = static_cast<float>(j) / side * extent;
        const float far = smooth_step(2.0f, 9.0f, z), valley = smooth_step(0.2f, 3.5f, std::fabs(x - 0.3f * z + 1.0f));
        float h = 0.35f * fbm(x * 0.7f, z * 0.7f, 8, seed_) - 0.12f;
        h += (0.25f + 1.75f * far) * (0.35f + 0.65f * valley) * ridged(x * 0.33f + 7, z * 0.33f, 9, seed_ + 50);
        if (lake_) h -= 0.30f * (1 - smooth_step(3.0f, 6.5f, z));
        heights_[static_cast<std::size_t>(j) * side + static_cast<std::size_t>(i)] = h;
      }
    eye_ = {0, std::max(height(0, 0.6f), lake_ ? water_ : -1.0f) + 0.32f, 0.6f};
  }

  Raster render(int width, int height) const {
    Raster out(width, height);
    for (int y = 0; y < height; ++y)
      for (int x = 0; x < width; ++x) {
        const float u = (static_cast<float>(x) - 0.5f * static_cast<float>(width)) / static_cast<float>(width);
        const float v = (0.44f * static_cast<float>(height) - static_cast<float>(y)) / static_cast<float>(width);
        out.at(x, y) = trace(eye_, normalised({u, v, 0.95f}));
      }
    return out;
  }

 private:
  static constexpr int side = 1024;
  static constexpr float extent = 14, water_ = 0.05f;

  float height(float x, float z) const {
    const float fx = std::clamp((x / extent + 0.5f) * side, 0.0f, side - 1.001f),
                fz = std::clamp(z / extent * side, 0.0f, side - 1.001f);
    const int i = static_cast<int>(fx), j = static_cast<int>(fz);
    const auto h = [&](int a, int b) {
      return heights_[static_cast<std::size_t>(b) * side + static_cast<std::size_t>(a)];
    };
    const float s = fx - static_cast<float>(i), t = fz - static_cast<float>(j);
    return mix(mix(h(i, j), h(std::min(i + 1, side - 1), j), s),
               mix(h(i, std::min(j + 1, side - 1)), h(std::min(i + 1, side - 1), std::min(j + 1, side - 1)), s), t);
  }

  // Distance along the ray to the terrain.
  std::optional<float> march(Vec3 from, Vec3 d) const {
    float t = 0.03f, previous = t;
    while (t < 16) {
      const Vec3 p = from + d * t;
      if (p.y > 2.6f && d.y > 0) return std::nullopt;
      const float gap = p.y - height(p.x, p.z);
      if (gap < 0) {
        for (int i = 0; i < 8; ++i) {  // bisection between the last point above and this one
          const float middle = 0.5f * (previous + t);
          const Vec3 q = from + d * middle;
          (q.y < height(q.x, q.z) ? t : previous) = middle;
        }
        return t;
      }
      previous = t;
      t += std::max(0.004f * t + 0.002f, 0.35f * gap);
    }
    return std::nullopt;
  }

  Vec3 sky(Vec3 d) const {
    const float up = std::max(d.y, 0.0f), towards = std::max(dot(d, sun_), 0.0f);
    Vec3 color = mix(Vec3{0.55f, 0.69f, 0.88f}, Vec3{0.06f, 0.19f, 0.52f}, std::pow(up, 0.55f));
    color = color + Vec3{1.0f, 0.8f, 0.5f} * (0.25f * std::pow(towards, 8.0f));
    if (d.y < 0.015f) return color;
    const float scale = 1.1f / (d.y + 0.12f), x = d.x * scale, z = d.z * scale;
    const auto density = [&](float a, float b) {
      return smooth_step(0.47f, 0.72f, fbm(a * 1.3f, b * 1.3f, 7, seed_ + 90));
    };
    const float here = density(x, z), shade = density(x + 0.18f * sun_.x, z + 0.18f * sun_.z);
    const Vec3 cloud = mix(Vec3{1.0f, 0.98f, 0.95f}, Vec3{0.45f, 0.49f, 0.56f}, 0.75f * shade * here);
    return mix(color, cloud, here * smooth_step(0.015f, 0.10f, d.y) * 0.95f);
  }

  Vec3 haze(Vec3 color, Vec3 d, float distance) const {
    const float towards = std::max(dot(d, sun_), 0.0f);
    const Vec3 air = Vec3{0.42f, 0.55f, 0.76f} + Vec3{0.3f, 0.2f, 0.05f} * (towards * towards);
    return mix(color, air, 1 - std::exp(-0.04f * distance));
  }

  Vec3 ground(Vec3 p, Vec3 d, float distance) const {
    const float e = 0.008f + 0.0012f * distance;
    Vec3 n =
        normalised({height(p.x - e, p.z) - height(p.x + e, p.z), 2 * e, height(p.x, p.z - e) - height(p.x, p.z + e)});
    // Detail finer than the height map, fading with distance.
    const float rough = 0.45f * std::exp(-0.35f * distance) + 0.12f;
    const float a = fbm(p.x * 60, p.z * 60, 4, seed_ + 11) - 0.5f,
                b = fbm(p.x * 60 + 31, p.z * 60, 4, seed_ + 12) - 0.5f;
    n = normalised(n + Vec3{a, 0, b} * (2 * rough));
    const float patch = fbm(p.x * 4, p.z * 4, 6, seed_ + 20), grain = fbm(p.x * 45, p.z * 45, 7, seed_ + 21);
    Vec3 albedo = mix(Vec3{0.23f, 0.20f, 0.17f}, Vec3{0.38f, 0.34f, 0.30f}, grain);  // rock
    const float grass = smooth_step(0.62f, 0.86f, n.y + 0.3f * (patch - 0.5f)) * (1 - smooth_step(0.45f, 0.8f, p.y));
    albedo = mix(albedo,
                 mix(Vec3{0.035f, 0.075f, 0.015f}, Vec3{0.25f, 0.24f, 0.07f},
                     smooth_step(0.25f, 0.75f, 0.5f * patch + 0.5f * grain)),
                 grass);
    const float forest =
        smooth_step(0.48f, 0.56f, patch) * smooth_step(0.6f, 0.8f, n.y + 0.15f) * (1 - smooth_step(0.3f, 0.55f, p.y));
    albedo = mix(albedo, Vec3{0.022f, 0.05f, 0.02f} * (0.5f + grain * 1.4f),
                 forest * smooth_step(0.35f, 0.6f, grain + 0.25f));
    const float snow = smooth_step(0.75f, 1.05f, p.y + 0.5f * (patch - 0.5f)) * smooth_step(0.5f, 0.72f, n.y);
    albedo = mix(albedo, Vec3{0.88f, 0.9f, 0.95f}, snow);
    if (lake_) albedo = mix(albedo * 0.55f, albedo, smooth_step(0.0f, 0.05f, p.y - water_));  // wet shore
    const float lit = std::max(dot(n, sun_), 0.0f) * (shadow(p + Vec3{0, 0.01f, 0}) ? 0.06f : 1.0f);
    const Vec3 light = Vec3{1.75f, 1.55f, 1.25f} * lit + Vec3{0.22f, 0.30f, 0.44f} * (0.5f + 0.5f * n.y);
    return haze(albedo * light, d, distance);
  }

  bool shadow(Vec3 p) const {
    for (float t = 0.02f; t < 3; t += 0.02f + 0.04f * t) {
      const Vec3 q = p + sun_ * t;
      if (q.y > 2.6f) return false;
      if (q.y < height(q.x, q.z)) return true;
    }
    return false;
  }

  Vec3 solid(Vec3 from, Vec3 d) const {
    const auto t = march(from, d);
    return t ? ground(from + d * *t, d, *t + length(from - eye_)) : sky(d);
  }

  Vec3 trace(Vec3 from, Vec3 d) const {
    const auto t = march(from, d);
    const float surface = lake_ && d.y < 0 ? (water_ - from.y) / d.y : 1e9f;
    if (surface < (t ? *t : 16.0f)) {
      const Vec3 p = from + d * surface;
      const float wave = 0.035f / (1 + 0.25f * surface);
      const auto swell = [&](float x, float z) { return fbm(x * 14, z * 30, 4, seed_ + 70); };
      const Vec3 n = normalised({(swell(p.x + 0.01f, p.z) - swell(p.x, p.z)) * 10 * wave, 1,
                                 (swell(p.x, p.z + 0.01f) - swell(p.x, p.z)) * 10 * wave});
      Vec3 r = reflected(d, n);
      r.y = std::max(r.y, 0.002f);
      const float fresnel = 0.03f + 0.97f * std::pow(1 - std::max(-dot(d, n), 0.0f), 5.0f);
      const Vec3 depth = mix(Vec3{0.03f, 0.09f, 0.10f}, Vec3{0.16f, 0.17f, 0.11f},
                             std::exp(-14 * std::max(water_ - height(p.x, p.z), 0.0f)));
      const float glint = std::pow(std::max(dot(r, sun_), 0.0f), 300.0f);
      return haze(mix(depth, solid(p, normalised(r)), std::min(fresnel + 0.12f, 1.0f)), d, 0.5f * surface) +
             Vec3{3, 2.6f, 2} * glint;
    }
    return t ? ground(from + d * *t, d, *t) : sky(d);
  }

  std::uint32_t seed_;
  bool lake_;
  std::vector<float> heights_;
  Vec3 sun_, eye_;
};

}  // namespace examples
