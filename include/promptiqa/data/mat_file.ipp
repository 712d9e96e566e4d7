// Bodies of the MAT file reader, over libmatio.
// Surprising choice: a file is looked at as MappedFile first, to tell a missing file, a folder and a pipe apart, and
// for truncation, which libmatio overlooks.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <memory>
#include <span>

#include <promptiqa/data/mat_file.hpp>
#include <promptiqa/io/mapped_file.hpp>

#if defined(PROMPTIQA_MATIO)
#include <matio.h>
#endif

namespace promptiqa {

#if defined(PROMPTIQA_MATIO)

namespace detail {

struct MatCloser {
  void operator()(mat_t* file) const { Mat_Close(file); }
  void operator()(matvar_t* variable) const { Mat_VarFree(variable); }
};
using MatFile = std::unique_ptr<mat_t, MatCloser>;
using MatVariable = std::unique_ptr<matvar_t, MatCloser>;

// Refuses a level 5 file whose last array was cut off: libmatio fills what is missing with zeros. The file is a header
// of 128 bytes, then arrays that begin with their type and size, four bytes each.
inline void check_not_truncated(const MappedFile& file) {
  const std::span<const std::byte> bytes = file.bytes();
  constexpr std::size_t header = 128;
  std::uint16_t version = 0;
  if (bytes.size() >= header) std::memcpy(&version, bytes.data() + header - 4, sizeof version);
  if (version != 0x0100) return;  // another level, or bytes in the other order
  for (std::size_t at = header; at < bytes.size();) {
    std::uint32_t size = 0;
    if (bytes.size() - at >= 8) std::memcpy(&size, bytes.data() + at + 4, sizeof size);
    if (bytes.size() - at < std::size_t{8} + size) throw DataError(file.path() + ": the MAT file is truncated");
    at += std::size_t{8} + size;
  }
}

inline MatFile open_mat(const std::string& path) {
  check_not_truncated(*MappedFile::open(path));
  MatFile file(Mat_Open(path.c_str(), MAT_ACC_RDONLY));
  if (!file) throw DataError(path + ": not a MAT file, or damaged");
  return file;
}

inline std::string mat_label(const std::string& path, const std::string& variable) {
  return path + ": variable '" + variable + "'";
}

inline MatVariable read_mat_variable(const std::string& path, const std::string& variable) {
  const MatFile file = open_mat(path);
  MatVariable found(Mat_VarRead(file.get(), variable.c_str()));
  if (!found) throw DataError(mat_label(path, variable) + " is missing or damaged");
  return found;
}

// Number of elements; 0 when the dimensions overflow or contradict the bytes read.
inline std::size_t mat_elements(const matvar_t& variable) {
  std::size_t count = 1;
  for (int i = 0; i < variable.rank; ++i)
    if (__builtin_mul_overflow(count, variable.dims[i], &count)) return 0;
  const bool sized = variable.data && variable.data_size > 0;
  return sized && count <= variable.nbytes / static_cast<std::size_t>(variable.data_size) ? count : 0;
}

template <class T>
std::vector<double> mat_values(const matvar_t& variable, std::size_t count) {
  const T* values = static_cast<const T*>(variable.data);
  return std::vector<double>(values, values + count);
}

// The characters of a string cell: 8-bit, UTF-8 or UTF-16, of which labels only use ASCII.
inline std::string mat_text(const matvar_t& cell) {
  const std::size_t count = mat_elements(cell);
  std::string text;
  for (std::size_t i = 0; i < count; ++i) {
    if (cell.data_size == 1)
      text += static_cast<const char*>(cell.data)[i];
    else if (cell.data_size == 2)
      text += static_cast<char>(static_cast<const std::uint16_t*>(cell.data)[i]);
  }
  return text;
}

}  // namespace detail

PROMPTIQA_INLINE bool mat_files_supported() { return true; }

PROMPTIQA_INLINE bool mat_has_variable(const std::string& path, const std::string& variable) {
  const detail::MatFile file = detail::open_mat(path);
  return detail::MatVariable(Mat_VarReadInfo(file.get(), variable.c_str())) != nullptr;
}

PROMPTIQA_INLINE std::vector<double> read_mat_numbers(const std::string& path, const std::string& variable) {
  const detail::MatVariable found = detail::read_mat_variable(path, variable);
  const std::size_t count = detail::mat_elements(*found);
  if (count > 0 && !found->isComplex) {
    switch (found->class_type) {
      case MAT_C_DOUBLE: return detail::mat_values<double>(*found, count);
      case MAT_C_SINGLE: return detail::mat_values<float>(*found, count);
      case MAT_C_UINT8: return detail::mat_values<std::uint8_t>(*found, count);
      case MAT_C_INT8: return detail::mat_values<std::int8_t>(*found, count);
      case MAT_C_UINT16: return detail::mat_values<std::uint16_t>(*found, count);
      case MAT_C_INT16: return detail::mat_values<std::int16_t>(*found, count);
      case MAT_C_UINT32: return detail::mat_values<std::uint32_t>(*found, count);
      case MAT_C_INT32: return detail::mat_values<std::int32_t>(*found, count);
      default: break;
    }
  }
  throw DataError(detail::mat_label(path, variable) + ": expected an array of real numbers");
}

PROMPTIQA_INLINE std::vector<std::string> read_mat_strings(const std::string& path, const std::string& variable) {
  const detail::MatVariable found = detail::read_mat_variable(path, variable);
  const std::size_t count = found->class_type == MAT_C_CELL ? detail::mat_elements(*found) : 0;
  std::vector<std::string> texts;
  for (std::size_t i = 0; i < count; ++i) {
    const matvar_t* cell = static_cast<matvar_t* const*>(found->data)[i];
    if (!cell || cell->class_type != MAT_C_CHAR) break;
    texts.push_back(detail::mat_text(*cell));
  }
  if (count == 0 || texts.size() != count)
    throw DataError(detail::mat_label(path, variable) + ": expected a cell array of strings");
  return texts;
}

#else

namespace detail {
[[noreturn]] inline void throw_without_matio(const std::string& path) {
  throw DataError(path + ": this build cannot read MAT files (libmatio was not there when it was built)");
}
}  // namespace detail

PROMPTIQA_INLINE bool mat_files_supported() { return false; }

PROMPTIQA_INLINE bool mat_has_variable(const std::string& path, const std::string&) {
  detail::throw_without_matio(path);
}

PROMPTIQA_INLINE std::vector<double> read_mat_numbers(const std::string& path, const std::string&) {
  detail::throw_without_matio(path);
}

PROMPTIQA_INLINE std::vector<std::string> read_mat_strings(const std::string& path, const std::string&) {
  detail::throw_without_matio(path);
}

#endif

}  // namespace promptiqa
