// TensorList: up to sixteen tensors in a row, such as the maps an attention reads.
// Surprising choice: they lie in the list itself, so that handing them around in inference allocates nothing.
#pragma once

#include <array>
#include <cstddef>
#include <span>
#include <string>

#include <promptiqa/core/error.hpp>
#include <promptiqa/core/tensor.hpp>

namespace promptiqa {

template <class T>
class TensorList {
 public:
  static constexpr std::size_t capacity = 16;

  /// Appends a tensor. Throws Error when there are sixteen already.
  void push_back(Tensor<T> x) {
    if (size_ == capacity) throw Error("TensorList: there is room for " + std::to_string(capacity) + " tensors only");
    tensors_[size_++] = std::move(x);
  }
  std::size_t size() const { return size_; }
  const Tensor<T>& operator[](std::size_t i) const { return tensors_[i]; }
  operator std::span<const Tensor<T>>() const { return {tensors_.data(), size_}; }

 private:
  std::array<Tensor<T>, capacity> tensors_;
  std::size_t size_ = 0;
};

}  // namespace promptiqa
