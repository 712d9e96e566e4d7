// Bodies of the five-parameter logistic and its fit.
// Surprising choice: 1/2 - 1 / (1 + exp(t)) is computed as tanh(t / 2) / 2, which is the same and cannot overflow, and
// the fit runs on series of mean 0 and deviation 1, so that one set of starts serves every scale of scores.
#pragma once

#include <algorithm>
#include <array>
#include <cmath>
#include <cstddef>
#include <limits>
#include <numeric>
#include <vector>

#include <promptiqa/metrics/correlation.hpp>
#include <promptiqa/metrics/correlation.ipp>

namespace promptiqa {

namespace detail {

// (amplitude, steepness, centre, slope, offset) of amplitude * tanh(steepness * (x - centre)) + slope * x + offset.
using LogisticParameters = std::array<double, 5>;

inline double logistic_value(const LogisticParameters& p, double x) {
  return p[0] * std::tanh(p[1] * (x - p[2])) + p[3] * x + p[4];
}

inline double squared_error(const LogisticParameters& p, const std::vector<double>& x, const std::vector<double>& y) {
  double sum = 0;
  for (std::size_t i = 0; i < x.size(); ++i) {
    const double error = y[i] - logistic_value(p, x[i]);
    sum += error * error;
  }
  return sum;
}

// Solves the symmetric positive definite system a x = b by Cholesky's method; false when it is not definite.
template <std::size_t N>
bool solve(std::array<std::array<double, N>, N> a, std::array<double, N>& b) {
  for (std::size_t i = 0; i < N; ++i)
    for (std::size_t j = 0; j <= i; ++j) {
      double sum = a[i][j];
      for (std::size_t k = 0; k < j; ++k) sum -= a[i][k] * a[j][k];
      if (i == j && !(sum > 0)) return false;
      a[i][j] = i == j ? std::sqrt(sum) : sum / a[j][j];
    }
  for (std::size_t i = 0; i < N; ++i) {
    for (std::size_t k = 0; k < i; ++k) b[i] -= a[i][k] * b[k];
    b[i] /= a[i][i];
  }
  for (std::size_t i = N; i-- > 0;) {
    for (std::size_t k = i + 1; k < N; ++k) b[i] -= a[k][i] * b[k];
    b[i] /= a[i][i];
  }
  return true;
}

// The best amplitude, slope and offset of a given steepness and centre, which are a linear problem.
inline LogisticParameters logistic_start(double steepness, double centre, const std::vector<double>& x,
                                         const std::vector<double>& y) {
  std::array<std::array<double, 3>, 3> normal{};
  std::array<double, 3> right{};
  for (std::size_t i = 0; i < x.size(); ++i) {
    const std::array<double, 3> basis = {std::tanh(steepness * (x[i] - centre)), x[i], 1};
    for (std::size_t r = 0; r < 3; ++r) {
      right[r] += basis[r] * y[i];
      for (std::size_t c = 0; c < 3; ++c) normal[r][c] += basis[r] * basis[c];
    }
  }
  for (std::size_t r = 0; r < 3; ++r) normal[r][r] += 1e-9 * static_cast<double>(x.size());  // never singular
  if (!solve(normal, right)) right = {0, 0, 0};
  return {right[0], steepness, centre, right[1], right[2]};
}

// Levenberg-Marquardt: every step lowers the squared error, which is returned.
inline double improve_logistic(LogisticParameters& p, const std::vector<double>& x, const std::vector<double>& y) {
  double error = squared_error(p, x, y), damping = 1e-3;
  for (int step = 0; step < 200 && error > 0; ++step) {
    std::array<std::array<double, 5>, 5> normal{};
    LogisticParameters gradient{};
    for (std::size_t i = 0; i < x.size(); ++i) {
      const double t = std::tanh(p[1] * (x[i] - p[2])), slope = p[0] * (1 - t * t);
      const LogisticParameters derivative = {t, slope * (x[i] - p[2]), -slope * p[1], x[i], 1};
      const double residual = y[i] - (p[0] * t + p[3] * x[i] + p[4]);
      for (std::size_t r = 0; r < 5; ++r) {
        gradient[r] += derivative[r] * residual;
        for (std::size_t c = 0; c <= r; ++c) normal[r][c] += derivative[r] * derivative[c];
      }
    }
    const double before = error;
    for (; damping < 1e12; damping *= 10) {
      auto damped = normal;
      for (std::size_t r = 0; r < 5; ++r) damped[r][r] += damping * (normal[r][r] + 1e-12);
      LogisticParameters next = gradient;
      if (!solve(damped, next)) continue;
      for (std::size_t r = 0; r < 5; ++r) next[r] += p[r];
      const double next_error = squared_error(next, x, y);
      if (!(next_error < error)) continue;  // also when it is not finite
      p = next;
      error = next_error;
      break;
    }
    if (!(error < before * (1 - 1e-12))) break;
    damping = std::max(damping / 10, 1e-12);
  }
  return error;
}

// Takes the mean off and divides by the deviation, which is exactly 0 for a constant series, in spite of rounding.
struct Standardised {
  std::vector<double> values;
  double mean, deviation;

