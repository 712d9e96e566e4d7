// The arithmetic of an evaluation: prompts drawn from the training part, figures of agreement, medians over draws.
// Surprising choice: every random number comes from (seed, what it is for, which draw), so that a longer run repeats
// the draws of a shorter one, and a prompt of 20 random pairs begins with the prompt of 10.
#pragma once

#include <algorithm>
#include <array>
#include <cmath>
#include <cstdint>
#include <limits>
#include <numeric>
#include <random>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include <promptiqa/image/image.hpp>
#include <promptiqa/metrics/correlation.hpp>
#include <promptiqa/prompt/sampling.hpp>

namespace examples {

// ---- figures ------------------------------------------------------------------------------------------------------

/// Agreement of predicted scores with labels. NaN where a figure is undefined, as for a constant series.
struct Figures {
  double srocc = 0;
  double plcc = 0;           // raw: no mapping
  double plcc_logistic = 0;  // after the 5-parameter logistic fitted to these very images; never negative
  double krocc = 0;          // tau-b
  double rmse = 0;           // raw, in the labels' scale
  double rmse_logistic = 0;  // after the logistic, in the labels' scale
};

/// One of the figures, for loops over all of them.
struct Figure {
  const char* name;
  double Figures::*value;
};
inline constexpr std::array<Figure, 6> all_figures = {{{"srocc", &Figures::srocc},
                                                       {"plcc", &Figures::plcc},
                                                       {"plcc_logistic", &Figures::plcc_logistic},
                                                       {"krocc", &Figures::krocc},
                                                       {"rmse", &Figures::rmse},
                                                       {"rmse_logistic", &Figures::rmse_logistic}}};

/// Figures of predictions against labels, both in the labels' scale. Throws ShapeError unless both have the same
/// length. All NaN for fewer than two images; the logistic's are NaN when one of the series is constant.
inline Figures agreement(std::span<const double> predicted, std::span<const double> labels) {
  constexpr double nan = std::numeric_limits<double>::quiet_NaN();
  if (predicted.size() < 2 && labels.size() < 2) return {nan, nan, nan, nan, nan, nan};
  Figures f;
  f.srocc = promptiqa::srocc(predicted, labels);
  f.plcc = promptiqa::plcc(predicted, labels);
  f.krocc = promptiqa::krocc(predicted, labels);
  f.rmse = promptiqa::rmse(predicted, labels);
  f.plcc_logistic = f.rmse_logistic = nan;
  if (std::isnan(f.plcc)) return f;  // nothing to fit
  const std::vector<double> mapped = promptiqa::fit_logistic5(predicted, labels).apply(predicted);
  f.plcc_logistic = promptiqa::plcc(mapped, labels);
  f.rmse_logistic = promptiqa::rmse(mapped, labels);
  return f;
}

/// The middle value, of an even number the mean of the two in the middle. NaN for none, or when one is NaN.
inline double median(std::vector<double> values) {
  if (values.empty() || std::any_of(values.begin(), values.end(), [](double x) { return std::isnan(x); }))
    return std::numeric_limits<double>::quiet_NaN();
  std::sort(values.begin(), values.end());
  const std::size_t middle = values.size() / 2;
  return values.size() % 2 ? values[middle] : 0.5 * (values[middle - 1] + values[middle]);
}

/// Sample standard deviation (divided by n - 1). NaN for fewer than two values.
inline double standard_deviation(std::span<const double> values) {
  if (values.size() < 2) return std::numeric_limits<double>::quiet_NaN();
  const auto n = static_cast<double>(values.size());
  const double mean = std::accumulate(values.begin(), values.end(), 0.0) / n;
  double sum = 0;
  for (double x : values) sum += (x - mean) * (x - mean);
  return std::sqrt(sum / (n - 1));
}

// ---- prompts ------------------------------------------------------------------------------------------------------

/// How the pairs of a prompt are chosen from the training part (paper, section 4.1).
enum class Sampling { interval, random };

/// What is done to a prompt before it is used (paper, table 5). `random` replaces both images and scores.
enum class PromptKind { standard, inverted, random_scores, random_images, random };

/// The names both go by on the command line and in the results.
inline const std::vector<std::pair<std::string, Sampling>> sampling_names = {{"interval", Sampling::interval},
                                                                             {"random", Sampling::random}};
inline const std::vector<std::pair<std::string, PromptKind>> prompt_names = {
    {"standard", PromptKind::standard},
    {"inverted", PromptKind::inverted},
    {"random-scores", PromptKind::random_scores},
    {"random-images", PromptKind::random_images},
    {"random", PromptKind::random}};

/// The value that goes by a name in such a list; the name must be there.
template <class T>
T value_of(const std::vector<std::pair<std::string, T>>& names, const std::string& name) {
  return std::find_if(names.begin(), names.end(), [&](const auto& entry) { return entry.first == name; })->second;
}

inline bool has_random_images(PromptKind kind) {
  return kind == PromptKind::random_images || kind == PromptKind::random;
}
inline bool has_random_scores(PromptKind kind) {
  return kind == PromptKind::random_scores || kind == PromptKind::random;
}

/// What a stream of random numbers is for.
enum class Purpose : std::uint64_t { pairs = 1, scores = 2, images = 3 };

/// A seed for one purpose and draw (splitmix64 of all three): nearby arguments give unrelated seeds.
inline std::uint64_t stream_seed(std::uint64_t seed, Purpose purpose, std::uint64_t draw) {
  std::uint64_t state = seed;
  for (std::uint64_t part : {static_cast<std::uint64_t>(purpose), draw}) {
    state += 0x9E3779B97F4A7C15u * (part + 1);
    state = (state ^ (state >> 30)) * 0xBF58476D1CE4E5B9u;
    state = (state ^ (state >> 27)) * 0x94D049BB133111EBu;
    state ^= state >> 31;
  }
  return state;
}

/// Indices of the pairs of one prompt among training images with these labels. Interval sampling is the same for every
/// draw. Throws PromptError unless 1 <= pairs <= labels.size() and, for interval sampling, all labels are finite.
inline std::vector<std::size_t> draw_pairs(std::span<const float> labels, Sampling sampling, std::size_t pairs,
                                           std::uint64_t seed, std::uint64_t draw) {
  if (sampling == Sampling::interval) return promptiqa::interval_sample(labels, pairs);
  return promptiqa::random_sample(labels.size(), pairs, stream_seed(seed, Purpose::pairs, draw));
}

/// The scores a prompt of this kind shows, from its true ones in [0, 1]: 1 - s when inverted, uniform random numbers
/// in [0, 1) when random.
inline std::vector<float> shown_scores(PromptKind kind, std::vector<float> scores, std::uint64_t seed,
                                       std::uint64_t draw) {
  if (kind == PromptKind::inverted)
    for (float& s : scores) s = 1 - s;
  if (has_random_scores(kind)) {
    std::mt19937_64 generator(stream_seed(seed, Purpose::scores, draw));
    for (float& s : scores) s = static_cast<float>(generator() >> 40) * 0x1p-24f;  // 24 bits: every float is exact
  }
  return scores;
}

/// Picture number `index` of a draw's random images: side x side pixels of independent, uniform 8-bit values.
inline promptiqa::Image random_picture(int side, std::uint64_t seed, std::uint64_t draw, std::uint64_t index) {
  std::mt19937_64 generator(stream_seed(stream_seed(seed, Purpose::images, draw), Purpose::images, index));
  std::vector<std::uint8_t> pixels(static_cast<std::size_t>(side) * static_cast<std::size_t>(side) * 3);
  for (std::uint8_t& value : pixels) value = static_cast<std::uint8_t>(generator() >> 56);
  return promptiqa::Image::from_vector(std::move(pixels), side, side, 3);
}

}  // namespace examples
