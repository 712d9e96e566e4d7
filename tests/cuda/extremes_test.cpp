// Kernels of a device on numbers that a shortcut would not survive: a mean that is large beside the
// deviations, exponents of hundreds, infinities, zeros and NaN, more digits than float has.
// Surprising choice: such numbers come with wider tolerances where the definition itself loses digits, each one said why.
#include <cmath>
#include <limits>

#include "kernel_parity.hpp"

using namespace promptiqa_test;

namespace {

const double infinity = std::numeric_limits<double>::infinity();

/// Layer norm and its gradients of three rows with mean 1000 and deviations of about `spread`.
struct Shifted {
  std::int64_t columns;
  double spread;
  std::vector<double> x;

  Shifted(std::int64_t columns_, double spread_) : columns(columns_), spread(spread_) {
    for (double u : random_numbers(3 * columns, 1)) {
      const auto v = static_cast<float>(1000 + spread * u);
      x.push_back(spread > 1 ? to_float(to_bfloat16(v)) : v);  // at 1000, numbers of bfloat16 are 4 apart
    }
  }

  enum Part { statistics, rows, parameters };

  template <class T>
  Outputs run(const Table<T>& t, Part part) const {
    using A = accumulate_t<T>;
    const Buffer<T> values(x), y(3 * columns), dy(random_numbers(3 * columns, 4)), dx(3 * columns);
    const Buffer<A> weight(positive_numbers(columns, 2)), bias(random_numbers(columns, 3)), mean(3), rstd(3),
        dweight(columns), dbias(columns);
    t.kernels.layer_norm(t.context, {3, columns, A(1e-6), values.data(), weight.data(), bias.data(), y.data(),
                                     mean.data(), rstd.data()});
    t.kernels.layer_norm_backward(t.context, {3, columns, values.data(), dy.data(), weight.data(), mean.data(),
                                              rstd.data(), dx.data(), dweight.data(), dbias.data()});
    if (part == statistics) return {mean.values(), rstd.values()};
    if (part == rows) return {y.values(), dx.values()};
    return {dweight.values(), dbias.values()};
  }

  template <class T>
  void check_parts() const {
    using A = accumulate_t<T>;
    const std::string name = "layer norm " + shape({3, columns}) + " around 1000, deviations " + std::to_string(spread);
    const auto part = [&](Part which) { return [this, which](const auto& t) { return this->run(t, which); }; };
    // The statistics lose nothing: rounding the mean shifts all deviations alike, which their squares' sum hardly feels.
    check<T, A>(name + ", statistics", 60, 0, part(statistics));
    // x - mean is off by roundings of the mean, rstd times them is what y and the gradients see.
    const double roundings = 60 + 4 * 1000 / spread;
    check<T>(name + ", y and dx", roundings, 4, part(rows));
    check<T, A>(name + ", dweight and dbias", roundings, 8, part(parameters));
  }
};

}  // namespace

TEST_CASE("layer norm of rows whose mean is large beside their deviations", "[cuda]") {
  for (const std::int64_t columns : {40, 768, 3001}) {
    const Shifted wide(columns, 16), close(columns, 1);
    wide.check_parts<float>();
    wide.check_parts<double>();
    wide.check_parts<bfloat16>();
    close.check_parts<float>();
    close.check_parts<double>();
  }
}

TEST_CASE("softmax of rows whose exponentials would overflow", "[cuda]") {
  for (const std::int64_t columns : {40, 100, 3001})
    for (const double scale : {50.0, -50.0}) {
      const std::string name = "softmax " + shape({3, columns}) + " times " + std::to_string(scale);
      std::vector<double> values = random_numbers(2 * columns, 1);
      const auto at = [&](std::int64_t row, std::int64_t column) -> double& {
        return values[static_cast<std::size_t>(row * columns + column)];
      };
      // Far from the others, in another warp than the row's first: exp(scale * 4) is more than float can hold.
      for (const std::int64_t row : {0, 1}) at(row, columns * 2 / 3) = 4;
      // Elements that do not count.
      for (std::int64_t i = 0; i < columns; i += 7) at(1, i) = -infinity * scale;
      // All alike and far below zero; a power of two, because a fused multiply-add would see the rounding of others.
      values.insert(values.end(), static_cast<std::size_t>(columns), std::copysign(0x1p110, -scale));
      // |scale * x - maximum| is at most 286, and its roundings are relative errors of the exponential.
      check_all(name, 600, 1e-30, [&](const auto& t) {
        using T = ELEMENT(t);
        const Buffer<T> x(values), y(3 * columns);
        t.kernels.softmax(t.context, {3, columns, accumulate_t<T>(scale), x.data(), y.data()});
        return Outputs{y.values()};
      });
      check_wide(name + ", backward", 600, 50 * 2 * 1.73, [&](const auto& t) {
        using T = ELEMENT(t);
        const Buffer<T> x(values), y(3 * columns), dy(random_numbers(3 * columns, 3)), dx(3 * columns);
        t.kernels.softmax(t.context, {3, columns, accumulate_t<T>(scale), x.data(), y.data()});
        t.kernels.softmax_backward(t.context, {3, columns, accumulate_t<T>(scale), y.data(), dy.data(), dx.data()});
        return Outputs{dx.values()};
      });
    }
}

namespace {

template <class T>
void check_relu(const Table<T>& t, std::int64_t shift) {
  INFO(sizeof(T) << " bytes an element, " << shift << " behind an aligned address");
  const double nan = std::numeric_limits<double>::quiet_NaN();
  const Buffer<T> x(std::vector<double>{-2, -0.0, 0, 0x1p-126, nan, infinity, -infinity, 3, 0}, shift);
  const Buffer<T> dy(std::vector<double>{1, 2, 3, 4, 5, 6, 7, 8, 9}), y(9), dx(9);
  t.kernels.unary(t.context, {UnaryKind::relu, 9, 1, 0, x.data(), y.data()});
  t.kernels.unary_backward(t.context, {UnaryKind::relu, 9, 1, x.data(), y.data(), dy.data(), dx.data()});
  std::vector<double> values = y.values();
  CHECK(std::isnan(values[4]));  // a NaN is not hidden
  values[4] = 0;
  CHECK((values == std::vector<double>{0, 0, 0, 0x1p-126, 0, infinity, 0, 3, 0}));
  CHECK((dx.values() == std::vector<double>{0, 0, 0, 4, 5, 6, 0, 8, 0}));  // at zero the gradient is zero
}

}  // namespace

TEST_CASE("relu and its gradient at zero, infinity and NaN", "[cuda]") {
  for (const std::int64_t shift : {0, 1}) {
    const KernelContext context = device_context().kernel_context();
    check_relu(Table<float>{cuda::kernel_table<float>(), context}, shift);
    check_relu(Table<double>{cuda::kernel_table<double>(), context}, shift);
    check_relu(Table<bfloat16>{cuda::kernel_table<bfloat16>(), context}, shift);
    check_relu(Table<double>{cpu().kernels<double>(), cpu().kernel_context()}, shift);
  }
}

TEST_CASE("a sum of squares keeps the digits of double", "[cuda]") {
  std::vector<double> values;
  for (int i = 0; i < 300; ++i) values.push_back(1 + i * 1e-9);
  check<double>("sum_of_squares", 16, 0, [&](const auto& t) {
    const Buffer<double> x(values), sum(std::vector<double>{0});
    t.kernels.sum_of_squares(t.context, {300, x.data(), sum.data()});
    return Outputs{sum.values()};
  });
}
