// Vector exp, erf, GELU and sigmoid against the standard library in double, over all floats and in every width.
// Surprising choice: errors are measured in units in the last place over the whole number line, not on a grid of
// nice numbers: the step between the tested bit patterns is prime.
#include <promptiqa/cpu/math.hpp>
#include <promptiqa/cpu/simd.hpp>

#include <cmath>
#include <cstdint>
#include <cstring>
#include <limits>
#include <vector>

#include "catch.hpp"

using namespace promptiqa::cpu;

namespace {

enum class Function { exp, erf, gelu, gelu_derivative, sigmoid };

template <class T, class Isa>
std::vector<T> apply(Function function, const std::vector<T>& x) {
  using S = Simd<T, Isa::bytes>;
  using V = typename S::Vector;
  std::vector<T> y(x.size());
  REQUIRE(x.size() % S::width == 0);
  const T* from = x.data();
  T* to = y.data();
  const std::size_t n = x.size();
  Isa::run([&]() PROMPTIQA_SIMD_LAMBDA {
    for (std::size_t i = 0; i < n; i += S::width) {
      V v;
      S::load(v, from + i);
      if (function == Function::exp) vector_exp<V, T>(v, v);
      if (function == Function::erf) vector_erf<V, T>(v, v);
      if (function == Function::gelu) vector_gelu<V, T>(v, v);
      if (function == Function::gelu_derivative) vector_gelu_derivative<V, T>(v, v);
      if (function == Function::sigmoid) vector_sigmoid<V, T>(v, v);
      S::store(to + i, v);
    }
  });
  return y;
}

double reference(Function function, double x) {
  const double phi = 0.5 * std::erfc(-x * std::sqrt(0.5));
  switch (function) {
    case Function::exp:
      return std::exp(x);
    case Function::erf:
      return std::erf(x);
    case Function::gelu:
      return x < -40 ? -0.0 : x * phi;
    case Function::gelu_derivative:
      return std::abs(x) > 40 ? phi : phi + x * std::exp(-x * x / 2) / std::sqrt(2 * std::acos(-1.0));
    case Function::sigmoid:
      return 1 / (1 + std::exp(-x));
  }
  return 0;
}

/// Distance in units of the last place of the correctly rounded float; infinite when only one is finite.
double ulps(float got, double want) {
  const float rounded = static_cast<float>(want);
  if (!std::isfinite(rounded) || !std::isfinite(got))
    return got == rounded ? 0 : std::numeric_limits<double>::infinity();
  const float magnitude = std::abs(rounded);
  const double ulp = static_cast<double>(std::nextafter(magnitude, std::numeric_limits<float>::max())) - magnitude;
  return std::abs(got - want) / ulp;
}

/// Every 4099th float of both signs, and all of the neighbours of some exact ones.
std::vector<float> many_floats() {
  std::vector<float> x;
  const auto push = [&x](std::uint32_t bits) {
    float v;
    std::memcpy(&v, &bits, sizeof v);
    if (!std::isnan(v)) x.push_back(v);
  };
  for (std::uint32_t bits = 0; bits < 0x7F800000u; bits += 4099) {
    push(bits);
    push(bits | 0x80000000u);
  }
  for (float centre : {0.34657359f, 1.0f, 1.41421356f, 4.0f, 5.6568542f, 87.3365f, 88.7228f, 103.97f}) {
    std::uint32_t bits;
    std::memcpy(&bits, &centre, sizeof bits);
    for (std::uint32_t near = bits - 200; near < bits + 200; ++near) {
      push(near);
      push(near | 0x80000000u);
    }
  }
  while (x.size() % 64 != 0) x.push_back(0.0f);
  return x;
}

template <class Isa>
void check_float() {
  if (!Isa::supported()) return;
  INFO(Isa::name);
  const std::vector<float> x = many_floats();
  const auto worst_ulps = [&](Function function) {
    const std::vector<float> y = apply<float, Isa>(function, x);
    double worst = 0;
    for (std::size_t i = 0; i < x.size(); ++i) worst = std::max(worst, ulps(y[i], reference(function, x[i])));
    return worst;
  };
  // The accuracy that cpu/math.hpp promises.
  CHECK(worst_ulps(Function::exp) <= 1.25);
  CHECK(worst_ulps(Function::erf) <= 1.5);
  // gelu and its derivative have zeros and tails: the error is bounded absolutely, in units of max(1, |y|). Three
  // roundings of numbers up to |y| and the cdf's 1.5 ulp make less than 3 * 2^-24 + 1.5 * 2^-24.
  for (Function function : {Function::gelu, Function::gelu_derivative, Function::sigmoid}) {
    const std::vector<float> y = apply<float, Isa>(function, x);
    double worst = 0;
    for (std::size_t i = 0; i < x.size(); ++i) {
      const double want = reference(function, x[i]);
      const double error = std::abs(y[i] - want) / std::max(1.0, std::abs(want));
      worst = std::isfinite(error) ? std::max(worst, error) : std::numeric_limits<double>::infinity();
    }
    INFO("function " << static_cast<int>(function));
    CHECK(worst <= 4.5 * std::ldexp(1.0, -24));
  }
  // The left tail of gelu keeps its relative accuracy while it matters (down to -5.6): the exponent, up to 18, is
  // rounded a few times.
  std::vector<float> tail;
  for (int i = 0; i < 4096; ++i) tail.push_back(-5.6f * static_cast<float>(i + 1) / 4096);
  const std::vector<float> y = apply<float, Isa>(Function::gelu, tail);
  double worst = 0;
  for (std::size_t i = 0; i < tail.size(); ++i) {
    const double want = reference(Function::gelu, tail[i]);
    const double error = std::abs(y[i] - want) / std::abs(want);
    worst = std::isfinite(error) ? std::max(worst, error) : std::numeric_limits<double>::infinity();
  }
  CHECK(worst <= 1e-5);
}

template <class Isa>
void check_double() {
  if (!Isa::supported()) return;
  INFO(Isa::name);
  std::vector<double> x;
  for (int i = -8192; i < 8192; ++i) x.push_back(i * 0.00731);
  for (Function function :
       {Function::exp, Function::erf, Function::gelu, Function::gelu_derivative, Function::sigmoid}) {
    const std::vector<double> y = apply<double, Isa>(function, x);
    double worst = 0;
    for (std::size_t i = 0; i < x.size(); ++i) {
      const double want = reference(function, x[i]);
      const double error = std::abs(y[i] - want) / std::max(1.0, std::abs(want));
      worst = std::isfinite(error) ? std::max(worst, error) : std::numeric_limits<double>::infinity();
    }
    INFO("function " << static_cast<int>(function));
    CHECK(worst <= 8 * std::numeric_limits<double>::epsilon());  // the same formulas, some roundings apart
  }
}

template <class T, class Isa>
void check_special_values() {
  if (!Isa::supported()) return;
  INFO(Isa::name << " " << sizeof(T));
  constexpr T infinity = std::numeric_limits<T>::infinity(), nan = std::numeric_limits<T>::quiet_NaN();
  std::vector<T> x(16, T(0));
  x[0] = infinity;
  x[1] = -infinity;
  x[2] = nan;
  x[3] = T(-0.0);
  x[4] = std::numeric_limits<T>::max();
  x[5] = std::numeric_limits<T>::lowest();
  x[6] = -nan;
  const std::vector<T> e = apply<T, Isa>(Function::exp, x), f = apply<T, Isa>(Function::erf, x),
                       g = apply<T, Isa>(Function::gelu, x), d = apply<T, Isa>(Function::gelu_derivative, x),
                       s = apply<T, Isa>(Function::sigmoid, x);
  CHECK(e[0] == infinity);
  CHECK(e[1] == T(0));
  CHECK(e[4] == infinity);
  CHECK(e[5] == T(0));
  CHECK(e[3] == T(1));
  CHECK(f[0] == T(1));
  CHECK(f[1] == T(-1));
  CHECK(f[4] == T(1));
  CHECK(f[5] == T(-1));
  CHECK(f[3] == T(0));
  CHECK(std::signbit(f[3]));
  CHECK(g[0] == infinity);
  CHECK(g[1] == T(0));
  CHECK(g[4] == x[4]);
  CHECK(g[5] == T(0));
  CHECK(d[0] == T(1));
  CHECK(d[1] == T(0));
  CHECK(d[3] == T(0.5));
  CHECK(s[0] == T(1));
  CHECK(s[1] == T(0));
  CHECK(s[3] == T(0.5));
  for (std::size_t i : {std::size_t{2}, std::size_t{6}})
    for (const std::vector<T>* y : {&e, &f, &g, &d, &s}) CHECK(std::isnan((*y)[i]));
}

}  // namespace

TEST_CASE("float functions keep the accuracy they promise", "[cpu][math]") {
  check_float<Portable>();
#if PROMPTIQA_X86_64
  check_float<Avx2>();
  check_float<Avx512>();
#endif
}

TEST_CASE("double functions agree with the standard library", "[cpu][math]") {
  check_double<Portable>();
#if PROMPTIQA_X86_64
  check_double<Avx2>();
  check_double<Avx512>();
#endif
}

TEST_CASE("infinities, NaN and overflow behave as in cmath", "[cpu][math]") {
  check_special_values<float, Portable>();
  check_special_values<double, Portable>();
#if PROMPTIQA_X86_64
  check_special_values<float, Avx2>();
  check_special_values<double, Avx2>();
  check_special_values<float, Avx512>();
  check_special_values<double, Avx512>();
#endif
}
