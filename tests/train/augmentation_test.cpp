// Random scaling, flipping and warping of scores, the random stream, and the learning rate schedule.
// Surprising choice: rates of random events are tested over 4000 draws, with bounds of five standard deviations.
#include "training_fixture.hpp"

using namespace promptiqa_test;

namespace {

// Only one step, always.
RequirementAugmentation only() {
  RequirementAugmentation a;
  a.scale_probability = a.flip_probability = 0;
  return a;
}

const std::vector<float> scores = {0.1f, 0.25f, 0.5f, 0.3f};

std::vector<float> augmented(const RequirementAugmentation& a, RandomStream& random) {
  std::vector<float> s = scores;
  augment_requirement(s, a, random);
  return s;
}

}  // namespace

TEST_CASE("nothing happens at probability 0", "[train]") {
  RandomStream random{1, 0};
  for (int i = 0; i < 50; ++i) CHECK(augmented(only(), random) == scores);
}

TEST_CASE("the paper's random scaling divides by the largest score", "[train]") {
  RequirementAugmentation a = only();
  a.scale_probability = 1;
  a.scaling = ScalingForm::paper;
  RandomStream random{1, 0};
  const std::vector<float> s = augmented(a, random);
  for (std::size_t i = 0; i < s.size(); ++i) CHECK(s[i] == Approx(scores[i] / 0.5));
  std::vector<float> zeros(3, 0.0f);
  augment_requirement(zeros, a, random);
  CHECK(zeros == std::vector<float>(3, 0.0f));
}

TEST_CASE("the released code's random scaling divides by a number between the largest score and 1", "[train]") {
  RequirementAugmentation a = only();
  a.scale_probability = 1;
  RandomStream random{2, 0};
  double least = 2, most = 0;
  for (int i = 0; i < 4000; ++i) {
    const std::vector<float> s = augmented(a, random);
    const double divisor = 0.5 / static_cast<double>(s[2]);
    CHECK(s[0] == Approx(0.1 / divisor));
    least = std::min(least, divisor), most = std::max(most, divisor);
  }
  // The chance that 4000 uniform draws all miss the outer hundredth of the range is 1e-17.
  CHECK(least >= 0.4999);
  CHECK(least < 0.505);
  CHECK(most <= 1.0001);
  CHECK(most > 0.995);
}

TEST_CASE("random flipping is alpha - s", "[train]") {
  RequirementAugmentation a = only();
  a.flip_probability = 1;
  RandomStream random{3, 0};
  std::vector<float> s = augmented(a, random);
  for (std::size_t i = 0; i < s.size(); ++i) CHECK(s[i] == Approx(1 - static_cast<double>(scores[i])));
  a.alpha = 0.4;
  s = augmented(a, random);
  CHECK(s[0] == Approx(0.3));
  CHECK(s[2] == 0.0f);  // stays in [0, 1]
}

TEST_CASE("defaults have the paper's probabilities", "[train]") {
  const RequirementAugmentation a;
  RandomStream random{4, 0};
  int flipped = 0, scaled = 0;
  for (int i = 0; i < 4000; ++i) {
    const std::vector<float> s = augmented(a, random);
    if (s[0] > s[2])
      ++flipped;
    else if (s[2] != 0.5f)
      ++scaled;
  }
  // Five standard deviations of 4000 p (1 - p): 95 and 158.
  CHECK(std::abs(flipped - 400) < 95);
  CHECK(std::abs(scaled - 1800) < 158);  // of those not flipped
}

TEST_CASE("the recipe's warps keep the order and the range", "[train]") {
  RequirementAugmentation a = RequirementAugmentation::recipe();
  a.flip_probability = 0;
  RandomStream random{5, 0};
  int squeezed = 0;
  double least_power = 10, most_power = 0;
  for (int i = 0; i < 4000; ++i) {
    std::vector<float> s = {0.0f, 0.1f, 0.25f, 0.5f};
    augment_requirement(s, a, random);
    bool ordered = true;
    for (std::size_t k = 0; k + 1 < s.size(); ++k) ordered = ordered && s[k] < s[k + 1];
    CHECK((ordered && s[0] >= 0 && s[3] <= 1));
    if (s[0] > 0) {
      ++squeezed;
      continue;
    }
    // (0.1 / 0.5)^e whatever the scaling.
    const double power = std::log(static_cast<double>(s[1] / s[3])) / std::log(0.2);
    least_power = std::min(least_power, power), most_power = std::max(most_power, power);
  }
  // A squeeze happens when the range of two uniform numbers exceeds 0.3: 0.2 * 0.7^2 = 0.098 of the time.
  CHECK(std::abs(squeezed - 392) < 95);
  CHECK(least_power < 0.65);  // exp(-0.5) = 0.607
  CHECK(least_power > 0.60);
  CHECK(most_power > 1.55);  // exp(0.5) = 1.649
  CHECK(most_power < 1.66);
}

TEST_CASE("augmentation options are checked by name", "[train]") {
  RequirementAugmentation a;
  a.flip_probability = 1.5;
  CHECK_THROWS_AS(a.validate(), TrainingError);
  CHECK_THROWS_WITH(a.validate(), ContainsSubstring("flip_probability"));
  a = {};
  a.power = std::numeric_limits<double>::quiet_NaN();
  CHECK_THROWS_WITH(a.validate(), ContainsSubstring("power"));
}

TEST_CASE("a random stream goes on from its two integers", "[train]") {
  RandomStream a{9, 0};
  for (int i = 0; i < 10; ++i) a.uniform();
  RandomStream b{9, 10};
  CHECK(a.uniform() == b.uniform());
  CHECK(RandomStream{9, 0}.uniform() != RandomStream{10, 0}.uniform());
  const std::vector<std::int64_t> chosen = a.distinct(12, 12);
  std::vector<bool> seen(12, false);
  for (std::int64_t i : chosen) seen[static_cast<std::size_t>(i)] = true;
  CHECK(std::count(seen.begin(), seen.end(), true) == 12);
  int firsts[4] = {0, 0, 0, 0};
  for (int i = 0; i < 4000; ++i) ++firsts[a.permutation(4)[0]];
  for (int count : firsts) CHECK(std::abs(count - 1000) < 137);  // five standard deviations
}

TEST_CASE("the learning rate warms up and falls to its floor", "[train]") {
  const LearningRateSchedule schedule = {2e-4, 100, 0.01};
  CHECK(schedule.at(0, 0) == Approx(2e-6));
  CHECK(schedule.at(49, 0) == Approx(1e-4));
  CHECK(schedule.at(99, 0) == Approx(2e-4));
  CHECK(schedule.at(5000, 0.5) == Approx(2e-4 * (0.01 + 0.99 * 0.5)));
  CHECK(schedule.at(9000, 1) == Approx(2e-6));
  CHECK(schedule.at(9000, 2) == Approx(2e-6));
  CHECK(LearningRateSchedule{1e-5, 0, 0}.at(0, 0) == Approx(1e-5));
  // A run of 200 steps is warm at its twentieth, not at its hundredth.
  const LearningRateSchedule flat = {2e-4, 100, 1};
  CHECK(flat.at(10, 10 / 200.0) == Approx(1e-4));
  CHECK(flat.at(20, 20 / 200.0) == Approx(2e-4));
  CHECK(flat.at(50, 50 / 10000.0) == Approx(1.02e-4));
}
