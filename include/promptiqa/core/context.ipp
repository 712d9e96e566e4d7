// Bodies of Context.
// Surprising choice: this is the header that pulls the CPU bodies in, so header-only users need nothing else.
#pragma once

#include <promptiqa/core/context.hpp>
#include <promptiqa/cpu/kernel_table.hpp>

namespace promptiqa {

namespace cpu {  // kernel_table.hpp may be the one that includes this, and declare them below
inline std::string missing_instructions(CpuBackend backend);
inline CpuBackend best_cpu_backend();
}  // namespace cpu

PROMPTIQA_INLINE CpuBackend cpu_backend(Precision precision, std::string* notice) {
  if (precision == Precision::fp32) return cpu::best_cpu_backend();
  const bool bf16 = precision == Precision::bf16;
  const CpuBackend backend = bf16 ? CpuBackend::avx512_bf16 : CpuBackend::avx512_int8;
  const std::string missing = cpu::missing_instructions(backend);
  if (missing.empty()) return backend;
  if (notice)
    *notice = "this processor lacks " + missing + ": computing in fp32 instead of " + (bf16 ? "bf16" : "int8");
  return cpu::best_cpu_backend();
}

PROMPTIQA_INLINE Context Context::cpu(int threads, CpuBackend backend) {
  return cpu(std::make_shared<ThreadPool>(threads), backend);
}

PROMPTIQA_INLINE Context Context::cpu(std::shared_ptr<ThreadPool> pool, CpuBackend backend) {
  if (!pool) throw Error("context: the thread pool must not be null");
  Context ctx;
  ctx.pool_ = std::move(pool);
  ctx.memory_ = MemoryPool::create();
  ctx.float_kernels_ = &cpu_kernel_table<float>(backend);
  ctx.double_kernels_ = &cpu_kernel_table<double>(backend);
  return ctx;
}

PROMPTIQA_INLINE Context Context::on_device(DeviceParts parts, std::shared_ptr<ThreadPool> pool) {
  if (!pool) throw Error("context: the thread pool must not be null");
  Context ctx;
  ctx.device_ = parts.device;
  ctx.pool_ = std::move(pool);
  ctx.memory_ = std::move(parts.memory);
  ctx.device_execution_ = std::move(parts.execution);
  ctx.float_kernels_ = parts.float_kernels;
  ctx.double_kernels_ = parts.double_kernels;
  ctx.bfloat16_kernels_ = parts.bfloat16_kernels;
  return ctx;
}

// Only here is it known whose memory is missing: a device's pool knows the kernel that ran last, not the op that asks.
PROMPTIQA_INLINE StorageRef Context::block(std::size_t bytes, const char* op, bool of_arena) {
  try {
    return of_arena ? arena_.allocate(*memory_, bytes) : memory_->allocate(bytes);
  } catch (const CudaError& error) {
    if (!op) throw;
    throw CudaError(std::string(op) + ": " + error.what());
  }
}

PROMPTIQA_INLINE std::uint64_t Context::next_random_key() {
  // Keys of one seed must not be neighbours: counter_uniform walks its key by a constant.
  const double u = counter_uniform(seed_ ^ 0xD1B54A32D192ED03ull, drawn_);
  const double v = counter_uniform(seed_ + 0x8CB92BA72F3D8DD7ull, drawn_);
  ++drawn_;
  return static_cast<std::uint64_t>(u * 0x1.0p52) << 12 ^ static_cast<std::uint64_t>(v * 0x1.0p52);
}

}  // namespace promptiqa
