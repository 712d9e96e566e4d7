// Matrix products of a warpgroup, four warps with 64 rows: wgmma, which only sm_90a has. The left operand comes from
// registers, the right one from shared memory, where the tensor cores read it by themselves while the threads go on.
// Surprising choice: tiles are swizzled, not padded, as the instruction wants them, and the same tile can be read as a
// matrix or as its transpose. The twin keeps sums from the kernel until they are waited for, and takes nothing from
// shared memory that its writers have not made visible.
#pragma once

#include "mma.cuh"

#if PROMPTIQA_EMULATED
#include "emulation/warpgroup.hpp"
#define PROMPTIQA_WGMMA 1
#elif defined(__CUDA_ARCH_FEAT_SM90_ALL)
#define PROMPTIQA_WGMMA 1
#else
#define PROMPTIQA_WGMMA 0  // kernels compile, but are never launched
#endif

namespace promptiqa::cuda {

/// A tile of `Rows` rows of bfloat16 lies in panels of 64 elements, one behind the other; a panel's row has 128 bytes,
/// whose 16-byte chunks are permuted by the row's number (the instruction's 128-byte swizzle). This is the place of
/// element d of row r. Tiles begin at multiples of 1024 bytes.
constexpr int swizzle_panel = 64;
template <int Rows>
__host__ PROMPTIQA_DEVICE constexpr int swizzled_place(int r, int d) {
  return (d / swizzle_panel * Rows + r) * swizzle_panel + ((d / 8 ^ r) % 8) * 8 + d % 8;
}

/// A right operand of 16 x 64 in a panel, described for the tensor cores: bits 0 to 13 are the address in units of 16
/// bytes, 32 to 45 the distance of one group of eight rows to the next in the same units, 62 and 63 the swizzle, 1 for
/// that of 128 bytes. (PTX ISA, "Matrix Descriptor Format"; the leading dimension's distance, bits 16 to 29, has no
/// meaning for 64 columns.)
constexpr std::uint64_t matrix_description =
    std::uint64_t{1} << 62 | std::uint64_t{1024 / 16} << 32 | std::uint64_t{1} << 16;
PROMPTIQA_DEVICE std::uint64_t describe_matrix(Shared<bfloat16> first) {
#if PROMPTIQA_EMULATED
  return matrix_description | matrix_address(first);
#else
  return matrix_description | (static_cast<unsigned>(__cvta_generic_to_shared(first)) & 0x3FFFFu) >> 4;
#endif
}

/// sum (64, 64) = left (64, 16) right, or += if `add`. A lane has its warp's 16 rows of sum as a Fragment, and of left
/// what mma_bf16 takes. right (16, 64): `rows` false: in memory 64 rows of 16, k along a row; true: 16 rows of 64. The
/// sum is only there, and left's registers and right's memory are only free again, after wait_for_products().
#if PROMPTIQA_EMULATED
inline void multiply_by_warpgroup(float (*sum)[4], const unsigned (&left)[4], std::uint64_t right, bool rows, bool add,
                                  const char* file = __builtin_FILE(), int line = __builtin_LINE()) {
  emulated_wgmma({file, line}, sum, left, right, rows, add);
}
#else
template <bool Rows>
PROMPTIQA_DEVICE void wgmma_m64n64k16(float (*s)[4], const unsigned (&left)[4], std::uint64_t right, int add) {
#if PROMPTIQA_WGMMA
  asm volatile(
      "{\n"
      ".reg .pred add;\n"
      "setp.ne.b32 add, %37, 0;\n"
      "wgmma.mma_async.sync.aligned.m64n64k16.f32.bf16.bf16 "
      "{%0, %1, %2, %3, %4, %5, %6, %7, %8, %9, %10, %11, %12, %13, %14, %15, "
      "%16, %17, %18, %19, %20, %21, %22, %23, %24, %25, %26, %27, %28, %29, %30, %31}, "
      "{%32, %33, %34, %35}, %36, add, 1, 1, %38;\n"
      "}"
      : "+f"(s[0][0]), "+f"(s[0][1]), "+f"(s[0][2]), "+f"(s[0][3]), "+f"(s[1][0]), "+f"(s[1][1]), "+f"(s[1][2]),
        "+f"(s[1][3]), "+f"(s[2][0]), "+f"(s[2][1]), "+f"(s[2][2]), "+f"(s[2][3]), "+f"(s[3][0]), "+f"(s[3][1]),
        "+f"(s[3][2]), "+f"(s[3][3]), "+f"(s[4][0]), "+f"(s[4][1]), "+f"(s[4][2]), "+f"(s[4][3]), "+f"(s[5][0]),
        "+f"(s[5][1]), "+f"(s[5][2]), "+f"(s[5][3]), "+f"(s[6][0]), "+f"(s[6][1]), "+f"(s[6][2]), "+f"(s[6][3]),
        "+f"(s[7][0]), "+f"(s[7][1]), "+f"(s[7][2]), "+f"(s[7][3])
      : "r"(left[0]), "r"(left[1]), "r"(left[2]), "r"(left[3]), "l"(right), "r"(add), "n"(Rows ? 1 : 0));
#else
  __trap();
#endif
}
PROMPTIQA_DEVICE void multiply_by_warpgroup(float (*sum)[4], const unsigned (&left)[4], std::uint64_t right, bool rows,
                                            bool add) {
  if (rows)
    wgmma_m64n64k16<true>(sum, left, right, add);
  else
    wgmma_m64n64k16<false>(sum, left, right, add);
}
#endif

// begin_products(): before the first product after registers of sums or left operands were written. end_products():
// behind the last of those that are waited for together. wait_for_products(): until all that have ended are done.
#if PROMPTIQA_EMULATED
using emulation::begin_products;
using emulation::end_products;
using emulation::wait_for_products;
#else
PROMPTIQA_DEVICE void begin_products() {
#if PROMPTIQA_WGMMA
  asm volatile("wgmma.fence.sync.aligned;" : : : "memory");
#endif
}
PROMPTIQA_DEVICE void end_products() {
#if PROMPTIQA_WGMMA
  asm volatile("wgmma.commit_group.sync.aligned;" : : : "memory");
#endif
}
PROMPTIQA_DEVICE void wait_for_products() {
#if PROMPTIQA_WGMMA
  asm volatile("wgmma.wait_group.sync.aligned 0;" : : : "memory");
#endif
}
#endif

/// The compiler does not know that a sum arrives later than its instruction: reads of it must stay behind the wait, and
/// writes before the begin.
template <int Tiles>
PROMPTIQA_DEVICE void hold(Fragment<float, Tiles>& sum) {
#if !PROMPTIQA_EMULATED
  PROMPTIQA_UNROLL
  for (int j = 0; j < Tiles; ++j)
    for (int i = 0; i < 4; ++i) asm volatile("" : "+f"(sum.values[j][i])::"memory");
#else
  (void)sum;
#endif
}

/// Makes what this thread has written to shared memory visible to the tensor cores, once a barrier has been passed.
PROMPTIQA_DEVICE void publish_to_tensor_cores() {
#if PROMPTIQA_EMULATED
  emulation::publish_to_async_proxy();
#elif PROMPTIQA_WGMMA
  asm volatile("fence.proxy.async.shared::cta;" : : : "memory");
#endif
}

/// Products of a warpgroup with the same operands as those of a warp in mma.cuh; Tiles and Depth are multiples of 8 and
/// 64.
struct WarpgroupMath {
  /// A lane's share of its warpgroup's 64 rows of Depth elements, as left operand.
  template <int Depth>
  struct Left {
    unsigned values[Depth / 16][4];
  };

