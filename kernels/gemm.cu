// Matrix products: cuBLAS, with the epilogue inside where it has one.
// Surprising choice: a fused bfloat16 product rounds its bias to bfloat16 and has the tanh form of gelu (within 5e-4);
// float and double keep both exact.
#include <string>
#include <type_traits>

#include "blas.hpp"
#include "gemm.cuh"
#include "kernel_table.hpp"

namespace promptiqa::cuda {

namespace {

/// Whether one cuBLAS call computes all of it.
template <class T>
bool can_fuse(const GemmArgs<T>& args) {
  if (args.batch != 1) return false;
  if (args.activation == Activation::none) return (args.bias || args.residual) && (!args.residual || args.beta == 0);
  if (args.activation == Activation::gelu && !std::is_same_v<T, bfloat16>) return false;
  return !args.residual && args.beta == 0;
}

template <class T>
bool fused_gemm(const Op& op, const GemmArgs<T>& args, MatrixProduct<T, T> product) {
  if (!can_fuse(args)) return false;
  if (args.residual) product.beta = 1;
  const T* addend = args.residual ? args.residual : args.c;
  if constexpr (std::is_same_v<T, accumulate_t<T>>) {
    return fused_matrix_product(op, product, args.bias, args.activation, addend);
  } else {
    StorageRef scratch;
    T* bias = nullptr;
    if (args.bias) {
      scratch = op.memory.allocate(static_cast<std::size_t>(args.n) * sizeof(T));
      bias = static_cast<T*>(scratch->data);
      launch(round_kernel<T>, blocks_for(op, args.n, 256), 256, 0, op, args.n, args.bias, bias);
    }
    return fused_matrix_product<T>(op, product, bias, args.activation, addend);
  }
}

/// The product and its epilogue; operands are T, or floats that were rounded.
template <class T, class In>
void multiply(const Op& op, const GemmArgs<T>& args, const MatrixProduct<In, T>& product) {
  using A = accumulate_t<T>;
  const bool plain = !args.bias && !args.residual && args.activation == Activation::none;
  if (args.k > 0 && plain) return matrix_product(op, product);
  if constexpr (std::is_same_v<T, In>)
    if (args.k > 0 && fused_gemm(op, args, product)) return;

  // The product in the type of sums, in c itself where nothing of c is still needed; then the rest.
  Epilogue<T> e = {args.m,        args.n,    args.batch, nullptr,       args.ldc,  args.stride_c,   args.c, args.ldc,
                   args.stride_c, args.bias, false,      args.residual, args.beta, args.activation, false};
  StorageRef scratch;
  if (args.k > 0) {
    MatrixProduct<In, A> sums = {args.m,    args.n,      args.k,           args.batch,
                                 product.a, product.lda, product.stride_a, product.transpose_a,
                                 product.b, product.ldb, product.stride_b, product.transpose_b,
                                 nullptr,   args.ldc,    args.stride_c,    args.alpha,
                                 A(0)};
    if constexpr (std::is_same_v<T, A>)
      if (args.beta == 0 && args.residual != args.c) sums.c = args.c;
    if (!sums.c) {
      scratch = op.memory.allocate(static_cast<std::size_t>(args.batch * args.m * args.n) * sizeof(A));
      sums.c = static_cast<A*>(scratch->data);
      sums.ldc = e.product_row = args.n;
      sums.stride_c = e.product_entry = args.m * args.n;
    }
    matrix_product(op, sums);
    e.product = sums.c;
  }
  launch_epilogue(op, e);
}

/// An operand rounded to bfloat16, in rows of a multiple of 16 bytes, which tensor cores want.
struct RoundedOperand {
  StorageRef storage;
  std::int64_t ld, stride;
  const bfloat16* data() const { return static_cast<const bfloat16*>(storage->data); }
};
RoundedOperand rounded_operand(const Op& op, std::int64_t rows, std::int64_t columns, std::int64_t batch,
                               const float* x, std::int64_t ld, std::int64_t stride) {
  const std::int64_t entries = stride == 0 ? 1 : batch, groups = (columns + 7) / 8;
  RoundedOperand result = {op.memory.allocate(static_cast<std::size_t>(entries * rows * groups) * 8 * sizeof(bfloat16)),
                           8 * groups, stride == 0 ? 0 : rows * groups * 8};
  const bool vectors = aligned(x, 16) && ld % 4 == 0 && stride % 4 == 0;
  launch(round_rows_kernel<float>, blocks_for(op, entries * rows * groups, 256), 256, 0, op,
         RoundRows<float>{entries, rows, columns, x, ld, stride, vectors, static_cast<bfloat16*>(result.storage->data),
                          groups});
  return result;
}

}  // namespace

/// The layout of packed matrices: no CPU backend has it.
template <class T>
int packed_layout() {
  return (1 << 20) + static_cast<int>(sizeof(T));
}

template <class T>
std::size_t packed_bytes(std::int64_t k, std::int64_t n) {
  return static_cast<std::size_t>(k * n) * sizeof(T);
}

template <class T>
void pack_matrix(const KernelContext& kc, const PackMatrixArgs<T>& args) {
  const Op op("pack_matrix", kc);
  if (args.k == 0 || args.n == 0) return;
  const dim3 grid(blocks_for(op, args.k, 32), blocks_for(op, args.n, 32));
  launch(pack_matrix_kernel<T>, grid, dim3(32, 8), 0, op, args);
}
PROMPTIQA_CUDA_INSTANTIATE(pack_matrix, PackMatrixArgs)

template <class T>
void gemm(const KernelContext& kc, const GemmArgs<T>& args) {
  const Op op("gemm", kc);
  if (args.m == 0 || args.n == 0 || args.batch == 0) return;

  MatrixProduct<T, T> product = {args.m,        args.n,           args.k,           args.batch, args.a,
                                 args.lda,      args.stride_a,    args.transpose_a, args.b,     args.ldb,
                                 args.stride_b, args.transpose_b, args.c,           args.ldc,   args.stride_c,
                                 args.alpha,    args.beta};
  if (const PackedMatrixView* packed = args.packed_b) {
    if (packed->layout != packed_layout<T>())
      throw CudaError("gemm: expected a matrix packed by this table, layout " + std::to_string(packed_layout<T>()) +
                      ", got layout " + std::to_string(packed->layout));
    product.b = static_cast<const T*>(packed->data);
    product.ldb = args.k;
    product.stride_b = 0;
    product.transpose_b = true;
  }

  if constexpr (std::is_same_v<T, float>)
    if (args.k > 0 && device_traits(op).bf16) {
      const RoundedOperand a =
          rounded_operand(op, args.transpose_a ? args.k : args.m, args.transpose_a ? args.m : args.k, args.batch,
                          product.a, product.lda, product.stride_a);
      const RoundedOperand b =
          rounded_operand(op, product.transpose_b ? args.n : args.k, product.transpose_b ? args.k : args.n, args.batch,
                          product.b, product.ldb, product.stride_b);
      return multiply<T, bfloat16>(op, args,
                                   {args.m, args.n, args.k, args.batch, a.data(), a.ld, a.stride, product.transpose_a,
                                    b.data(), b.ld, b.stride, product.transpose_b, args.c, args.ldc, args.stride_c,
                                    args.alpha, args.beta});
    }
  multiply<T, T>(op, args, product);
}
PROMPTIQA_CUDA_INSTANTIATE(gemm, GemmArgs)

template int packed_layout<float>();
template int packed_layout<double>();
template int packed_layout<bfloat16>();
template std::size_t packed_bytes<float>(std::int64_t, std::int64_t);
template std::size_t packed_bytes<double>(std::int64_t, std::int64_t);
template std::size_t packed_bytes<bfloat16>(std::int64_t, std::int64_t);

}  // namespace promptiqa::cuda
