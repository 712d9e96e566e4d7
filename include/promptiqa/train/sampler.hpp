// GroupSampler: which pictures a training step sees, and under which requirements.
// Surprising choice: a group is scored under several label sets in one backbone pass. The image feature does not see
// the scores, so a further requirement costs the small heads only, and it is what makes a model follow its prompt.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include <promptiqa/core/macros.hpp>
#include <promptiqa/data/prefetch.hpp>
#include <promptiqa/data/training_set.hpp>
#include <promptiqa/train/random_stream.hpp>
#include <promptiqa/train/requirements.hpp>

namespace promptiqa {

struct SamplerOptions {
  std::int64_t group_size = 11;     // b: every picture is scored with the other b - 1 as its prompt
  std::int64_t requirements = 3;    // label sets per group
  double score_share = 0.6;         // of the groups, from sets with human scores; when there are others too
  double same_distortion = 0.2;     // of the groups of a set with distortion keys: pictures of one distortion ...
  double same_photo = 0.2;          // ... and versions of one photograph; the rest are mixed
  double mirror_probability = 0.5;  // horizontal flip of a picture
  RequirementAugmentation augmentation = RequirementAugmentation::paper();

  /// Throws TrainingError naming the option.
  void validate() const;
};

/// One group of b pictures of one data set, with everything the loss needs.
struct GroupPlan {
  std::vector<BatchPicture> pictures;      // b
  std::vector<std::vector<float>> scores;  // requirements x b, augmented, in [0, 1]
  std::vector<float> weights;              // of each requirement in the loss
  std::vector<std::vector<float>> known;   // labels() x b: every label before augmentation; NaN = not known
};

/// Draws groups. Everything random comes from the state, so a restored sampler goes on as the saved one would have.
///
/// A set with a column of kind `score` is walked through in random order, epoch by epoch; its requirements are the
/// score, then the score again, and as the third, at half weight, another label. From other sets pictures are drawn
/// freely; their requirements are two different metrics, and as the third an attribute (half weight) or the level. The
/// second requirement is turned around half of the time: what says where the good end is must be the prompt. A label
/// that is unknown for a picture of the group is not used.
class GroupSampler {
 public:
  struct State {
    RandomStream random;
    std::vector<std::int64_t> epoch, position;  // per set with scores: its permutation's number, pictures used of it
  };

  /// Throws TrainingError: no sets, a set with fewer readable pictures than a group needs, without a usable label or
  /// with values outside [0, 1], pictures of different sizes, more than 1% of all pictures unreadable (how many, and
  /// which).
  GroupSampler(std::vector<TrainingSet> sets, const SamplerOptions& options, std::uint64_t seed);

  /// The next group. Throws TrainingError when a set has no label that is known throughout a group.
  GroupPlan next();

  const State& state() const { return state_; }
  /// Throws TrainingError when the state is of other sets.
  void restore(const State& state);

  const std::vector<TrainingSet>& sets() const { return sets_; }

  /// Every different label: scores as "<set>/score", the others by their name alone, whatever set they come from.
  const std::vector<std::string>& labels() const { return labels_; }
  /// True where labels() is a human score.
  const std::vector<bool>& label_is_score() const { return label_is_score_; }

  /// Pictures that could not be read and are left out, with the reason; one line each.
  const std::vector<std::string>& skipped() const { return skipped_; }

  /// Readable pictures in all sets.
  std::int64_t picture_count() const;
  std::int64_t side() const { return sets_[0].images->side(); }

 private:
  struct SetIndex {
    std::vector<std::int64_t> usable;                            // positions in TrainingSet::pictures
    std::vector<std::vector<std::int64_t>> distortions, photos;  // the same by key, only keys with b pictures or more
    std::vector<std::size_t> primary, secondary, level;  // columns by their use; primary: scores, or else metrics
    std::vector<std::size_t> label_of_column;            // into labels()
    bool has_scores = false;
    std::size_t cursor = 0;           // into State::epoch when has_scores
    std::vector<std::int64_t> order;  // of the current epoch
  };

  std::size_t choose_set();
  std::vector<std::int64_t> choose_pictures(SetIndex& index);
  void begin_epoch(SetIndex& index);
  void add_requirements(const TrainingSet& set, const SetIndex& index, const std::vector<std::int64_t>& chosen,
                        GroupPlan& plan);

  std::vector<TrainingSet> sets_;
  std::vector<SetIndex> indices_;
  SamplerOptions options_;
  State state_;
  std::vector<std::string> labels_, skipped_;
  std::vector<bool> label_is_score_;
};

}  // namespace promptiqa

#if PROMPTIQA_WITH_BODIES
#include <promptiqa/train/sampler.ipp>
#endif
