// Bodies of Trainer::save_checkpoint and load_checkpoint.
// Surprising choice: tensors are written from where they lie, without a copy in memory, and read back into the same
// places, so a checkpoint costs disk and time only.
#pragma once

#include <cstring>
#include <map>

#include <nlohmann/json.hpp>

#include <promptiqa/io/safetensors.hpp>
#include <promptiqa/io/sha256.hpp>
#include <promptiqa/train/trainer.hpp>
#include <promptiqa/train/training_error.hpp>

namespace promptiqa {

/// What must be the same for a checkpoint to fit: JSON, one field each.
PROMPTIQA_INLINE std::string Trainer::fingerprint() const {
  nlohmann::json j;
  j["seed"] = options_.seed;
  j["model"] = model_.config().to_json();
  j["groups"] = options_.groups;
  j["recompute"] = options_.recompute;  // gradients are the same but for the order of some sums
  j["shards"] = options_.shards;
  j["group size"] = options_.sampler.group_size;
  const SamplerOptions& sampler = options_.sampler;
  const RequirementAugmentation& augmentation = sampler.augmentation;
  j["requirements"] = sampler.requirements;
  j["score share"] = sampler.score_share;
  j["shares of one distortion and of one photograph"] = {sampler.same_distortion, sampler.same_photo};
  j["mirroring"] = sampler.mirror_probability;
  j["augmentation of scores"] = {{"power", augmentation.power},
                                 {"scales", augmentation.scale_probability},
                                 {"scaling", augmentation.scaling == ScalingForm::paper ? "paper" : "released"},
                                 {"squeezes", augmentation.squeeze_probability},
                                 {"flips", augmentation.flip_probability},
                                 {"alpha", augmentation.alpha}};
  j["optimizer"] = {{"kind", options_.optimizer.kind == OptimizerKind::adam ? "adam" : "adamw"},
                    {"weight decay", options_.optimizer.weight_decay},
                    {"betas", {options_.optimizer.beta1, options_.optimizer.beta2}},
                    {"eps", options_.optimizer.eps},
                    {"decays vectors", options_.optimizer.decay_vectors}};
  j["learning rate"] = {{"rate", options_.schedule.rate},
                        {"warm-up", options_.schedule.warmup_steps},
                        {"floor", options_.schedule.floor}};
  j["clipping"] = options_.clip_norm;
  j["averaging"] = options_.average_decay;
  j["weight of the auxiliary head"] = options_.auxiliary_weight;
  j["labels"] = sampler_.labels();
  for (const TrainingSet& set : sampler_.sets()) {
    Sha256 labels;
    for (const LabelColumn& column : set.labels)
      labels.update(column.values.data(), column.values.size() * sizeof(float));
    labels.update(set.pictures.data(), set.pictures.size() * sizeof(std::int64_t));
    j["training sets"].push_back(set.name + ", " + std::to_string(set.pictures.size()) + " pictures, " +
                                 labels.hex().substr(0, 16));
  }
  return j.dump(-1, ' ', false, nlohmann::json::error_handler_t::replace);
}

/// What may change when a run goes on, although its steps are other ones then: JSON, one field each.
PROMPTIQA_INLINE std::string Trainer::circumstances() const {
  nlohmann::json j;
  j["steps in all"] = options_.steps;
  j["minutes in all"] = options_.minutes;
  j["kernels"] = ctx_.kernels<float>().name;
  j["gradients summed"] = communicator().way_of_summing();
  return j.dump(-1, ' ', false, nlohmann::json::error_handler_t::replace);
}

namespace detail {

inline constexpr const char* checkpoint_format = "promptiqa-checkpoint/2";

/// The tensors of a checkpoint, by name: f(name, tensor) for each.
template <class F>
void each_checkpoint_tensor(const Model<float>& model, WeightAverage& average, Optimizer& optimizer, F&& f) {
  for (auto& entry : model.state())
    if (entry.value) f("model." + entry.name, entry.value);
  for (std::size_t i = 0; i < average.tensors().size(); ++i) f("average." + average.names()[i], average.tensors()[i]);
  for (std::size_t i = 0; i < optimizer.parameters().size(); ++i) {
    const TrainableTensor& parameter = optimizer.parameters()[i];
    if (parameter.name.rfind("auxiliary.", 0) == 0) {
      Tensor<float> value = parameter.value;
      f(parameter.name, value);
    }
    f("first_moment." + parameter.name, optimizer.first_moment(i));
    f("second_moment." + parameter.name, optimizer.second_moment(i));
  }
}

}  // namespace detail

PROMPTIQA_INLINE void Trainer::save_checkpoint(const std::string& path) const {
  std::vector<NamedTensor> tensors;
  // The visitor hands tensors out for writing too; here they are only read.
  detail::each_checkpoint_tensor(model_, const_cast<WeightAverage&>(average_), *optimizer_,
                                 [&](const std::string& name, const Tensor<float>& value) {
                                   NamedTensor tensor = {name, DType::f32, value.shape(), value.data(),
                                                         static_cast<std::size_t>(value.numel()) * sizeof(float)};
                                   if (value.device() != Device::cpu) {
                                     const auto copy = std::make_shared<std::vector<float>>(value.host());
                                     tensor.data = copy->data();
                                     tensor.owner = copy;
                                   }
                                   tensors.push_back(std::move(tensor));
                                 });
  nlohmann::json state;
  state["step"] = step_;
  state["images"] = images_;
  state["optimizer steps"] = optimizer_->steps();
  state["average updates"] = average_.updates();
  state["sampler"] = {{"seed", sampler_state_.random.seed},
                      {"drawn", sampler_state_.random.drawn},
                      {"epoch", sampler_state_.epoch},
                      {"position", sampler_state_.position}};
  state["seconds"] = seconds_;
  write_safetensors(path,
                    {{"format", detail::checkpoint_format},
                     {"run", fingerprint()},
                     {"circumstances", circumstances()},
                     {"state", state.dump()},
                     {"config", model_.config().to_json()}},
                    tensors);
}

PROMPTIQA_INLINE std::vector<std::string> Trainer::load_checkpoint(const std::string& path) {
  if (step_ != 0 || !planned_.empty())
    throw TrainingError(path + ": a checkpoint can only be loaded before the first step");
  const TensorFile file = read_safetensors(path);
  const auto text = [&](const char* key) -> std::string {
    const auto found = file.metadata.find(key);
    return found == file.metadata.end() ? std::string() : found->second;
  };
  if (text("format") != detail::checkpoint_format)
    throw WeightsError(path + ": expected a checkpoint of a training run, " + detail::checkpoint_format + ", found " +
                       (text("format").empty() ? "none" : "\"" + text("format") + "\""));
  const nlohmann::json theirs = nlohmann::json::parse(text("run"), nullptr, false),
                       ours = nlohmann::json::parse(fingerprint());
  if (!theirs.is_object()) throw WeightsError(path + ": the checkpoint does not say of which run it is");
  for (const auto& item : ours.items()) {
    const auto found = theirs.find(item.key());
    if (found == theirs.end() || *found != item.value())
      throw TrainingError(path + ": it is of another run: its " + item.key() + ": " +
                          (found == theirs.end() ? "missing" : found->dump()) + ", here: " + item.value().dump());
  }

  std::vector<std::string> changed;
  const nlohmann::json before = nlohmann::json::parse(text("circumstances"), nullptr, false),
                       now = nlohmann::json::parse(circumstances());
  if (!before.is_object()) throw WeightsError(path + ": the checkpoint does not say under what circumstances it ran");
  for (const auto& item : now.items()) {
    const auto found = before.find(item.key());
    if (found == before.end() || *found != item.value())
      changed.push_back(item.key() + ": " + (found == before.end() ? "unknown" : found->dump()) + " before, " +
                        item.value().dump() + " now");
  }

  std::size_t found = 0;
  std::vector<std::pair<Tensor<float>, const NamedTensor*>> copies;
  detail::each_checkpoint_tensor(model_, average_, *optimizer_, [&](const std::string& name, Tensor<float>& value) {
    const NamedTensor* source = file.find(name);
    if (!source || source->dtype != DType::f32 || source->shape.numel() != value.numel())
      throw WeightsError(path + ": tensor '" + name + "' " + value.shape().str() + " is missing or of another size");
    copies.emplace_back(value, source);
    ++found;
  });
  if (found != file.tensors.size()) throw WeightsError(path + ": the checkpoint holds tensors that no run writes");
  GroupSampler::State sampler;
  std::int64_t step = 0, images = 0, optimizer_steps = 0, updates = 0;
  double seconds = 0;
  try {
    const nlohmann::json state = nlohmann::json::parse(text("state"));
    state.at("step").get_to(step);
    state.at("images").get_to(images);
    state.at("optimizer steps").get_to(optimizer_steps);
    state.at("average updates").get_to(updates);
    state.at("seconds").get_to(seconds);
    state.at("sampler").at("seed").get_to(sampler.random.seed);
    state.at("sampler").at("drawn").get_to(sampler.random.drawn);
    state.at("sampler").at("epoch").get_to(sampler.epoch);
    state.at("sampler").at("position").get_to(sampler.position);
  } catch (const nlohmann::json::exception&) {
    throw WeightsError(path + ": the state of the run in the checkpoint's metadata is damaged");
  }
  if (step < 0 || images < 0 || optimizer_steps < 0 || updates < 0 || !(seconds >= 0))
    throw WeightsError(path + ": the state of the run in the checkpoint's metadata is damaged");
  sampler_.restore(sampler);
  // From here on nothing fails.
  for (auto& copy : copies) {
    const auto count = static_cast<std::size_t>(copy.first.numel());
    if (copy.first.device() == Device::cpu)
      decode(DType::f32, copy.second->data, count, copy.first.mutable_data());
    else
      ctx_.memory().copy_from_host(copy.first.mutable_data(), copy.second->data, count * sizeof(float));
  }
  for (std::int64_t i = 0; i < step; ++i) model_.count_training_batch();
  step_ = step, images_ = images, seconds_ = seconds;
  optimizer_->set_steps(optimizer_steps);
  average_.set_updates(updates);
  sampler_state_ = sampler;
  model_.weights_changed();
  return changed;
}

}  // namespace promptiqa
