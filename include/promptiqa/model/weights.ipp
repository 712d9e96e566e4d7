// Visitors over a model's state: list it, load it, initialise it.
// Surprising choice: the same `visit` that names a tensor also says its shape, so what a file must contain is
// never written down a second time.
#pragma once

#include <algorithm>
#include <cmath>
#include <map>
#include <set>
#include <span>
#include <string>
#include <vector>

#include <promptiqa/core/context.hpp>
#include <promptiqa/core/host_values.hpp>
#include <promptiqa/io/dtype.hpp>
#include <promptiqa/io/named_tensor.hpp>

namespace promptiqa::detail {

/// Names and shapes of every tensor; counters apart, because a file may lack them.
struct StateShapes {
  std::map<std::string, Shape> tensors;
  std::set<std::string> counters;

  template <class U>
  void matrix(const std::string& name, Tensor<U>&, const Shape& shape) {
    tensors.emplace(name, shape);
  }
  template <class U>
  void tensor(const std::string& name, Tensor<U>&, const Shape& shape, bool) {
    tensors.emplace(name, shape);
  }
  void counter(const std::string& name, std::int64_t&) { counters.insert(name); }
};

/// True when the file holds exactly these tensors (counters are optional).
inline bool matches(const TensorFile& file, const StateShapes& state) {
  std::size_t found = 0;
  for (const NamedTensor& tensor : file.tensors) {
    if (state.counters.count(tensor.name)) continue;
    const auto expected = state.tensors.find(tensor.name);
    if (expected == state.tensors.end() || expected->second != tensor.shape) return false;
    ++found;
  }
  return found == state.tensors.size();
}

/// Index of the first element that is not finite, or -1.
template <class U>
std::int64_t first_not_finite(Context& ctx, const U* data, std::int64_t count) {
  constexpr std::int64_t chunk = 1 << 18;
  std::atomic<std::int64_t> first{-1};
  ctx.pool().parallel_for((count + chunk - 1) / chunk, [&](std::int64_t c) {
    const std::int64_t begin = c * chunk, end = std::min(count, begin + chunk);
    // 0 * x is 0 for finite x and NaN otherwise: a sum of those vectorises where a search would not.
    U lanes[16] = {};
    std::int64_t i = begin;
    for (; i + 16 <= end; i += 16)
      for (int j = 0; j < 16; ++j) lanes[j] += U(0) * data[i + j];
    U sum = 0;
    for (U lane : lanes) sum += lane;
    for (; i < end; ++i) sum += U(0) * data[i];
    if (sum == U(0)) return;
    for (i = begin; i < end; ++i)
      if (!std::isfinite(data[i])) {
        std::int64_t seen = first.load();
        while ((seen < 0 || i < seen) && !first.compare_exchange_weak(seen, i)) {
        }
        return;
      }
  });
  return first.load();
}

/// Gives every tensor of a model its values from a file.
class WeightsLoader {
 public:
  WeightsLoader(Context& ctx, const TensorFile& file, bool writable) : ctx_(ctx), file_(file), writable_(writable) {}

  template <class U>
  void matrix(const std::string& name, Tensor<U>& target, const Shape& shape) {
    tensor(name, target, shape, true);
  }

  template <class U>
  void tensor(const std::string& name, Tensor<U>& target, const Shape& shape, bool) {
    const NamedTensor* source = file_.find(name);
    if (!source) throw WeightsError(file_.path + ": tensor '" + name + "' is missing, expected shape " + shape.str());
    used_.insert(source);
    if (source->shape != shape)
      throw WeightsError(file_.path + ": tensor '" + name + "' must have shape " + shape.str() + ", got " +
                         source->shape.str());
    if (source->dtype == DType::i64)
      throw WeightsError(file_.path + ": tensor '" + name + "' must be of a floating-point type, got I64");
    if constexpr (std::is_same_v<U, accumulate_t<U>>) {
      if (ctx_.device() == Device::cpu) {
        constexpr DType own = sizeof(U) == sizeof(double) ? DType::f64 : DType::f32;
        if (!writable_ && source->dtype == own && source->is_aligned() && source->owner) {
          target = Tensor<U>(MemoryPool::foreign(source->data, source->bytes, source->owner), shape);
        } else {
          target = ctx_.allocate<U>(shape);
          decode(source->dtype, source->data, static_cast<std::size_t>(shape.numel()), target.mutable_data());
        }
        check_values(name, target.values());
        file_.release_pages(*source);
        return;
      }
    }
    using Number = accumulate_t<U>;
    std::vector<Number> values(static_cast<std::size_t>(shape.numel()));
    decode(source->dtype, source->data, values.size(), values.data());
    file_.release_pages(*source);
    check_values(name, std::span<const Number>(values));
    target = from_host<U>(ctx_, shape, std::span<const Number>(values));
  }

