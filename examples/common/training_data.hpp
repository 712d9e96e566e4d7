// The training sets of the program train, and what is held out of them.
// Surprising choice: a part is always held out, the publisher's own test split or a fifth of the pictures, so that the
// figures of a run are never those of pictures it was trained on; where two sets share pictures, that is said.
#pragma once

#include <algorithm>
#include <cstdio>
#include <filesystem>
#include <functional>
#include <memory>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include <promptiqa/data.hpp>
#include <promptiqa/data/synthesis.hpp>
#include <promptiqa/io/atomic_file.hpp>
#include <promptiqa/train.hpp>

#include "free_name.hpp"
#include "progress.hpp"
#include "training_options.hpp"

namespace examples {

/// What validation needs of a set: pictures for prompts, pictures to score, and the label.
struct HeldOut {
  promptiqa::TrainingSet prompts, test;
  std::string label;
};

struct TrainingData {
  std::vector<promptiqa::TrainingSet> sets;
  std::vector<HeldOut> held_out;
  std::vector<std::string> notices;
  std::vector<std::set<std::string>> trained_on;  // the files that each of `sets` was made of
  std::vector<std::string> unreadable;            // held-out pictures; those of `sets` are known to the sampler
};

/// The same text for one file by whatever path.
inline std::string file_identity(const std::string& file) {
  std::error_code ignored;
  const std::filesystem::path whole = std::filesystem::weakly_canonical(file, ignored);
  return whole.empty() ? file : whole.string();
}

/// A signal came while pictures were prepared.
class StoppedEarly : public promptiqa::TrainingError {
 public:
  using promptiqa::TrainingError::TrainingError;
};

/// Shows how far the pictures are prepared and ends the work, by an exception, when `stop` says so.
class PreparationProgress {
 public:
  /// `what` is being prepared: a line where no bar can be shown.
  PreparationProgress(const std::string& what, std::size_t total, const TrainingOptions& options,
                      std::function<bool()> stop)
      : bar_(total, !options.quiet), stop_(std::move(stop)) {
    if (!options.quiet) std::fprintf(stderr, "train: %s\n", what.c_str());
  }
  void operator()(std::int64_t done) {
    if (stop_()) throw StoppedEarly("stopped by a signal while pictures were prepared; nothing was trained");
    bar_.update(static_cast<std::size_t>(done));
  }

