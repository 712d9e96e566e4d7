// Batches of cached pictures: the same numbers as scoring gets, in the order they were asked for.
// Surprising choice: batches carry their number in their pixels, so a wrong order shows as wrong values.
#include <promptiqa/data/prefetch.hpp>

#include <algorithm>
#include <memory>
#include <string>
#include <vector>

#include <promptiqa/image/image.hpp>
#include <promptiqa/image/preprocess.hpp>

#include "catch.hpp"
#include "data_test_tools.hpp"

using namespace promptiqa;
using data_test::TemporaryFolder;

namespace {

constexpr int side = 5;
constexpr std::size_t plane = side * side, picture_values = 3 * plane;

/// Pictures of pseudo-random bytes; the last one is unusable.
std::shared_ptr<const ImageCache> make_cache(const std::string& path, int count, int picture_side = side) {
  ImageCacheWriter writer(path, CacheOptions{picture_side, 0});
  for (int i = 0; i < count; ++i) {
    const std::string pixels = data_test::ppm(picture_side, picture_side, static_cast<unsigned>(i)).substr(11);
    writer.append({std::to_string(i), 0, 0}, reinterpret_cast<const std::uint8_t*>(pixels.data()));
  }
  writer.append_unusable({"bad", 0, 0}, "nothing to see");
  return writer.finish();
}

/// What scoring would make of a row: a picture of the right size passes the resize unchanged.
std::vector<float> preprocessed(const ImageCache& cache, std::int64_t row) {
  std::vector<float> values(picture_values);
  preprocess_to_chw(Image::view(cache.pixels(row), side, side, 3), side, values.data());
  return values;
}

std::vector<float> mirrored(const std::vector<float>& values) {
  std::vector<float> result(values.size());
  for (std::size_t i = 0; i < values.size(); ++i) {
    const std::size_t x = i % side;
    result[i - x + (side - 1 - x)] = values[i];
  }
  return result;
}

}  // namespace

TEST_CASE("pictures become the network's input", "[data]") {
  const TemporaryFolder folder;
  const auto cache = make_cache(folder / "a", 4), other = make_cache(folder / "b", 7);
  std::vector<float> out(3 * picture_values);
  pictures_to_nchw({{cache, 2, false}, {other, 6, true}, {cache, 0, false}}, out.data());
  const auto picture = [&](std::size_t n) {
    const auto first = out.begin() + static_cast<std::ptrdiff_t>(n * picture_values);
    return std::vector<float>(first, first + picture_values);
  };
  CHECK(picture(0) == preprocessed(*cache, 2));
  CHECK(picture(1) == mirrored(preprocessed(*other, 6)));
  CHECK(picture(2) == preprocessed(*cache, 0));
  CHECK(*std::min_element(out.begin(), out.end()) >= -1.0f);
  CHECK(*std::max_element(out.begin(), out.end()) <= 1.0f);
  CHECK_NOTHROW(pictures_to_nchw({}, nullptr));
}

TEST_CASE("a batch that cannot be made says which picture", "[data]") {
  const TemporaryFolder folder;
  const auto cache = make_cache(folder / "a", 2), larger = make_cache(folder / "b", 2, 6);
  std::vector<float> out(2 * 3 * 36, 9.0f);
  const auto fails = [&](const std::vector<BatchPicture>& pictures, const std::string& message) {
    CHECK_THROWS_AS(pictures_to_nchw(pictures, out.data()), DataError);
    CHECK_THROWS_WITH(pictures_to_nchw(pictures, out.data()), ContainsSubstring(message));
    CHECK(out == std::vector<float>(out.size(), 9.0f));  // all is checked before anything is written
  };
  fails({{cache, 0, false}, {cache, 3, false}}, "picture 2: row 3");
  fails({{cache, -1, false}}, "picture 1: row -1");
  fails({{cache, 0, false}, {cache, 2, false}}, "nothing to see");
  fails({{cache, 0, false}, {larger, 0, false}}, "the side is 6");
  fails({{cache, 0, false}, {nullptr, 0, false}}, "no image cache");
}

TEST_CASE("batches come in the order they were submitted", "[data]") {
  const TemporaryFolder folder;
  constexpr int pictures = 16, batches = 300;
  const auto cache = make_cache(folder / "a", pictures);
  std::vector<std::vector<float>> expected;
  for (int i = 0; i < pictures; ++i) expected.push_back(preprocessed(*cache, i));
  Prefetcher prefetcher;
  std::vector<float> out;
  int submitted = 0, wrong = 0;
  for (int taken = 0; taken < batches; ++taken) {
    // Between one and seven ahead, and batches of several sizes.
    while (submitted < batches && submitted < taken + 1 + taken % 7) {
      std::vector<BatchPicture> batch;
      for (int k = 0; k <= submitted % 3; ++k) batch.push_back({cache, (submitted + k) % pictures, submitted % 2 == 1});
      prefetcher.submit(std::move(batch));
      ++submitted;
    }
    CHECK(prefetcher.pending() == static_cast<std::size_t>(submitted - taken));
    prefetcher.take(out);
    std::vector<float> right;
    for (int k = 0; k <= taken % 3; ++k) {
      const std::vector<float>& one = expected[static_cast<std::size_t>((taken + k) % pictures)];
      const std::vector<float> turned = taken % 2 ? mirrored(one) : one;
      right.insert(right.end(), turned.begin(), turned.end());
    }
    wrong += out != right;
  }
  CHECK(wrong == 0);
  CHECK(prefetcher.pending() == 0);
  CHECK_THROWS_AS(prefetcher.take(out), DataError);
}

TEST_CASE("a failed batch fails where it is taken, and the next goes on", "[data]") {
  const TemporaryFolder folder;
  const auto cache = make_cache(folder / "a", 3);
  Prefetcher prefetcher;
  prefetcher.submit({{cache, 0, false}});
  prefetcher.submit({{cache, 99, false}});
  prefetcher.submit({{nullptr, 0, false}});
  prefetcher.submit({{cache, 1, true}});
  prefetcher.submit({});
  std::vector<float> out;
  prefetcher.take(out);
  CHECK(out == preprocessed(*cache, 0));
  CHECK_THROWS_WITH(prefetcher.take(out), ContainsSubstring("row 99"));
  CHECK_THROWS_AS(prefetcher.take(out), DataError);
  prefetcher.take(out);
  CHECK(out == mirrored(preprocessed(*cache, 1)));
  prefetcher.take(out);
  CHECK(out.empty());
}

TEST_CASE("a prefetcher ends with batches left", "[data]") {
  const TemporaryFolder folder;
  const auto cache = make_cache(folder / "a", 3);
  for (int round = 0; round < 20; ++round) {
    Prefetcher prefetcher;
    for (int i = 0; i < round; ++i) prefetcher.submit({{cache, i % 3, false}});
  }
  CHECK(cache.use_count() == 1);  // nothing holds on to the pictures
}
