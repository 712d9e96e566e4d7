// The avx512_bf16 backend: how operands are rounded, where NaN goes, and that threads change nothing.
// Surprising choice: rounding is seen through products with ones: one operand's value is then the whole result.
#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <limits>
#include <random>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include <promptiqa/core/context.hpp>
#include <promptiqa/cpu/gemm_pack.hpp>
#include <promptiqa/ops/conv2d.hpp>
#include <promptiqa/ops/linear.hpp>

#include "catch.hpp"

using namespace promptiqa;

namespace {

/// True, with a notice, where this processor cannot run the backend.
bool missing() {
  std::string notice;
  if (cpu_backend(Precision::bf16, &notice) == CpuBackend::avx512_bf16) return false;
  WARN("not run: " << notice);
  CHECK((notice.find("avx512bf16") != std::string::npos || notice.find("x86-64") != std::string::npos));
  return true;
}

}  // namespace

TEST_CASE("bf16 is a precision that falls back to fp32") {
  CHECK(cpu_backend(Precision::fp32) != CpuBackend::avx512_bf16);
  std::string notice;
  const CpuBackend backend = cpu_backend(Precision::bf16, &notice);
  CHECK((backend == CpuBackend::avx512_bf16) == notice.empty());
  CHECK_NOTHROW(Context::cpu(1, backend));
  CHECK(Context::cpu(1).kernels<float>().name != std::string("cpu avx512_bf16"));
}

TEST_CASE("bf16 rounds operands to nearest, ties to even") {
  if (missing()) return;
  Context ctx = Context::cpu(1, CpuBackend::avx512_bf16);
  const float inf = std::numeric_limits<float>::infinity();
  // bfloat16 keeps 7 bits after the leading one: neighbours of 1 are 2^-7 apart, ties lie at odd multiples of 2^-8.
  const std::vector<std::pair<float, float>> cases = {
      {1.0f, 1.0f},
      {1.0f + 0x1p-8f, 1.0f},                      // tie: down to even
      {1.0f + 3 * 0x1p-8f, 1.0f + 4 * 0x1p-8f},    // tie: up to even
      {1.0f + 0x1p-8f + 0x1p-20f, 1.0f + 0x1p-7f}, // just above a tie
      {1.0f + 3 * 0x1p-8f - 0x1p-20f, 1.0f + 0x1p-7f},
      {-1.0f - 3 * 0x1p-8f, -1.0f - 4 * 0x1p-8f},
      {3.0e38f, 0x1.C4p127f},
      {inf, inf},
      {-inf, -inf},
      {0.0f, 0.0f}};
  for (const bool transposed : {false, true})
    for (const auto& [value, rounded] : cases) {
      const Tensor<float> x = ctx.full<float>(Shape{1, 1}, value), one = ctx.full<float>(Shape{1, 1}, 1.0f);
      INFO(value << (transposed ? " on the right" : " on the left"));
      CHECK(matmul(ctx, transposed ? one : x, transposed ? x : one, false, transposed, 1.0).item() == rounded);
    }
}

TEST_CASE("bf16 keeps NaN in its row, whatever its payload") {
  if (missing()) return;
  Context ctx = Context::cpu(2, CpuBackend::avx512_bf16);
  for (const std::uint32_t bits : {0x7FC00000u, 0x7F800001u, 0xFFFFFFFFu, 0x7FFFFFFFu}) {
    Tensor<float> a = ctx.full<float>(Shape{20, 37}, 0.5f);
    const Tensor<float> b = ctx.full<float>(Shape{37, 40}, 0.25f);
    std::memcpy(a.mutable_data() + 7 * 37 + 36, &bits, sizeof(bits));
    const Tensor<float> c = matmul(ctx, a, b, false, false, 1.0);
    for (std::int64_t i = 0; i < c.numel(); ++i)
      if (std::isnan(c.values()[static_cast<std::size_t>(i)]) != (i / 40 == 7))
        FAIL("bits " << bits << ", element " << i);
  }
}

