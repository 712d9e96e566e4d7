// The one list of cases of every op: value, gradient and device-parity tests all walk it.
// Surprising choice: a case knows no device. Its inputs go in through Context::from and its result comes out through
// read_back(); sizes are small enough for an emulator.
#pragma once

#include <algorithm>
#include <cstdint>
#include <functional>
#include <random>
#include <string>
#include <type_traits>
#include <vector>

#include <promptiqa/core/tape.hpp>
#include <promptiqa/ops/all.hpp>
#include "reference_ops.hpp"

namespace promptiqa_test {

/// The elements of a tensor, on the host.
template <class T>
std::vector<T> read_back(Context&, const Tensor<T>& x) {
  return x.host();
}

/// How the values of an input are drawn. All are exact in float, so that float and double see the same numbers.
enum class Draw {
  unit,      // uniform in (-1.73, 1.73): mean 0, variance 1
  wide,      // uniform in (-9, 9): where GELU and the logistic function flatten
  off_zero,  // +-(0.25, 1.5): no kink of relu within reach of a finite difference
  far,       // +-(3, 4): differs from any `unit` value by more than 1
  positive,  // (0.5, 1.5): scales and variances
};

struct CaseInput {
  Shape shape;
  Draw draw = Draw::unit;
  bool differentiable = true;
};

template <class T>
using Tensors = std::vector<Tensor<T>>;
using Inputs = std::vector<Input>;

/// One call of one op.
struct OpCase {
  std::string op;    // the function of ops/*.hpp
  std::string name;  // unique
  std::vector<CaseInput> inputs;
  std::function<Tensor<float>(Context&, const Tensors<float>&)> run_float;
  std::function<Tensor<double>(Context&, const Tensors<double>&)> run_double;
  std::function<Reference(const Inputs&)> reference;

  /// Calls the op.
  template <class T>
  Tensor<T> run(Context& ctx, const Tensors<T>& in) const {
    if constexpr (std::is_same_v<T, float>)
      return run_float(ctx, in);
    else
      return run_double(ctx, in);
  }

  /// The inputs' values; they depend on the case's name only, so cases can be added and moved.
  Inputs draw() const {
    std::uint32_t seed = 2166136261u;
    for (char c : name) seed = (seed ^ static_cast<unsigned char>(c)) * 16777619u;
    Inputs result;
    for (const CaseInput& input : inputs) {
      std::mt19937 generator(seed + static_cast<std::uint32_t>(result.size()) * 7919u);
      Input values(input.shape);
      for (double& v : values.values) {
        const double u = (generator() + 0.5) / 4294967296.0;
        const double sign = generator() & 1u ? 1 : -1;
        switch (input.draw) {
          case Draw::unit:
            v = (2 * u - 1) * 1.7320508;
            break;
          case Draw::wide:
            v = (2 * u - 1) * 9;
            break;
          case Draw::off_zero:
            v = sign * (0.25 + 1.25 * u);
            break;
          case Draw::far:
            v = sign * (3 + u);
            break;
          case Draw::positive:
            v = 0.5 + u;
            break;
        }
        v = static_cast<float>(v);
      }
      result.push_back(values);
    }
    return result;
  }
};

/// The inputs on the context's device.
template <class T>
Tensors<T> upload(Context& ctx, const Inputs& inputs) {
  Tensors<T> result;
  for (const Input& input : inputs) {
    const std::vector<T> values(input.values.begin(), input.values.end());
    result.push_back(ctx.from<T>(input.shape, std::span<const T>(values)));
  }
  return result;
}

namespace detail {

/// The element type of a Tensors<T>.
template <class In>
using Element = std::remove_cv_t<std::remove_pointer_t<decltype(std::declval<In&>()[0].data())>>;

using std::int64_t;

/// Collects cases; one method a family, so that each op is instantiated once for each element type.
class CaseList {
 public:
  std::vector<OpCase> cases;

  template <class Run>
  void add(const std::string& op, const std::string& variant, std::vector<CaseInput> inputs, Run run,
           std::function<Reference(const Inputs&)> reference) {
    cases.push_back({op, op + " " + variant, std::move(inputs), run, run, std::move(reference)});
  }

  // ---- linear, matmul -------------------------------------------------------------------------------------------

  enum class Packing { none, weight, only };  // only: the plain weight is not even there

