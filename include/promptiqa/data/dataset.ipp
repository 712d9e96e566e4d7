// Bodies of the plain CSV reader and what it shares with the readers of published data sets.
// Surprising choice: missing pictures are looked for after the whole file is read, so that one message counts them all.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <filesystem>
#include <limits>
#include <map>
#include <system_error>

#include <promptiqa/data/csv.hpp>
#include <promptiqa/data/dataset.hpp>

namespace promptiqa {

namespace detail {

/// "'a', 'b', 'c' and 5 more"
inline std::string some_of(const std::vector<std::string>& names, std::size_t total) {
  constexpr std::size_t most = 3;
  std::string text;
  for (std::size_t i = 0; i < names.size() && i < most; ++i) text += (i == 0 ? "'" : ", '") + names[i] + "'";
  if (total > most) text += " and " + std::to_string(total - most) + " more";
  return text;
}

/// Throws DataError unless every item's image is there. `label_file` starts the message.
inline void check_images_exist(const std::string& label_file, const Dataset& dataset) {
  std::vector<std::string> missing;
  for (const DatasetItem& item : dataset.items) {
    std::error_code error;
    if (!std::filesystem::exists(item.image, error)) missing.push_back(item.image);
  }
  if (missing.empty()) return;
  throw DataError(label_file + ": " + std::to_string(missing.size()) + " of " + std::to_string(dataset.items.size()) +
                  " images do not exist: " + some_of(missing, missing.size()));
}

/// Refuses an image that an earlier row has named.
class RepeatCheck {
 public:
  /// `where` names the row in messages.
  void add(const std::string& image, const std::string& where) {
    const auto key = std::filesystem::path(image).lexically_normal().string();
    const auto [first, inserted] = rows_.try_emplace(key, where);
    if (!inserted)
      throw DataError(where + ": the image '" + image + "' occurs twice, first at " + first->second);
  }

 private:
  std::map<std::string, std::string> rows_;
};

}  // namespace detail

PROMPTIQA_INLINE float normalised(const Dataset& dataset, float score) {
  const double low = dataset.scale_min, high = dataset.scale_max;
  if (!std::isfinite(score)) throw DataError(dataset.name + ": a score must be finite, got " + std::to_string(score));
  if (!std::isfinite(low) || !std::isfinite(high) || low > high)
    throw DataError(dataset.name + ": the scale must be finite and ascending, got " + std::to_string(low) + " to " +
                    std::to_string(high));
  if (low == high) return 0.5f;
  return static_cast<float>(std::clamp((static_cast<double>(score) - low) / (high - low), 0.0, 1.0));
}

PROMPTIQA_INLINE Dataset read_csv_dataset(const std::string& path) {
  namespace fs = std::filesystem;
  const CsvTable table(path);
  const std::size_t image = table.column({"image"}), score = table.column({"score"});
  const auto reference = table.find("reference"), split = table.find("split");

  Dataset dataset;
  dataset.name = fs::path(path).stem().string();
  std::string ignored;
  for (std::size_t i = 0; i < table.header().size(); ++i) {
    if (i == image || i == score || i == reference || i == split) continue;
    const std::string& name = table.header()[i];
    ignored += (ignored.empty() ? "" : ", ") + (name.empty() ? "column " + std::to_string(i + 1) : name);
  }
  if (!ignored.empty())
    dataset.notices.push_back(path + ": columns other than image, score, reference and split are ignored: " + ignored);

  const fs::path folder = fs::path(path).parent_path();
  detail::RepeatCheck repeats;
  dataset.scale_min = std::numeric_limits<float>::max();
  dataset.scale_max = std::numeric_limits<float>::lowest();
  for (std::size_t row = 0; row < table.rows(); ++row) {
    DatasetItem item;
    item.image = (folder / table.filled(row, image)).string();  // an absolute image replaces the folder
    item.score = table.number(row, score);
    if (reference) item.reference = table.text(row, *reference);
    if (split) item.split = table.text(row, *split);
    repeats.add(item.image, table.where(row, image));
    dataset.scale_min = std::min(dataset.scale_min, item.score);
    dataset.scale_max = std::max(dataset.scale_max, item.score);
    dataset.items.push_back(std::move(item));
  }
  if (dataset.items.empty()) throw DataError(path + ": there is a header but no image");
  detail::check_images_exist(path, dataset);
  return dataset;
}

}  // namespace promptiqa
