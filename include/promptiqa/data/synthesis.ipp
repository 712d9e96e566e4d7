// Bodies of synthesise: photographs to rows of pixels and numbers, rows to an ImageCache, an ImageCache to labels.
// Surprising choice: labels always come from the cache's note, even right after it was written, so that a run that
// reopens the cache trains on exactly the numbers of the run that made it.
#pragma once

#include <algorithm>
#include <array>
#include <charconv>
#include <cmath>
#include <cstring>
#include <filesystem>
#include <limits>
#include <numeric>
#include <optional>
#include <system_error>
#include <unordered_map>
#include <unordered_set>
#include <utility>

#include <promptiqa/data/counter_random.hpp>
#include <promptiqa/data/distortions.hpp>
#include <promptiqa/data/filters.hpp>
#include <promptiqa/data/synthesis.hpp>
#include <promptiqa/image/file.hpp>
#include <promptiqa/image/file_format.hpp>
#include <promptiqa/image/resize.hpp>
#include <promptiqa/metrics/attributes.hpp>
#include <promptiqa/metrics/full_reference.hpp>

namespace promptiqa {

namespace synthesis {

inline constexpr int recipe_version = 1;  // raise when distortions, metrics, draws or the note change
inline constexpr int least_side = 16;     // of a photograph

struct Label {
  const char* name;
  LabelKind kind;
};
inline constexpr std::array<Label, 12> labels = {{{"psnr", LabelKind::metric},
                                                  {"ssim", LabelKind::metric},
                                                  {"ms_ssim", LabelKind::metric},
                                                  {"fsim", LabelKind::metric},
                                                  {"gmsd", LabelKind::metric},
                                                  {"vif", LabelKind::metric},
                                                  {"level", LabelKind::level},
                                                  {"brightness", LabelKind::attribute},
                                                  {"contrast", LabelKind::attribute},
                                                  {"colourfulness", LabelKind::attribute},
                                                  {"sharpness", LabelKind::attribute},
                                                  {"noise", LabelKind::attribute}}};

/// Everything known of one picture but its pixels. Metrics and attributes as computed; level 0 to 5.
struct Row {
  int distortion = -1;
  std::array<double, labels.size()> values{};
};

/// What became of one photograph: `versions` rows, or an error.
struct Photograph {
  std::vector<Row> rows;
  std::vector<std::uint8_t> pixels;
  std::string error;
};

// ---- making ---------------------------------------------------------------------------------------------------------

// The photograph as 8-bit RGB, shrunk if it is longer than `longest`.
inline Image load_photograph(const std::string& path, int longest) {
  const Image image = to_rgb8(load_image(path));
  if (std::min(image.width(), image.height()) < least_side)
    throw ImageError(detail::image_label(path) + ": " + std::to_string(image.width()) + " x " +
                     std::to_string(image.height()) + " is too small to be spoiled; at least " +
                     std::to_string(least_side) + " x " + std::to_string(least_side) + " is needed");
  const std::int64_t longer = std::max(image.width(), image.height());
  if (longer <= longest) return image;
  const auto scaled = [&](std::int64_t length) {
    return static_cast<int>(std::max<std::int64_t>(least_side, (length * longest + longer / 2) / longer));
  };
  const distortion::Planes in = distortion::to_planes(image);
  distortion::Planes out{scaled(in.width), scaled(in.height), {}};
  out.width = std::min(out.width, in.width), out.height = std::min(out.height, in.height);
  for (std::size_t c = 0; c < 3; ++c)
    out.channel[c] = distortion::shrunk(in.channel[c], in.width, in.height, out.width, out.height);
  return distortion::to_image(out, path);
}

// A sequence that depends on the photograph's name without its folder, its size in bytes, and the seed.
inline distortion::CounterRandom random_of(const CacheSource& photograph, std::uint64_t seed) {
  std::uint64_t hash = 0xcbf29ce484222325u;  // FNV-1a
  for (const char c : photograph.file.substr(photograph.file.rfind('/') + 1))
    hash = (hash ^ static_cast<unsigned char>(c)) * 0x100000001b3u;
  return {seed, hash ^ photograph.bytes};
}

// All pairs of kind and level as numbers, shuffled.
inline std::vector<int> shuffled_pairs(const distortion::CounterRandom& random, std::uint64_t first) {
  std::vector<int> pairs(static_cast<std::size_t>(distortion_count() * distortion_levels));
  std::iota(pairs.begin(), pairs.end(), 0);
  for (std::size_t left = pairs.size(); left > 1; --left)
    std::swap(pairs[left - 1], pairs[random.below(first + left, left)]);
  return pairs;
}

// A metric of two pictures that are alike in size, so the one thing it can object to is that they are too small.
template <class Metric>
double metric_or_nan(const Metric& metric) {
  try {
    return metric();
  } catch (const ImageError&) {
    return std::numeric_limits<double>::quiet_NaN();
  }
}

// fsim: of one photograph's versions, made once because half the work is the photograph's own; null when it is too
// small.
inline Row labelled(const Image& reference, const FsimReference* fsim, const Image& picture, const Image& stored,
                    int kind, int level) {
  Row row{kind, {}};
  std::size_t at = 0;
  const auto add = [&](double (*metric)(const Image&, const Image&)) {
    row.values[at++] = metric_or_nan([&] { return metric(reference, picture); });
  };
  for (const auto metric : {psnr, ssim, ms_ssim}) add(metric);
  row.values[at++] =
      fsim ? metric_or_nan([&] { return fsim->fsim(picture); }) : std::numeric_limits<double>::quiet_NaN();
  for (const auto metric : {gmsd, vif}) add(metric);
  row.values[at++] = level;
  for (const auto attribute : {brightness, contrast, colourfulness, sharpness, noise})
    row.values[at++] = attribute(stored);
  return row;
}

inline std::optional<FsimReference> fsim_reference(const Image& photograph) {
  try {
    return FsimReference(photograph);
  } catch (const ImageError&) {
    return std::nullopt;
  }
}

inline Photograph spoil(const CacheSource& source, const SynthesisOptions& options) {
  Photograph result;
  try {
    const Image reference = load_photograph(source.file, options.longest_side);
    const distortion::CounterRandom random = random_of(source, options.seed);
    const std::size_t row_bytes =
        std::size_t{3} * static_cast<std::size_t>(options.side) * static_cast<std::size_t>(options.side);
    result.pixels.resize(row_bytes * static_cast<std::size_t>(options.versions));
    const std::optional<FsimReference> fsim = fsim_reference(reference);
    std::vector<int> pairs;
    for (int version = 0; version < options.versions; ++version) {
      const auto counter = static_cast<std::uint64_t>(version) << 32;  // far from other versions' counters
      int kind = -1, level = 0;
      Image picture = reference;
      if (version > 0) {
        if (pairs.empty()) pairs = shuffled_pairs(random, counter);
        kind = pairs.back() / distortion_levels;
        level = pairs.back() % distortion_levels + 1;
        pairs.pop_back();
        picture = distort(reference, kind, level, random.bits(counter));
      }
      const Image stored = resize_cubic(picture, options.side, options.side);
      std::memcpy(result.pixels.data() + row_bytes * static_cast<std::size_t>(version), stored.row(0), row_bytes);
      result.rows.push_back(labelled(reference, fsim ? &*fsim : nullptr, picture, stored, kind, level));
    }
  } catch (const Error& error) {
    result = {};
    result.error = error.what();
  }
  return result;
}

// ---- the note -------------------------------------------------------------------------------------------------------
// Line 1: recipe, options and names of distortions. Then one line a cache row: photograph, distortion, labels; or the
// photograph and "unusable".

inline std::string number_text(double value) {  // the shortest that reads back as the same number, in any locale
  std::array<char, 32> text;
  const auto end = std::to_chars(text.data(), text.data() + text.size(), value).ptr;
  return {text.data(), end};
}

inline std::string recipe_line(const SynthesisOptions& options) {
  std::string line = "promptiqa synthesis " + std::to_string(recipe_version) + " versions " +
                     std::to_string(options.versions) + " side " + std::to_string(options.side) + " longest " +
                     std::to_string(options.longest_side) + " seed " + std::to_string(options.seed);
  for (int kind = 0; kind < distortion_count(); ++kind) line += std::string(" ") + distortion_name(kind);
  return line + "\n";
}

inline void append_note(std::string& note, std::size_t photo, const Photograph& photograph) {
  for (const Row& row : photograph.rows) {
    note += std::to_string(photo) + " " + std::to_string(row.distortion);
    for (const double value : row.values) note += " " + number_text(value);
    note += "\n";
  }
  if (photograph.rows.empty()) note += std::to_string(photo) + " unusable\n";
}

/// A note, read. Rows that are unusable have distortion -2.
struct Note {
  std::string recipe;
  std::vector<std::int32_t> photo;
  std::vector<Row> rows;
};

// Reads the numbers and words of a note from front to back.
class NoteReader {
 public:
  NoteReader(const std::string& note, const std::string& path)
      : next_(note.data()), end_(note.data() + note.size()), path_(path) {}

