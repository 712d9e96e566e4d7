// The training loop: steps until the run is over, with checkpoints and validation on the way.
// Surprising choice: it never writes the final weights; it returns why it ended, and the caller decides what to keep.
#pragma once

#include <functional>
#include <string>

#include <promptiqa/core/error.hpp>
#include <promptiqa/core/macros.hpp>
#include <promptiqa/train/trainer.hpp>

namespace promptiqa {

struct RunOptions {
  std::string checkpoint;                             // file; empty: none are written
  double checkpoint_minutes = 5;                      // between checkpoints
  double validation_minutes = 0;                      // between validations; 0: only when the run ends
  std::function<bool()> stop;                         // asked before every step; true ends the run. May be empty
  std::function<void(const StepReport&)> after_step;  // may be empty
  std::function<void()> validation;                   // may be empty
  std::function<void()> after_checkpoint;             // may be empty
  /// Told of a checkpoint that could not be written (a full disk) while the run goes on; the next is tried when it is
  /// due, and the one at the end must succeed. Empty: the first failure ends the run.
  std::function<void(const FileError&)> checkpoint_failed;
};

enum class RunEnd { finished, stopped };

/// Trains until the run is over or stop() says so. Rank 0 alone writes checkpoints (also when stopped) and validates;
/// stop() counts when any rank's says yes. Whatever a callback throws ends the run (but a FileError of
/// after_checkpoint, which counts as a checkpoint that failed); a checkpoint is not written then, and the last one
/// stays as it was. Throws as Trainer::step and Trainer::save_checkpoint.
RunEnd run_training(Trainer& trainer, const RunOptions& options);

}  // namespace promptiqa

#if PROMPTIQA_WITH_BODIES
#include <promptiqa/train/run.ipp>
#endif
