// The sum of tensors over ranks by way of the host.
// Surprising choice: all of them travel as one vector: ranks exchange few large messages instead of many small ones.
#pragma once

#include <cstddef>
#include <vector>

#include <promptiqa/train/communicator.hpp>

namespace promptiqa {

PROMPTIQA_INLINE void Communicator::sum_tensors(Context& ctx, std::span<Tensor<float>> tensors) {
  std::size_t count = 0;
  for (const Tensor<float>& tensor : tensors) count += static_cast<std::size_t>(tensor.numel());
  std::vector<float> flat(count);
  float* to = flat.data();
  for (const Tensor<float>& tensor : tensors) {
    tensor.copy_to(0, tensor.numel(), to);
    to += tensor.numel();
  }
  sum(std::span<float>(flat));
  const float* from = flat.data();
  for (Tensor<float>& tensor : tensors) {
    if (!tensor) continue;
    const std::int64_t elements = tensor.numel();
    tensor = ctx.from<float>(tensor.shape(), std::span<const float>(from, static_cast<std::size_t>(elements)));
    from += elements;
  }
}

}  // namespace promptiqa
