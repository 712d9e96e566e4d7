// Bodies of the correlations.
// Surprising choice: Kendall's tau counts discordant pairs as the swaps of a merge sort (Knight 1966).
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <numeric>
#include <string>
#include <vector>

#include <promptiqa/metrics/correlation.hpp>

namespace promptiqa {

namespace detail {

inline void check_series(const char* what, std::span<const double> a, std::span<const double> b, std::size_t least) {
  if (a.size() != b.size() || a.size() < least)
    throw ShapeError(std::string(what) + ": both series must have the same length, at least " + std::to_string(least) +
                     ", got " + std::to_string(a.size()) + " and " + std::to_string(b.size()));
}

inline bool any_nan(std::span<const double> a) {
  return std::any_of(a.begin(), a.end(), [](double x) { return std::isnan(x); });
}

// A sum of squared deviations cannot tell: the mean of three times 0.1 is not 0.1.
inline bool all_equal(std::span<const double> a) {
  return std::all_of(a.begin(), a.end(), [&](double x) { return x == a[0]; });
}

// Sorts values and returns how many adjacent swaps a bubble sort would have made.
inline std::uint64_t sort_counting_swaps(std::vector<double>& values, std::vector<double>& buffer, std::size_t begin,
                                         std::size_t end) {
  if (end - begin < 2) return 0;
  const std::size_t middle = begin + (end - begin) / 2;
  std::uint64_t swaps =
      sort_counting_swaps(values, buffer, begin, middle) + sort_counting_swaps(values, buffer, middle, end);
  std::size_t i = begin, j = middle, out = begin;
  while (i < middle || j < end) {
    if (j == end || (i < middle && values[i] <= values[j])) {
      buffer[out++] = values[i++];
    } else {
      swaps += middle - i;
      buffer[out++] = values[j++];
    }
  }
  std::copy(buffer.begin() + static_cast<std::ptrdiff_t>(begin), buffer.begin() + static_cast<std::ptrdiff_t>(end),
            values.begin() + static_cast<std::ptrdiff_t>(begin));
  return swaps;
}

// Pairs of equal neighbours in [0, n) as told by same(i, i + 1): sum over runs of t (t - 1) / 2.
template <class Same>
std::uint64_t tied_pairs(std::size_t n, Same same) {
  std::uint64_t pairs = 0, run = 1;
  for (std::size_t i = 1; i <= n; ++i) {
    if (i < n && same(i - 1, i)) {
      ++run;
    } else {
      pairs += run * (run - 1) / 2;
      run = 1;
    }
  }
  return pairs;
}

}  // namespace detail

PROMPTIQA_INLINE std::vector<double> average_ranks(std::span<const double> values) {
  std::vector<std::size_t> order(values.size());
  std::iota(order.begin(), order.end(), std::size_t{0});
  std::sort(order.begin(), order.end(), [&](std::size_t i, std::size_t j) { return values[i] < values[j]; });
  std::vector<double> ranks(values.size());
  for (std::size_t i = 0; i < order.size();) {
    std::size_t end = i;
    while (end < order.size() && values[order[end]] == values[order[i]]) ++end;
    for (std::size_t j = i; j < end; ++j) ranks[order[j]] = 0.5 * static_cast<double>(i + 1 + end);
    i = end;
  }
  return ranks;
}

PROMPTIQA_INLINE double plcc(std::span<const double> a, std::span<const double> b) {
  detail::check_series("plcc", a, b, 2);
  if (detail::all_equal(a) || detail::all_equal(b)) return std::nan("");
  const auto n = static_cast<double>(a.size());
  const double mean_a = std::accumulate(a.begin(), a.end(), 0.0) / n;
  const double mean_b = std::accumulate(b.begin(), b.end(), 0.0) / n;
  double ab = 0, aa = 0, bb = 0;
  for (std::size_t i = 0; i < a.size(); ++i) {
    const double da = a[i] - mean_a, db = b[i] - mean_b;
    ab += da * db, aa += da * da, bb += db * db;
  }
  return std::clamp(ab / (std::sqrt(aa) * std::sqrt(bb)), -1.0, 1.0);  // NaN where a NaN went in
}

PROMPTIQA_INLINE double srocc(std::span<const double> a, std::span<const double> b) {
  detail::check_series("srocc", a, b, 2);
  if (detail::any_nan(a) || detail::any_nan(b)) return std::nan("");
  return plcc(average_ranks(a), average_ranks(b));
}

PROMPTIQA_INLINE double krocc(std::span<const double> a, std::span<const double> b) {
  detail::check_series("krocc", a, b, 2);
  if (detail::any_nan(a) || detail::any_nan(b)) return std::nan("");
  const std::size_t n = a.size();
  std::vector<std::size_t> order(n);
  std::iota(order.begin(), order.end(), std::size_t{0});
  std::sort(order.begin(), order.end(),
            [&](std::size_t i, std::size_t j) { return a[i] != a[j] ? a[i] < a[j] : b[i] < b[j]; });
  std::vector<double> values(n), buffer(n);
  for (std::size_t i = 0; i < n; ++i) values[i] = b[order[i]];
  const std::uint64_t ties_a =
      detail::tied_pairs(n, [&](std::size_t i, std::size_t j) { return a[order[i]] == a[order[j]]; });
  const std::uint64_t ties_both = detail::tied_pairs(
      n, [&](std::size_t i, std::size_t j) { return a[order[i]] == a[order[j]] && b[order[i]] == b[order[j]]; });
  const std::uint64_t swaps = detail::sort_counting_swaps(values, buffer, 0, n);
  const std::uint64_t ties_b =
      detail::tied_pairs(n, [&](std::size_t i, std::size_t j) { return values[i] == values[j]; });
  const double pairs = 0.5 * static_cast<double>(n) * static_cast<double>(n - 1);
  const double free_a = pairs - static_cast<double>(ties_a), free_b = pairs - static_cast<double>(ties_b);
  if (free_a == 0 || free_b == 0) return std::nan("");
  const double concordant_minus_discordant = pairs - static_cast<double>(ties_a) - static_cast<double>(ties_b) +
                                             static_cast<double>(ties_both) - 2 * static_cast<double>(swaps);
  return std::clamp(concordant_minus_discordant / (std::sqrt(free_a) * std::sqrt(free_b)), -1.0, 1.0);
}

PROMPTIQA_INLINE double rmse(std::span<const double> a, std::span<const double> b) {
  detail::check_series("rmse", a, b, 1);
  double sum = 0;
  for (std::size_t i = 0; i < a.size(); ++i) sum += (a[i] - b[i]) * (a[i] - b[i]);
  return std::sqrt(sum / static_cast<double>(a.size()));
}

}  // namespace promptiqa
