// Numbers of the host to tensors and back, for every element type and device.
// Surprising choice: bfloat16 has no arithmetic, so on the host its numbers are floats (accumulate_t).
#pragma once

#include <cstddef>
#include <memory>
#include <span>
#include <type_traits>
#include <vector>

#include <promptiqa/core/bfloat16.hpp>
#include <promptiqa/core/context.hpp>

namespace promptiqa::detail {

/// x as an element, rounded once.
template <class T, class X>
T rounded_to(X x) {
  if constexpr (std::is_same_v<T, bfloat16>)
    return to_bfloat16(static_cast<float>(x));
  else
    return static_cast<T>(x);
}

/// An element as a number to compute with; exact.
template <class T>
accumulate_t<T> widened(T x) {
  if constexpr (std::is_same_v<T, bfloat16>)
    return to_float(x);
  else
    return x;
}

/// A tensor of the values, each rounded once.
template <class T, class X>
Tensor<T> from_host(Context& ctx, const Shape& shape, std::span<const X> values) {
  if constexpr (std::is_same_v<T, X>) {
    return ctx.from<T>(shape, values);
  } else {
    std::vector<T> elements;
    elements.reserve(values.size());
    for (X x : values) elements.push_back(rounded_to<T>(x));
    return ctx.from<T>(shape, std::span<const T>(elements));
  }
}

/// work(numbers): the elements as a span or vector of accumulate_t<T>, in place where they lie in the host's memory as
/// such.
template <class T, class Work>
void with_host_numbers(const Tensor<T>& x, Work work) {
  if constexpr (std::is_same_v<T, accumulate_t<T>>) {
    if (x.device() == Device::cpu) return work(x.values());
    work(x.host());
  } else {
    std::vector<accumulate_t<T>> numbers;
    numbers.reserve(static_cast<std::size_t>(x.numel()));
    for (T element : x.host()) numbers.push_back(widened(element));
    work(numbers);
  }
}

/// visit(i, element i as a float), for all of them; waits for the work that makes them.
template <class T, class Visit>
void each_on_host(const Tensor<T>& x, Visit visit) {
  with_host_numbers(x, [&](const auto& numbers) {
    for (std::size_t i = 0; i < numbers.size(); ++i) visit(i, static_cast<float>(numbers[i]));
  });
}

/// The tensor as floats in the host's memory: x itself, if it is that.
template <class T>
Tensor<float> on_host(const Tensor<T>& x) {
  if constexpr (std::is_same_v<T, float>)
    if (x.device() == Device::cpu) return x;
  const auto values = std::make_shared<std::vector<float>>(static_cast<std::size_t>(x.numel()));
  each_on_host(x, [&](std::size_t i, float value) { (*values)[i] = value; });
  return Tensor<float>(MemoryPool::foreign(values->data(), values->size() * sizeof(float), values), x.shape());
}

/// x in another element type, by way of the host: for the few numbers that are converted when a model is made ready.
template <class To, class From>
Tensor<To> converted(Context& ctx, const Tensor<From>& x) {
  if constexpr (std::is_same_v<To, From>) {
    return x;
  } else {
    Tensor<To> y;
    with_host_numbers(x, [&](const auto& numbers) {
      y = from_host<To>(ctx, x.shape(), std::span<const accumulate_t<From>>(numbers));
    });
    return y;
  }
}

}  // namespace promptiqa::detail
