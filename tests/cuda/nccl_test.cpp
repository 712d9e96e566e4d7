// Ranks with a device each, summing by NCCL: whole steps of the Trainer against the way through the host and against
// one process; who is refused; what happens when a rank is gone.
// Surprising choice: the emulated devices share one memory; what a rank may touch is told by the pool it came from.
#include <chrono>
#include <condition_variable>
#include <mutex>
#include <span>
#include <string>
#include <vector>

#include <promptiqa/train/nccl_communicator.hpp>

#include "emulated.hpp"
#include "train/ranks.hpp"
#include "train/training_fixture.hpp"

using namespace promptiqa_test;

namespace {

/// While it lives there are so many emulated devices.
struct Devices {
  explicit Devices(int count) { emulation::devices = count; }
  ~Devices() { emulation::devices = 1; }
  Devices(const Devices&) = delete;
  Devices& operator=(const Devices&) = delete;
};

Context context_of(int device) { return make_cuda_context(device, std::make_shared<ThreadPool>(1)); }

TrainerOptions small_options() {
  TrainerOptions options = tiny_options();
  options.groups = 1;
  options.shards = 2;
  options.sampler.group_size = 3;
  options.sampler.requirements = 2;
  options.schedule = {1e-3, 0, 0.0};
  options.clip_norm = 0.5;
  return options;
}

ModelConfig small_config() {
  ModelConfig config = tiny_config();
  config.drop = 0.2;
  config.vit_depth = 1, config.taps = {0}, config.num_mals = 1;
  return config;
}

/// What a rank has after some steps.
struct Outcome {
  std::vector<double> reports;
  std::vector<float> weights, averages;
  bool operator==(const Outcome& other) const {
    return reports == other.reports && weights == other.weights && averages == other.averages;
  }
};

Outcome train(Context& ctx, const TrainingSet& set, Communicator* communicator) {
  Trainer trainer(ctx, Model<float>::create(ctx, small_config(), 5), {set}, small_options(), communicator);
  Outcome outcome;
  for (int i = 0; i < 2; ++i) {
    const StepReport report = trainer.step();
    outcome.reports.insert(outcome.reports.end(), {report.prompt_loss, report.auxiliary_loss, report.gradient_norm});
  }
  outcome.weights = state_values(trainer.model());
  outcome.averages = state_values(trainer.averaged_model());
  return outcome;
}

}  // namespace

// All three are equal to the bit: a shard's gradient is the same wherever it is computed, and each sum is formed in the
// order of the shards, by whoever forms it. NCCL itself has an order of its own, so on devices that is a matter of
// rounding.
TEST_CASE("two ranks that sum by NCCL take the steps of two that sum on the host, and of one process", "[cuda][nccl]") {
  const Workshop shop;
  const Devices two(2);
  const TrainingSet set = scored_set(shop.file("a"), 12);
  std::vector<Outcome> by_nccl(2), by_host(2);
  std::vector<int> float_sums(2);
  const auto run = [&](bool nccl, std::vector<Outcome>& outcomes) {
    return run_ranks(2, [&, nccl](int rank, HallRank& host) {
      Context ctx = context_of(rank);
      const auto r = static_cast<std::size_t>(rank);
      if (nccl) {
        NcclCommunicator communicator(ctx, host, 120);
        outcomes[r] = train(ctx, set, &communicator);
        float_sums[r] = host.float_sums;
      } else {
        outcomes[r] = train(ctx, set, &host);
      }
    });
  };
  const std::vector<std::string> nothing(2);
  REQUIRE(run(true, by_nccl) == nothing);
  REQUIRE(run(false, by_host) == nothing);
  Context alone = context_of(0);
  const Outcome single = train(alone, set, nullptr);

  CHECK(float_sums == std::vector<int>{0, 0});  // no gradient went through the host
  for (double x : single.reports) CHECK(std::isfinite(x));
  CHECK(largest_difference(single.weights, single.weights) == 0);  // finite
  CHECK(single.reports[2] > small_options().clip_norm);            // clipping is at work
  CHECK(largest_difference(single.weights, state_values(Model<float>::create(alone, small_config(), 5))) > 1e-4);
  CHECK(by_nccl[0] == by_nccl[1]);
  CHECK(by_nccl[0] == by_host[0]);
  CHECK(by_host[0] == by_host[1]);
  CHECK(by_nccl[0] == single);
}

