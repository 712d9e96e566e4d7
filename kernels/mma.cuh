// Matrix products of one warp: tiles in shared memory times each other, sums in registers. Three kinds of arithmetic
// with one interface: plain, bfloat16 tensor cores (mma.sync m16n8k16) and TF32 tensor cores (m16n8k8).
// Surprising choice: plain arithmetic keeps its sums where the tensor cores do, so a kernel is written once for all
// three.
#pragma once

#include "portability.cuh"

namespace promptiqa::cuda {

/// A lane's share of a (16, 8 * Tiles) matrix: of column tile j the elements (g, 2 t), (g, 2 t + 1), (g + 8, 2 t),
/// (g + 8, 2 t + 1), with g = lane / 4 and t = lane % 4.
template <class Sum, int Tiles>
struct Fragment {
  Sum values[Tiles][4];

  PROMPTIQA_DEVICE void clear() {
    PROMPTIQA_UNROLL
    for (int j = 0; j < Tiles; ++j)
      for (int i = 0; i < 4; ++i) values[j][i] = 0;
  }
  /// f(value, second, column): second is 0 for row g and 1 for row g + 8.
  template <class F>
  PROMPTIQA_DEVICE void for_each(F&& f) {
    const int t = static_cast<int>(threadIdx.x % 4);
    PROMPTIQA_UNROLL
    for (int j = 0; j < Tiles; ++j)
      for (int i = 0; i < 4; ++i) f(values[j][i], i / 2, 8 * j + 2 * t + i % 2);
  }
};

/// The lane's g: its rows of a fragment are g and g + 8.
PROMPTIQA_DEVICE int fragment_row() { return static_cast<int>(threadIdx.x % 32 / 4); }

/// Elements between rows of a tile of `depth` elements: 16 bytes more, so that eight rows lie in different banks.
template <class Operand>
constexpr int padded(int depth) {
  return depth + 16 / static_cast<int>(sizeof(Operand));
}

// ---- instructions
// -----------------------------------------------------------------------------------------------------

#if PROMPTIQA_EMULATED

/// The emulated twins: every lane shows its registers to the others, then computes what is its own.
struct WarpRegisters {
  unsigned values[6];
};
inline WarpRegisters registers_of(const char* what, Site site, int lane) {
  WarpRegisters r;
  std::memcpy(&r, warp_value(what, site, static_cast<unsigned>(lane)), sizeof r);
  return r;
}

/// c (16, 8) += a (16, Depth) b (Depth, 8); value(register, k) is the operand with index k in its register, and a
/// lane's register `n` holds those k with k / (4 PerRegister) == n.
template <int Depth, int PerRegister, class Value>
void emulated_mma(const char* what, Site site, float (&c)[4], const unsigned (&a)[4], const unsigned (&b)[2],
                  Value value) {
  const WarpRegisters mine = {{a[0], a[1], a[2], a[3], b[0], b[1]}};
  warp_exchange(what, site, 0xFFFFFFFFu, &mine, sizeof mine);
  const int g = static_cast<int>(lane_number()) / 4, t = static_cast<int>(lane_number()) % 4, half = Depth / 2;
  WarpRegisters rows[4], columns[2][4];  // of the lanes that hold rows g and g + 8, and columns 2 t and 2 t + 1
  for (int holder = 0; holder < 4; ++holder) {
    rows[holder] = registers_of(what, site, 4 * g + holder);
    for (int i = 0; i < 2; ++i) columns[i][holder] = registers_of(what, site, 4 * (2 * t + i) + holder);
  }
  for (int i = 0; i < 4; ++i)
    for (int k = 0; k < Depth; ++k) {
      const int holder = k % half / PerRegister, upper = k / half;
      c[i] += value(rows[holder].values[2 * upper + i / 2], k) * value(columns[i % 2][holder].values[4 + upper], k);
    }
}

inline void mma_bf16(float (&c)[4], const unsigned (&a)[4], const unsigned (&b)[2], const char* file = __builtin_FILE(),
                     int line = __builtin_LINE()) {
  emulated_mma<16, 2>("mma.m16n8k16.bf16", {file, line}, c, a, b,
                      [](unsigned r, int k) { return __uint_as_float(k % 2 ? r & 0xFFFF0000u : r << 16); });
}
inline void mma_tf32(float (&c)[4], const unsigned (&a)[4], const unsigned (&b)[2], const char* file = __builtin_FILE(),
                     int line = __builtin_LINE()) {
  emulated_mma<8, 1>("mma.m16n8k8.tf32", {file, line}, c, a, b,
                     [](unsigned r, int) { return __uint_as_float(r & ~0x1FFFu); });  // the hardware drops these bits
}

/// Lane l brings the address of row l % 8 of matrix l / 8; register i receives two elements of matrix i.
inline void load_matrices(unsigned (&r)[4], const Shared<bfloat16>& row, bool transpose,
                          const char* file = __builtin_FILE(), int line = __builtin_LINE()) {
  const char* what = "ldmatrix";
  std::uint16_t mine[8], other[8];
  row.read(mine, 16, 16);
  warp_exchange(what, {file, line}, 0xFFFFFFFFu, mine, 16);
  const unsigned g = lane_number() / 4, t = lane_number() % 4;
  for (unsigned i = 0; i < 4; ++i) {
    unsigned halves[2];
    for (unsigned h = 0; h < 2; ++h) {
      std::memcpy(other, warp_value(what, {file, line}, 8 * i + (transpose ? 2 * t + h : g)), 16);
      halves[h] = other[transpose ? g : 2 * t + h];
    }
    r[i] = halves[0] | halves[1] << 16;
  }
}

inline unsigned to_tf32(float x) {
  const unsigned bits = __float_as_uint(x);
  return (bits & 0x7F800000u) == 0x7F800000u ? bits : (bits + 0x1000u) & ~0x1FFFu;  // to nearest, ties away from zero
}
inline unsigned pack_bf16(float low, float high) {
  return float_to_bfloat16_bits(low) | static_cast<unsigned>(float_to_bfloat16_bits(high)) << 16;
}

#else

/// c (16, 8) += a (16, 16) b (16, 8), operands bfloat16. Below sm_80 there is no such instruction: never launched
/// there.
PROMPTIQA_DEVICE void mma_bf16(float (&c)[4], const unsigned (&a)[4], const unsigned (&b)[2]) {
#if __CUDA_ARCH__ >= 800
  asm("mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, {%0,%1,%2,%3};"
      : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
      : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
#else
  __trap();
#endif
}
/// c (16, 8) += a (16, 8) b (8, 8), operands TF32.
PROMPTIQA_DEVICE void mma_tf32(float (&c)[4], const unsigned (&a)[4], const unsigned (&b)[2]) {
#if __CUDA_ARCH__ >= 800
  asm("mma.sync.aligned.m16n8k8.row.col.f32.tf32.tf32.f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, {%0,%1,%2,%3};"
      : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
      : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
#else
  __trap();
#endif
}
/// Four 8 x 8 matrices: lane l brings the address of row l % 8 of matrix l / 8; register i receives elements (g, 2 t)
/// and (g, 2 t + 1) of matrix i, or of its transpose.
PROMPTIQA_DEVICE void load_matrices(unsigned (&r)[4], const bfloat16* row, bool transpose) {
  const unsigned address = static_cast<unsigned>(__cvta_generic_to_shared(row));
  if (transpose)
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0,%1,%2,%3}, [%4];"
                 : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3])
                 : "r"(address)
                 : "memory");
  else
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0,%1,%2,%3}, [%4];"
                 : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3])
                 : "r"(address)
                 : "memory");
}
/// x with 10 fraction bits.
PROMPTIQA_DEVICE unsigned to_tf32(float x) {
#if __CUDA_ARCH__ >= 800
  unsigned r;
  asm("cvt.rna.tf32.f32 %0, %1;" : "=r"(r) : "f"(x));
  return r;
#else
  return __float_as_uint(x);
#endif
}
/// Two numbers rounded to bfloat16, the first in the lower half.
PROMPTIQA_DEVICE unsigned pack_bf16(float low, float high) {
  const __nv_bfloat162 pair = __floats2bfloat162_rn(low, high);
  return *reinterpret_cast<const unsigned*>(&pair);
}

