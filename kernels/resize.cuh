// Pictures of any size to the model's input: bicubic resize, rounding to 8 bits, normalisation.
// Surprising choice: every product and sum is rounded by itself, never fused, because the result must have the bits
// that the CPU computes: a fused multiply-add moves values that lie between two levels.
#pragma once

#include "portability.cuh"

namespace promptiqa::cuda {

/// (w0 v0 + w1 v1) + (w2 v2 + w3 v3), each operation rounded.
PROMPTIQA_DEVICE float blend(const float* weight, const float* v) {
  return __fadd_rn(__fadd_rn(__fmul_rn(weight[0], v[0]), __fmul_rn(weight[1], v[1])),
                   __fadd_rn(__fmul_rn(weight[2], v[2]), __fmul_rn(weight[3], v[3])));
}

/// A thread makes one pixel of y: 16 source pixels, three channels. Neighbouring threads have neighbouring columns.
template <class T>
__global__ void resize_images_kernel(std::int64_t pixels, ResizeImagesArgs<T> args) {
  const std::int64_t i = static_cast<std::int64_t>(blockIdx.x) * blockDim.x + threadIdx.x;
  if (i >= pixels) return;
  const std::int64_t plane = args.side * args.side;
  const std::int64_t picture = i / plane, place = i % plane;
  const UploadedImage image = args.images[picture];
  const ResizeTap* taps = args.taps + picture * 2 * args.side;
  const ResizeTap column = taps[place % args.side], line = taps[args.side + place / args.side];
  const std::int32_t channels[3] = {image.red, image.green, image.blue};

  float rows[3][4];  // filtered along x
  PROMPTIQA_UNROLL
  for (int k = 0; k < 4; ++k) {
    const std::uint8_t* row = args.pixels + image.first + line.index[k] * image.row_bytes;
    PROMPTIQA_UNROLL
    for (int c = 0; c < 3; ++c) {
      float v[4];
      PROMPTIQA_UNROLL
      for (int j = 0; j < 4; ++j)
        v[j] = load_vector<1>(row + column.index[j] * image.pixel_bytes + channels[c]).values[0];
      rows[c][k] = blend(column.weight, v);
    }
  }
  PROMPTIQA_UNROLL
  for (int c = 0; c < 3; ++c) {
    float v = blend(line.weight, rows[c]);
    v = v < 0.0f ? 0.0f : v;
    v = v > 255.0f ? 255.0f : v;
    const float level = __fdiv_rn(static_cast<float>(__float2int_rn(v)), 255.0f);  // halves go to even
    args.y[(picture * 3 + c) * plane + place] = narrow<T>(static_cast<accumulate_t<T>>(__fdiv_rn(level - 0.5f, 0.5f)));
  }
}

}  // namespace promptiqa::cuda
