// Bodies of the CSV reader.
// Surprising choice: a row of too many fields is an error that mentions decimal commas, by far its commonest cause.
#pragma once

#include <charconv>
#include <cmath>
#include <set>
#include <system_error>
#include <utility>

#include <promptiqa/data/csv.hpp>
#include <promptiqa/io/mapped_file.hpp>

namespace promptiqa {

namespace detail {

inline bool is_line_end(char c) { return c == '\n' || c == '\r'; }
inline bool is_blank(char c) { return c == ' ' || c == '\t'; }

// Walks over a CSV text, field by field.
class CsvScanner {
 public:
  CsvScanner(const std::string& text, const std::string& name) : text_(text), name_(name) {
    if (text.rfind("\xFF\xFE", 0) == 0 || text.rfind("\xFE\xFF", 0) == 0)
      throw DataError(name + ": the file is UTF-16; save it as UTF-8 (plain CSV)");
    if (text.rfind("\xEF\xBB\xBF", 0) == 0) at_ = 3;
  }

  bool done() const { return at_ >= text_.size(); }

  CsvRow row() {
    CsvRow row;
    row.line = line_;
    for (;;) {
      row.fields.push_back(field());
      if (done() || text_[at_] != ',') break;
      ++at_;
    }
    if (!done()) skip_line_end();
    return row;
  }

 private:
  std::string field() {
    skip_blanks();
    if (!done() && text_[at_] == '"') return quoted_field();
    const std::size_t first = at_;
    while (!done() && text_[at_] != ',' && !is_line_end(text_[at_])) ++at_;
    return trimmed(text_.substr(first, at_ - first));
  }

  std::string quoted_field() {
    const std::size_t opened = line_;
    std::string field;
    for (++at_;; ++at_) {
      if (done())
        throw DataError(name_ + ":" + std::to_string(opened) + ": the quote that opens here is never closed");
      if (text_[at_] == '"') {
        if (at_ + 1 >= text_.size() || text_[at_ + 1] != '"') break;
        ++at_;  // two quotes inside quotes mean one
      }
      if (text_[at_] == '\n') ++line_;
      field += text_[at_];
    }
    ++at_;
    skip_blanks();
    if (!done() && text_[at_] != ',' && !is_line_end(text_[at_]))
      throw DataError(name_ + ":" + std::to_string(line_) + ": text follows a closing quote");
    return field;
  }

  void skip_blanks() {
    while (!done() && is_blank(text_[at_])) ++at_;
  }

  void skip_line_end() {
    if (text_[at_] == '\r' && at_ + 1 < text_.size() && text_[at_ + 1] == '\n') ++at_;
    ++at_;
    ++line_;
  }

