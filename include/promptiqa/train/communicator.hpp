// Communicator: what data-parallel training asks of the processes it runs on.
// Surprising choice: one operation, a sum over all ranks, is enough; every rank keeps its own copy of everything else
// and all copies stay equal because they take the same steps.
#pragma once

#include <cstdint>
#include <span>

#include <promptiqa/core/context.hpp>
#include <promptiqa/core/macros.hpp>
#include <promptiqa/core/tensor.hpp>

namespace promptiqa {

class Communicator {
 public:
  virtual ~Communicator() = default;

  virtual int rank() const = 0;
  virtual int size() const = 0;
  /// This rank's number among those of its machine, from 0.
  virtual int local_rank() const { return rank(); }

  /// How tensors are summed. Other ways round otherwise.
  virtual const char* way_of_summing() const { return "in the order of the ranks"; }

  /// Replaces each value by its sum over all ranks; the result has the same bits on every rank. Every rank must call it
  /// with the same number of values. Throws TrainingError when another rank is gone.
  virtual void sum(std::span<float> values) = 0;
  virtual void sum(std::span<double> values) = 0;

  /// The same for tensors of ctx's device, in the same shapes and order on every rank; empty ones stay empty. What they
  /// share their memory with may or may not change with them. Unless a Communicator knows better, they go through the
  /// host as one vector.
  virtual void sum_tensors(Context& ctx, std::span<Tensor<float>> tensors);
};

/// A single process.
class SingleProcess final : public Communicator {
 public:
  int rank() const override { return 0; }
  int size() const override { return 1; }
  void sum(std::span<float>) override {}
  void sum(std::span<double>) override {}
  void sum_tensors(Context&, std::span<Tensor<float>>) override {}
};

}  // namespace promptiqa

#if PROMPTIQA_WITH_BODIES
#include <promptiqa/train/communicator.ipp>
#endif
