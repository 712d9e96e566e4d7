// Reads a prompt: a CSV file with columns image and score, one image-score pair a row.
// Surprising choice: every complaint names file, line and pair, and all of it is checked before an image is opened.
#pragma once

#include <algorithm>
#include <cmath>
#include <filesystem>
#include <map>
#include <stdexcept>
#include <string>
#include <vector>

#include <promptiqa/model/prompt.hpp>

#include "csv.hpp"
#include "number.hpp"

namespace examples {

/// The pairs of a prompt file, in its order.
struct PromptCsv {
  std::string path;
  std::vector<std::string> images;  // relative paths are resolved against the CSV's folder
  std::vector<float> scores;
  std::vector<std::size_t> lines;    // where each pair stands in the file
  std::vector<std::string> notices;  // ignored columns, repeated images

  /// "prompt.csv:4: pair 3" for errors about pair i, counted from 0.
  std::string where(std::size_t i) const {
    return path + ":" + std::to_string(lines[i]) + ": pair " + std::to_string(i + 1);
  }
};

/// Reads the file. Throws std::runtime_error: it cannot be read, has no header with both columns or no pairs, or, with
/// line and pair, a row is too short, its image does not exist, or its score is no number or not in `scale`.
inline PromptCsv read_prompt_csv(const std::string& path, const promptiqa::ScoreScale& scale) {
  namespace fs = std::filesystem;
  const std::vector<CsvRow> rows = read_csv(path);
  if (rows.empty()) throw std::runtime_error(path + ": the file is empty; it needs a header row \"image,score\"");
  const CsvRow& header = rows[0];
  std::size_t image_column = header.fields.size(), score_column = header.fields.size();
  std::string ignored;
  for (std::size_t i = 0; i < header.fields.size(); ++i) {
    const std::string key = column_key(header.fields[i]);
    std::size_t& column = key == "image" ? image_column : score_column;
    if (key == "image" || key == "score") {
      if (column != header.fields.size()) throw std::runtime_error(path + ": the column \"" + key + "\" occurs twice");
      column = i;
    } else {
      ignored += (ignored.empty() ? "" : ", ") + (key.empty() ? "column " + std::to_string(i + 1) : header.fields[i]);
    }
  }
  if (image_column == header.fields.size() || score_column == header.fields.size()) {
    std::string message = path + ":" + std::to_string(header.line) +
                          ": the first row must name the columns image and score, as in \"image,score\"; missing: " +
                          (image_column == header.fields.size() ? "image" : "") +
                          (image_column == score_column ? " and " : "") +
                          (score_column == header.fields.size() ? "score" : "");
    if (header.fields.size() == 1 && header.fields[0].find_first_of(";\t") != std::string::npos)
      message += " (columns must be separated by commas)";
    throw std::runtime_error(message);
  }

  PromptCsv prompt;
  prompt.path = path;
  if (!ignored.empty()) prompt.notices.push_back(path + ": columns other than image and score are ignored: " + ignored);
  const fs::path folder = fs::path(path).parent_path();
  std::map<std::string, std::size_t> first_use;
  for (std::size_t r = 1; r < rows.size(); ++r) {
    const CsvRow& row = rows[r];
    const std::size_t pair = prompt.images.size();
    prompt.lines.push_back(row.line);
    const std::string where = prompt.where(pair);
    if (row.fields.size() <= std::max(image_column, score_column))
      throw std::runtime_error(where + ": the row has " + std::to_string(row.fields.size()) + " of the header's " +
                               std::to_string(header.fields.size()) + " columns");
    if (row.fields.size() > header.fields.size())  // a decimal comma, most likely: 0,5 is two columns
      throw std::runtime_error(where + ": the row has " + std::to_string(row.fields.size()) + " columns, the header " +
                               std::to_string(header.fields.size()) +
                               "; write decimals with a point and quote names with commas");
    const std::string& image = row.fields[image_column];
    const std::string& text = row.fields[score_column];
    if (image.empty()) throw std::runtime_error(where + ": the image is empty");
    const std::string file = (fs::path(image).is_absolute() ? fs::path(image) : folder / image).string();
    std::error_code error;
    if (!fs::exists(file, error)) throw std::runtime_error(where + ": there is no image '" + file + "'");
    const std::string subject = where + " (" + image + ")";
    const auto score = parse_float(text);
    if (!score) throw std::runtime_error(subject + ": the score must be a number, got \"" + text + "\"");
    if (!std::isfinite(*score)) throw std::runtime_error(subject + ": the score must be finite, got " + text);
    if (*score < scale.minimum || *score > scale.maximum)
      throw std::runtime_error(subject + ": the score must be in [" + exact_text(scale.minimum) + ", " +
                               exact_text(scale.maximum) + "], got " + text +
                               "; give the range of your scores with --scale");
    const auto use = first_use.try_emplace(fs::weakly_canonical(file, error).string(), pair);
    if (!use.second) {
      const std::size_t other = use.first->second;
      prompt.notices.push_back(subject + ": the same image is pair " + std::to_string(other + 1) + " already (line " +
                               std::to_string(prompt.lines[other]) + "), with score " +
                               exact_text(prompt.scores[other]) + " there and " + exact_text(*score) +
                               " here; both are used");
    }
    prompt.images.push_back(file);
    prompt.scores.push_back(*score);
  }
  if (prompt.images.empty()) throw std::runtime_error(path + ": there is a header but no image-score pair");
  return prompt;
}

}  // namespace examples
