// Prompt files: an assessment requirement as a small file that one keeps and shares (weights/FORMAT.md).
// Surprising choice: it holds features and scores, no pixels, so a prompt made from private photographs can be given
// away as far as its features can; it only fits the weights that made it, and says which.
#pragma once

#include <string>

#include <promptiqa/model/model.hpp>
#include <promptiqa/model/prompt.hpp>

namespace promptiqa {

/// A prompt file's contents, not yet bound to a model.
struct PromptFile {
  PromptData data;
  std::string weights_id;
};

/// Writes `prompt` as safetensors: image_feature (n, M) F32, score (n) F32, metadata format "promptiqa-prompt/1", name,
/// description, scale_min, scale_max, weights_id, preprocessing. Atomic. Throws FileError.
void save_prompt(const std::string& path, const Prompt& prompt);

/// Reads and checks a prompt file. Throws FileError, WeightsError when it is no safetensors file, PromptError naming
/// the file when it is another format or version, lacks something, or holds unusable scores.
PromptFile read_prompt_file(const std::string& path);

/// Reads a prompt file and binds it to `model`. Throws as read_prompt_file does, and PromptError naming the file when
/// the weights or the preprocessing are not those it was made with.
template <class T>
Prompt load_prompt(Context& ctx, const Model<T>& model, const std::string& path) {
  PromptFile file = read_prompt_file(path);
  try {
    return model.bind_prompt(ctx, std::move(file.data), file.weights_id);
  } catch (const PromptError& e) {
    throw PromptError(path + ": " + e.what());
  }
}

}  // namespace promptiqa

#if PROMPTIQA_WITH_BODIES
#include <promptiqa/prompt/prompt_file.ipp>
#endif
