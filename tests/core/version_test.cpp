// The version in the header is the one of the CMake project.
// Surprising choice: none; it is written in both places, and only this keeps them equal.
#include <promptiqa/version.hpp>

#include <string>

#include "catch.hpp"

TEST_CASE("version.hpp and the CMake project agree", "[version]") {
  CHECK(std::string(PROMPTIQA_VERSION_STRING) == PROMPTIQA_PROJECT_VERSION);
  const std::string of_numbers = std::to_string(PROMPTIQA_VERSION_MAJOR) + "." +
                                 std::to_string(PROMPTIQA_VERSION_MINOR) + "." +
                                 std::to_string(PROMPTIQA_VERSION_PATCH);
  CHECK(of_numbers == PROMPTIQA_VERSION_STRING);
}
