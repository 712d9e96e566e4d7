// Bodies of shared_memory.hpp.
// Surprising choice: nothing is cleared between blocks: what a cell remembers is dated, and a date of another block
// means that nobody has written it yet.
#include "shared_memory.hpp"

#include <algorithm>
#include <string>
#include <vector>

namespace promptiqa::emulation {

namespace {

constexpr std::size_t static_limit = std::size_t{48} << 10, dynamic_limit = std::size_t{227} << 10;
constexpr std::uint16_t nobody = 0xFFFF, several = 0xFFFE, several_warps = 0xFFFD, atomics = 0xFFFC;

/// What is known of two bytes. A thread is its number in the block, or one of the constants above.
struct Cell {
  std::uint64_t written_in = 0;  // serial of the block whose thread wrote it last
  std::uint64_t write_epoch = 0, read_epoch = 0;
  std::uint32_t write_warp_epoch = 0, read_warp_epoch = 0;
  std::uint16_t writer = nobody, reader = nobody, reader_warp = nobody;
  std::uint32_t published = 0;  // how often the writer had published before it wrote
};

/// How often a thread has published what it wrote, and how often before the latest barrier.
struct Publications {
  std::uint32_t count = 0, before = 0;
  std::uint64_t epoch = 0;  // of the latest
};

struct Variable {
  const void* identity;
  const char* name;
  std::size_t first, bytes;
};

struct Memory {
  // Static variables first, dynamic memory behind them.
  std::vector<unsigned char> data = std::vector<unsigned char>(static_limit + dynamic_limit + 16);
  std::vector<Cell> cells = std::vector<Cell>((static_limit + dynamic_limit) / 2);
  std::vector<Variable> variables;
  std::vector<Publications> publications = std::vector<Publications>(1024);  // by thread
  std::uint64_t serial = 0;
  std::size_t used = 0;
  unsigned char* base() { return data.data() + (16 - reinterpret_cast<std::uintptr_t>(data.data()) % 16) % 16; }
};

Memory& memory() {
  thread_local Memory instance;
  if (instance.serial != block_serial()) {
    instance.serial = block_serial();
    instance.variables.clear();
    instance.used = 0;
    instance.publications.assign(instance.publications.size(), {});
  }
  return instance;
}

/// The thread that `self` races with by this access, or `nobody`; may be one of the constants.
std::uint16_t race_of(const Cell& cell, Access access, std::uint16_t self) {
  const std::uint64_t epoch = block_epoch();
  const std::uint32_t in_warp = warp_epoch();
  if (cell.write_epoch == epoch && cell.writer != self && !(cell.writer == atomics && access == Access::atomic)) {
    const bool ordered = cell.writer < atomics && cell.writer / 32 == self / 32 && cell.write_warp_epoch < in_warp;
    if (!ordered) return cell.writer;
  }
  if (access == Access::read || cell.read_epoch != epoch || cell.reader == nobody) return nobody;
  if (cell.reader == several_warps) return cell.reader;
  if (cell.reader_warp != self / 32) return cell.reader;
  return cell.read_warp_epoch == in_warp && cell.reader != self ? cell.reader : nobody;
}

void remember(Cell& cell, Access access, std::uint16_t self) {
  const std::uint64_t epoch = block_epoch();
  const std::uint32_t in_warp = warp_epoch();
  const std::uint16_t warp = self / 32;
  if (access != Access::read) {
    cell.written_in = block_serial();
    cell.write_epoch = epoch;
    cell.write_warp_epoch = in_warp;
    cell.writer = access == Access::atomic ? atomics : self;
    cell.published = memory().publications[self].count;
    cell.reader = nobody;
    return;
  }
  if (cell.read_epoch != epoch || cell.reader == nobody) {
    cell.reader = self;
  } else if (cell.reader == several_warps || cell.reader_warp != warp) {
    cell.reader = several_warps;
  } else if (cell.read_warp_epoch != in_warp) {
    cell.reader = self;
  } else if (cell.reader != self) {
    cell.reader = several;
  }
  cell.reader_warp = warp;
  cell.read_epoch = epoch;
  cell.read_warp_epoch = in_warp;
}

std::string thread_text(std::uint16_t thread) {
  if (thread == several || thread == several_warps) return "several threads";
  if (thread == atomics) return "an atomic";
  const unsigned x = thread % blockDim.x, y = thread / blockDim.x % blockDim.y, z = thread / blockDim.x / blockDim.y;
  return "thread (" + std::to_string(x) + "," + std::to_string(y) + "," + std::to_string(z) + ")";
}

}  // namespace

bool in_shared_memory(const void* p) {
  const auto* at = static_cast<const unsigned char*>(p);
  const std::vector<unsigned char>& data = memory().data;
  return at >= data.data() && at < data.data() + data.size();
}

SharedRange static_shared_range(const char* name, const void* identity, std::size_t bytes) {
  const EmulatorScope scope;
  Memory& m = memory();
  for (const Variable& v : m.variables)
    if (v.identity == identity) return {m.base() + v.first, v.first, v.bytes, v.name};
  const std::size_t first = (m.used + 15) / 16 * 16;
  if (first + bytes > static_limit)
    report("declares shared memory '" + std::string(name) + "': together more than 49152 bytes, " +
           std::to_string(first + bytes));
  m.variables.push_back({identity, name, first, bytes});
  m.used = first + bytes;
  return {m.base() + first, first, bytes, name};
}

SharedRange dynamic_shared_range(std::size_t first, std::size_t bytes) {
  const EmulatorScope scope;
  if (first + bytes > dynamic_shared_bytes())
    report("wants bytes " + std::to_string(first) + " to " + std::to_string(first + bytes) +
           " of dynamic shared memory, the launch has " + std::to_string(dynamic_shared_bytes()));
  return {memory().base() + static_limit + first, static_limit + first, bytes, "dynamic"};
}

std::size_t place_in_dynamic_memory(const SharedRange& range, std::ptrdiff_t offset) {
  const std::ptrdiff_t place = static_cast<std::ptrdiff_t>(range.first) + offset - std::ptrdiff_t{static_limit};
  if (place < 0) report("wants static shared memory '" + std::string(range.name) + "' as dynamic");
  return static_cast<std::size_t>(place);
}

void publish_to_async_proxy() {
  const EmulatorScope scope;
  Publications& self = memory().publications[thread_number()];
  if (self.epoch != block_epoch()) self.before = self.count;
  self.epoch = block_epoch();
  ++self.count;
}

const unsigned char* read_by_tensor_cores(std::size_t first, std::size_t bytes) {
  const EmulatorScope scope;
  const SharedRange range = dynamic_shared_range(first, bytes);
  check_shared(range, 0, bytes, 2, 2, Access::read);
  Memory& m = memory();
  for (std::size_t i = range.first / 2; i < (range.first + bytes) / 2; ++i) {
    const Cell& cell = m.cells[i];
    if (cell.writer >= atomics) continue;
    const Publications& writer = m.publications[cell.writer];
    if ((writer.epoch == block_epoch() ? writer.before : writer.count) <= cell.published)
      report("lets tensor cores read byte " + std::to_string(first) + " of dynamic shared memory, which " +
             thread_text(cell.writer) + " has not published (fence.proxy.async) before the last barrier");
  }
  return range.data;
}

void check_shared(const SharedRange& range, std::ptrdiff_t offset, std::size_t bytes, std::size_t alignment,
                  std::size_t element_bytes, Access access) {
  const EmulatorScope scope;
  const char* verb = access == Access::read ? "reads" : access == Access::write ? "writes" : "adds to";
  const auto element = [&] {
    return std::string(verb) + " shared memory '" + range.name + "' element " +
           std::to_string(offset / static_cast<std::ptrdiff_t>(element_bytes));
  };
  if (offset < 0 || static_cast<std::size_t>(offset) + bytes > range.bytes)
    report(element() + ", out of bounds of its " + std::to_string(range.bytes / element_bytes));
  if ((range.first + static_cast<std::size_t>(offset)) % alignment != 0)
    report(element() + ", misaligned for " + std::to_string(alignment) + " bytes");
  Memory& m = memory();
  const auto self = static_cast<std::uint16_t>(thread_number());
  const std::size_t begin = (range.first + static_cast<std::size_t>(offset)) / 2, end = begin + bytes / 2;
  for (std::size_t i = begin; i < end; ++i) {
    Cell& cell = m.cells[i];
    if (access != Access::write && cell.written_in != block_serial()) report(element() + ", which nobody has written");
    const std::uint16_t other = race_of(cell, access, self);
    if (other != nobody)
      report(element() + ", a race with " + thread_text(other) + ": no barrier orders their accesses");
    remember(cell, access, self);
  }
}

}  // namespace promptiqa::emulation
