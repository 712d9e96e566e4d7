// The second translation unit of the example.
// Surprising choice: it includes the same headers as main.cpp, on purpose.
#include "second.hpp"

#include <promptiqa/image/file.hpp>
#include <promptiqa/model.hpp>

float score_again(promptiqa::Context& ctx, const promptiqa::Model<float>& model, const promptiqa::Prompt& prompt,
                  const std::string& path) {
  return model.score(ctx, promptiqa::load_image(path), prompt).score;
}
