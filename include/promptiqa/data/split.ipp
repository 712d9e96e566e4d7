// Bodies of the splits.
// Surprising choice: groups keep the order of their first picture in the label file, so neither a folder's name nor a
// hash table's order has a say in who goes where.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <map>
#include <unordered_map>

#include <promptiqa/data/csv.hpp>
#include <promptiqa/data/split.hpp>
#include <promptiqa/io/atomic_file.hpp>
#include <promptiqa/prompt/sampling.hpp>

namespace promptiqa {

namespace detail {

/// Names of the pictures below the deepest folder that all share.
inline std::vector<std::string> names_below_common_folder(const Dataset& dataset) {
  if (dataset.items.empty()) return {};
  std::size_t common = dataset.items[0].image.rfind('/') + 1;  // 0 when there is no folder
  for (const DatasetItem& item : dataset.items) {
    while (item.image.compare(0, common, dataset.items[0].image, 0, common) != 0)
      common = common < 2 ? 0 : dataset.items[0].image.rfind('/', common - 2) + 1;
  }
  std::vector<std::string> names;
  for (const DatasetItem& item : dataset.items) names.push_back(item.image.substr(common));
  return names;
}

enum class SplitMark { train, test, other, none };

inline SplitMark mark_of(const DatasetItem& item) {
  const std::string key = column_key(item.split);
  if (key.empty()) return SplitMark::none;
  if (key == "train" || key == "training") return SplitMark::train;
  return key == "test" || key == "testing" ? SplitMark::test : SplitMark::other;
}

}  // namespace detail

PROMPTIQA_INLINE Split split_by_reference(const Dataset& dataset, double train_share, std::uint64_t seed) {
  if (!(train_share > 0 && train_share < 1))
    throw DataError(dataset.name + ": the share of training pictures must lie between 0 and 1, got " +
                    std::to_string(train_share));
  std::map<std::string, std::size_t> group_of;  // reference -> group
  std::vector<std::size_t> groups;              // of each item
  std::size_t count = 0;
  for (const DatasetItem& item : dataset.items) {
    if (item.reference.empty()) {
      groups.push_back(count++);
      continue;
    }
    const auto [found, is_new] = group_of.try_emplace(item.reference, count);
    count += is_new;
    groups.push_back(found->second);
  }
  if (count < 2)
    throw DataError(dataset.name + ": a split needs two pictures of different references, found " +
                    std::to_string(count));
  const auto wanted = static_cast<std::size_t>(std::llround(train_share * static_cast<double>(count)));
  std::vector<char> trains(count, 0);
  for (std::size_t group : random_sample(count, std::clamp<std::size_t>(wanted, 1, count - 1), seed)) trains[group] = 1;
  Split split;
  for (std::size_t i = 0; i < groups.size(); ++i)
    (trains[groups[i]] ? split.train : split.test).push_back(static_cast<std::int64_t>(i));
  return split;
}

PROMPTIQA_INLINE SplitMarks split_marks(const Dataset& dataset) {
  SplitMarks marks;
  for (const DatasetItem& item : dataset.items) switch (detail::mark_of(item)) {
      case detail::SplitMark::train: ++marks.train; break;
      case detail::SplitMark::test: ++marks.test; break;
      case detail::SplitMark::other: ++marks.other; break;
      case detail::SplitMark::none: ++marks.none; break;
    }
  return marks;
}

PROMPTIQA_INLINE Split published_split(const Dataset& dataset, std::vector<std::string>* notices) {
  using detail::SplitMark;
  Split split;
  std::string example;
  for (std::size_t i = 0; i < dataset.items.size(); ++i) {
    const SplitMark mark = detail::mark_of(dataset.items[i]);
    if (mark == SplitMark::train) split.train.push_back(static_cast<std::int64_t>(i));
    if (mark == SplitMark::test) split.test.push_back(static_cast<std::int64_t>(i));
    if (mark == SplitMark::other && example.empty()) example = dataset.items[i].split;
  }
  if (split.train.empty() || split.test.empty())
    throw DataError(dataset.name + ": there is no published split (" + std::to_string(split.train.size()) +
                    " training and " + std::to_string(split.test.size()) + " test pictures)");
  const std::size_t left_out = dataset.items.size() - split.train.size() - split.test.size();
  if (notices && left_out > 0)
    notices->push_back(dataset.name + ": pictures marked neither train nor test are left out: " +
                       std::to_string(left_out) + (example.empty() ? "" : ", such as \"" + example + "\""));
  return split;
}

PROMPTIQA_INLINE void write_split(const std::string& path, const Dataset& dataset, const Split& split) {
  const std::vector<std::string> names = detail::names_below_common_folder(dataset);
  std::vector<char> used(names.size(), 0);
  std::string text = "image,split\n";
  const auto write_side = [&](const std::vector<std::int64_t>& rows, const char* side) {
    for (std::int64_t row : rows) {
      const auto i = static_cast<std::size_t>(row);
      if (row < 0 || i >= names.size())
        throw DataError(path + ": row " + std::to_string(row) + " of the split is not in " + dataset.name + " (" +
                        std::to_string(names.size()) + " pictures)");
      if (used[i]++) throw DataError(path + ": row " + std::to_string(row) + " occurs twice in the split");
      text += csv_field(names[i]) + "," + side + "\n";
    }
  };
  write_side(split.train, "train");
  write_side(split.test, "test");
  AtomicFile file(path);
  file.write(text.data(), text.size());
  file.commit();
}

PROMPTIQA_INLINE Split read_split(const std::string& path, const Dataset& dataset) {
  const std::vector<std::string> names = detail::names_below_common_folder(dataset);
  std::unordered_map<std::string, std::int64_t> row_of;
  for (std::size_t i = 0; i < names.size(); ++i) row_of.emplace(names[i], static_cast<std::int64_t>(i));
  const CsvTable table(path);
  const std::size_t image = table.column({"image"}), side = table.column({"split"});
  std::vector<char> used(names.size(), 0);
  Split split;
  for (std::size_t row = 0; row < table.rows(); ++row) {
    const auto found = row_of.find(table.filled(row, image));
    if (found == row_of.end())
      throw DataError(table.where(row, image) + ": '" + table.text(row, image) + "' is not a picture of " +
                      dataset.name);
    if (used[static_cast<std::size_t>(found->second)]++)
      throw DataError(table.where(row, image) + ": '" + table.text(row, image) + "' occurs twice");
    const std::string key = column_key(table.text(row, side));
    if (key != "train" && key != "test")
      throw DataError(table.where(row, side) + ": expected train or test, found \"" + table.text(row, side) + "\"");
    (key == "train" ? split.train : split.test).push_back(found->second);
  }
  std::sort(split.train.begin(), split.train.end());
  std::sort(split.test.begin(), split.test.end());
  return split;
}

}  // namespace promptiqa
