// The layers with parameters: Linear, LayerNorm, BatchNorm2d, Conv2d, and the last two as one.
// Surprising choice: a module is a plain struct that knows its shapes and names; `visit` walks its state in one
// place, so loading, saving, training and hashing never list a parameter by hand.
//
// visit(v, prefix) calls, for every entry of the state dict under its PyTorch name,
//   v.matrix(name, tensor, shape)             a weight that products read (trainable)
//   v.tensor(name, tensor, shape, trainable)  any other tensor; not trainable: running statistics
//   v.counter(name, integer)                  num_batches_tracked
// where `shape` is the one the file has (a 1x1 convolution's weight is (O, C, 1, 1) there, (O, C) here).
#pragma once

#include <atomic>
#include <cstdint>
#include <functional>
#include <memory>
#include <mutex>
#include <string>
#include <utility>

#include <promptiqa/ops/all.hpp>

namespace promptiqa {

/// Told after a weight has been packed that its own memory will not be read again soon: a loader drops its pages.
using WeightReleased = std::function<void(const void* data, std::size_t bytes)>;

/// A value made by the first thread that needs it, behind const; the others wait for it.
template <class V>
class MadeOnce {
 public:
  /// make() is called once, and dropped with all it holds.
  explicit MadeOnce(std::function<V()> make) : make_(std::move(make)) {}

  /// The value. Throws what make() throws; a later call tries again.
  const V& get() const {
    if (!ready_.load(std::memory_order_acquire)) {
      const std::lock_guard<std::mutex> lock(making_);
      if (make_) {
        value_ = make_();
        make_ = nullptr;
        ready_.store(true, std::memory_order_release);
      }
    }
    return value_;
  }

 private:
  mutable std::atomic<bool> ready_{false};
  mutable std::mutex making_;
  mutable std::function<V()> make_;  // until made; guarded by making_
  mutable V value_;                  // written once, before ready_
};

/// A weight laid out for the kernels of one Context at its first use: loading then touches no memory but the file's.
template <class T>
class LazyPacked {
 public:
  /// Will pack op(weight) = weight^T with `ctx`'s kernels, threads and memory, which it shares until then.
  LazyPacked(const Context& ctx, const Tensor<T>& weight, const WeightReleased& released)
      : layout_(ctx.kernels<T>().packed_layout), packed_([ctx = Context(ctx), weight, released]() mutable {
          PackedMatrix<T> packed = PackedMatrix<T>::pack(ctx, weight, true);
          if (released) released(weight.data(), static_cast<std::size_t>(weight.numel()) * sizeof(T));
          return packed;
        }) {}

  /// True when the kernels of `ctx` understand the layout.
  bool fits(const Context& ctx) const { return layout_ == ctx.kernels<T>().packed_layout; }

  /// The packed weight. Throws std::bad_alloc when there is no memory for it; a later call tries again.
  const PackedMatrix<T>& get() const { return packed_.get(); }

 private:
  int layout_;
  MadeOnce<PackedMatrix<T>> packed_;
};

/// y = x W^T + b.
template <class T>
struct Linear {
  std::int64_t inputs = 0, outputs = 0;
  bool has_bias = true, from_conv1x1 = false;
  Tensor<T> weight;                // (outputs, inputs)
  Tensor<accumulate_t<T>> bias;    // (outputs) or empty
  std::shared_ptr<const LazyPacked<T>> packed;  // null: products read the plain weight
  WeightReleased streamed;                      // told after each product that read the plain weight; see stream()

  Linear() = default;
  Linear(std::int64_t in, std::int64_t out, bool with_bias = true, bool conv1x1 = false)
      : inputs(in), outputs(out), has_bias(with_bias), from_conv1x1(conv1x1) {}

  Tensor<T> operator()(Context& ctx, const Tensor<T>& x, LinearEpilogue<T> epilogue = {}) const {
    if (has_packed(ctx)) epilogue.packed = &packed->get();
    Tensor<T> y = linear(ctx, x, weight, bias, epilogue);
    if (streamed) release(streamed);
    return y;
  }

