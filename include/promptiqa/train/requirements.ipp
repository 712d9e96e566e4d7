// Body of augment_requirement.
// Surprising choice: every random number is drawn whether it is used or not, so that switching one step off leaves the
// others as they were.
#pragma once

#include <algorithm>
#include <cmath>
#include <string>

#include <promptiqa/train/requirements.hpp>
#include <promptiqa/train/training_error.hpp>

namespace promptiqa {

PROMPTIQA_INLINE void RequirementAugmentation::validate() const {
  const auto check = [](const char* name, double value, double most) {
    if (!(value >= 0 && value <= most))
      throw TrainingError(std::string("augmentation: ") + name + " must be in [0, " + (most == 1 ? "1" : "10") +
                          "], got " + std::to_string(value));
  };
  check("power", power, 10);
  check("scale_probability", scale_probability, 1);
  check("squeeze_probability", squeeze_probability, 1);
  check("flip_probability", flip_probability, 1);
  check("alpha", alpha, 10);
}

PROMPTIQA_INLINE void augment_requirement(std::span<float> scores, const RequirementAugmentation& a,
                                          RandomStream& random) {
  if (scores.empty()) return;
  const double exponent = std::exp(random.uniform(-a.power, a.power));
  const bool scale = random.chance(a.scale_probability);
  const double between = random.uniform();
  const bool squeeze = random.chance(a.squeeze_probability);
  double low = random.uniform(), high = random.uniform();
  const bool flip = random.chance(a.flip_probability);
  if (low > high) std::swap(low, high);

  const auto clamp = [](double s) { return static_cast<float>(std::clamp(s, 0.0, 1.0)); };
  if (a.power > 0)
    for (float& s : scores) s = static_cast<float>(std::pow(static_cast<double>(s), exponent));
  const double largest = static_cast<double>(*std::max_element(scores.begin(), scores.end()));
  if (scale && largest > 0) {
    const double divisor = a.scaling == ScalingForm::paper ? largest : largest + (1 - largest) * between;
    // Scores near 0 have nothing to scale by: at least 1e-6, as 0.000001 / 0.000001 says no more than 0 does.
    for (float& s : scores) s = clamp(static_cast<double>(s) / std::max(divisor, 1e-6));
  }
  if (squeeze && high - low > 0.3)
    for (float& s : scores) s = clamp(low + (high - low) * static_cast<double>(s));
  if (flip)
    for (float& s : scores) s = clamp(a.alpha - static_cast<double>(s));
}

}  // namespace promptiqa
