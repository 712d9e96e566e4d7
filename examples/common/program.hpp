// What every program's main does around its work: stopping on signals, and errors as one line.
// Surprising choice: the second signal ends the program at once, so that a stop that hangs can be stopped.
#pragma once

#include <csignal>
#include <cstdio>
#include <exception>
#include <new>

namespace examples {

/// `handler` is called at the first SIGINT and the first SIGTERM; the next one has its ordinary effect.
inline void on_stop_signals(void (*handler)(int)) {
  struct sigaction action = {};
  action.sa_handler = handler;
  action.sa_flags = static_cast<int>(SA_RESETHAND);
  sigaction(SIGINT, &action, nullptr);
  sigaction(SIGTERM, &action, nullptr);
}

/// What body() returns, or `failed` after a line on standard error that begins with the program's name.
template <class Body>
int exit_code_of(const char* program, int failed, Body&& body) {
  try {
    return body();
  } catch (const std::bad_alloc&) {
    std::fprintf(stderr, "%s: not enough memory\n", program);
  } catch (const std::exception& error) {
    std::fprintf(stderr, "%s: %s\n", program, error.what());
  }
  return failed;
}

}  // namespace examples
