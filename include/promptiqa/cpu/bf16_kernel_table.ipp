// The avx512 backend with matrix products of bfloat16 operands.
// Surprising choice: everything between the products is the float code of avx512, so only operands are rounded.
#pragma once

#include <promptiqa/cpu/attention_bf16.hpp>
#include <promptiqa/cpu/conv2d.hpp>
#include <promptiqa/cpu/gemm.hpp>
#include <promptiqa/cpu/kernel_table.hpp>

#if PROMPTIQA_X86_64
namespace promptiqa::cpu {

namespace detail {

// Convolutions of pixels and of the few channels right after them stay float: rounding there moves scores more than the
// rounding of everything else together (CONTRIBUTING.md), and they are a small part of the work.
inline bool stays_float(std::int64_t in_channels) { return in_channels < 32; }

inline void conv2d_bf16(const KernelContext& ctx, const Conv2dArgs<float>& args) {
  stays_float(args.geometry.in_channels) ? conv2d<float, Avx512>(ctx, args) : conv2d<float, Avx512Bf16>(ctx, args);
}
inline void pack_conv2d_bf16(const KernelContext& ctx, const PackConv2dArgs<float>& args) {
  stays_float(args.in_channels) ? pack_conv2d<float, Avx512>(ctx, args) : pack_conv2d<float, Avx512Bf16>(ctx, args);
}
inline std::size_t packed_conv2d_bytes_bf16(std::int64_t out_channels, std::int64_t in_channels, std::int64_t kernel_h,
                                            std::int64_t kernel_w) {
  return stays_float(in_channels)
             ? packed_conv2d_bytes<float, Avx512>(out_channels, in_channels, kernel_h, kernel_w)
             : packed_conv2d_bytes<float, Avx512Bf16>(out_channels, in_channels, kernel_h, kernel_w);
}

}  // namespace detail

PROMPTIQA_INLINE const KernelTable<float>& bf16_kernel_table() {
  static const KernelTable<float> table = [] {
    KernelTable<float> t = isa_kernel_table<float, Avx512>();
    t.name = "cpu avx512_bf16";
    t.gemm = gemm<float, Avx512Bf16>;
    t.packed_bytes = packed_bytes<float, Avx512Bf16>;
    t.pack_matrix = pack_matrix<float, Avx512Bf16>;
    t.packed_layout = packed_layout<float, Avx512Bf16>;
    t.attention = attention_bf16;
    t.conv2d = detail::conv2d_bf16;
    t.packed_conv2d_bytes = detail::packed_conv2d_bytes_bf16;
    t.pack_conv2d = detail::pack_conv2d_bf16;
    return t;
  }();
  return table;
}

}  // namespace promptiqa::cpu
#endif
