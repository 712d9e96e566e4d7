// Model<T>: PromptIQA. Images and a prompt in, quality scores out.
// Surprising choice: scoring is const and re-entrant, one model serves many threads, each with its own Context;
// the only thing that changes behind it are products of weights formed once they pay (model.md section 5).
#pragma once

#include <atomic>
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <span>
#include <string>
#include <vector>

#include <promptiqa/core/context.hpp>
#include <promptiqa/image/image.hpp>
#include <promptiqa/io/named_tensor.hpp>
#include <promptiqa/model/config.hpp>
#include <promptiqa/model/image_encoder.hpp>
#include <promptiqa/model/pass.hpp>
#include <promptiqa/model/prompt.hpp>
#include <promptiqa/model/prompt_encoder.hpp>
#include <promptiqa/model/regression.hpp>

namespace promptiqa {

/// One image's result.
struct Prediction {
  float score;  // in the prompt's scale
  float logit;  // before the sigmoid
};

/// How weights are made ready.
struct ModelOptions {
  bool training = false;        // writable copies, nothing packed
  bool merge_products = true;   // allow the merged query-key products once they pay; off: never
};

/// T: float or double on the CPU and on devices; on devices also bfloat16, which is for inference: matrices, position
/// embeddings and everything between are bfloat16, norm parameters, biases and sums float. A model's weights live on
/// the device of the Context it was made with and serve Contexts of that device only (Error otherwise).
template <class T>
class Model {
 public:
  /// Reads weights, safetensors or PyTorch checkpoint (told by content), F32, F16, BF16 or F64. The configuration is
  /// the file's own, or a preset's whose names and shapes are exactly the file's. F32 tensors stay in the mapped file,
  /// and are read from it when they are first used: do not write into the file while the model lives (replacing it by
  /// renaming another one over it is safe).
  /// Throws FileError, or WeightsError naming the file and the tensor: missing, extra, of another shape, not finite.
  static Model load(Context& ctx, const std::string& path, const ModelOptions& options = {});

  /// The same from tensors already read.
  static Model from_tensors(Context& ctx, const TensorFile& file, const ModelOptions& options = {});

  /// Fresh weights for training: weights and biases uniform in +-1/sqrt(fan in), norms 1 and 0, position embeddings
  /// normal with deviation 0.02, gammas 0. The same seed gives the same weights on every machine.
  static Model create(Context& ctx, const ModelConfig& config, std::uint64_t seed);

  Model(Model&&) noexcept = default;
  Model& operator=(Model&&) noexcept = default;

  const ModelConfig& config() const { return config_; }

  /// See WeightsIdentity::id. The first call reads all weights.
  const std::string& weights_id() const { return identity_->id(); }

  /// How pixels become the input, with the side and a version: "cv2-cubic-224/1" (model.md section 1).
  std::string preprocessing() const { return "cv2-cubic-" + std::to_string(config_.image_size) + "/1"; }

  // ---- scoring: const, from any number of threads --------------------------------------------------------------

  /// Learns a requirement from n >= 1 pairs, scores in `scale`. Throws PromptError naming the pair when a score is not
  /// finite or outside the scale or the numbers differ, ImageError when an image has no pixels.
  Prompt encode_prompt(Context& ctx, std::span<const Image> images, std::span<const float> scores,
                       const ScoreScale& scale = {}) const;

  /// A prompt from features made before. Throws PromptError when weights_id or data.preprocessing are not this model's,
  /// or the data are unusable.
  Prompt bind_prompt(Context& ctx, PromptData data, const std::string& weights_id) const;

  /// The same images with other scores, in the same scale. No backbone. Throws PromptError.
  Prompt with_scores(Context& ctx, const Prompt& prompt, std::span<const float> scores) const;

  /// Quality of each image as the prompt means it. Throws PromptError when the prompt belongs to other weights,
  /// ImageError when an image has no pixels.
  std::vector<Prediction> score(Context& ctx, std::span<const Image> images, const Prompt& prompt) const;
  Prediction score(Context& ctx, const Image& image, const Prompt& prompt) const {
    return score(ctx, std::span<const Image>(&image, 1), prompt)[0];
  }

  /// Image features V(I), (B, M), row-major: what score() and encode_prompt() compute from pixels. Keep them to score
  /// the same images under many prompts.
  std::vector<float> features(Context& ctx, std::span<const Image> images) const;

  /// Scores from features. image_features holds B * M values; throws PromptError when that does not divide or a value
  /// is not finite.
  std::vector<Prediction> score_features(Context& ctx, std::span<const float> image_features,
                                         const Prompt& prompt) const;

  // ---- the parts, on tensors: for tests, training and experiments ----------------------------------------------

  /// Normalised pixels of model.md section 1: (B, 3, S, S).
  Tensor<T> preprocess(Context& ctx, std::span<const Image> images) const;

