// Launches of the convolutions.
// Surprising choice: 1 x 1 kernels are cuBLAS products of each image, but not for the gradient of the weight, which
// sums over all images. Tensor cores take copies with their channels last where they can (conv2d_channels.hpp).
#include "conv2d.cuh"

#include <algorithm>
#include <string>
#include <type_traits>

#include "blas.hpp"
#include "conv2d_channels.hpp"
#include "gemm.cuh"
#include "kernel_table.hpp"

namespace promptiqa::cuda {

namespace {

/// Calls run(Math()): tensor cores for bfloat16 from sm_80 on, and for float where TF32 is allowed.
template <class T, class Run>
void with_conv2d_math(const Op& op, Run&& run) {
  if constexpr (!std::is_same_v<T, double>) {
    using Mma = std::conditional_t<std::is_same_v<T, bfloat16>, Bf16Math, Tf32Math>;
    if (has_tensor_cores<T>(device_traits(op))) return run(Mma());
  }
  run(PlainMath<accumulate_t<T>>());
}

/// The kernel counts pixels and taps in 32 bits.
void check_counts(const Op& op, const Conv2dGeometry& g) {
  const std::int64_t most = 0x7FFFFF00, taps = g.kernel_h * g.kernel_w;
  for (std::int64_t count :
       {g.batch * g.in_h * g.in_w, g.batch * g.out_h * g.out_w, g.in_channels * taps, g.out_channels * taps})
    if (count > most)
      throw CudaError(std::string(op.name) + ": expected at most " + std::to_string(most) + " pixels or taps, got " +
                      std::to_string(count));
}

/// The products of all images with a 1 x 1 kernel: c[image] = op(weight) x[image], in the type of sums or T.
template <class T, class C>
void pointwise_product(const Op& op, const Conv2dGeometry& g, const T* weight, bool transpose, const T* x, C* c) {
  const std::int64_t area = g.in_h * g.in_w, m = transpose ? g.in_channels : g.out_channels;
  const std::int64_t k = transpose ? g.out_channels : g.in_channels;
  matrix_product<T, C>(op, {m, area, k, g.batch, weight, g.in_channels, 0, transpose, x, area, k * area, false, c, area,
                            m * area, 1, 0});
}

template <class T>
void pointwise_conv2d(const Op& op, const Conv2dArgs<T>& args, const T* weight) {
  using A = accumulate_t<T>;
  const Conv2dGeometry& g = args.geometry;
  const std::int64_t area = g.in_h * g.in_w, size = g.out_channels * area;
  if (!args.bias && !args.residual && args.activation == Activation::none)
    return pointwise_product(op, g, weight, false, args.x, args.y);
  StorageRef scratch;
  A* sums = nullptr;
  if constexpr (std::is_same_v<T, A>)
    if (args.residual != args.y) sums = args.y;
  if (!sums) {
    scratch = op.memory.allocate(static_cast<std::size_t>(g.batch * size) * sizeof(A));
    sums = static_cast<A*>(scratch->data);
  }
  pointwise_product(op, g, weight, false, args.x, sums);
  launch_epilogue<T>(op, {g.out_channels, area, g.batch, sums, area, size, args.y, area, size, args.bias, true,
                          args.residual, 0, args.activation, true});
}

}  // namespace

template <class T>
std::size_t packed_conv2d_bytes(std::int64_t out_channels, std::int64_t in_channels, std::int64_t kernel_h,
                                std::int64_t kernel_w) {
  const std::size_t once = static_cast<std::size_t>(out_channels * in_channels * kernel_h * kernel_w) * sizeof(T);
  return packs_channels<T>(in_channels, kernel_h, kernel_w) ? 2 * once : once;
}

template <class T>
void pack_conv2d(const KernelContext& kc, const PackConv2dArgs<T>& args) {
  const Op op("pack_conv2d", kc);
  const std::int64_t depth = args.in_channels * args.kernel_h * args.kernel_w;
  launch(pack_conv2d_kernel<T>, blocks_for(op, args.out_channels * depth, 256), 256, 0, op, args, depth);
  if constexpr (!std::is_same_v<T, double>) {
    if (!packs_channels<T>(args.in_channels, args.kernel_h, args.kernel_w)) return;
    T* const packed = static_cast<T*>(args.packed);
    const std::int64_t taps = args.kernel_h * args.kernel_w;
    weight_channels_last(op, static_cast<const T*>(packed), args.out_channels, taps, args.in_channels, depth, taps,
                         packed + args.out_channels * depth);
  }
}
PROMPTIQA_CUDA_INSTANTIATE(pack_conv2d, PackConv2dArgs)

template <class T>
void conv2d(const KernelContext& kc, const Conv2dArgs<T>& args) {
  const Op op("conv2d", kc);
  const Conv2dGeometry& g = args.geometry;
  const std::int64_t pixels = g.batch * g.out_h * g.out_w;
  if (pixels * g.out_channels == 0) return;
  check_counts(op, g);
  const T* weight = args.packed_weight ? static_cast<const T*>(args.packed_weight) : args.weight;
  if (pointwise(g) && g.in_channels > 0) return pointwise_conv2d(op, args, weight);
  if constexpr (!std::is_same_v<T, double>) {
    if (conv2d_on_channels<T>(device_traits(op), g)) {
      const bool packed = args.packed_weight && packs_channels<T>(g.in_channels, g.kernel_h, g.kernel_w);
      if (packed) weight += g.out_channels * g.in_channels * g.kernel_h * g.kernel_w;
      return conv2d_of_channels(op, args, weight, packed);
    }
  }
  with_conv2d_math<T>(op, [&](auto math) {
    using Math = decltype(math);
    using Tile = ConvTile<Math>;
    const StoreConvolution<T> store = {args.y, args.bias, args.residual, args.activation == Activation::relu};
    launch(conv2d_kernel<T, Math, ConvForward<T>, StoreConvolution<T>>,
           dim3(blocks_for(op, pixels, Tile::columns), blocks_for(op, g.out_channels, Tile::rows)), Tile::threads, 0,
           op, ConvForward<T>{g, weight, args.x}, 0x7FFFFFFF, store);
  });
}
PROMPTIQA_CUDA_INSTANTIATE(conv2d, Conv2dArgs)

template <class T>
void conv2d_backward_data(const KernelContext& kc, const Conv2dBackwardDataArgs<T>& args) {
  const Op op("conv2d_backward_data", kc);
  const Conv2dGeometry& g = args.geometry;
  if (g.batch * g.in_h * g.in_w * g.in_channels == 0) return;
  check_counts(op, g);
  if (pointwise(g) && g.out_channels > 0) return pointwise_product(op, g, args.weight, true, args.dy, args.dx);
  if constexpr (!std::is_same_v<T, double>) {
    if (conv2d_data_on_channels<T>(device_traits(op), g)) return conv2d_data_of_channels(op, args);
  }
  with_conv2d_math<T>(op, [&](auto math) {
    using Math = decltype(math);
    using Tile = ConvTile<Math>;
    const std::int64_t class_pixels = g.batch * ceil_div(g.in_h, g.stride_h) * ceil_div(g.in_w, g.stride_w);
    ConvData<T> product = {};
    product.g = g, product.a = args.weight, product.b = args.dy;
    launch(conv2d_kernel<T, Math, ConvData<T>, StoreConvolution<T>>,
           dim3(blocks_for(op, class_pixels, Tile::columns), blocks_for(op, g.in_channels, Tile::rows),
                static_cast<unsigned>(g.stride_h * g.stride_w)),
           Tile::threads, 0, op, product, 0x7FFFFFFF, StoreConvolution<T>{args.dx, nullptr, nullptr, false});
  });
}
PROMPTIQA_CUDA_INSTANTIATE(conv2d_backward_data, Conv2dBackwardDataArgs)

template <class T>
void conv2d_backward_weight(const KernelContext& kc, const Conv2dBackwardWeightArgs<T>& args) {
  using A = accumulate_t<T>;
  const Op op("conv2d_backward_weight", kc);
  const Conv2dGeometry& g = args.geometry;
  check_counts(op, g);
  if (args.dbias) launch(conv2d_dbias_kernel<T>, blocks_for(op, g.out_channels, 1), 256, 0, op, g, args.dy, args.dbias);
  const std::int64_t taps = g.in_channels * g.kernel_h * g.kernel_w, size = g.out_channels * taps;
  const std::int64_t pixels = g.batch * g.out_h * g.out_w;
  if (size == 0) return;
  if constexpr (!std::is_same_v<T, double>) {
    if (conv2d_weight_on_channels<T>(device_traits(op), g)) return conv2d_weight_of_channels(op, args);
  }
  with_conv2d_math<T>(op, [&](auto math) {
    using Math = decltype(math);
    using Tile = ConvTile<Math>;
    // The sum over pixels is cut into parts until there are blocks for a large device; a part has eight steps or more.
    const std::int64_t tiles = ceil_div(taps, Tile::columns) * ceil_div(g.out_channels, Tile::rows);
    const std::int64_t most_parts = std::max<std::int64_t>(1, pixels / (8 * Tile::depth));
    const std::int64_t wanted = std::clamp<std::int64_t>(ceil_div(264, tiles), 1, most_parts);
    const std::int64_t part = std::max<std::int64_t>(1, ceil_div(ceil_div(pixels, wanted), Tile::depth)) * Tile::depth;
    const std::int64_t parts = std::max<std::int64_t>(1, ceil_div(pixels, part));
    const StorageRef scratch = op.memory.allocate(static_cast<std::size_t>(parts * size) * sizeof(A));
    A* partial = static_cast<A*>(scratch->data);
    launch(conv2d_kernel<T, Math, ConvWeight<T>, StorePartialSum<A>>,
           dim3(blocks_for(op, taps, Tile::columns), blocks_for(op, g.out_channels, Tile::rows),
                static_cast<unsigned>(parts)),
           Tile::threads, 0, op, ConvWeight<T>{g, args.dy, args.x}, static_cast<int>(part),
           StorePartialSum<A>{partial, size});
    launch(add_parts_kernel<T>, blocks_for(op, size, 256), 256, 0, op, size, static_cast<int>(parts), partial,
           args.dweight);
  });
}
PROMPTIQA_CUDA_INSTANTIATE(conv2d_backward_weight, Conv2dBackwardWeightArgs)

template std::size_t packed_conv2d_bytes<float>(std::int64_t, std::int64_t, std::int64_t, std::int64_t);
template std::size_t packed_conv2d_bytes<double>(std::int64_t, std::int64_t, std::int64_t, std::int64_t);
template std::size_t packed_conv2d_bytes<bfloat16>(std::int64_t, std::int64_t, std::int64_t, std::int64_t);

}  // namespace promptiqa::cuda
