// Fibres: stacks that one OS thread switches between, one for each thread of an emulated block.
// Surprising choice: a fibre's context is made once and runs body after body, because making one costs a system call.
#pragma once

#include <ucontext.h>
#include <csetjmp>
#include <cstddef>

namespace promptiqa::emulation {

/// A stack with a guard page below it, and the registers of what runs there.
class Fibre {
 public:
  /// The stack of the OS thread itself.
  Fibre() = default;
  /// A fresh stack; entry() runs there at the first switch and must never return. Throws std::bad_alloc.
  explicit Fibre(void (*entry)());
  ~Fibre();
  Fibre(const Fibre&) = delete;
  Fibre& operator=(const Fibre&) = delete;

  /// Makes the fibre begin at entry() again, whatever it was doing. What lived on its stack is not destroyed.
  void restart(void (*entry)());

  /// Leaves `from`, which must be running, and continues `to`. Returns when somebody switches back.
  static void switch_to(Fibre& from, Fibre& to);
  /// The first thing entry() does.
  static void arrived();

  /// Its stack; null for the OS thread's own.
  const char* stack_begin() const { return mapping_ ? static_cast<const char*>(stack_) : nullptr; }
  const char* stack_end() const { return mapping_ ? static_cast<const char*>(stack_) + stack_bytes_ : nullptr; }

 private:
  static void finish_switch(Fibre& self);

  ucontext_t context_ = {};      // how it begins
  std::jmp_buf registers_ = {};  // where it was left
  bool begins_ = false;          // at the next switch
  void* mapping_ = nullptr;      // guard page and stack; null for the OS thread's own
  // For the address sanitizer, which must know where the stack is.
  const void* stack_ = nullptr;
  std::size_t stack_bytes_ = 0;
  [[maybe_unused]] void* fake_stack_ = nullptr;
};

}  // namespace promptiqa::emulation
