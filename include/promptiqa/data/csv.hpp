// Reads and writes comma-separated values: quoted fields, doubled quotes, line breaks in quotes, LF, CRLF or CR, a BOM.
// Surprising choice: blanks around a field are dropped unless they are inside quotes; spreadsheets and people add them.
#pragma once

#include <cstddef>
#include <optional>
#include <string>
#include <vector>

#include <promptiqa/core/macros.hpp>
#include <promptiqa/data/data_error.hpp>

namespace promptiqa {

/// One record and the line of the file it starts on, from 1.
struct CsvRow {
  std::size_t line = 0;
  std::vector<std::string> fields;
};

/// The records of a CSV text; empty lines are skipped. `name` stands for the file in errors.
/// Throws DataError naming file and line for an open quote, text after a closing quote, or UTF-16.
std::vector<CsvRow> parse_csv(const std::string& text, const std::string& name);

/// The records of a file. Throws FileError when it cannot be read or is no regular file (a folder, pipe or device),
/// DataError when it is over 100 MB, or as parse_csv.
std::vector<CsvRow> read_csv(const std::string& path);

/// Text without blanks and tabs at its ends.
std::string trimmed(const std::string& text);

/// The same in lower case (ASCII letters only): how column names are compared.
std::string column_key(const std::string& name);

/// A field as it is written: quoted only when it must be.
std::string csv_field(const std::string& text);

/// The float that the whole text spells (also "nan" and "inf"), or nothing, also when no float is near it (1e400,
/// 1e-400).
std::optional<float> parse_float(const std::string& text);

/// A CSV whose first record names the columns. Rows are counted from 0, below the header; rows of empty fields, which
/// spreadsheets leave at the end, are skipped.
class CsvTable {
 public:
  /// Reads the file. Throws as read_csv, and DataError when it is empty, a column name occurs twice, or, naming the
  /// line, a row has fewer or more fields than the header.
  explicit CsvTable(const std::string& path);

  /// The same for a text; `name` stands for the file in errors.
  CsvTable(const std::string& text, const std::string& name);

  std::size_t rows() const { return rows_.size(); }
  const std::vector<std::string>& header() const { return header_; }

  /// Position of a column, by name without regard to case and outer blanks, or nothing.
  std::optional<std::size_t> find(const std::string& column) const;

  /// Position of the first of these columns that exists. Throws DataError, naming the file, the header's line and the
  /// columns there are, when none does.
  std::size_t column(const std::vector<std::string>& names) const;

  /// A field. Indices are not checked.
  const std::string& text(std::size_t row, std::size_t column) const { return rows_[row].fields[column]; }

  /// A field that must be a finite number. Throws DataError naming file, line and column otherwise.
  float number(std::size_t row, std::size_t column) const;

  /// A field that must not be empty. Throws DataError naming file, line and column otherwise.
  const std::string& filled(std::size_t row, std::size_t column) const;

  /// "file.csv:12" and "file.csv:12, column \"score\"": how errors about a row or a field begin.
  std::string where(std::size_t row) const;
  std::string where(std::size_t row, std::size_t column) const;

 private:
  void take(std::vector<CsvRow> rows);

  std::string name_;
  std::size_t header_line_ = 1;
  std::vector<std::string> header_;
  std::vector<CsvRow> rows_;
};

}  // namespace promptiqa

#if PROMPTIQA_WITH_BODIES
#include <promptiqa/data/csv.ipp>
#endif
