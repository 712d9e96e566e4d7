// Groups of pictures and their requirements.
// Surprising choice: labels of the fixtures are functions of the picture's number, so a requirement can be traced back
// to the label it was made of.
#include <map>
#include <set>

#include "training_fixture.hpp"

using namespace promptiqa_test;

namespace {

SamplerOptions plain_options(std::int64_t group_size) {
  SamplerOptions options;
  options.group_size = group_size;
  options.augmentation.scale_probability = options.augmentation.flip_probability = 0;
  return options;
}

float unit(std::int64_t row, int count = 60) { return static_cast<float>(row) / static_cast<float>(count - 1); }

}  // namespace

TEST_CASE("a scored set is walked through epoch by epoch", "[train]") {
  const Workshop shop;
  GroupSampler sampler({scored_set(shop.file("a"))}, plain_options(7), 3);
  for (int epoch = 0; epoch < 3; ++epoch) {
    std::set<std::int64_t> seen;
    for (int group = 0; group < 8; ++group)  // 8 groups of 7 of 60: the last four wait for the next epoch
      for (const BatchPicture& picture : sampler.next().pictures) seen.insert(picture.row);
    CHECK(seen.size() == 56);
  }
  CHECK(sampler.state().epoch[0] == 2);
  CHECK(sampler.state().position[0] == 56);
}

TEST_CASE("requirements of a scored set: the score, the score either way, another label", "[train]") {
  const Workshop shop;
  GroupSampler sampler({scored_set(shop.file("a"))}, plain_options(5), 3);
  CHECK(sampler.labels() == std::vector<std::string>{"scored/score", "brightness"});
  CHECK(sampler.label_is_score() == std::vector<bool>{true, false});
  int turned = 0;
  for (int group = 0; group < 400; ++group) {
    const GroupPlan plan = sampler.next();
    REQUIRE(plan.scores.size() == 3);
    CHECK(plan.weights == std::vector<float>{1.0f, 1.0f, 0.5f});
    const float first = 1 - unit(plan.pictures[0].row);
    const bool turn = plan.scores[1][0] != first;
    turned += turn;
    for (std::size_t i = 0; i < 5; ++i) {
      const float score = 1 - unit(plan.pictures[i].row);
      CHECK(plan.scores[0][i] == score);
      CHECK(plan.scores[1][i] == (turn ? 1 - score : score));
      CHECK(plan.scores[2][i] == unit(plan.pictures[i].row));
      CHECK(plan.known[0][i] == score);
      CHECK(plan.known[1][i] == unit(plan.pictures[i].row));
    }
  }
  CHECK(std::abs(turned - 200) < 50);  // five standard deviations
}

TEST_CASE("requirements of a synthetic set: two metrics, an attribute or the level", "[train]") {
  const Workshop shop;
  GroupSampler sampler({synthetic_set(shop.file("a"))}, plain_options(5), 3);
  std::map<std::string, int> used;
  for (int group = 0; group < 400; ++group) {
    const GroupPlan plan = sampler.next();
    const auto label_of = [&](std::size_t r, bool turned) -> std::string {
      for (std::size_t k = 0; k < sampler.labels().size(); ++k) {
        std::vector<float> label = plan.known[k];
        for (float& s : label) s = turned ? 1 - s : s;
        if (label == plan.scores[r]) return sampler.labels()[k];
      }
      return "none";
    };
    const std::string plain = label_of(1, false);  // the fixture's brightness is its psnr turned around
    const bool is_turned = plain != "psnr" && plain != "ssim";
    const std::string a = label_of(0, false), b = label_of(1, is_turned), c = label_of(2, false);
    used["turned"] += is_turned;
    CHECK(((a == "psnr" && b == "ssim") || (a == "ssim" && b == "psnr")));
    CHECK((c == "brightness" || c == "level"));
    CHECK(plan.weights[2] == (c == "level" ? 1.0f : 0.5f));
    ++used[a], ++used[c];
  }
  for (const char* label : {"psnr", "ssim", "brightness", "level", "turned"}) CHECK(std::abs(used[label] - 200) < 50);
}

