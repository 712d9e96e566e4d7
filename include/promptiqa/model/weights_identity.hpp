// WeightsIdentity: which weights a prompt's features were made with.
// Surprising choice: the hash over all weights is computed when first asked for, since most programs never save a
// prompt; until then the identity keeps handles to the tensors, not copies.
#pragma once

#include <cstdint>
#include <functional>
#include <mutex>
#include <string>
#include <vector>

#include <promptiqa/core/macros.hpp>
#include <promptiqa/core/shape.hpp>

namespace promptiqa {

class WeightsIdentity {
 public:
  /// One tensor of the state dict; `read` copies elements [begin, begin + count), converted to float.
  struct Entry {
    std::string name;
    Shape shape;
    std::function<void(std::int64_t begin, std::int64_t count, float* out)> read;
  };

  WeightsIdentity(std::string config_json, std::vector<Entry> entries);

  /// SHA-256, as 64 hexadecimal digits, over the canonical config, a newline, and for every tensor, sorted by name:
  /// name, newline, shape as "(2, 3)", newline, values as little-endian F32. Copies of one model in different file
  /// formats share it, and F16 or BF16 copies whose values are equal. Thread-safe.
  /// Throws PromptError when the weights changed before anyone asked.
  const std::string& id() const;

  /// Called when the weights are about to be forgotten or have been written to: an id not yet computed never will be.
  void expire() const;

 private:
  std::string config_json_;
  mutable std::vector<Entry> entries_;  // released once the id is known
  mutable std::once_flag once_;
  mutable std::string id_;  // empty once expired
};

}  // namespace promptiqa

#if PROMPTIQA_WITH_BODIES
#include <promptiqa/model/weights_identity.ipp>
#endif
