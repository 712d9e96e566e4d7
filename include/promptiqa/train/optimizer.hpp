// Adam with coupled weight decay (the paper's) and AdamW, over named tensors.
// Surprising choice: it takes the gradients as a list, one for each parameter and empty where none arrived, so it knows
// neither tape nor ranks.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include <promptiqa/core/context.hpp>
#include <promptiqa/core/macros.hpp>
#include <promptiqa/core/tensor.hpp>

namespace promptiqa {

enum class OptimizerKind { adam, adamw };

struct OptimizerOptions {
  OptimizerKind kind = OptimizerKind::adamw;
  double weight_decay = 0.03;
  double beta1 = 0.9, beta2 = 0.98, eps = 1e-8;
  bool decay_vectors = false;  // also parameters of one dimension: biases, norms, gammas

  /// model.md section 4: Adam, L2 of 1e-5 added to the gradient of everything; its learning rate is 1e-5.
  static OptimizerOptions paper() { return {OptimizerKind::adam, 1e-5, 0.9, 0.999, 1e-8, true}; }
};

/// A trainable tensor. `value` shares the owner's memory.
struct TrainableTensor {
  std::string name;
  Tensor<float> value;
};

class Optimizer {
 public:
  Optimizer(Context& ctx, std::vector<TrainableTensor> parameters, const OptimizerOptions& options);

  /// One step. gradients[i] belongs to parameters()[i] and is first multiplied by gradient_scale; an empty one leaves
  /// its parameter and moments alone. Throws ShapeError when number or sizes differ.
  void step(Context& ctx, std::span<const Tensor<float>> gradients, double learning_rate, double gradient_scale = 1);

  const std::vector<TrainableTensor>& parameters() const { return parameters_; }

  /// Moments of parameter i: running means of the gradient and of its square. They share the optimiser's memory.
  Tensor<float>& first_moment(std::size_t i) { return m_[i]; }
  Tensor<float>& second_moment(std::size_t i) { return v_[i]; }

  /// Steps taken, for the bias correction.
  std::int64_t steps() const { return steps_; }
  void set_steps(std::int64_t steps) { steps_ = steps; }

 private:
  std::vector<TrainableTensor> parameters_;
  OptimizerOptions options_;
  std::vector<Tensor<float>> m_, v_;
  std::int64_t steps_ = 0;
};

/// Norm of all gradients taken as one vector; empty ones count nothing. The same bits for any number of threads.
double global_norm(Context& ctx, std::span<const Tensor<float>> gradients);

/// What gradients of that norm are multiplied by so that their norm is at most `largest`; 1 when largest is 0.
inline double clipping_scale(double norm, double largest) {
  return largest > 0 && norm > largest ? largest / norm : 1.0;
}

}  // namespace promptiqa

#if PROMPTIQA_WITH_BODIES
#include <promptiqa/train/optimizer.ipp>
#endif
