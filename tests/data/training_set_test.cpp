// Training sets: normalised scores, attributes as ranks, pictures that cannot be read.
// Surprising choice: the pictures are plain patterns whose order by brightness and contrast is plain to see.
#include <promptiqa/data/training_set.hpp>

#include <cmath>
#include <limits>
#include <memory>
#include <string>
#include <vector>

#include <promptiqa/metrics/attributes.hpp>

#include "catch.hpp"
#include "data_test_tools.hpp"

using namespace promptiqa;
using data_test::TemporaryFolder;
using data_test::write_file;

namespace {

/// A chequered PPM of 8 x 8 pixels of these two gray levels.
std::string chequers(int dark, int light) {
  std::string text = "P6\n8 8\n255\n";
  for (int y = 0; y < 8; ++y)
    for (int x = 0; x < 8; ++x) text += std::string(3, static_cast<char>((x + y) % 2 ? light : dark));
  return text;
}

struct Fixture {
  TemporaryFolder folder;
  ThreadPool pool{2};
  Dataset data;

  void add(const std::string& contents, float score) {
    const std::string file = folder / (std::to_string(data.items.size()) + ".ppm");
    write_file(file, contents);
    data.items.push_back({file, score, "", ""});
  }
  std::shared_ptr<const ImageCache> cache() {
    return ImageCache::build_or_open(folder / "c", image_files(data), CacheOptions{8, 0}, pool);
  }
};

const LabelColumn& column(const TrainingSet& set, const std::string& name) {
  for (const LabelColumn& label : set.labels)
    if (label.name == name) return label;
  throw std::runtime_error("no column " + name);
}

}  // namespace

TEST_CASE("ranks fill [0,1], ties share", "[data]") {
  const double nan = std::numeric_limits<double>::quiet_NaN();
  CHECK(ranks(std::vector<double>{3, 1, 2}) == std::vector<float>{1, 0, 0.5f});
  CHECK(ranks(std::vector<double>{5, 1, 5, 9, 5}) == std::vector<float>{0.5f, 0, 0.5f, 1, 0.5f});
  CHECK(ranks(std::vector<double>{2, 2}) == std::vector<float>{0.5f, 0.5f});
  CHECK(ranks(std::vector<double>{7}) == std::vector<float>{0.5f});
  CHECK(ranks(std::vector<double>{}).empty());
  const double infinity = std::numeric_limits<double>::infinity();
  CHECK(ranks(std::vector<double>{infinity, 0, -infinity}) == std::vector<float>{1, 0.5f, 0});
  const std::vector<float> known = ranks(std::vector<double>{4, nan, 2, 8});
  CHECK(known[0] == 0.5f);
  CHECK(std::isnan(known[1]));
  CHECK(known[2] == 0.0f);
  CHECK(known[3] == 1.0f);
}

TEST_CASE("a training set has normalised scores and attributes as ranks", "[data]") {
  Fixture f;
  f.data.name = "patterns";
  f.data.scale_min = 0;
  f.data.scale_max = 10;
  f.add(chequers(0, 60), 1);     // mean 30, contrast 30
  f.add(chequers(90, 110), 2);   // mean 100, contrast 10
  f.add(chequers(200, 240), 8);  // mean 220, contrast 20
  f.add(chequers(0, 255), 10);   // mean 127.5, contrast 127.5; left out below
  const std::vector<std::int64_t> rows = {2, 0, 1};
  const TrainingSet set = make_training_set(f.data, rows, f.cache(), f.pool);
  CHECK(set.name == "patterns");
  CHECK(set.pictures == rows);
  CHECK(set.skipped.empty());
  CHECK(set.photo.empty());
  CHECK(set.distortion.empty());
  REQUIRE(set.labels.size() == 6);
  CHECK(set.labels[0].name == "score");
  CHECK(set.labels[0].kind == LabelKind::score);
  CHECK(set.labels[0].values == std::vector<float>{0.8f, 0.1f, 0.2f});
  const char* names[] = {"brightness", "contrast", "colourfulness", "sharpness", "noise"};
  for (std::size_t a = 0; a < 5; ++a) {
    CHECK(set.labels[a + 1].name == names[a]);
    CHECK(set.labels[a + 1].kind == LabelKind::attribute);
    CHECK(set.labels[a + 1].values.size() == 3);
  }
  CHECK(column(set, "brightness").values == std::vector<float>{1, 0, 0.5f});
  CHECK(column(set, "contrast").values == std::vector<float>{0.5f, 1, 0});
  CHECK(column(set, "colourfulness").values == std::vector<float>{0.5f, 0.5f, 0.5f});  // all gray
  // On chequers the Laplacian is +-4 times the step everywhere, so both order as the contrast does.
  CHECK(column(set, "sharpness").values == std::vector<float>{0.5f, 1, 0});
  CHECK(column(set, "noise").values == std::vector<float>{0.5f, 1, 0});
}