  const std::string& text_;
  const std::string& name_;
  std::size_t at_ = 0, line_ = 1;
};

}  // namespace detail

PROMPTIQA_INLINE std::vector<CsvRow> parse_csv(const std::string& text, const std::string& name) {
  detail::CsvScanner scanner(text, name);
  std::vector<CsvRow> rows;
  while (!scanner.done()) {
    CsvRow row = scanner.row();
    if (row.fields.size() > 1 || !row.fields[0].empty()) rows.push_back(std::move(row));
  }
  return rows;
}

PROMPTIQA_INLINE std::vector<CsvRow> read_csv(const std::string& path) {
  const auto file = MappedFile::open(path);
  const auto bytes = file->bytes();
  if (bytes.size() > 100'000'000) throw DataError(path + ": the file is over 100 MB, too large for a CSV of labels");
  return parse_csv(std::string(reinterpret_cast<const char*>(bytes.data()), bytes.size()), path);
}

PROMPTIQA_INLINE std::string trimmed(const std::string& text) {
  const auto first = text.find_first_not_of(" \t");
  if (first == std::string::npos) return {};
  return text.substr(first, text.find_last_not_of(" \t") - first + 1);
}

PROMPTIQA_INLINE std::string column_key(const std::string& name) {
  std::string key = trimmed(name);
  for (char& c : key)
    if (c >= 'A' && c <= 'Z') c = static_cast<char>(c - 'A' + 'a');
  return key;
}

PROMPTIQA_INLINE std::string csv_field(const std::string& text) {
  if (trimmed(text) == text && text.find_first_of(",\"\r\n") == std::string::npos) return text;
  std::string quoted = "\"";
  for (char c : text) {
    if (c == '"') quoted += '"';
    quoted += c;
  }
  return quoted + '"';
}

PROMPTIQA_INLINE std::optional<float> parse_float(const std::string& text) {
  const char* first = text.c_str();
  const char* last = first + text.size();
  if (first != last && *first == '+' && first + 1 != last && first[1] != '-') ++first;
  float value = 0;
  const auto [end, error] = std::from_chars(first, last, value);
  if (first == last || end != last || error != std::errc()) return std::nullopt;
  return value;
}

PROMPTIQA_INLINE CsvTable::CsvTable(const std::string& path) : name_(path) { take(read_csv(path)); }

PROMPTIQA_INLINE CsvTable::CsvTable(const std::string& text, const std::string& name) : name_(name) {
  take(parse_csv(text, name));
}

PROMPTIQA_INLINE void CsvTable::take(std::vector<CsvRow> rows) {
  if (rows.empty()) throw DataError(name_ + ": the file is empty; the first row must name the columns");
  header_line_ = rows[0].line;
  header_ = std::move(rows[0].fields);
  for (std::size_t row = 1; row < rows.size(); ++row) {
    bool filled = false;
    for (const std::string& field : rows[row].fields) filled = filled || !field.empty();
    if (filled) rows_.push_back(std::move(rows[row]));
  }
  std::set<std::string> seen;
  for (const std::string& column : header_)
    if (!trimmed(column).empty() && !seen.insert(column_key(column)).second)
      throw DataError(name_ + ":" + std::to_string(header_line_) + ": the column \"" + column + "\" occurs twice");
  for (std::size_t row = 0; row < rows_.size(); ++row) {
    const std::size_t found = rows_[row].fields.size();
    if (found == header_.size()) continue;
    throw DataError(where(row) + ": the row has " + std::to_string(found) + " columns, the header " +
                    std::to_string(header_.size()) +
                    (found > header_.size() ? "; write decimals with a point and quote names with commas" : ""));
  }
}

PROMPTIQA_INLINE std::optional<std::size_t> CsvTable::find(const std::string& column) const {
  for (std::size_t i = 0; i < header_.size(); ++i)
    if (column_key(header_[i]) == column_key(column)) return i;
  return std::nullopt;
}

PROMPTIQA_INLINE std::size_t CsvTable::column(const std::vector<std::string>& names) const {
  for (const std::string& name : names)
    if (const auto found = find(name)) return *found;
  std::string message = name_ + ":" + std::to_string(header_line_) + ": there is no column \"";
  for (std::size_t i = 0; i < names.size(); ++i) message += (i == 0 ? "" : "\" or \"") + names[i];
  message += "\"; the columns are";
  for (std::size_t i = 0; i < header_.size(); ++i) message += (i == 0 ? " \"" : ", \"") + header_[i] + "\"";
  if (header_.size() == 1 && header_[0].find_first_of(";\t") != std::string::npos)
    message += " (columns must be separated by commas)";
  throw DataError(message);
}

PROMPTIQA_INLINE float CsvTable::number(std::size_t row, std::size_t column) const {
  const std::string& field = text(row, column);
  const auto value = parse_float(field);
  if (!value) throw DataError(where(row, column) + ": expected a number, found \"" + field + "\"");
  if (!std::isfinite(*value)) throw DataError(where(row, column) + ": the number must be finite, found " + field);
  return *value;
}

PROMPTIQA_INLINE const std::string& CsvTable::filled(std::size_t row, std::size_t column) const {
  const std::string& field = text(row, column);
  if (field.empty()) throw DataError(where(row, column) + ": the field is empty");
  return field;
}

PROMPTIQA_INLINE std::string CsvTable::where(std::size_t row) const {
  return name_ + ":" + std::to_string(rows_[row].line);
}

PROMPTIQA_INLINE std::string CsvTable::where(std::size_t row, std::size_t column) const {
  return where(row) + ", column \"" + header_[column] + "\"";
}

}  // namespace promptiqa
