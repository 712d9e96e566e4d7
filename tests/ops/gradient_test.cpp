// Gradients of every op case against central differences, and what the tape promises.
// Surprising choice: of a large input some elements are checked one by one and all of them together along random
// directions: a single wrong element still changes the derivative along a direction by far more than the tolerance.
#include <cmath>
#include <random>
#include <string>
#include <vector>

#include "backends.hpp"

using namespace promptiqa_test;

namespace {

/// Numbers in (-1.73, 1.73), exact in float.
std::vector<double> random_values(std::int64_t count, std::uint32_t seed) {
  std::mt19937 generator(seed);
  std::vector<double> values(static_cast<std::size_t>(count));
  for (double& v : values) v = static_cast<float>((generator() / 4294967296.0 - 0.5) * 3.4641016);
  return values;
}

template <class T>
struct Gradients {
  std::vector<T> value;  // the result, computed while recording
  Shape shape;
  std::vector<std::vector<T>> of_input;  // empty where none is asked for
};

/// Runs the case and its backward pass; `cotangent` is drawn from a seed. Only input `only` is watched, or all (-1).
template <class T>
Gradients<T> gradients(Context& ctx, const OpCase& c, const Inputs& inputs, int only = -1) {
  const Tensors<T> in = upload<T>(ctx, inputs);
  Tape tape;
  const TapeScope scope(ctx, &tape);
  const auto watched = [&](std::size_t i) {
    return c.inputs[i].differentiable && (only < 0 || static_cast<int>(i) == only);
  };
  for (std::size_t i = 0; i < in.size(); ++i)
    if (watched(i)) tape.watch(in[i]);
  poison(ctx);
  const Tensor<T> y = c.run(ctx, in);
  Gradients<T> result;
  result.value = read_back(ctx, y);
  result.shape = y.shape();
  const std::vector<double> wide = random_values(y.numel(), 99);
  const std::vector<T> narrow(wide.begin(), wide.end());
  const Tensor<T> cotangent = ctx.from<T>(y.shape(), std::span<const T>(narrow));
  poison(ctx);
  tape.backward(ctx, y, cotangent);
  CHECK(same_bits(read_back(ctx, cotangent), narrow));  // the caller's tensors are never written
  for (std::size_t i = 0; i < in.size(); ++i) {
    const Tensor<T> g = tape.gradient(in[i]);
    CHECK(static_cast<bool>(g) == watched(i));
    if (g) CHECK(g.shape() == in[i].shape());
    result.of_input.push_back(g ? read_back(ctx, g) : std::vector<T>());
    const std::vector<T> before(inputs[i].values.begin(), inputs[i].values.end());
    CHECK(same_bits(read_back(ctx, in[i]), before));
  }
  return result;
}

bool any_differentiable(const OpCase& c) {
  return std::any_of(c.inputs.begin(), c.inputs.end(), [](const CaseInput& i) { return i.differentiable; });
}

/// sum(cotangent * (f(x + h d) - f(x - h d))) / 2h.
double central_difference(Context& ctx, const OpCase& c, Inputs inputs, std::size_t which,
                          const std::vector<double>& direction) {
  const double h = 1e-6;
  std::vector<double> ends[2];
  for (int side = 0; side < 2; ++side) {
    Inputs moved = inputs;
    for (std::size_t i = 0; i < direction.size(); ++i) moved[which].values[i] += (side ? h : -h) * direction[i];
    ends[side] = read_back(ctx, c.run(ctx, upload<double>(ctx, moved)));
  }
  const std::vector<double> cotangent = random_values(static_cast<std::int64_t>(ends[0].size()), 99);
  double sum = 0;
  for (std::size_t i = 0; i < ends[0].size(); ++i) sum += cotangent[i] * (ends[1][i] - ends[0][i]);
  return sum / (2 * h);
}

/// |got - want| <= 1e-5 + 1e-3 |want|: a central difference of step 1e-6 in double has an error of about h^2 = 1e-12
/// from curvature and epsilon / h = 1e-10 times the size of the sum from rounding.
bool close(double got, double want) {
  return std::isfinite(got) && std::isfinite(want) && std::abs(got - want) <= 1e-5 + 1e-3 * std::abs(want);
}

template <class T>
double largest(const std::vector<T>& values) {
  double m = 0;
  for (T v : values) {
    if (!std::isfinite(v)) return std::numeric_limits<double>::quiet_NaN();
    m = std::max(m, std::abs(static_cast<double>(v)));
  }
  return m;
}

}  // namespace

