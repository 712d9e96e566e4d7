// The CUDA library as nvcc built it, before anything is computed: whether this machine has a device and, where it has
// none, that this is said clearly and the CPU still works in the same program.
// Surprising choice: a machine without a device passes; the line that is printed says what was and was not run. Ops,
// kernels, precisions and training are the tests of the emulated device (tests/cuda), compiled for this one.
#include <cstdlib>
#include <iostream>
#include <string>

#include <promptiqa/cuda.hpp>
#include <promptiqa/ops/all.hpp>

#include "../../kernels/blas.hpp"
#include "catch.hpp"

using namespace promptiqa;

namespace {

/// Devices of this machine; 0 and the reason where there are none.
std::size_t devices(std::string* reason) {
  try {
    const std::size_t count = cuda_devices().size();
    if (count == 0) *reason = "no device";
    return count;
  } catch (const CudaError& e) {
    *reason = e.what();
    return 0;
  }
}

}  // namespace

// Without a device nearly everything is left out; where one is known to be, that would hide a broken driver.
TEST_CASE("there is a device where PROMPTIQA_REQUIRE_DEVICE says so", "[cuda][golden][official][deviceless]") {
  std::string reason;
  if (std::getenv("PROMPTIQA_REQUIRE_DEVICE")) CHECK(devices(&reason) > 0);
}

// Without this, tests of warpgroups would pass on kernels that have none.
TEST_CASE("Hopper's own products are there where the library was built for them", "[cuda]") {
  const Context ctx = make_cuda_context(0);
  const cuda::DeviceTraits traits = cuda::device_traits(cuda::Op("device_traits", ctx.kernel_context()));
  CHECK(traits.wgmma == (PROMPTIQA_TEST_FOR_90A && traits.capability == 90));
  CudaOptions without;
  without.wgmma = false;
  const Context other = make_cuda_context(0, nullptr, without);
  CHECK_FALSE(cuda::device_traits(cuda::Op("device_traits", other.kernel_context())).wgmma);
}

TEST_CASE("without a device there is a clear error, and the CPU works", "[cuda][deviceless]") {
  std::string reason;
  if (devices(&reason) == 0) {
    std::cout << "CUDA: compiled, emulated, not run on a device (" << reason << ")" << std::endl;
    CHECK_THROWS_AS(make_cuda_context(0), CudaError);
    CHECK_THROWS_WITH(make_cuda_context(0), ContainsSubstring("cuda: "));
  } else {
    std::cout << "CUDA: run on " << cuda_devices()[0] << std::endl;
  }
  CHECK_THROWS_AS(make_cuda_context(99), CudaError);
  Context cpu = Context::cpu(1);
  const Tensor<float> x = cpu.from<float>(Shape{3}, {-1, 0, 2});
  CHECK(relu(cpu, x).host() == std::vector<float>{0, 0, 2});
}
