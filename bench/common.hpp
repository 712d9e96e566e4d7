// What both benchmark programs share: the backends of this machine, random data, timing, the number of threads, main.
// Surprising choice: the number of threads comes from the environment (PROMPTIQA_BENCH_THREADS), because Google
// Benchmark owns the command line.
#pragma once

#include <algorithm>
#include <cstdint>
#include <cstdlib>
#include <exception>
#include <iostream>
#include <map>
#include <memory>
#include <string>
#include <thread>
#include <type_traits>
#include <utility>
#include <vector>

#include <benchmark/benchmark.h>

#include <promptiqa/core/bfloat16.hpp>
#include <promptiqa/core/context.hpp>
#include <promptiqa/core/error.hpp>
#include <promptiqa/cpu/kernel_table.hpp>

#include "device.hpp"

namespace bench {

using promptiqa::bfloat16;
using promptiqa::Context;
using promptiqa::CpuBackend;
using promptiqa::Shape;
using promptiqa::Tensor;

/// Threads of every Context here: PROMPTIQA_BENCH_THREADS, or the machine's number of cores.
inline int threads() {
  const char* text = std::getenv("PROMPTIQA_BENCH_THREADS");
  const int asked = text ? std::atoi(text) : 0;
  return asked > 0 ? asked : static_cast<int>(std::thread::hardware_concurrency());
}

/// A way to run kernels: one of the CPU's, or CUDA device 0 in one precision.
struct Backend {
  std::string name;
  CpuBackend cpu = CpuBackend::automatic;
  bool cuda = false;
  /// On CUDA: fp32, tf32, bf16, whose tensors are bfloat16, or mixed, whose tensors are floats and products bfloat16.
  std::string precision = "fp32";
  bool wgmma = true;
};

/// Every backend this processor can run; the readable reference, eigen, first, so that ratios have it above them.
inline std::vector<Backend> cpu_backends() {
  std::vector<Backend> found;
  for (const CpuBackend id : {CpuBackend::eigen, CpuBackend::portable, CpuBackend::avx2, CpuBackend::avx512,
                              CpuBackend::avx512_bf16, CpuBackend::avx512_int8})
    if (promptiqa::cpu::missing_instructions(id).empty()) found.push_back({promptiqa::cpu::backend_name(id), id});
  return found;
}

/// cuda_fp32, cuda_tf32 and cuda_bf16, when this program was built with CUDA and there is a device.
inline std::vector<Backend> cuda_backends() {
  std::vector<Backend> found;
  if (device_name().empty()) return found;
  for (const char* precision : {"fp32", "tf32", "bf16"})
    found.push_back({std::string("cuda_") + precision, CpuBackend::automatic, true, precision});
  return found;
}

inline std::vector<Backend> backends() {
  std::vector<Backend> all = cpu_backends();
  for (Backend& backend : cuda_backends()) all.push_back(std::move(backend));
  return all;
}

/// A Context of `backend` over one pool for the whole program.
inline Context context(const Backend& backend) {
  static const auto pool = std::make_shared<promptiqa::ThreadPool>(threads());
  return backend.cuda ? cuda_context(pool, backend.precision, backend.wgmma) : Context::cpu(pool, backend.cpu);
}

/// body(state, ctx, T()) for the element type T of the backend. An error ends this row, not the program.
template <class Body>
void call_for(const Backend& backend, benchmark::State& state, const Body& body) {
  try {
    Context ctx = context(backend);
    if (backend.precision == "bf16")
      body(state, ctx, bfloat16());
    else
      body(state, ctx, float());
  } catch (const std::exception& error) {
    state.SkipWithError(error.what());
  }
}

/// `count` values uniform in [-0.5, 0.5), the same ones every time.
inline std::vector<float> random_values(std::int64_t count, std::uint64_t key = 1) {
  std::vector<float> values(static_cast<std::size_t>(count));
  for (std::size_t i = 0; i < values.size(); ++i)
    values[i] = static_cast<float>(promptiqa::counter_uniform(key, i) - 0.5);
  return values;
}

/// The same as a tensor where ctx computes, repeated after a million values, which is quicker to draw.
template <class T>
Tensor<T> random_tensor(Context& ctx, const Shape& shape, std::uint64_t key = 1) {
  const std::vector<float> some = random_values(std::min<std::int64_t>(shape.numel(), 1000003), key);
  std::vector<T> values(static_cast<std::size_t>(shape.numel()));
  for (std::size_t i = 0; i < values.size(); ++i) {
    const float v = some[i % some.size()];
    if constexpr (std::is_same_v<T, bfloat16>)
      values[i] = promptiqa::to_bfloat16(v);
    else
      values[i] = v;
  }
  return ctx.from<T>(shape, std::span<const T>(values));
}

/// The timed loop. On the CPU a call an iteration; on a device as many as take some milliseconds, between two events.
template <class Work>
void measure(benchmark::State& state, Context& ctx, const Work& work) {
  if (ctx.device() == promptiqa::Device::cpu) {
    for (auto _ : state) {
      work();
      benchmark::ClobberMemory();
    }
    return;
  }
  DeviceTimer timer(ctx);
  timer.seconds(3, work);  // the first call asks for memory and makes library handles
  const double once = timer.seconds(3, work) / 3;
  const int calls = static_cast<int>(std::clamp(0.005 / std::max(once, 1e-7), 1.0, 1000.0));
  for (auto _ : state) state.SetIterationTime(timer.seconds(calls, work) / calls);
}

/// Registers body(state, ctx, T()) as NAME/BACKEND. Time is wall-clock on the CPU, where several threads work, and the
/// device's own on CUDA.
template <class Body>
void add(const std::string& name, const Backend& backend, benchmark::TimeUnit unit, const Body& body) {
  auto* added =
      benchmark::RegisterBenchmark((name + "/" + backend.name).c_str(),
                                   [body, backend](benchmark::State& state) { call_for(backend, state, body); });
  added->Unit(unit);
  if (backend.cuda)
    added->UseManualTime()->Iterations(20);
  else
    added->UseRealTime();
}

/// Shows `flops_per_iteration` as a rate per second.
inline void count_flops(benchmark::State& state, double flops_per_iteration) {
  state.counters["FLOP/s"] = benchmark::Counter(flops_per_iteration, benchmark::Counter::kIsIterationInvariantRate);
}

/// Shows bytes read and written, each once, as a rate per second.
inline void count_bytes(benchmark::State& state, double bytes_per_iteration) {
  state.counters["byte/s"] = benchmark::Counter(bytes_per_iteration, benchmark::Counter::kIsIterationInvariantRate,
                                                benchmark::Counter::kIs1024);
}

/// The table on the terminal, with a column base/own: how many times as long the baseline takes for the same work.
/// Names end in the backend's; the baseline's row must come before: eigen on the CPU; on CUDA, in the same precision,
/// cublas, cudnn, a copy of as many bytes, or, where there is none of these, the same kernel without wgmma.
class RatioReporter : public benchmark::ConsoleReporter {
 public:
  RatioReporter() : ConsoleReporter(OO_Tabular) {}

