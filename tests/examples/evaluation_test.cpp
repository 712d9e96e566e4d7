// The arithmetic of evaluations: figures, medians, prompts, hashes, the feature cache, reports.
// Surprising choice: hashes are checked against whole-number cells of an enlarged picture, where no pixel is cut.
#include "../../examples/common/evaluation.hpp"

#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <cmath>
#include <filesystem>
#include <fstream>
#include <limits>
#include <random>
#include <string>
#include <vector>

#include "../../examples/common/evaluation_cache.hpp"
#include "../../examples/common/evaluation_hash.hpp"
#include "../../examples/common/evaluation_report.hpp"
#include "catch.hpp"
#include "temporary_folder.hpp"

using namespace examples;
namespace fs = std::filesystem;

namespace {

// width x height grey-ish pixels of independent random channels.
promptiqa::Image random_rgb(int width, int height, unsigned seed) {
  std::mt19937 generator(seed);
  std::vector<std::uint8_t> pixels(static_cast<std::size_t>(width * height * 3));
  for (auto& p : pixels) p = static_cast<std::uint8_t>(generator() >> 24);
  return promptiqa::Image::from_vector(std::move(pixels), width, height, 3);
}

// Every pixel repeated `across` times across and `down` times down.
promptiqa::Image enlarged(const promptiqa::Image& image, int across, int down) {
  std::vector<std::uint8_t> pixels;
  for (int y = 0; y < image.height() * down; ++y)
    for (int x = 0; x < image.width() * across; ++x)
      for (int c = 0; c < 3; ++c) pixels.push_back(image.row(y / down)[3 * (x / across) + c]);
  return promptiqa::Image::from_vector(std::move(pixels), image.width() * across, image.height() * down, 3);
}

// The hash of a picture of 17 k x 16 m pixels, by its definition.
DifferenceHash whole_cell_hash(const promptiqa::Image& image) {
  const int k = image.width() / 17, m = image.height() / 16;
  const auto cell = [&](int r, int c) {
    long long sum = 0;
    for (int y = r * m; y < (r + 1) * m; ++y)
      for (int x = c * k; x < (c + 1) * k; ++x) {
        const std::uint8_t* p = image.row(y) + 3 * x;
        sum += 299 * p[0] + 587 * p[1] + 114 * p[2];
      }
    return sum;
  };
  DifferenceHash hash{};
  for (int r = 0; r < 16; ++r)
    for (int c = 0; c < 16; ++c)
      if (cell(r, c + 1) > cell(r, c)) hash[static_cast<std::size_t>(r / 4)] |= std::uint64_t{1} << (16 * (r % 4) + c);
  return hash;
}

struct Folder {
  const promptiqa_test::TemporaryFolder folder;
  const fs::path dir = folder.path();
  std::string file(const std::string& name, const std::string& text) const {
    promptiqa_test::write_file(folder / name, text);
    return folder / name;
  }
};

}  // namespace

TEST_CASE("figures agree with SciPy", "[evaluation]") {
  // scipy.stats.spearmanr, pearsonr, kendalltau (SciPy 1.17.1); RMSE with NumPy.
  const std::vector<double> predicted = {0.10, 0.35, 0.30, 0.62, 0.55, 0.80, 0.95, 0.62},
                            labels = {0.05, 0.20, 0.40, 0.50, 0.70, 0.75, 0.90, 0.40};
  const Figures f = agreement(predicted, labels);
  CHECK(f.srocc == Approx(0.86144578313253).epsilon(1e-12));
  CHECK(f.plcc == Approx(0.9047352986730258).epsilon(1e-12));
  CHECK(f.krocc == Approx(0.7407407407407407).epsilon(1e-12));
  CHECK(f.rmse == Approx(0.12514991010783824).epsilon(1e-12));
  // A mapping with more freedom than a straight line cannot fit worse than the line, whose residual is
  // std(labels) sqrt(1 - PLCC^2).
  REQUIRE(std::isfinite(f.plcc_logistic));
  CHECK(f.plcc_logistic >= f.plcc - 1e-9);
  CHECK(f.rmse_logistic <= 0.11407741618549765 + 1e-9);
}

TEST_CASE("the logistic takes up a curve that PLCC does not", "[evaluation]") {
  std::vector<double> predicted, labels;
  for (int i = 0; i < 60; ++i) {
    const double x = i / 59.0;
    predicted.push_back(x);
    labels.push_back(20 + 60 * (0.5 - 1 / (1 + std::exp(9 * (x - 0.6)))) + 5 * x);
  }
  const Figures f = agreement(predicted, labels);
  CHECK(f.srocc == Approx(1));
  CHECK(f.plcc < 0.98);
  CHECK(f.plcc_logistic > 0.9999);
  CHECK(f.rmse_logistic < 0.3);  // labels span 60
  CHECK(f.rmse > 10);            // the raw scores are in another scale
}

