// What the tests of the ops share: a Context for every backend this processor runs, and poisoned memory.
// Surprising choice: a backend the processor lacks is skipped with a visible note, never silently.
#pragma once

#include <algorithm>
#include <cstring>
#include <memory>
#include <vector>

#include "catch.hpp"
#include "op_cases.hpp"

namespace promptiqa_test {

/// A backend with a Context of one thread and one of two.
struct Backend {
  Context one, two;
};

inline std::vector<Backend>& backends() {
  static std::vector<Backend> all = [] {
    const auto alone = std::make_shared<ThreadPool>(1), pair = std::make_shared<ThreadPool>(2);
    std::vector<Backend> found;
    for (CpuBackend kind : {CpuBackend::avx512, CpuBackend::avx2, CpuBackend::portable, CpuBackend::eigen}) {
      try {
        found.push_back({Context::cpu(alone, kind), Context::cpu(pair, kind)});
      } catch (const Error& e) {
        WARN("skipped: " << e.what());
      }
    }
    return found;
  }();
  return all;
}

/// Fills the pool's free blocks with NaN, whatever their size, so that an element nobody writes, or scratch memory
/// read before it is written, shows. Four blocks for each size of a small tensor, one for each larger one.
inline void poison(Context& ctx) {
  std::vector<StorageRef> blocks;
  for (std::size_t bytes = 1; bytes <= (std::size_t{1} << 19);) {
    const std::size_t count = bytes <= (std::size_t{1} << 16) ? 4 : 1;
    for (std::size_t i = 0; i < count; ++i) {
      blocks.push_back(ctx.memory().allocate(bytes));
      std::memset(blocks.back()->data, 0xFF, blocks.back()->capacity);
    }
    bytes = blocks.back()->capacity + 1;
  }
}

/// True when the bytes between the tensor's last element and its block's end are still poison.
template <class T>
bool nothing_past_the_end(const Tensor<T>& x) {
  const auto* bytes = static_cast<const unsigned char*>(x.storage()->data);
  return std::all_of(bytes + static_cast<std::size_t>(x.numel()) * sizeof(T), bytes + x.storage()->capacity,
                     [](unsigned char b) { return b == 0xFF; });
}

template <class T>
bool same_bits(const std::vector<T>& a, const std::vector<T>& b) {
  return a.size() == b.size() && (a.empty() || std::memcmp(a.data(), b.data(), a.size() * sizeof(T)) == 0);
}

}  // namespace promptiqa_test
