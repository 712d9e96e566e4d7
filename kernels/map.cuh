// y[i] = f(i, x[i], ...): the shape of every kernel that works element by element.
// Surprising choice: one thread moves 16 bytes and there is no loop; the last, incomplete vector goes element by element.
#pragma once

#include "launch.cuh"

namespace promptiqa::cuda {

template <int Width, class F, class T, class... X>
PROMPTIQA_DEVICE void map_vector(const F& f, std::int64_t first, T* y, const Vector<X, Width>&... x) {
  Vector<T, Width> result;
  PROMPTIQA_UNROLL
  for (int j = 0; j < Width; ++j) result.values[j] = narrow<T>(f(first + j, widen(x.values[j])...));
  store_vector<Width>(y + first, result);
}

/// f(i, widened x[i]...) gives the new y[i] in the type sums are kept in; y may be one of the x.
template <int Width, class F, class T, class... X>
__global__ void __launch_bounds__(256) map_kernel(std::int64_t count, F f, T* y, const X*... x) {
  std::int64_t i = (std::int64_t{blockIdx.x} * blockDim.x + threadIdx.x) * Width;
  if (i + Width <= count)
    map_vector<Width>(f, i, y, load_vector<Width>(x + i)...);
  else
    for (; i < count; ++i) y[i] = narrow<T>(f(i, widen(x[i])...));
}

/// Launches map_kernel, in vectors where all addresses allow it.
template <class F, class T, class... X>
void map(const Op& op, std::int64_t count, const F& f, T* y, const X*... x) {
  constexpr int width = vector_width<T>;
  if (aligned(y, 16) && (... && aligned(x, 16)))
    launch(map_kernel<width, F, T, X...>, blocks_for(op, count, 256 * width), 256, 0, op, count, f, y, x...);
  else
    launch(map_kernel<1, F, T, X...>, blocks_for(op, count, 256), 256, 0, op, count, f, y, x...);
}

}  // namespace promptiqa::cuda