  void ReportRuns(const std::vector<Run>& runs) override {
    std::vector<Run> shown = runs;
    for (Run& run : shown) {
      const std::string& name = run.run_name.function_name;
      const std::size_t slash = name.rfind('/');
      if (slash == std::string::npos || run.iterations == 0 || run.run_type != Run::RT_Iteration) continue;
      const double own = run.real_accumulated_time / static_cast<double>(run.iterations);
      const std::string work = name.substr(0, slash + 1), backend = name.substr(slash + 1);
      seconds_[name] = own;
      for (const std::string& baseline : baselines_of(backend)) {
        const auto found = seconds_.find(work + baseline);
        if (found != seconds_.end() && own > 0) run.counters["base/own"] = found->second / own;
      }
    }
    ConsoleReporter::ReportRuns(shown);
  }

 private:
  static std::vector<std::string> baselines_of(const std::string& backend) {
    if (backend.rfind("cuda_", 0) != 0) return {"eigen"};
    const std::string precision = backend.substr(4);
    return {"mma" + precision, "cublas" + precision, "cudnn" + precision, "copy" + precision};  // the last one counts
  }

  std::map<std::string, double> seconds_;  // of one iteration
};

/// True when an argument starts with `option` and contains `text`.
inline bool asked(int argc, char** argv, const std::string& option, const std::string& text) {
  for (int i = 1; i < argc; ++i) {
    const std::string argument = argv[i];
    if (argument.rfind(option, 0) == 0 && argument.find(text) != std::string::npos) return true;
  }
  return false;
}

/// Runs what `add_all` registers. Returns the exit code.
template <class F>
int run(int argc, char** argv, const F& add_all) {
  try {
    const bool other_format = asked(argc, argv, "--benchmark_format", "");  // JSON and CSV have no base/own
    benchmark::Initialize(&argc, argv);
    if (benchmark::ReportUnrecognizedArguments(argc, argv)) return 2;
    benchmark::AddCustomContext("threads of promptiqa", std::to_string(threads()));
    benchmark::AddCustomContext("automatic backend", promptiqa::cpu_kernel_table<float>(CpuBackend::automatic).name);
    benchmark::AddCustomContext("device", device_name().empty() ? "no device: " + why_no_device() : device_name());
    add_all();
    RatioReporter table;
    if (other_format)
      benchmark::RunSpecifiedBenchmarks();
    else
      benchmark::RunSpecifiedBenchmarks(&table);
    benchmark::Shutdown();
    return 0;
  } catch (const std::exception& error) {
    std::cerr << "bench: " << error.what() << "\n";
    return 2;
  }
}

}  // namespace bench
