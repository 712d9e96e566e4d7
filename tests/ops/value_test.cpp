// Every op case against its definition, on every CPU backend, in float and double; and that no op lacks a case.
// Surprising choice: the tolerance comes with the reference (reference_ops.hpp): epsilon(T) times the error bound of
// each element, a sum of n terms having n times the sum of their magnitudes. That is the worst case of any order of
// summation, yet far below the size of one term, so a term left out or counted twice is still seen.
#include <fstream>
#include <iterator>
#include <set>
#include <string>
#include <vector>

#include "backends.hpp"

using namespace promptiqa_test;

namespace {

template <class T>
void check_case(const OpCase& c, const Inputs& inputs, const Reference& want) {
  for (Backend& backend : backends()) {
    INFO(c.name << ", " << backend.one.kernels<T>().name << ", " << sizeof(T) << " bytes an element");
    std::vector<T> values[2];
    for (Context* ctx : {&backend.one, &backend.two}) {
      const Tensors<T> in = upload<T>(*ctx, inputs);
      poison(*ctx);
      const Tensor<T> y = c.run(*ctx, in);
      CHECK(y.shape() == want.shape);
      const bool is_input = std::any_of(in.begin(), in.end(), [&](const Tensor<T>& x) { return x.id() == y.id(); });
      CHECK((is_input || nothing_past_the_end(y)));  // dropout in evaluation returns its input, unpoisoned
      values[ctx == &backend.two] = read_back(*ctx, y);
      for (std::size_t i = 0; i < in.size(); ++i) {
        const std::vector<T> before(inputs[i].values.begin(), inputs[i].values.end());
        CHECK(same_bits(read_back(*ctx, in[i]), before));  // inputs are never written
      }
    }
    CHECK(mismatch(values[0], want) == "");
    CHECK(same_bits(values[0], values[1]));
  }
}

}  // namespace

TEST_CASE("every op computes its definition on every backend", "[ops]") {
  for (const OpCase& c : op_cases()) {
    const Inputs inputs = c.draw();
    const Reference want = c.reference(inputs);
    check_case<float>(c, inputs, want);
    check_case<double>(c, inputs, want);
  }
}

TEST_CASE("the cases are small and have names of their own", "[ops]") {
  std::set<std::string> names;
  for (const OpCase& c : op_cases()) {
    INFO(c.name);
    CHECK(names.insert(c.name).second);
    for (const CaseInput& input : c.inputs) CHECK(input.shape.numel() < 20000);
  }
}

TEST_CASE("the comparison itself refuses what it should", "[ops]") {
  Reference want(Shape{3});
  want[0] = Bounded(1, 1), want[1] = Bounded(-2, 2), want[2] = Bounded(0, 0);
  CHECK(mismatch<float>({1, -2, 0}, want) == "");
  CHECK(mismatch<float>({1 + 1e-7f, -2 - 2e-7f, 0}, want) == "");
  CHECK(mismatch<float>({1 + 3e-7f, -2, 0}, want) != "");
  CHECK(mismatch<float>({1, -2, 1e-30f}, want) != "");
  CHECK(mismatch<float>({1, -2}, want) != "");
  CHECK(mismatch<float>({1, std::numeric_limits<float>::quiet_NaN(), 0}, want) != "");
  CHECK(mismatch<float>({1, -2, std::numeric_limits<float>::infinity()}, want) != "");
  want[1] = Bounded(std::numeric_limits<double>::quiet_NaN(), 1);
  CHECK(mismatch<float>({1, -2, 0}, want) != "");
}