TEST_CASE("gradients agree with central differences", "[ops][gradient]") {
  Context& ctx = backends()[0].one;
  for (const OpCase& c : op_cases()) {
    if (!any_differentiable(c)) continue;
    INFO(c.name);
    const Inputs inputs = c.draw();
    const Gradients<double> analytic = gradients<double>(ctx, c, inputs);
    for (std::size_t which = 0; which < inputs.size(); ++which) {
      if (!c.inputs[which].differentiable) continue;
      INFO("input " << which << " " << c.inputs[which].shape.str());
      const std::vector<double>& g = analytic.of_input[which];
      REQUIRE(g.size() == inputs[which].values.size());
      REQUIRE(std::isfinite(largest(g)));
      const std::size_t n = g.size();
      const std::size_t step = n <= 40 ? 1 : n / 16 + 1;  // a stride, and always the last element
      for (std::size_t i = 0; i < n; i = (i + step >= n && i + 1 < n) ? n - 1 : i + step) {
        std::vector<double> direction(n);
        direction[i] = 1;
        const double numeric = central_difference(ctx, c, inputs, which, direction);
        INFO("element " << i << ": " << g[i] << " against " << numeric);
        CHECK(close(g[i], numeric));
      }
      if (n <= 40) continue;
      for (std::uint32_t seed = 1; seed <= 3; ++seed) {
        const std::vector<double> direction = random_values(static_cast<std::int64_t>(n), seed);
        double along = 0;
        for (std::size_t i = 0; i < n; ++i) along += g[i] * direction[i];
        const double numeric = central_difference(ctx, c, inputs, which, direction);
        INFO("direction " << seed << ": " << along << " against " << numeric);
        CHECK(close(along, numeric));
      }
    }
  }
}

// Rounding errors of the terms of a gradient add up like a random walk: sqrt(number of terms) epsilons of the largest
// number around, where the terms are at most the elements of the cotangent and of the input, and the constant covers
// the few steps each term takes. Gradients that cancel (softmax of one column) are measured against the cotangent.
TEST_CASE("gradients in float agree with those in double on every backend", "[ops][gradient]") {
  for (const OpCase& c : op_cases()) {
    if (!any_differentiable(c)) continue;
    const Inputs inputs = c.draw();
    const Reference value = c.reference(inputs);
    for (Backend& backend : backends()) {
      INFO(c.name << ", " << backend.one.kernels<float>().name);
      const Gradients<float> one = gradients<float>(backend.one, c, inputs);
      const Gradients<float> two = gradients<float>(backend.two, c, inputs);
      const Gradients<double> exact = gradients<double>(backend.one, c, inputs);
      CHECK(one.shape == value.shape);
      CHECK(mismatch(one.value, value) == "");  // recording must not change the result beyond rounding
      CHECK(same_bits(one.value, two.value));
      const double cotangent = largest(random_values(static_cast<std::int64_t>(one.value.size()), 99));
      for (std::size_t which = 0; which < inputs.size(); ++which) {
        const std::vector<float>& g = one.of_input[which];
        const std::vector<double>& want = exact.of_input[which];
        INFO("input " << which);
        CHECK(same_bits(g, two.of_input[which]));
        REQUIRE(g.size() == want.size());
        REQUIRE(std::isfinite(largest(want)));
        const double terms = static_cast<double>(std::max(one.value.size(), g.size()));
        const double tolerance = 16 * 1.2e-7 * std::sqrt(terms) * std::max(largest(want), cotangent);
        double worst = 0;
        for (std::size_t i = 0; i < g.size(); ++i) {
          const double difference = std::abs(static_cast<double>(g[i]) - want[i]);
          worst = difference <= worst ? worst : difference;  // a NaN stays
        }
        CHECK(worst <= tolerance);
      }
    }
  }
}

TEST_CASE("the gradient of one input does not need the others watched", "[ops][gradient]") {
  Context& ctx = backends()[0].one;
  for (const OpCase& c : op_cases()) {
    if (!any_differentiable(c) || c.inputs.size() < 2) continue;
    const Inputs inputs = c.draw();
    const Gradients<double> all = gradients<double>(ctx, c, inputs);
    for (std::size_t which = 0; which < inputs.size(); ++which) {
      if (!c.inputs[which].differentiable) continue;
      INFO(c.name << ", only input " << which);
      const Gradients<double> one = gradients<double>(ctx, c, inputs, static_cast<int>(which));
      CHECK(same_bits(one.of_input[which], all.of_input[which]));
    }
  }
}

