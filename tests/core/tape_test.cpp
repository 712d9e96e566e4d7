// Tape: accumulation, shared buffers, identity through reshapes, and what it costs when nobody asks.
// Surprising choice: the ops here are written in the test, three lines each, so that the tape is tested without
// the library's own ops.
#include <promptiqa/core/tape.hpp>

#include <type_traits>
#include <vector>

#include "catch.hpp"

using namespace promptiqa;

namespace {

using Td = Tensor<double>;

std::vector<double> numbers(const Td& x) { return std::vector<double>(x.values().begin(), x.values().end()); }

Td scaled(Context& ctx, const Td& x, double factor) {
  Td y = ctx.allocate<double>(x.shape());
  for (std::int64_t i = 0; i < x.numel(); ++i) y.mutable_data()[i] = factor * x.data()[i];
  return y;
}

/// y = factor * x.
Td scale(Context& ctx, const Td& x, double factor) {
  const Td y = scaled(ctx, x, factor);
  if (Tape* tape = ctx.tape(); tape && tape->tracks(x))
    tape->record(y, [tape, x, factor](Context& c, const Td& dy) { tape->accumulate(c, x, scaled(c, dy, factor)); });
  return y;
}

/// y = a + b; both inputs are handed the very same gradient buffer.
Td add(Context& ctx, const Td& a, const Td& b) {
  Td y = ctx.copy(a);
  for (std::int64_t i = 0; i < a.numel(); ++i) y.mutable_data()[i] += b.data()[i];
  if (Tape* tape = ctx.tape(); tape && (tape->tracks(a) || tape->tracks(b)))
    tape->record(y, [tape, a, b](Context& c, const Td& dy) {
      tape->accumulate(c, a, dy);
      tape->accumulate(c, b, dy);
    });
  return y;
}

/// y = a * b.
Td multiply(Context& ctx, const Td& a, const Td& b) {
  const auto product = [](Context& c, const Td& p, const Td& q) {
    Td r = c.copy(p);
    for (std::int64_t i = 0; i < p.numel(); ++i) r.mutable_data()[i] *= q.data()[i];
    return r;
  };
  const Td y = product(ctx, a, b);
  if (Tape* tape = ctx.tape(); tape && (tape->tracks(a) || tape->tracks(b)))
    tape->record(y, [tape, a, b, product](Context& c, const Td& dy) {
      tape->accumulate(c, a, product(c, dy, b));
      tape->accumulate(c, b, product(c, dy, a));
    });
  return y;
}

}  // namespace

TEST_CASE("gradients flow back through a chain", "[core][tape]") {
  Context ctx = Context::cpu(1);
  Tape tape;
  const TapeScope scope(ctx, &tape);
  const Td x = ctx.from<double>({2}, {3, 5});
  tape.watch(x);
  const Td y = scale(ctx, scale(ctx, x, 2), 7);
  CHECK(tape.size() == 2);
  CHECK(tape.tracks(y));
  tape.backward(ctx, y, ctx.from<double>({2}, {1, 10}));
  CHECK(numbers(tape.gradient(x)) == std::vector<double>{14, 140});
  CHECK(tape.size() == 0);              // nodes are released on the way
  CHECK(!tape.gradient(y));             // and so are intermediate gradients
}

TEST_CASE("a tensor used twice gets the sum of its gradients", "[core][tape]") {
  Context ctx = Context::cpu(1);
  Tape tape;
  const TapeScope scope(ctx, &tape);
  const Td x = ctx.from<double>({2}, {3, 5});
  tape.watch(x);
  SECTION("by two ops") {
    const Td y = add(ctx, scale(ctx, x, 2), scale(ctx, x, 7));
    tape.backward(ctx, y, ctx.full<double>({2}, 1));
    CHECK(numbers(tape.gradient(x)) == std::vector<double>{9, 9});
  }
  SECTION("by one op") {
    tape.backward(ctx, multiply(ctx, x, x), ctx.full<double>({2}, 1));
    CHECK(numbers(tape.gradient(x)) == std::vector<double>{6, 10});
  }
  SECTION("by one op that hands the same buffer twice") {
    const Td cotangent = ctx.from<double>({2}, {1, 2});
    tape.backward(ctx, add(ctx, x, x), cotangent);
    CHECK(numbers(tape.gradient(x)) == std::vector<double>{2, 4});
    CHECK(numbers(cotangent) == std::vector<double>{1, 2});  // the caller's buffer is as it was
  }
  SECTION("along paths of different length") {
    Td y = x;
    for (int i = 0; i < 5; ++i) y = add(ctx, y, x);  // 6 x
    tape.backward(ctx, y, ctx.full<double>({2}, 1));
    CHECK(numbers(tape.gradient(x)) == std::vector<double>{6, 6});
  }
}