TEST_CASE("groups of one distortion and of one photograph", "[train]") {
  const Workshop shop;
  SamplerOptions options = plain_options(5);
  const TrainingSet set = synthetic_set(shop.file("a"));
  const auto share = [&](const std::vector<std::int32_t>& keys, GroupSampler& sampler) {
    int same = 0;
    for (int group = 0; group < 400; ++group) {
      std::set<std::int32_t> found;
      std::set<std::int64_t> rows;
      for (const BatchPicture& picture : sampler.next().pictures) {
        found.insert(keys[static_cast<std::size_t>(picture.row)]);
        rows.insert(picture.row);
      }
      CHECK(rows.size() == 5);  // a picture twice would give its own score away
      same += found.size() == 1;
    }
    return same;
  };
  options.same_distortion = 1, options.same_photo = 0;
  GroupSampler by_distortion({set}, options, 1);
  CHECK(share(set.distortion, by_distortion) == 400);
  options.same_distortion = 0, options.same_photo = 1;
  GroupSampler by_photo({set}, options, 1);
  CHECK(share(set.photo, by_photo) == 400);
  options.same_distortion = options.same_photo = 0;
  GroupSampler mixed({set}, options, 1);
  CHECK(share(set.photo, mixed) < 20);  // five of 60 with 12 a photograph: 0.7% by chance
  options.same_photo = 0.5;
  GroupSampler half({set}, options, 1);
  CHECK(std::abs(share(set.photo, half) - 200) < 55);
}

TEST_CASE("pristine pictures form no distortion group", "[train]") {
  const Workshop shop;
  SamplerOptions options = plain_options(5);
  options.same_distortion = 1, options.same_photo = 0;
  GroupSampler sampler({synthetic_set(shop.file("a"))}, options, 1);
  for (int group = 0; group < 100; ++group) CHECK(sampler.next().pictures[0].row % 4 != 0);
}

TEST_CASE("scored and other sets share the groups", "[train]") {
  const Workshop shop;
  SamplerOptions options = plain_options(5);
  options.score_share = 0.75;
  GroupSampler sampler({scored_set(shop.file("a")), synthetic_set(shop.file("b"))}, options, 8);
  int scored = 0, mirrored = 0;
  for (int group = 0; group < 1000; ++group) {
    const GroupPlan plan = sampler.next();
    const bool is_scored = !std::isnan(plan.known[0][0]);
    scored += is_scored;
    CHECK(std::isnan(plan.known[2][0]) == is_scored);  // psnr is the other set's
    CHECK(!std::isnan(plan.known[1][0]));              // brightness is everyone's
    mirrored += plan.pictures[0].flip;
  }
  CHECK(std::abs(scored - 750) < 69);
  CHECK(std::abs(mirrored - 500) < 79);
}

TEST_CASE("a restored sampler goes on as the saved one", "[train]") {
  const Workshop shop;
  const auto make = [&](std::uint64_t seed) {
    return GroupSampler({scored_set(shop.file("a")), synthetic_set(shop.file("b"))}, SamplerOptions{}, seed);
  };
  const auto rows = [](GroupSampler& sampler) {
    std::vector<double> numbers;
    for (int group = 0; group < 12; ++group) {
      const GroupPlan plan = sampler.next();
      for (const BatchPicture& picture : plan.pictures)
        numbers.push_back(static_cast<double>(picture.row) + 0.5 * picture.flip);
      for (const auto& scores : plan.scores) numbers.insert(numbers.end(), scores.begin(), scores.end());
    }
    return numbers;
  };
  GroupSampler first = make(5);
  rows(first), rows(first);
  const GroupSampler::State state = first.state();
  CHECK(state.epoch[0] >= 1);  // or the permutation would not be tested
  const std::vector<double> expected = rows(first);
  GroupSampler second = make(5);
  second.restore(state);
  CHECK(rows(second) == expected);
  GroupSampler other = make(6);
  CHECK(rows(other) != expected);
  GroupSampler::State wrong = state;
  wrong.epoch.push_back(0);
  CHECK_THROWS_AS(second.restore(wrong), TrainingError);
  wrong = state;
  wrong.position[0] = 61;
  CHECK_THROWS_AS(second.restore(wrong), TrainingError);
}

