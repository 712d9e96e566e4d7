// Synthesis in miniature: three generated photographs, four versions each; labels against the metrics themselves;
// reopening, changed, new, broken and missing photographs, damaged caches.
// Surprising choice: whether something was computed again is seen from the progress calls, which a reopened cache does
// not make.
#include <promptiqa/data/distortions.hpp>
#include <promptiqa/data/synthesis.hpp>
#include <promptiqa/image/file.hpp>
#include <promptiqa/image/resize.hpp>
#include <promptiqa/metrics/attributes.hpp>
#include <promptiqa/metrics/full_reference.hpp>

#include <algorithm>
#include <chrono>
#include <cmath>
#include <filesystem>
#include <map>
#include <set>
#include <string>
#include <vector>

#include "catch.hpp"
#include "generated_pictures.hpp"
#include "io/io_test_tools.hpp"

using namespace promptiqa;
using data_test::bytes;
using data_test::generated_picture;

namespace {

void write_photograph(const std::string& path, int width, int height, std::uint64_t seed) {
  const auto rgb = bytes(generated_picture(width, height, seed));
  io_test::write_file(path, "P6 " + std::to_string(width) + " " + std::to_string(height) + " 255\n" +
                                std::string(rgb.begin(), rgb.end()));
}

// Three photographs in a folder; the first one is large enough for every metric.
struct Scene {
  Scene() {
    write_photograph(folder / "a.ppm", 190, 180, 1);
    write_photograph(folder / "b.ppm", 70, 50, 2);
    write_photograph(folder / "c.ppm", 48, 64, 3);
    options.versions = 4;
    options.side = 32;
    photographs = {folder / "a.ppm", folder / "b.ppm", folder / "c.ppm"};
  }

  TrainingSet run() {
    calls = 0;
    return synthesise(photographs, folder / "cache", options, pool, [&](std::int64_t done, std::int64_t total) {
      ++calls;
      last_done = done;
      last_total = total;
    });
  }
  std::string cache_bytes() const { return io_test::read_file(folder / "cache"); }

  io_test::TemporaryFolder folder;
  std::vector<std::string> photographs;
  SynthesisOptions options;
  ThreadPool pool{2};
  int calls = 0;
  std::int64_t last_done = 0, last_total = 0;
};

const LabelColumn& column(const TrainingSet& set, const std::string& name) {
  for (const LabelColumn& candidate : set.labels)
    if (candidate.name == name) return candidate;
  throw std::runtime_error("no column " + name);
}

std::vector<std::uint8_t> stored(const TrainingSet& set, std::size_t i) {
  const std::uint8_t* first = set.images->pixels(set.pictures[i]);
  return {first, first + 3 * set.images->side() * set.images->side()};
}

void check_same(const TrainingSet& a, const TrainingSet& b) {
  REQUIRE(a.pictures == b.pictures);
  CHECK(a.photo == b.photo);
  CHECK(a.distortion == b.distortion);
  CHECK(a.skipped == b.skipped);
  REQUIRE(a.labels.size() == b.labels.size());
  for (std::size_t c = 0; c < a.labels.size(); ++c) {
    CHECK(a.labels[c].name == b.labels[c].name);
    REQUIRE(a.labels[c].values.size() == b.labels[c].values.size());
    for (std::size_t i = 0; i < a.pictures.size(); ++i) {
      const float x = a.labels[c].values[i], y = b.labels[c].values[i];
      CHECK((x == y || (std::isnan(x) && std::isnan(y))));
    }
  }
  for (std::size_t i = 0; i < a.pictures.size(); ++i) CHECK((stored(a, i) == stored(b, i)));
}

}  // namespace

