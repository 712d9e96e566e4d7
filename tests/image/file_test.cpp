// load_image: every format against stored pixels of cv2.imread, and every kind of file that must be refused.
// Surprising choice: JPEG has a gate of its own, since no two JPEG decoders round alike.
#include "catch.hpp"

#include <cstdio>
#include <filesystem>
#include <fstream>
#include <string>
#include <vector>

#include <promptiqa/image/file.hpp>

#include "image/image_files.hpp"
#if defined(__unix__)
#include <sys/stat.h>
#endif

using namespace promptiqa;
using image_files::difference;
using image_files::read_bytes;
using Bytes = std::vector<std::uint8_t>;

namespace {

/// A folder of its own that goes away with it.
struct ScratchFolder {
  std::filesystem::path path;
  ScratchFolder() {
    for (int i = 0;; ++i) {
      path = std::filesystem::temp_directory_path() / ("promptiqa_image_test_" + std::to_string(i));
      std::error_code error;
      if (std::filesystem::create_directory(path, error)) break;
      if (i > 10000) throw std::runtime_error("no scratch folder");
    }
  }
  ~ScratchFolder() {
    std::error_code error;
    std::filesystem::remove_all(path, error);
  }
  std::string write(const std::string& name, const Bytes& bytes) const {
    std::ofstream out(path / name, std::ios::binary);
    out.write(reinterpret_cast<const char*>(bytes.data()), static_cast<std::streamsize>(bytes.size()));
    return (path / name).string();
  }
};

Bytes text_bytes(const std::string& text) { return Bytes(text.begin(), text.end()); }

}  // namespace

TEST_CASE("load_image: PNG, BMP, PNM and TGA give exactly the pixels of cv2.imread") {
  int files = 0;
  for (const char* suffix : {".png", ".bmp", ".pgm", ".ppm", ".tga"})
    for (const std::string& name : image_files::inputs(suffix)) {
      INFO(name);
      const Image image = load_image(image_files::folder() + name);
      const auto d = difference(image, image_files::read_ppm(name + ".expected.ppm"));
      CHECK(d.same_size);
      CHECK(d.largest == 0);
      CHECK(image.name() == image_files::folder() + name);
      ++files;
    }
  CHECK(files == 47);
}

TEST_CASE("load_image: JPEG stays within three levels of cv2.imread") {
  int files = 0;
  for (const std::string& name : image_files::inputs(".jpg")) {
    const auto d = difference(load_image(image_files::folder() + name), image_files::read_ppm(name + ".expected.ppm"));
    INFO(name << ": " << d.largest << " levels, mean " << d.mean);
    CHECK(d.same_size);
    CHECK(d.largest <= 3);
    // Chroma subsampling is where decoders differ most: 0.16 measured. CMYK is rounded twice: 0.92 measured.
    CHECK(d.mean <= (name.find("cmyk") != std::string::npos || name.find("ycck") != std::string::npos ? 1.0 : 0.25));
    ++files;
  }
  CHECK(files == 19);
}

TEST_CASE("load_image: orientation can be left alone") {
  ImageOptions options;
  options.apply_orientation = false;
  const Image image = load_image(image_files::folder() + "exif6.jpg", options);
  CHECK(image.width() == 24);
  CHECK(image.height() == 16);
  CHECK(load_image(image_files::folder() + "exif6.jpg").width() == 16);
}

TEST_CASE("load_image: paths that are no files") {
  const ScratchFolder folder;
  const std::string missing = (folder.path / "missing.png").string();
  CHECK_THROWS_AS(load_image(missing), FileError);
  CHECK_THROWS_WITH(load_image(missing), ContainsSubstring("missing.png"));
  CHECK_THROWS_AS(load_image(folder.path.string()), FileError);
  CHECK_THROWS_WITH(load_image(folder.write("empty.png", {})), ContainsSubstring("empty.png"));
  CHECK_THROWS_AS(load_image(folder.write("empty.png", {})), ImageError);
#if defined(__unix__)
  const std::string pipe = (folder.path / "pipe.png").string();
  REQUIRE(mkfifo(pipe.c_str(), 0600) == 0);
  CHECK_THROWS_AS(load_image(pipe), FileError);  // and does not wait for a writer
  CHECK_THROWS_AS(load_image("/dev/null"), FileError);
#endif
}

