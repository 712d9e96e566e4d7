// Every body of this family against its definition in double: softmax, norms, pooling, elementwise, rearranging.
// Surprising choice: references are written from the formula with plain indices and share no code with the bodies.
#include <array>

#include "backends.hpp"

using namespace promptiqa_test;
using std::int64_t;

namespace {

/// Shapes (rows, columns) that meet every tail, and some large enough for several threads.
std::vector<std::array<int64_t, 2>> row_shapes() {
  std::vector<std::array<int64_t, 2>> shapes;
  for (int64_t columns : awkward_sizes()) shapes.push_back({columns % 2 ? 3 : 1, columns});
  shapes.push_back({97, 1000});
  shapes.push_back({1000, 65});
  shapes.push_back({2, 20011});
  shapes.push_back({70001, 1});
  return shapes;
}

std::string named(const char* what, const std::array<int64_t, 2>& shape) {
  return std::string(what) + " (" + std::to_string(shape[0]) + ", " + std::to_string(shape[1]) + ")";
}

std::size_t at(int64_t i) { return static_cast<std::size_t>(i); }

template <class T>
constexpr T nan_of = std::numeric_limits<T>::quiet_NaN();

}  // namespace

TEMPLATE_TEST_CASE("softmax and its gradient", "[cpu]", float, double) {
  using T = TestType;
  for (const auto& shape : row_shapes()) {
    const int64_t rows = shape[0], columns = shape[1];
    const T scale = T(0.5);
    const std::vector<T> x = random_values<T>(rows * columns, 1, 4), dy = random_values<T>(rows * columns, 2);
    std::vector<Real> y(x.size()), dx(x.size());
    for (int64_t r = 0; r < rows; ++r) {
      Real largest = -1e300, sum = 0, dot = 0;
      for (int64_t c = 0; c < columns; ++c) largest = std::max(largest, Real(0.5) * x[at(r * columns + c)]);
      for (int64_t c = 0; c < columns; ++c) sum += std::exp(Real(0.5) * x[at(r * columns + c)] - largest);
      for (int64_t c = 0; c < columns; ++c) {
        y[at(r * columns + c)] = std::exp(Real(0.5) * x[at(r * columns + c)] - largest) / sum;
        dot += y[at(r * columns + c)] * dy[at(r * columns + c)];
      }
      for (int64_t c = 0; c < columns; ++c)
        dx[at(r * columns + c)] = 0.5 * y[at(r * columns + c)] * (dy[at(r * columns + c)] - dot);
    }
    // The exponent, up to about 16, is rounded to half an eps of itself: 8 eps, and a few for exp and the sum.
    check_everywhere<T>(
        named("softmax", shape),
        [&](const KernelTable<T>& table, const KernelContext& kc) {
          std::vector<T> out = x;  // in place, as the contract allows
          table.softmax(kc, {rows, columns, scale, out.data(), out.data()});
          return out;
        },
        y, 0, 20);
    std::vector<T> y_rounded(y.size());
    for (std::size_t i = 0; i < y.size(); ++i) y_rounded[i] = static_cast<T>(y[i]);
    // Sums of products of numbers up to about 4 with weights that add to 1: a few eps of that.
    check_everywhere<T>(
        named("softmax_backward", shape),
        [&](const KernelTable<T>& table, const KernelContext& kc) {
          std::vector<T> out(x.size());
          table.softmax_backward(kc, {rows, columns, scale, y_rounded.data(), dy.data(), out.data()});
          return out;
        },
        dx, 1, 8);
  }
}

TEMPLATE_TEST_CASE("softmax of extreme rows", "[cpu]", float, double) {
  using T = TestType;
  constexpr T infinity = std::numeric_limits<T>::infinity();
  for (Backend& backend : backends()) {
    const KernelTable<T>& table = backend.one.template kernels<T>();
    INFO(table.name);
    std::vector<T> y(19);
    std::vector<T> x(19, T(1e30));  // equal and huge: the maximum is taken off first
    table.softmax(backend.one.kernel_context(), {1, 19, T(1), x.data(), y.data()});
    for (T v : y) CHECK(v == Approx(1.0 / 19));
    x.assign(19, -infinity);  // masked but for one
    x[17] = T(3);
    table.softmax(backend.one.kernel_context(), {1, 19, T(1), x.data(), y.data()});
    for (std::size_t i = 0; i < y.size(); ++i) CHECK(y[i] == (i == 17 ? T(1) : T(0)));
    x.assign(19, T(0));
    x[18] = nan_of<T>;  // in the tail of a vector
    table.softmax(backend.one.kernel_context(), {1, 19, T(1), x.data(), y.data()});
    for (T v : y) CHECK(std::isnan(v));
  }
}

