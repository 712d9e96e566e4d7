// Device 0 of this machine under the names that tests of the emulated device use.
// Surprising choice: buffers are managed memory, which the host and the CPU's kernels reach as well, so that tests keep
// writing operands and reading results in place.
#pragma once

#include <cstring>
#include <map>
#include <memory>
#include <string>
#include <tuple>

#include <cuda_runtime_api.h>

#include <promptiqa/cuda.hpp>
#include "../../kernels/blas.hpp"
#include "../../kernels/kernel_table.hpp"
#include "catch.hpp"

namespace promptiqa_test {

using namespace promptiqa;

/// An order of threads cannot be chosen here: what a test runs in both is just run twice.
namespace emulation {
enum class Order { forward, reverse };
}
struct InOrder {
  explicit InOrder(emulation::Order) {}
  ~InOrder() {}
};

/// Memory of a real device is always out of the host's reach.
struct BarredDevice {
  Context ctx = make_cuda_context(0, std::make_shared<ThreadPool>(1));
};

inline CudaOptions& device_options() {
  static CudaOptions options;
  return options;
}

/// The context of device 0 with the options of the innermost WithTraits.
inline Context& device_context() {
  // Never destroyed: the CUDA runtime may be gone by then.
  static auto& contexts = *new std::map<std::tuple<bool, bool, bool>, Context>;
  const CudaOptions& options = device_options();
  const std::tuple<bool, bool, bool> key = {options.allow_tf32, options.bf16_products, options.wgmma};
  auto found = contexts.find(key);
  if (found == contexts.end())
    found = contexts.emplace(key, make_cuda_context(0, std::make_shared<ThreadPool>(1), options)).first;
  return found->second;
}

/// While it lives, device_context() is allowed what these traits allow; the rest is as the device is.
class WithTraits {
 public:
  explicit WithTraits(cuda::DeviceTraits traits) : previous_(device_options()) {
    device_options().allow_tf32 = traits.tf32 && !traits.bf16;
    device_options().bf16_products = traits.bf16;
    device_options().wgmma = traits.wgmma;
  }
  ~WithTraits() { device_options() = previous_; }
  WithTraits(const WithTraits&) = delete;
  WithTraits& operator=(const WithTraits&) = delete;

 private:
  CudaOptions previous_;
};

/// Whether the device can be given these abilities for elements of so many bytes: shared memory cannot be taken away,
/// nor can tensor cores from bfloat16 (a device without any is merely more exact than is asked for).
inline bool can_be_given(const cuda::DeviceTraits& traits, std::size_t element_bytes) {
  return traits.shared_bytes > (std::size_t{48} << 10) && (element_bytes != 2 || traits.capability >= 80);
}

/// cuBLAS may cut the operands where our kernels round them.
inline constexpr double blas_tf32_error = 0x1p-9;

/// Nobody counts them here: as if every launch had some.
inline std::uint64_t warpgroup_products() {
  static std::uint64_t looks = 0;
  return ++looks;
}

/// cuBLAS decides by itself.
struct Fusing {
  explicit Fusing(bool) {}
  ~Fusing() {}
};
inline bool can_fuse(bool fuses) { return fuses; }

inline void check_cuda(cudaError_t code, const char* call) {
  if (code != cudaSuccess) throw CudaError(std::string(call) + " failed: " + cudaGetErrorString(code));
}

inline void wait_for_device() { check_cuda(cudaDeviceSynchronize(), "cudaDeviceSynchronize"); }

/// All bits set. Compute-sanitizer sees an access beyond the last byte.
inline void* take_device_memory(std::size_t bytes) {
  void* data = nullptr;
  check_cuda(cudaMallocManaged(&data, bytes ? bytes : 1, cudaMemAttachGlobal), "cudaMallocManaged");
  wait_for_device();  // where host and device may not use managed memory at the same time
  std::memset(data, 0xFF, bytes);
  return data;
}
inline void give_back_device_memory(void* data) { cudaFree(data); }

}  // namespace promptiqa_test

#include "buffer.hpp"
