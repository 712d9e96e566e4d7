// Bodies of block.hpp: the scheduler of a block's fibres.
// Surprising choice: nothing is detected while threads can still run. When none can, either all have met at one
// barrier or the picture of who waits where is the report.
#include "block.hpp"

#include <cstdio>
#include <cstring>
#include <exception>
#include <memory>
#include <vector>

#include "blas.hpp"
#include "device_memory.hpp"
#include "fibre.hpp"

namespace promptiqa::emulation {

namespace {

enum class Status { ready, at_barrier, in_exchange, in_meeting, ended };

constexpr std::size_t exchange_bytes = 128;

struct Thread {
  std::unique_ptr<Fibre> fibre;
  Status status = Status::ended;
  uint3 index = {};
  Site site = {};
  // The exchange or the warpgroup's meeting it waits in, or the last exchange it took part in.
  const char* what = "";
  unsigned mask = 0, participants = 0;
  unsigned char offered[exchange_bytes], delivered[exchange_bytes];
};

struct Warp {
  std::uint32_t epoch = 0;
};

std::string text(unsigned x, unsigned y, unsigned z) {
  return "(" + std::to_string(x) + "," + std::to_string(y) + "," + std::to_string(z) + ")";
}
std::string text(Site site) {
  std::string file = site.file;
  return file.substr(file.find_last_of('/') + 1) + ":" + std::to_string(site.line);
}
// Nearly always the very same literal.
bool same(const char* a, const char* b) { return a == b || std::strcmp(a, b) == 0; }
bool same(Site a, Site b) { return a.line == b.line && same(a.file, b.file); }

/// The machine of one OS thread.
struct Machine {
  Fibre host;
  std::vector<Thread> threads;  // as many as the largest block so far had
  std::vector<Warp> warps;
  unsigned count = 0;    // threads of the running block
  unsigned current = 0;  // the running thread
  const char* op = "";
  const std::function<void()>* body = nullptr;
  std::exception_ptr failure;
  std::size_t shared_bytes = 0;
  std::uint64_t epoch = 0, serial = 0, launches = 0;
  std::vector<std::uint64_t> meetings;  // the latest of each warpgroup
  std::uint64_t all_meetings = 0;
};

Machine& machine() {
  thread_local Machine instance;
  return instance;
}

/// Continues thread i, coming from `from`.
void run_thread(Machine& m, Fibre& from, unsigned i) {
  m.current = i;
  turn.stack_begin = m.threads[i].fibre->stack_begin();
  turn.stack_end = m.threads[i].fibre->stack_end();
  threadIdx = m.threads[i].index;
  Fibre::switch_to(from, *m.threads[i].fibre);
}

/// The next thread in turn that can run, or `count`.
unsigned next_ready(const Machine& m, unsigned after) {
  for (unsigned step = 1; step <= m.count; ++step) {
    const unsigned i = order == Order::forward ? (after + step) % m.count : (after + m.count - step) % m.count;
    if (m.threads[i].status == Status::ready) return i;
  }
  return m.count;
}

/// The running thread waits or has ended: whoever can run does, else the scheduler.
void yield(Machine& m) {
  const unsigned self = m.current;
  const unsigned next = m.failure ? m.count : next_ready(m, self);
  if (next == self) return;
  if (next < m.count)
    run_thread(m, *m.threads[self].fibre, next);
  else
    Fibre::switch_to(*m.threads[self].fibre, m.host);
}

void thread_entry() {
  Fibre::arrived();
  for (;;) {
    Machine& m = machine();
    try {
      (*m.body)();
    } catch (...) {
      if (!m.failure) m.failure = std::current_exception();  // what was noted before may be its cause
    }
    m.threads[m.current].status = Status::ended;
    yield(m);
  }
}

unsigned first_of_warp(unsigned thread) { return thread / 32 * 32; }

/// Delivers the exchange that thread `self` waits in if all it waits for are there.
bool try_exchange(Machine& m, unsigned self) {
  const Thread& mine = m.threads[self];
  const unsigned first = first_of_warp(self);
  unsigned participants = 0;
  for (unsigned lane = 0; lane < 32 && first + lane < m.count; ++lane) {
    if (!(mine.mask >> lane & 1u)) continue;
    const Thread& other = m.threads[first + lane];
    if (other.status == Status::ended) continue;
    if (other.status != Status::in_exchange || other.mask != mine.mask || !same(other.site, mine.site) ||
        !same(other.what, mine.what))
      return false;
    participants |= 1u << lane;
  }
  for (unsigned lane = 0; lane < 32; ++lane) {
    if (!(participants >> lane & 1u)) continue;
    Thread& other = m.threads[first + lane];
    std::memcpy(other.delivered, other.offered, exchange_bytes);
    other.participants = participants;
    other.status = Status::ready;
  }
  if (same(mine.what, sync_warp)) ++m.warps[first / 32].epoch;
  return true;
}

/// Ends the meeting of thread `self`'s warpgroup if all are there.
bool try_meeting(Machine& m, unsigned self) {
  const unsigned first = self / warpgroup_threads * warpgroup_threads;
  for (unsigned i = first; i < first + warpgroup_threads; ++i) {
    const Thread& other = m.threads[i];
    if (other.status != Status::in_meeting || !same(other.site, m.threads[self].site) ||
        !same(other.what, m.threads[self].what))
      return false;
  }
  for (unsigned i = first; i < first + warpgroup_threads; ++i) m.threads[i].status = Status::ready;
  m.meetings[first / warpgroup_threads] = ++m.all_meetings;
  return true;
}

std::string where(const Machine& m, unsigned i) {
  const Thread& thread = m.threads[i];
  std::string result = "thread " + text(thread.index.x, thread.index.y, thread.index.z);
  if (thread.status == Status::ended) return result + " has ended";
  if (thread.status == Status::at_barrier) return result + " waits at __syncthreads (" + text(thread.site) + ")";
  if (thread.status == Status::in_meeting)
    return result + " waits in " + thread.what + " (" + text(thread.site) + ") for its warpgroup";
  char mask[16];
  std::snprintf(mask, sizeof mask, "%08x", thread.mask);
  return result + " waits in " + thread.what + " (" + text(thread.site) + ") for lanes " + mask;
}

[[noreturn]] void fail(const Machine& m, const std::string& message) {
  throw EmulationError(std::string(m.op) + ": block " + text(blockIdx.x, blockIdx.y, blockIdx.z) + " " + message);
}

/// Nobody can run. Opens the barrier that all have reached; returns false when all threads have ended.
bool open_barrier(Machine& m) {
  unsigned ended = 0;
  bool exchanged = false;
  for (unsigned i = 0; i < m.count; ++i) {
    if (m.threads[i].status == Status::ended) ++ended;
    if (m.threads[i].status == Status::in_exchange) exchanged = try_exchange(m, i) || exchanged;  // others have ended
  }
  if (ended == m.count) return false;
  if (exchanged) return true;
  const auto waits_alike = [&](unsigned i, unsigned j) {
    const Thread &a = m.threads[i], &b = m.threads[j];
    return a.status == b.status && same(a.site, b.site) &&
           (a.status == Status::at_barrier || (a.mask == b.mask && same(a.what, b.what)));
  };
  // A lane that others of its warp do not join says most; then the first that waits at the barrier.
  for (unsigned i = 0; i < m.count; ++i) {
    if (m.threads[i].status != Status::in_exchange) continue;
    for (unsigned other = first_of_warp(i); other < m.count && other < first_of_warp(i) + 32; ++other)
      if ((m.threads[i].mask >> other % 32 & 1u) && m.threads[other].status != Status::ended && !waits_alike(i, other))
        fail(m, "threads diverge: " + where(m, i) + ", but " + where(m, other));
  }
  for (unsigned i = 0; i < m.count; ++i) {
    if (m.threads[i].status != Status::in_meeting) continue;
    for (unsigned other = i / warpgroup_threads * warpgroup_threads; other / warpgroup_threads == i / warpgroup_threads;
         ++other)
      if (!waits_alike(i, other)) fail(m, "threads diverge: " + where(m, i) + ", but " + where(m, other));
  }
  unsigned waiting = 0;
  while (m.threads[waiting].status == Status::ended) ++waiting;
  for (unsigned i = 0; i < m.count; ++i)
    if (!waits_alike(waiting, i)) fail(m, "threads diverge: " + where(m, waiting) + ", but " + where(m, i));
  ++m.epoch;
  for (unsigned i = 0; i < m.count; ++i) m.threads[i].status = Status::ready;
  return true;
}

void run_block(Machine& m) {
  ++m.epoch;
  ++m.serial;
  for (Warp& warp : m.warps) warp.epoch = 0;
  for (unsigned i = 0; i < m.count; ++i) {
    m.threads[i].status = Status::ready;
    m.threads[i].participants = 0;
  }
  m.failure = nullptr;
  do {
    const unsigned first = next_ready(m, order == Order::forward ? m.count - 1 : 0);
    if (first < m.count) run_thread(m, m.host, first);
    if (m.failure) std::rethrow_exception(m.failure);
  } while (open_barrier(m));
}

void check_shape(const char* op, dim3 grid, dim3 block, std::size_t shared_bytes) {
  const auto refuse = [op](const std::string& message) { throw EmulationError(std::string(op) + ": " + message); };
  const std::uint64_t threads = std::uint64_t{block.x} * block.y * block.z;
  if (threads == 0 || threads > 1024 || block.z > 64)
    refuse("a block must have 1 to 1024 threads, got " + text(block.x, block.y, block.z));
  if (grid.x == 0 || grid.x > 0x7FFFFFFFu || grid.y == 0 || grid.y > 65535 || grid.z == 0 || grid.z > 65535)
    refuse("a grid must have at most (2147483647,65535,65535) blocks, got " + text(grid.x, grid.y, grid.z));
  if (shared_bytes > traits.shared_bytes)
    refuse("a block must have at most " + std::to_string(traits.shared_bytes) + " bytes of shared memory, got " +
           std::to_string(shared_bytes));
}

}  // namespace

void run_grid(const char* op, dim3 grid, dim3 block, std::size_t shared_bytes, const std::function<void()>& body) {
  check_shape(op, grid, block, shared_bytes);
  Machine& m = machine();
  if (turn.kernel) throw EmulationError(std::string(op) + ": a kernel must not launch a kernel");
  m.op = op;
  m.body = &body;
  m.count = block.x * block.y * block.z;
  m.shared_bytes = shared_bytes;
  ++m.launches;
  if (m.threads.size() < m.count) m.threads.resize(m.count);
  for (unsigned i = 0; i < m.count; ++i) {
    if (!m.threads[i].fibre) m.threads[i].fibre = std::make_unique<Fibre>(thread_entry);
    m.threads[i].index = {i % block.x, i / block.x % block.y, i / block.x / block.y};
  }
  m.warps.resize((m.count + 31) / 32);
  m.meetings.resize(m.count / warpgroup_threads + 1);
  blockDim = block;
  gridDim = grid;
  const std::uint64_t blocks = std::uint64_t{grid.x} * grid.y * grid.z;
  turn.kernel = true;
  try {
    for (std::uint64_t i = 0; i < blocks; ++i) {
      const std::uint64_t at = order == Order::forward ? i : blocks - 1 - i;
      blockIdx = {static_cast<unsigned>(at % grid.x), static_cast<unsigned>(at / grid.x % grid.y),
                  static_cast<unsigned>(at / grid.x / grid.y)};
      run_block(m);
    }
  } catch (...) {
    turn.kernel = false;
    // Threads of the failed block stay where they were: their fibres begin anew with the next launch.
    for (unsigned i = 0; i < m.count; ++i) m.threads[i].fibre->restart(thread_entry);
    throw;
  }
  turn.kernel = false;
  check_canaries(op);
}

std::uint64_t launches() { return machine().launches; }

thread_local constinit Turn turn;

// Not inline: the linker must not take copies that watch themselves.
EmulatorScope::EmulatorScope() { ++turn.emulator_scopes; }
EmulatorScope::~EmulatorScope() { --turn.emulator_scopes; }

void report(const std::string& message) {
  const EmulatorScope scope;
  fail(machine(), "thread " + text(threadIdx.x, threadIdx.y, threadIdx.z) + " " + message);
}
void report(const std::string& message, Site site) { report(message + " (" + text(site) + ")"); }

void note_fault(const std::string& message) noexcept {
  Machine& m = machine();
  if (m.failure) return;
  try {
    report(message);
  } catch (...) {
    m.failure = std::current_exception();
  }
}

bool in_emulator(const void* p) {
  const auto* begin = reinterpret_cast<const unsigned char*>(machine().threads.data());
  const auto* at = static_cast<const unsigned char*>(p);
  return at >= begin && at < begin + machine().threads.size() * sizeof(Thread);
}

unsigned thread_number() { return machine().current; }
unsigned lane_number() { return machine().current % 32; }
unsigned threads_in_block() { return machine().count; }

void block_barrier(Site site) {
  Machine& m = machine();
  Thread& self = m.threads[m.current];
  self.site = site;
  self.status = Status::at_barrier;
  yield(m);
}

void warp_exchange(const char* what, Site site, unsigned mask, const void* value, std::size_t bytes) {
  Machine& m = machine();
  const unsigned number = m.current;
  Thread& self = m.threads[number];
  if (!(mask >> (number % 32) & 1u)) report(std::string("calls ") + what + " with a mask that leaves itself out", site);
  if (bytes > exchange_bytes) report(std::string("hands over more than 128 bytes in ") + what, site);
  if (bytes > 0) std::memcpy(self.offered, value, bytes);
  self.what = what;
  self.site = site;
  self.mask = mask;
  self.status = Status::in_exchange;
  if (!try_exchange(m, number)) yield(m);
}

void warpgroup_meet(const char* what, Site site) {
  Machine& m = machine();
  if (m.count % warpgroup_threads != 0)
    report(std::string("calls ") + what + " in a block of " + std::to_string(m.count) + " threads", site);
  Thread& self = m.threads[m.current];
  self.what = what;
  self.site = site;
  self.status = Status::in_meeting;
  if (!try_meeting(m, m.current)) yield(m);
}
std::uint64_t warpgroup_meetings() { return machine().meetings[machine().current / warpgroup_threads]; }

const void* warp_value(const char* what, Site site, unsigned lane) {
  Machine& m = machine();
  if (!(m.threads[m.current].participants >> lane & 1u))
    report("reads lane " + std::to_string(lane) + " in " + what + ", which takes no part", site);
  return m.threads[first_of_warp(m.current) + lane].delivered;
}

unsigned warp_participants() { return machine().threads[machine().current].participants; }

std::uint64_t block_epoch() { return machine().epoch; }
std::uint32_t warp_epoch() { return machine().warps[machine().current / 32].epoch; }
std::uint64_t block_serial() { return machine().serial; }
std::size_t dynamic_shared_bytes() { return machine().shared_bytes; }

}  // namespace promptiqa::emulation
