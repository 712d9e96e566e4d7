// Names of data sets, which label files and folders give and which may be the same.
// Surprising choice: none.
#pragma once

#include <string>

namespace examples {

/// `name`, or the first of "name (2)", "name (3)", ... for which taken(result) is false.
template <class Taken>
std::string free_name(const std::string& name, const Taken& taken) {
  std::string result = name;
  for (int copy = 2; taken(result); ++copy) result = name + " (" + std::to_string(copy) + ")";
  return result;
}

}  // namespace examples