TEST_CASE("one buffer handed to two inputs is not changed for the other", "[core][tape]") {
  Context ctx = Context::cpu(1);
  Tape tape;
  const TapeScope scope(ctx, &tape);
  const Td a = ctx.from<double>({2}, {3, 5}), b = ctx.from<double>({2}, {1, 1});
  tape.watch(a);
  tape.watch(b);
  const Td doubled = scale(ctx, a, 10);           // reached last, adds 10 to a's gradient
  const Td sum = add(ctx, a, b);                  // a and b share dy
  const Td y = add(ctx, sum, doubled);
  tape.backward(ctx, y, ctx.full<double>({2}, 1));
  CHECK(numbers(tape.gradient(a)) == std::vector<double>{11, 11});
  CHECK(numbers(tape.gradient(b)) == std::vector<double>{1, 1});
}

TEST_CASE("a reshape is the same tensor to the tape", "[core][tape]") {
  Context ctx = Context::cpu(1);
  Tape tape;
  const TapeScope scope(ctx, &tape);
  const Td x = ctx.from<double>({2, 3}, {1, 2, 3, 4, 5, 6});
  tape.watch(x.reshape({6}));
  const Td y = add(ctx, scale(ctx, x.reshape({3, 2}), 2), scale(ctx, x, 1).reshape({3, 2}));
  CHECK(tape.size() == 3);  // none for the reshapes
  tape.backward(ctx, y.reshape({-1}), ctx.full<double>({6}, 1));
  const Td gradient = tape.gradient(x);
  CHECK(gradient.shape() == Shape{2, 3});
  CHECK(numbers(gradient) == std::vector<double>(6, 3));
}

TEST_CASE("what is not tracked costs no node", "[core][tape]") {
  Context ctx = Context::cpu(1);
  Tape tape;
  const Td x = ctx.from<double>({1}, {3}), w = ctx.from<double>({1}, {2});
  {
    const TapeScope scope(ctx, &tape);
    scale(ctx, x, 2);
    CHECK(tape.size() == 0);
    tape.watch(w);
    const Td y = multiply(ctx, scale(ctx, x, 2), w);
    CHECK(tape.size() == 1);
    CHECK(!tape.tracks(x));
    {
      const TapeScope inference(ctx, nullptr);
      scale(ctx, w, 2);
      CHECK(tape.size() == 1);
    }
    CHECK(ctx.tape() == &tape);
    tape.backward(ctx, y);
    CHECK(tape.gradient(w).item() == 6);
    CHECK(!tape.gradient(x));
  }
  CHECK(ctx.tape() == nullptr);
}

TEST_CASE("branches that do not reach the output get nothing", "[core][tape]") {
  Context ctx = Context::cpu(1);
  Tape tape;
  const TapeScope scope(ctx, &tape);
  const Td x = ctx.from<double>({1}, {3}), unused = ctx.from<double>({1}, {4});
  tape.watch(x);
  tape.watch(unused);
  const Td y = scale(ctx, x, 2);
  scale(ctx, x, 100);
  scale(ctx, unused, 100);
  tape.backward(ctx, y);
  CHECK(tape.gradient(x).item() == 2);
  CHECK(!tape.gradient(unused));
}

TEST_CASE("backward does not record and restores the tape", "[core][tape]") {
  Context ctx = Context::cpu(1);
  Tape tape;
  const TapeScope scope(ctx, &tape);
  const Td x = ctx.from<double>({1}, {3});
  tape.watch(x);
  const Td y = scale(ctx, x, 2);
  Tape* during = &tape;
  Td z = ctx.copy(y);
  tape.record(z, [&](Context& c, const Td& dy) {
    during = c.tape();
    tape.accumulate(c, y, scale(c, dy, 5));
  });
  tape.backward(ctx, z);
  CHECK(during == nullptr);
  CHECK(ctx.tape() == &tape);
  CHECK(tape.gradient(x).item() == 10);
}

TEST_CASE("a deep tape does not overflow the stack", "[core][tape]") {
  Context ctx = Context::cpu(1);
  Tape tape;
  const TapeScope scope(ctx, &tape);
  const Td x = ctx.from<double>({1}, {1});
  tape.watch(x);
  Td y = x;
  for (int i = 0; i < 100000; ++i) y = scale(ctx, y, i % 2 ? 2 : 0.5);
  tape.backward(ctx, y);
  CHECK(tape.gradient(x).item() == 1);
}

TEST_CASE("the tape can be cleared and used again", "[core][tape]") {
  Context ctx = Context::cpu(1);
  Tape tape;
  const TapeScope scope(ctx, &tape);
  const Td x = ctx.from<double>({1}, {3});
  for (int step = 0; step < 3; ++step) {
    tape.watch(x);
    tape.backward(ctx, scale(ctx, x, 2));
    CHECK(tape.gradient(x).item() == 2);
    tape.clear();
    CHECK(!tape.gradient(x));
    CHECK(!tape.tracks(x));
  }
}

