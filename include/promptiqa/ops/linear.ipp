// Bodies of linear and matmul.
// Surprising choice: all leading dimensions of x are rows of one product; a transpose is a flag, never a copy.
#pragma once

#include <algorithm>

#include <promptiqa/ops/check.hpp>
#include <promptiqa/ops/elementwise.hpp>
#include <promptiqa/ops/linear.hpp>

namespace promptiqa {

namespace detail {

// A GEMM over dense operands: leading dimensions follow from the sizes.
template <class T>
GemmArgs<T> dense_gemm(std::int64_t m, std::int64_t n, std::int64_t k, const T* a, bool transpose_a, const T* b,
                       bool transpose_b, T* c) {
  GemmArgs<T> args{};
  args.m = m, args.n = n, args.k = k, args.batch = 1;
  args.a = a, args.lda = transpose_a ? m : k, args.transpose_a = transpose_a;
  args.b = b, args.ldb = transpose_b ? k : n, args.transpose_b = transpose_b;
  args.c = c, args.ldc = n;
  args.alpha = 1, args.beta = 0;
  args.activation = Activation::none;
  return args;
}

template <class T>
void linear_backward(Context& ctx, Tape& tape, const Tensor<T>& x, const Tensor<T>& weight,
                     const Tensor<accumulate_t<T>>& bias, const Tensor<T>& dy) {
  const auto& kernels = ctx.kernels<T>();
  const std::int64_t inputs = weight.dim(1), outputs = weight.dim(0);
  const std::int64_t rows = x.shape().product(0, x.rank() - 1);
  if (tape.tracks(x)) {
    Tensor<T> dx = ctx.allocate<T>(x.shape(), "linear_backward");
    kernels.gemm(ctx.kernel_context(),
                 dense_gemm(rows, inputs, outputs, dy.data(), false, weight.data(), false, dx.mutable_data()));
    tape.accumulate(ctx, x, dx);
  }
  if (tape.tracks(weight)) {
    Tensor<T> dw = ctx.allocate<T>(weight.shape(), "linear_backward");
    kernels.gemm(ctx.kernel_context(),
                 dense_gemm(outputs, inputs, rows, dy.data(), true, x.data(), false, dw.mutable_data()));
    tape.accumulate(ctx, weight, dw);
  }
  if (tape.tracks(bias)) {
    auto db = ctx.allocate<accumulate_t<T>>(bias.shape(), "linear_backward");
    kernels.column_sum(ctx.kernel_context(), {rows, outputs, dy.data(), db.mutable_data()});
    tape.accumulate(ctx, bias, db);
  }
}

}  // namespace detail

template <class T>
PackedMatrix<T> PackedMatrix<T>::pack(Context& ctx, const Tensor<T>& b, bool transpose_b) {
  detail::check_rank("pack", "matrix", b, 2);
  const auto& kernels = ctx.kernels<T>();
  PackedMatrix packed;
  packed.k_ = b.dim(transpose_b ? 1 : 0);
  packed.n_ = b.dim(transpose_b ? 0 : 1);
  packed.layout_ = kernels.packed_layout;
  packed.storage_ = ctx.block(kernels.packed_bytes(packed.k_, packed.n_), "pack");
  kernels.pack_matrix(ctx.kernel_context(),
                      {b.data(), packed.k_, packed.n_, b.dim(1), transpose_b, packed.storage_->data});
  return packed;
}

template <class T>
Tensor<T> linear(Context& ctx, const Tensor<T>& x, const Tensor<T>& weight, const Tensor<accumulate_t<T>>& bias,
                 const LinearEpilogue<T>& epilogue) {
  detail::check_min_rank("linear", "x", x, 1);
  // A packed weight is enough: layers that exist for inference only drop the plain one.
  PackedMatrixView packed{};
  const bool use_packed = epilogue.packed && epilogue.packed->fits(ctx);
  if (use_packed) packed = epilogue.packed->view();
  if (weight || !use_packed || detail::recording(ctx, x, bias)) detail::check_rank("linear", "weight", weight, 2);
  const std::int64_t inputs = weight ? weight.dim(1) : packed.k, outputs = weight ? weight.dim(0) : packed.n;
  if (use_packed && (packed.k != inputs || packed.n != outputs))
    detail::shape_error("linear", "packed must be weight " + weight.shape().str() + " packed, got (" +
                                      std::to_string(packed.n) + ", " + std::to_string(packed.k) + ")");
  if (x.dim(-1) != inputs)
    detail::shape_error("linear", "the last dimension of x must be " + std::to_string(inputs) + " as in weight (" +
                                      std::to_string(outputs) + ", " + std::to_string(inputs) + "), got x " +
                                      x.shape().str());
  if (bias) detail::check_numel("linear", "bias", bias, outputs);
  Shape shape = x.shape();
  shape.set(-1, outputs);
  if (epilogue.residual) detail::check_shape("linear", "residual", *epilogue.residual, shape);

  if (ctx.tape() && (epilogue.activation != Activation::none || epilogue.residual)) {
    Tensor<T> y = linear(ctx, x, weight, bias, LinearEpilogue<T>{Activation::none, nullptr, epilogue.packed});
    if (epilogue.activation == Activation::relu) y = relu(ctx, y);
    if (epilogue.activation == Activation::gelu) y = gelu(ctx, y);
    return epilogue.residual ? add(ctx, *epilogue.residual, y) : y;
  }

  Tensor<T> y = ctx.allocate<T>(shape, "linear");
  GemmArgs<T> args = detail::dense_gemm(x.shape().product(0, x.rank() - 1), outputs, inputs, x.data(), false,
                                        weight.data(), true, y.mutable_data());
  args.bias = bias.data();
  args.activation = epilogue.activation;
  args.residual = epilogue.residual ? epilogue.residual->data() : nullptr;
  if (use_packed) args.packed_b = &packed;
  ctx.kernels<T>().gemm(ctx.kernel_context(), args);
  if (detail::recording(ctx, x, weight, bias))
    ctx.tape()->record(y, [tape = ctx.tape(), x, weight, bias](Context& c, const Tensor<T>& dy) {
      detail::linear_backward(c, *tape, x, weight, bias, dy);
    });
  return y;
}

template <class T>
Tensor<T> matmul(Context& ctx, const Tensor<T>& a, const Tensor<T>& b, bool transpose_a, bool transpose_b,
                 double alpha) {
  detail::check_min_rank("matmul", "a", a, 2);
  detail::check_min_rank("matmul", "b", b, 2);
  const bool shared = b.rank() == 2 && a.rank() > 2;
  if (!shared) {
    bool same = a.rank() == b.rank();
    for (int i = 0; same && i < a.rank() - 2; ++i) same = a.dim(i) == b.dim(i);
    if (!same)
      detail::shape_error("matmul", "leading dimensions of a and b must be equal, got a " + a.shape().str() +
                                        " and b " + b.shape().str());
  }
  const std::int64_t m = a.dim(transpose_a ? -1 : -2), k = a.dim(transpose_a ? -2 : -1);
  const std::int64_t n = b.dim(transpose_b ? -2 : -1), kb = b.dim(transpose_b ? -1 : -2);
  if (k != kb)
    detail::shape_error("matmul", "inner dimensions must be equal, got " + std::to_string(k) + " of a " +
                                      a.shape().str() + " and " + std::to_string(kb) + " of b " + b.shape().str());
  const std::int64_t batch = a.shape().product(0, a.rank() - 2);
  Shape shape(a.shape().begin(), a.shape().end());
  shape.set(-2, m);
  shape.set(-1, n);
  Tensor<T> y = ctx.allocate<T>(shape, "matmul");
  GemmArgs<T> args = detail::dense_gemm(m, n, k, a.data(), transpose_a, b.data(), transpose_b, y.mutable_data());
  args.batch = batch;
  args.stride_a = m * k, args.stride_b = shared ? 0 : k * n, args.stride_c = m * n;
  args.alpha = static_cast<accumulate_t<T>>(alpha);
  ctx.kernels<T>().gemm(ctx.kernel_context(), args);

  if (detail::recording(ctx, a, b))
    ctx.tape()->record(y, [tape = ctx.tape(), a, b, transpose_a, transpose_b, alpha, m, n, k, batch, shared](
                              Context& c, const Tensor<T>& dy) {
      if (tape->tracks(a)) {
        // da = dy op(b)^T, or its transpose op(b) dy^T when a is stored transposed.
        Tensor<T> da = c.allocate<T>(a.shape(), "matmul_backward");
        GemmArgs<T> g = transpose_a
                            ? detail::dense_gemm(k, m, n, b.data(), transpose_b, dy.data(), true, da.mutable_data())
                            : detail::dense_gemm(m, k, n, dy.data(), false, b.data(), !transpose_b, da.mutable_data());
        const std::int64_t stride_b = shared ? 0 : k * n;
        g.batch = batch;
        g.stride_a = transpose_a ? stride_b : m * n;
        g.stride_b = transpose_a ? m * n : stride_b;
        g.stride_c = m * k;
        g.alpha = static_cast<accumulate_t<T>>(alpha);
        c.kernels<T>().gemm(c.kernel_context(), g);
        tape->accumulate(c, a, da);
      }
      if (tape->tracks(b)) {
        // db = op(a)^T dy, or its transpose; a shared b sums over the batch.
        Tensor<T> db = shared ? c.zeros<T>(b.shape(), "matmul_backward") : c.allocate<T>(b.shape(), "matmul_backward");
        GemmArgs<T> g = transpose_b
                            ? detail::dense_gemm(n, k, m, dy.data(), true, a.data(), transpose_a, db.mutable_data())
                            : detail::dense_gemm(k, n, m, a.data(), !transpose_a, dy.data(), false, db.mutable_data());
        const std::int64_t stride_left = transpose_b ? m * n : m * k, stride_right = transpose_b ? m * k : m * n;
        g.alpha = static_cast<accumulate_t<T>>(alpha);
        if (!shared) {
          g.batch = batch;
          g.stride_a = stride_left, g.stride_b = stride_right, g.stride_c = k * n;
          c.kernels<T>().gemm(c.kernel_context(), g);
        } else {
          g.beta = 1;
          for (std::int64_t i = 0; i < batch; ++i) {
            c.kernels<T>().gemm(c.kernel_context(), g);
            g.a += stride_left;
            g.b += stride_right;
          }
        }
        tape->accumulate(c, b, db);
      }
    });
  return y;
}

template <class T>
Tensor<T> matmul_by_rows(Context& ctx, const Tensor<T>& a, const Tensor<T>& b, std::int64_t rows,
                         const std::function<void(std::int64_t begin, std::int64_t end)>& used) {
  detail::check_rank("matmul_by_rows", "a", a, 2);
  detail::check_rank("matmul_by_rows", "b", b, 2);
  if (a.dim(0) != b.dim(0) || a.dim(0) == 0 || rows < 1)
    detail::shape_error("matmul_by_rows",
                        "a and b must have the same number of rows, at least 1, and blocks at least one, "
                        "got a " +
                            a.shape().str() + ", b " + b.shape().str() + " and blocks of " + std::to_string(rows));
  if (detail::recording(ctx, a, b)) throw Error("matmul_by_rows: is for inference, but a tape records an operand");
  const std::int64_t m = a.dim(1), n = b.dim(1);
  Tensor<T> y = ctx.allocate<T>(Shape{m, n}, "matmul_by_rows");
  for (std::int64_t begin = 0; begin < a.dim(0); begin += rows) {
    const std::int64_t end = std::min(a.dim(0), begin + rows);
    GemmArgs<T> args = detail::dense_gemm(m, n, end - begin, a.data() + begin * m, true, b.data() + begin * n, false,
                                          y.mutable_data());
    args.beta = begin > 0 ? accumulate_t<T>(1) : accumulate_t<T>(0);
    ctx.kernels<T>().gemm(ctx.kernel_context(), args);
    if (used) used(begin, end);
  }
  return y;
}

}  // namespace promptiqa
