// What every op refuses, and what its message says: op, argument, expected, found.
// Surprising choice: one table of calls and the words their messages must hold, in order, so that a message which
// merely says "bad shape" fails.
#include <cmath>
#include <functional>
#include <limits>
#include <set>
#include <string>
#include <vector>

#include "backends.hpp"

using namespace promptiqa_test;

namespace {

using F = Tensor<float>;

struct BadCall {
  std::string op;
  std::vector<std::string> words;  // after "op: ", in this order
  std::function<void(Context&)> call;
};

/// A tensor of ones.
F ones(Context& ctx, const Shape& shape) { return ctx.full<float>(shape, 1); }

class BadCalls {
 public:
  std::vector<BadCall> all;

  void add(const std::string& op, std::vector<std::string> words, std::function<void(Context&)> call) {
    all.push_back({op, std::move(words), std::move(call)});
  }

  void linear_and_matmul() {
    const auto bad_linear = [this](std::vector<std::string> words, Shape x, Shape weight, Shape bias, Shape residual) {
      add("linear", std::move(words), [=](Context& c) {
        const F r = ones(c, residual);
        LinearEpilogue<float> epilogue;
        epilogue.residual = &r;
        linear(c, ones(c, x), ones(c, weight), ones(c, bias), epilogue);
      });
    };
    bad_linear({"x", "rank 1 or more", "()"}, {}, {3, 4}, {3}, {2, 3});
    bad_linear({"weight", "rank 2", "(4)"}, {2, 4}, {4}, {3}, {2, 3});
    bad_linear({"weight", "rank 2", "(3, 4, 1)"}, {2, 4}, {3, 4, 1}, {3}, {2, 3});
    bad_linear({"last dimension of x", "4", "(3, 4)", "(2, 5)"}, {2, 5}, {3, 4}, {3}, {2, 3});
    bad_linear({"bias", "3 elements", "2"}, {2, 4}, {3, 4}, {2}, {2, 3});
    bad_linear({"residual", "(2, 3)", "(3, 2)"}, {2, 4}, {3, 4}, {3}, {3, 2});
    bad_linear({"residual", "(2, 3)", "(1, 3)"}, {2, 4}, {3, 4}, {3}, {1, 3});  // it does not broadcast
    add("linear", {"x", "empty"}, [](Context& c) { linear(c, F(), ones(c, {3, 4}), F()); });
    add("linear", {"weight", "empty"}, [](Context& c) { linear(c, ones(c, {2, 4}), F(), F()); });
    add("linear", {"residual", "empty"}, [](Context& c) {
      const F none;
      LinearEpilogue<float> epilogue;
      epilogue.residual = &none;
      linear(c, ones(c, {2, 4}), ones(c, {3, 4}), F(), epilogue);
    });
    const auto with_packed = [](Context& c, const F& x, const F& weight, const Shape& packed_shape) {
      const auto packed = PackedMatrix<float>::pack(c, ones(c, packed_shape), true);
      LinearEpilogue<float> epilogue;
      epilogue.packed = &packed;
      linear(c, x, weight, F(), epilogue);
    };
    add("linear", {"packed", "(3, 4)", "(4, 3)"}, [=](Context& c) {
      with_packed(c, ones(c, {2, 4}), ones(c, {3, 4}), {4, 3});
    });
    add("linear", {"last dimension of x", "4", "(2, 5)"}, [=](Context& c) {
      with_packed(c, ones(c, {2, 5}), F(), {3, 4});
    });
    add("linear", {"weight", "empty"}, [=](Context& c) {  // a packed weight has no backward pass
      Tape tape;
      const TapeScope scope(c, &tape);
      const F x = ones(c, {2, 4});
      tape.watch(x);
      with_packed(c, x, F(), {3, 4});
    });
    add("pack", {"matrix", "rank 2", "(3)"}, [](Context& c) { PackedMatrix<float>::pack(c, ones(c, {3}), true); });
    add("pack", {"matrix", "empty"}, [](Context& c) { PackedMatrix<float>::pack(c, F(), true); });

    const auto bad_matmul = [this](std::vector<std::string> words, Shape a, Shape b, bool ta, bool tb) {
      add("matmul", std::move(words), [=](Context& c) { matmul(c, ones(c, a), ones(c, b), ta, tb, 1); });
    };
    bad_matmul({"a", "rank 2 or more", "(3)"}, {3}, {3, 2}, false, false);
    bad_matmul({"b", "rank 2 or more", "(3)"}, {2, 3}, {3}, false, false);
    bad_matmul({"inner dimensions", "3 of a (2, 3)", "4 of b (4, 5)"}, {2, 3}, {4, 5}, false, false);
    bad_matmul({"inner dimensions", "2 of a (2, 3)", "3 of b (3, 5)"}, {2, 3}, {3, 5}, true, false);
    bad_matmul({"inner dimensions", "3 of a (2, 3)", "5 of b (3, 5)"}, {2, 3}, {3, 5}, false, true);
    bad_matmul({"leading dimensions", "(2, 2, 3)", "(3, 3, 5)"}, {2, 2, 3}, {3, 3, 5}, false, false);
    bad_matmul({"leading dimensions", "(2, 3)", "(1, 3, 5)"}, {2, 3}, {1, 3, 5}, false, false);
    bad_matmul({"leading dimensions", "(2, 1, 2, 3)", "(2, 3, 5)"}, {2, 1, 2, 3}, {2, 3, 5}, false, false);
    add("matmul", {"a", "empty"}, [](Context& c) { matmul(c, F(), ones(c, {3, 4}), false, false, 1); });
    add("matmul", {"b", "empty"}, [](Context& c) { matmul(c, ones(c, {3, 4}), F(), false, false, 1); });
  }

