// The program score as a user runs it: files it is given, what it prints, its exit code.
// Surprising choice: the test starts the built program itself, with the shipped weights.
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <string>
#include <utility>
#include <vector>

#include <nlohmann/json.hpp>

#include <promptiqa/io/safetensors.hpp>

#include "../../examples/common/csv.hpp"
#include "../../examples/common/number.hpp"
#include "catch.hpp"
#include "program_files.hpp"

namespace fs = std::filesystem;

namespace {

// A folder of its own with a few small pictures, removed at the end.
struct Workshop {
  const promptiqa_test::TemporaryFolder folder;
  const fs::path dir = folder.path();

  Workshop() {
    fs::create_directories(dir / "photos/deeper");
    for (int i = 0; i < 4; ++i) picture("photos/p" + std::to_string(i) + ".ppm", i);
    picture("photos/deeper/q.ppm", 9);
    spill(dir / "photos/notes.txt", "no picture");
  }

  // 40 x 30 pixels of bands whose sharpness and contrast depend on `kind`.
  void picture(const std::string& name, int kind) const {
    std::string text = "P6\n40 30\n255\n";
    for (int y = 0; y < 30; ++y)
      for (int x = 0; x < 40; ++x)
        for (int c = 0; c < 3; ++c)
          text += static_cast<char>(128 + (kind + 1) * ((x * (kind + 2) / 5 + y / 3 + c) % 2 ? 20 : -20));
    spill(dir / name, text);
  }

  struct Run {
    int code;
    std::string out, err;
  };
  Run score(const std::string& arguments) const {
    const std::string command = "cd '" + dir.string() +
                                "' && PROMPTIQA_WEIGHTS_DIR='" PROMPTIQA_SOURCE_DIR "/weights' '" PROMPTIQA_SCORE "' " +
                                arguments + " >out.txt 2>err.txt </dev/null";
    const int status = std::system(command.c_str());
    return {WIFEXITED(status) ? WEXITSTATUS(status) : -1, slurp(dir / "out.txt"), slurp(dir / "err.txt")};
  }
};

const char* const prompt_text = "subject,score,image\nx,0.9,p0.ppm\nx,0.5,\"p1.ppm\"\r\nx, 0.1 ,p2.ppm\n";

}  // namespace

TEST_CASE("an image is scored with the shipped weights and prompt", "[score]") {
  const Workshop shop;
  const auto run = shop.score("photos/p0.ppm");
  INFO(run.err);
  CHECK(run.code == 0);
  CHECK_THAT(run.out, ContainsSubstring("photos/p0.ppm  0."));
  CHECK(run.err.empty());
}

TEST_CASE("lower precisions give nearly the same scores, or say that the processor has none", "[score]") {
  const Workshop shop;
  const auto scores = [&](const std::string& arguments) {
    const auto run = shop.score("photos --json - " + arguments);
    INFO(run.err);
    REQUIRE(run.code == 0);
    const nlohmann::json result = nlohmann::json::parse(run.out);
    std::vector<double> values;
    for (const auto& image : result.at("images")) values.push_back(image.at("score"));
    REQUIRE(values.size() == 4);
    return std::make_pair(values, run.err);
  };
  const std::vector<double> exact = scores("--precision fp32").first;
  for (const std::string precision : {"bf16", "int8"}) {
    const auto [near, err] = scores("--precision " + precision);
    double off = 0;
    for (std::size_t i = 0; i < near.size(); ++i) off = std::max(off, std::abs(near[i] - exact[i]));
    INFO(precision << " " << err);
    CHECK(off < 0.03);  // patterns, not photographs
    CHECK((err.empty() ? off > 0 : off == 0 && err.find("fp32") != std::string::npos));
  }
}

TEST_CASE("broken images become rows and the others are scored", "[score]") {
  const Workshop shop;
  spill(shop.dir / "photos/broken.png", "\x89PNG\r\n\x1a\nnothing");
  const auto run = shop.score("photos photos/notes.txt gone.jpg --json -");
  INFO(run.err);
  CHECK(run.code == 1);
  const auto result = nlohmann::json::parse(run.out);  // nothing else on standard output
  CHECK(result.at("version").is_string());
  CHECK(result.at("weights").at("id").get<std::string>().size() == 64);
  CHECK(result.at("prompt").at("pairs") == 10);
  std::vector<std::string> scored, failed;
  for (const auto& image : result.at("images")) {
    (image.contains("error") ? failed : scored).push_back(image.at("path"));
    if (!image.contains("error"))
      CHECK((image.at("score") > 0 && image.at("score") < 1 && image.at("logit").is_number()));
  }
  CHECK(scored == std::vector<std::string>{"photos/p0.ppm", "photos/p1.ppm", "photos/p2.ppm", "photos/p3.ppm"});
  CHECK(failed == std::vector<std::string>{"photos/broken.png", "photos/notes.txt", "gone.jpg"});
  CHECK_THAT(run.err, ContainsSubstring("broken.png") && ContainsSubstring("3 of 7 images failed"));
  CHECK(shop.score("photos/p0.ppm --max-pixels 0.001").code == 1);  // 1200 pixels against 1000
}

