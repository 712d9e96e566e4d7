// 2-D convolution and its gradients as plain loops: the `eigen` backend's bodies, and the oracle of the fast ones.
// Surprising choice: all three are one loop nest over (output pixel, weight element) pairs, which differ only in
// what they add where; each writes a plane of its own per task, so no two tasks share an output.
#pragma once

#include <algorithm>

#include <promptiqa/core/kernel_table.hpp>
#include <promptiqa/core/thread_pool.hpp>

namespace promptiqa::cpu {

/// Calls use(y_index, w_index, x_index) for every product that one (output channel, input channel) pair of planes
/// contributes; the indices count within y's plane, the kernel and x's plane. Padding is skipped.
template <class Use>
void for_each_conv2d_product(const Conv2dGeometry& g, Use&& use) {
  for (std::int64_t oy = 0; oy < g.out_h; ++oy)
    for (std::int64_t ox = 0; ox < g.out_w; ++ox)
      for (std::int64_t ky = 0; ky < g.kernel_h; ++ky)
        for (std::int64_t kx = 0; kx < g.kernel_w; ++kx) {
          const std::int64_t iy = oy * g.stride_h + ky - g.pad_h, ix = ox * g.stride_w + kx - g.pad_w;
          if (iy >= 0 && iy < g.in_h && ix >= 0 && ix < g.in_w)
            use(oy * g.out_w + ox, ky * g.kernel_w + kx, iy * g.in_w + ix);
        }
}

/// The reference's packed weight is the weight itself, scaled.
template <class T>
std::size_t packed_conv2d_bytes_reference(std::int64_t out_channels, std::int64_t in_channels, std::int64_t kernel_h,
                                          std::int64_t kernel_w) {
  return static_cast<std::size_t>(out_channels * in_channels * kernel_h * kernel_w) * sizeof(T);
}
template <class T>
void pack_conv2d_reference(const KernelContext&, const PackConv2dArgs<T>& args) {
  const std::int64_t depth = args.in_channels * args.kernel_h * args.kernel_w;
  T* packed = static_cast<T*>(args.packed);
  for (std::int64_t i = 0; i < args.out_channels * depth; ++i)
    packed[i] = args.scale ? args.weight[i] * args.scale[i / depth] : args.weight[i];
}

/// y = activation(x * weight + bias + residual); see Conv2dArgs.
template <class T>
void conv2d_reference(const KernelContext& ctx, const Conv2dArgs<T>& args) {
  const Conv2dGeometry& g = args.geometry;
  const std::int64_t out_area = g.out_h * g.out_w, in_area = g.in_h * g.in_w, taps = g.kernel_h * g.kernel_w;
  const T* weight = args.packed_weight ? static_cast<const T*>(args.packed_weight) : args.weight;
  auto& pool = *static_cast<ThreadPool*>(ctx.execution);
  pool.parallel_for(g.batch * g.out_channels, [&](std::int64_t plane) {
    const std::int64_t b = plane / g.out_channels, o = plane % g.out_channels;
    T* y = args.y + plane * out_area;
    const T* residual = args.residual ? args.residual + plane * out_area : nullptr;
    for (std::int64_t i = 0; i < out_area; ++i)
      y[i] = (args.bias ? args.bias[o] : T(0)) + (residual ? residual[i] : T(0));
    for (std::int64_t c = 0; c < g.in_channels; ++c) {
      const T* x = args.x + (b * g.in_channels + c) * in_area;
      const T* w = weight + (o * g.in_channels + c) * taps;
      for_each_conv2d_product(g, [&](std::int64_t yi, std::int64_t wi, std::int64_t xi) { y[yi] += w[wi] * x[xi]; });
    }
    if (args.activation == Activation::relu)
      for (std::int64_t i = 0; i < out_area; ++i) y[i] = y[i] < T(0) ? T(0) : y[i];  // keeps NaN
  });
}

/// dx from dy; see Conv2dBackwardDataArgs.
template <class T>
void conv2d_backward_data_reference(const KernelContext& ctx, const Conv2dBackwardDataArgs<T>& args) {
  const Conv2dGeometry& g = args.geometry;
  const std::int64_t out_area = g.out_h * g.out_w, in_area = g.in_h * g.in_w, taps = g.kernel_h * g.kernel_w;
  auto& pool = *static_cast<ThreadPool*>(ctx.execution);
  pool.parallel_for(g.batch * g.in_channels, [&](std::int64_t plane) {
    const std::int64_t b = plane / g.in_channels, c = plane % g.in_channels;
    T* dx = args.dx + plane * in_area;
    std::fill(dx, dx + in_area, T(0));
    for (std::int64_t o = 0; o < g.out_channels; ++o) {
      const T* dy = args.dy + (b * g.out_channels + o) * out_area;
      const T* w = args.weight + (o * g.in_channels + c) * taps;
      for_each_conv2d_product(g, [&](std::int64_t yi, std::int64_t wi, std::int64_t xi) { dx[xi] += w[wi] * dy[yi]; });
    }
  });
}

/// dweight and, unless null, dbias from dy and x; see Conv2dBackwardWeightArgs.
template <class T>
void conv2d_backward_weight_reference(const KernelContext& ctx, const Conv2dBackwardWeightArgs<T>& args) {
  const Conv2dGeometry& g = args.geometry;
  const std::int64_t out_area = g.out_h * g.out_w, in_area = g.in_h * g.in_w, taps = g.kernel_h * g.kernel_w;
  auto& pool = *static_cast<ThreadPool*>(ctx.execution);
  pool.parallel_for(g.out_channels * g.in_channels, [&](std::int64_t pair) {
    const std::int64_t o = pair / g.in_channels, c = pair % g.in_channels;
    T* dw = args.dweight + pair * taps;
    std::fill(dw, dw + taps, T(0));
    for (std::int64_t b = 0; b < g.batch; ++b) {
      const T* dy = args.dy + (b * g.out_channels + o) * out_area;
      const T* x = args.x + (b * g.in_channels + c) * in_area;
      for_each_conv2d_product(g, [&](std::int64_t yi, std::int64_t wi, std::int64_t xi) { dw[wi] += dy[yi] * x[xi]; });
    }
  });
  if (!args.dbias) return;
  pool.parallel_for(g.out_channels, [&](std::int64_t o) {
    double sum = 0;
    for (std::int64_t b = 0; b < g.batch; ++b) {
      const T* dy = args.dy + (b * g.out_channels + o) * out_area;
      for (std::int64_t i = 0; i < out_area; ++i) sum += static_cast<double>(dy[i]);
    }
    args.dbias[o] = static_cast<accumulate_t<T>>(sum);
  });
}

}  // namespace promptiqa::cpu
