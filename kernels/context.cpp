// make_cuda_context.
// Surprising choice: compiled by the C++ compiler, with no CUDA header; the tests link the same file with an emulated
// runtime.
#include <promptiqa/core/error.hpp>
#include <promptiqa/cuda.hpp>
#include "blas.hpp"
#include "device_pool.hpp"
#include "kernel_table.hpp"
#include "runtime.hpp"

namespace promptiqa {

namespace {

/// The table for floats; its name says how they are multiplied.
const KernelTable<float>& float_kernels(const CudaOptions& options) {
  const auto named = [](const char* name) {
    KernelTable<float> table = cuda::kernel_table<float>();
    table.name = name;
    return table;
  };
  static const KernelTable<float> tf32 = named("cuda, tf32 products"), bf16 = named("cuda, bf16 products");
  return options.bf16_products ? bf16 : options.allow_tf32 ? tf32 : cuda::kernel_table<float>();
}

}  // namespace

std::vector<std::string> cuda_devices() {
  std::vector<std::string> names;
  const int count = cuda::device_count();
  for (int i = 0; i < count; ++i) names.push_back(cuda::device_name(i));
  return names;
}

Context make_cuda_context(int ordinal, std::shared_ptr<ThreadPool> pool, const CudaOptions& options) {
  const int count = cuda::device_count();
  if (ordinal < 0 || ordinal >= count)
    throw CudaError("cuda: expected a device below " + std::to_string(count) + ", got " + std::to_string(ordinal) +
                    (count == 0 ? ": this machine has no CUDA device" : ""));
  if (!pool) pool = std::make_shared<ThreadPool>(0);
  const auto owner = std::make_shared<cuda::OwnedQueue>(ordinal);
  Context::DeviceParts parts;
  parts.device = Device::cuda;
  parts.execution = std::shared_ptr<void>(owner, &owner->queue);
  parts.memory = std::make_shared<cuda::DevicePool>(owner);
  parts.float_kernels = &float_kernels(options);
  parts.double_kernels = &cuda::kernel_table<double>();
  parts.bfloat16_kernels = &cuda::kernel_table<bfloat16>();
  Context ctx = Context::on_device(std::move(parts), std::move(pool));
  if (options.allow_tf32 || options.bf16_products || !options.wgmma)
    cuda::set_products(cuda::Op("make_cuda_context", ctx.kernel_context()), options.allow_tf32 || options.bf16_products,
                       options.bf16_products, options.wgmma);
  return ctx;
}

void synchronize(const Context& ctx) {
  if (ctx.device() != Device::cuda) return;
  cuda::synchronize(*static_cast<cuda::Queue*>(ctx.kernel_context().execution));
}

}  // namespace promptiqa
