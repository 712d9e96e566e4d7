// The training loss of one batch: leave-one-out L1 under several requirements, and the auxiliary head's L1.
// Surprising choice: the auxiliary head, a linear layer on the image feature that predicts every known label, is
// dropped after training; without it a fresh backbone learns nothing, because the prompt path alone gives it too weak a
// signal.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include <promptiqa/core/context.hpp>
#include <promptiqa/core/macros.hpp>
#include <promptiqa/model/model.hpp>
#include <promptiqa/train/sampler.hpp>

namespace promptiqa {

/// A linear layer from the image feature to the labels of the training sets. Human scores weigh three times as much.
struct AuxiliaryHead {
  std::vector<std::string> labels;  // (K)
  std::vector<float> importance;    // (K)
  Tensor<float> weight, bias;       // (K, M), (K)

  /// Fresh: weight and bias uniform in +-1/sqrt(M).
  static AuxiliaryHead create(Context& ctx, std::int64_t width, const GroupSampler& sampler, std::uint64_t seed);
};

/// The numbers of a batch of G groups of b pictures, N = G b, under R requirements, as tensors.
struct BatchTensors {
  std::int64_t group = 0;                       // b
  Tensor<float> scores;                         // (R N, 1), requirement by requirement
  Tensor<float> weights, weighted_scores;       // (R N): weight in the loss, weight * score
  Tensor<float> known_weights, weighted_known;  // (N, K): 0 where a label is not known; empty when none is

  /// Throws TrainingError when the plans do not have the same shape.
  static BatchTensors make(Context& ctx, std::span<const GroupPlan> plans, std::span<const float> importance);
};

struct BatchLoss {
  Tensor<float> total;      // prompt + auxiliary_weight * auxiliary
  Tensor<float> prompt;     // mean over requirements and pictures of weight * |prediction - score|
  Tensor<float> auxiliary;  // weighted mean of |prediction - label|; empty without an auxiliary head
};

/// One forward pass in training mode: nchw (N, 3, S, S) -> the losses, each of one element. Record it with a Tape on
/// ctx. Running statistics are updated. The backbone runs once, the heads once for all requirements. recompute: see
/// Pass::recompute.
BatchLoss batch_loss(Context& ctx, const Model<float>& model, const AuxiliaryHead& head, const Tensor<float>& nchw,
                     const BatchTensors& batch, double auxiliary_weight, bool recompute = false);

}  // namespace promptiqa

#if PROMPTIQA_WITH_BODIES
#include <promptiqa/train/objective.ipp>
#endif
