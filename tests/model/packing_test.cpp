// What a model keeps packed follows the weights through training, a move and a failure to allocate.
// Surprising choice: a packed model is compared with the `eigen` backend, which reads the plain weights, so a stale
// packed copy shows as a difference far above rounding.
#include <promptiqa/core/tape.hpp>
#include <promptiqa/model.hpp>

#include <algorithm>
#include <atomic>
#include <cmath>
#include <cstdint>
#include <limits>
#include <memory>
#include <new>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "catch.hpp"

using namespace promptiqa;

namespace {

std::string compact_path() { return std::string(PROMPTIQA_SOURCE_DIR) + "/weights/promptiqa-compact.safetensors"; }

Tensor<float> waves(Context& ctx, std::int64_t batch, float speed) {
  Tensor<float> x = ctx.allocate<float>(Shape{batch, 3, 224, 224});
  for (std::int64_t i = 0; i < x.numel(); ++i) x.mutable_data()[i] = std::sin(static_cast<float>(i % 10007) * speed);
  return x;
}

// The largest difference; infinite for a NaN or another shape.
double difference(const Tensor<float>& a, const Tensor<float>& b) {
  if (a.shape() != b.shape()) return std::numeric_limits<double>::infinity();
  double worst = 0;
  for (std::int64_t i = 0; i < a.numel(); ++i) {
    const double d = std::abs(static_cast<double>(a.data()[i]) - static_cast<double>(b.data()[i]));
    worst = std::isfinite(d) ? std::max(worst, d) : std::numeric_limits<double>::infinity();
  }
  return worst;
}

constexpr double rounding = 1e-5;  // features are of size 1.6; measured between backends: 6e-7

// Memory that runs out when told to.
struct FailingPool : MemoryPool {
  static constexpr long no_end = 1l << 60;
  std::atomic<long> left{no_end};
  void* system_allocate(std::size_t bytes) override {
    if (left.fetch_sub(1) <= 0) throw std::bad_alloc();
    return MemoryPool::system_allocate(bytes);
  }
};

}  // namespace

TEST_CASE("a packed model that was trained is packed again from the new weights and statistics") {
  Context ctx = Context::cpu(2), plain = Context::cpu(2, CpuBackend::eigen);
  ModelOptions options;
  options.training = true;
  auto model = Model<float>::load(ctx, compact_path(), options);
  const Tensor<float> image = waves(ctx, 1, 0.37f);
  model.pack(ctx);
  const Tensor<float> before = model.image_features(ctx, image);
  CHECK(difference(before, model.image_features(plain, image)) < rounding);
  const Tensor<float> scores = ctx.from<float>(Shape{4, 1}, {0.1f, 0.3f, 0.6f, 0.9f});
  (void)model.training_forward(ctx, waves(ctx, 4, 0.11f), scores);  // moves the running statistics
  model.weights_changed();
  const Tensor<float> want = model.image_features(plain, image);
  CHECK(difference(before, want) > 100 * rounding);
  CHECK(difference(model.image_features(ctx, image), want) < rounding);
  model.pack(ctx);
  CHECK(difference(model.image_features(ctx, image), want) < rounding);
}

TEST_CASE("a model is packed though its context is gone and it was moved half way") {
  const Tensor<float> want = [] {
    Context ctx = Context::cpu(2);
    const auto model = Model<float>::load(ctx, compact_path());
    return model.image_features(ctx, waves(ctx, 1, 0.37f));
  }();
  std::unique_ptr<Model<float>> model;
  {
    Context gone = Context::cpu(2);
    model = std::make_unique<Model<float>>(Model<float>::load(gone, compact_path()));
  }
  Context ctx = Context::cpu(2);
  const Tensor<float> image = waves(ctx, 1, 0.37f);
  const Tensor<float> first = model->image_features(ctx, image);
  const Model<float> moved = std::move(*model);
  CHECK(difference(first, want) == 0);
  CHECK(difference(moved.image_features(ctx, image), want) == 0);
}

TEST_CASE("no memory while weights are packed leaves a model that works when there is some") {
  Context plain = Context::cpu(2);
  const Tensor<float> image = waves(plain, 1, 0.37f);
  const Tensor<float> want = Model<float>::load(plain, compact_path()).image_features(plain, image);
  int failures = 0;
  for (const long allocations : {0, 1, 2, 3, 5, 8, 13, 21, 34, 55}) {
    const auto memory = std::make_shared<FailingPool>();
    Context ctx = Context::on_device({Device::cpu, nullptr, memory, &cpu_kernel_table<float>(CpuBackend::automatic),
                                      &cpu_kernel_table<double>(CpuBackend::automatic)},
                                     plain.shared_pool());
    const auto model = Model<float>::load(ctx, compact_path());
    memory->left = allocations;
    try {
      (void)model.image_features(ctx, image);
    } catch (const std::bad_alloc&) {
      ++failures;
    }
    memory->left = FailingPool::no_end;
    INFO("after " << allocations << " allocations");
    CHECK(difference(model.image_features(ctx, image), want) == 0);
  }
  CHECK(failures >= 5);
}