TEST_CASE("a tensor used twice gets both gradients", "[ops][gradient]") {
  Context& ctx = backends()[0].one;
  const Tensor<double> x = ctx.from<double>(Shape{3}, {2, -3, 0.5});
  const Tensor<double> ones = ctx.full<double>(Shape{3}, 1);
  Tape tape;
  const TapeScope scope(ctx, &tape);
  tape.watch(x);
  const auto gradient_of = [&](const Tensor<double>& y, const std::vector<double>& cotangent) {
    tape.backward(ctx, y, ctx.from<double>(y.shape(), std::span<const double>(cotangent)));
    const std::vector<double> g = read_back(ctx, tape.gradient(x));
    tape.clear();
    tape.watch(x);
    return g;
  };
  CHECK(gradient_of(multiply(ctx, x, x), {1, 10, 100}) == std::vector<double>{4, -60, 100});
  CHECK(gradient_of(add(ctx, x, x), {1, 10, 100}) == std::vector<double>{2, 20, 200});
  CHECK(gradient_of(subtract(ctx, x, x), {1, 10, 100}) == std::vector<double>{0, 0, 0});
  CHECK(gradient_of(concat(ctx, {x, x}, 0), {1, 2, 3, 40, 50, 60}) == std::vector<double>{41, 52, 63});
  CHECK(gradient_of(concat(ctx, {x, ones, x}, 0), {1, 2, 3, 7, 7, 7, 40, 50, 60}) == std::vector<double>{41, 52, 63});
  // Two paths of different length, and one buffer handed to both operands of an add.
  const Tensor<double> y = add(ctx, x, multiply(ctx, x, ones));
  CHECK(gradient_of(add(ctx, y, y), {1, 10, 100}) == std::vector<double>{4, 40, 400});
  // A leaf that is the output, too.
  CHECK(gradient_of(x, {5, 6, 7}) == std::vector<double>{5, 6, 7});
  CHECK(read_back(ctx, ones) == std::vector<double>{1, 1, 1});
}

TEST_CASE("gradients that start as one buffer do not write into each other", "[ops][gradient]") {
  Context& ctx = backends()[0].one;
  const Tensor<double> x = ctx.from<double>(Shape{2}, {1, 2}), y = ctx.from<double>(Shape{2}, {3, 4});
  const Tensor<double> cotangent = ctx.from<double>(Shape{2}, {5, 7});
  Tape tape;
  const TapeScope scope(ctx, &tape);
  tape.watch(x);
  tape.watch(y);
  const Tensor<double> scaled = scale_shift(ctx, x, 10, 0);
  const Tensor<double> sum = add(ctx, x, y);             // hands both operands the cotangent's own memory
  tape.backward(ctx, add(ctx, sum, scaled), cotangent);  // and x gets more once sum's backward has run
  CHECK(read_back(ctx, tape.gradient(x)) == std::vector<double>{55, 77});
  CHECK(read_back(ctx, tape.gradient(y)) == std::vector<double>{5, 7});
  CHECK(read_back(ctx, cotangent) == std::vector<double>{5, 7});
}

TEST_CASE("attention of a tensor with itself adds three gradients", "[ops][gradient]") {
  Context& ctx = backends()[0].one;
  OpCase c;
  c.inputs = {{Shape{2, 5, 6}}};
  c.name = "self-attention";
  c.run_double = [](Context& k, const Tensors<double>& in) { return attention(k, in[0], in[0], in[0], 2, 0.5); };
  const Inputs inputs = c.draw();
  const std::vector<double> g = gradients<double>(ctx, c, inputs).of_input[0];
  for (std::size_t i = 0; i < g.size(); ++i) {
    std::vector<double> direction(g.size());
    direction[i] = 1;
    CHECK(close(g[i], central_difference(ctx, c, inputs, 0, direction)));
  }
}

TEST_CASE("a reshape between ops shares its tensor's gradient", "[ops][gradient]") {
  Context& ctx = backends()[0].one;
  const Tensor<double> x = ctx.from<double>(Shape{2, 3}, {1, 2, 3, 4, 5, 6});
  const Tensor<double> w = ctx.from<double>(Shape{6}, {1, -1, 2, -2, 3, -3});
  Tape tape;
  const TapeScope scope(ctx, &tape);
  tape.watch(x);
  const Tensor<double> middle = scale_shift(ctx, x, 2, 0);
  const Tensor<double> flat = multiply(ctx, middle.reshape({6}), w);
  const Tensor<double> square = multiply(ctx, x.reshape({3, 2}), x.reshape({3, 2}));
  const Tensor<double> y = add(ctx, flat.reshape({3, 2}), square);
  tape.backward(ctx, y.reshape({6}), ctx.full<double>(Shape{6}, 1));
  const Tensor<double> g = tape.gradient(x);
  CHECK(g.shape() == Shape{2, 3});
  CHECK(read_back(ctx, g) == std::vector<double>{4, 2, 10, 4, 16, 6});  // 2 w + 2 x
  CHECK(read_back(ctx, tape.gradient(x.reshape({6}))) == read_back(ctx, g));
}

