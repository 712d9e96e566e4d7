// Bodies of validation.
// Surprising choice: it goes through the public scoring interface, so it measures what a user will get.
#pragma once

#include <algorithm>
#include <cmath>
#include <vector>

#include <promptiqa/metrics/correlation.hpp>
#include <promptiqa/prompt/sampling.hpp>
#include <promptiqa/train/training_error.hpp>
#include <promptiqa/train/validation.hpp>

namespace promptiqa {

namespace detail {

/// Positions in the set whose label is known, and the labels there.
struct KnownLabels {
  std::vector<std::int64_t> positions;
  std::vector<float> values;
};

inline KnownLabels known_labels(const TrainingSet& set, const std::string& label) {
  const auto column =
      std::find_if(set.labels.begin(), set.labels.end(), [&](const LabelColumn& c) { return c.name == label; });
  if (column == set.labels.end()) throw TrainingError("validation: the set " + set.name + " has no label " + label);
  KnownLabels known;
  for (std::size_t i = 0; i < column->values.size(); ++i) {
    if (std::isnan(column->values[i]) || !set.images->usable(set.pictures[i])) continue;
    known.positions.push_back(static_cast<std::int64_t>(i));
    known.values.push_back(column->values[i]);
  }
  return known;
}

}  // namespace detail

PROMPTIQA_INLINE Validation validate(Context& ctx, const Model<float>& model, const TrainingSet& prompts,
                                     const TrainingSet& held_out, const std::string& label, std::int64_t images,
                                     std::int64_t pairs) {
  const detail::KnownLabels pool = detail::known_labels(prompts, label);
  detail::KnownLabels test = detail::known_labels(held_out, label);
  if (pairs < 1 || pairs > static_cast<std::int64_t>(pool.values.size()))
    throw TrainingError("validation: a prompt of " + std::to_string(pairs) + " pairs from " +
                        std::to_string(pool.values.size()) + " pictures of " + prompts.name);
  if (images > 0 && images < static_cast<std::int64_t>(test.values.size()))
    test.values.resize(static_cast<std::size_t>(images));
  if (test.values.size() < 2)
    throw TrainingError("validation: " + held_out.name + " has " + std::to_string(test.values.size()) +
                        " pictures with the label " + label + ", two are needed");

  const auto picture = [](const TrainingSet& set, std::int64_t position) {
    return cached_image(set.images, set.pictures[static_cast<std::size_t>(position)]);
  };
  std::vector<Image> shown;
  std::vector<float> scores, inverted;
  for (std::size_t i : interval_sample(pool.values, static_cast<std::size_t>(pairs))) {
    shown.push_back(picture(prompts, pool.positions[i]));
    scores.push_back(pool.values[i]);
    inverted.push_back(1 - pool.values[i]);
  }
  std::vector<float> features;
  constexpr std::size_t piece = 64;  // pictures: bounds the memory of their views, the model cuts further
  for (std::size_t begin = 0; begin < test.values.size(); begin += piece) {
    std::vector<Image> part;
    for (std::size_t i = begin; i < std::min(begin + piece, test.values.size()); ++i)
      part.push_back(picture(held_out, test.positions[i]));
    const std::vector<float> some = model.features(ctx, part);
    features.insert(features.end(), some.begin(), some.end());
  }
  const Prompt prompt = model.encode_prompt(ctx, shown, scores), turned = model.with_scores(ctx, prompt, inverted);
  const auto predictions = [&](const Prompt& p) {
    std::vector<double> predicted;
    for (const Prediction& one : model.score_features(ctx, features, p))
      predicted.push_back(static_cast<double>(one.score));
    return predicted;
  };
  const std::vector<double> truth(test.values.begin(), test.values.end()), predicted = predictions(prompt);
  Validation result;
  result.set = held_out.name;
  result.label = label;
  result.images = static_cast<std::int64_t>(truth.size());
  result.srocc = srocc(predicted, truth);
  result.plcc = plcc(predicted, truth);
  result.srocc_inverted = srocc(predictions(turned), truth);
  return result;
}

PROMPTIQA_INLINE TrainingSet subset(const TrainingSet& set, std::span<const std::int64_t> positions) {
  TrainingSet part;
  part.name = set.name;
  part.images = set.images;
  for (const LabelColumn& column : set.labels) part.labels.push_back({column.name, column.kind, {}});
  for (std::int64_t position : positions) {
    const auto i = static_cast<std::size_t>(position);
    if (position < 0 || i >= set.pictures.size())
      throw TrainingError("subset: " + set.name + " has no picture " + std::to_string(position));
    part.pictures.push_back(set.pictures[i]);
    for (std::size_t c = 0; c < set.labels.size(); ++c) part.labels[c].values.push_back(set.labels[c].values[i]);
    if (!set.photo.empty()) part.photo.push_back(set.photo[i]);
    if (!set.distortion.empty()) part.distortion.push_back(set.distortion[i]);
  }
  return part;
}

}  // namespace promptiqa