TEST_CASE("bf16 products are the same for any number of threads, packed or not") {
  if (missing()) return;
  std::mt19937_64 random(5);
  std::normal_distribution<float> normal;
  const std::int64_t m = 131, n = 203, k = 1501;
  std::vector<float> x(static_cast<std::size_t>(m * k)), w(static_cast<std::size_t>(n * k));
  for (float& v : x) v = normal(random);
  for (float& v : w) v = normal(random);
  std::vector<std::vector<float>> results;
  for (const int threads : {1, 2, 5}) {
    Context ctx = Context::cpu(threads, CpuBackend::avx512_bf16);
    const Tensor<float> a = ctx.from<float>(Shape{m, k}, std::span<const float>(x));
    const Tensor<float> weight = ctx.from<float>(Shape{n, k}, std::span<const float>(w));
    const PackedMatrix<float> packed = PackedMatrix<float>::pack(ctx, weight, true);
    CHECK(packed.fits(ctx));
    Context fp32 = Context::cpu(1, CpuBackend::avx512);
    CHECK_FALSE(packed.fits(fp32));
    for (const PackedMatrix<float>* p : {static_cast<const PackedMatrix<float>*>(nullptr), &packed}) {
      const Tensor<float> y = linear(ctx, a, weight, Tensor<float>(), {Activation::none, nullptr, p});
      results.emplace_back(y.values().begin(), y.values().end());
    }
  }
  for (const std::vector<float>& r : results) CHECK(r == results[0]);

  // An operand in [1, 2) is off by a uniform error of at most 2^-8, relative to itself 2^-8 / sqrt(3) * 0.7 = 0.0016 in
  // the mean square. A sum of 1501 products of unit normals is then off by sqrt(2 * 1501) * 0.0016 = 0.088 at one
  // deviation; the largest of 26,593 such errors is expected at 4.2 and allowed 6 deviations.
  double worst = 0;
  for (std::int64_t i = 0; i < m; ++i)
    for (std::int64_t j = 0; j < n; ++j) {
      double sum = 0;
      for (std::int64_t t = 0; t < k; ++t)
        sum += static_cast<double>(x[static_cast<std::size_t>(i * k + t)]) * w[static_cast<std::size_t>(j * k + t)];
      const double error = std::abs(results[0][static_cast<std::size_t>(i * n + j)] - sum);
      if (!(error <= worst)) worst = error;
    }
  CHECK(worst < 0.53);
  CHECK(worst > 1e-3);  // it did round
}

#if PROMPTIQA_X86_64
TEST_CASE("bf16 panels hold zeros where there is no lane and no k") {
  if (missing()) return;
  constexpr int panel = 14;
  for (const bool lanes_are_rows : {false, true})
    for (const std::int64_t k : {1, 2, 31, 33})
      for (const std::int64_t lanes : {1, 13, 14}) {
        const std::vector<float> source(static_cast<std::size_t>(k * lanes),
                                        1.0f);  // exact: a read behind it is caught
        std::vector<cpu::Bfloat16Pair> packed(static_cast<std::size_t>((k + 1) / 2 * panel), {0xFFFFFFFFu});
        cpu::pack_panel<float, cpu::Avx512Bf16, panel>(
            packed.data(), {source.data(), lanes_are_rows ? 1 : lanes, lanes_are_rows ? k : 1}, k, lanes);
        INFO(k << " x " << lanes << (lanes_are_rows ? " transposed" : ""));
        bool right = true;
        for (std::int64_t kk = 0; kk < (k + 1) / 2; ++kk)
          for (std::int64_t j = 0; j < panel; ++j) {
            const std::uint32_t low = j < lanes ? 0x3F80u : 0u, high = j < lanes && 2 * kk + 1 < k ? 0x3F800000u : 0u;
            right = right && packed[static_cast<std::size_t>(kk * panel + j)].bits == (low | high);
          }
        CHECK(right);
      }
}

