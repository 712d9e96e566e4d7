// The choice among the CPU's kernel tables.
// Surprising choice: the tables themselves are only declared here; their bodies come from kernel_table.ipp (one
// instruction set at a time in the compiled library) and eigen_kernel_table.ipp, which alone sees Eigen.
#pragma once

#include <string>
#include <type_traits>

#include <promptiqa/core/context.hpp>
#include <promptiqa/core/error.hpp>
#include <promptiqa/core/kernel_table.hpp>
#include <promptiqa/cpu/simd.hpp>

namespace promptiqa {

namespace cpu {

/// The bodies of this folder compiled for one instruction set. The processor must have it.
template <class T, class Isa>
const KernelTable<T>& isa_kernel_table();

/// The reference: Eigen's matrix products, convolution and attention by their definitions, portable bodies otherwise.
template <class T>
const KernelTable<T>& eigen_kernel_table();

/// avx512 with matrix products of bfloat16 operands.
PROMPTIQA_INLINE const KernelTable<float>& bf16_kernel_table();

/// The same with packed weights in 8-bit integers.
PROMPTIQA_INLINE const KernelTable<float>& int8_kernel_table();

/// The instructions of a backend that this processor or its operating system lacks, "avx2 fma"; empty when none.
inline std::string missing_instructions(CpuBackend backend) {
  std::string missing;
  const bool bf16 = backend == CpuBackend::avx512_bf16, int8 = backend == CpuBackend::avx512_int8;
  const bool avx512 = backend == CpuBackend::avx512 || bf16 || int8;
  if (backend != CpuBackend::avx2 && !avx512) return missing;
#if PROMPTIQA_X86_64
  const auto need = [&missing](const char* name, bool present) {
    if (present) return;
    if (!missing.empty()) missing += ' ';
    missing += name;
  };
  need("avx2", __builtin_cpu_supports("avx2"));
  need("fma", __builtin_cpu_supports("fma"));
  if (avx512) {
    need("avx512f", __builtin_cpu_supports("avx512f"));
    need("avx512dq", __builtin_cpu_supports("avx512dq"));
    need("avx512bw", __builtin_cpu_supports("avx512bw"));
    need("avx512vl", __builtin_cpu_supports("avx512vl"));
  }
  if (bf16) need("avx512bf16", __builtin_cpu_supports("avx512bf16"));
  if (int8) need("avx512vnni", __builtin_cpu_supports("avx512vnni"));
#else
  missing = "x86-64";
#endif
  return missing;
}

/// A backend's name, as reports and errors write it.
inline const char* backend_name(CpuBackend backend) {
  switch (backend) {
    case CpuBackend::avx512:
      return "avx512";
    case CpuBackend::avx2:
      return "avx2";
    case CpuBackend::portable:
      return "portable";
    case CpuBackend::eigen:
      return "eigen";
    case CpuBackend::avx512_bf16:
      return "avx512_bf16";
    case CpuBackend::avx512_int8:
      return "avx512_int8";
    default:
      return "automatic";
  }
}

/// `automatic` resolved for this processor.
inline CpuBackend best_cpu_backend() {
  if (missing_instructions(CpuBackend::avx512).empty()) return CpuBackend::avx512;
  if (missing_instructions(CpuBackend::avx2).empty()) return CpuBackend::avx2;
  return CpuBackend::portable;
}

}  // namespace cpu

template <class T>
const KernelTable<T>& cpu_kernel_table(CpuBackend backend) {
  if (backend == CpuBackend::automatic) backend = cpu::best_cpu_backend();
  if (const std::string missing = cpu::missing_instructions(backend); !missing.empty())
    throw Error(std::string("cpu backend ") + cpu::backend_name(backend) +
                ": expected a processor with its instructions, this one lacks " + missing);
  switch (backend) {
#if PROMPTIQA_X86_64
    case CpuBackend::avx512_bf16:  // double products stay double
    case CpuBackend::avx512_int8:
      if constexpr (std::is_same_v<T, float>)
        return backend == CpuBackend::avx512_bf16 ? cpu::bf16_kernel_table() : cpu::int8_kernel_table();
      [[fallthrough]];
    case CpuBackend::avx512:
      return cpu::isa_kernel_table<T, cpu::Avx512>();
    case CpuBackend::avx2:
      return cpu::isa_kernel_table<T, cpu::Avx2>();
#endif
    case CpuBackend::eigen:
      return cpu::eigen_kernel_table<T>();
    default:
      return cpu::isa_kernel_table<T, cpu::Portable>();
  }
}

}  // namespace promptiqa

#if PROMPTIQA_WITH_BODIES
#include <promptiqa/cpu/bf16_kernel_table.ipp>
#include <promptiqa/cpu/eigen_kernel_table.ipp>
#include <promptiqa/cpu/int8_kernel_table.ipp>
#include <promptiqa/cpu/kernel_table.ipp>
#endif
