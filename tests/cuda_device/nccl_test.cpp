// Two ranks, threads of this program, that sum by NCCL on two devices of this machine: against the way through the
// host. Surprising choice: with fewer than two devices it passes; the line that is printed says what was not run.
#if defined(PROMPTIQA_NCCL)

#include <cmath>
#include <cstdint>
#include <iostream>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include <promptiqa/cuda.hpp>
#include <promptiqa/train/nccl_communicator.hpp>

#include "train/ranks.hpp"
#include "train/training_fixture.hpp"

using namespace promptiqa_test;

namespace {

int device_count() {
  try {
    return static_cast<int>(cuda_devices().size());
  } catch (const CudaError&) {
    return 0;
  }
}

bool enough_devices(int wanted) {
  if (device_count() >= wanted) return true;
  std::cout << "NCCL: compiled, emulated, not run: this needs " << (wanted == 1 ? "a device" : "two devices")
            << std::endl;
  return false;
}

Context context_of(int device) { return make_cuda_context(device, std::make_shared<ThreadPool>(1)); }

}  // namespace

TEST_CASE("two ranks with one device are refused before NCCL sees them", "[cuda][nccl]") {
  if (!enough_devices(1)) return;
  const auto errors = run_ranks(2, [&](int, HallRank& host) {
    Context ctx = context_of(0);
    NcclCommunicator nccl(ctx, host, 60);
  });
  for (const std::string& error : errors) CHECK_THAT(error, ContainsSubstring("ranks 0 and 1 have the same one, GPU-"));
}

// A sum of two floats has one rounding, whoever forms it: the bits are the host's.
TEST_CASE("NCCL sums tensors of two devices as the host does", "[cuda][nccl]") {
  if (!enough_devices(2)) return;
  std::vector<std::vector<float>> by_nccl(2), by_host(2);
  const auto errors = run_ranks(2, [&](int rank, HallRank& host) {
    Context ctx = context_of(rank);
    NcclCommunicator nccl(ctx, host, 60);
    for (const bool on_devices : {true, false}) {
      std::vector<Tensor<float>> tensors;
      for (const std::int64_t size : {1, 3, 1000, 1 << 20}) {
        std::vector<float> values(static_cast<std::size_t>(size));
        for (std::size_t i = 0; i < values.size(); ++i)
          values[i] = std::sin(static_cast<float>(i + 1)) * (rank == 0 ? 1.0f : 0.37f);
        tensors.push_back(ctx.from<float>(Shape{size}, std::span<const float>(values)));
      }
      tensors.push_back(tensors[1].reshape({1, 3}));
      if (on_devices)
        nccl.sum_tensors(ctx, tensors);
      else
        host.sum_tensors(ctx, tensors);
      auto& result = (on_devices ? by_nccl : by_host)[static_cast<std::size_t>(rank)];
      for (const Tensor<float>& tensor : tensors)
        for (float x : tensor.host()) result.push_back(x);
    }
  });
  CHECK(errors == std::vector<std::string>(2));
  CHECK(by_host[0].size() == 1 + 3 + 1000 + (1 << 20) + 3);
  CHECK(largest_difference(by_nccl[0], by_host[0]) == 0);
  CHECK(by_nccl[1] == by_nccl[0]);
}

TEST_CASE("a rank that does not come to a sum ends the other with a message", "[cuda][nccl]") {
  if (!enough_devices(2)) return;
  const auto errors = run_ranks(2, [&](int rank, HallRank& host) {
    Context ctx = context_of(rank);
    NcclCommunicator nccl(ctx, host, 20);
    if (rank == 1) throw Error("gone");
    std::vector<Tensor<float>> tensors = {ctx.full<float>(Shape{1000}, 1)};
    nccl.sum_tensors(ctx, tensors);
  });
  CHECK(errors[0].find("nccl: ") != std::string::npos);
  CHECK(errors[1] == "gone");
}

// Adam's eps is 1e-3, or the rounding of a gradient that is nothing else would move its weight by the whole rate.
TEST_CASE("two ranks that sum by NCCL stay equal and take the steps of two that sum on the host", "[cuda][nccl]") {
  if (!enough_devices(2)) return;
  const Workshop shop;
  const TrainingSet set = scored_set(shop.file("a"), 12);
  TrainerOptions options = tiny_options();
  options.shards = 2;
  options.schedule = {1e-3, 0, 0.0};
  options.optimizer.eps = 1e-3;
  std::vector<std::vector<float>> by_nccl(2), by_host(2);
  for (const bool on_devices : {true, false}) {
    const auto errors = run_ranks(2, [&](int rank, HallRank& host) {
      Context ctx = context_of(rank);
      std::unique_ptr<NcclCommunicator> nccl;
      if (on_devices) nccl = std::make_unique<NcclCommunicator>(ctx, host, 60);
      Trainer trainer(ctx, Model<float>::create(ctx, tiny_config(), 5), {set}, options,
                      on_devices ? static_cast<Communicator*>(nccl.get()) : &host);
      for (int i = 0; i < 3; ++i) trainer.step();
      (on_devices ? by_nccl : by_host)[static_cast<std::size_t>(rank)] = state_values(trainer.model());
    });
    CHECK(errors == std::vector<std::string>(2));
  }
  CHECK(largest_difference(by_nccl[0], by_nccl[1]) == 0);
  CHECK(largest_difference(by_host[0], by_host[1]) == 0);
  // Gradients that agree to 1e-5 (at most 1 after clipping) over eps are 0.01 of a step; three steps, twice that.
  CHECK(largest_difference(by_nccl[0], by_host[0]) <= 3 * 2 * 0.01 * options.schedule.rate);
}

#endif  // PROMPTIQA_NCCL
