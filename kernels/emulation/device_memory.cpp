// Bodies of device_memory.hpp.
// Surprising choice: vector accesses outside any block are let through here; global_access.cpp watches them all, where
// the compiler can do that.
#include "device_memory.hpp"

#include <sys/mman.h>

#include <array>
#include <atomic>
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
/// The byte around blocks at this address: of every 16-bit, 32-bit and 64-bit type of ours the pattern is a NaN, so
/// that what is read beside a block shows in the result.
unsigned char canary(const unsigned char* p) { return reinterpret_cast<std::uintptr_t>(p) % 2 ? 0xFF : 0xA5; }

std::atomic<std::uint64_t> generation{1};  // grows when the blocks change

struct Blocks {
  std::mutex mutex;
  std::map<const unsigned char*, std::size_t> sizes;
};
Blocks& blocks() {
  static Blocks& instance = *new Blocks;  // never destroyed: a static context may give memory back at exit
  return instance;
}

/// What a block takes: its bytes and the margins around it, a multiple of the margin.
std::size_t with_margins(std::size_t bytes) { return (bytes + 2 * margin + margin - 1) / margin * margin; }

bool intact(const unsigned char* data, std::size_t bytes) {
  if (sanitizer_guards_blocks()) return true;
  static const auto pattern = [] {
    std::array<unsigned char, margin + 1> bytes_at;
    for (std::size_t i = 0; i <= margin; ++i) bytes_at[i] = canary(reinterpret_cast<const unsigned char*>(i));
    return bytes_at;
  }();
  return std::memcmp(data - margin, pattern.data(), margin) == 0 &&  // blocks begin at multiples of the margin
         std::memcmp(data + bytes, pattern.data() + bytes % 2, margin) == 0;
}

/// Memory that is handed out once, from the front, and that only a DeviceAccess opens.
struct Region {
  unsigned char* begin = nullptr;
  std::size_t used = 0, blocks = 0;
  bool closes = false;  // in a HostBarred
};
constexpr std::size_t region_bytes = std::size_t{4} << 30;  // of addresses; pages come when they are touched
Region region;
std::atomic<int> accesses{0};

void protect(int rights) { mprotect(region.begin, region_bytes, rights); }
bool in_region(const unsigned char* data) {
  return region.begin && data >= region.begin && data < region.begin + region_bytes;
}
void* region_allocate(std::size_t bytes) {
  if (bytes > region_bytes - region.used) throw std::bad_alloc();
  region.used += bytes;
  ++region.blocks;
  return region.begin + region.used - bytes;
}
void give_region_back() {
  munmap(region.begin, region_bytes);
  region = Region();
}

}  // namespace

HostBarred::HostBarred() {
  if (region.begin) throw EmulationError("HostBarred: blocks of the one before are still in use");
  void* memory = mmap(nullptr, region_bytes, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (memory == MAP_FAILED) throw std::bad_alloc();
  region.begin = static_cast<unsigned char*>(memory);
  region.closes = true;
}
HostBarred::~HostBarred() {
  region.closes = false;
  if (region.blocks == 0)
    give_region_back();
  else
    protect(PROT_READ | PROT_WRITE);  // until its last block is freed
}

DeviceAccess::DeviceAccess() {
  if (accesses++ == 0 && region.closes) protect(PROT_READ | PROT_WRITE);
}
DeviceAccess::~DeviceAccess() {
  if (--accesses == 0 && region.closes) protect(PROT_NONE);
}

void* device_allocate(std::size_t bytes) {
  if (bytes > SIZE_MAX / 2) throw std::bad_alloc();
  const DeviceAccess access;
  const std::size_t whole = with_margins(bytes);
  auto* memory =
      static_cast<unsigned char*>(region.closes ? region_allocate(whole) : std::aligned_alloc(margin, whole));
  if (!memory) throw std::bad_alloc();
  for (unsigned char* p = memory; p < memory + whole; ++p) {
    if (p == memory + margin) p += bytes;
    if (p < memory + whole) *p = canary(p);
  }
  std::memset(memory + margin, 0xFF, bytes);
#if PROMPTIQA_ASAN
  ASAN_POISON_MEMORY_REGION(memory, margin);
  ASAN_POISON_MEMORY_REGION(memory + margin + bytes, whole - margin - bytes);
#endif
  const std::lock_guard<std::mutex> lock(blocks().mutex);
  blocks().sizes[memory + margin] = bytes;
  ++generation;
  return memory + margin;
}

void device_free(void* data) {
  if (!data) return;
  auto* bytes = static_cast<unsigned char*>(data);
  bool whole = false;
  {
    const DeviceAccess access;
    const std::lock_guard<std::mutex> lock(blocks().mutex);
    const auto found = blocks().sizes.find(bytes);
    if (found == blocks().sizes.end()) throw EmulationError("device_free: this is no block of the device");
    whole = intact(bytes, found->second);
#if PROMPTIQA_ASAN
    ASAN_UNPOISON_MEMORY_REGION(bytes - margin, with_margins(found->second));
#endif
    blocks().sizes.erase(found);
    ++generation;
  }
  if (!in_region(bytes))
    std::free(bytes - margin);
  else if (--region.blocks == 0 && !region.closes)
    give_region_back();
  if (!whole) throw EmulationError("device_free: something has written around a block");
}

void check_canaries(const char* op) {
  const DeviceAccess access;
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
    if (after == blocks().sizes.begin() || (region.closes && !in_region(static_cast<const unsigned char*>(data)))) {
      if (region.closes) report(std::string(what) + " of host memory");
      return;
    }
    --after;
    size = after->second;
    offset = static_cast<std::size_t>(static_cast<const unsigned char*>(data) - after->first);
  }
  if (offset >= size + margin) return;
  if (offset + bytes > size)
    report(std::string(what) + " of bytes " + std::to_string(offset) + " to " + std::to_string(offset + bytes) +
           " of a device block of " + std::to_string(size));
}

bool in_device_block(const void* data, std::size_t bytes) {
  struct Block {
    std::uint64_t generation = 0;
    const unsigned char *begin = nullptr, *end = nullptr;
  };
  static thread_local Block last[4];  // a kernel reads a few blocks in turn
  static thread_local unsigned next = 0;
  const auto* p = static_cast<const unsigned char*>(data);
  for (const Block& b : last)
    if (b.generation == generation && p >= b.begin && p + bytes <= b.end) return true;
  const std::lock_guard<std::mutex> lock(blocks().mutex);
  auto after = blocks().sizes.upper_bound(p);
  if (after == blocks().sizes.begin()) return false;
  --after;
  if (p + bytes > after->first + after->second) return false;
  last[next++ % 4] = {generation, after->first, after->first + after->second};
  return true;
}

bool sanitizer_guards_blocks() { return PROMPTIQA_ASAN != 0; }

std::size_t device_blocks() {
  const std::lock_guard<std::mutex> lock(blocks().mutex);
  return blocks().sizes.size();
}

}  // namespace promptiqa::emulation