  void attentions() {
    const auto bad = [this](std::vector<std::string> words, Shape q, Shape k, Shape v, int heads) {
      add("attention", std::move(words),
          [=](Context& c) { attention(c, ones(c, q), ones(c, k), ones(c, v), heads, 1); });
    };
    bad({"q", "rank 3", "(3, 4)"}, {3, 4}, {2, 3, 4}, {2, 3, 4}, 2);
    bad({"k", "rank 3", "(3, 4)"}, {2, 3, 4}, {3, 4}, {2, 3, 4}, 2);
    bad({"v", "(2, 3, 4)", "(3, 4)"}, {2, 3, 4}, {2, 3, 4}, {3, 4}, 2);
    bad({"k", "(2, 5, 4)", "(1, 5, 4)"}, {2, 3, 4}, {1, 5, 4}, {1, 5, 4}, 2);
    bad({"k", "(2, 5, 4)", "(2, 5, 6)"}, {2, 3, 4}, {2, 5, 6}, {2, 5, 4}, 2);
    bad({"v", "(2, 5, 4)", "(2, 6, 4)"}, {2, 3, 4}, {2, 5, 4}, {2, 6, 4}, 2);
    bad({"width", "num_heads", "3", "got 4"}, {2, 3, 4}, {2, 3, 4}, {2, 3, 4}, 3);
    bad({"num_heads", "at least 1", "got 0"}, {2, 3, 4}, {2, 3, 4}, {2, 3, 4}, 0);
    bad({"num_heads", "at least 1", "got -2"}, {2, 3, 4}, {2, 3, 4}, {2, 3, 4}, -2);
    bad({"width", "positive", "got 0"}, {2, 3, 0}, {2, 3, 0}, {2, 3, 0}, 1);
    bad({"k", "at least one row", "(2, 0, 4)"}, {2, 3, 4}, {2, 0, 4}, {2, 0, 4}, 2);
    for (int missing = 0; missing < 3; ++missing)
      add("attention", {std::string(1, "qkv"[missing]), "empty"}, [=](Context& c) {
        const F x = ones(c, {2, 3, 4});
        attention(c, missing == 0 ? F() : x, missing == 1 ? F() : x, missing == 2 ? F() : x, 2, 1);
      });
    const auto bad_qkv = [this](std::vector<std::string> words, Shape qkv, int heads) {
      add("attention_qkv", std::move(words), [=](Context& c) { attention_qkv(c, ones(c, qkv), heads, 1); });
    };
    bad_qkv({"qkv", "rank 3", "(3, 12)"}, {3, 12}, 2);
    bad_qkv({"last dimension of qkv", "multiple of 3", "(2, 3, 13)"}, {2, 3, 13}, 1);
    bad_qkv({"width", "num_heads", "3", "got 4"}, {2, 3, 12}, 3);
    bad_qkv({"num_heads", "at least 1", "got 0"}, {2, 3, 12}, 0);
    bad_qkv({"width", "positive", "got 0"}, {2, 3, 0}, 1);
    add("attention_qkv", {"qkv", "empty"}, [](Context& c) { attention_qkv(c, F(), 2, 1); });
  }

