// Every op once more, by its definition: plain loops over doubles, for the cases of op_cases.hpp.
// Surprising choice: a value carries a bound of the rounding error of computing it, so the tolerance of a comparison
// is derived together with the value and no case needs one of its own.
#pragma once

#include <cmath>
#include <cstdint>
#include <limits>
#include <vector>

#include <promptiqa/core/context.hpp>

namespace promptiqa_test {

using namespace promptiqa;

/// A value and how far a computation of it may be off, in units of the machine epsilon of the type it is computed in.
/// First-order running error analysis: an operation adds half an epsilon of its result (we count a whole one: the
/// other half is for this reference itself, when double is what is tested), errors of operands are carried through.
struct Bounded {
  double value = 0, error = 0;
  Bounded() = default;
  Bounded(double v, double e = 0) : value(v), error(e) {}  // implicit: inputs and constants are exact
};

inline Bounded operator+(Bounded a, Bounded b) {
  const double v = a.value + b.value;
  return {v, a.error + b.error + std::abs(v)};
}
inline Bounded operator-(Bounded a, Bounded b) { return a + Bounded(-b.value, b.error); }
inline Bounded operator*(Bounded a, Bounded b) {
  const double v = a.value * b.value;
  return {v, std::abs(a.value) * b.error + std::abs(b.value) * a.error + std::abs(v)};
}
inline Bounded operator/(Bounded a, Bounded b) {
  const double v = a.value / b.value;
  return {v, (a.error + std::abs(v) * b.error) / std::abs(b.value) + std::abs(v)};
}
inline Bounded abs(Bounded a) { return {std::abs(a.value), a.error}; }
inline Bounded sqrt(Bounded a) {
  const double v = std::sqrt(a.value);
  return {v, (v > 0 ? a.error / (2 * v) : 0) + v};
}
/// Four units for the function itself, and one of the argument: exp(x) may be computed as 2^(x log2 e).
inline Bounded exp(Bounded a) {
  const double v = std::exp(a.value);
  return {v, v * (a.error + std::abs(a.value) + 4)};
}
inline Bounded erf(Bounded a) {
  const double v = std::erf(a.value), slope = 1.1283791670955126 * std::exp(-a.value * a.value);
  return {v, slope * a.error + 4 * std::abs(v)};
}

/// A sum whose bound holds for every order of its terms: n terms, n epsilons of the sum of their magnitudes.
class Sum {
 public:
  void add(Bounded term) {
    value_ += term.value;
    error_ += term.error;
    magnitude_ += std::abs(term.value);
    ++terms_;
  }
  Bounded get() const { return {value_, error_ + static_cast<double>(terms_) * magnitude_}; }

 private:
  double value_ = 0, error_ = 0, magnitude_ = 0;
  std::int64_t terms_ = 0;
};

/// A shape and its elements, row-major.
template <class Element>
struct Array {
  Shape shape;
  std::vector<Element> values;