TEST_CASE("three photographs, four versions each") {
  Scene scene;
  const TrainingSet set = scene.run();
  CHECK(scene.calls > 0);
  CHECK(scene.last_done == 3);
  CHECK(scene.last_total == 3);
  REQUIRE(set.pictures.size() == 12);
  CHECK(set.images->size() == 12);
  CHECK(set.skipped.empty());
  CHECK(set.photo == std::vector<std::int32_t>{0, 0, 0, 0, 1, 1, 1, 1, 2, 2, 2, 2});
  std::vector<std::string> names;
  for (const LabelColumn& labels : set.labels) {
    names.push_back(labels.name);
    REQUIRE(labels.values.size() == 12);
    CHECK(labels.kind == (labels.name == "level" ? LabelKind::level
                          : names.size() <= 6    ? LabelKind::metric
                                                 : LabelKind::attribute));
  }
  CHECK(names == std::vector<std::string>{"psnr", "ssim", "ms_ssim", "fsim", "gmsd", "vif", "level", "brightness",
                                          "contrast", "colourfulness", "sharpness", "noise"});
  for (const std::size_t first : {0u, 4u, 8u}) {
    // The first version is the photograph itself, as the model sees it, and the best by every metric.
    CHECK(set.distortion[first] == -1);
    const Image photograph = load_image(scene.photographs[first / 4]);
    CHECK((stored(set, first) == bytes(resize_cubic(photograph, 32, 32))));
    CHECK(column(set, "level").values[first] == 1);
    CHECK(column(set, "psnr").values[first] == Approx(10.0 / 11));  // the three share ranks 9, 10 and 11 of 0..11
    for (const char* name : {"ssim", "fsim", "gmsd"}) CHECK(column(set, name).values[first] == Approx(10.0 / 11));
    CHECK(column(set, "vif").values[first] == column(set, "vif").values[0]);  // may be exceeded, but is 1 for all three
    std::set<std::pair<int, float>> drawn;
    for (std::size_t i = first + 1; i < first + 4; ++i) {
      REQUIRE(set.distortion[i] >= 0);
      REQUIRE(set.distortion[i] < distortion_count());
      const float level = column(set, "level").values[i];
      CHECK(std::set<float>{0, 0.2f, 0.4f, 0.6f, 0.8f}.count(std::round(level * 10) / 10) == 1);
      drawn.insert({set.distortion[i], level});
      CHECK(column(set, "psnr").values[i] < column(set, "psnr").values[first]);
    }
    CHECK(drawn.size() == 3);
  }
  // ms_ssim needs 176 pixels: known for the first photograph alone. The others are known throughout.
  for (std::size_t i = 0; i < 12; ++i) {
    CHECK(std::isnan(column(set, "ms_ssim").values[i]) == (i >= 4));
    for (const char* name : {"psnr", "ssim", "fsim", "gmsd", "vif", "brightness", "noise"}) {
      CHECK(column(set, name).values[i] >= 0);
      CHECK(column(set, name).values[i] <= 1);
    }
  }
}

TEST_CASE("labels are the metrics of the picture at the photograph's size, and the attributes of what is stored") {
  Scene scene;
  scene.photographs = {scene.photographs[0]};
  scene.options.versions = 40;
  const TrainingSet set = scene.run();
  const Image photograph = load_image(scene.photographs[0]);
  // The seed of a distortion is not known here, so those that do not draw anything are made again.
  const std::set<std::string> fixed = {
      "gaussian_blur",     "lens_blur",    "jpeg",         "brighten",   "darken",   "contrast_decrease",
      "contrast_increase", "desaturation", "quantisation", "pixelation", "rescaling"};
  std::map<std::string, std::vector<double>> expected;
  std::vector<std::size_t> rows;
  for (std::size_t i = 0; i < set.pictures.size(); ++i) {
    if (set.distortion[i] < 0 || !fixed.count(distortion_name(set.distortion[i]))) continue;
    rows.push_back(i);
    const int level = static_cast<int>(std::lround(5 * (1 - column(set, "level").values[i])));
    const Image picture = distort(photograph, set.distortion[i], level, 0);
    const Image small = resize_cubic(picture, 32, 32);
    REQUIRE((stored(set, i) == bytes(small)));
    expected["psnr"].push_back(psnr(photograph, picture));
    expected["ssim"].push_back(ssim(photograph, picture));
    expected["ms_ssim"].push_back(ms_ssim(photograph, picture));
    expected["fsim"].push_back(fsim(photograph, picture));
    expected["gmsd"].push_back(-gmsd(photograph, picture));
    expected["vif"].push_back(vif(photograph, picture));
    expected["brightness"].push_back(brightness(small));
    expected["contrast"].push_back(contrast(small));
    expected["colourfulness"].push_back(colourfulness(small));
    expected["sharpness"].push_back(sharpness(small));
    expected["noise"].push_back(noise(small));
  }
  REQUIRE(rows.size() >= 6);
  for (const auto& [name, values] : expected) {
    const std::vector<float>& labels = column(set, name).values;
    for (std::size_t i = 0; i < rows.size(); ++i)
      for (std::size_t j = 0; j < rows.size(); ++j) {
        INFO(name << " " << i << " " << j);
        CHECK((labels[rows[i]] < labels[rows[j]]) == (values[i] < values[j]));
      }
  }
}

