// Bodies of device_memory.hpp.
// Surprising choice: accesses outside any block are let through: tests may hand kernels plain vectors, which the
// address sanitizer guards better than we could.
#include "device_memory.hpp"

#include <algorithm>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <map>
#include <mutex>
#include <new>
#include <string>

#include "block.hpp"
#include "sanitizer.hpp"

namespace promptiqa::emulation {

namespace {

constexpr std::size_t margin = 256;
constexpr unsigned char canary = 0xA5;

struct Blocks {
  std::mutex mutex;
  std::map<const unsigned char*, std::size_t> sizes;
};
Blocks& blocks() {
  static Blocks& instance = *new Blocks;  // never destroyed: a static context may give memory back at exit
  return instance;
}

bool intact(const unsigned char* data, std::size_t bytes) {
  if (sanitizer_guards_blocks()) return true;
  const auto is_canary = [](unsigned char byte) { return byte == canary; };
  return std::all_of(data - margin, data, is_canary) && std::all_of(data + bytes, data + bytes + margin, is_canary);
}

}  // namespace

void* device_allocate(std::size_t bytes) {
  if (bytes > SIZE_MAX / 2) throw std::bad_alloc();
  const std::size_t whole = (bytes + 2 * margin + margin - 1) / margin * margin;
  auto* memory = static_cast<unsigned char*>(std::aligned_alloc(margin, whole));
  if (!memory) throw std::bad_alloc();
  std::memset(memory, canary, whole);
  std::memset(memory + margin, 0xFF, bytes);
#if PROMPTIQA_ASAN
  ASAN_POISON_MEMORY_REGION(memory, margin);
  ASAN_POISON_MEMORY_REGION(memory + margin + bytes, whole - margin - bytes);
#endif
  const std::lock_guard<std::mutex> lock(blocks().mutex);
  blocks().sizes[memory + margin] = bytes;
  return memory + margin;
}

void device_free(void* data) {
  if (!data) return;
  auto* bytes = static_cast<unsigned char*>(data);
  bool whole = false;
  {
    const std::lock_guard<std::mutex> lock(blocks().mutex);
    const auto found = blocks().sizes.find(bytes);
    if (found == blocks().sizes.end()) throw EmulationError("device_free: this is no block of the device");
    whole = intact(bytes, found->second);
#if PROMPTIQA_ASAN
    ASAN_UNPOISON_MEMORY_REGION(bytes - margin, found->second + 2 * margin);
#endif
    blocks().sizes.erase(found);
  }
  std::free(bytes - margin);
  if (!whole) throw EmulationError("device_free: something has written around a block");
}

void check_canaries(const char* op) {
  const std::lock_guard<std::mutex> lock(blocks().mutex);
  for (const auto& [data, bytes] : blocks().sizes)
    if (!intact(data, bytes))
      throw EmulationError(std::string(op) + ": wrote outside a device block of " + std::to_string(bytes) + " bytes");
}

void check_access(const void* data, std::size_t bytes, std::size_t alignment, const char* what) {
  if (reinterpret_cast<std::uintptr_t>(data) % alignment != 0)
    report(std::string(what) + " at an address that is no multiple of " + std::to_string(alignment));
  std::size_t size = 0, offset = 0;
  {
    const std::lock_guard<std::mutex> lock(blocks().mutex);
    auto after = blocks().sizes.upper_bound(static_cast<const unsigned char*>(data));
    if (after == blocks().sizes.begin()) return;
    --after;
    size = after->second;
    offset = static_cast<std::size_t>(static_cast<const unsigned char*>(data) - after->first);
  }
  if (offset >= size + margin) return;
  if (offset + bytes > size)
    report(std::string(what) + " of bytes " + std::to_string(offset) + " to " + std::to_string(offset + bytes) +
           " of a device block of " + std::to_string(size));
}

bool sanitizer_guards_blocks() { return PROMPTIQA_ASAN != 0; }

std::size_t device_blocks() {
  const std::lock_guard<std::mutex> lock(blocks().mutex);
  return blocks().sizes.size();
}

}  // namespace promptiqa::emulation
