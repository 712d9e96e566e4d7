// Splits by reference, the publishers' own, and the split file.
// Surprising choice: one split is compared with indices that another program computed, because "the same on every
// machine" cannot be seen from this machine alone.
#include <promptiqa/data/split.hpp>

#include <algorithm>
#include <filesystem>
#include <limits>
#include <set>
#include <string>
#include <vector>

#include "catch.hpp"
#include "data_test_tools.hpp"

using namespace promptiqa;
using data_test::TemporaryFolder;
using data_test::write_file;

namespace {

/// `references` references with `versions` pictures each, listed version by version; references = 0: none has one.
Dataset dataset(int references, int versions, const std::string& folder = "/data/set/") {
  Dataset data;
  data.name = "set";
  for (int v = 0; v < versions; ++v)
    for (int r = 0; r < std::max(references, 1); ++r)
      data.items.push_back({folder + "kind" + std::to_string(v) + "/i" + std::to_string(r) + ".png", 0,
                            references > 0 ? "ref" + std::to_string(r) : "", ""});
  return data;
}

std::set<std::string> references_of(const Dataset& data, const std::vector<std::int64_t>& rows) {
  std::set<std::string> names;
  for (std::int64_t row : rows) names.insert(data.items[static_cast<std::size_t>(row)].reference);
  return names;
}

}  // namespace

TEST_CASE("training and test pictures share no reference", "[data]") {
  const Dataset data = dataset(25, 12);
  for (std::uint64_t seed = 0; seed < 20; ++seed) {
    const Split split = split_by_reference(data, 0.8, seed);
    CHECK(split.train.size() == 20 * 12);
    CHECK(split.test.size() == 5 * 12);
    const auto train = references_of(data, split.train), test = references_of(data, split.test);
    CHECK(train.size() == 20);
    CHECK(test.size() == 5);
    for (const std::string& name : test) CHECK(train.count(name) == 0);
    std::vector<std::int64_t> all = split.train;
    all.insert(all.end(), split.test.begin(), split.test.end());
    std::sort(all.begin(), all.end());
    for (std::size_t i = 0; i < all.size(); ++i) CHECK(all[i] == static_cast<std::int64_t>(i));
    CHECK(std::is_sorted(split.train.begin(), split.train.end()));
  }
  CHECK(split_by_reference(data, 0.8, 1).test == split_by_reference(data, 0.8, 1).test);
  CHECK(split_by_reference(data, 0.8, 1).test != split_by_reference(data, 0.8, 2).test);
}

TEST_CASE("without references each picture is drawn by itself", "[data]") {
  const Dataset data = dataset(0, 100);
  const Split split = split_by_reference(data, 0.8, 3);
  CHECK(split.train.size() == 80);
  CHECK(split.test.size() == 20);
}

TEST_CASE("a seed gives the same split on every machine", "[data]") {
  // From a reimplementation in Python of MT19937-64 (Nishimura and Matsumoto) and of random_sample's shuffle.
  CHECK(split_by_reference(dataset(0, 12), 0.75, 42).test == std::vector<std::int64_t>{4, 7, 8});
  CHECK(split_by_reference(dataset(5, 2), 0.6, 7).test == std::vector<std::int64_t>{1, 4, 6, 9});
}

TEST_CASE("a split has two sides", "[data]") {
  CHECK(split_by_reference(dataset(2, 3), 0.99, 0).test.size() == 3);
  CHECK(split_by_reference(dataset(2, 3), 0.01, 0).train.size() == 3);
  CHECK_THROWS_AS(split_by_reference(dataset(1, 3), 0.8, 0), DataError);
  CHECK_THROWS_AS(split_by_reference(Dataset{}, 0.8, 0), DataError);
  for (double share : {0.0, 1.0, -1.0, std::numeric_limits<double>::quiet_NaN()})
    CHECK_THROWS_AS(split_by_reference(dataset(3, 3), share, 0), DataError);
}

TEST_CASE("the publishers' split is taken as it is", "[data]") {
  Dataset data = dataset(0, 5);
  const char* splits[] = {"training", "Test", "validation", "Train", ""};
  for (std::size_t i = 0; i < 5; ++i) data.items[i].split = splits[i];
  const SplitMarks marks = split_marks(data);
  CHECK(marks.train == 2);
  CHECK(marks.test == 1);
  CHECK(marks.other == 1);
  CHECK(marks.none == 1);
  std::vector<std::string> notices;
  const Split split = published_split(data, &notices);
  REQUIRE(notices.size() == 1);
  CHECK_THAT(notices[0], ContainsSubstring("left out: 2") && ContainsSubstring("validation"));
  CHECK(split.train == std::vector<std::int64_t>{0, 3});
  CHECK(split.test == std::vector<std::int64_t>{1});
  data.items[1].split.clear();
  CHECK_THROWS_WITH(published_split(data), ContainsSubstring("2 training and 0 test"));
}

TEST_CASE("a split file reads back, also where the data moved and for another order", "[data]") {
  const TemporaryFolder folder;
  const std::string path = folder / "split.csv";
  const Dataset data = dataset(4, 3);
  Split split = split_by_reference(data, 0.5, 5);
  split.test.pop_back();  // pictures may be left out
  write_split(path, data, split);
  const Split same = read_split(path, data);
  CHECK(same.train == split.train);
  CHECK(same.test == split.test);
  const Split moved = read_split(path, dataset(4, 3, "C:/elsewhere, or not/"));
  CHECK(moved.train == split.train);
  CHECK(moved.test == split.test);

  Dataset reversed = data;
  std::reverse(reversed.items.begin(), reversed.items.end());
  const Split other = read_split(path, reversed);
  REQUIRE(other.test.size() == split.test.size());
  const auto last = static_cast<std::int64_t>(data.items.size()) - 1;
  for (std::size_t i = 0; i < split.test.size(); ++i)
    CHECK(other.test[i] == last - split.test[split.test.size() - 1 - i]);
}

TEST_CASE("a bad split is refused", "[data]") {
  const TemporaryFolder folder;
  const std::string path = folder / "split.csv";
  const Dataset data = dataset(2, 2);
  CHECK_THROWS_WITH(write_split(path, data, Split{{0, 4}, {1}}), ContainsSubstring("row 4"));
  CHECK_THROWS_WITH(write_split(path, data, Split{{0, -1}, {1}}), ContainsSubstring("row -1"));
  CHECK_THROWS_WITH(write_split(path, data, Split{{0, 1}, {1}}), ContainsSubstring("row 1 occurs twice"));
  CHECK_FALSE(std::filesystem::exists(path));
  CHECK_THROWS_AS(read_split(path, data), FileError);
  const auto fails = [&](const std::string& text, const std::string& message) {
    write_file(path, text);
    CHECK_THROWS_AS(read_split(path, data), DataError);
    CHECK_THROWS_WITH(read_split(path, data), ContainsSubstring(message));
  };
  fails("image\nkind0/i0.png\n", "\"split\"");
  fails("image,split\nkind0/i0.png,train\nkind7/i0.png,test\n", "split.csv:3, column \"image\"");
  fails("image,split\nkind0/i0.png,validation\n", "split.csv:2, column \"split\"");
  fails("image,split\nkind0/i0.png,train\nkind0/i0.png,test\n", "occurs twice");
}