  bool done() const { return next_ == end_; }

  std::string line() {
    const char* stop = std::find(next_, end_, '\n');
    if (stop == end_) throw damaged();
    std::string text(next_, stop + 1);
    next_ = stop + 1;
    return text;
  }
  template <class T>
  T number() {
    T value{};
    const auto [stop, error] = std::from_chars(next_, end_, value);
    if (error != std::errc() || stop == end_) throw damaged();
    next_ = stop + 1;  // the space or the end of the line
    return value;
  }
  bool take(const std::string& text) {
    if (static_cast<std::size_t>(end_ - next_) < text.size() || !std::equal(text.begin(), text.end(), next_))
      return false;
    next_ += text.size();
    return true;
  }

 private:
  DataError damaged() const { return DataError(path_ + ": the labels in the image cache are damaged"); }

  const char *next_, *end_;
  const std::string& path_;
};

inline Note read_note(const ImageCache& cache) {
  Note note;
  if (cache.note().empty()) return note;  // a cache of plain pictures
  NoteReader reader(cache.note(), cache.path());
  note.recipe = reader.line();
  if (note.recipe.rfind("promptiqa synthesis ", 0) != 0) return note;
  while (!reader.done()) {
    note.photo.push_back(reader.number<std::int32_t>());
    Row row;
    if (reader.take("unusable\n")) {
      row.distortion = -2;
    } else {
      row.distortion = reader.number<int>();
      for (double& value : row.values) value = reader.number<double>();
    }
    note.rows.push_back(row);
  }
  if (note.rows.size() != static_cast<std::size_t>(cache.size()))
    throw DataError(cache.path() + ": the image cache has " + std::to_string(cache.size()) +
                    " pictures and labels of " + std::to_string(note.rows.size()));
  return note;
}

// ---- an old cache ---------------------------------------------------------------------------------------------------

/// Photographs of an earlier run that were made by the same recipe, by name.
class Old {
 public:
  Old(const std::string& path, const std::string& recipe, ThreadPool& pool) {
    try {
      auto cache = ImageCache::open(path, pool);
      Note note = read_note(*cache);
      if (note.recipe != recipe) return;
      cache_ = std::move(cache);
      note_ = std::move(note);
    } catch (const Error&) {  // none, damaged or another kind of file: everything is made anew
      return;
    }
    for (std::size_t i = 0; i < note_.rows.size(); ++i) {
      auto& range = rows_of_[cache_->source(static_cast<std::int64_t>(i)).file];
      if (range.second == 0) range.first = i;
      ++range.second;
    }
  }

