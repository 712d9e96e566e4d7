// Body of the training loop.
// Surprising choice: with several ranks, "stop" and "finished" are agreed on before every step, by one small sum,
// because clocks and signals differ between processes and a rank that stops alone would leave the others waiting.
#pragma once

#include <chrono>

#include <promptiqa/train/run.hpp>

namespace promptiqa {

PROMPTIQA_INLINE RunEnd run_training(Trainer& trainer, const RunOptions& options) {
  using Clock = std::chrono::steady_clock;
  const auto minutes_since = [](Clock::time_point then) {
    return std::chrono::duration<double>(Clock::now() - then).count() / 60;
  };
  Communicator& ranks = trainer.communicator();
  const bool first = ranks.rank() == 0;
  Clock::time_point saved = Clock::now(), validated = saved;
  const auto save = [&] {
    if (first && !options.checkpoint.empty()) {
      trainer.save_checkpoint(options.checkpoint);
      if (options.after_checkpoint) options.after_checkpoint();
    }
    saved = Clock::now();
  };
  const auto save_on_the_way = [&] {
    try {
      save();
    } catch (const FileError& error) {
      if (!options.checkpoint_failed) throw;
      options.checkpoint_failed(error);
      saved = Clock::now();
    }
  };
  for (;;) {
    double votes[2] = {options.stop && options.stop() ? 1.0 : 0.0, trainer.finished() ? 1.0 : 0.0};
    ranks.sum(std::span<double>(votes));
    if (votes[0] > 0) {
      save();
      return RunEnd::stopped;
    }
    if (votes[1] > 0) {
      save();
      if (first && options.validation) options.validation();
      return RunEnd::finished;
    }
    const StepReport report = trainer.step();
    if (options.after_step) options.after_step(report);
    if (minutes_since(saved) >= options.checkpoint_minutes) save_on_the_way();
    if (options.validation_minutes > 0 && minutes_since(validated) >= options.validation_minutes) {
      if (first && options.validation) options.validation();
      validated = Clock::now();
    }
  }
}

}  // namespace promptiqa
