// The program evaluate as a user runs it: data sets, prompts, what it writes, its exit code.
// Surprising choice: its scores are checked against those of the program score, given the same prompt as a CSV file.
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <cmath>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <map>
#include <random>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include <nlohmann/json.hpp>

#include <promptiqa/metrics/correlation.hpp>
#include <promptiqa/prompt/sampling.hpp>

#include "../../examples/common/csv.hpp"
#include "../../examples/common/number.hpp"
#include "catch.hpp"
#include "program_files.hpp"

namespace fs = std::filesystem;

namespace {

using nlohmann::json;

// Rows of a CSV as maps from column to field.
std::vector<std::map<std::string, std::string>> table(const std::string& text) {
  const auto rows = examples::parse_csv(text, "table");
  std::vector<std::map<std::string, std::string>> all;
  for (std::size_t r = 1; r < rows.size(); ++r) {
    REQUIRE(rows[r].fields.size() == rows[0].fields.size());
    auto& row = all.emplace_back();
    for (std::size_t c = 0; c < rows[0].fields.size(); ++c) row[rows[0].fields[c]] = rows[r].fields[c];
  }
  return all;
}

double number(const std::string& text) {
  INFO(text);
  REQUIRE(examples::parse_float(text).has_value());
  return std::stod(text);
}

constexpr int train_images = 14, test_images = 8;

// A data set of its own, removed at the end: t0 .. t13 for training, e0 .. e7 for testing, in set.csv.
struct Workshop {
  const promptiqa_test::TemporaryFolder folder;
  const fs::path dir = folder.path();

  Workshop() {
    for (int i = 0; i < train_images + test_images; ++i) picture(name(i), i);
    spill(dir / "set.csv", csv_text());
  }

  static std::string name(int i) {
    return (i < train_images ? "t" + std::to_string(i) : "e" + std::to_string(i - train_images)) + ".ppm";
  }
  static float label(int i) { return static_cast<float>(10 + (i * 29) % 80); }  // all different, 10 .. 89

  static std::string csv_text() {
    std::string text = "image,score,split\n";
    for (int i = 0; i < train_images + test_images; ++i)
      text += name(i) + "," + std::to_string(static_cast<int>(label(i))) + (i < train_images ? ",train\n" : ",test\n");
    return text;
  }

  // 40 x 30 pixels: coloured blocks of 5 x 5 drawn by `kind`, more or less contrast, a fine pattern on every other one.
  void picture(const std::string& file, int kind) const {
    std::mt19937 generator(static_cast<unsigned>(kind) + 1);
    int blocks[6][8][3];
    for (auto& row : blocks)
      for (auto& block : row)
        for (int& value : block) value = 128 + (static_cast<int>(generator() >> 24) - 128) * (kind % 5 + 1) / 5;
    std::string text = "P6\n40 30\n255\n";
    for (int y = 0; y < 30; ++y)
      for (int x = 0; x < 40; ++x)
        for (int c = 0; c < 3; ++c)
          text += static_cast<char>(std::clamp(blocks[y / 5][x / 5][c] + (kind % 2 ? (x + y) % 2 * 30 : 0), 0, 255));
    spill(dir / file, text);
  }

  struct Run {
    int code;
    std::string out, err;
  };
  Run run(const std::string& program, const std::string& arguments) const {
    const std::string command = "cd '" + dir.string() +
                                "' && PROMPTIQA_WEIGHTS_DIR='" PROMPTIQA_SOURCE_DIR "/weights' '" + program + "' " +
                                arguments + " >out.txt 2>err.txt </dev/null";
    const int status = std::system(command.c_str());
    return {WIFEXITED(status) ? WEXITSTATUS(status) : -1, slurp(dir / "out.txt"), slurp(dir / "err.txt")};
  }
  Run evaluate(const std::string& arguments) const { return run(PROMPTIQA_EVALUATE, arguments); }
  Run score(const std::string& arguments) const { return run(PROMPTIQA_SCORE, arguments); }