TEST_CASE("no op lacks a case", "[ops]") {
  std::set<std::string> tested;
  for (const OpCase& c : op_cases()) tested.insert(c.op);
  std::set<std::string> declared;
  for (const char* header : {"attention", "conv2d", "elementwise", "linear", "norm", "pool", "rearrange", "softmax"}) {
    std::ifstream file(std::string(PROMPTIQA_SOURCE_DIR) + "/include/promptiqa/ops/" + header + ".hpp");
    REQUIRE(file.good());
    const std::string text((std::istreambuf_iterator<char>(file)), std::istreambuf_iterator<char>());
    const std::string before = "\nTensor<T> ";
    std::size_t found = 0;
    for (std::size_t at = text.find(before); at != std::string::npos; at = text.find(before, at + 1)) {
      const std::size_t first = at + before.size(), open = text.find('(', first);
      REQUIRE(open != std::string::npos);
      declared.insert(text.substr(first, open - first));
      ++found;
    }
    INFO(header);
    CHECK(found > 0);
  }
  // A further header must be added to the list above.
  std::ifstream all(std::string(PROMPTIQA_SOURCE_DIR) + "/include/promptiqa/ops/all.hpp");
  const std::string text((std::istreambuf_iterator<char>(all)), std::istreambuf_iterator<char>());
  std::size_t includes = 0;
  for (std::size_t at = text.find("#include"); at != std::string::npos; at = text.find("#include", at + 1)) ++includes;
  CHECK(includes == 8);
  declared.erase("matmul_by_rows");  // for inference only: a case of its own below
  CHECK(tested == declared);
}

TEST_CASE("a product summed by rows is the product, and says which rows are done", "[ops]") {
  for (const CpuBackend backend : {CpuBackend::automatic, CpuBackend::eigen}) {
    Context ctx = Context::cpu(2, backend);
    std::vector<double> numbers(37 * 19 + 37 * 23);
    for (std::size_t i = 0; i < numbers.size(); ++i) numbers[i] = std::sin(static_cast<double>(i));
    const Tensor<double> a = ctx.from<double>(Shape{37, 19}, std::span<const double>(numbers.data(), 37 * 19));
    const Tensor<double> b =
        ctx.from<double>(Shape{37, 23}, std::span<const double>(numbers.data() + 37 * 19, 37 * 23));
    const Tensor<double> want = matmul(ctx, a, b, true, false, 1.0);
    for (const std::int64_t rows : {1, 10, 36, 37, 100}) {
      std::vector<std::int64_t> ends{0};
      const Tensor<double> y = matmul_by_rows(ctx, a, b, rows, [&](std::int64_t begin, std::int64_t end) {
        CHECK(begin == ends.back());
        ends.push_back(end);
      });
      CHECK(ends.back() == 37);
      CHECK(static_cast<std::int64_t>(ends.size()) == 1 + (37 + rows - 1) / rows);
      REQUIRE(y.shape() == want.shape());
      for (std::size_t i = 0; i < want.values().size(); ++i)
        if (!(std::abs(y.values()[i] - want.values()[i]) < 1e-12)) FAIL("rows " << rows << ", element " << i);
    }
    CHECK_THROWS_WITH(matmul_by_rows(ctx, a, b, 0, nullptr), ContainsSubstring("matmul_by_rows"));
    CHECK_THROWS_AS(matmul_by_rows(ctx, a, ctx.zeros<double>(Shape{36, 23}), 5, nullptr), ShapeError);
    Tape tape;
    tape.watch(a);
    const TapeScope recording(ctx, &tape);
    CHECK_THROWS_WITH(matmul_by_rows(ctx, a, b, 5, nullptr), ContainsSubstring("inference"));
  }
}

