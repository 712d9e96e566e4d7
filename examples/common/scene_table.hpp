// Things on a wooden table by a window: an orange, a marble, a metal ball, a striped ball, a book with a title.
// Surprising choice: a small ray tracer; the window is an area light, sampled a few times a ray: soft shadows.
#pragma once

#include <array>
#include <cstdint>
#include <string>
#include <vector>

#include "lettering.hpp"
#include "noise.hpp"
#include "raster.hpp"

namespace examples {

class TableTop {
 public:
  explicit TableTop(std::uint32_t seed) : seed_(hash_bits(seed + 9)) {
    Random random(seed_);
    const auto jitter = [&] { return random.uniform(-0.12f, 0.12f); };
    balls_ = {{{-1.4f + jitter(), 0.55f, 0.15f + jitter()}, 0.55f, orange},
              {{0.42f + jitter(), 0.42f, -0.45f + jitter()}, 0.42f, marble},
              {{1.5f + jitter(), 0.62f, 0.75f + jitter()}, 0.62f, metal},
              {{0.95f + jitter(), 0.26f, -1.05f + jitter()}, 0.26f, striped},
              {{-0.35f + jitter(), 0.20f, -1.05f + jitter()}, 0.20f, glazed}};
  }

  Raster render(int width, int height) const {
    Raster out(width, height);
    const Vec3 eye{0.1f, 1.75f, -4.6f}, ahead = normalised(Vec3{0.05f, 0.42f, 0.2f} - eye);
    const Vec3 right = normalised({ahead.z, 0, -ahead.x});
    const Vec3 up = normalised(Vec3{0, 1, 0} - ahead * ahead.y);
    for (int y = 0; y < height; ++y)
      for (int x = 0; x < width; ++x) {
        const float u = (static_cast<float>(x) / static_cast<float>(width) - 0.5f) * 0.92f;
        const float v = (0.5f * static_cast<float>(height) - static_cast<float>(y)) / static_cast<float>(width) * 0.92f;
        Random random(static_cast<std::uint32_t>(y * width + x));
        out.at(x, y) = trace(eye, normalised(ahead + right * u + up * v), 0, random);
      }
    return out;
  }

 private:
  enum Material { orange, marble, metal, striped, glazed, wood, plaster, cover, paper };
  struct Ball {
    Vec3 centre;
    float radius;
    Material material;
  };
  struct Hit {
    float t = 1e9f;
    Vec3 normal;
    Material material = wood;
    Vec3 local;  // coordinates that the texture uses
  };

  // The book: a box standing on the table, turned about the vertical axis.
  static constexpr float book_turn = 0.42f;
  static constexpr Vec3 book_centre{-0.25f, 0.62f, 1.25f}, book_half{0.62f, 0.62f, 0.13f};

  Hit cast(Vec3 from, Vec3 d) const {
    Hit hit;
    if (d.y < 0 && -from.y / d.y > 1e-3f) {
      const float t = -from.y / d.y;
      hit = {t, {0, 1, 0}, wood, from + d * t};
    }
    const float back = (3.2f - from.z) / d.z;
    if (d.z > 0 && back > 1e-3f && back < hit.t) hit = {back, {0, 0, -1}, plaster, from + d * back};
    for (const Ball& ball : balls_) {
      const Vec3 o = from - ball.centre;
      const float b = dot(o, d), inside = b * b - dot(o, o) + ball.radius * ball.radius;
      if (inside <= 0) continue;
      const float t = -b - std::sqrt(inside);
      if (t < 1e-3f || t >= hit.t) continue;
      const Vec3 n = (o + d * t) * (1 / ball.radius);
      hit = {t, n, ball.material, n};
    }
    cast_book(from, d, hit);
    return hit;
  }

