// Copies that lay a convolution's operands out with their channels last, where 16 bytes are channels of one pixel, or
// of one position in the kernel.
// Surprising choice: floats are rounded to TF32 here, once, so that the products need not round each one again and
// again; the copies are for tensor cores only.
#pragma once

#include "launch.cuh"
#include "mma.cuh"

namespace promptiqa::cuda {

PROMPTIQA_DEVICE bfloat16 as_operand(bfloat16 x) { return x; }
PROMPTIQA_DEVICE float as_operand(float x) { return __uint_as_float(to_tf32(x)); }

/// Four bytes of a pixel's channels: two bfloat16 or a float.
PROMPTIQA_DEVICE unsigned channel_word(const bfloat16 (&x)[2]) {
  return x[0].bits | static_cast<unsigned>(x[1].bits) << 16;
}
PROMPTIQA_DEVICE unsigned channel_word(const float (&x)[1]) { return to_tf32(x[0]); }

/// A block's tile: 64 pixels of 128 bytes of channels.
template <class T>
struct ChannelsLastTile {
  static constexpr int threads = 256, pixels = 64, words = 32, chunks = words / 4;
  static constexpr int in_word = 4 / static_cast<int>(sizeof(T)), channels = words * in_word;
  static constexpr std::size_t shared_bytes = std::size_t{pixels} * words * 4;
  /// Where a word of a pixel lies: chunks of four words change places with the pixel, so that neither threads that
  /// write four words of different groups of pixels nor threads that read a pixel's chunks meet in a bank.
  PROMPTIQA_DEVICE static int place(int pixel, int word) {
    return pixel * words + (((word / 4) ^ (pixel / 4 % chunks)) * 4 + word % 4);
  }
};

/// y (batch, area, channels) = x (batch, channels, area). Grid: tiles of pixels, then of channels, then images.
/// `vectors`: four neighbouring pixels can be read at once. y must be aligned to 16 bytes, and so must its pixels.
template <class T>
__global__ void __launch_bounds__(ChannelsLastTile<T>::threads)
    channels_last_kernel(std::int64_t area, std::int64_t channels, bool vectors, const T* x, T* y) {
  using Tile = ChannelsLastTile<T>;
  const Shared<unsigned> tile = dynamic_shared<unsigned>(0, Tile::pixels * Tile::words);
  const unsigned across = static_cast<unsigned>(ceil_div(area, Tile::pixels)),
                 down = static_cast<unsigned>(ceil_div(channels, Tile::channels));
  const std::int64_t first_pixel = std::int64_t{blockIdx.x % across} * Tile::pixels,
                     first_channel = std::int64_t{blockIdx.x / across % down} * Tile::channels;
  const std::int64_t image = blockIdx.x / across / down;
  const int thread = static_cast<int>(threadIdx.x);

  for (int i = thread; i < Tile::pixels / 4 * Tile::words; i += Tile::threads) {
    const int group = i % 8 + i / (8 * Tile::words) * 8, word = i / 8 % Tile::words;  // a warp: 8 groups, 4 words
    const std::int64_t pixel = first_pixel + 4 * group, channel = first_channel + word * Tile::in_word;
    T values[4][Tile::in_word] = {};
    PROMPTIQA_UNROLL
    for (int c = 0; c < Tile::in_word; ++c) {
      if (channel + c >= channels) continue;
      const T* from = x + ((image * channels + channel + c) * area + pixel);
      if (vectors) {
        if (pixel >= area) continue;
        const Vector<T, 4> v = load_vector<4>(from);
        for (int p = 0; p < 4; ++p) values[p][c] = v.values[p];
      } else {
        for (int p = 0; p < 4; ++p)
          if (pixel + p < area) values[p][c] = from[p];
      }
    }
    PROMPTIQA_UNROLL
    for (int p = 0; p < 4; ++p) tile[Tile::place(4 * group + p, word)] = channel_word(values[p]);
  }
  __syncthreads();
  for (int i = thread; i < Tile::pixels * Tile::chunks; i += Tile::threads) {
    const int pixel = i / Tile::chunks, chunk = i % Tile::chunks;
    const std::int64_t channel = first_channel + chunk * vector_width<T>;
    if (first_pixel + pixel < area && channel < channels)
      store_vector<4>(reinterpret_cast<unsigned*>(y + ((image * area + first_pixel + pixel) * channels + channel)),
                      load_shared<4>(tile + Tile::place(pixel, 4 * chunk)));
  }
}

/// y (rows, taps, channels) of a weight whose element (row, channel, tap) is weight[row * row_stride +
/// channel * channel_stride + tap]. One thread a row and channel.
template <class T>
__global__ void __launch_bounds__(256)
    weight_rows_kernel(std::int64_t rows, std::int64_t channels, std::int64_t taps, std::int64_t row_stride,
                       std::int64_t channel_stride, const T* weight, T* y) {
  const std::int64_t i = std::int64_t{blockIdx.x} * blockDim.x + threadIdx.x;
  if (i >= rows * channels) return;
  const std::int64_t row = i / channels, channel = i % channels;
  const T* from = weight + (row * row_stride + channel * channel_stride);
  for (std::int64_t tap = 0; tap < taps; ++tap) y[(row * taps + tap) * channels + channel] = as_operand(from[tap]);
}

}  // namespace promptiqa::cuda
