// What both benchmark programs share: the backends of this processor, random data, the number of threads, main.
// Surprising choice: the number of threads comes from the environment (PROMPTIQA_BENCH_THREADS), because Google
// Benchmark owns the command line.
#pragma once

#include <cstdint>
#include <cstdlib>
#include <exception>
#include <iostream>
#include <map>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include <benchmark/benchmark.h>

#include <promptiqa/core/context.hpp>
#include <promptiqa/core/error.hpp>
#include <promptiqa/cpu/kernel_table.hpp>

namespace bench {

using promptiqa::Context;
using promptiqa::CpuBackend;

/// Threads of every Context here: PROMPTIQA_BENCH_THREADS, or the machine's number of cores.
inline int threads() {
  const char* text = std::getenv("PROMPTIQA_BENCH_THREADS");
  const int asked = text ? std::atoi(text) : 0;
  return asked > 0 ? asked : static_cast<int>(std::thread::hardware_concurrency());
}

struct Backend {
  CpuBackend id;
  std::string name;
};

/// Every backend this processor can run; the readable reference, eigen, first, so that ratios have it above them.
inline std::vector<Backend> backends() {
  std::vector<Backend> found;
  for (const CpuBackend id : {CpuBackend::eigen, CpuBackend::portable, CpuBackend::avx2, CpuBackend::avx512,
                              CpuBackend::avx512_bf16, CpuBackend::avx512_int8})
    if (promptiqa::cpu::missing_instructions(id).empty()) found.push_back({id, promptiqa::cpu::backend_name(id)});
  return found;
}

/// A Context of `backend` over one pool for the whole program.
inline Context context(CpuBackend backend) {
  static const auto pool = std::make_shared<promptiqa::ThreadPool>(threads());
  return Context::cpu(pool, backend);
}

/// `count` values uniform in [-0.5, 0.5), the same ones every time.
inline std::vector<float> random_values(std::int64_t count, std::uint64_t key = 1) {
  std::vector<float> values(static_cast<std::size_t>(count));
  for (std::size_t i = 0; i < values.size(); ++i)
    values[i] = static_cast<float>(promptiqa::counter_uniform(key, i) - 0.5);
  return values;
}

/// Shows `flops_per_iteration` as a rate per second of wall-clock time.
inline void count_flops(benchmark::State& state, double flops_per_iteration) {
  state.counters["FLOP/s"] = benchmark::Counter(flops_per_iteration, benchmark::Counter::kIsIterationInvariantRate);
}

/// Shows bytes read and written, each once, as a rate per second.
inline void count_bytes(benchmark::State& state, double bytes_per_iteration) {
  state.counters["byte/s"] = benchmark::Counter(bytes_per_iteration, benchmark::Counter::kIsIterationInvariantRate,
                                                benchmark::Counter::kIs1024);
}

/// The table on the terminal, with a column eigen/own: how many times as long the reference takes for the same
/// work. Names end in the backend's; eigen's row must come before the others.
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
      const std::string work = name.substr(0, slash);
      if (name.substr(slash + 1) == "eigen") reference_[work] = own;
      const auto found = reference_.find(work);
      if (found != reference_.end() && own > 0) run.counters["eigen/own"] = found->second / own;
    }
    ConsoleReporter::ReportRuns(shown);
  }

 private:
  std::map<std::string, double> reference_;  // seconds of one iteration
};

/// True when an argument starts with `option` and contains `text`.
inline bool asked(int argc, char** argv, const std::string& option, const std::string& text) {
  for (int i = 1; i < argc; ++i) {
    const std::string argument = argv[i];
    if (argument.rfind(option, 0) == 0 && argument.find(text) != std::string::npos) return true;
  }
  return false;
}

/// Runs what `add` registers. Returns the exit code.
template <class F>
int run(int argc, char** argv, const F& add) {
  try {
    const bool other_format = asked(argc, argv, "--benchmark_format", "");  // JSON and CSV have no eigen/own
    benchmark::Initialize(&argc, argv);
    if (benchmark::ReportUnrecognizedArguments(argc, argv)) return 2;
    benchmark::AddCustomContext("threads of promptiqa", std::to_string(threads()));
    benchmark::AddCustomContext("automatic backend", promptiqa::cpu_kernel_table<float>(CpuBackend::automatic).name);
    add();
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
