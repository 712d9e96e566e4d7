// Convolution and its gradients as products on tensor cores that gather 16 bytes of channels at a time, from copies
// with their channels last (channels_last.cuh). Surprising choice: depth is counted in taps first and channels second,
// so a chunk of it lies together in both operands and is inside the picture or outside as a whole.
#pragma once

#include "channels_last.cuh"
#include "conv2d.cuh"
#include "conv2d_channels_tile.cuh"

namespace promptiqa::cuda {

/// One position of a kernel: its number in the weight, and how far it moves a column in the gathered picture.
struct ChannelsTap {
  int number, y, x;
};

// What conv2d_channels_kernel asks a product for, besides what conv2d_kernel does:
//   a (rows, weight_taps(), channels()), b (batch, height(), width(), channels())   the operands, channels last
//   taps(), tap(j)     positions of the kernel that the (class of) pixels meet
//   column_area()      columns of an image; column(n) is as there but for its offset

/// y = weight x; see ConvForward.
template <class T>
struct ChannelsForward : ConvForward<T> {
  using ConvForward<T>::g;
  PROMPTIQA_DEVICE int channels() const { return static_cast<int>(g.in_channels); }
  PROMPTIQA_DEVICE int taps() const { return static_cast<int>(g.kernel_h * g.kernel_w); }
  PROMPTIQA_DEVICE int weight_taps() const { return taps(); }
  PROMPTIQA_DEVICE ChannelsTap tap(int j) const {
    const int kernel_w = static_cast<int>(g.kernel_w);
    return {j, j / kernel_w, j % kernel_w};
  }
  PROMPTIQA_DEVICE int column_area() const { return static_cast<int>(g.out_h * g.out_w); }
};

/// dx = weight^T dy, of a class of pixels; see ConvData. The weight is (in_channels, taps, out_channels).
template <class T>
struct ChannelsData : ConvData<T> {
  using ConvData<T>::g;
  PROMPTIQA_DEVICE int channels() const { return static_cast<int>(g.out_channels); }
  PROMPTIQA_DEVICE int taps() const { return this->taps_h * this->taps_w; }
  PROMPTIQA_DEVICE int weight_taps() const { return static_cast<int>(g.kernel_h * g.kernel_w); }
  PROMPTIQA_DEVICE ChannelsTap tap(int j) const {
    const int y = j / this->taps_w, x = j % this->taps_w;
    const int weight_y = this->tap_y + y * static_cast<int>(g.stride_h),
              weight_x = this->tap_x + x * static_cast<int>(g.stride_w);
    return {weight_y * static_cast<int>(g.kernel_w) + weight_x, -y, -x};
  }
  PROMPTIQA_DEVICE int column_area() const { return this->pixels_h * this->pixels_w; }
};

/// Where a column (or a term of the weight's gradient) lies in the gathered picture, as it is kept in shared memory:
/// number of the pixel, its coordinates, nothing.
constexpr int place_ints = 4;
/// Keeps the place of column n of a product as number i; outside of every picture behind the last of the `columns`.
template <class Product>
PROMPTIQA_DEVICE void keep_place(Shared<int> places, int i, const Product& product, int n, int columns) {
  Vector<int, 4> kept = {{0, outside, outside, 0}};
  if (n < columns) {
    const ConvPlace place = product.column(n);
    const int image = n / product.column_area();
    kept = {{(image * product.height() + place.y) * product.width() + place.x, place.y, place.x, 0}};
  }
  store_shared<4>(places + place_ints * i, kept);
}

/// The tile of C that a block has: neighbouring blocks share their columns, which are what is large.
struct ChannelsBlock {
  int first_row, first_column;
};
template <class Tile>
PROMPTIQA_DEVICE ChannelsBlock channels_block(int rows) {
  const unsigned down = static_cast<unsigned>((rows - 1) / Tile::rows + 1);
  return {static_cast<int>(blockIdx.x % down) * Tile::rows, static_cast<int>(blockIdx.x / down) * Tile::columns};
}

/// The steps [begin, end) in depth: load(step, stage) begins to bring one's operands, multiply(stage) uses them. A
/// barrier lies between every two loads. Afterwards no copies are on their way, and the stages are free behind a
/// barrier.
template <class Tile, class Load, class Multiply>
PROMPTIQA_DEVICE void run_stages(int begin, int end, Load&& load, Multiply&& multiply) {
  PROMPTIQA_UNROLL
  for (int s = 0; s < Tile::stages - 1; ++s) {
    if (begin + s < end) load(begin + s, s);
    commit_copies();
    __syncthreads();  // what a load leaves in shared memory for the next one is there
  }
  int stage = 0, free_stage = Tile::stages - 1;
  for (int step = begin; step < end; ++step) {
    wait_for_copies<Tile::stages - 2>();
    Tile::publish();
    __syncthreads();  // everybody's copies have arrived; the stage of the step before has been multiplied
    if (step + Tile::stages - 1 < end) load(step + Tile::stages - 1, free_stage);
    commit_copies();  // also where there was nothing to load: groups are counted
    multiply(stage);
    free_stage = stage;
    stage = stage + 1 == Tile::stages ? 0 : stage + 1;
  }
}

/// One tile of C = A B. Grid: x over tiles (rows first), z over parts of the depth, `part` steps each, or, where part
/// is 0, over classes of pixels. `vectors`: Store::width neighbouring columns, from a multiple of it on, are neighbours
/// in the result, whose address and theirs are multiples of 16 bytes.
template <class T, class Tile, class Product, class Store>
__global__ void __launch_bounds__(Tile::threads, Tile::blocks_at_once)
    conv2d_channels_kernel(Product product, int part, bool vectors, Store store) {
  if (!product.select(part ? 0 : static_cast<int>(blockIdx.z))) return;
  const int rows = product.rows(), columns = product.columns(), channels = product.channels();
  const ChannelsBlock block = channels_block<Tile>(rows);
  if (block.first_column >= columns) return;  // classes differ in their number of pixels
  const int depth = product.taps() * channels, steps = (depth + Tile::depth - 1) / Tile::depth;
  const int begin = part ? static_cast<int>(blockIdx.z) * part : 0;
  const int end = part && steps - begin > part ? begin + part : steps;
  const int thread = static_cast<int>(threadIdx.x);
  const Shared<T> tiles = dynamic_shared<T>(0, Tile::stages * Tile::stage_size);
  const Shared<int> places = dynamic_shared<int>(Tile::stages_bytes, place_ints * Tile::columns);

  for (int i = thread; i < Tile::columns; i += Tile::threads)
    keep_place(places, i, product, block.first_column + i, columns);
  __syncthreads();

  // A thread brings one chunk of every row and column that is `apart` from the last.
  constexpr int apart = Tile::threads / Tile::chunks;
  const int first = thread / Tile::chunks, chunk = thread % Tile::chunks;
  const std::int64_t weight_row = std::int64_t{product.weight_taps()} * channels;
  const T* const weight = product.a + (block.first_row + first) * weight_row;
  const auto load = [&](int step, int stage) {
    const int k = step * Tile::depth + chunk * Tile::chunk, j = k / channels, channel = k - j * channels;
    const bool in_depth = k < depth;
    const ChannelsTap tap = product.tap(j);
    const Shared<T> a = tiles + stage * Tile::stage_size, b = a + Tile::a_size;
    const T* from = weight + (std::int64_t{tap.number} * channels + channel);
    PROMPTIQA_UNROLL
    for (int i = 0; i < Tile::rows; i += apart) {
      const bool inside = in_depth && block.first_row + first + i < rows;
      copy_async(a + Tile::place(first + i, chunk), inside ? from + i * weight_row : product.a, inside);
    }
    const int moved = tap.y * product.width() + tap.x;
    PROMPTIQA_UNROLL
    for (int i = 0; i < Tile::columns; i += apart) {
      const Vector<int, 4> place = load_shared<4>(places + place_ints * (first + i));
      const int y = place.values[1] + tap.y, x = place.values[2] + tap.x;
      const bool inside = in_depth && y >= 0 && y < product.height() && x >= 0 && x < product.width();
      copy_async(b + Tile::place(first + i, chunk),
                 inside ? product.b + (std::int64_t{place.values[0] + moved} * channels + channel) : product.b, inside);
    }
  };
  typename Tile::Sums sums;
  PROMPTIQA_UNROLL
  for (int r = 0; r < Tile::row_tiles; ++r) sums[r].clear();
  const bool busy =
      block.first_row + Tile::first_row_together() < rows && block.first_column + Tile::warp_column() < columns;
  run_stages<Tile>(begin, end, load, [&](int stage) {
    const Shared<T> a = tiles + stage * Tile::stage_size;
    if (busy) Tile::multiply(sums, a, a + Tile::a_size);
  });

  // Through shared memory, so that neighbouring threads store neighbouring pixels.
  __syncthreads();
  const Shared<float> c = dynamic_shared<float>(0, Tile::rows * Tile::sums_pitch);
  PROMPTIQA_UNROLL
  for (int r = 0; r < Tile::row_tiles; ++r)
    for (int j = 0; j < Tile::column_tiles; ++j)
      for (int second = 0; second < 2; ++second) {
        const int row = Tile::warp_row() + 16 * r + 8 * second + fragment_row();
        const int column = Tile::warp_column() + 8 * j + thread % 4 * 2;
        const float(&four)[4] = sums[r].values[j];
        store_shared<2>(c + (row * Tile::sums_pitch + column),
                        Vector<float, 2>{{four[2 * second], four[2 * second + 1]}});
      }
  __syncthreads();
  const auto store_columns = [&](auto width) {
    constexpr int Width = decltype(width)::value, in_row = Tile::columns / Width;
    const int column = thread % in_row * Width, n = block.first_column + column;
    if (n >= columns) return;
    const std::int64_t c_column = product.c_column(n);
    for (int row = thread / in_row; row < Tile::rows && block.first_row + row < rows; row += Tile::threads / in_row) {
      const std::int64_t i = (block.first_row + row) * product.c_row() + c_column;
      const Shared<float> from = c + (row * Tile::sums_pitch + column);
      if constexpr (Width == 1) {
        store(i, block.first_row + row, *from);
      } else {
        Vector<float, Width> v;
        PROMPTIQA_UNROLL
        for (int w = 0; w < Width; w += 4) {
          const Vector<float, 4> four = load_shared<4>(from + w);
          for (int f = 0; f < 4; ++f) v.values[w + f] = four.values[f];
        }
        store.vector(i, block.first_row + row, v);
      }
    }
  };
  if (vectors)
    store_columns(std::integral_constant<int, Store::width>());
  else
    store_columns(std::integral_constant<int, 1>());
}

/// A part of dweight (out_channels, taps, in_channels) = dy^T x: partial (parts, that). dy (batch out_h out_w,
/// out_channels) and x are channels last. Grid: x over tiles, z over parts of the pixels, `part` steps each.
template <class T, class Tile>
__global__ void __launch_bounds__(Tile::threads, Tile::blocks_at_once)
    conv2d_channels_weight_kernel(ChannelsForward<T> forward, const T* dy, int part, float* partial) {
  const int rows = forward.rows(), channels = forward.channels(), columns = forward.taps() * channels;
  const int pixels = forward.columns();
  const ChannelsBlock block = channels_block<Tile>(rows);
  const int begin = static_cast<int>(blockIdx.z) * part, steps = (pixels + Tile::depth - 1) / Tile::depth;
  const int end = steps - begin > part ? begin + part : steps;
  const int thread = static_cast<int>(threadIdx.x);
  const Shared<T> tiles = dynamic_shared<T>(0, Tile::stages * Tile::stage_size);
  // Of this step's pixels and the next one's.
  const Shared<int> places = dynamic_shared<int>(Tile::stages_bytes, place_ints * 2 * Tile::depth);

  const auto place_pixels = [&](int step) {
    for (int i = thread; i < Tile::depth; i += Tile::threads)
      keep_place(places, step % 2 * Tile::depth + i, forward, step * Tile::depth + i, pixels);
  };
  // A thread brings one chunk of rows and one of columns, of every pixel that is so far apart from the last.
  constexpr int a_chunks = Tile::rows / Tile::chunk, b_chunks = Tile::columns / Tile::chunk;
  constexpr int a_apart = Tile::threads / a_chunks, b_apart = Tile::threads / b_chunks;
  const int a_chunk = thread % a_chunks, row = block.first_row + a_chunk * Tile::chunk;
  const int b_chunk = thread % b_chunks, column = block.first_column + b_chunk * Tile::chunk;
  const int j = column / channels, channel = column - j * channels;
  const ChannelsTap tap = forward.tap(j);
  const int moved = tap.y * forward.width() + tap.x;
  const auto load = [&](int step, int stage) {
    const Shared<T> a = tiles + stage * Tile::stage_size, b = a + Tile::a_size;
    PROMPTIQA_UNROLL
    for (int i = 0; i < Tile::depth; i += a_apart) {
      const int k = thread / a_chunks + i, n = step * Tile::depth + k;
      const bool inside = row < rows && n < pixels;
      copy_async(a + Tile::place_across(k, a_chunk), inside ? dy + (std::int64_t{n} * rows + row) : dy, inside);
    }
    PROMPTIQA_UNROLL
    for (int i = 0; i < Tile::depth; i += b_apart) {
      const int k = thread / b_chunks + i;
      const Vector<int, 4> place = load_shared<4>(places + place_ints * (step % 2 * Tile::depth + k));
      const int y = place.values[1] + tap.y, x = place.values[2] + tap.x;
      const bool inside = column < columns && y >= 0 && y < forward.height() && x >= 0 && x < forward.width();
      copy_async(b + Tile::place_across(k, b_chunk),
                 inside ? forward.b + (std::int64_t{place.values[0] + moved} * channels + channel) : forward.b, inside);
    }
    place_pixels(step + 1);  // where those of the step before lie, which nobody needs behind this step's barrier
  };
  typename Tile::Sums sums;
  PROMPTIQA_UNROLL
  for (int r = 0; r < Tile::row_tiles; ++r) sums[r].clear();
  const bool busy =
      block.first_row + Tile::first_row_together() < rows && block.first_column + Tile::warp_column() < columns;
  place_pixels(begin);
  __syncthreads();
  run_stages<Tile>(begin, end, load, [&](int stage) {
    const Shared<T> a = tiles + stage * Tile::stage_size;
    if (busy) Tile::multiply_across(sums, a, a + Tile::a_size);
  });

  float* const c = partial + std::int64_t{blockIdx.z} * rows * columns;
  PROMPTIQA_UNROLL
  for (int r = 0; r < Tile::row_tiles; ++r)
    for (int t = 0; t < Tile::column_tiles; ++t)
      for (int second = 0; second < 2; ++second) {
        const int m = block.first_row + Tile::warp_row() + 16 * r + 8 * second + fragment_row();
        const int n = block.first_column + Tile::warp_column() + 8 * t + thread % 4 * 2;
        const float(&four)[4] = sums[r].values[t];
        if (m < rows && n < columns)  // a number of columns is even
          store_vector<2>(c + (std::int64_t{m} * columns + n),
                          Vector<float, 2>{{four[2 * second], four[2 * second + 1]}});
      }
}

/// y's element i = the sum of all parts' elements i, in their order, through a store. y is (images, rows, area); Index
/// numbers its elements.
template <class Index, class T>
__global__ void __launch_bounds__(256) finish_convolution_kernel(Index count, int parts, Index area, Index rows,
                                                                 const float* partial, StoreConvolution<T> store) {
  const std::int64_t i = std::int64_t{blockIdx.x} * blockDim.x + threadIdx.x;
  if (i >= static_cast<std::int64_t>(count)) return;
  float sum = 0;
  for (int part = 0; part < parts; ++part) sum += partial[part * static_cast<std::int64_t>(count) + i];
  store(i, static_cast<int>(static_cast<Index>(i) / area % rows), sum);
}

/// dweight (rows, channels, taps) = the sums of all parts (rows, taps, channels), in their order.
template <class Index, class T>
__global__ void __launch_bounds__(256)
    add_weight_parts_kernel(Index count, int parts, Index taps, Index channels, const float* partial, T* dweight) {
  const std::int64_t i = std::int64_t{blockIdx.x} * blockDim.x + threadIdx.x;
  if (i >= static_cast<std::int64_t>(count)) return;
  float sum = 0;
  for (int part = 0; part < parts; ++part) sum += partial[part * static_cast<std::int64_t>(count) + i];
  const Index n = static_cast<Index>(i), channel = n % channels, tap = n / channels % taps, row = n / channels / taps;
  dweight[(row * channels + channel) * taps + tap] = narrow<T>(sum);
}

}  // namespace promptiqa::cuda
