// The learning rate over a run: linear warm-up, over before a tenth of the run, times a half cosine down to a floor.
// Surprising choice: progress comes from outside as a share of the run, so the same schedule serves runs counted in
// steps, in epochs and in minutes.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>

namespace promptiqa {

struct LearningRateSchedule {
  double rate = 2.5e-4;
  std::int64_t warmup_steps = 400;  // a short run has fewer: it is warm when a tenth of it is over
  double floor = 0.005;  // share of `rate` that is left at the end

  /// The rate of step `step` (from 0) when `progress` of the run, in [0, 1], is over.
  double at(std::int64_t step, double progress) const {
    const double warm =
        warmup_steps > 0
            ? std::min(1.0, std::max(static_cast<double>(step + 1) / static_cast<double>(warmup_steps), 10 * progress))
            : 1.0;
    const double cosine = 0.5 * (1 + std::cos(3.14159265358979324 * std::clamp(progress, 0.0, 1.0)));
    return rate * warm * (floor + (1 - floor) * cosine);
  }
};

}  // namespace promptiqa
