// Validation during training: does the model rank pictures it has not seen as people do, and does it follow its prompt?
// Surprising choice: the prompt is also given with its scores turned around. A model that follows it must then
// correlate negatively, about as much; one that ignores it correlates positively either way.
#pragma once

#include <cstdint>
#include <span>
#include <string>

#include <promptiqa/core/context.hpp>
#include <promptiqa/core/macros.hpp>
#include <promptiqa/data/training_set.hpp>
#include <promptiqa/model/model.hpp>

namespace promptiqa {

struct Validation {
  std::string set, label;
  std::int64_t images = 0;
  double srocc = 0, plcc = 0, srocc_inverted = 0;
};

/// Scores the first `images` held-out pictures (0 = all) with a prompt of `pairs` pictures, interval-sampled from
/// `prompts` by the label `label` of both sets, and with the same prompt inverted, s -> 1 - s. Pictures whose label is
/// not known are left out. Throws TrainingError when a set lacks the label or has too few pictures with it.
Validation validate(Context& ctx, const Model<float>& model, const TrainingSet& prompts, const TrainingSet& held_out,
                    const std::string& label, std::int64_t images = 600, std::int64_t pairs = 10);

/// The set's pictures at these positions, with their labels.
TrainingSet subset(const TrainingSet& set, std::span<const std::int64_t> positions);

}  // namespace promptiqa

#if PROMPTIQA_WITH_BODIES
#include <promptiqa/train/validation.ipp>
#endif
