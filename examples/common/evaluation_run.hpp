// One evaluation: every combination of split, requirement, prompt and draw on a data set, and its figures.
// Surprising choice: a training image that cannot be read is replaced by drawing again without it, so that one broken
// file neither ends a run nor makes a prompt smaller.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <functional>
#include <map>
#include <optional>
#include <span>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

#include <promptiqa/data/split.hpp>
#include <promptiqa/data/training_set.hpp>

#include "evaluation.hpp"
#include "evaluation_images.hpp"

namespace examples {

/// What was measured: everything but the split and the draw.
struct Setting {
  std::string data, requirement, subset;  // subset: "all", or "distinct": without near-duplicates of training images
  std::string sampling, prompt;
  std::size_t pairs = 0;
  bool operator==(const Setting& other) const = default;
};

/// One measurement of a setting.
struct Draw {
  std::uint64_t split = 0, draw = 0;
  std::size_t images = 0;
  Figures figures;
};

struct Measurement {
  Setting setting;
  std::vector<Draw> draws;

  /// One figure of all draws.
  std::vector<double> values(double Figures::*value) const {
    std::vector<double> all;
    for (const Draw& d : draws) all.push_back(d.figures.*value);
    return all;
  }
};

/// A test image that was scored, for whoever wants every score.
struct ScoredImage {
  const std::string& image;
  double label, score;                  // in the requirement's scale
  std::optional<int> nearest_training;  // bits to the nearest training image's difference hash
};

/// How the program's options look to an evaluation.
struct Plan {
  std::vector<std::string> samplings, prompts;  // names
  std::vector<std::size_t> sizes;
  std::uint64_t repeats = 1, seed = 0;
  bool attributes = false, near_duplicates = false;
  std::optional<promptiqa::Prompt> prompt;  // replaces drawn ones; `samplings` then holds one name for it
};

class Evaluation {
 public:
  /// Called for every image of every draw of the subset "all".
  using OnScore = std::function<void(const Setting&, const Draw&, const ScoredImage&)>;

  /// The references must outlive the evaluation.
  Evaluation(promptiqa::Context& ctx, const AnyModel& model, PictureStore& store, Plan plan,
             OnScore on_score)
      : ctx_(ctx), model_(model), store_(store), plan_(std::move(plan)), on_score_(std::move(on_score)) {}

  /// Measures one data set under one split and adds to measurements(). Throws std::runtime_error when fewer than two
  /// test images, or fewer training images than a prompt needs, can be used; Interrupted.
  void run(const promptiqa::Dataset& data, const promptiqa::Split& split, std::uint64_t split_number) {
    Part part = read(data, split, split_number);
    for (const Requirement& requirement : requirements(part))
      for (const std::string& sampling : plan_.samplings)
        for (std::size_t size : plan_.sizes) measure_draws(part, requirement, sampling, size);
  }

  const std::vector<Measurement>& measurements() const { return measurements_; }

 private:
  using PromptData = promptiqa::PromptData;

  // A data set under one split, test images read.
  struct Part {
    const promptiqa::Dataset& data;
    std::uint64_t split_number;
    std::vector<std::size_t> train, test;  // rows of the data set; those of images that failed are taken out
    std::vector<float> test_features;
    std::vector<std::optional<int>> nearest;  // per test image
  };

  // Something to be asked for.
  struct Requirement {
    std::string name;
    double scale_min, scale_max;  // of the test labels
    std::vector<float> train;     // labels in [0, 1], by row of the data set; those of other rows mean nothing
    std::vector<double> test;     // labels in the order of Part::test
  };

  PictureId picture_id(const Part& part, std::size_t row) const {
    return {part.data.items[row].image, part.data.short_side};
  }

  void load(const Part& part, const std::vector<std::size_t>& rows, PictureStore::Wanted wanted) {
    std::vector<PictureId> pictures;
    for (std::size_t row : rows) pictures.push_back(picture_id(part, row));
    store_.load(pictures, wanted);
  }

  // Takes out the rows whose image failed.
  void drop_failed(const Part& part, std::vector<std::size_t>& rows) const {
    std::erase_if(rows, [&](std::size_t row) { return store_.failed(picture_id(part, row)); });
  }

  // Why images of these rows cannot be read: the first three.
  std::string first_errors(const Part& part, const std::vector<std::size_t>& rows) const {
    std::string text;
    int found = 0;
    for (std::size_t row : rows) {
      const PictureId id = picture_id(part, row);
      if (!store_.failed(id)) continue;
      if (++found > 3) return text + "; ...";
      const std::string& error = store_.error(id);
      text += (text.empty() ? "" : "; ") + (error.find(id.file) == std::string::npos ? id.file + ": " : "") + error;
    }
    return text;
  }

