// Speed of single kernels at the shapes the models use, for every CPU backend this processor runs and, in a program
// with CUDA, for a device in fp32, TF32 and bf16. Surprising choice: kernels are called through the kernel table,
// without ops: what is timed is the body alone, on data that is as warm as its size allows.
#include <string>
#include <type_traits>
#include <vector>

#if PROMPTIQA_BENCH_OPENBLAS
#include <cblas.h>
#endif

#include <promptiqa/image/prepare.hpp>

#include "common.hpp"
#include "shapes.hpp"
#if PROMPTIQA_BENCH_CUDA
#include "../kernels/blas.hpp"
#endif
#if PROMPTIQA_BENCH_CUDNN
#include "cudnn.hpp"
#endif

namespace {

using namespace promptiqa;
using bench::random_tensor;

constexpr benchmark::TimeUnit unit = benchmark::kMicrosecond;

// NAME/BACKEND for every backend that runs it, the baselines' rows between the CPU's and CUDA's.
template <class Body, class Baselines>
void add(const std::string& name, bool device_only, const Body& body, const Baselines& baselines) {
  if (!device_only)
    for (const bench::Backend& backend : bench::cpu_backends()) bench::add(name, backend, unit, body);
  for (const bench::Backend& backend : bench::cuda_backends()) {
    baselines(backend);
    bench::add(name, backend, unit, body);
  }
}

// A row of `name` whose body is a baseline's on the device of `backend`: NAME/LIBRARY_PRECISION.
template <class Body>
void add_baseline(const std::string& name, const std::string& library, bench::Backend backend, const Body& body) {
  backend.name = library + "_" + backend.precision;
  bench::add(name, backend, unit, body);
}

// bfloat16 without wgmma, to see what it is worth: NAME/mma_bf16. Where a device has none, the same as NAME/cuda_bf16.
template <class Body>
void add_without_wgmma(const std::string& name, bench::Backend backend, const Body& body) {
  if (backend.precision != "bf16") return;
  backend.wgmma = false;
  add_baseline(name, "mma", backend, body);
}

// The baseline of what is bound by memory: a copy that reads and writes as many bytes as the kernel does in all.
// `elements`: how many it moves, reading and writing counted.
void add_copy(const std::string& name, const bench::Backend& backend, double elements) {
#if PROMPTIQA_BENCH_CUDA
  add_baseline(name, "copy", backend, [=](benchmark::State& state, Context& ctx, auto type) {
    using T = decltype(type);
    const auto bytes = static_cast<std::size_t>(elements / 2) * sizeof(T);
    const StorageRef from = ctx.memory().allocate(bytes), to = ctx.memory().allocate(bytes);
    bench::measure(state, ctx, [&] { bench::copy_on_device(ctx, to->data, from->data, bytes); });
    bench::count_bytes(state, 2.0 * static_cast<double>(bytes));
  });
#else
  (void)name, (void)backend, (void)elements;
#endif
}

// ---- matrix products ------------------------------------------------------------------------------------------------

double flops(const bench::GemmShape& s) {
  return 2.0 * static_cast<double>(s.m) * static_cast<double>(s.n) * static_cast<double>(s.k);
}

#if PROMPTIQA_BENCH_OPENBLAS
// The same product by OpenBLAS: what Eigen would reach with it behind (EIGEN_USE_BLAS). Its threads:
// OPENBLAS_NUM_THREADS; its kernels: OPENBLAS_CORETYPE, as it may not know a recent processor.
void gemm_openblas(benchmark::State& state, const bench::GemmShape& s) {
  openblas_set_num_threads(bench::threads());
  const std::vector<float> a = bench::random_values(s.m * s.k), b = bench::random_values(s.n * s.k, 2);
  std::vector<float> c(static_cast<std::size_t>(s.m * s.n));
  for (auto _ : state) {
    cblas_sgemm(CblasRowMajor, CblasNoTrans, CblasTrans, static_cast<int>(s.m), static_cast<int>(s.n),
                static_cast<int>(s.k), 1.0f, a.data(), static_cast<int>(s.k), b.data(), static_cast<int>(s.k), 0.0f,
                c.data(), static_cast<int>(s.n));
    benchmark::DoNotOptimize(c.data());
    benchmark::ClobberMemory();
  }
  bench::count_flops(state, flops(s));
  state.SetLabel(openblas_get_corename());
}
#endif

// b is given as a Linear's weight (n, k): packed before, as at inference, or plain, as in training. With a bias.
void add_gemm(const bench::GemmShape& s) {
  const auto body = [s](benchmark::State& state, Context& ctx, auto type) {
    using T = decltype(type);
    const KernelTable<T>& table = ctx.kernels<T>();
    const auto a = random_tensor<T>(ctx, Shape{s.m, s.k}), b = random_tensor<T>(ctx, Shape{s.n, s.k}, 2);
    const auto bias = random_tensor<accumulate_t<T>>(ctx, Shape{s.n}, 3);
    Tensor<T> c = ctx.allocate<T>(Shape{s.m, s.n});
    StorageRef storage;
    PackedMatrixView view{nullptr, s.k, s.n, table.packed_layout};
    if (s.packed) {
      storage = ctx.memory().allocate(table.packed_bytes(s.k, s.n));
      table.pack_matrix(ctx.kernel_context(), {b.data(), s.k, s.n, s.k, true, storage->data});
      view.data = storage->data;
    }
    GemmArgs<T> args{};
    args.m = s.m, args.n = s.n, args.k = s.k, args.batch = 1;
    args.a = a.data(), args.lda = s.k;
    args.b = s.packed ? nullptr : b.data(), args.ldb = s.k, args.transpose_b = true;
    args.packed_b = s.packed ? &view : nullptr;
    args.c = c.mutable_data(), args.ldc = s.n;
    args.alpha = 1, args.beta = 0;
    args.bias = bias.data(), args.activation = Activation::none;
    bench::measure(state, ctx, [&] { table.gemm(ctx.kernel_context(), args); });
    bench::count_flops(state, flops(s));
  };
  const std::string name = "gemm/" + s.name();
  add(name, s.device_only, body, [&](const bench::Backend& backend) {
#if PROMPTIQA_BENCH_CUDA
    add_baseline(name, "cublas", backend, [s](benchmark::State& state, Context& ctx, auto type) {  // without a bias
      using T = decltype(type);
      const auto a = random_tensor<T>(ctx, Shape{s.m, s.k}), b = random_tensor<T>(ctx, Shape{s.n, s.k}, 2);
      Tensor<T> c = ctx.allocate<T>(Shape{s.m, s.n});
      const cuda::MatrixProduct<T, T> product = {
          s.m, s.n, s.k, 1, a.data(), s.k, 0, false, b.data(), s.k, 0, true, c.mutable_data(), s.n, 0, 1, 0};
      bench::measure(state, ctx, [&] { cuda::matrix_product(cuda::Op("bench", ctx.kernel_context()), product); });
      bench::count_flops(state, flops(s));
    });
#else
    (void)backend;
#endif
  });
#if PROMPTIQA_BENCH_OPENBLAS
  if (!s.device_only)
    benchmark::RegisterBenchmark((name + "/openblas").c_str(),
                                 [s](benchmark::State& state) { gemm_openblas(state, s); })
        ->UseRealTime()
        ->Unit(unit);
#endif
}

// ---- attention ------------------------------------------------------------------------------------------------------

// Tokens x (q | k | v) rows as the model's qkv projection leaves them.
template <class T>
struct AttentionData {
  Tensor<T> qkv, o, d_o, d_qkv;
  Tensor<accumulate_t<T>> log_sum_exp;
  AttentionArgs<T> args = {};

