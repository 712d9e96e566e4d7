// Kernels of a device against the CPU's table in double, output by output, in both orders of threads.
// Surprising choice: the reference has the very same (rounded) inputs, so the tolerance is only that of the arithmetic: a
// few roundings of the type sums are kept in, and one of the result.
#pragma once

#include <string>
#include <vector>

#include "tested_device.hpp"

namespace promptiqa_test {

/// The CPU, in vectors.
inline Context& cpu() {
  static Context ctx = Context::cpu(1);
  return ctx;
}

/// Outputs of a kernel, one after the other.
using Outputs = std::vector<std::vector<double>>;

/// A kernel's launcher and context of the emulated device for T, or of the CPU for double.
template <class T>
struct Table {
  const KernelTable<T>& kernels;
  KernelContext context;
};

/// Calls run(Table<T>) in both orders and run(Table<double>) on the CPU; compares output by output: `roundings` of the
/// accumulation type and one to the nearest of Stored, the type of the outputs, relative to |value| + magnitude.
template <class T, class Stored = T, class Run>
void check(const std::string& what, double roundings, double magnitude, Run run) {
  using A = accumulate_t<T>;
  INFO(what << ", " << sizeof(T) << " bytes an element");
  Outputs got[2];
  for (int i = 0; i < 2; ++i) {
    const InOrder order(i == 0 ? emulation::Order::forward : emulation::Order::reverse);
    got[i] = run(Table<T>{cuda::kernel_table<T>(), device_context().kernel_context()});
  }
  const Outputs want = run(Table<double>{cpu().kernels<double>(), cpu().kernel_context()});
  REQUIRE(got[0].size() == want.size());
  for (std::size_t i = 0; i < want.size(); ++i) {
    INFO("output " << i);
    const double eps = roundings * epsilon_of<A> + (sizeof(Stored) == sizeof(A) ? 0 : epsilon_of<Stored> / 2);
    CHECK(worst_error(got[0][i], want[i], eps, magnitude) <= 1);
    CHECK((got[0][i] == got[1][i]));
  }
}

/// The same for the types whose numbers the CPU's double has, too.
template <class Run>
void check_wide(const std::string& what, double roundings, double magnitude, Run run) {
  check<float>(what, roundings, magnitude, run);
  check<double>(what, roundings, magnitude, run);
}
/// The same for float, double and bfloat16. `run` is a generic lambda over Table<T>; ELEMENT tells it T.
template <class Run>
void check_all(const std::string& what, double roundings, double magnitude, Run run) {
  check<float>(what, roundings, magnitude, run);
  check<double>(what, roundings, magnitude, run);
  check<bfloat16>(what, roundings, magnitude, run);
}

template <class T>
T element_of(const Table<T>&);
#define ELEMENT(table) decltype(element_of(table))

inline std::string shape(std::initializer_list<std::int64_t> sizes) {
  std::string text;
  for (std::int64_t size : sizes) text += (text.empty() ? "" : " x ") + std::to_string(size);
  return text;
}

}  // namespace promptiqa_test