  /// From now on products with ctx's kernels use a packed copy, made when the first of them is computed. On a device
  /// they go on reading the plain weight, which is as fast there.
  void pack(Context& ctx, const WeightReleased& released) {
    streamed = nullptr;
    packed = ctx.device() == Device::cpu ? std::make_shared<const LazyPacked<T>>(ctx, weight, released) : nullptr;
  }
  /// No packed copy: each product reads the plain weight, whose pages are dropped again. Slower and small; for layers
  /// that are used a few times. Dropping pages that another thread reads only makes it read the file again.
  void stream(const WeightReleased& released) {
    packed = nullptr;
    streamed = released;
  }
  /// Packs at once and drops the plain weight: for layers that exist for inference only. On a device it is kept
  /// instead.
  void keep_only_packed(Context& ctx) {
    pack(ctx, nullptr);
    if (!packed) return;
    packed->get();
    weight = Tensor<T>();
  }
  /// True when products with ctx's kernels use a packed copy.
  bool has_packed(const Context& ctx) const { return packed && packed->fits(ctx); }
  /// True when this layer, of which one form only may have been kept, can compute in ctx.
  bool ready_for(const Context& ctx) const { return has_packed(ctx) || (weight && weight.device() == ctx.device()); }
  void release(const WeightReleased& released) const {
    if (released && weight) released(weight.data(), static_cast<std::size_t>(weight.numel()) * sizeof(T));
  }
  void unpack() { stream(nullptr); }

  template <class V>
  void visit(V& v, const std::string& prefix) {
    v.matrix(prefix + "weight", weight, from_conv1x1 ? Shape{outputs, inputs, 1, 1} : Shape{outputs, inputs});
    if (weight) weight = weight.reshape({outputs, inputs});
    if (has_bias) v.tensor(prefix + "bias", bias, Shape{outputs}, true);
  }
};

template <class T>
struct LayerNorm {
  std::int64_t width = 0;
  double eps = 0;
  Tensor<accumulate_t<T>> weight, bias;  // (width)

  LayerNorm() = default;
  LayerNorm(std::int64_t w, double e) : width(w), eps(e) {}

  Tensor<T> operator()(Context& ctx, const Tensor<T>& x) const { return layer_norm(ctx, x, weight, bias, eps); }

  template <class V>
  void visit(V& v, const std::string& prefix) {
    v.tensor(prefix + "weight", weight, Shape{width}, true);
    v.tensor(prefix + "bias", bias, Shape{width}, true);
  }
};

/// Batch norm over (B, C, H, W), eps 1e-5, momentum 0.1 (model.md section 2.6).
template <class T>
struct BatchNorm2d {
  static constexpr double eps = 1e-5, momentum = 0.1;
  std::int64_t channels = 0;
  Tensor<accumulate_t<T>> weight, bias, running_mean, running_var;  // (channels)
  std::int64_t num_batches_tracked = 0;

  BatchNorm2d() = default;
  explicit BatchNorm2d(std::int64_t c) : channels(c) {}

  /// Training: with this batch's statistics, and the running ones updated (num_batches_tracked is the caller's).
  /// Const because a Tensor is a handle: only Model's training pass, which is not const, asks for `training`.
  Tensor<T> operator()(Context& ctx, const Tensor<T>& x, bool training) const {
    if (!training) return batch_norm_inference(ctx, x, weight, bias, running_mean, running_var, eps);
    Tensor<accumulate_t<T>> mean = running_mean, var = running_var;
    return batch_norm_training(ctx, x, weight, bias, mean, var, eps, momentum);
  }

  template <class V>
  void visit(V& v, const std::string& prefix) {
    v.tensor(prefix + "weight", weight, Shape{channels}, true);
    v.tensor(prefix + "bias", bias, Shape{channels}, true);
    v.tensor(prefix + "running_mean", running_mean, Shape{channels}, false);
    v.tensor(prefix + "running_var", running_var, Shape{channels}, false);
    v.counter(prefix + "num_batches_tracked", num_batches_tracked);
  }
};

template <class T>
struct Conv2d {
  std::int64_t in_channels = 0, out_channels = 0, kernel = 1, stride = 1, padding = 0;
  bool has_bias = true;
  Tensor<T> weight;              // (out, in, kernel, kernel)
  Tensor<accumulate_t<T>> bias;  // (out) or empty

  Conv2d() = default;
  Conv2d(std::int64_t in, std::int64_t out, std::int64_t k, std::int64_t s, std::int64_t p, bool with_bias)
      : in_channels(in), out_channels(out), kernel(k), stride(s), padding(p), has_bias(with_bias) {}