TEMPLATE_TEST_CASE("layer norm and its gradients", "[cpu]", float, double) {
  using T = TestType;
  const double eps = 1e-5;
  for (const auto& shape : row_shapes()) {
    const int64_t rows = shape[0], columns = shape[1];
    if (columns == 1) continue;  // variance 0: covered below
    const std::vector<T> x = random_values<T>(rows * columns, 3, 2, 5), dy = random_values<T>(rows * columns, 4),
                         weight = random_values<T>(columns, 5), bias = random_values<T>(columns, 6);
    std::vector<Real> y(x.size()), dx(x.size()), mean(at(rows)), rstd(at(rows)), dweight(at(columns)),
        dbias(at(columns));
    for (int64_t r = 0; r < rows; ++r) {
      const T* row = x.data() + r * columns;
      Real sum = 0, squares = 0, sum_g = 0, sum_gx = 0;
      for (int64_t c = 0; c < columns; ++c) sum += row[c];
      const Real m = sum / static_cast<Real>(columns);
      for (int64_t c = 0; c < columns; ++c) squares += (row[c] - m) * (row[c] - m);
      const Real s = 1 / std::sqrt(squares / static_cast<Real>(columns) + static_cast<Real>(T(eps)));
      mean[at(r)] = m;
      rstd[at(r)] = s;
      for (int64_t c = 0; c < columns; ++c) {
        const Real xhat = (row[c] - m) * s, d = dy[at(r * columns + c)], g = d * weight[at(c)];
        y[at(r * columns + c)] = xhat * weight[at(c)] + bias[at(c)];
        sum_g += g;
        sum_gx += g * xhat;
        dweight[at(c)] += d * xhat;
        dbias[at(c)] += d;
      }
      for (int64_t c = 0; c < columns; ++c) {
        const Real xhat = (row[c] - m) * s, g = static_cast<Real>(dy[at(r * columns + c)]) * weight[at(c)];
        dx[at(r * columns + c)] =
            s * (g - sum_g / static_cast<Real>(columns) - xhat * sum_gx / static_cast<Real>(columns));
      }
    }
    // x - mean inherits half an eps of the mean (5, two and a half deviations; more where a short row has a small
    // deviation), times weights up to 4.
    double largest_rstd = 0;
    for (double s : rstd) largest_rstd = std::max(largest_rstd, s);
    const double limit = 32 * std::max(1.0, largest_rstd);
    check_everywhere<T>(
        named("layer_norm", shape),
        [&](const KernelTable<T>& table, const KernelContext& kc) {
          std::vector<T> out(x.size()), means(at(rows)), rstds(at(rows)), again(x.size());
          table.layer_norm(kc, {rows, columns, T(eps), x.data(), weight.data(), bias.data(), out.data(),
                                means.data(), rstds.data()});
          table.layer_norm(kc, {rows, columns, T(eps), x.data(), weight.data(), bias.data(), again.data(), nullptr,
                                nullptr});
          CHECK(same_bits(out, again));
          return joined<T>({out, means, rstds});
        },
        joined<Real>({y, mean, rstd}), 1, limit);
    std::vector<T> mean_t(at(rows)), rstd_t(at(rows));
    for (int64_t r = 0; r < rows; ++r) {
      mean_t[at(r)] = static_cast<T>(mean[at(r)]);
      rstd_t[at(r)] = static_cast<T>(rstd[at(r)]);
    }
    // dweight and dbias are sums over rows whose error grows as the root of their number.
    check_everywhere<T>(
        named("layer_norm_backward", shape),
        [&](const KernelTable<T>& table, const KernelContext& kc) {
          std::vector<T> out(x.size()), dw(at(columns), T(7)), db(at(columns), T(7));
          table.layer_norm_backward(kc, {rows, columns, x.data(), dy.data(), weight.data(), mean_t.data(),
                                         rstd_t.data(), out.data(), dw.data(), db.data()});
          return joined<T>({out, dw, db});
        },
        joined<Real>({dx, dweight, dbias}), std::sqrt(static_cast<Real>(rows)), limit * largest_rstd);
  }
  for (Backend& backend : backends()) {  // a constant row has variance 0: y is the bias
    const KernelTable<T>& table = backend.one.template kernels<T>();
    INFO(table.name);
    std::vector<T> x(48, T(3)), weight(48, T(2)), bias = random_values<T>(48, 7), y(48);
    table.layer_norm(backend.one.kernel_context(),
                     {1, 48, T(eps), x.data(), weight.data(), bias.data(), y.data(), nullptr, nullptr});
    CHECK(same_bits(y, bias));
  }
}

TEMPLATE_TEST_CASE("layer norm backward leaves out what is not asked for", "[cpu]", float, double) {
  using T = TestType;
  const std::vector<T> x = random_values<T>(5 * 33, 8), dy = random_values<T>(5 * 33, 9),
                       weight = random_values<T>(33, 10), mean(5, T(0)), rstd(5, T(1));
  for (Backend& backend : backends()) {
    const KernelTable<T>& table = backend.one.template kernels<T>();
    INFO(table.name);
    std::vector<T> dx(x.size()), only_dx(x.size()), dw(33), db(33), only_dw(33), only_db(33);
    const KernelContext kc = backend.one.kernel_context();
    table.layer_norm_backward(
        kc, {5, 33, x.data(), dy.data(), weight.data(), mean.data(), rstd.data(), dx.data(), dw.data(), db.data()});
    table.layer_norm_backward(kc, {5, 33, x.data(), dy.data(), weight.data(), mean.data(), rstd.data(),
                                   only_dx.data(), nullptr, nullptr});
    table.layer_norm_backward(kc, {5, 33, x.data(), dy.data(), weight.data(), mean.data(), rstd.data(), nullptr,
                                   only_dw.data(), only_db.data()});
    CHECK(same_bits(dx, only_dx));
    CHECK(same_bits(dw, only_dw));
    CHECK(same_bits(db, only_db));
  }
}

