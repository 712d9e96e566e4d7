// Communicator: what data-parallel training asks of the processes it runs on.
// Surprising choice: one operation, a sum over all ranks, is enough; every rank keeps its own copy of everything else
// and all copies stay equal because they take the same steps.
#pragma once

#include <cstdint>
#include <span>

namespace promptiqa {

class Communicator {
 public:
  virtual ~Communicator() = default;

  virtual int rank() const = 0;
  virtual int size() const = 0;

  /// Replaces each value by its sum over all ranks; the result has the same bits on every rank. Every rank must call it
  /// with the same number of values. Throws TrainingError when another rank is gone.
  virtual void sum(std::span<float> values) = 0;
  virtual void sum(std::span<double> values) = 0;
};

/// A single process.
class SingleProcess final : public Communicator {
 public:
  int rank() const override { return 0; }
  int size() const override { return 1; }
  void sum(std::span<float>) override {}
  void sum(std::span<double>) override {}
};

}  // namespace promptiqa
