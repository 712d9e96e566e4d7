// Runs a grid on the CPU: one block after the other, a block's threads as fibres that meet at barriers.
// Surprising choice: a thread runs until it must wait, so between two barriers threads run one after the other, in an
// order that a test can reverse: what depends on the order is a race or is not deterministic.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <string>

#include <promptiqa/core/error.hpp>
#include "vector_types.hpp"

namespace promptiqa::emulation {

/// A kernel did what a device would answer with garbage, a hang or a fault. what() names the op, the block and the
/// thread, what it did and where.
class EmulationError : public Error {
 public:
  using Error::Error;
};

/// A place in a kernel's source.
struct Site {
  const char* file;
  int line;
};

// ---- what a kernel sees ---------------------------------------------------------------------------------------

inline thread_local uint3 threadIdx{}, blockIdx{};
inline thread_local dim3 blockDim, gridDim;
inline constexpr int warpSize = 32;

// ---- what launches use ----------------------------------------------------------------------------------------

/// The order in which blocks, and the threads of a block, get their turns.
enum class Order { forward, reverse };
inline thread_local Order order = Order::forward;

/// Calls body() once for every thread of the grid. `op` names the launch in reports. Throws EmulationError for what a
/// detector finds and for a grid that a device would refuse; the rest of the grid is then not run.
void run_grid(const char* op, dim3 grid, dim3 block, std::size_t shared_bytes, const std::function<void()>& body);

/// Launches so far on this OS thread, and the name of the latest.
std::uint64_t launches();

// ---- what the intrinsics are made of --------------------------------------------------------------------------

/// Throws EmulationError about the running thread: "OP: block (0,0,0) thread (5,0,0) MESSAGE".
[[noreturn]] void report(const std::string& message);
[[noreturn]] void report(const std::string& message, Site site);

/// The same for what must not throw: the thread goes on, and the launch ends with the first fault noted.
void note_fault(const std::string& message) noexcept;

/// What this OS thread is running. Without a constructor, because it is looked at before every access to memory.
struct Turn {
  bool kernel = false;                                      // within a launch
  int emulator_scopes = 0;                                  // that are open
  const char *stack_begin = nullptr, *stack_end = nullptr;  // of the running thread of the block
};
extern thread_local constinit Turn turn;

/// Whether the address is of what the emulator keeps for the threads of a block.
bool in_emulator(const void* p);

/// While it lives, this OS thread works for the emulator: its accesses to memory are not the kernel's. Opened by
/// emulated intrinsics that keep anything on the heap.
class EmulatorScope {
 public:
  EmulatorScope();
  ~EmulatorScope();
  EmulatorScope(const EmulatorScope&) = delete;
  EmulatorScope& operator=(const EmulatorScope&) = delete;
};

/// The running thread's number in its block, its lane, and the threads of the block.
unsigned thread_number();
unsigned lane_number();
unsigned threads_in_block();

/// A barrier of the whole block. All threads must come to the same one.
void block_barrier(Site site);

/// Waits until every lane of `mask` that has not ended is in the same operation with the same mask, and hands each its
/// value (at most 128 bytes) over. `what` is the operation's name. All shuffles, votes and matrix products of a warp
/// are this and warp_value().
void warp_exchange(const char* what, Site site, unsigned mask, const void* value, std::size_t bytes);

/// What `lane` brought to the exchange that this thread took part in last. Reports a lane that took no part.
const void* warp_value(const char* what, Site site, unsigned lane);

/// Threads of a warpgroup, and a meeting of all of them in the same operation. It orders no accesses to memory. Reports
/// a block that does not consist of whole warpgroups.
inline constexpr unsigned warpgroup_threads = 128;
void warpgroup_meet(const char* what, Site site);
/// Meetings of the running thread's warpgroup so far; never repeated, not even by another block.
std::uint64_t warpgroup_meetings();

/// The name under which an exchange orders the warp's accesses to shared memory, as shuffles and votes do not.
inline constexpr const char* sync_warp = "__syncwarp";

/// Lanes that took part in this thread's last exchange.
unsigned warp_participants();

/// Numbers that grow with every barrier of the block (never repeated, not even by another block), and with every
/// __syncwarp of the running thread's warp: they order accesses to shared memory.
std::uint64_t block_epoch();
std::uint32_t warp_epoch();
/// Grows with every block.
std::uint64_t block_serial();
/// Dynamic shared memory of the launch.
std::size_t dynamic_shared_bytes();

}  // namespace promptiqa::emulation
