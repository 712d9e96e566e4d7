// What promptiqa's two programs for the comparison share: lines of JSON for the driver, time, memory, tensors of a file.
// Surprising choice: everything is inline in one header; each program is a single source.
#pragma once

#include <chrono>
#include <iostream>
#include <span>
#include <string>
#include <vector>

#include <sys/resource.h>

#include <nlohmann/json.hpp>

#include <promptiqa/core/context.hpp>
#include <promptiqa/io/tensor_file.hpp>

namespace bench_peers {

using Clock = std::chrono::steady_clock;

inline double seconds_since(Clock::time_point start) {
  return std::chrono::duration<double>(Clock::now() - start).count();
}

/// One line of the protocol, which run.py describes.
inline void print(const nlohmann::json& line) { std::cout << line.dump() << std::endl; }

/// The most memory this process ever held, in MB.
inline double peak_mb() {
  rusage usage{};
  getrusage(RUSAGE_SELF, &usage);
#ifdef __APPLE__
  return static_cast<double>(usage.ru_maxrss) / 1e6;  // bytes there
#else
  return static_cast<double>(usage.ru_maxrss) * 1024 / 1e6;
#endif
}

/// The tensor `name` of `file`, as floats. Throws WeightsError when there is none.
inline promptiqa::Tensor<float> read(promptiqa::Context& ctx, const promptiqa::TensorFile& file,
                                     const std::string& name) {
  const promptiqa::NamedTensor* tensor = file.find(name);
  if (!tensor) throw promptiqa::WeightsError(file.path + ": there must be a tensor '" + name + "'");
  std::vector<float> values(static_cast<std::size_t>(tensor->shape.numel()));
  promptiqa::decode(tensor->dtype, tensor->data, values.size(), values.data());
  return ctx.from<float>(tensor->shape, std::span<const float>(values));
}

}  // namespace bench_peers