  void cast_book(Vec3 from, Vec3 d, Hit& hit) const {
    const float c = std::cos(book_turn), s = std::sin(book_turn);
    const auto into = [&](Vec3 v) { return Vec3{c * v.x - s * v.z, v.y, s * v.x + c * v.z}; };
    const Vec3 o = into(from - book_centre), e = into(d);
    const std::array<float, 3> start = {o.x, o.y, o.z}, step = {e.x, e.y, e.z},
                               half = {book_half.x, book_half.y, book_half.z};
    float enter = -1e9f, leave = 1e9f;
    std::size_t axis = 0;
    for (std::size_t i = 0; i < 3; ++i) {
      const float inverse = 1 / (std::fabs(step[i]) < 1e-9f ? 1e-9f : step[i]);
      const float a = (-half[i] - start[i]) * inverse, b = (half[i] - start[i]) * inverse;
      if (std::min(a, b) > enter) enter = std::min(a, b), axis = i;
      leave = std::min(leave, std::max(a, b));
    }
    if (enter < 1e-3f || enter > leave || enter >= hit.t) return;
    const float sign = step[axis] > 0 ? -1.0f : 1.0f;
    const Vec3 n{axis == 0 ? sign : 0, axis == 1 ? sign : 0, axis == 2 ? sign : 0};
    hit = {enter,
           {c * n.x + s * n.z, n.y, -s * n.x + c * n.z},
           axis == 2 || (axis == 0 && sign < 0) ? cover : paper,
           o + e * enter};
  }

  // Albedo, and the normal where the material is bumpy.
  Vec3 albedo(const Hit& hit, Vec3& n) const {
    const Vec3 p = hit.local;
    switch (hit.material) {
      case orange: {
        const auto pore = [&](Vec3 q) { return noise(q.x * 26, q.y * 26, q.z * 26, seed_); };
        const float e = 0.01f, at = pore(p);
        n = normalised(
            n + Vec3{at - pore(p + Vec3{e, 0, 0}), at - pore(p + Vec3{0, e, 0}), at - pore(p + Vec3{0, 0, e})} * 1.1f);
        return mix(Vec3{0.78f, 0.19f, 0.012f}, Vec3{0.84f, 0.28f, 0.02f}, noise(p.x * 3, p.y * 3, p.z * 3, seed_ + 1));
      }
      case marble: {
        float turbulence = 0, strength = 1;
        for (int i = 0; i < 5; ++i, strength *= 0.5f) {
          const float f = 2.5f / strength;
          turbulence += strength * noise(p.x * f, p.y * f, p.z * f, seed_ + 2);
        }
        const float vein = std::pow(0.5f + 0.5f * std::sin(6 * p.x + 4 * p.y + 6 * turbulence), 4.0f);
        return mix(Vec3{0.82f, 0.80f, 0.76f}, Vec3{0.16f, 0.19f, 0.20f}, vein);
      }
      case metal:
        return {0.90f, 0.85f, 0.76f};
      case striped: {
        const float angle = std::atan2(p.z, p.x) * 6 / 6.2831853f + 6;
        static const Vec3 stripes[] = {{0.70f, 0.04f, 0.05f}, {0.85f, 0.83f, 0.78f}, {0.04f, 0.18f, 0.55f},
                                       {0.85f, 0.83f, 0.78f}, {0.85f, 0.58f, 0.05f}, {0.85f, 0.83f, 0.78f}};
        return stripes[static_cast<std::size_t>(angle) % 6];
      }
      case glazed:
        return {0.05f, 0.22f, 0.16f};
      case wood: {
        const float plank = std::floor(p.x / 0.62f + 0.3f), edge = p.x / 0.62f + 0.3f - plank;
        const float shift = 17 * hash_at(static_cast<int>(plank), 0, 0, seed_);
        const float rings = fbm(p.x * 3.0f + shift, p.z * 0.35f + shift, 4, seed_ + 4);
        const float lines = 0.5f + 0.5f * std::sin(70 * rings), fibre = fbm(p.x * 90, p.z * 3 + shift, 3, seed_ + 5);
        const Vec3 tone = mix(Vec3{0.33f, 0.17f, 0.07f}, Vec3{0.20f, 0.09f, 0.035f}, 0.55f * lines + 0.5f * fibre);
        const float gap = smooth_step(0.0f, 0.012f, std::min(edge, 1 - edge));
        return tone * (0.85f + 0.35f * hash_at(static_cast<int>(plank), 3, 0, seed_)) * (0.2f + 0.8f * gap);
      }
      case plaster: {
        const float stripe =
            smooth_step(0.46f, 0.5f, std::fabs(std::fmod(p.x + 20, 0.5f) / 0.5f - 0.5f) * 2 * 0.5f + 0.24f);
        return mix(Vec3{0.34f, 0.42f, 0.40f}, Vec3{0.43f, 0.48f, 0.43f}, stripe) *
               (0.8f + 0.4f * fbm(p.x * 20, p.y * 20, 5, seed_ + 6));
      }
      case cover: {
        const Vec3 cloth = Vec3{0.05f, 0.10f, 0.28f} * (0.7f + 0.6f * noise(p.x * 160, p.y * 160, seed_ + 7));
        const float frame = std::max(std::fabs(p.x), std::fabs(p.y));
        float gold = frame > 0.54f && frame < 0.56f ? 1.0f : 0.0f;
        const char* lines[] = {"TEN", "EXAMPLES"};
        const float sizes[] = {0.24f, 0.125f};
        for (int i = 0; i < 2; ++i) {
          const float scale = sizes[i];
          gold = std::max(gold, text_coverage(lines[i], p.x / scale + 0.5f * text_length(lines[i]),
                                              (0.32f - 0.38f * static_cast<float>(i) - p.y) / scale));
        }
        return mix(cloth, Vec3{0.80f, 0.62f, 0.25f}, gold);
      }
      case paper:
        return Vec3{0.80f, 0.76f, 0.66f} * (0.6f + 0.4f * noise(p.z * 150, p.y * 2, seed_ + 8));
    }
    return {};
  }