TEMPLATE_TEST_CASE("batch norm and its gradients", "[cpu]", float, double) {
  using T = TestType;
  const double eps = 1e-5, momentum = 0.1;
  // (batch, channels, area)
  const std::vector<std::array<int64_t, 3>> shapes = {{2, 1, 1},  {3, 5, 1},   {2, 3, 15},   {2, 3, 17},
                                                      {1, 7, 65}, {4, 16, 49}, {8, 16, 784}, {2, 3, 50176}};
  for (const auto& shape : shapes)
    for (bool training : {true, false}) {
      const int64_t batch = shape[0], channels = shape[1], area = shape[2];
      const Real n = static_cast<Real>(batch * area);
      const int64_t count = batch * channels * area;
      const std::vector<T> x = random_values<T>(count, 11, 2, 1), dy = random_values<T>(count, 12),
                           weight = random_values<T>(channels, 13), bias = random_values<T>(channels, 14),
                           old_mean = random_values<T>(channels, 15), old_var(at(channels), T(1.5));
      std::vector<Real> y(x.size()), dx(x.size()), mean(at(channels)), rstd(at(channels)), dweight(at(channels)),
          dbias(at(channels)), running_mean = widened(old_mean), running_var = widened(old_var);
      double largest_rstd = 0;
      const auto index = [&](int64_t b, int64_t c, int64_t i) { return at((b * channels + c) * area + i); };
      for (int64_t c = 0; c < channels; ++c) {
        Real m = running_mean[at(c)], v = running_var[at(c)];
        if (training) {
          Real sum = 0, squares = 0;
          for (int64_t b = 0; b < batch; ++b)
            for (int64_t i = 0; i < area; ++i) sum += x[index(b, c, i)];
          m = sum / n;
          for (int64_t b = 0; b < batch; ++b)
            for (int64_t i = 0; i < area; ++i) squares += (x[index(b, c, i)] - m) * (x[index(b, c, i)] - m);
          v = squares / n;
          const Real t = static_cast<Real>(T(momentum));
          running_mean[at(c)] = (1 - t) * running_mean[at(c)] + t * m;
          running_var[at(c)] = (1 - t) * running_var[at(c)] + t * squares / (n - 1);
        }
        const Real s = 1 / std::sqrt(v + static_cast<Real>(T(eps)));
        mean[at(c)] = m;
        rstd[at(c)] = s;
        largest_rstd = std::max(largest_rstd, static_cast<double>(s));
        for (int64_t b = 0; b < batch; ++b)
          for (int64_t i = 0; i < area; ++i) {
            const Real xhat = (x[index(b, c, i)] - m) * s;
            y[index(b, c, i)] = xhat * weight[at(c)] + bias[at(c)];
            dweight[at(c)] += dy[index(b, c, i)] * xhat;
            dbias[at(c)] += dy[index(b, c, i)];
          }
        for (int64_t b = 0; b < batch; ++b)
          for (int64_t i = 0; i < area; ++i) {
            const Real xhat = (x[index(b, c, i)] - m) * s;
            const Real mean_terms = training ? dbias[at(c)] / n + xhat * dweight[at(c)] / n : 0;
            dx[index(b, c, i)] = weight[at(c)] * s * (dy[index(b, c, i)] - mean_terms);
          }
      }
      const std::string name = std::string(training ? "training (" : "evaluation (") + std::to_string(batch) + ", " +
                               std::to_string(channels) + ", " + std::to_string(area) + ")";
      const double limit = 24 * std::max(1.0, largest_rstd);  // as for layer norm
      check_everywhere<T>(
          "batch_norm " + name,
          [&](const KernelTable<T>& table, const KernelContext& kc) {
            std::vector<T> out(x.size()), m(at(channels)), s(at(channels)), rm = old_mean, rv = old_var;
            table.batch_norm(kc, {batch, channels, area, T(eps), T(momentum), training, x.data(), weight.data(),
                                  bias.data(), rm.data(), rv.data(), out.data(), m.data(), s.data()});
            return joined<T>({out, m, s, rm, rv});
          },
          joined<Real>({y, mean, rstd, running_mean, running_var}), 1, limit);
      std::vector<T> mean_t(at(channels)), rstd_t(at(channels));
      for (int64_t c = 0; c < channels; ++c) {
        mean_t[at(c)] = static_cast<T>(mean[at(c)]);
        rstd_t[at(c)] = static_cast<T>(rstd[at(c)]);
      }
      check_everywhere<T>(
          "batch_norm_backward " + name,
          [&](const KernelTable<T>& table, const KernelContext& kc) {
            std::vector<T> out(x.size()), dw(at(channels)), db(at(channels));
            table.batch_norm_backward(kc, {batch, channels, area, training, x.data(), dy.data(), weight.data(),
                                           mean_t.data(), rstd_t.data(), out.data(), dw.data(), db.data()});
            return joined<T>({out, dw, db});
          },
          joined<Real>({dx, dweight, dbias}), std::sqrt(n), limit * std::max(1.0, largest_rstd));
    }
}

