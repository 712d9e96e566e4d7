// Bodies of AtomicFile, over POSIX rename.
// Surprising choice: the temporary's name does not contain the target's, so a target name of the longest allowed
// length still works.
#pragma once

#include <pthread.h>
#include <signal.h>

#include <cstdio>
#include <cstdlib>
#include <ctime>
#include <utility>
#include <vector>

#include <promptiqa/io/atomic_file.hpp>
#include <promptiqa/io/mapped_file.ipp>

namespace promptiqa {
namespace detail {
inline std::string folder_of(const std::string& path) {
  const std::size_t slash = path.rfind('/');
  return slash == std::string::npos ? "." : slash == 0 ? "/" : path.substr(0, slash);
}

/// Holds SIGXFSZ back on this thread, so that a write beyond the limit fails with EFBIG instead of ending the process.
class HoldFileSizeSignal {
 public:
  HoldFileSizeSignal() {
    sigset_t pending;
    sigpending(&pending);
    was_pending_ = sigismember(&pending, SIGXFSZ) == 1;
    sigemptyset(&signal_);
    sigaddset(&signal_, SIGXFSZ);
    pthread_sigmask(SIG_BLOCK, &signal_, &before_);
  }
  ~HoldFileSizeSignal() {
    constexpr timespec at_once = {0, 0};
    if (!was_pending_)  // the kernel's signal for our write goes nowhere
      while (sigtimedwait(&signal_, nullptr, &at_once) < 0 && errno == EINTR) {
      }
    pthread_sigmask(SIG_SETMASK, &before_, nullptr);
  }
  HoldFileSizeSignal(const HoldFileSizeSignal&) = delete;
  HoldFileSizeSignal& operator=(const HoldFileSizeSignal&) = delete;

 private:
  sigset_t signal_, before_;
  bool was_pending_;
};

/// The name under /proc by which a file that has none can be given one.
inline std::string path_of_descriptor(int fd) { return "/proc/self/fd/" + std::to_string(fd); }

/// A new file without a name in `folder`, or -1 where the system has no such thing or could not name it later.
inline int open_nameless(const std::string& folder) {
#if defined(O_TMPFILE)
  const int fd = ::open(folder.c_str(), O_RDWR | O_TMPFILE | O_CLOEXEC, 0666);
  if (fd >= 0 && ::access(path_of_descriptor(fd).c_str(), F_OK) == 0) return fd;
  if (fd >= 0) ::close(fd);
#endif
  return -1;
}
}  // namespace detail

/// Tries names in the target's folder until take(name) succeeds; the name is in temporary_ then. False, with errno,
/// when none could be taken.
template <class Take>
bool AtomicFile::take_temporary_name(Take&& take) {
  const std::string stem = detail::folder_of(target_) + "/.promptiqa-" + std::to_string(::getpid()) + "-";
  constexpr int attempts = 1000;  // other threads, or leftovers of a killed process, may hold a name
  for (int i = 0; i < attempts; ++i) {
    temporary_ = stem + std::to_string(i) + ".tmp";
    if (take(temporary_.c_str())) return true;
    if (errno != EEXIST && errno != EINTR) break;
  }
  const int error = errno;
  temporary_.clear();
  errno = error;
  return false;
}

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

  fd_ = detail::open_nameless(detail::folder_of(target_));
  if (fd_ < 0) open_named_file();
  if (mode != 0 && ::fchmod(fd_, mode) != 0) {
    const int error = errno;
    discard();
    detail::throw_file_error(path, "set the permissions", error);
  }
}

PROMPTIQA_INLINE void AtomicFile::open_named_file() {
  if (!take_temporary_name([&](const char* name) {
        fd_ = ::open(name, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0666);
        return fd_ >= 0;
      }))
    detail::throw_file_error(path_, "create a temporary file beside it", errno);
}

PROMPTIQA_INLINE AtomicFile::~AtomicFile() { discard(); }

PROMPTIQA_INLINE void AtomicFile::write(const void* data, std::size_t bytes) {
  const auto* next = static_cast<const char*>(data);
  const detail::HoldFileSizeSignal hold;
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
  // A name of its own first: a link cannot replace a file, a rename can.
  if (temporary_.empty() && !take_temporary_name([&](const char* name) {
        return ::linkat(AT_FDCWD, detail::path_of_descriptor(fd_).c_str(), AT_FDCWD, name, AT_SYMLINK_FOLLOW) == 0;
      }))
    copy_to_named_file();
  if (::rename(temporary_.c_str(), target_.c_str()) != 0) detail::throw_file_error(path_, "rename into place", errno);
  temporary_.clear();
  ::close(fd_);  // everything was flushed, there is nothing left that could fail
  fd_ = -1;
  // Best effort: not every file system can flush a folder, and the file itself is already safe.
  const detail::Descriptor folder(::open(detail::folder_of(target_).c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  if (folder.get() >= 0) (void)::fsync(folder.get());
}

/// For systems that give a nameless file but let nobody name it.
PROMPTIQA_INLINE void AtomicFile::copy_to_named_file() {
  const detail::Descriptor nameless(std::exchange(fd_, -1));
  struct stat status {};
  if (::fstat(nameless.get(), &status) != 0) detail::throw_file_error(path_, "read back", errno);
  open_named_file();
  if (::fchmod(fd_, status.st_mode & 07777) != 0) detail::throw_file_error(path_, "set the permissions", errno);
  std::vector<char> part(std::size_t{1} << 20);
  for (off_t at = 0;;) {
    const ssize_t got = ::pread(nameless.get(), part.data(), part.size(), at);
    if (got < 0 && errno == EINTR) continue;
    if (got < 0) detail::throw_file_error(path_, "read back", errno);
    if (got == 0) break;
    write(part.data(), static_cast<std::size_t>(got));
    at += got;
  }
  if (::fsync(fd_) != 0) detail::throw_file_error(path_, "flush", errno);
}

PROMPTIQA_INLINE void AtomicFile::discard() noexcept {
  if (fd_ >= 0) ::close(fd_);
  fd_ = -1;
  if (!temporary_.empty()) ::unlink(temporary_.c_str());
  temporary_.clear();
}

}  // namespace promptiqa
