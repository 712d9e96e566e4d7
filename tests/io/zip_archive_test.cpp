// Tests of the ZIP directory reader on archives built byte by byte, one broken field at a time.
// Surprising choice: the builder can write the ZIP64 form of every field, as PyTorch does.
#include <promptiqa/io/zip_archive.hpp>
#include "catch.hpp"
#include "io_test_tools.hpp"

using namespace io_test;
using promptiqa::WeightsError;
using promptiqa::detail::read_zip_directory;

namespace {
struct Entry {
  std::string name, data;
  std::uint64_t method = 0, flags = 0;
  std::string local_name = "", local_extra = "";  // local_name: differs from the directory's when not empty
};

struct Archive {
  bool zip64 = false;
  std::string comment = "";
  std::int64_t count_error = 0, offset_error = 0, size_error = 0;  // added to the directory's or entries' fields
  std::int64_t local_offset_error = 0, stored_error = 0, data_error = 0;
  std::uint64_t disk = 0;
  std::string directory_tail = "";

  std::string build(const std::vector<Entry>& entries) const {
    std::string bytes, directory;
    for (const Entry& e : entries) {
      const std::string& local_name = e.local_name.empty() ? e.name : e.local_name;
      const std::uint64_t offset = bytes.size() + static_cast<std::uint64_t>(local_offset_error);
      const std::uint64_t size = e.data.size() + static_cast<std::uint64_t>(data_error);
      const std::uint64_t stored = size + static_cast<std::uint64_t>(stored_error);
      bytes += little_endian(0x04034B50, 4) + little_endian(20, 2) + little_endian(e.flags, 2) +
               little_endian(e.method, 2) + little_endian(0, 16) + little_endian(local_name.size(), 2) +
               little_endian(e.local_extra.size(), 2) + local_name + e.local_extra + e.data;
      const std::string extra = !zip64 ? ""
                                       : little_endian(0x4246, 2) + little_endian(3, 2) + "pad" + little_endian(1, 2) +
                                             little_endian(24, 2) + little_endian(size, 8) + little_endian(stored, 8) +
                                             little_endian(offset, 8);
      const std::uint64_t ones = 0xFFFFFFFF;
      directory += little_endian(0x02014B50, 4) + little_endian(20, 2) + little_endian(20, 2) +
                   little_endian(e.flags, 2) + little_endian(e.method, 2) + little_endian(0, 8) +
                   little_endian(zip64 ? ones : stored, 4) + little_endian(zip64 ? ones : size, 4) +
                   little_endian(e.name.size(), 2) + little_endian(extra.size(), 2) + little_endian(0, 2) +
                   little_endian(0, 8) + little_endian(zip64 ? ones : offset, 4) + e.name + extra;
    }
    directory += directory_tail;
    const std::uint64_t count = entries.size() + static_cast<std::uint64_t>(count_error);
    const std::uint64_t start = bytes.size() + static_cast<std::uint64_t>(offset_error);
    const std::uint64_t size = directory.size() + static_cast<std::uint64_t>(size_error);
    bytes += directory;
    if (zip64) {
      const std::uint64_t end64 = bytes.size();
      bytes += little_endian(0x06064B50, 4) + little_endian(44, 8) + little_endian(45, 2) + little_endian(45, 2) +
               little_endian(disk, 4) + little_endian(disk, 4) + little_endian(count, 8) + little_endian(count, 8) +
               little_endian(size, 8) + little_endian(start, 8);
      bytes += little_endian(0x07064B50, 4) + little_endian(0, 4) + little_endian(end64, 8) + little_endian(1, 4);
    }
    bytes += little_endian(0x06054B50, 4) + little_endian(zip64 ? 0 : disk, 2) + little_endian(zip64 ? 0 : disk, 2) +
             little_endian(zip64 ? 0xFFFF : count, 2) + little_endian(zip64 ? 0xFFFF : count, 2) +
             little_endian(zip64 ? 0xFFFFFFFF : size, 4) + little_endian(zip64 ? 0xFFFFFFFF : start, 4) +
             little_endian(comment.size(), 2) + comment;
    return bytes;
  }
};

const std::vector<Entry> two_entries{{"b", "data of b"}, {"a/long name", ""}};

void refused(const std::string& bytes, const std::string& reason) {
  CHECK_THROWS_AS(read_zip_directory(as_bytes(bytes), "some.pth"), WeightsError);
  CHECK_THROWS_WITH(read_zip_directory(as_bytes(bytes), "some.pth"),
                    ContainsSubstring("some.pth") && ContainsSubstring(reason));
}

std::string text(std::span<const std::byte> data) { return {reinterpret_cast<const char*>(data.data()), data.size()}; }
}  // namespace

