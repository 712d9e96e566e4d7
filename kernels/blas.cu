// The bodies of blas.hpp for a device: cuBLAS for plain products, cuBLASLt for those with a fused epilogue.
// Surprising choice: both count columns first, so every product is asked for transposed, c^T = op(b)^T op(a)^T: the
// first operand is our b, and a bias along our columns is one along their rows, as cuBLASLt wants it.
#include "blas.hpp"

#include <cublasLt.h>
#include <cublas_v2.h>
#include <array>
#include <map>
#include <memory>
#include <string>
#include <type_traits>

#include <promptiqa/core/error.hpp>
#include "launch.cuh"

namespace promptiqa::cuda {

namespace {

constexpr std::size_t workspace_bytes = std::size_t{32} << 20;  // what cuBLAS recommends for Hopper

void check(cublasStatus_t status, const char* call, const Op& op) {
  if (status != CUBLAS_STATUS_SUCCESS)
    throw CudaError(std::string(op.name) + ": " + call + " failed: " + cublasGetStatusString(status) + " (" +
                    cublasGetStatusName(status) + ")");
}
void check(cudaError_t code, const char* call, const Op& op) {
  if (code != cudaSuccess)
    throw CudaError(std::string(op.name) + ": " + call + " failed: " + cudaGetErrorString(code) + " (" +
                    cudaGetErrorName(code) + ")");
}

/// What an algorithm was chosen for.
using FusedKey = std::array<std::int64_t, 13>;
struct FusedAlgorithm {
  bool found;
  cublasLtMatmulAlgo_t algorithm;
};

/// What Queue::blas points to.
struct Blas {
  cublasHandle_t handle = nullptr;
  void* workspace = nullptr;
  DeviceTraits traits = {};
  std::map<FusedKey, FusedAlgorithm> algorithms;
};

void destroy(Queue& queue, Blas& blas) noexcept {
  if (blas.handle) cublasDestroy(blas.handle);
  if (blas.workspace) release(queue, blas.workspace);
}

/// Memory for the workspace; what the pool keeps for later is given back first where there is no other.
void* allocate_workspace(const Op& op) {
  try {
    return allocate(op.queue, workspace_bytes);
  } catch (const CudaError&) {
    op.memory.trim();
    return allocate(op.queue, workspace_bytes);
  }
}

/// Has shared memory where it was compiled for sm_90a, and only there: from outside, nothing else tells which of
/// several architectures' code a device has chosen.
__global__ void wgmma_mark_kernel() {
#if defined(__CUDA_ARCH_FEAT_SM90_ALL)
  __shared__ volatile int mark;
  mark = 1;
#endif
}
bool has_wgmma(const Op& op) {
  cudaFuncAttributes attributes = {};
  check(cudaFuncGetAttributes(&attributes, wgmma_mark_kernel), "cudaFuncGetAttributes", op);
  return attributes.sharedSizeBytes > 0;
}

/// The queue's handle, made at the first use. Its workspace is ours and fixed, so that products can be captured in a
/// graph and have the same bits in every run.
Blas& blas_of(const Op& op) {
  if (op.queue.blas) return *static_cast<Blas*>(op.queue.blas);
  auto blas = std::make_unique<Blas>();
  int major = 0, minor = 0, shared = 0;
  check(cudaDeviceGetAttribute(&major, cudaDevAttrComputeCapabilityMajor, op.queue.ordinal), "cudaDeviceGetAttribute",
        op);
  check(cudaDeviceGetAttribute(&minor, cudaDevAttrComputeCapabilityMinor, op.queue.ordinal), "cudaDeviceGetAttribute",
        op);
  check(cudaDeviceGetAttribute(&shared, cudaDevAttrMaxSharedMemoryPerBlockOptin, op.queue.ordinal),
        "cudaDeviceGetAttribute", op);
  blas->traits = {10 * major + minor, static_cast<std::size_t>(shared), false, false, has_wgmma(op)};
  // The queue gets it when it is whole: half of it would compute in another stream.
  try {
    check(cublasCreate(&blas->handle), "cublasCreate", op);
    blas->workspace = allocate_workspace(op);
    check(cublasSetStream(blas->handle, static_cast<cudaStream_t>(op.queue.stream)), "cublasSetStream", op);
    check(cublasSetWorkspace(blas->handle, blas->workspace, workspace_bytes), "cublasSetWorkspace", op);
    // Sums of bfloat16 products stay float, also where parts of k are added up.
    check(cublasSetMathMode(blas->handle, static_cast<cublasMath_t>(CUBLAS_DEFAULT_MATH |
                                                                    CUBLAS_MATH_DISALLOW_REDUCED_PRECISION_REDUCTION)),
          "cublasSetMathMode", op);
  } catch (...) {
    destroy(op.queue, *blas);
    throw;
  }
  op.queue.blas = blas.release();
  return *static_cast<Blas*>(op.queue.blas);
}

template <class T>
constexpr cudaDataType_t data_type = std::is_same_v<T, double>  ? CUDA_R_64F
                                     : std::is_same_v<T, float> ? CUDA_R_32F
                                                                : CUDA_R_16BF;
template <class T>
cublasComputeType_t compute_type(const Blas& blas) {
  if (std::is_same_v<T, double>) return CUBLAS_COMPUTE_64F;
  return std::is_same_v<T, float> && blas.traits.tf32 ? CUBLAS_COMPUTE_32F_FAST_TF32 : CUBLAS_COMPUTE_32F;
}

cublasOperation_t operation(bool transpose) { return transpose ? CUBLAS_OP_T : CUBLAS_OP_N; }

/// A description of cuBLASLt that is destroyed with its owner.
template <class Handle, cublasStatus_t (*destroy)(Handle)>
struct Owned {
  Handle handle = nullptr;
  Owned() = default;
  ~Owned() {
    if (handle) destroy(handle);
  }
  Owned(const Owned&) = delete;
  Owned& operator=(const Owned&) = delete;
};
using Layout = Owned<cublasLtMatrixLayout_t, cublasLtMatrixLayoutDestroy>;
using Description = Owned<cublasLtMatmulDesc_t, cublasLtMatmulDescDestroy>;
using Preference = Owned<cublasLtMatmulPreference_t, cublasLtMatmulPreferenceDestroy>;

template <class V>
void set(const Op& op, const Description& d, cublasLtMatmulDescAttributes_t attribute, V value) {
  check(cublasLtMatmulDescSetAttribute(d.handle, attribute, &value, sizeof value), "cublasLtMatmulDescSetAttribute",
        op);
}
template <class V>
void set(const Op& op, const Preference& p, cublasLtMatmulPreferenceAttributes_t attribute, V value) {
  check(cublasLtMatmulPreferenceSetAttribute(p.handle, attribute, &value, sizeof value),
        "cublasLtMatmulPreferenceSetAttribute", op);
}

/// The largest power of two up to 256 that divides the address.
std::uint32_t alignment_of(const void* p) {
  std::uint32_t bytes = 256;
  while (reinterpret_cast<std::uintptr_t>(p) % bytes != 0) bytes /= 2;
  return bytes;
}

cublasLtEpilogue_t epilogue_of(bool bias, Activation activation) {
  if (activation == Activation::relu) return bias ? CUBLASLT_EPILOGUE_RELU_BIAS : CUBLASLT_EPILOGUE_RELU;
  if (activation == Activation::gelu) return bias ? CUBLASLT_EPILOGUE_GELU_BIAS : CUBLASLT_EPILOGUE_GELU;
  return bias ? CUBLASLT_EPILOGUE_BIAS : CUBLASLT_EPILOGUE_DEFAULT;
}

}  // namespace

DeviceTraits device_traits(const Op& op) { return blas_of(op).traits; }

void set_products(const Op& op, bool tf32, bool bf16, bool wgmma) {
  DeviceTraits& traits = blas_of(op).traits;
  traits.tf32 = tf32, traits.bf16 = bf16, traits.wgmma = traits.wgmma && wgmma;
}

template <class T, class C>
void matrix_product(const Op& op, const MatrixProduct<T, C>& p) {
  const Blas& blas = blas_of(op);
  check(cublasGemmStridedBatchedEx_64(blas.handle, operation(p.transpose_b), operation(p.transpose_a), p.n, p.m, p.k,
                                      &p.alpha, p.b, data_type<T>, p.ldb, p.stride_b, p.a, data_type<T>, p.lda,
                                      p.stride_a, &p.beta, p.c, data_type<C>, p.ldc, p.stride_c, p.batch,
                                      compute_type<T>(blas), CUBLAS_GEMM_DEFAULT),
        "cublasGemmStridedBatchedEx", op);
}
template void matrix_product(const Op&, const MatrixProduct<float, float>&);
template void matrix_product(const Op&, const MatrixProduct<double, double>&);
template void matrix_product(const Op&, const MatrixProduct<bfloat16, bfloat16>&);
template void matrix_product(const Op&, const MatrixProduct<bfloat16, float>&);

template <class T>
bool fused_matrix_product(const Op& op, const MatrixProduct<T, T>& p, const T* bias, Activation activation,
                          const T* addend) {
  if (std::is_same_v<T, double>) return false;
  Blas& blas = blas_of(op);
  const cublasLtEpilogue_t epilogue = epilogue_of(bias != nullptr, activation);
  Description description;
  check(cublasLtMatmulDescCreate(&description.handle, compute_type<T>(blas), data_type<accumulate_t<T>>),
        "cublasLtMatmulDescCreate", op);
  set(op, description, CUBLASLT_MATMUL_DESC_TRANSA, operation(p.transpose_b));
  set(op, description, CUBLASLT_MATMUL_DESC_TRANSB, operation(p.transpose_a));
  set(op, description, CUBLASLT_MATMUL_DESC_EPILOGUE, epilogue);
  if (bias) set(op, description, CUBLASLT_MATMUL_DESC_BIAS_POINTER, static_cast<const void*>(bias));
  // The rows and columns of what is stored: (n, k) or its transpose for our b, and so on.
  Layout a, b, c;
  const auto layout = [&](Layout& l, std::int64_t rows, std::int64_t columns, std::int64_t ld) {
    check(cublasLtMatrixLayoutCreate(&l.handle, data_type<T>, static_cast<std::uint64_t>(rows),
                                     static_cast<std::uint64_t>(columns), ld),
          "cublasLtMatrixLayoutCreate", op);
  };
  layout(b, p.transpose_b ? p.k : p.n, p.transpose_b ? p.n : p.k, p.ldb);
  layout(a, p.transpose_a ? p.m : p.k, p.transpose_a ? p.k : p.m, p.lda);
  layout(c, p.n, p.m, p.ldc);

  const std::uint32_t a_alignment = alignment_of(p.a), b_alignment = alignment_of(p.b);
  const std::uint32_t c_alignment = alignment_of(addend), d_alignment = alignment_of(p.c);
  const FusedKey key = {p.m,
                        p.n,
                        p.k,
                        p.lda,
                        p.ldb,
                        p.ldc,
                        2 * p.transpose_a + p.transpose_b,
                        epilogue,
                        data_type<T>,
                        compute_type<T>(blas),
                        a_alignment * 512 + b_alignment,
                        c_alignment * 512 + d_alignment,
                        2 * (p.beta != 0) + (addend == p.c)};
  auto found = blas.algorithms.find(key);
  if (found == blas.algorithms.end()) {
    Preference preference;
    check(cublasLtMatmulPreferenceCreate(&preference.handle), "cublasLtMatmulPreferenceCreate", op);
    set(op, preference, CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES, std::uint64_t{workspace_bytes});
    // As above: parts of k are not to be added up in bfloat16.
    set(op, preference, CUBLASLT_MATMUL_PREF_REDUCTION_SCHEME_MASK,
        std::uint32_t{CUBLASLT_REDUCTION_SCHEME_MASK & ~CUBLASLT_REDUCTION_SCHEME_OUTPUT_TYPE});
    set(op, preference, CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES, b_alignment);
    set(op, preference, CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_B_BYTES, a_alignment);
    set(op, preference, CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_C_BYTES, c_alignment);
    set(op, preference, CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_D_BYTES, d_alignment);
    cublasLtMatmulHeuristicResult_t best;
    int count = 0;
    const cublasStatus_t status =
        cublasLtMatmulAlgoGetHeuristic(reinterpret_cast<cublasLtHandle_t>(blas.handle), description.handle, b.handle,
                                       a.handle, c.handle, c.handle, preference.handle, 1, &best, &count);
    if (status != CUBLAS_STATUS_NOT_SUPPORTED) check(status, "cublasLtMatmulAlgoGetHeuristic", op);
    const bool usable = status == CUBLAS_STATUS_SUCCESS && count > 0 && best.state == CUBLAS_STATUS_SUCCESS;
    found = blas.algorithms.emplace(key, FusedAlgorithm{usable, usable ? best.algo : cublasLtMatmulAlgo_t{}}).first;
  }
  if (!found->second.found) return false;
  check(cublasLtMatmul(reinterpret_cast<cublasLtHandle_t>(blas.handle), description.handle, &p.alpha, p.b, b.handle,
                       p.a, a.handle, &p.beta, addend, c.handle, p.c, c.handle, &found->second.algorithm,
                       blas.workspace, workspace_bytes, static_cast<cudaStream_t>(op.queue.stream)),
        "cublasLtMatmul", op);
  return true;
}
template bool fused_matrix_product(const Op&, const MatrixProduct<float, float>&, const float*, Activation,
                                   const float*);
template bool fused_matrix_product(const Op&, const MatrixProduct<double, double>&, const double*, Activation,
                                   const double*);
template bool fused_matrix_product(const Op&, const MatrixProduct<bfloat16, bfloat16>&, const bfloat16*, Activation,
                                   const bfloat16*);

void close_blas(Queue& queue) noexcept {
  Blas* blas = static_cast<Blas*>(queue.blas);
  if (!blas) return;
  queue.blas = nullptr;
  destroy(queue, *blas);
  delete blas;
}

}  // namespace promptiqa::cuda
