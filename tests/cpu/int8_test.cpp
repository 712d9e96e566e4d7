// The avx512_int8 backend: products with packed weights against the same rounding done in doubles.
// Surprising choice: integer sums are exact, so what is left between the kernel and the oracle is the rounding of three
// float operations and of the epilogue; no tolerance for quantisation is needed.
#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <limits>
#include <random>
#include <span>
#include <string>
#include <vector>

#include <promptiqa/core/context.hpp>
#include <promptiqa/ops/linear.hpp>

#include "catch.hpp"

using namespace promptiqa;

namespace {

/// True, with a notice, where this processor cannot run the backend.
bool missing() {
  std::string notice;
  if (cpu_backend(Precision::int8, &notice) == CpuBackend::avx512_int8) return false;
  WARN("not run: " << notice);
  CHECK((notice.find("avx512vnni") != std::string::npos || notice.find("x86-64") != std::string::npos));
  return true;
}

std::vector<float> random_values(std::int64_t count, unsigned seed) {
  std::mt19937 engine(seed);
  std::uniform_real_distribution<float> uniform(-2, 2);
  std::vector<float> values(static_cast<std::size_t>(count));
  for (float& v : values) v = uniform(engine);
  return values;
}

/// The 8-bit integers of `count` values a stride apart, and their scale.
struct Rounded {
  std::vector<double> q;
  double scale;
  Rounded(const float* values, std::int64_t count, std::int64_t stride) {
    float most = 0;
    for (std::int64_t i = 0; i < count; ++i) most = std::max(most, std::abs(values[i * stride]));
    const float inverse = most > 0 ? 127 / most : 0;
    for (std::int64_t i = 0; i < count; ++i)
      q.push_back(std::nearbyint(static_cast<double>(values[i * stride] * inverse)));
    scale = static_cast<double>(most) / 127;
  }
};

/// a (m, k) times weight^T for a weight (n, k), both rounded.
std::vector<double> product_of_rounded(const std::vector<float>& a, const std::vector<float>& weight, std::int64_t m,
                                       std::int64_t n, std::int64_t k) {
  std::vector<Rounded> columns;
  for (std::int64_t j = 0; j < n; ++j) columns.emplace_back(weight.data() + j * k, k, 1);
  std::vector<double> c;
  for (std::int64_t i = 0; i < m; ++i) {
    const Rounded row(a.data() + i * k, k, 1);
    for (const Rounded& column : columns) {
      double sum = 0;
      for (std::size_t kk = 0; kk < row.q.size(); ++kk) sum += row.q[kk] * column.q[kk];
      c.push_back(sum * row.scale * column.scale);
    }
  }
  return c;
}

// Whether every value is within four roundings of its size.
bool near(std::span<const float> got, const std::vector<double>& want) {
  if (got.size() != want.size()) return false;
  for (std::size_t i = 0; i < want.size(); ++i)
    if (!(std::abs(static_cast<double>(got[i]) - want[i]) <= 4 * 0x1p-24 * std::abs(want[i]) + 1e-30)) {
      UNSCOPED_INFO("element " << i << ": got " << got[i] << ", expected " << want[i]);
      return false;
    }
  return true;
}

}  // namespace

TEST_CASE("int8 is a precision that falls back to fp32") {
  std::string notice;
  const CpuBackend backend = cpu_backend(Precision::int8, &notice);
  CHECK((backend == CpuBackend::avx512_int8) == notice.empty());
  CHECK_NOTHROW(Context::cpu(1, backend));
  if (notice.empty()) {
    CHECK(Context::cpu(1, backend).kernels<float>().name == std::string("cpu avx512_int8"));
    CHECK(Context::cpu(1, backend).kernels<double>().name == std::string("cpu avx512"));
  }
}