#endif

// ---- kinds of arithmetic
// ------------------------------------------------------------------------------------------------

/// Multiplications and additions of A itself.
template <class A>
struct PlainMath {
  using Operand = A;  // of tiles in shared memory
  using Sum = A;
  static constexpr bool tensor_cores = false;

  /// sum[r] += a[r] b^T: a has 16 * RowTiles rows and b 8 * Tiles rows, of Depth elements.
  template <int Depth, int RowTiles, int Tiles>
  PROMPTIQA_DEVICE static void add_rows_times_rows(Fragment<Sum, Tiles> (&sum)[RowTiles], Shared<Operand> a,
                                                   int a_pitch, Shared<Operand> b, int b_pitch) {
    constexpr int width = 16 / static_cast<int>(sizeof(A));
    const int g = fragment_row(), column = static_cast<int>(threadIdx.x % 4) * 2;
    for (int k = 0; k < Depth; k += width) {
      Vector<A, width> rows[RowTiles][2];
      PROMPTIQA_UNROLL
      for (int r = 0; r < RowTiles; ++r)
        for (int i = 0; i < 2; ++i) rows[r][i] = load_shared<width>(a + ((16 * r + 8 * i + g) * a_pitch + k));
      PROMPTIQA_UNROLL
      for (int j = 0; j < Tiles; ++j)
        for (int i = 0; i < 2; ++i) {
          const Vector<A, width> v = load_shared<width>(b + ((8 * j + column + i) * b_pitch + k));
          PROMPTIQA_UNROLL
          for (int r = 0; r < RowTiles; ++r)
            for (int n = 0; n < width; ++n) {
              sum[r].values[j][i] += rows[r][0].values[n] * v.values[n];
              sum[r].values[j][2 + i] += rows[r][1].values[n] * v.values[n];
            }
        }
    }
  }

