// A read-only memory map of a whole regular file.
// Surprising choice: pages that a loader is done with can be dropped again, so that a model packed from the map is
// not held in memory twice; touching them later reads the file again.
#pragma once

#include <cstddef>
#include <memory>
#include <span>
#include <string>

#include <promptiqa/core/error.hpp>
#include <promptiqa/core/macros.hpp>

namespace promptiqa {

/// The bytes of a file, mapped read-only for the life of the object. Replacing the file by renaming another one over
/// it leaves the map intact; shortening it in place makes reads of the lost part fail with a bus error.
class MappedFile {
 public:
  /// Maps the file. An empty file gives an empty span. Throws FileError, naming the file and the reason, when it does
  /// not exist, cannot be opened or mapped, or is no regular file (a folder, pipe, socket or device).
  static std::shared_ptr<const MappedFile> open(const std::string& path);

  ~MappedFile();
  MappedFile(const MappedFile&) = delete;
  MappedFile& operator=(const MappedFile&) = delete;

  const std::string& path() const { return path_; }
  std::span<const std::byte> bytes() const { return {data_, size_}; }

  /// Drops the resident pages that lie wholly inside [offset, offset + bytes), clipped to the file. The contents stay
  /// readable. Only advice to the system: never throws.
  void release_pages(std::size_t offset, std::size_t bytes) const noexcept;

 private:
  MappedFile(const std::string& path, const std::byte* data, std::size_t size)
      : path_(path), data_(data), size_(size) {}

  std::string path_;
  const std::byte* data_;
  std::size_t size_;
};

}  // namespace promptiqa

#if PROMPTIQA_WITH_BODIES
#include <promptiqa/io/mapped_file.ipp>
#endif
