// The options of every program that puts images through the model: device, threads, precision, batch, size of an image.
// Surprising choice: none.
#pragma once

#include <cstddef>
#include <string>

#include <CLI/CLI.hpp>

#include "device.hpp"

namespace examples {

struct RunLimits {
  std::string device = "cpu";
  int threads = 0;  // 0: as many as the machine has cores
  std::string precision = "fp32";
  std::size_t batch = 16;
  double max_megapixels = 100;
};

/// Adds the options; batch_text says what --batch counts.
inline void add_run_limits(CLI::App& app, RunLimits& limits, const std::string& batch_text) {
  add_device_option(app, limits.device, "Limits");
  add_threads_option(app, limits.threads, "Limits");
  app.add_option(
         "--precision", limits.precision,
         "fp32; bf16: matrix products of bfloat16 operands, with\nAVX512_BF16; int8: weights as 8-bit integers, with\n"
         "AVX512_VNNI; both are faster on AMD Zen 5, bf16 slower\non some others. On a GPU: fp32; tf32: products of "
         "operands with 10 "
         "fraction bits;\nbf16: everything in bfloat16, sums in float. Default: fp32")
      ->type_name("P")
      ->check(CLI::IsMember({"fp32", "tf32", "bf16", "int8"}))
      ->group("Limits");
  app.add_option("--batch", limits.batch, batch_text)->type_name("N")->check(CLI::Range(1, 4096))->group("Limits");
  app.add_option("--max-pixels", limits.max_megapixels, "Refuse larger images, in megapixels. Default: 100")
      ->type_name("MP")
      ->check(CLI::Range(0.0, 1e6))
      ->group("Limits");
}

/// Throws CLI::ValidationError for options that each are possible, but not together.
inline void check_run_limits(const RunLimits& limits) {
  check_precision(limits.device, limits.precision);
  if (!(limits.max_megapixels > 0)) throw CLI::ValidationError("--max-pixels", "must be above 0");
}

}  // namespace examples