TEST_CASE("a chain of 10000 ops does not overflow the stack and gives its memory back", "[ops][gradient]") {
  Context ctx = Context::cpu(1);
  const std::int64_t n = 512;
  const Tensor<double> x = ctx.full<double>(Shape{n}, 1), one = ctx.full<double>(Shape{n}, 1);
  Tape tape;
  {
    const TapeScope scope(ctx, &tape);
    tape.watch(x);
    Tensor<double> y = x;
    for (int i = 0; i < 10000; ++i) y = add(ctx, y, one);
    CHECK(tape.size() == 10000);
    CHECK(y.values()[n - 1] == 10001);
    const std::size_t before = ctx.memory().bytes_reserved();
    tape.backward(ctx, y, one);
    // Gradients of a chain replace one another; only a handful of blocks may come on top of what forward needed.
    CHECK(ctx.memory().bytes_reserved() <= before + 8 * n * sizeof(double));
  }
  CHECK(tape.size() == 0);
  CHECK(read_back(ctx, tape.gradient(x)) == std::vector<double>(static_cast<std::size_t>(n), 1.0));
  ctx.memory().trim();
  // x, one, the gradient and a little bookkeeping: the 10000 results are gone.
  CHECK(ctx.memory().bytes_reserved() <= 8 * n * sizeof(double));
}

TEST_CASE("backward releases intermediates on its way", "[ops][gradient]") {
  Context ctx = Context::cpu(1);
  const std::int64_t n = 4096;
  const Tensor<double> x = ctx.full<double>(Shape{n}, 0.5);
  Tape tape;
  const TapeScope scope(ctx, &tape);
  tape.watch(x);
  Tensor<double> y = x;
  for (int i = 0; i < 200; ++i) y = multiply(ctx, y, y);  // keeps its operands and makes two gradients a step
  const std::size_t before = ctx.memory().bytes_reserved();
  const Tensor<double> cotangent = ctx.full<double>(y.shape(), 1);
  tape.backward(ctx, y, cotangent);
  CHECK(ctx.memory().bytes_reserved() <= before + 8 * static_cast<std::size_t>(n) * sizeof(double));
}

TEST_CASE("a second step reuses the memory of the first", "[ops][gradient]") {
  Context ctx = Context::cpu(2);
  Inputs inputs = {Input(Shape{9, 16}), Input(Shape{8, 16}), Input(Shape{8}), Input(Shape{9, 8})};
  for (std::size_t i = 0; i < inputs.size(); ++i) inputs[i].values = random_values(inputs[i].size(), 5);
  const Tensors<float> in = upload<float>(ctx, inputs);
  Tape tape;
  std::vector<float> first;
  std::uint64_t allocations = 0;
  for (int step = 0; step < 4; ++step) {
    tape.clear();
    tape.watch(in[1]);
    tape.watch(in[2]);
    {
      const TapeScope scope(ctx, &tape);
      LinearEpilogue<float> epilogue;
      epilogue.activation = Activation::gelu;
      const Tensor<float> y = linear(ctx, in[0], in[1], in[2], epilogue);
      tape.backward(ctx, l1_loss(ctx, softmax(ctx, y, 1), in[3]));
    }
    const std::vector<float> g = read_back(ctx, tape.gradient(in[1]));
    CHECK_FALSE(tape.gradient(in[0]));
    if (step == 0) first = g;
    CHECK(same_bits(first, g));
    if (step == 1) allocations = ctx.memory().system_allocations();
  }
  CHECK(ctx.memory().system_allocations() == allocations);
}

