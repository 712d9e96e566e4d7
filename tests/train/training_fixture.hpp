// What the tests of training share: a folder, a model of a few thousand weights, pictures whose labels can be learned.
// Surprising choice: pictures are written into a real image cache, the only place training reads them from.
#pragma once

#include <cmath>
#include <cstdlib>
#include <filesystem>
#include <limits>
#include <string>
#include <vector>

#include <promptiqa/data.hpp>
#include <promptiqa/train.hpp>

#include "catch.hpp"
#include "temporary_folder.hpp"

namespace promptiqa_test {

using namespace promptiqa;

/// A folder of its own, removed at the end.
struct Workshop {
  const TemporaryFolder folder;
  const std::filesystem::path dir = folder.path();
  std::string file(const std::string& name) const { return (dir / name).string(); }
};

/// 32 x 32 pixels, grid 4, two blocks, everything there that the compact model has.
inline ModelConfig tiny_config() {
  ModelConfig c = ModelConfig::compact();
  c.image_size = 32, c.patch_size = 8;
  c.stem_channels = {8, 8, 16};
  c.vit_dim = 16, c.vit_depth = 2, c.vit_heads = 2, c.block_heads = 2;
  c.taps = {0, 1}, c.num_mals = 2;
  c.cnn_channels = {16, 16}, c.cnn_kernels = {3, 1}, c.cnn_pools = {2, 1};
  c.prompt_dim = 16, c.prompt_heads = 2, c.ip_depth = 1, c.pf_depth = 1, c.fuse_depth = 1;
  return c;
}

/// `count` pictures of side x side: grey of a level that rises with the picture's number, with some texture. Those in
/// `unreadable` have no pixels.
inline std::shared_ptr<const ImageCache> make_pictures(const std::string& path, int count, int side = 32,
                                                       const std::vector<int>& unreadable = {}) {
  CacheOptions options;
  options.side = side;
  ImageCacheWriter writer(path, options);
  std::vector<std::uint8_t> rgb(static_cast<std::size_t>(side * side * 3));
  for (int i = 0; i < count; ++i) {
    const CacheSource source = {"picture" + std::to_string(i), 1, 1};
    if (std::find(unreadable.begin(), unreadable.end(), i) != unreadable.end()) {
      writer.append_unusable(source, "picture" + std::to_string(i) + ": broken");
      continue;
    }
    for (std::size_t p = 0; p < rgb.size(); ++p)
      rgb[p] = static_cast<std::uint8_t>(20 + 200 * i / count +
                                         static_cast<int>((p * 7 + static_cast<std::size_t>(i) * 13) % 17));
    writer.append(source, rgb.data());
  }
  return writer.finish();
}

/// Scores that fall with the picture's level, and an attribute that rises with it.
inline TrainingSet scored_set(const std::string& path, int count = 60) {
  TrainingSet set;
  set.name = "scored";
  set.images = make_pictures(path, count);
  LabelColumn score{"score", LabelKind::score, {}}, attribute{"brightness", LabelKind::attribute, {}};
  for (int i = 0; i < count; ++i) {
    set.pictures.push_back(i);
    score.values.push_back(1 - static_cast<float>(i) / static_cast<float>(count - 1));
    attribute.values.push_back(static_cast<float>(i) / static_cast<float>(count - 1));
  }
  set.labels = {score, attribute};
  return set;
}

/// Two metrics, an attribute and a level; five photographs with twelve versions each, three distortions.
inline TrainingSet synthetic_set(const std::string& path, int count = 60) {
  TrainingSet set;
  set.name = "synthetic";
  set.images = make_pictures(path, count);
  LabelColumn a{"psnr", LabelKind::metric, {}}, b{"ssim", LabelKind::metric, {}},
      c{"brightness", LabelKind::attribute, {}}, d{"level", LabelKind::level, {}};
  for (int i = 0; i < count; ++i) {
    set.pictures.push_back(i);
    const float u = static_cast<float>(i) / static_cast<float>(count - 1);
    a.values.push_back(u), b.values.push_back(u * u), c.values.push_back(1 - u), d.values.push_back(0.5f + 0.5f * u);
    set.photo.push_back(i / 12);
    set.distortion.push_back(i % 4 - 1);
  }
  set.labels = {a, b, c, d};
  return set;
}

/// Options small enough for a test, with everything switched on.
inline TrainerOptions tiny_options() {
  TrainerOptions options = TrainerOptions::recipe();
  options.groups = 2;
  options.sampler.group_size = 5;
  options.steps = 20;
  options.schedule.rate = 1e-3;
  options.schedule.warmup_steps = 4;
  options.seed = 11;
  return options;
}

/// Every number of the model's state, in order.
inline std::vector<float> state_values(const Model<float>& model) {
  std::vector<float> all;
  for (const auto& entry : model.state()) {
    if (entry.value)
      for (float x : entry.value.host()) all.push_back(x);
    else
      all.push_back(static_cast<float>(entry.counter));
  }
  return all;
}

/// Largest difference; infinite when the lengths differ or something is not finite.
inline double largest_difference(const std::vector<float>& a, const std::vector<float>& b) {
  if (a.size() != b.size()) return std::numeric_limits<double>::infinity();
  double largest = 0;
  for (std::size_t i = 0; i < a.size(); ++i) {
    const double d = std::abs(static_cast<double>(a[i]) - static_cast<double>(b[i]));
    if (!std::isfinite(d)) return std::numeric_limits<double>::infinity();
    largest = std::max(largest, d);
  }
  return largest;
}

}  // namespace promptiqa_test
