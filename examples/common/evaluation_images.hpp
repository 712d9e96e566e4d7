// What an evaluation knows about pictures: features, attributes, difference hashes, or why a picture cannot be read.
// Surprising choice: nothing is computed before it is asked for, and then once; of a large training part only the
// pictures that prompts really show go through the model.
#pragma once

#include <array>
#include <cmath>
#include <compare>
#include <csignal>
#include <map>
#include <optional>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include <promptiqa/metrics/attributes.hpp>

#include "any_model.hpp"
#include "evaluation_cache.hpp"
#include "evaluation_hash.hpp"
#include "image_stream.hpp"
#include "progress.hpp"

namespace examples {

/// The no-reference attributes that can be asked for, computed on the picture as the model sees it.
struct Attribute {
  const char* name;
  double (*value)(const promptiqa::Image&);
};
inline constexpr std::array<Attribute, 5> all_attributes = {{{"brightness", promptiqa::brightness},
                                                             {"contrast", promptiqa::contrast},
                                                             {"colourfulness", promptiqa::colourfulness},
                                                             {"sharpness", promptiqa::sharpness},
                                                             {"noise", promptiqa::noise}}};

/// What is known about one picture.
struct Picture {
  std::string error;            // empty: it can be used
  std::vector<float> features;  // empty: not computed yet
  std::optional<std::array<double, all_attributes.size()>> attributes;
  std::optional<DifferenceHash> hash;
};

/// Thrown between two batches when the user interrupts.
struct Interrupted {};

/// A picture as a data set means it: the same file by way of another short side is another picture.
struct PictureId {
  std::string file;
  int short_side = 0;  // see promptiqa::Dataset
  auto operator<=>(const PictureId&) const = default;
};

/// All pictures of a run.
class PictureStore {
 public:
  struct Options {
    std::uint64_t max_pixels = 0;
    std::size_t batch = 16;
    bool show_progress = true;
    const volatile std::sig_atomic_t* interrupted = nullptr;
  };
  /// What a caller needs of pictures.
  struct Wanted {
    bool features = false, attributes = false, hash = false;
  };

  /// All four must outlive the store.
  PictureStore(promptiqa::Context& ctx, const AnyModel& model, FeatureCache& cache, Options options)
      : ctx_(ctx), model_(model), cache_(cache), options_(options) {}

  /// Makes what is wanted of these pictures known; those that fail get an error. Features made by way of a short side
  /// are not kept for the next run. Throws Interrupted.
  void load(const std::vector<PictureId>& pictures, const Wanted& wanted) {
    std::vector<ImageFile> missing;
    std::vector<FileStamp> stamps;
    for (const PictureId& id : pictures) {
      Picture& picture = pictures_[id];
      if (!picture.error.empty()) continue;
      if (wanted.features && picture.features.empty() && id.short_side == 0)
        if (const std::vector<float>* kept = cache_.find(id.file)) picture.features = *kept;
      if ((!wanted.features || !picture.features.empty()) && (!wanted.attributes || picture.attributes) &&
          (!wanted.hash || picture.hash))
        continue;
      if (!requested_.insert(id).second) continue;  // named twice
      missing.push_back({id.file, {}, id.short_side});
      stamps.push_back(file_stamp(id.file).value_or(FileStamp{}));
    }
    requested_.clear();
    read(missing, stamps, wanted);
  }

  /// What is known about a picture; load() must have been asked for it.
  const Picture& at(const PictureId& id) const { return pictures_.at(id); }

  /// Why a picture cannot be used; empty while nothing is known against it.
  std::string error(const PictureId& id) const {
    const auto it = pictures_.find(id);
    return it == pictures_.end() ? std::string() : it->second.error;
  }
  bool failed(const PictureId& id) const {
    const auto it = pictures_.find(id);
    return it != pictures_.end() && !it->second.error.empty();
  }

  /// Throws Interrupted when the user has interrupted.
  void check_interrupted() const {
    if (options_.interrupted && *options_.interrupted) throw Interrupted{};
  }

 private:
  Picture& picture_of(const ImageFile& file) { return pictures_[{file.path, file.short_side}]; }

  void read(const std::vector<ImageFile>& files, const std::vector<FileStamp>& stamps, const Wanted& wanted) {
    StageTimes times;  // not reported
    ImageStream stream(files, static_cast<int>(model_.config().image_size), options_.max_pixels, ctx_.pool().size(),
                       2 * options_.batch, times);
    ProgressBar progress(files.size(), options_.show_progress);
    for (std::size_t done = 0; done < files.size();) {
      check_interrupted();
      // One batch: what could be decoded is looked at, the rest keeps its error.
      std::vector<std::size_t> usable;
      std::vector<promptiqa::Image> images;
      for (const std::size_t end = std::min(done + options_.batch, files.size()); done < end; ++done) {
        DecodedImage decoded = stream.next();
        picture_of(files[done]).error = decoded.error;
        if (!decoded.error.empty()) continue;
        usable.push_back(done);
        images.push_back(std::move(decoded.image));
      }
      if (wanted.attributes || wanted.hash) look_at(files, usable, images, wanted);
      if (wanted.features) compute_features(files, stamps, usable, images);
      progress.update(done);
    }
  }

  void look_at(const std::vector<ImageFile>& files, const std::vector<std::size_t>& usable,
               const std::vector<promptiqa::Image>& images, const Wanted& wanted) {
    std::vector<Picture*> pictures;
    for (std::size_t i : usable) pictures.push_back(&picture_of(files[i]));
    ctx_.pool().parallel_for(static_cast<std::int64_t>(images.size()), [&](std::int64_t i) {
      const promptiqa::Image& image = images[static_cast<std::size_t>(i)];
      Picture& picture = *pictures[static_cast<std::size_t>(i)];
      if (wanted.hash) picture.hash = difference_hash(image);
      if (!wanted.attributes) return;
      picture.attributes.emplace();
      for (std::size_t a = 0; a < all_attributes.size(); ++a) (*picture.attributes)[a] = all_attributes[a].value(image);
    });
  }

  void compute_features(const std::vector<ImageFile>& files, const std::vector<FileStamp>& stamps,
                        const std::vector<std::size_t>& usable, const std::vector<promptiqa::Image>& images) {
    const std::vector<float> features = model_.features(ctx_, images);
    const auto width = static_cast<std::ptrdiff_t>(model_.config().prompt_dim);
    for (std::size_t k = 0; k < usable.size(); ++k) {
      const auto begin = features.begin() + width * static_cast<std::ptrdiff_t>(k);
      const std::string& path = files[usable[k]].path;
      Picture& picture = picture_of(files[usable[k]]);
      // Weights can be finite and their features not (overflow).
      if (!std::all_of(begin, begin + width, [](float x) { return std::isfinite(x); })) {
        picture.error = "image '" + path + "': the model's features of it are not finite";
        continue;
      }
      picture.features.assign(begin, begin + width);
      if (files[usable[k]].short_side == 0) cache_.insert(path, stamps[usable[k]], picture.features);
    }
  }

  promptiqa::Context& ctx_;
  const AnyModel& model_;
  FeatureCache& cache_;
  Options options_;
  std::map<PictureId, Picture> pictures_;
  std::set<PictureId> requested_;
};

}  // namespace examples
