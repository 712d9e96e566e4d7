// Foliage: a hedge of leaves in sunlight, with berries.
// Surprising choice: a painter's algorithm; each leaf first darkens what lies under it, which gives depth.
#pragma once

#include <cstdint>

#include "noise.hpp"
#include "raster.hpp"

namespace examples {

namespace detail {

// One leaf, `length` pixels from the centre to its tip.
inline void draw_leaf(Raster& out, float cx, float cy, float length, float angle, float depth, Random& random) {
  const float c = std::cos(angle), s = std::sin(angle), broad = random.uniform(0.38f, 0.55f);
  const float tilt = random.uniform(-0.5f, 0.9f), bend = random.uniform(-0.25f, 0.25f);
  const Vec3 young{0.26f, 0.38f, 0.05f}, old{0.05f, 0.15f, 0.03f}, autumn{0.42f, 0.22f, 0.03f};
  Vec3 color = mix(old, young, random.uniform());
  if (random.uniform() < 0.06f) color = mix(color, autumn, random.uniform(0.4f, 1.0f));
  const auto mottling = static_cast<std::uint32_t>(random.uniform() * 1e6f);
  const int reach = static_cast<int>(length * 1.35f);
  // Two passes: the soft shadow, then the leaf.
  for (const bool shadow : {true, false}) {
    const float ox = shadow ? 0.16f * length : 0, oy = shadow ? 0.22f * length : 0;
    for (int dy = -reach; dy <= reach; ++dy)
      for (int dx = -reach; dx <= reach; ++dx) {
        const int x = static_cast<int>(cx + ox) + dx, y = static_cast<int>(cy + oy) + dy;
        if (x < 0 || y < 0 || x >= out.width || y >= out.height) continue;
        const float fx = static_cast<float>(dx) / length, fy = static_cast<float>(dy) / length;
        const float u = fx * c + fy * s;
        if (std::fabs(u) >= 1) continue;
        const float v = fy * c - fx * s - bend * (1 - u * u);
        const float half = broad * (1 - u * u) * (1 - 0.35f * u);
        const float inside = std::fabs(v) / half;
        Vec3& pixel = out.at(x, y);
        if (shadow) {
          pixel = pixel * (1 - 0.5f * (1 - smooth_step(0.6f, 1.15f, inside)));
          continue;
        }
        if (inside >= 1) continue;
        const float fold = (v > 0 ? 1.0f : -1.0f) * 0.45f;  // the two halves face different ways
        const float side_veins = std::fabs(std::sin((u * 1.0f - std::fabs(v) * 1.3f) * 17));
        const float vein =
            std::max(1 - smooth_step(0.0f, 0.035f, std::fabs(v)), 0.45f * (1 - smooth_step(0.0f, 0.16f, side_veins)));
        const float lit = std::clamp(0.55f + 0.4f * tilt + fold * (0.3f + 0.3f * c) + 0.25f * u, 0.05f, 1.4f);
        const float spots = fbm(u * 5, v * 5, 4, mottling);
        Vec3 shade = mix(color, Vec3{0.35f, 0.42f, 0.16f}, 0.6f * vein) * (0.7f + 0.6f * spots);
        shade = shade * Vec3{1.9f, 1.8f, 1.4f} * lit * depth + Vec3{0.03f, 0.045f, 0.05f} * depth;
        shade = shade +
                Vec3{0.9f, 0.95f, 1.0f} *
                    (0.28f * depth * std::pow(std::max(0.0f, 1 - std::fabs(v - 0.3f * broad + 0.12f * u) * 5), 3.0f) *
                     std::max(tilt, 0.0f));
        pixel = mix(pixel, shade, 1 - smooth_step(0.93f, 1.0f, inside));
      }
  }
}

inline void draw_berry(Raster& out, float cx, float cy, float radius, float depth) {
  const Vec3 sun = normalised({-0.5f, -0.65f, 0.6f});
  const int reach = static_cast<int>(radius * 1.5f);
  for (int dy = -reach; dy <= reach; ++dy)
    for (int dx = -reach; dx <= reach; ++dx) {
      const int x = static_cast<int>(cx) + dx, y = static_cast<int>(cy) + dy;
      if (x < 0 || y < 0 || x >= out.width || y >= out.height) continue;
      const float fx = static_cast<float>(dx) / radius, fy = static_cast<float>(dy) / radius, r2 = fx * fx + fy * fy;
      Vec3& pixel = out.at(x, y);
      if (r2 >= 1) {
        const float sx = fx - 0.2f, sy = fy - 0.28f;
        pixel = pixel * (1 - 0.5f * (1 - smooth_step(0.7f, 1.3f, sx * sx + sy * sy)));
        continue;
      }
      const Vec3 n{fx, fy, std::sqrt(1 - r2)};
      const float lit = std::max(dot(n, sun), 0.0f), shine = std::pow(std::max(2 * lit * n.z - sun.z, 0.0f), 40.0f);
      const Vec3 shade = (Vec3{0.62f, 0.03f, 0.03f} * (0.12f + 1.5f * lit) + Vec3{1, 1, 1} * (1.6f * shine)) * depth;
      pixel = mix(pixel, shade, 1 - smooth_step(0.9f, 1.0f, r2));
    }
}

}  // namespace detail

inline Raster render_leaves(int width, int height, std::uint32_t seed) {
  Raster out(width, height);
  Random random(seed + 5);
  for (int y = 0; y < height; ++y)
    for (int x = 0; x < width; ++x) {
      const float u = static_cast<float>(x) / static_cast<float>(width),
                  v = static_cast<float>(y) / static_cast<float>(width);
      const float blotch = fbm(u * 6, v * 6, 3, seed);
      out.at(x, y) = Vec3{0.006f, 0.011f, 0.004f} + Vec3{0.035f, 0.05f, 0.015f} * smooth_step(0.5f, 0.8f, blotch);
    }
  const float unit = static_cast<float>(width);
  const int layers = 7;
  for (int layer = 0; layer < layers; ++layer) {
    const float near = static_cast<float>(layer) / (layers - 1);
    const int count = 330 - 33 * layer;
    for (int i = 0; i < count; ++i) {
      const float x = random.uniform(-0.05f, 1.05f) * unit,
                  y = random.uniform(-0.05f, 1.05f) * static_cast<float>(height);
      // Leaves leave gaps where the noise is low, so the depth of the hedge shows.
      if (fbm(x / unit * 5, y / unit * 5, 3, seed + 77) < 0.30f + 0.24f * near) continue;
      const float sun = 0.45f + 0.75f * smooth_step(0.35f, 0.65f, fbm(x / unit * 3 + 9, y / unit * 3, 3, seed + 33));
      detail::draw_leaf(out, x, y, unit * mix(0.022f, 0.062f, near) * random.uniform(0.75f, 1.25f),
                        random.uniform(0.0f, 6.28f), mix(0.16f, 1.0f, near * near) * sun, random);
    }
    if (layer >= 3)
      for (int i = 0; i < 5; ++i) {
        const float x = random.uniform() * unit, y = random.uniform() * static_cast<float>(height),
                    r = unit * mix(0.008f, 0.017f, near);
        for (int k = 0; k < 4; ++k)
          detail::draw_berry(out, x + r * random.uniform(-2.2f, 2.2f), y + r * random.uniform(-2.2f, 2.2f), r,
                             mix(0.3f, 1.0f, near));
      }
  }
  return out;
}

}  // namespace examples