TEST_CASE("int8 products are those of the rounded operands, whatever the sizes and the number of threads") {
  if (missing()) return;
  unsigned seed = 0;
  for (const std::int64_t m : {1, 10, 14, 15, 29, 200})
    for (const std::int64_t n : {1, 16, 17, 32, 33, 100})
      for (const std::int64_t k : {1, 3, 4, 17, 64, 130}) {
        INFO(m << " x " << n << " x " << k);
        const std::vector<float> a = random_values(m * k, ++seed), w = random_values(n * k, ++seed);
        const std::vector<double> want = product_of_rounded(a, w, m, n, k);
        std::vector<float> first;
        for (const int threads : {1, 2, 3}) {
          Context ctx = Context::cpu(threads, CpuBackend::avx512_int8);
          const Tensor<float> x = ctx.from<float>(Shape{m, k}, std::span<const float>(a));
          const Tensor<float> weight = ctx.from<float>(Shape{n, k}, std::span<const float>(w));
          const auto packed = PackedMatrix<float>::pack(ctx, weight, true);
          LinearEpilogue<float> epilogue;
          epilogue.packed = &packed;
          const Tensor<float> y = linear(ctx, x, weight, Tensor<float>(), epilogue);
          if (threads == 1) {
            CHECK(near(y.values(), want));
            first.assign(y.values().begin(), y.values().end());
          }
          CHECK(std::memcmp(y.data(), first.data(), first.size() * sizeof(float)) == 0);
        }
      }
}

TEST_CASE("int8 products large enough for blocks and threads") {
  if (missing()) return;
  const std::int64_t m = 450, n = 300, k = 1030;
  const std::vector<float> a = random_values(m * k, 5), w = random_values(n * k, 6);
  const std::vector<double> want = product_of_rounded(a, w, m, n, k);
  Context ctx = Context::cpu(2, CpuBackend::avx512_int8);
  const Tensor<float> weight = ctx.from<float>(Shape{n, k}, std::span<const float>(w));
  const auto packed = PackedMatrix<float>::pack(ctx, weight, true);
  LinearEpilogue<float> epilogue;
  epilogue.packed = &packed;
  CHECK(near(linear(ctx, ctx.from<float>(Shape{m, k}, std::span<const float>(a)), weight, Tensor<float>(), epilogue)
                 .values(),
             want));
}

TEST_CASE("int8 products take a matrix stored either way, a batch and every epilogue") {
  if (missing()) return;
  Context ctx = Context::cpu(2, CpuBackend::avx512_int8);
  const auto& kernels = ctx.kernels<float>();
  const std::int64_t m = 19, n = 37, k = 70, batch = 3;
  const std::vector<float> a = random_values(batch * m * k, 1), w = random_values(n * k, 2);
  const std::vector<float> bias = random_values(n, 3), residual = random_values(batch * m * n, 4);
  std::vector<float> w_plain(w.size()), a_turned(a.size());
  for (std::int64_t j = 0; j < n; ++j)
    for (std::int64_t kk = 0; kk < k; ++kk)
      w_plain[static_cast<std::size_t>(kk * n + j)] = w[static_cast<std::size_t>(j * k + kk)];
  for (std::int64_t b = 0; b < batch; ++b)
    for (std::int64_t i = 0; i < m; ++i)
      for (std::int64_t kk = 0; kk < k; ++kk)
        a_turned[static_cast<std::size_t>((b * k + kk) * m + i)] = a[static_cast<std::size_t>((b * m + i) * k + kk)];
  const std::vector<double> product = product_of_rounded(a, w, batch * m, n, k);

  for (const bool transpose_b : {false, true})
    for (const bool transpose_a : {false, true})
      for (const Activation activation : {Activation::none, Activation::relu, Activation::gelu}) {
        const std::size_t bytes = kernels.packed_bytes(k, n);
        const StorageRef packed = ctx.memory().allocate(bytes + 64);
        std::memset(packed->data, 0x5A, bytes + 64);
        kernels.pack_matrix(ctx.kernel_context(), {(transpose_b ? w : w_plain).data(), k, n, transpose_b ? k : n,
                                                   transpose_b, packed->data});
        for (std::size_t i = 0; i < 64; ++i) REQUIRE(static_cast<unsigned char*>(packed->data)[bytes + i] == 0x5A);
        const PackedMatrixView view{packed->data, k, n, kernels.packed_layout};
        std::vector<float> c = random_values(batch * m * n, 9);
        const std::vector<float> before = c;
        GemmArgs<float> args{};
        args.m = m, args.n = n, args.k = k, args.batch = batch;
        args.a = (transpose_a ? a_turned : a).data(), args.transpose_a = transpose_a;
        args.lda = transpose_a ? m : k, args.stride_a = m * k;
        args.packed_b = &view;
        args.c = c.data(), args.ldc = n, args.stride_c = m * n;
        args.alpha = 0.5f, args.beta = 2, args.bias = bias.data(), args.activation = activation;
        args.residual = residual.data();
        kernels.gemm(ctx.kernel_context(), args);
        double worst = 0;
        for (std::size_t i = 0; i < c.size(); ++i) {
          double v = 0.5 * product[i] + static_cast<double>(bias[i % static_cast<std::size_t>(n)]);
          if (activation == Activation::relu) v = std::max(0.0, v);
          if (activation == Activation::gelu) v = 0.5 * v * (1 + std::erf(v / std::sqrt(2.0)));
          v += static_cast<double>(residual[i]) + 2 * static_cast<double>(before[i]);
          const double error = std::abs(static_cast<double>(c[i]) - v);
          worst = std::isfinite(error) ? std::max(worst, error) : std::numeric_limits<double>::infinity();
        }
        INFO("b " << (transpose_b ? "transposed" : "plain") << ", a " << (transpose_a ? "transposed" : "plain"));
        CHECK(worst < 1e-4);  // values reach 100: a few roundings of such
      }
}