  // The training images that interval sampling takes, as a prompt for the program score.
  std::string interval_prompt(std::size_t pairs) const {
    std::vector<float> labels;
    for (int i = 0; i < train_images; ++i) labels.push_back(label(i));
    std::string text = "image,score\n";
    for (std::size_t i : promptiqa::interval_sample(labels, pairs))
      text += name(static_cast<int>(i)) + "," + std::to_string(static_cast<int>(labels[i])) + "\n";
    return text;
  }
};

// The scale of a plain CSV is that of its scores.
std::string scale_option() {
  float least = Workshop::label(0), most = least;
  for (int i = 0; i < train_images + test_images; ++i)
    least = std::min(least, Workshop::label(i)), most = std::max(most, Workshop::label(i));
  return " --scale " + std::to_string(static_cast<int>(least)) + " " + std::to_string(static_cast<int>(most));
}

std::string test_files() {
  std::string files;
  for (int i = 0; i < test_images; ++i) files += " " + Workshop::name(train_images + i);
  return files;
}

}  // namespace

TEST_CASE("the test images get the scores that the program score gives them", "[evaluate]") {
  const Workshop shop;
  const auto run = shop.evaluate(
      "--data csv:set.csv --prompt standard,inverted --prompt-size 5 --scores s.csv --json r.json "
      "--csv r.csv");
  INFO(run.err);
  REQUIRE(run.code == 0);
  CHECK(run.err.empty());
  spill(shop.dir / "five.csv", shop.interval_prompt(5));
  const auto rows = table(slurp(shop.dir / "s.csv"));
  REQUIRE(rows.size() == 2 * test_images);
  const json results = json::parse(slurp(shop.dir / "r.json"));
  const auto summary = table(slurp(shop.dir / "r.csv"));
  REQUIRE(summary.size() == 2);
  for (std::size_t kind = 0; kind < 2; ++kind) {
    const std::string reverse = kind == 1 ? " --reverse-prompt" : "";
    REQUIRE(shop.score("--prompt five.csv" + scale_option() + reverse + test_files() + " --csv direct.csv -q").code ==
            0);
    const auto direct = table(slurp(shop.dir / "direct.csv"));
    std::vector<double> predicted, labels;
    for (std::size_t i = 0; i < test_images; ++i) {
      const auto& row = rows[kind * test_images + i];
      CHECK(fs::path(row.at("image")).filename().string() == direct[i].at("path"));
      CHECK(row.at("prompt") == (kind == 0 ? "standard" : "inverted"));
      // Scores up to 89 as floats, and 1 - (s - 10) / 79 rounds otherwise than (99 - s - 10) / 79: a few units of 1e-6.
      CHECK(number(row.at("score")) == Approx(number(direct[i].at("score"))).margin(1e-3));
      CHECK(number(row.at("label")) == Workshop::label(train_images + static_cast<int>(i)));
      predicted.push_back(number(row.at("score")));
      labels.push_back(number(row.at("label")));
    }
    // The figures are those of these very scores, in all three forms.
    const json& median = results.at("results")[kind].at("median");
    CHECK(median.at("srocc").get<double>() == Approx(promptiqa::srocc(predicted, labels)).margin(1e-12));
    CHECK(median.at("plcc").get<double>() == Approx(promptiqa::plcc(predicted, labels)).margin(1e-12));
    CHECK(median.at("krocc").get<double>() == Approx(promptiqa::krocc(predicted, labels)).margin(1e-12));
    CHECK(median.at("rmse").get<double>() == Approx(promptiqa::rmse(predicted, labels)).margin(1e-9));
    for (const char* figure : {"srocc", "plcc", "plcc_logistic", "krocc", "rmse", "rmse_logistic"}) {
      CHECK(number(summary[kind].at(std::string(figure) + "_median")) == median.at(figure).get<double>());
      CHECK(results.at("results")[kind].at("draws")[0].at(figure) == median.at(figure));
    }
    CHECK_THAT(run.out, ContainsSubstring(examples::rounded_text(median.at("srocc").get<double>(), 4)));
  }
  CHECK(number(rows[0].at("score")) != number(rows[test_images].at("score")));  // inverted is another prompt
  CHECK(results.at("data")[0].at("train") == train_images);
  CHECK(results.at("data")[0].at("split") == "test");
  CHECK(results.at("weights").at("id").get<std::string>().size() == 64);
  CHECK_THAT(run.out, ContainsSubstring("PLCC*") && ContainsSubstring("logistic"));
}

