// Trainer: one training run - model, optimiser, averaged weights, sampler - and its checkpoints.
// Surprising choice: random numbers of a step are made from the seed and the step's number, and everything else that
// lasts is in the checkpoint, so a resumed run takes bit for bit the steps that the first one would have taken.
#pragma once

#include <cstdint>
#include <deque>
#include <memory>
#include <string>
#include <vector>

#include <promptiqa/core/context.hpp>
#include <promptiqa/core/macros.hpp>
#include <promptiqa/data/prefetch.hpp>
#include <promptiqa/model/model.hpp>
#include <promptiqa/train/communicator.hpp>
#include <promptiqa/train/objective.hpp>
#include <promptiqa/train/optimizer.hpp>
#include <promptiqa/train/sampler.hpp>
#include <promptiqa/train/schedule.hpp>
#include <promptiqa/train/weight_average.hpp>

namespace promptiqa {

struct TrainerOptions {
  std::uint64_t seed = 0;
  std::int64_t groups = 4;  // of SamplerOptions::group_size pictures, through the backbone together
  std::int64_t shards = 1;  // times that many groups make a step; see Trainer
  std::int64_t steps = 0;   // length of the run; 0: `minutes` say it
  double minutes = 0;       // of training, checkpoints and validation not counted; 0: `steps` say it
  SamplerOptions sampler;
  OptimizerOptions optimizer;
  LearningRateSchedule schedule;
  double clip_norm = 1;          // of the model's gradient; 0 = no clipping
  double average_decay = 0.998;  // of the averaged weights
  double auxiliary_weight = 1;   // of the auxiliary head's loss; 0 = no head
  bool recompute = false;        // less memory, a third more time: see Pass::recompute

  /// The recipe of our own weights: AdamW, 2.5e-4, stronger augmentation.
  static TrainerOptions recipe();
  /// The paper's: Adam 1e-5 with coupled decay, one requirement a group, its augmentation, nothing auxiliary, no
  /// clipping.
  static TrainerOptions paper();

  /// Throws TrainingError naming the option.
  void validate() const;
};

/// What one step did. Losses are means over the whole step, all ranks together, before the weights changed.
struct StepReport {
  std::int64_t step = 0;  // steps taken so far, this one included
  double prompt_loss = 0, auxiliary_loss = 0;
  double gradient_norm = 0;  // of the model, before clipping
  double learning_rate = 0;
  std::int64_t images = 0;  // through the backbone in this step
  double seconds = 0;       // this step took
};

/// Data parallelism: a step is made of `shards` batches of `groups` groups; each rank takes shards / ranks of them and
/// gradients are averaged, so K ranks with K shards take the same steps, but for the rounding of sums, as one process
/// with K shards. Batch norm takes its statistics within a shard, in one process as in many; running statistics become
/// the mean over the shards' own updates.
class Trainer {
 public:
  /// A new run that starts from `model`, which must be trainable (Model::create, or load with ModelOptions::training).
  /// `ctx` and `communicator` (null: a single process) must outlive the Trainer. Throws TrainingError when options,
  /// sets and model do not fit together.
  Trainer(Context& ctx, Model<float> model, std::vector<TrainingSet> sets, const TrainerOptions& options,
          Communicator* communicator = nullptr);
  Trainer(const Trainer&) = delete;  // parts of it point to each other
  Trainer& operator=(const Trainer&) = delete;

  /// One step. Throws TrainingError when the loss or the gradient is not finite, or another rank is gone; the run
  /// cannot go on then.
  StepReport step();

  /// Share of the run that is over, in [0, 1]; finished when that is 1.
  double progress() const;
  bool finished() const { return progress() >= 1; }
  std::int64_t steps_taken() const { return step_; }
  /// Pictures through the backbone so far, and seconds spent in step().
  std::int64_t images_seen() const { return images_; }
  double seconds() const { return seconds_; }

  /// Writes everything that lasts into one safetensors file, atomically: weights, averaged weights, moments, the
  /// auxiliary head, the sampler's state, counters. Throws FileError, and then an old file is as it was.
  void save_checkpoint(const std::string& path) const;

  /// Continues the run of a checkpoint. Call before the first step. Only the length of the run and the kernels (the
  /// precision, another processor) may be other ones than before; the steps are not quite those of the old run then,
  /// and the result says so, a line for each difference. Throws FileError, WeightsError for a damaged file,
  /// TrainingError, naming the option, when anything else differs: seed, model, batches, optimiser, training sets.
  std::vector<std::string> load_checkpoint(const std::string& path);

  /// A copy of the averaged weights as a model ready for scoring: what is validated and kept.
  Model<float> averaged_model() const { return average_.make_model(ctx_, model_); }

  Model<float>& model() { return model_; }
  const GroupSampler& sampler() const { return sampler_; }
  const TrainerOptions& options() const { return options_; }
  Communicator& communicator() const { return *communicator_; }

 private:
  struct Planned {
    std::vector<GroupPlan> plans;  // of this rank: one shard after the other
    GroupSampler::State sampler_after;
  };

  void plan_ahead();
  std::string fingerprint() const;
  std::string circumstances() const;

  Context& ctx_;
  SingleProcess single_;
  Communicator* communicator_;
  TrainerOptions options_;
  Model<float> model_;
  GroupSampler sampler_;
  AuxiliaryHead head_;
  std::unique_ptr<Optimizer> optimizer_;  // of the model's parameters, then the head's
  std::size_t model_parameters_ = 0;
  WeightAverage average_;
  std::int64_t step_ = 0, images_ = 0;
  double seconds_ = 0;
  GroupSampler::State sampler_state_;  // after the last step taken; the sampler itself is ahead
  std::deque<Planned> planned_;
  std::vector<float> pixels_;
  std::unique_ptr<Prefetcher> prefetcher_;
};

}  // namespace promptiqa

#if PROMPTIQA_WITH_BODIES
#include <promptiqa/train/checkpoint.ipp>
#include <promptiqa/train/trainer.ipp>
#endif
