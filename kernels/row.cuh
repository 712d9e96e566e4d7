// A row of a matrix held in the registers of one warp: what layer norm and softmax are made of.
// Surprising choice: the row is read once, in 16-byte vectors, whatever is then done to it; rows that do not fit take
// other kernels, which read them again from the cache.
#pragma once

#include "launch.cuh"

namespace promptiqa::cuda {

/// Lane l holds vectors l, l + 32, ... of the row, at most `Vectors`, of `Width` elements each.
template <class T, int Width, int Vectors>
struct Row {
  using A = accumulate_t<T>;
  static constexpr int most_columns = 32 * Width * Vectors;

  A values[Vectors][Width];

  /// Reads a row; columns is a multiple of Width and at most most_columns. Elements behind the end are 0.
  PROMPTIQA_DEVICE void load(const T* row, int columns) {
    clear();
    for_each_vector(columns, [&](int vector, int column) {
      const Vector<T, Width> v = load_vector<Width>(row + column);
      for (int i = 0; i < Width; ++i) values[vector][i] = widen(v.values[i]);
    });
  }
  PROMPTIQA_DEVICE void clear() {
    PROMPTIQA_UNROLL
    for (int vector = 0; vector < Vectors; ++vector)
      for (int i = 0; i < Width; ++i) values[vector][i] = 0;
  }
  PROMPTIQA_DEVICE void store(T* row, int columns) const {
    for_each_vector(columns, [&](int vector, int column) {
      Vector<T, Width> v;
      for (int i = 0; i < Width; ++i) v.values[i] = narrow<T>(values[vector][i]);
      store_vector<Width>(row + column, v);
    });
  }

  /// f(value, column) for this lane's elements.
  template <class F>
  PROMPTIQA_DEVICE void for_each(int columns, F&& f) {
    for_each_vector(columns, [&](int vector, int column) {
      for (int i = 0; i < Width; ++i) f(values[vector][i], column + i);
    });
  }
  /// f(vector, first column) for this lane's vectors.
  template <class F>
  PROMPTIQA_DEVICE static void for_each_vector(int columns, F&& f) {
    PROMPTIQA_UNROLL
    for (int vector = 0; vector < Vectors; ++vector) {
      const int column = (vector * 32 + static_cast<int>(threadIdx.x)) * Width;
      if (column < columns) f(vector, column);
    }
  }
};

/// Rows a block of Row kernels works on: blockDim is (32, rows_per_block).
constexpr int rows_per_block = 4;

/// Two numbers as types, for the choice of a Row.
template <int Width_, int Vectors_>
struct RowShape {
  static constexpr int Width = Width_, Vectors = Vectors_;
};

/// Calls run(RowShape) with the smallest Row that holds `columns` elements, in vectors when `vectors` (all pointers are
/// aligned and columns is a multiple). Returns false when there is none.
template <class T, class Run>
bool with_row_shape(std::int64_t columns, bool vectors, Run&& run) {
  constexpr int width = vector_width<T>;
  if (vectors) {
    if (columns <= 32 * width) return run(RowShape<width, 1>()), true;
    if (columns <= 64 * width) return run(RowShape<width, 2>()), true;
    if (columns <= 128 * width) return run(RowShape<width, 4>()), true;
    if (columns <= 256 * width) return run(RowShape<width, 8>()), true;
  } else {
    if (columns <= 32) return run(RowShape<1, 1>()), true;
    if (columns <= 128) return run(RowShape<1, 4>()), true;
    if (columns <= 256) return run(RowShape<1, 8>()), true;
  }
  return false;
}

/// True when rows of `columns` elements can be read in vectors from all of the pointers.
template <class T, class... Pointers>
bool rows_are_vectors(std::int64_t columns, Pointers... pointers) {
  return columns % vector_width<T> == 0 && (... && aligned(pointers, 16));
}

}  // namespace promptiqa::cuda