  void linear(const std::string& variant, Shape x, int64_t outputs, bool bias, Activation activation, bool residual,
              Packing packing = Packing::none) {
    Shape result = x;
    result.set(-1, outputs);
    std::vector<CaseInput> inputs = {{x}, {Shape{outputs, x[-1]}}};
    if (bias) inputs.push_back({Shape{outputs}});
    if (residual) inputs.push_back({result});
    if (packing == Packing::only)
      for (CaseInput& input : inputs) input.differentiable = false;
    add(
        "linear", variant, inputs,
        [=](Context& ctx, const auto& in) {
          using T = Element<decltype(in)>;
          PackedMatrix<T> packed;
          if (packing != Packing::none) packed = PackedMatrix<T>::pack(ctx, in[1], true);
          LinearEpilogue<T> epilogue;
          epilogue.activation = activation;
          if (residual) epilogue.residual = &in.back();
          if (packed) epilogue.packed = &packed;
          return promptiqa::linear(ctx, in[0], packing == Packing::only ? Tensor<T>() : in[1],
                                   bias ? in[2] : Tensor<T>(), epilogue);
        },
        [=](const Inputs& in) {
          return reference::linear(in[0], in[1], bias ? &in[2] : nullptr, activation, residual ? &in.back() : nullptr);
        });
  }

  void matmul(const std::string& variant, Shape a, Shape b, bool transpose_a, bool transpose_b, double alpha) {
    add(
        "matmul", variant, {{a}, {b}},
        [=](Context& ctx, const auto& in) {
          return promptiqa::matmul(ctx, in[0], in[1], transpose_a, transpose_b, alpha);
        },
        [=](const Inputs& in) { return reference::matmul(in[0], in[1], transpose_a, transpose_b, alpha); });
  }

  void linear_and_matmul() {
    const auto none = Activation::none, relu = Activation::relu, gelu = Activation::gelu;
    linear("of a vector", {7}, 5, true, none, false);
    linear("1 x 1 x 1", {1, 1}, 1, true, none, false);
    linear("without bias", {3, 5, 17}, 33, false, none, false);
    linear("with bias", {3, 5, 17}, 33, true, none, false);
    linear("beyond every tile", {67, 129}, 65, true, none, false);
    linear("one row", {1, 70}, 131, true, none, false);
    linear("one output", {37, 19}, 1, true, none, false);
    linear("one input", {37, 1}, 19, true, none, false);
    linear("no rows", {0, 5}, 3, true, none, false);
    linear("no inputs", {4, 0}, 3, true, none, false);
    linear("relu", {2, 9, 31}, 18, true, relu, false);
    linear("gelu", {2, 9, 31}, 18, true, gelu, false);
    linear("gelu without bias", {5, 16}, 48, false, gelu, false);
    linear("residual", {2, 9, 31}, 18, true, none, true);
    linear("residual without bias", {11, 8}, 21, false, none, true);
    linear("relu and residual", {2, 9, 31}, 18, true, relu, true);
    linear("gelu and residual", {2, 9, 31}, 18, true, gelu, true);
    linear("packed", {3, 5, 17}, 33, true, none, false, Packing::weight);
    linear("packed, beyond every tile", {67, 129}, 65, true, none, false, Packing::weight);
    linear("packed, one row", {1, 70}, 131, false, none, false, Packing::weight);
    linear("packed, gelu and residual", {2, 9, 31}, 18, true, gelu, true, Packing::weight);
    linear("packed only", {13, 35}, 50, true, relu, true, Packing::only);
    linear("of rank 6", {2, 1, 3, 1, 2, 5}, 4, true, none, false);
    add(
        "linear", "packed from (K, O)", {{Shape{6, 19}, Draw::unit, false}, {Shape{19, 21}, Draw::unit, false}},
        [](Context& ctx, const auto& in) {
          using T = Element<decltype(in)>;
          const auto packed = PackedMatrix<T>::pack(ctx, in[1], false);
          LinearEpilogue<T> epilogue;
          epilogue.packed = &packed;
          return promptiqa::linear(ctx, in[0], Tensor<T>(), Tensor<T>(), epilogue);
        },
        [](const Inputs& in) { return reference::matmul(in[0], in[1], false, false, 1); });

    for (int flags = 0; flags < 4; ++flags) {
      const bool ta = flags & 1, tb = flags & 2;
      const std::string transposes = std::string(ta ? "a^T " : "a ") + (tb ? "b^T" : "b");
      const auto a = [ta](int64_t m, int64_t k) { return ta ? Shape{k, m} : Shape{m, k}; };
      const auto b = [tb](int64_t k, int64_t n) { return tb ? Shape{n, k} : Shape{k, n}; };
      const auto batched = [](const Shape& lead, const Shape& matrix) {
        Shape s = lead;
        s.push_back(matrix[0]);
        s.push_back(matrix[1]);
        return s;
      };
      matmul(transposes, a(9, 33), b(33, 17), ta, tb, 1);
      matmul(transposes + ", alpha", a(65, 7), b(7, 35), ta, tb, -0.37);
      matmul(transposes + ", batch", batched({3}, a(5, 18)), batched({3}, b(18, 34)), ta, tb, 1);
      matmul(transposes + ", batch of rank 2", batched({2, 3}, a(6, 5)), batched({2, 3}, b(5, 7)), ta, tb, 0.5);
      matmul(transposes + ", shared b", batched({4}, a(7, 19)), b(19, 13), ta, tb, 0.25);
      matmul(transposes + ", 1 x 1 x 1", a(1, 1), b(1, 1), ta, tb, 2);
      matmul(transposes + ", one row", a(1, 50), b(50, 37), ta, tb, 1);
      matmul(transposes + ", one column", a(37, 50), b(50, 1), ta, tb, 1);
    }
    matmul("no inner dimension", {4, 0}, {0, 5}, false, false, 1);
    matmul("no batch", {0, 4, 3}, {0, 3, 5}, false, false, 1);
    matmul("no batch, shared b", {0, 4, 3}, {3, 5}, false, false, 1);
    matmul("channels against channels", {2, 49, 24}, {2, 49, 24}, true, false, 0.2);  // the model's MAL
  }