  float gloss(Material m) const {
    switch (m) {
      case metal:
        return 0.8f;
      case marble:
      case glazed:
        return 0.06f;
      case striped:
        return 0.05f;
      case orange:
      case wood:
        return 0.03f;
      default:
        return 0;
    }
  }

  Vec3 trace(Vec3 from, Vec3 d, int depth, Random& random) const {
    const Hit hit = cast(from, d);
    if (hit.t > 1e8f) return environment(d);
    const Vec3 p = from + d * hit.t;
    Vec3 n = hit.normal;
    const Vec3 color = albedo(hit, n);
    Vec3 light = Vec3{0.20f, 0.22f, 0.26f} * (0.55f + 0.45f * n.y);
    const float contact = std::min(1.0f, 0.35f + 1.2f * p.y);  // darker near the table
    if (hit.material != wood && hit.material != plaster) light = light * contact;
    float shine = 0;
    const int samples = depth == 0 ? 8 : 2;
    for (int i = 0; i < samples; ++i) {
      const Vec3 lamp{-4.2f, 2.6f + random.uniform(-1.1f, 1.1f), -1.2f + random.uniform(-1.1f, 1.1f)};
      const Vec3 to = lamp - p;
      const float distance = length(to), facing = dot(n, to) / distance;
      if (facing <= 0) continue;
      const Vec3 towards = to * (1 / distance);
      if (cast(p + hit.normal * 2e-3f, towards).t < distance) continue;
      light = light + Vec3{2.6f, 2.45f, 2.15f} * (facing * 20 / (distance * distance) / static_cast<float>(samples));
      shine += std::pow(std::max(dot(reflected(d, n), towards), 0.0f), 60.0f) / static_cast<float>(samples);
    }
    Vec3 result = color * light * (hit.material == metal ? 0.15f : 1.0f);
    const float mirror = gloss(hit.material);
    if (mirror > 0 && depth < 2) {
      const float fresnel = mirror + (1 - mirror) * 0.8f * std::pow(1 - std::max(-dot(d, n), 0.0f), 5.0f);
      Vec3 image = trace(p + hit.normal * 2e-3f, normalised(reflected(d, n)), depth + 1, random);
      if (hit.material == metal) image = image * color;
      result = mix(result, image, hit.material == wood ? 0.6f * fresnel : fresnel) +
               Vec3{1, 1, 1} * (shine * (hit.material == orange ? 0.35f : 0.5f));
    }
    return result;
  }

  // What mirrors see behind the camera: a room with a bright window.
  static Vec3 environment(Vec3 d) {
    Vec3 room = mix(Vec3{0.16f, 0.13f, 0.11f}, Vec3{0.42f, 0.40f, 0.37f}, smooth_step(-0.2f, 0.8f, d.y));
    const float a = std::atan2(d.z, d.x),
                cross = std::min(std::fabs(d.y - 0.45f), 0.5f * std::fabs(std::fabs(a) - 2.85f));
    if (std::fabs(std::fabs(a) - 2.85f) < 0.28f && std::fabs(d.y - 0.45f) < 0.22f && cross > 0.012f)
      room = {5.0f, 5.2f, 5.6f};
    return room;
  }

  std::uint32_t seed_;
  std::vector<Ball> balls_;
};

}  // namespace examples
