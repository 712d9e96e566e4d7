// ThreadPool: every index once, nested calls, many calling threads, exceptions.
// Surprising choice: results are counted in atomics and asserted after all threads have joined, since the test
// framework's assertions are not thread-safe.
#include <promptiqa/core/thread_pool.hpp>

#include <atomic>
#include <chrono>
#include <cstdint>
#include <memory>
#include <stdexcept>
#include <thread>
#include <vector>

#include "catch.hpp"

using promptiqa::ThreadPool;

namespace {
/// True when parallel_for(count) visits every index exactly once.
bool visits_all_once(ThreadPool& pool, std::int64_t count) {
  const std::size_t n = static_cast<std::size_t>(count);
  const std::unique_ptr<std::atomic<int>[]> visits(new std::atomic<int>[n ? n : 1]);
  for (std::size_t i = 0; i < n; ++i) visits[i] = 0;
  pool.parallel_for(count, [&](std::int64_t i) { ++visits[static_cast<std::size_t>(i)]; });
  for (std::size_t i = 0; i < n; ++i)
    if (visits[i] != 1) return false;
  return true;
}
}  // namespace

TEST_CASE("every index is visited once", "[core][threads]") {
  for (int threads : {1, 2, 3, 8}) {
    ThreadPool pool(threads);
    INFO("threads " << threads);
    CHECK(pool.size() == threads);
    for (std::int64_t count : {0, 1, 2, 3, 7, 64, 1000}) {
      INFO("count " << count);
      CHECK(visits_all_once(pool, count));
    }
  }
  CHECK(ThreadPool(0).size() >= 1);
}

TEST_CASE("a pool of one runs in order on the caller", "[core][threads]") {
  ThreadPool pool(1);
  std::vector<std::int64_t> order;
  const std::thread::id caller = std::this_thread::get_id();
  bool elsewhere = false;
  pool.parallel_for(100, [&](std::int64_t i) {
    order.push_back(i);
    elsewhere = elsewhere || std::this_thread::get_id() != caller;
  });
  REQUIRE(order.size() == 100);
  for (std::size_t i = 0; i < order.size(); ++i) CHECK(order[i] == static_cast<std::int64_t>(i));
  CHECK(!elsewhere);
}

TEST_CASE("several threads really work", "[core][threads]") {
  ThreadPool pool(2);
  // Each index waits for the other one: one thread alone would never finish the first (the limit is for the case
  // that it is broken).
  std::atomic<int> arrived{0};
  std::atomic<bool> met{true};
  pool.parallel_for(2, [&](std::int64_t) {
    ++arrived;
    const auto limit = std::chrono::steady_clock::now() + std::chrono::seconds(30);
    while (arrived < 2)
      if (std::chrono::steady_clock::now() > limit) {
        met = false;
        return;
      } else {
        std::this_thread::yield();
      }
  });
  CHECK(met);
  CHECK(arrived == 2);
}

TEST_CASE("calls nest", "[core][threads]") {
  for (int threads : {1, 2, 4}) {
    ThreadPool pool(threads);
    INFO("threads " << threads);
    std::atomic<int> innermost{0};
    pool.parallel_for(5, [&](std::int64_t) {
      pool.parallel_for(7, [&](std::int64_t) { pool.parallel_for(3, [&](std::int64_t) { ++innermost; }); });
    });
    CHECK(innermost == 5 * 7 * 3);
  }
}

TEST_CASE("many threads may call one pool at once", "[core][threads]") {
  ThreadPool pool(3);
  std::atomic<std::int64_t> total{0};
  std::atomic<int> wrong{0};
  std::vector<std::thread> callers;
  for (int t = 0; t < 8; ++t)
    callers.emplace_back([&pool, &total, &wrong] {
      for (int round = 0; round < 200; ++round) {
        std::atomic<std::int64_t> sum{0};
        pool.parallel_for(17, [&](std::int64_t i) { sum += i; });
        if (sum != 17 * 16 / 2) ++wrong;
        total += sum;
      }
    });
  for (std::thread& caller : callers) caller.join();
  CHECK(wrong == 0);
  CHECK(total == 8 * 200 * (17 * 16 / 2));
}

TEST_CASE("an exception reaches the caller and the pool goes on", "[core][threads]") {
  for (int threads : {1, 2, 4}) {
    ThreadPool pool(threads);
    INFO("threads " << threads);
    for (int round = 0; round < 20; ++round) {
      std::atomic<int> after_the_fact{0};
      CHECK_THROWS_WITH(pool.parallel_for(50,
                                          [&](std::int64_t i) {
                                            ++after_the_fact;
                                            if (i % 10 == 3) throw std::runtime_error("index 3 or so");
                                          }),
                        ContainsSubstring("index 3 or so"));
      const int seen = after_the_fact;
      CHECK(seen >= 4);
      CHECK(visits_all_once(pool, 50));
      CHECK(after_the_fact == seen);  // nobody works on once the exception is out
    }
  }
}

TEST_CASE("an exception passes through nested calls", "[core][threads]") {
  ThreadPool pool(3);
  CHECK_THROWS_AS(pool.parallel_for(4,
                                    [&](std::int64_t i) {
                                      pool.parallel_for(4, [&](std::int64_t j) {
                                        if (i == 2 && j == 2) throw std::logic_error("inner");
                                      });
                                    }),
                  std::logic_error);
  CHECK(visits_all_once(pool, 10));
}

TEST_CASE("pools come and go", "[core][threads]") {
  int good = 0;
  for (int i = 0; i < 50; ++i) {
    ThreadPool pool(3);  // some are destroyed while their workers still spin, some before they have started
    if (i % 3 == 0) {
      ++good;
      continue;
    }
    good += visits_all_once(pool, 10);
  }
  CHECK(good == 50);
}
