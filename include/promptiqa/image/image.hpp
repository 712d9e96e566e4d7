// Image: the pixels of one picture, borrowed from the caller or owned, in any of the types cameras and decoders give.
// Surprising choice: an Image never changes and is never converted on construction; whoever reads it asks for 8-bit RGB
// rows, so a 16-bit, float, gray or BGR copy of one picture gives the same pixels, and therefore the same score.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include <promptiqa/core/error.hpp>
#include <promptiqa/core/macros.hpp>

namespace promptiqa {

/// Type of one channel value: 0..255, 0..65535, or 0..1 as float.
enum class PixelType { u8, u16, f32 };

/// Which of the first and the third channel is red. Means nothing for one or two channels.
enum class ChannelOrder { rgb, bgr };

/// Height x width pixels of 1 (gray), 2 (gray, alpha), 3 (colour) or 4 (colour, alpha) interleaved channels, top row
/// first. Cheap to copy: copies share the pixels. Safe to read from many threads.
class Image {
 public:
  /// No pixels; every function that reads pixels throws ImageError.
  Image() = default;

  /// Borrows 8-bit pixels that the caller keeps alive and unchanged as long as this Image or a copy of it is used.
  /// `row_stride` is the distance of two rows in bytes, 0 = rows follow each other without a gap. `name` (a path)
  /// appears in error messages only. Throws ImageError: null pointer, size not positive, channels not 1..4, stride
  /// smaller than a row, or a size in bytes that overflows.
  static Image view(const std::uint8_t* pixels, int width, int height, int channels, std::size_t row_stride = 0,
                    ChannelOrder order = ChannelOrder::rgb, std::string name = {});

  /// The same for 16-bit values 0..65535 in the machine's byte order. No alignment is asked for.
  static Image view(const std::uint16_t* pixels, int width, int height, int channels, std::size_t row_stride = 0,
                    ChannelOrder order = ChannelOrder::rgb, std::string name = {});

  /// The same for float values, 0 = black, 1 = white. No alignment is asked for.
  static Image view(const float* pixels, int width, int height, int channels, std::size_t row_stride = 0,
                    ChannelOrder order = ChannelOrder::rgb, std::string name = {});

  /// Shares pixels with whoever else holds the pointer; the last one frees them. Arguments and errors as in view().
  static Image owning(std::shared_ptr<const void> pixels, PixelType type, int width, int height, int channels,
                      std::size_t row_stride = 0, ChannelOrder order = ChannelOrder::rgb, std::string name = {});

  /// Takes over tightly packed 8-bit pixels, width * height * channels of them (else ImageError).
  static Image from_vector(std::vector<std::uint8_t> pixels, int width, int height, int channels,
                           ChannelOrder order = ChannelOrder::rgb, std::string name = {});

  int width() const { return width_; }
  int height() const { return height_; }
  int channels() const { return channels_; }
  PixelType type() const { return type_; }
  ChannelOrder order() const { return order_; }
  bool empty() const { return pixels_ == nullptr; }

  /// Distance of two rows, in bytes.
  std::size_t row_stride() const { return row_stride_; }

  /// Where the picture came from, or an empty string.
  const std::string& name() const { return name_; }

  /// First byte of row `y`, 0 <= y < height(); not checked.
  const std::uint8_t* row(int y) const { return pixels_ + static_cast<std::size_t>(y) * row_stride_; }

  /// True when a row is 3 * width() bytes of 8-bit RGB: it can be used without conversion.
  bool is_rgb8() const { return type_ == PixelType::u8 && channels_ == 3 && order_ == ChannelOrder::rgb; }

  /// Writes row `y` as 3 * width() bytes of 8-bit RGB, with the rules of cv2.imread(IMREAD_COLOR): gray is repeated,
  /// alpha dropped (not blended), of 16 bits the high byte is kept. Floats are clamped to 0..1, times 255, rounded to
  /// nearest, halves up. Throws ImageError when a colour or gray value is NaN.
  void copy_row_rgb8(int y, std::uint8_t* rgb) const;

 private:
  static Image checked(std::shared_ptr<const void> owner, const void* pixels, PixelType type, int width, int height,
                       int channels, std::size_t row_stride, ChannelOrder order, std::string name);

  std::shared_ptr<const void> owner_;  // null for a view
  const std::uint8_t* pixels_ = nullptr;
  std::size_t row_stride_ = 0;
  int width_ = 0;
  int height_ = 0;
  int channels_ = 0;
  PixelType type_ = PixelType::u8;
  ChannelOrder order_ = ChannelOrder::rgb;
  std::string name_;
};

/// Bytes of one channel value: 1, 2 or 4.
constexpr std::size_t bytes_of(PixelType type) {
  return type == PixelType::u8 ? 1 : type == PixelType::u16 ? 2 : 4;
}

/// The picture as 8-bit RGB by the rules of Image::copy_row_rgb8; `image` itself when it is that already.
/// Throws ImageError for an empty image or a NaN.
Image to_rgb8(const Image& image);

namespace detail {
/// "image" or "image 'photo.png'": how error messages call the picture.
std::string image_label(const std::string& name);
}  // namespace detail

}  // namespace promptiqa

#if PROMPTIQA_WITH_BODIES
#include <promptiqa/image/image.ipp>
#endif
