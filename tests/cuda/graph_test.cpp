// Graphs: captured work is not done, replays do it on what the inputs then hold, and nothing else gets its memory.
// Surprising choice: in emulation a graph is closures over copied arguments, so a replay that agrees shows that between
// launches nothing of the host is needed.
#include <memory>
#include <stdexcept>

#include <promptiqa/ops/all.hpp>

#include "../../kernels/emulation/blas.hpp"
#include "emulated.hpp"

using namespace promptiqa_test;

namespace {

Tensor<float> random_tensor(Context& ctx, const Shape& shape, std::uint32_t seed) {
  const std::vector<double> wide = random_numbers(shape.numel(), seed);
  const std::vector<float> values(wide.begin(), wide.end());
  return ctx.from<float>(shape, std::span<const float>(values));
}

void overwrite(Context& ctx, Tensor<float>& x, std::uint32_t seed) {
  const std::vector<float> values = random_tensor(ctx, x.shape(), seed).host();
  ctx.memory().copy_from_host(x.mutable_data(), values.data(), values.size() * sizeof(float));
}

/// An image through every kind of kernel that inference has: convolution, norms, products, attention, host-side
/// indices, concatenation, reductions.
struct Chain {
  Tensor<float> conv_weight, norm_weight, norm_bias, qkv_weight, qkv_bias, out_weight;
  explicit Chain(Context& ctx)
      : conv_weight(random_tensor(ctx, Shape{16, 3, 3, 3}, 1)),
        norm_weight(random_tensor(ctx, Shape{16}, 2)),
        norm_bias(random_tensor(ctx, Shape{16}, 3)),
        qkv_weight(random_tensor(ctx, Shape{48, 16}, 4)),
        qkv_bias(random_tensor(ctx, Shape{48}, 5)),
        out_weight(random_tensor(ctx, Shape{16, 16}, 6)) {}

  Tensor<float> operator()(Context& ctx, const Tensor<float>& image) const {  // (B, 3, 6, 6)
    const std::int64_t batch = image.dim(0);
    const Tensor<float> map = relu(ctx, conv2d(ctx, image, conv_weight, Tensor<float>(), Conv2dOptions::square(1, 1)));
    Tensor<float> x = transpose(ctx, map.reshape({batch, 16, 36}));
    const Tensor<float> normed = layer_norm(ctx, x, norm_weight, norm_bias, 1e-6);
    const Tensor<float> qkv =
        linear(ctx, normed.reshape({batch * 36, 16}), qkv_weight, qkv_bias).reshape({batch, 36, 48});
    const Tensor<float> mixed = attention_qkv(ctx, qkv, 2, 0.25);
    x = add(
        ctx, x,
        gelu(ctx, linear(ctx, mixed.reshape({batch * 36, 16}), out_weight, Tensor<float>())).reshape({batch, 36, 16}));
    const std::int64_t picked[] = {0, 35, 7};
    x = concat(ctx, {index_select(ctx, x, 1, std::span<const std::int64_t>(picked)), slice(ctx, x, 1, 3, 5)}, 1);
    return softmax(ctx, x, 1.0);
  }
};

}  // namespace

TEST_CASE("a graph computes what the ops compute, for every new input", "[cuda]") {
  Context& ctx = emulated();
  const Chain chain(ctx);
  Tensor<float> image = random_tensor(ctx, Shape{2, 3, 6, 6}, 20), y;
  int runs = 0;
  CudaGraph graph = CudaGraph::capture(ctx, [&](Context& c) {
    ++runs;
    CHECK(&c.memory() != &ctx.memory());
    y = chain(c, image);
  });
  CHECK(runs == 3);
  CHECK(graph.size() >= 12);
  for (std::uint32_t seed = 30; seed < 34; ++seed) {
    overwrite(ctx, image, seed);
    const std::vector<float> want = chain(ctx, image).host();
    CHECK(y.host() != want);  // the result of the input before
    graph.replay();
    CHECK(y.host() == want);
    graph.replay();
    CHECK(y.host() == want);
  }
  CHECK(runs == 3);
}

TEST_CASE("captured work is only done by replays", "[cuda]") {
  Context& ctx = emulated();
  Tensor<float> x = ctx.full<float>(Shape{4}, 1), sum = ctx.zeros<float>(Shape{4});
  const std::uint64_t launches = emulation::launches();
  CudaGraph graph = CudaGraph::capture(ctx, [&](Context& c) {
    c.kernels<float>().add_in_place(c.kernel_context(), {4, x.data(), sum.mutable_data()});
  });
  CHECK(graph.size() == 1);
  CHECK(emulation::launches() == launches + 2);
  CHECK(sum.host() == std::vector<float>(4, 2));  // the two runs that make it ready
  graph.replay();
  graph.replay();
  graph.replay();
  CHECK(sum.host() == std::vector<float>(4, 5));
  CHECK(emulation::launches() == launches + 5);
}

