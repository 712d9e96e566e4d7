// Tensor and Context: memory, reshapes, identity, and making tensors.
// Surprising choice: identity is part of the contract (gradients are kept by it), so it is tested as such.
#include <promptiqa/core/context.hpp>
#include <promptiqa/core/tensor.hpp>

#include <algorithm>
#include <cmath>
#include <set>
#include <vector>

#include "catch.hpp"

using namespace promptiqa;

TEST_CASE("an empty tensor is empty", "[core][tensor]") {
  const Tensor<float> empty;
  CHECK(!empty);
  CHECK(empty.numel() == 0);
  CHECK(empty.data() == nullptr);
  CHECK(empty.id() == 0);
  CHECK(empty.values().empty());
  CHECK_THROWS_AS(empty.item(), ShapeError);
}

TEST_CASE("tensors are made from values, copied and filled", "[core][tensor]") {
  Context ctx = Context::cpu(1);
  const Tensor<float> x = ctx.from<float>({2, 3}, {1, 2, 3, 4, 5, 6});
  REQUIRE(x);
  CHECK(x.rank() == 2);
  CHECK(x.dim(-1) == 3);
  CHECK(x.device() == Device::cpu);
  CHECK(std::vector<float>(x.values().begin(), x.values().end()) == std::vector<float>{1, 2, 3, 4, 5, 6});

  const Tensor<float> copy = ctx.copy(x);
  CHECK(copy.data() != x.data());
  CHECK(copy.id() != x.id());
  CHECK(std::equal(copy.values().begin(), copy.values().end(), x.values().begin()));

  const Tensor<double> full = ctx.full<double>({3, 5}, 2.5);
  CHECK(std::all_of(full.values().begin(), full.values().end(), [](double v) { return v == 2.5; }));
  const Tensor<float> zeros = ctx.zeros<float>({7});
  CHECK(std::all_of(zeros.values().begin(), zeros.values().end(), [](float v) { return v == 0; }));
  CHECK(ctx.zeros<float>({0, 4}).numel() == 0);

  CHECK_THROWS_WITH(ctx.from<float>({2, 2}, {1, 2, 3}), ContainsSubstring("(2, 2) needs 4 values, got 3"));
}

TEST_CASE("a reshape shares memory and identity", "[core][tensor]") {
  Context ctx = Context::cpu(1);
  const Tensor<float> x = ctx.from<float>({2, 3, 4}, std::vector<float>(24, 1.0f));
  const Tensor<float> y = x.reshape({6, -1});
  CHECK(y.shape() == Shape{6, 4});
  CHECK(y.data() == x.data());
  CHECK(y.id() == x.id());
  CHECK(x.reshape({-1}).shape() == Shape{24});
  CHECK(x.reshape({1, 24, 1}).shape() == Shape{1, 24, 1});
  CHECK(x.reshape(Shape{4, 6}).shape() == Shape{4, 6});
  CHECK(ctx.zeros<float>({0, 3}).reshape({-1, 5}).shape() == Shape{0, 5});

  CHECK_THROWS_WITH(x.reshape({5, 5}), ContainsSubstring("expected 24 elements"));
  CHECK_THROWS_AS(x.reshape({5, -1}), ShapeError);
  CHECK_THROWS_AS(x.reshape({-1, -1}), ShapeError);
  CHECK_THROWS_AS(x.reshape({-2, -12}), ShapeError);
  CHECK_THROWS_AS(x.reshape({std::int64_t{1} << 40, std::int64_t{1} << 40, -1}), ShapeError);
}

TEST_CASE("item reads one element only", "[core][tensor]") {
  Context ctx = Context::cpu(1);
  CHECK(ctx.from<double>({}, {1.5}).item() == 1.5);
  CHECK(ctx.from<double>({1, 1}, {2.5}).item() == 2.5);
  CHECK_THROWS_WITH((ctx.from<double>({2}, {1, 2}).item()), ContainsSubstring("one element, got shape (2)"));
}

TEST_CASE("a tensor does not fit into less memory than it needs", "[core][tensor]") {
  const auto pool = MemoryPool::create();
  CHECK_NOTHROW(Tensor<double>(pool->allocate(64), Shape{8}));
  CHECK_THROWS_WITH(Tensor<double>(pool->allocate(64), Shape{9}), ContainsSubstring("(9)"));
  CHECK_THROWS_AS(Tensor<float>(StorageRef(), Shape{1}), ShapeError);
}