TEST_CASE("a second run opens the cache, and gives the same") {
  Scene scene;
  const TrainingSet first = scene.run();
  const auto time = std::filesystem::last_write_time(scene.folder / "cache");
  const TrainingSet second = scene.run();
  CHECK(scene.calls == 0);
  CHECK(std::filesystem::last_write_time(scene.folder / "cache") == time);
  check_same(first, second);
  // So does another number of threads, from nothing, in a copy of the folder: nothing depends on place or timing.
  const std::string before = scene.cache_bytes();
  io_test::TemporaryFolder elsewhere;
  std::vector<std::string> copies;
  for (const std::string& photograph : scene.photographs) {
    copies.push_back(elsewhere / std::filesystem::path(photograph).filename().string());
    std::filesystem::copy_file(photograph, copies.back());
  }
  ThreadPool one(1);
  check_same(first, synthesise(copies, elsewhere / "cache", scene.options, one));
}

TEST_CASE("other options make another cache") {
  Scene scene;
  const TrainingSet first = scene.run();
  SECTION("seed") {
    scene.options.seed = 2;
    CHECK(scene.run().distortion != first.distortion);
  }
  SECTION("versions") {
    scene.options.versions = 5;
    CHECK(scene.run().pictures.size() == 15);
  }
  SECTION("side") {
    scene.options.side = 16;
    CHECK(scene.run().images->side() == 16);
  }
  SECTION("longest side") {
    scene.options.longest_side = 100;
    const TrainingSet smaller = scene.run();
    CHECK((stored(smaller, 0) != stored(first, 0)));          // 190 x 180 was shrunk first
    CHECK((stored(smaller, 4) == stored(first, 4)));          // 70 x 50 was not
    CHECK(std::isnan(column(smaller, "ms_ssim").values[0]));  // 100 x 95 is too small for it
  }
  CHECK(scene.calls > 0);
}

TEST_CASE("only what has changed is made again") {
  Scene scene;
  const TrainingSet first = scene.run();
  SECTION("a changed photograph") {
    write_photograph(scene.folder / "b.ppm", 70, 50, 77);  // the same size in bytes, other pixels
    std::filesystem::last_write_time(scene.folder / "b.ppm",
                                     std::filesystem::file_time_type::clock::now() + std::chrono::seconds(5));
    const TrainingSet second = scene.run();
    CHECK(scene.calls > 0);
    for (std::size_t i = 0; i < 12; ++i) CHECK((stored(second, i) == stored(first, i)) == (i / 4 != 1));
    const TrainingSet third = scene.run();
    CHECK(scene.calls == 0);
    check_same(second, third);
  }
  SECTION("a changed time") {
    std::filesystem::last_write_time(scene.folder / "a.ppm",
                                     std::filesystem::file_time_type::clock::now() + std::chrono::seconds(5));
    check_same(first, scene.run());
    CHECK(scene.calls > 0);
  }
  SECTION("a new photograph, and another order") {
    write_photograph(scene.folder / "d.ppm", 40, 40, 9);
    scene.photographs = {scene.folder / "c.ppm", scene.folder / "d.ppm", scene.folder / "a.ppm",
                         scene.folder / "b.ppm"};
    const TrainingSet second = scene.run();
    REQUIRE(second.pictures.size() == 16);
    for (std::size_t i = 0; i < 4; ++i) {
      CHECK((stored(second, i) == stored(first, 8 + i)));
      CHECK((stored(second, 8 + i) == stored(first, i)));
      CHECK((stored(second, 12 + i) == stored(first, 4 + i)));
      CHECK(second.photo[4 + i] == 1);
    }
  }
  SECTION("another order") {
    std::swap(scene.photographs[0], scene.photographs[2]);
    const TrainingSet second = scene.run();
    CHECK(scene.calls > 0);
    for (std::size_t i = 0; i < 4; ++i) CHECK((stored(second, i) == stored(first, 8 + i)));
    scene.run();
    CHECK(scene.calls == 0);
  }
  SECTION("a photograph less") {
    scene.photographs.erase(scene.photographs.begin());
    const TrainingSet second = scene.run();
    CHECK(scene.calls > 0);
    REQUIRE(second.pictures.size() == 8);
    CHECK((stored(second, 0) == stored(first, 4)));
    scene.photographs.pop_back();  // the last one
    CHECK(scene.run().pictures.size() == 4);
  }
}