TEST_CASE("tensors are summed in place, empty ones and shared memory included", "[cuda][nccl]") {
  const Devices three(3);
  std::vector<std::vector<std::vector<float>>> results(3);
  std::vector<int> facts;
  const auto errors = run_ranks(3, [&](int rank, HallRank& host) {
    Context ctx = context_of(rank), other = context_of(rank);
    NcclCommunicator nccl(ctx, host, 120);
    // In the order of the ranks: (1e8 + 1) - 1e8 = 0 in float; any other order gives 1.
    const float first[] = {1e8f, 1.0f, -1e8f};
    const auto f = static_cast<float>(rank + 1);
    const Tensor<float> shared = ctx.from<float>(Shape{2}, {f, 10 * f});
    std::vector<Tensor<float>> tensors = {ctx.from<float>(Shape{3}, {first[rank], f, -f}), Tensor<float>(), shared,
                                          shared.reshape({2, 1}), ctx.zeros<float>(Shape{0})};
    const float* address = tensors[0].data();
    nccl.sum_tensors(ctx, tensors);
    const bool in_place = tensors[0].data() == address;
    auto& result = results[static_cast<std::size_t>(rank)];
    for (const Tensor<float>& tensor : tensors) result.push_back(tensor.host());
    tensors = {ctx.full<float>(Shape{1}, f)};
    nccl.sum_tensors(other, tensors);  // another context of the same device
    result.push_back(tensors[0].host());
    nccl.sum_tensors(ctx, {});
    double numbers[] = {static_cast<double>(f)};
    nccl.sum(std::span<double>(numbers));
    float floats[] = {2 * f};
    nccl.sum(std::span<float>(floats));
    if (rank == 2)
      facts = {in_place,
               nccl.rank(),
               nccl.size(),
               nccl.local_rank(),
               static_cast<int>(numbers[0]),
               static_cast<int>(floats[0]),
               tensors[0].device() == Device::cuda};
  });
  CHECK(errors == std::vector<std::string>(3));
  CHECK(facts == std::vector<int>{1, 2, 3, 12, 6, 12, 1});
  for (const auto& result : results) {
    REQUIRE(result.size() == 6);
    CHECK(result[0] == std::vector<float>{0, 6, -6});
    CHECK(result[1].empty());
    CHECK(result[2] == std::vector<float>{6, 60});
    CHECK(result[3] == std::vector<float>{6, 60});
    CHECK(result[4].empty());
    CHECK(result[5] == std::vector<float>{6});
  }
}

TEST_CASE("what cannot be summed by NCCL is refused by name", "[cuda][nccl]") {
  const Devices three(3);
  SECTION("two ranks with one device") {
    const auto errors = run_ranks(3, [&](int rank, HallRank& host) {
      Context ctx = context_of(rank == 2 ? 0 : rank);
      NcclCommunicator nccl(ctx, host, 120);
    });
    for (const std::string& error : errors)
      CHECK(error ==
            "TrainingError: nccl: expected a device for each of the 3 ranks, but ranks 0 and 2 have the same one, "
            "GPU-e0000000-0000-0000-0000-000000000000");
  }
  SECTION("one rank, or a context of the CPU") {
    Context ctx = context_of(0), cpu = Context::cpu(1);
    SingleProcess single;
    CHECK_THROWS_AS(NcclCommunicator(ctx, single), TrainingError);
    CHECK_THROWS_WITH(NcclCommunicator(ctx, single), ContainsSubstring("expected at least 2 ranks, got 1"));
    CHECK_THROWS_AS(NcclCommunicator(cpu, single), CudaError);
    CHECK_THROWS_WITH(NcclCommunicator(cpu, single), ContainsSubstring("expected a CUDA context, got one of the CPU"));
  }
  SECTION("tensors and contexts of other devices") {
    std::vector<std::vector<std::string>> refusals(2);
    const auto errors = run_ranks(2, [&](int rank, HallRank& host) {
      Context ctx = context_of(rank), other = context_of(2), cpu = Context::cpu(1);
      NcclCommunicator nccl(ctx, host, 120);
      const auto refused = [&](Context& used, std::vector<Tensor<float>> tensors) {
        try {
          nccl.sum_tensors(used, tensors);
          refusals[static_cast<std::size_t>(rank)].push_back("not refused");
        } catch (const CudaError& error) {
          refusals[static_cast<std::size_t>(rank)].push_back(error.what());
        }
      };
      const Tensor<float> ours = ctx.full<float>(Shape{2}, 1);
      refused(cpu, {ours});
      refused(other, {ours});
      refused(ctx, {ours, cpu.full<float>(Shape{4, 2}, 1)});
      refused(ctx, {ours, other.full<float>(Shape{3}, 1)});
      std::vector<Tensor<float>> tensors = {ours};
      nccl.sum_tensors(ctx, tensors);  // nothing of this has hurt
      refusals[static_cast<std::size_t>(rank)].push_back(std::to_string(tensors[0].host()[1]));
    });
    CHECK(errors == std::vector<std::string>(2));
    CHECK(refusals[1] == std::vector<std::string>{
                             "nccl: expected a context of CUDA device 1, got one of the CPU",
                             "nccl: expected a context of CUDA device 1, got one of CUDA device 2",
                             "nccl: expected tensors of CUDA device 1, got tensor 1 of shape (4, 2) on the CPU",
                             "nccl: expected tensors of CUDA device 1, got tensor 1 of shape (3) on CUDA device 2",
                             std::to_string(2.0f)});
  }
  SECTION("in a graph") {
    const auto errors = run_ranks(2, [&](int rank, HallRank& host) {
      Context ctx = context_of(rank);
      NcclCommunicator nccl(ctx, host, 120);
      std::vector<Tensor<float>> tensors = {ctx.full<float>(Shape{1}, 1)};
      CudaGraph::capture(ctx, [&](Context& c) { nccl.sum_tensors(c, tensors); });
    });
    for (const std::string& error : errors)
      CHECK_THAT(error, ContainsSubstring("CudaError: graph: ranks sum while launches are captured"));
  }
}

