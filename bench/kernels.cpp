// Speed of single kernels at the shapes the models use, for every CPU backend this processor runs.
// Surprising choice: kernels are called through the kernel table, without ops: what is timed is the body alone, on data
// that is as warm as its size allows.
#include <functional>
#include <string>
#include <vector>

#if PROMPTIQA_BENCH_OPENBLAS
#include <cblas.h>
#endif

#include "common.hpp"

namespace {

using namespace promptiqa;
using bench::random_values;

// Registers `body(state, ctx)` for each backend as GROUP/SHAPE/BACKEND. Time is wall-clock: several threads work.
void add(const std::string& name, const std::function<void(benchmark::State&, Context&)>& body) {
  for (const bench::Backend& backend : bench::backends())
    benchmark::RegisterBenchmark((name + "/" + backend.name).c_str(),
                                 [body, backend](benchmark::State& state) {
                                   Context ctx = bench::context(backend.id);
                                   body(state, ctx);
                                 })
        ->UseRealTime()
        ->Unit(benchmark::kMicrosecond);
}

// ---- matrix products ------------------------------------------------------------------------------------------------

// c = a b, a (m, k) and b (k, n), b given as a Linear's weight (n, k): packed before, as at inference, or plain, as in
// training.
void gemm(benchmark::State& state, Context& ctx, std::int64_t m, std::int64_t n, std::int64_t k, bool packed) {
  const KernelTable<float>& table = ctx.kernels<float>();
  const std::vector<float> a = random_values(m * k), b = random_values(n * k, 2), bias = random_values(n, 3);
  Tensor<float> c = ctx.allocate<float>(Shape{m, n});
  StorageRef storage;
  PackedMatrixView view{nullptr, k, n, table.packed_layout};
  if (packed) {
    storage = ctx.memory().allocate(table.packed_bytes(k, n));
    table.pack_matrix(ctx.kernel_context(), {b.data(), k, n, k, true, storage->data});
    view.data = storage->data;
  }
  GemmArgs<float> args{};
  args.m = m, args.n = n, args.k = k, args.batch = 1;
  args.a = a.data(), args.lda = k;
  args.b = packed ? nullptr : b.data(), args.ldb = k, args.transpose_b = true;
  args.packed_b = packed ? &view : nullptr;
  args.c = c.mutable_data(), args.ldc = n;
  args.alpha = 1, args.beta = 0;
  args.bias = bias.data(), args.activation = Activation::none;
  for (auto _ : state) {
    table.gemm(ctx.kernel_context(), args);
    benchmark::DoNotOptimize(c.mutable_data());
    benchmark::ClobberMemory();
  }
  bench::count_flops(state, 2.0 * static_cast<double>(m) * static_cast<double>(n) * static_cast<double>(k));
}

#if PROMPTIQA_BENCH_OPENBLAS
// The same product by OpenBLAS: what Eigen would reach with it behind (EIGEN_USE_BLAS). Its threads:
// OPENBLAS_NUM_THREADS; its kernels: OPENBLAS_CORETYPE, as it may not know a recent processor.
void gemm_openblas(benchmark::State& state, std::int64_t m, std::int64_t n, std::int64_t k) {
  openblas_set_num_threads(bench::threads());
  const std::vector<float> a = random_values(m * k), b = random_values(n * k, 2);
  std::vector<float> c(static_cast<std::size_t>(m * n));
  for (auto _ : state) {
    cblas_sgemm(CblasRowMajor, CblasNoTrans, CblasTrans, static_cast<int>(m), static_cast<int>(n), static_cast<int>(k),
                1.0f, a.data(), static_cast<int>(k), b.data(), static_cast<int>(k), 0.0f, c.data(),
                static_cast<int>(n));
    benchmark::DoNotOptimize(c.data());
    benchmark::ClobberMemory();
  }
  bench::count_flops(state, 2.0 * static_cast<double>(m) * static_cast<double>(n) * static_cast<double>(k));
  state.SetLabel(openblas_get_corename());
}
#endif

void add_gemm(const std::string& what, std::int64_t m, std::int64_t n, std::int64_t k, bool packed) {
  const std::string shape = std::to_string(m) + "x" + std::to_string(n) + "x" + std::to_string(k);
  add("gemm/" + what + "_" + shape + (packed ? "/packed" : "/plain"),
      [=](benchmark::State& state, Context& ctx) { gemm(state, ctx, m, n, k, packed); });
#if PROMPTIQA_BENCH_OPENBLAS
  benchmark::RegisterBenchmark(("gemm/" + what + "_" + shape + (packed ? "/packed" : "/plain") + "/openblas").c_str(),
                               [=](benchmark::State& state) { gemm_openblas(state, m, n, k); })
      ->UseRealTime()
      ->Unit(benchmark::kMicrosecond);
#endif
}

// ---- attention ------------------------------------------------------------------------------------------------------

// Self-attention of `batch` sequences, tokens x (q | k | v) rows as the model's qkv projection leaves them.
void attention(benchmark::State& state, Context& ctx, std::int64_t batch, std::int64_t tokens, std::int64_t heads,
               std::int64_t head_dim) {
  const std::int64_t width = heads * head_dim;
  const std::vector<float> qkv = random_values(batch * tokens * 3 * width);
  Tensor<float> o = ctx.allocate<float>(Shape{batch, tokens, width});
  AttentionArgs<float> args{};
  args.batch = batch, args.heads = heads, args.queries = args.keys = tokens, args.head_dim = head_dim;
  args.scale = 0.125f;
  args.q = qkv.data(), args.k = qkv.data() + width, args.v = qkv.data() + 2 * width;
  args.q_batch = args.k_batch = args.v_batch = tokens * 3 * width;
  args.q_head = args.k_head = args.v_head = head_dim;
  args.q_row = args.k_row = args.v_row = 3 * width;
  args.o = o.mutable_data(), args.o_batch = tokens * width, args.o_head = head_dim, args.o_row = width;
  for (auto _ : state) {
    ctx.kernels<float>().attention(ctx.kernel_context(), args);
    benchmark::DoNotOptimize(o.mutable_data());
    benchmark::ClobberMemory();
  }
  const double pairs = static_cast<double>(batch * heads) * static_cast<double>(tokens * tokens);
  bench::count_flops(state, 4.0 * pairs * static_cast<double>(head_dim));
}

void add_attention(const std::string& what, std::int64_t batch, std::int64_t tokens, std::int64_t heads,
                   std::int64_t head_dim) {
  add("attention/" + what + "_" + std::to_string(batch) + "x" + std::to_string(heads) + "x" + std::to_string(tokens) +
          "x" + std::to_string(head_dim),
      [=](benchmark::State& state, Context& ctx) { attention(state, ctx, batch, tokens, heads, head_dim); });
}

// ---- rows and elements ----------------------------------------------------------------------------------------------

void layer_norm(benchmark::State& state, Context& ctx, std::int64_t rows, std::int64_t columns) {
  const std::vector<float> x = random_values(rows * columns), weight = random_values(columns, 2),
                           bias = random_values(columns, 3);
  Tensor<float> y = ctx.allocate<float>(Shape{rows, columns});
  LayerNormArgs<float> args{};
  args.rows = rows, args.columns = columns, args.eps = 1e-6f;
  args.x = x.data(), args.weight = weight.data(), args.bias = bias.data(), args.y = y.mutable_data();
  for (auto _ : state) {
    ctx.kernels<float>().layer_norm(ctx.kernel_context(), args);
    benchmark::DoNotOptimize(y.mutable_data());
    benchmark::ClobberMemory();
  }
  bench::count_bytes(state, 8.0 * static_cast<double>(rows * columns));
}

void softmax(benchmark::State& state, Context& ctx, std::int64_t rows, std::int64_t columns) {
  const std::vector<float> x = random_values(rows * columns);
  Tensor<float> y = ctx.allocate<float>(Shape{rows, columns});
  const SoftmaxArgs<float> args{rows, columns, 1.0f, x.data(), y.mutable_data()};
  for (auto _ : state) {
    ctx.kernels<float>().softmax(ctx.kernel_context(), args);
    benchmark::DoNotOptimize(y.mutable_data());
    benchmark::ClobberMemory();
  }
  bench::count_bytes(state, 8.0 * static_cast<double>(rows * columns));
}

void gelu(benchmark::State& state, Context& ctx, std::int64_t count) {
  const std::vector<float> x = random_values(count);
  Tensor<float> y = ctx.allocate<float>(Shape{count});
  const UnaryArgs<float> args{UnaryKind::gelu, count, 1.0f, 0.0f, x.data(), y.mutable_data()};
  for (auto _ : state) {
    ctx.kernels<float>().unary(ctx.kernel_context(), args);
    benchmark::DoNotOptimize(y.mutable_data());
    benchmark::ClobberMemory();
  }
  bench::count_bytes(state, 8.0 * static_cast<double>(count));
}

void add_rows(const std::string& kernel, void (*body)(benchmark::State&, Context&, std::int64_t, std::int64_t),
              std::int64_t rows, std::int64_t columns) {
  add(kernel + "/" + std::to_string(rows) + "x" + std::to_string(columns),
      [=](benchmark::State& state, Context& ctx) { body(state, ctx, rows, columns); });
}

// ---- convolution ----------------------------------------------------------------------------------------------------

// Square images and kernels, one zero padding that keeps the size at stride 1.
struct Conv {
  std::int64_t batch, in_channels, out_channels, side, kernel, stride;
};

void conv2d(benchmark::State& state, Context& ctx, const Conv& s) {
  const std::int64_t pad = s.kernel / 2, out = (s.side + 2 * pad - s.kernel) / s.stride + 1;
  const std::vector<float> x = random_values(s.batch * s.in_channels * s.side * s.side),
                           weight = random_values(s.out_channels * s.in_channels * s.kernel * s.kernel, 2),
                           bias = random_values(s.out_channels, 3);
  Tensor<float> y = ctx.allocate<float>(Shape{s.batch, s.out_channels, out, out});
  const Conv2dGeometry geometry{s.batch,  s.in_channels, s.side,   s.side,   s.out_channels, out, out,
                                s.kernel, s.kernel,      s.stride, s.stride, pad,            pad};
  const Conv2dArgs<float> args{geometry, x.data(), weight.data(), bias.data(), y.mutable_data()};
  for (auto _ : state) {
    ctx.kernels<float>().conv2d(ctx.kernel_context(), args);
    benchmark::DoNotOptimize(y.mutable_data());
    benchmark::ClobberMemory();
  }
  bench::count_flops(state, 2.0 * static_cast<double>(y.numel()) *
                                static_cast<double>(s.in_channels * s.kernel * s.kernel));
}

void add_conv2d(const std::string& what, const Conv& s) {
  add("conv2d/" + what + "_" + std::to_string(s.batch) + "x" + std::to_string(s.in_channels) + "x" +
          std::to_string(s.side) + "_to_" + std::to_string(s.out_channels) + "_k" + std::to_string(s.kernel) + "s" +
          std::to_string(s.stride),
      [=](benchmark::State& state, Context& ctx) { conv2d(state, ctx, s); });
}

void add_all() {
  // m x n x k. base: 784 = 28 x 28 tokens, 785 with the class token, 768 wide; over the 4 views of a MAL 3072 and 3136.
  add_gemm("base_qkv", 785, 2304, 768, true);
  add_gemm("base_mlp", 785, 3072, 768, true);
  add_gemm("base_mlp_back", 785, 768, 3072, true);
  add_gemm("base_mal_channels", 784, 3072, 3072, true);
  add_gemm("base_mal_tokens", 768, 3136, 3136, true);
  // compact: 49 = 7 x 7 tokens, 128 wide, 4 views: 512; eight images at a time below.
  add_gemm("compact_qkv", 49, 384, 128, true);
  add_gemm("compact_mal", 49, 512, 512, true);
  add_gemm("compact_mal8", 392, 512, 512, true);
  // As in training, where weights change between products.
  add_gemm("base_mlp", 785, 3072, 768, false);
  add_gemm("square", 1024, 1024, 1024, false);
  add_gemm("square", 2048, 2048, 2048, true);
  add_gemm("square", 4096, 4096, 4096, true);

  add_attention("base_vit", 1, 785, 12, 64);
  add_attention("compact_vit", 8, 49, 4, 32);
  add_attention("prompt", 8, 11, 4, 32);

  add_rows("layer_norm", layer_norm, 785, 768);
  add_rows("layer_norm", layer_norm, 392, 128);
  add_rows("softmax", softmax, 3072, 784);
  add_rows("softmax", softmax, 512, 49);
  for (const std::int64_t count : {785 * 3072, 392 * 512})
    add("gelu/" + std::to_string(count),
        [=](benchmark::State& state, Context& ctx) { gelu(state, ctx, count); });

  add_conv2d("base_patch", {1, 3, 768, 224, 8, 8});
  add_conv2d("base_cnn", {1, 768, 256, 28, 5, 1});
  add_conv2d("compact_stem", {1, 24, 48, 112, 3, 2});
  add_conv2d("compact_cnn", {8, 128, 128, 7, 3, 1});
}

}  // namespace

int main(int argc, char** argv) { return bench::run(argc, argv, add_all); }
