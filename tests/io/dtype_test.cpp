// Tests of the element types: the value of every 16-bit pattern, and rounding checked against neighbours.
// Surprising choice: expected values are computed in double from the formats' definitions, where all is exact.
#include <cmath>
#include <limits>
#include <random>

#include <promptiqa/io/dtype.hpp>
#include "catch.hpp"
#include "io_test_tools.hpp"

using namespace io_test;
using promptiqa::DType;

namespace {
constexpr int half_mantissa = 10, bfloat16_mantissa = 7;

// The value of sign | exponent | mantissa, by definition. Not for NaN.
double value_of(std::uint16_t bits, int mantissa_bits) {
  const int exponent_bits = 15 - mantissa_bits;
  const int exponent = bits >> mantissa_bits & ((1 << exponent_bits) - 1);
  const int mantissa = bits & ((1 << mantissa_bits) - 1);
  const int bias = (1 << (exponent_bits - 1)) - 1;
  double magnitude = 0;
  if (exponent == (1 << exponent_bits) - 1)
    magnitude = std::numeric_limits<double>::infinity();
  else if (exponent == 0)
    magnitude = std::ldexp(mantissa, 1 - bias - mantissa_bits);
  else
    magnitude = std::ldexp(mantissa + (1 << mantissa_bits), exponent - bias - mantissa_bits);
  return bits & 0x8000 ? -magnitude : magnitude;
}

bool is_nan(std::uint16_t bits, int mantissa_bits) {
  const int infinity = ((1 << (15 - mantissa_bits)) - 1) << mantissa_bits;
  return (bits & 0x7FFF) > infinity;
}

// The nearest pattern to a finite value, ties to even, by binary search over the ordered magnitudes.
std::uint16_t nearest(double value, int mantissa_bits) {
  const double magnitude = std::abs(value);
  const int infinity = ((1 << (15 - mantissa_bits)) - 1) << mantissa_bits;
  int low = 0, high = infinity;  // value_of(low) <= magnitude < value_of(high)
  while (high - low > 1) {
    const int middle = (low + high) / 2;
    (value_of(static_cast<std::uint16_t>(middle), mantissa_bits) <= magnitude ? low : high) = middle;
  }
  const double below = value_of(static_cast<std::uint16_t>(low), mantissa_bits);
  // Beyond the largest finite value the next one would be as far away as the previous one was.
  const double above = high == infinity ? 2 * below - value_of(static_cast<std::uint16_t>(low - 1), mantissa_bits)
                                        : value_of(static_cast<std::uint16_t>(high), mantissa_bits);
  const double middle = (below + above) / 2;  // exact
  const int chosen = magnitude < middle ? low : magnitude > middle ? high : low % 2 == 0 ? low : high;
  return static_cast<std::uint16_t>(chosen | (std::signbit(value) ? 0x8000 : 0));
}

// Numbers of every magnitude, and for each 16-bit value its neighbourhood and the ties on both sides.
std::vector<double> rounding_cases(int mantissa_bits) {
  std::vector<double> cases{0.0, -0.0, 1e-300, 5e-324, -1e-60, 1e38, -3e38, 1e300, 65519.0, 65519.999, 65520.0};
  std::mt19937_64 random(7);
  for (int i = 0; i < 0x8000; i += 1 + i % 7) {
    const double here = value_of(static_cast<std::uint16_t>(i), mantissa_bits);
    const double next = value_of(static_cast<std::uint16_t>(i + 1), mantissa_bits);
    if (!std::isfinite(here) || is_nan(static_cast<std::uint16_t>(i), mantissa_bits) || !std::isfinite(next)) continue;
    const double tie = (here + next) / 2;
    const double random_part = here + (next - here) * std::ldexp(static_cast<double>(random() >> 11), -53);
    for (const double x : {here, tie, std::nextafter(tie, 0.0), std::nextafter(tie, 1e300), -tie, random_part})
      cases.push_back(x);
  }
  return cases;
}

template <class T>
std::vector<std::uint16_t> encoded(DType dtype, const std::vector<T>& values) {
  std::vector<std::uint16_t> bits(values.size());
  promptiqa::encode(dtype, values.data(), values.size(), bits.data());
  return bits;
}
}  // namespace

TEST_CASE("every 16-bit pattern decodes to its value, one by one, in bulk and unaligned") {
  const DType dtype = GENERATE(DType::f16, DType::bf16);
  const int mantissa = dtype == DType::f16 ? half_mantissa : bfloat16_mantissa;
  std::vector<std::uint16_t> patterns(65536);
  for (std::size_t i = 0; i < patterns.size(); ++i) patterns[i] = static_cast<std::uint16_t>(i);
  std::string shifted(1 + 2 * patterns.size(), '\0');
  std::memcpy(shifted.data() + 1, patterns.data(), 2 * patterns.size());

  std::vector<float> bulk(patterns.size()), unaligned(patterns.size());
  std::vector<double> wide(patterns.size());
  promptiqa::decode(dtype, patterns.data(), patterns.size(), bulk.data());
  promptiqa::decode(dtype, shifted.data() + 1, patterns.size(), unaligned.data());
  promptiqa::decode(dtype, patterns.data(), patterns.size(), wide.data());
  std::size_t wrong = 0;
  for (const std::uint16_t bits : patterns) {
    const float one = dtype == DType::f16 ? promptiqa::half_to_float(bits) : promptiqa::bfloat16_to_float(bits);
    const float results[] = {one, bulk[bits], unaligned[bits]};
    for (const float x : results) {
      const bool right = is_nan(bits, mantissa)
                             ? std::isnan(x)
                             : !std::isnan(x) && static_cast<double>(x) == value_of(bits, mantissa) &&
                                   std::signbit(x) == (bits >= 0x8000);
      wrong += !right;
    }
    const bool right_wide = is_nan(bits, mantissa) ? std::isnan(wide[bits]) : wide[bits] == value_of(bits, mantissa);
    wrong += !right_wide;
    // The F16C body and the portable one must agree to the bit, NaN included.
    if (dtype == DType::f16) wrong += std::bit_cast<std::uint32_t>(one) != std::bit_cast<std::uint32_t>(bulk[bits]);
    // Back again: the same pattern (a NaN comes back as a NaN).
    const std::uint16_t back = dtype == DType::f16 ? promptiqa::float_to_half(one) : promptiqa::float_to_bfloat16(one);
    wrong += is_nan(bits, mantissa) ? !is_nan(back, mantissa) : back != bits;
  }
  CHECK(wrong == 0);
}

