// Sums within a warp and a block.
// Surprising choice: every order is fixed, so a sum has the same bits in every thread and every run.
#pragma once

#include "portability.cuh"

namespace promptiqa::cuda {

/// The sum over the 32 lanes, in all of them; all lanes must call.
template <class A>
PROMPTIQA_DEVICE A warp_sum(A v) {
  for (int lanes = 16; lanes > 0; lanes /= 2) v += __shfl_xor_sync(0xFFFFFFFFu, v, lanes);
  return v;
}

/// The largest of the 32 lanes' values, in all of them.
template <class A>
PROMPTIQA_DEVICE A warp_max(A v) {
  for (int lanes = 16; lanes > 0; lanes /= 2) {
    const A other = __shfl_xor_sync(0xFFFFFFFFu, v, lanes);
    v = v < other ? other : v;
  }
  return v;
}

/// The sum over a one-dimensional block of whole warps, in all threads; all threads must call.
template <class A>
PROMPTIQA_DEVICE A block_sum(A v) {
  PROMPTIQA_SHARED(A, warp_sums, 32);
  v = warp_sum(v);
  __syncthreads();  // the array may still be read by an earlier call
  if (threadIdx.x % 32 == 0) warp_sums[threadIdx.x / 32] = v;
  __syncthreads();
  A total = 0;
  for (unsigned warp = 0; warp < blockDim.x / 32; ++warp) total += warp_sums[warp];
  return total;
}

/// The largest value of a one-dimensional block of whole warps, in all threads.
template <class A>
PROMPTIQA_DEVICE A block_max(A v) {
  PROMPTIQA_SHARED(A, warp_maxima, 32);
  v = warp_max(v);
  __syncthreads();
  if (threadIdx.x % 32 == 0) warp_maxima[threadIdx.x / 32] = v;
  __syncthreads();
  A largest = warp_maxima[0];
  for (unsigned warp = 1; warp < blockDim.x / 32; ++warp) {
    const A other = warp_maxima[warp];
    largest = largest < other ? other : largest;
  }
  return largest;
}

}  // namespace promptiqa::cuda
