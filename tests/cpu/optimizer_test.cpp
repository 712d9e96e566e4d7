// The optimiser's kernels against their formulas in a wider type: Adam's step, sums of squares, running averages.
// Surprising choice: Adam is compared after several steps, so that a moment that is not kept shows.
#include <algorithm>

#include "backends.hpp"

using namespace promptiqa_test;
using std::int64_t;

namespace {

std::vector<int64_t> sizes_with_threads() {
  std::vector<int64_t> sizes = awkward_sizes();
  sizes.push_back(70001);
  return sizes;
}

}  // namespace

TEMPLATE_TEST_CASE("adam's step, coupled and decoupled", "[cpu]", float, double) {
  using T = TestType;
  // Rounded to T once, so that the reference sees the same numbers.
  const T rate = T(0.01), beta1 = T(0.9), beta2 = T(0.98), eps = T(1e-8), scale = T(0.25);
  for (const bool decoupled : {false, true}) {
    for (const T decay : {T(0), T(0.1)}) {
      for (int64_t n : sizes_with_threads()) {
        const std::vector<T> start = random_values<T>(n, 1);
        std::vector<std::vector<T>> gradients;
        for (unsigned step = 0; step < 3; ++step)
          gradients.push_back(random_values<T>(n, 2 + step, step == 1 ? 1e-3 : 1));
        for (std::vector<T>& g : gradients) g[0] = T(0);  // a parameter without gradient: v stays 0
        std::vector<Real> p = widened(start), m(start.size()), v(start.size());
        for (int step = 1; step <= 3; ++step) {
          const Real c1 = static_cast<T>(1 - std::pow(Real(beta1), step)),
                     c2 = static_cast<T>(1 - std::pow(Real(beta2), step));
          for (std::size_t i = 0; i < p.size(); ++i) {
            const Real g =
                Real(scale) * gradients[static_cast<std::size_t>(step - 1)][i] + (decoupled ? 0 : decay * p[i]);
            m[i] = beta1 * m[i] + (1 - Real(beta1)) * g;
            v[i] = beta2 * v[i] + (1 - Real(beta2)) * g * g;
            if (decoupled) p[i] -= Real(rate) * decay * p[i];
            p[i] -= rate * (m[i] / c1) / (std::sqrt(v[i] / c2) + eps);
          }
        }
        // Each number goes through about 20 roundings in three steps; 1 - beta2 is not exact in T and is amplified by
        // 1 / (1 - beta2) = 50, but only in v, which is compared in units of itself: 50 / 2 for half an eps, and some.
        check_everywhere<T>(
            std::string(decoupled ? "adamw " : "adam ") + std::to_string(n) + " decay " + std::to_string(decay),
            [&](const KernelTable<T>& table, const KernelContext& kc) {
              std::vector<T> parameter = start, first(start.size()), second(start.size());
              for (int step = 1; step <= 3; ++step) {
                AdamStepArgs<T> args = {};
                args.count = n;
                args.learning_rate = rate, args.beta1 = beta1, args.beta2 = beta2, args.eps = eps,
                args.weight_decay = decay;
                args.decoupled = decoupled;
                args.correction1 = static_cast<T>(1 - std::pow(Real(beta1), step));
                args.correction2 = static_cast<T>(1 - std::pow(Real(beta2), step));
                args.gradient_scale = scale;
                args.gradient = gradients[static_cast<std::size_t>(step - 1)].data();
                args.parameter = parameter.data(), args.m = first.data(), args.v = second.data();
                table.adam_step(kc, args);
              }
              return joined<T>({parameter, first, second});
            },
            joined<Real>({p, m, v}), 0.1, 40);
      }
    }
  }
}

TEMPLATE_TEST_CASE("adam's step over twenty orders of magnitude", "[cpu]", float, double) {
  using T = TestType;
  // At step 1 with beta1 = 0 and eps 0 every parameter moves by the rate, whatever the size of its gradient.
  std::vector<T> gradient;
  for (int e = -18; e <= 18; ++e) gradient.push_back(static_cast<T>(std::pow(10.0, e)));
  const auto n = static_cast<int64_t>(gradient.size());
  const T beta2 = T(0.5);
  for (Backend& backend : backends()) {
    const KernelTable<T>& table = backend.one.template kernels<T>();
    INFO(table.name);
    std::vector<T> parameter(gradient.size()), m = parameter, v = parameter;
    AdamStepArgs<T> args = {};
    args.count = n;
    args.learning_rate = T(1), args.beta2 = beta2;
    args.correction1 = T(1), args.correction2 = T(0.5), args.gradient_scale = T(1);
    args.gradient = gradient.data(), args.parameter = parameter.data(), args.m = m.data(), args.v = v.data();
    table.adam_step(backend.one.kernel_context(), args);
    for (std::size_t i = 0; i < parameter.size(); ++i) {
      INFO("gradient " << gradient[i]);
      // sqrt to two units, the division and the squares to half a unit each.
      CHECK(std::abs(static_cast<double>(parameter[i]) + 1) <=
            4 * static_cast<double>(std::numeric_limits<T>::epsilon()));
    }
  }
}

TEMPLATE_TEST_CASE("sums of squares add up and pass NaN on", "[cpu]", float, double) {
  using T = TestType;
  std::vector<int64_t> sizes = sizes_with_threads();
  sizes.push_back(300001);
  sizes.push_back(0);
  for (int64_t n : sizes) {
    const std::vector<T> x = random_values<T>(n, 7);
    Real want = 3;
    for (T e : x) want += static_cast<Real>(e) * e;
    // Blocks are summed in T before they are added in double: some dozen roundings of partial sums.
    check_everywhere<T>(
        "sum of squares of " + std::to_string(n),
        [&](const KernelTable<T>& table, const KernelContext& kc) {
          double sum = 3;
          table.sum_of_squares(kc, {n, x.data(), &sum});
          return std::vector<T>{static_cast<T>(sum)};
        },
        {want}, 0, 8);
  }
  for (Backend& backend : backends()) {
    const KernelTable<T>& table = backend.one.template kernels<T>();
    INFO(table.name);
    std::vector<T> x(37, T(1));
    x[36] = std::numeric_limits<T>::quiet_NaN();
    double sum = 0;
    table.sum_of_squares(backend.one.kernel_context(), {37, x.data(), &sum});
    CHECK(std::isnan(sum));
  }
}

TEMPLATE_TEST_CASE("lerp moves by its weight", "[cpu]", float, double) {
  using T = TestType;
  for (int64_t n : sizes_with_threads()) {
    const std::vector<T> x = random_values<T>(n, 8), start = random_values<T>(n, 9);
    const T weight = T(0.002);
    std::vector<Real> want(x.size());
    for (std::size_t i = 0; i < x.size(); ++i) want[i] = start[i] + Real(weight) * (static_cast<Real>(x[i]) - start[i]);
    check_everywhere<T>(
        "lerp of " + std::to_string(n),
        [&](const KernelTable<T>& table, const KernelContext& kc) {
          std::vector<T> y = start;
          table.lerp(kc, {n, weight, x.data(), y.data()});
          return y;
        },
        want, 0.01, 2);
  }
}
