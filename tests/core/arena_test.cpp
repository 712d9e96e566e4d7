// Arena: what lives together never shares bytes, a repeated run takes nothing from the pool, and a run that departs
// from its record is noticed before it could overwrite what somebody still reads.
#include <promptiqa/core/arena.hpp>
#include <promptiqa/core/context.hpp>
#include <promptiqa/core/tape.hpp>

#include <algorithm>
#include <cstring>
#include <new>
#include <random>
#include <vector>

#include "catch.hpp"

using namespace promptiqa;

namespace {

/// A run of `steps` allocations of random sizes, each kept for a random time, all contents checked when they end.
/// `seed` decides everything. Returns how many bytes did not hold what was written into them; `most` grows to the most
/// bytes that lived at once.
int run_random(Arena& arena, MemoryPool& pool, unsigned seed, int steps, std::size_t& most) {
  std::mt19937 random(seed);
  struct Live {
    StorageRef block;
    std::size_t bytes;
    unsigned char mark;
    int until;
  };
  std::vector<Live> live;
  int wrong = 0;
  const auto check = [&](const Live& l) {
    for (std::size_t i = 0; i < l.bytes; ++i) wrong += static_cast<unsigned char*>(l.block->data)[i] != l.mark;
  };
  for (int i = 0; i < steps; ++i) {
    for (std::size_t j = live.size(); j-- > 0;)
      if (live[j].until <= i) {
        check(live[j]);
        live.erase(live.begin() + static_cast<std::ptrdiff_t>(j));
      }
    const std::size_t bytes = random() % 5000;
    Live l{arena.allocate(pool, bytes), bytes, static_cast<unsigned char>(i), i + 1 + static_cast<int>(random() % 9)};
    std::memset(l.block->data, l.mark, bytes);
    live.push_back(std::move(l));
    std::size_t alive = 0;
    for (const Live& one : live) alive += (one.bytes + 63) / 64 * 64;
    most = std::max(most, alive);
  }
  for (const Live& l : live) check(l);
  return wrong;
}

}  // namespace

TEST_CASE("a repeated run lies in one slab, without overlaps, and takes nothing from the pool") {
  const auto pool = MemoryPool::create();
  Arena arena;
  std::size_t most = 0;
  for (unsigned seed = 1; seed <= 20; ++seed) {
    for (int run = 0; run < 3; ++run) {
      const std::size_t before = pool->bytes_reserved();
      arena.begin({pool.get(), 0, seed});
      CHECK(run_random(arena, *pool, seed, 200, most) == 0);
      arena.end(*pool);
      if (run > 0) CHECK(pool->bytes_reserved() == before);
      CHECK_FALSE(arena.active());
    }
  }
  INFO("slab " << arena.slab_bytes() << ", alive at once " << most);
  CHECK(arena.slab_bytes() >= most);
  CHECK(arena.slab_bytes() < most * 5 / 4);  // gaps, and the pool's rounding by up to an eighth
}

TEST_CASE("blocks of a followed run are those of the slab, each time at the same address with a new id") {
  const auto pool = MemoryPool::create();
  Arena arena;
  const auto run = [&](std::vector<std::uint64_t>& ids) {
    arena.begin({});
    StorageRef a = arena.allocate(*pool, 1000);
    StorageRef b = arena.allocate(*pool, 500);
    CHECK(a->data != b->data);
    a = StorageRef();
    StorageRef c = arena.allocate(*pool, 900);
    ids = {b->id, c->id};
    const std::vector<void*> at{b->data, c->data};
    b = c = StorageRef();
    arena.end(*pool);
    return at;
  };
  std::vector<std::uint64_t> ids, more;
  run(ids);
  const std::vector<void*> second = run(ids), third = run(more);
  CHECK(second == third);
  CHECK(ids[0] != more[0]);
  CHECK(ids[1] != more[1]);
  CHECK(arena.slab_bytes() == 1536);  // c lies where a was: 1,024 and 512 bytes
}

