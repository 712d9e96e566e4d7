// Bodies of the Trainer.
// Surprising choice: batches are planned two steps ahead and their pixels prepared on another thread; the plan alone is
// random, so how far ahead it is changes nothing.
#pragma once

#include <chrono>
#include <cmath>
#include <utility>

#include <promptiqa/core/tape.hpp>
#include <promptiqa/train/trainer.hpp>
#include <promptiqa/train/training_error.hpp>

namespace promptiqa {

PROMPTIQA_INLINE TrainerOptions TrainerOptions::recipe() {
  TrainerOptions options;
  options.sampler.augmentation = RequirementAugmentation::recipe();
  return options;
}

PROMPTIQA_INLINE TrainerOptions TrainerOptions::paper() {
  TrainerOptions options;
  options.groups = 1;
  options.sampler.requirements = 1;
  options.sampler.augmentation = RequirementAugmentation::paper();
  options.optimizer = OptimizerOptions::paper();
  options.schedule = {1e-5, 0, 0.0};
  options.clip_norm = 0;
  options.auxiliary_weight = 0;
  options.average_decay = 0;  // the last weights themselves
  return options;
}

PROMPTIQA_INLINE void TrainerOptions::validate() const {
  const auto fail = [](const std::string& what) { throw TrainingError("training: " + what); };
  const auto range = [&](const char* name, double value, double low, double high) {
    if (!(value >= low && value <= high))
      fail(std::string(name) + " must be in [" + std::to_string(low) + ", " + std::to_string(high) + "], got " +
           std::to_string(value));
  };
  if (groups < 1 || groups > 4096) fail("groups must be 1 to 4096, got " + std::to_string(groups));
  if (shards < 1 || shards > 4096) fail("shards must be 1 to 4096, got " + std::to_string(shards));
  if (steps < 0 || !(minutes >= 0)) fail("steps and minutes must not be negative");
  if (steps == 0 && minutes == 0) fail("give the length of the run: steps or minutes");
  range("learning rate", schedule.rate, 0, 1);
  range("learning rate floor", schedule.floor, 0, 1);
  range("weight decay", optimizer.weight_decay, 0, 10);
  range("beta1", optimizer.beta1, 0, 0.999999);
  range("beta2", optimizer.beta2, 0, 0.999999);
  range("eps", optimizer.eps, 0, 1);
  range("clip norm", clip_norm, 0, 1e9);
  range("average decay", average_decay, 0, 0.9999999);
  range("auxiliary weight", auxiliary_weight, 0, 1e6);
  if (schedule.warmup_steps < 0) fail("warm-up steps must not be negative");
}

PROMPTIQA_INLINE Trainer::Trainer(Context& ctx, Model<float> model, std::vector<TrainingSet> sets,
                                  const TrainerOptions& options, Communicator* communicator)
    : ctx_(ctx),
      communicator_(communicator ? communicator : &single_),
      options_(options),
      model_(std::move(model)),
      sampler_(std::move(sets), options.sampler, options.seed),
      head_(AuxiliaryHead::create(ctx, model_.config().prompt_dim, sampler_, options.seed)),
      average_(ctx, model_),
      prefetcher_(std::make_unique<Prefetcher>()) {
  options_.validate();
  if (options_.shards % communicator_->size() != 0)
    throw TrainingError("training: " + std::to_string(options_.shards) + " shards cannot be shared by " +
                        std::to_string(communicator_->size()) + " ranks");
  if (sampler_.side() != model_.config().image_size)
    throw TrainingError("training: the pictures have side " + std::to_string(sampler_.side()) + ", the model wants " +
                        std::to_string(model_.config().image_size));
  std::vector<TrainableTensor> parameters;
  for (auto& parameter : model_.parameters()) parameters.push_back({parameter.name, parameter.value});
  model_parameters_ = parameters.size();
  parameters.push_back({"auxiliary.weight", head_.weight});
  parameters.push_back({"auxiliary.bias", head_.bias});
  for (TrainableTensor& parameter : parameters) parameter.value.mutable_data();  // throws when it is a file's
  optimizer_ = std::make_unique<Optimizer>(ctx_, std::move(parameters), options_.optimizer);
  sampler_state_ = sampler_.state();
}

PROMPTIQA_INLINE double Trainer::progress() const {
  double share = 0;
  if (options_.steps > 0) share = static_cast<double>(step_) / static_cast<double>(options_.steps);
  if (options_.minutes > 0) share = std::max(share, seconds_ / (60 * options_.minutes));
  return std::min(share, 1.0);
}

PROMPTIQA_INLINE void Trainer::plan_ahead() {
  const std::int64_t own = options_.shards / communicator_->size(), first = own * communicator_->rank();
  while (planned_.size() < 2) {
    Planned planned;
    // Every rank draws the whole step, so that all samplers stay the same.
    for (std::int64_t shard = 0; shard < options_.shards; ++shard) {
      std::vector<BatchPicture> pictures;
      const bool mine = shard >= first && shard < first + own;
      for (std::int64_t g = 0; g < options_.groups; ++g) {
        GroupPlan plan = sampler_.next();
        if (!mine) continue;
        pictures.insert(pictures.end(), plan.pictures.begin(), plan.pictures.end());
        planned.plans.push_back(std::move(plan));
      }
      if (mine) prefetcher_->submit(std::move(pictures));
    }
    planned.sampler_after = sampler_.state();
    planned_.push_back(std::move(planned));
  }
}

PROMPTIQA_INLINE StepReport Trainer::step() {
  const auto start = std::chrono::steady_clock::now();
  plan_ahead();
  const Planned planned = std::move(planned_.front());
  planned_.pop_front();
  const std::int64_t own = options_.shards / communicator_->size(), first = own * communicator_->rank();
  const std::int64_t groups = options_.groups, side = sampler_.side(), images = groups * options_.sampler.group_size;

  StepReport report;
  report.images = images * options_.shards;

  // Not parameters: running statistics, and only when several shards have to agree on them.
  std::vector<Tensor<float>> running, running_before, running_sum;
  if (options_.shards > 1)
    for (auto& entry : model_.state())
      if (entry.value && entry.name.find(".running_") != std::string::npos) {
        running.push_back(entry.value);
        running_before.push_back(ctx_.copy(entry.value));
        running_sum.push_back(ctx_.zeros<float>(entry.value.shape()));
      }
  const auto scale_into = [&](const Tensor<float>& x, double factor, Tensor<float>& y) {
    UnaryArgs<float> args = {UnaryKind::scale_shift, x.numel(), static_cast<float>(factor), 0.0f, x.data(),
                             y.mutable_data()};
    ctx_.kernels<float>().unary(ctx_.kernel_context(), args);
  };
  const auto& parameters = optimizer_->parameters();
  std::vector<Tensor<float>> gradients(parameters.size());
  // The third is the clock: all ranks go by rank 0's, or their learning rates would drift apart.
  double losses[3] = {0, 0, communicator_->rank() == 0 ? seconds_ : 0};
  for (std::int64_t shard = 0; shard < own; ++shard) {
    prefetcher_->take(pixels_);
    const Shape shape{images, 3, side, side};
    // On the CPU the pixels are read where they lie; nobody holds the tensor when the next take() changes them.
    const Tensor<float> nchw =
        ctx_.device() == Device::cpu
            ? Tensor<float>(MemoryPool::foreign(pixels_.data(), pixels_.size() * sizeof(float),
                                                std::shared_ptr<const void>(&pixels_, [](const void*) {})),
                            shape)
            : ctx_.from<float>(shape, std::span<const float>(pixels_));
    const BatchTensors batch =
        BatchTensors::make(ctx_,
                           std::span<const GroupPlan>(planned.plans)
                               .subspan(static_cast<std::size_t>(shard * groups), static_cast<std::size_t>(groups)),
                           head_.importance);
    for (std::size_t i = 0; i < running.size(); ++i) scale_into(running_before[i], 1, running[i]);
    // Keys of dropout: a stretch of the stream for every shard of every step.
    ctx_.set_random_state(options_.seed, (static_cast<std::uint64_t>(step_ * options_.shards + first + shard) << 20));

    Tape tape;
    const TapeScope recording(ctx_, &tape);
    for (const TrainableTensor& parameter : parameters) tape.watch(parameter.value);
    const BatchLoss loss = batch_loss(ctx_, model_, head_, nchw, batch, options_.auxiliary_weight, options_.recompute);
    losses[0] += static_cast<double>(loss.prompt.item());
    if (loss.auxiliary) losses[1] += static_cast<double>(loss.auxiliary.item());
    tape.backward(ctx_, loss.total);
    for (std::size_t i = 0; i < parameters.size(); ++i) {
      Tensor<float> gradient = tape.gradient(parameters[i].value);
      if (!gradient) continue;
      if (!gradients[i])
        gradients[i] = shard + 1 < own ? ctx_.copy(gradient) : gradient;  // a copy is ours to add to
      else
        ctx_.kernels<float>().add_in_place(ctx_.kernel_context(),
                                           {gradient.numel(), gradient.data(), gradients[i].mutable_data()});
    }
    for (std::size_t i = 0; i < running.size(); ++i)
      ctx_.kernels<float>().add_in_place(ctx_.kernel_context(),
                                         {running[i].numel(), running[i].data(), running_sum[i].mutable_data()});
  }

  if (communicator_->size() > 1) {
    communicator_->sum_tensors(ctx_, gradients);
    communicator_->sum_tensors(ctx_, running_sum);
    communicator_->sum(std::span<double>(losses));
  }
  const double share = 1 / static_cast<double>(options_.shards);
  for (std::size_t i = 0; i < running.size(); ++i) scale_into(running_sum[i], share, running[i]);

  seconds_ = losses[2];
  report.learning_rate = options_.schedule.at(step_, progress());
  report.prompt_loss = losses[0] * share;
  report.auxiliary_loss = losses[1] * share;
  const std::span<Tensor<float>> all(gradients);
  report.gradient_norm = share * global_norm(ctx_, all.first(model_parameters_));
  if (!std::isfinite(report.prompt_loss + report.auxiliary_loss) || !std::isfinite(report.gradient_norm))
    throw TrainingError("step " + std::to_string(step_ + 1) + ": the " +
                        (std::isfinite(report.prompt_loss + report.auxiliary_loss) ? "gradient" : "loss") +
                        " is not finite; try a lower learning rate");
  // The head is not clipped with the model: its gradient is large and says nothing about the model's.
  const double clip = clipping_scale(report.gradient_norm, options_.clip_norm);
  for (std::size_t i = model_parameters_; i < gradients.size(); ++i)
    if (gradients[i] && clip != 1) scale_into(gradients[i], 1 / clip, gradients[i]);
  optimizer_->step(ctx_, all, report.learning_rate, share * clip);
  model_.count_training_batch();
  average_.update(ctx_, model_, options_.average_decay);

  ++step_;
  images_ += report.images;
  sampler_state_ = planned.sampler_after;
  report.step = step_;
  report.seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
  seconds_ += report.seconds;
  return report;
}

}  // namespace promptiqa
