// The bodies of blas.hpp for tests on a CPU: loops.
// Surprising choice: rounding is a device's (TF32 operands, bfloat16 results, the tanh form of gelu), so that tests see
// it.
#include "../blas.hpp"

#include <cmath>
#include <type_traits>

#include "blas.hpp"
#include "graph.hpp"
#include "intrinsics.hpp"

namespace promptiqa::emulation {

cuda::DeviceTraits traits = {90, std::size_t{227} << 10, false, false, true};
bool fuses = true;
std::uint64_t fused_products = 0;

float round_to_tf32(float x) {
  const unsigned bits = __float_as_uint(x);
  if ((bits & 0x7F800000u) == 0x7F800000u) return x;
  return __uint_as_float((bits + 0x1000u) & ~0x1FFFu);  // to nearest, ties away from zero, as cvt.rna
}

}  // namespace promptiqa::emulation

namespace promptiqa::cuda {

namespace {

/// What a handle is: there is nothing else to keep in one.
struct Products {
  bool tf32, bf16, wgmma;
};

template <class T>
accumulate_t<T> operand(T x, bool tf32) {
  if constexpr (std::is_same_v<T, bfloat16>)
    return to_float(x);
  else if constexpr (std::is_same_v<T, float>)
    return tf32 ? emulation::round_to_tf32(x) : x;
  else
    return x;
}

template <class C, class A>
C rounded(A x) {
  if constexpr (std::is_same_v<C, bfloat16>)
    return to_bfloat16(x);
  else
    return static_cast<C>(x);
}
template <class A, class C>
A widened(C x) {
  if constexpr (std::is_same_v<C, bfloat16>)
    return to_float(x);
  else
    return static_cast<A>(x);
}

/// f(sum, row, column, entry) for every element of the product.
template <class T, class C, class F>
void for_each_sum(const MatrixProduct<T, C>& p, bool tf32, F&& f) {
  for (std::int64_t entry = 0; entry < p.batch; ++entry) {
    const T* a = p.a + entry * p.stride_a;
    const T* b = p.b + entry * p.stride_b;
    for (std::int64_t i = 0; i < p.m; ++i)
      for (std::int64_t j = 0; j < p.n; ++j) {
        accumulate_t<T> sum = 0;
        for (std::int64_t k = 0; k < p.k; ++k)
          sum += operand(p.transpose_a ? a[k * p.lda + i] : a[i * p.lda + k], tf32) *
                 operand(p.transpose_b ? b[j * p.ldb + k] : b[k * p.ldb + j], tf32);
        f(sum, i, j, entry);
      }
  }
}

}  // namespace

DeviceTraits device_traits(const Op& op) {
  DeviceTraits traits = emulation::traits;
  if (const auto* chosen = static_cast<const Products*>(op.queue.blas)) {
    traits.tf32 = traits.tf32 || chosen->tf32;
    traits.bf16 = traits.bf16 || chosen->bf16;
    traits.wgmma = traits.wgmma && chosen->wgmma;
  }
  return traits;
}
void set_products(const Op& op, bool tf32, bool bf16, bool wgmma) {
  static Products all[] = {{false, false, false}, {false, false, true}, {false, true, false}, {false, true, true},
                           {true, false, false},  {true, false, true},  {true, true, false},  {true, true, true}};
  op.queue.blas = &all[4 * tf32 + 2 * bf16 + wgmma];
}
void close_blas(Queue& queue) noexcept { queue.blas = nullptr; }

template <class T, class C>
void matrix_product(const Op& op, const MatrixProduct<T, C>& product) {
  using A = accumulate_t<T>;
  submit(op.queue, [p = product, tf32 = device_traits(op).tf32] {
    for_each_sum(p, tf32, [&](A sum, std::int64_t i, std::int64_t j, std::int64_t entry) {
      C& c = p.c[entry * p.stride_c + i * p.ldc + j];
      c = rounded<C>(p.beta == 0 ? p.alpha * sum : p.alpha * sum + p.beta * widened<A>(c));
    });
  });
}
template void matrix_product(const Op&, const MatrixProduct<float, float>&);
template void matrix_product(const Op&, const MatrixProduct<double, double>&);
template void matrix_product(const Op&, const MatrixProduct<bfloat16, bfloat16>&);
template void matrix_product(const Op&, const MatrixProduct<bfloat16, float>&);

template <class T>
bool fused_matrix_product(const Op& op, const MatrixProduct<T, T>& product, const T* bias, Activation activation,
                          const T* addend) {
  using A = accumulate_t<T>;
  if (!emulation::fuses || std::is_same_v<T, double>) return false;
  ++emulation::fused_products;
  submit(op.queue, [=, p = product, tf32 = device_traits(op).tf32] {
    for_each_sum(p, tf32, [&](A sum, std::int64_t i, std::int64_t j, std::int64_t) {
      A v = p.alpha * sum;
      if (bias) v += widened<A>(bias[j]);
      if (activation == Activation::relu) v = v < 0 ? A(0) : v;
      if (activation == Activation::gelu)
        v = v / 2 * (1 + std::tanh(A(0.7978845608028654) * (v + A(0.044715) * v * v * v)));
      if (p.beta != 0) v += p.beta * widened<A>(addend[i * p.ldc + j]);
      p.c[i * p.ldc + j] = rounded<T>(v);
    });
  });
  return true;
}
template bool fused_matrix_product(const Op&, const MatrixProduct<float, float>&, const float*, Activation,
                                   const float*);
template bool fused_matrix_product(const Op&, const MatrixProduct<double, double>&, const double*, Activation,
                                   const double*);
template bool fused_matrix_product(const Op&, const MatrixProduct<bfloat16, bfloat16>&, const bfloat16*, Activation,
                                   const bfloat16*);

}  // namespace promptiqa::cuda
