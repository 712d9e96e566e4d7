// What train shows while it runs: one line that is redrawn on a terminal, a plain line every half minute elsewhere.
// Surprising choice: the loss shown is a running mean over about a hundred steps; that of a single step says little.
#pragma once

#include <unistd.h>

#include <chrono>
#include <cstdio>
#include <string>

#include <promptiqa/train.hpp>

#include "number.hpp"

namespace examples {

/// "1:02:03" or "4:05".
inline std::string clock_text(double seconds) {
  const auto total = static_cast<long>(seconds + 0.5);
  char text[64];
  if (total >= 3600)
    std::snprintf(text, sizeof text, "%ld:%02ld:%02ld", total / 3600, total / 60 % 60, total % 60);
  else
    std::snprintf(text, sizeof text, "%ld:%02ld", total / 60, total % 60);
  return text;
}

class TrainingProgress {
 public:
  explicit TrainingProgress(bool wanted) : wanted_(wanted), terminal_(isatty(STDERR_FILENO) != 0) {}
  ~TrainingProgress() { clear(); }
  TrainingProgress(const TrainingProgress&) = delete;
  TrainingProgress& operator=(const TrainingProgress&) = delete;

  void update(const promptiqa::StepReport& report, const promptiqa::Trainer& trainer) {
    const double weight = mean_steps_ < 100 ? 1.0 / ++mean_steps_ : 0.01;
    loss_ += weight * (report.prompt_loss - loss_);
    seconds_ += weight * (report.seconds - seconds_);
    const auto now = Clock::now();
    if (begun_at_ < 0) {  // what a resumed run did before says nothing about how fast this one is
      begun_at_ = trainer.progress();
      begun_ = now;
    }
    const auto due = terminal_ ? std::chrono::milliseconds(200) : std::chrono::milliseconds(30000);
    if (!wanted_ || (shown_once_ && now - last_ < due && !trainer.finished())) return;
    last_ = now;
    shown_once_ = true;
    const double done = trainer.progress(), here = done - begun_at_;
    // At the first step nothing is known of the others but how long it took itself.
    const double left = here > 0 ? std::chrono::duration<double>(now - begun_).count() * (1 - done) / here
                        : done > 0 && trainer.steps_taken() > 0
                            ? report.seconds * static_cast<double>(trainer.steps_taken()) * (1 - done) / done
                            : 0;
    const std::string line = "step " + std::to_string(report.step) + "  loss " + rounded_text(loss_, 4) + "  " +
                             rounded_text(static_cast<double>(report.images) / seconds_, 1) + " images/s  " +
                             rounded_text(100 * done, 1) + "%  " + clock_text(left) + " left";
    if (terminal_) {
      std::fprintf(stderr, "\r%s\x1b[K", line.c_str());
      std::fflush(stderr);
      drawn_ = true;
    } else {
      std::fprintf(stderr, "%s\n", line.c_str());
    }
  }

  /// A line for good, above the one that is redrawn.
  void print(const std::string& line) {
    if (!wanted_) return;
    clear();
    std::fprintf(stderr, "%s\n", line.c_str());
  }

  void clear() {
    if (drawn_) std::fputs("\r\x1b[K", stderr);
    drawn_ = false;
  }

 private:
  using Clock = std::chrono::steady_clock;
  bool wanted_, terminal_, drawn_ = false, shown_once_ = false;
  int mean_steps_ = 0;
  double loss_ = 0, seconds_ = 0;
  double begun_at_ = -1;  // progress at the first step of this process
  Clock::time_point begun_, last_ = Clock::now();
};

}  // namespace examples
