// What an evaluation found, in three forms: a table for people, CSV and JSON for programs.
// Surprising choice: a figure that is undefined (a constant series) is "-", an empty field and null, never 0.
#pragma once

#include <algorithm>
#include <cmath>
#include <string>
#include <utility>
#include <vector>

#include <nlohmann/json.hpp>

#include "csv.hpp"
#include "evaluation_run.hpp"
#include "number.hpp"
#include "results.hpp"

namespace examples {

/// An image of a data set that could not be used.
struct FailedImage {
  std::string data, image, error;
};

/// The shortest text that reads back as the same double; empty for NaN.
inline std::string exact_double(double value) {
  if (std::isnan(value)) return {};
  char buffer[48];
  const auto end = std::to_chars(buffer, buffer + sizeof buffer, value);
  return std::string(buffer, end.ptr);
}

/// Measurements as a table: medians over the draws, and with several draws their standard deviations.
inline std::string report_table(const std::vector<Measurement>& measurements) {
  const bool subsets = std::any_of(measurements.begin(), measurements.end(),
                                   [](const Measurement& m) { return m.setting.subset != "all"; });
  std::vector<std::vector<std::string>> rows = {{"data", "requirement"}};
  if (subsets) rows[0].push_back("subset");
  for (const char* name :
       {"sampling", "prompt", "images", "pairs", "draws", "SROCC", "PLCC", "PLCC*", "KROCC", "RMSE", "RMSE*"})
    rows[0].push_back(name);
  const std::size_t texts = rows[0].size() - 9;  // the columns before "images" are words, the others numbers
  for (const Measurement& m : measurements) {
    const Setting& s = m.setting;
    std::vector<std::string> row = {printable(s.data), s.requirement};
    if (subsets) row.push_back(s.subset);
    const auto [fewest, most] = std::minmax_element(m.draws.begin(), m.draws.end(),
                                                    [](const Draw& a, const Draw& b) { return a.images < b.images; });
    const std::string images =
        std::to_string(fewest->images) + (fewest->images == most->images ? "" : ".." + std::to_string(most->images));
    for (const std::string& text :
         {s.sampling, s.prompt, images, std::to_string(s.pairs), std::to_string(m.draws.size())})
      row.push_back(text);
    for (const Figure& figure : all_figures) {
      const std::vector<double> values = m.values(figure.value);
      const double middle = median(values), deviation = standard_deviation(values);
      row.push_back(std::isnan(middle)
                        ? "-"
                        : rounded_text(middle, 4) + (std::isnan(deviation) ? "" : " +-" + rounded_text(deviation, 4)));
    }
    rows.push_back(std::move(row));
  }
  std::string text;
  for (const auto& row : rows) {
    for (std::size_t c = 0; c < row.size(); ++c) {
      std::size_t width = 0;
      for (const auto& other : rows) width = std::max(width, text_width(other[c]));
      const std::string blanks(width - text_width(row[c]), ' ');
      text += (c ? "  " : "") + (c < texts ? row[c] + blanks : blanks + row[c]);
    }
    text += "\n";
  }
  return text +
         "Medians over the draws, +- their standard deviation. PLCC* and RMSE*: after the 5-parameter logistic fitted\n"
         "to the test images; the others of the scores as they come. KROCC is tau-b; RMSE is in the data set's "
         "scale.\n";
}

/// A row for each measurement: the setting, then median and standard deviation of each figure.
inline std::string report_csv(const std::vector<Measurement>& measurements) {
  std::string text = "data,requirement,subset,sampling,prompt,pairs,draws,images";
  for (const Figure& figure : all_figures) text += std::string(",") + figure.name + "_median," + figure.name + "_std";
  text += "\n";
  for (const Measurement& m : measurements) {
    const Setting& s = m.setting;
    for (const std::string& field : {s.data, s.requirement, s.subset, s.sampling, s.prompt})
      text += csv_field(field) + ",";
    std::vector<double> images;
    for (const Draw& draw : m.draws) images.push_back(static_cast<double>(draw.images));
    text += std::to_string(s.pairs) + "," + std::to_string(m.draws.size()) + "," + exact_double(median(images));
    for (const Figure& figure : all_figures) {
      const std::vector<double> values = m.values(figure.value);
      text += "," + exact_double(median(values)) + "," + exact_double(standard_deviation(values));
    }
    text += "\n";
  }
  return text;
}

/// One object: `about` (weights, options, data), then results with every draw, then the images that failed.
inline std::string report_json(nlohmann::ordered_json about, const std::vector<Measurement>& measurements,
                               const std::vector<FailedImage>& failed) {
  using Object = nlohmann::ordered_json;
  Object results = Object::array();
  for (const Measurement& m : measurements) {
    const Setting& s = m.setting;
    Object result = {{"data", s.data},         {"requirement", s.requirement}, {"subset", s.subset},
                     {"sampling", s.sampling}, {"prompt", s.prompt},           {"pairs", s.pairs}};
    for (const Figure& figure : all_figures) {
      const std::vector<double> values = m.values(figure.value);
      result["median"][figure.name] = median(values);
      result["std"][figure.name] = standard_deviation(values);
    }
    result["draws"] = Object::array();
    for (const Draw& d : m.draws) {
      Object draw = {{"split", d.split}, {"draw", d.draw}, {"images", d.images}};
      for (const Figure& figure : all_figures) draw[figure.name] = d.figures.*figure.value;
      result["draws"].push_back(std::move(draw));
    }
    results.push_back(std::move(result));
  }
  about["figures"] = {{"srocc", "Spearman"},
                      {"plcc", "Pearson, raw scores"},
                      {"plcc_logistic", "Pearson after the 5-parameter logistic fitted to the test images"},
                      {"krocc", "Kendall tau-b"},
                      {"rmse", "raw scores, in the labels' scale"},
                      {"rmse_logistic", "after the logistic, in the labels' scale"},
                      {"std", "sample standard deviation over the draws, null for one draw"}};
  about["results"] = std::move(results);
  about["failed"] = Object::array();
  for (const FailedImage& f : failed)
    about["failed"].push_back({{"data", f.data}, {"image", f.image}, {"error", f.error}});
  return about.dump(1, ' ', false, Object::error_handler_t::replace) + "\n";
}

/// The header of the file of all scores, and its rows: one for a score, one for an image that failed.
inline const char* const scores_header =
    "data,split,requirement,sampling,prompt,pairs,draw,image,label,score,nearest_training,error\n";

inline std::string score_row(const Setting& s, const Draw& d, const ScoredImage& scored) {
  std::string text = csv_field(s.data) + "," + std::to_string(d.split) + "," + s.requirement + "," + s.sampling + "," +
                     s.prompt + "," + std::to_string(s.pairs) + "," + std::to_string(d.draw) + "," +
                     csv_field(scored.image) + "," + exact_double(scored.label) + "," + exact_double(scored.score) +
                     ",";
  if (scored.nearest_training) text += std::to_string(*scored.nearest_training);
  return text + ",\n";
}

inline std::string failed_row(const FailedImage& f) {
  return csv_field(f.data) + ",,,,,,," + csv_field(f.image) + ",,,," + csv_field(f.error) + "\n";
}

}  // namespace examples