TEST_CASE("folders: recursion, links that loop, nothing in them", "[score]") {
  const Workshop shop;
  fs::create_directory_symlink("..", shop.dir / "photos/deeper/loop");
  const auto run = shop.score("-r photos --csv - -q");
  CHECK(run.code == 0);
  const auto rows = examples::parse_csv(run.out, "out");
  REQUIRE(rows.size() == 6);
  CHECK(rows[1].fields[0] == "photos/deeper/q.ppm");
  fs::create_directory(shop.dir / "empty");
  const auto empty = shop.score("empty photos/p0.ppm");
  CHECK(empty.code == 1);
  CHECK_THAT(empty.err, ContainsSubstring("empty: there are no images"));
}

TEST_CASE("CSV and JSON carry the same floats, and features their paths", "[score]") {
  const Workshop shop;
  REQUIRE(shop.score("photos gone.png --csv s.csv --json s.json --features f.safetensors -q --batch 3").code == 1);
  const auto rows = examples::read_csv((shop.dir / "s.csv").string());
  const auto result = nlohmann::json::parse(slurp(shop.dir / "s.json"));
  REQUIRE(rows.size() == 6);
  REQUIRE(result.at("images").size() == 5);
  for (std::size_t i = 0; i < 4; ++i) {
    const auto& image = result.at("images")[i];
    CHECK(examples::parse_float(rows[i + 1].fields[1]) == image.at("score").get<float>());
    CHECK(examples::parse_float(rows[i + 1].fields[2]) == image.at("logit").get<float>());
    // Seven digits could not hold every float: the text is the shortest that reads back, so the pair must agree to a
    // few units of the last place of the sigmoid.
    const double p = 1 / (1 + std::exp(-image.at("logit").get<double>()));
    CHECK(image.at("score").get<double>() == Approx(p).epsilon(1e-6));
  }
  CHECK_FALSE(rows[5].fields[3].empty());
  const promptiqa::TensorFile features = promptiqa::read_safetensors((shop.dir / "f.safetensors").string());
  REQUIRE(features.find("image_feature") != nullptr);
  CHECK(features.find("image_feature")->shape == promptiqa::Shape{4, 128});
  CHECK(nlohmann::json::parse(features.metadata.at("paths")).size() == 4);
  // One at a time gives the same numbers.
  REQUIRE(shop.score("photos gone.png --csv one.csv -q --batch 1 --threads 1").code == 1);
  const auto single = examples::read_csv((shop.dir / "one.csv").string());
  for (std::size_t i = 1; i < 5; ++i)
    CHECK(*examples::parse_float(single[i].fields[2]) ==
          Approx(*examples::parse_float(rows[i].fields[2])).margin(1e-5));
}

TEST_CASE("a prompt of one's own, saved and loaded", "[score]") {
  const Workshop shop;
  spill(shop.dir / "photos/mine.csv", prompt_text);
  const auto saved = shop.score("--prompt photos/mine.csv --save-prompt mine.safetensors --prompt-description 'bands'");
  INFO(saved.err);
  REQUIRE(saved.code == 0);  // without images
  CHECK_THAT(saved.err, ContainsSubstring("ignored: subject"));
  REQUIRE(shop.score("--prompt photos/mine.csv photos --csv a.csv -q").code == 0);
  REQUIRE(shop.score("--prompt-file mine.safetensors photos --csv b.csv -q").code == 0);
  CHECK(slurp(shop.dir / "a.csv") == slurp(shop.dir / "b.csv"));
  const auto result = nlohmann::json::parse(shop.score("--prompt-file mine.safetensors photos/p0.ppm --json -").out);
  CHECK(result.at("prompt").at("name") == "mine");
  CHECK(result.at("prompt").at("description") == "bands");

  SECTION("reversed") {
    // Turning the scores round in the program or in the file is the same prompt.
    spill(shop.dir / "photos/turned.csv", "image,score\np0.ppm,0.1\np1.ppm,0.5\np2.ppm,0.9\n");
    REQUIRE(shop.score("--prompt photos/turned.csv photos --csv c.csv -q").code == 0);
    REQUIRE(shop.score("--prompt-file mine.safetensors --reverse-prompt photos --csv d.csv -q").code == 0);
    const auto c = examples::read_csv((shop.dir / "c.csv").string()),
               d = examples::read_csv((shop.dir / "d.csv").string());
    const auto a = examples::read_csv((shop.dir / "a.csv").string());
    for (std::size_t i = 1; i < 5; ++i) {
      // 1 - 0.9f is not 0.1f: the last place of the prompt's scores may differ.
      CHECK(*examples::parse_float(c[i].fields[1]) == Approx(*examples::parse_float(d[i].fields[1])).margin(1e-5));
      CHECK(a[i].fields[1] != d[i].fields[1]);
    }
  }
  SECTION("in another scale") {
    spill(shop.dir / "photos/five.csv", "image,score\np0.ppm,4.6\np1.ppm,3\np2.ppm,1.4\n");  // 1 + 4 s
    REQUIRE(shop.score("--prompt photos/five.csv --scale 1 5 photos --csv e.csv -q").code == 0);
    const auto a = examples::read_csv((shop.dir / "a.csv").string()),
               e = examples::read_csv((shop.dir / "e.csv").string());
    for (std::size_t i = 1; i < 5; ++i)
      CHECK(*examples::parse_float(e[i].fields[1]) ==
            Approx(1 + 4 * *examples::parse_float(a[i].fields[1])).margin(1e-4));
  }
}

