// Numbers to text and back, whatever the locale.
// Surprising choice: a float is written with the fewest digits that read back as the same float.
#pragma once

#include <charconv>
#include <cmath>
#include <optional>
#include <string>
#include <system_error>

namespace examples {

/// The shortest text that reads back as the same float.
inline std::string exact_text(float value) {
  char buffer[48];
  const auto end = std::to_chars(buffer, buffer + sizeof buffer, value);
  return std::string(buffer, end.ptr);
}

/// With a fixed number of decimals, for people.
inline std::string rounded_text(double value, int decimals) {
  char buffer[400];
  const auto end = std::to_chars(buffer, buffer + sizeof buffer, value, std::chars_format::fixed, decimals);
  return std::string(buffer, end.ptr);
}

/// The float that the whole text spells (also "nan" and "inf"), or nothing, also when no float is near it (1e400,
/// 1e-400).
inline std::optional<float> parse_float(const std::string& text) {
  const char* first = text.c_str();
  const char* last = first + text.size();
  if (first != last && *first == '+' && first + 1 != last && first[1] != '-') ++first;
  float value = 0;
  const auto [end, error] = std::from_chars(first, last, value);
  if (first == last || end != last || error != std::errc()) return std::nullopt;
  return value;
}

}  // namespace examples
