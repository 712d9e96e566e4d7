// Tests of MappedFile: what can be mapped, what is refused and how, and the release of pages.
// Surprising choice: released pages are looked for in the process's resident size, where Linux tells it.
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include <promptiqa/io/mapped_file.hpp>
#include "catch.hpp"
#include "io_test_tools.hpp"

using namespace io_test;
using promptiqa::FileError;
using promptiqa::MappedFile;

namespace {
std::string contents(const MappedFile& file) {
  return {reinterpret_cast<const char*>(file.bytes().data()), file.bytes().size()};
}

// Resident bytes of this process, 0 where unknown.
std::size_t resident_bytes() {
  std::ifstream statm("/proc/self/statm");
  std::size_t total = 0, resident = 0;
  statm >> total >> resident;
  return resident * static_cast<std::size_t>(sysconf(_SC_PAGESIZE));
}
}  // namespace

TEST_CASE("a mapped file shows the file's bytes and outlives its replacement") {
  const TemporaryFolder folder;
  const std::string path = folder / "file";
  write_file(path, "first contents");
  const auto file = MappedFile::open(path);
  CHECK(file->path() == path);
  CHECK(contents(*file) == "first contents");
  write_file(folder / "other", "second");
  std::filesystem::rename(folder / "other", path);
  CHECK(contents(*file) == "first contents");
  CHECK(contents(*MappedFile::open(path)) == "second");
}

TEST_CASE("an empty file maps to an empty span") {
  const TemporaryFolder folder;
  write_file(folder / "empty", "");
  const auto file = MappedFile::open(folder / "empty");
  CHECK(file->bytes().empty());
  file->release_pages(0, 100);
}

TEST_CASE("what is no readable regular file is refused by name and reason") {
  const TemporaryFolder folder;
  const auto refused = [](const std::string& path, const std::string& reason) {
    CHECK_THROWS_AS(MappedFile::open(path), FileError);
    CHECK_THROWS_WITH(MappedFile::open(path), ContainsSubstring(path) && ContainsSubstring(reason));
  };
  refused(folder / "missing", "No such file");
  refused(folder.path(), "a folder");
  refused("/dev/null", "a device");
  write_file(folder / "file", "x");
  refused(folder / "file/below", "Not a directory");
  CHECK_THROWS_AS(MappedFile::open(""), FileError);
  CHECK_THROWS_AS(MappedFile::open(folder / std::string("file\0hidden", 11)), FileError);

  // A pipe without a writer: opening it would wait for ever.
  REQUIRE(mkfifo((folder / "pipe").c_str(), 0600) == 0);
  refused(folder / "pipe", "a pipe");

  // As root every file can be read.
  if (geteuid() != 0) {
    REQUIRE(chmod((folder / "file").c_str(), 0) == 0);
    refused(folder / "file", "Permission denied");
  }
}

TEST_CASE("release_pages drops whole pages and keeps the contents") {
  const TemporaryFolder folder;
  const std::size_t bytes = (std::size_t{32} << 20) + 123;
  std::string written(bytes, ' ');
  for (std::size_t i = 0; i < bytes; ++i) written[i] = static_cast<char>(i * 2654435761u >> 13);
  write_file(folder / "large", written);
  const auto file = MappedFile::open(folder / "large");
  CHECK((contents(*file) == written));  // every page is resident now
  const std::size_t before = resident_bytes();
  file->release_pages(1, bytes);
  const std::size_t after = resident_bytes();
  if (before > 0) CHECK(after + (std::size_t{30} << 20) < before);  // 32 MB, less what else may have come in
  // Any range is allowed, also beyond the file.
  file->release_pages(bytes - 1, 1);
  file->release_pages(bytes, 5);
  file->release_pages(100, ~std::size_t{0});
  file->release_pages(~std::size_t{0}, ~std::size_t{0});
  file->release_pages(5000, 10);
  CHECK((contents(*file) == written));
}
