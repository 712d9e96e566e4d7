// Argument checks and recording shared by all ops.
// Surprising choice: every message is built the same way, "op: argument must ..., got ...", so that tests and
// people can rely on it.
#pragma once

#include <cstdint>
#include <string>

#include <promptiqa/core/context.hpp>
#include <promptiqa/core/error.hpp>
#include <promptiqa/core/tape.hpp>
#include <promptiqa/core/tensor.hpp>

namespace promptiqa::detail {

[[noreturn]] inline void shape_error(const char* op, const std::string& message) {
  throw ShapeError(std::string(op) + ": " + message);
}

template <class T>
void check_present(const char* op, const char* argument, const Tensor<T>& x) {
  if (!x) shape_error(op, std::string(argument) + " must not be empty");
}

template <class T>
void check_rank(const char* op, const char* argument, const Tensor<T>& x, int rank) {
  check_present(op, argument, x);
  if (x.rank() != rank)
    shape_error(op,
                std::string(argument) + " must have rank " + std::to_string(rank) + ", got shape " + x.shape().str());
}

template <class T>
void check_min_rank(const char* op, const char* argument, const Tensor<T>& x, int rank) {
  check_present(op, argument, x);
  if (x.rank() < rank)
    shape_error(op, std::string(argument) + " must have rank " + std::to_string(rank) + " or more, got shape " +
                        x.shape().str());
}

template <class T>
void check_shape(const char* op, const char* argument, const Tensor<T>& x, const Shape& expected) {
  check_present(op, argument, x);
  if (x.shape() != expected)
    shape_error(op, std::string(argument) + " must have shape " + expected.str() + ", got " + x.shape().str());
}

template <class T>
void check_numel(const char* op, const char* argument, const Tensor<T>& x, std::int64_t expected) {
  check_present(op, argument, x);
  if (x.numel() != expected)
    shape_error(op, std::string(argument) + " must have " + std::to_string(expected) + " elements, got " +
                        std::to_string(x.numel()));
}

inline int check_axis(const char* op, const Shape& shape, int axis) {
  const int i = axis < 0 ? axis + shape.rank() : axis;
  if (i < 0 || i >= shape.rank())
    shape_error(op, "axis " + std::to_string(axis) + " is out of range for shape " + shape.str());
  return i;
}

/// True when the context records and a gradient flows to any of the tensors.
template <class... Tensors>
bool recording(const Context& ctx, const Tensors&... inputs) {
  return ctx.tape() && (... || ctx.tape()->tracks(inputs));
}

}  // namespace promptiqa::detail
