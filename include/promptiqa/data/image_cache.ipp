// Bodies of ImageCache. The file: a page of header, the rows, an index (sources, errors, checksums, note), a trailer.
// Surprising choice: the index comes last and the trailer holds its hash, so the file is written front to back in one
// go and a truncated one gives itself away.
#pragma once

#include <sys/stat.h>

#include <algorithm>
#include <array>
#include <cstring>
#include <filesystem>
#include <limits>
#include <unordered_map>
#include <utility>

#include <promptiqa/data/image_cache.hpp>
#include <promptiqa/image/file.hpp>
#include <promptiqa/image/resize.hpp>
#include <promptiqa/io/sha256.hpp>

namespace promptiqa {

namespace detail {

inline constexpr std::size_t cache_header_bytes = 4096;  // one page: rows start aligned
inline constexpr std::uint32_t cache_version = 1;        // raise when decoding or resizing changes
inline constexpr std::uint32_t cache_byte_order = 0x01020304;
inline constexpr std::array<char, 8> cache_magic = {'P', 'I', 'Q', 'A', 'I', 'M', 'G', '\n'};
inline constexpr std::array<char, 8> cache_end_magic = {'P', 'I', 'Q', 'A', 'E', 'N', 'D', '\n'};

struct CacheHeader {
  std::array<char, 8> magic = cache_magic;
  std::uint32_t version = cache_version, byte_order = cache_byte_order;
  std::int32_t side = 0, short_side = 0;
};

struct CacheTrailer {
  std::uint64_t rows = 0, index_bytes = 0;
  std::array<std::uint8_t, 32> hash{};  // of the header and the index
  std::array<char, 8> magic = cache_end_magic;
};

inline std::size_t cache_row_bytes(int side) {
  return std::size_t{3} * static_cast<std::size_t>(side) * static_cast<std::size_t>(side);
}

inline void check_cache_options(const std::string& path, const CacheOptions& options) {
  constexpr int most = 4096;
  if (options.side < 1 || options.side > most)
    throw DataError(path + ": the side of the pictures must be 1.." + std::to_string(most) + ", got " +
                    std::to_string(options.side));
  if (options.short_side < 0 || options.short_side > most)
    throw DataError(path + ": the shorter side to resize to must be 0.." + std::to_string(most) + ", got " +
                    std::to_string(options.short_side));
}

// Four independent lanes of multiply and rotate: several bytes a cycle, against accidents and not against malice.
inline std::uint64_t cache_checksum(const std::uint8_t* data, std::size_t bytes) {
  constexpr std::uint64_t odd = 0x9E3779B97F4A7C15u;
  const auto mixed = [](std::uint64_t lane, std::uint64_t word) {
    lane = (lane ^ word) * odd;
    return lane << 29 | lane >> 35;
  };
  std::array<std::uint64_t, 4> lanes = {1, 2, 3, 4};
  std::size_t at = 0;
  for (; at + 32 <= bytes; at += 32)
    for (std::size_t k = 0; k < 4; ++k) {
      std::uint64_t word;
      std::memcpy(&word, data + at + 8 * k, sizeof word);
      lanes[k] = mixed(lanes[k], word);
    }
  std::uint64_t sum = bytes;
  for (; at < bytes; ++at) sum = mixed(sum, data[at]);
  for (std::uint64_t lane : lanes) sum = mixed(sum, lane);
  return sum;
}

// Numbers and texts of the index, to bytes and back.
class IndexWriter {
 public:
  void number(std::uint64_t value) { bytes_.append(reinterpret_cast<const char*>(&value), sizeof value); }
  void text(const std::string& value) {
    number(value.size());
    bytes_ += value;
  }
  const std::string& bytes() const { return bytes_; }

 private:
  std::string bytes_;
};

class IndexReader {
 public:
  IndexReader(const std::string& path, std::span<const std::byte> bytes) : path_(path), bytes_(bytes) {}

  std::uint64_t number() {
    std::uint64_t value;
    std::memcpy(&value, take(sizeof value), sizeof value);
    return value;
  }
  std::string text() {
    const std::uint64_t size = number();
    return std::string(reinterpret_cast<const char*>(take(size)), static_cast<std::size_t>(size));
  }
  bool done() const { return bytes_.empty(); }