TEST_CASE("a packed convolution is for inference, with the kernels it was packed for", "[ops]") {
  Context ctx = Context::cpu(1), eigen = Context::cpu(1, CpuBackend::eigen);
  const Tensor<float> x = ctx.full<float>(Shape{2, 3, 5, 6}, 0.5f), weight = ctx.full<float>(Shape{4, 3, 3, 3}, 0.25f);
  const Tensor<float> scale = ctx.from<float>(Shape{4}, {1, 2, 3, -4}), bias = ctx.full<float>(Shape{4}, 1);
  const auto packed = PackedConv2d<float>::pack(ctx, weight, scale);
  const Conv2dOptions options = Conv2dOptions::square(1, 0);
  const Tensor<float> residual = ctx.full<float>(Shape{2, 4, 3, 4}, 2);
  const Tensor<float> y = conv2d(ctx, x, packed, bias, options, {Activation::relu, &residual});
  // 27 products of 0.5 * 0.25 are 3.375.
  const float want[] = {6.375f, 9.75f, 13.125f, 0.0f};
  for (std::int64_t i = 0; i < y.numel(); ++i) REQUIRE(y.values()[static_cast<std::size_t>(i)] == want[i / 12 % 4]);
  CHECK_THROWS_WITH(conv2d(eigen, x, packed, bias, options), ContainsSubstring("cpu eigen"));
  CHECK_THROWS_WITH(conv2d(ctx, x, packed, bias, options, {Activation::none, &x}), ContainsSubstring("residual"));
  CHECK_THROWS_WITH(PackedConv2d<float>::pack(ctx, weight, ctx.zeros<float>(Shape{3})), ContainsSubstring("scale"));
  for (const Shape& empty : {Shape{4, 3, 0, 3}, Shape{0, 3, 3, 3}})
    CHECK_THROWS_WITH(PackedConv2d<float>::pack(ctx, ctx.allocate<float>(empty), {}),
                      ContainsSubstring("empty dimension"));
  CHECK_THROWS_WITH(conv2d(ctx, x, packed, bias, options, {Activation::gelu, nullptr}), ContainsSubstring("gelu"));
  Tape tape;
  tape.watch(x);
  const TapeScope recording(ctx, &tape);
  CHECK_THROWS_WITH(conv2d(ctx, x, packed, bias, options), ContainsSubstring("inference"));
}

TEST_CASE("a matrix packed for another backend is not used", "[ops]") {
  if (backends().size() < 2) return;
  for (Backend& maker : backends()) {
    for (Backend& user : backends()) {
      INFO(maker.one.kernels<float>().name << " for " << user.one.kernels<float>().name);
      const OpCase* c = nullptr;
      for (const OpCase& candidate : op_cases())
        if (candidate.name == "linear with bias") c = &candidate;
      REQUIRE(c != nullptr);
      const Inputs inputs = c->draw();
      const Tensors<float> there = upload<float>(maker.one, inputs), here = upload<float>(user.one, inputs);
      const auto packed = PackedMatrix<float>::pack(maker.one, there[1], true);
      LinearEpilogue<float> epilogue;
      epilogue.packed = &packed;
      const Tensor<float> y = linear(user.one, here[0], here[1], here[2], epilogue);
      CHECK(mismatch(read_back(user.one, y), c->reference(inputs)) == "");
    }
  }
}

// Too large for the list: kernels may lay such a weight out in parts, each with its share of bias and residual.
TEST_CASE("a linear layer whose weight is larger than a cache", "[ops]") {
  const std::int64_t rows = 70, inputs = 1500, outputs = 3000;  // 18 MB of weights
  OpCase c;
  c.name = "large linear";
  c.inputs = {{Shape{rows, inputs}}, {Shape{outputs, inputs}}, {Shape{outputs}}, {Shape{rows, outputs}}};
  const Inputs in = c.draw();
  for (Backend& backend : backends()) {
    INFO(backend.one.kernels<float>().name);
    std::vector<float> values[2];
    for (Context* ctx : {&backend.one, &backend.two}) {
      const Tensors<float> x = upload<float>(*ctx, in);
      LinearEpilogue<float> epilogue;
      epilogue.activation = Activation::relu;
      epilogue.residual = &x[3];
      values[ctx == &backend.two] = read_back(*ctx, linear(*ctx, x[0], x[1], x[2], epilogue));
    }
    CHECK(same_bits(values[0], values[1]));
    Reference want(Shape{rows * outputs / 101});  // every 101st element: 101 divides neither size
    std::vector<float> got;
    for (std::int64_t i = 0; i < want.size(); ++i) {
      const std::int64_t at = i * 101, row = at / outputs, column = at % outputs;
      Sum sum;
      for (std::int64_t k = 0; k < inputs; ++k) sum.add(Bounded(in[0][row * inputs + k]) * in[1][column * inputs + k]);
      sum.add(in[2][column]);
      want[i] = reference::relu(sum.get()) + in[3][at];
      got.push_back(values[0][static_cast<std::size_t>(at)]);
    }
    CHECK(mismatch(got, want) == "");
  }
}

