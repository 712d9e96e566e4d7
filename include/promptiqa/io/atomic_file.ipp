// Bodies of AtomicFile, over POSIX rename.
// Surprising choice: the temporary's name does not contain the target's, so a target name of the longest allowed
// length still works.
#pragma once

#include <cstdio>
#include <cstdlib>

#include <promptiqa/io/atomic_file.hpp>
#include <promptiqa/io/mapped_file.ipp>

namespace promptiqa {
namespace detail {
inline std::string folder_of(const std::string& path) {
  const std::size_t slash = path.rfind('/');
  return slash == std::string::npos ? "." : slash == 0 ? "/" : path.substr(0, slash);
}
}  // namespace detail

PROMPTIQA_INLINE AtomicFile::AtomicFile(const std::string& path) : path_(path), target_(path) {
  detail::check_path(path);
  struct stat status {};
  mode_t mode = 0;
  if (::lstat(path.c_str(), &status) == 0) {
    if (S_ISLNK(status.st_mode)) {
      char* resolved = ::realpath(path.c_str(), nullptr);
      if (!resolved) detail::throw_file_error(path, "follow the symbolic link", errno);
      target_ = resolved;
      std::free(resolved);
      if (::stat(target_.c_str(), &status) != 0) detail::throw_file_error(path, "write", errno);
    }
    detail::check_regular_file(path, status);
    mode = status.st_mode & 07777;
  } else if (errno != ENOENT) {
    detail::throw_file_error(path, "write", errno);
  }

  const std::string stem = detail::folder_of(target_) + "/.promptiqa-" + std::to_string(::getpid()) + "-";
  constexpr int attempts = 1000;  // other threads, or leftovers of a killed process, may hold a name
  for (int i = 0; i < attempts && fd_ < 0; ++i) {
    temporary_ = stem + std::to_string(i) + ".tmp";
    fd_ = ::open(temporary_.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0666);
    if (fd_ < 0 && errno != EEXIST && errno != EINTR) break;
  }
  if (fd_ < 0) {
    const int error = errno;
    temporary_.clear();
    detail::throw_file_error(path, "create a temporary file beside it", error);
  }
  if (mode != 0 && ::fchmod(fd_, mode) != 0) {
    const int error = errno;
    discard();
    detail::throw_file_error(path, "set the permissions", error);
  }
}

PROMPTIQA_INLINE AtomicFile::~AtomicFile() { discard(); }

PROMPTIQA_INLINE void AtomicFile::write(const void* data, std::size_t bytes) {
  const auto* next = static_cast<const char*>(data);
  while (bytes > 0) {
    const ssize_t written = ::write(fd_, next, std::min(bytes, std::size_t{1} << 30));
    if (written < 0) {
      if (errno == EINTR) continue;
      detail::throw_file_error(path_, "write", errno);
    }
    next += written;
    bytes -= static_cast<std::size_t>(written);
  }
}

PROMPTIQA_INLINE void AtomicFile::commit() {
  if (::fsync(fd_) != 0) detail::throw_file_error(path_, "flush", errno);
  const int fd = fd_;
  fd_ = -1;
  if (::close(fd) != 0 && errno != EINTR) detail::throw_file_error(path_, "close", errno);
  if (::rename(temporary_.c_str(), target_.c_str()) != 0) detail::throw_file_error(path_, "rename into place", errno);
  temporary_.clear();
  // Best effort: not every file system can flush a folder, and the file itself is already safe.
  const detail::Descriptor folder(::open(detail::folder_of(target_).c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  if (folder.get() >= 0) (void)::fsync(folder.get());
}

PROMPTIQA_INLINE void AtomicFile::discard() noexcept {
  if (fd_ >= 0) ::close(fd_);
  fd_ = -1;
  if (!temporary_.empty()) ::unlink(temporary_.c_str());
  temporary_.clear();
}

}  // namespace promptiqa