TEST_CASE("load_image names formats it does not read") {
  struct Case {
    std::string start, name;
  };
  const std::string zero(1, '\0');
  for (const Case& c : {Case{"GIF89a", "GIF"}, Case{"RIFF1234WEBPVP8 ", "WebP"},
                        Case{zero + zero + zero + "\x18" "ftypheic" "0000" "mif1heic", "HEIC"},
                        Case{zero + zero + zero + "\x1c" "ftypmif1" "0000" "mif1avif", "AVIF"},
                        Case{"II*" + zero, "TIFF"}, Case{"MM" + zero + "*", "TIFF"}, Case{"8BPS", "Photoshop"},
                        Case{"#?RADIANCE\n", "Radiance HDR"}, Case{"\xff\x0a", "JPEG XL"}, Case{"qoif", "QOI"},
                        Case{"P3\n1 1\n255\n1 2 3\n", "P3"}, Case{"hello, world, this is no image", "known format"}}) {
    Bytes file = text_bytes(c.start);
    file.resize(file.size() + 40, 'x');
    INFO(c.name);
    CHECK_THROWS_AS(load_image_from_memory(file, {}, "a.bin"), ImageError);
    CHECK_THROWS_WITH(load_image_from_memory(file, {}, "a.bin"),
                      ContainsSubstring(c.name) && ContainsSubstring("a.bin"));
  }
}

TEST_CASE("load_image: limits hold before anything is decoded") {
  ImageOptions options;
  options.max_pixels = 41 * 30 - 1;
  CHECK_THROWS_WITH(load_image(image_files::folder() + "rgb8.png", options), ContainsSubstring("41 x 30"));
  options.max_pixels = 41 * 30;
  CHECK_NOTHROW(load_image(image_files::folder() + "rgb8.png", options));
  for (const char* name : {"jpeg_420.jpg", "rgb24.bmp", "gray8.pgm", "rgb24.tga", "gray16.png"}) {
    options.max_pixels = 10;
    INFO(name);
    CHECK_THROWS_WITH(load_image(image_files::folder() + name, options), ContainsSubstring("limit of 10 pixels"));
  }
  options = ImageOptions{};
  options.max_file_bytes = 100;
  CHECK_THROWS_WITH(load_image(image_files::folder() + "rgb8.png", options), ContainsSubstring("the limit is 100"));
  CHECK_THROWS_AS(load_image_from_memory(read_bytes("rgb8.png"), options), ImageError);
  // A header that promises 4 billion x 4 billion pixels.
  Bytes pgm = text_bytes("P5\n2000000000 2000000000\n255\n");
  CHECK_THROWS_AS(load_image_from_memory(pgm), ImageError);
  pgm = text_bytes("P5\n99999999999999999999 1\n255\n");
  CHECK_THROWS_AS(load_image_from_memory(pgm), ImageError);
}

TEST_CASE("load_image: every truncation of every file is an error") {
  int refused = 0;
  for (const char* suffix : {".png", ".jpg", ".bmp", ".pgm", ".ppm", ".tga"})
    for (const std::string& name : image_files::inputs(suffix)) {
      const Bytes file = read_bytes(name);
      // BMP rows are padded; without the padding of the last row nothing is missing.
      const std::size_t longest = file.size() - (std::string(suffix) == ".bmp" ? 4 : 1);
      for (std::size_t length = 0; length <= longest; length += length < 80 || longest - length < 80 ? 1 : 37) {
        try {
          load_image_from_memory(std::span<const std::uint8_t>(file).first(length));
          FAIL_CHECK(name << " cut to " << length << " of " << file.size() << " bytes was accepted");
        } catch (const ImageError&) {
          ++refused;
        }
      }
    }
  CHECK(refused > 10000);
}

TEST_CASE("load_image: a PNG with a flipped bit is an error") {
  const Bytes file = read_bytes("rgb8.png");
  for (std::size_t i = 8; i < file.size(); i += 5) {
    Bytes broken = file;
    broken[i] ^= 0x04;
    CHECK_THROWS_AS(load_image_from_memory(broken), ImageError);
  }
}

TEST_CASE("has_image_extension") {
  for (const char* yes : {"a.png", "dir.x/a.JPG", "a.b.jpeg", "C:\\x\\a.Bmp", "a.tga", "a.ppm", "a.pgm", "a.jfif"})
    CHECK(has_image_extension(yes));
  for (const char* no : {"a", "a.txt", "png", ".png", "dir.png/a", "dir/.jpg", "a.png.txt", "", "a.gif", "a.png/"})
    CHECK_FALSE(has_image_extension(no));
}