  /// The rows from `first` on, a multiple of 16 that the lane's warp has, of a tile of Rows rows.
  template <int Depth, int Rows>
  PROMPTIQA_DEVICE static Left<Depth> load(Shared<bfloat16> tile, int first) {
#if !PROMPTIQA_EMULATED
    if (__cvta_generic_to_shared(tile) % 1024 != 0) __trap();  // every swizzled place would be a wrong one
#endif
    const int lane = static_cast<int>(threadIdx.x % 32), matrix = lane / 8;
    const int row = first + lane % 8 + matrix % 2 * 8;
    Left<Depth> left;
    PROMPTIQA_UNROLL
    for (int k = 0; k < Depth; k += 16)
      load_matrices(left.values[k / 16], tile + swizzled_place<Rows>(row, k + matrix / 2 * 8), false);
    return left;
  }

  /// sum = left b^T, or += if `add`: b has 8 * Tiles rows of Depth elements.
  template <int Depth, int Tiles>
  PROMPTIQA_DEVICE static void rows_times_rows(Fragment<float, Tiles>& sum, const Left<Depth>& left, Shared<bfloat16> b,
                                               bool add = false) {
    static_assert(Depth % 64 == 0, "whole panels");
    multiply(sum, left, b, false, add, [](int j, int k) { return (k / 64 * 8 * Tiles + 8 * j) * 64 + k % 64; });
  }

  /// sum += left b: b has Depth rows of 8 * Tiles elements.
  template <int Depth, int Tiles>
  PROMPTIQA_DEVICE static void add_rows_times_matrix(Fragment<float, Tiles>& sum, const Left<Depth>& left,
                                                     Shared<bfloat16> b) {
    multiply(sum, left, b, true, true, [](int j, int k) { return 8 * j * Depth + 64 * k; });
  }

  /// The same with what was a product's sum as left operand, rounded: p (64, 8 * Steps).
  template <int Steps, int Tiles>
  PROMPTIQA_DEVICE static void add_fragment_times_matrix(Fragment<float, Tiles>& sum, const Fragment<float, Steps>& p,
                                                         Shared<bfloat16> b) {
    static_assert(Steps % 2 == 0, "whole instructions");
    Left<8 * Steps> left;
    PROMPTIQA_UNROLL
    for (int s = 0; s < Steps; s += 2)  // sums of two column tiles are just what an operand of 16 columns looks like
      for (int i = 0; i < 4; ++i)
        left.values[s / 2][i] = pack_bf16(p.values[s + i / 2][i % 2 * 2], p.values[s + i / 2][i % 2 * 2 + 1]);
    add_rows_times_matrix(sum, left, b);
  }

 private:
  /// sum = left b or, if `add`, +=, waited for. place(j, k): where in b the right operand for column tiles j to j + 7
  /// and depth k to k + 15 begins; `rows` as multiply_by_warpgroup has it.
  template <int Depth, int Tiles, class Place>
  PROMPTIQA_DEVICE static void multiply(Fragment<float, Tiles>& sum, const Left<Depth>& left, Shared<bfloat16> b,
                                        bool rows, bool add, Place&& place) {
    static_assert(Depth % 16 == 0 && Tiles % 8 == 0, "whole instructions and panels");
    hold(sum);
    begin_products();
    PROMPTIQA_UNROLL
    for (int j = 0; j < Tiles; j += 8) {
      PROMPTIQA_UNROLL
      for (int k = 0; k < Depth; k += 16)
        multiply_by_warpgroup(sum.values + j, left.values[k / 16], describe_matrix(b + place(j, k)), rows,
                              add || k > 0);
    }
    end_products();
    wait_for_products();
    hold(sum);
  }
};

}  // namespace promptiqa::cuda
