// Bodies of the samplers.
// Surprising choice: the shuffle draws its own integers; std::uniform_int_distribution differs between libraries.
#pragma once

#include <algorithm>
#include <cmath>
#include <numeric>
#include <random>

#include <promptiqa/prompt/sampling.hpp>

namespace promptiqa {

namespace detail {
inline void check_sample_size(const char* what, std::size_t n, std::size_t population) {
  if (n < 1 || n > population)
    throw PromptError(std::string(what) + ": the number of pairs must be 1.." + std::to_string(population) + ", got " +
                      std::to_string(n));
}
}  // namespace detail

PROMPTIQA_INLINE std::vector<std::size_t> interval_sample(std::span<const float> scores, std::size_t n) {
  detail::check_sample_size("interval_sample", n, scores.size());
  for (std::size_t i = 0; i < scores.size(); ++i)
    if (!std::isfinite(scores[i]))
      throw PromptError("interval_sample: score " + std::to_string(i + 1) + " is not finite");
  std::vector<std::size_t> order(scores.size());
  std::iota(order.begin(), order.end(), std::size_t{0});
  std::stable_sort(order.begin(), order.end(), [&](std::size_t a, std::size_t b) { return scores[a] < scores[b]; });
  const std::size_t last = scores.size() - 1;
  if (n == 1) return {order[last / 2]};
  std::vector<std::size_t> picked;
  picked.reserve(n);
  for (std::size_t i = 0; i < n; ++i) picked.push_back(order[i * last / (n - 1)]);
  return picked;
}

PROMPTIQA_INLINE std::vector<std::size_t> random_sample(std::size_t population, std::size_t n, std::uint64_t seed) {
  detail::check_sample_size("random_sample", n, population);
  std::mt19937_64 generator(seed);
  // A number below `bound` without bias: draws from the incomplete last stretch of the range are thrown away.
  const auto below = [&](std::uint64_t bound) {
    const std::uint64_t limit = generator.max() - generator.max() % bound;
    for (;;) {
      const std::uint64_t draw = generator();
      if (draw < limit) return draw % bound;
    }
  };
  std::vector<std::size_t> indices(population);
  std::iota(indices.begin(), indices.end(), std::size_t{0});
  for (std::size_t i = 0; i < n; ++i) std::swap(indices[i], indices[i + below(population - i)]);
  indices.resize(n);
  return indices;
}

}  // namespace promptiqa