TEST_CASE("undefined figures are NaN", "[evaluation]") {
  const std::vector<double> rising = {1, 2, 3, 4, 5, 6}, constant(6, 0.5), one = {1};
  const Figures flat = agreement(constant, rising);
  for (double value : {flat.srocc, flat.plcc, flat.krocc, flat.plcc_logistic, flat.rmse_logistic})
    CHECK(std::isnan(value));
  CHECK(std::isfinite(flat.rmse));
  for (const Figure& figure : all_figures) CHECK(std::isnan(agreement(one, one).*figure.value));
  CHECK_THROWS_AS(agreement(rising, one), promptiqa::ShapeError);
}

TEST_CASE("median and standard deviation", "[evaluation]") {
  const double nan = std::numeric_limits<double>::quiet_NaN();
  CHECK(median({3, 1, 2}) == 2);
  CHECK(median({4, 1, 3, 2}) == 2.5);
  CHECK(median({7}) == 7);
  CHECK(std::isnan(median({})));
  CHECK(std::isnan(median({1, nan, 2})));
  const std::vector<double> values = {2, 4, 4, 4, 5, 5, 7, 9};  // squared differences from 5 add up to 32
  CHECK(standard_deviation(values) == Approx(std::sqrt(32.0 / 7)));
  CHECK(std::isnan(standard_deviation(std::vector<double>{1})));
}

TEST_CASE("prompts are drawn the same way every time", "[evaluation]") {
  std::vector<float> labels;
  for (int i = 0; i < 50; ++i) labels.push_back(static_cast<float>((i * 37) % 50) / 49);
  const auto random = [&](std::size_t n, std::uint64_t seed, std::uint64_t draw) {
    return draw_pairs(labels, Sampling::random, n, seed, draw);
  };
  CHECK(draw_pairs(labels, Sampling::interval, 5, 1, 0) == promptiqa::interval_sample(labels, 5));
  CHECK(draw_pairs(labels, Sampling::interval, 5, 1, 0) == draw_pairs(labels, Sampling::interval, 5, 2, 7));
  CHECK(random(10, 1, 0) == random(10, 1, 0));
  CHECK(random(10, 1, 0) != random(10, 1, 1));
  CHECK(random(10, 1, 0) != random(10, 2, 0));
  CHECK(random(10, 1, 1) != random(10, 2, 0));
  const auto ten = random(10, 1, 0), twenty = random(20, 1, 0);
  CHECK(std::vector<std::size_t>(twenty.begin(), twenty.begin() + 10) == ten);
  CHECK_THROWS_AS(random(51, 1, 0), promptiqa::PromptError);
  // The streams do not meet.
  CHECK(stream_seed(1, Purpose::pairs, 0) != stream_seed(1, Purpose::scores, 0));
  CHECK(stream_seed(1, Purpose::scores, 0) != stream_seed(1, Purpose::images, 0));
}

TEST_CASE("the scores a prompt shows", "[evaluation]") {
  const std::vector<float> scores = {0, 0.25f, 1};
  CHECK(shown_scores(PromptKind::standard, scores, 1, 0) == scores);
  CHECK(shown_scores(PromptKind::random_images, scores, 1, 0) == scores);
  CHECK(shown_scores(PromptKind::inverted, scores, 1, 0) == std::vector<float>{1, 0.75f, 0});
  const std::vector<float> many(1000, 0.5f), random = shown_scores(PromptKind::random_scores, many, 1, 0);
  double sum = 0;
  for (float s : random) {
    CHECK((s >= 0 && s < 1));
    sum += s;
  }
  CHECK(sum / 1000 == Approx(0.5).margin(0.05));  // the mean's deviation is 0.289 / sqrt(1000) = 0.009
  CHECK(*std::max_element(random.begin(), random.end()) > 0.9f);
  CHECK(shown_scores(PromptKind::random, many, 1, 0) == random);
  CHECK(shown_scores(PromptKind::random_scores, many, 1, 1) != random);
  CHECK(shown_scores(PromptKind::random_scores, many, 2, 0) != random);
  CHECK(has_random_images(PromptKind::random));
  CHECK(has_random_images(PromptKind::random_images));
  CHECK_FALSE(has_random_images(PromptKind::random_scores));
  for (const auto& [name, kind] : prompt_names) CHECK(value_of(prompt_names, name) == kind);
}

