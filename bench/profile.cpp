// bench_profile: where the time of a forward pass goes, kernel by kernel and shape by shape.
// Surprising choice: it gives the Context a copy of the kernel table whose entries note the time around the real ones,
// so it sees every kernel that the model really calls, with its real arguments, and the library knows nothing of it.
#include <algorithm>
#include <chrono>
#include <cstdint>
#include <cstdio>
#include <exception>
#include <map>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include <CLI/CLI.hpp>

#include <promptiqa/cpu/kernel_table.hpp>
#include <promptiqa/model.hpp>

namespace {

using namespace promptiqa;
using Clock = std::chrono::steady_clock;

struct Entry {
  int calls = 0;
  double seconds = 0, flops = 0;
};
std::map<std::string, Entry> entries;  // by kernel and shape, or by kernel
bool by_shape = false;
KernelTable<float> real;

std::string times(std::int64_t a, std::int64_t b) { return std::to_string(a) + "x" + std::to_string(b); }

// What a call computes: its shape in words and its floating-point operations.
struct Work {
  std::string shape;
  double flops = 0;
};
Work work_of(const GemmArgs<float>& a) {
  return {(a.batch > 1 ? std::to_string(a.batch) + " of " : "") + times(a.m, a.n) + "x" + std::to_string(a.k),
          2.0 * static_cast<double>(a.batch * a.m) * static_cast<double>(a.n * a.k)};
}
Work work_of(const AttentionArgs<float>& a) {
  return {times(a.batch, a.heads) + " of " + times(a.queries, a.keys) + "x" + std::to_string(a.head_dim),
          4.0 * static_cast<double>(a.batch * a.heads) * static_cast<double>(a.queries * a.keys * a.head_dim)};
}
Work work_of(const Conv2dArgs<float>& a) {
  const Conv2dGeometry& g = a.geometry;
  return {times(g.in_channels, g.out_channels) + ", " + times(g.kernel_h, g.kernel_w) + "/" +
              std::to_string(g.stride_h) + " to " + times(g.out_h, g.out_w),
          2.0 * static_cast<double>(g.batch * g.out_channels * g.out_h * g.out_w) *
              static_cast<double>(g.in_channels * g.kernel_h * g.kernel_w)};
}
template <class Args>
Work work_of(const Args&) {
  return {};
}

template <class Args, Kernel<Args> KernelTable<float>::*Member>
struct Timed {
  static inline std::string name;
  static void call(const KernelContext& context, const Args& args) {
    const Clock::time_point start = Clock::now();
    (real.*Member)(context, args);
    const double seconds = std::chrono::duration<double>(Clock::now() - start).count();
    const Work work = work_of(args);
    Entry& entry = entries[by_shape && !work.shape.empty() ? name + " " + work.shape : name];
    ++entry.calls;
    entry.seconds += seconds;
    entry.flops += work.flops;
  }
};

template <class Args, Kernel<Args> KernelTable<float>::*Member>
void time_kernel(KernelTable<float>& table, const char* name) {
  Timed<Args, Member>::name = name;
  table.*Member = Timed<Args, Member>::call;
}

// The kernels of inference.
KernelTable<float> timed_table() {
  using T = KernelTable<float>;
  T table = real;
  time_kernel<GemmArgs<float>, &T::gemm>(table, "gemm");
  time_kernel<AttentionArgs<float>, &T::attention>(table, "attention");
  time_kernel<SoftmaxArgs<float>, &T::softmax>(table, "softmax");
  time_kernel<LayerNormArgs<float>, &T::layer_norm>(table, "layer_norm");
  time_kernel<BatchNormArgs<float>, &T::batch_norm>(table, "batch_norm");
  time_kernel<Conv2dArgs<float>, &T::conv2d>(table, "conv2d");
  time_kernel<AvgPool2dArgs<float>, &T::avg_pool2d>(table, "avg_pool2d");
  time_kernel<UnaryArgs<float>, &T::unary>(table, "unary");
  time_kernel<BinaryArgs<float>, &T::binary>(table, "binary");
  time_kernel<ReduceSumArgs<float>, &T::reduce_sum>(table, "reduce_sum");
  time_kernel<ExpandArgs<float>, &T::expand>(table, "expand");
  time_kernel<PermuteArgs<float>, &T::permute>(table, "permute");
  time_kernel<CopyRowsArgs<float>, &T::copy_rows>(table, "copy_rows");
  time_kernel<IndexSelectArgs<float>, &T::index_select>(table, "index_select");
  time_kernel<FillArgs<float>, &T::fill>(table, "fill");
  return table;
}

struct Options {
  std::string weights, precision = "fp32";
  int batch = 1, threads = 0, passes = 20;
};

int run(const Options& options) {
  const CpuBackend backend = cpu_backend(options.precision == "bf16"   ? Precision::bf16
                                         : options.precision == "int8" ? Precision::int8
                                                                       : Precision::fp32);
  real = cpu_kernel_table<float>(backend);
  const KernelTable<float> timed = timed_table();
  Context ctx =
      Context::on_device({Device::cpu, nullptr, MemoryPool::create(), &timed, &cpu_kernel_table<double>(backend)},
                         std::make_shared<ThreadPool>(options.threads));
  const Model<float> model = Model<float>::load(ctx, options.weights);
  const std::int64_t side = model.config().image_size;
  Tensor<float> images = ctx.zeros<float>(Shape{options.batch, 3, side, side});
  for (std::int64_t i = 0; i < images.numel(); ++i)
    images.mutable_data()[i] = static_cast<float>(counter_uniform(1, static_cast<std::uint64_t>(i)) * 2 - 1);
  for (int seen = 0; seen < 21; seen += options.batch) (void)model.image_features(ctx, images);  // merged products exist
  (void)model.image_features(ctx, images);                                                       // the arena is laid out
  entries.clear();

  std::vector<double> passes;
  for (int i = 0; i < options.passes; ++i) {
    const Clock::time_point start = Clock::now();
    (void)model.image_features(ctx, images);
    passes.push_back(std::chrono::duration<double>(Clock::now() - start).count());
  }
  std::sort(passes.begin(), passes.end());
  double whole = 0, kernels = 0;
  for (double pass : passes) whole += pass;
  std::vector<std::pair<double, std::string>> order;
  for (const auto& [name, entry] : entries) {
    order.emplace_back(entry.seconds, name);
    kernels += entry.seconds;
  }
  std::sort(order.rbegin(), order.rend());
  const double n = options.passes;
  std::printf("%s, batch %d, %s, %d threads: %.3f ms a pass (median of %d), in kernels %.1f%%\n\n", options.weights.c_str(),
              options.batch, real.name, ctx.pool().size(), 1e3 * passes[passes.size() / 2], options.passes,
              100 * kernels / whole);
  std::printf("%-48s %6s %10s %7s %9s\n", "kernel", "calls", "ms", "share", "GFLOP/s");
  for (const auto& [seconds, name] : order) {
    const Entry& entry = entries[name];
    std::printf("%-48s %6.0f %10.3f %6.1f%%", name.c_str(), entry.calls / n, 1e3 * seconds / n, 100 * seconds / whole);
    if (entry.flops > 0) std::printf(" %9.0f", entry.flops / seconds * 1e-9);
    std::printf("\n");
  }
  return 0;
}

}  // namespace

int main(int argc, char** argv) {
  Options options;
  CLI::App app("Where the time of image features goes, kernel by kernel.", "bench_profile");
  app.option_defaults()->always_capture_default();
  app.add_option("weights", options.weights, "A weights file")->required();
  app.add_option("--precision", options.precision)->check(CLI::IsMember({"fp32", "bf16", "int8"}));
  app.add_option("--batch", options.batch)->check(CLI::Range(1, 1024));
  app.add_option("--threads", options.threads, "0: all cores")->check(CLI::Range(0, 1024));
  app.add_option("--passes", options.passes)->check(CLI::Range(1, 100000));
  app.add_flag("--shapes", by_shape, "Products, attention and convolutions by their shapes");
  CLI11_PARSE(app, argc, argv);
  try {
    return run(options);
  } catch (const std::exception& error) {
    std::fprintf(stderr, "bench_profile: %s\n", error.what());
    return 2;
  }
}
