// Average pooling and its gradient.
// Surprising choice: the rows of a window are added first, along whole rows and so vectorised, and the columns
// after that; only the short second step walks with a stride.
#pragma once

#include <promptiqa/core/kernel_table.hpp>
#include <promptiqa/cpu/parallel.hpp>

namespace promptiqa::cpu {

/// The body of KernelTable::avg_pool2d; see AvgPool2dArgs.
template <class T, class Isa>
void avg_pool2d(const KernelContext& kc, const AvgPool2dArgs<T>& args) {
  using S = Simd<T, Isa::bytes>;
  const std::int64_t k = args.kernel, used = args.out_w * k;  // columns that windows reach
  const T factor = T(1) / static_cast<T>(k * k);
  parallel_rows(kc, args.planes * args.out_h, used * k, 1, [&](std::int64_t begin, std::int64_t end) {
    StorageRef scratch = memory_of(kc).allocate(static_cast<std::size_t>(used) * sizeof(T));
    T* sums = static_cast<T*>(scratch->data);
    Isa::run([&]() PROMPTIQA_SIMD_LAMBDA {
      for (std::int64_t row = begin; row < end; ++row) {
        const std::int64_t plane = row / args.out_h, oh = row % args.out_h;
        const T* x = args.x + (plane * args.in_h + oh * k) * args.in_w;
        for_each_vector<S>(used, [&](std::int64_t i, int count) PROMPTIQA_SIMD_LAMBDA {
          typename S::Vector sum = {}, v;
          for (std::int64_t kh = 0; kh < k; ++kh) {
            load_some<S, T>(v, x + kh * args.in_w + i, count);
            sum += v;
          }
          store_some<S, T>(sums + i, sum, count);
        });
        T* y = args.y + row * args.out_w;
        for (std::int64_t ow = 0; ow < args.out_w; ++ow) {
          T sum = T(0);
          for (std::int64_t kw = 0; kw < k; ++kw) sum += sums[ow * k + kw];
          y[ow] = sum * factor;
        }
      }
    });
  });
}

/// The body of KernelTable::avg_pool2d_backward; see AvgPool2dBackwardArgs.
template <class T, class Isa>
void avg_pool2d_backward(const KernelContext& kc, const AvgPool2dBackwardArgs<T>& args) {
  const std::int64_t k = args.kernel, used_h = args.out_h * k, used_w = args.out_w * k;
  const T factor = T(1) / static_cast<T>(k * k);
  parallel_rows(kc, args.planes * args.in_h, args.in_w, 1, [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t row = begin; row < end; ++row) {
      const std::int64_t plane = row / args.in_h, h = row % args.in_h;
      T* dx = args.dx + row * args.in_w;
      std::int64_t reached = 0;
      if (h < used_h) {
        const T* dy = args.dy + (plane * args.out_h + h / k) * args.out_w;
        for (std::int64_t ow = 0; ow < args.out_w; ++ow) {
          const T value = dy[ow] * factor;
          for (std::int64_t kw = 0; kw < k; ++kw) dx[ow * k + kw] = value;
        }
        reached = used_w;
      }
      std::fill(dx + reached, dx + args.in_w, T(0));
    }
  });
}

}  // namespace promptiqa::cpu
