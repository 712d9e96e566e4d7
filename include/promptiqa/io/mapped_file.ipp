// Bodies of MappedFile, over POSIX mmap.
// Surprising choice: the file's kind is looked at before it is opened, because opening a pipe or a device for
// reading already has effects on others.
#pragma once

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdint>
#include <limits>
#include <system_error>

#include <promptiqa/io/mapped_file.hpp>

namespace promptiqa {
namespace detail {

// "PATH: cannot ACTION: reason of errno `error`"
[[noreturn]] inline void throw_file_error(const std::string& path, const std::string& action, int error) {
  throw FileError(path + ": cannot " + action + ": " + std::generic_category().message(error));
}

// A std::string with a NUL in it would name another file to the system.
inline void check_path(const std::string& path) {
  if (path.empty() || path.find('\0') != std::string::npos)
    throw FileError("'" + std::string(path.c_str()) + "': a file name must not be empty or hold a NUL character");
}

inline void check_regular_file(const std::string& path, const struct stat& status) {
  if (S_ISREG(status.st_mode)) return;
  const char* kind = S_ISDIR(status.st_mode)    ? "a folder"
                     : S_ISFIFO(status.st_mode) ? "a pipe"
                     : S_ISSOCK(status.st_mode) ? "a socket"
                                                : "a device";
  throw FileError(path + ": expected a regular file, found " + kind);
}

// A file descriptor that is closed on every way out.
class Descriptor {
 public:
  explicit Descriptor(int fd) : fd_(fd) {}
  ~Descriptor() {
    if (fd_ >= 0) ::close(fd_);
  }
  Descriptor(const Descriptor&) = delete;
  Descriptor& operator=(const Descriptor&) = delete;
  int get() const { return fd_; }

 private:
  int fd_;
};
}  // namespace detail

PROMPTIQA_INLINE std::shared_ptr<const MappedFile> MappedFile::open(const std::string& path) {
  detail::check_path(path);
  struct stat status {};
  if (::stat(path.c_str(), &status) != 0) detail::throw_file_error(path, "open", errno);
  detail::check_regular_file(path, status);
  int fd = -1;
  do fd = ::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
  while (fd < 0 && errno == EINTR);
  if (fd < 0) detail::throw_file_error(path, "open", errno);
  const detail::Descriptor descriptor(fd);
  if (::fstat(fd, &status) != 0) detail::throw_file_error(path, "read its size", errno);
  detail::check_regular_file(path, status);  // it may have been replaced since
  if (static_cast<std::uintmax_t>(status.st_size) > std::numeric_limits<std::size_t>::max())
    detail::throw_file_error(path, "map", EFBIG);
  const auto size = static_cast<std::size_t>(status.st_size);
  void* data = nullptr;
  if (size > 0) {
    data = ::mmap(nullptr, size, PROT_READ, MAP_PRIVATE, fd, 0);
    if (data == MAP_FAILED) detail::throw_file_error(path, "map", errno);
  }
  try {
    return std::shared_ptr<const MappedFile>(new MappedFile(path, static_cast<const std::byte*>(data), size));
  } catch (...) {
    if (data) ::munmap(data, size);
    throw;
  }
}

PROMPTIQA_INLINE MappedFile::~MappedFile() {
  if (data_) ::munmap(const_cast<std::byte*>(data_), size_);
}

PROMPTIQA_INLINE void MappedFile::release_pages(std::size_t offset, std::size_t bytes) const noexcept {
  if (offset >= size_) return;
  const auto page = static_cast<std::size_t>(::sysconf(_SC_PAGESIZE));
  const std::size_t end = offset + std::min(bytes, size_ - offset);
  const std::size_t first = (offset + page - 1) / page * page;
  const std::size_t last = end == size_ ? (end + page - 1) / page * page : end / page * page;
  if (first < last) ::madvise(const_cast<std::byte*>(data_) + first, last - first, MADV_DONTNEED);
}

}  // namespace promptiqa
