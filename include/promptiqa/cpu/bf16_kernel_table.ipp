// The avx512 backend with matrix products of bfloat16 operands.
// Surprising choice: everything between the products is the float code of avx512, so only operands are rounded.
#pragma once

#include <promptiqa/cpu/attention_bf16.hpp>
#include <promptiqa/cpu/gemm.hpp>
#include <promptiqa/cpu/kernel_table.hpp>

#if PROMPTIQA_X86_64
namespace promptiqa::cpu {

PROMPTIQA_INLINE const KernelTable<float>& bf16_kernel_table() {
  static const KernelTable<float> table = [] {
    KernelTable<float> t = isa_kernel_table<float, Avx512>();
    t.name = "cpu avx512_bf16";
    t.gemm = gemm<float, Avx512Bf16>;
    t.packed_bytes = packed_bytes<float, Avx512Bf16>;
    t.pack_matrix = pack_matrix<float, Avx512Bf16>;
    t.packed_layout = packed_layout<float, Avx512Bf16>;
    t.attention = attention_bf16;
    return t;
  }();
  return table;
}

}  // namespace promptiqa::cpu
#endif
