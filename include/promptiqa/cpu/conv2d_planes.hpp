// 2-D convolution on gemm's micro-kernel, without im2col.
// Surprising choice: sums are made for rows as wide as the planes and the few columns too many thrown away; in exchange
// what a kernel element multiplies is a plane itself, some elements on, and nothing is copied once per element.
//
// An image is cut into planes: one per group of channels that a packed element holds (a channel, or two as bfloat16)
// and per phase (row and column modulo the stride), padded with zeros. Sums go over channels, then kernel elements.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>

#include <promptiqa/core/kernel_table.hpp>
#include <promptiqa/core/memory_pool.hpp>
#include <promptiqa/core/thread_pool.hpp>
#include <promptiqa/cpu/gemm_micro_kernel.hpp>
#include <promptiqa/cpu/im2col.hpp>
#include <promptiqa/cpu/packed_element.hpp>
#include <promptiqa/cpu/parallel.hpp>

namespace promptiqa::cpu {

/// How a weight (outputs, channels, taps) is laid out: blocks of channel groups; in a block panels of outputs, as the
/// micro-kernel reads rows; in a panel kernel elements, and for each the block's groups.
template <class T, class Isa>
struct Conv2dPanels {
  using Tile = GemmTile<T, Isa>;
  static constexpr int depth = PackedElement<T, Isa>::depth;  // channels of a group

  std::int64_t outputs, channels, taps, groups, panels, group_block;

  Conv2dPanels(std::int64_t o, std::int64_t c, std::int64_t t)
      : outputs(o),
        channels(c),
        taps(t),
        groups(packed_depth<T, Isa>(c)),
        panels(ceil_div(o, Tile::rows)),
        // So many groups that the planes' rows under one tile stay in the first-level cache.
        group_block(even_block(groups, std::max<std::int64_t>(1, 288 / t), 1)) {}

  std::int64_t size() const { return panels * Tile::rows * groups * taps; }
  std::int64_t first_output(std::int64_t panel) const { return part_begin(panel, outputs, panels); }
  /// Where a panel of the block of `count` groups from `group` on begins.
  std::int64_t offset(std::int64_t group, std::int64_t count, std::int64_t panel) const {
    return Tile::rows * taps * (group * panels + count * panel);
  }
};

/// The body of KernelTable::packed_conv2d_bytes.
template <class T, class Isa>
std::size_t packed_conv2d_bytes(std::int64_t out_channels, std::int64_t in_channels, std::int64_t kernel_h,
                                std::int64_t kernel_w) {
  return static_cast<std::size_t>(Conv2dPanels<T, Isa>(out_channels, in_channels, kernel_h * kernel_w).size()) *
         sizeof(packed_element_t<T, Isa>);
}

/// The body of KernelTable::pack_conv2d; see PackConv2dArgs.
template <class T, class Isa>
void pack_conv2d(const KernelContext& ctx, const PackConv2dArgs<T>& args) {
  using Panels = Conv2dPanels<T, Isa>;
  using P = packed_element_t<T, Isa>;
  const Panels layout(args.out_channels, args.in_channels, args.kernel_h * args.kernel_w);
  pool_of(ctx).parallel_for(layout.panels, [&](std::int64_t panel) {
    const std::int64_t first = layout.first_output(panel), rows = layout.first_output(panel + 1) - first;
    for (std::int64_t group = 0; group < layout.groups; group += layout.group_block) {
      const std::int64_t count = std::min(layout.group_block, layout.groups - group);
      P* to = static_cast<P*>(args.packed) + layout.offset(group, count, panel);
      for (std::int64_t tap = 0; tap < layout.taps; ++tap)
        for (std::int64_t i = group; i < group + count; ++i)
          for (std::int64_t r = 0; r < Panels::Tile::rows; ++r, ++to) {
            T values[Panels::depth] = {};
            for (std::int64_t d = 0; d < Panels::depth && r < rows; ++d) {
              const std::int64_t c = i * Panels::depth + d, o = first + r;
              if (c >= layout.channels) continue;
              values[d] = args.weight[(o * layout.channels + c) * layout.taps + tap];
              if (args.scale) values[d] *= args.scale[o];
            }
            set_packed(*to, values);
          }
    }
  });
}

/// The planes of some rows of one image's output.
template <class T, class Isa>
struct Conv2dPlanes {
  using P = packed_element_t<T, Isa>;
  static constexpr int width = GemmTile<T, Isa>::width;

  Conv2dGeometry g;
  std::int64_t groups, phases_h, phases_w, pitch, rows, plane;

  Conv2dPlanes(const Conv2dGeometry& geometry, std::int64_t out_rows)
      : g(geometry),
        groups(packed_depth<T, Isa>(g.in_channels)),
        phases_h(std::min(g.stride_h, g.kernel_h)),
        phases_w(std::min(g.stride_w, g.kernel_w)),
        pitch(g.out_w + (g.kernel_w - 1) / g.stride_w),
        rows(out_rows + (g.kernel_h - 1) / g.stride_h),
        plane(rows * pitch) {
    // Planes some power of two apart would all lie in the same few sets of the first-level cache.
    if (plane * static_cast<std::int64_t>(sizeof(P)) % 512 == 0) plane += width;
  }

