// Convolutions on tensor cores from copies with their channels last: when they run, and their launchers.
// Surprising choice: the conditions are functions of their own, so that tests can tell which kernels must have run.
#pragma once

#include <type_traits>

#include "blas.hpp"

namespace promptiqa::cuda {

/// Shared memory of a block of their kernels, at most.
inline constexpr std::size_t conv2d_channels_shared_bytes = std::size_t{98} << 10;

/// Whether 16 bytes hold whole elements of one pixel's or tap's channels.
template <class T>
bool in_chunks(std::int64_t channels) {
  return channels > 0 && channels % (16 / static_cast<std::int64_t>(sizeof(T))) == 0;
}

/// A product of each image's pixels with a matrix, which cuBLAS computes.
inline bool pointwise(const Conv2dGeometry& g) {
  return g.kernel_h == 1 && g.kernel_w == 1 && g.stride_h == 1 && g.stride_w == 1 && g.pad_h == 0 && g.pad_w == 0;
}

/// What all three need: tensor cores, shared memory, and pixels that 32 bits count with all padding.
template <class T>
bool can_multiply_channels(const DeviceTraits& traits, const Conv2dGeometry& g) {
  const auto few = [&](std::int64_t h, std::int64_t w) {
    return g.batch * h + g.pad_h + g.kernel_h <= (std::int64_t{1} << 30) / (w + g.pad_w + g.kernel_w);
  };
  return has_tensor_cores<T>(traits) && traits.shared_bytes >= conv2d_channels_shared_bytes && few(g.in_h, g.in_w) &&
         few(g.out_h, g.out_w);
}

/// Whether conv2d, its gradient of the data and its gradient of the weight run so.
template <class T>
bool conv2d_on_channels(const DeviceTraits& traits, const Conv2dGeometry& g) {
  return can_multiply_channels<T>(traits, g) && !pointwise(g) && in_chunks<T>(g.in_channels);
}
template <class T>
bool conv2d_data_on_channels(const DeviceTraits& traits, const Conv2dGeometry& g) {
  return can_multiply_channels<T>(traits, g) && !pointwise(g) && in_chunks<T>(g.out_channels);
}
template <class T>
bool conv2d_weight_on_channels(const DeviceTraits& traits, const Conv2dGeometry& g) {
  return can_multiply_channels<T>(traits, g) && in_chunks<T>(g.in_channels) && in_chunks<T>(g.out_channels);
}

/// Whether pack_conv2d puts the weight behind itself once more, with its channels last (and, of floats, rounded to
/// TF32). Whoever reads it then may be allowed TF32 or not.
template <class T>
bool packs_channels(std::int64_t in_channels, std::int64_t kernel_h, std::int64_t kernel_w) {
  return !std::is_same_v<T, double> && in_chunks<T>(in_channels) && kernel_h * kernel_w > 1;
}

// The launchers, for float and bfloat16; each where its condition holds, and where its result has elements.

/// y of a weight (out_channels, in_channels, taps), or of one that has its channels last already.
template <class T>
void conv2d_of_channels(const Op& op, const Conv2dArgs<T>& args, const T* weight, bool channels_last);
template <class T>
void conv2d_data_of_channels(const Op& op, const Conv2dBackwardDataArgs<T>& args);
/// dweight, but not dbias.
template <class T>
void conv2d_weight_of_channels(const Op& op, const Conv2dBackwardWeightArgs<T>& args);

/// to (rows, taps, channels) = a weight's element (row, channel, tap) at row * row_stride + channel * channel_stride +
/// tap, as an operand.
template <class T>
void weight_channels_last(const Op& op, const T* weight, std::int64_t rows, std::int64_t taps, std::int64_t channels,
                          std::int64_t row_stride, std::int64_t channel_stride, T* to);

}  // namespace promptiqa::cuda
