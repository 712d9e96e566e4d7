// The matrix product of the `eigen` backend: Eigen's product and a plain epilogue, to check the fast kernels against.
// Surprising choice: Eigen runs on one thread per block of rows, since two thread pools would fight; the blocks
// have a fixed height, so that results do not depend on the number of threads.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <string>

#include <Eigen/Core>

#include <promptiqa/core/error.hpp>
#include <promptiqa/core/kernel_table.hpp>
#include <promptiqa/core/memory_pool.hpp>
#include <promptiqa/core/thread_pool.hpp>
#include <promptiqa/cpu/parallel.hpp>

namespace promptiqa::cpu {

/// The tag of matrices packed for gemm_eigen.
template <class T>
inline constexpr int packed_layout_eigen = 1 + static_cast<int>(sizeof(T));

/// Bytes of op(b), (k, n), laid out by pack_matrix_eigen.
template <class T>
std::size_t packed_bytes_eigen(std::int64_t k, std::int64_t n) {
  return static_cast<std::size_t>(k) * static_cast<std::size_t>(n) * sizeof(T);
}

namespace detail {

template <class T>
using EigenMatrix = Eigen::Matrix<T, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>;
template <class T>
using EigenView = Eigen::Map<const EigenMatrix<T>, 0, Eigen::OuterStride<>>;

/// Calls body(op(x)) for an op(x) of (rows, columns) stored `ld` elements a row.
template <class T, class Body>
void with_operand(const T* x, std::int64_t ld, bool transpose, std::int64_t rows, std::int64_t columns, Body&& body) {
  if (transpose)
    body(EigenView<T>(x, columns, rows, Eigen::OuterStride<>(ld)).transpose());
  else
    body(EigenView<T>(x, rows, columns, Eigen::OuterStride<>(ld)));
}

/// activation(x) of one number.
template <class T>
T activate(Activation activation, T x) {
  if (activation == Activation::relu) return x < T(0) ? T(0) : x;
  if (activation == Activation::gelu)
    return (x < T(-40) ? T(-40) : x) * (T(0.5) * std::erfc(x * T(-0.70710678118654752440)));
  return x;
}

}  // namespace detail

/// Lays op(b) out as a plain row-major (k, n) matrix.
template <class T>
void pack_matrix_eigen(const KernelContext&, const PackMatrixArgs<T>& args) {
  Eigen::Map<detail::EigenMatrix<T>> packed(static_cast<T*>(args.packed), args.k, args.n);
  detail::with_operand(args.b, args.ldb, args.transpose_b, args.k, args.n, [&](const auto& b) { packed = b; });
}

/// The product described at GemmArgs, by Eigen. Throws Error when packed_b was made by other kernels and ShapeError
/// when it has another shape.
template <class T>
void gemm_eigen(const KernelContext& kc, const GemmArgs<T>& args) {
  if (args.batch <= 0 || args.m <= 0 || args.n <= 0) return;
  const T* b = args.b;
  std::int64_t ldb = args.ldb;
  bool transpose_b = args.transpose_b;
  if (args.packed_b) {
    const PackedMatrixView& view = *args.packed_b;
    if (view.layout != packed_layout_eigen<T>)
      throw Error("gemm: packed_b has layout " + std::to_string(view.layout) + ", these kernels (eigen) need " +
                  std::to_string(packed_layout_eigen<T>));
    if (view.k != args.k || view.n != args.n)
      throw ShapeError("gemm: packed_b must be (" + std::to_string(args.k) + ", " + std::to_string(args.n) +
                       "), got (" + std::to_string(view.k) + ", " + std::to_string(view.n) + ")");
    b = static_cast<const T*>(view.data);
    ldb = args.n;
    transpose_b = false;
  }
  const std::int64_t stride_b = args.packed_b ? 0 : args.stride_b;

  constexpr std::int64_t block = 128;
  const std::int64_t blocks = (args.m + block - 1) / block;
  pool_of(kc).parallel_for(args.batch * blocks, [&](std::int64_t task) {
    const std::int64_t entry = task / blocks, first = task % blocks * block, rows = std::min(block, args.m - first);
    const StorageRef memory = memory_of(kc).allocate(static_cast<std::size_t>(rows * args.n) * sizeof(T));
    Eigen::Map<detail::EigenMatrix<T>> product(static_cast<T*>(memory->data), rows, args.n);
    const T* a = args.a + entry * args.stride_a + first * (args.transpose_a ? 1 : args.lda);
    detail::with_operand(a, args.lda, args.transpose_a, rows, args.k, [&](const auto& left) {
      detail::with_operand(b + entry * stride_b, ldb, transpose_b, args.k, args.n,
                           [&](const auto& right) { product.noalias() = left * right; });
    });
    for (std::int64_t i = 0; i < rows; ++i) {
      const std::int64_t offset = entry * args.stride_c + (first + i) * args.ldc;
      for (std::int64_t j = 0; j < args.n; ++j) {
        T y = detail::activate(args.activation, args.alpha * product(i, j) + (args.bias ? args.bias[j] : T(0)));
        if (args.residual) y += args.residual[offset + j];
        if (args.beta != T(0)) y += args.beta * args.c[offset + j];
        args.c[offset + j] = y;
      }
    }
  });
}

}  // namespace promptiqa::cpu