  void norms() {
    add("softmax", {"x", "rank 1 or more", "()"}, [](Context& c) { softmax(c, ones(c, {}), 1); });
    add("softmax", {"x", "empty"}, [](Context& c) { softmax(c, F(), 1); });

    const double nan = std::numeric_limits<double>::quiet_NaN(), infinity = std::numeric_limits<double>::infinity();
    const auto bad = [this](std::vector<std::string> words, Shape x, Shape weight, Shape bias, double eps) {
      add("layer_norm", std::move(words),
          [=](Context& c) { layer_norm(c, ones(c, x), ones(c, weight), ones(c, bias), eps); });
    };
    bad({"x", "rank 1 or more", "()"}, {}, {1}, {1}, 1e-5);
    bad({"weight", "5 elements", "got 6"}, {2, 5}, {6}, {5}, 1e-5);
    bad({"bias", "5 elements", "got 2"}, {2, 5}, {5}, {2}, 1e-5);
    bad({"eps", "positive", "got 0"}, {2, 5}, {5}, {5}, 0);
    bad({"eps", "positive", "got -"}, {2, 5}, {5}, {5}, -1e-5);
    bad({"eps", "positive", "nan"}, {2, 5}, {5}, {5}, nan);
    bad({"eps", "finite", "inf"}, {2, 5}, {5}, {5}, infinity);
    for (int missing = 0; missing < 3; ++missing)
      add("layer_norm",
          {missing == 0   ? "x"
           : missing == 1 ? "weight"
                          : "bias",
           "empty"},
          [=](Context& c) {
            const F v = ones(c, {4});
            layer_norm(c, missing == 0 ? F() : v, missing == 1 ? F() : v, missing == 2 ? F() : v, 1e-5);
          });

    struct BatchNorm {
      Shape x{4, 5}, weight{5}, bias{5}, mean{5}, variance{5};
      double eps = 1e-5, momentum = 0.1;
      int missing = -1;
    };
    const auto training = [this](std::vector<std::string> words, BatchNorm b) {
      add("batch_norm_training", std::move(words), [=](Context& c) {
        const auto present = [&](int which, const Shape& s) { return b.missing == which ? F() : ones(c, s); };
        F mean = present(3, b.mean), variance = present(4, b.variance);
        batch_norm_training(c, present(0, b.x), present(1, b.weight), present(2, b.bias), mean, variance, b.eps,
                            b.momentum);
      });
    };
    const auto inference = [this](std::vector<std::string> words, BatchNorm b) {
      add("batch_norm_inference", std::move(words), [=](Context& c) {
        const auto present = [&](int which, const Shape& s) { return b.missing == which ? F() : ones(c, s); };
        batch_norm_inference(c, present(0, b.x), present(1, b.weight), present(2, b.bias), present(3, b.mean),
                             present(4, b.variance), b.eps);
      });
    };
    const auto both = [&](const std::vector<std::string>& words, const BatchNorm& b) {
      training(words, b);
      inference(words, b);
    };
    BatchNorm b;
    b.x = Shape{5}, both({"x", "rank 2 or more", "(5)"}, b), b = {};
    b.weight = Shape{4}, both({"weight", "5 elements", "got 4"}, b), b = {};
    b.bias = Shape{6}, both({"bias", "5 elements", "got 6"}, b), b = {};
    b.mean = Shape{1}, both({"running_mean", "5 elements", "got 1"}, b), b = {};
    b.variance = Shape{4}, both({"running_var", "5 elements", "got 4"}, b), b = {};
    b.eps = 0, both({"eps", "positive", "got 0"}, b), b = {};
    b.eps = nan, both({"eps", "positive", "nan"}, b), b = {};
    b.momentum = -0.1, training({"momentum", "[0, 1]", "got -0.1"}, b), b = {};
    b.momentum = 1.1, training({"momentum", "[0, 1]", "got 1.1"}, b), b = {};
    b.momentum = nan, training({"momentum", "[0, 1]", "nan"}, b), b = {};
    b.x = Shape{1, 5}, training({"channel", "at least 2 values", "(1, 5)"}, b), b = {};
    b.x = Shape{1, 5, 1, 1}, training({"channel", "at least 2 values", "(1, 5, 1, 1)"}, b), b = {};
    b.x = Shape{0, 5}, training({"channel", "at least 2 values", "(0, 5)"}, b), b = {};
    const char* names[] = {"x", "weight", "bias", "running_mean", "running_var"};
    for (int missing = 0; missing < 5; ++missing) b.missing = missing, both({names[missing], "empty"}, b);
  }