  Tensor<T> operator()(Context& ctx, const Tensor<T>& x) const {
    const auto options = Conv2dOptions::square(stride, padding);
    if (packed_ && !ctx.tape() && layout_ == ctx.kernels<T>().packed_layout)
      return conv2d(ctx, x, packed_->get(), bias, options);
    return conv2d(ctx, x, weight, bias, options);
  }

  /// From now on inference with ctx's kernels reads a packed copy of the weight, made when it is first used. On a
  /// device it goes on reading the plain weight, which is as fast there.
  void pack(Context& ctx) {
    layout_ = ctx.kernels<T>().packed_layout;
    packed_ = ctx.device() != Device::cpu
                  ? nullptr
                  : std::make_shared<const MadeOnce<PackedConv2d<T>>>([own = Context(ctx), weight = weight]() mutable {
                      return PackedConv2d<T>::pack(own, weight, {});
                    });
  }
  void unpack() { packed_ = nullptr; }

  template <class V>
  void visit(V& v, const std::string& prefix) {
    v.tensor(prefix + "weight", weight, Shape{out_channels, in_channels, kernel, kernel}, true);
    if (has_bias) v.tensor(prefix + "bias", bias, Shape{out_channels}, true);
  }

 private:
  int layout_ = 0;
  std::shared_ptr<const MadeOnce<PackedConv2d<T>>> packed_;  // null: not packed
};

/// relu(norm(conv(x)) + residual). At inference it is one convolution: the norm, whose statistics are then constants,
/// is folded into the weight and the bias once.
template <class T>
struct ConvNormRelu {
  Conv2d<T> conv;
  BatchNorm2d<T> norm;

  ConvNormRelu() = default;
  explicit ConvNormRelu(const Conv2d<T>& c) : conv(c), norm(c.out_channels) {}

  /// residual: shaped as the result, or null.
  Tensor<T> operator()(Context& ctx, const Tensor<T>& x, bool training, const Tensor<T>* residual = nullptr) const {
    if (!training && !ctx.tape() && folded_ && layout_ == ctx.kernels<T>().packed_layout) {
      const Folded& one = folded_->get();
      return conv2d(ctx, x, one.weight, one.bias, Conv2dOptions::square(conv.stride, conv.padding),
                    Conv2dEpilogue<T>{Activation::relu, residual});
    }
    const Tensor<T> y = norm(ctx, conv(ctx, x), training);
    return relu(ctx, residual ? add(ctx, *residual, y) : y);
  }

  /// From now on inference with ctx's kernels uses the folded convolution, made when it is first used, or on a device
  /// at once: later, another stream could read it before it is there.
  void pack(Context& ctx) {
    layout_ = ctx.kernels<T>().packed_layout;
    folded_ = std::make_shared<const MadeOnce<Folded>>(
        [own = Context(ctx), conv = conv, norm = norm]() mutable { return fold(own, conv, norm); });
    if (ctx.device() != Device::cpu) folded_->get();
  }
  void unpack() { folded_ = nullptr; }

  template <class V>
  void visit(V& v, const std::string& conv_prefix, const std::string& norm_prefix) {
    conv.visit(v, conv_prefix);
    norm.visit(v, norm_prefix);
  }

 private:
  struct Folded {
    PackedConv2d<T> weight;
    Tensor<accumulate_t<T>> bias;
  };

  static Folded fold(Context& ctx, const Conv2d<T>& conv, const BatchNorm2d<T>& norm) {
    using A = accumulate_t<T>;
    const TapeScope not_recording(ctx, nullptr);
    const Shape one_pixel{1, norm.channels, 1, 1};
    const Tensor<A> zero = ctx.zeros<A>({norm.channels});
    // What the norm makes of a 1 when it subtracts and adds nothing; and of the convolution's bias.
    const Tensor<A> scale = batch_norm_inference(ctx, ctx.full<A>(one_pixel, A(1)), norm.weight, zero, zero,
                                                 norm.running_var, norm.eps);
    const Tensor<A> bias = batch_norm_inference(ctx, (conv.bias ? conv.bias : zero).reshape(one_pixel), norm.weight,
                                                norm.bias, norm.running_mean, norm.running_var, norm.eps);
    return {PackedConv2d<T>::pack(ctx, conv.weight, scale), bias.reshape({norm.channels})};
  }

  int layout_ = 0;
  std::shared_ptr<const MadeOnce<Folded>> folded_;  // null: not packed
};

}  // namespace promptiqa
