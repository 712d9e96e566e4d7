// Bodies of make_training_set.
// Surprising choice: attributes are taken from the cached, resized pictures, because that is all the model will see.
#pragma once

#include <algorithm>
#include <array>
#include <cmath>
#include <cstddef>
#include <limits>
#include <utility>

#include <promptiqa/data/training_set.hpp>
#include <promptiqa/metrics/attributes.hpp>
#include <promptiqa/metrics/correlation.hpp>

namespace promptiqa {

PROMPTIQA_INLINE std::vector<float> ranks(std::span<const double> values) {
  std::vector<double> known;
  for (const double value : values)
    if (!std::isnan(value)) known.push_back(value);
  const std::vector<double> from_one = average_ranks(known);
  const double last = static_cast<double>(known.size()) - 1;
  std::vector<float> result(values.size(), std::numeric_limits<float>::quiet_NaN());
  std::size_t next = 0;
  for (std::size_t i = 0; i < values.size(); ++i) {
    if (std::isnan(values[i])) continue;
    const double rank = from_one[next++] - 1;
    result[i] = last > 0 ? static_cast<float>(rank / last) : 0.5f;
  }
  return result;
}

PROMPTIQA_INLINE std::vector<std::string> image_files(const Dataset& dataset) {
  std::vector<std::string> files;
  for (const DatasetItem& item : dataset.items) files.push_back(item.image);
  return files;
}

PROMPTIQA_INLINE Image cached_image(const std::shared_ptr<const ImageCache>& images, std::int64_t i) {
  if (!images || i < 0 || i >= images->size())
    throw DataError("cached_image: picture " + std::to_string(i) + " is not in the cache");
  if (!images->usable(i)) throw DataError(images->path() + ": picture " + std::to_string(i) + ": " + images->error(i));
  const int side = static_cast<int>(images->side());
  return Image::owning(std::shared_ptr<const void>(images, images->pixels(i)), PixelType::u8, side, side, 3, 0,
                       ChannelOrder::rgb, images->source(i).file);
}

PROMPTIQA_INLINE TrainingSet make_training_set(const Dataset& dataset, std::span<const std::int64_t> rows,
                                               std::shared_ptr<const ImageCache> images, ThreadPool& pool) {
  constexpr std::array<const char*, 5> names = {"brightness", "contrast", "colourfulness", "sharpness", "noise"};
  constexpr std::array<double (*)(const Image&), 5> attributes = {brightness, contrast, colourfulness, sharpness,
                                                                  noise};
  const auto items = static_cast<std::int64_t>(dataset.items.size());
  if (!images || images->size() != items)
    throw DataError(dataset.name + ": the image cache has " + std::to_string(images ? images->size() : 0) +
                    " pictures, the data set " + std::to_string(items));
  if (rows.empty()) throw DataError(dataset.name + ": a training set needs at least one picture");

  TrainingSet set;
  set.name = dataset.name;
  set.asked = items;
  for (std::int64_t row : rows) {
    if (row < 0 || row >= items)
      throw DataError(dataset.name + ": row " + std::to_string(row) + " is not in the data set (" +
                      std::to_string(items) + " pictures)");
    if (images->source(row).file != cache_source(dataset.items[static_cast<std::size_t>(row)].image).file)
      throw DataError(dataset.name + ": the image cache is of other pictures: row " + std::to_string(row) + " is '" +
                      images->source(row).file + "' there");
    (images->usable(row) ? set.pictures : set.skipped).push_back(row);
  }
  // Of the whole set: one broken picture of a small part says little about the data.
  std::int64_t broken = 0;
  std::string why;
  for (std::int64_t row = 0; row < items; ++row)
    if (!images->usable(row) && ++broken <= 3) why += (why.empty() ? "" : "; ") + images->error(row);
  if (broken > 3) why += "; ...";
  if (broken * 100 > items)
    throw DataError(dataset.name + ": " + std::to_string(broken) + " of " + std::to_string(items) +
                    " pictures cannot be read, more than 1%: " + why);
  if (set.pictures.empty())
    throw DataError(dataset.name + ": none of these " + std::to_string(rows.size()) + " pictures can be read: " + why);

  const std::size_t count = set.pictures.size();
  LabelColumn score{"score", LabelKind::score, {}};
  for (std::int64_t row : set.pictures)
    score.values.push_back(normalised(dataset, dataset.items[static_cast<std::size_t>(row)].score));
  set.labels.push_back(std::move(score));
  std::array<std::vector<double>, names.size()> values;
  for (std::vector<double>& column : values) column.resize(count);
  pool.parallel_for(static_cast<std::int64_t>(count), [&](std::int64_t i) {
    const auto at = static_cast<std::size_t>(i);
    const Image image = cached_image(images, set.pictures[at]);
    for (std::size_t a = 0; a < values.size(); ++a) values[a][at] = attributes[a](image);
  });
  for (std::size_t a = 0; a < values.size(); ++a)
    set.labels.push_back({names[a], LabelKind::attribute, ranks(values[a])});
  set.images = std::move(images);
  return set;
}

}  // namespace promptiqa