  void convolutions() {
    const auto bad = [this](std::vector<std::string> words, Shape x, Shape weight, Shape bias, Conv2dOptions options) {
      add("conv2d", std::move(words),
          [=](Context& c) { conv2d(c, ones(c, x), ones(c, weight), ones(c, bias), options); });
    };
    const auto square = Conv2dOptions::square;
    bad({"x", "rank 4", "(3, 8, 8)"}, {3, 8, 8}, {4, 3, 3, 3}, {4}, square(1, 1));
    bad({"weight", "rank 4", "(4, 3, 3)"}, {2, 3, 8, 8}, {4, 3, 3}, {4}, square(1, 1));
    bad({"x", "2 channels", "(4, 2, 3, 3)", "(2, 3, 8, 8)"}, {2, 3, 8, 8}, {4, 2, 3, 3}, {4}, square(1, 1));
    bad({"bias", "4 elements", "got 3"}, {2, 3, 8, 8}, {4, 3, 3, 3}, {3}, square(1, 1));
    bad({"stride", "at least 1", "got 0, 0"}, {2, 3, 8, 8}, {4, 3, 3, 3}, {4}, square(0, 1));
    bad({"stride", "at least 1", "got 1, -1"}, {2, 3, 8, 8}, {4, 3, 3, 3}, {4}, {1, -1, 1, 1});
    bad({"padding", "[0, 2^31)", "got -1, 0"}, {2, 3, 8, 8}, {4, 3, 3, 3}, {4}, {1, 1, -1, 0});
    bad({"padding", "[0, 2^31)", "got 0, -3"}, {2, 3, 8, 8}, {4, 3, 3, 3}, {4}, {1, 1, 0, -3});
    bad({"padding", "[0, 2^31)", "got 0, 9223372036854775807"}, {2, 3, 8, 8}, {4, 3, 3, 3}, {4},
        {1, 1, 0, std::numeric_limits<std::int64_t>::max()});
    bad({"weight (4, 3, 9, 3)", "fit x", "padding 0, 1", "(2, 3, 8, 8)"}, {2, 3, 8, 8}, {4, 3, 9, 3}, {4},
        {1, 1, 0, 1});
    bad({"weight (4, 3, 3, 11)", "fit x", "padding 0, 1", "(2, 3, 8, 8)"}, {2, 3, 8, 8}, {4, 3, 3, 11}, {4},
        {1, 1, 0, 1});
    bad({"weight", "empty dimension", "(4, 3, 0, 3)"}, {2, 3, 8, 8}, {4, 3, 0, 3}, {4}, square(1, 1));
    bad({"weight", "empty dimension", "(4, 0, 3, 3)"}, {2, 0, 8, 8}, {4, 0, 3, 3}, {4}, square(1, 1));
    bad({"weight", "empty dimension", "(0, 3, 3, 3)"}, {2, 3, 8, 8}, {0, 3, 3, 3}, {0}, square(1, 1));
    add("conv2d", {"x", "empty"}, [=](Context& c) { conv2d(c, F(), ones(c, {4, 3, 3, 3}), F(), square(1, 1)); });
    add("conv2d", {"weight", "empty"}, [=](Context& c) { conv2d(c, ones(c, {2, 3, 8, 8}), F(), F(), square(1, 1)); });

    const auto bad_pool = [this](std::vector<std::string> words, Shape x, std::int64_t kernel) {
      add("avg_pool2d", std::move(words), [=](Context& c) { avg_pool2d(c, ones(c, x), kernel); });
    };
    bad_pool({"x", "rank 4", "(3, 4, 4)"}, {3, 4, 4}, 2);
    bad_pool({"kernel", "at least 1", "got 0"}, {2, 3, 4, 4}, 0);
    bad_pool({"kernel", "at least 1", "got -2"}, {2, 3, 4, 4}, -2);
    bad_pool({"kernel", "fit x (2, 3, 4, 6)", "got 5"}, {2, 3, 4, 6}, 5);
    bad_pool({"kernel", "fit x (2, 3, 6, 4)", "got 5"}, {2, 3, 6, 4}, 5);
    bad_pool({"kernel", "fit x (2, 3, 0, 4)", "got 1"}, {2, 3, 0, 4}, 1);
    add("avg_pool2d", {"x", "empty"}, [](Context& c) { avg_pool2d(c, F(), 2); });
  }

