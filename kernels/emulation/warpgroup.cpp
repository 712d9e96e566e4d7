// Bodies of warpgroup.hpp.
// Surprising choice: one thread of a warpgroup's reads of shared memory are watched, because all of them read the same.
#include "warpgroup.hpp"

#include <array>
#include <cmath>
#include <string>
#include <vector>

#include <promptiqa/core/bfloat16.hpp>
#include "intrinsics.hpp"

namespace promptiqa::emulation {

namespace {

constexpr int columns = 64, depth = 16;
constexpr const char* name = "wgmma.m64n64k16.bf16";

/// Registers of a sum, and what they will hold.
struct PendingSum {
  float (*registers)[4];
  std::array<float, columns / 2> values;
  bool ended = false;  // its group
};

struct ThreadProducts {
  bool begun = false;
  std::vector<PendingSum> sums;
  std::vector<std::size_t> chunks;  // of 16 bytes of dynamic shared memory, being read
};

/// A warpgroup's product that is being issued: what its first thread there said, and, when all are there, the right
/// operand as numbers, (k, n). Numbers of meetings tell one product from the next.
struct GroupProduct {
  bool asked = false;
  std::uint64_t asked_after = 0, read_at = 0;
  std::uint64_t right = 0;
  bool rows = false, add = false;
  float values[depth][columns];
};

struct Products {
  std::uint64_t block = 0;
  std::vector<ThreadProducts> threads;
  std::vector<GroupProduct> groups;
};

Products& of_block() {
  static thread_local Products products;
  if (products.block != block_serial() || products.threads.size() != threads_in_block()) {
    products.block = block_serial();
    products.threads.assign(threads_in_block(), {});
    products.groups.assign(threads_in_block() / warpgroup_threads + 1, {});
  }
  return products;
}

/// The place in dynamic shared memory of the 16 bytes with elements (k, n) ... of the operand: along k, or along n
/// where its memory has rows of n. In a swizzled layout the chunk's number within its row of 128 bytes, bits 4 to 6 of
/// the address, is XORed with bits 7 to 9.
std::size_t chunk_place(std::uint64_t right, bool rows, int k, int n) {
  const std::size_t start = (right & 0x3FFF) * 16, group = (right >> 32 & 0x3FFF) * 16;
  const int row = rows ? k : n, along = rows ? n : k;
  const std::size_t linear = start + static_cast<std::size_t>(row / 8) * group +
                             static_cast<std::size_t>(row % 8) * 128 + static_cast<std::size_t>(along / 8) * 16;
  return linear ^ (linear >> 7 & 7) << 4;
}

/// Reads the right operand on behalf of the running thread.
void read_right(GroupProduct& product, ThreadProducts& self) {
  const bool rows = product.rows;
  const int row_count = rows ? depth : columns, along_count = rows ? columns : depth;
  for (int row = 0; row < row_count; ++row)
    for (int along = 0; along < along_count; along += 8) {
      const std::size_t place = chunk_place(product.right, rows, rows ? row : along, rows ? along : row);
      bfloat16 chunk[8];
      std::memcpy(chunk, read_by_tensor_cores(place, sizeof chunk), sizeof chunk);
      self.chunks.push_back(place);
      for (int i = 0; i < 8; ++i)
        (rows ? product.values[row][along + i] : product.values[along + i][row]) = to_float(chunk[i]);
    }
}

}  // namespace

thread_local std::uint64_t warpgroup_products = 0;

std::uint64_t matrix_address(const SharedRange& range, std::ptrdiff_t offset) {
  const EmulatorScope scope;
  const std::size_t place = place_in_dynamic_memory(range, offset);
  if (place % 16 != 0) report("describes a matrix at byte " + std::to_string(place) + ", not a multiple of 16");
  return place / 16;
}

void emulated_wgmma(Site site, float (*sum)[4], const unsigned (&left)[4], std::uint64_t right, bool rows, bool add) {
  warp_exchange(name, site, 0xFFFFFFFFu, left, sizeof left);
  unsigned lefts[4][4];  // of the lanes that have the same rows
  for (unsigned lane = 0; lane < 4; ++lane)
    std::memcpy(lefts[lane], warp_value(name, site, lane_number() / 4 * 4 + lane), sizeof lefts[lane]);

  const unsigned thread = thread_number(), group = thread / warpgroup_threads;
  {
    const EmulatorScope scope;
    GroupProduct& product = of_block().groups[group];
    if (!of_block().threads[thread].begun) report(std::string("issues ") + name + " without wgmma.fence before", site);
    if (right >> 62 != 1) report("describes a matrix that is not swizzled in 128 bytes", site);
    if ((right >> 49 & 7) != 0) report("describes a matrix whose swizzle has an offset, which the twin has not", site);
    if (!product.asked || product.asked_after != warpgroup_meetings()) {
      product.asked = true, product.asked_after = warpgroup_meetings();
      product.right = right, product.rows = rows, product.add = add;
    }
    if (product.right != right || product.rows != rows || product.add != add)
      report(std::string("gives ") + name + " another right operand than its warpgroup's first thread there", site);
  }
  warpgroup_meet(name, site);

  const EmulatorScope scope;
  Products& products = of_block();
  ThreadProducts& self = products.threads[thread];
  GroupProduct& product = products.groups[group];
  if (product.read_at != warpgroup_meetings()) {
    read_right(product, self);
    product.read_at = warpgroup_meetings();
    ++warpgroup_products;
  }

  PendingSum* pending = nullptr;
  for (PendingSum& s : self.sums)
    if (s.registers == sum) pending = &s;
  if (!pending) {
    self.sums.push_back({sum, {}, false});
    pending = &self.sums.back();
    for (std::size_t i = 0; i < pending->values.size(); ++i) pending->values[i] = sum[i / 4][i % 4];
  }
  pending->ended = false;
  float rows_of_left[2][depth];
  for (int k = 0; k < depth; ++k)
    for (int i = 0; i < 2; ++i) {
      const unsigned both = lefts[k % 8 / 2][2 * (k / 8) + i];
      rows_of_left[i][k] = __uint_as_float(k % 2 ? both & 0xFFFF0000u : both << 16);
    }
  if (!add) pending->values.fill(0);
  const int t = static_cast<int>(lane_number()) % 4;
  for (int k = 0; k < depth; ++k)
    for (int tile = 0; tile < columns / 8; ++tile)
      for (int i = 0; i < 4; ++i)
        pending->values[static_cast<std::size_t>(4 * tile + i)] +=
            rows_of_left[i / 2][k] * product.values[k][8 * tile + 2 * t + i % 2];
  for (int tile = 0; tile < columns / 8; ++tile)
    for (int i = 0; i < 4; ++i) sum[tile][i] = std::nanf("");
}

void begin_products(const char* file, int line) {
  warp_exchange("wgmma.fence", {file, line}, 0xFFFFFFFFu, nullptr, 0);
  const EmulatorScope scope;
  of_block().threads[thread_number()].begun = true;
}

void end_products(const char* file, int line) {
  warp_exchange("wgmma.commit_group", {file, line}, 0xFFFFFFFFu, nullptr, 0);
  const EmulatorScope scope;
  for (PendingSum& s : of_block().threads[thread_number()].sums) s.ended = true;
}

void wait_for_products(const char* file, int line) {
  warp_exchange("wgmma.wait_group", {file, line}, 0xFFFFFFFFu, nullptr, 0);
  const EmulatorScope scope;
  ThreadProducts& self = of_block().threads[thread_number()];
  self.begun = false;
  std::vector<PendingSum> rest;
  for (const PendingSum& s : self.sums)
    if (s.ended)
      for (std::size_t i = 0; i < s.values.size(); ++i) s.registers[i / 4][i % 4] = s.values[i];
    else
      rest.push_back(s);
  self.sums = rest;
  for (const std::size_t place : self.chunks) read_by_tensor_cores(place, 16);
  self.chunks.clear();
}

}  // namespace promptiqa::emulation