TEST_CASE("random prompts are drawn repeatedly and repeatably", "[evaluate]") {
  const Workshop shop;
  const std::string arguments =
      "--data csv:set.csv --sampling interval,random --prompt standard,inverted,random-scores,random-images,random "
      "--prompt-size 1,4 --repeats 3 -q ";
  REQUIRE(shop.evaluate(arguments + "--json a.json --seed 5").code == 0);
  const json results = json::parse(slurp(shop.dir / "a.json")).at("results");
  REQUIRE(results.size() == 2 * 2 * 5);
  std::set<std::string> seen;
  for (const json& result : results) {
    const std::string prompt = result.at("prompt"), sampling = result.at("sampling");
    INFO(result.dump());
    seen.insert(sampling + prompt + std::to_string(result.at("pairs").get<int>()));
    const bool random = sampling == "random" || prompt.find("random") == 0;
    REQUIRE(result.at("draws").size() == (random ? 3u : 1u));
    for (const json& draw : result.at("draws")) CHECK(draw.at("images") == test_images);
    if (!random) {
      CHECK(result.at("std").at("rmse").is_null());
    } else {
      std::set<double> different;
      for (const json& draw : result.at("draws")) different.insert(draw.at("rmse").get<double>());
      CHECK(different.size() == 3);
      CHECK(result.at("median").at("rmse").get<double>() == *std::next(different.begin()));
      CHECK(result.at("std").at("rmse").get<double>() > 0);
    }
  }
  CHECK(seen.size() == 20);

  // A prompt of 4 noise images with the scores of interval sampling is not one of random scores.
  const auto rmse = [&](const json& all, const std::string& sampling, const std::string& prompt, int pairs) {
    for (const json& r : all)
      if (r.at("sampling") == sampling && r.at("prompt") == prompt && r.at("pairs") == pairs)
        return r.at("median").at("rmse").get<double>();
    FAIL("no such result");
    return 0.0;
  };
  std::set<double> kinds;
  for (const char* prompt : {"standard", "inverted", "random-scores", "random-images", "random"})
    kinds.insert(rmse(results, "interval", prompt, 4));
  CHECK(kinds.size() == 5);
  // Nothing of the training part is left in it, so the sampling does not matter.
  CHECK(rmse(results, "interval", "random", 4) == rmse(results, "random", "random", 4));

  REQUIRE(shop.evaluate(arguments + "--json b.json --seed 5").code == 0);
  CHECK(slurp(shop.dir / "a.json") == slurp(shop.dir / "b.json"));
  REQUIRE(shop.evaluate(arguments + "--json c.json --seed 6").code == 0);
  const json other = json::parse(slurp(shop.dir / "c.json")).at("results");
  CHECK(rmse(other, "random", "standard", 4) != rmse(results, "random", "standard", 4));
  CHECK(rmse(other, "interval", "random-scores", 4) != rmse(results, "interval", "random-scores", 4));
  CHECK(rmse(other, "interval", "standard", 4) == rmse(results, "interval", "standard", 4));
}

TEST_CASE("broken images become rows, and broken training images are replaced", "[evaluate]") {
  const Workshop shop;
  spill(shop.dir / "e3.ppm", "P6\n40 30\n255\nshort");
  // The ends of the sorted labels are always taken by interval sampling.
  int highest = 0;
  for (int i = 1; i < train_images; ++i)
    if (Workshop::label(i) > Workshop::label(highest)) highest = i;
  spill(shop.dir / Workshop::name(highest), "nothing");
  const auto run = shop.evaluate("--data csv:set.csv --prompt-size 4 --scores s.csv --json - --csv r.csv");
  INFO(run.err);
  CHECK(run.code == 1);
  const json results = json::parse(run.out);  // nothing else on standard output
  CHECK(results.at("results")[0].at("pairs") == 4);
  CHECK(results.at("results")[0].at("draws")[0].at("images") == test_images - 1);
  std::vector<std::string> failed;
  for (const json& f : results.at("failed"))
    failed.push_back(fs::path(f.at("image").get<std::string>()).filename().string());
  CHECK(failed == std::vector<std::string>{Workshop::name(highest), "e3.ppm"});
  std::vector<std::string> errors;
  for (const auto& row : table(slurp(shop.dir / "s.csv"))) {
    CHECK(row.at("error").empty() == !row.at("score").empty());
    if (!row.at("error").empty()) errors.push_back(fs::path(row.at("image")).filename().string());
  }
  CHECK(errors == failed);
  CHECK_THAT(run.err,
             ContainsSubstring("e3.ppm") && ContainsSubstring(Workshop::name(highest)) && ContainsSubstring(": 2"));

  // All but two test images broken, then all but one.
  for (int i = 2; i < test_images; ++i) spill(shop.dir / ("e" + std::to_string(i) + ".ppm"), "nothing");
  CHECK(shop.evaluate("--data csv:set.csv --prompt-size 4 -q").code == 1);
  spill(shop.dir / "e1.ppm", "nothing");
  const auto too_few = shop.evaluate("--data csv:set.csv --prompt-size 4 -q --csv few.csv");
  CHECK(too_few.code == 2);
  CHECK_THAT(too_few.err, ContainsSubstring("at least two test images"));
  CHECK_FALSE(fs::exists(shop.dir / "few.csv"));
}

