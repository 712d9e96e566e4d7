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
  const auto no_baseline = [](const bench::Backend&) {};
  add(
      "attention/" + s.name(), s.device_only,
      [s](benchmark::State& state, Context& ctx, auto type) {
        using T = decltype(type);
        const AttentionData<T> data(ctx, s);
        bench::measure(state, ctx, [&] { ctx.kernels<T>().attention(ctx.kernel_context(), data.args); });
        bench::count_flops(state, 2 * products(s));
      },
      no_baseline);
  add(
      "attention_backward/" + s.name(), s.device_only,
      [s](benchmark::State& state, Context& ctx, auto type) {
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
      },
      no_baseline);
}

// ---- rows and elements ----------------------------------------------------------------------------------------------

template <class T>
void count_moved(benchmark::State& state, double elements) {
  bench::count_bytes(state, elements * static_cast<double>(sizeof(T)));
}

void add_layer_norm(const bench::RowShape& s) {
  const double elements = static_cast<double>(s.rows * s.columns);
  std::string name = "layer_norm/" + s.name();
  add(
      name, s.device_only,
      [s, elements](benchmark::State& state, Context& ctx, auto type) {
        using T = decltype(type);
        using A = accumulate_t<T>;
        const auto x = random_tensor<T>(ctx, Shape{s.rows, s.columns});
        const auto weight = random_tensor<A>(ctx, Shape{s.columns}, 2),
                   bias = random_tensor<A>(ctx, Shape{s.columns}, 3);
        Tensor<T> y = ctx.allocate<T>(x.shape());
        const LayerNormArgs<T> args = {s.rows,      s.columns,        A(1e-6), x.data(), weight.data(),
                                       bias.data(), y.mutable_data(), nullptr, nullptr};
        bench::measure(state, ctx, [&] { ctx.kernels<T>().layer_norm(ctx.kernel_context(), args); });
        count_moved<T>(state, 2 * elements);
      },
      [&](const bench::Backend& backend) { add_copy(name, backend, 2 * elements); });
  name = "layer_norm_backward/" + s.name();
  add(
      name, s.device_only,
      [s, elements](benchmark::State& state, Context& ctx, auto type) {
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
        bench::measure(state, ctx, [&] { ctx.kernels<T>().layer_norm_backward(ctx.kernel_context(), args); });
        count_moved<T>(state, 3 * elements);
      },
      [&](const bench::Backend& backend) { add_copy(name, backend, 3 * elements); });
}

void add_softmax(const bench::RowShape& s) {
  const std::string name = "softmax/" + s.name();
  const double moved = 2.0 * static_cast<double>(s.rows * s.columns);
  add(
      name, s.device_only,
      [s, moved](benchmark::State& state, Context& ctx, auto type) {
        using T = decltype(type);
        const auto x = random_tensor<T>(ctx, Shape{s.rows, s.columns});
        Tensor<T> y = ctx.allocate<T>(x.shape());
        const SoftmaxArgs<T> args{s.rows, s.columns, 1, x.data(), y.mutable_data()};
        bench::measure(state, ctx, [&] { ctx.kernels<T>().softmax(ctx.kernel_context(), args); });
        count_moved<T>(state, moved);
      },
      [&](const bench::Backend& backend) { add_copy(name, backend, moved); });
}

void add_gelu(const bench::RowShape& s) {
  const std::int64_t count = s.rows * s.columns;
  const std::string name = "gelu/" + std::to_string(count);
  add(
      name, s.device_only,
      [count](benchmark::State& state, Context& ctx, auto type) {
        using T = decltype(type);
        const auto x = random_tensor<T>(ctx, Shape{count});
        Tensor<T> y = ctx.allocate<T>(x.shape());
        const UnaryArgs<T> args{UnaryKind::gelu, count, 1, 0, x.data(), y.mutable_data()};
        bench::measure(state, ctx, [&] { ctx.kernels<T>().unary(ctx.kernel_context(), args); });
        count_moved<T>(state, 2.0 * static_cast<double>(count));
      },
      [&](const bench::Backend& backend) { add_copy(name, backend, 2.0 * static_cast<double>(count)); });
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
    add(
        name, s.device_only,
        [s, run](benchmark::State& state, Context& ctx, auto type) {
          using T = decltype(type);
          ConvData<T> data(ctx, s);
          bench::measure(state, ctx, [&] { run(ctx.kernels<T>(), ctx.kernel_context(), data); });
          bench::count_flops(state, flops(s));
        },
        cudnn(name, number));
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
  for (const auto& shape : bench::layer_norm_shapes) add_layer_norm(shape);
  for (const auto& shape : bench::softmax_shapes) add_softmax(shape);
  for (const auto& shape : bench::gelu_shapes) add_gelu(shape);
  for (const auto& shape : bench::conv_shapes) add_conv2d(shape);
  for (const auto& shape : bench::resize_shapes) add_resize(shape);
}

}  // namespace

int main(int argc, char** argv) { return bench::run(argc, argv, add_all); }