TEST_CASE("kept rows are not made again") {
  // The pixels of a kept photograph are replaced in the cache by hand, checksums and all: if they survive the next run,
  // they were not computed.
  Scene scene;
  const TrainingSet first = scene.run();
  CacheOptions options;
  options.side = 32;
  {
    ImageCacheWriter writer(scene.folder / "cache", options);
    const std::vector<std::uint8_t> marked(32 * 32 * 3, 42);
    for (std::int64_t i = 0; i < 12; ++i) writer.append(first.images->source(i), marked.data());
    writer.finish(first.images->note());
  }
  write_photograph(scene.folder / "d.ppm", 40, 40, 9);
  scene.photographs.push_back(scene.folder / "d.ppm");
  const TrainingSet second = scene.run();
  for (std::size_t i = 0; i < 12; ++i) CHECK((stored(second, i) == std::vector<std::uint8_t>(32 * 32 * 3, 42)));
  CHECK((stored(second, 12) == bytes(resize_cubic(load_image(scene.folder / "d.ppm"), 32, 32))));
}

TEST_CASE("broken photographs are left out, named, and tried again once they have changed") {
  Scene scene;
  const std::string whole = io_test::read_file(scene.folder / "b.ppm");
  io_test::write_file(scene.folder / "b.ppm", whole.substr(0, whole.size() / 2));
  scene.photographs.insert(scene.photographs.begin() + 1, scene.folder / "missing.png");
  write_photograph(scene.folder / "small.ppm", 40, 15, 4);
  scene.photographs.push_back(scene.folder / "small.ppm");
  for (int run = 0; run < 2; ++run) {  // the second one reopens
    const TrainingSet set = scene.run();
    CHECK((scene.calls == 0) == (run == 1));
    CHECK(set.pictures == std::vector<std::int64_t>{0, 1, 2, 3, 6, 7, 8, 9});
    CHECK(set.photo == std::vector<std::int32_t>{0, 0, 0, 0, 3, 3, 3, 3});
    REQUIRE(set.skipped == std::vector<std::int64_t>{4, 5, 10});
    CHECK_THAT(set.images->error(4), ContainsSubstring("missing.png"));
    CHECK_THAT(set.images->error(5), ContainsSubstring("b.ppm") && ContainsSubstring("truncated"));
    CHECK_THAT(set.images->error(10), ContainsSubstring("small.ppm") && ContainsSubstring("40 x 15"));
    CHECK_THAT(set.images->source(5).file, ContainsSubstring("b.ppm"));
    for (const LabelColumn& labels : set.labels) CHECK(labels.values.size() == 8);
  }
  io_test::write_file(scene.folder / "b.ppm", whole);
  CHECK(scene.run().pictures.size() == 12);
}

TEST_CASE("a damaged cache is made anew") {
  Scene scene;
  const TrainingSet first = scene.run();
  const std::string whole = scene.cache_bytes();
  std::string damaged = whole;
  SECTION("truncated") { damaged.resize(whole.size() - 100); }
  SECTION("truncated to the header") { damaged.resize(5000); }
  SECTION("empty") { damaged.clear(); }
  SECTION("a changed pixel") { damaged[4096 + 500] = static_cast<char>(damaged[4096 + 500] ^ 1); }
  SECTION("a changed label") { damaged[damaged.size() - 100] = static_cast<char>(damaged[damaged.size() - 100] ^ 1); }
  std::filesystem::remove(scene.folder / "cache");  // `first` still maps the whole one
  io_test::write_file(scene.folder / "cache", damaged);
  check_same(first, scene.run());
  CHECK(scene.calls > 0);
  CHECK((scene.cache_bytes() == whole));
}

TEST_CASE("labels that do not fit the pictures are not believed") {
  Scene scene;
  const TrainingSet first = scene.run();
  const std::string note = first.images->note();
  CacheOptions options;
  options.side = 32;
  const auto rewrite = [&](const std::string& other) {
    ImageCacheWriter writer(scene.folder / "cache", options);
    for (std::int64_t i = 0; i < 12; ++i) writer.append(first.images->source(i), first.images->pixels(i));
    writer.finish(other);
  };
  rewrite(note);
  check_same(first, scene.run());
  CHECK(scene.calls == 0);  // rewriting alone changes nothing
  const std::size_t last_line = note.rfind('\n', note.size() - 2) + 1;
  for (const std::string& other :
       {std::string(), std::string("something else"), note.substr(0, last_line), note.substr(0, note.size() - 1),
        note + note.substr(last_line), note.substr(0, last_line) + "x" + note.substr(last_line)}) {
    rewrite(other);
    check_same(first, scene.run());
    CHECK(scene.calls > 0);
  }
}