  /// The cache, when it holds exactly these photographs in this order.
  std::shared_ptr<const ImageCache> if_current(const std::vector<CacheSource>& sources) const {
    if (!cache_) return nullptr;
    std::size_t at = 0;
    for (const CacheSource& source : sources) {
      const auto range = range_of(source);
      if (range.second == 0 || range.first != at) return nullptr;
      at += range.second;
    }
    return at == note_.rows.size() ? cache_ : nullptr;
  }

  /// The photograph as it was made then, unless the file has changed. True when there is one.
  bool find(const CacheSource& source, Photograph& result) const {
    const auto [first, count] = range_of(source);
    if (count == 0) return false;
    result = {};
    result.error = cache_->error(static_cast<std::int64_t>(first));
    if (!result.error.empty()) return true;
    const auto side = static_cast<std::size_t>(cache_->side());
    for (std::size_t i = first; i < first + count; ++i) {
      const std::uint8_t* pixels = cache_->pixels(static_cast<std::int64_t>(i));
      result.pixels.insert(result.pixels.end(), pixels, pixels + 3 * side * side);
      result.rows.push_back(note_.rows[i]);
    }
    return true;
  }

 private:
  // First row and number of rows; (0, 0) for a photograph that is new or has changed.
  std::pair<std::size_t, std::size_t> range_of(const CacheSource& source) const {
    const auto found = rows_of_.find(source.file);
    if (found == rows_of_.end()) return {0, 0};
    const CacheSource& then = cache_->source(static_cast<std::int64_t>(found->second.first));
    return then.bytes == source.bytes && then.modified_ns == source.modified_ns ? found->second
                                                                                : std::pair<std::size_t, std::size_t>();
  }

