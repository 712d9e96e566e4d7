// Body of WeightsIdentity.
// Surprising choice: values are hashed through a small buffer, so that a gigabyte of F16 weights is never expanded.
#pragma once

#include <algorithm>
#include <utility>

#include <promptiqa/core/error.hpp>
#include <promptiqa/io/sha256.hpp>
#include <promptiqa/model/weights_identity.hpp>

namespace promptiqa {

PROMPTIQA_INLINE WeightsIdentity::WeightsIdentity(std::string config_json, std::vector<Entry> entries)
    : config_json_(std::move(config_json)), entries_(std::move(entries)) {
  std::sort(entries_.begin(), entries_.end(), [](const Entry& a, const Entry& b) { return a.name < b.name; });
}

PROMPTIQA_INLINE const std::string& WeightsIdentity::id() const {
  std::call_once(once_, [this] {
    constexpr std::int64_t chunk = 1 << 16;
    std::vector<float> buffer(chunk);
    Sha256 hash;
    const auto text = [&](const std::string& s) { hash.update(s.data(), s.size()); };
    text(config_json_ + "\n");
    for (const Entry& entry : entries_) {
      text(entry.name + "\n" + entry.shape.str() + "\n");
      for (std::int64_t begin = 0; begin < entry.shape.numel(); begin += chunk) {
        const std::int64_t count = std::min(chunk, entry.shape.numel() - begin);
        entry.read(begin, count, buffer.data());
        hash.update(buffer.data(), static_cast<std::size_t>(count) * sizeof(float));
      }
    }
    id_ = hash.hex();
    entries_.clear();
  });
  if (id_.empty()) throw PromptError("prompt: the weights that made it have been changed since; make it again");
  return id_;
}

PROMPTIQA_INLINE void WeightsIdentity::expire() const {
  std::call_once(once_, [this] { entries_.clear(); });
}

}  // namespace promptiqa