TEST_CASE("synthesis refuses what it cannot use") {
  Scene scene;
  const auto with = [&](auto change) {
    SynthesisOptions options = scene.options;
    change(options);
    return synthesise(scene.photographs, scene.folder / "cache", options, scene.pool);
  };
  CHECK_THROWS_WITH(with([](SynthesisOptions& o) { o.versions = 0; }), ContainsSubstring("versions must be 1 to 1000"));
  CHECK_THROWS_AS(with([](SynthesisOptions& o) { o.side = 0; }), DataError);
  CHECK_THROWS_AS(with([](SynthesisOptions& o) { o.longest_side = 10; }), DataError);
  CHECK_THROWS_WITH(synthesise({}, scene.folder / "cache", scene.options, scene.pool),
                    ContainsSubstring("no photographs"));
  scene.photographs.push_back(scene.folder / "./a.ppm");
  CHECK_THROWS_WITH(scene.run(), ContainsSubstring("a.ppm' is named twice"));
  scene.photographs = {scene.folder / "no.png", scene.folder / "nothing.png"};
  CHECK_THROWS_WITH(scene.run(), ContainsSubstring("none of the 2 photographs") && ContainsSubstring("no.png"));
  // A file of the user's is not overwritten.
  scene.photographs = {scene.folder / "a.ppm"};
  io_test::write_file(scene.folder / "cache", "my precious notes");
  CHECK_THROWS_AS(scene.run(), DataError);
  CHECK((scene.cache_bytes() == "my precious notes"));
}

TEST_CASE("stopping in between leaves the old cache") {
  Scene scene;
  scene.run();
  const std::string before = scene.cache_bytes();
  scene.options.seed = 5;
  const auto stop = [](std::int64_t, std::int64_t) { throw std::runtime_error("stopped"); };
  CHECK_THROWS_WITH(synthesise(scene.photographs, scene.folder / "cache", scene.options, scene.pool, stop), "stopped");
  CHECK((scene.cache_bytes() == before));
  CHECK(scene.folder.files() == 4);  // no temporary is left
}

TEST_CASE("more versions than there are distortions") {
  Scene scene;
  scene.photographs = {scene.folder / "c.ppm"};
  scene.options.versions = distortion_count() * distortion_levels + 3;
  scene.options.side = 8;
  const TrainingSet set = scene.run();
  REQUIRE(set.pictures.size() == static_cast<std::size_t>(scene.options.versions));
  std::map<std::pair<int, int>, int> drawn;
  for (std::size_t i = 1; i < set.pictures.size(); ++i)
    ++drawn[{set.distortion[i], static_cast<int>(std::lround(5 * column(set, "level").values[i]))}];
  CHECK(drawn.size() == static_cast<std::size_t>(distortion_count() * distortion_levels));
  for (const auto& [pair, times] : drawn) CHECK(times <= 2);
}

TEST_CASE("photographs of a folder") {
  Scene scene;
  std::filesystem::create_directories(scene.folder / "B/deep");
  std::filesystem::create_directories(scene.folder / "folder.png");
  write_photograph(scene.folder / "B/deep/x.PPM", 20, 20, 5);
  io_test::write_file(scene.folder / "notes.txt", "not a photograph");
  std::filesystem::create_directory_symlink(scene.folder.path(), scene.folder / "loop");
  const std::vector<std::string> expected = {scene.folder / "B/deep/x.PPM", scene.folder / "a.ppm",
                                             scene.folder / "b.ppm", scene.folder / "c.ppm"};
  CHECK(find_photographs(scene.folder.path()) == expected);
  CHECK_THROWS_AS(find_photographs(scene.folder / "nowhere"), FileError);
  CHECK_THROWS_AS(find_photographs(scene.folder / "a.ppm"), FileError);
  std::filesystem::create_directories(scene.folder / "empty");
  CHECK_THROWS_WITH(find_photographs(scene.folder / "empty"), ContainsSubstring("no images"));
  const TrainingSet set = synthesise_folder(scene.folder.path(), scene.folder / "cache", scene.options, scene.pool);
  CHECK(set.pictures.size() == 16);
}
