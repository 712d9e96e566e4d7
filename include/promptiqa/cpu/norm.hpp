// Layer norm and batch norm, forward and backward.
// Surprising choice: variances are means of squared deviations, which costs a second pass over x but does not
// cancel; sums over the rows are made per column by one thread each, so nothing depends on the thread count.
#pragma once

#include <cmath>

#include <promptiqa/core/kernel_table.hpp>
#include <promptiqa/cpu/parallel.hpp>

namespace promptiqa::cpu {

namespace detail {

/// The sum of (x - centre)^power over n elements, power 1 or 2.
template <class S, int Power, class T>
PROMPTIQA_ALWAYS_INLINE double sum_of_deviations(const T* x, std::int64_t n, T centre) {
  return sum_of_terms<S, T>(n, [&](typename S::Vector& v, std::int64_t i, int count) PROMPTIQA_SIMD_LAMBDA {
    load_some<S, T>(v, x + i, count);
    v = v - centre;
    if constexpr (Power == 2) v = v * v;
  });
}

/// y = (x - mean) * factor + shift.
template <class S, class T>
PROMPTIQA_ALWAYS_INLINE void affine_row(T* y, const T* x, std::int64_t n, T mean, T factor, T shift) {
  for_each_vector<S>(n, [&](std::int64_t i, int count) PROMPTIQA_SIMD_LAMBDA {
    typename S::Vector v;
    load_some<S, T>(v, x + i, count);
    v = (v - mean) * factor + shift;
    store_some<S, T>(y + i, v, count);
  });
}

template <class S, class T>
PROMPTIQA_ALWAYS_INLINE void layer_norm_row(const LayerNormArgs<T>& args, std::int64_t row) {
  using V = typename S::Vector;
  const std::int64_t n = args.columns;
  const T* x = args.x + row * n;
  T* y = args.y + row * n;
  const double count_of = static_cast<double>(n);
  const T mean = static_cast<T>(sum_of_deviations<S, 1>(x, n, T(0)) / count_of);
  const double squares = sum_of_deviations<S, 2>(x, n, mean);
  const T rstd = static_cast<T>(1 / std::sqrt(squares / count_of + static_cast<double>(args.eps)));
  for_each_vector<S>(n, [&](std::int64_t i, int count) PROMPTIQA_SIMD_LAMBDA {
    V v, weight, bias;
    load_some<S, T>(v, x + i, count);
    load_some<S, T>(weight, args.weight + i, count);
    load_some<S, T>(bias, args.bias + i, count);
    v = ((v - mean) * rstd) * weight + bias;
    store_some<S, T>(y + i, v, count);
  });
  if (args.mean) {
    args.mean[row] = mean;
    args.rstd[row] = rstd;
  }
}

/// dx = rstd * (g - mean(g) - xhat * mean(g * xhat)) with g = dy * weight, xhat = (x - mean) * rstd.
template <class S, class T>
PROMPTIQA_ALWAYS_INLINE void layer_norm_backward_row(const LayerNormBackwardArgs<T>& args, std::int64_t row) {
  using V = typename S::Vector;
  const std::int64_t n = args.columns;
  const T *x = args.x + row * n, *dy = args.dy + row * n;
  T* dx = args.dx + row * n;
  const T mean = args.mean[row], rstd = args.rstd[row];
  const double sum_g = sum_of_terms<S, T>(n, [&](V& v, std::int64_t i, int count) PROMPTIQA_SIMD_LAMBDA {
    V weight;
    load_some<S, T>(v, dy + i, count);
    load_some<S, T>(weight, args.weight + i, count);
    v = v * weight;
  });
  const double sum_g_xhat = sum_of_terms<S, T>(n, [&](V& v, std::int64_t i, int count) PROMPTIQA_SIMD_LAMBDA {
    V weight, xhat;
    load_some<S, T>(v, dy + i, count);
    load_some<S, T>(weight, args.weight + i, count);
    load_some<S, T>(xhat, x + i, count);
    v = (v * weight) * ((xhat - mean) * rstd);
  });
  const T mean_g = static_cast<T>(sum_g / static_cast<double>(n));
  const T mean_g_xhat = static_cast<T>(sum_g_xhat / static_cast<double>(n));
  for_each_vector<S>(n, [&](std::int64_t i, int count) PROMPTIQA_SIMD_LAMBDA {
    V v, weight, xhat;
    load_some<S, T>(v, dy + i, count);
    load_some<S, T>(weight, args.weight + i, count);
    load_some<S, T>(xhat, x + i, count);
    v = (v * weight - mean_g - ((xhat - mean) * rstd) * mean_g_xhat) * rstd;
    store_some<S, T>(dx + i, v, count);
  });
}

/// dweight and dbias of one vector of columns: sums over all rows, emptied into doubles every 64 rows.
template <class S, class T>
PROMPTIQA_ALWAYS_INLINE void layer_norm_parameter_columns(const LayerNormBackwardArgs<T>& args, std::int64_t column,
                                                          int count) {
  using V = typename S::Vector;
  double weight_total[S::width] = {}, bias_total[S::width] = {};
  for (std::int64_t row = 0; row < args.rows;) {
    const std::int64_t end = std::min(args.rows, row + 64);
    V dweight = {}, dbias = {};
    for (; row < end; ++row) {
      V dy, xhat;
      load_some<S, T>(dy, args.dy + row * args.columns + column, count);
      load_some<S, T>(xhat, args.x + row * args.columns + column, count);
      xhat = (xhat - args.mean[row]) * args.rstd[row];
      dweight = dweight + dy * xhat;
      dbias = dbias + dy;
    }
    for (int i = 0; i < S::width; ++i) {
      weight_total[i] += static_cast<double>(dweight[i]);
      bias_total[i] += static_cast<double>(dbias[i]);
    }
  }
  for (int i = 0; i < count; ++i) {
    args.dweight[column + i] = static_cast<T>(weight_total[i]);
    args.dbias[column + i] = static_cast<T>(bias_total[i]);
  }
}

}  // namespace detail

/// The body of KernelTable::layer_norm; see LayerNormArgs.
template <class T, class Isa>
void layer_norm(const KernelContext& kc, const LayerNormArgs<T>& args) {
  using S = Simd<T, Isa::bytes>;
  parallel_rows(kc, args.rows, args.columns, 2, [&](std::int64_t begin, std::int64_t end) {
    Isa::run([&]() PROMPTIQA_SIMD_LAMBDA {
      for (std::int64_t r = begin; r < end; ++r) detail::layer_norm_row<S, T>(args, r);
    });
  });
}

/// The body of KernelTable::layer_norm_backward; see LayerNormBackwardArgs.
template <class T, class Isa>
void layer_norm_backward(const KernelContext& kc, const LayerNormBackwardArgs<T>& args) {
  using S = Simd<T, Isa::bytes>;
  if (args.dx) {
    parallel_rows(kc, args.rows, args.columns, 4, [&](std::int64_t begin, std::int64_t end) {
      Isa::run([&]() PROMPTIQA_SIMD_LAMBDA {
        for (std::int64_t r = begin; r < end; ++r) detail::layer_norm_backward_row<S, T>(args, r);
      });
    });
  }
  if (args.dweight) {
    const std::int64_t vectors = (args.columns + S::width - 1) / S::width;
    parallel_rows(kc, vectors, args.rows * S::width, 2, [&](std::int64_t begin, std::int64_t end) {
      Isa::run([&]() PROMPTIQA_SIMD_LAMBDA {
        for (std::int64_t i = begin; i < end; ++i) {
          const std::int64_t column = i * S::width, left = args.columns - column;
          if (left >= S::width)
            detail::layer_norm_parameter_columns<S, T>(args, column, S::width);
          else
            detail::layer_norm_parameter_columns<S, T>(args, column, static_cast<int>(left));
        }
      });
    });
  }
}

// ---- batch norm -----------------------------------------------------------------------------------------------

namespace detail {

/// Statistics of one channel over batch x area elements; the running ones are updated.
template <class S, class T>
PROMPTIQA_ALWAYS_INLINE void batch_norm_statistics(const BatchNormArgs<T>& args, std::int64_t c, T& mean, T& rstd) {
  const std::int64_t stride = args.channels * args.area;
  const T* x = args.x + c * args.area;
  const double n = static_cast<double>(args.batch * args.area);
  double sum = 0, squares = 0;
  for (std::int64_t b = 0; b < args.batch; ++b) sum += sum_of_deviations<S, 1>(x + b * stride, args.area, T(0));
  mean = static_cast<T>(sum / n);
  for (std::int64_t b = 0; b < args.batch; ++b) squares += sum_of_deviations<S, 2>(x + b * stride, args.area, mean);
  const double drift = sum / n - static_cast<double>(mean);
  const double variance = squares / n - drift * drift;
  rstd = static_cast<T>(1 / std::sqrt(variance + static_cast<double>(args.eps)));
  const double momentum = static_cast<double>(args.momentum);
  const double unbiased = n > 1 ? variance * n / (n - 1) : variance;
  const auto update = [momentum](T& running, double value) {
    running = static_cast<T>((1 - momentum) * static_cast<double>(running) + momentum * value);
  };
  update(args.running_mean[c], sum / n);
  update(args.running_var[c], unbiased);
}

template <class S, class T>
PROMPTIQA_ALWAYS_INLINE void batch_norm_channel(const BatchNormArgs<T>& args, std::int64_t c) {
  T mean, rstd;
  if (args.training) {
    batch_norm_statistics<S, T>(args, c, mean, rstd);
  } else {
    mean = args.running_mean[c];
    rstd = static_cast<T>(1 / std::sqrt(static_cast<double>(args.running_var[c]) + static_cast<double>(args.eps)));
  }
  for (std::int64_t b = 0; b < args.batch; ++b) {
    const std::int64_t start = (b * args.channels + c) * args.area;
    affine_row<S, T>(args.y + start, args.x + start, args.area, mean, rstd * args.weight[c], args.bias[c]);
  }
  if (args.mean) {
    args.mean[c] = mean;
    args.rstd[c] = rstd;
  }
}

template <class S, class T>
PROMPTIQA_ALWAYS_INLINE void batch_norm_backward_channel(const BatchNormBackwardArgs<T>& args, std::int64_t c) {
  using V = typename S::Vector;
  const T mean = args.mean[c], rstd = args.rstd[c], factor = rstd * args.weight[c];
  T mean_dy = T(0), slope = T(0);
  if (args.dweight || args.training) {
    double sum_dy = 0, sum_dy_xhat = 0;
    for (std::int64_t b = 0; b < args.batch; ++b) {
      const std::int64_t start = (b * args.channels + c) * args.area;
      const T *x = args.x + start, *dy = args.dy + start;
      sum_dy += sum_of_deviations<S, 1>(dy, args.area, T(0));
      sum_dy_xhat += sum_of_terms<S, T>(args.area, [&](V& v, std::int64_t i, int count) PROMPTIQA_SIMD_LAMBDA {
        V xhat;
        load_some<S, T>(v, dy + i, count);
        load_some<S, T>(xhat, x + i, count);
        v = v * ((xhat - mean) * rstd);
      });
    }
    if (args.dweight) {
      args.dweight[c] = static_cast<T>(sum_dy_xhat);
      args.dbias[c] = static_cast<T>(sum_dy);
    }
    if (args.training) {  // the statistics depend on x too
      const double n = static_cast<double>(args.batch * args.area);
      mean_dy = static_cast<T>(sum_dy / n);
      slope = static_cast<T>(sum_dy_xhat / n) * rstd;
    }
  }
  if (!args.dx) return;
  for (std::int64_t b = 0; b < args.batch; ++b) {
    const std::int64_t start = (b * args.channels + c) * args.area;
    for_each_vector<S>(args.area, [&](std::int64_t i, int count) PROMPTIQA_SIMD_LAMBDA {
      V v, x;
      load_some<S, T>(v, args.dy + start + i, count);
      load_some<S, T>(x, args.x + start + i, count);
      v = (v - mean_dy - (x - mean) * slope) * factor;
      store_some<S, T>(args.dx + start + i, v, count);
    });
  }
}

}  // namespace detail

/// The body of KernelTable::batch_norm; see BatchNormArgs.
template <class T, class Isa>
void batch_norm(const KernelContext& kc, const BatchNormArgs<T>& args) {
  using S = Simd<T, Isa::bytes>;
  parallel_rows(kc, args.channels, args.batch * args.area, args.training ? 3 : 1,
                [&](std::int64_t begin, std::int64_t end) {
                  Isa::run([&]() PROMPTIQA_SIMD_LAMBDA {
                    for (std::int64_t c = begin; c < end; ++c) detail::batch_norm_channel<S, T>(args, c);
                  });
                });
}

/// The body of KernelTable::batch_norm_backward; see BatchNormBackwardArgs.
template <class T, class Isa>
void batch_norm_backward(const KernelContext& kc, const BatchNormBackwardArgs<T>& args) {
  using S = Simd<T, Isa::bytes>;
  parallel_rows(kc, args.channels, args.batch * args.area, 4, [&](std::int64_t begin, std::int64_t end) {
    Isa::run([&]() PROMPTIQA_SIMD_LAMBDA {
      for (std::int64_t c = begin; c < end; ++c) detail::batch_norm_backward_channel<S, T>(args, c);
    });
  });
}

}  // namespace promptiqa::cpu
