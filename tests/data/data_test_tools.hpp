// What the tests of the data folder share: small pictures, MAT files and data sets written into a folder of their own.
// Surprising choice: MAT files are assembled byte by byte (MATLAB's level 5 format), not written by the library that
// reads them.
#pragma once

#include <bit>
#include <cstdint>
#include <filesystem>
#include <string>
#include <utility>
#include <vector>

#include "io/io_test_tools.hpp"

namespace data_test {

using io_test::little_endian;
using io_test::TemporaryFolder;

/// Writes a file and the folders above it.
inline void write_file(const std::string& path, const std::string& contents) {
  std::filesystem::create_directories(std::filesystem::path(path).parent_path());
  io_test::write_file(path, contents);
}

/// A binary PPM of `width` x `height` pixels whose values follow from `seed`.
inline std::string ppm(int width, int height, unsigned seed) {
  std::string text = "P6\n" + std::to_string(width) + " " + std::to_string(height) + "\n255\n";
  unsigned state = seed * 2654435761u + 12345u;
  for (int i = 0; i < width * height * 3; ++i) {
    state = state * 1664525u + 1013904223u;
    text += static_cast<char>(state >> 24);
  }
  return text;
}

/// A data element of a MAT file: type, size, contents, padded to eight bytes.
inline std::string mat_element(unsigned type, const std::string& contents) {
  std::string element = little_endian(type, 4) + little_endian(contents.size(), 4) + contents;
  return element + std::string((8 - element.size() % 8) % 8, '\0');
}

/// An array of a MAT file: class 6 = double, 4 = char, 1 = cell.
inline std::string mat_array(const std::string& name, unsigned array_class, std::size_t rows, std::size_t columns,
                             const std::string& data) {
  constexpr unsigned int8 = 1, int32 = 5, uint32 = 6, matrix = 14;
  return mat_element(matrix, mat_element(uint32, little_endian(array_class, 8)) +
                                 mat_element(int32, little_endian(rows, 4) + little_endian(columns, 4)) +
                                 mat_element(int8, name) + data);
}

inline std::string mat_numbers(const std::string& name, const std::vector<double>& values, bool as_column = false) {
  std::string data;
  for (double value : values) data += little_endian(std::bit_cast<std::uint64_t>(value), 8);
  return mat_array(name, 6, as_column ? values.size() : 1, as_column ? 1 : values.size(), mat_element(9, data));
}

inline std::string mat_strings(const std::string& name, const std::vector<std::string>& texts, bool as_column = false) {
  std::string cells;
  for (const std::string& text : texts) {
    std::string utf16;
    for (char c : text) utf16 += little_endian(static_cast<unsigned char>(c), 2);
    cells += mat_array("", 4, 1, text.size(), mat_element(4, utf16));
  }
  return mat_array(name, 1, as_column ? texts.size() : 1, as_column ? 1 : texts.size(), cells);
}

/// A MAT file of these arrays.
inline std::string mat_file(const std::string& arrays) {
  std::string header = "MATLAB 5.0 MAT-file";
  header.resize(124, ' ');
  return header + little_endian(0x0100, 2) + "IM" + arrays;
}

}  // namespace data_test