  std::shared_ptr<const ImageCache> cache_;
  Note note_;
  std::unordered_map<std::string, std::pair<std::size_t, std::size_t>> rows_of_;
};

// ---- the whole ------------------------------------------------------------------------------------------------------

inline TrainingSet to_training_set(std::shared_ptr<const ImageCache> cache) {
  const Note note = read_note(*cache);
  TrainingSet set;
  set.name = "synthesis";
  std::array<std::vector<double>, labels.size()> columns;
  for (std::size_t i = 0; i < note.rows.size(); ++i) {
    const auto row = static_cast<std::int64_t>(i);
    if (!cache->usable(row)) {
      set.skipped.push_back(row);
      continue;
    }
    set.pictures.push_back(row);
    set.photo.push_back(note.photo[i]);
    set.distortion.push_back(note.rows[i].distortion);
    // As float: a photograph compared with itself gives 1 up to a last bit of double, which is nothing to rank by.
    for (std::size_t c = 0; c < labels.size(); ++c) columns[c].push_back(static_cast<float>(note.rows[i].values[c]));
  }
  if (set.pictures.empty())
    throw DataError(cache->path() + ": none of the " + std::to_string(cache->size()) +
                    " photographs can be used: " + cache->error(0) + (cache->size() > 1 ? "; ..." : ""));
  for (std::size_t c = 0; c < labels.size(); ++c) {
    LabelColumn column{labels[c].name, labels[c].kind, {}};
    if (column.kind == LabelKind::level) {
      for (const double level : columns[c]) column.values.push_back(static_cast<float>(1 - level / distortion_levels));
    } else {
      if (column.name == "gmsd")  // a deviation: lower is better
        for (double& value : columns[c]) value = -value;
      column.values = ranks(columns[c]);
    }
    set.labels.push_back(std::move(column));
  }
  set.images = std::move(cache);
  return set;
}

inline void check_options(const SynthesisOptions& options) {
  const auto check = [](const char* name, int value, int least, int most) {
    if (value < least || value > most)
      throw DataError(std::string("synthesis: ") + name + " must be " + std::to_string(least) + " to " +
                      std::to_string(most) + ", got " + std::to_string(value));
  };
  check("versions", options.versions, 1, 1000);
  check("side", options.side, 8, 4096);
  check("longest_side", options.longest_side, 64, 8192);
}

}  // namespace synthesis

PROMPTIQA_INLINE std::vector<std::string> find_photographs(const std::string& folder) {
  namespace fs = std::filesystem;
  std::vector<std::string> files;
  std::error_code error;
  fs::recursive_directory_iterator it(folder, error), end;
  for (; !error && it != end; it.increment(error)) {
    std::error_code ignored;
    if (!it->is_directory(ignored) && has_image_extension(it->path().string())) files.push_back(it->path().string());
  }
  if (error) throw FileError(folder + ": the folder cannot be read: " + error.message());
  if (files.empty()) throw DataError(folder + ": there are no images in the folder");
  std::sort(files.begin(), files.end());
  return files;
}

PROMPTIQA_INLINE TrainingSet synthesise(std::span<const std::string> photographs, const std::string& cache,
                                        const SynthesisOptions& options, ThreadPool& pool,
                                        const SynthesisProgress& progress) {
  synthesis::check_options(options);
  if (photographs.empty()) throw DataError("synthesis: there are no photographs");
  std::vector<CacheSource> sources;
  std::unordered_set<std::string> names;
  for (const std::string& photograph : photographs) {
    sources.push_back(cache_source(photograph));
    if (!names.insert(sources.back().file).second)
      throw DataError("synthesis: photograph '" + photograph + "' is named twice");
  }
  const std::string recipe = synthesis::recipe_line(options);
  const synthesis::Old old(cache, recipe, pool);
  if (auto current = old.if_current(sources)) return synthesis::to_training_set(std::move(current));

  CacheOptions cache_options;
  cache_options.side = options.side;
  ImageCacheWriter writer(cache, cache_options);
  std::string note = recipe;
  const std::size_t row_bytes =
      std::size_t{3} * static_cast<std::size_t>(options.side) * static_cast<std::size_t>(options.side);
  const std::size_t batch = static_cast<std::size_t>(pool.size()) * 2;  // few, since each takes seconds
  for (std::size_t first = 0; first < sources.size(); first += batch) {
    const std::size_t count = std::min(batch, sources.size() - first);
    std::vector<synthesis::Photograph> made(count);
    pool.parallel_for(static_cast<std::int64_t>(count), [&](std::int64_t task) {
      const auto slot = static_cast<std::size_t>(task);
      if (!old.find(sources[first + slot], made[slot])) made[slot] = synthesis::spoil(sources[first + slot], options);
    });
    for (std::size_t slot = 0; slot < count; ++slot) {
      const synthesis::Photograph& photograph = made[slot];
      const CacheSource& source = sources[first + slot];
      if (photograph.rows.empty()) writer.append_unusable(source, photograph.error);
      for (std::size_t i = 0; i < photograph.rows.size(); ++i)
        writer.append(source, photograph.pixels.data() + i * row_bytes);
      synthesis::append_note(note, first + slot, photograph);
    }
    if (progress) progress(static_cast<std::int64_t>(first + count), static_cast<std::int64_t>(sources.size()));
  }
  return synthesis::to_training_set(writer.finish(note));
}

PROMPTIQA_INLINE TrainingSet synthesise_folder(const std::string& folder, const std::string& cache,
                                               const SynthesisOptions& options, ThreadPool& pool,
                                               const SynthesisProgress& progress) {
  return synthesise(find_photographs(folder), cache, options, pool, progress);
}

}  // namespace promptiqa
