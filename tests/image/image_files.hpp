// Reads the stored pictures of tests/golden/images.
// Surprising choice: expectations are PPM files read by these few lines, not by the decoder under test.
#pragma once

#include <algorithm>
#include <cstdint>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <sstream>
#include <stdexcept>
#include <string>
#include <vector>

#include <promptiqa/image/image.hpp>

namespace image_files {

inline std::string folder() { return std::string(PROMPTIQA_TEST_DIR) + "/golden/images/"; }

inline std::vector<std::uint8_t> read_bytes(const std::string& name) {
  std::ifstream in(folder() + name, std::ios::binary);
  if (!in) throw std::runtime_error("no test file " + name);
  return {std::istreambuf_iterator<char>(in), std::istreambuf_iterator<char>()};
}

inline promptiqa::Image read_ppm(const std::string& name) {
  std::ifstream in(folder() + name, std::ios::binary);
  std::string magic;
  int width = 0, height = 0, most = 0;
  in >> magic >> width >> height >> most;
  in.get();
  std::vector<std::uint8_t> pixels{std::istreambuf_iterator<char>(in), std::istreambuf_iterator<char>()};
  if (magic != "P6" || most != 255) throw std::runtime_error("no test file " + name);
  return promptiqa::Image::from_vector(std::move(pixels), width, height, 3);
}

/// Sorted names of the files to decode whose name ends in `suffix`.
inline std::vector<std::string> inputs(const std::string& suffix) {
  std::vector<std::string> names;
  for (const auto& entry : std::filesystem::directory_iterator(folder())) {
    const std::string name = entry.path().filename().string();
    if (name.find(".expected.") == std::string::npos && name.rfind("resize_", 0) != 0 && name.size() > suffix.size() &&
        name.compare(name.size() - suffix.size(), suffix.size(), suffix) == 0)
      names.push_back(name);
  }
  std::sort(names.begin(), names.end());
  return names;
}

/// How two pictures differ, over all values of all channels.
struct Difference {
  bool same_size = false;
  int largest = 0;
  double fraction = 0;  // of values that differ
  double mean = 0;      // of absolute differences
};

inline Difference difference(const promptiqa::Image& a, const promptiqa::Image& b) {
  Difference d;
  d.same_size = a.width() == b.width() && a.height() == b.height();
  if (!d.same_size) return d;
  const promptiqa::Image left = promptiqa::to_rgb8(a), right = promptiqa::to_rgb8(b);
  const int values = 3 * a.width();
  for (int y = 0; y < a.height(); ++y)
    for (int i = 0; i < values; ++i) {
      const int step = std::abs(int{left.row(y)[i]} - int{right.row(y)[i]});
      d.largest = std::max(d.largest, step);
      d.fraction += step != 0;
      d.mean += step;
    }
  d.fraction /= static_cast<double>(values) * a.height();
  d.mean /= static_cast<double>(values) * a.height();
  return d;
}

}  // namespace image_files