 private:
  ProgressBar bar_;
  std::function<bool()> stop_;
};

/// Reads what "KIND:DIR" or "csv:FILE" names.
inline promptiqa::Dataset read_named_dataset(const std::string& text) {
  const std::size_t colon = text.find(':');
  if (colon == std::string::npos || colon + 1 == text.size())
    throw promptiqa::DataError("--data " + text + ": expected KIND:DIR or csv:FILE");
  const std::string kind = text.substr(0, colon), path = text.substr(colon + 1);
  return kind == "csv" ? promptiqa::read_csv_dataset(path) : promptiqa::read_dataset(kind, path);
}

/// What is learned from and what is held out: the publisher's own split, or a fifth of the pictures where none is
/// marked for testing. Says in `data.notices` whatever the label file did not ask for.
inline promptiqa::Split choose_split(TrainingData& data, const TrainingOptions& options,
                                     const promptiqa::Dataset& dataset) {
  const promptiqa::SplitMarks marks = promptiqa::split_marks(dataset);
  if (marks.test > 0) {
    promptiqa::Split split = promptiqa::published_split(dataset, &data.notices);
    data.notices.push_back(dataset.name + ": held out: the " + std::to_string(split.test.size()) + " of " +
                           std::to_string(dataset.items.size()) + " pictures that are marked test");
    return split;
  }
  if (marks.other > 0)
    throw promptiqa::DataError(dataset.name + ": pictures marked neither train nor test: " +
                               std::to_string(marks.other) + "; mark those that are to be held out test");
  const promptiqa::Split split = promptiqa::split_by_reference(dataset, 0.8, options.trainer.seed);
  const std::string file = options.cache + "/" + dataset.name + "-split.csv";
  promptiqa::write_split(file, dataset, split);
  data.notices.push_back(dataset.name + ": no picture is marked test; held out: " + std::to_string(split.test.size()) +
                         " of " + std::to_string(dataset.items.size()) + ", listed in " + file);
  return split;
}

/// A name that none of `data.sets` has.
inline std::string free_name(const TrainingData& data, const std::string& name) {
  return free_name(name, [&](const std::string& text) {
    return std::any_of(data.sets.begin(), data.sets.end(), [&](const auto& set) { return set.name == text; });
  });
}

inline void add_dataset(TrainingData& data, const TrainingOptions& options, const std::string& text, int side,
                        promptiqa::ThreadPool& pool, const std::function<bool()>& stop) {
  using namespace promptiqa;
  Dataset dataset = read_named_dataset(text);
  dataset.name = free_name(data, dataset.name);
  for (const std::string& notice : dataset.notices) data.notices.push_back(notice);
  const std::string stem = options.cache + "/" + dataset.name + "-" + std::to_string(side);
  const std::vector<std::string> files = image_files(dataset);
  std::shared_ptr<const ImageCache> cache;
  {
    PreparationProgress progress(dataset.name + ": " + std::to_string(files.size()) + " pictures", files.size(),
                                 options, stop);
    cache = ImageCache::build_or_open(stem + ".cache", files, {side, dataset.short_side}, pool,
                                      [&](std::int64_t done, std::int64_t) { progress(done); });
  }
  const Split split = choose_split(data, options, dataset);
  data.sets.push_back(make_training_set(dataset, split.train, cache, pool));
  data.trained_on.emplace_back();
  for (const std::int64_t row : split.train) data.trained_on.back().insert(file_identity(cache->source(row).file));
  std::vector<std::int64_t> test;
  for (const std::int64_t row : split.test) {
    if (cache->usable(row))
      test.push_back(row);
    else
      data.unreadable.push_back(cache->source(row).file + ": " + cache->error(row));
  }
  if (!test.empty())
    data.held_out.push_back({data.sets.back(), make_training_set(dataset, test, cache, pool), "score"});
  else
    data.notices.push_back(dataset.name + ": no held-out picture can be read; nothing will be validated");
  const std::vector<float>& scores = data.sets.back().labels[0].values;
  const auto [low, high] = std::minmax_element(scores.begin(), scores.end());
  if (!(*low < *high))
    data.notices.push_back(dataset.name +
                           ": all pictures to train on have the same score; nothing can be learned from it");
}

/// Distorted versions of the photographs; a tenth of the photographs, at least one, is held out.
inline void add_photographs(TrainingData& data, const TrainingOptions& options, int side, promptiqa::ThreadPool& pool,
                            const std::function<bool()>& stop) {
  using namespace promptiqa;
  const std::vector<std::string> photographs = find_photographs(options.photos);
  SynthesisOptions synthesis;
  synthesis.versions = static_cast<int>(options.versions);
  synthesis.side = side;
  const std::string name = free_name(data, "photographs");
  const std::string cache = options.cache + "/" + name + "-" + std::to_string(side) + ".cache";
  TrainingSet all;
  {
    PreparationProgress progress(std::to_string(photographs.size()) + " photographs in " +
                                     std::to_string(options.versions) +
                                     " versions each; the first time this takes a while",
                                 photographs.size(), options, stop);
    all = synthesise(photographs, cache, synthesis, pool, [&](std::int64_t done, std::int64_t) { progress(done); });
  }
  all.name = name;
  // By the photograph: versions of one must not lie on both sides.
  RandomStream random{options.trainer.seed ^ 0x510E527FADE682D1ull, 0};
  const auto count = static_cast<std::int64_t>(photographs.size());
  std::vector<bool> held(photographs.size(), false);
  if (count > 1)
    for (std::int64_t i : random.distinct(count, std::max<std::int64_t>(1, count / 10)))
      held[static_cast<std::size_t>(i)] = true;
  std::vector<std::int64_t> train, test;
  for (std::size_t i = 0; i < all.pictures.size(); ++i)
    (held[static_cast<std::size_t>(all.photo[i])] ? test : train).push_back(static_cast<std::int64_t>(i));
  data.sets.push_back(subset(all, train));
  data.sets.back().skipped = all.skipped;
  data.sets.back().asked = count;
  data.trained_on.emplace_back();
  for (std::size_t i = 0; i < photographs.size(); ++i)
    if (!held[i]) data.trained_on.back().insert(file_identity(photographs[i]));
  if (test.empty()) {
    data.notices.push_back(name + ": there is one only; none is held out, nothing will be validated");
    return;
  }
  data.held_out.push_back({data.sets.back(), subset(all, test), "ssim"});
  const std::string file = options.cache + "/" + name + "-held-out.txt";
  std::string list;
  for (std::size_t i = 0; i < photographs.size(); ++i)
    if (held[i]) list += photographs[i] + "\n";
  AtomicFile out(file);
  out.write(list.data(), list.size());
  out.commit();
  data.notices.push_back(name + ": held out: " + std::to_string(std::count(held.begin(), held.end(), true)) + " of " +
                         std::to_string(photographs.size()) + ", listed in " + file);
}

/// Reads, decodes and splits everything the options name; `stop` is asked now and then. Throws DataError, FileError,
/// ImageError, and TrainingError when stopped.
inline TrainingData load_training_data(const TrainingOptions& options, int side, promptiqa::ThreadPool& pool,
                                       const std::function<bool()>& stop) {
  std::filesystem::create_directories(options.cache);
  TrainingData data;
  for (const std::string& text : options.data) add_dataset(data, options, text, side, pool, stop);
  if (!options.photos.empty()) add_photographs(data, options, side, pool, stop);
  for (const HeldOut& held : data.held_out) {
    std::set<std::string> files;
    for (const std::int64_t row : held.test.pictures) files.insert(file_identity(held.test.images->source(row).file));
    for (std::size_t i = 0; i < data.sets.size(); ++i) {
      const auto shared = std::count_if(files.begin(), files.end(),
                                        [&](const std::string& file) { return data.trained_on[i].count(file) > 0; });
      if (shared > 0)
        data.notices.push_back(held.test.name + ": " + std::to_string(shared) + " of its " +
                               std::to_string(files.size()) + " held-out pictures are among those of " +
                               data.sets[i].name + " that are trained on; its validation is not of unseen pictures");
    }
  }
  return data;
}

}  // namespace examples