  Part read(const promptiqa::Dataset& data, const promptiqa::Split& split, std::uint64_t split_number) {
    Part part{data, split_number, {split.train.begin(), split.train.end()}, {split.test.begin(), split.test.end()}, {},
              {}};
    load(part, part.test, {true, plan_.attributes, plan_.near_duplicates});
    if (plan_.attributes || plan_.near_duplicates)
      load(part, part.train, {false, plan_.attributes, plan_.near_duplicates});
    const std::string why = first_errors(part, part.test);
    drop_failed(part, part.test);
    drop_failed(part, part.train);
    if (part.test.size() < 2)
      throw std::runtime_error(data.name + ": figures need at least two test images that can be read, there are " +
                               std::to_string(part.test.size()) + (why.empty() ? "" : "; " + why));
    for (std::size_t row : part.test) {
      const Picture& picture = store_.at(picture_id(part, row));
      part.test_features.insert(part.test_features.end(), picture.features.begin(), picture.features.end());
      part.nearest.push_back(plan_.near_duplicates ? nearest_training(part, *picture.hash) : std::nullopt);
    }
    return part;
  }

  std::optional<int> nearest_training(const Part& part, const DifferenceHash& hash) const {
    std::optional<int> nearest;
    for (std::size_t row : part.train) {
      const int bits = distance(hash, *store_.at(picture_id(part, row)).hash);
      if (!nearest || bits < *nearest) nearest = bits;
    }
    return nearest;
  }

  std::vector<Requirement> requirements(const Part& part) const {
    std::vector<Requirement> all;
    Requirement score{
        "score", part.data.scale_min, part.data.scale_max, std::vector<float>(part.data.items.size()), {}};
    for (std::size_t row : part.train) score.train[row] = promptiqa::normalised(part.data, part.data.items[row].score);
    for (std::size_t row : part.test) score.test.push_back(part.data.items[row].score);
    all.push_back(std::move(score));
    for (std::size_t a = 0; plan_.attributes && a < all_attributes.size(); ++a) {
      // Ranks among the training images are the prompt's scores, ranks among the test images the labels.
      const auto attribute_ranks = [&](const std::vector<std::size_t>& rows) {
        std::vector<double> values;
        for (std::size_t row : rows) values.push_back((*store_.at(picture_id(part, row)).attributes)[a]);
        return promptiqa::ranks(values);
      };
      Requirement attribute{all_attributes[a].name, 0, 1, std::vector<float>(part.data.items.size()), {}};
      const std::vector<float> train = attribute_ranks(part.train), test = attribute_ranks(part.test);
      for (std::size_t i = 0; i < part.train.size(); ++i) attribute.train[part.train[i]] = train[i];
      attribute.test.assign(test.begin(), test.end());
      all.push_back(std::move(attribute));
    }
    return all;
  }

  void measure_draws(Part& part, const Requirement& requirement, const std::string& sampling, std::size_t size) {
    std::vector<PromptKind> kinds;
    for (const std::string& name : plan_.prompts) kinds.push_back(value_of(prompt_names, name));
    for (std::uint64_t draw = 0; draw < plan_.repeats; ++draw) {
      std::optional<PromptData> pairs;
      for (std::size_t k = 0; k < kinds.size(); ++k) {
        // Without anything random in it a second draw would be the first one again.
        if (draw > 0 && sampling != "random" && !has_random_images(kinds[k]) && !has_random_scores(kinds[k])) continue;
        if (!pairs)
          pairs = plan_.prompt ? unit_pairs(*plan_.prompt) : draw_prompt(part, requirement, sampling, size, draw);
        const PromptData prompt = altered(*pairs, kinds[k], draw);
        const Setting setting{part.data.name, requirement.name, "all",
                              sampling,       plan_.prompts[k], static_cast<std::size_t>(prompt.size())};
        measure(part, requirement, setting, prompt, draw);
      }
    }
  }