TEMPLATE_TEST_CASE("statistics of many elements far from zero stay accurate", "[cpu]", float, double) {
  using T = TestType;
  // Mean 100 and deviation 1 over 400 000 elements: plain float sums would be off by thousands of eps.
  const int64_t n = 400000;
  const std::vector<T> x = random_values<T>(n, 16, 1, 100);
  Real sum = 0, squares = 0;
  for (T v : x) sum += v;
  for (T v : x) squares += (v - sum / static_cast<Real>(n)) * (v - sum / static_cast<Real>(n));
  const Real variance = squares / static_cast<Real>(n), rstd = 1 / std::sqrt(variance + static_cast<Real>(T(1e-5)));
  check_everywhere<T>(
      "batch_norm of far numbers",
      [&](const KernelTable<T>& table, const KernelContext& kc) {
        std::vector<T> y(x.size()), m(1), s(1), one(1, T(1)), zero(1), rm(1), rv(1);
        table.batch_norm(kc, {1, 1, n, T(1e-5), T(1), true, x.data(), one.data(), zero.data(), rm.data(), rv.data(),
                              y.data(), m.data(), s.data()});
        std::vector<T> total(1), column(1);
        table.reduce_sum(kc, {1, n, 1, T(1), x.data(), total.data()});
        table.column_sum(kc, {n, 1, x.data(), column.data()});
        return joined<T>({m, s, rv, total, column});
      },
      {sum / static_cast<Real>(n), rstd, squares / static_cast<Real>(n - 1), sum, sum}, 0,
      // In float only the dozens of additions of a block count; in double also those of some 1500 blocks.
      sizeof(T) == 4 ? 4 : 20);
}

TEMPLATE_TEST_CASE("average pooling and its gradient", "[cpu]", float, double) {
  using T = TestType;
  // (planes, in_h, in_w, kernel); windows that do not fit are dropped
  const std::vector<std::array<int64_t, 4>> shapes = {{1, 1, 1, 1},    {2, 5, 7, 2},    {3, 17, 33, 3}, {1, 3, 1000, 3},
                                                      {7, 56, 56, 56}, {64, 28, 28, 2}, {2, 64, 65, 1}};
  for (const auto& shape : shapes) {
    const int64_t planes = shape[0], in_h = shape[1], in_w = shape[2], k = shape[3], out_h = in_h / k, out_w = in_w / k;
    const std::vector<T> x = random_values<T>(planes * in_h * in_w, 17),
                         dy = random_values<T>(planes * out_h * out_w, 18);
    std::vector<Real> y(dy.size()), dx(x.size());
    for (int64_t p = 0; p < planes; ++p)
      for (int64_t h = 0; h < out_h * k; ++h)
        for (int64_t w = 0; w < out_w * k; ++w) {
          const std::size_t from = at((p * in_h + h) * in_w + w), to = at((p * out_h + h / k) * out_w + w / k);
          y[to] += static_cast<Real>(x[from]) / static_cast<Real>(k * k);
          dx[from] = static_cast<Real>(dy[to]) / static_cast<Real>(k * k);
        }
    check_everywhere<T>(
        "avg_pool2d kernel " + std::to_string(k) + " of " + std::to_string(in_w),
        [&](const KernelTable<T>& table, const KernelContext& kc) {
          std::vector<T> out(dy.size()), back(x.size(), T(7));
          table.avg_pool2d(kc, {planes, in_h, in_w, out_h, out_w, k, x.data(), out.data()});
          table.avg_pool2d_backward(kc, {planes, in_h, in_w, out_h, out_w, k, dy.data(), back.data()});
          return joined<T>({out, back});
        },
        joined<Real>({y, dx}), 1, 4);
  }
}

