// Writes a file so that its name refers to the old contents or to all of the new ones, never to a part.
// Surprising choice: until commit() the new file has no name where the file system allows that (O_TMPFILE), so even a
// process that is killed leaves nothing behind, unless in the instant between naming and renaming. A symbolic link is
// followed: the file behind it is replaced.
#pragma once

#include <cstddef>
#include <string>

#include <promptiqa/core/error.hpp>
#include <promptiqa/core/macros.hpp>

namespace promptiqa {

/// A file under construction in the folder of `path`, which commit() renames over it. Destroying the object without a
/// successful commit removes it and leaves an old file as it was. The process may have a limit on the size of its files
/// (RLIMIT_FSIZE): SIGXFSZ, which would end it, is held back while writing.
class AtomicFile {
 public:
  /// Creates the new file, with the permissions of the one to be replaced, if any. Throws FileError, naming `path` and
  /// the reason, when that fails or `path` is something other than a regular file.
  explicit AtomicFile(const std::string& path);
  ~AtomicFile();
  AtomicFile(const AtomicFile&) = delete;
  AtomicFile& operator=(const AtomicFile&) = delete;

  /// Appends bytes. Throws FileError (disk full, file size limit, quota, ...).
  void write(const void* data, std::size_t bytes);

  /// Flushes to the disk and renames the new file over `path`. Call once. Throws FileError, and then `path` is as it
  /// was.
  void commit();

 private:
  template <class Take>
  bool take_temporary_name(Take&& take);
  void open_named_file();
  void copy_to_named_file();
  void discard() noexcept;

  std::string path_;       // as given, for messages
  std::string target_;     // with symbolic links resolved
  std::string temporary_;  // the new file's name; empty while it has none, and once renamed or removed
  int fd_ = -1;
};

}  // namespace promptiqa

#if PROMPTIQA_WITH_BODIES
#include <promptiqa/io/atomic_file.ipp>
#endif