  // ---- attention, softmax, norms --------------------------------------------------------------------------------

  void attention(int64_t batch, int heads, int64_t queries, int64_t keys, int64_t depth, double scale,
                 Draw draw = Draw::unit) {
    const std::string variant = std::to_string(batch) + " x " + std::to_string(heads) + " heads of " +
                                std::to_string(depth) + ", " + std::to_string(queries) + " x " + std::to_string(keys) +
                                (draw == Draw::unit ? "" : ", wide");
    const int64_t width = heads * depth;
    add(
        "attention", variant,
        {{Shape{batch, queries, width}, draw}, {Shape{batch, keys, width}, draw}, {Shape{batch, keys, width}}},
        [=](Context& ctx, const auto& in) { return promptiqa::attention(ctx, in[0], in[1], in[2], heads, scale); },
        [=](const Inputs& in) { return reference::attention(in[0], in[1], in[2], heads, scale); });
  }

  void attention_qkv(int64_t batch, int heads, int64_t rows, int64_t depth, double scale) {
    add(
        "attention_qkv",
        std::to_string(batch) + " x " + std::to_string(heads) + " heads of " + std::to_string(depth) + ", " +
            std::to_string(rows) + " rows",
        {{Shape{batch, rows, 3 * heads * depth}}},
        [=](Context& ctx, const auto& in) { return promptiqa::attention_qkv(ctx, in[0], heads, scale); },
        [=](const Inputs& in) { return reference::attention_qkv(in[0], heads, scale); });
  }

  void attentions() {
    const int64_t lengths[] = {1, 2, 49, 65};
    const int64_t depths[] = {1, 3, 32, 64, 128};
    for (int64_t depth : depths)
      for (int64_t length : lengths)
        attention(1, depth > 32 ? 1 : 2, length, length, depth, 1 / std::sqrt(static_cast<double>(depth)));
    attention(2, 3, 5, 9, 8, 0.35);
    attention(2, 2, 65, 2, 3, 0.6);
    attention(1, 2, 2, 65, 32, 0.18);
    attention(3, 1, 1, 49, 64, 0.125);
    attention(2, 1, 49, 1, 32, 0.2);
    attention(1, 1, 17, 131, 16, 0.25);
    attention(1, 2, 10, 33, 8, 1, Draw::wide);  // one key takes nearly all: the maximum must be subtracted
    attention(0, 2, 3, 4, 5, 1);
    attention(2, 2, 0, 4, 5, 1);
    for (int64_t depth : depths)
      attention_qkv(2, depth > 3 ? 1 : 3, 13, depth, 0.4 / std::sqrt(static_cast<double>(depth)));
    attention_qkv(1, 2, 49, 32, 0.18);
    attention_qkv(1, 4, 65, 16, 0.25);
    attention_qkv(3, 5, 1, 2, 0.7);
    attention_qkv(2, 2, 2, 7, 0.4);
  }