TEST_CASE("random pictures are noise, each its own", "[evaluation]") {
  const auto bytes = [](const promptiqa::Image& image) {
    std::vector<int> all;
    for (int y = 0; y < image.height(); ++y) all.insert(all.end(), image.row(y), image.row(y) + 3 * image.width());
    return all;
  };
  const auto first = bytes(random_picture(64, 1, 0, 0));
  REQUIRE(first.size() == 64 * 64 * 3);
  double sum = 0;
  for (int b : first) sum += b;
  CHECK(sum / static_cast<double>(first.size()) == Approx(127.5).margin(4));  // deviation 73.9 / sqrt(12288) = 0.67
  CHECK(*std::min_element(first.begin(), first.end()) == 0);
  CHECK(*std::max_element(first.begin(), first.end()) == 255);
  CHECK(first == bytes(random_picture(64, 1, 0, 0)));
  for (const auto& other : {random_picture(64, 1, 0, 1), random_picture(64, 1, 1, 0), random_picture(64, 2, 0, 0)})
    CHECK(first != bytes(other));
}

TEST_CASE("difference hashes follow their definition", "[evaluation]") {
  const auto exact = random_rgb(34, 48, 1);
  CHECK(difference_hash(exact) == whole_cell_hash(exact));
  // Sizes that do not divide, smaller and larger than the cells: repeating pixels changes no average.
  for (const auto& [width, height] : {std::pair{5, 3}, std::pair{17, 16}, std::pair{23, 40}, std::pair{100, 7}}) {
    const auto image = random_rgb(width, height, static_cast<unsigned>(width));
    CHECK(difference_hash(image) == whole_cell_hash(enlarged(image, 17, 16)));
  }
  std::vector<std::uint8_t> ramp, flat(32 * 32 * 3, 77);
  for (int i = 0; i < 34 * 16; ++i) ramp.insert(ramp.end(), 3, static_cast<std::uint8_t>(7 * (i % 34)));
  const auto rising = promptiqa::Image::from_vector(ramp, 34, 16, 3);
  CHECK(difference_hash(rising) == DifferenceHash{~0ull, ~0ull, ~0ull, ~0ull});
  CHECK(difference_hash(promptiqa::Image::from_vector(flat, 32, 32, 3)) == DifferenceHash{});
  CHECK(distance({~0ull, ~0ull, ~0ull, ~0ull}, {}) == 256);
  CHECK(distance({1, 2, 0, 1ull << 63}, {1, 0, 4, 0}) == 3);
  CHECK(distance(difference_hash(exact), difference_hash(random_rgb(34, 48, 2))) > near_duplicate_bits);
  CHECK_THROWS_AS(difference_hash(promptiqa::Image()), promptiqa::ImageError);
}