TEST_CASE("dropout masks are uniform, repeatable and the same everywhere", "[ops]") {
  const std::int64_t n = 100000;
  std::vector<float> first;
  for (Backend& backend : backends()) {
    Context& ctx = backend.two;
    ctx.set_random_state(1, 0);
    const Tensor<float> ones = ctx.full<float>(Shape{n}, 1);
    const std::vector<float> a = read_back(ctx, dropout(ctx, ones, 0.3, true));
    const std::vector<float> b = read_back(ctx, dropout(ctx, ones, 0.3, true));
    CHECK_FALSE(same_bits(a, b));  // the stream moves on
    CHECK(ctx.random_drawn() == 2);
    if (first.empty()) first = a;
    CHECK(same_bits(first, a));
    std::int64_t kept = 0, both = 0, pairs = 0;
    for (std::size_t i = 0; i < a.size(); ++i) {
      kept += a[i] != 0;
      both += a[i] != 0 && b[i] != 0;
      pairs += i > 0 && a[i] != 0 && a[i - 1] != 0;
    }
    // Binomial: five standard deviations of 100000 draws are 725 at 0.7 and 791 at 0.49.
    CHECK(std::abs(static_cast<double>(kept) - 0.7 * n) < 725);
    CHECK(std::abs(static_cast<double>(both) - 0.49 * n) < 791);    // two ops do not share a mask
    CHECK(std::abs(static_cast<double>(pairs) - 0.49 * n) < 1200);  // neighbours are independent; pairs overlap
  }
}

TEST_CASE("ops that change nothing return their input", "[ops]") {
  Context& ctx = backends()[0].one;
  const Tensor<float> x = ctx.full<float>(Shape{2, 3, 4, 4}, 2);
  CHECK(dropout(ctx, x, 0.5, false).id() == x.id());
  CHECK(dropout(ctx, x, 0, true).id() == x.id());
  CHECK(avg_pool2d(ctx, x, 1).id() == x.id());
}

TEST_CASE("the initializer-list forms are the same functions", "[ops]") {
  Context& ctx = backends()[0].one;
  const Tensor<float> x = ctx.from<float>(Shape{2, 3}, {1, 2, 3, 4, 5, 6});
  CHECK(read_back(ctx, permute(ctx, x, {1, 0})) == std::vector<float>{1, 4, 2, 5, 3, 6});
  CHECK(read_back(ctx, concat(ctx, {x, x}, 1)) == std::vector<float>{1, 2, 3, 1, 2, 3, 4, 5, 6, 4, 5, 6});
}

TEST_CASE("a packed convolution refuses a residual that a tape records", "[ops]") {
  Context ctx = Context::cpu(1);
  const Tensor<float> x = ctx.full<float>(Shape{1, 2, 3, 3}, 1), residual = ctx.full<float>(Shape{1, 4, 1, 1}, 1);
  const auto packed = PackedConv2d<float>::pack(ctx, ctx.full<float>(Shape{4, 2, 3, 3}, 1), {});
  Tape tape;
  tape.watch(residual);
  const TapeScope recording(ctx, &tape);
  const Conv2dOptions options = Conv2dOptions::square(1, 0);
  CHECK_NOTHROW(conv2d(ctx, x, packed, Tensor<float>(), options));
  CHECK_THROWS_WITH(conv2d(ctx, x, packed, Tensor<float>(), options, {Activation::none, &residual}),
                    ContainsSubstring("inference"));
}