  explicit Standardised(std::span<const double> from) : values(from.begin(), from.end()), mean(0), deviation(0) {
    const auto n = static_cast<double>(values.size());
    if (all_equal(from)) {
      mean = from[0];
      values.assign(values.size(), 0);
      return;
    }
    mean = std::accumulate(values.begin(), values.end(), 0.0) / n;
    for (double& value : values) {
      value -= mean;
      deviation += value * value;
    }
    deviation = std::sqrt(deviation / n);
    for (double& value : values) value /= deviation;
  }
};

}  // namespace detail

PROMPTIQA_INLINE double Logistic5::apply(double x) const { return b1 / 2 * std::tanh(b2 * (x - b3) / 2) + b4 * x + b5; }

PROMPTIQA_INLINE std::vector<double> Logistic5::apply(std::span<const double> x) const {
  std::vector<double> y;
  for (double value : x) y.push_back(apply(value));
  return y;
}

PROMPTIQA_INLINE Logistic5 fit_logistic5(std::span<const double> predicted, std::span<const double> score) {
  detail::check_series("fit_logistic5", predicted, score, 2);
  const auto finite = [](const Logistic5& f) {
    return std::isfinite(f.b1) && std::isfinite(f.b2) && std::isfinite(f.b3) && std::isfinite(f.b4) &&
           std::isfinite(f.b5);
  };
  const detail::Standardised x(predicted), y(score);
  if (!std::isfinite(x.deviation) || !std::isfinite(y.deviation)) return {};
  // Of standardised series the best line has their correlation as slope and no offset.
  const double slope = std::inner_product(x.values.begin(), x.values.end(), y.values.begin(), 0.0) /
                       static_cast<double>(x.values.size());
  const auto in_units = [&](const detail::LogisticParameters& p, Logistic5::Kind kind) {
    Logistic5 f;
    const double sign = p[1] < 0 ? -1 : 1;
    f.kind = kind;
    if (kind == Logistic5::Kind::logistic) {
      f.b1 = 2 * sign * p[0] * y.deviation;
      f.b2 = 2 * sign * p[1] / x.deviation;
      f.b3 = x.mean + p[2] * x.deviation;
    }
    f.b4 = x.deviation > 0 ? p[3] * y.deviation / x.deviation : 0;
    f.b5 = y.mean + p[4] * y.deviation - f.b4 * x.mean;
    return f;
  };
  detail::LogisticParameters best = {0, 0, 0, slope, 0};
  const Logistic5 line = in_units(best, Logistic5::Kind::line);
  if (!finite(line)) return {};
  if (x.values.size() < 6 || x.deviation == 0 || y.deviation == 0) return line;

  std::vector<double> sorted = x.values;
  std::sort(sorted.begin(), sorted.end());
  const double line_error = detail::squared_error(best, x.values, y.values);
  double least = line_error * (1 - 1e-9);  // what gains less is rounding
  bool found = false;
  for (double steepness : {0.5, 1.0, 2.5})
    for (double quantile : {0.2, 0.5, 0.8}) {
      const double centre = sorted[static_cast<std::size_t>(quantile * static_cast<double>(sorted.size() - 1))];
      detail::LogisticParameters p = detail::logistic_start(steepness, centre, x.values, y.values);
      const double error = detail::improve_logistic(p, x.values, y.values);
      if (!(error < least) || !finite(in_units(p, Logistic5::Kind::logistic))) continue;
      least = error;
      best = p;
      found = true;
    }
  return found ? in_units(best, Logistic5::Kind::logistic) : line;
}

PROMPTIQA_INLINE double plcc_after_logistic(std::span<const double> predicted, std::span<const double> score) {
  detail::check_series("plcc_after_logistic", predicted, score, 2);
  return plcc(fit_logistic5(predicted, score).apply(predicted), score);
}

PROMPTIQA_INLINE double rmse_after_logistic(std::span<const double> predicted, std::span<const double> score) {
  detail::check_series("rmse_after_logistic", predicted, score, 2);
  return rmse(fit_logistic5(predicted, score).apply(predicted), score);
}

}  // namespace promptiqa
