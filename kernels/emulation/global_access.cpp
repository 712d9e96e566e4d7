// Watches every access of kernels to global memory: the hooks that the compiler calls before loads and stores in code
// compiled with -fsanitize=kernel-address (tests/CMakeLists.txt), which are there for kernels of operating systems.
// Surprising choice: they must not throw, because the compiler takes them for functions that cannot; a fault is noted,
// the thread goes on, and the launch ends with the first one.
#include <pthread.h>

#include <cstddef>
#include <cstdint>
#include <string>

#include "block.hpp"
#include "device_memory.hpp"
#include "shared_memory.hpp"

extern "C" char __executable_start, _end;  // the linker's: variables that live as long as the program

namespace promptiqa::emulation {

namespace {

struct Range {
  const char *begin = nullptr, *end = nullptr;
  bool holds(const char* p) const { return p >= begin && p < end; }
};

/// The stack of the OS thread, where the arguments of a launch are.
Range thread_stack() {
  pthread_attr_t attributes;
  void* begin = nullptr;
  std::size_t bytes = 0;
  if (pthread_getattr_np(pthread_self(), &attributes) == 0) {
    pthread_attr_getstack(&attributes, &begin, &bytes);
    pthread_attr_destroy(&attributes);
  }
  return {static_cast<const char*>(begin), static_cast<const char*>(begin) + bytes};
}

/// What belongs to the thread, beside its own stack: the launch's arguments, threadIdx and the like, constants.
bool is_private(const char* p) {
  static thread_local const Range stack = thread_stack();
  constexpr std::uintptr_t thread_variables = 64 << 10;
  const auto near = [p](const void* other, std::uintptr_t distance) {
    const auto a = reinterpret_cast<std::uintptr_t>(p), b = reinterpret_cast<std::uintptr_t>(other);
    return (a < b ? b - a : a - b) < distance;
  };
  return (p >= &__executable_start && p < &_end) || stack.holds(p) || near(&threadIdx, thread_variables);
}

void watch(std::uintptr_t address, std::size_t bytes, const char* what) {
  const Turn& now = turn;
  if (!now.kernel || now.emulator_scopes > 0) return;
  const char* p = reinterpret_cast<const char*>(address);
  if (p >= now.stack_begin && p < now.stack_end) return;
  const EmulatorScope scope;  // what is called from here may be watched code too
  if (in_device_block(p, bytes) || is_private(p) || in_emulator(p) || in_shared_memory(p)) return;
  note_fault(std::string(what) + " of " + std::to_string(bytes) + " bytes that are in no device block");
}

}  // namespace

}  // namespace promptiqa::emulation

extern "C" {
#define PROMPTIQA_WATCH(bytes)                                                                                    \
  void __asan_load##bytes##_noabort(std::uintptr_t p) { promptiqa::emulation::watch(p, bytes, "reads a value"); } \
  void __asan_store##bytes##_noabort(std::uintptr_t p) { promptiqa::emulation::watch(p, bytes, "writes a value"); }
PROMPTIQA_WATCH(1)
PROMPTIQA_WATCH(2)
PROMPTIQA_WATCH(4)
PROMPTIQA_WATCH(8)
PROMPTIQA_WATCH(16)
#undef PROMPTIQA_WATCH
void __asan_loadN_noabort(std::uintptr_t p, std::size_t bytes) {
  promptiqa::emulation::watch(p, bytes, "reads a value");
}
void __asan_storeN_noabort(std::uintptr_t p, std::size_t bytes) {
  promptiqa::emulation::watch(p, bytes, "writes a value");
}
void __asan_handle_no_return() {}
void __asan_before_dynamic_init(const char*) {}
void __asan_after_dynamic_init() {}
}
