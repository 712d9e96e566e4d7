// Launches of the convolutions on copies with their channels last.
// Surprising choice: a product with too few tiles for a large device is cut in depth, into the number of parts that by
// a simple count of steps takes the least time; the parts are added in their order, so results stay the same bits.
#include "conv2d_channels.cuh"

#include <algorithm>

#include "conv2d_channels.hpp"

namespace promptiqa::cuda {

namespace {

template <class Tile>
constexpr std::size_t data_shared_bytes = Tile::stages_bytes + std::size_t{place_ints} * Tile::columns * sizeof(int);
template <class Tile>
constexpr std::size_t weight_shared_bytes = Tile::stages_bytes +
                                            std::size_t{place_ints} * 2 * Tile::depth * sizeof(int);
static_assert(data_shared_bytes<LargeChannelsTile<float>> <= conv2d_channels_shared_bytes &&
                  weight_shared_bytes<LargeChannelsTile<bfloat16>> <= conv2d_channels_shared_bytes,
              "what the condition asks for");

/// Calls run(Tile()): the lowest tiles that cover all rows, if any do; warpgroups where the device and this build have
/// them.
template <class T, class Run>
void with_channels_tile(const Op& op, std::int64_t rows, Run&& run) {
  if constexpr (std::is_same_v<T, bfloat16>)
    if (const DeviceTraits traits = device_traits(op); traits.wgmma) {
      using High = HighWarpgroupChannelsTile;
      constexpr std::size_t high_bytes = std::max(data_shared_bytes<High>, weight_shared_bytes<High>);
      if (rows <= LowWarpgroupChannelsTile::rows) return run(LowWarpgroupChannelsTile());
      if (rows <= LargeWarpgroupChannelsTile::rows || traits.shared_bytes < high_bytes)
        return run(LargeWarpgroupChannelsTile());
      return run(High());
    }
  if (rows <= LowChannelsTile<T>::rows)
    run(LowChannelsTile<T>());
  else
    run(LargeChannelsTile<T>());
}

/// Steps of each part of a product of `tiles` tiles, `steps` deep, whose C has `size` elements. `always`: parts are
/// stored and added even when there is only one.
std::int64_t steps_of_part(std::int64_t tiles, std::int64_t steps, std::int64_t size, int blocks_at_once, bool always) {
  // Guesses, to be checked on a device. Of one with 132 multiprocessors: blocks that run at once; steps' worth of time
  // that a block takes to begin and to end, and a launch; bytes that memory moves while every block takes a step.
  const std::int64_t at_once = 132 * blocks_at_once;
  constexpr double ends = 6, launch = 2, bytes_a_step = 4e6;
  double least = 0;
  std::int64_t best = std::max<std::int64_t>(steps, 1);
  for (std::int64_t wanted = 1; wanted <= std::clamp<std::int64_t>(steps / 4, 1, 256); ++wanted) {
    const std::int64_t part = std::max<std::int64_t>(ceil_div(steps, wanted), 1);
    const std::int64_t parts = std::max<std::int64_t>(ceil_div(steps, part), 1);
    double time = static_cast<double>(ceil_div(tiles * parts, at_once)) * (static_cast<double>(part) + ends);
    if (parts > 1 || always) time += launch + 8.0 * static_cast<double>(parts * size) / bytes_a_step;
    if (wanted == 1 || time < least) least = time, best = part;
  }
  return best;
}

/// x (batch, channels, area) with its channels last.
template <class T>
StorageRef channels_last(const Op& op, const T* x, std::int64_t batch, std::int64_t channels, std::int64_t area) {
  using Tile = ChannelsLastTile<T>;
  StorageRef y = op.memory.allocate(static_cast<std::size_t>(batch * channels * area) * sizeof(T));
  const bool vectors = area % 4 == 0 && aligned(x, 4 * sizeof(T));
  launch(channels_last_kernel<T>,
         blocks_for(op, batch * ceil_div(channels, Tile::channels) * ceil_div(area, Tile::pixels), 1), Tile::threads,
         Tile::shared_bytes, op, area, channels, vectors, x, static_cast<T*>(y->data));
  return y;
}

/// C of a product with `pixels` columns (of each class, at most), through a store.
template <class T, class Product>
void multiply(const Op& op, const Product& product, std::int64_t rows, std::int64_t pixels, std::int64_t depth,
              unsigned classes, std::int64_t area, const StoreConvolution<T>& store) {
  with_channels_tile<T>(op, rows, [&](auto tile) {
    using Tile = decltype(tile);
    const std::int64_t tiles = ceil_div(rows, Tile::rows) * ceil_div(pixels, Tile::columns);
    const std::int64_t steps = ceil_div(depth, Tile::depth), size = rows * pixels;
    const std::int64_t part = classes > 1 ? steps : steps_of_part(tiles, steps, size, Tile::blocks_at_once, false);
    const std::int64_t parts = ceil_div(steps, part);
    const unsigned blocks = blocks_for(op, tiles, 1);
    const auto neighbours = [&](std::int64_t width) { return classes == 1 && area % width == 0; };
    if (parts <= 1) {
      const bool vectors =
          neighbours(StoreConvolution<T>::width) && aligned(store.y, 16) && aligned(store.residual, 16);
      launch(conv2d_channels_kernel<T, Tile, Product, StoreConvolution<T>>, dim3(blocks, 1, classes), Tile::threads,
             data_shared_bytes<Tile>, op, product, classes > 1 ? 0 : static_cast<int>(part), vectors, store);
      return;
    }
    const StorageRef scratch = op.memory.allocate(static_cast<std::size_t>(parts * size) * sizeof(float));
    float* partial = static_cast<float*>(scratch->data);
    launch(conv2d_channels_kernel<T, Tile, Product, StorePartialSum<float>>,
           dim3(blocks, 1, static_cast<unsigned>(parts)), Tile::threads, data_shared_bytes<Tile>, op, product,
           static_cast<int>(part), neighbours(StorePartialSum<float>::width), StorePartialSum<float>{partial, size});
    with_index_type(size, [&](auto index) {
      using Index = decltype(index);
      launch(finish_convolution_kernel<Index, T>, blocks_for(op, size, 256), 256, 0, op, static_cast<Index>(size),
             static_cast<int>(parts), static_cast<Index>(area), static_cast<Index>(rows), partial, store);
    });
  });
}

}  // namespace

template <class T>
void weight_channels_last(const Op& op, const T* weight, std::int64_t rows, std::int64_t taps, std::int64_t channels,
                          std::int64_t row_stride, std::int64_t channel_stride, T* to) {
  launch(weight_rows_kernel<T>, blocks_for(op, rows * channels, 256), 256, 0, op, rows, channels, taps, row_stride,
         channel_stride, weight, to);
}

template <class T>
void conv2d_of_channels(const Op& op, const Conv2dArgs<T>& args, const T* weight, bool weight_last) {
  const Conv2dGeometry& g = args.geometry;
  const std::int64_t taps = g.kernel_h * g.kernel_w, depth = taps * g.in_channels;
  const StorageRef x = channels_last(op, args.x, g.batch, g.in_channels, g.in_h * g.in_w);
  StorageRef own;
  if (!weight_last) {
    own = op.memory.allocate(static_cast<std::size_t>(g.out_channels * depth) * sizeof(T));
    weight_channels_last(op, weight, g.out_channels, taps, g.in_channels, depth, taps, static_cast<T*>(own->data));
    weight = static_cast<const T*>(own->data);
  }
  const ChannelsForward<T> product = {{g, weight, static_cast<const T*>(x->data)}};
  multiply<T>(op, product, g.out_channels, g.batch * g.out_h * g.out_w, depth, 1, g.out_h * g.out_w,
              {args.y, args.bias, args.residual, args.activation == Activation::relu});
}

template <class T>
void conv2d_data_of_channels(const Op& op, const Conv2dBackwardDataArgs<T>& args) {
  const Conv2dGeometry& g = args.geometry;
  const std::int64_t taps = g.kernel_h * g.kernel_w;
  const StorageRef dy = channels_last(op, args.dy, g.batch, g.out_channels, g.out_h * g.out_w);
  const StorageRef weight =
      op.memory.allocate(static_cast<std::size_t>(g.in_channels * taps * g.out_channels) * sizeof(T));
  weight_channels_last(op, args.weight, g.in_channels, taps, g.out_channels, taps, taps * g.in_channels,
                       static_cast<T*>(weight->data));
  ChannelsData<T> product = {};
  product.g = g, product.a = static_cast<const T*>(weight->data), product.b = static_cast<const T*>(dy->data);
  multiply<T>(op, product, g.in_channels, g.batch * ceil_div(g.in_h, g.stride_h) * ceil_div(g.in_w, g.stride_w),
              taps * g.out_channels, static_cast<unsigned>(g.stride_h * g.stride_w), g.in_h * g.in_w,
              {args.dx, nullptr, nullptr, false});
}

template <class T>
void conv2d_weight_of_channels(const Op& op, const Conv2dBackwardWeightArgs<T>& args) {
  const Conv2dGeometry& g = args.geometry;
  const std::int64_t taps = g.kernel_h * g.kernel_w, columns = taps * g.in_channels, size = g.out_channels * columns;
  const std::int64_t pixels = g.batch * g.out_h * g.out_w;
  const StorageRef x = channels_last(op, args.x, g.batch, g.in_channels, g.in_h * g.in_w);
  const StorageRef dy = channels_last(op, args.dy, g.batch, g.out_channels, g.out_h * g.out_w);
  with_channels_tile<T>(op, g.out_channels, [&](auto tile) {
    using Tile = decltype(tile);
    const std::int64_t tiles = ceil_div(g.out_channels, Tile::rows) * ceil_div(columns, Tile::columns);
    const std::int64_t steps = ceil_div(pixels, Tile::depth);
    const std::int64_t part = steps_of_part(tiles, steps, size, Tile::blocks_at_once, true);
    const std::int64_t parts = std::max<std::int64_t>(ceil_div(steps, part), 1);
    const StorageRef scratch = op.memory.allocate(static_cast<std::size_t>(parts * size) * sizeof(float));
    float* partial = static_cast<float*>(scratch->data);
    const ChannelsForward<T> forward = {{g, nullptr, static_cast<const T*>(x->data)}};
    launch(conv2d_channels_weight_kernel<T, Tile>, dim3(blocks_for(op, tiles, 1), 1, static_cast<unsigned>(parts)),
           Tile::threads, weight_shared_bytes<Tile>, op, forward, static_cast<const T*>(dy->data),
           static_cast<int>(part), partial);
    with_index_type(size, [&](auto index) {
      using Index = decltype(index);
      launch(add_weight_parts_kernel<Index, T>, blocks_for(op, size, 256), 256, 0, op, static_cast<Index>(size),
             static_cast<int>(parts), static_cast<Index>(taps), static_cast<Index>(g.in_channels), partial,
             args.dweight);
    });
  });
}

#define PROMPTIQA_CHANNELS(T)                                                                                        \
  template void weight_channels_last<T>(const Op&, const T*, std::int64_t, std::int64_t, std::int64_t, std::int64_t, \
                                        std::int64_t, T*);                                                           \
  template void conv2d_of_channels<T>(const Op&, const Conv2dArgs<T>&, const T*, bool);                              \
  template void conv2d_data_of_channels<T>(const Op&, const Conv2dBackwardDataArgs<T>&);                             \
  template void conv2d_weight_of_channels<T>(const Op&, const Conv2dBackwardWeightArgs<T>&);
PROMPTIQA_CHANNELS(float)
PROMPTIQA_CHANNELS(bfloat16)
#undef PROMPTIQA_CHANNELS

}  // namespace promptiqa::cuda