TEST_CASE("too few training images for a prompt", "[evaluate]") {
  const Workshop shop;
  const auto asked = shop.evaluate("--data csv:set.csv --prompt-size 5,15");
  CHECK(asked.code == 2);
  CHECK_THAT(asked.err, ContainsSubstring("set") && ContainsSubstring("15 pairs") && ContainsSubstring("14 images"));
  CHECK(shop.evaluate("--data csv:set.csv --prompt-size 14 -q").code == 0);
  spill(shop.dir / "t5.ppm", "nothing");
  const auto broken = shop.evaluate("--data csv:set.csv --prompt-size 14");
  CHECK(broken.code == 2);
  CHECK_THAT(broken.err, ContainsSubstring("a prompt of 14 pairs") && ContainsSubstring("there are 13"));
}

TEST_CASE("unusable data are refused", "[evaluate]") {
  const Workshop shop;
  const auto complaint = [&](const std::string& text) {
    spill(shop.dir / "bad.csv", text);
    const auto run = shop.evaluate("--data csv:bad.csv --json bad.json --prompt-size 1");
    CHECK(run.code == 2);
    CHECK(run.out.empty());
    CHECK_FALSE(fs::exists(shop.dir / "bad.json"));
    CHECK(std::count(run.err.begin(), run.err.end(), '\n') == 1);
    return run.err;
  };
  CHECK_THAT(complaint("image,score\nt0.ppm,1\ngone.ppm,2\nt1.ppm,3\n"), ContainsSubstring("gone.ppm"));
  CHECK_THAT(complaint("image,score\nt0.ppm,1\nt1.ppm,nan\nt2.ppm,3\n"), ContainsSubstring("bad.csv:3"));
  CHECK_THAT(complaint("image\nt0.ppm\n"), ContainsSubstring("bad.csv") && ContainsSubstring("score"));
  CHECK_THAT(complaint("image,score\nt0.ppm,1\nt0.ppm,2\n"), ContainsSubstring("bad.csv:3"));
  CHECK_THAT(complaint("image,score,split\nt0.ppm,1,train\nt1.ppm,2,train\n"), ContainsSubstring("test"));
  spill(shop.dir / "torn.ppm", "P6\n64 48\n255\n");
  CHECK_THAT(complaint("image,score,split\nt0.ppm,1,train\nt1.ppm,1,test\ntorn.ppm,2,test\n"),
             ContainsSubstring("at least two test images") && ContainsSubstring("torn.ppm"));
  const auto unknown = shop.evaluate("--data koniq:somewhere");
  CHECK(unknown.code == 2);
  CHECK_THAT(unknown.err,
             ContainsSubstring("\"koniq\"") && ContainsSubstring("koniq10k") && ContainsSubstring("biq2021"));
  CHECK_THAT(shop.evaluate("--data set.csv").err, ContainsSubstring("unknown kind"));
  CHECK(shop.evaluate("--data biq2021:missing").code == 2);
  CHECK(shop.evaluate("--data csv:missing.csv").code == 2);
}