  std::int64_t group_size() const { return phases_h * phases_w * plane; }
  /// With the elements that the last vectors read past the last row, whose sums are thrown away.
  std::int64_t size() const { return groups * group_size() + 2 * width; }
  /// Scratch that fill() needs, in elements of T: a row of each channel of a group.
  std::int64_t scratch_size() const { return PackedElement<T, Isa>::depth * (pitch + width); }
  /// Of sums for so many rows of output: whole vectors.
  std::int64_t sum_columns(std::int64_t out_rows) const {
    return ceil_div((out_rows - 1) * pitch + g.out_w, width) * width;
  }
  std::int64_t shift(std::int64_t ky, std::int64_t kx) const {
    return (ky % g.stride_h * phases_w + kx % g.stride_w) * plane + ky / g.stride_h * pitch + kx / g.stride_w;
  }

  /// Cuts an image (in_channels, in_h, in_w) into planes for the output rows from oy on.
  void fill(P* planes, const T* image, std::int64_t oy, T* scratch) const {
    Isa::run([&]() PROMPTIQA_SIMD_LAMBDA {
      P* to = planes;
      for (std::int64_t group = 0; group < groups; ++group)
        for (std::int64_t py = 0; py < phases_h; ++py)
          for (std::int64_t px = 0; px < phases_w; ++px) {
            for (std::int64_t r = 0; r < rows; ++r) fill_row(to + r * pitch, image, group, py, px, oy + r, scratch);
            std::fill(to + rows * pitch, to + plane, P{});
            to += plane;
          }
      std::fill(to, to + 2 * width, P{});
    });
  }

