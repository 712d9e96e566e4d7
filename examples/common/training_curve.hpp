// The curves of a training run as one HTML page that needs nothing else: inline SVG, no script, no fonts.
// Surprising choice: the loss is drawn as the mean of short stretches of steps, about 300 of them however long the run
// is.
#pragma once

#include <algorithm>
#include <cmath>
#include <map>
#include <string>
#include <utility>
#include <vector>

#include <promptiqa/io/atomic_file.hpp>

#include "number.hpp"
#include "training_log.hpp"

namespace examples {

/// Text safe inside HTML.
inline std::string html_text(const std::string& text) {
  std::string safe;
  for (char c : text) {
    if (c == '&')
      safe += "&amp;";
    else if (c == '<')
      safe += "&lt;";
    else if (c == '>')
      safe += "&gt;";
    else if (c == '"')
      safe += "&quot;";
    else
      safe += c;
  }
  return safe;
}

/// A line of a chart.
struct CurveSeries {
  std::string name, colour;
  std::vector<std::pair<double, double>> points;  // in order of x; values that are not finite are left out
  bool dashed = false;
};

/// One chart, 760 x 300, as an <svg> element. The y axis covers [low, high], widened to the data.
inline std::string curve_chart(const std::string& title, const std::vector<CurveSeries>& series, double low,
                               double high) {
  constexpr double width = 760, height = 300, left = 60, right = 150, top = 30, bottom = 40;
  double last = 1;
  for (const CurveSeries& s : series)
    for (const auto& p : s.points) {
      last = std::max(last, p.first);
      if (std::isfinite(p.second)) low = std::min(low, p.second), high = std::max(high, p.second);
    }
  if (!(high > low)) high = low + 1;
  const auto x_at = [&](double x) { return left + (width - left - right) * x / last; };
  const auto y_at = [&](double y) { return height - bottom - (height - top - bottom) * (y - low) / (high - low); };
  const auto text = [](double x, double y, const std::string& anchor, const std::string& what) {
    return "<text x=\"" + rounded_text(x, 1) + "\" y=\"" + rounded_text(y, 1) + "\" text-anchor=\"" + anchor + "\">" +
           what + "</text>\n";
  };
  std::string svg = "<svg viewBox=\"0 0 760 300\" width=\"760\" height=\"300\" role=\"img\" aria-label=\"" +
                    html_text(title) + "\">\n";
  svg += "<text x=\"60\" y=\"18\" class=\"title\">" + html_text(title) + "</text>\n";
  for (int i = 0; i <= 4; ++i) {
    const double y = low + (high - low) * i / 4, x = last * i / 4;
    svg += "<line class=\"grid\" x1=\"" + rounded_text(left, 1) + "\" x2=\"" + rounded_text(width - right, 1) +
           "\" y1=\"" + rounded_text(y_at(y), 1) + "\" y2=\"" + rounded_text(y_at(y), 1) + "\"/>\n";
    svg += text(left - 6, y_at(y) + 4, "end", rounded_text(y, 3));
    svg += text(x_at(x), height - bottom + 18, "middle", rounded_text(x, 0));
  }
  svg += text((left + width - right) / 2, height - 6, "middle", "step");
  double legend = top + 8;
  for (const CurveSeries& s : series) {
    std::string points;
    for (const auto& p : s.points)
      if (std::isfinite(p.second))
        points += rounded_text(x_at(p.first), 1) + "," + rounded_text(y_at(p.second), 1) + " ";
    const std::string style = " stroke=\"" + s.colour + "\"" + (s.dashed ? " stroke-dasharray=\"5 4\"" : "");
    svg += "<polyline class=\"curve\"" + style + " points=\"" + points + "\"/>\n";
    svg += "<line class=\"curve\"" + style + " x1=\"" + rounded_text(width - right + 12, 1) + "\" x2=\"" +
           rounded_text(width - right + 34, 1) + "\" y1=\"" + rounded_text(legend, 1) + "\" y2=\"" +
           rounded_text(legend, 1) + "\"/>\n";
    svg += text(width - right + 40, legend + 4, "start", html_text(s.name));
    legend += 18;
  }
  return svg + "</svg>\n";
}

/// The whole page.
inline std::string curve_page(const TrainingLog& log, const std::string& title) {
  CurveSeries prompt{"prompt loss", "#1f6feb", {}}, auxiliary{"auxiliary loss", "#8b949e", {}};
  const std::vector<LoggedStep>& steps = log.steps();
  const std::size_t stretch = std::max<std::size_t>(1, (steps.size() + 299) / 300);
  for (std::size_t begin = 0; begin < steps.size(); begin += stretch) {
    const std::size_t end = std::min(begin + stretch, steps.size());
    double p = 0, a = 0;
    for (std::size_t i = begin; i < end; ++i) p += steps[i].prompt_loss, a += steps[i].auxiliary_loss;
    const auto n = static_cast<double>(end - begin);
    const auto x = static_cast<double>(steps[end - 1].step);
    prompt.points.emplace_back(x, p / n);
    if (a > 0) auxiliary.points.emplace_back(x, a / n);
  }
  std::vector<CurveSeries> losses = {prompt};
  if (!auxiliary.points.empty()) losses.push_back(auxiliary);

  static const char* const colours[] = {"#1f6feb", "#d1242f", "#1a7f37", "#9a6700", "#8250df", "#0a7d8c"};
  std::map<std::string, std::pair<CurveSeries, CurveSeries>> by_set;
  for (const LoggedValidation& v : log.validations()) {
    auto found = by_set.find(v.set);
    if (found == by_set.end()) {
      const std::string colour = colours[by_set.size() % 6];
      found = by_set
                  .emplace(v.set, std::make_pair(CurveSeries{v.set, colour, {}, false},
                                                 CurveSeries{v.set + ", inverted", colour, {}, true}))
                  .first;
    }
    found->second.first.points.emplace_back(static_cast<double>(v.step), v.srocc);
    found->second.second.points.emplace_back(static_cast<double>(v.step), v.srocc_inverted);
  }
  std::string page = "<!DOCTYPE html>\n<html lang=\"en\"><head><meta charset=\"utf-8\"><title>" + html_text(title) +
                     "</title>\n<style>body{font:14px system-ui,sans-serif;max-width:800px;margin:2em "
                     "auto;color:#1f2328;background:#fff}"
                     "svg{font-size:11px;max-width:100%;height:auto}.title{font-size:13px;font-weight:600}.grid{stroke:"
                     "#d0d7de;stroke-width:1}"
                     ".curve{fill:none;stroke-width:1.6}</style></head>\n<body>\n<h1>" +
                     html_text(title) + "</h1>\n";
  page += curve_chart("Loss (mean absolute error)", losses, 0, 0.3);
  if (!by_set.empty()) {
    std::vector<CurveSeries> lines;
    for (auto& entry : by_set) {
      lines.push_back(entry.second.first);
      lines.push_back(entry.second.second);
    }
    page += curve_chart("SROCC on held-out pictures; dashed: the prompt's scores inverted", lines, -1, 1);
  }
  return page + "</body></html>\n";
}

/// Writes the page atomically. Throws FileError.
inline void write_curve(const std::string& path, const TrainingLog& log, const std::string& title) {
  const std::string page = curve_page(log, title);
  promptiqa::AtomicFile file(path);
  file.write(page.data(), page.size());
  file.commit();
}

}  // namespace examples
