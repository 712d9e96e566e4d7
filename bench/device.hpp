// The CUDA device as benchmarks use it: whether there is one, its Context, time between two events, plain copies.
// Surprising choice: the same names exist in a program that was built without CUDA, which then has no device.
#pragma once

#include <functional>
#include <memory>
#include <string>
#include <utility>

#include <promptiqa/core/context.hpp>
#include <promptiqa/core/error.hpp>

#if PROMPTIQA_BENCH_CUDA
#include <cuda_runtime_api.h>

#include <promptiqa/cuda.hpp>
#include "../kernels/runtime.hpp"
#endif

namespace bench {

#if PROMPTIQA_BENCH_CUDA

/// The name of device 0 and, where there is none, the reason.
inline const std::pair<std::string, std::string>& device_and_reason() {
  static const auto found = []() -> std::pair<std::string, std::string> {
    try {
      const auto names = promptiqa::cuda_devices();
      if (!names.empty()) return {names[0], ""};
      return {"", "this machine has none"};
    } catch (const promptiqa::CudaError& error) {
      return {"", error.what()};
    }
  }();
  return found;
}
inline std::string device_name() { return device_and_reason().first; }
inline std::string why_no_device() { return device_and_reason().second; }

/// `precision` and `wgmma`: as bench::Backend's.
inline promptiqa::Context cuda_context(std::shared_ptr<promptiqa::ThreadPool> pool, const std::string& precision,
                                       bool wgmma = true) {
  promptiqa::CudaOptions options;
  options.allow_tf32 = precision == "tf32";
  options.bf16_products = precision == "mixed";
  options.wgmma = wgmma;
  return promptiqa::make_cuda_context(0, std::move(pool), options);
}

inline void check(cudaError_t code, const char* call) {
  if (code != cudaSuccess) throw promptiqa::CudaError(std::string(call) + " failed: " + cudaGetErrorString(code));
}

inline cudaStream_t stream_of(const promptiqa::Context& ctx) {
  return static_cast<cudaStream_t>(static_cast<promptiqa::cuda::Queue*>(ctx.kernel_context().execution)->stream);
}

/// Time of a Context's stream, measured by the device.
class DeviceTimer {
 public:
  explicit DeviceTimer(const promptiqa::Context& ctx) : stream_(stream_of(ctx)) {
    check(cudaEventCreate(&start_), "cudaEventCreate");
    check(cudaEventCreate(&stop_), "cudaEventCreate");
  }
  ~DeviceTimer() {
    cudaEventDestroy(start_);
    cudaEventDestroy(stop_);
  }
  DeviceTimer(const DeviceTimer&) = delete;
  DeviceTimer& operator=(const DeviceTimer&) = delete;

  /// Seconds from the start of the first of `calls` calls to the end of the last one's kernels.
  template <class Work>
  double seconds(int calls, const Work& work) {
    check(cudaEventRecord(start_, stream_), "cudaEventRecord");
    for (int i = 0; i < calls; ++i) work();
    check(cudaEventRecord(stop_, stream_), "cudaEventRecord");
    check(cudaEventSynchronize(stop_), "cudaEventSynchronize");
    float milliseconds = 0;
    check(cudaEventElapsedTime(&milliseconds, start_, stop_), "cudaEventElapsedTime");
    return milliseconds * 1e-3;
  }

 private:
  cudaStream_t stream_;
  cudaEvent_t start_ = nullptr, stop_ = nullptr;
};

/// A copy within the device, in ctx's stream: what memory can do at most.
inline void copy_on_device(const promptiqa::Context& ctx, void* to, const void* from, std::size_t bytes) {
  check(cudaMemcpyAsync(to, from, bytes, cudaMemcpyDeviceToDevice, stream_of(ctx)), "cudaMemcpyAsync");
}

#else

inline std::string device_name() { return ""; }
inline std::string why_no_device() { return "built without CUDA"; }
inline promptiqa::Context cuda_context(const std::shared_ptr<promptiqa::ThreadPool>&, const std::string&, bool = true) {
  throw promptiqa::CudaError("bench: built without CUDA");
}
class DeviceTimer {
 public:
  explicit DeviceTimer(const promptiqa::Context&) {}
  template <class Work>
  double seconds(int, const Work&) {
    return 0;
  }
};

#endif

}  // namespace bench