  void elementwise() {
    add("relu", {"x", "empty"}, [](Context& c) { relu(c, F()); });
    add("gelu", {"x", "empty"}, [](Context& c) { gelu(c, F()); });
    add("sigmoid", {"x", "empty"}, [](Context& c) { sigmoid(c, F()); });
    add("scale_shift", {"x", "empty"}, [](Context& c) { scale_shift(c, F(), 1, 2); });

    const auto bad_binary = [this](const std::string& op, F (*function)(Context&, const F&, const F&)) {
      add(op, {"(2, 3)", "(2, 4)", "broadcast"}, [=](Context& c) { function(c, ones(c, {2, 3}), ones(c, {2, 4})); });
      add(op, {"(3)", "(0)", "broadcast"}, [=](Context& c) { function(c, ones(c, {3}), ones(c, {0})); });
      add(op, {"(2, 3)", "(2)", "broadcast"}, [=](Context& c) { function(c, ones(c, {2, 3}), ones(c, {2})); });
      add(op, {"a", "empty"}, [=](Context& c) { function(c, F(), ones(c, {2, 4})); });
      add(op, {"b", "empty"}, [=](Context& c) { function(c, ones(c, {2, 4}), F()); });
    };
    bad_binary("add", promptiqa::add<float>);
    bad_binary("subtract", subtract<float>);
    bad_binary("multiply", multiply<float>);

    for (double p : {-0.1, 1.0, 1.5, std::numeric_limits<double>::quiet_NaN()})
      for (bool training : {true, false})
        add("dropout", {"p", "[0, 1)", "got " + std::to_string(p)},
            [=](Context& c) { dropout(c, ones(c, {3}), p, training); });
    add("dropout", {"x", "empty"}, [](Context& c) { dropout(c, F(), 0.5, true); });

    add("l1_loss", {"target", "(3)", "(4)"}, [](Context& c) { l1_loss(c, ones(c, {3}), ones(c, {4})); });
    add("l1_loss", {"target", "(3, 1)", "(3)"}, [](Context& c) { l1_loss(c, ones(c, {3, 1}), ones(c, {3})); });
    add("l1_loss", {"prediction", "elements", "(0)"}, [](Context& c) { l1_loss(c, ones(c, {0}), ones(c, {0})); });
    add("l1_loss", {"prediction", "empty"}, [](Context& c) { l1_loss(c, F(), ones(c, {3})); });
    add("l1_loss", {"target", "empty"}, [](Context& c) { l1_loss(c, ones(c, {3}), F()); });
  }