TEST_CASE("what outlives its run is left alone by the next ones") {
  const auto pool = MemoryPool::create();
  Arena arena;
  std::vector<StorageRef> results;
  for (int run = 0; run < 5; ++run) {
    arena.begin({});
    StorageRef scratch = arena.allocate(*pool, 256);
    results.push_back(arena.allocate(*pool, 256));
    std::memset(results.back()->data, run, 256);
    std::memset(scratch->data, 99, 256);
    scratch = StorageRef();
    arena.end(*pool);
  }
  for (int run = 0; run < 5; ++run) CHECK(static_cast<char*>(results[static_cast<std::size_t>(run)]->data)[255] == run);
}

TEST_CASE("a tensor kept longer than recorded is not overwritten, in its run or in another plan's") {
  const auto pool = MemoryPool::create();
  Arena arena;
  const auto run = [&](int key, bool keep_in_run, bool keep_after) {
    arena.begin({nullptr, key});
    StorageRef first = arena.allocate(*pool, 512), kept;
    std::memset(first->data, 7, 512);
    if (keep_in_run || keep_after) kept = first;
    first = StorageRef();
    StorageRef second = arena.allocate(*pool, 512);  // recorded: lies where `first` was
    std::memset(second->data, 1, 512);
    if (kept) CHECK(static_cast<char*>(kept->data)[0] == 7);
    if (!keep_after) kept = StorageRef();
    second = StorageRef();
    arena.end(*pool);
    return kept;
  };
  run(1, false, false);
  run(2, false, false);
  run(1, true, false);
  run(1, false, false);                          // recorded again
  const StorageRef kept = run(1, false, true);   // a piece of the slab, which plan 2 uses too
  for (int i = 0; i < 3; ++i) {
    run(2, false, false);
    run(1, false, false);
  }
  CHECK(static_cast<char*>(kept->data)[511] == 7);
}

TEST_CASE("a followed run's last block may be kept, and the arena may go first") {
  StorageRef kept;
  {
    const auto pool = MemoryPool::create();
    Arena arena;
    for (int run = 0; run < 3; ++run) {
      arena.begin({});
      StorageRef block = arena.allocate(*pool, 4096);
      if (run == 2) kept = block;
      std::memset(block->data, 5, 4096);
      block = StorageRef();
      arena.end(*pool);
    }
  }
  CHECK(static_cast<char*>(kept->data)[4095] == 5);  // under the address sanitizer: still there
}

TEST_CASE("a run that departs from its record is served and recorded anew") {
  const auto pool = MemoryPool::create();
  Arena arena;
  const auto run = [&](std::vector<std::size_t> sizes) {
    arena.begin({});
    std::vector<StorageRef> blocks;
    for (const std::size_t bytes : sizes) {
      blocks.push_back(arena.allocate(*pool, bytes));
      std::memset(blocks.back()->data, static_cast<int>(blocks.size()), bytes);
    }
    int wrong = 0;
    for (std::size_t i = 0; i < blocks.size(); ++i)
      wrong += static_cast<unsigned char*>(blocks[i]->data)[sizes[i] - 1] != i + 1;
    blocks.clear();
    arena.end(*pool);
    return wrong;
  };
  for (const std::vector<std::size_t>& sizes : {std::vector<std::size_t>{64, 128},
                                                {64, 128},
                                                {64, 4096, 64},
                                                {64, 4096, 64},
                                                {64, 4096, 64},
                                                {64},
                                                {64},
                                                {64, 128}}) {
    CHECK(run(sizes) == 0);
  }
  const std::size_t slab = arena.slab_bytes();
  CHECK(slab == 4608);  // 4,096 + 2 x 64 bytes, rounded up by the pool
}

TEST_CASE("a plan moves into the larger slab that another one needs") {
  const auto pool = MemoryPool::create();
  Arena arena;
  const auto run = [&](int key, std::size_t bytes) {
    arena.begin({nullptr, key});
    const void* at = arena.allocate(*pool, bytes)->data;  // the piece is free again at once
    arena.end(*pool);
    return at;
  };
  run(1, 100);
  const void* small = run(1, 100);
  run(2, 100000);
  const void* large = run(2, 100000);
  CHECK(small != large);
  CHECK(run(1, 100) == large);
  CHECK(run(2, 100000) == large);
}

