// The gradients of 2-D convolution for one instruction set, as matrix products with pieces of im2col where neither
// another convolution nor shifted sums do.
// Surprising choice: the gradient of the weight is computed transposed, im2col (K, P) times dy^T (P, O), so that both
// directions read im2col in the same order, along output pixels, where copying it is cheap.
//
// Letters: K = in_channels * kernel_h * kernel_w, P = out_h * out_w, O = out_channels.
#pragma once

#include <algorithm>
#include <cstdint>

#include <promptiqa/core/kernel_table.hpp>
#include <promptiqa/core/memory_pool.hpp>
#include <promptiqa/core/thread_pool.hpp>
#include <promptiqa/cpu/conv2d_planes.hpp>
#include <promptiqa/cpu/conv2d_shifted.hpp>
#include <promptiqa/cpu/im2col.hpp>
#include <promptiqa/cpu/panel_product.hpp>

namespace promptiqa::cpu {

/// The convolution that takes dy to dx at stride 1: the same with the weight flipped and its channels exchanged.
inline Conv2dGeometry backward_data_geometry(const Conv2dGeometry& g) {
  return {g.batch,    g.out_channels, g.out_h,    g.out_w, g.in_channels,           g.in_h, g.in_w, g.kernel_h,
          g.kernel_w, g.stride_h,     g.stride_w, g.kernel_h - 1 - g.pad_h, g.kernel_w - 1 - g.pad_w};
}

/// dx from dy at stride 1, where the padding is less than the kernel. Throws std::bad_alloc.
template <class T, class Isa>
void conv2d_backward_data_flipped(const KernelContext& ctx, const Conv2dBackwardDataArgs<T>& args) {
  const Conv2dGeometry& g = args.geometry;
  const std::int64_t taps = g.kernel_h * g.kernel_w, size = g.in_channels * g.out_channels * taps;
  const StorageRef flipped = memory_of(ctx).allocate(static_cast<std::size_t>(size) * sizeof(T));
  T* weight = static_cast<T*>(flipped->data);  // (C, O, taps from last to first)
  pool_of(ctx).parallel_for(g.in_channels, [&](std::int64_t c) {
    for (std::int64_t o = 0; o < g.out_channels; ++o)
      std::reverse_copy(args.weight + (o * g.in_channels + c) * taps, args.weight + (o * g.in_channels + c + 1) * taps,
                        weight + (c * g.out_channels + o) * taps);
  });
  conv2d<T, Isa>(ctx, {backward_data_geometry(g), args.dy, weight, nullptr, args.dx});
}

/// dx from dy: pieces of weight^T dy (K, P), added to where their im2col came from. See Conv2dBackwardDataArgs.
/// Throws std::bad_alloc.
template <class T, class Isa>
void conv2d_backward_data(const KernelContext& ctx, const Conv2dBackwardDataArgs<T>& args) {
  const Conv2dGeometry reverse = backward_data_geometry(args.geometry);
  if (reverse.stride_h == 1 && reverse.stride_w == 1 && reverse.pad_h >= 0 && reverse.pad_w >= 0)
    return conv2d_backward_data_flipped<T, Isa>(ctx, args);
  using Tile = PanelTile<T, Isa>;
  auto& pool = *static_cast<ThreadPool*>(ctx.execution);
  auto& memory = *static_cast<MemoryPool*>(ctx.memory);
  const Conv2dGeometry& g = args.geometry;
  if (g.batch == 0) return;
  const std::int64_t outputs = g.out_channels, taps = g.kernel_h * g.kernel_w, depth = g.in_channels * taps;
  const std::int64_t area = g.out_h * g.out_w, in_area = g.in_h * g.in_w;

  const StorageRef transposed = memory.allocate(static_cast<std::size_t>(depth * outputs) * sizeof(T));
  T* weight_t = static_cast<T*>(transposed->data);  // (K, O)
  pool.parallel_for((depth + 63) / 64, [&](std::int64_t block) {
    const std::int64_t end = std::min(depth, (block + 1) * 64);
    for (std::int64_t o = 0; o < outputs; ++o)
      for (std::int64_t k = block * 64; k < end; ++k) weight_t[k * outputs + o] = args.weight[o * depth + k];
  });

  // A task is some channels of one image; it makes the columns of a few channels at a time.
  const std::int64_t parts = std::min(g.in_channels, (2 * pool.size() + g.batch - 1) / g.batch);
  const std::int64_t part = ceil_div(g.in_channels, parts);
  const std::int64_t group =
      std::max<std::int64_t>(1, std::min(part, (std::int64_t{1} << 16) / std::max<std::int64_t>(1, taps * area)));
  const std::int64_t pitch = Tile::padded(area);
  const std::int64_t dy_size = Tile::packed_size(outputs, area);

  pool.parallel_for(g.batch * parts, [&](std::int64_t task) {
    const std::int64_t image = task / parts, first = task % parts * part;
    const std::int64_t last = std::min(g.in_channels, first + part);
    const StorageRef scratch =
        memory.allocate(static_cast<std::size_t>(dy_size + group * taps * pitch) * sizeof(T));
    T* dy = static_cast<T*>(scratch->data);
    T* columns = dy + dy_size;
    T* dx = args.dx + image * g.in_channels * in_area;
    pack_panels<T, Isa>(dy, args.dy + image * outputs * area, area, outputs, area);
    for (std::int64_t c = first; c < last; c += group) {
      const std::int64_t channels = std::min(group, last - c);
      std::fill(dx + c * in_area, dx + (c + channels) * in_area, T(0));
      panel_product<T, Isa>({channels * taps, pitch, outputs, weight_t + c * taps * outputs, outputs, 1, dy, columns,
                             pitch, T(1), nullptr, nullptr, false});
      col2im_add<T, Isa>(dx, g, columns, pitch, c, channels);
    }
  });
}

/// dbias from dy (batch, outputs, area). See Conv2dBackwardWeightArgs.
template <class T>
void conv2d_backward_bias(ThreadPool& pool, const Conv2dBackwardWeightArgs<T>& args) {
  const Conv2dGeometry& g = args.geometry;
  const std::int64_t outputs = g.out_channels, area = g.out_h * g.out_w;
  pool.parallel_for(outputs, [&](std::int64_t o) {
    // Eight sums of planes keep the additions independent; planes are added in double, there may be thousands.
    double total = 0;
    for (std::int64_t image = 0; image < g.batch; ++image) {
      const T* dy = args.dy + (image * outputs + o) * area;
      T lanes[8] = {};
      std::int64_t i = 0;
      for (; i + 8 <= area; i += 8)
        for (int l = 0; l < 8; ++l) lanes[l] += dy[i + l];
      for (; i < area; ++i) lanes[0] += dy[i];
      for (const T lane : lanes) total += static_cast<double>(lane);
    }
    args.dbias[o] = static_cast<accumulate_t<T>>(total);
  });
}

/// dweight and, unless null, dbias from dy and x. Images are cut into groups whose number depends on the geometry
/// only; a group's sum is made in order and the groups' sums are added in order, so the result has the same bits for
/// any number of threads. See Conv2dBackwardWeightArgs. Throws std::bad_alloc.
template <class T, class Isa>
void conv2d_backward_weight(const KernelContext& ctx, const Conv2dBackwardWeightArgs<T>& args) {
  using Tile = PanelTile<T, Isa>;
  auto& pool = *static_cast<ThreadPool*>(ctx.execution);
  auto& memory = *static_cast<MemoryPool*>(ctx.memory);
  const Conv2dGeometry g = flatten_pointwise(args.geometry);
  const std::int64_t outputs = g.out_channels, depth = g.in_channels * g.kernel_h * g.kernel_w;
  const std::int64_t area = g.out_h * g.out_w, in_size = g.in_channels * g.in_h * g.in_w;

  if (g.batch == 0) {  // no group below would write its sum
    std::fill_n(args.dweight, depth * outputs, T(0));
    if (args.dbias) std::fill_n(args.dbias, outputs, accumulate_t<T>(0));
    return;
  }
  if (args.dbias) conv2d_backward_bias(pool, args);
  if (shifted_pays<T, Isa>(g)) return conv2d_shifted_backward_weight<T, Isa>(ctx, args);

  // Small weights get several partial sums; large ones have rows enough to keep the threads busy.
  constexpr std::int64_t partial_elements = 1 << 20;
  const std::int64_t most = std::min<std::int64_t>(g.batch, 16);
  const std::int64_t groups = std::max<std::int64_t>(1, std::min(most, partial_elements / (depth * outputs)));
  std::int64_t rows = even_block(depth, 384, Tile::rows);
  // Long runs of pixels where few rows read them: memory is then read in streams. They decide in which order pixels
  // are added, so they must not depend on the number of threads, as the rows of a task then do.
  const std::int64_t pixels =
      even_block(area, std::clamp<std::int64_t>(98304 / std::max(rows, outputs), 256, 2048), 1);
  while (groups * ceil_div(depth, rows) < 2 * pool.size() && rows > 8 * Tile::rows)
    rows = even_block(depth, rows - Tile::rows, Tile::rows);
  const std::int64_t row_blocks = ceil_div(depth, rows);
  const std::int64_t pitch = Tile::padded(pixels) + Tile::width;  // no multiple of a page: rows spread over cache sets

  const StorageRef partial = memory.allocate(static_cast<std::size_t>(groups * depth * outputs) * sizeof(T));
  T* sums = static_cast<T*>(partial->data);  // (groups, K, O)
  pool.parallel_for(groups * row_blocks, [&](std::int64_t task) {
    const std::int64_t group = task / row_blocks, k0 = task % row_blocks * rows, count = std::min(rows, depth - k0);
    const std::int64_t column_size = rows * pitch;
    const StorageRef scratch =
        memory.allocate(static_cast<std::size_t>(column_size + Tile::packed_size(pixels, outputs)) * sizeof(T));
    T* columns = static_cast<T*>(scratch->data);
    T* dy = columns + column_size;
    T* sum = sums + (group * depth + k0) * outputs;
    bool add = false;
    for (std::int64_t image = group * g.batch / groups; image < (group + 1) * g.batch / groups; ++image)
      for (std::int64_t p0 = 0; p0 < area; p0 += pixels, add = true) {
        const std::int64_t width = std::min(pixels, area - p0);
        im2col<T, Isa>(columns, pitch, width, g, args.x + image * in_size, k0, count, p0, width);
        pack_transposed_panels<T, Isa>(dy, args.dy + image * outputs * area + p0, area, width, outputs);
        panel_product<T, Isa>(
            {count, outputs, width, columns, pitch, 1, dy, sum, outputs, T(1), nullptr, nullptr, add});
      }
  });

  add_weight_groups(pool, sums, groups, depth, outputs, outputs, args.dweight);
}

}  // namespace promptiqa::cpu
