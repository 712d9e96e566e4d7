// What the tests of the CPU bodies share: the backends this processor runs, random data, comparison.
// Surprising choice: every computation is run by one thread and by three, and the bits must agree.
#pragma once

#include <cmath>
#include <cstdint>
#include <cstring>
#include <limits>
#include <random>
#include <string>
#include <vector>

#include <promptiqa/core/context.hpp>
#include "catch.hpp"

namespace promptiqa_test {

using namespace promptiqa;

/// What references are computed in: where it is wider than double, the tests of double see their own rounding less.
using Real = long double;

/// A backend with a Context of one thread and one of three.
struct Backend {
  CpuBackend kind;
  Context one, three;
};

inline std::vector<Backend>& backends() {
  static std::vector<Backend> all = [] {
    std::vector<Backend> found;
    for (CpuBackend kind : {CpuBackend::portable, CpuBackend::avx2, CpuBackend::avx512, CpuBackend::eigen}) {
      try {
        found.push_back({kind, Context::cpu(1, kind), Context::cpu(3, kind)});
      } catch (const Error&) {  // this processor lacks it; context_test checks the message
      }
    }
    return found;
  }();
  return all;
}

/// The sizes at which vector loops change course.
inline const std::vector<std::int64_t>& awkward_sizes() {
  static const std::vector<std::int64_t> sizes = {1, 3, 15, 16, 17, 31, 32, 33, 63, 64, 65, 1000};
  return sizes;
}

/// n numbers from a normal distribution.
template <class T>
std::vector<T> random_values(std::int64_t n, unsigned seed, double spread = 1, double centre = 0) {
  std::mt19937 generator(seed);
  std::normal_distribution<double> normal(centre, spread);
  std::vector<T> values(static_cast<std::size_t>(n));
  for (T& v : values) v = static_cast<T>(normal(generator));
  return values;
}

/// Largest |got - want| in units of eps(T) * (|want| + magnitude); infinite for a NaN or a wrong length.
template <class T>
double worst_error(const std::vector<T>& got, const std::vector<Real>& want, double magnitude) {
  if (got.size() != want.size()) return std::numeric_limits<double>::infinity();
  const double eps = static_cast<double>(std::numeric_limits<T>::epsilon());
  double worst = 0;
  for (std::size_t i = 0; i < got.size(); ++i) {
    const double difference = static_cast<double>(std::abs(static_cast<Real>(got[i]) - want[i]));
    if (!std::isfinite(difference)) return std::numeric_limits<double>::infinity();
    worst = std::max(worst, difference / (eps * (static_cast<double>(std::abs(want[i])) + magnitude)));
  }
  return worst;
}

template <class T>
bool same_bits(const std::vector<T>& a, const std::vector<T>& b) {
  return a.size() == b.size() && (a.empty() || std::memcmp(a.data(), b.data(), a.size() * sizeof(T)) == 0);
}

/// Runs `run(table, kernel_context)`, which returns the outputs one after the other, with every backend and
/// compares: bits between one and three threads, values with `want` to within `limit` units of worst_error.
template <class T, class Run>
void check_everywhere(const std::string& what, Run run, const std::vector<Real>& want, double magnitude,
                      double limit) {
  for (Backend& backend : backends()) {
    const KernelTable<T>& table = backend.one.template kernels<T>();
    INFO(what << ", " << table.name);
    const std::vector<T> serial = run(table, backend.one.kernel_context());
    const std::vector<T> parallel = run(table, backend.three.kernel_context());
    CHECK(worst_error(serial, want, magnitude) <= limit);
    CHECK(same_bits(serial, parallel));
  }
}

template <class T>
std::vector<Real> widened(const std::vector<T>& values) {
  return std::vector<Real>(values.begin(), values.end());
}

template <class T>
std::vector<T> joined(std::initializer_list<std::vector<T>> parts) {
  std::vector<T> all;
  for (const std::vector<T>& part : parts) all.insert(all.end(), part.begin(), part.end());
  return all;
}

}  // namespace promptiqa_test