  AttentionData(Context& ctx, const bench::AttentionShape& s) {
    const std::int64_t width = s.heads * s.head_dim;
    qkv = random_tensor<T>(ctx, Shape{s.batch, s.tokens, 3 * width});
    o = ctx.allocate<T>(Shape{s.batch, s.tokens, width});
    args.batch = s.batch, args.heads = s.heads, args.queries = args.keys = s.tokens, args.head_dim = s.head_dim;
    args.scale = 0.125f;
    args.q = qkv.data(), args.k = qkv.data() + width, args.v = qkv.data() + 2 * width;
    args.q_batch = args.k_batch = args.v_batch = s.tokens * 3 * width;
    args.q_head = args.k_head = args.v_head = s.head_dim;
    args.q_row = args.k_row = args.v_row = 3 * width;
    args.o = o.mutable_data(), args.o_batch = s.tokens * width, args.o_head = s.head_dim, args.o_row = width;
  }
};

double products(const bench::AttentionShape& s) {  // operations of one of attention's matrix products
  return 2.0 * static_cast<double>(s.batch * s.heads) * static_cast<double>(s.tokens * s.tokens) *
         static_cast<double>(s.head_dim);
}

void add_attention(const bench::AttentionShape& s) {
  const auto forward = [s](benchmark::State& state, Context& ctx, auto type) {
    using T = decltype(type);
    const AttentionData<T> data(ctx, s);
    bench::measure(state, ctx, [&] { ctx.kernels<T>().attention(ctx.kernel_context(), data.args); });
    bench::count_flops(state, 2 * products(s));
  };
  const auto backward = [s](benchmark::State& state, Context& ctx, auto type) {
    using T = decltype(type);
    AttentionData<T> data(ctx, s);
    const std::int64_t width = s.heads * s.head_dim;
    data.log_sum_exp = ctx.allocate<accumulate_t<T>>(Shape{s.batch, s.heads, s.tokens});
    data.args.log_sum_exp = data.log_sum_exp.mutable_data();
    ctx.kernels<T>().attention(ctx.kernel_context(), data.args);
    const auto d_o = random_tensor<T>(ctx, data.o.shape(), 2);
    Tensor<T> d_qkv = ctx.allocate<T>(data.qkv.shape());
    AttentionBackwardArgs<T> args = {data.args, d_o.data(), d_qkv.mutable_data(), d_qkv.mutable_data() + width,
                                     d_qkv.mutable_data() + 2 * width};
    bench::measure(state, ctx, [&] { ctx.kernels<T>().attention_backward(ctx.kernel_context(), args); });
    bench::count_flops(state, 5 * products(s));  // what is done again is not counted
  };
  const std::string forward_name = "attention/" + s.name(), backward_name = "attention_backward/" + s.name();
  add(forward_name, s.device_only, forward,
      [&](const bench::Backend& backend) { add_without_wgmma(forward_name, backend, forward); });
  add(backward_name, s.device_only, backward,
      [&](const bench::Backend& backend) { add_without_wgmma(backward_name, backend, backward); });
}

// softmax(q k^T) v by products: no head is as wide as a MAL's one.
void add_wide_attention(const bench::WideAttentionShape& s) {
  add(
      "wide_attention/" + s.name(), s.device_only,
      [s](benchmark::State& state, Context& ctx, auto type) {
        using T = decltype(type);
        const auto q = random_tensor<T>(ctx, Shape{s.batch, s.rows, s.width}), k = random_tensor<T>(ctx, q.shape(), 2),
                   v = random_tensor<T>(ctx, q.shape(), 3);
        Tensor<T> scores = ctx.allocate<T>(Shape{s.batch, s.rows, s.rows}), y = ctx.allocate<T>(q.shape());
        GemmArgs<T> first{};
        first.m = first.n = s.rows, first.k = s.width, first.batch = s.batch;
        first.a = q.data(), first.lda = s.width, first.stride_a = s.rows * s.width;
        first.b = k.data(), first.ldb = s.width, first.stride_b = s.rows * s.width, first.transpose_b = true;
        first.c = scores.mutable_data(), first.ldc = s.rows, first.stride_c = s.rows * s.rows;
        first.alpha = 1, first.activation = Activation::none;
        GemmArgs<T> second = first;
        second.n = s.width, second.k = s.rows;
        second.a = scores.data(), second.lda = s.rows, second.stride_a = s.rows * s.rows;
        second.b = v.data(), second.transpose_b = false;
        second.c = y.mutable_data(), second.ldc = s.width, second.stride_c = s.rows * s.width;
        const SoftmaxArgs<T> softmax{s.batch * s.rows, s.rows, accumulate_t<T>(0.02), scores.data(),
                                     scores.mutable_data()};
        bench::measure(state, ctx, [&] {
          const KernelTable<T>& table = ctx.kernels<T>();
          table.gemm(ctx.kernel_context(), first);
          table.softmax(ctx.kernel_context(), softmax);
          table.gemm(ctx.kernel_context(), second);
        });
        bench::count_flops(state, 4.0 * static_cast<double>(s.batch * s.rows * s.rows) * static_cast<double>(s.width));
      },
      [](const bench::Backend&) {});
}

// ---- rows and elements ----------------------------------------------------------------------------------------------

template <class T>
void count_moved(benchmark::State& state, double elements) {
  bench::count_bytes(state, elements * static_cast<double>(sizeof(T)));
}

// Rows of a kernel that is bound by memory. `body` makes its data and calls timed(work) once; `moved`: elements it
// reads and writes.
template <class Body>
void add_moving(const std::string& name, bool device_only, double moved, const Body& body) {
  add(
      name, device_only,
      [=](benchmark::State& state, Context& ctx, auto type) {
        body(ctx, type, [&](const auto& work) { bench::measure(state, ctx, work); });
        count_moved<decltype(type)>(state, moved);
      },
      [&](const bench::Backend& backend) { add_copy(name, backend, moved); });
}

void add_layer_norm(const bench::RowShape& s) {
  const double elements = static_cast<double>(s.rows * s.columns);
  add_moving("layer_norm/" + s.name(), s.device_only, 2 * elements, [s](Context& ctx, auto type, const auto& timed) {
    using T = decltype(type);
    using A = accumulate_t<T>;
    const auto x = random_tensor<T>(ctx, Shape{s.rows, s.columns});
    const auto weight = random_tensor<A>(ctx, Shape{s.columns}, 2), bias = random_tensor<A>(ctx, Shape{s.columns}, 3);
    Tensor<T> y = ctx.allocate<T>(x.shape());
    const LayerNormArgs<T> args = {s.rows,      s.columns,        A(1e-6), x.data(), weight.data(),
                                   bias.data(), y.mutable_data(), nullptr, nullptr};
    timed([&] { ctx.kernels<T>().layer_norm(ctx.kernel_context(), args); });
  });
  add_moving("layer_norm_backward/" + s.name(), s.device_only, 3 * elements,
             [s](Context& ctx, auto type, const auto& timed) {
               using T = decltype(type);
               using A = accumulate_t<T>;
               const auto x = random_tensor<T>(ctx, Shape{s.rows, s.columns}), dy = random_tensor<T>(ctx, x.shape(), 2);
               const auto weight = random_tensor<A>(ctx, Shape{s.columns}, 3);
               const Tensor<A> mean = ctx.full<A>(Shape{s.rows}, A(0)), rstd = ctx.full<A>(Shape{s.rows}, A(1));
               Tensor<T> dx = ctx.allocate<T>(x.shape());
               Tensor<A> dweight = ctx.allocate<A>(weight.shape()), dbias = ctx.allocate<A>(weight.shape());
               const LayerNormBackwardArgs<T> args = {s.rows,
                                                      s.columns,
                                                      x.data(),
                                                      dy.data(),
                                                      weight.data(),
                                                      mean.data(),
                                                      rstd.data(),
                                                      dx.mutable_data(),
                                                      dweight.mutable_data(),
                                                      dbias.mutable_data()};
               timed([&] { ctx.kernels<T>().layer_norm_backward(ctx.kernel_context(), args); });
             });
}

void add_softmax(const bench::RowShape& s) {
  const double moved = 2.0 * static_cast<double>(s.rows * s.columns);
  add_moving("softmax/" + s.name(), s.device_only, moved, [s](Context& ctx, auto type, const auto& timed) {
    using T = decltype(type);
    const auto x = random_tensor<T>(ctx, Shape{s.rows, s.columns});
    Tensor<T> y = ctx.allocate<T>(x.shape());
    const SoftmaxArgs<T> args{s.rows, s.columns, 1, x.data(), y.mutable_data()};
    timed([&] { ctx.kernels<T>().softmax(ctx.kernel_context(), args); });
  });
}

void add_gelu(const bench::RowShape& s) {
  const std::int64_t count = s.rows * s.columns;
  add_moving("gelu/" + std::to_string(count), s.device_only, 2.0 * static_cast<double>(count),
             [count](Context& ctx, auto type, const auto& timed) {
               using T = decltype(type);
               const auto x = random_tensor<T>(ctx, Shape{count});
               Tensor<T> y = ctx.allocate<T>(x.shape());
               const UnaryArgs<T> args{UnaryKind::gelu, count, 1, 0, x.data(), y.mutable_data()};
               timed([&] { ctx.kernels<T>().unary(ctx.kernel_context(), args); });
             });
}

void add_softmax_backward(const bench::RowShape& s) {
  const double elements = static_cast<double>(s.rows * s.columns);
  add_moving("softmax_backward/" + s.name(), s.device_only, 3 * elements,
             [s](Context& ctx, auto type, const auto& timed) {
               using T = decltype(type);
               const auto y = random_tensor<T>(ctx, Shape{s.rows, s.columns}), dy = random_tensor<T>(ctx, y.shape(), 2);
               Tensor<T> dx = ctx.allocate<T>(y.shape());
               const SoftmaxBackwardArgs<T> args{s.rows, s.columns, 1, y.data(), dy.data(), dx.mutable_data()};
               timed([&] { ctx.kernels<T>().softmax_backward(ctx.kernel_context(), args); });
             });
}

void add_gelu_backward(const bench::RowShape& s) {
  const std::int64_t count = s.rows * s.columns;
  add_moving("gelu_backward/" + std::to_string(count), s.device_only, 3 * static_cast<double>(count),
             [count](Context& ctx, auto type, const auto& timed) {
               using T = decltype(type);
               const auto x = random_tensor<T>(ctx, Shape{count}), dy = random_tensor<T>(ctx, x.shape(), 2);
               Tensor<T> dx = ctx.allocate<T>(x.shape());
               const UnaryBackwardArgs<T> args{UnaryKind::gelu,  count, 1, x.data(), nullptr, dy.data(),
                                               dx.mutable_data()};
               timed([&] { ctx.kernels<T>().unary_backward(ctx.kernel_context(), args); });
             });
}

// In training: with statistics of the batch, read twice and counted once.
void add_batch_norm(const bench::MapShape& s) {
  const std::int64_t area = s.side * s.side;
  const double elements = static_cast<double>(s.batch * s.channels * area);
  add_moving("batch_norm/" + s.name(), s.device_only, 2 * elements, [=](Context& ctx, auto type, const auto& timed) {
    using T = decltype(type);
    using A = accumulate_t<T>;
    const auto x = random_tensor<T>(ctx, Shape{s.batch, s.channels, s.side, s.side});
    const Shape channels{s.channels};
    const auto weight = random_tensor<A>(ctx, channels, 2), bias = random_tensor<A>(ctx, channels, 3);
    Tensor<A> running_mean = ctx.full<A>(channels, A(0)), running_var = ctx.full<A>(channels, A(1)),
              mean = ctx.allocate<A>(channels), rstd = ctx.allocate<A>(channels);
    Tensor<T> y = ctx.allocate<T>(x.shape());
    const BatchNormArgs<T> args{s.batch,
                                s.channels,
                                area,
                                A(1e-5),
                                A(0.1),
                                true,
                                x.data(),
                                weight.data(),
                                bias.data(),
                                running_mean.mutable_data(),
                                running_var.mutable_data(),
                                y.mutable_data(),
                                mean.mutable_data(),
                                rstd.mutable_data()};
    timed([&] { ctx.kernels<T>().batch_norm(ctx.kernel_context(), args); });
  });
  add_moving("batch_norm_backward/" + s.name(), s.device_only, 3 * elements,
             [=](Context& ctx, auto type, const auto& timed) {
               using T = decltype(type);
               using A = accumulate_t<T>;
               const auto x = random_tensor<T>(ctx, Shape{s.batch, s.channels, s.side, s.side}),
                          dy = random_tensor<T>(ctx, x.shape(), 2);
               const Shape channels{s.channels};
               const auto weight = random_tensor<A>(ctx, channels, 3);
               const Tensor<A> mean = ctx.full<A>(channels, A(0)), rstd = ctx.full<A>(channels, A(1));
               Tensor<A> dweight = ctx.allocate<A>(channels), dbias = ctx.allocate<A>(channels);
               Tensor<T> dx = ctx.allocate<T>(x.shape());
               const BatchNormBackwardArgs<T> args{s.batch,
                                                   s.channels,
                                                   area,
                                                   true,
                                                   x.data(),
                                                   dy.data(),
                                                   weight.data(),
                                                   mean.data(),
                                                   rstd.data(),
                                                   dx.mutable_data(),
                                                   dweight.mutable_data(),
                                                   dbias.mutable_data()};
               timed([&] { ctx.kernels<T>().batch_norm_backward(ctx.kernel_context(), args); });
             });
}

void add_avg_pool2d(const bench::MapShape& s) {
  const std::int64_t half = s.side / 2, planes = s.batch * s.channels;
  const double moved = static_cast<double>(planes * (s.side * s.side + half * half));
  add_moving("avg_pool2d/" + s.name(), s.device_only, moved, [=](Context& ctx, auto type, const auto& timed) {
    using T = decltype(type);
    const auto x = random_tensor<T>(ctx, Shape{planes, s.side, s.side});
    Tensor<T> y = ctx.allocate<T>(Shape{planes, half, half});
    const AvgPool2dArgs<T> args{planes, s.side, s.side, half, half, 2, x.data(), y.mutable_data()};
    timed([&] { ctx.kernels<T>().avg_pool2d(ctx.kernel_context(), args); });
  });
  add_moving("avg_pool2d_backward/" + s.name(), s.device_only, moved, [=](Context& ctx, auto type, const auto& timed) {
    using T = decltype(type);
    const auto dy = random_tensor<T>(ctx, Shape{planes, half, half});
    Tensor<T> dx = ctx.allocate<T>(Shape{planes, s.side, s.side});
    const AvgPool2dBackwardArgs<T> args{planes, s.side, s.side, half, half, 2, dy.data(), dx.mutable_data()};
    timed([&] { ctx.kernels<T>().avg_pool2d_backward(ctx.kernel_context(), args); });
  });
}

void add_rearrangements(const bench::RowShape& s) {
  const double elements = static_cast<double>(s.rows * s.columns);
  add_moving("transpose/" + s.name(), s.device_only, 2 * elements, [s](Context& ctx, auto type, const auto& timed) {
    using T = decltype(type);
    const auto x = random_tensor<T>(ctx, Shape{s.rows, s.columns});
    Tensor<T> y = ctx.allocate<T>(Shape{s.columns, s.rows});
    const PermuteArgs<T> args{2, {s.rows, s.columns}, {1, 0}, x.data(), y.mutable_data()};
    timed([&] { ctx.kernels<T>().permute(ctx.kernel_context(), args); });
  });
  // Into rows of four times the width: a MAL's maps beside each other.
  add_moving("copy_rows/" + s.name(), s.device_only, 2 * elements, [s](Context& ctx, auto type, const auto& timed) {
    using T = decltype(type);
    const auto x = random_tensor<T>(ctx, Shape{s.rows, s.columns});
    Tensor<T> y = ctx.allocate<T>(Shape{s.rows, 4 * s.columns});
    const CopyRowsArgs<T> args{s.rows, s.columns, s.columns, 4 * s.columns, x.data(), y.mutable_data()};
    timed([&] { ctx.kernels<T>().copy_rows(ctx.kernel_context(), args); });
  });
  add_moving("column_sum/" + s.name(), s.device_only, elements, [s](Context& ctx, auto type, const auto& timed) {
    using T = decltype(type);
    const auto x = random_tensor<T>(ctx, Shape{s.rows, s.columns});
    Tensor<accumulate_t<T>> y = ctx.allocate<accumulate_t<T>>(Shape{s.columns});
    timed([&] { ctx.kernels<T>().column_sum(ctx.kernel_context(), {s.rows, s.columns, x.data(), y.mutable_data()}); });
  });
}

// Sums of two tensors, and products of one with factors that are broadcast: one for each column, one for each row, one
// for all (a MAL's gamma).
void add_binary(const bench::RowShape& s) {
  const std::int64_t count = s.rows * s.columns;
  const auto add_kind = [s](const std::string& what, BinaryKind kind, std::int64_t factors, std::int64_t row_stride,
                            std::int64_t column_stride) {
    const double moved = static_cast<double>(2 * s.rows * s.columns + factors);
    add_moving(what + "/" + s.name(), s.device_only, moved, [=](Context& ctx, auto type, const auto& timed) {
      using T = decltype(type);
      const auto a = random_tensor<T>(ctx, Shape{s.rows, s.columns}), b = random_tensor<T>(ctx, Shape{factors}, 2);
      Tensor<T> y = ctx.allocate<T>(a.shape());
      const BinaryArgs<T> args{kind,     2,        {s.rows, s.columns}, {s.columns, 1}, {row_stride, column_stride},
                               a.data(), b.data(), y.mutable_data()};
      timed([&] { ctx.kernels<T>().binary(ctx.kernel_context(), args); });
    });
  };
  add_kind("add", BinaryKind::add, count, s.columns, 1);
  add_kind("multiply_columns", BinaryKind::multiply, s.columns, 0, 1);
  add_kind("multiply_rows", BinaryKind::multiply, s.rows, 1, 0);
  add_kind("multiply_one", BinaryKind::multiply, 1, 0, 0);
}

// All rows in another order, their gradients back, and one row repeated.
void add_selections(const bench::RowShape& s) {
  const double elements = static_cast<double>(s.rows * s.columns);
  const auto backwards = [s] {
    std::vector<std::int64_t> index;
    for (std::int64_t row = s.rows; row-- > 0;) index.push_back(row);
    return index;
  };
  add_moving("index_select/" + s.name(), s.device_only, 2 * elements, [=](Context& ctx, auto type, const auto& timed) {
    using T = decltype(type);
    const std::vector<std::int64_t> index = backwards();
    const auto x = random_tensor<T>(ctx, Shape{s.rows, s.columns});
    Tensor<T> y = ctx.allocate<T>(x.shape());
    const IndexSelectArgs<T> args{1, s.rows, s.columns, s.rows, index.data(), x.data(), y.mutable_data()};
    timed([&] { ctx.kernels<T>().index_select(ctx.kernel_context(), args); });
  });
  add_moving("index_select_backward/" + s.name(), s.device_only, 2 * elements,
             [=](Context& ctx, auto type, const auto& timed) {
               using T = decltype(type);
               const std::vector<std::int64_t> index = backwards();
               const auto dy = random_tensor<T>(ctx, Shape{s.rows, s.columns});
               Tensor<T> dx = ctx.allocate<T>(dy.shape());
               const IndexSelectBackwardArgs<T> args{1,         s.rows,           s.columns, s.rows, index.data(),
                                                     dy.data(), dx.mutable_data()};
               timed([&] { ctx.kernels<T>().index_select_backward(ctx.kernel_context(), args); });
             });
  add_moving("expand/" + s.name(), s.device_only, elements + static_cast<double>(s.columns),
             [s](Context& ctx, auto type, const auto& timed) {
               using T = decltype(type);
               const auto x = random_tensor<T>(ctx, Shape{s.columns});
               Tensor<T> y = ctx.allocate<T>(Shape{s.rows, s.columns});
               const ExpandArgs<T> args{1, s.rows, s.columns, 1, x.data(), y.mutable_data()};
               timed([&] { ctx.kernels<T>().expand(ctx.kernel_context(), args); });
             });
}

void add_parameters(std::int64_t count) {
  const bool device_only = count > 4 << 20;
  const double elements = static_cast<double>(count);
  // Reads four, writes three of them.
  add_moving("adam_step/" + std::to_string(count), device_only, 7 * elements,
             [count](Context& ctx, auto type, const auto& timed) {
               using T = decltype(type);
               using A = accumulate_t<T>;
               const auto gradient = random_tensor<T>(ctx, Shape{count});
               auto parameter = random_tensor<T>(ctx, Shape{count}, 2);
               Tensor<T> m = ctx.full<T>(Shape{count}, T{}), v = ctx.full<T>(Shape{count}, T{});
               const AdamStepArgs<T> args{count,
                                          A(1e-5),
                                          A(0.9),
                                          A(0.999),
                                          A(1e-8),
                                          A(1e-2),
                                          true,
                                          A(1),
                                          A(1),
                                          A(1),
                                          gradient.data(),
                                          parameter.mutable_data(),
                                          m.mutable_data(),
                                          v.mutable_data()};
               timed([&] { ctx.kernels<T>().adam_step(ctx.kernel_context(), args); });
             });
  add_moving(
      "sum_of_squares/" + std::to_string(count), device_only, elements,
      [count](Context& ctx, auto type, const auto& timed) {
        using T = decltype(type);
        const auto x = random_tensor<T>(ctx, Shape{count});
        Tensor<double> sum = ctx.full<double>(Shape{1}, 0.0);
        timed([&] { ctx.kernels<T>().sum_of_squares(ctx.kernel_context(), {count, x.data(), sum.mutable_data()}); });
      });
}

// ---- convolution ----------------------------------------------------------------------------------------------------

template <class T>
struct ConvData {
  Conv2dGeometry geometry;
  Tensor<T> x, weight, y;
  Tensor<accumulate_t<T>> bias;

