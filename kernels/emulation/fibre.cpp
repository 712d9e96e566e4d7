// Bodies of Fibre.
// Surprising choice: only a fibre's first turn is a change of ucontext, which costs a system call for the signal mask;
// from then on it is left and entered by _setjmp and _longjmp, in the variant that does not mind other stacks.
#undef _FORTIFY_SOURCE
#include "fibre.hpp"

#include <setjmp.h>
#include <sys/mman.h>
#include <unistd.h>
#include <new>

#include "sanitizer.hpp"

namespace promptiqa::emulation {

namespace {
constexpr std::size_t stack_size = std::size_t{256} << 10;
thread_local Fibre* leaving = nullptr;  // the fibre of the switch under way
thread_local Fibre* entering = nullptr;
}  // namespace

Fibre::Fibre(void (*entry)()) {
  const std::size_t page = static_cast<std::size_t>(sysconf(_SC_PAGESIZE));
  void* memory =
      mmap(nullptr, page + stack_size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (memory == MAP_FAILED) throw std::bad_alloc();
  mapping_ = memory;
  mprotect(memory, page, PROT_NONE);
  stack_ = static_cast<char*>(memory) + page;
  stack_bytes_ = stack_size;
  restart(entry);
}

Fibre::~Fibre() {
  if (!mapping_) return;
#if PROMPTIQA_ASAN
  ASAN_UNPOISON_MEMORY_REGION(stack_, stack_bytes_);
#endif
  munmap(mapping_, static_cast<std::size_t>(sysconf(_SC_PAGESIZE)) + stack_size);
}

void Fibre::restart(void (*entry)()) {
#if PROMPTIQA_ASAN
  ASAN_UNPOISON_MEMORY_REGION(stack_, stack_bytes_);
  fake_stack_ = nullptr;
#endif
  getcontext(&context_);
  context_.uc_stack.ss_sp = const_cast<void*>(stack_);
  context_.uc_stack.ss_size = stack_bytes_;
  context_.uc_link = nullptr;
  makecontext(&context_, entry, 0);
  begins_ = true;
}

void Fibre::switch_to(Fibre& from, Fibre& to) {
  leaving = &from;
  entering = &to;
#if PROMPTIQA_ASAN
  __sanitizer_start_switch_fiber(&from.fake_stack_, to.stack_, to.stack_bytes_);
  swapcontext(&from.context_, &to.context_);  // the sanitizer takes a long jump for the end of what is left
#else
  if (_setjmp(from.registers_) == 0) {
    if (!to.begins_) _longjmp(to.registers_, 1);
    to.begins_ = false;
    setcontext(&to.context_);
  }
#endif
  finish_switch(from);
}

void Fibre::arrived() { finish_switch(*entering); }

void Fibre::finish_switch([[maybe_unused]] Fibre& self) {
#if PROMPTIQA_ASAN
  const void* bottom = nullptr;
  std::size_t bytes = 0;
  __sanitizer_finish_switch_fiber(self.fake_stack_, &bottom, &bytes);
  if (!leaving->mapping_) {  // the OS thread's stack is known only from here
    leaving->stack_ = bottom;
    leaving->stack_bytes_ = bytes;
  }
#endif
}

}  // namespace promptiqa::emulation
