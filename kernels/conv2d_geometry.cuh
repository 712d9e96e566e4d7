// Convolutions as matrix products C = A B whose operands are never laid out: where each element of A and B lies in
// memory. Surprising choice: in all three products the element (k, n) of B lies at place(n) + place(k), and is 0 when
// the sum of the two places' coordinates falls outside an image; so one kernel computes all of them.
#pragma once

#include "launch.cuh"

namespace promptiqa::cuda {

/// An offset in memory and the coordinates that go with it.
struct alignas(16) ConvPlace {
  std::int64_t offset;
  int y, x;
};
constexpr int outside = -(1 << 30);  // a coordinate that no sum brings back

/// What the kernel asks a product for:
///   rows, columns, depth     of C (rows, columns) = A (rows, depth) B (depth, columns)
///   a, a_row, a_term(k)      element (m, k) of A is a[m * a_row + a_term(k)]
///   b, height, width, column(n), term(k)   of B, as above
///   c_row, c_column(n)       element (m, n) of C is number m * c_row + c_column(n) of the result

/// y (out_channels, batch pixels) = weight (out_channels, taps) x (taps, batch pixels); a tap is an input channel and a
/// position in the kernel.
template <class T>
struct ConvForward {
  Conv2dGeometry g;
  const T *a, *b;  // weight, x

  static constexpr bool pixels_are_columns = true;
  static constexpr bool classes = false;  // see ConvData
  PROMPTIQA_DEVICE bool select(int) { return true; }
  PROMPTIQA_DEVICE int rows() const { return static_cast<int>(g.out_channels); }
  PROMPTIQA_DEVICE int columns() const { return static_cast<int>(g.batch * g.out_h * g.out_w); }
  PROMPTIQA_DEVICE int depth() const { return static_cast<int>(g.in_channels * g.kernel_h * g.kernel_w); }
  PROMPTIQA_DEVICE std::int64_t a_row() const { return depth(); }
  PROMPTIQA_DEVICE std::int64_t a_term(int k) const { return k; }
  PROMPTIQA_DEVICE int height() const { return static_cast<int>(g.in_h); }
  PROMPTIQA_DEVICE int width() const { return static_cast<int>(g.in_w); }
  /// The top left input pixel of an output pixel.
  PROMPTIQA_DEVICE ConvPlace column(int n) const {
    const int out_w = static_cast<int>(g.out_w), area = static_cast<int>(g.out_h) * out_w;
    const int image = n / area, pixel = n % area;
    const int y = pixel / out_w * static_cast<int>(g.stride_h) - static_cast<int>(g.pad_h);
    const int x = pixel % out_w * static_cast<int>(g.stride_w) - static_cast<int>(g.pad_w);
    return {image * g.in_channels * g.in_h * g.in_w + y * g.in_w + x, y, x};
  }
  PROMPTIQA_DEVICE ConvPlace term(int k) const {
    const int kernel_w = static_cast<int>(g.kernel_w), taps = static_cast<int>(g.kernel_h) * kernel_w;
    const int y = k % taps / kernel_w, x = k % kernel_w;
    return {k / taps * g.in_h * g.in_w + y * g.in_w + x, y, x};
  }
  PROMPTIQA_DEVICE std::int64_t c_row() const { return g.out_h * g.out_w; }
  PROMPTIQA_DEVICE std::int64_t c_column(int n) const {
    const int area = static_cast<int>(g.out_h * g.out_w);
    return n / area * g.out_channels * area + n % area;
  }
};

/// dx (in_channels, batch pixels) = weight^T dy. Input pixels a stride apart meet the same taps: each such class of
/// pixels is a product of its own, with these taps only.
template <class T>
struct ConvData {
  Conv2dGeometry g;
  const T *a, *b;  // weight, dy

