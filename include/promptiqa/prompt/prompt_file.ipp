// Bodies of prompt files.
// Surprising choice: the ends of the scale are stored as text with nine digits, enough to give the same float back.
#pragma once

#include <charconv>
#include <map>
#include <vector>

#include <promptiqa/io/safetensors.hpp>
#include <promptiqa/prompt/prompt_file.hpp>

namespace promptiqa {

namespace detail {

inline constexpr const char* prompt_format = "promptiqa-prompt/1";

// Not printf and strtof: they would write and read "0,5" in a program with a German locale.
inline std::string float_text(float value) {
  char text[64];
  return std::string(text, std::to_chars(text, text + sizeof text, value, std::chars_format::general, 9).ptr);
}

// The values of a float tensor of a prompt file, of `rank` dimensions.
inline std::vector<float> prompt_values(const TensorFile& file, const char* name, int rank, Shape& shape) {
  const NamedTensor* tensor = file.find(name);
  if (!tensor) throw PromptError(file.path + ": tensor '" + name + "' is missing");
  if (tensor->dtype != DType::f32 || tensor->shape.rank() != rank)
    throw PromptError(file.path + ": tensor '" + std::string(name) + "' must be F32 of rank " + std::to_string(rank) +
                      ", got " + dtype_name(tensor->dtype) + " " + tensor->shape.str());
  shape = tensor->shape;
  std::vector<float> values(static_cast<std::size_t>(shape.numel()));
  decode(tensor->dtype, tensor->data, values.size(), values.data());
  return values;
}

}  // namespace detail

PROMPTIQA_INLINE void save_prompt(const std::string& path, const Prompt& prompt) {
  if (prompt.size() == 0) throw PromptError(path + ": a prompt without pairs cannot be saved");
  const PromptData& data = prompt.data();
  const std::int64_t n = data.size();
  const NamedTensor tensors[] = {
      {"image_feature", DType::f32, Shape{n, data.width}, data.image_features.data(),
       data.image_features.size() * sizeof(float)},
      {"score", DType::f32, Shape{n}, data.scores.data(), data.scores.size() * sizeof(float)}};
  write_safetensors(path,
                    {{"format", detail::prompt_format},
                     {"name", data.name},
                     {"description", data.description},
                     {"scale_min", detail::float_text(data.scale.minimum)},
                     {"scale_max", detail::float_text(data.scale.maximum)},
                     {"weights_id", prompt.weights_id()},
                     {"preprocessing", data.preprocessing}},
                    tensors);
}

PROMPTIQA_INLINE PromptFile read_prompt_file(const std::string& path) {
  const TensorFile file = read_safetensors(path);
  const auto text = [&](const char* key) -> const std::string& {
    const auto found = file.metadata.find(key);
    if (found == file.metadata.end())
      throw PromptError(path + ": not a prompt file: metadata '" + std::string(key) + "' is missing");
    return found->second;
  };
  const auto number = [&](const char* key) {
    const std::string& value = text(key);
    float parsed = 0;
    const char* end = value.data() + value.size();
    const auto result = std::from_chars(value.data(), end, parsed);
    if (result.ec != std::errc() || result.ptr != end)
      throw PromptError(path + ": metadata '" + std::string(key) + "' must be a number, got '" + value + "'");
    return parsed;
  };
  if (text("format") != detail::prompt_format)
    throw PromptError(path + ": format must be '" + std::string(detail::prompt_format) + "', got '" + text("format") +
                      "'");
  PromptFile result;
  result.weights_id = text("weights_id");
  result.data.preprocessing = text("preprocessing");
  result.data.name = text("name");
  result.data.description = text("description");
  result.data.scale = {number("scale_min"), number("scale_max")};
  Shape features, scores;
  result.data.image_features = detail::prompt_values(file, "image_feature", 2, features);
  result.data.scores = detail::prompt_values(file, "score", 1, scores);
  if (features[0] != scores[0])
    throw PromptError(path + ": image_feature " + features.str() + " and score " + scores.str() +
                      " must have as many rows");
  result.data.width = features[1];
  try {
    result.data.validate();
  } catch (const PromptError& e) {
    throw PromptError(path + ": " + e.what());
  }
  return result;
}

}  // namespace promptiqa
