// Bodies of TensorFile.
// Surprising choice: lookup is a binary search over the sorted tensors; a few hundred names need no hash table.
#pragma once

#include <algorithm>

#include <promptiqa/io/named_tensor.hpp>

namespace promptiqa {

PROMPTIQA_INLINE const NamedTensor* TensorFile::find(const std::string& name) const {
  const auto found = std::lower_bound(tensors.begin(), tensors.end(), name,
                                      [](const NamedTensor& t, const std::string& n) { return t.name < n; });
  return found != tensors.end() && found->name == name ? &*found : nullptr;
}

PROMPTIQA_INLINE void TensorFile::release_pages(const NamedTensor& tensor) const noexcept {
  if (!file || tensor.bytes == 0) return;
  // Compared as integers: the tensor may be of another file.
  const auto begin = reinterpret_cast<std::uintptr_t>(file->bytes().data());
  const auto data = reinterpret_cast<std::uintptr_t>(tensor.data);
  if (data >= begin && data - begin < file->bytes().size()) file->release_pages(data - begin, tensor.bytes);
}

PROMPTIQA_INLINE std::string detail::quoted_name(const std::string& name) {
  constexpr std::size_t longest = 200;
  constexpr const char* digits = "0123456789abcdef";
  std::string text = "'";
  for (const char c : name.substr(0, longest)) {
    const auto byte = static_cast<unsigned char>(c);
    if (byte >= 0x20 && byte != 0x7F) {
      text += c;
    } else {
      text += "\\x";
      text += digits[byte >> 4];
      text += digits[byte & 15];
    }
  }
  return text + (name.size() > longest ? "...'" : "'");
}

}  // namespace promptiqa
