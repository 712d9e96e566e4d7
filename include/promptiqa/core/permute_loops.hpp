// PermuteLoops: a permutation as the few loops it really has. For the kernels of every device.
// Surprising choice: C++17 and no CUDA, like the kernel table, so that .cu files can read it.
#pragma once

#include <cstdint>

#include <promptiqa/core/kernel_table.hpp>

namespace promptiqa {

/// PermuteArgs as loops over y: at least one; sizes of y's dimensions and the strides of each in x and in y.
struct PermuteLoops {
  int rank = 0;
  std::int64_t dims[6], x_strides[6], y_strides[6];
};

/// Drops dimensions of size 1 and merges those that stay neighbours.
template <class T>
PermuteLoops merge_dimensions(const PermuteArgs<T>& args) {
  std::int64_t x_strides[6], stride = 1;
  for (int i = args.rank - 1; i >= 0; --i) {
    x_strides[i] = stride;
    stride *= args.dims[i];
  }
  PermuteLoops loops;
  for (int i = 0; i < args.rank; ++i) {
    const std::int64_t dim = args.dims[args.order[i]], x_stride = x_strides[args.order[i]];
    if (dim == 1) continue;
    const int last = loops.rank - 1;
    if (last >= 0 && loops.x_strides[last] == x_stride * dim) {
      loops.dims[last] *= dim;
      loops.x_strides[last] = x_stride;
    } else {
      loops.dims[loops.rank] = dim;
      loops.x_strides[loops.rank] = x_stride;
      ++loops.rank;
    }
  }
  if (loops.rank == 0) {
    loops.rank = 1;
    loops.dims[0] = loops.x_strides[0] = 1;
  }
  stride = 1;
  for (int i = loops.rank - 1; i >= 0; --i) {
    loops.y_strides[i] = stride;
    stride *= loops.dims[i];
  }
  return loops;
}

}  // namespace promptiqa
