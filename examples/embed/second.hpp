// A second user of the library in the same program.
// Surprising choice: it exists to prove that two translation units may include the headers.
#pragma once

#include <string>

#include <promptiqa/model.hpp>

/// Reads the image and scores it.
float score_again(promptiqa::Context& ctx, const promptiqa::Model<float>& model, const promptiqa::Prompt& prompt,
                  const std::string& path);
