// Writes a file so that its name refers to the old contents or to all of the new ones, never to a part.
// Surprising choice: a symbolic link is followed, so it is the file behind it that is replaced, not the link.
#pragma once

#include <cstddef>
#include <string>

#include <promptiqa/core/error.hpp>
#include <promptiqa/core/macros.hpp>

namespace promptiqa {

/// A file under construction: a temporary in the folder of `path` that commit() renames over it. Destroying the
/// object without a successful commit removes the temporary and leaves an old file as it was.
class AtomicFile {
 public:
  /// Creates the temporary, with the permissions of the file to be replaced, if any. Throws FileError, naming `path`
  /// and the reason, when that fails or `path` is something other than a regular file.
  explicit AtomicFile(const std::string& path);
  ~AtomicFile();
  AtomicFile(const AtomicFile&) = delete;
  AtomicFile& operator=(const AtomicFile&) = delete;

  /// Appends bytes. Throws FileError (disk full, file size limit, quota, ...).
  void write(const void* data, std::size_t bytes);

  /// Flushes to the disk and renames the temporary over `path`. Call once. Throws FileError, and then `path` is as it
  /// was.
  void commit();

 private:
  void discard() noexcept;

  std::string path_;       // as given, for messages
  std::string target_;     // with symbolic links resolved
  std::string temporary_;  // empty once renamed or removed
  int fd_ = -1;
};

}  // namespace promptiqa

#if PROMPTIQA_WITH_BODIES
#include <promptiqa/io/atomic_file.ipp>
#endif
