// Which labelled images make a prompt: interval sampling and random sampling (paper section 4.1; model.md section 4).
// Surprising choice: positions are computed in integers, so the picks never depend on rounding.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include <promptiqa/core/error.hpp>
#include <promptiqa/core/macros.hpp>

namespace promptiqa {

/// Interval sampling: sorts the N scores (stable), then takes positions floor(i * (N - 1) / (n - 1)), i = 0 .. n-1;
/// n = 1 takes the median, position floor((N - 1) / 2). Returns indices into `scores`, in order of score; with n <= N
/// they are distinct. Throws PromptError unless 1 <= n <= N and all scores are finite.
std::vector<std::size_t> interval_sample(std::span<const float> scores, std::size_t n);

/// Random sampling: n distinct indices below `population`, each set and order equally likely. The same seed gives the
/// same indices on every machine. Throws PromptError unless 1 <= n <= population.
std::vector<std::size_t> random_sample(std::size_t population, std::size_t n, std::uint64_t seed);

}  // namespace promptiqa

#if PROMPTIQA_WITH_BODIES
#include <promptiqa/prompt/sampling.ipp>
#endif