TEST_CASE("nothing is recorded without a tape or without a watched input", "[ops][gradient]") {
  Context& ctx = backends()[0].one;
  CHECK(ctx.tape() == nullptr);
  Tape tape;
  for (const OpCase& c : op_cases()) {
    INFO(c.name);
    const Tensors<float> in = upload<float>(ctx, c.draw());
    for (const Tensor<float>& x : in) tape.watch(x);
    c.run(ctx, in);  // watched, but the context has no tape
    CHECK(tape.size() == 0);
    tape.clear();
    const TapeScope scope(ctx, &tape);
    c.run(ctx, in);  // a tape, but nothing watched
    CHECK(tape.size() == 0);
    tape.clear();
  }
  // Scopes nest: an inner null scope is inference.
  const Tensor<float> x = ctx.full<float>(Shape{3}, 1);
  tape.watch(x);
  const TapeScope outer(ctx, &tape);
  {
    const TapeScope inner(ctx, nullptr);
    const Tensor<float> y = add(ctx, x, x);
    CHECK(tape.size() == 0);
    CHECK_FALSE(tape.tracks(y));
  }
  CHECK(tape.tracks(add(ctx, x, x)));
  CHECK(tape.size() == 1);
}

TEST_CASE("the target of the loss gets no gradient", "[ops][gradient]") {
  Context& ctx = backends()[0].one;
  const Tensor<double> p = ctx.from<double>(Shape{4}, {1, -1, 2, 2}), t = ctx.from<double>(Shape{4}, {0, 0, 2, 5});
  Tape tape;
  const TapeScope scope(ctx, &tape);
  tape.watch(p);
  tape.watch(t);
  tape.backward(ctx, l1_loss(ctx, p, t));
  CHECK(read_back(ctx, tape.gradient(p)) == std::vector<double>{0.25, -0.25, 0, -0.25});  // sign(0) = 0
  CHECK_FALSE(tape.gradient(t));
}

TEST_CASE("the gradient of relu at 0 is 0, and of dropped elements too", "[ops][gradient]") {
  for (Backend& backend : backends()) {
    Context& ctx = backend.one;
    const Tensor<float> x = ctx.from<float>(Shape{5}, {-1, 0, -0.0f, 1e-30f, 2});
    Tape tape;
    const TapeScope scope(ctx, &tape);
    tape.watch(x);
    tape.backward(ctx, relu(ctx, x), ctx.full<float>(Shape{5}, 3));
    CHECK(read_back(ctx, tape.gradient(x)) == std::vector<float>{0, 0, 0, 3, 3});

    const Tensor<float> ones = ctx.full<float>(Shape{1000}, 1);
    tape.watch(ones);
    const Tensor<float> y = dropout(ctx, ones, 0.25, true);
    tape.backward(ctx, y, ones);
    CHECK(same_bits(read_back(ctx, tape.gradient(ones)), read_back(ctx, y)));  // the same mask and factor
  }
}

TEST_CASE("in training, batch norm's running statistics move once a forward pass and not in backward",
          "[ops][gradient]") {
  Context& ctx = backends()[0].one;
  const Tensor<double> x = ctx.from<double>(Shape{4, 1}, {1, 2, 3, 6}), w = ctx.full<double>(Shape{1}, 2),
                       b = ctx.zeros<double>(Shape{1});
  Tensor<double> mean = ctx.zeros<double>(Shape{1}), variance = ctx.full<double>(Shape{1}, 1);
  Tape tape;
  const TapeScope scope(ctx, &tape);
  tape.watch(x);
  const Tensor<double> y = batch_norm_training(ctx, x, w, b, mean, variance, 1e-5, 0.5);
  CHECK(mean.item() == Approx(1.5));                       // half of 3
  CHECK(variance.item() == Approx(0.5 + 0.5 * 14 / 3.0));  // unbiased
  const double m = mean.item(), v = variance.item();
  tape.backward(ctx, y, ctx.full<double>(y.shape(), 1));
  CHECK(mean.item() == m);
  CHECK(variance.item() == v);
  for (double g : read_back(ctx, tape.gradient(x))) CHECK(std::abs(g) < 1e-12);  // shifting all by one changes nothing
}

TEST_CASE("backward refuses what it cannot do", "[ops][gradient]") {
  Context& ctx = backends()[0].one;
  const Tensor<float> x = ctx.full<float>(Shape{3}, 1);
  Tape tape;
  const TapeScope scope(ctx, &tape);
  tape.watch(x);
  const Tensor<float> y = add(ctx, x, x);
  CHECK_THROWS_AS(tape.backward(ctx, y), ShapeError);
  CHECK_THROWS_WITH(tape.backward(ctx, y), ContainsSubstring("one element") && ContainsSubstring("(3)"));
  CHECK_THROWS_AS(tape.backward(ctx, ctx.full<float>(Shape{1}, 1)), ShapeError);
  CHECK_THROWS_WITH(tape.backward(ctx, y, ctx.full<float>(Shape{4}, 1)),
                    ContainsSubstring("(3)") && ContainsSubstring("(4)"));
  CHECK(tape.size() == 1);
}
