// Copies from global to shared memory that run while the block computes (cp.async, sm_80 and later).
// Surprising choice: before sm_80 they are ordinary copies; in emulation the bytes arrive when they are waited for and
// are NaN until then, so that a missing wait shows.
#pragma once

#include "portability.cuh"

#if PROMPTIQA_EMULATED
#include <functional>
#include <vector>
#endif

namespace promptiqa::cuda {

#if PROMPTIQA_EMULATED

/// Copies of this block's threads that nobody has waited for.
struct PendingCopy {
  unsigned thread;
  unsigned group;
  std::function<void()> arrive;
};
struct PendingCopies {
  std::uint64_t block = 0;
  std::vector<PendingCopy> copies;
  std::vector<unsigned> groups;  // committed, of each thread

  static PendingCopies& of_block() {
    static thread_local PendingCopies pending;
    if (pending.block != block_serial() || pending.groups.size() != threads_in_block()) {
      pending.block = block_serial();
      pending.copies.clear();
      pending.groups.assign(threads_in_block(), 0);
    }
    return pending;
  }
  unsigned& groups_of_thread() { return groups[thread_number()]; }
};

template <class T>
void copy_async(const Shared<T>& to, const T* from, bool valid) {
  Vector<T, vector_width<T>> v{}, not_yet;
  if (valid) v = load_vector<vector_width<T>>(from);
  const EmulatorScope scope;
  std::memset(static_cast<void*>(&not_yet), 0xFF, sizeof not_yet);
  to.write(&not_yet, 16, 16);
  PendingCopies& pending = PendingCopies::of_block();
  pending.copies.push_back({thread_number(), pending.groups_of_thread(), [=] { to.write(&v, 16, 16); }});
}
inline void commit_copies() {
  const EmulatorScope scope;
  ++PendingCopies::of_block().groups_of_thread();
}
template <int Younger>
void wait_for_copies() {
  const EmulatorScope scope;
  PendingCopies& pending = PendingCopies::of_block();
  const unsigned groups = pending.groups_of_thread();
  std::vector<PendingCopy> rest;
  for (PendingCopy& copy : pending.copies)
    if (copy.thread == thread_number() && copy.group + Younger < groups)
      copy.arrive();
    else
      rest.push_back(std::move(copy));
  pending.copies = std::move(rest);
}

#else

/// Begins to copy 16 bytes; zeros when `valid` is false, and `from` is then not read.
template <class T>
PROMPTIQA_DEVICE void copy_async(T* to, const T* from, bool valid) {
#if __CUDA_ARCH__ >= 800
  const unsigned address = static_cast<unsigned>(__cvta_generic_to_shared(to));
  asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;"
               :
               : "r"(address), "l"(from), "r"(valid ? 16 : 0)
               : "memory");
#else
  constexpr int width = vector_width<T>;
  Vector<T, width> v = {};
  if (valid) v = load_vector<width>(from);
  store_shared<width>(to, v);
#endif
}
/// Ends a group of this thread's copies.
PROMPTIQA_DEVICE void commit_copies() {
#if __CUDA_ARCH__ >= 800
  asm volatile("cp.async.commit_group;" : : : "memory");
#endif
}
/// Waits for this thread's copies but for those of the `Younger` latest groups. Others' need a barrier behind it.
template <int Younger>
PROMPTIQA_DEVICE void wait_for_copies() {
#if __CUDA_ARCH__ >= 800
  asm volatile("cp.async.wait_group %0;" : : "n"(Younger) : "memory");
#endif
}

#endif

}  // namespace promptiqa::cuda
