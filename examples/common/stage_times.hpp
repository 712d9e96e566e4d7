// Where the time of a run goes: stages that run side by side on several threads.
// Surprising choice: a stage has two times. Elapsed time says how long one waited for it, but stages that share cores
// slow each other down; processor time says what it costs, and only that adds up to a whole.
#pragma once

#include <sys/resource.h>
#include <time.h>

#include <atomic>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <string>

namespace examples {

/// Adds up the time threads spend in one stage; safe from many threads.
class StageTime {
 public:
  /// Adds its own life.
  class Scope {
   public:
    explicit Scope(StageTime& stage) : stage_(stage) {}
    ~Scope() {
      stage_.elapsed_ += elapsed_now() - elapsed_;
      stage_.processor_ += processor_now() - processor_;
    }
    Scope(const Scope&) = delete;
    Scope& operator=(const Scope&) = delete;

   private:
    StageTime& stage_;
    const std::int64_t elapsed_ = elapsed_now(), processor_ = processor_now();
  };

  /// Seconds between the beginnings and ends of all scopes, and processor seconds of the threads that held them.
  double elapsed() const { return 1e-9 * static_cast<double>(elapsed_.load()); }
  double processor() const { return 1e-9 * static_cast<double>(processor_.load()); }

 private:
  static std::int64_t elapsed_now() {
    const auto now = std::chrono::steady_clock::now().time_since_epoch();
    return std::chrono::duration_cast<std::chrono::nanoseconds>(now).count();
  }
  static std::int64_t processor_now() {
    timespec t{};
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
    return static_cast<std::int64_t>(t.tv_sec) * 1'000'000'000 + t.tv_nsec;
  }

  std::atomic<std::int64_t> elapsed_{0}, processor_{0};
};

/// Processor seconds of the whole program so far.
inline double program_processor_seconds() {
  rusage usage{};
  getrusage(RUSAGE_SELF, &usage);
  const auto seconds = [](const timeval& t) {
    return static_cast<double>(t.tv_sec) + 1e-6 * static_cast<double>(t.tv_usec);
  };
  return seconds(usage.ru_utime) + seconds(usage.ru_stime);
}

/// The stages of scoring a list of images.
struct StageTimes {
  StageTime decode, resize;          // on the decoders
  StageTime wait, features, scores;  // on the thread that drives the model
  int decoders = 1, model_threads = 1;
};

/// A table: for each stage the elapsed seconds (of the decoders' stages: per decoder), processor seconds of all its
/// threads, images per second while it runs, and its share of the processor time. The model's processor time is what
/// the decoders have not used, split like its elapsed time: its threads serve both stages.
inline std::string stage_table(const StageTimes& times, std::size_t images, double elapsed, double processor) {
  const double decoding = times.decode.processor() + times.resize.processor();
  const double model = processor > decoding ? processor - decoding : 0;
  const double model_elapsed = times.features.elapsed() + times.scores.elapsed();
  std::string text = "stage           elapsed s  processor s  images/s  share\n";
  const auto row = [&](const char* name, double seconds, double cost) {
    char line[128];
    const double rate = seconds > 0 ? static_cast<double>(images) / seconds : 0;
    const double share = processor > 0 ? 100 * cost / processor : 0;
    std::snprintf(line, sizeof line, "%-15s %9.3f  %11.3f  %8.1f  %4.1f%%\n", name, seconds, cost, rate, share);
    text += line;
  };
  const auto model_share = [&](const StageTime& stage) {
    return model_elapsed > 0 ? model * stage.elapsed() / model_elapsed : 0;
  };
  row("read, decode", times.decode.elapsed() / times.decoders, times.decode.processor());
  row("resize", times.resize.elapsed() / times.decoders, times.resize.processor());
  row("model features", times.features.elapsed(), model_share(times.features));
  row("heads, output", times.scores.elapsed(), model_share(times.scores));
  row("all", elapsed, processor);
  char line[160];
  std::snprintf(line, sizeof line, "%zu images; decoders: %d, model threads: %d; the model waited %.3f s for images\n",
                images, times.decoders, times.model_threads, times.wait.elapsed());
  return text + line;
}

}  // namespace examples
