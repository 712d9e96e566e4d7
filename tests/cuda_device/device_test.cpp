// The CUDA library as nvcc built it: every op case on the device of this machine, or, where there is none, that this is
// said clearly and the CPU still works in the same program.
// Surprising choice: a machine without a device passes; the line that is printed says what was and was not run.
#include <iostream>
#include <set>

#include <promptiqa/cuda.hpp>
#include "cuda/op_parity.hpp"

using namespace promptiqa_test;

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

template <class T>
void check_case(Context& ctx, const OpCase& c) {
  INFO(c.name << ", " << sizeof(T) << " bytes an element");
  const Inputs inputs = c.draw();
  const Result<T> result = run_case<T>(ctx, c, inputs);
  const Result<T> again = run_case<T>(ctx, c, inputs);
  CHECK(same_bits(result.value, again.value));
  for (std::size_t i = 0; i < result.gradients.size(); ++i) CHECK(same_bits(result.gradients[i], again.gradients[i]));
  check_parity(c, inputs, result);
}

}  // namespace

TEST_CASE("without a device there is a clear error, and the CPU works", "[cuda]") {
  std::string reason;
  if (devices(&reason) == 0) {
    std::cout << "CUDA: compiled, emulated, not run on a device (" << reason << ")" << std::endl;
    CHECK_THROWS_AS(make_cuda_context(0), CudaError);
    CHECK_THROWS_WITH(make_cuda_context(0), ContainsSubstring("cuda: "));
  }
  CHECK_THROWS_AS(make_cuda_context(99), CudaError);
  Context cpu = Context::cpu(1);
  const Tensor<float> x = cpu.from<float>(Shape{3}, {-1, 0, 2});
  CHECK(relu(cpu, x).host() == std::vector<float>{0, 0, 2});
}

TEST_CASE("every op computes its definition and its gradients on the device", "[cuda]") {
  std::string reason;
  if (devices(&reason) == 0) return;
  std::cout << "CUDA: run on " << cuda_devices()[0] << std::endl;
  Context ctx = make_cuda_context(0);
  std::set<std::string> missing;
  for (const OpCase& c : op_cases()) {
    if (!has_kernels(ctx.kernels<float>(), c.op)) {
      missing.insert(c.op);
      continue;
    }
    check_case<float>(ctx, c);
    check_case<double>(ctx, c);
  }
  for (const std::string& op : missing) std::cout << "CUDA: no kernels yet for " << op << std::endl;
  synchronize(ctx);
}