TEST_CASE("pictures that cannot be read are left out, up to one in a hundred", "[data]") {
  Fixture f;
  std::vector<std::int64_t> rows;
  for (int i = 0; i < 200; ++i) {
    f.add(i == 7 || i == 150 ? "broken" : chequers(i, i + 1), 0.5f);
    rows.push_back(i);
  }
  const TrainingSet set = make_training_set(f.data, rows, f.cache(), f.pool);
  CHECK(set.skipped == std::vector<std::int64_t>{7, 150});
  REQUIRE(set.pictures.size() == 198);
  CHECK(set.pictures[7] == 8);
  CHECK(set.pictures[149] == 151);
  for (const LabelColumn& label : set.labels) CHECK(label.values.size() == 198);
  // A part of the set may have more of them, but not nothing else.
  const std::vector<std::int64_t> part = {3, 7, 150};
  CHECK(make_training_set(f.data, part, f.cache(), f.pool).skipped == std::vector<std::int64_t>{7, 150});
  const std::vector<std::int64_t> broken = {7, 150};
  CHECK_THROWS_WITH(make_training_set(f.data, broken, f.cache(), f.pool), ContainsSubstring("none of these 2"));
  f.data.items.pop_back();  // two of 199 are more than 1%
  rows.pop_back();
  CHECK_THROWS_AS(make_training_set(f.data, rows, f.cache(), f.pool), DataError);
  CHECK_THROWS_WITH(make_training_set(f.data, rows, f.cache(), f.pool),
                    ContainsSubstring("2 of 199") && ContainsSubstring("7.ppm") && ContainsSubstring("150.ppm"));
}

TEST_CASE("a training set of something else is refused", "[data]") {
  Fixture f;
  f.add(chequers(1, 2), 0.5f);
  f.add(chequers(3, 4), 0.5f);
  const auto cache = f.cache();
  const auto fails = [&](const Dataset& data, std::vector<std::int64_t> rows, std::shared_ptr<const ImageCache> images,
                         const std::string& message) {
    CHECK_THROWS_AS(make_training_set(data, rows, images, f.pool), DataError);
    CHECK_THROWS_WITH(make_training_set(data, rows, images, f.pool), ContainsSubstring(message));
  };
  fails(f.data, {}, cache, "at least one");
  fails(f.data, {0, 2}, cache, "row 2");
  fails(f.data, {-1}, cache, "row -1");
  fails(f.data, {0}, nullptr, "0 pictures");
  Dataset other = f.data;
  std::swap(other.items[0], other.items[1]);
  fails(other, {0}, cache, "other pictures");
  other.items.pop_back();
  fails(other, {0}, cache, "has 2 pictures");
}

TEST_CASE("a cached image keeps its cache alive", "[data]") {
  Fixture f;
  f.add(chequers(10, 20), 0.5f);
  f.add("broken", 0.5f);
  auto cache = f.cache();
  CHECK_THROWS_AS(cached_image(cache, 1), DataError);
  CHECK_THROWS_AS(cached_image(cache, 2), DataError);
  CHECK_THROWS_AS(cached_image(cache, -1), DataError);
  CHECK_THROWS_AS(cached_image(nullptr, 0), DataError);
  const Image image = cached_image(cache, 0);
  cache.reset();
  CHECK(image.is_rgb8());
  CHECK(image.width() == 8);
  CHECK(image.row(0)[0] == 10);
  CHECK(image.row(0)[3] == 20);
  CHECK(brightness(image) == Approx(15));
}