namespace {

struct AttentionCase {
  std::int64_t batch, heads, queries, keys, dim;
  float scale;
};

/// The largest error of attention_bf16 in units of its bound. q, k and v are exact in bfloat16, so what is rounded are
/// the probabilities, each by at most 2^-8 of itself: o is off by 2^-8 sum p |v|, and by what float sums add.
double attention_error(const AttentionCase& t, int threads, std::vector<float>& o) {
  std::mt19937_64 random(static_cast<std::uint64_t>(t.queries * 1000 + t.keys));
  std::uniform_int_distribution<int> sixteenths(-32, 32);
  const std::int64_t row = t.heads * 3 * t.dim, tokens = std::max(t.queries, t.keys);  // (B, N, H, 3, D)
  std::vector<float> qkv(static_cast<std::size_t>(t.batch * tokens * row));
  for (float& x : qkv) x = static_cast<float>(sixteenths(random)) / 16;
  // v lies by itself, (H, B, N, D) with gaps, and some keys stand out: at the end, where a maximum may be forgotten.
  const std::int64_t v_row = t.dim + 3;
  std::vector<float> v(static_cast<std::size_t>(t.heads * t.batch * tokens * v_row), NAN);
  for (std::int64_t i = 0; i < t.heads * t.batch * tokens; ++i)
    for (std::int64_t d = 0; d < t.dim; ++d)
      v[static_cast<std::size_t>(i * v_row + d)] = static_cast<float>(sixteenths(random)) / 16;
  if (t.keys > 16)
    for (std::int64_t d = 0; d < t.dim; ++d) qkv[static_cast<std::size_t>((t.keys - 1) * row + t.dim + d)] *= 64;
  o.assign(static_cast<std::size_t>(t.batch * t.queries * t.heads * t.dim), NAN);
  std::vector<float> log_sum_exp(static_cast<std::size_t>(t.batch * t.heads * t.queries), NAN);
  AttentionArgs<float> args{};
  args.batch = t.batch, args.heads = t.heads, args.queries = t.queries, args.keys = t.keys, args.head_dim = t.dim;
  args.scale = t.scale;
  args.q = qkv.data(), args.k = args.q + t.dim, args.v = v.data();
  args.q_batch = args.k_batch = tokens * row, args.q_head = args.k_head = 3 * t.dim, args.q_row = args.k_row = row;
  args.v_batch = tokens * v_row, args.v_head = t.batch * tokens * v_row, args.v_row = v_row;
  args.o = o.data(), args.o_batch = t.queries * t.heads * t.dim, args.o_head = t.dim, args.o_row = t.heads * t.dim;
  args.log_sum_exp = log_sum_exp.data();
  Context ctx = Context::cpu(threads, CpuBackend::avx512_bf16);
  ctx.kernels<float>().attention(ctx.kernel_context(), args);

  double worst = 0;
  const auto meet = [&](double error, double bound) {
    if (!(error <= worst * bound)) worst = std::isfinite(error) && bound > 0 ? error / bound : INFINITY;  // NaN too
  };
  std::vector<double> p(static_cast<std::size_t>(t.keys));
  for (std::int64_t b = 0; b < t.batch; ++b)
    for (std::int64_t h = 0; h < t.heads; ++h)
      for (std::int64_t i = 0; i < t.queries; ++i) {
        const float* q = args.q + b * args.q_batch + h * args.q_head + i * row;
        double sum = 0, largest = -INFINITY;
        for (std::int64_t j = 0; j < t.keys; ++j) {
          const float* k = args.k + b * args.k_batch + h * args.k_head + j * row;
          double s = 0;
          for (std::int64_t d = 0; d < t.dim; ++d) s += static_cast<double>(q[d]) * k[d];
          p[static_cast<std::size_t>(j)] = s * t.scale;
          largest = std::max(largest, s * t.scale);
        }
        for (double& x : p) sum += x = std::exp(x - largest);
        meet(std::abs(log_sum_exp[static_cast<std::size_t>((b * t.heads + h) * t.queries + i)] - largest -
                      std::log(sum)),
             1e-5 * (1 + std::abs(largest)));
        for (std::int64_t d = 0; d < t.dim; ++d) {
          double value = 0, size = 0;
          for (std::int64_t j = 0; j < t.keys; ++j) {
            const double x = p[static_cast<std::size_t>(j)] / sum *
                             args.v[b * args.v_batch + h * args.v_head + j * v_row + d];
            value += x;
            size += std::abs(x);
          }
          meet(std::abs(args.o[b * args.o_batch + h * args.o_head + i * args.o_row + d] - value),
               size * 0x1.04p-8 + 1e-6);
        }
      }
  return worst;
}

}  // namespace

TEST_CASE("bf16 attention is within its rounding, for awkward sizes and any number of threads") {
  if (missing()) return;
  for (const AttentionCase& t : {AttentionCase{1, 1, 1, 1, 1, 1.0f}, AttentionCase{1, 1, 3, 2, 5, -0.5f},
                                 AttentionCase{2, 3, 15, 33, 32, 0.18f}, AttentionCase{1, 1, 211, 97, 64, 0.125f},
                                 AttentionCase{1, 3, 99, 64, 33, 0.1f}, AttentionCase{3, 4, 49, 49, 32, 0.2f},
                                 AttentionCase{1, 2, 197, 197, 128, 0.09f}, AttentionCase{1, 1, 14, 31, 130, 1.0f},
                                 AttentionCase{1, 2, 20, 40, 17, 0.2f}, AttentionCase{2, 1, 20, 40, 49, 1.0f}}) {
    INFO(t.batch << " x " << t.heads << " x " << t.queries << " x " << t.keys << " x " << t.dim);
    std::vector<float> one, several;
    const double error = attention_error(t, 1, one);
    CHECK(error <= 1);
    CHECK(attention_error(t, 3, several) <= 1);
    CHECK(one == several);
    // The bound is not so wide that fp32's error fills a hundredth of it.
    if (t.keys > 30 && t.scale > 0 && t.scale < 0.15f) CHECK(error > 0.01);
  }
}
#endif

