// MemoryPool: recycling, steady state, lifetime beyond its Context, use from many threads.
// Surprising choice: system allocations are counted by the pool itself, so "allocates nothing once it has run
// once" is a number that can be checked.
#include <promptiqa/core/context.hpp>
#include <promptiqa/core/memory_pool.hpp>

#include <atomic>
#include <cstdint>
#include <cstring>
#include <limits>
#include <memory>
#include <new>
#include <thread>
#include <vector>

#include "catch.hpp"

using namespace promptiqa;

TEST_CASE("blocks are aligned, large enough and never shared", "[core][memory]") {
  const auto pool = MemoryPool::create();
  std::vector<StorageRef> blocks;
  for (std::size_t bytes : {std::size_t{0}, std::size_t{1}, std::size_t{63}, std::size_t{64}, std::size_t{65},
                            std::size_t{1000}, std::size_t{100001}, std::size_t{5} << 20}) {
    StorageRef block = pool->allocate(bytes);
    CHECK(block->capacity >= bytes);
    CHECK(block->capacity <= bytes + bytes / 8 + 64);
    CHECK(reinterpret_cast<std::uintptr_t>(block->data) % 64 == 0);
    std::memset(block->data, static_cast<int>(blocks.size() + 1), block->capacity);
    blocks.push_back(block);
  }
  for (std::size_t i = 0; i < blocks.size(); ++i) {  // nobody wrote over anybody
    const auto* bytes = static_cast<const unsigned char*>(blocks[i]->data);
    CHECK(bytes[0] == i + 1);
    CHECK(bytes[blocks[i]->capacity - 1] == i + 1);
  }
}

TEST_CASE("released blocks are recycled", "[core][memory]") {
  const auto pool = MemoryPool::create();
  void* address = pool->allocate(1000)->data;
  CHECK(pool->system_allocations() == 1);
  const StorageRef again = pool->allocate(990);  // the same size class
  CHECK(again->data == address);
  CHECK(pool->system_allocations() == 1);
  const StorageRef second = pool->allocate(1000);
  CHECK(second->data != address);
  CHECK(pool->system_allocations() == 2);
}

TEST_CASE("references are counted", "[core][memory]") {
  const auto pool = MemoryPool::create();
  StorageRef a = pool->allocate(64);
  CHECK(a.unique());
  StorageRef b = a;
  CHECK(!a.unique());
  CHECK(b->id == a->id);
  StorageRef c = std::move(b);
  CHECK(!b);
  b = c;
  const StorageRef& itself = b;
  b = itself;
  c = StorageRef();
  a = StorageRef();
  CHECK(b.unique());
  CHECK(!StorageRef().unique());
}

TEST_CASE("trim gives unused blocks back", "[core][memory]") {
  const auto pool = MemoryPool::create();
  const StorageRef kept = pool->allocate(4096);
  pool->allocate(100000);
  CHECK(pool->bytes_reserved() >= 104096);
  pool->trim();
  CHECK(pool->bytes_reserved() == kept->capacity);
  pool->allocate(100000);
  CHECK(pool->system_allocations() == 3);
}

TEST_CASE("a repeated computation allocates nothing", "[core][memory]") {
  Context ctx = Context::cpu(2);
  const auto compute = [&ctx] {
    Tensor<float> x = ctx.full<float>({300, 100}, 1.0f);
    Tensor<float> y = ctx.copy(x);
    Tensor<float> loss = ctx.allocate<float>({});
    ctx.kernels<float>().l1_loss(ctx.kernel_context(), {x.numel(), x.data(), y.data(), loss.mutable_data()});
    return loss.item();
  };
  CHECK(compute() == 0.0f);
  const std::uint64_t before = ctx.memory().system_allocations();
  for (int i = 0; i < 20; ++i) compute();
  CHECK(ctx.memory().system_allocations() == before);
}

TEST_CASE("a tensor outlives its context and its pool", "[core][memory]") {
  Tensor<float> x;
  {
    Context ctx = Context::cpu(1);
    x = ctx.full<float>({1000}, 3.0f);
    ctx.full<float>({1000}, 4.0f);  // a free block dies with the pool, later
  }
  CHECK(x.values()[999] == 3.0f);
  x.mutable_data()[0] = 5.0f;
  CHECK(x.values()[0] == 5.0f);
}

TEST_CASE("foreign memory keeps its owner and is not freed", "[core][memory]") {
  const auto owner = std::make_shared<std::vector<float>>(8, 2.0f);
  const std::weak_ptr<std::vector<float>> watch = owner;
  StorageRef block = MemoryPool::foreign(owner->data(), 32, owner);
  {
    const Tensor<float> x(block, Shape{8});
    CHECK(x.data() == owner->data());
    CHECK(x.id() != 0);
  }
  CHECK(owner.use_count() == 2);
  block = StorageRef();
  CHECK(owner.use_count() == 1);
  CHECK(watch.lock() == owner);
}

TEST_CASE("absurd sizes throw and do not hang", "[core][memory]") {
  const auto pool = MemoryPool::create();
  CHECK_THROWS_AS(pool->allocate(std::numeric_limits<std::size_t>::max()), std::bad_alloc);
  CHECK_THROWS_AS(pool->allocate(std::numeric_limits<std::size_t>::max() / 2 + 2), std::bad_alloc);
  CHECK(pool->bytes_reserved() == 0);
}

TEST_CASE("many threads share one pool", "[core][memory]") {
  const auto pool = MemoryPool::create();
  std::atomic<int> mistakes{0};
  std::vector<std::thread> threads;
  for (int t = 0; t < 4; ++t)
    threads.emplace_back([&pool, &mistakes, t] {
      for (int i = 0; i < 2000; ++i) {
        const std::size_t bytes = static_cast<std::size_t>(64 + (i * 37 + t * 11) % 1000);
        const StorageRef block = pool->allocate(bytes);
        std::memset(block->data, t, bytes);
        const StorageRef second = block;
        const auto* p = static_cast<const unsigned char*>(second->data);
        if (p[0] != t || p[bytes - 1] != t || p[bytes / 2] != t) ++mistakes;
      }
    });
  for (std::thread& thread : threads) thread.join();
  CHECK(mistakes == 0);
  CHECK(pool->system_allocations() <= 4 * 20);  // four at a time of each of at most 16 size classes
}
