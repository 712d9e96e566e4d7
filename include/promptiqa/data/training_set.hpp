// TrainingSet: pictures in a cache with any number of label columns, what the trainer draws its groups from.
// Surprising choice: every column but the score is a rank, so that decibels, correlations and levels of brightness all
// fill [0,1] evenly and none needs a range of its own.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include <promptiqa/core/thread_pool.hpp>
#include <promptiqa/data/dataset.hpp>
#include <promptiqa/data/image_cache.hpp>
#include <promptiqa/image/image.hpp>

namespace promptiqa {

/// Where a label comes from: people, the picture itself, a comparison with its original, or how it was spoiled.
enum class LabelKind { score, attribute, metric, level };

/// One number per picture, in [0,1]; NaN = not known. Higher is better, except for the scores of a DMOS set, which keep
/// their direction, and for attributes, where higher is more of it.
struct LabelColumn {
  std::string name;
  LabelKind kind = LabelKind::score;
  std::vector<float> values;
};

/// Pictures and their labels.
struct TrainingSet {
  std::string name;
  std::shared_ptr<const ImageCache> images;
  std::vector<std::int64_t> pictures;           // rows of the cache in use
  std::vector<LabelColumn> labels;              // each values.size() == pictures.size()
  std::vector<std::int32_t> photo, distortion;  // group keys per picture, or empty; distortion -1 = pristine
  std::vector<std::int64_t> skipped;            // rows whose picture cannot be read; images->error(row) says why
  std::int64_t asked = 0;  // pictures of the whole that this is a part of, for the share of broken ones; 0: this alone
};

/// The rows of `dataset` as a training set: column "score" (normalised), then "brightness", "contrast",
/// "colourfulness", "sharpness", "noise" of the cached pictures as ranks among these rows. Row i of the dataset is row
/// i of the cache, which is built from image_files(dataset). Unreadable pictures are left out and listed in `skipped`.
/// Throws DataError: the cache is of other pictures, a row out of range, no rows, no readable picture among them, or
/// more than 1% of the whole data set's pictures cannot be read (how many, and the first few).
TrainingSet make_training_set(const Dataset& dataset, std::span<const std::int64_t> rows,
                              std::shared_ptr<const ImageCache> images, ThreadPool& pool);

/// (rank - 1) / (n - 1), rank from 1, equal values share the mean of their ranks; NaN stays NaN and does not count. One
/// value gives 0.5.
std::vector<float> ranks(std::span<const double> values);

/// The images of a data set, in order: what a cache for make_training_set is built from.
std::vector<std::string> image_files(const Dataset& dataset);

/// Picture i of the cache as an Image that keeps the cache alive. Throws DataError when it is unusable.
Image cached_image(const std::shared_ptr<const ImageCache>& images, std::int64_t i);

}  // namespace promptiqa

#if PROMPTIQA_WITH_BODIES
#include <promptiqa/data/training_set.ipp>
#endif
