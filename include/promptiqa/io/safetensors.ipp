// Bodies of the safetensors reader and writer.
// Surprising choice: the header is read event by event into exactly what it may contain, so repeated keys are seen
// and a nesting bomb ends at its third bracket; no JSON tree is ever built.
#pragma once

#include <algorithm>
#include <cstring>
#include <limits>
#include <numeric>

#include <nlohmann/json.hpp>

#include <promptiqa/io/atomic_file.hpp>
#include <promptiqa/io/safetensors.hpp>

namespace promptiqa {
namespace detail {

constexpr std::size_t safetensors_header_limit = 100'000'000;  // the reference implementation's

/// One tensor as the header describes it.
struct SafetensorsEntry {
  NamedTensor tensor;
  std::uint64_t begin = 0, end = 0;  // data_offsets
};

/// Receives the JSON events of a header. The three levels are the top object, a tensor (or `__metadata__`) and a
/// list inside a tensor; whatever does not fit its place throws.
class SafetensorsHeader {
 public:
  explicit SafetensorsHeader(const std::string& file) : file_(file) {}

  std::map<std::string, std::string> metadata;
  std::vector<SafetensorsEntry> entries;

  bool null() { return unexpected("null"); }
  bool boolean(bool) { return unexpected("a boolean"); }
  bool number_integer(std::int64_t value) { return unexpected("the negative number " + std::to_string(value)); }
  bool number_float(double, const std::string& text) { return unexpected("the number " + text.substr(0, 40)); }
  template <class Binary>
  bool binary(Binary&) {
    return unexpected("binary data");
  }

  bool number_unsigned(std::uint64_t value) {
    if (place_ == Place::shape) {
      Shape& shape = entries.back().tensor.shape;
      if (shape.rank() == Shape::max_rank) fail("expected at most 6 dimensions, got more");
      if (value > static_cast<std::uint64_t>(std::numeric_limits<std::int64_t>::max()))
        fail("dimension " + std::to_string(value) + " is too large");
      try {
        shape.push_back(static_cast<std::int64_t>(value));
      } catch (const ShapeError& error) {
        fail(error.what());
      }
      return true;
    }
    if (place_ == Place::offsets) {
      if (offsets_ == 2) fail("expected two data_offsets, got more");
      (offsets_++ == 0 ? entries.back().begin : entries.back().end) = value;
      return true;
    }
    return unexpected("a number");
  }

  bool string(std::string& value) {
    if (place_ == Place::metadata) {
      if (!metadata.emplace(key_, value).second) fail("the key " + quoted_name(key_) + " occurs twice");
      return true;
    }
    if (place_ == Place::tensor && key_ == "dtype") {
      entries.back().tensor.dtype = parse_dtype(value);
      return true;
    }
    return unexpected("a string");
  }

  bool key(std::string& name) {
    key_ = name;
    if (place_ != Place::tensor) return true;  // repeated names are found at the end
    const unsigned field = name == "dtype" ? 1u : name == "shape" ? 2u : name == "data_offsets" ? 4u : 0u;
    if (field == 0) fail("unknown field " + quoted_name(name));
    if (fields_ & field) fail("the field " + quoted_name(name) + " occurs twice");
    fields_ |= field;
    return true;
  }

  bool start_object(std::size_t) {
    if (place_ == Place::start) {
      place_ = Place::top;
      return true;
    }
    if (place_ != Place::top) return unexpected("an object");
    if (key_ == "__metadata__") {
      place_ = Place::metadata;
      if (has_metadata_) fail("it occurs twice");
      has_metadata_ = true;
      return true;
    }
    place_ = Place::tensor;
    entries.emplace_back().tensor.name = key_;
    fields_ = 0;
    offsets_ = 0;
    return true;
  }

  bool end_object() {
    if (place_ == Place::tensor && fields_ != 7)
      fail(std::string("the field ") +
           (!(fields_ & 1)   ? "dtype"
            : !(fields_ & 2) ? "shape"
                             : "data_offsets") +
           " is missing");
    place_ = Place::top;  // the end of the top object itself ends the parse
    return true;
  }

  bool start_array(std::size_t) {
    if (place_ != Place::tensor || key_ == "dtype") return unexpected("a list");
    place_ = key_ == "shape" ? Place::shape : Place::offsets;
    return true;
  }

  bool end_array() {
    if (place_ == Place::offsets && offsets_ != 2) fail("expected two data_offsets, got " + std::to_string(offsets_));
    place_ = Place::tensor;
    return true;
  }

  template <class Exception>
  bool parse_error(std::size_t position, const std::string&, const Exception&) {
    throw WeightsError(file_ + ": the safetensors header is not valid JSON at byte " + std::to_string(position));
  }

 private:
  enum class Place { start, top, metadata, tensor, shape, offsets };

  [[noreturn]] void fail(const std::string& what) const {
    if (place_ == Place::start) throw WeightsError(file_ + ": the safetensors header: " + what);
    const std::string where = place_ == Place::metadata ? "__metadata__"
                              : place_ == Place::top    ? "entry " + quoted_name(key_)
                                                        : "tensor " + quoted_name(entries.back().tensor.name);
    throw WeightsError(file_ + ": " + where + ": " + what);
  }