TEST_CASE("splits: random ones, one from a file, and none", "[evaluate]") {
  const Workshop shop;
  REQUIRE(shop.evaluate("--data csv:set.csv --splits 3 --prompt-size 4 -q --json r.json --scores s.csv").code == 0);
  const json results = json::parse(slurp(shop.dir / "r.json"));
  CHECK(results.at("data")[0].at("split") == "random");
  REQUIRE(results.at("results").size() == 1);
  REQUIRE(results.at("results")[0].at("draws").size() == 3);
  std::map<std::string, std::set<std::string>> tested;
  for (const auto& row : table(slurp(shop.dir / "s.csv"))) tested[row.at("split")].insert(row.at("image"));
  REQUIRE(tested.size() == 3);
  for (const auto& [split, images] : tested) CHECK(images.size() == 4);  // 22 images: round(0.8 * 22) = 18 train
  CHECK((tested["0"] != tested["1"] || tested["0"] != tested["2"]));

  std::string split = "image,split\n";
  for (int i = 0; i < train_images + test_images; ++i)
    split += Workshop::name(i) + (i % 4 == 3 ? ",test\n" : ",train\n");
  spill(shop.dir / "split.csv", split);
  REQUIRE(shop.evaluate("--data csv:set.csv --split split.csv --prompt-size 4 -q --scores s.csv").code == 0);
  std::vector<std::string> images;
  for (const auto& row : table(slurp(shop.dir / "s.csv")))
    images.push_back(fs::path(row.at("image")).filename().string());
  CHECK(images == std::vector<std::string>{"t3.ppm", "t7.ppm", "t11.ppm", "e1.ppm", "e5.ppm"});

  // A saved prompt, all images.
  spill(shop.dir / "five.csv", shop.interval_prompt(5));
  REQUIRE(shop.score("--prompt five.csv" + scale_option() + " --save-prompt five.safetensors -q").code == 0);
  REQUIRE(shop.evaluate("--data csv:set.csv --split all --prompt-file five.safetensors -q --csv r.csv").code == 0);
  auto rows = table(slurp(shop.dir / "r.csv"));
  REQUIRE(rows.size() == 1);
  CHECK(rows[0].at("images") == std::to_string(train_images + test_images));
  CHECK(rows[0].at("sampling") == "file");
  CHECK(rows[0].at("pairs") == "5");
  // On the test images it is what interval sampling gives.
  REQUIRE(shop.evaluate("--data csv:set.csv --prompt-file five.safetensors -q --csv r.csv").code == 0);
  REQUIRE(shop.evaluate("--data csv:set.csv --prompt-size 5 -q --csv drawn.csv").code == 0);
  const auto saved = table(slurp(shop.dir / "r.csv")), drawn = table(slurp(shop.dir / "drawn.csv"));
  CHECK(number(saved.at(0).at("plcc_median")) == Approx(number(drawn.at(0).at("plcc_median"))).margin(1e-4));
}

TEST_CASE("near-duplicates of training images are left out of a second set of figures", "[evaluate]") {
  const Workshop shop;
  // e2 is t6 a little brighter.
  std::string picture = slurp(shop.dir / "t6.ppm");
  for (std::size_t i = 13; i < picture.size(); ++i)
    picture[i] = static_cast<char>(std::min(255, static_cast<unsigned char>(picture[i]) + 2));
  spill(shop.dir / "e2.ppm", picture);
  const auto run = shop.evaluate("--data csv:set.csv --near-duplicates --prompt-size 4 --csv r.csv --scores s.csv");
  REQUIRE(run.code == 0);
  CHECK_THAT(run.out, ContainsSubstring("subset") && ContainsSubstring("distinct"));
  std::vector<double> predicted, labels;
  for (const auto& row : table(slurp(shop.dir / "s.csv"))) {
    const bool duplicate = fs::path(row.at("image")).filename() == "e2.ppm";
    INFO(row.at("image"));
    CHECK((number(row.at("nearest_training")) <= 30) == duplicate);
    if (duplicate) continue;
    predicted.push_back(number(row.at("score")));
    labels.push_back(number(row.at("label")));
  }
  const auto rows = table(slurp(shop.dir / "r.csv"));
  REQUIRE(rows.size() == 2);
  CHECK(rows[0].at("subset") == "all");
  CHECK(rows[0].at("images") == std::to_string(test_images));
  CHECK(rows[1].at("subset") == "distinct");
  CHECK(rows[1].at("images") == std::to_string(test_images - 1));
  CHECK(number(rows[1].at("plcc_median")) == Approx(promptiqa::plcc(predicted, labels)).margin(1e-12));
  CHECK(number(rows[0].at("plcc_median")) != number(rows[1].at("plcc_median")));
}