 private:
  const std::byte* take(std::uint64_t count) {
    if (count > bytes_.size()) throw DataError(path_ + ": the index of the image cache is damaged");
    const std::byte* first = bytes_.data();
    bytes_ = bytes_.subspan(static_cast<std::size_t>(count));
    return first;
  }

  const std::string& path_;
  std::span<const std::byte> bytes_;
};

inline bool same_source(const CacheSource& a, const CacheSource& b) {
  return a.file == b.file && a.bytes == b.bytes && a.modified_ns == b.modified_ns;
}

// A file at `path` that may be replaced: none, an empty one, or one that is or was an image cache.
inline void check_replaceable(const std::string& path) {
  std::error_code error;
  if (!std::filesystem::exists(path, error)) return;
  const auto file = MappedFile::open(path);
  const std::span<const std::byte> bytes = file->bytes();
  const auto has_magic = [&](std::size_t at, const std::array<char, 8>& magic) {
    return bytes.size() >= at + magic.size() && std::memcmp(bytes.data() + at, magic.data(), magic.size()) == 0;
  };
  if (bytes.empty() || has_magic(0, cache_magic)) return;
  const std::size_t end = cache_end_magic.size();
  if (bytes.size() >= end && has_magic(bytes.size() - end, cache_end_magic)) return;
  throw DataError(path + ": this file is no image cache and will not be overwritten; remove it or name another");
}

inline const std::string& checked_cache_path(const std::string& path, const CacheOptions& options) {
  check_cache_options(path, options);
  check_replaceable(path);
  return path;
}

// One picture as a row. Throws FileError or ImageError when the file cannot be read.
inline void decode_row(const std::string& file, const CacheOptions& options, std::uint8_t* row) {
  Image image = load_image(file);
  if (options.short_side > 0) image = resize_short_side(image, options.short_side);
  resize_cubic(image, options.side, options.side, row);
}

}  // namespace detail

PROMPTIQA_INLINE CacheSource cache_source(const std::string& file) {
  CacheSource source;
  std::error_code error;
  source.file = std::filesystem::absolute(file, error).lexically_normal().string();
  struct stat status {};
  if (::stat(file.c_str(), &status) == 0) {
    source.bytes = static_cast<std::uint64_t>(status.st_size);
    source.modified_ns =
        static_cast<std::int64_t>(status.st_mtim.tv_sec) * 1'000'000'000 + status.st_mtim.tv_nsec;
  } else {
    source.bytes = std::numeric_limits<std::uint64_t>::max();
  }
  return source;
}

// ---- writing --------------------------------------------------------------------------------------------------------

PROMPTIQA_INLINE ImageCacheWriter::ImageCacheWriter(const std::string& path, const CacheOptions& options)
    : path_(detail::checked_cache_path(path, options)), options_(options), file_(path) {
  detail::CacheHeader header;
  header.side = options.side;
  header.short_side = options.short_side;
  std::array<char, detail::cache_header_bytes> page{};
  std::memcpy(page.data(), &header, sizeof header);
  file_.write(page.data(), page.size());
}

PROMPTIQA_INLINE void ImageCacheWriter::append(const CacheSource& source, const std::uint8_t* rgb) {
  const std::size_t bytes = detail::cache_row_bytes(options_.side);
  file_.write(rgb, bytes);
  rows_.push_back({source, {}, detail::cache_checksum(rgb, bytes)});
}

PROMPTIQA_INLINE void ImageCacheWriter::append_unusable(const CacheSource& source, const std::string& error) {
  const std::vector<std::uint8_t> zeros(detail::cache_row_bytes(options_.side));
  append(source, zeros.data());
  rows_.back().error = error.empty() ? "unusable" : error;
}

PROMPTIQA_INLINE std::shared_ptr<const ImageCache> ImageCacheWriter::finish(const std::string& note) {
  detail::IndexWriter index;
  for (const ImageCache::Row& row : rows_) {
    index.text(row.source.file);
    index.number(row.source.bytes);
    index.number(static_cast<std::uint64_t>(row.source.modified_ns));
    index.text(row.error);
    index.number(row.checksum);
  }
  index.text(note);
  file_.write(index.bytes().data(), index.bytes().size());
  detail::CacheHeader header;
  header.side = options_.side;
  header.short_side = options_.short_side;
  Sha256 hash;
  hash.update(&header, sizeof header);
  hash.update(index.bytes().data(), index.bytes().size());
  detail::CacheTrailer trailer;
  trailer.rows = rows_.size();
  trailer.index_bytes = index.bytes().size();
  trailer.hash = hash.digest();
  file_.write(&trailer, sizeof trailer);
  file_.commit();
  return ImageCache::open_index(path_);
}

// ---- reading --------------------------------------------------------------------------------------------------------

PROMPTIQA_INLINE const std::uint8_t* ImageCache::pixels(std::int64_t i) const {
  const auto* first = reinterpret_cast<const std::uint8_t*>(file_->bytes().data()) + detail::cache_header_bytes;
  return first + static_cast<std::size_t>(i) * detail::cache_row_bytes(options_.side);
}

// The cache without a look at its pixels.
PROMPTIQA_INLINE std::shared_ptr<ImageCache> ImageCache::open_index(const std::string& path) {
  std::shared_ptr<ImageCache> cache(new ImageCache);
  cache->file_ = MappedFile::open(path);
  const std::span<const std::byte> bytes = cache->file_->bytes();
  detail::CacheHeader header;
  detail::CacheTrailer trailer;
  if (bytes.size() < detail::cache_header_bytes + sizeof trailer ||
      std::memcmp(bytes.data(), detail::cache_magic.data(), detail::cache_magic.size()) != 0)
    throw DataError(path + ": not an image cache, or truncated");
  std::memcpy(&header, bytes.data(), sizeof header);
  std::memcpy(&trailer, bytes.data() + bytes.size() - sizeof trailer, sizeof trailer);
  if (header.version != detail::cache_version || header.byte_order != detail::cache_byte_order)
    throw DataError(path + ": an image cache of another version or machine");
  if (trailer.magic != detail::cache_end_magic) throw DataError(path + ": the image cache is truncated");
  cache->options_.side = header.side;
  cache->options_.short_side = header.short_side;
  detail::check_cache_options(path, cache->options_);
  const std::uint64_t row_bytes = detail::cache_row_bytes(header.side);
  const std::uint64_t between = bytes.size() - detail::cache_header_bytes - sizeof trailer;  // rows and index
  if (trailer.index_bytes > between || trailer.rows > between / row_bytes ||
      trailer.rows * row_bytes + trailer.index_bytes != between)
    throw DataError(path + ": the image cache has " + std::to_string(bytes.size()) +
                    " bytes, not what its trailer says");
  const std::span<const std::byte> index =
      bytes.subspan(detail::cache_header_bytes + static_cast<std::size_t>(trailer.rows * row_bytes),
                    static_cast<std::size_t>(trailer.index_bytes));
  Sha256 hash;
  hash.update(&header, sizeof header);
  hash.update(index.data(), index.size());
  if (hash.digest() != trailer.hash) throw DataError(path + ": the index of the image cache is damaged");
  detail::IndexReader reader(path, index);
  cache->rows_.resize(static_cast<std::size_t>(trailer.rows));
  for (Row& row : cache->rows_) {
    row.source.file = reader.text();
    row.source.bytes = reader.number();
    row.source.modified_ns = static_cast<std::int64_t>(reader.number());
    row.error = reader.text();
    row.checksum = reader.number();
  }
  cache->note_ = reader.text();
  return cache;
}

// For each row whether its pixels differ from their checksum.
PROMPTIQA_INLINE std::vector<std::uint8_t> ImageCache::damaged_rows(ThreadPool& pool) const {
  std::vector<std::uint8_t> damaged(rows_.size(), 0);
  const std::size_t bytes = detail::cache_row_bytes(options_.side);
  constexpr std::int64_t chunk = 64;  // rows a task
  pool.parallel_for((size() + chunk - 1) / chunk, [&](std::int64_t task) {
    const std::int64_t first = task * chunk, last = std::min(first + chunk, size());
    for (std::int64_t i = first; i < last; ++i) {
      const auto row = static_cast<std::size_t>(i);
      damaged[row] = detail::cache_checksum(pixels(i), bytes) != rows_[row].checksum;
    }
    file_->release_pages(detail::cache_header_bytes + static_cast<std::size_t>(first) * bytes,
                         static_cast<std::size_t>(last - first) * bytes);
  });
  return damaged;
}

PROMPTIQA_INLINE std::shared_ptr<const ImageCache> ImageCache::open(const std::string& path, ThreadPool& pool) {
  const std::shared_ptr<ImageCache> cache = open_index(path);
  const std::vector<std::uint8_t> damaged = cache->damaged_rows(pool);
  const auto bad = std::find(damaged.begin(), damaged.end(), 1);
  if (bad != damaged.end())
    throw DataError(path + ": picture " + std::to_string(bad - damaged.begin() + 1) + " of the image cache is damaged");
  return cache;
}

PROMPTIQA_INLINE std::shared_ptr<const ImageCache> ImageCache::build_or_open(const std::string& path,
                                                                             std::span<const std::string> files,
                                                                             const CacheOptions& options,
                                                                             ThreadPool& pool,
                                                                             const CacheProgress& progress) {
  detail::check_cache_options(path, options);
  std::vector<CacheSource> sources;
  for (const std::string& file : files) sources.push_back(cache_source(file));

  std::shared_ptr<ImageCache> old;
  std::vector<std::uint8_t> damaged;
  try {
    old = open_index(path);
    if (old->options_.side != options.side || old->options_.short_side != options.short_side) old.reset();
  } catch (const Error&) {  // none, truncated, damaged or of another version: built anew
  }
  if (old) {
    damaged = old->damaged_rows(pool);
    bool current = old->rows_.size() == sources.size() && std::find(damaged.begin(), damaged.end(), 1) == damaged.end();
    for (std::size_t i = 0; current && i < sources.size(); ++i)
      current = detail::same_source(old->rows_[i].source, sources[i]);
    if (current) return old;
  }
  std::unordered_map<std::string, std::size_t> old_row;
  if (old)
    for (std::size_t i = 0; i < old->rows_.size(); ++i)
      if (!damaged[i]) old_row.emplace(old->rows_[i].source.file, i);

  ImageCacheWriter writer(path, options);
  const std::size_t row_bytes = detail::cache_row_bytes(options.side);
  // Enough pictures a thread that a slow one does not keep the others waiting for long.
  const std::size_t batch = static_cast<std::size_t>(pool.size()) * 8;
  std::vector<std::uint8_t> pixels(batch * row_bytes);
  std::vector<std::string> errors(batch);
  for (std::size_t first = 0; first < sources.size(); first += batch) {
    const std::size_t count = std::min(batch, sources.size() - first);
    pool.parallel_for(static_cast<std::int64_t>(count), [&](std::int64_t task) {
      const auto slot = static_cast<std::size_t>(task);
      const CacheSource& source = sources[first + slot];
      std::uint8_t* row = pixels.data() + slot * row_bytes;
      errors[slot].clear();
      const auto found = old_row.find(source.file);
      if (found != old_row.end() && detail::same_source(old->rows_[found->second].source, source)) {
        std::memcpy(row, old->pixels(static_cast<std::int64_t>(found->second)), row_bytes);
        errors[slot] = old->rows_[found->second].error;
        return;
      }
      try {
        detail::decode_row(files[first + slot], options, row);
      } catch (const Error& error) {
        errors[slot] = error.what();
      }
    });
    for (std::size_t slot = 0; slot < count; ++slot) {
      if (errors[slot].empty())
        writer.append(sources[first + slot], pixels.data() + slot * row_bytes);
      else
        writer.append_unusable(sources[first + slot], errors[slot]);
    }
    if (progress) progress(static_cast<std::int64_t>(first + count), static_cast<std::int64_t>(sources.size()));
  }
  return writer.finish();
}

}  // namespace promptiqa