  void softmax(const std::string& variant, Shape x, double scale, Draw draw = Draw::unit) {
    add(
        "softmax", variant, {{x, draw}},
        [=](Context& ctx, const auto& in) { return promptiqa::softmax(ctx, in[0], scale); },
        [=](const Inputs& in) { return reference::softmax(in[0], scale); });
  }

  void layer_norm(const std::string& variant, Shape x, double eps) {
    add(
        "layer_norm", variant, {{x}, {Shape{x[-1]}, Draw::positive}, {Shape{x[-1]}}},
        [=](Context& ctx, const auto& in) { return promptiqa::layer_norm(ctx, in[0], in[1], in[2], eps); },
        [=](const Inputs& in) { return reference::layer_norm(in[0], in[1], in[2], eps); });
  }

  void batch_norm(const std::string& variant, Shape x, double eps, double momentum) {
    const Shape c{x[1]};
    // The running statistics are written: every call gets copies of its own.
    add(
        "batch_norm_training", variant,
        {{x}, {c, Draw::positive}, {c}, {c, Draw::unit, false}, {c, Draw::positive, false}},
        [=](Context& ctx, const auto& in) {
          auto mean = ctx.copy(in[3]), variance = ctx.copy(in[4]);
          return promptiqa::batch_norm_training(ctx, in[0], in[1], in[2], mean, variance, eps, momentum);
        },
        [=](const Inputs& in) {
          return reference::batch_norm(in[0], in[1], in[2], reference::channel_moments(in[0]), eps);
        });
    add(
        "batch_norm_training", variant + ", running statistics",
        {{x, Draw::unit, false},
         {c, Draw::positive, false},
         {c, Draw::unit, false},
         {c, Draw::unit, false},
         {c, Draw::positive, false}},
        [=](Context& ctx, const auto& in) {
          auto mean = ctx.copy(in[3]), variance = ctx.copy(in[4]);
          promptiqa::batch_norm_training(ctx, in[0], in[1], in[2], mean, variance, eps, momentum);
          return promptiqa::concat(ctx, {mean, variance}, 0);
        },
        [=](const Inputs& in) { return reference::updated_statistics(in[0], in[3], in[4], momentum); });
    add(
        "batch_norm_inference", variant,
        {{x}, {c, Draw::positive}, {c}, {c, Draw::unit, false}, {c, Draw::positive, false}},
        [=](Context& ctx, const auto& in) {
          return promptiqa::batch_norm_inference(ctx, in[0], in[1], in[2], in[3], in[4], eps);
        },
        [=](const Inputs& in) {
          std::vector<Moments> running;
          for (int64_t i = 0; i < in[3].size(); ++i) running.push_back({in[3][i], in[4][i]});
          return reference::batch_norm(in[0], in[1], in[2], running, eps);
        });
  }
  using Moments = reference::Moments;

  void norms() {
    softmax("of a vector", {7}, 1);
    softmax("one column", {5, 1}, 0.3);
    softmax("16 columns", {3, 16}, 1);
    softmax("of rank 4", {2, 2, 3, 49}, 0.125);
    softmax("65 columns, negative scale", {9, 65}, -1.5);
    softmax("scale 0", {4, 19}, 0);
    softmax("wide", {3, 131}, 20, Draw::wide);
    softmax("no rows", {0, 5}, 1);

    layer_norm("of a vector, eps 1e-5", {9}, 1e-5);
    layer_norm("eps 1e-5", {3, 5, 33}, 1e-5);
    layer_norm("eps 1e-6", {3, 5, 33}, 1e-6);
    layer_norm("large eps", {4, 17}, 0.5);
    layer_norm("two columns", {6, 2}, 1e-1);
    layer_norm("one column", {4, 1}, 0.25);  // the gradient is 0 times 1 / sqrt(eps): a small eps is mere noise
    layer_norm("more columns than any vector", {2, 259}, 1e-6);
    layer_norm("many rows", {70, 16}, 1e-5);
    layer_norm("of rank 4", {2, 3, 2, 24}, 1e-5);
    layer_norm("no rows", {0, 8}, 1e-5);

    batch_norm("of rank 2", {7, 5}, 1e-5, 0.1);
    batch_norm("of rank 3", {3, 4, 19}, 1e-3, 0.25);
    batch_norm("of rank 4", {3, 5, 4, 7}, 1e-5, 0.1);
    batch_norm("one image", {1, 6, 3, 3}, 1e-5, 1);
    batch_norm("one channel", {4, 1, 5, 13}, 1e-6, 0);
    batch_norm("33 channels", {9, 33}, 1e-5, 0.3);
  }