TEST_CASE("a value made once is made by one thread, and tried again after a failure") {
  for (int round = 0; round < 50; ++round) {
    int calls = 0;  // made under MadeOnce's own lock
    auto held = std::make_shared<int>(7);
    const std::weak_ptr<int> watch = held;
    const MadeOnce<int> value([&calls, held] {
      if (++calls < 3) throw std::bad_alloc();
      return *held;
    });
    held.reset();
    std::atomic<int> failures{0}, right{0};
    std::vector<std::thread> threads;
    for (int t = 0; t < 4; ++t)
      threads.emplace_back([&] {
        for (;;) try {
            right += value.get() == 7;
            return;
          } catch (const std::bad_alloc&) {
            ++failures;
          }
      });
    for (std::thread& thread : threads) thread.join();
    CHECK(right == 4);
    CHECK(failures == 2);
    CHECK(calls == 3);
    CHECK(watch.expired());  // what make() held is dropped
  }
}

TEST_CASE("int8 features are near float's and not them, and serve no other backend") {
  std::string notice;
  if (cpu_backend(Precision::int8, &notice) != CpuBackend::avx512_int8) {
    WARN("not run: " << notice);
    return;
  }
  Context ctx = Context::cpu(2), int8 = Context::cpu(2, CpuBackend::avx512_int8);
  const Tensor<float> image = waves(ctx, 1, 0.37f);
  const Tensor<float> want = Model<float>::load(ctx, compact_path()).image_features(ctx, image);
  const auto model = Model<float>::load(int8, compact_path());
  Tensor<float> rounded;
  for (int i = 0; i < 20; ++i) {  // the products of weights are formed on the way
    rounded = model.image_features(int8, image);
    CHECK(difference(rounded, want) < 0.03);  // of features of size 1.6: a few steps of 1/127; measured 0.003
    CHECK(difference(rounded, want) > 1e-4);
  }
  CHECK(difference(model.image_features(ctx, image), want) < rounding);
}

TEST_CASE("a packed model still records: gradients reach the image") {
  Context ctx = Context::cpu(2);
  const auto model = Model<float>::load(ctx, compact_path());
  const Tensor<float> image = waves(ctx, 1, 0.37f);
  const Tensor<float> packed = model.image_features(ctx, image);
  Tape tape;
  tape.watch(image);
  Tensor<float> recorded;
  {
    const TapeScope recording(ctx, &tape);
    recorded = model.image_features(ctx, image);
  }
  CHECK(difference(recorded, packed) < rounding);
  tape.backward(ctx, recorded, ctx.full<float>(recorded.shape(), 1.0f));
  const Tensor<float> gradient = tape.gradient(image);
  REQUIRE(gradient);
  double most = 0;
  for (const float g : gradient.values())
    most = std::max(most, std::isfinite(g) ? static_cast<double>(std::abs(g)) : 1e30);
  CHECK((most > 1e-8 && most < 1e3));
}

TEST_CASE("a model can be packed for another backend after its products have been merged") {
  Context ctx = Context::cpu(2), portable = Context::cpu(2, CpuBackend::portable);
  auto model = Model<float>::load(ctx, compact_path());
  const Tensor<float> image = waves(ctx, 1, 0.37f);
  Tensor<float> before;
  for (int i = 0; i < 30; ++i) before = model.image_features(ctx, image);  // merged long since
  model.pack(portable);
  for (int i = 0; i < 30; ++i) REQUIRE(difference(model.image_features(portable, image), before) < rounding);
  CHECK(difference(model.image_features(ctx, image), before) < rounding);
}

TEST_CASE("a training pass changes the statistics, so what was packed from them is forgotten") {
  Context ctx = Context::cpu(2), plain = Context::cpu(2, CpuBackend::eigen);
  ModelOptions options;
  options.training = true;
  auto model = Model<float>::load(ctx, compact_path(), options);
  model.pack(ctx);
  const Tensor<float> image = waves(ctx, 1, 0.37f);
  const Tensor<float> before = model.image_features(ctx, image);
  model.training_forward(ctx, waves(ctx, 3, 0.11f), ctx.from<float>(Shape{3, 1}, {0.1f, 0.5f, 0.9f}));
  const Tensor<float> after = model.image_features(ctx, image);
  CHECK(difference(after, before) > 1000 * rounding);
  CHECK(difference(after, model.image_features(plain, image)) < rounding);
}