TEMPLATE_TEST_CASE("unary functions and their gradients", "[cpu]", float, double) {
  using T = TestType;
  const auto cdf = [](double x) { return 0.5 * std::erfc(-x * std::sqrt(0.5)); };
  std::vector<int64_t> sizes = awkward_sizes();
  sizes.push_back(70001);
  for (int64_t n : sizes)
    for (UnaryKind kind : {UnaryKind::relu, UnaryKind::gelu, UnaryKind::sigmoid, UnaryKind::scale_shift}) {
      const std::vector<T> x = random_values<T>(n, 19, 2), dy = random_values<T>(n, 20);
      const T alpha = T(1.25), beta = T(-0.75);
      std::vector<Real> y(x.size()), dx(x.size());
      for (std::size_t i = 0; i < x.size(); ++i) {
        const Real v = x[i], d = dy[i];
        if (kind == UnaryKind::relu) y[i] = std::max(v, Real(0)), dx[i] = v > 0 ? d : 0;
        if (kind == UnaryKind::gelu)
          y[i] = v * cdf(v), dx[i] = d * (cdf(v) + v * std::exp(-v * v / 2) / std::sqrt(2 * std::acos(-1.0)));
        if (kind == UnaryKind::sigmoid) y[i] = 1 / (1 + std::exp(-v)), dx[i] = d * y[i] * (1 - y[i]);
        if (kind == UnaryKind::scale_shift) y[i] = 1.25 * v - 0.75, dx[i] = 1.25 * d;
      }
      std::vector<T> y_rounded(y.size());
      for (std::size_t i = 0; i < y.size(); ++i) y_rounded[i] = static_cast<T>(y[i]);
      // Gradients are products with dy, up to 4: errors count in units of dy's.
      check_everywhere<T>(
          "unary kind " + std::to_string(static_cast<int>(kind)) + " of " + std::to_string(n),
          [&](const KernelTable<T>& table, const KernelContext& kc) {
            std::vector<T> out = x, back(x.size());
            table.unary(kc, {kind, n, alpha, beta, out.data(), out.data()});
            table.unary_backward(kc, {kind, n, alpha, x.data(), y_rounded.data(), dy.data(), back.data()});
            return joined<T>({out, back});
          },
          joined<Real>({y, dx}), 4, 2);
    }
}

TEMPLATE_TEST_CASE("relu passes NaN on", "[cpu]", float, double) {
  using T = TestType;
  for (Backend& backend : backends()) {
    const KernelTable<T>& table = backend.one.template kernels<T>();
    INFO(table.name);
    std::vector<T> x(19, nan_of<T>), y(19);
    table.unary(backend.one.kernel_context(), {UnaryKind::relu, 19, T(0), T(0), x.data(), y.data()});
    for (T v : y) CHECK(std::isnan(v));
  }
}

TEMPLATE_TEST_CASE("binary operations broadcast", "[cpu]", float, double) {
  using T = TestType;
  struct Case {
    std::vector<int64_t> dims, a_strides, b_strides;
  };
  std::vector<Case> cases = {
      {{}, {}, {}},                                              // scalars
      {{2, 3, 5, 7}, {105, 35, 7, 1}, {105, 35, 7, 1}},          // the same shape
      {{2, 3, 35}, {105, 35, 1}, {0, 0, 0}},                     // b is a scalar
      {{2, 3, 35}, {0, 0, 0}, {105, 35, 1}},                     // a is a scalar
      {{2, 3, 35}, {0, 0, 0}, {0, 0, 0}},                        // both are
      {{4, 9, 33}, {297, 33, 1}, {0, 0, 1}},                     // over leading dimensions
      {{4, 9, 33}, {297, 33, 1}, {9, 1, 0}},                     // over trailing ones
      {{4, 9, 33}, {297, 33, 1}, {33, 0, 1}},                    // over a middle one
      {{4, 9, 33}, {0, 33, 1}, {9, 1, 0}},                       // both broadcast
      {{2, 3, 2, 3, 2, 3}, {9, 3, 0, 1, 0, 0}, {0, 0, 6, 0, 3, 1}},  // six dimensions
      {{1, 5, 1, 6}, {0, 6, 0, 1}, {0, 0, 0, 1}},                // sizes of 1
      {{3, 4}, {1, 3}, {4, 1}},                                  // a transposed operand: strides other than 0 and 1
      {{300, 333}, {333, 1}, {0, 1}},                            // large enough for threads
      {{300, 333}, {333, 1}, {1, 0}},
      {{100003}, {1}, {0}},
      {{100003}, {1}, {1}},
      {{0, 3}, {3, 1}, {3, 1}},                                  // nothing
  };
  for (int64_t n : awkward_sizes()) {
    cases.push_back({{n}, {1}, {1}});
    cases.push_back({{3, n}, {n, 1}, {0, 1}});
    cases.push_back({{n, 3}, {3, 1}, {1, 0}});
  }
  for (const Case& c : cases)
    for (BinaryKind kind : {BinaryKind::add, BinaryKind::subtract, BinaryKind::multiply}) {
      BinaryArgs<T> args{};
      args.kind = kind;
      args.rank = static_cast<int>(c.dims.size());
      int64_t count = 1, a_size = 1, b_size = 1;
      std::string name = "binary";
      for (std::size_t i = 0; i < c.dims.size(); ++i) {
        args.dims[i] = c.dims[i];
        args.a_strides[i] = c.a_strides[i];
        args.b_strides[i] = c.b_strides[i];
        count *= c.dims[i];
        a_size += (c.dims[i] - 1) * c.a_strides[i];
        b_size += (c.dims[i] - 1) * c.b_strides[i];
        name += " " + std::to_string(c.dims[i]);
      }
      if (count == 0) a_size = b_size = 0;
      const std::vector<T> a = random_values<T>(a_size, 21), b = random_values<T>(b_size, 22);
      std::vector<Real> y(at(count));
      for (int64_t i = 0; i < count; ++i) {
        int64_t rest = i, a_at = 0, b_at = 0;
        for (std::size_t d = c.dims.size(); d-- > 0;) {
          a_at += rest % c.dims[d] * c.a_strides[d];
          b_at += rest % c.dims[d] * c.b_strides[d];
          rest /= c.dims[d];
        }
        const Real v = a[at(a_at)], w = b[at(b_at)];
        y[at(i)] = kind == BinaryKind::add ? v + w : kind == BinaryKind::subtract ? v - w : v * w;
      }
      check_everywhere<T>(
          name,
          [&](const KernelTable<T>& table, const KernelContext& kc) {
            std::vector<T> out(at(count));
            BinaryArgs<T> call = args;
            call.a = a.data();
            call.b = b.data();
            call.y = out.data();
            table.binary(kc, call);
            return out;
          },
          y, 0, 1);  // one rounding; in double the reference is rounded too, in the same way
    }
}

