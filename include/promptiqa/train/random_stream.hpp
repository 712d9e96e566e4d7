// RandomStream: the random choices of training, from two integers that a checkpoint can hold.
// Surprising choice: nothing of <random> is used, whose distributions differ between standard libraries.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <vector>

#include <promptiqa/core/kernel_table.hpp>

namespace promptiqa {

/// The same seed gives the same numbers on every machine; (seed, drawn) is all of the state.
struct RandomStream {
  std::uint64_t seed = 0, drawn = 0;

  /// In [0, 1).
  double uniform() { return counter_uniform(seed ^ 0x6A09E667F3BCC909ull, drawn++); }
  double uniform(double low, double high) { return low + (high - low) * uniform(); }

  /// True with probability p.
  bool chance(double p) { return uniform() < p; }

  /// In [0, count), count >= 1.
  std::int64_t index(std::int64_t count) {
    return std::min(count - 1, static_cast<std::int64_t>(uniform() * static_cast<double>(count)));
  }

  /// n different numbers in [0, count), n <= count; each set and order equally likely.
  std::vector<std::int64_t> distinct(std::int64_t count, std::int64_t n) {
    std::vector<std::int64_t> chosen;
    while (static_cast<std::int64_t>(chosen.size()) < n) {
      const std::int64_t i = index(count);
      if (std::find(chosen.begin(), chosen.end(), i) == chosen.end()) chosen.push_back(i);
    }
    return chosen;
  }

  /// 0 .. count - 1 in random order.
  std::vector<std::int64_t> permutation(std::int64_t count) {
    std::vector<std::int64_t> order(static_cast<std::size_t>(count));
    for (std::size_t i = 0; i < order.size(); ++i) order[i] = static_cast<std::int64_t>(i);
    for (std::int64_t i = count - 1; i > 0; --i)
      std::swap(order[static_cast<std::size_t>(i)], order[static_cast<std::size_t>(index(i + 1))]);
    return order;
  }

  friend bool operator==(const RandomStream& a, const RandomStream& b) {
    return a.seed == b.seed && a.drawn == b.drawn;
  }
};

}  // namespace promptiqa
