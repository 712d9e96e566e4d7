// The library in ten lines: weights, a prompt, one image, one score.
// Surprising choice: reading image files is a header of its own; a program that has pixels needs only model.hpp.
#include <cstdio>
#include <exception>

#include <promptiqa/image/file.hpp>
#include <promptiqa/model.hpp>
#include <promptiqa/prompt/prompt_file.hpp>

#include "second.hpp"

int main(int argc, char** argv) {
  if (argc != 4) return std::fprintf(stderr, "usage: embed WEIGHTS PROMPT IMAGE\n"), 2;
  try {
    auto ctx = promptiqa::Context::cpu();
    const auto model = promptiqa::Model<float>::load(ctx, argv[1]);
    const auto prompt = promptiqa::load_prompt(ctx, model, argv[2]);
    const auto image = promptiqa::load_image(argv[3]);
    const promptiqa::Prediction p = model.score(ctx, image, prompt);
    std::printf("%.9g %.9g\n", static_cast<double>(p.score), static_cast<double>(p.logit));
    // The same from the other translation unit must give the same number.
    return score_again(ctx, model, prompt, argv[3]) == p.score ? 0 : 1;
  } catch (const std::exception& error) {
    std::fprintf(stderr, "embed: %s\n", error.what());
    return 2;
  }
}