TEMPLATE_TEST_CASE("sums and repeats along an axis", "[cpu]", float, double) {
  using T = TestType;
  std::vector<std::array<int64_t, 3>> shapes = {{1, 5000, 33}, {7, 63, 65}, {3, 65, 64}, {500, 150, 1}, {2, 1, 70001},
                                                {1, 100000, 1}, {64, 49, 40}};
  for (int64_t n : awkward_sizes()) {
    shapes.push_back({3, n, 1});
    shapes.push_back({3, 5, n});
    shapes.push_back({1, n, 17});
  }
  for (const auto& shape : shapes) {
    const int64_t outer = shape[0], axis = shape[1], inner = shape[2];
    const std::vector<T> x = random_values<T>(outer * axis * inner, 23), v = random_values<T>(outer * inner, 24);
    std::vector<Real> sum(at(outer * inner)), repeated(x.size()), columns(at(inner * axis));
    for (int64_t o = 0; o < outer; ++o)
      for (int64_t a = 0; a < axis; ++a)
        for (int64_t i = 0; i < inner; ++i) {
          sum[at(o * inner + i)] += 0.25 * x[at((o * axis + a) * inner + i)];
          repeated[at((o * axis + a) * inner + i)] = 0.25 * v[at(o * inner + i)];
          columns[at(a * inner + i)] += x[at((o * axis + a) * inner + i)];
        }
    // The error of a sum of n random terms grows as the root of n at most.
    const double magnitude = std::sqrt(static_cast<Real>(std::max(axis, outer)));
    check_everywhere<T>(
        "reduce (" + std::to_string(outer) + ", " + std::to_string(axis) + ", " + std::to_string(inner) + ")",
        [&](const KernelTable<T>& table, const KernelContext& kc) {
          std::vector<T> sums(sum.size()), expanded(x.size()), column_sums(columns.size());
          table.reduce_sum(kc, {outer, axis, inner, T(0.25), x.data(), sums.data()});
          table.expand(kc, {outer, axis, inner, T(0.25), v.data(), expanded.data()});
          table.column_sum(kc, {outer, axis * inner, x.data(), column_sums.data()});
          return joined<T>({sums, expanded, column_sums});
        },
        joined<Real>({sum, repeated, columns}), magnitude, 4);
  }
}

TEMPLATE_TEST_CASE("permute moves every element to its place", "[cpu]", float, double) {
  using T = TestType;
  struct Case {
    std::vector<int64_t> dims;
    std::vector<int> order;
  };
  std::vector<Case> cases = {{{}, {}},
                             {{7}, {0}},
                             {{3, 5}, {1, 0}},
                             {{2, 3, 5}, {0, 2, 1}},
                             {{2, 3, 5}, {2, 1, 0}},
                             {{2, 3, 5}, {1, 2, 0}},
                             {{2, 3, 5}, {2, 0, 1}},
                             {{2, 3, 5}, {1, 0, 2}},
                             {{2, 3, 5}, {0, 1, 2}},
                             {{1, 3, 1, 5}, {3, 2, 1, 0}},
                             {{2, 3, 4, 5, 3, 2}, {5, 3, 1, 0, 2, 4}},
                             {{2, 3, 4, 5, 3, 2}, {1, 0, 3, 2, 4, 5}},
                             {{2, 50, 3, 4, 16}, {2, 0, 3, 1, 4}},  // heads of attention
                             {{2, 196, 384}, {0, 2, 1}},
                             {{8, 100, 3, 33}, {0, 2, 3, 1}},
                             {{0, 3}, {1, 0}}};
  for (int64_t n : awkward_sizes()) {
    cases.push_back({{n, 33}, {1, 0}});
    cases.push_back({{3, n, 9}, {1, 0, 2}});
  }
  for (const Case& c : cases) {
    const int rank = static_cast<int>(c.dims.size());
    int64_t count = 1;
    for (int64_t d : c.dims) count *= d;
    const std::vector<T> x = random_values<T>(count, 25);
    std::vector<Real> y(at(count));
    std::string name = "permute";
    for (int d = 0; d < rank; ++d) name += " " + std::to_string(c.dims[at(d)]) + ":" + std::to_string(c.order[at(d)]);
    for (int64_t i = 0; i < count; ++i) {  // i is a place in y
      int64_t rest = i;
      std::array<int64_t, 6> place{};  // in x
      for (int d = rank - 1; d >= 0; --d) {
        const int source = c.order[at(d)];
        place[at(source)] = rest % c.dims[at(source)];
        rest /= c.dims[at(source)];
      }
      int64_t from = 0;
      for (int d = 0; d < rank; ++d) from = from * c.dims[at(d)] + place[at(d)];
      y[at(i)] = x[at(from)];
    }
    check_everywhere<T>(
        name,
        [&](const KernelTable<T>& table, const KernelContext& kc) {
          std::vector<T> out(at(count));
          PermuteArgs<T> args{};
          args.rank = rank;
          for (int d = 0; d < rank; ++d) {
            args.dims[d] = c.dims[at(d)];
            args.order[d] = c.order[at(d)];
          }
          args.x = x.data();
          args.y = out.data();
          table.permute(kc, args);
          return out;
        },
        y, 0, 0);
  }
}

