// Numbers as tests of single kernels draw, keep and compare them: in exact buffers, within roundings.
// Surprising choice: it says nothing of where device memory comes from; who includes it has declared that.
#pragma once

#include <cmath>
#include <cstdint>
#include <limits>
#include <random>
#include <vector>

#include <promptiqa/core/bfloat16.hpp>

namespace promptiqa_test {

using namespace promptiqa;

inline double to_double(float x) { return x; }
inline double to_double(double x) { return x; }
inline double to_double(bfloat16 x) { return to_float(x); }
template <class T>
T from_double(double x) {
  return static_cast<T>(x);
}
template <>
inline bfloat16 from_double<bfloat16>(double x) {
  return to_bfloat16(static_cast<float>(x));
}

/// The spacing of numbers at 1, of the type that results are stored in.
template <class T>
constexpr double epsilon_of = static_cast<double>(std::numeric_limits<T>::epsilon());
template <>
inline constexpr double epsilon_of<bfloat16> = 0x1p-7;

/// Memory of exactly this many elements that kernels of the tested device, the host and the CPU's kernels all reach; all
/// bits are set at first. Optionally `shift` elements behind an aligned address.
template <class T>
class Buffer {
 public:
  explicit Buffer(std::int64_t count, std::int64_t shift = 0)
      : count_(count), shift_(shift),
        memory_(take_device_memory(static_cast<std::size_t>(count + shift) * sizeof(T))) {}
  /// The numbers rounded to T.
  explicit Buffer(const std::vector<double>& values, std::int64_t shift = 0)
      : Buffer(static_cast<std::int64_t>(values.size()), shift) {
    for (std::int64_t i = 0; i < count_; ++i) data()[i] = from_double<T>(values[static_cast<std::size_t>(i)]);
  }
  ~Buffer() { give_back_device_memory(memory_); }
  Buffer(const Buffer&) = delete;
  Buffer& operator=(const Buffer&) = delete;

  T* data() const { return static_cast<T*>(memory_) + shift_; }
  /// What is there when everything asked of the device has been done.
  std::vector<double> values() const {
    wait_for_device();
    std::vector<double> result;
    for (std::int64_t i = 0; i < count_; ++i) result.push_back(to_double(data()[i]));
    return result;
  }

 private:
  std::int64_t count_, shift_;
  void* memory_;
};

/// Numbers in (-1.73, 1.73) that bfloat16 holds exactly.
inline std::vector<double> random_numbers(std::int64_t count, std::uint32_t seed) {
  std::mt19937 generator(seed);
  std::vector<double> values(static_cast<std::size_t>(count));
  for (double& v : values)
    v = to_float(to_bfloat16(static_cast<float>((generator() / 4294967296.0 - 0.5) * 3.4641016)));
  return values;
}
/// The same in (0.5, 1.5).
inline std::vector<double> positive_numbers(std::int64_t count, std::uint32_t seed) {
  std::vector<double> values = random_numbers(count, seed);
  for (double& v : values) v = to_float(to_bfloat16(static_cast<float>(1 + v / 3.5)));
  return values;
}

/// Largest |got - want| in units of eps * (|want| + magnitude); infinite for a NaN or a wrong length.
inline double worst_error(const std::vector<double>& got, const std::vector<double>& want, double eps, double magnitude) {
  if (got.size() != want.size()) return std::numeric_limits<double>::infinity();
  double worst = 0;
  for (std::size_t i = 0; i < got.size(); ++i) {
    const double difference = std::abs(got[i] - want[i]);
    if (!std::isfinite(difference)) return std::numeric_limits<double>::infinity();
    worst = std::max(worst, difference / (eps * (std::abs(want[i]) + magnitude)));
  }
  return worst;
}

}  // namespace promptiqa_test
