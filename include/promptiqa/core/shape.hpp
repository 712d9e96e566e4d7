// Shape: up to six dimensions of a row-major, contiguous tensor.
// Surprising choice: the dimensions live inside the object, so making a shape never touches the heap.
//
// Letters used in the comments of every header:
//   B batch            C channels, columns, width   H heads, or image height   W image width
//   N, L rows/tokens   D width of one head          T tokens of the grid       K reduced dimension
//   M prompt width     n pairs in a prompt          O output channels          S image side
#pragma once

#include <array>
#include <cstdint>
#include <initializer_list>
#include <limits>
#include <string>

#include <promptiqa/core/error.hpp>

namespace promptiqa {

/// Dimensions of a tensor, rank 0 (a scalar) to 6. Row-major: the last dimension is the fastest.
class Shape {
 public:
  static constexpr int max_rank = 6;

  Shape() = default;

  /// Throws ShapeError when there are more than six dimensions, one is negative, or the product overflows.
  Shape(std::initializer_list<std::int64_t> dims) : Shape(dims.begin(), dims.end()) {}

  /// The same from any range of integers.
  template <class Iterator>
  Shape(Iterator first, Iterator last) {
    for (; first != last; ++first) push_back(static_cast<std::int64_t>(*first));
  }

  /// Appends one dimension. Throws ShapeError as the constructor does.
  void push_back(std::int64_t dim) {
    if (rank_ == max_rank) throw ShapeError("shape: rank must be at most 6, got 7 or more");
    if (dim < 0) throw ShapeError("shape: dimensions must not be negative, got " + std::to_string(dim));
    dims_[static_cast<std::size_t>(rank_++)] = dim;
    checked_numel();
  }

  int rank() const { return rank_; }

  /// Dimension i; a negative i counts from the end. Throws ShapeError when out of range.
  std::int64_t operator[](int i) const { return dims_[index(i)]; }

  /// Replaces dimension i (negative counts from the end). Throws ShapeError when out of range or overflowing.
  void set(int i, std::int64_t dim) {
    if (dim < 0) throw ShapeError("shape: dimensions must not be negative, got " + std::to_string(dim));
    dims_[index(i)] = dim;
    checked_numel();
  }

  /// Number of elements; 1 for rank 0.
  std::int64_t numel() const {
    std::int64_t n = 1;
    for (int i = 0; i < rank_; ++i) n *= dims_[static_cast<std::size_t>(i)];
    return n;
  }

  /// Product of dimensions [first, last).
  std::int64_t product(int first, int last) const {
    std::int64_t n = 1;
    for (int i = first; i < last; ++i) n *= dims_[static_cast<std::size_t>(i)];
    return n;
  }

  const std::int64_t* begin() const { return dims_.data(); }
  const std::int64_t* end() const { return dims_.data() + rank_; }

  friend bool operator==(const Shape& a, const Shape& b) {
    if (a.rank_ != b.rank_) return false;
    for (int i = 0; i < a.rank_; ++i)
      if (a[i] != b[i]) return false;
    return true;
  }
  friend bool operator!=(const Shape& a, const Shape& b) { return !(a == b); }

  /// "(2, 3, 224, 224)", for error messages.
  std::string str() const {
    std::string s = "(";
    for (int i = 0; i < rank_; ++i) s += (i ? ", " : "") + std::to_string((*this)[i]);
    return s + ")";
  }

 private:
  std::size_t index(int i) const {
    const int j = i < 0 ? i + rank_ : i;
    if (j < 0 || j >= rank_)
      throw ShapeError("shape: index " + std::to_string(i) + " is out of range for rank " + std::to_string(rank_));
    return static_cast<std::size_t>(j);
  }

  void checked_numel() const {
    // The product over the non-zero dimensions must fit too: strides are made of it.
    std::int64_t n = 1;
    for (int i = 0; i < rank_; ++i) {
      const std::int64_t d = dims_[static_cast<std::size_t>(i)];
      if (d == 0) continue;
      if (n > std::numeric_limits<std::int64_t>::max() / 16 / d)
        throw ShapeError("shape: the number of elements of " + str() + " overflows");
      n *= d;
    }
  }

  std::array<std::int64_t, max_rank> dims_{};
  int rank_ = 0;
};

}  // namespace promptiqa