TEST_CASE("a recomputed stretch gives the gradients of a recorded one", "[core][tape]") {
  Context ctx = Context::cpu(1);
  const Td x = ctx.from<double>({3}, {3, 5, -7}), w = ctx.from<double>({3}, {0.5, 2, 4}),
           unused = ctx.full<double>({3}, 9);
  struct Result {
    std::vector<double> y, dx, dw;
    std::size_t nodes;
    int runs;
  };
  const auto run = [&](bool again) {
    Tape tape;
    const TapeScope scope(ctx, &tape);
    int runs = 0;
    // Uses x twice and w, and ends in a tensor that more than one later op reads.
    const auto stretch = [&runs, x, w](Context& c) {
      ++runs;
      return multiply(c, add(c, x, x), add(c, multiply(c, w, x), x));
    };
    tape.watch(x);
    tape.watch(w);
    const Td inner = again ? tape.recompute<double>(ctx, stretch) : stretch(ctx);
    const Td y = multiply(ctx, add(ctx, inner, x), inner);
    const std::size_t nodes = tape.size();
    tape.backward(ctx, y, ctx.full<double>({3}, 1));
    CHECK(!tape.gradient(unused));
    CHECK(ctx.tape() == &tape);
    return Result{numbers(y), numbers(tape.gradient(x)), numbers(tape.gradient(w)), nodes, runs};
  };
  const Result recorded = run(false), recomputed = run(true);
  CHECK(recomputed.y == recorded.y);
  CHECK(recomputed.dx == recorded.dx);
  CHECK(recomputed.dw == recorded.dw);
  CHECK(recorded.runs == 1);
  CHECK(recomputed.runs == 2);
  CHECK(recomputed.nodes == 3);  // the stretch, and two ops behind it
  CHECK(recorded.nodes == 6);
}

TEST_CASE("a recomputed stretch repeats its random keys and leaves later ones alone", "[core][tape]") {
  Context ctx = Context::cpu(1);
  ctx.set_random_state(5, 11);
  Tape tape;
  const TapeScope scope(ctx, &tape);
  const Td x = ctx.from<double>({1}, {3});
  tape.watch(x);
  std::vector<std::uint64_t> keys;
  const Td y = tape.recompute<double>(ctx, [&keys, x](Context& c) {
    keys.push_back(c.next_random_key());
    keys.push_back(c.next_random_key());
    return scale(c, x, 2);
  });
  CHECK(ctx.random_drawn() == 13);
  const std::uint64_t later = ctx.next_random_key();
  tape.backward(ctx, y);
  REQUIRE(keys.size() == 4);
  CHECK(keys[0] != keys[1]);
  CHECK(keys[0] == keys[2]);
  CHECK(keys[1] == keys[3]);
  CHECK(ctx.random_drawn() == 14);
  CHECK(later != keys[0]);
}

TEST_CASE("a recomputed stretch without a tracked input is harmless, and stretches nest", "[core][tape]") {
  Context ctx = Context::cpu(1);
  Tape tape;
  const TapeScope scope(ctx, &tape);
  const Td x = ctx.from<double>({1}, {3}), constant = ctx.from<double>({1}, {10});
  tape.watch(x);
  const Td idle = tape.recompute<double>(ctx, [constant](Context& c) { return scale(c, constant, 2); });
  const Td nested = tape.recompute<double>(ctx, [x](Context& c) {
    const Td half = c.tape() ? c.tape()->recompute<double>(c, [x](Context& d) { return multiply(d, x, x); })
                             : multiply(c, x, x);
    return multiply(c, half, x);
  });
  tape.backward(ctx, add(ctx, idle, nested));
  CHECK(tape.gradient(x).item() == 27);
  CHECK(!tape.gradient(constant));
}

TEST_CASE("mistakes are named", "[core][tape]") {
  Context ctx = Context::cpu(1);
  Tape tape;
  const TapeScope scope(ctx, &tape);
  const Td x = ctx.from<double>({2}, {3, 5});
  CHECK_THROWS_WITH(tape.backward(ctx, x, x), ContainsSubstring("has not recorded the output"));
  tape.watch(x);
  const Td y = scale(ctx, x, 2);
  CHECK_THROWS_WITH(tape.backward(ctx, y), ContainsSubstring("one element, got shape (2)"));
  CHECK_THROWS_WITH(tape.backward(ctx, y, ctx.full<double>({3}, 1)), ContainsSubstring("has shape (3)"));
  CHECK_THROWS_AS(tape.backward(ctx, Td(), Td()), ShapeError);
  CHECK(ctx.tape() == &tape);
  STATIC_REQUIRE(!std::is_copy_constructible<Tape>::value);
}