  void rearranging() {
    const auto bad_order = [this](std::vector<std::string> words, std::vector<int> order) {
      add("permute", std::move(words), [=](Context& c) {
        permute(c, ones(c, {2, 3, 4}), std::span<const int>(order));
      });
    };
    bad_order({"order", "permutation", "(2, 3, 4)", "got (0, 1)"}, {0, 1});
    bad_order({"order", "permutation", "(2, 3, 4)", "got (0, 1, 2, 3)"}, {0, 1, 2, 3});
    bad_order({"order", "permutation", "(2, 3, 4)", "got (0, 1, 1)"}, {0, 1, 1});
    bad_order({"order", "permutation", "(2, 3, 4)", "got (0, 1, 3)"}, {0, 1, 3});
    bad_order({"order", "permutation", "(2, 3, 4)", "got (0, -1, 2)"}, {0, -1, 2});
    bad_order({"order", "permutation", "(2, 3, 4)", "got (0, 1, 99)"}, {0, 1, 99});
    bad_order({"order", "permutation", "(2, 3, 4)", "got ()"}, {});
    add("permute", {"x", "empty"}, [](Context& c) { permute(c, F(), {}); });
    add("transpose", {"x", "rank 2 or more", "(3)"}, [](Context& c) { transpose(c, ones(c, {3})); });
    add("transpose", {"x", "empty"}, [](Context& c) { transpose(c, F()); });

    add("concat", {"parts", "at least one", "none"}, [](Context& c) { concat(c, std::span<const F>(), 0); });
    add("concat", {"tensor 0", "empty"}, [](Context& c) { concat(c, {F(), ones(c, {2})}, 0); });
    add("concat", {"tensor 1", "empty"}, [](Context& c) { concat(c, {ones(c, {2}), F()}, 0); });
    add("concat", {"tensor 1", "(2, 4)", "(3, 4)"}, [](Context& c) {
      concat(c, {ones(c, {2, 3}), ones(c, {3, 4})}, 1);
    });
    add("concat", {"tensor 2", "(2, 3)", "(2, 3, 1)"}, [](Context& c) {
      concat(c, {ones(c, {2, 3}), ones(c, {2, 3}), ones(c, {2, 3, 1})}, 0);
    });

    // Ops with an axis.
    const auto bad_axis = [this](const std::string& op, std::function<void(Context&, const F&, int)> call) {
      add(op, {"axis 3", "(2, 1, 4)"}, [=](Context& c) { call(c, ones(c, {2, 1, 4}), 3); });
      add(op, {"axis -4", "(2, 1, 4)"}, [=](Context& c) { call(c, ones(c, {2, 1, 4}), -4); });
      add(op, {"axis 0", "()"}, [=](Context& c) { call(c, ones(c, {}), 0); });
      if (op != "concat") add(op, {"x", "empty"}, [=](Context& c) { call(c, F(), 0); });
    };
    bad_axis("concat", [](Context& c, const F& x, int axis) { concat(c, {x, x}, axis); });
    bad_axis("slice", [](Context& c, const F& x, int axis) { slice(c, x, axis, 0, 1); });
    bad_axis("mean", [](Context& c, const F& x, int axis) { mean(c, x, axis); });
    bad_axis("expand", [](Context& c, const F& x, int axis) { expand(c, x, axis, 2); });
    bad_axis("index_select", [](Context& c, const F& x, int axis) {
      const std::vector<std::int64_t> indices = {0};
      index_select(c, x, axis, std::span<const std::int64_t>(indices));
    });

    const auto bad_range = [this](std::vector<std::string> words, int axis, std::int64_t begin, std::int64_t end) {
      add("slice", std::move(words), [=](Context& c) { slice(c, ones(c, {2, 5}), axis, begin, end); });
    };
    bad_range({"dimension 1", "(2, 5)", "[0, 6)"}, 1, 0, 6);
    bad_range({"dimension 1", "(2, 5)", "[-1, 3)"}, -1, -1, 3);
    bad_range({"dimension 1", "(2, 5)", "[3, 2)"}, 1, 3, 2);
    bad_range({"dimension 0", "(2, 5)", "[3, 3)"}, 0, 3, 3);

    add("mean", {"dimension 1", "empty", "(2, 0)"}, [](Context& c) { mean(c, ones(c, {2, 0}), 1); });
    add("expand", {"dimension 1", "(2, 3)", "must be 1", "count 4"}, [](Context& c) {
      expand(c, ones(c, {2, 3}), 1, 4);
    });
    add("expand", {"dimension 0", "(1, 3)", "at least 1", "count 0"}, [](Context& c) {
      expand(c, ones(c, {1, 3}), 0, 0);
    });
    add("expand", {"dimension 0", "(1, 3)", "at least 1", "count -5"}, [](Context& c) {
      expand(c, ones(c, {1, 3}), 0, -5);
    });
    for (std::int64_t wrong : {std::int64_t{3}, std::int64_t{-1}, std::numeric_limits<std::int64_t>::max()})
      add("index_select", {"index " + std::to_string(wrong), "out of range", "dimension 1", "(2, 3)"}, [=](Context& c) {
        const std::vector<std::int64_t> indices = {0, 2, wrong};
        index_select(c, ones(c, {2, 3}), 1, std::span<const std::int64_t>(indices));
      });
  }
};

const std::vector<BadCall>& bad_calls() {
  static const std::vector<BadCall> all = [] {
    BadCalls calls;
    calls.linear_and_matmul();
    calls.attentions();
    calls.norms();
    calls.convolutions();
    calls.elementwise();
    calls.rearranging();
    return calls.all;
  }();
  return all;
}

}  // namespace

