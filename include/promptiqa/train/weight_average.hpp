// WeightAverage: the exponential moving average of a model's weights and running statistics; the weights that are kept.
// Surprising choice: early on the average forgets faster, by (t + 1) / (t + 10), or a short run would end near the
// random weights it began with.
#pragma once

#include <algorithm>
#include <cstdint>
#include <string>
#include <vector>

#include <promptiqa/core/context.hpp>
#include <promptiqa/core/macros.hpp>
#include <promptiqa/model/model.hpp>

namespace promptiqa {

class WeightAverage {
 public:
  /// Starts as a copy of the model's state.
  WeightAverage(Context& ctx, const Model<float>& model);

  /// average += (1 - d) (model - average), d = min(decay, (updates + 1) / (updates + 10)) with this update counted.
  void update(Context& ctx, const Model<float>& model, double decay);

  /// A model with the averaged weights, in memory of its own; counters are those of `model`. With training false it is
  /// ready for fast scoring.
  Model<float> make_model(Context& ctx, const Model<float>& model, bool training = false) const;

  /// The averaged tensors, in the order of Model::state() without the counters, and their names there.
  std::vector<Tensor<float>>& tensors() { return tensors_; }
  const std::vector<std::string>& names() const { return names_; }

  std::int64_t updates() const { return updates_; }
  void set_updates(std::int64_t updates) { updates_ = updates; }

 private:
  std::vector<std::string> names_;
  std::vector<Tensor<float>> tensors_;
  std::int64_t updates_ = 0;
};

/// A copy of the model, trainable, that shares no memory with it.
Model<float> copy_model(Context& ctx, const Model<float>& model);

}  // namespace promptiqa

#if PROMPTIQA_WITH_BODIES
#include <promptiqa/train/weight_average.ipp>
#endif
