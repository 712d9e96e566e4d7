// Golden data: reference tensors in tests/golden/*.safetensors, and comparisons with them.
// Surprising choice: a comparator first asks whether everything is finite; NaN compares false and would pass.
#pragma once

#include <algorithm>
#include <cmath>
#include <span>
#include <stdexcept>
#include <string>
#include <vector>

#include <promptiqa/core/context.hpp>
#include <promptiqa/io/dtype.hpp>
#include <promptiqa/io/safetensors.hpp>

namespace golden {

/// One golden file and how far PyTorch in float32 is from it, max|diff| / max|ref|: ours may be 4 times as far.
/// Outputs: the worst tensor of one run (tests/golden/README.md). Gradients: some are ill-conditioned (a gamma's and
/// a qConv bias's are sums that nearly cancel), so one run says little: PyTorch's worst tensor is 1.03e-5 of tiny in
/// one run and 1.17e-4 when inputs and weights are perturbed by less than half an ulp. The figures are the worst tensor
/// and the largest median over five such runs (PyTorch 2.15, one thread, 2026-11-24).
struct File {
  const char* name;
  double output_deviation, gradient_deviation, gradient_median;
};
inline constexpr File files[] = {
    {"tiny", 1.27e-5, 1.17e-4, 1.66e-5}, {"alt", 7.41e-6, 5.63e-5, 9.11e-6}, {"stem", 4.22e-6, 6.05e-5, 4.31e-6}};

inline promptiqa::TensorFile read(const std::string& name) {
  return promptiqa::read_safetensors(std::string(PROMPTIQA_TEST_DIR) + "/golden/golden_" + name + ".safetensors");
}

/// The tensors "weight.*" under the names a weights file has, with the file's config.
inline promptiqa::TensorFile weights_of(const promptiqa::TensorFile& file) {
  promptiqa::TensorFile weights = file;
  weights.tensors.clear();
  const std::string prefix = "weight.";
  for (promptiqa::NamedTensor tensor : file.tensors)
    if (tensor.name.rfind(prefix, 0) == 0) {
      tensor.name = tensor.name.substr(prefix.size());
      weights.tensors.push_back(tensor);
    }
  return weights;
}

template <class T>
promptiqa::Tensor<T> tensor(promptiqa::Context& ctx, const promptiqa::TensorFile& file, const std::string& name) {
  const promptiqa::NamedTensor* found = file.find(name);
  if (!found) throw std::runtime_error("golden tensor " + name + " is missing");
  std::vector<T> values(static_cast<std::size_t>(found->shape.numel()));
  promptiqa::decode(found->dtype, found->data, values.size(), values.data());
  return ctx.from<T>(found->shape, std::span<const T>(values));
}

/// max |a - b| / max |b|, or infinity when the sizes differ or anything is not finite. Absolute when b is all zero.
template <class T>
double deviation(const promptiqa::Tensor<T>& a, const promptiqa::Tensor<T>& b) {
  if (!a || !b || a.numel() != b.numel()) return INFINITY;
  double worst = 0, size = 0;
  const std::vector<T> found = a.host(), expected = b.host();
  for (std::size_t i = 0; i < found.size(); ++i) {
    const double x = static_cast<double>(found[i]), y = static_cast<double>(expected[i]);
    if (!std::isfinite(x) || !std::isfinite(y)) return INFINITY;
    worst = std::max(worst, std::abs(x - y));
    size = std::max(size, std::abs(y));
  }
  return size > 0 ? worst / size : worst;
}

template <class T>
double largest(const promptiqa::Tensor<T>& a) {
  double size = 0;
  for (T x : a.host()) size = std::isfinite(x) ? std::max(size, std::abs(static_cast<double>(x))) : INFINITY;
  return size;
}

}  // namespace golden
