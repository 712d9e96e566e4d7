// Where the model computes: --device, and the Context that it and --precision ask for.
// Surprising choice: a program without the CUDA library knows the option all the same, and says what it lacks.
#pragma once

#include <charconv>
#include <string>
#include <string_view>

#include <CLI/CLI.hpp>

#include <promptiqa/core/context.hpp>

namespace examples {

/// The ordinal of "cuda" (0) or "cuda:N"; -1 for "cpu"; -2 for anything else.
inline int cuda_ordinal(std::string_view device) {
  if (device == "cpu") return -1;
  if (device == "cuda") return 0;
  constexpr std::string_view prefix = "cuda:";
  if (device.substr(0, prefix.size()) != prefix) return -2;
  const char *begin = device.data() + prefix.size(), *end = device.data() + device.size();
  int ordinal = 0;
  const auto [last, error] = std::from_chars(begin, end, ordinal);
  return error == std::errc() && last == end && ordinal >= 0 ? ordinal : -2;
}

inline bool is_cuda(const std::string& device) { return cuda_ordinal(device) >= 0; }

/// Adds --device.
inline void add_device_option(CLI::App& app, std::string& device, const std::string& group) {
  app.add_option("--device", device, "Where the model computes: cpu, cuda, or cuda:N for GPU\nnumber N. Default: cpu")
      ->type_name("cpu|cuda[:N]")
      ->check([](const std::string& text) {
        return cuda_ordinal(text) == -2 ? "must be cpu, cuda or cuda:N, got \"" + text + "\"" : std::string();
      })
      ->group(group);
}

/// Adds --threads; 0 stays when it is not given: all cores.
inline void add_threads_option(CLI::App& app, int& threads, const std::string& group) {
  app.add_option("--threads", threads, "Threads. Default: as many as the machine has cores")
      ->type_name("N")
      ->check(CLI::Range(1, 1024))
      ->group(group);
}

/// A precision of the CPU by the name that --precision takes.
inline promptiqa::Precision precision_named(const std::string& name) {
  return name == "int8"   ? promptiqa::Precision::int8
         : name == "bf16" ? promptiqa::Precision::bf16
                          : promptiqa::Precision::fp32;
}

/// Throws CLI::ValidationError when the device does not compute in this precision.
inline void check_precision(const std::string& device, const std::string& precision) {
  if (is_cuda(device) && precision == "int8")
    throw CLI::ValidationError("--precision int8", "is for --device cpu; CUDA devices have fp32, tf32 and bf16");
  if (!is_cuda(device) && precision == "tf32") throw CLI::ValidationError("--precision tf32", "needs --device cuda");
}

/// The Context of a device and precision; threads 0: all cores. `notice` receives a sentence when the precision is not
/// to be had. Of several ranks on one machine, each gives its number there: for "cuda" they take the devices in turn.
/// Throws CudaError when there is no such device or the program was built without CUDA.
promptiqa::Context make_context(const std::string& device, const std::string& precision, int threads,
                                std::string* notice, bool trains = false, int local_rank = 0);

}  // namespace examples
