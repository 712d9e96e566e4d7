// Bodies of Image: argument checks and the conversion of one row to 8-bit RGB.
// Surprising choice: values are read with memcpy, so callers may pass 16-bit and float pixels at any address.
#pragma once

#include <cstring>
#include <limits>
#include <utility>

#include <promptiqa/image/image.hpp>

namespace promptiqa {

namespace detail {

PROMPTIQA_INLINE std::string image_label(const std::string& name) {
  return name.empty() ? std::string("image") : "image '" + name + "'";
}

// One channel value as 8 bits.
inline std::uint8_t value_to_u8(const std::uint8_t* p, std::uint8_t) { return *p; }

inline std::uint8_t value_to_u8(const std::uint8_t* p, std::uint16_t) {
  std::uint16_t v;
  std::memcpy(&v, p, sizeof(v));
  return static_cast<std::uint8_t>(v >> 8);
}

inline std::uint8_t value_to_u8(const std::uint8_t* p, float) {
  float v;
  std::memcpy(&v, p, sizeof(v));
  if (!(v > 0.0f)) return 0;  // NaN was refused before
  return v >= 1.0f ? std::uint8_t{255} : static_cast<std::uint8_t>(v * 255.0f + 0.5f);
}

// T is the type of a value, channels that of a pixel; `swap` for BGR.
template <class T>
void convert_row(const std::uint8_t* in, int width, int channels, bool swap, std::uint8_t* out) {
  const std::size_t step = static_cast<std::size_t>(channels) * sizeof(T);
  if (channels < 3) {
    for (int x = 0; x < width; ++x, in += step, out += 3) out[0] = out[1] = out[2] = value_to_u8(in, T{});
    return;
  }
  const std::size_t red = swap ? 2 * sizeof(T) : 0, blue = swap ? 0 : 2 * sizeof(T);
  for (int x = 0; x < width; ++x, in += step, out += 3) {
    out[0] = value_to_u8(in + red, T{});
    out[1] = value_to_u8(in + sizeof(T), T{});
    out[2] = value_to_u8(in + blue, T{});
  }
}

// Alpha is not looked at: it has no influence on the result.
inline bool row_has_nan(const std::uint8_t* in, int width, int channels) {
  const int colours = channels < 3 ? 1 : 3;
  for (int x = 0; x < width; ++x, in += static_cast<std::size_t>(channels) * sizeof(float))
    for (int c = 0; c < colours; ++c) {
      std::uint32_t bits;  // of the float: a test that survives -ffast-math
      std::memcpy(&bits, in + static_cast<std::size_t>(c) * sizeof(float), sizeof(bits));
      if ((bits & 0x7fffffffu) > 0x7f800000u) return true;
    }
  return false;
}

}  // namespace detail

PROMPTIQA_INLINE Image Image::checked(std::shared_ptr<const void> owner, const void* pixels, PixelType type, int width,
                                      int height, int channels, std::size_t row_stride, ChannelOrder order,
                                      std::string name) {
  const std::string label = detail::image_label(name);
  if (!pixels) throw ImageError(label + ": the pointer to the pixels is null");
  if (width < 1 || height < 1)
    throw ImageError(label + ": width and height must be positive, got " + std::to_string(width) + " x " +
                     std::to_string(height));
  if (channels < 1 || channels > 4)
    throw ImageError(label + ": expected 1 to 4 channels, got " + std::to_string(channels));
  const auto limit = static_cast<std::size_t>(std::numeric_limits<std::ptrdiff_t>::max());
  const std::size_t pixel = static_cast<std::size_t>(channels) * bytes_of(type);
  if (static_cast<std::size_t>(width) > limit / pixel) throw ImageError(label + ": the size of a row overflows");
  const std::size_t row_bytes = static_cast<std::size_t>(width) * pixel;
  if (row_stride == 0) row_stride = row_bytes;
  if (row_stride < row_bytes)
    throw ImageError(label + ": a row has " + std::to_string(row_bytes) + " bytes, but the row stride is only " +
                     std::to_string(row_stride));
  if (height > 1 && row_stride > (limit - row_bytes) / static_cast<std::size_t>(height - 1))
    throw ImageError(label + ": " + std::to_string(height) + " rows of stride " + std::to_string(row_stride) +
                     " overflow the address space");
  Image image;
  image.owner_ = std::move(owner);
  image.pixels_ = static_cast<const std::uint8_t*>(pixels);
  image.row_stride_ = row_stride;
  image.width_ = width;
  image.height_ = height;
  image.channels_ = channels;
  image.type_ = type;
  image.order_ = order;
  image.name_ = std::move(name);
  return image;
}

PROMPTIQA_INLINE Image Image::view(const std::uint8_t* pixels, int width, int height, int channels,
                                   std::size_t row_stride, ChannelOrder order, std::string name) {
  return checked(nullptr, pixels, PixelType::u8, width, height, channels, row_stride, order, std::move(name));
}

PROMPTIQA_INLINE Image Image::view(const std::uint16_t* pixels, int width, int height, int channels,
                                   std::size_t row_stride, ChannelOrder order, std::string name) {
  return checked(nullptr, pixels, PixelType::u16, width, height, channels, row_stride, order, std::move(name));
}

PROMPTIQA_INLINE Image Image::view(const float* pixels, int width, int height, int channels, std::size_t row_stride,
                                   ChannelOrder order, std::string name) {
  return checked(nullptr, pixels, PixelType::f32, width, height, channels, row_stride, order, std::move(name));
}

PROMPTIQA_INLINE Image Image::owning(std::shared_ptr<const void> pixels, PixelType type, int width, int height,
                                     int channels, std::size_t row_stride, ChannelOrder order, std::string name) {
  const void* first = pixels.get();
  return checked(std::move(pixels), first, type, width, height, channels, row_stride, order, std::move(name));
}

PROMPTIQA_INLINE Image Image::from_vector(std::vector<std::uint8_t> pixels, int width, int height, int channels,
                                          ChannelOrder order, std::string name) {
  auto holder = std::make_shared<const std::vector<std::uint8_t>>(std::move(pixels));
  std::shared_ptr<const void> first(holder, holder->data());
  Image image = owning(std::move(first), PixelType::u8, width, height, channels, 0, order, std::move(name));
  const std::size_t expected = image.row_stride_ * static_cast<std::size_t>(height);
  if (holder->size() != expected)
    throw ImageError(detail::image_label(image.name_) + ": expected " + std::to_string(expected) +
                     " bytes of pixels, got " + std::to_string(holder->size()));
  return image;
}

PROMPTIQA_INLINE void Image::copy_row_rgb8(int y, std::uint8_t* rgb) const {
  if (empty()) throw ImageError(detail::image_label(name_) + ": has no pixels");
  const bool swap = order_ == ChannelOrder::bgr;
  const std::uint8_t* in = row(y);
  if (is_rgb8()) {
    std::memcpy(rgb, in, static_cast<std::size_t>(width_) * 3);
  } else if (type_ == PixelType::u8) {
    detail::convert_row<std::uint8_t>(in, width_, channels_, swap, rgb);
  } else if (type_ == PixelType::u16) {
    detail::convert_row<std::uint16_t>(in, width_, channels_, swap, rgb);
  } else {
    if (detail::row_has_nan(in, width_, channels_))
      throw ImageError(detail::image_label(name_) + ": row " + std::to_string(y) + " holds a value that is NaN");
    detail::convert_row<float>(in, width_, channels_, swap, rgb);
  }
}

PROMPTIQA_INLINE Image to_rgb8(const Image& image) {
  if (image.empty()) throw ImageError(detail::image_label(image.name()) + ": has no pixels");
  if (image.is_rgb8()) return image;
  const std::size_t row_bytes = static_cast<std::size_t>(image.width()) * 3;
  if (row_bytes > static_cast<std::size_t>(std::numeric_limits<std::ptrdiff_t>::max()) /
                      static_cast<std::size_t>(image.height()))
    throw ImageError(detail::image_label(image.name()) + ": too large to convert");
  std::vector<std::uint8_t> rgb(row_bytes * static_cast<std::size_t>(image.height()));
  for (int y = 0; y < image.height(); ++y) image.copy_row_rgb8(y, rgb.data() + row_bytes * static_cast<std::size_t>(y));
  return Image::from_vector(std::move(rgb), image.width(), image.height(), 3, ChannelOrder::rgb, image.name());
}

}  // namespace promptiqa