  bool unexpected(const std::string& found) const {
    switch (place_) {
      case Place::start:
        fail("expected an object, found " + found);
      case Place::top:
        fail("expected an object, found " + found);
      case Place::metadata:
        fail("expected a string for " + quoted_name(key_) + ", found " + found);
      case Place::tensor:
        fail("expected " + std::string(key_ == "dtype" ? "a string" : "a list") + " for " + key_ + ", found " + found);
      case Place::shape:
        fail("expected a non-negative integer in shape, found " + found);
      default:
        fail("expected a non-negative integer in data_offsets, found " + found);
    }
  }

  DType parse_dtype(const std::string& name) const {
    for (const DType dtype : {DType::f32, DType::f16, DType::bf16, DType::f64, DType::i64})
      if (name == dtype_name(dtype)) return dtype;
    for (const char* known : {"BOOL", "U8", "I8", "U16", "I16", "U32", "I32", "U64", "C64", "F8_E4M3", "F8_E5M2",
                              "F8_E8M0", "F4", "F6_E2M3", "F6_E3M2"})
      if (name == known) fail("dtype " + name + " is not supported; supported are F32, F16, BF16, F64 and I64");
    fail("unknown dtype " + quoted_name(name));
  }

  const std::string& file_;
  Place place_ = Place::start;
  std::string key_;
  unsigned fields_ = 0;  // bit 0 dtype, 1 shape, 2 data_offsets
  int offsets_ = 0;
  bool has_metadata_ = false;
};

// Where each tensor's bytes lie: inside the data, of the right number, one after another without gap or overlap.
inline void check_safetensors_layout(const std::string& file, const std::vector<SafetensorsEntry>& entries,
                                     std::size_t data_bytes) {
  const auto fail = [&](const SafetensorsEntry& entry, const std::string& what) {
    throw WeightsError(file + ": tensor " + quoted_name(entry.tensor.name) + ": " + what);
  };
  std::vector<const SafetensorsEntry*> order;
  order.reserve(entries.size());
  for (const SafetensorsEntry& entry : entries) {
    const auto offsets = [&entry] {
      std::string text = "[";
      return text.append(std::to_string(entry.begin)).append(", ").append(std::to_string(entry.end)).append("]");
    };
    if (entry.begin > entry.end) fail(entry, "data_offsets " + offsets() + " are reversed");
    if (entry.end > data_bytes)
      fail(entry, "data_offsets " + offsets() + " exceed the file's " + std::to_string(data_bytes) + " bytes of data");
    const NamedTensor& tensor = entry.tensor;
    const std::uint64_t expected = static_cast<std::uint64_t>(tensor.shape.numel()) * dtype_size(tensor.dtype);
    if (entry.end - entry.begin != expected)
      fail(entry, "expected " + std::to_string(expected) + " bytes for " + dtype_name(tensor.dtype) + " of shape " +
                      tensor.shape.str() + ", got data_offsets " + offsets());
    order.push_back(&entry);
  }
  std::sort(order.begin(), order.end(), [](const SafetensorsEntry* a, const SafetensorsEntry* b) {
    return a->begin != b->begin ? a->begin < b->begin : a->end < b->end;
  });
  std::uint64_t position = 0;
  for (const SafetensorsEntry* entry : order) {
    if (entry->begin < position) fail(*entry, "its data overlap those of another tensor");
    if (entry->begin > position)
      fail(*entry, "there is a hole of " + std::to_string(entry->begin - position) + " bytes before its data");
    position = entry->end;
  }
  if (position != data_bytes)
    throw WeightsError(file + ": " + std::to_string(data_bytes - position) + " bytes after the last tensor's data");
}

}  // namespace detail

PROMPTIQA_INLINE TensorFile parse_safetensors(std::span<const std::byte> bytes, const std::string& name) {
  constexpr std::size_t prefix = 8;
  if (bytes.size() < prefix)
    throw WeightsError(name + ": expected a safetensors file of at least 8 bytes, got " + std::to_string(bytes.size()));
  std::uint64_t header_bytes = 0;
  std::memcpy(&header_bytes, bytes.data(), prefix);
  if (header_bytes == 0) throw WeightsError(name + ": the safetensors header has length 0");
  if (header_bytes > bytes.size() - prefix)
    throw WeightsError(name + ": the safetensors header's length " + std::to_string(header_bytes) +
                       " exceeds the file's " + std::to_string(bytes.size()) + " bytes");
  if (header_bytes > detail::safetensors_header_limit)
    throw WeightsError(name + ": the safetensors header's length " + std::to_string(header_bytes) +
                       " exceeds the limit of 100 MB");
  const auto* header = reinterpret_cast<const char*>(bytes.data()) + prefix;
  const auto length = static_cast<std::size_t>(header_bytes);
  if (*header != '{') throw WeightsError(name + ": expected a safetensors header, which begins with '{', at byte 8");
  // The JSON parser takes a NUL for the end of its input and would not look at what follows.
  if (const void* nul = std::memchr(header, 0, length))
    throw WeightsError(name + ": the safetensors header is not valid JSON at byte " +
                       std::to_string(static_cast<const char*>(nul) - header + 1));

  detail::SafetensorsHeader parsed(name);
  nlohmann::json::sax_parse(header, header + length, &parsed);

  const std::span<const std::byte> data = bytes.subspan(prefix + length);
  detail::check_safetensors_layout(name, parsed.entries, data.size());
  TensorFile result;
  result.path = name;
  result.metadata = std::move(parsed.metadata);
  result.tensors.reserve(parsed.entries.size());
  for (detail::SafetensorsEntry& entry : parsed.entries) {
    entry.tensor.data = data.data() + entry.begin;
    entry.tensor.bytes = static_cast<std::size_t>(entry.end - entry.begin);
    result.tensors.push_back(std::move(entry.tensor));
  }
  std::sort(result.tensors.begin(), result.tensors.end(),
            [](const NamedTensor& a, const NamedTensor& b) { return a.name < b.name; });
  for (std::size_t i = 1; i < result.tensors.size(); ++i)
    if (result.tensors[i].name == result.tensors[i - 1].name)
      throw WeightsError(name + ": tensor " + detail::quoted_name(result.tensors[i].name) + " occurs twice");
  return result;
}

PROMPTIQA_INLINE TensorFile read_safetensors(const std::string& path) {
  const std::shared_ptr<const MappedFile> file = MappedFile::open(path);
  TensorFile result = parse_safetensors(file->bytes(), path);
  result.file = file;
  for (NamedTensor& tensor : result.tensors) tensor.owner = file;
  return result;
}

PROMPTIQA_INLINE void write_safetensors(const std::string& path, const std::map<std::string, std::string>& metadata,
                                        std::span<const NamedTensor> tensors) {
  std::vector<const NamedTensor*> order;
  order.reserve(tensors.size());
  for (const NamedTensor& tensor : tensors) {
    const std::size_t expected = static_cast<std::size_t>(tensor.shape.numel()) * dtype_size(tensor.dtype);
    if (tensor.bytes != expected || (expected > 0 && !tensor.data))
      throw WeightsError(path + ": tensor " + detail::quoted_name(tensor.name) + ": expected " +
                         std::to_string(expected) + " bytes for " + dtype_name(tensor.dtype) + " of shape " +
                         tensor.shape.str() + ", got " + std::to_string(tensor.data ? tensor.bytes : 0));
    if (tensor.name == "__metadata__")
      throw WeightsError(path + ": a tensor must not be named '__metadata__': the format reserves it");
    order.push_back(&tensor);
  }
  std::sort(order.begin(), order.end(), [](const NamedTensor* a, const NamedTensor* b) { return a->name < b->name; });
  for (std::size_t i = 1; i < order.size(); ++i)
    if (order[i]->name == order[i - 1]->name)
      throw WeightsError(path + ": tensor " + detail::quoted_name(order[i]->name) + " occurs twice");
  std::stable_sort(order.begin(), order.end(), [](const NamedTensor* a, const NamedTensor* b) {
    return dtype_size(a->dtype) > dtype_size(b->dtype);
  });

  const auto json_string = [&path](const std::string& text) {
    try {
      return nlohmann::json(text).dump();
    } catch (const nlohmann::json::exception&) {
      throw WeightsError(path + ": " + detail::quoted_name(text) + " is not valid UTF-8");
    }
  };
  std::string header = "{";
  const char* separator = "";
  if (!metadata.empty()) {
    header += "\"__metadata__\":{";
    for (const auto& [key, value] : metadata) {
      header += separator + json_string(key) + ":" + json_string(value);
      separator = ",";
    }
    header += "}";
  }
  std::size_t position = 0;
  for (const NamedTensor* tensor : order) {
    header += separator + json_string(tensor->name) + ":{\"dtype\":\"" + dtype_name(tensor->dtype) + "\",\"shape\":[";
    for (int i = 0; i < tensor->shape.rank(); ++i) {
      if (i > 0) header += ",";
      header += std::to_string(tensor->shape[i]);
    }
    header += "],\"data_offsets\":[" + std::to_string(position) + ",";
    position += tensor->bytes;
    header += std::to_string(position) + "]}";
    separator = ",";
  }
  header += "}";
  header.resize((header.size() + 7) / 8 * 8, ' ');
  if (header.size() > detail::safetensors_header_limit)
    throw WeightsError(path + ": the safetensors header's length " + std::to_string(header.size()) +
                       " exceeds the limit of 100 MB");

  AtomicFile file(path);
  const std::uint64_t header_bytes = header.size();
  file.write(&header_bytes, sizeof header_bytes);
  file.write(header.data(), header.size());
  for (const NamedTensor* tensor : order) file.write(tensor->data, tensor->bytes);
  file.commit();
}

}  // namespace promptiqa
