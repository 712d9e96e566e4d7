// Bodies of the reader that tells the formats apart.
// Surprising choice: what a checkpoint could once have been (plain pickle, tar, gzip) goes to the checkpoint reader,
// which knows what to advise.
#pragma once

#include <string_view>

#include <promptiqa/io/safetensors.hpp>
#include <promptiqa/io/tensor_file.hpp>
#include <promptiqa/io/torch_checkpoint.hpp>

namespace promptiqa {

PROMPTIQA_INLINE TensorFile parse_tensor_file(std::span<const std::byte> bytes, const std::string& name) {
  const std::string_view text(reinterpret_cast<const char*>(bytes.data()), bytes.size());
  if (text.empty()) throw WeightsError(name + ": the file is empty");
  if (text.size() > 8 && text[8] == '{') return parse_safetensors(bytes, name);
  const bool tar = text.size() > 262 && text.substr(257, 5) == "ustar";
  if (text.starts_with("PK\x03\x04") || text.starts_with("\x80\x02") || text.starts_with("\x1f\x8b") || tar)
    return parse_torch_checkpoint(bytes, name);
  throw WeightsError(name + ": neither a safetensors file nor a PyTorch checkpoint");
}

PROMPTIQA_INLINE TensorFile read_tensor_file(const std::string& path) {
  const std::shared_ptr<const MappedFile> file = MappedFile::open(path);
  TensorFile result = parse_tensor_file(file->bytes(), path);
  result.file = file;
  for (NamedTensor& tensor : result.tensors) tensor.owner = file;
  return result;
}

}  // namespace promptiqa
