// Interval and random sampling.
// Surprising choice: the interval positions are compared with exact fractions, not with the code's own formula.
#include <promptiqa/prompt/sampling.hpp>

#include <cmath>
#include <numeric>
#include <set>

#include "catch.hpp"

using namespace promptiqa;

TEST_CASE("interval sampling spans the scores") {
  std::vector<float> scores;
  for (int i = 0; i < 1200; ++i) scores.push_back(static_cast<float>((i * 7919) % 1200));  // a permutation
  for (std::size_t n : {2u, 3u, 5u, 10u, 20u, 1200u}) {
    const auto picked = interval_sample(scores, n);
    REQUIRE(picked.size() == n);
    CHECK(scores[picked.front()] == 0);
    CHECK(scores[picked.back()] == 1199);
    for (std::size_t i = 0; i < n; ++i)  // scores are their own ranks
      CHECK(scores[picked[i]] ==
            std::floor(static_cast<long double>(i) * 1199 / static_cast<long double>(n - 1) + 1e-9L));
    CHECK(std::set<std::size_t>(picked.begin(), picked.end()).size() == n);
  }
  CHECK(scores[interval_sample(scores, 1)[0]] == 599);
}

TEST_CASE("interval sampling is stable among ties") {
  const std::vector<float> scores = {5, 1, 5, 1, 3};
  CHECK(interval_sample(scores, 5) == std::vector<std::size_t>{1, 3, 4, 0, 2});
  CHECK(interval_sample(scores, 2) == std::vector<std::size_t>{1, 2});
  CHECK(interval_sample({scores.data(), 1}, 1) == std::vector<std::size_t>{0});
}

TEST_CASE("random sampling draws without replacement, evenly, and repeats with its seed") {
  CHECK(random_sample(100, 10, 3) == random_sample(100, 10, 3));
  CHECK(random_sample(100, 10, 3) != random_sample(100, 10, 4));
  std::vector<int> hits(10, 0);
  for (std::uint64_t seed = 0; seed < 5000; ++seed) {
    const auto picked = random_sample(10, 3, seed);
    CHECK(std::set<std::size_t>(picked.begin(), picked.end()).size() == 3);
    for (std::size_t i : picked) ++hits[i];
  }
  for (int count : hits) CHECK(std::abs(count - 1500) < 5 * 33);  // binomial deviation sqrt(5000 * 0.3 * 0.7) = 32.4
  auto all = random_sample(50, 50, 1);
  std::sort(all.begin(), all.end());
  std::vector<std::size_t> identity(50);
  std::iota(identity.begin(), identity.end(), std::size_t{0});
  CHECK(all == identity);
}

TEST_CASE("impossible samples are refused") {
  const std::vector<float> scores = {1, 2, 3}, broken = {1, std::nanf(""), 3};
  CHECK_THROWS_AS(interval_sample(scores, 0), PromptError);
  CHECK_THROWS_WITH(interval_sample(scores, 4), ContainsSubstring("1..3, got 4"));
  CHECK_THROWS_WITH(interval_sample(broken, 2), ContainsSubstring("score 2 is not finite"));
  CHECK_THROWS_AS(random_sample(0, 1, 0), PromptError);
  CHECK_THROWS_AS(random_sample(3, 4, 0), PromptError);
}
