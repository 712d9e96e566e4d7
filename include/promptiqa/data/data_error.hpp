// The exception of everything that reads labels and lists of pictures.
// Surprising choice: it lies apart from core/error.hpp, since only programs that train or evaluate meet it.
#pragma once

#include <promptiqa/core/error.hpp>

namespace promptiqa {

/// A label file, a data set's folder, a split or a batch plan is unusable. what() names the file, and where there is
/// one, the line and the column.
class DataError : public Error {
 public:
  using Error::Error;
};

}  // namespace promptiqa
