// ModelConfig: every size and option that makes one PromptIQA model.
// Surprising choice: field names are those of the reference's configuration, so the JSON in a weights file's
// metadata reads the same on both sides; an option the JSON lacks has the `base` (official) value.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include <promptiqa/core/error.hpp>
#include <promptiqa/core/macros.hpp>

namespace promptiqa {

struct ModelConfig {
  std::int64_t image_size = 224;                     // S: side of the square input
  std::int64_t patch_size = 8;                       // S / grid
  std::int64_t in_chans = 3;
  std::int64_t vit_dim = 768, vit_depth = 12, vit_heads = 12, mlp_ratio = 4;
  std::vector<std::int64_t> taps = {2, 5, 8, 11};    // ViT blocks whose outputs the MALs read, from 0
  std::int64_t num_mals = 3, sa_reduction = 8;       // q and k of the per-map self-attention: vit_dim / sa_reduction
  std::int64_t block_heads = 12;                     // of the block between fusion MAL and CNN
  std::vector<std::int64_t> cnn_channels = {256, 128, 128}, cnn_kernels = {5, 3, 3}, cnn_pools = {2, 2, 3};
  std::int64_t prompt_dim = 128, prompt_heads = 4;   // M
  std::int64_t ip_depth = 3, pf_depth = 3, fuse_depth = 8;
  double drop = 0.1;                                 // dropout in training
  std::string stem = "patch";                        // or "residual" (compact.md)
  std::vector<std::int64_t> stem_channels;           // residual stem: one entry per halving
  bool class_token = true;
  std::string score_token = "constant";              // or "learned" (compact.md)

  /// The official model (model.md). 318 M parameters.
  static ModelConfig base() { return {}; }
  /// The small model this library ships (compact.md). 9.5 M parameters.
  static ModelConfig compact();

  /// From the JSON object in `__metadata__.config`. `origin` names the file in errors.
  /// Throws WeightsError on malformed JSON, an unknown field, a wrong type or inconsistent values.
  static ModelConfig from_json(const std::string& json, const std::string& origin);
  /// Canonical form: every field, sorted by name, no spaces.
  std::string to_json() const;

  /// Throws WeightsError, naming the field, unless the sizes fit together and are sane.
  void validate(const std::string& origin) const;

  std::int64_t grid() const { return image_size / patch_size; }  // g
  std::int64_t tokens() const { return grid() * grid(); }        // T

  friend bool operator==(const ModelConfig& a, const ModelConfig& b) { return a.to_json() == b.to_json(); }
};

}  // namespace promptiqa

#if PROMPTIQA_WITH_BODIES
#include <promptiqa/model/config.ipp>
#endif