TEMPLATE_TEST_CASE("rows are copied and nothing beside them", "[cpu]", float, double) {
  using T = TestType;
  // (rows, run, x_stride, y_stride)
  std::vector<std::array<int64_t, 4>> shapes = {{1, 1, 1, 1},         {5, 3, 7, 4},
                                                {300, 100, 150, 100}, {1, 300000, 300000, 300000},
                                                {9, 33, 33, 33},      {2, 100001, 100003, 100002},
                                                {0, 3, 3, 3}};
  for (int64_t n : awkward_sizes()) shapes.push_back({4, n, n + 1, n + 2});
  for (const auto& shape : shapes) {
    const int64_t rows = shape[0], run = shape[1], x_stride = shape[2], y_stride = shape[3];
    const std::vector<T> x = random_values<T>(rows * x_stride, 26);
    std::vector<Real> y(at(rows * y_stride), 7);
    for (int64_t r = 0; r < rows; ++r)
      for (int64_t i = 0; i < run; ++i) y[at(r * y_stride + i)] = x[at(r * x_stride + i)];
    check_everywhere<T>(
        "copy_rows " + std::to_string(rows) + " x " + std::to_string(run),
        [&](const KernelTable<T>& table, const KernelContext& kc) {
          std::vector<T> out(y.size(), T(7));
          table.copy_rows(kc, {rows, run, x_stride, y_stride, x.data(), out.data()});
          return out;
        },
        y, 0, 0);
  }
}

TEMPLATE_TEST_CASE("index_select and its gradient", "[cpu]", float, double) {
  using T = TestType;
  std::vector<std::array<int64_t, 3>> shapes = {{1, 4, 1}, {3, 7, 65}, {2, 50, 1000}, {20000, 4, 1}, {1, 4, 30001}};
  for (int64_t n : awkward_sizes()) shapes.push_back({2, 4, n});
  const std::vector<int64_t> index = {3, 0, 0, 2, 3, 0};  // 1 is left out, 0 comes three times
  const int64_t count = static_cast<int64_t>(index.size());
  for (const auto& shape : shapes) {
    const int64_t outer = shape[0], axis = shape[1], inner = shape[2];
    const std::vector<T> x = random_values<T>(outer * axis * inner, 27),
                         dy = random_values<T>(outer * count * inner, 28);
    std::vector<Real> y(dy.size()), dx(x.size());
    for (int64_t o = 0; o < outer; ++o)
      for (int64_t j = 0; j < count; ++j)
        for (int64_t i = 0; i < inner; ++i) {
          const std::size_t to = at((o * count + j) * inner + i), from = at((o * axis + index[at(j)]) * inner + i);
          y[to] = x[from];
          dx[from] += dy[to];
        }
    check_everywhere<T>(
        "index_select (" + std::to_string(outer) + ", " + std::to_string(axis) + ", " + std::to_string(inner) + ")",
        [&](const KernelTable<T>& table, const KernelContext& kc) {
          std::vector<T> out(y.size()), back(x.size(), T(7));
          table.index_select(kc, {outer, axis, inner, count, index.data(), x.data(), out.data()});
          table.index_select_backward(kc, {outer, axis, inner, count, index.data(), dy.data(), back.data()});
          return joined<T>({out, back});
        },
        joined<Real>({y, dx}), 2, 2);
  }
}

