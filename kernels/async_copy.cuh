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

/// Copies of one thread that it has not waited for.
struct PendingCopy {
  unsigned group;
  std::function<void()> arrive;
};
struct PendingCopies {
  unsigned groups = 0;  // committed
  std::vector<PendingCopy> copies;

  /// Those of the running thread; what a block leaves behind never arrives.
  static PendingCopies& of_thread() {
    static thread_local std::uint64_t block = 0;
    static thread_local std::vector<PendingCopies> threads;
    if (block != block_serial()) {
      block = block_serial();
      threads.assign(threads_in_block(), {});
    }
    return threads[thread_number()];
  }
};

template <class T>
void copy_async(const Shared<T>& to, const T* from, bool valid) {
  Vector<T, vector_width<T>> v{}, not_yet;
  if (valid) v = load_vector<vector_width<T>>(from);
  const EmulatorScope scope;
  std::memset(static_cast<void*>(&not_yet), 0xFF, sizeof not_yet);
  to.write(&not_yet, 16, 16);
  PendingCopies& pending = PendingCopies::of_thread();
  pending.copies.push_back({pending.groups, [=] { to.write(&v, 16, 16); }});
}
inline void commit_copies() {
  const EmulatorScope scope;
  ++PendingCopies::of_thread().groups;
}
template <int Younger>
void wait_for_copies() {
  const EmulatorScope scope;
  PendingCopies& pending = PendingCopies::of_thread();
  std::size_t arrived = 0;  // groups grow along the list
  for (; arrived < pending.copies.size() && pending.copies[arrived].group + Younger < pending.groups; ++arrived)
    pending.copies[arrived].arrive();
  pending.copies.erase(pending.copies.begin(), pending.copies.begin() + static_cast<std::ptrdiff_t>(arrived));
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
