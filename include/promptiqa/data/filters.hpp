// Filters over one plane: convolution with blur kernels, median, resampling.
// Surprising choice: kernel weights are integers that add to exactly 2^14, so a flat picture stays flat, bit by bit.
#pragma once

#include <cstdint>
#include <vector>

#include <promptiqa/data/planes.hpp>

namespace promptiqa::distortion {

/// One weight of a convolution: out(x, y) gets weight * in(x + dx, y + dy).
struct Tap {
  int dx, dy;
  std::int32_t weight;
};

constexpr int kernel_bits = 14;  // the weights of a kernel add to 2^14

/// Gaussian of `sigma` pixels along x, or along y, cut at 3 sigma.
std::vector<Tap> gaussian_taps(double sigma, bool along_x);

/// Disk of a radius in sixteenths of a pixel, with softened edge.
std::vector<Tap> disk_taps(int radius_16ths);

/// A straight line of `length` pixels through the centre, towards (64, slope) or, `steep`, (slope, 64); |slope| <= 64.
std::vector<Tap> line_taps(int length, int slope, bool steep);

/// The plane filtered with a kernel, borders replicated. Values within -512..512 levels, weights not negative.
Plane convolved(const Plane& in, int width, int height, const std::vector<Tap>& taps);

/// Gaussian blur of one plane, or of all three.
Plane gaussian_blurred(const Plane& in, int width, int height, double sigma);
Planes gaussian_blurred(const Planes& in, double sigma);

/// Median over side x side windows (odd), of values rounded to 8-bit levels; borders replicated.
Plane median_filtered(const Plane& in, int width, int height, int side);

/// Shrunk to out_width x out_height <= the old size: each new pixel is the mean of the area it covers.
Plane shrunk(const Plane& in, int width, int height, int out_width, int out_height);

/// Resized by bicubic interpolation (a = -0.75, half-pixel centres, positions rounded to 1/64 pixel).
Plane resized_cubic(const Plane& in, int width, int height, int out_width, int out_height);

}  // namespace promptiqa::distortion

#if PROMPTIQA_WITH_BODIES
#include <promptiqa/data/filters.ipp>
#endif
