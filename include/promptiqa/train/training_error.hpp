// The exception of a training run that cannot go on.
// Surprising choice: it lies apart from core/error.hpp, since only programs that train meet it.
#pragma once

#include <promptiqa/core/error.hpp>

namespace promptiqa {

/// Training cannot start or go on: options that contradict each other or the data, a loss that is no longer finite, a
/// checkpoint of another run, a lost rank. what() names the step, option or file.
class TrainingError : public Error {
 public:
  using Error::Error;
};

}  // namespace promptiqa
