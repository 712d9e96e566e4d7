// The outcome of scoring and its three forms: a table for people, CSV and JSON for programs.
// Surprising choice: files are created (under temporary names) before the first image is scored, so a bad path is an
// error at once and not after an hour.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <optional>
#include <stdexcept>
#include <string>
#include <vector>

#include <nlohmann/json.hpp>

#include <promptiqa/io/atomic_file.hpp>
#include <promptiqa/version.hpp>

#include "csv.hpp"
#include "number.hpp"

namespace examples {

/// Keys in the order they are given, and floats written so that they read back as the same float.
using Json =
    nlohmann::basic_json<nlohmann::ordered_map, std::vector, std::string, bool, std::int64_t, std::uint64_t, float>;

/// One image's scores, or why there are none.
struct Result {
  std::string path;
  std::string error;  // empty: the scores are there
  float score = 0, logit = 0;
};

/// A file, or standard output for "-", that gets its contents in one piece and atomically.
class OutputFile {
 public:
  explicit OutputFile(const std::string& path) {
    if (path != "-") file_.emplace(path);
  }
  void write_all(const std::string& text) {
    if (file_) {
      file_->write(text.data(), text.size());
      file_->commit();
    } else if (std::fwrite(text.data(), 1, text.size(), stdout) != text.size() || std::fflush(stdout) != 0) {
      throw std::runtime_error("standard output: writing failed");
    }
  }

 private:
  std::optional<promptiqa::AtomicFile> file_;
};

/// Text on one line, fit for a terminal: control characters become '?'.
inline std::string printable(std::string text) {
  for (char& c : text)
    if (static_cast<unsigned char>(c) < 0x20 || c == 0x7F) c = '?';
  return text;
}

/// Columns a UTF-8 text takes, about: one for each code point.
inline std::size_t text_width(const std::string& text) {
  return static_cast<std::size_t>(std::count_if(text.begin(), text.end(), [](char c) { return (c & 0xC0) != 0x80; }));
}

/// Path and score, one image a line. range: the width of the score scale, which sets the number of decimals.
inline std::string table_text(const std::vector<Result>& results, float range) {
  std::size_t width = 4;
  for (const Result& r : results) width = std::max(width, text_width(printable(r.path)));
  width = std::min<std::size_t>(width, 100);
  const int decimals = std::clamp(4 - static_cast<int>(std::floor(std::log10(std::max(range, 1e-30f)))), 0, 12);
  std::string text;
  for (const Result& r : results) {
    const std::string path = printable(r.path);
    text += path + std::string(width - std::min(width, text_width(path)), ' ') + "  ";
    text += (r.error.empty() ? rounded_text(r.score, decimals) : "failed") + "\n";
  }
  return text;
}

/// Columns path, score, logit, error; scores as the shortest text that reads back as the same float.
inline std::string csv_text(const std::vector<Result>& results) {
  std::string text = "path,score,logit,error\n";
  for (const Result& r : results)
    text += csv_field(r.path) + "," +
            (r.error.empty() ? exact_text(r.score) + "," + exact_text(r.logit) + "," : ",," + csv_field(r.error)) +
            "\n";
  return text;
}

/// One object: images, weights, prompt, version. Bytes that are not UTF-8 become U+FFFD.
inline std::string json_text(const std::vector<Result>& results, const Json& weights, const Json& prompt) {
  Json images = Json::array();
  for (const Result& r : results) {
    if (r.error.empty())
      images.push_back({{"path", r.path}, {"score", r.score}, {"logit", r.logit}});
    else
      images.push_back({{"path", r.path}, {"error", r.error}});
  }
  const Json all = {
      {"images", std::move(images)}, {"weights", weights}, {"prompt", prompt}, {"version", PROMPTIQA_VERSION_STRING}};
  return all.dump(1, ' ', false, Json::error_handler_t::replace) + "\n";
}

/// Best first when `descending`; images that failed last; equal scores keep their order.
inline void sort_by_score(std::vector<Result>& results, bool descending) {
  std::stable_sort(results.begin(), results.end(), [&](const Result& a, const Result& b) {
    if (a.error.empty() != b.error.empty()) return a.error.empty();
    if (!a.error.empty()) return false;
    return descending ? a.score > b.score : a.score < b.score;
  });
}

}  // namespace examples
