// The emulated device's memory: ordinary memory with canaries around each block.
// Surprising choice: a write past a block is found when the launch that did it ends, by looking at all canaries; fresh
// memory is NaN, so that what nobody wrote shows in the result.
#pragma once

#include <atomic>
#include <cstddef>

namespace promptiqa::emulation {

/// How many devices there are. A test that needs several raises it. They have one memory: a block does not know whose it
/// is, its pool does.
inline std::atomic<int> devices{1};

/// The largest block that cuda::allocate() has memory for, on this OS thread.
inline thread_local std::size_t largest_block = static_cast<std::size_t>(-1);

/// A block of exactly `bytes` bytes at a multiple of 256, all bits set. Throws std::bad_alloc.
void* device_allocate(std::size_t bytes);
/// Throws EmulationError when the block's canaries are broken or it is no block.
void device_free(void* data);

/// While it lives, fresh device memory is out of the host's reach, as a real device's is: reading or writing it outside
/// a launch or a copy ends the program. Vector accesses of kernels to the host's memory are reported also where
/// global_access.cpp does not watch. For one thread; contexts made within it see it. Scopes do not nest.
class HostBarred {
 public:
  HostBarred();
  ~HostBarred();
  HostBarred(const HostBarred&) = delete;
  HostBarred& operator=(const HostBarred&) = delete;
};

/// What reaches device memory for the device: launches, copies. They nest.
class DeviceAccess {
 public:
  DeviceAccess();
  ~DeviceAccess();
  DeviceAccess(const DeviceAccess&) = delete;
  DeviceAccess& operator=(const DeviceAccess&) = delete;
};

/// Throws EmulationError naming `op` when a canary is broken.
void check_canaries(const char* op);

/// True when built with the address sanitizer: it then watches the margins of blocks, reads too, and ends the program.
bool sanitizer_guards_blocks();

/// Reports (see block.hpp) an access of a kernel that is misaligned or leaves the device block it begins in.
void check_access(const void* data, std::size_t bytes, std::size_t alignment, const char* what);

/// Whether all these bytes are of one device block.
bool in_device_block(const void* data, std::size_t bytes);

/// Blocks allocated and not freed.
std::size_t device_blocks();

}  // namespace promptiqa::emulation