  // ---- convolution, pooling -------------------------------------------------------------------------------------

  void conv2d(const std::string& variant, Shape x, Shape weight, bool bias, Conv2dOptions o) {
    std::vector<CaseInput> inputs = {{x}, {weight}};
    if (bias) inputs.push_back({Shape{weight[0]}});
    add(
        "conv2d", variant, inputs,
        [=](Context& ctx, const auto& in) {
          using T = Element<decltype(in)>;
          return promptiqa::conv2d(ctx, in[0], in[1], bias ? in[2] : Tensor<T>(), o);
        },
        [=](const Inputs& in) {
          return reference::conv2d(in[0], in[1], bias ? &in[2] : nullptr, o.stride_h, o.stride_w, o.pad_h, o.pad_w);
        });
  }

  void avg_pool2d(Shape x, int64_t kernel) {
    add(
        "avg_pool2d", "window " + std::to_string(kernel) + " of " + x.str(), {{x}},
        [=](Context& ctx, const auto& in) { return promptiqa::avg_pool2d(ctx, in[0], kernel); },
        [=](const Inputs& in) { return reference::avg_pool2d(in[0], kernel); });
  }

  void convolutions() {
    const auto square = Conv2dOptions::square;
    for (int64_t kernel = 1; kernel <= 5; ++kernel)
      for (int64_t stride = 1; stride <= 3; ++stride)
        conv2d("kernel " + std::to_string(kernel) + ", stride " + std::to_string(stride), {2, 3, 11, 9},
               {5, 3, kernel, kernel}, stride != 2, square(stride, kernel / 2));
    conv2d("no padding", {1, 4, 7, 6}, {3, 4, 3, 3}, true, square(1, 0));
    conv2d("asymmetric padding", {2, 3, 6, 8}, {4, 3, 3, 3}, true, {1, 1, 2, 0});
    conv2d("more padding than kernel", {1, 2, 3, 4}, {3, 2, 2, 2}, true, {1, 1, 3, 4});
    conv2d("rectangular", {2, 3, 9, 14}, {4, 3, 2, 5}, true, {2, 3, 1, 2});
    conv2d("one row of an image", {2, 3, 1, 21}, {4, 3, 1, 3}, true, {1, 1, 0, 1});
    conv2d("8 x 8 patches", {2, 3, 16, 24}, {10, 3, 8, 8}, true, square(8, 0));
    conv2d("8 x 8 patches with a remainder", {1, 3, 21, 19}, {6, 3, 8, 8}, false, square(8, 0));
    conv2d("kernel as large as the image", {3, 4, 5, 6}, {7, 4, 5, 6}, true, square(1, 0));
    conv2d("one pixel, many channels", {3, 37, 1, 1}, {19, 37, 1, 1}, true, square(1, 0));
    conv2d("1 x 1", {2, 17, 7, 7}, {35, 17, 1, 1}, true, square(1, 0));
    conv2d("many channels", {1, 34, 7, 7}, {33, 34, 3, 3}, true, square(1, 1));
    conv2d("one channel each", {1, 1, 8, 8}, {1, 1, 3, 3}, true, square(1, 1));
    conv2d("no images", {0, 3, 5, 5}, {4, 3, 3, 3}, true, square(1, 1));

    avg_pool2d({2, 3, 6, 8}, 2);
    avg_pool2d({2, 3, 7, 9}, 2);
    avg_pool2d({1, 5, 10, 8}, 3);
    avg_pool2d({2, 2, 4, 4}, 4);
    avg_pool2d({1, 2, 19, 23}, 5);
    avg_pool2d({1, 3, 4, 5}, 1);
    avg_pool2d({3, 1, 9, 37}, 2);
    avg_pool2d({0, 3, 4, 4}, 2);
  }