  Array() = default;
  explicit Array(const Shape& s) : shape(s), values(static_cast<std::size_t>(s.numel())) {}
  Element& operator[](std::int64_t i) { return values[static_cast<std::size_t>(i)]; }
  const Element& operator[](std::int64_t i) const { return values[static_cast<std::size_t>(i)]; }
  std::int64_t size() const { return static_cast<std::int64_t>(values.size()); }
  std::int64_t dim(int i) const { return shape[i]; }
};
using Input = Array<double>;
using Reference = Array<Bounded>;

/// What is wrong with `got`, or "" when every element is finite and within `slack` * epsilon(T) * bound of `want`.
/// The smallest normal number is added: results below it may be flushed to zero.
template <class T>
std::string mismatch(const std::vector<T>& got, const Reference& want, double slack = 1) {
  if (static_cast<std::int64_t>(got.size()) != want.size())
    return "expected " + std::to_string(want.size()) + " elements, got " + std::to_string(got.size());
  const double epsilon = static_cast<double>(std::numeric_limits<T>::epsilon());
  const double tiny = 1024 * static_cast<double>(std::numeric_limits<T>::min());
  for (std::size_t i = 0; i < got.size(); ++i) {
    const double value = static_cast<double>(got[i]), expected = want.values[i].value;
    const double tolerance = slack * epsilon * want.values[i].error + tiny;
    if (!std::isfinite(value) || !(std::abs(value - expected) <= tolerance))
      return "element " + std::to_string(i) + " of " + want.shape.str() + ": expected " + std::to_string(expected) +
             ", got " + std::to_string(value) + ", off by " + std::to_string((value - expected) / tolerance) +
             " tolerances";
  }
  return "";
}

namespace reference {

/// The index of every dimension of element `flat` of a tensor.
inline std::vector<std::int64_t> unravel(const Shape& shape, std::int64_t flat) {
  std::vector<std::int64_t> index(static_cast<std::size_t>(shape.rank()));
  for (int i = shape.rank() - 1; i >= 0; --i) {
    index[static_cast<std::size_t>(i)] = flat % shape[i];
    flat /= shape[i];
  }
  return index;
}
inline std::int64_t ravel(const Shape& shape, const std::vector<std::int64_t>& index) {
  std::int64_t flat = 0;
  for (int i = 0; i < shape.rank(); ++i) flat = flat * shape[i] + index[static_cast<std::size_t>(i)];
  return flat;
}

inline Bounded relu(Bounded x) { return x.value > 0 ? x : Bounded(0, x.error); }
inline Bounded gelu(Bounded x) { return x * Bounded(0.5) * (Bounded(1) + erf(x * Bounded(0.70710678118654752))); }
inline Bounded sigmoid(Bounded x) { return Bounded(1) / (Bounded(1) + exp(Bounded(0) - x)); }
inline Bounded activate(Bounded x, Activation activation) {
  return activation == Activation::relu ? relu(x) : activation == Activation::gelu ? gelu(x) : x;
}

template <class F>
Reference map(const Input& x, F f) {
  Reference y(x.shape);
  for (std::int64_t i = 0; i < x.size(); ++i) y[i] = f(Bounded(x[i]));
  return y;
}

/// x (..., K), weight (O, K), bias (O) or null, residual as the result or null.
inline Reference linear(const Input& x, const Input& weight, const Input* bias, Activation activation,
                        const Input* residual) {
  const std::int64_t outputs = weight.dim(0), inputs = weight.dim(1);
  Shape shape = x.shape;
  shape.set(-1, outputs);
  Reference y(shape);
  for (std::int64_t i = 0; i < y.size(); ++i) {
    const std::int64_t row = i / outputs, column = i % outputs;
    Sum sum;
    for (std::int64_t k = 0; k < inputs; ++k) sum.add(Bounded(x[row * inputs + k]) * weight[column * inputs + k]);
    if (bias) sum.add((*bias)[column]);
    y[i] = activate(sum.get(), activation);
    if (residual) y[i] = y[i] + (*residual)[i];
  }
  return y;
}

inline Reference matmul(const Input& a, const Input& b, bool transpose_a, bool transpose_b, double alpha) {
  const std::int64_t m = a.dim(transpose_a ? -1 : -2), k = a.dim(transpose_a ? -2 : -1);
  const std::int64_t n = b.dim(transpose_b ? -2 : -1);
  const bool shared = b.shape.rank() == 2;
  Shape shape = a.shape;
  shape.set(-2, m);
  shape.set(-1, n);
  Reference y(shape);
  for (std::int64_t i = 0; i < y.size(); ++i) {
    const std::int64_t entry = i / (m * n), row = i / n % m, column = i % n;
    Sum sum;
    for (std::int64_t l = 0; l < k; ++l) {
      const double left = a[entry * m * k + (transpose_a ? l * m + row : row * k + l)];
      const double right = b[(shared ? 0 : entry * k * n) + (transpose_b ? column * k + l : l * n + column)];
      sum.add(Bounded(left) * right);
    }
    y[i] = sum.get() * alpha;
  }
  return y;
}

/// softmax(scale * x) of one row.
inline std::vector<Bounded> softmax_row(const std::vector<Bounded>& x, double scale) {
  std::vector<Bounded> y(x.size());
  Bounded largest(-std::numeric_limits<double>::infinity());
  for (std::size_t i = 0; i < x.size(); ++i) {
    y[i] = x[i] * scale;
    if (y[i].value > largest.value) largest = y[i];
  }
  Sum sum;
  for (Bounded& v : y) {
    v = exp(v - largest);
    sum.add(v);
  }
  for (Bounded& v : y) v = v / sum.get();
  return y;
}

inline Reference softmax(const Input& x, double scale) {
  const std::int64_t columns = x.dim(-1);
  Reference y(x.shape);
  for (std::int64_t first = 0; first < x.size(); first += columns) {
    const std::vector<Bounded> row(x.values.begin() + first, x.values.begin() + first + columns);
    const std::vector<Bounded> result = softmax_row(row, scale);
    for (std::int64_t i = 0; i < columns; ++i) y[first + i] = result[static_cast<std::size_t>(i)];
  }
  return y;
}

/// q (B, Nq, H*D), k and v (B, Nk, H*D).
inline Reference attention(const Input& q, const Input& k, const Input& v, int heads, double scale) {
  const std::int64_t queries = q.dim(1), keys = k.dim(1), width = q.dim(2), depth = width / heads;
  Reference y(q.shape);
  for (std::int64_t b = 0; b < q.dim(0); ++b)
    for (std::int64_t i = 0; i < queries; ++i)
      for (std::int64_t h = 0; h < heads; ++h) {
        std::vector<Bounded> scores;
        for (std::int64_t j = 0; j < keys; ++j) {
          Sum dot;
          for (std::int64_t d = 0; d < depth; ++d)
            dot.add(Bounded(q[(b * queries + i) * width + h * depth + d]) * k[(b * keys + j) * width + h * depth + d]);
          scores.push_back(dot.get());
        }
        const std::vector<Bounded> weights = softmax_row(scores, scale);
        for (std::int64_t d = 0; d < depth; ++d) {
          Sum sum;
          for (std::int64_t j = 0; j < keys; ++j)
            sum.add(weights[static_cast<std::size_t>(j)] * v[(b * keys + j) * width + h * depth + d]);
          y[(b * queries + i) * width + h * depth + d] = sum.get();
        }
      }
  return y;
}

/// qkv (B, N, 3*H*D), each row [q | k | v].
inline Reference attention_qkv(const Input& qkv, int heads, double scale) {
  const std::int64_t width = qkv.dim(2) / 3;
  Input part[3] = {Input(Shape{qkv.dim(0), qkv.dim(1), width}), Input(Shape{qkv.dim(0), qkv.dim(1), width}),
                   Input(Shape{qkv.dim(0), qkv.dim(1), width})};
  for (std::int64_t i = 0; i < qkv.size(); ++i) part[i / width % 3][i / (3 * width) * width + i % width] = qkv[i];
  return attention(part[0], part[1], part[2], heads, scale);
}

struct Moments {
  Bounded mean, variance;  // biased
};
inline Moments moments(const std::vector<double>& x) {
  const Bounded n(static_cast<double>(x.size()));
  Sum sum, squares;
  for (double v : x) sum.add(v);
  const Bounded mean = sum.get() / n;
  for (double v : x) squares.add((Bounded(v) - mean) * (Bounded(v) - mean));
  return {mean, squares.get() / n};
}

inline Reference layer_norm(const Input& x, const Input& weight, const Input& bias, double eps) {
  const std::int64_t columns = x.dim(-1);
  Reference y(x.shape);
  for (std::int64_t first = 0; first < x.size(); first += columns) {
    const Moments m = moments({x.values.begin() + first, x.values.begin() + first + columns});
    for (std::int64_t i = 0; i < columns; ++i)
      y[first + i] = (Bounded(x[first + i]) - m.mean) / sqrt(m.variance + eps) * weight[i] + bias[i];
  }
  return y;
}

/// Statistics of each channel of x (B, C, ...).
inline std::vector<Moments> channel_moments(const Input& x) {
  const std::int64_t channels = x.dim(1), area = x.shape.product(2, x.shape.rank());
  std::vector<std::vector<double>> values(static_cast<std::size_t>(channels));
  for (std::int64_t i = 0; i < x.size(); ++i) values[static_cast<std::size_t>(i / area % channels)].push_back(x[i]);
  std::vector<Moments> result;
  for (const auto& channel : values) result.push_back(moments(channel));
  return result;
}

inline Reference batch_norm(const Input& x, const Input& weight, const Input& bias, const std::vector<Moments>& m,
                            double eps) {
  const std::int64_t channels = x.dim(1), area = x.shape.product(2, x.shape.rank());
  Reference y(x.shape);
  for (std::int64_t i = 0; i < x.size(); ++i) {
    const std::int64_t c = i / area % channels;
    const Moments& s = m[static_cast<std::size_t>(c)];
    y[i] = (Bounded(x[i]) - s.mean) / sqrt(s.variance + eps) * weight[c] + bias[c];
  }
  return y;
}

/// The running mean and variance after one training pass, one after the other: (2 C).
inline Reference updated_statistics(const Input& x, const Input& mean, const Input& variance, double momentum) {
  const std::int64_t channels = x.dim(1), count = x.size() / channels;
  const std::vector<Moments> m = channel_moments(x);
  Reference y(Shape{2 * channels});
  const Bounded keep = Bounded(1) - momentum;
  for (std::int64_t c = 0; c < channels; ++c) {
    const Moments& s = m[static_cast<std::size_t>(c)];
    const Bounded unbiased = s.variance * (static_cast<double>(count) / static_cast<double>(count - 1));
    y[c] = keep * mean[c] + s.mean * momentum;
    y[channels + c] = keep * variance[c] + unbiased * momentum;
  }
  return y;
}

inline Reference conv2d(const Input& x, const Input& weight, const Input* bias, std::int64_t stride_h,
                        std::int64_t stride_w, std::int64_t pad_h, std::int64_t pad_w) {
  const std::int64_t channels = x.dim(1), height = x.dim(2), width = x.dim(3);
  const std::int64_t kernel_h = weight.dim(2), kernel_w = weight.dim(3);
  Reference y(Shape{x.dim(0), weight.dim(0), (height + 2 * pad_h - kernel_h) / stride_h + 1,
                    (width + 2 * pad_w - kernel_w) / stride_w + 1});
  for (std::int64_t i = 0; i < y.size(); ++i) {
    const std::vector<std::int64_t> at = unravel(y.shape, i);
    Sum sum;
    for (std::int64_t c = 0; c < channels; ++c)
      for (std::int64_t u = 0; u < kernel_h; ++u)
        for (std::int64_t v = 0; v < kernel_w; ++v) {
          const std::int64_t row = at[2] * stride_h + u - pad_h, column = at[3] * stride_w + v - pad_w;
          if (row < 0 || row >= height || column < 0 || column >= width) continue;
          sum.add(Bounded(x[ravel(x.shape, {at[0], c, row, column})]) * weight[ravel(weight.shape, {at[1], c, u, v})]);
        }
    if (bias) sum.add((*bias)[at[1]]);
    y[i] = sum.get();
  }
  return y;
}

inline Reference avg_pool2d(const Input& x, std::int64_t kernel) {
  Reference y(Shape{x.dim(0), x.dim(1), x.dim(2) / kernel, x.dim(3) / kernel});
  for (std::int64_t i = 0; i < y.size(); ++i) {
    const std::vector<std::int64_t> at = unravel(y.shape, i);
    Sum sum;
    for (std::int64_t u = 0; u < kernel; ++u)
      for (std::int64_t v = 0; v < kernel; ++v)
        sum.add(x[ravel(x.shape, {at[0], at[1], at[2] * kernel + u, at[3] * kernel + v})]);
    y[i] = kernel == 1 ? sum.get() : sum.get() / static_cast<double>(kernel * kernel);
  }
  return y;
}

inline Bounded combine(BinaryKind kind, Bounded a, Bounded b) {
  return kind == BinaryKind::add ? a + b : kind == BinaryKind::subtract ? a - b : a * b;
}

inline Reference binary(BinaryKind kind, const Input& a, const Input& b, const Shape& shape) {
  Reference y(shape);
  const auto pick = [&](const Input& x, const std::vector<std::int64_t>& at) {
    std::vector<std::int64_t> index;
    for (int i = 0; i < x.shape.rank(); ++i)
      index.push_back(x.dim(i) == 1 ? 0 : at[static_cast<std::size_t>(i + shape.rank() - x.shape.rank())]);
    return Bounded(x[ravel(x.shape, index)]);
  };
  for (std::int64_t i = 0; i < y.size(); ++i) {
    const std::vector<std::int64_t> at = unravel(shape, i);
    y[i] = combine(kind, pick(a, at), pick(b, at));
  }
  return y;
}

inline Reference l1_loss(const Input& a, const Input& b) {
  Reference y(Shape{1});
  Sum sum;
  for (std::int64_t i = 0; i < a.size(); ++i) sum.add(abs(Bounded(a[i]) - b[i]));
  y[0] = sum.get() / static_cast<double>(a.size());
  return y;
}

inline Reference permute(const Input& x, const std::vector<int>& order) {
  Shape shape;
  for (int from : order) shape.push_back(x.dim(from));
  Reference y(shape);
  for (std::int64_t i = 0; i < y.size(); ++i) {
    const std::vector<std::int64_t> at = unravel(shape, i);
    std::vector<std::int64_t> from(at.size());
    for (std::size_t d = 0; d < order.size(); ++d) from[static_cast<std::size_t>(order[d])] = at[d];
    y[i] = x[ravel(x.shape, from)];
  }
  return y;
}

/// Entries of x along `axis`: the result's entry j is x's entry pick[j]. Slice, expand and index_select are this.
inline Reference pick_along(const Input& x, int axis, const std::vector<std::int64_t>& pick) {
  Shape shape = x.shape;
  shape.set(axis, static_cast<std::int64_t>(pick.size()));
  Reference y(shape);
  for (std::int64_t i = 0; i < y.size(); ++i) {
    std::vector<std::int64_t> at = unravel(shape, i);
    std::int64_t& along = at[static_cast<std::size_t>(axis < 0 ? axis + shape.rank() : axis)];
    along = pick[static_cast<std::size_t>(along)];
    y[i] = x[ravel(x.shape, at)];
  }
  return y;
}

inline Reference concat(const std::vector<Input>& parts, int axis) {
  const int a = axis < 0 ? axis + parts[0].shape.rank() : axis;
  Shape shape = parts[0].shape;
  std::int64_t total = 0;
  for (const Input& part : parts) total += part.dim(a);
  shape.set(a, total);
  Reference y(shape);
  for (std::int64_t i = 0; i < y.size(); ++i) {
    std::vector<std::int64_t> at = unravel(shape, i);
    std::int64_t& along = at[static_cast<std::size_t>(a)];
    std::size_t p = 0;
    while (along >= parts[p].dim(a)) along -= parts[p++].dim(a);
    y[i] = parts[p][ravel(parts[p].shape, at)];
  }
  return y;
}

inline Reference mean(const Input& x, int axis) {
  const int a = axis < 0 ? axis + x.shape.rank() : axis;
  Shape shape;
  for (int i = 0; i < x.shape.rank(); ++i)
    if (i != a) shape.push_back(x.dim(i));
  std::vector<Sum> sums(static_cast<std::size_t>(shape.numel()));
  for (std::int64_t i = 0; i < x.size(); ++i) {
    std::vector<std::int64_t> at = unravel(x.shape, i);
    at.erase(at.begin() + a);
    sums[static_cast<std::size_t>(ravel(shape, at))].add(x[i]);
  }
  Reference y(shape);
  for (std::int64_t i = 0; i < y.size(); ++i)
    y[i] = sums[static_cast<std::size_t>(i)].get() * (Bounded(1) / static_cast<double>(x.dim(a)));
  return y;
}

/// The mask is the one documented for dropout: element i stays when uniform(key, i) >= p.
inline Reference dropout(const Input& x, double p, std::uint64_t key) {
  Reference y(x.shape);
  for (std::int64_t i = 0; i < x.size(); ++i)
    if (counter_uniform(key, static_cast<std::uint64_t>(i)) >= p) y[i] = Bounded(x[i]) / (Bounded(1) - p);
  return y;
}

}  // namespace reference
}  // namespace promptiqa_test
