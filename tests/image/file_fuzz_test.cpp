// Thousands of damaged files, the same ones in every run: each must end in a picture or in ImageError.
// Surprising choice: checksums of damaged PNG files are made right again, or no damage would reach the decoder.
// Meant to be run with -DPROMPTIQA_SANITIZE=address,undefined as well; without it only wild writes would show.
#include "catch.hpp"

#include <cstring>
#include <random>
#include <string>
#include <vector>

#include <promptiqa/image/file.hpp>
#include <promptiqa/image/preprocess.hpp>

#include "image/image_files.hpp"

using namespace promptiqa;
using Bytes = std::vector<std::uint8_t>;

namespace {

std::uint32_t crc32(const std::uint8_t* bytes, std::size_t count) {
  std::uint32_t crc = 0xffffffffu;
  for (std::size_t i = 0; i < count; ++i) {
    crc ^= bytes[i];
    for (int k = 0; k < 8; ++k) crc = crc & 1 ? 0xedb88320u ^ (crc >> 1) : crc >> 1;
  }
  return ~crc;
}

void repair_checksums(Bytes& png) {
  for (std::size_t at = 8; at + 12 <= png.size();) {
    std::size_t length = 0;
    for (std::size_t i = 0; i < 4; ++i) length = length << 8 | png[at + i];
    if (length > png.size() - at - 12) return;
    const std::uint32_t crc = crc32(png.data() + at + 4, length + 4);
    for (std::size_t i = 0; i < 4; ++i) png[at + 8 + length + i] = static_cast<std::uint8_t>(crc >> (24 - 8 * i));
    at += 12 + length;
  }
}

Bytes damaged(const Bytes& original, std::mt19937& random) {
  Bytes file = original;
  const auto below = [&random](std::size_t n) { return static_cast<std::size_t>(random()) % n; };
  const std::size_t changes = 1 + below(4);
  for (std::size_t i = 0; i < changes && file.size() > 4; ++i) {
    // Half of the damage goes to the first bytes, where the structure is.
    const bool anywhere = below(2) != 0;
    const std::size_t at = below(anywhere || file.size() < 700 ? file.size() : 700);
    const std::uint8_t interesting[] = {0x00, 0x01, 0x7f, 0x80, 0xfe, 0xff};
    const std::uint8_t value = interesting[below(6)];  // drawn one by one: argument order is the compiler's choice
    const std::size_t few = below(9), left = file.size() - at;
    const auto here = file.begin() + static_cast<std::ptrdiff_t>(at);
    switch (below(6)) {
      case 0: file[at] ^= static_cast<std::uint8_t>(1u << few % 8); break;
      case 1: file[at] = static_cast<std::uint8_t>(random()); break;
      case 2: file[at] = value; break;
      case 3: file.erase(here, here + static_cast<std::ptrdiff_t>(few < left ? few : left)); break;
      case 4: file.insert(here, few, value); break;
      default: {  // a piece of the file somewhere else
        const std::size_t length = below(left < 40 ? left : 40);
        const std::size_t to = below(file.size() - length);
        std::memmove(file.data() + to, file.data() + at, length);
      }
    }
  }
  return file;
}

}  // namespace

TEST_CASE("load_image survives damaged files") {
  std::mt19937 random(20240607);  // mt19937's numbers are the same everywhere
  ImageOptions options;
  options.max_pixels = 1'000'000;
  std::size_t pictures = 0, errors = 0;
  for (const char* suffix : {".png", ".jpg", ".bmp", ".pgm", ".ppm", ".tga"})
    for (const std::string& name : image_files::inputs(suffix)) {
      const Bytes original = image_files::read_bytes(name);
      for (int round = 0; round < 150; ++round) {
        Bytes file = damaged(original, random);
        if (std::string(suffix) == ".png") repair_checksums(file);
        try {
          const Image image = load_image_from_memory(file, options, name);
          std::vector<float> chw(3 * 16 * 16);
          preprocess_to_chw(image, 16, chw.data());
          ++pictures;
        } catch (const ImageError&) {
          ++errors;
        }
      }
    }
  CHECK(pictures + errors == 66 * 150);
  CHECK(pictures > 500);  // the damage must be small enough for decoders to see it
  CHECK(errors > 500);
}

TEST_CASE("load_image gives the same pixels each time for a damaged file") {
  std::mt19937 random(7);
  const Bytes original = image_files::read_bytes("jpeg_progressive.jpg");
  int compared = 0;
  for (int round = 0; round < 300; ++round) {
    const Bytes file = damaged(original, random);
    try {
      ImageOptions options;
      options.max_pixels = 1'000'000;
      const Image first = load_image_from_memory(file, options);
      std::vector<Bytes> dirt(20, Bytes(20000, 0xa5));  // so that recycled memory is not zero
      dirt.clear();
      const auto d = image_files::difference(first, load_image_from_memory(file, options));
      CHECK(d.same_size);
      CHECK(d.largest == 0);
      ++compared;
    } catch (const ImageError&) {
    }
  }
  CHECK(compared > 20);
}

TEST_CASE("load_image refuses a Huffman table of more codes than there are symbols") {
  // 255 codes of 15 bits and 255 of 16: a possible code, but twice the room that decoders have.
  Bytes segment = {0xff, 0xc4, 0, 0, 0x13};
  segment.resize(segment.size() + 16 + 510);
  segment[5 + 14] = segment[5 + 15] = 255;
  segment[2] = static_cast<std::uint8_t>((segment.size() - 2) >> 8);
  segment[3] = static_cast<std::uint8_t>(segment.size() - 2);
  Bytes file = image_files::read_bytes("jpeg_gray.jpg");
  CHECK_NOTHROW(load_image_from_memory(file));
  file.insert(file.begin() + 2, segment.begin(), segment.end());
  CHECK_THROWS_WITH(load_image_from_memory(file), ContainsSubstring("Huffman"));
}

TEST_CASE("load_image shows nothing of the process's memory where a JPEG has no data") {
  // Everything behind the first restart marker is cut out: the decoder stops there and leaves the rest as it was.
  const Bytes whole = image_files::read_bytes("jpeg_restart.jpg");
  std::size_t restart = 0;
  for (std::size_t i = 0; i + 1 < whole.size() && restart == 0; ++i)
    if (whole[i] == 0xff && whole[i + 1] == 0xd0) restart = i;
  REQUIRE(restart > 0);
  Bytes file(whole.begin(), whole.begin() + static_cast<std::ptrdiff_t>(restart));
  file.push_back(0xff);
  file.push_back(0xd9);
  std::vector<Image> images;
  for (const std::uint8_t dirt : {0xa5, 0x3c}) {
    std::vector<Bytes> blocks;  // of every size the decoder might ask for, so that it gets used memory
    for (std::size_t size = 16; size < 40000; size += 16) blocks.emplace_back(size, dirt);
    blocks.clear();
    images.push_back(load_image_from_memory(file));
  }
  const auto d = image_files::difference(images[0], images[1]);
  CHECK(d.same_size);
  CHECK(d.largest == 0);
}