  // ---- element by element ---------------------------------------------------------------------------------------

  void binary(Shape a, Shape b, Shape y) {
    const std::string variant = a.str() + " and " + b.str();
    add(
        "add", variant, {{a}, {b}}, [](Context& ctx, const auto& in) { return promptiqa::add(ctx, in[0], in[1]); },
        [y](const Inputs& in) { return reference::binary(BinaryKind::add, in[0], in[1], y); });
    add(
        "subtract", variant, {{a}, {b}},
        [](Context& ctx, const auto& in) { return promptiqa::subtract(ctx, in[0], in[1]); },
        [y](const Inputs& in) { return reference::binary(BinaryKind::subtract, in[0], in[1], y); });
    add(
        "multiply", variant, {{a}, {b}},
        [](Context& ctx, const auto& in) { return promptiqa::multiply(ctx, in[0], in[1]); },
        [y](const Inputs& in) { return reference::binary(BinaryKind::multiply, in[0], in[1], y); });
  }

  void scale_shift(Shape x, double alpha, double beta) {
    add(
        "scale_shift", std::to_string(alpha) + ", " + std::to_string(beta) + " of " + x.str(), {{x}},
        [=](Context& ctx, const auto& in) { return promptiqa::scale_shift(ctx, in[0], alpha, beta); },
        [=](const Inputs& in) { return reference::map(in[0], [=](Bounded v) { return v * alpha + beta; }); });
  }

  void dropout(const std::string& variant, Shape x, double p, bool training) {
    add(
        "dropout", variant, {{x}},
        [=](Context& ctx, const auto& in) {
          ctx.set_random_state(20, 3);
          return promptiqa::dropout(ctx, in[0], p, training);
        },
        [=](const Inputs& in) {
          if (!training || p == 0) return reference::map(in[0], [](Bounded v) { return v; });
          Context stream = Context::cpu(1);
          stream.set_random_state(20, 3);
          return reference::dropout(in[0], p, stream.next_random_key());
        });
  }

  void l1_loss(Shape x) {
    add(
        "l1_loss", x.str(), {{x}, {x, Draw::far, false}},
        [](Context& ctx, const auto& in) { return promptiqa::l1_loss(ctx, in[0], in[1]); },
        [](const Inputs& in) { return reference::l1_loss(in[0], in[1]); });
  }

  void elementwise() {
    for (Shape shape :
         {Shape{}, Shape{1}, Shape{3}, Shape{16}, Shape{5, 13}, Shape{2, 3, 65}, Shape{1021}, Shape{0, 4}}) {
      add(
          "relu", shape.str(), {{shape, Draw::off_zero}},
          [](Context& ctx, const auto& in) { return promptiqa::relu(ctx, in[0]); },
          [](const Inputs& in) { return reference::map(in[0], reference::relu); });
      add(
          "gelu", shape.str(), {{shape, shape.rank() == 3 ? Draw::wide : Draw::unit}},
          [](Context& ctx, const auto& in) { return promptiqa::gelu(ctx, in[0]); },
          [](const Inputs& in) { return reference::map(in[0], reference::gelu); });
      add(
          "sigmoid", shape.str(), {{shape, shape.rank() == 3 ? Draw::wide : Draw::unit}},
          [](Context& ctx, const auto& in) { return promptiqa::sigmoid(ctx, in[0]); },
          [](const Inputs& in) { return reference::map(in[0], reference::sigmoid); });
      scale_shift(shape, -0.7, 0.3);
    }
    scale_shift({3, 11}, 0, 2.5);
    scale_shift({3, 11}, 1, 0);

    binary({}, {}, {});
    binary({5}, {5}, {5});
    binary({3, 5, 7}, {3, 5, 7}, {3, 5, 7});
    binary({1021}, {1021}, {1021});
    binary({3, 5, 17}, {17}, {3, 5, 17});           // a bias
    binary({3, 5, 16}, {1, 5, 16}, {3, 5, 16});     // positions
    binary({2, 3, 4, 5}, {3, 1, 1}, {2, 3, 4, 5});  // a channel's constant
    binary({4, 6, 5}, {4, 6, 1}, {4, 6, 5});        // a row's constant
    binary({4, 6, 5}, {4, 1, 5}, {4, 6, 5});
    binary({6, 1}, {7}, {6, 7});  // both stretch
    binary({1, 9}, {8, 1}, {8, 9});
    binary({7}, {3, 7}, {3, 7});  // the left one stretches
    binary({}, {2, 19}, {2, 19});
    binary({33, 3}, {1}, {33, 3});
    binary({2, 1, 3, 1, 2, 1}, {1, 3, 1, 2, 1, 5}, {2, 3, 3, 2, 2, 5});
    binary({0, 3}, {1, 3}, {0, 3});  // nothing, yet the second one's gradient is zero, not garbage
    binary({1, 1}, {1}, {1, 1});

    dropout("p 0.3", {7, 41}, 0.3, true);
    dropout("p 0.9", {1027}, 0.9, true);
    dropout("p 0", {3, 4}, 0, true);
    dropout("evaluation", {3, 4}, 0.5, false);
    dropout("empty", {0}, 0.5, true);

    for (Shape shape : {Shape{}, Shape{1}, Shape{7, 1}, Shape{3, 35}, Shape{1025}}) l1_loss(shape);
  }

