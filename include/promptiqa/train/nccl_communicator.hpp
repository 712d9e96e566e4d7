// NcclCommunicator: ranks that have a CUDA device each and sum tensors there, by NCCL. Link promptiqa::cuda, built with
// -DPROMPTIQA_NCCL=ON, which then defines PROMPTIQA_NCCL; no header of CUDA or NCCL is needed.
// Surprising choice: it stands on another Communicator, which carries what lies on the host: the scalars of a step, and
// where the devices meet.
#pragma once

#include <memory>
#include <span>

#include <promptiqa/core/context.hpp>
#include <promptiqa/train/communicator.hpp>

namespace promptiqa {

class NcclCommunicator final : public Communicator {
 public:
  /// Connects the devices of all ranks of `host`; every rank must do so at once. ctx and host must outlive it. A wait
  /// for the other ranks, here and in sum_tensors, ends after `timeout` seconds. Throws CudaError when ctx is no CUDA
  /// context or a call of CUDA or NCCL fails; TrainingError when there is only one rank, two ranks have the same
  /// device, or a rank does not come.
  NcclCommunicator(Context& ctx, Communicator& host, double timeout = 600);
  ~NcclCommunicator() override;
  NcclCommunicator(const NcclCommunicator&) = delete;
  NcclCommunicator& operator=(const NcclCommunicator&) = delete;

  int rank() const override { return host_.rank(); }
  int size() const override { return host_.size(); }
  int local_rank() const override { return host_.local_rank(); }
  const char* way_of_summing() const override { return "by NCCL"; }
  void sum(std::span<float> values) override { host_.sum(values); }
  void sum(std::span<double> values) override { host_.sum(values); }

  /// Sums on the device, in place, after the work that makes the tensors and before what is asked of ctx later. The
  /// order of each sum is NCCL's: it depends on the machine, not on the run. Returns when it is done. ctx: any context
  /// of the constructor's device. Throws CudaError when ctx or a tensor is of another device, or a call fails;
  /// TrainingError when another rank is gone or does not come in time. The tensors' contents are lost then, and so is
  /// the connection: later sums throw.
  void sum_tensors(Context& ctx, std::span<Tensor<float>> tensors) override;

 private:
  struct State;
  Communicator& host_;
  std::unique_ptr<State> state_;
};

}  // namespace promptiqa
