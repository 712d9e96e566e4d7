// What the tests of the io folder share: a folder of their own, files from strings, little-endian bytes.
// Surprising choice: files are built in strings, byte by byte, so that a broken one is as easy as a valid one.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <span>
#include <string>
#include <vector>

#include <promptiqa/io/named_tensor.hpp>

#include "temporary_folder.hpp"

namespace io_test {

using promptiqa_test::read_file;
using promptiqa_test::TemporaryFolder;
using promptiqa_test::write_file;

inline std::string golden(const std::string& name) { return std::string(PROMPTIQA_TEST_DIR "/golden/") + name; }
inline std::string checkpoint(const std::string& name) { return golden("checkpoints/" + name); }

inline std::span<const std::byte> as_bytes(const std::string& text) {
  return {reinterpret_cast<const std::byte*>(text.data()), text.size()};
}

/// A number as `bytes` bytes, little-endian.
inline std::string little_endian(std::uint64_t value, int bytes) {
  std::string text;
  for (int i = 0; i < bytes; ++i) text += static_cast<char>(i < 8 ? value >> 8 * i & 0xFF : 0);
  return text;
}

/// A safetensors file with this header and data.
inline std::string safetensors(const std::string& header, const std::string& data = "") {
  return little_endian(header.size(), 8) + header + data;
}

inline std::vector<double> values(const promptiqa::NamedTensor& tensor) {
  std::vector<double> result(static_cast<std::size_t>(tensor.shape.numel()));
  promptiqa::decode(tensor.dtype, tensor.data, result.size(), result.data());
  return result;
}

}  // namespace io_test
