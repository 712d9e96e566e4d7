// What surrounds cuBLAS's matrix products: the epilogue it cannot fuse, and the packing of weights.
// Surprising choice: a packed matrix is b stored (n, k), the layout that tensor cores read fastest; nothing more.
#pragma once

#include "launch.cuh"

namespace promptiqa::cuda {

/// Exact gelu, x * Phi(x).
template <class A>
PROMPTIQA_DEVICE A exact_gelu(A x) {
  return x / 2 * (1 + erf(x * static_cast<A>(0.70710678118654752440)));
}

template <class A>
PROMPTIQA_DEVICE A activate(Activation activation, A x) {
  if (activation == Activation::relu) return x < 0 ? A(0) : x;  // keeps NaN
  return activation == Activation::gelu ? exact_gelu(x) : x;
}

/// What the epilogue kernel does to element (row, column) of every batch entry.
template <class T>
struct Epilogue {
  std::int64_t rows, columns, batch;
  const accumulate_t<T>* product;  // laid out (batch, rows, columns) by the strides; null counts as zeros
  std::int64_t product_row, product_entry;
  T* c;
  std::int64_t ldc, stride_c;
  const accumulate_t<T>* bias;  // of columns, or of rows when bias_of_rows; or null
  bool bias_of_rows;
  const T* residual;  // laid out as c; or null
  accumulate_t<T> beta;
  Activation activation;
  bool activate_residual;  // activation(product + bias + residual) instead of activation(...) + residual
};

/// c = activation(product + bias) + residual + beta * c. One thread a column; rows and entries beyond the grid are
/// looped over.
template <class T>
__global__ void __launch_bounds__(128) epilogue_kernel(Epilogue<T> e) {
  using A = accumulate_t<T>;
  const std::int64_t column = std::int64_t{blockIdx.x} * blockDim.x + threadIdx.x;
  if (column >= e.columns) return;
  for (std::int64_t entry = blockIdx.z; entry < e.batch; entry += gridDim.z)
    for (std::int64_t row = blockIdx.y; row < e.rows; row += gridDim.y) {
      const std::int64_t i = entry * e.stride_c + row * e.ldc + column;
      A v = e.product ? e.product[entry * e.product_entry + row * e.product_row + column] : A(0);
      if (e.bias) v += e.bias[e.bias_of_rows ? row : column];
      const A residual = e.residual ? widen(e.residual[i]) : A(0);
      v = e.activate_residual ? activate(e.activation, v + residual) : activate(e.activation, v) + residual;
      if (e.beta != 0) v += e.beta * widen(e.c[i]);
      e.c[i] = narrow<T>(v);
    }
}

template <class T>
void launch_epilogue(const Op& op, const Epilogue<T>& e) {
  const auto at_most = [](std::int64_t n) { return static_cast<unsigned>(n < 65535 ? n : 65535); };
  const unsigned columns = blocks_for(op, e.columns, 128);
  launch(epilogue_kernel<T>, dim3(columns, at_most(e.rows), at_most(e.batch)), 128, 0, op, e);
}

/// y[i] = x[i] rounded to T: a bias for cuBLAS, whose fused kernels want it in the type of the result.
template <class T>
__global__ void __launch_bounds__(256) round_kernel(std::int64_t count, const accumulate_t<T>* x, T* y) {
  const std::int64_t i = std::int64_t{blockIdx.x} * blockDim.x + threadIdx.x;
  if (i < count) y[i] = narrow<T>(x[i]);
}

/// The matrices that round_rows_kernel reads, and where it puts them.
template <class T>
struct RoundRows {
  std::int64_t entries, rows, columns;
  const T* x;
  std::int64_t ld, stride;
  bool vectors;         // rows of x begin at 16-byte addresses
  bfloat16* y;          // (entries, rows, 8 * groups)
  std::int64_t groups;  // of eight columns a row; the last one is filled up with zeros
};

/// y = x rounded to nearest, ties to even. A thread a group of eight columns.
template <class T>
__global__ void __launch_bounds__(256) round_rows_kernel(RoundRows<T> r) {
  const std::int64_t i = std::int64_t{blockIdx.x} * blockDim.x + threadIdx.x;
  const std::int64_t row = i / r.groups, column = i % r.groups * 8;
  if (row >= r.entries * r.rows) return;
  const T* x = r.x + row / r.rows * r.stride + row % r.rows * r.ld + column;
  Vector<bfloat16, 8> y;
  if (r.vectors && column + 8 <= r.columns) {
    const Vector<T, 4> low = load_vector<4>(x), high = load_vector<4>(x + 4);
    PROMPTIQA_UNROLL
    for (int k = 0; k < 4; ++k) {
      y.values[k] = narrow<bfloat16>(low.values[k]);
      y.values[4 + k] = narrow<bfloat16>(high.values[k]);
    }
  } else {
    PROMPTIQA_UNROLL
    for (int k = 0; k < 8; ++k) y.values[k] = narrow<bfloat16>(column + k < r.columns ? x[k] : T(0));
  }
  store_vector(r.y + i * 8, y);
}

/// packed (n, k) from b: a copy of rows, or a transposition through tiles of 32 x 32. A block is (32, 8) threads.
template <class T>
__global__ void __launch_bounds__(256) pack_matrix_kernel(PackMatrixArgs<T> args) {
  T* packed = static_cast<T*>(args.packed);
  const std::int64_t k0 = std::int64_t{blockIdx.x} * 32, n0 = std::int64_t{blockIdx.y} * 32;
  const int x = static_cast<int>(threadIdx.x), y = static_cast<int>(threadIdx.y);
  if (args.transpose_b) {
    for (int i = y; i < 32; i += 8)
      if (n0 + i < args.n && k0 + x < args.k) packed[(n0 + i) * args.k + k0 + x] = args.b[(n0 + i) * args.ldb + k0 + x];
    return;
  }
  PROMPTIQA_SHARED(T, tile, 32 * 33);  // (k, n), a column wider than needed: no two lanes in one bank
  for (int i = y; i < 32; i += 8)
    if (k0 + i < args.k && n0 + x < args.n) tile[i * 33 + x] = args.b[(k0 + i) * args.ldb + n0 + x];
  __syncthreads();
  for (int i = y; i < 32; i += 8)
    if (n0 + i < args.n && k0 + x < args.k) packed[(n0 + i) * args.k + k0 + x] = tile[x * 33 + i];
}

}  // namespace promptiqa::cuda