TEST_CASE("stored entries of ZIP and ZIP64 archives are found, sorted by name") {
  Archive archive;
  archive.zip64 = GENERATE(false, true);
  archive.comment = GENERATE(std::string(), std::string("a comment with an end record's signature PK\x05\x06 in it"),
                             std::string(65535, 'c'));
  std::vector<Entry> entries = two_entries;
  entries[0].local_extra = "padding that only the local header has";
  const std::string bytes = archive.build(entries);
  const auto read = read_zip_directory(as_bytes(bytes), "memory");
  REQUIRE(read.size() == 2);
  CHECK(read[0].name == "a/long name");
  CHECK(text(read[0].data).empty());
  CHECK(read[1].name == "b");
  CHECK(text(read[1].data) == "data of b");
  const std::string none = archive.build({});
  CHECK(read_zip_directory(as_bytes(none), "memory").empty());
}

TEST_CASE("damaged ZIP archives are refused") {
  Archive archive;
  archive.zip64 = GENERATE(false, true);
  CAPTURE(archive.zip64);
  const std::string valid = archive.build(two_entries);
  refused("", "end record is missing");
  refused(std::string(100000, 'x'), "end record is missing");
  for (std::size_t length = 0; length < valid.size(); ++length) refused(valid.substr(0, length), "");
  refused(valid + "x", "end record is missing");

  const auto broken = [&](auto change, const std::string& reason) {
    Archive other = archive;
    change(other);
    refused(other.build(two_entries), reason);
  };
  broken([](Archive& a) { a.count_error = 1; }, "directory");
  broken([](Archive& a) { a.count_error = -1; }, "bytes after the last entry");
  broken([](Archive& a) { a.offset_error = 1; }, "directory");
  broken([](Archive& a) { a.offset_error = 1 << 30; }, "outside the file");
  broken([](Archive& a) { a.size_error = 1000; }, "outside the file");
  broken([](Archive& a) { a.size_error = -1; }, "directory is damaged");
  broken([](Archive& a) { a.directory_tail = "tail"; }, "bytes after the last entry");
  broken([](Archive& a) { a.disk = 1; }, "several disks");
  broken([](Archive& a) { a.local_offset_error = 1; }, "entry 'b' has no local header");
  broken([](Archive& a) { a.local_offset_error = 1 << 30; }, "entry 'b' has no local header");
  broken([](Archive& a) { a.data_error = 1000; }, "entry 'b' does not fit");
  broken([](Archive& a) { a.stored_error = -1; }, "entry 'b' is stored but has two different sizes");
  if (archive.zip64) {
    broken([](Archive& a) { a.count_error = std::int64_t{1} << 60; }, "cannot hold");
    broken([](Archive& a) { a.offset_error = std::int64_t{1} << 62; }, "outside the file");
    broken([](Archive& a) { a.data_error = std::int64_t{1} << 62; }, "does not fit");
    std::string no_record = valid;
    no_record[valid.size() - 22 - 20 - 56] = 'x';
    refused(no_record, "ZIP64 end record is missing");
  }
}

TEST_CASE("ZIP entries that are not plainly stored are refused by name") {
  Archive archive;
  archive.zip64 = GENERATE(false, true);
  const auto broken = [&](auto change, const std::string& reason) {
    std::vector<Entry> entries = two_entries;
    change(entries[0]);
    refused(archive.build(entries), reason);
  };
  broken([](Entry& e) { e.method = 8; }, "entry 'b' is compressed (method 8)");
  broken([](Entry& e) { e.flags = 1; }, "entry 'b' is encrypted");
  broken([](Entry& e) { e.local_name = "c"; }, "entry 'b' has a local header that contradicts");
  broken([](Entry& e) { e.local_name = "bb"; }, "entry 'b' has a local header that contradicts");
  broken([](Entry& e) { e.name = "a/long name"; }, "entry 'a/long name' occurs twice");
}