 private:
  PROMPTIQA_ALWAYS_INLINE void fill_row(P* to, const T* image, std::int64_t group, std::int64_t py, std::int64_t px,
                                        std::int64_t oy, T* scratch) const {
    const T* plane_of_channel = image + group * PackedElement<T, Isa>::depth * g.in_h * g.in_w;
    if constexpr (PackedElement<T, Isa>::depth == 1) {
      copy_im2col_run<T, Isa>(to, g, plane_of_channel, py, px, oy, 0, pitch);
    } else {
      T* odd = scratch + pitch + width;
      copy_im2col_run<T, Isa>(scratch, g, plane_of_channel, py, px, oy, 0, pitch);
      if (2 * group + 1 < g.in_channels)
        copy_im2col_run<T, Isa>(odd, g, plane_of_channel + g.in_h * g.in_w, py, px, oy, 0, pitch);
      else
        std::fill(odd, odd + pitch, T(0));
      for_each_vector<detail::Float16>(pitch, [&](std::int64_t i, int count) PROMPTIQA_SIMD_LAMBDA {
        detail::Float16::Vector x, y;
        detail::Pair16::Vector pairs;
        detail::Float16::load(x, scratch + i);  // past a row's end: what was there, and is not stored
        detail::Float16::load(y, odd + i);
        detail::make_pairs(pairs, x, y);
        std::memcpy(to + i, &pairs, static_cast<std::size_t>(count) * sizeof(P));
      });
    }
  }
};

/// to[i] = activation(sums[i] + bias + residual[i]) for i in [0, n); residual may be null. The last vector overlaps its
/// neighbour, a run shorter than a vector takes shorter ones.
template <class T, int Bytes>
PROMPTIQA_ALWAYS_INLINE void finish_conv2d_run(T* to, const T* sums, T bias, const T* residual, bool relu,
                                               std::int64_t n) {
  using S = Simd<T, Bytes>;
  if (n >= S::width) {
    const typename S::Vector zero = {};
    for (std::int64_t i = 0; i < n; i += S::width) {
      const std::int64_t at = std::min<std::int64_t>(i, n - S::width);
      typename S::Vector v, x;
      S::load(v, sums + at);
      v = v + bias;
      if (residual) {
        S::load(x, residual + at);
        v = v + x;
      }
      if (relu) v = v < zero ? zero : v;  // keeps NaN
      S::store(to + at, v);
    }
  } else if constexpr (S::width > 2 && Bytes > 16) {
    finish_conv2d_run<T, Bytes / 2>(to, sums, bias, residual, relu, n);
  } else {
    for (std::int64_t i = 0; i < n; ++i) {
      const T v = sums[i] + bias + (residual ? residual[i] : T(0));
      to[i] = relu && v < T(0) ? T(0) : v;
    }
  }
}

/// y = activation(x * weight + bias + residual); see Conv2dArgs. The same bits for any number of threads. Throws
/// std::bad_alloc.
template <class T, class Isa>
void conv2d(const KernelContext& ctx, const Conv2dArgs<T>& args) {
  using Tile = GemmTile<T, Isa>;
  using P = packed_element_t<T, Isa>;
  ThreadPool& pool = pool_of(ctx);
  MemoryPool& memory = memory_of(ctx);
  const Conv2dGeometry& g = args.geometry;
  const Conv2dPanels<T, Isa> layout(g.out_channels, g.in_channels, g.kernel_h * g.kernel_w);
  if (g.batch * g.out_h * g.out_w == 0) return;

  StorageRef packed;
  const P* weight = static_cast<const P*>(args.packed_weight);
  if (!weight) {
    packed = memory.allocate(static_cast<std::size_t>(layout.size()) * sizeof(P));
    pack_conv2d<T, Isa>(ctx,
                        {g.out_channels, g.in_channels, g.kernel_h, g.kernel_w, args.weight, nullptr, packed->data});
    weight = static_cast<const P*>(packed->data);
  }

  // A task is some rows of one image's output: their planes and sums stay in the second-level cache. Where that is too
  // few tasks, outputs are shared out too, each with planes of its own.
  const Conv2dPlanes<T, Isa> one_row(g, 1);
  const std::int64_t row_bytes = one_row.groups * one_row.phases_h * one_row.phases_w * one_row.pitch *
                                     static_cast<std::int64_t>(sizeof(P)) +
                                 g.out_channels * one_row.pitch * static_cast<std::int64_t>(sizeof(T));
  const std::int64_t block = even_block(g.out_h, std::max<std::int64_t>(1, (std::int64_t{384} << 10) / row_bytes), 1);
  const std::int64_t blocks = ceil_div(g.out_h, block), tasks = g.batch * blocks, threads = pool.size();
  std::int64_t parts = 1;
  while (parts < layout.panels && tasks * parts % threads != 0 && tasks * parts < 4 * threads) ++parts;

  const Conv2dPlanes<T, Isa> planes(g, block);
  const std::int64_t most_outputs = ceil_div(layout.panels, parts) * Tile::rows;
  const auto rounded = [](std::int64_t bytes) { return ceil_div(bytes, 64) * 64; };
  const std::int64_t planes_bytes = rounded(planes.size() * static_cast<std::int64_t>(sizeof(P)));
  const std::int64_t sums_bytes =
      rounded(most_outputs * planes.sum_columns(block) * static_cast<std::int64_t>(sizeof(T)));
  const StorageRef shift_memory = memory.allocate(static_cast<std::size_t>(layout.taps) * sizeof(std::int64_t));
  std::int64_t* shifts = static_cast<std::int64_t*>(shift_memory->data);
  for (std::int64_t tap = 0; tap < layout.taps; ++tap) shifts[tap] = planes.shift(tap / g.kernel_w, tap % g.kernel_w);

  pool.parallel_for(tasks * parts, [&](std::int64_t task) {
    const std::int64_t part = task % parts, image = task / parts / blocks, oy = task / parts % blocks * block;
    const std::int64_t rows = std::min(block, g.out_h - oy);
    const std::int64_t first_panel = part_begin(part, layout.panels, parts);
    const std::int64_t last_panel = part_begin(part + 1, layout.panels, parts);
    const std::int64_t first_output = layout.first_output(first_panel);
    const std::int64_t columns = planes.sum_columns(rows);
    const StorageRef scratch = memory.allocate(static_cast<std::size_t>(planes_bytes + sums_bytes) +
                                               static_cast<std::size_t>(planes.scratch_size()) * sizeof(T));
    P* const cut = static_cast<P*>(scratch->data);
    T* const sums = reinterpret_cast<T*>(static_cast<char*>(scratch->data) + planes_bytes);
    planes.fill(cut, args.x + image * g.in_channels * g.in_h * g.in_w, oy,
                reinterpret_cast<T*>(reinterpret_cast<char*>(sums) + sums_bytes));

    for (std::int64_t group = 0; group < layout.groups; group += layout.group_block) {
      const std::int64_t count = std::min(layout.group_block, layout.groups - group);
      const P* b = cut + group * planes.group_size();
      for (std::int64_t column = 0; column < columns; column += Tile::columns)
        for (std::int64_t panel = first_panel; panel < last_panel; ++panel) {
          const std::int64_t row = layout.first_output(panel), height = layout.first_output(panel + 1) - row;
          micro_kernels<T, Isa>[static_cast<std::size_t>(height - 1)][columns - column > Tile::width ? 1 : 0](
              {count, weight + layout.offset(group, count, panel), 1, Tile::rows, b + column, planes.group_size(),
               sums + (row - first_output) * columns + column, columns, group > 0, b, 0, layout.taps, shifts});
        }
    }

    Isa::run([&]() PROMPTIQA_SIMD_LAMBDA {
      for (std::int64_t o = first_output; o < layout.first_output(last_panel); ++o)
        for (std::int64_t r = 0; r < rows; ++r) {
          const std::int64_t at = ((image * g.out_channels + o) * g.out_h + oy + r) * g.out_w;
          finish_conv2d_run<T, Isa::bytes>(args.y + at, sums + (o - first_output) * columns + r * planes.pitch,
                                           args.bias ? args.bias[o] : T(0),
                                           args.residual ? args.residual + at : nullptr,
                                           args.activation == Activation::relu, g.out_w);
        }
    });
  });
}

}  // namespace promptiqa::cpu