TEST_CASE("a rank that is gone ends the others with a message", "[cuda][nccl]") {
  const Devices two(2);
  SECTION("it fails while the other waits for it; what comes later fails at once") {
    std::string later;
    const auto errors = run_ranks(2, [&](int rank, HallRank& host) {
      Context ctx = context_of(rank);
      NcclCommunicator nccl(ctx, host, 120);
      std::vector<Tensor<float>> tensors = {ctx.full<float>(Shape{2}, 1)};
      nccl.sum_tensors(ctx, tensors);
      if (rank == 1) throw Error("out of memory, say");
      try {
        nccl.sum_tensors(ctx, tensors);
      } catch (const TrainingError&) {
        try {
          nccl.sum_tensors(ctx, tensors);
        } catch (const TrainingError& error) {
          later = error.what();
        }
        throw;
      }
    });
    CHECK(errors[0] == "TrainingError: nccl: ncclAllReduce on rank 0 of 2: another rank is gone");
    CHECK(errors[1] == "out of memory, say");
    CHECK_THAT(later, ContainsSubstring("lost each other before"));
  }
  SECTION("it does not come to a sum") {
    std::mutex mutex;
    std::condition_variable changed;
    bool over = false;
    const auto errors = run_ranks(2, [&](int rank, HallRank& host) {
      Context ctx = context_of(rank);
      NcclCommunicator nccl(ctx, host, 3);  // seconds: enough for both to connect on a busy machine
      std::vector<Tensor<float>> tensors = {ctx.full<float>(Shape{2}, 1)};
      std::unique_lock<std::mutex> lock(mutex);
      if (rank == 0) {
        lock.unlock();
        try {
          nccl.sum_tensors(ctx, tensors);
        } catch (...) {
          lock.lock();
          over = true;
          changed.notify_all();
          throw;
        }
      } else if (!changed.wait_for(lock, std::chrono::seconds(120), [&] { return over; })) {
        throw Error("rank 0 waits for ever");
      }
    });
    CHECK(errors[0] == "TrainingError: nccl: ncclAllReduce on rank 0 of 2: the other ranks did not come");
    CHECK(errors[1].empty());
  }
  SECTION("it never connects") {
    struct Absent final : Communicator {  // answers for the other rank on the host only
      int rank() const override { return 0; }
      int size() const override { return 2; }
      void sum(std::span<float>) override {}
      void sum(std::span<double>) override {}
    };
    Absent host;
    Context ctx = context_of(1);
    CHECK_THROWS_AS(NcclCommunicator(ctx, host, 0.1), TrainingError);
    CHECK_THROWS_WITH(NcclCommunicator(ctx, host, 0.1), ContainsSubstring("ncclCommInitRankConfig on rank 0 of 2"));
  }
  SECTION("ranks that do not agree on the tensors") {
    const auto errors = run_ranks(2, [&](int rank, HallRank& host) {
      Context ctx = context_of(rank);
      NcclCommunicator nccl(ctx, host, 120);
      std::vector<Tensor<float>> tensors = {ctx.full<float>(Shape{2 + rank}, 1)};
      nccl.sum_tensors(ctx, tensors);
    });
    CHECK((errors[0] + errors[1]).find("the ranks' tensors differ in size") != std::string::npos);
    CHECK_FALSE(errors[0].empty());
    CHECK_FALSE(errors[1].empty());
  }
}