TEST_CASE("attributes are requirements too", "[evaluate]") {
  const Workshop shop;
  // Brightness known: grey pictures from dark to bright, in an order of their own.
  for (int i = 0; i < train_images + test_images; ++i)
    spill(shop.dir / Workshop::name(i),
          "P6\n40 30\n255\n" + std::string(3600, static_cast<char>(10 + (i * 7) % 22 * 10)));
  REQUIRE(shop.evaluate("--data csv:set.csv --attributes --prompt-size 4 -q --csv r.csv --scores s.csv").code == 0);
  const auto rows = table(slurp(shop.dir / "r.csv"));
  std::vector<std::string> names;
  for (const auto& row : rows) names.push_back(row.at("requirement"));
  CHECK(names == std::vector<std::string>{"score", "brightness", "contrast", "colourfulness", "sharpness", "noise"});
  std::vector<std::pair<int, double>> brightness;  // grey level, label
  for (const auto& row : table(slurp(shop.dir / "s.csv"))) {
    const int i = train_images + std::stoi(fs::path(row.at("image")).filename().string().substr(1));
    if (row.at("requirement") == "brightness") brightness.emplace_back((i * 7) % 22, number(row.at("label")));
    if (row.at("requirement") == "contrast") CHECK(number(row.at("label")) == 0.5);  // all equal: the middle rank
  }
  REQUIRE(brightness.size() == test_images);
  std::sort(brightness.begin(), brightness.end());
  for (std::size_t i = 0; i < brightness.size(); ++i)
    CHECK(brightness[i].second == Approx(static_cast<double>(i) / (test_images - 1)).margin(1e-6));
  CHECK(rows[2].at("srocc_median").empty());  // contrast: the labels are constant
}

TEST_CASE("features are kept between runs", "[evaluate]") {
  const Workshop shop;
  const std::string arguments = "--data csv:set.csv --prompt-size 4 -q --features kept.safetensors --csv ";
  REQUIRE(shop.evaluate(arguments + "a.csv").code == 0);
  REQUIRE(shop.evaluate("--data csv:set.csv --prompt-size 4 -q --csv none.csv").code == 0);
  CHECK(slurp(shop.dir / "a.csv") == slurp(shop.dir / "none.csv"));
  REQUIRE(fs::exists(shop.dir / "kept.safetensors"));
  // Other pixels behind the back of the cache: same size, same time.
  const auto time = fs::last_write_time(shop.dir / "e0.ppm");
  shop.picture("e0.ppm", 77);
  fs::last_write_time(shop.dir / "e0.ppm", time);
  REQUIRE(shop.evaluate(arguments + "b.csv").code == 0);
  CHECK(slurp(shop.dir / "b.csv") == slurp(shop.dir / "a.csv"));
  fs::last_write_time(shop.dir / "e0.ppm", time + std::chrono::seconds(1));
  REQUIRE(shop.evaluate(arguments + "c.csv").code == 0);
  CHECK(slurp(shop.dir / "c.csv") != slurp(shop.dir / "a.csv"));

  spill(shop.dir / "kept.safetensors", "something else");
  const auto run = shop.evaluate(arguments + "d.csv");
  CHECK(run.code == 2);
  CHECK_THAT(run.err, ContainsSubstring("kept.safetensors"));
  CHECK(slurp(shop.dir / "kept.safetensors") == "something else");
}

TEST_CASE("several data sets in one run", "[evaluate]") {
  const Workshop shop;
  fs::create_directory(shop.dir / "other");
  std::string text = Workshop::csv_text();
  for (std::size_t at = 0; (at = text.find('\n', at)) != std::string::npos && at + 1 < text.size(); at += 4)
    text.insert(at + 1, "../");
  spill(shop.dir / "other/set.csv", text);  // of the same name
  REQUIRE(shop.evaluate("--data csv:set.csv csv:other/set.csv --prompt-size 4 -q --csv r.csv").code == 0);
  const auto rows = table(slurp(shop.dir / "r.csv"));
  REQUIRE(rows.size() == 2);
  CHECK(rows[0].at("data") == "set");
  CHECK(rows[1].at("data") == "set (2)");
  CHECK(rows[0].at("plcc_median") == rows[1].at("plcc_median"));
}