TEST_CASE("more keys than an arena remembers") {
  const auto pool = MemoryPool::create();
  Arena arena;
  std::size_t most = 0;
  for (int round = 0; round < 3; ++round)
    for (int key = 0; key < 40; ++key) {
      arena.begin({nullptr, key});
      CHECK(run_random(arena, *pool, static_cast<unsigned>(key), 20, most) == 0);
      arena.end(*pool);
    }
}

TEST_CASE("without memory for a slab a run still works") {
  class Stingy : public MemoryPool {
   public:
    bool none = false;

   private:
    void* system_allocate(std::size_t bytes) override {
      if (none) throw std::bad_alloc();
      return MemoryPool::system_allocate(bytes);
    }
  };
  const auto pool = std::make_shared<Stingy>();
  Arena arena;
  for (int run = 0; run < 3; ++run) {
    pool->none = false;
    arena.begin({});
    {
      const StorageRef a = arena.allocate(*pool, 1000), b = arena.allocate(*pool, 1000);
      pool->none = true;
    }
    arena.end(*pool);
    CHECK(arena.slab_bytes() == 0);
    CHECK_FALSE(arena.active());
  }
}

TEST_CASE("a slab that is refused takes no other plan with it") {
  class Limited : public MemoryPool {
   public:
    bool device = false;

   private:
    void* system_allocate(std::size_t bytes) override {
      if (bytes >= 150000 && device) throw CudaError("as a device refuses");
      if (bytes >= 150000) throw std::bad_alloc();
      return MemoryPool::system_allocate(bytes);
    }
  };
  const auto pool = std::make_shared<Limited>();
  Arena arena;
  const auto run = [&](int key, std::size_t bytes) {
    arena.begin({nullptr, key});
    StorageRef a = arena.allocate(*pool, bytes), b = arena.allocate(*pool, bytes);
    std::memset(a->data, 1, bytes);
    std::memset(b->data, 2, bytes);
    const bool kept = static_cast<char*>(a->data)[bytes - 1] == 1;
    a = b = StorageRef();
    arena.end(*pool);
    return kept;
  };
  for (int round = 0; round < 3; ++round) {
    pool->device = round == 1;
    CHECK(run(1, 1000));
    CHECK(run(1, 1000));
    CHECK(arena.slab_bytes() > 0);
    CHECK(run(2, 100000));  // its slab would have 200,000 bytes
    CHECK(arena.slab_bytes() == 0);
  }
}

TEST_CASE("a scope: tensors of a context, nested scopes and tapes, a copied context") {
  Context ctx = Context::cpu(1);
  const auto run = [&](Context& c) {
    const ArenaScope scope(c, {&ctx});
    Tensor<float> x = c.full<float>({100}, 2.0f);
    {
      const ArenaScope inner(c, {nullptr, 5});
      x = c.copy(x);
    }
    CHECK(c.arena().active());
    return x.values()[99];
  };
  for (int i = 0; i < 3; ++i) CHECK(run(ctx) == 2.0f);
  CHECK(ctx.arena().slab_bytes() >= 800);
  Context other = ctx;
  CHECK(other.arena().slab_bytes() == 0);
  CHECK(run(other) == 2.0f);
  CHECK(run(other) == 2.0f);
  CHECK(other.arena().slab_bytes() > 0);
  other = ctx;
  CHECK(other.arena().slab_bytes() == 0);
  CHECK(run(ctx) == 2.0f);
  const std::size_t held = ctx.memory().bytes_reserved();
  ctx.trim();
  CHECK(ctx.memory().bytes_reserved() <= held - 800);
  CHECK(run(ctx) == 2.0f);

  Tape tape;
  const TapeScope recording(ctx, &tape);
  const ArenaScope scope(ctx, {&ctx});
  CHECK_FALSE(ctx.arena().active());
}
