// order_report: how well scores follow the levels of distortion in a manifest of scenes.
// Surprising choice: it has no opinion; every series is printed with its scores, in order or not, and then counted.
#include <cstdio>
#include <filesystem>
#include <map>
#include <stdexcept>
#include <string>
#include <vector>

#include <CLI/CLI.hpp>

#include "common/csv.hpp"
#include "common/number.hpp"

namespace {

using namespace examples;

// Index of a column of the header row.
std::size_t column(const std::vector<CsvRow>& rows, const std::string& name, const std::string& path) {
  if (!rows.empty())
    for (std::size_t i = 0; i < rows[0].fields.size(); ++i)
      if (column_key(rows[0].fields[i]) == name) return i;
  throw std::runtime_error(path + ": there is no column \"" + name + "\"");
}

std::string file_key(const std::filesystem::path& path) { return std::filesystem::weakly_canonical(path).string(); }

// Scores by file from what score --csv wrote; images that failed are left out.
std::map<std::string, float> read_scores(const std::string& path) {
  const std::vector<CsvRow> rows = read_csv(path);
  const std::size_t image = column(rows, "path", path), score = column(rows, "score", path);
  std::map<std::string, float> scores;
  for (std::size_t r = 1; r < rows.size(); ++r) {
    if (rows[r].fields.size() <= std::max(image, score)) continue;
    if (const auto value = parse_float(rows[r].fields[score])) scores[file_key(rows[r].fields[image])] = *value;
  }
  return scores;
}

struct Series {
  std::string scene, distortion;
  std::vector<std::string> files;  // by level; level 0, the undistorted scene, first
};

// Every scene and distortion of the manifest, in its order.
std::vector<Series> read_manifest(const std::string& path) {
  const std::vector<CsvRow> rows = read_csv(path);
  const std::size_t image = column(rows, "image", path), scene = column(rows, "scene", path),
                    distortion = column(rows, "distortion", path), level = column(rows, "level", path);
  std::vector<Series> all;
  std::map<std::string, std::string> clean;
  for (std::size_t r = 1; r < rows.size(); ++r) {
    const std::vector<std::string>& f = rows[r].fields;
    if (f.size() <= std::max(std::max(image, scene), std::max(distortion, level)))
      throw std::runtime_error(path + ":" + std::to_string(rows[r].line) + ": the row is too short");
    const std::string file = file_key(std::filesystem::path(path).parent_path() / f[image]);
    if (f[level] == "0") {
      clean[f[scene]] = file;
      continue;
    }
    if (all.empty() || all.back().scene != f[scene] || all.back().distortion != f[distortion])
      all.push_back({f[scene], f[distortion], {clean[f[scene]]}});
    all.back().files.push_back(file);
  }
  return all;
}

struct Count {
  int series = 0, series_in_order = 0, pairs = 0, pairs_in_order = 0;
  void add(const Count& other) {
    series += other.series, series_in_order += other.series_in_order;
    pairs += other.pairs, pairs_in_order += other.pairs_in_order;
  }
};

// Pairs of levels whose scores have the expected order: falling, or rising for a reversed prompt. Equal is wrong.
Count count_order(const std::vector<float>& scores, bool falling) {
  Count count;
  for (std::size_t i = 0; i < scores.size(); ++i)
    for (std::size_t j = i + 1; j < scores.size(); ++j) {
      ++count.pairs;
      if (falling ? scores[i] > scores[j] : scores[i] < scores[j]) ++count.pairs_in_order;
    }
  count.series = 1;
  count.series_in_order = count.pairs_in_order == count.pairs;
  return count;
}

std::string percent(int part, int whole) { return whole ? rounded_text(100.0 * part / whole, 0) + " %" : "none"; }

// Prints one prompt's series; returns the counts.
Count report(const std::vector<Series>& all, const std::map<std::string, float>& scores, bool falling) {
  std::printf("%-10s %-10s %-44s %s\n", "scene", "distortion", "scores, undistorted first",
              falling ? "falling?" : "rising?");
  Count total;
  std::map<std::string, Count> by_distortion;
  for (const Series& series : all) {
    std::vector<float> values;
    for (const std::string& file : series.files)
      if (const auto found = scores.find(file); found != scores.end()) values.push_back(found->second);
    std::string text;
    for (std::size_t i = 0; i < values.size(); ++i)
      text += (i == 0                      ? ""
               : values[i - 1] > values[i] ? " > "
               : values[i - 1] < values[i] ? " < "
                                           : " = ") +
              rounded_text(values[i], 4);
    const Count count = count_order(values, falling);
    std::printf("%-10s %-10s %-44s %s\n", series.scene.c_str(), series.distortion.c_str(), text.c_str(),
                values.size() != series.files.size() ? "images are missing"
                : count.series_in_order              ? "in order"
                                        : ("NOT in order, " + std::to_string(count.pairs_in_order) + " of " +
                                           std::to_string(count.pairs) + " pairs")
                                              .c_str());
    total.add(count);
    by_distortion[series.distortion].add(count);
  }
  std::printf("\n");
  for (const auto& [name, count] : by_distortion)
    std::printf("%-10s %d of %d series in order, %d of %d pairs of levels (%s)\n", name.c_str(), count.series_in_order,
                count.series, count.pairs_in_order, count.pairs, percent(count.pairs_in_order, count.pairs).c_str());
  std::printf("%-10s %d of %d series in order, %d of %d pairs of levels (%s)\n", "total", total.series_in_order,
              total.series, total.pairs_in_order, total.pairs, percent(total.pairs_in_order, total.pairs).c_str());
  return total;
}

// Of all pairs of images, how many change their order from one set of scores to the other.
void report_flip(const std::map<std::string, float>& scores, const std::map<std::string, float>& reversed) {
  int pairs = 0, turned = 0;
  for (auto a = scores.begin(); a != scores.end(); ++a)
    for (auto b = std::next(a); b != scores.end(); ++b) {
      const auto ra = reversed.find(a->first), rb = reversed.find(b->first);
      if (ra == reversed.end() || rb == reversed.end() || a->second == b->second) continue;
      ++pairs;
      if ((a->second < b->second) == (ra->second > rb->second)) ++turned;
    }
  std::printf("\nReversing the prompt turned round %d of %d pairs of images (%s).\n", turned, pairs,
              percent(turned, pairs).c_str());
}

}  // namespace

int main(int argc, char** argv) {
  std::string manifest, results, reversed;
  CLI::App app("Compares scores with the levels of distortion listed in a manifest of the program scenes.");
  app.add_option("MANIFEST", manifest, "manifest.csv written by scenes")->required();
  app.add_option("RESULTS", results, "Scores of its images, written by score --csv")->required();
  app.add_option("--reversed", reversed, "Scores of the same images with --reverse-prompt: must rise with the level")
      ->type_name("CSV");
  CLI11_PARSE(app, argc, argv);
  try {
    const std::vector<Series> all = read_manifest(manifest);
    const auto scores = read_scores(results);
    std::printf("The worse the distortion, the lower the score should be.\n\n");
    report(all, scores, true);
    if (!reversed.empty()) {
      const auto turned = read_scores(reversed);
      std::printf("\nThe same images and prompt with the prompt's scores reversed: now the score should rise.\n\n");
      report(all, turned, false);
      report_flip(scores, turned);
    }
    return 0;
  } catch (const std::exception& error) {
    std::fprintf(stderr, "order_report: %s\n", error.what());
    return 2;
  }
}
