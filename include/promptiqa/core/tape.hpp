// Tape: reverse-mode differentiation as a flat list of nodes walked backwards.
// Surprising choice: nothing is global and nothing recursive. A Context without a tape is inference; gradients
// are kept per memory block (Tensor::id), so a reshape costs no node.
#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <unordered_map>
#include <unordered_set>
#include <utility>
#include <vector>

#include <promptiqa/core/context.hpp>
#include <promptiqa/core/error.hpp>
#include <promptiqa/core/tensor.hpp>

namespace promptiqa {

/// Records ops of one Context and computes gradients. Not thread-safe: one tape, one thread.
class Tape {
 public:
  Tape() = default;
  Tape(const Tape&) = delete;  // the nodes point back to their tape
  Tape& operator=(const Tape&) = delete;

  /// Asks for the gradient of a leaf (a parameter or an input). Call it before the ops that use the leaf.
  template <class T>
  void watch(const Tensor<T>& leaf) {
    tracked_.insert(leaf.id());
  }

  /// True when gradients flow to this tensor: it is watched, or made by a recorded op from such a tensor.
  template <class T>
  bool tracks(const Tensor<T>& tensor) const {
    return tensor && tracks_id(tensor.id());
  }

  /// Called by ops. backward(ctx, dy) must pass the gradients of the op's inputs to accumulate().
  template <class T, class Backward>
  void record(const Tensor<T>& output, Backward backward) {
    tracked_.insert(output.id());
    nodes_.push_back({output.id(), [this, id = output.id(), shape = output.shape(), device = output.device(),
                                    backward = std::move(backward)](Context& ctx) {
                        const auto found = gradients_.find(id);
                        const Tensor<T> dy(std::move(found->second.storage), shape, device);
                        gradients_.erase(found);
                        backward(ctx, dy);
                      }});
  }

  /// Called by backward closures: adds `gradient` to what `tensor` has; does nothing for untracked tensors.
  template <class T>
  void accumulate(Context& ctx, const Tensor<T>& tensor, Tensor<T> gradient) {
    if (!tracks(tensor)) return;
    if (gradient.numel() != tensor.numel())
      throw ShapeError("tape: the gradient of a tensor " + tensor.shape().str() + " has shape " +
                       gradient.shape().str());
    add_gradient(ctx, tensor.id(), gradient);
  }

  /// forward(ctx) without recording, and one node that runs it again, recording, when its gradient is needed: its
  /// intermediates take memory only then. It must give the same result both times: random ops repeat theirs, but
  /// nothing else may change (batch norm would update its running statistics twice).
  template <class T, class Forward>
  Tensor<T> recompute(Context& ctx, Forward forward) {
    const std::uint64_t seed = ctx.random_seed(), drawn = ctx.random_drawn();
    Tensor<T> output;
    {
      const TapeScope not_recording(ctx, nullptr);
      output = forward(ctx);
    }
    record(output, [this, forward = std::move(forward), seed, drawn](Context& c, const Tensor<T>& dy) {
      const std::uint64_t seed_now = c.random_seed(), drawn_now = c.random_drawn();
      c.set_random_state(seed, drawn);
      Tape again;
      again.parent_ = this;
      Tensor<T> y;
      {
        const TapeScope recording(c, &again);
        y = forward(c);
      }
      c.set_random_state(seed_now, drawn_now);
      if (!again.tracks(y)) return;
      again.backward(c, y, dy);
      for (auto& [id, gradient] : again.gradients_)
        if (tracks_id(id))
          add_gradient(c, id, Tensor<T>(std::move(gradient.storage), Shape{gradient.count}, y.device()));
    });
    return output;
  }

  /// Walks the tape from `output`, whose gradient is `cotangent` (of the same number of elements).
  /// Nodes and intermediate gradients are released on the way: a tape runs backward once.
  /// Throws ShapeError when the tape has not recorded `output`.
  template <class T>
  void backward(Context& ctx, const Tensor<T>& output, const Tensor<T>& cotangent) {
    if (!tracks(output)) throw ShapeError("backward: this tape has not recorded the output");
    const TapeScope not_recording(ctx, nullptr);
    accumulate(ctx, output, cotangent);
    for (; !nodes_.empty(); nodes_.pop_back())
      if (gradients_.count(nodes_.back().output)) nodes_.back().run(ctx);
  }

  /// The same with a cotangent of 1. Throws ShapeError unless `output` has one element.
  template <class T>
  void backward(Context& ctx, const Tensor<T>& output) {
    if (output.numel() != 1)
      throw ShapeError("backward: expected an output of one element, got shape " + output.shape().str());
    backward(ctx, output, ctx.full<T>(output.shape(), T(1)));
  }

  /// d(output)/d(leaf) after backward(), in the leaf's shape; an empty tensor when no gradient reached it.
  template <class T>
  Tensor<T> gradient(const Tensor<T>& leaf) const {
    const auto found = gradients_.find(leaf.id());
    return found == gradients_.end() ? Tensor<T>() : Tensor<T>(found->second.storage, leaf.shape(), leaf.device());
  }

  /// Forgets everything, watched leaves included.
  void clear() {
    nodes_.clear();
    gradients_.clear();
    tracked_.clear();
  }

  std::size_t size() const { return nodes_.size(); }

 private:
  struct Node {
    std::uint64_t output;
    std::function<void(Context&)> run;
  };
  struct Gradient {
    StorageRef storage;
    std::int64_t count;  // elements
  };

  bool tracks_id(std::uint64_t id) const { return tracked_.count(id) != 0 || (parent_ && parent_->tracks_id(id)); }

  template <class T>
  void add_gradient(Context& ctx, std::uint64_t id, const Tensor<T>& gradient) {
    const auto [found, first] = gradients_.try_emplace(id, Gradient{gradient.storage(), gradient.numel()});
    if (first) return;
    Tensor<T> sum(found->second.storage, gradient.shape(), gradient.device());
    found->second.storage = StorageRef();
    // Two inputs of one op may have been handed the same buffer: only an unshared one is added to in place.
    if (!sum.storage().unique()) sum = ctx.copy(sum);
    ctx.kernels<T>().add_in_place(ctx.kernel_context(), {gradient.numel(), gradient.data(), sum.mutable_data()});
    found->second.storage = sum.storage();
  }

  std::vector<Node> nodes_;
  std::unordered_map<std::uint64_t, Gradient> gradients_;
  std::unordered_set<std::uint64_t> tracked_;
  const Tape* parent_ = nullptr;  // of a tape that repeats a stretch of another: what that tracks, this one does too
};

}  // namespace promptiqa