TEST_CASE("int8 keeps NaN and infinity in their row, and zeros zero") {
  if (missing()) return;
  Context ctx = Context::cpu(2, CpuBackend::avx512_int8);
  const std::int64_t m = 20, n = 40, k = 37;
  const std::vector<float> w = random_values(n * k, 2);
  const Tensor<float> weight = ctx.from<float>(Shape{n, k}, std::span<const float>(w));
  const auto packed = PackedMatrix<float>::pack(ctx, weight, true);
  LinearEpilogue<float> epilogue;
  epilogue.packed = &packed;
  for (const float bad : {std::numeric_limits<float>::quiet_NaN(), std::numeric_limits<float>::infinity(),
                          -std::numeric_limits<float>::infinity()})
    for (const std::int64_t at : {0, 15, 36}) {
      std::vector<float> a = random_values(m * k, 1);
      std::fill_n(a.begin() + 3 * k, k, 0.0f);
      std::fill_n(a.begin() + 4 * k, k, 1e-42f);  // its scale's inverse overflows
      a[static_cast<std::size_t>(7 * k + at)] = bad;
      const Tensor<float> y = linear(ctx, ctx.from<float>(Shape{m, k}, std::span<const float>(a)), weight,
                                     Tensor<float>(), epilogue);
      for (std::int64_t i = 0; i < m * n; ++i) {
        const float v = y.values()[static_cast<std::size_t>(i)];
        if (std::isfinite(v) == (i / n == 7)) FAIL("element " << i << " is " << v);
        if ((i / n == 3 || i / n == 4) && v != 0) FAIL("element " << i << " of a row of zeros is " << v);
      }
    }
}

TEST_CASE("int8 refuses what it cannot multiply") {
  if (missing()) return;
  Context ctx = Context::cpu(1, CpuBackend::avx512_int8), other = Context::cpu(1, CpuBackend::avx512);
  const auto& kernels = ctx.kernels<float>();
  const std::vector<float> a(8, 1.0f);
  std::vector<float> c(4);
  GemmArgs<float> args{};
  args.m = 2, args.n = 2, args.k = 4, args.batch = 1, args.a = a.data(), args.lda = 4, args.c = c.data(), args.ldc = 2;
  args.alpha = 1;
  PackedMatrixView view{a.data(), 4, 2, other.kernels<float>().packed_layout};
  args.packed_b = &view;
  CHECK_THROWS_WITH(kernels.gemm(ctx.kernel_context(), args), ContainsSubstring("layout"));
  view = {a.data(), 5, 2, kernels.packed_layout};
  CHECK_THROWS_WITH(kernels.gemm(ctx.kernel_context(), args), ContainsSubstring("(4, 2)"));
  view = {a.data(), 65537, 2, kernels.packed_layout};
  args.k = 65537;
  CHECK_THROWS_WITH(kernels.gemm(ctx.kernel_context(), args), ContainsSubstring("65536"));
}