  // The pairs of one draw; a training image that turns out to be broken leaves the part, and all pairs are drawn again.
  PromptData draw_prompt(Part& part, const Requirement& requirement, const std::string& sampling, std::size_t size,
                         std::uint64_t draw) {
    for (;;) {
      if (part.train.size() < size)
        throw std::runtime_error(part.data.name + ": a prompt of " + std::to_string(size) +
                                 " pairs needs as many training " + "images that can be read, there are " +
                                 std::to_string(part.train.size()));
      std::vector<float> labels;
      for (std::size_t row : part.train) labels.push_back(requirement.train[row]);
      std::vector<std::size_t> rows;
      for (std::size_t i : draw_pairs(labels, value_of(sampling_names, sampling), size, plan_.seed, draw))
        rows.push_back(part.train[i]);
      load(part, rows, {.features = true});
      if (std::none_of(rows.begin(), rows.end(),
                       [&](std::size_t row) { return store_.failed(picture_id(part, row)); })) {
        PromptData prompt = empty_prompt();
        for (std::size_t row : rows) {
          const std::vector<float>& features = store_.at(picture_id(part, row)).features;
          prompt.scores.push_back(requirement.train[row]);
          prompt.image_features.insert(prompt.image_features.end(), features.begin(), features.end());
        }
        return prompt;
      }
      drop_failed(part, part.train);
    }
  }

  PromptData empty_prompt() const {
    PromptData prompt;
    prompt.preprocessing = model_.preprocessing();
    prompt.width = model_.config().prompt_dim;
    return prompt;
  }

  // A prompt's pairs with scores in [0, 1].
  PromptData unit_pairs(const promptiqa::Prompt& given) const {
    PromptData prompt = empty_prompt();
    for (float s : given.data().scores) prompt.scores.push_back(std::clamp(given.data().scale.to_unit(s), 0.0f, 1.0f));
    prompt.image_features = given.data().image_features;
    return prompt;
  }

  PromptData altered(PromptData prompt, PromptKind kind, std::uint64_t draw) {
    prompt.scores = shown_scores(kind, std::move(prompt.scores), plan_.seed, draw);
    if (has_random_images(kind)) {
      const std::vector<float>& random = random_features(draw, prompt.scores.size());
      prompt.image_features.assign(random.begin(),
                                   random.begin() + static_cast<std::ptrdiff_t>(prompt.image_features.size()));
    }
    return prompt;
  }

  // Features of at least `count` random pictures of a draw.
  const std::vector<float>& random_features(std::uint64_t draw, std::size_t count) {
    std::vector<float>& features = random_features_[draw];
    const auto width = static_cast<std::size_t>(model_.config().prompt_dim);
    std::vector<promptiqa::Image> pictures;
    for (std::size_t i = features.size() / width; i < count; ++i)
      pictures.push_back(random_picture(static_cast<int>(model_.config().image_size), plan_.seed, draw, i));
    const std::vector<float> more = model_.features(ctx_, pictures);
    features.insert(features.end(), more.begin(), more.end());
    return features;
  }

  void measure(const Part& part, const Requirement& requirement, const Setting& setting, const PromptData& prompt,
               std::uint64_t draw_number) {
    store_.check_interrupted();
    const promptiqa::Prompt bound = model_.bind_prompt(ctx_, prompt, model_.weights_id());
    std::vector<double> predicted;
    for (const promptiqa::Prediction& p : model_.score_features(ctx_, part.test_features, bound))
      predicted.push_back(requirement.scale_min + p.score * (requirement.scale_max - requirement.scale_min));

    Draw draw{part.split_number, draw_number, predicted.size(), agreement(predicted, requirement.test)};
    add(setting, draw);
    if (on_score_)
      for (std::size_t i = 0; i < predicted.size(); ++i)
        on_score_(setting, draw,
                  {picture_id(part, part.test[i]).file, requirement.test[i], predicted[i], part.nearest[i]});
    if (!plan_.near_duplicates) return;

    std::vector<double> distinct_predicted, distinct_labels;
    for (std::size_t i = 0; i < predicted.size(); ++i) {
      if (part.nearest[i] && *part.nearest[i] <= near_duplicate_bits) continue;
      distinct_predicted.push_back(predicted[i]);
      distinct_labels.push_back(requirement.test[i]);
    }
    Setting distinct = setting;
    distinct.subset = "distinct";
    draw.images = distinct_predicted.size();
    draw.figures = agreement(distinct_predicted, distinct_labels);
    add(distinct, draw);
  }

  void add(const Setting& setting, const Draw& draw) {
    auto it = std::find_if(measurements_.begin(), measurements_.end(),
                           [&](const Measurement& m) { return m.setting == setting; });
    if (it == measurements_.end()) it = measurements_.insert(it, {setting, {}});
    it->draws.push_back(draw);
  }

  promptiqa::Context& ctx_;
  const AnyModel& model_;
  PictureStore& store_;
  Plan plan_;
  OnScore on_score_;
  std::map<std::uint64_t, std::vector<float>> random_features_;  // by draw
  std::vector<Measurement> measurements_;
};

}  // namespace examples