  // ---- rearranging ----------------------------------------------------------------------------------------------

  void permute(Shape x, std::vector<int> order) {
    std::string variant = x.str() + " by";
    for (int i : order) variant += " " + std::to_string(i);
    add(
        "permute", variant, {{x}},
        [=](Context& ctx, const auto& in) { return promptiqa::permute(ctx, in[0], std::span<const int>(order)); },
        [=](const Inputs& in) { return reference::permute(in[0], order); });
  }

  void transpose(Shape x) {
    std::vector<int> order;
    for (int i = 0; i < x.rank(); ++i) order.push_back(i);
    std::swap(order[order.size() - 1], order[order.size() - 2]);
    add(
        "transpose", x.str(), {{x}}, [](Context& ctx, const auto& in) { return promptiqa::transpose(ctx, in[0]); },
        [=](const Inputs& in) { return reference::permute(in[0], order); });
  }

  void concat(std::vector<Shape> parts, int axis) {
    std::string variant = "along " + std::to_string(axis) + ":";
    std::vector<CaseInput> inputs;
    for (const Shape& part : parts) {
      variant += " " + part.str();
      inputs.push_back({part});
    }
    add(
        "concat", variant, inputs,
        [=](Context& ctx, const auto& in) {
          using T = Element<decltype(in)>;
          return promptiqa::concat(ctx, std::span<const Tensor<T>>(in), axis);
        },
        [=](const Inputs& in) { return reference::concat(in, axis); });
  }

  void slice(Shape x, int axis, int64_t begin, int64_t end) {
    std::vector<int64_t> pick;
    for (int64_t i = begin; i < end; ++i) pick.push_back(i);
    add(
        "slice",
        x.str() + " along " + std::to_string(axis) + ", " + std::to_string(begin) + " to " + std::to_string(end), {{x}},
        [=](Context& ctx, const auto& in) { return promptiqa::slice(ctx, in[0], axis, begin, end); },
        [=](const Inputs& in) { return reference::pick_along(in[0], axis, pick); });
  }

  void mean(Shape x, int axis) {
    add(
        "mean", x.str() + " over " + std::to_string(axis), {{x}},
        [=](Context& ctx, const auto& in) { return promptiqa::mean(ctx, in[0], axis); },
        [=](const Inputs& in) { return reference::mean(in[0], axis); });
  }

  void expand(Shape x, int axis, int64_t count) {
    add(
        "expand", x.str() + " along " + std::to_string(axis) + ", " + std::to_string(count), {{x}},
        [=](Context& ctx, const auto& in) { return promptiqa::expand(ctx, in[0], axis, count); },
        [=](const Inputs& in) {
          return reference::pick_along(in[0], axis, std::vector<int64_t>(static_cast<std::size_t>(count), 0));
        });
  }

