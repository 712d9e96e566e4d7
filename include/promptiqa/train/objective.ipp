// Bodies of the training loss.
// Surprising choice: a weighted L1 is the plain one with prediction and target both multiplied by the weight, so
// weights and missing labels need no op of their own.
#pragma once

#include <cmath>

#include <promptiqa/ops/all.hpp>
#include <promptiqa/train/objective.hpp>
#include <promptiqa/train/training_error.hpp>

namespace promptiqa {

PROMPTIQA_INLINE AuxiliaryHead AuxiliaryHead::create(Context& ctx, std::int64_t width, const GroupSampler& sampler,
                                                     std::uint64_t seed) {
  AuxiliaryHead head;
  head.labels = sampler.labels();
  const auto count = static_cast<std::int64_t>(head.labels.size());
  for (bool score : sampler.label_is_score()) head.importance.push_back(score ? 3.0f : 1.0f);
  RandomStream random{seed ^ 0xA54FF53A5F1D36F1ull, 0};
  const double bound = 1 / std::sqrt(static_cast<double>(width));
  const auto fill = [&](const Shape& shape) {
    std::vector<float> values(static_cast<std::size_t>(shape.numel()));
    for (float& v : values) v = static_cast<float>(random.uniform(-bound, bound));
    return ctx.from<float>(shape, std::span<const float>(values));
  };
  head.weight = fill(Shape{count, width});
  head.bias = fill(Shape{count});
  return head;
}

PROMPTIQA_INLINE BatchTensors BatchTensors::make(Context& ctx, std::span<const GroupPlan> plans,
                                                 std::span<const float> importance) {
  if (plans.empty() || plans[0].scores.empty())
    throw TrainingError("batch: there must be at least one group and requirement");
  const std::size_t b = plans[0].pictures.size(), requirements = plans[0].scores.size(), images = plans.size() * b;
  const std::size_t labels = importance.size();
  std::vector<float> scores, weights, weighted;
  for (std::size_t r = 0; r < requirements; ++r)
    for (const GroupPlan& plan : plans) {
      if (plan.scores.size() != requirements || plan.scores[r].size() != b || plan.known.size() != labels)
        throw TrainingError("batch: its groups differ in size");
      for (float s : plan.scores[r]) {
        scores.push_back(s);
        weights.push_back(plan.weights[r]);
        weighted.push_back(plan.weights[r] * s);
      }
    }
  BatchTensors batch;
  batch.group = static_cast<std::int64_t>(b);
  const auto rows = static_cast<std::int64_t>(scores.size());
  batch.scores = ctx.from<float>(Shape{rows, 1}, std::span<const float>(scores));
  batch.weights = ctx.from<float>(Shape{rows}, std::span<const float>(weights));
  batch.weighted_scores = ctx.from<float>(Shape{rows}, std::span<const float>(weighted));

  std::vector<float> known_weights(images * labels), weighted_known(images * labels);
  double sum = 0;
  for (std::size_t g = 0; g < plans.size(); ++g)
    for (std::size_t i = 0; i < b; ++i)
      for (std::size_t k = 0; k < labels; ++k)
        if (!std::isnan(plans[g].known[k][i])) sum += static_cast<double>(importance[k]);
  if (sum == 0) return batch;
  const double factor = static_cast<double>(images * labels) / sum;  // the op divides by the number of elements
  for (std::size_t g = 0; g < plans.size(); ++g)
    for (std::size_t i = 0; i < b; ++i)
      for (std::size_t k = 0; k < labels; ++k) {
        const float value = plans[g].known[k][i];
        if (std::isnan(value)) continue;
        const std::size_t at = (g * b + i) * labels + k;
        known_weights[at] = static_cast<float>(factor * static_cast<double>(importance[k]));
        weighted_known[at] = known_weights[at] * value;
      }
  const Shape shape{static_cast<std::int64_t>(images), static_cast<std::int64_t>(labels)};
  batch.known_weights = ctx.from<float>(shape, std::span<const float>(known_weights));
  batch.weighted_known = ctx.from<float>(shape, std::span<const float>(weighted_known));
  return batch;
}

PROMPTIQA_INLINE BatchLoss batch_loss(Context& ctx, const Model<float>& model, const AuxiliaryHead& head,
                                      const Tensor<float>& nchw, const BatchTensors& batch, double auxiliary_weight,
                                      bool recompute) {
  Pass<float> pass;
  pass.training = true;
  pass.recompute = recompute;
  const Tensor<float> feature = model.image_features(ctx, nchw, pass);  // (N, M)
  const std::int64_t images = feature.dim(0), width = feature.dim(1), rows = batch.scores.dim(0);
  const Tensor<float> repeated =
      expand(ctx, feature.reshape({1, images * width}), 0, rows / images).reshape({rows, width});
  const Tensor<float> predicted = model.leave_one_out(ctx, repeated, batch.scores, pass, batch.group);
  BatchLoss loss;
  loss.prompt = l1_loss(ctx, multiply(ctx, predicted, batch.weights), batch.weighted_scores);
  loss.total = loss.prompt;
  if (auxiliary_weight > 0 && batch.known_weights) {
    const Tensor<float> labels = linear(ctx, feature, head.weight, head.bias);
    loss.auxiliary = l1_loss(ctx, multiply(ctx, labels, batch.known_weights), batch.weighted_known);
    loss.total = add(ctx, loss.prompt, scale_shift(ctx, loss.auxiliary, auxiliary_weight, 0.0));
  }
  return loss;
}

}  // namespace promptiqa
