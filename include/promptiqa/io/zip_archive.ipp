// Bodies of the ZIP directory reader (PKWARE's APPNOTE, sections 4.3 to 4.5).
// Surprising choice: sizes come from the central directory only; PyTorch leaves those of the local headers to
// whoever wants them.
#pragma once

#include <algorithm>
#include <cstdint>
#include <cstring>

#include <promptiqa/io/named_tensor.hpp>
#include <promptiqa/io/zip_archive.hpp>

namespace promptiqa::detail {

class ZipReader {
 public:
  ZipReader(std::span<const std::byte> archive, const std::string& file) : archive_(archive), file_(file) {}

  std::vector<ZipEntry> read() {
    find_directory();
    // Every record takes 46 bytes or more: a lying count cannot make us allocate more than the file justifies.
    if (entries_ > directory_bytes_ / central_bytes)
      fail("its directory of " + std::to_string(directory_bytes_) + " bytes cannot hold " + std::to_string(entries_) +
           " entries");
    std::vector<ZipEntry> result;
    result.reserve(static_cast<std::size_t>(entries_));
    position_ = directory_;
    for (std::uint64_t i = 0; i < entries_; ++i) result.push_back(read_entry());
    if (position_ != directory_ + directory_bytes_) fail("its directory has bytes after the last entry");
    std::sort(result.begin(), result.end(), [](const ZipEntry& a, const ZipEntry& b) { return a.name < b.name; });
    for (std::size_t i = 1; i < result.size(); ++i)
      if (result[i].name == result[i - 1].name)
        fail("entry " + quoted_name(std::string(result[i].name)) + " occurs twice");
    return result;
  }

 private:
  static constexpr std::uint64_t end_bytes = 22, locator_bytes = 20, end64_bytes = 56, central_bytes = 46,
                                 local_bytes = 30;

  [[noreturn]] void fail(const std::string& what) const { throw WeightsError(file_ + ": ZIP archive: " + what); }

  // Callers have checked that position + sizeof(T) is inside the archive.
  template <class T>
  T at(std::uint64_t position) const {
    T value;
    std::memcpy(&value, archive_.data() + position, sizeof(T));
    return value;
  }
  std::uint64_t u16(std::uint64_t position) const { return at<std::uint16_t>(position); }
  std::uint64_t u32(std::uint64_t position) const { return at<std::uint32_t>(position); }
  std::uint64_t u64(std::uint64_t position) const { return at<std::uint64_t>(position); }

  // Sets directory_, directory_bytes_ and entries_ from the record at the end of the archive.
  void find_directory() {
    const std::uint64_t size = archive_.size();
    if (size < end_bytes) fail("its end record is missing; is the file complete?");
    std::uint64_t end = size - end_bytes;
    const std::uint64_t longest_comment = 0xFFFF;
    const std::uint64_t lowest = end > longest_comment ? end - longest_comment : 0;
    while (u32(end) != 0x06054B50 || u16(end + 20) != size - end_bytes - end) {
      if (end == lowest) fail("its end record is missing; is the file complete?");
      --end;
    }
    std::uint64_t disk = u16(end + 4) | u16(end + 6), entries_here = u16(end + 8);
    entries_ = u16(end + 10);
    directory_bytes_ = u32(end + 12);
    directory_ = u32(end + 16);
    directory_limit_ = end;
    if (end >= locator_bytes && u32(end - locator_bytes) == 0x07064B50) {
      const std::uint64_t end64 = u64(end - locator_bytes + 8);
      if (end - locator_bytes < end64_bytes || end64 > end - locator_bytes - end64_bytes || u32(end64) != 0x06064B50)
        fail("its ZIP64 end record is missing");
      disk = u32(end64 + 16) | u32(end64 + 20);
      entries_here = u64(end64 + 24);
      entries_ = u64(end64 + 32);
      directory_bytes_ = u64(end64 + 40);
      directory_ = u64(end64 + 48);
      directory_limit_ = end64;
    }
    if (disk != 0 || entries_here != entries_) fail("it is split over several disks");
    if (directory_ > directory_limit_ || directory_bytes_ > directory_limit_ - directory_)
      fail("its directory lies outside the file");
  }

  ZipEntry read_entry() {
    const std::uint64_t limit = directory_ + directory_bytes_;
    if (limit - position_ < central_bytes || u32(position_) != 0x02014B50) fail("its directory is damaged");
    const std::uint64_t record = position_;
    const std::uint64_t name_bytes = u16(record + 28), extra_bytes = u16(record + 30), comment_bytes = u16(record + 32);
    if (limit - record - central_bytes < name_bytes + extra_bytes + comment_bytes) fail("its directory is damaged");
    position_ = record + central_bytes + name_bytes + extra_bytes + comment_bytes;
    const std::string_view name(reinterpret_cast<const char*>(archive_.data()) + record + central_bytes,
                                static_cast<std::size_t>(name_bytes));
    const auto fail_entry = [&](const std::string& what) {
      fail("entry " + quoted_name(std::string(name)) + " " + what);
    };
    if (u16(record + 8) & 1) fail_entry("is encrypted");
    if (const std::uint64_t method = u16(record + 10); method != 0)
      fail_entry("is compressed (method " + std::to_string(method) + "), expected it stored as PyTorch does");

    std::uint64_t stored = u32(record + 20), bytes = u32(record + 24), local = u32(record + 42);
    const std::uint64_t extra = record + central_bytes + name_bytes;
    read_zip64_extra(extra, extra + extra_bytes, {&bytes, &stored, &local});
    if (stored != bytes) fail_entry("is stored but has two different sizes");
    if (local > directory_ || directory_ - local < local_bytes || u32(local) != 0x04034B50)
      fail_entry("has no local header where the directory says");
    const std::uint64_t skip = local_bytes + u16(local + 26) + u16(local + 28);
    if (directory_ - local < skip || bytes > directory_ - local - skip) fail_entry("does not fit into the file");
    if (u16(local + 26) != name_bytes || u16(local + 8) != 0 ||
        std::memcmp(archive_.data() + local + local_bytes, name.data(), name.size()) != 0)
      fail_entry("has a local header that contradicts the directory");
    return {name, archive_.subspan(static_cast<std::size_t>(local + skip), static_cast<std::size_t>(bytes))};
  }

  // Replaces those of size, stored size and header offset that are all ones by the 64-bit values of the extra field.
  void read_zip64_extra(std::uint64_t extra, std::uint64_t end, std::initializer_list<std::uint64_t*> values) const {
    while (end - extra >= 4) {
      const std::uint64_t id = u16(extra), bytes = u16(extra + 2);
      extra += 4;
      if (end - extra < bytes) fail("its directory is damaged");
      if (id == 1) {
        std::uint64_t field = extra;
        for (std::uint64_t* value : values) {
          if (*value != 0xFFFFFFFF) continue;
          if (extra + bytes - field < 8) fail("its directory is damaged");
          *value = u64(field);
          field += 8;
        }
        return;
      }
      extra += bytes;
    }
  }

  std::span<const std::byte> archive_;
  const std::string& file_;
  std::uint64_t directory_ = 0, directory_bytes_ = 0, directory_limit_ = 0, entries_ = 0;
  std::uint64_t position_ = 0;
};

PROMPTIQA_INLINE std::vector<ZipEntry> read_zip_directory(std::span<const std::byte> archive, const std::string& file) {
  return ZipReader(archive, file).read();
}

}  // namespace promptiqa::detail
