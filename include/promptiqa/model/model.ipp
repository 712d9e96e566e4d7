// Bodies of Model.
// Surprising choice: a batch is cut into pieces of a bounded size, so memory does not grow with the number of images.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstring>
#include <utility>

#include <promptiqa/core/host_values.hpp>
#include <promptiqa/image/prepare.hpp>
#include <promptiqa/io/safetensors.hpp>
#include <promptiqa/io/tensor_file.hpp>
#include <promptiqa/model/model.hpp>
#include <promptiqa/model/weights.ipp>
#include <promptiqa/ops/check.hpp>

namespace promptiqa {

namespace detail {

// Images per pass: as many as keep the largest activation at about 20 MB.
inline std::int64_t images_per_pass(const ModelConfig& c) {
  const std::int64_t maps = static_cast<std::int64_t>(c.taps.size()) * c.vit_dim * c.tokens();
  const std::int64_t half = (c.image_size / 2) * (c.image_size / 2);
  const std::int64_t stem = c.stem == "residual" ? c.stem_channels.front() * half : 0;
  return std::clamp<std::int64_t>(5000000 / std::max(maps, stem), 1, 32);
}

}  // namespace detail

// ---- making a model -----------------------------------------------------------------------------------------------

template <class T>
Model<T>::Model(const ModelConfig& config)
    : config_(config),
      image_encoder_(config),
      prompt_encoder_(config),
      regression_(config),
      lazy_(std::make_unique<Lazy>()) {}

template <class T>
Model<T> Model<T>::load(Context& ctx, const std::string& path, const ModelOptions& options) {
  return from_tensors(ctx, read_tensor_file(path), options);
}

template <class T>
Model<T> Model<T>::from_tensors(Context& ctx, const TensorFile& file, const ModelOptions& options) {
  const auto config_of = [&] {
    const auto stored = file.metadata.find("config");
    if (stored != file.metadata.end()) return ModelConfig::from_json(stored->second, file.path);
    for (const ModelConfig& preset : {ModelConfig::base(), ModelConfig::compact()}) {
      Model candidate(preset);
      detail::StateShapes shapes;
      candidate.visit(shapes);
      if (detail::matches(file, shapes)) return preset;
    }
    throw WeightsError(file.path + ": no config in the file's metadata, and its " +
                       std::to_string(file.tensors.size()) +
                       " tensors have not the names and shapes of a known model (base, compact)");
  };
  Model model(config_of());
  detail::WeightsLoader loader(ctx, file, options.training);
  model.visit(loader);
  loader.check_all_used();
  model.merge_products_ = options.merge_products;
  if (file.file && ctx.device() == Device::cpu)
    model.released_ = [map = file.file](const void* data, std::size_t bytes) {
      const auto all = map->bytes();
      const auto* at = static_cast<const std::byte*>(data);
      if (at >= all.data() && at + bytes <= all.data() + all.size())
        map->release_pages(static_cast<std::size_t>(at - all.data()), bytes);
    };
  model.renew_identity(&file);
  if (!options.training) model.pack(ctx);
  return model;
}

template <class T>
Model<T> Model<T>::create(Context& ctx, const ModelConfig& config, std::uint64_t seed) {
  config.validate("config");
  Model model(config);
  detail::WeightsInitialiser initialiser(ctx, seed);
  model.visit(initialiser);
  model.renew_identity();
  return model;
}

template <class T>
void Model<T>::renew_identity(const TensorFile* file) {
  // A prompt serves the same weights in any precision: what bfloat16 rounds is hashed as the file has it.
  constexpr bool rounds = !std::is_same_v<T, accumulate_t<T>>;
  bool at_once = false;
  std::vector<WeightsIdentity::Entry> entries;
  const auto add = [&](const StateEntry& entry, const auto& value) {
    using Element = std::remove_cvref_t<decltype(value.data()[0])>;
    const NamedTensor* source = rounds && file ? file->find(entry.name) : nullptr;
    if (source) {
      at_once = at_once || !source->owner;
      entries.push_back({entry.name, entry.shape, [from = *source](std::int64_t begin, std::int64_t count, float* out) {
                           const auto* bytes = static_cast<const std::byte*>(from.data);
                           decode(from.dtype, bytes + static_cast<std::size_t>(begin) * dtype_size(from.dtype),
                                  static_cast<std::size_t>(count), out);
                         }});
      return;
    }
    // Hashing reads every weight once: pages are dropped behind it, or the file would lie in memory a second time.
    entries.push_back({entry.name, entry.shape,
                       [value, done = released_](std::int64_t begin, std::int64_t count, float* out) {
                         if constexpr (std::is_same_v<Element, float>) {
                           value.copy_to(begin, count, out);
                         } else {
                           std::vector<Element> elements(static_cast<std::size_t>(count));
                           value.copy_to(begin, count, elements.data());
                           for (Element x : elements) *out++ = static_cast<float>(detail::widened(x));
                         }
                         if (done) done(value.data() + begin, static_cast<std::size_t>(count) * sizeof(Element));
                       }});
  };
  for (const StateEntry& entry : state()) {
    if (entry.value)
      add(entry, entry.value);
    else if (entry.wide)
      add(entry, entry.wide);
    else
      entries.push_back({entry.name, entry.shape, [n = entry.counter](std::int64_t, std::int64_t, float* out) {
                           *out = static_cast<float>(n);
                         }});
  }
  identity_ = std::make_shared<WeightsIdentity>(config_.to_json(), std::move(entries));
  if (at_once) identity_->id();  // the memory is its caller's and may not be there later
}

template <class T>
void Model<T>::pack(Context& ctx) {
  lazy_ = std::make_unique<Lazy>();  // merged products are in the layout packed for before
  image_encoder_.pack(ctx, released_, merge_products_);
  prompt_encoder_.pack(ctx, released_);
  regression_.pack(ctx, released_);
  if (ctx.device() == Device::cpu) return;
  // A device forms products in the time of an image or two, and a captured graph must not come upon them later.
  if (merge_products_)
    lazy_->products = std::make_shared<const MalProducts>(image_encoder_.form_products(ctx, released_));
  ctx.memory().synchronize();
  ctx.memory().trim();
}

template <class T>
template <class... Tensors>
void Model<T>::check_device(const Context& ctx, const char* what, const Tensors&... inputs) const {
  if (regression_.norm.weight.device() != ctx.device())
    throw Error(std::string(what) + ": the model's weights and the context must be on the same device");
  if ((... || (inputs && inputs.device() != ctx.device())))
    throw Error(std::string(what) + ": the inputs and the context must be on the same device");
}

template <class T>
void Model<T>::weights_changed() {
  image_encoder_.unpack();
  prompt_encoder_.unpack();
  regression_.unpack();
  lazy_ = std::make_unique<Lazy>();
  identity_->expire();
  renew_identity();
}

// ---- the parts ----------------------------------------------------------------------------------------------------

template <class T>
Tensor<T> Model<T>::preprocess(Context& ctx, std::span<const Image> images) const {
  return prepare_images<T>(ctx, images, static_cast<int>(config_.image_size));
}

template <class T>
std::shared_ptr<const typename Model<T>::MalProducts> Model<T>::products_for(Context& ctx, std::int64_t images) const {
  // Merged layers exist in one backend's layout only: the one the weights are packed for.
  if (!merge_products_ || ctx.tape() || !image_encoder_.packed_for(ctx)) return nullptr;
  if (ctx.device() != Device::cpu) return lazy_->products;  // formed by pack()
  const std::int64_t seen = lazy_->images_seen.fetch_add(images) + images;
  {
    std::lock_guard<std::mutex> lock(lazy_->guard);
    if (lazy_->products) return lazy_->products;
  }
  if (static_cast<double>(seen) * image_encoder_.products_saving() < image_encoder_.products_cost()) return nullptr;
  const std::unique_lock<std::mutex> forming(lazy_->forming, std::try_to_lock);
  if (!forming.owns_lock()) return nullptr;  // another thread is at it; this one goes on without
  {
    std::lock_guard<std::mutex> lock(lazy_->guard);
    if (lazy_->products) return lazy_->products;
  }
  ctx.trim();  // what earlier images left would otherwise lie beside products of whole weights,
  auto products = std::make_shared<const MalProducts>(image_encoder_.form_products(ctx, released_));
  ctx.memory().trim();  // whose scratch nothing later is as large as
  std::lock_guard<std::mutex> lock(lazy_->guard);
  lazy_->products = products;
  return products;
}

template <class T>
Tensor<T> Model<T>::image_features(Context& ctx, const Tensor<T>& nchw, const Pass<T>& pass) const {
  const std::int64_t side = config_.image_size;
  check_device(ctx, "image_features", nchw);
  detail::check_rank("image_features", "nchw", nchw, 4);
  detail::check_shape("image_features", "nchw", nchw, Shape{nchw.dim(0), 3, side, side});
  if (pass.training || ctx.tape() || !pass.rewrites) return image_encoder_(ctx, nchw, pass, nullptr);
  const auto products = products_for(ctx, nchw.dim(0));
  if (pass.trace) return image_encoder_(ctx, nchw, pass, products.get());  // which keeps what an arena would take back
  const ArenaScope arena(ctx, {identity_.get(), 0, nchw.dim(0)});
  return image_encoder_(ctx, nchw, pass, products.get());
}

template <class T>
Tensor<T> Model<T>::prompt_features(Context& ctx, const Tensor<T>& image_feature, const Tensor<T>& scores,
                                    const Pass<T>& pass) const {
  check_device(ctx, "prompt_features", image_feature, scores);
  detail::check_rank("prompt_features", "image_feature", image_feature, 2);
  detail::check_shape("prompt_features", "image_feature", image_feature,
                      Shape{image_feature.dim(0), config_.prompt_dim});
  detail::check_shape("prompt_features", "scores", scores, Shape{image_feature.dim(0), 1});
  return prompt_encoder_.pairs(ctx, image_feature, scores, pass);
}

template <class T>
Tensor<T> Model<T>::fuse_prompt(Context& ctx, const Tensor<T>& prompt_feature, const Pass<T>& pass) const {
  check_device(ctx, "fuse_prompt", prompt_feature);
  detail::check_rank("fuse_prompt", "prompt_feature", prompt_feature, 3);
  detail::check_shape("fuse_prompt", "prompt_feature", prompt_feature,
                      Shape{prompt_feature.dim(0), prompt_feature.dim(1), config_.prompt_dim});
  return prompt_encoder_.fuse(ctx, prompt_feature, pass);
}

template <class T>
Tensor<T> Model<T>::logits(Context& ctx, const Tensor<T>& image_feature, const Tensor<T>& fused,
                           const Pass<T>& pass) const {
  check_device(ctx, "logits", image_feature, fused);
  detail::check_rank("logits", "image_feature", image_feature, 2);
  detail::check_rank("logits", "fused", fused, 3);
  detail::check_shape("logits", "image_feature", image_feature, Shape{image_feature.dim(0), config_.prompt_dim});
  detail::check_shape("logits", "fused", fused, Shape{image_feature.dim(0), fused.dim(1), config_.prompt_dim});
  return regression_(ctx, image_feature, fused, pass);
}

template <class T>
Tensor<T> Model<T>::leave_one_out(Context& ctx, const Tensor<T>& image_feature, const Tensor<T>& scores,
                                  const Pass<T>& pass, std::int64_t group) const {
  const Tensor<T> prompts = prompt_features(ctx, image_feature, scores, pass);  // (B, M)
  const std::int64_t images = prompts.dim(0), b = group == 0 ? images : group;
  if (b < 2) detail::shape_error("leave_one_out", "a batch must have at least 2 images, got " + std::to_string(b));
  if (images % b != 0)
    detail::shape_error("leave_one_out", "the number of images must be a multiple of the group's " + std::to_string(b) +
                                             ", got " + std::to_string(images));
  std::vector<std::int64_t> others;
  others.reserve(static_cast<std::size_t>(images * (b - 1)));
  for (std::int64_t i = 0; i < images; ++i)
    for (std::int64_t j = i / b * b; j < i / b * b + b; ++j)
      if (j != i) others.push_back(j);
  const Tensor<T> rest = index_select(ctx, prompts, 0, others).reshape({images, b - 1, config_.prompt_dim});
  const Tensor<T> predicted = sigmoid(ctx, logits(ctx, image_feature, fuse_prompt(ctx, rest, pass), pass));
  pass.note("score", predicted);
  return predicted;
}

// ---- scoring --------------------------------------------------------------------------------------------------------

template <class T>
std::vector<float> Model<T>::features(Context& ctx, std::span<const Image> images) const {
  const auto piece = static_cast<std::size_t>(detail::images_per_pass(config_));
  std::vector<float> all;
  all.reserve(images.size() * static_cast<std::size_t>(config_.prompt_dim));
  const TapeScope not_recording(ctx, nullptr);
  for (std::size_t begin = 0; begin < images.size(); begin += piece) {
    const auto part = images.subspan(begin, std::min(piece, images.size() - begin));
    const Tensor<T> feature = image_features(ctx, preprocess(ctx, part));
    detail::each_on_host(feature, [&](std::size_t, float value) { all.push_back(value); });
  }
  return all;
}

template <class T>
Prompt Model<T>::make_prompt(Context& ctx, PromptData data) const {
  if (data.width != config_.prompt_dim)
    throw PromptError("prompt: image features must be " + std::to_string(config_.prompt_dim) + " wide, got " +
                      std::to_string(data.width));
  data.validate();
  const std::int64_t n = data.size();
  std::vector<float> unit;
  unit.reserve(data.scores.size());
  for (float score : data.scores) unit.push_back(data.scale.to_unit(score));

  Prompt prompt;
  if (n == 1)
    prompt.warnings_.push_back("the prompt has a single pair: it cannot show which direction is better; use about 10");
  else if (std::all_of(unit.begin(), unit.end(), [&](float s) { return s == unit[0]; }))
    prompt.warnings_.push_back("all " + std::to_string(n) + " scores of the prompt are " +
                               std::to_string(data.scores[0]) + ": they say nothing about what is better");
  const TapeScope not_recording(ctx, nullptr);
  const Tensor<T> pairs =
      prompt_features(ctx, detail::from_host<T>(ctx, Shape{n, data.width}, std::span<const float>(data.image_features)),
                      detail::from_host<T>(ctx, Shape{n, 1}, std::span<const float>(unit)));
  const Tensor<T> fused = fuse_prompt(ctx, pairs.reshape({1, n, data.width}));
  prompt.fused_ = detail::on_host(fused.reshape({n, data.width}));
  prompt.data_ = std::make_shared<const PromptData>(std::move(data));
  prompt.identity_ = identity_;
  return prompt;
}

template <class T>
Prompt Model<T>::encode_prompt(Context& ctx, std::span<const Image> images, std::span<const float> scores,
                               const ScoreScale& scale) const {
  if (images.size() != scores.size())
    throw PromptError("prompt: there must be one score per image, got " + std::to_string(images.size()) +
                      " images and " + std::to_string(scores.size()) + " scores");
  PromptData data;
  data.preprocessing = preprocessing();
  data.scale = scale;
  data.scores.assign(scores.begin(), scores.end());
  data.width = config_.prompt_dim;
  // Bad scores are refused before the backbone runs.
  data.image_features.assign(scores.size() * static_cast<std::size_t>(data.width), 0.0f);
  data.validate();
  data.image_features = features(ctx, images);
  return make_prompt(ctx, std::move(data));
}

template <class T>
Prompt Model<T>::bind_prompt(Context& ctx, PromptData data, const std::string& weights_id) const {
  if (data.preprocessing != preprocessing())
    throw PromptError("prompt '" + data.name + "' was made with preprocessing '" + data.preprocessing +
                      "', this model uses '" + preprocessing() + "'; make it again from its images");
  if (weights_id != this->weights_id())
    throw PromptError("prompt '" + data.name + "' was made with other weights: it has weights_id " +
                      weights_id.substr(0, 16) + "..., the model " + this->weights_id().substr(0, 16) +
                      "...; make it again from its images");
  return make_prompt(ctx, std::move(data));
}

template <class T>
void Model<T>::check_prompt(const Prompt& prompt) const {
  if (prompt.size() == 0) throw PromptError("prompt: there must be at least one image-score pair");
  if (prompt.identity_ != identity_ && prompt.weights_id() != weights_id())
    throw PromptError("prompt: it was made with other weights; make it again with this model");
}

template <class T>
Prompt Model<T>::with_scores(Context& ctx, const Prompt& prompt, std::span<const float> scores) const {
  check_prompt(prompt);
  PromptData data = prompt.data();
  if (scores.size() != data.scores.size())
    throw PromptError("with_scores: the prompt has " + std::to_string(data.scores.size()) + " pairs, got " +
                      std::to_string(scores.size()) + " scores");
  data.scores.assign(scores.begin(), scores.end());
  return make_prompt(ctx, std::move(data));
}

template <class T>
std::vector<Prediction> Model<T>::score_features(Context& ctx, std::span<const float> image_features,
                                                 const Prompt& prompt) const {
  check_prompt(prompt);
  const auto width = static_cast<std::size_t>(config_.prompt_dim);
  if (image_features.size() % width != 0)
    throw PromptError("score_features: " + std::to_string(image_features.size()) + " values are no features of width " +
                      std::to_string(width));
  for (std::size_t i = 0; i < image_features.size(); ++i)
    if (!std::isfinite(image_features[i]))
      throw PromptError("score_features: the features of image " + std::to_string(i / width + 1) + " are not finite");
  const TapeScope not_recording(ctx, nullptr);
  const std::int64_t n = prompt.size(), m = config_.prompt_dim;
  Tensor<T> fused;
  if constexpr (std::is_same_v<T, float>)
    if (ctx.device() == Device::cpu) fused = prompt.fused_.reshape({1, n, m});
  if (!fused) fused = detail::from_host<T>(ctx, Shape{1, n, m}, prompt.fused_.values());
  check_device(ctx, "score_features", fused);
  // The small heads work on (n + 1) rows per image; pieces keep that bounded too.
  const std::size_t piece = static_cast<std::size_t>(std::max<std::int64_t>(1, 4096 / (n + 1))) * width;
  std::vector<Prediction> predictions;
  predictions.reserve(image_features.size() / width);
  for (std::size_t begin = 0; begin < image_features.size(); begin += piece) {
    const auto part = image_features.subspan(begin, std::min(piece, image_features.size() - begin));
    const auto count = static_cast<std::int64_t>(part.size() / width);
    const ArenaScope arena(ctx, {identity_.get(), 1, count, n});
    const Tensor<T> logit = logits(ctx, detail::from_host<T>(ctx, Shape{count, m}, part), expand(ctx, fused, 0, count));
    const Tensor<T> unit = sigmoid(ctx, logit);
    const std::size_t first = predictions.size();
    predictions.resize(first + static_cast<std::size_t>(count));
    detail::each_on_host(
        unit, [&](std::size_t i, float p) { predictions[first + i].score = prompt.data().scale.from_unit(p); });
    detail::each_on_host(logit, [&](std::size_t i, float x) { predictions[first + i].logit = x; });
  }
  return predictions;
}

template <class T>
std::vector<Prediction> Model<T>::score(Context& ctx, std::span<const Image> images, const Prompt& prompt) const {
  check_prompt(prompt);
  return score_features(ctx, features(ctx, images), prompt);
}

// ---- training -----------------------------------------------------------------------------------------------------

namespace detail {

struct CountBatch {
  template <class U>
  void matrix(const std::string&, Tensor<U>&, const Shape&) {}
  template <class U>
  void tensor(const std::string&, Tensor<U>&, const Shape&, bool) {}
  void counter(const std::string&, std::int64_t& value) { ++value; }
};

// Calls f(name, tensor, file shape, trainable) and g(name, counter).
template <class F, class G>
struct StateLister {
  F each_tensor;
  G each_counter;
  StateLister(F tensors, G counters)
      : each_tensor(tensors), each_counter(counters) {}  // clang 14 deduces only from this
  template <class U>
  void matrix(const std::string& name, Tensor<U>& value, const Shape& shape) {
    each_tensor(name, value, shape, true);
  }
  template <class U>
  void tensor(const std::string& name, Tensor<U>& value, const Shape& shape, bool trainable) {
    each_tensor(name, value, shape, trainable);
  }
  void counter(const std::string& name, std::int64_t& value) { each_counter(name, value); }
};

}  // namespace detail

template <class T>
Tensor<T> Model<T>::training_forward(Context& ctx, const Tensor<T>& nchw, const Tensor<T>& scores, Trace<T>* trace) {
  Pass<T> pass;
  pass.training = true;
  pass.trace = trace;
  const Tensor<T> predicted = leave_one_out(ctx, image_features(ctx, nchw, pass), scores, pass);
  count_training_batch();
  weights_changed();  // the running statistics have
  return predicted;
}

template <class T>
void Model<T>::count_training_batch() {
  detail::CountBatch count;
  visit(count);
}

namespace detail {
/// Appends the entry of a tensor of type T, or of the type that a Model<bfloat16> keeps its norms in.
template <class T, class Entry, class U>
void add_entry(std::vector<Entry>& list, Entry entry, const Tensor<U>& value) {
  if constexpr (std::is_same_v<U, T>)
    entry.value = value;
  else
    entry.wide = value;
  list.push_back(std::move(entry));
}
}  // namespace detail

template <class T>
std::vector<typename Model<T>::NamedParameter> Model<T>::parameters() {
  std::vector<NamedParameter> list;
  detail::StateLister lister{[&](const std::string& name, auto& value, const Shape&, bool trainable) {
                               if (trainable) detail::add_entry<T>(list, {name, {}}, value);
                             },
                             [](const std::string&, std::int64_t&) {}};
  visit(lister);
  return list;
}

template <class T>
std::vector<typename Model<T>::StateEntry> Model<T>::state() const {
  std::vector<StateEntry> list;
  detail::StateLister lister{[&](const std::string& name, auto& value, const Shape& shape, bool) {
                               detail::add_entry<T>(list, {name, shape, {}, 0}, value);
                             },
                             [&](const std::string& name, std::int64_t& value) {
                               list.push_back({name, Shape{}, {}, value});
                             }};
  const_cast<Model*>(this)->visit(lister);  // the lister only reads
  return list;
}

template <class T>
void Model<T>::save(const std::string& path, DType dtype, std::map<std::string, std::string> notes) const {
  std::vector<NamedTensor> tensors;
  std::vector<std::shared_ptr<std::vector<std::byte>>> encoded;
  for (const StateEntry& entry : state()) {
    NamedTensor tensor;
    tensor.name = entry.name;
    tensor.shape = entry.shape;
    const auto count = static_cast<std::size_t>(entry.shape.numel());
    // Running statistics span many magnitudes and weigh nothing: they keep full precision.
    tensor.dtype = !entry.value && !entry.wide                         ? DType::i64
                   : entry.name.find(".running_") != std::string::npos ? DType::f32
                                                                       : dtype;
    tensor.bytes = count * dtype_size(tensor.dtype);
    const auto bytes = std::make_shared<std::vector<std::byte>>(tensor.bytes);
    const auto write = [&](const auto& numbers) { encode(tensor.dtype, numbers.data(), count, bytes->data()); };
    if (entry.value)
      detail::with_host_numbers(entry.value, write);
    else if (entry.wide)
      detail::with_host_numbers(entry.wide, write);
    else
      std::memcpy(bytes->data(), &entry.counter, sizeof entry.counter);
    tensor.data = bytes->data();
    tensor.owner = bytes;
    tensors.push_back(std::move(tensor));
  }
  notes["config"] = config_.to_json();
  notes["format"] = "pt";
  write_safetensors(path, notes, tensors);
}

}  // namespace promptiqa
