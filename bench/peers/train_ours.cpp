// promptiqa's side of the comparison of training steps: whole steps of the compact model on request, as examples/train
// does them: forward, backward, clipping, AdamW, moving average. train.py drives it.
// Surprising choice: as in ours.cpp, it waits for a line on its standard input before every step, so that the libraries
// take turns.
#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <exception>
#include <iostream>
#include <string>
#include <vector>

#include <promptiqa/core/tape.hpp>
#include <promptiqa/model.hpp>
#include <promptiqa/train.hpp>

#include "service.hpp"

namespace {

using namespace promptiqa;
using bench_peers::print;
using bench_peers::read;

constexpr std::int64_t group_size = 11;

int serve(const std::string& weights, const std::string& io, int threads, const std::string& precision) {
  const Precision wanted = precision == "bf16" ? Precision::bf16 : Precision::fp32;
  std::string notice;
  const CpuBackend backend = cpu_backend(wanted, &notice);
  if (!notice.empty()) {
    print({{"unavailable", notice}});
    return 0;
  }
  Context ctx = Context::cpu(threads, backend);
  ModelOptions options;
  options.training = true;
  Model<float> model = Model<float>::load(ctx, weights, options);

  const TensorFile file = read_tensor_file(io);
  const Tensor<float> nchw = read(ctx, file, "image"), scores = read(ctx, file, "score");
  const std::int64_t rows = scores.numel();  // of all requirements
  BatchTensors batch;
  batch.group = group_size;
  batch.scores = scores.reshape({rows, 1});
  batch.weighted_scores = scores.reshape({rows});
  batch.weights = ctx.full<float>(Shape{rows}, 1.0f);

  std::vector<TrainableTensor> parameters;
  for (auto& parameter : model.parameters()) parameters.push_back({parameter.name, parameter.value});
  OptimizerOptions adamw;
  Optimizer optimizer(ctx, parameters, adamw);
  WeightAverage average(ctx, model);
  const AuxiliaryHead no_head;

  std::int64_t steps = 0;
  const auto step = [&] {
    ctx.set_random_state(0, static_cast<std::uint64_t>(steps++) << 20);
    Tape tape;
    const TapeScope recording(ctx, &tape);
    for (const TrainableTensor& parameter : parameters) tape.watch(parameter.value);
    const BatchLoss loss = batch_loss(ctx, model, no_head, nchw, batch, 0);
    tape.backward(ctx, loss.total);
    std::vector<Tensor<float>> gradients;
    for (const TrainableTensor& parameter : parameters) gradients.push_back(tape.gradient(parameter.value));
    const double norm = global_norm(ctx, gradients);
    optimizer.step(ctx, gradients, 1e-4, clipping_scale(norm, 1));
    model.count_training_batch();
    average.update(ctx, model, 0.998);
    return static_cast<double>(loss.prompt.item());
  };

  print({{"backend", ctx.kernels<float>().name}, {"threads", threads}});
  step();
  print({{"ready", true}});
  for (std::string line; std::getline(std::cin, line);) {
    const auto start = bench_peers::Clock::now();
    const double loss = step();
    const double seconds = bench_peers::seconds_since(start);
    if (!std::isfinite(loss)) throw Error("the loss is not finite");
    print({{"seconds", seconds}, {"score", {loss}}, {"peak_mb", bench_peers::peak_mb()}});
  }
  return 0;
}

}  // namespace

int main(int argc, char** argv) {
  try {
    if (argc == 5) return serve(argv[1], argv[2], std::max(1, std::atoi(argv[3])), argv[4]);
    std::cerr << "usage: bench_peers_train WEIGHTS IO THREADS fp32|bf16\n";
    return 2;
  } catch (const std::exception& error) {
    print({{"error", error.what()}});
    std::cerr << "bench_peers_train: " << error.what() << "\n";
    return 2;
  }
}