TEST_CASE("bf16 convolutions round their operands, but not those of pixels or few channels") {
  if (missing()) return;
  Context ctx = Context::cpu(1, CpuBackend::avx512_bf16);
  const float tie = 1.0f + 0x1p-8f;  // rounds to 1
  for (const std::int64_t channels : {3, 31, 32, 33}) {
    const Tensor<float> x = ctx.full<float>(Shape{1, channels, 2, 2}, tie);
    const Tensor<float> weight = ctx.full<float>(Shape{1, channels, 1, 1}, 1);
    const float each = channels < 32 ? tie : 1.0f, want = static_cast<float>(channels) * each;
    INFO(channels << " channels");
    CHECK(conv2d(ctx, x, weight, Tensor<float>(), Conv2dOptions::square(1, 0)).values()[3] == want);
    const auto packed = PackedConv2d<float>::pack(ctx, weight, {});
    CHECK(conv2d(ctx, x, packed, Tensor<float>(), Conv2dOptions::square(1, 0)).values()[3] == want);
  }
}

TEST_CASE("bf16 convolutions are the convolutions of rounded operands, for awkward sizes and strides") {
  if (missing()) return;
  Context bf16 = Context::cpu(2, CpuBackend::avx512_bf16), exact = Context::cpu(1, CpuBackend::portable);
  // Multiples of 1/256 in [-2, 2): more bits than bfloat16 keeps.
  const auto draw = [](std::int64_t count, std::uint32_t state) {
    std::vector<float> values;
    for (std::int64_t i = 0; i < count; ++i) {
      state = state * 1664525u + 1013904223u;
      values.push_back(static_cast<float>(state >> 22) / 256 - 2);
    }
    return values;
  };
  const auto rounded = [](std::vector<float> values) {
    for (float& v : values) v = to_float(to_bfloat16(v));
    return values;
  };
  for (const std::int64_t channels : {32, 33, 70})
    for (const std::int64_t kernel : {1, 3, 5})
      for (const std::int64_t stride : {1, 2, 3}) {
        INFO(channels << " channels, kernel " << kernel << ", stride " << stride);
        const Shape in{2, channels, 9, 7}, shape{19, channels, kernel, kernel};
        const std::vector<float> x = draw(in.numel(), 1), w = draw(shape.numel(), 2);
        const auto options = Conv2dOptions::square(stride, kernel / 2);
        const auto tensor = [](Context& ctx, const Shape& s, const std::vector<float>& v) {
          return ctx.from<float>(s, std::span<const float>(v));
        };
        const Tensor<float> want = conv2d(exact, tensor(exact, in, rounded(x)), tensor(exact, shape, rounded(w)),
                                          Tensor<float>(), options);
        const Tensor<float> weight = tensor(bf16, shape, w), input = tensor(bf16, in, x);
        const Tensor<float> plain = conv2d(bf16, input, weight, Tensor<float>(), options);
        const Tensor<float> packed =
            conv2d(bf16, input, PackedConv2d<float>::pack(bf16, weight, {}), Tensor<float>(), options);
        REQUIRE(plain.shape() == want.shape());
        // Products are exact, at most 4; a sum of n of them is off by at most n rounding errors of its size.
        const double terms = static_cast<double>(channels * kernel * kernel), bound = terms * terms * 4 * 0x1p-24;
        double worst = 0, worst_packed = 0;
        for (std::int64_t i = 0; i < want.numel(); ++i) {
          const double y = want.data()[i];
          worst = std::max(worst, std::abs(plain.data()[i] - y));
          worst_packed = std::max(worst_packed, std::abs(packed.data()[i] - y));
        }
        CHECK(worst <= std::min(bound, 0.05));
        CHECK(worst_packed <= std::min(bound, 0.05));
      }
}
