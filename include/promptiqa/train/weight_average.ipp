// Bodies of WeightAverage.
// Surprising choice: a model is made from a tensor file that lies in memory, the loader's one way in, so names and
// shapes are checked once more.
#pragma once

#include <deque>

#include <promptiqa/train/weight_average.hpp>

namespace promptiqa {

namespace detail {

/// A model from its state with some tensors replaced: replaced[k] stands for the k-th tensor (counters not counted).
inline Model<float> model_from_state(Context& ctx, const Model<float>& model,
                                     const std::vector<Tensor<float>>* replaced, bool training) {
  TensorFile file;
  file.path = "the model in training";
  file.metadata["config"] = model.config().to_json();
  const auto state = model.state();
  std::deque<std::vector<float>> copies;  // of tensors on a device
  std::size_t k = 0;
  for (const auto& entry : state) {
    NamedTensor tensor;
    tensor.name = entry.name;
    tensor.shape = entry.shape;
    if (entry.value) {
      const Tensor<float>& value = replaced ? (*replaced)[k++] : entry.value;
      tensor.data = value.data();
      tensor.bytes = static_cast<std::size_t>(value.numel()) * sizeof(float);
      if (value.device() != Device::cpu) {
        copies.push_back(value.host());
        tensor.data = copies.back().data();
      }
    } else {
      tensor.dtype = DType::i64;
      tensor.data = &entry.counter;
      tensor.bytes = sizeof entry.counter;
    }
    file.tensors.push_back(tensor);
  }
  std::sort(file.tensors.begin(), file.tensors.end(),
            [](const NamedTensor& a, const NamedTensor& b) { return a.name < b.name; });
  // Tensors without an owner are copied, never borrowed.
  return Model<float>::from_tensors(ctx, file, {training, false});
}

}  // namespace detail

PROMPTIQA_INLINE Model<float> copy_model(Context& ctx, const Model<float>& model) {
  return detail::model_from_state(ctx, model, nullptr, true);
}

PROMPTIQA_INLINE WeightAverage::WeightAverage(Context& ctx, const Model<float>& model) {
  for (const auto& entry : model.state()) {
    if (!entry.value) continue;
    names_.push_back(entry.name);
    tensors_.push_back(ctx.copy(entry.value));
  }
}

PROMPTIQA_INLINE void WeightAverage::update(Context& ctx, const Model<float>& model, double decay) {
  ++updates_;
  const double kept = std::min(decay, static_cast<double>(updates_ + 1) / static_cast<double>(updates_ + 10));
  std::size_t i = 0;
  for (const auto& entry : model.state()) {
    if (!entry.value) continue;
    Tensor<float>& average = tensors_[i++];
    ctx.kernels<float>().lerp(ctx.kernel_context(), {average.numel(), static_cast<float>(1 - kept), entry.value.data(),
                                                     average.mutable_data()});
  }
}

PROMPTIQA_INLINE Model<float> WeightAverage::make_model(Context& ctx, const Model<float>& model, bool training) const {
  return detail::model_from_state(ctx, model, &tensors_, training);
}

}  // namespace promptiqa