TEST_CASE("evaluate: wrong usage", "[evaluate]") {
  const Workshop shop;
  for (const char* arguments : {"",
                                "--data",
                                "--data csv:",
                                "--data csv:set.csv --sampling interval,best",
                                "--data csv:set.csv --prompt upside-down",
                                "--data csv:set.csv --prompt-size 0",
                                "--data csv:set.csv --prompt-size ten",
                                "--data csv:set.csv --repeats 0",
                                "--data csv:set.csv --split all",
                                "--data csv:set.csv --split test --splits 3",
                                "--data csv:set.csv --split gone.csv",
                                "--data csv:set.csv csv:set.csv --split split.csv",
                                "--data csv:set.csv --json - --csv -",
                                "--data csv:set.csv --json same --scores same",
                                "--data csv:set.csv --prompt-file set.csv",
                                "--data csv:set.csv --prompt-file p.safetensors --attributes",
                                "--data csv:set.csv --prompt-file p --prompt-size 3",
                                "--data csv:set.csv --weights set.csv",
                                "--data csv:set.csv --features missing/f.safetensors",
                                "--data csv:set.csv --csv missing/r.csv"}) {
    INFO(arguments);
    const auto run = shop.evaluate(arguments);
    CHECK(run.code == 2);
    CHECK(run.out.empty());
    CHECK_FALSE(run.err.empty());
  }
  const auto help = shop.evaluate("--help");
  CHECK(help.code == 0);
  CHECK_THAT(help.out, ContainsSubstring("--near-duplicates") && ContainsSubstring("Exit code"));
  const auto list = shop.evaluate("--list-data");
  CHECK(list.code == 0);
  CHECK_THAT(list.out, ContainsSubstring("tid2013:DIR") && ContainsSubstring("uwiqa:DIR"));
}

TEST_CASE("two data sets may share files, one by way of a shorter side", "[evaluate]") {
  const Workshop shop;
  fs::create_directories(shop.dir / "spaq/TestImage");
  fs::create_directories(shop.dir / "spaq/Annotations");
  std::string scores = "image,score\n", labels = "Image name,MOS\n";
  for (int i = 0; i < 6; ++i) {
    const std::string file = std::to_string(i) + ".ppm",
                      mos = "," + std::to_string(20 * i) + "\n";  // 0 .. 100, SPAQ's scale
    shop.picture("spaq/TestImage/" + file, i);
    labels += file + mos;
    scores += "TestImage/" + file + mos;
  }
  spill(shop.dir / "spaq/Annotations/MOS and Image attribute scores.csv", labels);
  spill(shop.dir / "spaq/shared.csv", scores);
  const auto scored = [&](const std::string& data) {
    const auto run = shop.evaluate(data + " --split all --prompt-file '" PROMPTIQA_SOURCE_DIR
                                          "/weights/prompts/general.safetensors' -q --scores s.csv");
    INFO(run.err);
    REQUIRE(run.code == 0);
    std::vector<std::pair<std::string, double>> all;
    for (const auto& row : table(slurp(shop.dir / "s.csv"))) all.emplace_back(row.at("data"), number(row.at("score")));
    return all;
  };
  // Rounding: products of weights are formed after a few images. By way of 683 x 512 a score moves much further.
  const double rounding = 1e-3;
  const std::string resized = " --data spaq:spaq", plain = " --data csv:spaq/shared.csv";
  const auto first = scored(resized), second = scored(plain);
  REQUIRE(first.size() == 6);
  REQUIRE(second.size() == 6);
  for (std::size_t i = 0; i < 6; ++i) CHECK(std::abs(first[i].second - second[i].second) > 10 * rounding);
  for (const bool turned : {false, true}) {
    auto expected = turned ? second : first;
    const auto& rest = turned ? first : second;
    expected.insert(expected.end(), rest.begin(), rest.end());
    const auto got = scored(turned ? plain + resized : resized + plain);
    REQUIRE(got.size() == expected.size());
    for (std::size_t i = 0; i < got.size(); ++i) {
      CHECK(got[i].first == expected[i].first);
      CHECK(std::abs(got[i].second - expected[i].second) < rounding);
    }
  }
}
