// A one-line progress bar.
// Surprising choice: it exists only when standard error is a terminal, so logs and pipes never see it.
#pragma once

#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <string>

namespace examples {

class ProgressBar {
 public:
  /// wanted = false: never shown.
  ProgressBar(std::size_t total, bool wanted) : total_(total), shown_(wanted && total > 1 && isatty(STDERR_FILENO)) {}
  ~ProgressBar() { clear(); }
  ProgressBar(const ProgressBar&) = delete;
  ProgressBar& operator=(const ProgressBar&) = delete;

  /// Redraws at most ten times a second.
  void update(std::size_t done) {
    const auto now = Clock::now();
    if (!shown_ || (drawn_ && done < total_ && now - last_ < std::chrono::milliseconds(100))) return;
    last_ = now;
    drawn_ = true;
    const double seconds = std::chrono::duration<double>(now - start_).count();
    const double rate = seconds > 0 ? static_cast<double>(done) / seconds : 0;
    const std::size_t width = 30, filled = width * done / total_;
    std::fprintf(stderr, "\r[%s%s] %zu/%zu", std::string(filled, '#').c_str(), std::string(width - filled, '-').c_str(),
                 done, total_);
    if (rate > 0) std::fprintf(stderr, "  %.1f/s  %.0f s left", rate, static_cast<double>(total_ - done) / rate);
    std::fputs("\x1b[K", stderr);
    std::fflush(stderr);
  }

  /// Removes the bar, so that other lines can be printed.
  void clear() {
    if (drawn_) std::fputs("\r\x1b[K", stderr);
    drawn_ = false;
  }

 private:
  using Clock = std::chrono::steady_clock;
  std::size_t total_;
  bool shown_, drawn_ = false;
  Clock::time_point start_ = Clock::now(), last_ = start_;
};

}  // namespace examples
