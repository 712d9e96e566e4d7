// A file that keeps image features between evaluations, so that the next one of the same weights starts at once.
// Surprising choice: an entry is used only if weights, preprocessing, precision and the image file's size and time of
// change are still the same; a file that is of another model or damaged is an error, not silently replaced.
#pragma once

#include <sys/stat.h>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <filesystem>
#include <map>
#include <optional>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

#include <nlohmann/json.hpp>

#include <promptiqa/io/safetensors.hpp>

namespace examples {

/// Size and time of the last change of a file, which say whether it is still the same.
struct FileStamp {
  std::int64_t bytes = 0, nanoseconds = 0;
  bool operator==(const FileStamp& other) const = default;
};

/// The stamp of a file, or nothing when it cannot be read.
inline std::optional<FileStamp> file_stamp(const std::string& path) {
  struct stat status {};
  if (stat(path.c_str(), &status) != 0) return std::nullopt;
  return FileStamp{static_cast<std::int64_t>(status.st_size),
                   static_cast<std::int64_t>(status.st_mtim.tv_sec) * 1'000'000'000 + status.st_mtim.tv_nsec};
}

/// What features were made with; entries of another origin are of no use.
struct FeatureOrigin {
  std::string weights_id, preprocessing, precision;
  std::int64_t width = 0;
};

/// Image features by absolute path. An empty file name: nothing is kept between runs.
class FeatureCache {
 public:
  /// Reads the file if it exists. Throws FileError or WeightsError when it cannot be read, std::runtime_error when it
  /// is something else or of another origin.
  FeatureCache(std::string file, FeatureOrigin origin) : file_(std::move(file)), origin_(std::move(origin)) {
    std::error_code ignored;
    if (file_.empty() || !std::filesystem::exists(file_, ignored)) return;
    const promptiqa::TensorFile stored = promptiqa::read_safetensors(file_);
    const auto text = [&](const char* key) {
      const auto it = stored.metadata.find(key);
      return it == stored.metadata.end() ? std::string() : it->second;
    };
    const auto require = [&](const char* key, const std::string& wanted) {
      if (text(key) != wanted)
        throw std::runtime_error(file_ + ": the features were made with other " + key + " (\"" + text(key) +
                                 "\", now \"" + wanted + "\"); give another file or remove it");
    };
    if (text("format") != format) throw std::runtime_error(file_ + ": this is no feature cache");
    require("weights_id", origin_.weights_id);
    require("preprocessing", origin_.preprocessing);
    require("precision", origin_.precision);
    read_entries(stored, text("entries"));
  }

  /// The features of a file as it is now, or null.
  const std::vector<float>* find(const std::string& path) const {
    const auto it = entries_.find(key(path));
    if (it == entries_.end()) return nullptr;
    return file_stamp(path) == it->second.stamp ? &it->second.features : nullptr;
  }

  /// Keeps the features (origin.width finite values) of a file whose stamp was taken before it was read.
  void insert(const std::string& path, const FileStamp& stamp, std::vector<float> features) {
    entries_[key(path)] = {stamp, std::move(features)};
    changed_ = true;
  }

  /// Writes the file, atomically, if there is something new. Throws FileError.
  void save() {
    if (file_.empty() || !changed_) return;
    std::vector<float> values;
    nlohmann::json entries = nlohmann::json::array();
    for (const auto& [path, entry] : entries_) {
      entries.push_back({path, entry.stamp.bytes, entry.stamp.nanoseconds});
      values.insert(values.end(), entry.features.begin(), entry.features.end());
    }
    const promptiqa::NamedTensor tensor = {"image_feature", promptiqa::DType::f32,
                                           promptiqa::Shape{static_cast<std::int64_t>(entries_.size()), origin_.width},
                                           values.data(), values.size() * sizeof(float)};
    promptiqa::write_safetensors(file_,
                                 {{"format", format},
                                  {"entries", entries.dump(-1, ' ', true)},
                                  {"precision", origin_.precision},
                                  {"preprocessing", origin_.preprocessing},
                                  {"weights_id", origin_.weights_id}},
                                 {&tensor, 1});
    changed_ = false;
  }

 private:
  static constexpr const char* format = "promptiqa-feature-cache/1";

  struct Entry {
    FileStamp stamp;
    std::vector<float> features;
  };

  // Hexadecimal when the path is not ASCII: JSON holds Unicode only, file names hold any bytes.
  static std::string key(const std::string& path) {
    const std::string absolute = std::filesystem::absolute(path).lexically_normal().string();
    bool plain = true;
    for (char c : absolute) plain = plain && static_cast<unsigned char>(c) < 0x80;
    if (plain) return absolute;
    std::string hex = "hex:";
    for (char c : absolute) {
      const auto byte = static_cast<unsigned char>(c);
      hex += "0123456789abcdef"[byte >> 4];
      hex += "0123456789abcdef"[byte & 15];
    }
    return hex;
  }

  void read_entries(const promptiqa::TensorFile& stored, const std::string& text) {
    const promptiqa::NamedTensor* features = stored.find("image_feature");
    const auto damaged = [&](const std::string& why) {
      return std::runtime_error(file_ + ": the feature cache is damaged (" + why + "); remove it");
    };
    if (!features || features->dtype != promptiqa::DType::f32 || features->shape.rank() != 2 ||
        features->shape[1] != origin_.width)
      throw damaged("image_feature is missing or of another shape");
    const auto list = nlohmann::json::parse(text, nullptr, false);
    if (!list.is_array() || static_cast<std::int64_t>(list.size()) != features->shape[0])
      throw damaged("the list of entries does not fit the features");
    const auto width = static_cast<std::size_t>(origin_.width);
    for (std::size_t i = 0; i < list.size(); ++i) {
      const auto& item = list[i];
      if (!item.is_array() || item.size() != 3 || !item[0].is_string() || !item[1].is_number_integer() ||
          !item[2].is_number_integer())
        throw damaged("entry " + std::to_string(i + 1));
      Entry entry{{item[1].get<std::int64_t>(), item[2].get<std::int64_t>()}, std::vector<float>(width)};
      std::memcpy(entry.features.data(), static_cast<const char*>(features->data) + i * width * sizeof(float),
                  width * sizeof(float));
      if (!std::all_of(entry.features.begin(), entry.features.end(), [](float x) { return std::isfinite(x); }))
        throw damaged("the features of entry " + std::to_string(i + 1) + " are not finite");
      entries_[item[0].get<std::string>()] = std::move(entry);
    }
  }

  std::string file_;
  FeatureOrigin origin_;
  std::map<std::string, Entry> entries_;
  bool changed_ = false;
};

}  // namespace examples
