// The functions of the element-wise kernels, and arithmetic with broadcasting.
// Surprising choice: a broadcast is an index computation per element; the shapes in which both operands are plain runs,
// nearly all, take map_kernel instead.
#pragma once

#include "map.cuh"

namespace promptiqa::cuda {

// ---- activations ----------------------------------------------------------------------------------------------------

template <class A>
struct Relu {  // a NaN is not below zero and stays
  PROMPTIQA_DEVICE A operator()(std::int64_t, A x) const { return x < 0 ? A(0) : x; }
};
template <class A>
struct Gelu {
  PROMPTIQA_DEVICE A operator()(std::int64_t, A x) const {
    return x * A(0.5) * (1 + erf(x * static_cast<A>(0.70710678118654752)));
  }
};
template <class A>
struct Sigmoid {
  PROMPTIQA_DEVICE A operator()(std::int64_t, A x) const { return 1 / (1 + exp(-x)); }
};
template <class A>
struct ScaleShift {
  A alpha, beta;
  PROMPTIQA_DEVICE A operator()(std::int64_t, A x) const { return x * alpha + beta; }
};

template <class A>
struct ReluBackward {
  PROMPTIQA_DEVICE A operator()(std::int64_t, A x, A dy) const { return x <= 0 ? A(0) : dy; }
};
template <class A>
struct GeluBackward {
  PROMPTIQA_DEVICE A operator()(std::int64_t, A x, A dy) const {
    const A below = A(0.5) * (1 + erf(x * static_cast<A>(0.70710678118654752)));
    const A density = static_cast<A>(0.39894228040143268) * exp(-A(0.5) * x * x);
    return (below + x * density) * dy;
  }
};
template <class A>
struct SigmoidBackward {
  PROMPTIQA_DEVICE A operator()(std::int64_t, A y, A dy) const { return y * (1 - y) * dy; }
};

// ---- arithmetic -----------------------------------------------------------------------------------------------------

template <class A>
struct Add {
  PROMPTIQA_DEVICE A operator()(std::int64_t, A a, A b) const { return a + b; }
};
template <class A>
struct Subtract {
  PROMPTIQA_DEVICE A operator()(std::int64_t, A a, A b) const { return a - b; }
};
template <class A>
struct Multiply {
  PROMPTIQA_DEVICE A operator()(std::int64_t, A a, A b) const { return a * b; }
};

/// Loops over the result of a broadcast; an operand's stride is 0 where it stands still.
struct Broadcast {
  int rank;
  std::int64_t dims[6], a_strides[6], b_strides[6];
};

/// y = f(a, b) over the loops; Index is wide enough for the number of elements and for the offsets.
template <class Index, class F, class T>
__global__ void __launch_bounds__(256) broadcast_kernel(std::int64_t count, F f, Broadcast loops, const T* a, const T* b, T* y) {
  const std::int64_t i = std::int64_t{blockIdx.x} * blockDim.x + threadIdx.x;
  if (i >= count) return;
  Index rest = static_cast<Index>(i), from_a = 0, from_b = 0;
  for (int d = loops.rank - 1; d >= 0; --d) {
    const Index dim = static_cast<Index>(loops.dims[d]), at = rest % dim;
    rest /= dim;
    from_a += at * static_cast<Index>(loops.a_strides[d]);
    from_b += at * static_cast<Index>(loops.b_strides[d]);
  }
  y[i] = narrow<T>(f(i, widen(a[from_a]), widen(b[from_b])));
}

// ---- dropout, loss, filling, the optimiser --------------------------------------------------------------------------

/// x * factor where the counter's 53 bits reach `least`, else 0.
template <class A>
struct Dropout {
  std::uint64_t key, least;
  A factor;
  PROMPTIQA_DEVICE A operator()(std::int64_t i, A x) const {
    return counter_bits(key, static_cast<std::uint64_t>(i)) >= least ? x * factor : A(0);
  }
};

template <class T>
struct L1LossBackward {
  using A = accumulate_t<T>;
  const T* dloss;
  A count;
  PROMPTIQA_DEVICE A operator()(std::int64_t, A a, A b) const {
    const A step = widen(*dloss) / count;
    return a > b ? step : a < b ? -step : A(0);
  }
};

template <class T>
struct Fill {
  T value;
  PROMPTIQA_DEVICE accumulate_t<T> operator()(std::int64_t) const { return widen(value); }
};

template <class A>
struct Lerp {
  A weight;
  PROMPTIQA_DEVICE A operator()(std::int64_t, A from, A to) const { return from + (to - from) * weight; }
};

/// One thread, one element of AdamStepArgs.
template <class T>
__global__ void __launch_bounds__(256) adam_step_kernel(AdamStepArgs<T> args) {
  using A = accumulate_t<T>;
  const std::int64_t i = std::int64_t{blockIdx.x} * blockDim.x + threadIdx.x;
  if (i >= args.count) return;
  A p = widen(args.parameter[i]), m = widen(args.m[i]), v = widen(args.v[i]);
  A g = widen(args.gradient[i]) * args.gradient_scale;
  if (!args.decoupled) g += args.weight_decay * p;
  m += (g - m) * (1 - args.beta1);
  v = v * args.beta2 + (1 - args.beta2) * g * g;
  if (args.decoupled) p *= 1 - args.learning_rate * args.weight_decay;
  p -= args.learning_rate * (m / args.correction1) / (sqrt(v / args.correction2) + args.eps);
  args.parameter[i] = narrow<T>(p);
  args.m[i] = narrow<T>(m);
  args.v[i] = narrow<T>(v);
}

}  // namespace promptiqa::cuda