  /// sum += p b: b has 8 * Steps rows of 8 * Tiles elements.
  template <int Steps, int Tiles>
  PROMPTIQA_DEVICE static void add_fragment_times_matrix(Fragment<Sum, Tiles>& sum, const Fragment<Sum, Steps>& p,
                                                         Shared<Operand> b, int b_pitch) {
    const int first = fragment_row() * 4, column = static_cast<int>(threadIdx.x % 4) * 2;
    PROMPTIQA_UNROLL
    for (int s = 0; s < Steps; ++s)
      for (int k = 0; k < 8; ++k) {
        const A upper = __shfl_sync(0xFFFFFFFFu, p.values[s][k % 2], first + k / 2);
        const A lower = __shfl_sync(0xFFFFFFFFu, p.values[s][2 + k % 2], first + k / 2);
        PROMPTIQA_UNROLL
        for (int j = 0; j < Tiles; ++j) {
          const Vector<A, 2> v = load_shared<2>(b + ((8 * s + k) * b_pitch + 8 * j + column));
          for (int i = 0; i < 2; ++i) {
            sum.values[j][i] += upper * v.values[i];
            sum.values[j][2 + i] += lower * v.values[i];
          }
        }
      }
  }
};

/// Operands bfloat16, sums float.
struct Bf16Math {
  using Operand = bfloat16;
  using Sum = float;
  static constexpr bool tensor_cores = true;

  template <int Depth, int RowTiles, int Tiles>
  PROMPTIQA_DEVICE static void add_rows_times_rows(Fragment<Sum, Tiles> (&sum)[RowTiles], Shared<Operand> a,
                                                   int a_pitch, Shared<Operand> b, int b_pitch) {
    static_assert(Depth % 16 == 0 && Tiles % 2 == 0, "whole instructions");
    const int lane = static_cast<int>(threadIdx.x % 32), matrix = lane / 8, row = lane % 8;
    PROMPTIQA_UNROLL
    for (int k = 0; k < Depth; k += 16) {
      unsigned rows[RowTiles][4];
      PROMPTIQA_UNROLL
      for (int r = 0; r < RowTiles; ++r)
        load_matrices(rows[r], a + ((16 * r + row + matrix % 2 * 8) * a_pitch + k + matrix / 2 * 8), false);
      PROMPTIQA_UNROLL
      for (int j = 0; j < Tiles; j += 2) {
        unsigned pair[4];
        load_matrices(pair, b + ((8 * (j + matrix / 2) + row) * b_pitch + k + matrix % 2 * 8), false);
        add_pair(sum, rows, pair, j);
      }
    }
  }