  ConvData(Context& ctx, const bench::ConvShape& s)
      : geometry{s.batch,  s.in_channels, s.side,   s.side,   s.out_channels, s.out_side(), s.out_side(),
                 s.kernel, s.kernel,      s.stride, s.stride, s.padding(),    s.padding()},
        x(random_tensor<T>(ctx, Shape{s.batch, s.in_channels, s.side, s.side})),
        weight(random_tensor<T>(ctx, Shape{s.out_channels, s.in_channels, s.kernel, s.kernel}, 2)),
        y(random_tensor<T>(ctx, Shape{s.batch, s.out_channels, s.out_side(), s.out_side()}, 3)),
        bias(random_tensor<accumulate_t<T>>(ctx, Shape{s.out_channels}, 4)) {}
};

double flops(const bench::ConvShape& s) {
  return 2.0 * static_cast<double>(s.batch * s.out_channels * s.out_side() * s.out_side()) *
         static_cast<double>(s.in_channels * s.kernel * s.kernel);
}

void add_conv2d(const bench::ConvShape& s) {
  const auto cudnn = [&s](const std::string& name, int pass) {
    return [&s, name, pass](const bench::Backend& backend) {
#if PROMPTIQA_BENCH_CUDNN
      const bool tf32 = backend.precision == "tf32";
      add_baseline(name, "cudnn", backend, [s, pass, tf32](benchmark::State& state, Context& ctx, auto type) {
        using T = decltype(type);
        ConvData<T> data(ctx, s);
        const bench::Cudnn<T> baseline(ctx, data.geometry, tf32, static_cast<typename bench::Cudnn<T>::Pass>(pass));
        bench::measure(state, ctx,
                       [&] { baseline.run(data.x.mutable_data(), data.weight.mutable_data(), data.y.mutable_data()); });
        bench::count_flops(state, flops(s));
      });
#else
      (void)s, (void)name, (void)pass, (void)backend;
#endif
    };
  };
  const auto pass = [&](const std::string& what, int number, const auto& run) {
    const std::string name = what + "/" + s.name();
    const auto body = [s, run](benchmark::State& state, Context& ctx, auto type) {
      using T = decltype(type);
      ConvData<T> data(ctx, s);
      bench::measure(state, ctx, [&] { run(ctx.kernels<T>(), ctx.kernel_context(), data); });
      bench::count_flops(state, flops(s));
    };
    add(name, s.device_only, body, [&](const bench::Backend& backend) {
      cudnn(name, number)(backend);
      add_without_wgmma(name, backend, body);
    });
  };
  pass("conv2d", 0, [](const auto& kernels, const KernelContext& kc, auto& d) {
    kernels.conv2d(kc, {d.geometry, d.x.data(), d.weight.data(), d.bias.data(), d.y.mutable_data()});
  });
  pass("conv2d_backward_data", 1, [](const auto& kernels, const KernelContext& kc, auto& d) {
    kernels.conv2d_backward_data(kc, {d.geometry, d.y.data(), d.weight.data(), d.x.mutable_data()});
  });
  pass("conv2d_backward_weight", 2, [](const auto& kernels, const KernelContext& kc, auto& d) {
    kernels.conv2d_backward_weight(kc, {d.geometry, d.y.data(), d.x.data(), d.weight.mutable_data(), nullptr});
  });
}

// ---- photographs ----------------------------------------------------------------------------------------------------

// On a device: packing of rows and upload included, in the device's time between two events.
void add_resize(const bench::ResizeShape& s) {
  add(
      "prepare_images/" + s.name(), false,
      [s](benchmark::State& state, Context& ctx, auto type) {
        using T = decltype(type);
        std::vector<std::uint8_t> pixels(static_cast<std::size_t>(s.width * s.height * 3));
        for (std::size_t i = 0; i < pixels.size(); ++i) pixels[i] = static_cast<std::uint8_t>(i * 2654435761u >> 24);
        const Image image =
            Image::from_vector(std::move(pixels), static_cast<int>(s.width), static_cast<int>(s.height), 3);
        const std::vector<Image> images(static_cast<std::size_t>(s.batch), image);
        bench::measure(state, ctx, [&] { prepare_images<T>(ctx, images, 224); });
        state.counters["images/s"] =
            benchmark::Counter(static_cast<double>(s.batch), benchmark::Counter::kIsIterationInvariantRate);
      },
      [](const bench::Backend&) {});
}

void add_all() {
  for (const auto& shape : bench::gemm_shapes) add_gemm(shape);
  for (const auto& shape : bench::attention_shapes) add_attention(shape);
  for (const auto& shape : bench::wide_attention_shapes) add_wide_attention(shape);
  for (const auto& shape : bench::layer_norm_shapes) add_layer_norm(shape);
  for (const auto& shape : bench::softmax_shapes) add_softmax(shape), add_softmax_backward(shape);
  for (const auto& shape : bench::gelu_shapes) add_gelu(shape), add_gelu_backward(shape);
  for (const auto& shape : bench::map_shapes) add_batch_norm(shape), add_avg_pool2d(shape);
  for (const auto& shape : bench::matrix_shapes) add_rearrangements(shape), add_selections(shape), add_binary(shape);
  for (const std::int64_t count : bench::parameter_counts) add_parameters(count);
  for (const auto& shape : bench::conv_shapes) add_conv2d(shape);
  for (const auto& shape : bench::resize_shapes) add_resize(shape);
}

}  // namespace

int main(int argc, char** argv) { return bench::run(argc, argv, add_all); }
