// Checkpoints as torch.save writes them since PyTorch 1.6 (.pth, .pth.tar, .pt): a ZIP archive with a pickle in it.
// Surprising choice: nothing in the pickle is executed, whatever it asks for; see pickle.hpp.
#pragma once

#include <cstddef>
#include <span>
#include <string>

#include <promptiqa/io/named_tensor.hpp>

namespace promptiqa {

/// Reads the directory of a checkpoint; the data stay in the map. The saved object is a state dict, or a dictionary
/// with one under "state_dict" or "model" whose other keys are ignored. The prefix "module." that DataParallel adds is
/// removed when every key has it. Parameters count as tensors, and an OrderedDict's attributes are ignored.
/// Throws FileError when the file cannot be mapped, WeightsError naming the file and the tensor, global or opcode: the
/// file is damaged, big-endian, compressed, a TorchScript archive or of an older format; the pickle needs anything but
/// tensors and plain containers; a tensor is not row-major and contiguous, lies outside its storage, has more than 6
/// dimensions or an element type other than float, half, bfloat16, double and int64; a name occurs twice.
TensorFile read_torch_checkpoint(const std::string& path);

/// The same from bytes in memory, which must outlive the result. `name` stands for the file in messages.
TensorFile parse_torch_checkpoint(std::span<const std::byte> bytes, const std::string& name);

}  // namespace promptiqa

#if PROMPTIQA_WITH_BODIES
#include <promptiqa/io/torch_checkpoint.ipp>
#endif