TEST_CASE("matrix products are in the graph too, fused or not", "[cuda]") {
  Context& ctx = emulated();
  Tensor<float> x = random_tensor(ctx, Shape{5, 8}, 40);
  const Tensor<float> weight = random_tensor(ctx, Shape{6, 8}, 41), bias = random_tensor(ctx, Shape{6}, 42);
  for (const bool fuses : {true, false}) {
    emulation::fuses = fuses;
    Tensor<float> y, z;
    CudaGraph graph = CudaGraph::capture(ctx, [&](Context& c) {
      y = linear(c, x, weight, bias);
      z = matmul(c, y, y, false, true, 1.0);
    });
    overwrite(ctx, x, 43);
    const Tensor<float> want_y = linear(ctx, x, weight, bias), want_z = matmul(ctx, want_y, want_y, false, true, 1.0);
    CHECK(z.host() != want_z.host());
    graph.replay();
    CHECK(y.host() == want_y.host());
    CHECK(z.host() == want_z.host());
    overwrite(ctx, x, 40);
  }
  emulation::fuses = true;
}

TEST_CASE("a graph's memory is its own while it lives, and given back after", "[cuda]") {
  const std::size_t blocks = emulation::device_blocks();
  {
    Context ctx = make_cuda_context(0, std::make_shared<ThreadPool>(1));
    Tensor<float> x = ctx.full<float>(Shape{64}, 1);
    Tensor<float> y;
    {
      CudaGraph graph = CudaGraph::capture(ctx, [&](Context& c) {
        const Tensor<float> between = scale_shift(c, x, 2, 1);
        y = scale_shift(c, between, 10, 0);
      });
      // Others of the same size, in the same context, written with other values between two replays.
      std::vector<Tensor<float>> others;
      for (int i = 0; i < 8; ++i) others.push_back(ctx.full<float>(Shape{64}, -7));
      graph.replay();
      CHECK(y.host() == std::vector<float>(64, 30));
      for (const Tensor<float>& other : others) CHECK(other.host() == std::vector<float>(64, -7));
    }
    CHECK(y.host() == std::vector<float>(64, 30));  // outlives its graph
  }
  CHECK(emulation::device_blocks() == blocks);
}

TEST_CASE("what is released while a graph is captured stays for its replays", "[cuda]") {
  Context& ctx = emulated();
  const Tensor<float> x = ctx.full<float>(Shape{64}, 1);
  Tensor<float> y;
  std::size_t blocks = 0;
  int runs = 0;
  {
    CudaGraph graph = CudaGraph::capture(ctx, [&](Context& c) {
      if (!y) y = c.zeros<float>(Shape{64});
      {
        const Tensor<float> between = scale_shift(c, x, 2, 1);
        c.kernels<float>().add_in_place(c.kernel_context(), {64, between.data(), y.mutable_data()});
      }
      blocks = emulation::device_blocks();
      if (++runs == 3) c.memory().trim();
    });
    CHECK(emulation::device_blocks() == blocks);
    graph.replay();
    CHECK(y.host() == std::vector<float>(64, 9));
  }
  CHECK(emulation::device_blocks() < blocks);
}

TEST_CASE("what a graph cannot repeat is refused, and the context works on", "[cuda]") {
  Context& ctx = emulated();
  const Tensor<float> x = ctx.full<float>(Shape{8}, 3);
  Tensor<float> y;
  int run = 0;
  const auto third = [&](const std::function<void(Context&)>& work) {
    run = 0;
    return [&run, work](Context& c) {
      if (++run == 3) work(c);
    };
  };
  CHECK_THROWS_WITH(CudaGraph::capture(ctx, third([&](Context& c) { y = c.full<float>(Shape{1000}, 1); })),
                    ContainsSubstring("graph: memory is asked for"));
  CHECK_THROWS_WITH(CudaGraph::capture(ctx, third([&](Context&) { x.host(); })),
                    ContainsSubstring("graph: a result is copied to the host"));
  CHECK_THROWS_WITH(CudaGraph::capture(ctx, third([&](Context& c) { c.memory().copy_from_host(nullptr, nullptr, 4); })),
                    ContainsSubstring("graph: the host's memory is copied"));
  CHECK_THROWS_WITH(CudaGraph::capture(ctx, third([&](Context& c) { synchronize(c); })),
                    ContainsSubstring("graph: the host waits"));
  CHECK_THROWS_AS(CudaGraph::capture(ctx, third([&](Context&) { throw std::runtime_error("mine"); })),
                  std::runtime_error);
  CHECK(add(ctx, x, x).host() == std::vector<float>(8, 6));
  Context cpu = Context::cpu(1);
  CHECK_THROWS_WITH(CudaGraph::capture(cpu, [](Context&) {}), ContainsSubstring("expected a CUDA context"));
}

TEST_CASE("two graphs of one context, moved, replay in turn", "[cuda]") {
  Context& ctx = emulated();
  Tensor<float> x = ctx.full<float>(Shape{8}, 1), y, z;
  std::vector<CudaGraph> graphs;
  graphs.push_back(CudaGraph::capture(ctx, [&](Context& c) { y = scale_shift(c, x, 2, 0); }));
  graphs.push_back(CudaGraph::capture(ctx, [&](Context& c) { z = scale_shift(c, y, 3, 1); }));
  const std::vector<float> fives(8, 5);
  ctx.memory().copy_from_host(x.mutable_data(), fives.data(), fives.size() * sizeof(float));
  graphs[0].replay();
  graphs[1].replay();
  CHECK(z.host() == std::vector<float>(8, 31));
}
