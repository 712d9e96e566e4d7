// Prompt: an assessment requirement, learned from image-score pairs (the paper's ISPP).
// Surprising choice: it keeps the image features V(I), which do not see the scores, so new scores for the same
// images cost microseconds and no backbone; it holds no pixels.
#pragma once

#include <cmath>
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include <promptiqa/core/tensor.hpp>
#include <promptiqa/model/weights_identity.hpp>

namespace promptiqa {

/// The range of the user's scores. Predictions come back in it: minimum + p * (maximum - minimum), p in (0, 1).
/// Which end is good is the user's business; the model follows the pairs.
struct ScoreScale {
  float minimum = 0, maximum = 1;

  float to_unit(float score) const { return (score - minimum) / (maximum - minimum); }
  float from_unit(float p) const { return minimum + p * (maximum - minimum); }

  /// Throws PromptError unless both ends and their difference are finite and minimum < maximum.
  void validate() const;
};

/// What a Prompt is made of; a plain value, read and written by prompt files.
struct PromptData {
  std::string name, description;
  std::string preprocessing;          // how pixels became the model's input; see Model::preprocessing()
  ScoreScale scale;
  std::vector<float> scores;          // (n), in `scale`
  std::vector<float> image_features;  // (n, M), row-major: V(I) of each pair
  std::int64_t width = 0;             // M

  std::int64_t size() const { return static_cast<std::int64_t>(scores.size()); }

  /// Checks n >= 1, matching lengths, and finite scores inside the scale. Throws PromptError naming the pair.
  void validate() const;
};

/// A prompt bound to the weights that made it. Cheap to copy, immutable, usable from many threads.
class Prompt {
 public:
  Prompt() = default;

  /// Number of image-score pairs, n.
  std::int64_t size() const { return data_ ? data_->size() : 0; }
  const PromptData& data() const { return *data_; }

  /// Things a person should know, each one line: all scores equal, a single pair. Empty when there is nothing.
  const std::vector<std::string>& warnings() const { return warnings_; }

  /// SHA-256 of the weights the features were made with.
  const std::string& weights_id() const { return identity_->id(); }

 private:
  template <class T>
  friend class Model;

  std::shared_ptr<const PromptData> data_;
  std::shared_ptr<const WeightsIdentity> identity_;
  Tensor<float> fused_;  // F_AC (n, M)
  std::vector<std::string> warnings_;
};

inline void ScoreScale::validate() const {
  if (!std::isfinite(minimum) || !std::isfinite(maximum) || !(minimum < maximum) || !std::isfinite(maximum - minimum))
    throw PromptError("score scale: minimum must be below maximum and their difference finite, got " +
                      std::to_string(minimum) + " and " + std::to_string(maximum));
}

inline void PromptData::validate() const {
  scale.validate();
  if (scores.empty()) throw PromptError("prompt: there must be at least one image-score pair");
  if (width < 1 || image_features.size() != scores.size() * static_cast<std::size_t>(width))
    throw PromptError("prompt: " + std::to_string(scores.size()) + " scores need as many image features, got " +
                      std::to_string(image_features.size()) + " values of width " + std::to_string(width));
  for (std::size_t i = 0; i < scores.size(); ++i) {
    const std::string pair = "prompt: pair " + std::to_string(i + 1) + " of " + std::to_string(scores.size());
    if (!std::isfinite(scores[i]))
      throw PromptError(pair + ": the score must be finite, got " + std::to_string(scores[i]));
    if (scores[i] < scale.minimum || scores[i] > scale.maximum)
      throw PromptError(pair + ": the score must be in [" + std::to_string(scale.minimum) + ", " +
                        std::to_string(scale.maximum) + "], got " + std::to_string(scores[i]));
    for (std::int64_t j = 0; j < width; ++j)
      if (!std::isfinite(image_features[i * static_cast<std::size_t>(width) + static_cast<std::size_t>(j)]))
        throw PromptError(pair + ": the image feature is not finite");
  }
}

}  // namespace promptiqa