TEST_CASE("encoding to 16 bits rounds once, to nearest, ties to even, from float and from double") {
  const DType dtype = GENERATE(DType::f16, DType::bf16);
  const int mantissa = dtype == DType::f16 ? half_mantissa : bfloat16_mantissa;
  const std::vector<double> doubles = rounding_cases(mantissa);
  std::vector<float> floats;
  for (const double x : doubles)
    if (std::abs(x) < 3.4e38) floats.push_back(static_cast<float>(x));
  const auto from_double = encoded(dtype, doubles);
  const auto from_float = encoded(dtype, floats);
  std::size_t wrong = 0;
  for (std::size_t i = 0; i < doubles.size(); ++i) wrong += from_double[i] != nearest(doubles[i], mantissa);
  CHECK(wrong == 0);
  for (std::size_t i = 0; i < floats.size(); ++i) {
    const std::uint16_t one =
        dtype == DType::f16 ? promptiqa::float_to_half(floats[i]) : promptiqa::float_to_bfloat16(floats[i]);
    wrong += from_float[i] != nearest(static_cast<double>(floats[i]), mantissa) || one != from_float[i];
  }
  CHECK(wrong == 0);
}

TEST_CASE("infinity and NaN survive 16 bits") {
  const float infinity = std::numeric_limits<float>::infinity();
  const float quiet = std::numeric_limits<float>::quiet_NaN();
  // NaNs whose payload lies only in the bits that are cut off must not turn into infinity.
  const float low = std::bit_cast<float>(0x7F800001u), negative = std::bit_cast<float>(0xFF800001u);
  const std::vector<float> values{infinity, -infinity, quiet, low, negative, infinity, -infinity, quiet, low, negative};
  const auto half = encoded(DType::f16, values);
  const auto bfloat16 = encoded(DType::bf16, values);
  for (std::size_t i = 0; i < values.size(); ++i) {
    CAPTURE(i);
    const bool nan = i % 5 >= 2;
    CHECK((nan ? is_nan(half[i], half_mantissa) : half[i] == (i % 5 == 1 ? 0xFC00 : 0x7C00)));
    CHECK((nan ? is_nan(bfloat16[i], bfloat16_mantissa) : bfloat16[i] == (i % 5 == 1 ? 0xFF80 : 0x7F80)));
    CHECK(promptiqa::float_to_half(values[i]) == half[i]);
  }
}

TEST_CASE("32-bit and 64-bit elements convert as the language does, integers clamped") {
  const std::vector<double> values{0.0, -1.5, 2.5, 3.5, 1e300, -1e300, std::nan("")};
  std::vector<double> doubles(values.size());
  promptiqa::encode(DType::f64, values.data(), values.size(), doubles.data());
  CHECK(std::memcmp(doubles.data(), values.data(), sizeof(double) * values.size()) == 0);
  std::vector<std::int64_t> integers(values.size());
  promptiqa::encode(DType::i64, values.data(), values.size(), integers.data());
  const std::vector<std::int64_t> expected{
      0, -2, 2, 4, std::numeric_limits<std::int64_t>::max(), std::numeric_limits<std::int64_t>::min(), 0};
  CHECK(integers == expected);
  const std::vector<float> small{0.25f, -7.0f};
  std::vector<float> floats(2);
  promptiqa::encode(DType::f32, small.data(), 2, floats.data());
  CHECK(floats == small);
  promptiqa::decode(DType::i64, integers.data() + 1, 2, floats.data());
  CHECK(floats == std::vector<float>{-2.0f, 2.0f});
  const double third = 1.0 / 3.0;
  promptiqa::decode(DType::f64, &third, 1, floats.data());
  CHECK(floats[0] == static_cast<float>(third));
  promptiqa::decode(DType::f32, nullptr, 0, floats.data());  // no elements: no access
}

TEST_CASE("element types have their size and name") {
  CHECK(promptiqa::dtype_size(DType::f32) == 4);
  CHECK(promptiqa::dtype_size(DType::f16) == 2);
  CHECK(promptiqa::dtype_size(DType::bf16) == 2);
  CHECK(promptiqa::dtype_size(DType::f64) == 8);
  CHECK(promptiqa::dtype_size(DType::i64) == 8);
  CHECK(std::string(promptiqa::dtype_name(DType::bf16)) == "BF16");
}