TEMPLATE_TEST_CASE("dropout repeats its mask and keeps the mean", "[cpu]", float, double) {
  using T = TestType;
  const int64_t n = 100003;
  const std::vector<T> x = random_values<T>(n, 29, 1, 3);
  const double p = 0.3;
  std::vector<Real> y(x.size());
  for (int64_t i = 0; i < n; ++i)
    y[at(i)] = counter_uniform(42, static_cast<std::uint64_t>(i)) >= p ? x[at(i)] / (1 - p) : 0;
  check_everywhere<T>(
      "dropout",
      [&](const KernelTable<T>& table, const KernelContext& kc) {
        std::vector<T> out(x.size());
        table.dropout(kc, {n, p, 42, x.data(), out.data()});
        return out;
      },
      y, 0, 2);
  int64_t zeros = 0;
  for (Real v : y) zeros += v == 0;
  // A binomial count of deviation sqrt(n p (1 - p)) = 145; five deviations.
  CHECK(std::abs(static_cast<Real>(zeros) - p * static_cast<Real>(n)) < 725);
  for (Backend& backend : backends()) {
    const KernelTable<T>& table = backend.one.template kernels<T>();
    INFO(table.name);
    std::vector<T> same(x.size()), none(x.size(), T(7));
    table.dropout(backend.one.kernel_context(), {n, 0.0, 42, x.data(), same.data()});
    CHECK(same_bits(same, x));
    table.dropout(backend.one.kernel_context(), {n, 1.0, 42, x.data(), none.data()});
    CHECK(same_bits(none, std::vector<T>(x.size(), T(0))));
  }
}

TEMPLATE_TEST_CASE("l1 loss and its gradient", "[cpu]", float, double) {
  using T = TestType;
  std::vector<int64_t> sizes = awkward_sizes();
  sizes.push_back(65537);
  sizes.push_back(300001);
  for (int64_t n : sizes) {
    const std::vector<T> a = random_values<T>(n, 30);
    std::vector<T> b = random_values<T>(n, 31);
    b[at(n / 2)] = a[at(n / 2)];  // a difference of 0 has gradient 0
    const T dloss = T(1.5);
    std::vector<Real> want(1), da(a.size());
    for (int64_t i = 0; i < n; ++i) {
      const Real d = static_cast<Real>(a[at(i)]) - b[at(i)];
      want[0] += std::abs(d);
      da[at(i)] = 1.5 / static_cast<Real>(n) * (d > 0 ? 1 : d < 0 ? -1 : 0);
    }
    want[0] /= static_cast<Real>(n);
    check_everywhere<T>(
        "l1 loss of " + std::to_string(n),
        [&](const KernelTable<T>& table, const KernelContext& kc) {
          std::vector<T> loss(1), back(a.size());
          table.l1_loss(kc, {n, a.data(), b.data(), loss.data()});
          table.l1_loss_backward(kc, {n, a.data(), b.data(), &dloss, back.data()});
          return joined<T>({loss, back});
        },
        joined<Real>({want, da}), 0, 4);
  }
  for (Backend& backend : backends()) {
    const KernelTable<T>& table = backend.one.template kernels<T>();
    INFO(table.name);
    std::vector<T> a(19, T(0)), b(19, T(0)), loss(1);
    a[18] = nan_of<T>;
    table.l1_loss(backend.one.kernel_context(), {19, a.data(), b.data(), loss.data()});
    CHECK(std::isnan(loss[0]));
  }
}

TEMPLATE_TEST_CASE("fill and add_in_place", "[cpu]", float, double) {
  using T = TestType;
  std::vector<int64_t> sizes = awkward_sizes();
  sizes.push_back(0);
  sizes.push_back(70001);
  for (int64_t n : sizes) {
    const std::vector<T> x = random_values<T>(n, 32), start = random_values<T>(n, 33);
    std::vector<Real> sum(x.size());
    for (std::size_t i = 0; i < x.size(); ++i) sum[i] = static_cast<Real>(x[i]) + start[i];
    check_everywhere<T>(
        "fill and add " + std::to_string(n),
        [&](const KernelTable<T>& table, const KernelContext& kc) {
          std::vector<T> y = start, filled(x.size());
          table.add_in_place(kc, {n, x.data(), y.data()});
          table.fill(kc, {n, T(2.5), filled.data()});
          return joined<T>({y, filled});
        },
        joined<Real>({sum, std::vector<Real>(x.size(), 2.5)}), 0, 1);
  }
}

TEMPLATE_TEST_CASE("every kernel table is complete and named", "[cpu]", float, double) {
  using T = TestType;
  REQUIRE(backends().size() >= 2);
  for (Backend& backend : backends()) {
    const KernelTable<T>& table = backend.one.template kernels<T>();
    INFO(table.name);
    CHECK(std::string(table.name).rfind("cpu ", 0) == 0);
    CHECK(table.packed_layout != 0);
    const bool complete =
        table.gemm && table.packed_bytes && table.pack_matrix && table.attention && table.attention_backward &&
        table.softmax && table.softmax_backward && table.layer_norm && table.layer_norm_backward && table.batch_norm &&
        table.batch_norm_backward && table.conv2d && table.conv2d_backward_data && table.conv2d_backward_weight &&
        table.avg_pool2d && table.avg_pool2d_backward && table.unary && table.unary_backward && table.binary &&
        table.reduce_sum && table.column_sum && table.expand && table.permute && table.copy_rows &&
        table.index_select && table.index_select_backward && table.dropout && table.l1_loss &&
        table.l1_loss_backward && table.fill && table.add_in_place && table.adam_step && table.sum_of_squares &&
        table.lerp;
    CHECK(complete);
  }
}
