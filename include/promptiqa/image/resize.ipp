// Body of resize_cubic: taps are computed once per column and row, source rows are filtered along x when first needed.
// Surprising choice: the four filtered rows live in a ring indexed by source row, so an enlargement filters each source
// row once and a reduction filters only the rows that taps touch.
#pragma once

#include <array>
#include <cmath>
#include <cstring>
#include <limits>
#include <utility>
#include <vector>

#include <promptiqa/image/resize.hpp>

namespace promptiqa {

namespace detail {

// Where one output coordinate reads: four source coordinates (clamped to the border) and their weights.
struct CubicTaps {
  std::array<int, 4> index;
  std::array<float, 4> weight;
};

inline std::vector<CubicTaps> cubic_taps(int in_size, int out_size) {
  constexpr double a = -0.75;
  std::vector<CubicTaps> taps(static_cast<std::size_t>(out_size));
  const double scale = static_cast<double>(in_size) / out_size;
  for (int i = 0; i < out_size; ++i) {
    const double centre = (i + 0.5) * scale - 0.5;
    const double first = std::floor(centre);
    const double t = centre - first;
    const double far_left = ((a * (t + 1) - 5 * a) * (t + 1) + 8 * a) * (t + 1) - 4 * a;
    const double left = ((a + 2) * t - (a + 3)) * t * t + 1;
    const double right = ((a + 2) * (1 - t) - (a + 3)) * (1 - t) * (1 - t) + 1;
    CubicTaps& tap = taps[static_cast<std::size_t>(i)];
    tap.weight = {static_cast<float>(far_left), static_cast<float>(left), static_cast<float>(right),
                  static_cast<float>(1 - far_left - left - right)};
    for (int k = 0; k < 4; ++k) {
      const double source = first + k - 1;  // may lie two pixels outside
      tap.index[static_cast<std::size_t>(k)] =
          static_cast<int>(source < 0 ? 0 : source > in_size - 1 ? in_size - 1 : source);
    }
  }
  return taps;
}

// One row of RGB filtered along x: out[3 * i + c]. Sums go in pairs, here and below: at 512 -> 224 two values in a
// hundred of a smooth picture lie exactly between two levels, float error decides, and this order agrees best with
// OpenCV's.
inline void filter_row(const std::uint8_t* rgb, const std::vector<CubicTaps>& taps, float* out) {
  for (const CubicTaps& tap : taps) {
    const std::uint8_t* p0 = rgb + 3 * static_cast<std::size_t>(tap.index[0]);
    const std::uint8_t* p1 = rgb + 3 * static_cast<std::size_t>(tap.index[1]);
    const std::uint8_t* p2 = rgb + 3 * static_cast<std::size_t>(tap.index[2]);
    const std::uint8_t* p3 = rgb + 3 * static_cast<std::size_t>(tap.index[3]);
    const float w0 = tap.weight[0], w1 = tap.weight[1], w2 = tap.weight[2], w3 = tap.weight[3];
    for (int c = 0; c < 3; ++c)
      out[c] = (w0 * static_cast<float>(p0[c]) + w1 * static_cast<float>(p1[c])) +
               (w2 * static_cast<float>(p2[c]) + w3 * static_cast<float>(p3[c]));
    out += 3;
  }
}

// Four filtered rows to one row of 8-bit values. Adding 2^23 leaves the value, rounded half to even as cvRound does, in
// the low bits of the float: a rounding that every compiler turns into vector code.
inline void blend_rows(const float* const rows[4], const std::array<float, 4>& weight, std::size_t count,
                       std::uint8_t* out) {
  const float *r0 = rows[0], *r1 = rows[1], *r2 = rows[2], *r3 = rows[3];
  const float w0 = weight[0], w1 = weight[1], w2 = weight[2], w3 = weight[3];
  for (std::size_t i = 0; i < count; ++i) {
    float v = (w0 * r0[i] + w1 * r1[i]) + (w2 * r2[i] + w3 * r3[i]);
    v = v < 0.0f ? 0.0f : v;
    v = v > 255.0f ? 255.0f : v;
    v += 8388608.0f;
    std::uint32_t bits;
    std::memcpy(&bits, &v, sizeof(bits));
    out[i] = static_cast<std::uint8_t>(bits);
  }
}

// What is resized: the image, or its 8-bit form when it has floats. All of those are checked, not only those that taps
// touch: whether a NaN is an error must not depend on luck.
inline Image resize_source(const Image& image, int out_height, int out_width) {
  const std::string label = image_label(image.name());
  if (image.empty()) throw ImageError(label + ": has no pixels");
  if (out_height < 1 || out_width < 1)
    throw ImageError(label + ": resize to " + std::to_string(out_width) + " x " + std::to_string(out_height) +
                     ": the new size must be positive");
  return image.type() == PixelType::f32 ? to_rgb8(image) : image;
}

}  // namespace detail

PROMPTIQA_INLINE void resize_cubic(const Image& image, int out_height, int out_width, std::uint8_t* out) {
  const Image source = detail::resize_source(image, out_height, out_width);
  const std::size_t row_values = static_cast<std::size_t>(out_width) * 3;
  const std::vector<detail::CubicTaps> columns = detail::cubic_taps(source.width(), out_width);
  const std::vector<detail::CubicTaps> lines = detail::cubic_taps(source.height(), out_height);
  std::vector<float> filtered(4 * row_values);
  std::array<int, 4> held = {-1, -1, -1, -1};  // source row in each slot; a line's four rows never share a slot
  std::vector<std::uint8_t> converted(source.is_rgb8() ? 0 : static_cast<std::size_t>(source.width()) * 3);
  for (int y = 0; y < out_height; ++y) {
    const detail::CubicTaps& line = lines[static_cast<std::size_t>(y)];
    const float* rows[4];
    for (std::size_t k = 0; k < 4; ++k) {
      const int source_row = line.index[k];
      const std::size_t slot = static_cast<std::size_t>(source_row) % 4;
      float* target = filtered.data() + slot * row_values;
      if (held[slot] != source_row) {
        const std::uint8_t* rgb = source.row(source_row);
        if (!source.is_rgb8()) {
          source.copy_row_rgb8(source_row, converted.data());
          rgb = converted.data();
        }
        detail::filter_row(rgb, columns, target);
        held[slot] = source_row;
      }
      rows[k] = target;
    }
    detail::blend_rows(rows, line.weight, row_values, out + static_cast<std::size_t>(y) * row_values);
  }
}

PROMPTIQA_INLINE Image resize_cubic(const Image& image, int out_height, int out_width) {
  if (out_height < 1 || out_width < 1) resize_cubic(image, out_height, out_width, nullptr);  // throws
  const auto limit = static_cast<std::size_t>(std::numeric_limits<std::ptrdiff_t>::max());
  if (static_cast<std::size_t>(out_width) * 3 > limit / static_cast<std::size_t>(out_height))
    throw ImageError(detail::image_label(image.name()) + ": the size after resizing overflows");
  std::vector<std::uint8_t> out(static_cast<std::size_t>(out_height) * static_cast<std::size_t>(out_width) * 3);
  resize_cubic(image, out_height, out_width, out.data());
  return Image::from_vector(std::move(out), out_width, out_height, 3, ChannelOrder::rgb, image.name());
}

PROMPTIQA_INLINE Image resize_short_side(const Image& image, int pixels) {
  const std::int64_t width = image.width(), height = image.height(), shorter = std::min(width, height);
  if (pixels < 1 || shorter < 1) return resize_cubic(image, pixels, pixels);  // throws
  const auto scaled = [&](std::int64_t length) { return (length * pixels + shorter / 2) / shorter; };
  if (scaled(width) * scaled(height) > 100'000'000)
    throw ImageError(detail::image_label(image.name()) + ": too long and narrow to be resized to a shorter side of " +
                     std::to_string(pixels) + " pixels");
  return resize_cubic(image, static_cast<int>(scaled(height)), static_cast<int>(scaled(width)));
}

}  // namespace promptiqa
