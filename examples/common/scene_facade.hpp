// A brick house front: windows, a shop sign with text, a pavement, the shadow of the house opposite.
// Surprising choice: one relief function gives every material its height; light and shadow follow from its slope.
#pragma once

#include <cstdint>
#include <string>

#include "lettering.hpp"
#include "noise.hpp"
#include "raster.hpp"

namespace examples {

class Facade {
 public:
  explicit Facade(std::uint32_t seed) : seed_(hash_bits(seed + 3)) {
    static const std::string names[] = {"OLD BAKERY", "BOOKS 1897", "CAFE LUNA", "HARDWARE", "TAILOR 42"};
    Random random(seed_);
    sign_ = names[static_cast<std::size_t>(random.uniform() * 5)];
    static const Vec3 bricks[] = {{0.36f, 0.12f, 0.075f}, {0.42f, 0.21f, 0.11f}, {0.30f, 0.16f, 0.12f}};
    brick_ = bricks[static_cast<std::size_t>(random.uniform() * 3)];
    static const Vec3 boards[] = {{0.02f, 0.09f, 0.07f}, {0.03f, 0.05f, 0.13f}, {0.16f, 0.025f, 0.03f}};
    board_ = boards[static_cast<std::size_t>(random.uniform() * 3)];
    shade_at_ = random.uniform(0.25f, 0.7f);
  }

  /// The wall is 4 units wide; y grows downwards.
  Raster render(int width, int height) const {
    Raster out(width, height);
    const float unit = 4.0f / static_cast<float>(width);
    const float bottom = static_cast<float>(height) * unit;
    for (int y = 0; y < height; ++y)
      for (int x = 0; x < width; ++x) {
        // A slight view from below: the wall leans back.
        const float v = static_cast<float>(y) * unit, lean = 1 + 0.05f * (1 - v / bottom);
        const float u = (static_cast<float>(x) * unit - 2) * lean + 2;
        out.at(x, y) = shade(u, v - bottom + 3.0f, unit);  // the pavement stays at the bottom edge
      }
    return out;
  }

 private:
  struct Surface {
    Vec3 albedo;
    float height;  // towards the viewer
    float gloss;   // share of mirrored sky
  };

  Surface wall(float u, float v) const {
    const float course = 0.085f, brick = 0.26f;
    const float row = std::floor(v / course), shifted = u / brick + (static_cast<int>(row) % 2 ? 0.5f : 0.0f);
    const float column = std::floor(shifted);
    const float wobble = 0.006f * (noise(u * 20, v * 20, seed_) - 0.5f);
    const float du = std::min(shifted - column, column + 1 - shifted) * brick + wobble;
    const float dv = std::min(v - row * course, (row + 1) * course - v) + wobble;
    const float in_brick = smooth_step(0.004f, 0.012f, std::min(du, dv));
    const float tint = hash_at(static_cast<int>(row), static_cast<int>(column), 1, seed_);
    const float grain = fbm(u * 70, v * 70, 4, seed_ + 2), stain = fbm(u * 1.7f, v * 1.1f, 5, seed_ + 3);
    const Vec3 fired = brick_ * (0.65f + 0.7f * tint) * (0.7f + 0.6f * grain);
    const Vec3 mortar = Vec3{0.42f, 0.40f, 0.36f} * (0.7f + 0.5f * grain);
    return {mix(mortar, fired, in_brick) * (0.65f + 0.55f * stain),
            0.012f * in_brick + 0.012f * grain * in_brick + 0.004f * tint, 0};
  }

  Surface window(float u, float v, float w, float h, int index) const {  // u, v from the window's centre
    const float edge = std::min(w - std::fabs(u), h - std::fabs(v));
    const float bars = std::min(std::fabs(u), std::fabs(v + 0.12f));
    const float paint = 0.85f + 0.2f * fbm(u * 30, v * 8, 3, seed_ + 8);
    if (edge < 0.035f || bars < 0.014f) return {Vec3{0.78f, 0.76f, 0.70f} * paint, edge < 0.035f ? 0.03f : 0.0f, 0};
    // Behind the glass: a dark room and a curtain.
    const float curtain =
        smooth_step(0.10f, 0.16f, std::fabs(u) - 0.10f * noise(v * 4, static_cast<float>(index), seed_));
    const float folds = 0.55f + 0.45f * std::sin(u * 90 + 3 * noise(v * 3, u * 3, seed_));
    const Vec3 room{0.015f, 0.017f, 0.02f};
    return {mix(room, Vec3{0.30f, 0.27f, 0.22f} * folds, curtain), -0.05f, 0.55f};
  }

