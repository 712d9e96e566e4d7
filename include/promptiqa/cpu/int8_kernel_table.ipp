// The avx512_int8 backend: packed weights as 8-bit integers.
// Surprising choice: whatever is no product with a packed weight is computed as the bf16 backend does it, or in float
// where the processor lacks bfloat16.
#pragma once

#include <promptiqa/cpu/gemm_int8.hpp>
#include <promptiqa/cpu/kernel_table.hpp>

#if PROMPTIQA_X86_64
namespace promptiqa::cpu {

PROMPTIQA_INLINE const KernelTable<float>& int8_kernel_table() {
  static const KernelTable<float> table = [] {
    const bool bf16 = Avx512Bf16::supported();
    KernelTable<float> t = bf16 ? bf16_kernel_table() : isa_kernel_table<float, Avx512>();
    t.name = "cpu avx512_int8";
    t.gemm = bf16 ? gemm_int8<Avx512Bf16> : gemm_int8<Avx512>;
    t.packed_bytes = packed_bytes_int8;
    t.pack_matrix = pack_matrix_int8;
    t.packed_layout = int8_layout;
    return t;
  }();
  return table;
}

}  // namespace promptiqa::cpu
#endif