  static constexpr bool pixels_are_columns = true;
  static constexpr bool classes = true;
  int tap_y = 0, tap_x = 0, taps_h = 0, taps_w = 0;          // of the class: first tap, taps
  int first_y = 0, first_x = 0, pixels_h = 0, pixels_w = 0;  // first pixel, pixels
  /// Sets up class number c of stride_h * stride_w; false when it has no pixels.
  PROMPTIQA_DEVICE bool select(int c) {
    select_axis(c / static_cast<int>(g.stride_w), g.stride_h, g.pad_h, g.kernel_h, g.in_h, tap_y, taps_h, first_y,
                pixels_h);
    select_axis(c % static_cast<int>(g.stride_w), g.stride_w, g.pad_w, g.kernel_w, g.in_w, tap_x, taps_w, first_x,
                pixels_w);
    return pixels_h > 0 && pixels_w > 0;
  }
  PROMPTIQA_DEVICE static void select_axis(int c, std::int64_t stride, std::int64_t pad, std::int64_t kernel,
                                           std::int64_t size, int& tap, int& taps, int& first, int& pixels) {
    const int s = static_cast<int>(stride);
    tap = c;
    taps = c < kernel ? (static_cast<int>(kernel) - c + s - 1) / s : 0;
    first = (c + s - static_cast<int>(pad % stride)) % s;  // (first + pad) % stride == c
    pixels = first < size ? (static_cast<int>(size) - first + s - 1) / s : 0;
  }
  PROMPTIQA_DEVICE int rows() const { return static_cast<int>(g.in_channels); }
  PROMPTIQA_DEVICE int columns() const { return static_cast<int>(g.batch) * pixels_h * pixels_w; }
  PROMPTIQA_DEVICE int depth() const { return static_cast<int>(g.out_channels) * taps_h * taps_w; }
  PROMPTIQA_DEVICE std::int64_t a_row() const { return g.kernel_h * g.kernel_w; }
  PROMPTIQA_DEVICE std::int64_t a_term(int k) const {
    const int taps = taps_h * taps_w;
    const std::int64_t y = tap_y + k % taps / taps_w * g.stride_h, x = tap_x + k % taps_w * g.stride_w;
    return (k / taps * g.in_channels * g.kernel_h + y) * g.kernel_w + x;
  }
  PROMPTIQA_DEVICE int height() const { return static_cast<int>(g.out_h); }
  PROMPTIQA_DEVICE int width() const { return static_cast<int>(g.out_w); }
  /// The output pixel that meets this input pixel with the first tap.
  PROMPTIQA_DEVICE ConvPlace column(int n) const {
    const int area = pixels_h * pixels_w, image = n / area, pixel = n % area;
    const int in_y = first_y + pixel / pixels_w * static_cast<int>(g.stride_h);
    const int in_x = first_x + pixel % pixels_w * static_cast<int>(g.stride_w);
    const int y = (in_y + static_cast<int>(g.pad_h) - tap_y) / static_cast<int>(g.stride_h);
    const int x = (in_x + static_cast<int>(g.pad_w) - tap_x) / static_cast<int>(g.stride_w);
    return {image * g.out_channels * g.out_h * g.out_w + y * g.out_w + x, y, x};
  }
  PROMPTIQA_DEVICE ConvPlace term(int k) const {
    const int taps = taps_h * taps_w, y = -(k % taps / taps_w), x = -(k % taps_w);
    return {k / taps * g.out_h * g.out_w + y * g.out_w + x, y, x};
  }
  PROMPTIQA_DEVICE std::int64_t c_row() const { return g.in_h * g.in_w; }
  PROMPTIQA_DEVICE std::int64_t c_column(int n) const {
    const int area = pixels_h * pixels_w, pixel = n % area;
    const std::int64_t y = first_y + pixel / pixels_w * g.stride_h, x = first_x + pixel % pixels_w * g.stride_w;
    return (n / area * g.in_channels * g.in_h + y) * g.in_w + x;
  }
};

/// dweight (out_channels, taps) = dy (out_channels, batch pixels) x^T (batch pixels, taps).
template <class T>
struct ConvWeight {
  Conv2dGeometry g;
  const T *a, *b;  // dy, x

  static constexpr bool pixels_are_columns = false;
  static constexpr bool classes = false;
  PROMPTIQA_DEVICE bool select(int) { return true; }
  PROMPTIQA_DEVICE ConvForward<T> forward() const { return {g, nullptr, nullptr}; }
  PROMPTIQA_DEVICE int rows() const { return static_cast<int>(g.out_channels); }
  PROMPTIQA_DEVICE int columns() const { return forward().depth(); }
  PROMPTIQA_DEVICE int depth() const { return forward().columns(); }
  PROMPTIQA_DEVICE std::int64_t a_row() const { return g.out_h * g.out_w; }
  PROMPTIQA_DEVICE std::int64_t a_term(int k) const { return forward().c_column(k); }
  PROMPTIQA_DEVICE int height() const { return static_cast<int>(g.in_h); }
  PROMPTIQA_DEVICE int width() const { return static_cast<int>(g.in_w); }
  PROMPTIQA_DEVICE ConvPlace column(int n) const { return forward().term(n); }
  PROMPTIQA_DEVICE ConvPlace term(int k) const { return forward().column(k); }
  PROMPTIQA_DEVICE std::int64_t c_row() const { return columns(); }
  PROMPTIQA_DEVICE std::int64_t c_column(int n) const { return n; }
};

}  // namespace promptiqa::cuda
