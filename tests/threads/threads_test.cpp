// One model scored from eight threads at once.
// Surprising choice: the products of weights are formed in the middle of it, by whichever thread gets there; assertions
// come after joining, because Catch2 v2 is not thread-safe.
#include <promptiqa/model.hpp>

#include <cmath>
#include <thread>

#include "catch.hpp"
#include "golden.hpp"

using namespace promptiqa;

TEST_CASE("eight threads score with one model", "[threads]") {
  constexpr int threads = 8, rounds = 12;
  Context ctx = Context::cpu(2);
  const TensorFile file = golden::read("tiny");
  const auto model = Model<float>::from_tensors(ctx, golden::weights_of(file));
  ModelOptions options;
  options.merge_products = false;
  const auto reference = Model<float>::from_tensors(ctx, golden::weights_of(file), options);
  std::vector<Image> images;
  for (int i = 0; i < 6; ++i) {
    std::vector<std::uint8_t> pixels(20 * 20 * 3);
    for (std::size_t j = 0; j < pixels.size(); ++j) pixels[j] = static_cast<std::uint8_t>((j * (7 + i) + 13 * i) % 251);
    images.push_back(Image::from_vector(pixels, 20, 20, 3));
  }
  const std::vector<float> scores = {0.1f, 0.3f, 0.5f, 0.6f, 0.8f, 0.9f};
  const Prompt prompt = reference.encode_prompt(ctx, images, scores);
  const auto expected = reference.score(ctx, images, prompt);

  std::vector<double> worst(threads, INFINITY);
  std::vector<std::thread> workers;
  for (int t = 0; t < threads; ++t)
    workers.emplace_back([&, t] {
      // Half of them share one pool, half have their own.
      Context own = t % 2 ? Context::cpu(ctx.shared_pool()) : Context::cpu(2);
      double difference = 0;
      for (int r = 0; r < rounds; ++r) {
        const auto found = model.score(own, images, prompt);
        for (std::size_t i = 0; i < found.size(); ++i)
          difference = std::max(difference, static_cast<double>(std::abs(found[i].logit - expected[i].logit)));
        const Prompt again = model.with_scores(own, prompt, scores);
        difference = std::max(
            difference, static_cast<double>(std::abs(model.score(own, images[0], again).logit - expected[0].logit)));
      }
      worst[static_cast<std::size_t>(t)] = difference;
    });
  for (std::thread& worker : workers) worker.join();
  for (double difference : worst)
    CHECK(difference < 5e-5);  // rounding of float32 logits of size 1, 4 golden deviations
}
