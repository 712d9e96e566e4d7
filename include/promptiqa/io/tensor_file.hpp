// Reads a file of weights of either format.
// Surprising choice: the format is told by the first bytes; people rename files, and ".pth.tar" is no tar archive.
#pragma once

#include <cstddef>
#include <span>
#include <string>

#include <promptiqa/io/named_tensor.hpp>

namespace promptiqa {

/// Reads a safetensors file or a PyTorch checkpoint, whichever the contents are; see read_safetensors and
/// read_torch_checkpoint for what they throw.
TensorFile read_tensor_file(const std::string& path);

/// The same from bytes in memory, which must outlive the result. `name` stands for the file in messages.
TensorFile parse_tensor_file(std::span<const std::byte> bytes, const std::string& name);

}  // namespace promptiqa

#if PROMPTIQA_WITH_BODIES
#include <promptiqa/io/tensor_file.ipp>
#endif
