// Tests of AtomicFile: all of the new contents or the old ones untouched, and no temporary left behind.
// Surprising choice: a full disk is played by a limit on the size of files, which fails at the same call.
#include <fcntl.h>
#include <signal.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <promptiqa/io/atomic_file.hpp>
#include "catch.hpp"
#include "io_test_tools.hpp"

using namespace io_test;
using promptiqa::AtomicFile;
using promptiqa::FileError;

namespace {
void write_atomically(const std::string& path, const std::string& contents) {
  AtomicFile file(path);
  file.write(contents.data(), contents.size());
  file.commit();
}

// While it lives, files cannot grow beyond `bytes`: write() fails with EFBIG, after SIGXFSZ, whose effect is to end the
// process.
class FileSizeLimit {
 public:
  explicit FileSizeLimit(rlim_t bytes) {
    getrlimit(RLIMIT_FSIZE, &old_limit_);
    rlimit limit = old_limit_;
    limit.rlim_cur = bytes;
    setrlimit(RLIMIT_FSIZE, &limit);
  }
  ~FileSizeLimit() { setrlimit(RLIMIT_FSIZE, &old_limit_); }

 private:
  rlimit old_limit_{};
};
}  // namespace

TEST_CASE("an atomic file appears with commit, and only then") {
  const TemporaryFolder folder;
  const std::string path = folder / "file";
  {
    AtomicFile file(path);
    file.write("ab", 2);
    file.write("", 0);
    CHECK_FALSE(std::filesystem::exists(path));
    file.write("c", 1);
    file.commit();
    CHECK(read_file(path) == "abc");
  }
  CHECK(read_file(path) == "abc");
  write_atomically(path, "");
  CHECK(read_file(path).empty());
  CHECK(folder.files() == 1);
}

TEST_CASE("without commit the old file stays and the temporary goes") {
  const TemporaryFolder folder;
  write_file(folder / "file", "old");
  {
    AtomicFile file(folder / "file");
    file.write("new", 3);
    CHECK(read_file(folder / "file") == "old");
  }
  CHECK(read_file(folder / "file") == "old");
  CHECK(folder.files() == 1);
}

TEST_CASE("when the disk takes no more, the old file stays and the temporary goes") {
  const TemporaryFolder folder;
  const std::string path = folder / "file";
  write_file(path, "old");
  const std::string large(100000, 'x');
  std::string message;
  {
    const FileSizeLimit limit(65536);
    try {
      write_atomically(path, large);
    } catch (const FileError& error) {
      message = error.what();
    }
  }
  CHECK(message == path + ": cannot write: File too large");
  CHECK(read_file(path) == "old");
  CHECK(folder.files() == 1);
  write_atomically(path, large);
  CHECK(read_file(path) == large);
}

TEST_CASE("two atomic files in one folder do not disturb each other; the last commit wins") {
  const TemporaryFolder folder;
  AtomicFile first(folder / "file"), second(folder / "file");
  first.write("first", 5);
  second.write("second", 6);
  second.commit();
  CHECK(read_file(folder / "file") == "second");
  first.commit();
  CHECK(read_file(folder / "file") == "first");
  CHECK(folder.files() == 1);
}

TEST_CASE("an atomic file keeps the permissions of the file it replaces and follows symbolic links") {
  const TemporaryFolder folder;
  std::filesystem::create_directory(folder / "real");
  write_file(folder / "real/file", "old");
  REQUIRE(chmod((folder / "real/file").c_str(), 0640) == 0);
  std::filesystem::create_symlink("real/file", folder / "link");
  write_atomically(folder / "link", "new");
  CHECK(std::filesystem::is_symlink(folder / "link"));
  CHECK(read_file(folder / "real/file") == "new");
  struct stat status {};
  REQUIRE(stat((folder / "real/file").c_str(), &status) == 0);
  CHECK((status.st_mode & 0777) == 0640);
}

TEST_CASE("a file name of the greatest length can be written") {
  const TemporaryFolder folder;
  const std::string path = folder / std::string(255, 'n');
  write_atomically(path, "x");
  CHECK(read_file(path) == "x");
}

TEST_CASE("an atomic file cannot replace what is no file, or be made where there is no folder") {
  const TemporaryFolder folder;
  std::filesystem::create_directory(folder / "folder");
  std::filesystem::create_symlink("nowhere", folder / "dangling");
  const std::size_t files = folder.files();
  const auto refused = [](const std::string& path, const std::string& reason) {
    CHECK_THROWS_AS(AtomicFile(path), FileError);
    CHECK_THROWS_WITH(AtomicFile(path), ContainsSubstring(path) && ContainsSubstring(reason));
  };
  refused(folder / "folder", "a folder");
  refused("/dev/null", "a device");
  refused(folder / "dangling", "No such file");
  refused(folder / "missing/file", "No such file");
  CHECK_THROWS_AS(AtomicFile(""), FileError);
  CHECK(folder.files() == files);

  // A folder that takes the name between creation and commit: rename fails, nothing is left behind.
  {
    AtomicFile file(folder / "late");
    std::filesystem::create_directory(folder / "late");
    CHECK_THROWS_WITH(file.commit(), ContainsSubstring("rename"));
  }
  CHECK(folder.files() == files + 1);
}

TEST_CASE("a process that is killed while it writes leaves nothing behind") {
  const TemporaryFolder folder;
  const std::string path = folder / "file";
  write_atomically(path, "old");
  const int nameless = open(folder.path().c_str(), O_WRONLY | O_TMPFILE, 0600);
  if (nameless < 0) {
    WARN("this file system has no files without names: a killed process would leave its temporary file");
    return;
  }
  close(nameless);
  const pid_t child = fork();
  if (child == 0) {
    AtomicFile file(path);
    file.write("new contents", 12);
    raise(SIGKILL);
    _exit(0);
  }
  int status = 0;
  REQUIRE(waitpid(child, &status, 0) == child);
  CHECK(WIFSIGNALED(status));
  CHECK(read_file(path) == "old");
  CHECK(folder.files() == 1);
}

TEST_CASE("a signal of a limit that was pending before stays pending") {
  const TemporaryFolder folder;
  sigset_t limit, before, pending;
  sigemptyset(&limit);
  sigaddset(&limit, SIGXFSZ);
  pthread_sigmask(SIG_BLOCK, &limit, &before);
  raise(SIGXFSZ);
  {
    const FileSizeLimit small(10);
    CHECK_THROWS_AS(write_atomically(folder / "file", std::string(100, 'x')), FileError);
  }
  sigpending(&pending);
  CHECK(sigismember(&pending, SIGXFSZ) == 1);
  const timespec at_once = {0, 0};
  sigtimedwait(&limit, nullptr, &at_once);
  pthread_sigmask(SIG_SETMASK, &before, nullptr);
}
