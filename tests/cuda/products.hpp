// What the tests of products (gemm, attention, convolution) share: the emulated device's abilities, numbers, error
// bounds. Surprising choice: a sum's error bound is computed by the CPU's own kernel, run on the operands' absolute
// values.
#pragma once

#include <string>

#include "../../kernels/blas.hpp"
#include "tested_device.hpp"

namespace promptiqa_test {

using Numbers = std::vector<double>;

/// One way to compute: what the device can do, and the relative error of a product whose operands that device rounds.
struct Path {
  const char* name;
  cuda::DeviceTraits traits;
  double operand_error;
};
inline constexpr std::size_t much_shared = std::size_t{227} << 10;
inline const Path plain = {"plain", {75, much_shared, false}, 0};
inline const Path bf16_tensor_cores = {"bf16 tensor cores", {80, much_shared, false}, 0x1p-9};
inline const Path wgmma_tensor_cores = {"wgmma", {90, much_shared, false, false, true}, 0x1p-9};
inline const Path tf32_tensor_cores = {"tf32 tensor cores", {80, much_shared, true}, 0x1p-10};
inline const Path bf16_products = {"bf16 products of floats", {80, much_shared, true, true}, 0};
inline const Path little_shared = {"little shared memory", {75, std::size_t{1} << 10, false}, 0};

/// Numbers in (-1.73, 1.73) that T holds exactly.
template <class T>
Numbers numbers(std::int64_t count, std::uint32_t seed) {
  std::mt19937 generator(seed);
  Numbers values(static_cast<std::size_t>(count));
  for (double& v : values)
    v = to_double(from_double<T>(static_cast<float>((generator() / 4294967296.0 - 0.5) * 3.4641016)));
  return values;
}

inline Numbers absolute(Numbers values) {
  for (double& v : values) v = std::abs(v);
  return values;
}

/// Largest |got - want| / (unit * size + store * |want|); infinite for a NaN or a wrong length. No terms: exactly
/// equal.
inline double worst_ratio(const Numbers& got, const Numbers& want, const Numbers& size, double unit, double store) {
  if (got.size() != want.size() || size.size() != want.size()) return std::numeric_limits<double>::infinity();
  double worst = 0;
  for (std::size_t i = 0; i < got.size(); ++i) {
    const double ratio = std::abs(got[i] - want[i]) / (unit * size[i] + store * std::abs(want[i]) + 1e-300);
    if (!std::isfinite(ratio)) return std::numeric_limits<double>::infinity();
    worst = std::max(worst, ratio);
  }
  return worst;
}

/// The CPU's plain loops, in double.
inline Context& exact() {
  static Context ctx = Context::cpu(1, CpuBackend::eigen);
  return ctx;
}

/// a (m, k) b (k, n), or a b^T of b (n, k), row-major, by the CPU's loops.
inline Numbers exact_product(std::int64_t m, std::int64_t n, std::int64_t k, const Numbers& a, const Numbers& b,
                             bool transpose_b) {
  Numbers c(static_cast<std::size_t>(m * n));
  GemmArgs<double> args{};
  args.m = m, args.n = n, args.k = k, args.batch = 1, args.alpha = 1;
  args.a = a.data(), args.lda = k;
  args.b = b.data(), args.ldb = transpose_b ? k : n, args.transpose_b = transpose_b;
  args.c = c.data(), args.ldc = n;
  exact().kernels<double>().gemm(exact().kernel_context(), args);
  return c;
}

}  // namespace promptiqa_test
