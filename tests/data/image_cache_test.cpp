// The image cache: what it holds, when it is built anew, and that no damaged file is ever trusted.
// Surprising choice: whether a row was decoded again is seen by replacing a source by another of the same size and
// time; the cache cannot tell, so the old pixels prove that the row was kept.
#include <promptiqa/data/image_cache.hpp>

#include <fcntl.h>
#include <sys/stat.h>

#include <algorithm>
#include <cstring>
#include <filesystem>
#include <memory>
#include <string>
#include <vector>

#include <promptiqa/image/file.hpp>
#include <promptiqa/image/resize.hpp>

#include "catch.hpp"
#include "data_test_tools.hpp"

using namespace promptiqa;
using data_test::ppm;
using data_test::TemporaryFolder;
using data_test::write_file;

namespace {

/// Five pictures of several sizes; number 3 is broken.
struct Pictures {
  TemporaryFolder folder;
  std::vector<std::string> files;
  std::string path = folder / "pictures.cache";
  CacheOptions options{8, 0};
  ThreadPool pool{3};
  int calls = 0;  // of progress; none when the cache was taken as it is
  std::int64_t last_done = 0;

  Pictures() {
    for (int i = 0; i < 5; ++i) {
      files.push_back(folder / ("p" + std::to_string(i) + ".ppm"));
      write_file(files.back(), i == 3 ? "P6 broken" : ppm(10 + 7 * i, 20 - 3 * i, static_cast<unsigned>(i)));
    }
  }

  std::shared_ptr<const ImageCache> get() {
    calls = 0;
    return ImageCache::build_or_open(path, files, options, pool, [this](std::int64_t done, std::int64_t total) {
      ++calls;
      last_done = done;
      if (total != static_cast<std::int64_t>(files.size())) throw std::runtime_error("wrong total");
    });
  }
};

std::vector<std::uint8_t> row(const ImageCache& cache, std::int64_t i) {
  return {cache.pixels(i), cache.pixels(i) + cache.side() * cache.side() * 3};
}

/// What row i must be, from the library's own reader and resizer.
std::vector<std::uint8_t> decoded(const std::string& file, int side) {
  std::vector<std::uint8_t> pixels(static_cast<std::size_t>(side) * static_cast<std::size_t>(side) * 3);
  resize_cubic(load_image(file), side, side, pixels.data());
  return pixels;
}

void check_contents(const Pictures& pictures, const ImageCache& cache) {
  REQUIRE(cache.size() == static_cast<std::int64_t>(pictures.files.size()));
  CHECK(cache.side() == pictures.options.side);
  for (std::int64_t i = 0; i < cache.size(); ++i) {
    const std::string& file = pictures.files[static_cast<std::size_t>(i)];
    CHECK(cache.source(i).file == file);
    CHECK(cache.usable(i) == (i != 3));
    if (cache.usable(i)) CHECK(row(cache, i) == decoded(file, pictures.options.side));
  }
}

/// Other contents with the time of the old ones.
void replace_unnoticed(const std::string& file, const std::string& contents) {
  struct stat status {};
  REQUIRE(::stat(file.c_str(), &status) == 0);
  write_file(file, contents);
  const timespec times[2] = {status.st_atim, status.st_mtim};
  REQUIRE(::utimensat(AT_FDCWD, file.c_str(), times, 0) == 0);
}

}  // namespace

TEST_CASE("a cache holds every picture as the model sees it", "[data]") {
  Pictures pictures;
  const auto cache = pictures.get();
  CHECK(pictures.calls > 0);
  CHECK(pictures.last_done == 5);
  check_contents(pictures, *cache);
  CHECK_THAT(cache->error(3), ContainsSubstring("p3.ppm"));
  CHECK(row(*cache, 3) == std::vector<std::uint8_t>(8 * 8 * 3, 0));
  CHECK(cache->error(0).empty());
  CHECK(cache->note().empty());
  CHECK(cache->path() == pictures.path);
  CHECK(pictures.folder.files() == 6);  // no temporary is left

  const auto again = pictures.get();
  CHECK(pictures.calls == 0);  // opened, not built
  check_contents(pictures, *again);
  check_contents(pictures, *ImageCache::open(pictures.path, pictures.pool));
}