TEST_CASE("pictures that cannot be read are left out and named, up to one in a hundred", "[train]") {
  const Workshop shop;
  const auto with = [&](const std::string& name, const std::vector<int>& unreadable) {
    TrainingSet set = scored_set(shop.file(name), 200);
    set.images = make_pictures(shop.file(name + "2"), 200, 32, unreadable);
    return set;
  };
  GroupSampler sampler({with("a", {3, 77})}, plain_options(9), 1);
  REQUIRE(sampler.skipped().size() == 2);
  CHECK_THAT(sampler.skipped()[1], ContainsSubstring("picture77"));
  CHECK(sampler.picture_count() == 198);
  for (int group = 0; group < 60; ++group)
    for (const BatchPicture& picture : sampler.next().pictures) CHECK((picture.row != 3 && picture.row != 77));
  CHECK_THROWS_WITH(
      GroupSampler({with("b", {3, 77, 150})}, plain_options(9), 1),
      ContainsSubstring("3 of 200 pictures cannot be read, more than 1%") && ContainsSubstring("picture150"));
  // Of what the set is a part of: of twelve photographs here, not of 122 versions of them.
  TrainingSet versions = synthetic_set(shop.file("c"), 121);
  versions.images = make_pictures(shop.file("c2"), 122, 32, {121});
  versions.skipped = {121};
  versions.asked = 12;
  CHECK_THROWS_WITH(GroupSampler({versions}, plain_options(5), 1),
                    ContainsSubstring("1 of 12 pictures cannot be read"));
}

TEST_CASE("labels that are not known are not asked for", "[train]") {
  const Workshop shop;
  TrainingSet set = synthetic_set(shop.file("a"));
  for (float& v : set.labels[0].values) v = std::numeric_limits<float>::quiet_NaN();
  set.labels[3].values[5] = std::numeric_limits<float>::quiet_NaN();  // level: unknown for one picture
  GroupSampler sampler({set}, plain_options(5), 2);
  for (int group = 0; group < 300; ++group)
    for (const auto& scores : sampler.next().scores)
      for (float s : scores) CHECK(!std::isnan(s));
  for (LabelColumn& column : set.labels) column.values.assign(60, std::numeric_limits<float>::quiet_NaN());
  GroupSampler blind({set}, plain_options(5), 2);
  CHECK_THROWS_WITH(blind.next(), ContainsSubstring("synthetic"));
}

TEST_CASE("the paper's single requirement is the score itself", "[train]") {
  const Workshop shop;
  SamplerOptions options = plain_options(5);
  options.requirements = 1;
  GroupSampler sampler({scored_set(shop.file("a"))}, options, 2);
  for (int group = 0; group < 50; ++group) {
    const GroupPlan plan = sampler.next();
    REQUIRE(plan.scores.size() == 1);
    CHECK(plan.scores[0] == plan.known[0]);
  }
}

TEST_CASE("sets that cannot be sampled are refused by name", "[train]") {
  const Workshop shop;
  const TrainingSet good = scored_set(shop.file("a"));
  const auto refused = [&](TrainingSet set, const std::string& why, std::int64_t group = 5) {
    CHECK_THROWS_WITH(GroupSampler({set}, plain_options(group), 1),
                      ContainsSubstring("scored") && ContainsSubstring(why));
  };
  refused(good, "a group needs 61", 61);
  TrainingSet set = good;
  set.labels.clear();
  refused(set, "no labels");
  set = good;
  set.labels[1].values[4] = 1.5f;
  refused(set, "brightness must be in [0, 1]");
  set = good;
  set.labels[1].values.pop_back();
  refused(set, "59 values");
  set = good;
  set.pictures[0] = 60;
  refused(set, "picture 60");
  set = good;
  set.photo.assign(3, 0);
  refused(set, "group key");
  CHECK_THROWS_AS(GroupSampler({}, plain_options(5), 1), TrainingError);
  TrainingSet larger = good;
  larger.name = "scored large";
  larger.images = make_pictures(shop.file("b"), 60, 40);
  CHECK_THROWS_WITH(GroupSampler({good, larger}, plain_options(5), 1), ContainsSubstring("side 40"));
  CHECK_THROWS_AS(GroupSampler({good}, plain_options(1), 1), TrainingError);
}
