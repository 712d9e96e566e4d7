// Random scaling and random flipping of a group's scores (paper Eq. 4), and the stronger warps of our own recipe.
// Surprising choice: the defaults are the paper's probabilities, at which a model trained on a single data set ignores
// its prompt; recipe() is what made it follow (several requirements per backbone pass, flips at 0.3).
#pragma once

#include <span>

#include <promptiqa/core/macros.hpp>
#include <promptiqa/train/random_stream.hpp>

namespace promptiqa {

/// How random scaling divides: by the largest score (paper), or by a number uniform in [largest score, 1] (the released
/// code).
enum class ScalingForm { paper, released };

/// One set of scores in [0, 1] turned into one of many requirements. Steps happen in the order of the members.
struct RequirementAugmentation {
  double power = 0;                // s -> s^e, e = exp(uniform(-power, power)); 0 = never
  double scale_probability = 0.5;  // random scaling
  ScalingForm scaling = ScalingForm::released;
  double squeeze_probability = 0;  // s -> low + (high - low) s for a random range in [0, 1] wider than 0.3
  double flip_probability = 0.1;   // random flipping, s -> alpha - s
  double alpha = 1;

  /// Paper section 4.1, with its form of the scaling.
  static RequirementAugmentation paper() {
    RequirementAugmentation a;
    a.scaling = ScalingForm::paper;
    return a;
  }
  /// What our weights are trained with.
  static RequirementAugmentation recipe() {
    RequirementAugmentation a;
    a.power = 0.5, a.squeeze_probability = 0.2, a.flip_probability = 0.3;
    return a;
  }

  /// Throws TrainingError, naming the member, unless probabilities are in [0, 1] and the others finite and not
  /// negative.
  void validate() const;
};

/// Changes all scores of one group in the same random way. Results stay in [0, 1]; the number of random numbers drawn
/// does not depend on the scores.
void augment_requirement(std::span<float> scores, const RequirementAugmentation& augmentation, RandomStream& random);

}  // namespace promptiqa

#if PROMPTIQA_WITH_BODIES
#include <promptiqa/train/requirements.ipp>
#endif