  Surface surface(float u, float v) const {
    if (v > 2.80f) {  // pavement slabs
      const float slab = u / 0.55f, du = std::min(slab - std::floor(slab), std::ceil(slab) - slab);
      const float grain = fbm(u * 40, v * 120, 5, seed_ + 30);
      return {Vec3{0.30f, 0.30f, 0.29f} * (0.6f + 0.7f * grain) * (du < 0.012f ? 0.4f : 1.0f), 0.25f + 0.01f * grain,
              0};
    }
    if (v > 1.22f && v < 1.58f) {  // the sign board
      const float edge = std::min(v - 1.22f, 1.58f - v), scale = 0.20f;
      const float worn = fbm(u * 12, v * 40, 5, seed_ + 40);
      const float text = text_coverage(sign_, (u - 2 + 0.5f * text_length(sign_) * scale) / scale, (v - 1.30f) / scale);
      if (edge < 0.03f) return {Vec3{0.50f, 0.40f, 0.22f} * (0.7f + 0.5f * worn), 0.10f, 0.05f};
      return {mix(board_ * (0.8f + 0.5f * worn), Vec3{0.80f, 0.70f, 0.45f} * (0.75f + 0.4f * worn), text),
              0.07f + 0.01f * text, 0.04f};
    }
    if (v >= 1.58f) {  // shop windows and a door between them
      if (std::fabs(u - 2) < 0.36f) {
        const float panel = std::min(0.24f - std::fabs(u - 2), std::fabs(std::fabs(v - 2.25f) - 0.30f) - 0.04f);
        const float wood = fbm(u * 60, v * 4, 4, seed_ + 50);
        const float knob = length(Vec3{u - 2.26f, v - 2.3f, 0});
        if (knob < 0.03f) return {{0.75f, 0.60f, 0.25f}, 0.05f, 0.2f};
        if (std::fabs(u - 2) > 0.31f) return {Vec3{0.70f, 0.68f, 0.62f} * (0.8f + 0.3f * wood), 0.05f, 0};
        return {board_ * 1.6f * (0.6f + 0.8f * wood), 0.02f * smooth_step(0.0f, 0.02f, panel), 0.06f};
      }
      const float c = u < 2 ? 0.85f : 3.15f;
      if (std::fabs(u - c) < 0.62f && v > 1.66f && v < 2.55f)
        return window(u - c, v - 2.10f, 0.62f, 0.45f, u < 2 ? 90 : 91);
      return wall(u, v);
    }
    const float cell = std::floor(u / 1.0f), cu = u - (cell + 0.5f);
    if (std::fabs(cu) < 0.34f && v > 0.93f && v < 1.01f)
      return {Vec3{0.55f, 0.53f, 0.48f} * (0.7f + 0.5f * fbm(u * 30, v * 30, 4, seed_)), 0.08f, 0};
    if (std::fabs(cu) < 0.27f && std::fabs(v - 0.50f) < 0.43f)
      return window(cu, v - 0.50f, 0.27f, 0.43f, static_cast<int>(cell));
    if (std::fabs(cu) < 0.34f && v > -0.05f && v < 0.07f)
      return {Vec3{0.52f, 0.50f, 0.45f} * (0.7f + 0.5f * fbm(u * 30, v * 30, 4, seed_)), 0.04f, 0};
    return wall(u, v);
  }

  Vec3 shade(float u, float v, float unit) const {
    const Surface here = surface(u, v);
    const float e = 1.5f * unit;
    const float su = (surface(u + e, v).height - surface(u - e, v).height) / (2 * e);
    const float sv = (surface(u, v + e).height - surface(u, v - e).height) / (2 * e);
    const Vec3 sun = normalised({-0.55f, -0.65f, 0.55f}), n = normalised({-0.6f * su, -0.6f * sv, 1});
    // Walk towards the sun: what stands higher than the ray throws a shadow.
    float light = 1;
    for (int i = 1; i <= 10; ++i) {
      const float t = 0.016f * static_cast<float>(i);
      const float gap = surface(u - 0.55f * t, v - 0.65f * t).height - here.height - 0.8f * t;
      light = std::min(light, 1 - smooth_step(0.0f, 0.012f, gap));
    }
    const float opposite =
        shade_at_ * 4 + 0.9f * (v - 1.5f) + (std::fmod(std::fabs(u + 10), 1.3f) < 0.4f ? 0.1f : 0.0f);
    light *= 0.04f + 0.96f * smooth_step(-0.03f, 0.03f, u - opposite + 1.0f);
    const Vec3 lit = here.albedo * (Vec3{2.3f, 2.05f, 1.7f} * (light * std::max(dot(n, sun), 0.0f)) +
                                    Vec3{0.42f, 0.50f, 0.62f} * (0.55f + 0.3f * n.z));
    if (here.gloss <= 0) return lit;
    // Mirrored in glass: sky above, the dark house opposite below, a little uneven.
    const float bend = 0.05f * noise(u * 3, v * 3, seed_ + 60),
                skyline = 1.15f + 0.35f * noise(std::floor(u * 2.3f), 0, seed_ + 61);
    const Vec3 clouds = mix(Vec3{0.38f, 0.55f, 0.85f}, Vec3{0.95f, 0.95f, 0.97f},
                            smooth_step(0.4f, 0.7f, fbm(u * 1.5f, v * 2.5f, 5, seed_ + 62)));
    const Vec3 mirrored =
        mix(clouds, Vec3{0.06f, 0.055f, 0.05f}, smooth_step(-0.01f, 0.01f, std::fmod(v + bend, 3.0f) - skyline));
    return mix(lit, mirrored, here.gloss);
  }

  std::uint32_t seed_;
  std::string sign_;
  Vec3 brick_, board_;
  float shade_at_;
};

}  // namespace examples
