// Pictures resized and normalised on the emulated device against the CPU: the same bits, for every size and form.
// Surprising choice: there is no tolerance: both round each product and sum by itself, in the same order.
#include <promptiqa/image/prepare.hpp>
#include <promptiqa/image/preprocess.hpp>

#include "emulated.hpp"

using namespace promptiqa_test;

namespace {

/// Noise that reaches both ends of the range (overshoot must be clamped) above a slope (values between two levels).
std::vector<std::uint8_t> bytes(std::size_t count, std::uint32_t seed) {
  std::mt19937 generator(seed);
  std::vector<std::uint8_t> values(count);
  for (std::size_t i = 0; i < count; ++i) {
    const unsigned draw = generator();
    values[i] = static_cast<std::uint8_t>(draw % 4 == 0 ? 0 : draw % 4 == 1 ? 255 : i / 3 % 256);
  }
  return values;
}

Image picture(int width, int height, int channels, ChannelOrder order, std::uint32_t seed) {
  return Image::from_vector(
      bytes(static_cast<std::size_t>(width) * static_cast<std::size_t>(height) * static_cast<std::size_t>(channels),
            seed),
      width, height, channels, order);
}

template <class T>
std::vector<T> on_cpu(const std::vector<Image>& images, int size) {
  std::vector<T> all;
  std::vector<float> chw(static_cast<std::size_t>(3 * size * size));
  for (const Image& image : images) {
    preprocess_to_chw(image, size, chw.data());
    for (float v : chw) all.push_back(from_double<T>(v));
  }
  return all;
}

template <class T>
void check_same(const std::vector<Image>& images, int size) {
  INFO(images.size() << " pictures, the first " << images[0].width() << " x " << images[0].height() << " x "
                     << images[0].channels() << ", to " << size);
  const std::vector<T> want = on_cpu<T>(images, size);
  for (const emulation::Order order : {emulation::Order::forward, emulation::Order::reverse}) {
    const InOrder in_order(order);
    const Tensor<T> y = prepare_images<T>(emulated(), images, size);
    CHECK(y.shape() == Shape{static_cast<std::int64_t>(images.size()), 3, size, size});
    CHECK(y.device() == Device::cuda);
    const std::vector<T> got = y.host();
    REQUIRE(got.size() == want.size());
    CHECK(std::memcmp(got.data(), want.data(), got.size() * sizeof(T)) == 0);
  }
}

}  // namespace

TEST_CASE("pictures of any size are resized to the CPU's bits", "[cuda]") {
  std::uint32_t seed = 1;
  const int sizes[][2] = {{1, 1}, {1, 7}, {6, 1}, {2, 3}, {3, 2}, {5, 4}, {16, 16}, {17, 9}, {31, 65}, {101, 38}};
  for (const auto& size : sizes)
    for (const int side : {1, 2, 5, 16, 33})
      check_same<float>({picture(size[0], size[1], 3, ChannelOrder::rgb, ++seed)}, side);
  check_same<double>({picture(17, 9, 3, ChannelOrder::rgb, ++seed)}, 7);
  // The model's side: enlarged, as it is, reduced; 512 gives many values that lie between two levels.
  for (const int side : {1, 100, 224, 225, 512})
    check_same<float>({picture(side, side, 3, ChannelOrder::rgb, ++seed)}, 224);
}

TEST_CASE("pictures of every form are resized to the CPU's bits, many at a time", "[cuda]") {
  std::vector<Image> images;
  for (const int channels : {1, 2, 3, 4})
    for (const ChannelOrder order : {ChannelOrder::rgb, ChannelOrder::bgr})
      images.push_back(picture(19 + channels, 11, channels, order, static_cast<std::uint32_t>(channels)));
  std::vector<std::uint16_t> wide(23 * 14 * 3);
  std::vector<float> real(23 * 14 * 3);
  std::mt19937 generator(7);
  for (std::size_t i = 0; i < wide.size(); ++i) {
    wide[i] = static_cast<std::uint16_t>(generator());
    real[i] = static_cast<float>(generator() % 1000) / 900.0f - 0.05f;
  }
  images.push_back(Image::view(wide.data(), 23, 14, 3));
  images.push_back(Image::view(real.data(), 23, 14, 3));
  images.push_back(Image::view(real.data(), 23, 14, 1));
  const std::vector<std::uint8_t> gaps = bytes(14 * 80, 9);  // rows of 23 pixels, 80 bytes apart
  images.push_back(Image::view(gaps.data(), 23, 14, 3, 80));
  images.push_back(Image::view(gaps.data(), 23, 14, 3, 80, ChannelOrder::bgr));
  images.push_back(picture(200, 300, 3, ChannelOrder::bgr, 10));
  for (const Image& image : images) check_same<float>({image}, 8);
  check_same<float>(images, 9);
  check_same<double>(images, 6);
  check_same<bfloat16>(images, 6);
  CHECK(prepare_images<float>(emulated(), {}, 9).numel() == 0);
}

TEST_CASE("a CPU context's pictures are preprocess_to_chw's", "[cuda]") {
  Context cpu = Context::cpu(2);
  const std::vector<Image> images = {picture(5, 9, 3, ChannelOrder::rgb, 1), picture(8, 3, 1, ChannelOrder::rgb, 2)};
  CHECK(prepare_images<float>(cpu, images, 6).host() == on_cpu<float>(images, 6));
  CHECK(prepare_images<double>(cpu, images, 6).host() == on_cpu<double>(images, 6));
}

TEST_CASE("pictures that cannot be resized are refused on a device as on the CPU", "[cuda]") {
  const Image good = picture(5, 5, 3, ChannelOrder::rgb, 1);
  CHECK_THROWS_AS(prepare_images<float>(emulated(), std::vector<Image>{good, Image()}, 4), ImageError);
  CHECK_THROWS_AS(prepare_images<float>(emulated(), std::vector<Image>{good}, 0), ImageError);
  std::vector<float> nan(40 * 40, 0.5f);
  nan[20 * 40 + 1] = std::numeric_limits<float>::quiet_NaN();  // in a row that no tap reads
  CHECK_THROWS_AS(prepare_images<float>(emulated(), std::vector<Image>{Image::view(nan.data(), 40, 40, 1)}, 2),
                  ImageError);
}