TEST_CASE("only what changed is decoded again", "[data]") {
  Pictures pictures;
  const auto first = pictures.get();
  const std::vector<std::uint8_t> old_row = row(*first, 0);
  replace_unnoticed(pictures.files[0], ppm(10, 20, 77));
  pictures.get();
  CHECK(pictures.calls == 0);

  SECTION("a picture with another size") { replace_unnoticed(pictures.files[1], ppm(5, 6, 9)); }
  SECTION("a picture with another time") {
    write_file(pictures.files[1], ppm(17, 17, 9));
    const timespec times[2] = {{0, UTIME_OMIT}, {1'000'000'000, 1}};
    REQUIRE(::utimensat(AT_FDCWD, pictures.files[1].c_str(), times, 0) == 0);
  }
  SECTION("a picture that was broken") {
    write_file(pictures.files[3], ppm(4, 4, 3));
    const auto cache = pictures.get();
    CHECK(pictures.calls > 0);
    CHECK(cache->usable(3));
    CHECK(row(*cache, 3) == decoded(pictures.files[3], 8));
    CHECK(row(*cache, 0) == old_row);
    return;
  }
  SECTION("a picture that is gone") {
    std::filesystem::remove(pictures.files[1]);
    const auto cache = pictures.get();
    CHECK_FALSE(cache->usable(1));
    CHECK_THAT(cache->error(1), ContainsSubstring("no such file"));
    pictures.get();
    CHECK(pictures.calls == 0);  // still gone: nothing to do
    write_file(pictures.files[1], ppm(6, 6, 1));
  }
  const auto cache = pictures.get();
  CHECK(pictures.calls > 0);
  CHECK(row(*cache, 1) == decoded(pictures.files[1], 8));
  CHECK(row(*cache, 0) == old_row);  // kept: its source looks unchanged
  CHECK(row(*first, 0) == old_row);  // a cache in use is not pulled away
}

TEST_CASE("another list of files keeps the rows that are in both", "[data]") {
  Pictures pictures;
  const std::vector<std::uint8_t> old_row = row(*pictures.get(), 4);
  replace_unnoticed(pictures.files[4], ppm(38, 8, 1234));
  pictures.files = {pictures.files[4], pictures.files[1], pictures.files[4]};
  const auto cache = pictures.get();
  CHECK(pictures.calls > 0);
  REQUIRE(cache->size() == 3);
  CHECK(row(*cache, 0) == old_row);
  CHECK(row(*cache, 1) == decoded(pictures.files[1], 8));
  CHECK(row(*cache, 2) == old_row);
}

TEST_CASE("other options build the cache anew", "[data]") {
  Pictures pictures;
  pictures.get();
  SECTION("side") {
    pictures.options.side = 11;
    const auto cache = pictures.get();
    CHECK(pictures.calls > 0);
    check_contents(pictures, *cache);
  }
  SECTION("shorter side first") {
    pictures.options.short_side = 6;
    const auto cache = pictures.get();
    CHECK(pictures.calls > 0);
    CHECK(cache->short_side() == 6);
    // p1 has 17 x 17 pixels, p2 24 x 14: 10 x 6 when the shorter side is 6 (24 * 6 / 14 = 10.3).
    for (const auto& [i, width] : {std::pair<int, int>{1, 6}, {2, 10}}) {
      std::vector<std::uint8_t> expected(8 * 8 * 3);
      const Image small = resize_cubic(load_image(pictures.files[static_cast<std::size_t>(i)]), 6, width);
      resize_cubic(small, 8, 8, expected.data());
      CHECK(row(*cache, i) == expected);
    }
  }
  for (int side : {0, -1, 5000}) {
    pictures.options.side = side;
    CHECK_THROWS_AS(pictures.get(), DataError);
  }
}

TEST_CASE("a damaged cache is built anew", "[data]") {
  Pictures pictures;
  pictures.get();
  const std::string whole = io_test::read_file(pictures.path);
  constexpr std::size_t rows_at = 4096, row_bytes = 8 * 8 * 3, index_at = rows_at + 5 * row_bytes;
  const auto rebuilt = [&](std::string contents) {
    io_test::write_file(pictures.path, contents);
    CHECK_THROWS_AS(ImageCache::open(pictures.path, pictures.pool), DataError);
    check_contents(pictures, *pictures.get());
    CHECK(pictures.calls > 0);
    CHECK(io_test::read_file(pictures.path) == whole);
  };
  // Truncated anywhere (from the first byte that tells that it was a cache), and longer than it was.
  for (std::size_t size : {std::size_t{8}, std::size_t{100}, rows_at, rows_at + row_bytes, index_at, index_at + 9,
                           whole.size() - 57, whole.size() - 56, whole.size() - 1})
    rebuilt(whole.substr(0, size));
  rebuilt(whole + "more");
  // One wrong bit in the header, in a row, in the index, in the trailer.
  for (std::size_t at : {std::size_t{0}, std::size_t{8}, std::size_t{12}, std::size_t{16}, std::size_t{20}, rows_at,
                         rows_at + 3 * row_bytes, index_at - 1, index_at, index_at + 8, index_at + 60,
                         whole.size() - 56, whole.size() - 48, whole.size() - 40, whole.size() - 1}) {
    INFO("byte " << at);
    std::string bad = whole;
    bad[at] = static_cast<char>(bad[at] ^ 0x10);
    rebuilt(bad);
  }
}

TEST_CASE("a damaged row is the only one decoded again", "[data]") {
  Pictures pictures;
  const std::vector<std::uint8_t> old_row = row(*pictures.get(), 0);
  replace_unnoticed(pictures.files[0], ppm(10, 20, 77));
  std::string bad = io_test::read_file(pictures.path);
  bad[4096 + 2 * 8 * 8 * 3 + 5] ^= 1;  // picture 2
  io_test::write_file(pictures.path, bad);
  const auto cache = pictures.get();
  CHECK(pictures.calls > 0);
  CHECK(row(*cache, 2) == decoded(pictures.files[2], 8));
  CHECK(row(*cache, 0) == old_row);
}

TEST_CASE("every single bit of a cache counts", "[data]") {
  const TemporaryFolder folder;
  ThreadPool pool(1);
  const std::string path = folder / "small.cache";
  {
    ImageCacheWriter writer(path, CacheOptions{2, 0});
    const std::uint8_t pixels[12] = {1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12};
    writer.append({"made/1", 10, 20}, pixels);
    writer.append_unusable({"made/2", 11, -21}, "too dark");
    writer.finish("labels");
  }
  const std::string whole = io_test::read_file(path);
  for (std::size_t at = 0; at < whole.size(); at = at == 23 ? 4096 : at + 1) {  // the rest of the header is not used
    for (int bit = 0; bit < 8; ++bit) {
      std::string bad = whole;
      bad[at] = static_cast<char>(bad[at] ^ (1 << bit));
      io_test::write_file(path, bad);
      bool refused = false;
      try {
        ImageCache::open(path, pool);
      } catch (const DataError&) {
        refused = true;
      }
      if (!refused) FAIL("byte " << at << ", bit " << bit << " was not missed");
    }
  }
  io_test::write_file(path, whole);
  CHECK(ImageCache::open(path, pool)->note() == "labels");
}

TEST_CASE("a writer stores pictures, errors and a note", "[data]") {
  const TemporaryFolder folder;
  ThreadPool pool(2);
  const std::string path = folder / "made.cache";
  std::vector<std::uint8_t> pixels(4 * 4 * 3);
  {
    ImageCacheWriter dropped(path, CacheOptions{4, 0});
    dropped.append({"a", 1, 2}, pixels.data());
  }
  CHECK_FALSE(std::filesystem::exists(path));
  CHECK(folder.files() == 0);
  ImageCacheWriter writer(path, CacheOptions{4, 0});
  for (int i = 0; i < 200; ++i) {
    std::fill(pixels.begin(), pixels.end(), static_cast<std::uint8_t>(i));
    if (i == 150)
      writer.append_unusable({"made", 3, 4}, "no light");
    else
      writer.append({"row " + std::to_string(i), static_cast<std::uint64_t>(i), -i}, pixels.data());
  }
  CHECK(writer.size() == 200);
  const auto cache = writer.finish(std::string("a\0b", 3));
  CHECK(cache->note() == std::string("a\0b", 3));
  const auto reopened = ImageCache::open(path, pool);
  REQUIRE(reopened->size() == 200);
  CHECK(reopened->note() == std::string("a\0b", 3));
  CHECK(reopened->error(150) == "no light");
  CHECK(reopened->source(199).file == "row 199");
  CHECK(reopened->source(199).bytes == 199);
  CHECK(reopened->source(199).modified_ns == -199);
  for (int i : {0, 63, 64, 149, 151, 199})
    CHECK(row(*reopened, i) == std::vector<std::uint8_t>(48, static_cast<std::uint8_t>(i)));
}

TEST_CASE("an empty list gives an empty cache", "[data]") {
  Pictures pictures;
  pictures.files.clear();
  CHECK(pictures.get()->size() == 0);
  CHECK(pictures.get()->size() == 0);
}

TEST_CASE("a file that never was a cache is not overwritten", "[data]") {
  Pictures pictures;
  pictures.path = pictures.files[0];
  const std::string before = io_test::read_file(pictures.path);
  CHECK_THROWS_AS(pictures.get(), DataError);
  CHECK_THROWS_AS(ImageCacheWriter(pictures.path, CacheOptions{4, 0}), DataError);
  CHECK(io_test::read_file(pictures.path) == before);
  pictures.path = pictures.folder / "empty";
  io_test::write_file(pictures.path, "");  // an empty file is nobody's work
  CHECK(pictures.get()->size() == 5);
  pictures.path = pictures.folder / "no/such/folder/x.cache";
  CHECK_THROWS_AS(pictures.get(), FileError);
}

TEST_CASE("an interrupted build leaves the old cache", "[data]") {
  Pictures pictures;
  pictures.get();
  const std::string before = io_test::read_file(pictures.path);
  const CacheOptions other{9, 0};
  const auto stop = [](std::int64_t, std::int64_t) { throw std::runtime_error("stop"); };
  CHECK_THROWS_WITH(ImageCache::build_or_open(pictures.path, pictures.files, other, pictures.pool, stop),
                    ContainsSubstring("stop"));
  CHECK(io_test::read_file(pictures.path) == before);
  CHECK(pictures.folder.files() == 6);
}

TEST_CASE("a cache of more pictures than a batch is in order", "[data]") {
  const TemporaryFolder folder;
  ThreadPool pool(2);
  std::vector<std::string> files;
  for (unsigned i = 0; i < 50; ++i) {
    files.push_back(folder / (std::to_string(i) + ".ppm"));
    write_file(files.back(), i == 1 ? "broken" : ppm(3, 3, i));
  }
  std::vector<std::int64_t> done;
  const auto cache = ImageCache::build_or_open(folder / "c", files, CacheOptions{3, 0}, pool,
                                               [&](std::int64_t d, std::int64_t) { done.push_back(d); });
  CHECK(done.size() > 1);
  CHECK(std::is_sorted(done.begin(), done.end()));
  CHECK(done.back() == 50);
  for (std::int64_t i = 0; i < 50; ++i) {
    CHECK(cache->usable(i) == (i != 1));  // the broken one spoils none of a later batch
    if (i != 1) CHECK(row(*cache, i) == decoded(files[static_cast<std::size_t>(i)], 3));
  }
}
