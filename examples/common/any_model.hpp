// A model for inference whose element type is chosen when the program runs: float, or bfloat16 on a GPU.
// Surprising choice: only what the programs call is here; a prompt serves both types, so it is the library's own.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <utility>
#include <variant>
#include <vector>

#include <promptiqa/model.hpp>
#include <promptiqa/prompt/prompt_file.hpp>

#include "device.hpp"

namespace examples {

class AnyModel {
 public:
  /// Reads weights; in bfloat16 when that is the precision and ctx is a GPU's (on the CPU, bf16 is ctx's backend).
  static AnyModel load(promptiqa::Context& ctx, const std::string& path, const std::string& precision) {
    if (precision == "bf16" && ctx.device() != promptiqa::Device::cpu)
      return AnyModel(promptiqa::Model<promptiqa::bfloat16>::load(ctx, path));
    return AnyModel(promptiqa::Model<float>::load(ctx, path));
  }

  const promptiqa::ModelConfig& config() const {
    return std::visit([](const auto& m) -> const promptiqa::ModelConfig& { return m.config(); }, model_);
  }
  const std::string& weights_id() const {
    return std::visit([](const auto& m) -> const std::string& { return m.weights_id(); }, model_);
  }
  std::string preprocessing() const {
    return std::visit([](const auto& m) { return m.preprocessing(); }, model_);
  }

  // As in promptiqa::Model and promptiqa::load_prompt.
  promptiqa::Prompt encode_prompt(promptiqa::Context& ctx, std::span<const promptiqa::Image> images,
                                  std::span<const float> scores, const promptiqa::ScoreScale& scale) const {
    return std::visit([&](const auto& m) { return m.encode_prompt(ctx, images, scores, scale); }, model_);
  }
  promptiqa::Prompt load_prompt(promptiqa::Context& ctx, const std::string& path) const {
    return std::visit([&](const auto& m) { return promptiqa::load_prompt(ctx, m, path); }, model_);
  }
  promptiqa::Prompt bind_prompt(promptiqa::Context& ctx, promptiqa::PromptData data,
                                const std::string& weights_id) const {
    return std::visit([&](const auto& m) { return m.bind_prompt(ctx, std::move(data), weights_id); }, model_);
  }
  promptiqa::Prompt with_scores(promptiqa::Context& ctx, const promptiqa::Prompt& prompt,
                                std::span<const float> scores) const {
    return std::visit([&](const auto& m) { return m.with_scores(ctx, prompt, scores); }, model_);
  }
  std::vector<float> features(promptiqa::Context& ctx, std::span<const promptiqa::Image> images) const {
    return std::visit([&](const auto& m) { return m.features(ctx, images); }, model_);
  }
  std::vector<promptiqa::Prediction> score_features(promptiqa::Context& ctx, std::span<const float> features,
                                                    const promptiqa::Prompt& prompt) const {
    return std::visit([&](const auto& m) { return m.score_features(ctx, features, prompt); }, model_);
  }

 private:
  template <class M>
  explicit AnyModel(M model) : model_(std::move(model)) {}

  std::variant<promptiqa::Model<float>, promptiqa::Model<promptiqa::bfloat16>> model_;
};

}  // namespace examples
