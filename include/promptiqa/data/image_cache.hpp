// ImageCache: many pictures, decoded and resized once as the model sees them, in one memory-mapped file.
// Surprising choice: every row carries a checksum that is verified when the file is opened; half a second for a
// gigabyte in memory, and a damaged row is decoded again instead of training on noise.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include <promptiqa/core/macros.hpp>
#include <promptiqa/core/thread_pool.hpp>
#include <promptiqa/data/data_error.hpp>
#include <promptiqa/io/atomic_file.hpp>
#include <promptiqa/io/mapped_file.hpp>

namespace promptiqa {

/// Called on the calling thread after every few pictures: pictures done, pictures in all. What it throws ends the work
/// and reaches the caller; an old cache file then stays as it was.
using CacheProgress = std::function<void(std::int64_t done, std::int64_t total)>;

/// What a row was made from. A row counts as current while all three are what they are on disk.
struct CacheSource {
  std::string file;             // absolute path, or any unique name for pictures that are made rather than read
  std::uint64_t bytes = 0;      // size of the file
  std::int64_t modified_ns = 0; // its modification time, nanoseconds since 1970
};

/// How pictures become rows.
struct CacheOptions {
  int side = 224;      // rows are side x side
  int short_side = 0;  // resize first so that the shorter side has this many pixels (SPAQ: 512); 0 = not
};

/// N pictures of side x side RGB bytes, rows top to bottom, read-only. Safe to read from many threads.
class ImageCache {
 public:
  /// Opens the cache at `path` when it holds exactly these files, unchanged, with these options; otherwise builds it
  /// anew, keeping the rows that are still good, and replaces the file atomically. A row is load_image, then
  /// resize_cubic to the short side if asked, then to side x side. A picture that cannot be read becomes an unusable
  /// row with its error, and is tried again once the file has changed. Takes memory for a few dozen pictures. Throws
  /// DataError for a side that is not 1..4096 or when `path` is a file that never was a cache, FileError when the file
  /// cannot be written (disk full: the old one stays).
  static std::shared_ptr<const ImageCache> build_or_open(const std::string& path, std::span<const std::string> files,
                                                         const CacheOptions& options, ThreadPool& pool,
                                                         const CacheProgress& progress = {});

  /// Opens an existing cache whatever it holds. Throws FileError when it cannot be read, DataError when it is damaged
  /// in any way or no cache.
  static std::shared_ptr<const ImageCache> open(const std::string& path, ThreadPool& pool);

  std::int64_t size() const { return static_cast<std::int64_t>(rows_.size()); }
  std::int64_t side() const { return options_.side; }
  int short_side() const { return options_.short_side; }

  /// side * side * 3 bytes of row i, 0 <= i < size(); zeros for an unusable row. i is not checked.
  const std::uint8_t* pixels(std::int64_t i) const;

  /// False when picture i could not be read.
  bool usable(std::int64_t i) const { return rows_[static_cast<std::size_t>(i)].error.empty(); }

  /// Why picture i could not be read; empty when it could.
  const std::string& error(std::int64_t i) const { return rows_[static_cast<std::size_t>(i)].error; }

  /// What row i was made from.
  const CacheSource& source(std::int64_t i) const { return rows_[static_cast<std::size_t>(i)].source; }

  /// Whatever text the writer stored with the pictures (synthesis: their labels); empty for build_or_open.
  const std::string& note() const { return note_; }

  const std::string& path() const { return file_->path(); }

 private:
  friend class ImageCacheWriter;
  struct Row {
    CacheSource source;
    std::string error;
    std::uint64_t checksum = 0;
  };
  ImageCache() = default;
  static std::shared_ptr<ImageCache> open_index(const std::string& path);
  std::vector<std::uint8_t> damaged_rows(ThreadPool& pool) const;

  std::shared_ptr<const MappedFile> file_;
  CacheOptions options_;
  std::vector<Row> rows_;
  std::string note_;
};

/// Writes a cache row by row, in order, in little memory. Without finish() the path stays as it was.
class ImageCacheWriter {
 public:
  /// Throws FileError when the temporary beside `path` cannot be made, DataError as build_or_open.
  ImageCacheWriter(const std::string& path, const CacheOptions& options);

  /// Appends a row of side * side * 3 bytes. Throws FileError.
  void append(const CacheSource& source, const std::uint8_t* rgb);

  /// Appends a row without a picture. `error` must not be empty. Throws FileError.
  void append_unusable(const CacheSource& source, const std::string& error);

  /// Rows so far.
  std::int64_t size() const { return static_cast<std::int64_t>(rows_.size()); }

  /// Stores the note, puts the file in place and opens it. Call once. Throws FileError.
  std::shared_ptr<const ImageCache> finish(const std::string& note = {});

 private:
  std::string path_;
  CacheOptions options_;
  AtomicFile file_;
  std::vector<ImageCache::Row> rows_;
};

/// A file as build_or_open remembers it: absolute path, size and time; size 2^64-1 for one that does not exist.
CacheSource cache_source(const std::string& file);

}  // namespace promptiqa

#if PROMPTIQA_WITH_BODIES
#include <promptiqa/data/image_cache.ipp>
#endif