  void index_select(const std::string& variant, Shape x, int axis, std::vector<int64_t> indices) {
    add(
        "index_select", variant, {{x}},
        [=](Context& ctx, const auto& in) {
          return promptiqa::index_select(ctx, in[0], axis, std::span<const int64_t>(indices));
        },
        [=](const Inputs& in) { return reference::pick_along(in[0], axis, indices); });
  }

  void rearranging() {
    permute({5}, {0});
    for (std::vector<int> order : {std::vector<int>{0, 1}, {1, 0}}) permute({9, 35}, order);
    for (std::vector<int> order : {std::vector<int>{0, 2, 1}, {1, 0, 2}, {1, 2, 0}, {2, 0, 1}, {2, 1, 0}})
      permute({3, 18, 17}, order);
    for (std::vector<int> order :
         {std::vector<int>{0, 2, 1, 3}, {0, 3, 1, 2}, {0, 2, 3, 1}, {3, 2, 1, 0}, {1, 3, 0, 2}})
      permute({2, 5, 7, 6}, order);
    for (std::vector<int> order : {std::vector<int>{0, 2, 4, 1, 3}, {4, 3, 2, 1, 0}, {2, 0, 3, 1, 4}})
      permute({2, 3, 5, 4, 3}, order);
    for (std::vector<int> order : {std::vector<int>{0, 3, 1, 5, 2, 4}, {5, 4, 3, 2, 1, 0}, {1, 0, 2, 3, 5, 4}})
      permute({2, 3, 2, 4, 3, 5}, order);
    permute({1, 7, 1, 33}, {2, 3, 0, 1});
    permute({65, 67}, {1, 0});
    permute({3, 0, 2}, {2, 1, 0});
    permute({}, {});

    transpose({33, 17});
    transpose({1, 40});
    transpose({3, 5, 8});
    transpose({2, 3, 19, 7});

    concat({Shape{5, 3}}, 0);
    concat({Shape{5}, Shape{3}}, 0);
    concat({Shape{2, 3, 5}, Shape{4, 3, 5}}, 0);
    concat({Shape{2, 3, 5}, Shape{2, 1, 5}, Shape{2, 4, 5}}, 1);
    concat({Shape{2, 3, 17}, Shape{2, 3, 1}, Shape{2, 3, 16}, Shape{2, 3, 5}}, 2);
    concat({Shape{7, 9}, Shape{7, 33}}, -1);
    concat({Shape{2, 3, 4, 5}, Shape{2, 2, 4, 5}}, -3);
    concat({Shape{3, 0}, Shape{3, 4}}, 1);

    slice({9, 5}, 0, 2, 7);
    slice({9, 5}, 1, 4, 5);
    slice({9, 5}, 0, 0, 9);
    slice({2, 7, 19}, 1, 0, 1);  // the class token
    slice({2, 7, 19}, 1, 1, 7);
    slice({2, 7, 19}, -1, 3, 18);
    slice({2, 3, 4, 5}, -2, 1, 3);
    slice({4, 3}, 0, 2, 2);

    mean({7}, 0);
    mean({5, 33}, 0);
    mean({5, 33}, 1);
    mean({2, 49, 17}, 1);
    mean({2, 3, 4, 5}, -1);
    mean({2, 3, 4, 5}, 0);
    mean({4, 1, 6}, 1);
    mean({70, 3, 1}, 0);

    expand({1, 5}, 0, 7);
    expand({4, 1, 17}, 1, 3);
    expand({4, 5, 1}, -1, 19);
    expand({1}, 0, 1);

    index_select("repeats", {6, 5}, 0, {3, 0, 3, 3, 5, 0});
    index_select("reversed", {2, 7, 3}, 1, {6, 5, 4, 3, 2, 1, 0});
    index_select("last axis", {4, 3, 19}, -1, {18, 0, 7, 7});
    index_select("of a vector", {9}, 0, {8, 8, 8});
    index_select("nothing", {3, 4}, 1, {});
    index_select("one image of many", {5, 2, 3, 4}, 0, {4});
  }
};

}  // namespace detail

/// Every case.
inline const std::vector<OpCase>& op_cases() {
  static const std::vector<OpCase> all = [] {
    detail::CaseList list;
    list.linear_and_matmul();
    list.attentions();
    list.norms();
    list.convolutions();
    list.elementwise();
    list.rearranging();
    return list.cases;
  }();
  return all;
}

}  // namespace promptiqa_test
