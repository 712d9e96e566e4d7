// Random numbers and smooth random fields: what clouds, rock, wood and bricks are made of.
// Surprising choice: values are hashes of their place and the seed, so a scene is the same on every machine.
#pragma once

#include <cmath>
#include <cstdint>

#include "raster.hpp"

namespace examples {

inline std::uint32_t hash_bits(std::uint32_t x) {
  x ^= x >> 16;
  x *= 0x7feb352du;
  x ^= x >> 15;
  x *= 0x846ca68bu;
  return x ^ (x >> 16);
}

/// A number in [0, 1) for a lattice point.
inline float hash_at(int x, int y, int z, std::uint32_t seed) {
  const auto u = [](int v) { return static_cast<std::uint32_t>(v); };
  return static_cast<float>(hash_bits(u(x) + hash_bits(u(y) + hash_bits(u(z) + hash_bits(seed)))) >> 8) * 0x1p-24f;
}

/// A sequence of random numbers.
class Random {
 public:
  explicit Random(std::uint32_t seed) : state_(hash_bits(seed + 0x9e3779b9u)) {}
  float uniform(float low = 0, float high = 1) {
    state_ += 0x9e3779b9u;
    return low + (high - low) * (static_cast<float>(hash_bits(state_) >> 8) * 0x1p-24f);
  }
  float normal() {  // Box-Muller
    const float r = std::sqrt(-2 * std::log(1 - uniform()));
    return r * std::cos(6.2831853f * uniform());
  }

 private:
  std::uint32_t state_;
};

/// Smooth noise in [0, 1]: hashes at lattice points, interpolated.
inline float noise(float x, float y, float z, std::uint32_t seed) {
  const float fx = std::floor(x), fy = std::floor(y), fz = std::floor(z);
  const int ix = static_cast<int>(fx), iy = static_cast<int>(fy), iz = static_cast<int>(fz);
  const auto fade = [](float t) { return t * t * t * (t * (t * 6 - 15) + 10); };
  const float u = fade(x - fx), v = fade(y - fy), w = fade(z - fz);
  const auto plane = [&](int dz) {
    return mix(mix(hash_at(ix, iy, iz + dz, seed), hash_at(ix + 1, iy, iz + dz, seed), u),
               mix(hash_at(ix, iy + 1, iz + dz, seed), hash_at(ix + 1, iy + 1, iz + dz, seed), u), v);
  };
  const float near = plane(0);
  return w == 0 ? near : mix(near, plane(1), w);
}
inline float noise(float x, float y, std::uint32_t seed) { return noise(x, y, 0, seed); }

/// Fractal noise in [0, 1]: octaves of twice the frequency and half the strength, turned so that no grid shows.
inline float fbm(float x, float y, int octaves, std::uint32_t seed) {
  float sum = 0, strength = 0.5f, total = 0;
  for (int i = 0; i < octaves; ++i) {
    sum += strength * noise(x, y, seed + static_cast<std::uint32_t>(i));
    total += strength;
    strength *= 0.5f;
    const float turned = 1.6f * x + 1.2f * y;
    y = 1.6f * y - 1.2f * x;
    x = turned;
  }
  return sum / total;
}

/// The same with sharp crests: mountains.
inline float ridged(float x, float y, int octaves, std::uint32_t seed) {
  float sum = 0, strength = 0.5f, total = 0, previous = 1;
  for (int i = 0; i < octaves; ++i) {
    float crest = 1 - std::fabs(2 * noise(x, y, seed + static_cast<std::uint32_t>(i)) - 1);
    crest *= crest;
    sum += strength * crest * previous;  // detail only where there is a crest already
    total += strength;
    previous = crest;
    strength *= 0.5f;
    const float turned = 1.6f * x + 1.2f * y;
    y = 1.6f * y - 1.2f * x;
    x = turned;
  }
  return sum / total;
}

}  // namespace examples
