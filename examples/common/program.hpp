// What every program's main does around its work: stopping on signals, and errors as one line.
// Surprising choice: the second signal ends the program at once, so that a stop that hangs can be stopped; a hang-up
// that was ignored before the program began (nohup) stays ignored.
#pragma once

#include <unistd.h>

#include <csignal>
#include <cstdio>
#include <exception>
#include <new>

namespace examples {

/// `handler` is called at the first SIGINT, SIGTERM and SIGHUP; the next one has its ordinary effect.
inline void on_stop_signals(void (*handler)(int)) {
  struct sigaction action = {};
  action.sa_handler = handler;
  action.sa_flags = static_cast<int>(SA_RESETHAND);
  sigaction(SIGINT, &action, nullptr);
  sigaction(SIGTERM, &action, nullptr);
  struct sigaction before = {};
  if (sigaction(SIGHUP, nullptr, &before) == 0 && before.sa_handler != SIG_IGN) sigaction(SIGHUP, &action, nullptr);
}

/// Turns what would end the process without a word into errors: a write beyond the limit of a file's size fails, and a
/// mapped file (weights, cache) that is cut short while it is read ends the program with a line that says so and exit
/// code 2. Nothing can be saved then, but nothing that was saved is lost.
inline void report_lost_files() {
  std::signal(SIGXFSZ, SIG_IGN);
  struct sigaction action = {};
  action.sa_handler = [](int) {
    constexpr char text[] = "a file in use (weights, cache) was cut short, or its disk failed; ended\n";
    (void)!write(STDERR_FILENO, text, sizeof text - 1);
    _exit(2);
  };
  sigaction(SIGBUS, &action, nullptr);
}

/// What body() returns, or `failed` after a line on standard error that begins with the program's name. Calls
/// report_lost_files first.
template <class Body>
int exit_code_of(const char* program, int failed, Body&& body) {
  report_lost_files();
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