TEST_CASE("prompt errors name file, line and pair", "[score]") {
  const Workshop shop;
  const auto complaint = [&](const std::string& text) {
    spill(shop.dir / "photos/bad.csv", text);
    const auto run = shop.score("--prompt photos/bad.csv photos/p3.ppm");
    CHECK(run.code == 2);
    CHECK(run.out.empty());
    return run.err;
  };
  CHECK_THAT(complaint(""), ContainsSubstring("photos/bad.csv: the file is empty"));
  CHECK_THAT(complaint("image,score\n"), ContainsSubstring("no image-score pair"));
  CHECK_THAT(complaint("p0.ppm,0.5\np1.ppm,0.6\n"),
             ContainsSubstring("bad.csv:1") && ContainsSubstring("image and score"));
  CHECK_THAT(complaint("image;score\np0.ppm;0.5\n"), ContainsSubstring("separated by commas"));
  CHECK_THAT(complaint("image,score\np0.ppm,0.5\n\ngone.png,0.5\n"),
             ContainsSubstring("bad.csv:4: pair 2") && ContainsSubstring("gone.png"));
  CHECK_THAT(complaint("image,score\np0.ppm,good\n"),
             ContainsSubstring("bad.csv:2: pair 1") && ContainsSubstring("\"good\""));
  CHECK_THAT(complaint("image,score\np0.ppm,nan\n"),
             ContainsSubstring("bad.csv:2: pair 1") && ContainsSubstring("finite"));
  CHECK_THAT(complaint("image,score\np0.ppm,0.5\np1.ppm,7\n"),
             ContainsSubstring("bad.csv:3: pair 2") && ContainsSubstring("--scale"));
  CHECK_THAT(complaint("image,score\np0.ppm\n"),
             ContainsSubstring("bad.csv:2: pair 1") && ContainsSubstring("1 of the header's 2"));
  CHECK_THAT(complaint("image,score\np0.ppm,0,5\n"),
             ContainsSubstring("bad.csv:2: pair 1") && ContainsSubstring("3 columns, the header 2"));
  CHECK_THAT(complaint("image,score\np0.ppm,1e-400\n"), ContainsSubstring("bad.csv:2: pair 1"));
  CHECK_THAT(complaint("image,score\nnotes.txt,0.5\n"),
             ContainsSubstring("bad.csv:2: pair 1") && ContainsSubstring("notes.txt"));

  spill(shop.dir / "photos/twice.csv", "image,score\np0.ppm,0.2\np1.ppm,0.4\n./p0.ppm,0.9\n");
  const auto twice = shop.score("--prompt photos/twice.csv photos/p3.ppm");
  CHECK(twice.code == 0);
  CHECK_THAT(twice.err, ContainsSubstring("twice.csv:4: pair 3") && ContainsSubstring("is pair 1 already"));
}

TEST_CASE("wrong usage", "[score]") {
  const Workshop shop;
  CHECK(shop.score("").code == 2);
  CHECK(shop.score("photos --json - --csv -").code == 2);
  CHECK(shop.score("photos --threads none").code == 2);
  CHECK(shop.score("photos --prompt a.csv --prompt-file b").code == 2);
  CHECK(shop.score("photos --weights photos/notes.txt").code == 2);
  CHECK(shop.score("photos --prompt-file photos/notes.txt").code == 2);
  CHECK(shop.score("photos --json same --csv same").code == 2);
  CHECK(shop.score("photos --max-pixels nan").code == 2);
  CHECK(shop.score("photos --prompt /dev/zero").code == 2);
  CHECK(shop.score("photos --prompt photos/bad.csv --scale -3e38 3e38").code == 2);
  const auto folder = shop.score("photos --json missing/folder/out.json");
  CHECK(folder.code == 2);
  CHECK_THAT(folder.err, ContainsSubstring("missing/folder/out.json"));
  const auto help = shop.score("--help");
  CHECK(help.code == 0);
  CHECK_THAT(help.out, ContainsSubstring("--save-prompt") && ContainsSubstring("Exit code"));
}

TEST_CASE("--timing says on standard error where the time went", "[score]") {
  const Workshop shop;
  const auto run = shop.score("--timing --csv - -q photos");
  CHECK(run.code == 0);
  for (const char* part : {"read, decode", "resize", "model features", "heads, output", "4 images", "100.0%"})
    CHECK_THAT(run.err, ContainsSubstring(part));
  CHECK(run.out == shop.score("--csv - -q photos").out);
}