TEST_CASE("the feature cache gives back what is still true", "[evaluation]") {
  const Folder folder;
  const std::string a = folder.file("a.png", "aaaa"), b = folder.file("b \xC3\xA9\xFF.png", "bb"),
                    cache_file = (folder.dir / "features.safetensors").string();
  const FeatureOrigin origin = {"id", "cv2-cubic-224/1", "fp32", 3};
  {
    FeatureCache cache(cache_file, origin);
    CHECK(cache.find(a) == nullptr);
    cache.insert(a, *file_stamp(a), {1, 2, 3});
    cache.insert(b, *file_stamp(b), {4, 5, 6});
    REQUIRE(cache.find(b) != nullptr);
    cache.save();
  }
  const FeatureCache cache(cache_file, origin);
  REQUIRE(cache.find(a) != nullptr);
  REQUIRE(cache.find(b) != nullptr);
  CHECK(*cache.find(a) == std::vector<float>{1, 2, 3});
  CHECK(*cache.find(b) == std::vector<float>{4, 5, 6});
  CHECK(cache.find((folder.dir / "c.png").string()) == nullptr);
  CHECK(*cache.find((folder.dir / "." / "a.png").string()) == std::vector<float>{1, 2, 3});

  SECTION("not after a change of size or of time") {
    folder.file("a.png", "aaaaa");
    CHECK(cache.find(a) == nullptr);
    fs::last_write_time(b, fs::last_write_time(b) + std::chrono::seconds(2));
    CHECK(cache.find(b) == nullptr);
    fs::remove(b);
    CHECK(cache.find(b) == nullptr);
  }
  SECTION("not of another origin") {
    CHECK_THROWS_WITH(FeatureCache(cache_file, {"other", "cv2-cubic-224/1", "fp32", 3}),
                      ContainsSubstring(cache_file) && ContainsSubstring("weights_id"));
    CHECK_THROWS_WITH(FeatureCache(cache_file, {"id", "cv2-cubic-112/1", "fp32", 3}),
                      ContainsSubstring("preprocessing"));
    CHECK_THROWS_WITH(FeatureCache(cache_file, {"id", "cv2-cubic-224/1", "bf16", 3}), ContainsSubstring("precision"));
    CHECK_THROWS_WITH(FeatureCache(cache_file, {"id", "cv2-cubic-224/1", "fp32", 4}), ContainsSubstring("damaged"));
  }
  SECTION("other and damaged files are refused") {
    const std::vector<float> values = {1, 2, 3, 4, 5, std::numeric_limits<float>::quiet_NaN()};
    const auto write = [&](const std::string& format, const std::string& entries) {
      const promptiqa::NamedTensor tensor = {"image_feature", promptiqa::DType::f32, promptiqa::Shape{2, 3},
                                             values.data(), 24};
      promptiqa::write_safetensors(cache_file,
                                   {{"format", format},
                                    {"entries", entries},
                                    {"precision", "fp32"},
                                    {"preprocessing", "cv2-cubic-224/1"},
                                    {"weights_id", "id"}},
                                   {&tensor, 1});
    };
    const std::string format = "promptiqa-feature-cache/1";
    write("promptiqa-features/1", "[]");
    CHECK_THROWS_WITH(FeatureCache(cache_file, origin), ContainsSubstring("no feature cache"));
    for (const char* entries : {"", "[", "[[\"/a\",1,2]]", "[[\"/a\",1,2],[\"/b\",1]]", "[[\"/a\",1,2],[3,1,2]]",
                                "[[\"/a\",1,2],[\"/b\",1,0.5]]", "[[\"/a\",1,2],[\"/b\",1,2]]"}) {
      write(format, entries);  // the last one fits, but a feature is not finite
      INFO(entries);
      CHECK_THROWS_WITH(FeatureCache(cache_file, origin),
                        ContainsSubstring(cache_file) && ContainsSubstring("damaged"));
    }
  }
}

TEST_CASE("reports leave undefined figures open", "[evaluation]") {
  const double nan = std::numeric_limits<double>::quiet_NaN();
  Measurement one{{"set, a", "score", "all", "interval", "standard", 10}, {{0, 0, 20, {0.5, 0.25, nan, 0.125, 2, 1}}}};
  Measurement two{{"set, a", "score", "distinct", "random", "inverted", 3},
                  {{0, 0, 20, {0.5, 0.2, 0.3, 0.4, 2, 1}}, {1, 1, 22, {0.7, 0.2, 0.3, 0.4, 2, 1}}}};
  const auto rows = parse_csv(report_csv({one, two}), "report");
  REQUIRE(rows.size() == 3);
  const auto field = [&](std::size_t r, const std::string& name) {
    const auto& header = rows[0].fields;
    const auto c = static_cast<std::size_t>(std::find(header.begin(), header.end(), name) - header.begin());
    REQUIRE(c < rows[r].fields.size());
    return rows[r].fields[c];
  };
  CHECK(field(1, "data") == "set, a");
  CHECK(field(1, "srocc_median") == "0.5");
  CHECK(field(1, "srocc_std").empty());
  CHECK(field(1, "plcc_logistic_median").empty());
  CHECK(field(1, "rmse_logistic_median") == "1");
  CHECK(field(2, "subset") == "distinct");
  CHECK(field(2, "draws") == "2");
  CHECK(field(2, "images") == "21");
  CHECK(field(2, "pairs") == "3");
  CHECK(*parse_float(field(2, "srocc_median")) == Approx(0.6));
  CHECK(*parse_float(field(2, "srocc_std")) == Approx(std::sqrt(0.02)));

  const auto json = nlohmann::json::parse(report_json({{"seed", 3}}, {one, two}, {{"set, a", "x\xFF.png", "broken"}}));
  CHECK(json.at("seed") == 3);
  CHECK(json.at("results")[0].at("median").at("plcc_logistic").is_null());
  CHECK(json.at("results")[0].at("std").at("srocc").is_null());
  CHECK(json.at("results")[1].at("draws")[1].at("split") == 1);
  CHECK(json.at("results")[1].at("draws")[1].at("images") == 22);
  CHECK(json.at("results")[1].at("draws")[1].at("srocc") == 0.7);
  CHECK(json.at("failed")[0].at("error") == "broken");

  const std::string table = report_table({one, two});
  CHECK_THAT(table, ContainsSubstring("0.6000 +-0.1414") && ContainsSubstring(" - ") && ContainsSubstring("20..22"));
  CHECK_THAT(report_table({one}), !ContainsSubstring("subset"));
}