TEST_CASE("a bad call throws a ShapeError that names op, argument, expected and found", "[ops][error]") {
  Context ctx = Context::cpu(1);
  for (const BadCall& bad : bad_calls()) {
    std::string expected = bad.op + ":", message = "(nothing was thrown)";
    for (const std::string& word : bad.words) expected += " .. " + word;
    try {
      bad.call(ctx);
    } catch (const ShapeError& e) {
      message = e.what();
    } catch (const std::exception& e) {
      message = std::string("(not a ShapeError) ") + e.what();
    }
    INFO(expected);
    INFO(message);
    const std::string prefix = bad.op + ": ";
    CHECK(message.compare(0, prefix.size(), prefix) == 0);
    CHECK(message.find('\n') == std::string::npos);
    std::size_t at = prefix.size() <= message.size() ? prefix.size() : message.size();
    bool in_order = true;
    for (const std::string& word : bad.words) {
      const std::size_t found = message.find(word, at);
      in_order = in_order && found != std::string::npos;
      if (in_order) at = found + word.size();
    }
    CHECK(in_order);
  }
}

TEST_CASE("every op has a bad call", "[ops][error]") {
  std::set<std::string> refused;
  for (const BadCall& bad : bad_calls()) refused.insert(bad.op);
  for (const OpCase& c : op_cases()) {
    INFO(c.op);
    CHECK(refused.count(c.op) == 1);
  }
}

TEST_CASE("a bad call leaves nothing behind", "[ops][error]") {
  Context ctx = Context::cpu(1);
  Tape tape;
  {
    const TapeScope scope(ctx, &tape);
    const F x = ones(ctx, {2, 3});
    tape.watch(x);
    CHECK_THROWS_AS(add(ctx, x, ones(ctx, {2, 4})), ShapeError);
    CHECK_THROWS_AS(linear(ctx, x, ones(ctx, {4, 5}), F()), ShapeError);
    CHECK_THROWS_AS(dropout(ctx, x, 2, true), ShapeError);
    CHECK_THROWS_AS(concat(ctx, {x, F()}, 0), ShapeError);
  }
  CHECK(tape.size() == 0);
  CHECK(ctx.random_drawn() == 0);  // a refused dropout does not move the random stream
}

TEST_CASE("a refused batch norm leaves the running statistics alone", "[ops][error]") {
  Context ctx = Context::cpu(1);
  F mean = ones(ctx, {3}), variance = ones(ctx, {3});
  const F c = ones(ctx, {3});
  CHECK_THROWS_AS(batch_norm_training(ctx, ones(ctx, {1, 3}), c, c, mean, variance, 1e-5, 0.5), ShapeError);
  CHECK_THROWS_AS(batch_norm_training(ctx, ones(ctx, {4, 3}), c, c, mean, variance, -1, 0.5), ShapeError);
  CHECK(read_back(ctx, mean) == std::vector<float>{1, 1, 1});
  CHECK(read_back(ctx, variance) == std::vector<float>{1, 1, 1});
}

TEST_CASE("results too large for a shape are refused before memory is asked for", "[ops][error]") {
  Context ctx = Context::cpu(1);
  const std::uint64_t before = ctx.memory().system_allocations();
  const F x = ones(ctx, {1, 1, 1, 1});
  CHECK_THROWS_AS(expand(ctx, ones(ctx, {1, 3}), 0, std::numeric_limits<std::int64_t>::max()), ShapeError);
  CHECK_THROWS_AS(conv2d(ctx, x, x, F(), Conv2dOptions::square(1, (std::int64_t{1} << 31) - 1)), ShapeError);
  CHECK(ctx.memory().system_allocations() <= before + 2);
}

TEST_CASE("empty operands in place of optional ones are no error", "[ops][error]") {
  Context ctx = Context::cpu(1);
  CHECK(linear(ctx, ones(ctx, {2, 4}), ones(ctx, {3, 4}), F()).shape() == Shape{2, 3});
  CHECK(conv2d(ctx, ones(ctx, {1, 2, 3, 3}), ones(ctx, {4, 2, 1, 1}), F(), Conv2dOptions::square(1, 0)).shape() ==
        Shape{1, 4, 3, 3});
  PackedMatrix<float> none;  // an unused packed matrix counts as none
  LinearEpilogue<float> epilogue;
  epilogue.packed = &none;
  CHECK(linear(ctx, ones(ctx, {2, 4}), ones(ctx, {3, 4}), F(), epilogue).shape() == Shape{2, 3});
}
