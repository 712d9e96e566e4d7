// The training loss against the definition, the optimiser's groups, clipping, the averaged weights.
// Surprising choice: the loss of many groups under many requirements at once is compared with one leave-one-out pass
// for each, in evaluation of the same numbers.
#include <promptiqa/core/tape.hpp>
#include <promptiqa/ops/all.hpp>

#include "training_fixture.hpp"

using namespace promptiqa_test;

namespace {

struct Batch {
  std::vector<GroupPlan> plans;
  Tensor<float> nchw;
};

Batch make_batch(Context& ctx, GroupSampler& sampler, int groups, std::int64_t b) {
  Batch batch;
  std::vector<BatchPicture> pictures;
  for (int g = 0; g < groups; ++g) {
    batch.plans.push_back(sampler.next());
    pictures.insert(pictures.end(), batch.plans.back().pictures.begin(), batch.plans.back().pictures.end());
  }
  std::vector<float> values(pictures.size() * 3 * 32 * 32);
  pictures_to_nchw(pictures, values.data());
  batch.nchw = ctx.from<float>(Shape{groups * b, 3, 32, 32}, std::span<const float>(values));
  return batch;
}

}  // namespace

TEST_CASE("leave-one-out in groups is leave-one-out of each group", "[train]") {
  Context ctx = Context::cpu(1);
  const Model<float> model = Model<float>::create(ctx, tiny_config(), 1);
  RandomStream random{1, 0};
  std::vector<float> f(12 * 16), s(12);
  for (float& v : f) v = static_cast<float>(random.uniform(-1, 1));
  for (float& v : s) v = static_cast<float>(random.uniform());
  const Tensor<float> feature = ctx.from<float>(Shape{12, 16}, std::span<const float>(f));
  const Tensor<float> scores = ctx.from<float>(Shape{12, 1}, std::span<const float>(s));
  const Tensor<float> together = model.leave_one_out(ctx, feature, scores, {}, 4);
  for (int g = 0; g < 3; ++g) {
    const Tensor<float> alone =
        model.leave_one_out(ctx, slice(ctx, feature, 0, 4 * g, 4 * g + 4), slice(ctx, scores, 0, 4 * g, 4 * g + 4));
    for (int i = 0; i < 4; ++i)
      // Products of other sizes may round differently: some eps of numbers below 1.
      CHECK(std::abs(static_cast<double>(together.values()[static_cast<std::size_t>(4 * g + i)] -
                                         alone.values()[static_cast<std::size_t>(i)])) < 2e-6);
  }
  CHECK_THROWS_AS(model.leave_one_out(ctx, feature, scores, {}, 5), ShapeError);
  CHECK_THROWS_AS(model.leave_one_out(ctx, feature, scores, {}, 1), ShapeError);
}

TEST_CASE("the batch loss is the weighted mean over groups, requirements and known labels", "[train]") {
  const Workshop shop;
  Context ctx = Context::cpu(1);
  ModelConfig config = tiny_config();
  config.drop = 0;
  SamplerOptions options;
  options.group_size = 5;
  GroupSampler sampler({scored_set(shop.file("a")), synthetic_set(shop.file("b"))}, options, 4);
  const Model<float> model = Model<float>::create(ctx, config, 2);
  const AuxiliaryHead head = AuxiliaryHead::create(ctx, config.prompt_dim, sampler, 3);
  CHECK(head.importance == std::vector<float>{3, 1, 1, 1, 1});
  Batch batch = make_batch(ctx, sampler, 4, 5);
  const BatchLoss loss =
      batch_loss(ctx, model, head, batch.nchw, BatchTensors::make(ctx, batch.plans, head.importance), 0.5);

  Pass<float> pass;
  pass.training = true;
  const Tensor<float> feature = model.image_features(ctx, batch.nchw, pass);
  double prompt = 0, auxiliary = 0, importance = 0;
  for (int g = 0; g < 4; ++g) {
    const GroupPlan& plan = batch.plans[static_cast<std::size_t>(g)];
    const Tensor<float> own = slice(ctx, feature, 0, 5 * g, 5 * g + 5);
    for (std::size_t r = 0; r < 3; ++r) {
      const Tensor<float> scores = ctx.from<float>(Shape{5, 1}, std::span<const float>(plan.scores[r]));
      const Tensor<float> predicted = model.leave_one_out(ctx, own, scores, pass);
      for (std::size_t i = 0; i < 5; ++i)
        prompt += static_cast<double>(plan.weights[r]) *
                  std::abs(static_cast<double>(predicted.values()[i] - plan.scores[r][i])) / 60;
    }
    for (std::size_t i = 0; i < 5; ++i)
      for (std::size_t k = 0; k < 5; ++k) {
        const double label = static_cast<double>(plan.known[k][i]);
        if (std::isnan(label)) continue;
        double predicted = static_cast<double>(head.bias.values()[k]);
        for (std::size_t m = 0; m < 16; ++m)
          predicted +=
              static_cast<double>(head.weight.values()[k * 16 + m]) * static_cast<double>(own.values()[i * 16 + m]);
        auxiliary += static_cast<double>(head.importance[k]) * std::abs(predicted - label);
        importance += static_cast<double>(head.importance[k]);
      }
  }
  CHECK(importance > 0);
  CHECK(static_cast<double>(loss.prompt.item()) == Approx(prompt));
  CHECK(static_cast<double>(loss.auxiliary.item()) == Approx(auxiliary / importance));
  CHECK(static_cast<double>(loss.total.item()) == Approx(prompt + 0.5 * auxiliary / importance));
  const BatchLoss without =
      batch_loss(ctx, model, head, batch.nchw, BatchTensors::make(ctx, batch.plans, head.importance), 0);
  CHECK(!without.auxiliary);
  CHECK(without.total.item() == without.prompt.item());
}