  void counter(const std::string& name, std::int64_t& value) {
    const NamedTensor* source = file_.find(name);
    if (!source) return;
    used_.insert(source);
    if (source->shape.numel() != 1)
      throw WeightsError(file_.path + ": tensor '" + name + "' must have one element, got shape " +
                         source->shape.str());
    double number = 0;
    decode(source->dtype, source->data, 1, &number);
    if (!(number >= 0 && number < 9e15))
      throw WeightsError(file_.path + ": tensor '" + name + "' must be a count, got " + std::to_string(number));
    value = static_cast<std::int64_t>(number);
  }

  /// Throws WeightsError when the file holds a tensor that nobody asked for.
  void check_all_used() const {
    for (const NamedTensor& tensor : file_.tensors)
      if (!used_.count(&tensor))
        throw WeightsError(file_.path + ": tensor " + detail::quoted_name(tensor.name) + " " + tensor.shape.str() +
                           " is not part of the model its config describes");
  }

 private:
  template <class Number>
  void check_values(const std::string& name, std::span<const Number> values) {
    const std::int64_t bad = first_not_finite(ctx_, values.data(), static_cast<std::int64_t>(values.size()));
    if (bad >= 0)
      throw WeightsError(file_.path + ": tensor '" + name + "' has a value that is not finite at element " +
                         std::to_string(bad));
    if (name.size() > 12 && name.compare(name.size() - 12, 12, ".running_var") == 0)
      for (Number variance : values)
        if (variance < 0)
          throw WeightsError(file_.path + ": tensor '" + name + "' is a variance and must not be negative, got " +
                             std::to_string(variance));
  }

  Context& ctx_;
  const TensorFile& file_;
  bool writable_;
  std::set<const NamedTensor*> used_;
};

/// Fresh weights. Each tensor's numbers depend on the seed and its name only.
class WeightsInitialiser {
 public:
  WeightsInitialiser(Context& ctx, std::uint64_t seed) : ctx_(ctx), seed_(seed) {}

  template <class U>
  void matrix(const std::string& name, Tensor<U>& target, const Shape& shape) {
    fan_in_ = shape.numel() / std::max<std::int64_t>(shape[0], 1);
    uniform(name, target, shape);
  }

  template <class U>
  void tensor(const std::string& name, Tensor<U>& target, const Shape& shape, bool trainable) {
    const auto ends_with = [&](const char* end) {
      const std::string s = end;
      return name.size() >= s.size() && name.compare(name.size() - s.size(), s.size(), s) == 0;
    };
    if (shape.rank() == 4) {
      matrix(name, target, shape);
    } else if (ends_with("pos_embed") || ends_with("cls_token")) {
      normal(name, target, shape, 0.02);
    } else if (!trainable || ends_with("gamma")) {
      target = ctx_.full<U>(shape, rounded_to<U>(ends_with("running_var") ? 1.0 : 0.0));
    } else if (ends_with("weight")) {  // of a norm; its bias follows
      target = ctx_.full<U>(shape, rounded_to<U>(1.0));
      fan_in_ = 0;
    } else if (fan_in_ > 0) {
      uniform(name, target, shape);
    } else {
      target = ctx_.zeros<U>(shape);
    }
  }

  void counter(const std::string&, std::int64_t& value) { value = 0; }

 private:
  // FNV-1a: tensors of one model must not share random numbers.
  std::uint64_t key(const std::string& name) const {
    std::uint64_t h = 0xCBF29CE484222325ull ^ seed_;
    for (unsigned char c : name) h = (h ^ c) * 0x100000001B3ull;
    return h;
  }

  template <class U>
  void uniform(const std::string& name, Tensor<U>& target, const Shape& shape) {
    const double bound = 1.0 / std::sqrt(static_cast<double>(fan_in_));
    const std::uint64_t stream = key(name);
    target = made<U>(shape, [&](std::uint64_t i) { return bound * (2 * counter_uniform(stream, i) - 1); });
  }

  template <class U>
  void normal(const std::string& name, Tensor<U>& target, const Shape& shape, double deviation) {
    const std::uint64_t stream = key(name);
    target = made<U>(shape, [&](std::uint64_t i) {
      const double radius = std::sqrt(-2 * std::log(1 - counter_uniform(stream, 2 * i)));
      return deviation * radius * std::cos(6.283185307179586 * counter_uniform(stream, 2 * i + 1));
    });
  }

  /// A tensor of each(0), each(1), ...
  template <class U, class Each>
  Tensor<U> made(const Shape& shape, Each each) {
    std::vector<U> values(static_cast<std::size_t>(shape.numel()));
    for (std::size_t i = 0; i < values.size(); ++i) values[i] = rounded_to<U>(each(i));
    return ctx_.from<U>(shape, std::span<const U>(values));
  }

  Context& ctx_;
  std::uint64_t seed_;
  std::int64_t fan_in_ = 0;  // of the weight visited last: a bias is visited right after its weight
};

}  // namespace promptiqa::detail
