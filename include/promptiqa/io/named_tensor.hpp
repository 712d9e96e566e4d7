// Named tensors as they lie in a file, whatever its format.
// Surprising choice: nothing is copied. The data point into the memory-mapped file, which each tensor keeps alive,
// and may be unaligned for their type: read them with decode().
#pragma once

#include <cstddef>
#include <cstdint>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include <promptiqa/core/shape.hpp>
#include <promptiqa/io/dtype.hpp>
#include <promptiqa/io/mapped_file.hpp>

namespace promptiqa {

/// A tensor of a file, or one to be written: row-major little-endian elements in memory owned by someone else.
struct NamedTensor {
  std::string name;
  DType dtype = DType::f32;
  Shape shape;
  const void* data = nullptr;
  std::size_t bytes = 0;                   // numel * dtype_size(dtype)
  std::shared_ptr<const void> owner = {};  // keeps `data` alive; null: the caller does

  /// Whether `data` may be read through a pointer to the element type.
  bool is_aligned() const { return reinterpret_cast<std::uintptr_t>(data) % dtype_size(dtype) == 0; }
};

/// The contents of a tensor file.
struct TensorFile {
  std::string path;                             // or the name given to the parser of a memory buffer
  std::map<std::string, std::string> metadata;  // safetensors' __metadata__; empty for checkpoints
  std::vector<NamedTensor> tensors;             // sorted by name (bytewise), names unique
  std::shared_ptr<const MappedFile> file;       // null when parsed from a memory buffer

  /// The tensor of that name, or null.
  const NamedTensor* find(const std::string& name) const;

  /// Drops the tensor's pages from memory; its data stay readable. A loader calls it after packing a tensor.
  void release_pages(const NamedTensor& tensor) const noexcept;
};

namespace detail {
/// A name from an untrusted file as it may appear in a message: quoted, at most 200 bytes, on one line.
std::string quoted_name(const std::string& name);
}  // namespace detail

}  // namespace promptiqa

#if PROMPTIQA_WITH_BODIES
#include <promptiqa/io/named_tensor.ipp>
#endif