TEST_CASE("the optimiser decays what it should", "[train]") {
  Context ctx = Context::cpu(1);
  for (const bool vectors : {false, true}) {
    for (const OptimizerKind kind : {OptimizerKind::adam, OptimizerKind::adamw}) {
      OptimizerOptions options;
      options.kind = kind;
      options.weight_decay = 0.5;
      options.decay_vectors = vectors;
      const Tensor<float> matrix = ctx.full<float>(Shape{2, 3}, 2.0f), vector = ctx.full<float>(Shape{3}, 2.0f),
                          untouched = ctx.full<float>(Shape{2, 2}, 2.0f);
      Optimizer optimizer(ctx, {{"matrix", matrix}, {"vector", vector}, {"untouched", untouched}}, options);
      const std::vector<Tensor<float>> gradients = {ctx.zeros<float>(Shape{2, 3}), ctx.zeros<float>(Shape{3}), {}};
      optimizer.step(ctx, gradients, 0.01);
      // Without a gradient AdamW shrinks by rate * decay, and Adam takes the decay for a gradient: a step of the rate.
      const double moved = kind == OptimizerKind::adamw ? 2 * (1 - 0.01 * 0.5) : 2 - 0.01;
      CHECK(static_cast<double>(matrix.values()[0]) == Approx(moved));
      CHECK(static_cast<double>(vector.values()[0]) == Approx(vectors ? moved : 2.0));
      CHECK(untouched.values()[0] == 2.0f);
      CHECK(optimizer.steps() == 1);
      CHECK_THROWS_AS(optimizer.step(ctx, std::span<const Tensor<float>>(gradients).first(2), 0.01), ShapeError);
    }
  }
}

TEST_CASE("Adam finds the bottom of a bowl", "[train]") {
  Context ctx = Context::cpu(1);
  Tensor<float> x = ctx.from<float>(Shape{1, 2}, {3.0f, -2.0f});
  const Tensor<float> target = ctx.from<float>(Shape{1, 2}, {0.5f, 0.25f});
  OptimizerOptions options;
  options.weight_decay = 0;
  Optimizer optimizer(ctx, {{"x", x}}, options);
  for (int i = 0; i < 600; ++i) {
    const std::vector<Tensor<float>> gradient = {subtract(ctx, x, target)};
    optimizer.step(ctx, gradient, 0.02);
  }
  CHECK(std::abs(static_cast<double>(x.values()[0]) - 0.5) < 0.01);
  CHECK(std::abs(static_cast<double>(x.values()[1]) - 0.25) < 0.01);
}

TEST_CASE("the global norm covers all gradients and clipping brings it down", "[train]") {
  Context ctx = Context::cpu(1);
  const std::vector<Tensor<float>> gradients = {
      ctx.full<float>(Shape{2, 2}, 3.0f), {}, ctx.full<float>(Shape{4}, 4.0f)};
  CHECK(global_norm(ctx, gradients) == Approx(10.0));
  CHECK(clipping_scale(10, 2) == Approx(0.2));
  CHECK(clipping_scale(1, 2) == 1.0);
  CHECK(clipping_scale(10, 0) == 1.0);
}

TEST_CASE("averaged weights follow the model, running statistics too", "[train]") {
  Context ctx = Context::cpu(1);
  const Model<float> start = Model<float>::create(ctx, tiny_config(), 1),
                     other = Model<float>::create(ctx, tiny_config(), 2);
  WeightAverage average(ctx, start);
  average.update(ctx, other, 0.9);
  // The first update keeps min(0.9, 2 / 11) of what was there.
  const std::vector<float> a = state_values(start), b = state_values(other),
                           c = state_values(average.make_model(ctx, start));
  REQUIRE(a.size() == c.size());
  double worst = 0;
  for (std::size_t i = 0; i < a.size(); ++i)
    worst = std::max(worst, std::abs(static_cast<double>(c[i]) -
                                     (static_cast<double>(a[i]) * 2 / 11 + static_cast<double>(b[i]) * 9 / 11)));
  CHECK(worst < 1e-6);
  for (int i = 0; i < 200; ++i) average.update(ctx, other, 0.9);
  CHECK(largest_difference(state_values(average.make_model(ctx, start)), b) < 1e-6);  // 0.9^120 after the ramp of 80
  CHECK(average.updates() == 201);
}

TEST_CASE("a copied model shares nothing", "[train]") {
  Context ctx = Context::cpu(1);
  Model<float> model = Model<float>::create(ctx, tiny_config(), 1);
  Model<float> copy = copy_model(ctx, model);
  CHECK(largest_difference(state_values(model), state_values(copy)) == 0);
  copy.parameters()[0].value.mutable_data()[0] += 1;
  CHECK(largest_difference(state_values(model), state_values(copy)) == Approx(1));
}
