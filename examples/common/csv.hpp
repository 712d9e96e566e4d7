// Reads and writes comma-separated values: quoted fields, doubled quotes, line breaks in quotes, LF, CRLF or CR, a BOM.
// Surprising choice: blanks around a field are dropped unless they are inside quotes; spreadsheets and people add them.
#pragma once

#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

#include <promptiqa/io/mapped_file.hpp>

namespace examples {

/// One record and the line of the file it starts on, from 1.
struct CsvRow {
  std::size_t line = 0;
  std::vector<std::string> fields;
};

/// Text without blanks and tabs at its ends.
inline std::string trimmed(const std::string& text) {
  const auto first = text.find_first_not_of(" \t");
  if (first == std::string::npos) return {};
  return text.substr(first, text.find_last_not_of(" \t") - first + 1);
}

/// The same in lower case (ASCII letters only): how column names are compared.
inline std::string column_key(const std::string& name) {
  std::string key = trimmed(name);
  for (char& c : key)
    if (c >= 'A' && c <= 'Z') c = static_cast<char>(c - 'A' + 'a');
  return key;
}

/// The records of a CSV text; empty lines are skipped. `name` stands for the file in errors.
/// Throws std::runtime_error naming file and line for an open quote, text after a closing quote, or UTF-16.
inline std::vector<CsvRow> parse_csv(const std::string& text, const std::string& name) {
  if (text.rfind("\xFF\xFE", 0) == 0 || text.rfind("\xFE\xFF", 0) == 0)
    throw std::runtime_error(name + ": the file is UTF-16; save it as UTF-8 (plain CSV)");
  std::vector<CsvRow> rows;
  std::size_t at = text.rfind("\xEF\xBB\xBF", 0) == 0 ? 3 : 0, line = 1;
  const auto end_of_line = [&](char c) { return c == '\n' || c == '\r'; };
  // Steps over one line break, whatever its kind.
  const auto skip_break = [&] {
    if (text[at] == '\r' && at + 1 < text.size() && text[at + 1] == '\n') ++at;
    ++at;
    ++line;
  };
  while (at < text.size()) {
    CsvRow row;
    row.line = line;
    for (;;) {
      while (at < text.size() && (text[at] == ' ' || text[at] == '\t')) ++at;
      std::string field;
      if (at < text.size() && text[at] == '"') {
        const std::size_t opened = line;
        for (++at;; ++at) {
          if (at >= text.size())
            throw std::runtime_error(name + ":" + std::to_string(opened) +
                                     ": the quote that opens here is never closed");
          if (text[at] == '"' && (at + 1 >= text.size() || text[at + 1] != '"')) break;
          if (text[at] == '"') ++at;  // two quotes inside quotes mean one
          if (text[at] == '\n') ++line;
          field += text[at];
        }
        ++at;
        while (at < text.size() && (text[at] == ' ' || text[at] == '\t')) ++at;
        if (at < text.size() && text[at] != ',' && !end_of_line(text[at]))
          throw std::runtime_error(name + ":" + std::to_string(line) + ": text follows a closing quote");
      } else {
        while (at < text.size() && text[at] != ',' && !end_of_line(text[at])) field += text[at++];
        field = trimmed(field);
      }
      row.fields.push_back(std::move(field));
      if (at < text.size() && text[at] == ',') {
        ++at;
        continue;
      }
      break;
    }
    if (at < text.size()) skip_break();
    if (row.fields.size() > 1 || !row.fields[0].empty()) rows.push_back(std::move(row));
  }
  return rows;
}

/// The records of a file. Throws promptiqa::FileError when it cannot be read or is no regular file (a folder, pipe or
/// device), std::runtime_error when it is over 100 MB, or as parse_csv.
inline std::vector<CsvRow> read_csv(const std::string& path) {
  const auto file = promptiqa::MappedFile::open(path);
  const auto bytes = file->bytes();
  if (bytes.size() > 100'000'000) throw std::runtime_error(path + ": the file is over 100 MB, too large for a CSV of pairs");
  return parse_csv(std::string(reinterpret_cast<const char*>(bytes.data()), bytes.size()), path);
}

/// A field as it is written: quoted only when it must be.
inline std::string csv_field(const std::string& text) {
  const bool blanks = !text.empty() && (trimmed(text) != text);
  if (!blanks && text.find_first_of(",\"\r\n") == std::string::npos) return text;
  std::string quoted = "\"";
  for (char c : text) {
    if (c == '"') quoted += '"';
    quoted += c;
  }
  return quoted + '"';
}

}  // namespace examples