  template <int Steps, int Tiles>
  PROMPTIQA_DEVICE static void add_fragment_times_matrix(Fragment<Sum, Tiles>& sum, const Fragment<Sum, Steps>& p,
                                                         Shared<Operand> b, int b_pitch) {
    static_assert(Steps % 2 == 0 && Tiles % 2 == 0, "whole instructions");
    const int lane = static_cast<int>(threadIdx.x % 32), matrix = lane / 8, row = lane % 8;
    PROMPTIQA_UNROLL
    for (int s = 0; s < Steps; s += 2) {  // sums of two column tiles are just what an operand of 16 columns looks like
      const unsigned rows[4] = {pack_bf16(p.values[s][0], p.values[s][1]), pack_bf16(p.values[s][2], p.values[s][3]),
                                pack_bf16(p.values[s + 1][0], p.values[s + 1][1]),
                                pack_bf16(p.values[s + 1][2], p.values[s + 1][3])};
      PROMPTIQA_UNROLL
      for (int j = 0; j < Tiles; j += 2) {
        unsigned pair[4];
        load_matrices(pair, b + ((8 * s + matrix % 2 * 8 + row) * b_pitch + 8 * (j + matrix / 2)), true);
        mma_bf16(sum.values[j], rows, {pair[0], pair[1]});
        mma_bf16(sum.values[j + 1], rows, {pair[2], pair[3]});
      }
    }
  }

 private:
  template <int RowTiles, int Tiles>
  PROMPTIQA_DEVICE static void add_pair(Fragment<Sum, Tiles> (&sum)[RowTiles], const unsigned (&rows)[RowTiles][4],
                                        const unsigned (&pair)[4], int j) {
    PROMPTIQA_UNROLL
    for (int r = 0; r < RowTiles; ++r) {
      mma_bf16(sum[r].values[j], rows[r], {pair[0], pair[1]});
      mma_bf16(sum[r].values[j + 1], rows[r], {pair[2], pair[3]});
    }
  }
};

/// Operands float in memory, rounded to TF32 on their way into the tensor cores; sums float. The eight terms of an
/// instruction are taken in the order 0 2 4 6 1 3 5 7, so that a lane's two lie beside each other: in shared memory,
/// and in the sums that become operands.
struct Tf32Math {
  using Operand = float;
  using Sum = float;
  static constexpr bool tensor_cores = true;

  template <int Depth, int RowTiles, int Tiles>
  PROMPTIQA_DEVICE static void add_rows_times_rows(Fragment<Sum, Tiles> (&sum)[RowTiles], Shared<Operand> a,
                                                   int a_pitch, Shared<Operand> b, int b_pitch) {
    static_assert(Depth % 8 == 0, "whole instructions");
    const int g = fragment_row(), t = static_cast<int>(threadIdx.x % 4);
    PROMPTIQA_UNROLL
    for (int k = 0; k < Depth; k += 8) {
      unsigned rows[RowTiles][4];
      PROMPTIQA_UNROLL
      for (int r = 0; r < RowTiles; ++r)
        for (int i = 0; i < 2; ++i) {
          const Vector<float, 2> v = load_shared<2>(a + ((16 * r + 8 * i + g) * a_pitch + k + 2 * t));
          rows[r][i] = to_tf32(v.values[0]);
          rows[r][2 + i] = to_tf32(v.values[1]);
        }
      PROMPTIQA_UNROLL
      for (int j = 0; j < Tiles; ++j) {
        const Vector<float, 2> v = load_shared<2>(b + ((8 * j + g) * b_pitch + k + 2 * t));
        const unsigned column[2] = {to_tf32(v.values[0]), to_tf32(v.values[1])};
        PROMPTIQA_UNROLL
        for (int r = 0; r < RowTiles; ++r) mma_tf32(sum[r].values[j], rows[r], column);
      }
    }
  }

  template <int Steps, int Tiles>
  PROMPTIQA_DEVICE static void add_fragment_times_matrix(Fragment<Sum, Tiles>& sum, const Fragment<Sum, Steps>& p,
                                                         Shared<Operand> b, int b_pitch) {
    const int g = fragment_row(), t = static_cast<int>(threadIdx.x % 4);
    PROMPTIQA_UNROLL
    for (int s = 0; s < Steps; ++s) {
      const unsigned rows[4] = {to_tf32(p.values[s][0]), to_tf32(p.values[s][2]), to_tf32(p.values[s][1]),
                                to_tf32(p.values[s][3])};
      PROMPTIQA_UNROLL
      for (int j = 0; j < Tiles; ++j) {
        const float even = b[(8 * s + 2 * t) * b_pitch + 8 * j + g], odd = b[(8 * s + 2 * t + 1) * b_pitch + 8 * j + g];
        mma_tf32(sum.values[j], rows, {to_tf32(even), to_tf32(odd)});
      }
    }
  }
};

}  // namespace promptiqa::cuda
