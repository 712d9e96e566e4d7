// The twin of wgmma: products of a warpgroup whose right operand the tensor cores read from shared memory.
// Surprising choice: a sum's registers hold NaN until the product is waited for, and what was read from shared memory
// is read once more then, so that a missing wait shows whichever way it goes wrong.
#pragma once

#include <cstddef>
#include <cstdint>

#include "block.hpp"
#include "shared_memory.hpp"

namespace promptiqa::emulation {

/// Where p points, as a matrix description has it: its place in the block's dynamic shared memory in units of 16 bytes.
/// Reports static memory and a misaligned place.
std::uint64_t matrix_address(const SharedRange& range, std::ptrdiff_t offset);
template <class T>
std::uint64_t matrix_address(const SharedPointer<T>& p) {
  return matrix_address(p.range(), p.offset());
}

/// Products of warpgroups so far on this OS thread.
extern thread_local std::uint64_t warpgroup_products;

/// wgmma.mma_async m64n64k16 of bfloat16: sum (64, 64) = left right, or += if `add`; see kernels/warpgroup.cuh. sum are
/// eight tiles of a Fragment, left what mma.m16n8k16 takes. All threads of the warpgroup must come to the same one.
void emulated_wgmma(Site site, float (*sum)[4], const unsigned (&left)[4], std::uint64_t right, bool rows, bool add);

/// wgmma.fence, wgmma.commit_group, wgmma.wait_group 0.
void begin_products(const char* file = __builtin_FILE(), int line = __builtin_LINE());
void end_products(const char* file = __builtin_FILE(), int line = __builtin_LINE());
void wait_for_products(const char* file = __builtin_FILE(), int line = __builtin_LINE());

}  // namespace promptiqa::emulation