  /// nchw (B, 3, S, S) in [-1, 1] -> V(I) (B, M). Throws ShapeError.
  Tensor<T> image_features(Context& ctx, const Tensor<T>& nchw, const Pass<T>& pass = {}) const;

  /// V(I) (n, M) and scores (n, 1) in [0, 1] -> prompt features F_P (n, M). Throws ShapeError.
  Tensor<T> prompt_features(Context& ctx, const Tensor<T>& image_feature, const Tensor<T>& scores,
                            const Pass<T>& pass = {}) const;

  /// Prompt features (B, n, M) -> fused F_AC (B, n, M). Throws ShapeError.
  Tensor<T> fuse_prompt(Context& ctx, const Tensor<T>& prompt_feature, const Pass<T>& pass = {}) const;

  /// V(I) (B, M) and F_AC (B, n, M) -> logits (B). Throws ShapeError.
  Tensor<T> logits(Context& ctx, const Tensor<T>& image_feature, const Tensor<T>& fused,
                   const Pass<T>& pass = {}) const;

  /// Leave-one-out over groups of b consecutive images: every image is scored with the other b - 1 of its group as its
  /// prompt (model.md section 4). `group` is b; 0: all images are one group. V(I) (B, M), scores (B, 1) in [0, 1] ->
  /// predicted scores (B). Throws ShapeError when b < 2 or B is not a multiple of b.
  Tensor<T> leave_one_out(Context& ctx, const Tensor<T>& image_feature, const Tensor<T>& scores,
                          const Pass<T>& pass = {}, std::int64_t group = 0) const;

  // ---- training ------------------------------------------------------------------------------------------------

  /// One forward pass in training mode: dropout, batch statistics, running statistics updated; what was packed is
  /// forgotten.
  /// nchw (b, 3, S, S), scores (b, 1) -> predicted scores (b). Record it with a Tape on ctx.
  Tensor<T> training_forward(Context& ctx, const Tensor<T>& nchw, const Tensor<T>& scores, Trace<T>* trace = nullptr);

  /// Adds 1 to every num_batches_tracked; training_forward does it itself.
  void count_training_batch();

  struct NamedParameter {
    std::string name;
    Tensor<T> value;                 // shares the model's memory
    Tensor<accumulate_t<T>> wide{};  // Model<bfloat16>: instead of `value`, of what stays in float (norms, biases)
  };
  /// Every trainable tensor, under its name in the file.
  std::vector<NamedParameter> parameters();

  /// Every tensor and counter of the state dict, parameters and running statistics, for saving.
  struct StateEntry {
    std::string name;
    Shape shape;          // as in the file
    Tensor<T> value;      // empty for a counter
    std::int64_t counter = 0;
    Tensor<accumulate_t<T>> wide{};  // as in NamedParameter
  };
  std::vector<StateEntry> state() const;

  /// Call after weights have been written to: forgets packed and merged forms and the identity.
  void weights_changed();

  /// Makes the model ready for fast inference with ctx's kernels; load() has done it unless for training. Each weight
  /// is laid out for them when it is first used, which makes the first image slower, not the loading. On a device
  /// all is done at once, and has been done on return: other Contexts of that device may use the model.
  void pack(Context& ctx);

  /// Writes a safetensors file, atomically; running statistics stay F32. `notes` join the file's metadata, beside
  /// "config" and "format". Throws FileError.
  void save(const std::string& path, DType dtype = DType::f32, std::map<std::string, std::string> notes = {}) const;

 private:
  using MalProducts = typename ImageEncoder<T>::MalProducts;

  // Products of weights formed behind const methods.
  struct Lazy {
    std::atomic<std::int64_t> images_seen{0};
    std::mutex forming;                               // held by the thread that forms them
    std::mutex guard;                                 // guards `products`
    std::shared_ptr<const MalProducts> products;
  };

  explicit Model(const ModelConfig& config);

  template <class V>
  void visit(V& v) {
    image_encoder_.visit(v);
    prompt_encoder_.visit(v);
    regression_.visit(v);
  }

  void renew_identity(const TensorFile* file = nullptr);
  template <class... Tensors>
  void check_device(const Context& ctx, const char* what, const Tensors&... inputs) const;
  void check_prompt(const Prompt& prompt) const;
  std::shared_ptr<const MalProducts> products_for(Context& ctx, std::int64_t images) const;
  Prompt make_prompt(Context& ctx, PromptData data) const;

  ModelConfig config_;
  ImageEncoder<T> image_encoder_;
  PromptEncoder<T> prompt_encoder_;
  Regression<T> regression_;
  std::shared_ptr<const WeightsIdentity> identity_;
  std::unique_ptr<Lazy> lazy_;
  WeightReleased released_;  // drops pages of the mapped file; empty when the weights are not in one
  bool merge_products_ = true;
};

}  // namespace promptiqa

#if PROMPTIQA_WITH_BODIES
#include <promptiqa/model/model.ipp>
#endif
