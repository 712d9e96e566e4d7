// The golden checks of a model on one Context: training pass with all gradients, evaluation pass with and without
// rewrites; for the CPU's backends and for devices.
// Surprising choice: the double tolerance is the rounding of the stored float32 values, nothing more.
#pragma once

#include <algorithm>
#include <string>
#include <vector>

#include <promptiqa/core/tape.hpp>
#include <promptiqa/model.hpp>
#include <promptiqa/ops/all.hpp>

#include "catch.hpp"
#include "golden.hpp"

namespace golden {

using namespace promptiqa;

// Gradients that are zero in exact arithmetic (model.md section 5); float32 PyTorch gives noise up to 8.1e-8 there.
inline bool is_zero_gradient(const std::string& name) {
  const auto ends = [&](const std::string& end) {
    return name.size() >= end.size() && name.compare(name.size() - end.size(), end.size(), end) == 0;
  };
  return ends("kConv.bias") || ends("c_k.bias") || name == "block.mlp.fc2.bias" || name == "cnn.0.bias" ||
         name == "cnn.4.bias" || name == "cnn.8.bias";
}

template <class T>
struct Tolerance {
  double output, gradient, gradient_median, zero;
};

// In double only the storage as float32 differs (half an ulp, 6e-8) and, for zero gradients, double's own noise.
template <class T>
Tolerance<T> tolerance(const File& file) {
  if constexpr (std::is_same_v<T, double>)
    return {1e-7, 1e-7, 1e-7, 1e-14};
  else
    return {4 * file.output_deviation, 4 * file.gradient_deviation, 4 * file.gradient_median, 4 * 8.1e-8};
}

// Compares each traced tensor with "out.<pass>.<name>"; returns how many golden tensors of the pass were met.
template <class T>
std::size_t compare_trace(Context& ctx, const TensorFile& file, const std::string& pass, const Trace<T>& trace,
                          double tolerance) {
  std::size_t met = 0;
  for (const auto& entry : trace) {
    const std::string name = "out." + pass + "." + entry.first;
    if (!file.find(name)) continue;
    INFO(name);
    CHECK(deviation(entry.second, tensor<T>(ctx, file, name)) <= tolerance);
    ++met;
  }
  return met;
}

inline std::size_t count_prefix(const TensorFile& file, const std::string& prefix) {
  std::size_t count = 0;
  for (const NamedTensor& tensor : file.tensors) count += tensor.name.rfind(prefix, 0) == 0;
  return count;
}

template <class T>
void check_training(Context& ctx, const File& which) {
  const TensorFile file = read(which.name);
  const Tolerance<T> allowed = tolerance<T>(which);
  ModelOptions options;
  options.training = true;
  auto model = Model<T>::from_tensors(ctx, weights_of(file), options);
  const Tensor<T> images = tensor<T>(ctx, file, "in.train.image");
  const Tensor<T> scores = tensor<T>(ctx, file, "in.train.score");

  Tape tape;
  Trace<T> trace;
  Tensor<T> loss;
  {
    const TapeScope recording(ctx, &tape);
    for (const auto& parameter : model.parameters()) tape.watch(parameter.value);
    const Tensor<T> predicted = model.training_forward(ctx, images, scores, &trace);
    loss = l1_loss(ctx, predicted, scores.reshape({-1}));
  }
  tape.backward(ctx, loss);

  trace["loss"] = loss;
  CHECK(compare_trace(ctx, file, "train", trace, allowed.output) == count_prefix(file, "out.train."));

  std::size_t gradients = 0;
  std::vector<double> deviations;
  for (const auto& parameter : model.parameters()) {
    INFO("grad." << parameter.name);
    const Tensor<T> expected = tensor<T>(ctx, file, "grad." + parameter.name);
    const Tensor<T> found = tape.gradient(parameter.value);
    REQUIRE(found);
    if (is_zero_gradient(parameter.name)) {
      CHECK(largest(found) <= allowed.zero);
    } else {
      deviations.push_back(deviation(found, expected));
      CHECK(deviations.back() <= allowed.gradient);
    }
    ++gradients;
  }
  std::nth_element(deviations.begin(), deviations.begin() + static_cast<std::ptrdiff_t>(deviations.size() / 2),
                   deviations.end());
  CHECK(deviations[deviations.size() / 2] <= allowed.gradient_median);
  CHECK(gradients == count_prefix(file, "grad."));

  std::size_t statistics = 0;
  for (const auto& entry : model.state()) {
    const std::string name = "after." + entry.name;
    if (!entry.value) CHECK(entry.counter == 8);  // 7 in the file, one batch more
    if (!file.find(name)) continue;
    INFO(name);
    CHECK(deviation(entry.value, tensor<T>(ctx, file, name)) <= allowed.output);
    ++statistics;
  }
  CHECK(statistics == count_prefix(file, "after."));
}

template <class T>
void check_evaluation(Context& ctx, const File& which, bool rewrites) {
  const TensorFile file = read(which.name);
  const double allowed = tolerance<T>(which).output;
  const auto model = Model<T>::from_tensors(ctx, weights_of(file));
  Trace<T> prompt_trace, query_trace;
  Pass<T> pass;
  pass.rewrites = rewrites;

  pass.trace = &prompt_trace;
  const Tensor<T> feature = model.image_features(ctx, tensor<T>(ctx, file, "in.prompt.image"), pass);
  const Tensor<T> prompts = model.prompt_features(ctx, feature, tensor<T>(ctx, file, "in.prompt.score"), pass);
  const std::size_t met = compare_trace(ctx, file, "prompt", prompt_trace, allowed);
  if (!rewrites) CHECK(met == count_prefix(file, "out.prompt."));
  CHECK(met >= 5);

  pass.trace = &query_trace;
  const Tensor<T> query = model.image_features(ctx, tensor<T>(ctx, file, "in.query.image"), pass);
  const Tensor<T> both = expand(ctx, prompts.reshape({1, prompts.dim(0), prompts.dim(1)}), 0, query.dim(0));
  const Tensor<T> logit = model.logits(ctx, query, model.fuse_prompt(ctx, both, pass), pass);
  query_trace["score"] = sigmoid(ctx, logit);
  const std::size_t met_query = compare_trace(ctx, file, "query", query_trace, allowed);
  if (!rewrites) CHECK(met_query == count_prefix(file, "out.query."));
  CHECK(met_query >= 5);

  pass.trace = nullptr;
  const Tensor<T> train = model.image_features(ctx, tensor<T>(ctx, file, "in.train.image"), pass);
  const Tensor<T> scores = model.leave_one_out(ctx, train, tensor<T>(ctx, file, "in.train.score"), pass);
  CHECK(deviation(scores, tensor<T>(ctx, file, "out.evalfwd.score")) <= allowed);
}

}  // namespace golden
