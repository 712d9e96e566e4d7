// What the library needs of cuBLAS, without its headers: one matrix product, plain and with a fused epilogue; and by
// what kernels choose between tensor cores and plain arithmetic. Surprising choice: operands are described row-major,
// as everywhere else; the bodies (blas.cu for a device, emulation/blas.cpp for tests) swap them where a library wants
// columns.
#pragma once

#include <cstddef>
#include <cstdint>
#include <type_traits>

#include <promptiqa/core/bfloat16.hpp>
#include <promptiqa/core/kernel_table.hpp>
#include "runtime.hpp"

namespace promptiqa::cuda {

/// What a device can do and may do.
struct DeviceTraits {
  int capability;            // 90 for compute capability 9.0
  std::size_t shared_bytes;  // the most shared memory that one block may ask for
  bool tf32;                 // float products may round their operands to 10 fraction bits
  bool bf16 = false;         // gemm rounds float operands to bfloat16
  bool wgmma = false;        // warpgroups may multiply (sm_90a), and kernels of this build do
};
DeviceTraits device_traits(const Op& op);

/// Whether a device has tensor cores that multiply T, and may use them.
template <class T>
bool has_tensor_cores(const DeviceTraits& traits) {
  if (std::is_same_v<T, bfloat16>) return traits.capability >= 80;
  return std::is_same_v<T, float> && traits.capability >= 80 && traits.tf32;
}

/// How the op's queue multiplies: tf32 lets matrix products, attention and convolutions of floats use TF32 tensor
/// cores, bf16 rounds the operands of their gemm to bfloat16; both are off at first. Without wgmma, which is on at
/// first, warpgroups do not multiply together even where they could.
void set_products(const Op& op, bool tf32, bool bf16, bool wgmma);

/// c[i] = alpha * op(a[i]) op(b[i]) + beta * c[i] for i in [0, batch); m, n, k and batch are at least 1. As in
/// GemmArgs.
template <class T, class C>
struct MatrixProduct {
  std::int64_t m, n, k, batch;
  const T* a;
  std::int64_t lda, stride_a;
  bool transpose_a;
  const T* b;
  std::int64_t ldb, stride_b;
  bool transpose_b;
  C* c;
  std::int64_t ldc, stride_c;
  accumulate_t<T> alpha, beta;
};

/// The product. C is T, or float for bfloat16 operands. Throws CudaError naming the op and the call.
template <class T, class C>
void matrix_product(const Op& op, const MatrixProduct<T, C>& product);

/// c = activation(alpha * op(a) op(b) + bias) + beta * addend, in one call; addend may be c itself. Returns false,
/// having done nothing, when the library has no such kernel. The batch must be 1, and beta 0 unless the activation is
/// none. The gelu is the library's: the tanh approximation, within 5e-4 of the exact one. bias: (n) or null, of type T.
template <class T>
bool fused_matrix_product(const Op& op, const MatrixProduct<T, T>& product, const T* bias, Activation activation,
                          const T* addend);

/// Ends what Queue::blas holds. Nothing may be running in the queue any more.
void close_blas(Queue& queue) noexcept;

}  // namespace promptiqa::cuda
