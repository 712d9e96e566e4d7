// Text as shapes: a 5 x 7 alphabet of our own, asked point by point.
// Surprising choice: no font file; corners are rounded by distance to the dots, so letters look painted, not typed.
#pragma once

#include <cmath>
#include <cstdint>
#include <string>

namespace examples {

/// True when the letter's dot in column x (0..4) and row y (0..6) is set. Letters A to Z and digits; others are blank.
inline bool letter_dot(char letter, int x, int y) {
  // Rows from the top, five bits each, the leftmost highest.
  static constexpr std::uint8_t glyphs[36][7] = {
      {14, 17, 17, 31, 17, 17, 17}, {30, 17, 17, 30, 17, 17, 30}, {14, 17, 16, 16, 16, 17, 14},
      {30, 17, 17, 17, 17, 17, 30}, {31, 16, 16, 30, 16, 16, 31}, {31, 16, 16, 30, 16, 16, 16},
      {14, 17, 16, 23, 17, 17, 14}, {17, 17, 17, 31, 17, 17, 17}, {14, 4, 4, 4, 4, 4, 14},
      {7, 2, 2, 2, 2, 18, 12},      {17, 18, 20, 24, 20, 18, 17}, {16, 16, 16, 16, 16, 16, 31},
      {17, 27, 21, 21, 17, 17, 17}, {17, 25, 25, 21, 19, 19, 17}, {14, 17, 17, 17, 17, 17, 14},
      {30, 17, 17, 30, 16, 16, 16}, {14, 17, 17, 17, 21, 18, 13}, {30, 17, 17, 30, 20, 18, 17},
      {15, 16, 16, 14, 1, 1, 30},   {31, 4, 4, 4, 4, 4, 4},       {17, 17, 17, 17, 17, 17, 14},
      {17, 17, 17, 17, 17, 10, 4},  {17, 17, 17, 21, 21, 27, 17}, {17, 17, 10, 4, 10, 17, 17},
      {17, 17, 10, 4, 4, 4, 4},     {31, 1, 2, 4, 8, 16, 31},     {14, 17, 19, 21, 25, 17, 14},
      {4, 12, 4, 4, 4, 4, 14},      {14, 17, 1, 6, 8, 16, 31},    {30, 1, 1, 14, 1, 1, 30},
      {2, 6, 10, 18, 31, 2, 2},     {31, 16, 30, 1, 1, 17, 14},   {14, 16, 16, 30, 17, 17, 14},
      {31, 1, 2, 4, 8, 8, 8},       {14, 17, 17, 14, 17, 17, 14}, {14, 17, 17, 15, 1, 1, 14}};
  const int glyph = letter >= 'A' && letter <= 'Z'   ? letter - 'A'
                    : letter >= '0' && letter <= '9' ? letter - '0' + 26
                                                     : -1;
  return glyph >= 0 && x >= 0 && x < 5 && y >= 0 && y < 7 && (glyphs[glyph][y] >> (4 - x) & 1) != 0;
}

/// How wide a line is, in heights of a letter.
inline float text_length(const std::string& text) { return (static_cast<float>(text.size()) * 6 - 1) / 7; }

/// 1 inside the strokes of a line of text, 0 outside. x from the left edge, y down from the top, in letter heights.
inline float text_coverage(const std::string& text, float x, float y) {
  const float dx = x * 7, dy = y * 7;
  float nearest = 2;
  const int column = static_cast<int>(std::floor(dx)), row = static_cast<int>(std::floor(dy));
  for (int j = row - 1; j <= row + 1; ++j)
    for (int i = column - 1; i <= column + 1; ++i) {
      if (i < 0 || j < 0 || i >= static_cast<int>(text.size()) * 6) continue;
      if (!letter_dot(text[static_cast<std::size_t>(i / 6)], i % 6, j)) continue;
      // Distance to the dot's square, so that neighbouring dots join.
      const float ex = std::max(std::fabs(dx - static_cast<float>(i) - 0.5f) - 0.35f, 0.0f);
      const float ey = std::max(std::fabs(dy - static_cast<float>(j) - 0.5f) - 0.35f, 0.0f);
      nearest = std::min(nearest, std::sqrt(ex * ex + ey * ey));
    }
  return nearest < 0.2f ? 1.0f : 0.0f;
}

}  // namespace examples