TEST_CASE("int8 sums reach neither end of 32 bits at the largest k") {
  if (missing()) return;
  Context ctx = Context::cpu(2, CpuBackend::avx512_int8);
  const std::int64_t k = 65536;
  std::vector<float> a(2 * k, 1.0f), w(2 * k, 1.0f);
  std::fill_n(a.begin() + k, k, -1.0f);
  std::fill_n(w.begin() + k, k, -1.0f);
  const Tensor<float> weight = ctx.from<float>(Shape{2, k}, std::span<const float>(w));
  const auto packed = PackedMatrix<float>::pack(ctx, weight, true);
  LinearEpilogue<float> epilogue;
  epilogue.packed = &packed;
  const Tensor<float> y =
      linear(ctx, ctx.from<float>(Shape{2, k}, std::span<const float>(a)), weight, Tensor<float>(), epilogue);
  const double one = static_cast<double>(k);
  CHECK(near(y.values(), {one, -one, -one, one}));
}

TEST_CASE("int8 products of a batch whose matrices lie apart") {
  if (missing()) return;
  Context ctx = Context::cpu(2, CpuBackend::avx512_int8);
  const auto& kernels = ctx.kernels<float>();
  const std::int64_t m = 5, n = 18, k = 21, batch = 3, gap = 40;
  const std::vector<float> w = random_values(n * k, 2), rows = random_values(batch * m * k, 1);
  std::vector<float> a(static_cast<std::size_t>(batch * (m * k + gap)), std::numeric_limits<float>::quiet_NaN());
  for (std::int64_t b = 0; b < batch; ++b)
    std::copy_n(rows.begin() + b * m * k, m * k, a.begin() + b * (m * k + gap));
  const StorageRef packed = ctx.memory().allocate(kernels.packed_bytes(k, n));
  kernels.pack_matrix(ctx.kernel_context(), {w.data(), k, n, k, true, packed->data});
  const PackedMatrixView view{packed->data, k, n, kernels.packed_layout};
  std::vector<float> c(static_cast<std::size_t>(batch * m * n));
  GemmArgs<float> args{};
  args.m = m, args.n = n, args.k = k, args.batch = batch, args.a = a.data(), args.lda = k, args.stride_a = m * k + gap;
  args.packed_b = &view, args.c = c.data(), args.ldc = n, args.stride_c = m * n, args.alpha = 1;
  kernels.gemm(ctx.kernel_context(), args);
  CHECK(near(c, product_of_rounded(rows, w, batch * m, n, k)));
}

TEST_CASE("int8 packing shows bad weights, takes tiny ones for zeros and refuses too many") {
  if (missing()) return;
  Context ctx = Context::cpu(1, CpuBackend::avx512_int8);
  const std::int64_t n = 3, k = 5;
  std::vector<float> w(15, 1.0f);
  w[1] = std::numeric_limits<float>::quiet_NaN();
  for (std::int64_t kk = 0; kk < k; ++kk) w[static_cast<std::size_t>(k + kk)] = 1e-37f;
  const Tensor<float> weight = ctx.from<float>(Shape{n, k}, std::span<const float>(w));
  const auto packed = PackedMatrix<float>::pack(ctx, weight, true);
  LinearEpilogue<float> epilogue;
  epilogue.packed = &packed;
  const Tensor<float> y = linear(ctx, ctx.full<float>(Shape{1, k}, 3), weight, Tensor<float>(), epilogue);
  CHECK(std::isnan(y.values()[0]));
  CHECK(y.values()[1] == 0);
  CHECK(y.values()[2] == Approx(15));
  // Scales whose product is of ordinary size, though a sum times one of them is not.
  const Tensor<float> huge = ctx.full<float>(Shape{1, k}, 1e36f);
  const auto packed_huge = PackedMatrix<float>::pack(ctx, huge, true);
  epilogue.packed = &packed_huge;
  CHECK(linear(ctx, ctx.full<float>(Shape{1, k}, 2e-36f), huge, Tensor<float>(), epilogue).item() == Approx(10));
  const Tensor<float> long_weight = ctx.zeros<float>(Shape{1, 65537});
  CHECK_THROWS_WITH(PackedMatrix<float>::pack(ctx, long_weight, true), ContainsSubstring("65536"));
}
