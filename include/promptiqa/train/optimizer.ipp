// Bodies of the Optimizer.
// Surprising choice: none; the arithmetic is one kernel.
#pragma once

#include <cmath>
#include <utility>

#include <promptiqa/train/optimizer.hpp>

namespace promptiqa {

PROMPTIQA_INLINE Optimizer::Optimizer(Context& ctx, std::vector<TrainableTensor> parameters,
                                      const OptimizerOptions& options)
    : parameters_(std::move(parameters)), options_(options) {
  for (const TrainableTensor& parameter : parameters_) {
    m_.push_back(ctx.zeros<float>(parameter.value.shape()));
    v_.push_back(ctx.zeros<float>(parameter.value.shape()));
  }
}

PROMPTIQA_INLINE void Optimizer::step(Context& ctx, std::span<const Tensor<float>> gradients, double learning_rate,
                                      double gradient_scale) {
  if (gradients.size() != parameters_.size())
    throw ShapeError("optimizer: expected " + std::to_string(parameters_.size()) + " gradients, got " +
                     std::to_string(gradients.size()));
  ++steps_;
  AdamStepArgs<float> args = {};
  args.learning_rate = static_cast<float>(learning_rate);
  args.beta1 = static_cast<float>(options_.beta1), args.beta2 = static_cast<float>(options_.beta2);
  args.eps = static_cast<float>(options_.eps);
  args.decoupled = options_.kind == OptimizerKind::adamw;
  args.correction1 = static_cast<float>(1 - std::pow(options_.beta1, static_cast<double>(steps_)));
  args.correction2 = static_cast<float>(1 - std::pow(options_.beta2, static_cast<double>(steps_)));
  args.gradient_scale = static_cast<float>(gradient_scale);
  for (std::size_t i = 0; i < parameters_.size(); ++i) {
    if (!gradients[i]) continue;
    Tensor<float>& parameter = parameters_[i].value;
    if (gradients[i].numel() != parameter.numel())
      throw ShapeError("optimizer: the gradient of " + parameters_[i].name + " " + parameter.shape().str() +
                       " has shape " + gradients[i].shape().str());
    args.count = parameter.numel();
    args.weight_decay =
        parameter.rank() > 1 || options_.decay_vectors ? static_cast<float>(options_.weight_decay) : 0.0f;
    args.gradient = gradients[i].data();
    args.parameter = parameter.mutable_data(), args.m = m_[i].mutable_data(), args.v = v_[i].mutable_data();
    ctx.kernels<float>().adam_step(ctx.kernel_context(), args);
  }
}

PROMPTIQA_INLINE double global_norm(Context& ctx, std::span<const Tensor<float>> gradients) {
  Tensor<double> sum = ctx.zeros<double>(Shape{1});
  for (const Tensor<float>& gradient : gradients)
    if (gradient)
      ctx.kernels<float>().sum_of_squares(ctx.kernel_context(),
                                          {gradient.numel(), gradient.data(), sum.mutable_data()});
  return std::sqrt(sum.item());
}

}  // namespace promptiqa
