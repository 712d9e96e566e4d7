// Bodies of ModelConfig: JSON in and out, and the checks.
// Surprising choice: sizes are bounded, because they come from files and products of them are allocated.
#pragma once

#include <initializer_list>
#include <nlohmann/json.hpp>
#include <utility>

#include <promptiqa/model/config.hpp>

namespace promptiqa {

PROMPTIQA_INLINE ModelConfig ModelConfig::compact() {
  ModelConfig c;
  c.patch_size = 32;
  c.vit_dim = 128, c.vit_depth = 8, c.vit_heads = 4, c.block_heads = 4;
  c.taps = {1, 3, 5, 7};
  c.cnn_channels = {128, 128}, c.cnn_kernels = {3, 3}, c.cnn_pools = {1, 3};
  c.stem = "residual", c.stem_channels = {24, 48, 96, 128, 128};
  c.class_token = false;
  c.score_token = "learned";
  return c;
}

namespace detail {

// Calls f(name, field) for every field: one list serves reading and writing.
template <class Config, class F>
void each_config_field(Config& c, F&& f) {
  f("image_size", c.image_size), f("patch_size", c.patch_size), f("in_chans", c.in_chans);
  f("vit_dim", c.vit_dim), f("vit_depth", c.vit_depth), f("vit_heads", c.vit_heads), f("mlp_ratio", c.mlp_ratio);
  f("taps", c.taps), f("num_mals", c.num_mals), f("sa_reduction", c.sa_reduction), f("block_heads", c.block_heads);
  f("cnn_channels", c.cnn_channels), f("cnn_kernels", c.cnn_kernels), f("cnn_pools", c.cnn_pools);
  f("prompt_dim", c.prompt_dim), f("prompt_heads", c.prompt_heads);
  f("ip_depth", c.ip_depth), f("pf_depth", c.pf_depth), f("fuse_depth", c.fuse_depth), f("drop", c.drop);
  f("stem", c.stem), f("stem_channels", c.stem_channels), f("class_token", c.class_token),
      f("score_token", c.score_token);
}

inline bool json_has_type(const nlohmann::json& j, const std::int64_t&) { return j.is_number_integer(); }
inline bool json_has_type(const nlohmann::json& j, const double&) { return j.is_number(); }
inline bool json_has_type(const nlohmann::json& j, const bool&) { return j.is_boolean(); }
inline bool json_has_type(const nlohmann::json& j, const std::string&) { return j.is_string(); }
inline bool json_has_type(const nlohmann::json& j, const std::vector<std::int64_t>&) {
  if (!j.is_array()) return false;
  for (const auto& entry : j)
    if (!entry.is_number_integer()) return false;
  return true;
}

}  // namespace detail

PROMPTIQA_INLINE ModelConfig ModelConfig::from_json(const std::string& text, const std::string& origin) {
  const auto fail = [&](const std::string& what) -> void { throw WeightsError(origin + ": config: " + what); };
  const nlohmann::json j = nlohmann::json::parse(text, nullptr, false);
  if (j.is_discarded() || !j.is_object()) fail("expected a JSON object");
  ModelConfig c;
  std::size_t known = 0;
  detail::each_config_field(c, [&](const char* name, auto& field) {
    const auto found = j.find(name);
    if (found == j.end()) return;
    ++known;
    if (!detail::json_has_type(*found, field))
      fail(std::string("field ") + name + " has the wrong type: " + found->dump());
    found->get_to(field);
  });
  if (known != j.size()) {
    for (const auto& item : j.items()) {
      bool listed = false;
      detail::each_config_field(c, [&](const char* name, auto&) { listed = listed || item.key() == name; });
      if (!listed) fail("unknown field " + item.key());
    }
  }
  c.validate(origin);
  return c;
}

PROMPTIQA_INLINE std::string ModelConfig::to_json() const {
  nlohmann::json j;  // an ordered map: sorted by name
  detail::each_config_field(*this, [&](const char* name, const auto& field) { j[name] = field; });
  return j.dump();
}

PROMPTIQA_INLINE void ModelConfig::validate(const std::string& origin) const {
  const auto require = [&](bool condition, const std::string& what) {
    if (!condition) throw WeightsError(origin + ": config: " + what);
  };
  const auto in_range = [&](const char* name, std::int64_t value, std::int64_t low, std::int64_t high) {
    require(value >= low && value <= high, std::string(name) + " must be " + std::to_string(low) + ".." +
                                               std::to_string(high) + ", got " + std::to_string(value));
  };
  in_range("image_size", image_size, 1, 8192);
  in_range("patch_size", patch_size, 1, image_size);
  require(image_size % patch_size == 0, "image_size must be a multiple of patch_size");
  in_range("image_size / patch_size", grid(), 1, 256);
  require(in_chans == 3, "in_chans must be 3, got " + std::to_string(in_chans));
  in_range("vit_dim", vit_dim, 1, 16384);
  in_range("vit_depth", vit_depth, 1, 256);
  in_range("vit_heads", vit_heads, 1, vit_dim);
  in_range("block_heads", block_heads, 1, vit_dim);
  require(vit_dim % vit_heads == 0, "vit_dim must be a multiple of vit_heads");
  require(vit_dim % block_heads == 0, "vit_dim must be a multiple of block_heads");
  in_range("mlp_ratio", mlp_ratio, 1, 64);
  in_range("number of taps", static_cast<std::int64_t>(taps.size()), 1, 16);
  for (std::size_t i = 0; i < taps.size(); ++i) {
    in_range("taps", taps[i], 0, vit_depth - 1);
    require(i == 0 || taps[i] > taps[i - 1], "taps must increase");
  }
  in_range("num_mals", num_mals, 1, 16);
  in_range("sa_reduction", sa_reduction, 1, vit_dim);
  require(cnn_channels.size() == cnn_kernels.size() && cnn_channels.size() == cnn_pools.size() &&
              !cnn_channels.empty() && cnn_channels.size() <= 16,
          "cnn_channels, cnn_kernels and cnn_pools must have the same length, 1..16");
  std::int64_t side = grid();
  for (std::size_t i = 0; i < cnn_channels.size(); ++i) {
    in_range("cnn_channels", cnn_channels[i], 1, 16384);
    in_range("cnn_kernels", cnn_kernels[i], 1, side);
    side -= cnn_kernels[i] - 1;
    in_range("cnn_pools", cnn_pools[i], 1, side);
    side /= cnn_pools[i];
  }
  require(side == 1, "the CNN must end at 1 x 1, it ends at " + std::to_string(side) + " x " + std::to_string(side));
  in_range("prompt_dim", prompt_dim, 2, 16384);
  require(prompt_dim % 2 == 0, "prompt_dim must be even");
  in_range("prompt_heads", prompt_heads, 1, prompt_dim);
  require(prompt_dim % prompt_heads == 0, "prompt_dim must be a multiple of prompt_heads");
  require(cnn_channels.back() == prompt_dim, "the last of cnn_channels must equal prompt_dim");
  in_range("ip_depth", ip_depth, 0, 256);
  in_range("pf_depth", pf_depth, 0, 256);
  in_range("fuse_depth", fuse_depth, 0, 256);
  require(drop >= 0 && drop < 1, "drop must be in [0, 1)");
  require(score_token == "constant" || score_token == "learned",
          "score_token must be \"constant\" or \"learned\", got \"" + score_token + "\"");
  require(stem == "patch" || stem == "residual", "stem must be \"patch\" or \"residual\", got \"" + stem + "\"");
  if (stem == "residual") {
    in_range("number of stem_channels", static_cast<std::int64_t>(stem_channels.size()), 1, 13);
    for (std::int64_t channels : stem_channels) in_range("stem_channels", channels, 1, 16384);
    require(stem_channels.back() == vit_dim, "the last of stem_channels must equal vit_dim");
    require((std::int64_t{1} << stem_channels.size()) == patch_size,
            "patch_size must be 2 to the number of stem_channels, got " + std::to_string(patch_size));
  }
}

}  // namespace promptiqa
