// The safetensors format: an 8-byte header length, a JSON header, raw little-endian data.
// Surprising choice: the reader believes nothing. Every rule of the format is checked before the header's numbers are
// used, and a dtype the library does not compute with is refused even when no one asks for that tensor.
#pragma once

#include <cstddef>
#include <map>
#include <span>
#include <string>

#include <promptiqa/io/named_tensor.hpp>

namespace promptiqa {

/// Reads the directory of a safetensors file; the data stay in the map. Costs time and memory of the header only.
/// Throws FileError when the file cannot be mapped, WeightsError naming the file and tensor when it breaks a rule:
/// header length 0, above 100 MB or beyond the file; header not a JSON object of tensors, deeper nesting, unknown or
/// missing fields, a repeated name or field; `__metadata__` not of strings; dtype other than F32, F16, BF16, F64, I64;
/// more than 6 dimensions, negative or fractional ones, an overflowing product; data_offsets reversed, out of the file
/// or not of the size that dtype and shape ask for; data that overlap, leave a hole or do not end with the file.
TensorFile read_safetensors(const std::string& path);

/// The same from bytes in memory, which must outlive the result. `name` stands for the file in messages.
TensorFile parse_safetensors(std::span<const std::byte> bytes, const std::string& name);

/// Writes a safetensors file atomically: `path` is replaced as a whole or not at all. Tensors may come in any order
/// and are laid out by element size, largest first, then name, so that every one is aligned. Throws WeightsError for
/// repeated or reserved names, a wrong `bytes` or text that is not UTF-8, FileError when writing fails.
void write_safetensors(const std::string& path, const std::map<std::string, std::string>& metadata,
                       std::span<const NamedTensor> tensors);

}  // namespace promptiqa

#if PROMPTIQA_WITH_BODIES
#include <promptiqa/io/safetensors.ipp>
#endif