TEST_CASE("identities are never reused", "[core][tensor]") {
  Context ctx = Context::cpu(1);
  std::set<std::uint64_t> ids;
  const void* first = nullptr;
  for (int i = 0; i < 100; ++i) {
    const Tensor<float> x = ctx.allocate<float>({10});
    if (!first) first = x.data();
    CHECK(x.data() == first);  // the memory is
    ids.insert(x.id());
  }
  CHECK(ids.size() == 100);
}

TEST_CASE("random keys are a stream that can be resumed", "[core][context]") {
  Context ctx = Context::cpu(1);
  ctx.set_random_state(7, 0);
  std::vector<std::uint64_t> keys;
  for (int i = 0; i < 100; ++i) keys.push_back(ctx.next_random_key());
  CHECK(std::set<std::uint64_t>(keys.begin(), keys.end()).size() == 100);
  CHECK(ctx.random_seed() == 7);
  CHECK(ctx.random_drawn() == 100);
  ctx.set_random_state(7, 40);
  CHECK(ctx.next_random_key() == keys[40]);
  ctx.set_random_state(8, 40);
  CHECK(ctx.next_random_key() != keys[40]);
}

TEST_CASE("the counter-based generator is uniform and uncorrelated", "[core][context]") {
  const int n = 100000;
  double sum = 0, squares = 0, neighbours = 0, previous = 0.5, smallest = 1, largest = 0;
  for (int i = 0; i < n; ++i) {
    const double u = counter_uniform(123, static_cast<std::uint64_t>(i));
    smallest = std::min(smallest, u);
    largest = std::max(largest, u);
    sum += u - 0.5;
    squares += (u - 0.5) * (u - 0.5);
    neighbours += (u - 0.5) * (previous - 0.5);
    previous = u;
  }
  CHECK(smallest >= 0);
  CHECK(largest < 1);
  // Five standard deviations: sqrt(1/12 n), sqrt(1/180 n) and n^(1/2) / 12.
  CHECK(std::abs(sum) < 5 * std::sqrt(n / 12.0));
  CHECK(std::abs(squares - n / 12.0) < 5 * std::sqrt(n / 180.0));
  CHECK(std::abs(neighbours) < 5 * std::sqrt(static_cast<double>(n)) / 12);
}

TEST_CASE("backends are chosen and refused by name", "[core][context]") {
  CHECK_NOTHROW(Context::cpu(1, CpuBackend::automatic));
  CHECK(std::string(Context::cpu(1, CpuBackend::portable).kernels<float>().name) == "cpu portable");
  CHECK(std::string(Context::cpu(1, CpuBackend::eigen).kernels<double>().name) == "cpu eigen");
  const std::string best = Context::cpu(1).kernels<float>().name;
  for (CpuBackend backend : {CpuBackend::avx2, CpuBackend::avx512, CpuBackend::avx512_bf16}) {
    const std::string name = backend == CpuBackend::avx2     ? "avx2"
                             : backend == CpuBackend::avx512 ? "avx512"
                                                             : "avx512_bf16";
    std::string outcome;
    try {
      outcome = Context::cpu(1, backend).kernels<float>().name;
    } catch (const Error& error) {
      outcome = error.what();
    }
    INFO(outcome);
    // Either it is there, or the error names the backend and what is missing.
    const bool there = outcome == "cpu " + name;
    const bool refused =
        outcome.rfind("cpu backend " + name + ":", 0) == 0 && outcome.find("lacks ") != std::string::npos;
    CHECK(there != refused);
    if (backend == CpuBackend::avx512_bf16 && there)
      CHECK(std::string(Context::cpu(1, backend).kernels<double>().name) == "cpu avx512");
    if (backend == CpuBackend::avx512 && there) CHECK(best == "cpu avx512");
    if (backend == CpuBackend::avx2 && refused) CHECK(best == "cpu portable");
  }
}

TEST_CASE("contexts can share a thread pool", "[core][context]") {
  const auto pool = std::make_shared<ThreadPool>(2);
  Context a = Context::cpu(pool), b = Context::cpu(pool);
  CHECK(&a.pool() == &b.pool());
  CHECK(&a.memory() != &b.memory());
}

TEST_CASE("memory that belongs to a file is read-only") {
  const auto values = std::make_shared<std::vector<float>>(6, 1.5f);
  Tensor<float> t(MemoryPool::foreign(values->data(), 6 * sizeof(float), values), Shape{2, 3});
  CHECK(t.data()[5] == 1.5f);
  CHECK_THROWS_AS(t.mutable_data(), Error);
  CHECK_THROWS_WITH(t.mutable_data(), ContainsSubstring("(2, 3)") && ContainsSubstring("read-only"));
}
