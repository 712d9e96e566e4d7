// Inference in steady state: not one allocation, neither from the pool nor from the heap.
// Surprising choice: operator new is replaced for this whole program, and counts only while a test says so.
#include <promptiqa/model/model.hpp>

#include <atomic>
#include <cstdlib>
#include <new>
#include <string>

#include "catch.hpp"

using namespace promptiqa;

namespace {

std::atomic<bool> counting{false};
std::atomic<long> allocations{0};

void* counted_or_null(std::size_t bytes) {
  if (counting.load(std::memory_order_relaxed)) allocations.fetch_add(1, std::memory_order_relaxed);
  return std::malloc(bytes ? bytes : 1);
}

void* counted(std::size_t bytes) {
  if (void* data = counted_or_null(bytes)) return data;
  throw std::bad_alloc();
}

}  // namespace

void* operator new(std::size_t bytes) { return counted(bytes); }
void* operator new[](std::size_t bytes) { return counted(bytes); }
void* operator new(std::size_t bytes, const std::nothrow_t&) noexcept { return counted_or_null(bytes); }
void* operator new[](std::size_t bytes, const std::nothrow_t&) noexcept { return counted_or_null(bytes); }
void operator delete(void* data) noexcept { std::free(data); }
void operator delete[](void* data) noexcept { std::free(data); }
void operator delete(void* data, std::size_t) noexcept { std::free(data); }
void operator delete[](void* data, std::size_t) noexcept { std::free(data); }

TEST_CASE("warm image features and logits allocate nothing at all, whatever batch sizes alternate") {
  // Where the processor cannot, fp32 is tested once more.
  const Precision precision = GENERATE(Precision::fp32, Precision::bf16, Precision::int8);
  // One thread: with more, how much scratch is in use at once depends on the scheduler.
  Context ctx = Context::cpu(1, cpu_backend(precision));
  const auto model =
      Model<float>::load(ctx, std::string(PROMPTIQA_SOURCE_DIR) + "/weights/promptiqa-compact.safetensors");
  const std::int64_t side = model.config().image_size, width = model.config().prompt_dim;
  for (int round = 0; round < 10; ++round)
    for (const std::int64_t batch : {std::int64_t{1}, std::int64_t{2}}) {
      const Tensor<float> images = ctx.full<float>(Shape{batch, 3, side, side}, 0.25f);
      const Tensor<float> fused = ctx.full<float>(Shape{batch, 4, width}, 0.5f);
      const std::uint64_t before = ctx.memory().system_allocations();
      allocations = 0;
      counting = true;
      const Tensor<float> feature = model.image_features(ctx, images);
      const Tensor<float> logit = model.logits(ctx, feature, fused);
      counting = false;
      if (round < 9) continue;  // 21 images are enough for the merged products; then two rounds of records
      CHECK(allocations == 0);
      CHECK(ctx.memory().system_allocations() == before);
    }
  CHECK(ctx.arena().slab_bytes() > 0);
}
