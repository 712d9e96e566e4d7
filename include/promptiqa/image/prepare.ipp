// Body of prepare_images.
// Surprising choice: everything a launch needs (where pictures lie, taps, pixels) is one block, so it is one copy.
#pragma once

#include <algorithm>
#include <cstdint>
#include <cstring>
#include <string>
#include <type_traits>
#include <utility>
#include <vector>

#include <promptiqa/core/host_values.hpp>
#include <promptiqa/image/prepare.hpp>
#include <promptiqa/image/preprocess.hpp>
#include <promptiqa/image/resize.ipp>

namespace promptiqa {

namespace detail {

// One picture as a device resizes it: the rows that are read, in order, and taps that count those rows.
struct ResizeUpload {
  Image source;
  std::vector<int> rows;
  std::vector<CubicTaps> columns, lines;
  bool as_is = false;  // grey or colour of 8 bits: copied; else converted to RGB
  UploadedImage place = {};

  ResizeUpload() = default;
  ResizeUpload(const Image& image, int size) : source(resize_source(image, size, size)) {
    columns = cubic_taps(source.width(), size);
    lines = cubic_taps(source.height(), size);
    for (CubicTaps& line : lines)
      for (int& index : line.index) {  // rows only grow from tap to tap, but neighbouring taps share some
        const auto found = std::lower_bound(rows.begin(), rows.end(), index);
        const auto at = static_cast<int>(found - rows.begin());
        if (found == rows.end() || *found != index) rows.insert(found, index);
        index = at;
      }
    as_is = source.type() == PixelType::u8 && source.channels() % 2 == 1;
    place.pixel_bytes = as_is ? source.channels() : 3;
    place.row_bytes = static_cast<std::int64_t>(source.width()) * place.pixel_bytes;
    if (place.pixel_bytes == 3) {
      const bool swap = as_is && source.order() == ChannelOrder::bgr;
      place.red = swap ? 2 : 0;
      place.green = 1;
      place.blue = swap ? 0 : 2;
    }
  }

  std::size_t bytes() const { return rows.size() * static_cast<std::size_t>(place.row_bytes); }

  void write_taps(std::uint8_t* to) const {
    for (const auto* taps : {&columns, &lines})
      for (const CubicTaps& tap : *taps) {
        ResizeTap plain;
        std::copy(tap.index.begin(), tap.index.end(), plain.index);
        std::copy(tap.weight.begin(), tap.weight.end(), plain.weight);
        std::memcpy(to, &plain, sizeof plain);
        to += sizeof plain;
      }
  }
  void write_pixels(std::uint8_t* to) const {
    for (int y : rows) {
      if (as_is)
        std::memcpy(to, source.row(y), static_cast<std::size_t>(place.row_bytes));
      else
        source.copy_row_rgb8(y, to);
      to += place.row_bytes;
    }
  }
};

}  // namespace detail

template <class T>
Tensor<T> prepare_images(Context& ctx, std::span<const Image> images, int size) {
  const auto count = static_cast<std::int64_t>(images.size());
  const std::int64_t side = std::max(size, 0), values = 3 * side * side;
  const Shape shape{count, 3, side, side};

  if (ctx.device() == Device::cpu) {
    Tensor<T> nchw = ctx.allocate<T>(shape, "prepare_images");
    T* base = nchw.mutable_data();
    ctx.pool().parallel_for(count, [&](std::int64_t i) {
      const Image& image = images[static_cast<std::size_t>(i)];
      if constexpr (std::is_same_v<T, float>) {
        preprocess_to_chw(image, size, base + i * values);
      } else {
        std::vector<float> chw(static_cast<std::size_t>(values));
        preprocess_to_chw(image, size, chw.data());
        std::transform(chw.begin(), chw.end(), base + i * values, [](float v) { return detail::rounded_to<T>(v); });
      }
    });
    return nchw;
  }

  std::vector<detail::ResizeUpload> uploads(images.size());
  ctx.pool().parallel_for(count, [&](std::int64_t i) {
    uploads[static_cast<std::size_t>(i)] = detail::ResizeUpload(images[static_cast<std::size_t>(i)], size);
  });
  // The block: places, taps (at a multiple of their 16 bytes), pixels.
  const std::size_t places = (images.size() * sizeof(UploadedImage) + 15) / 16 * 16;
  const std::size_t taps_of_one = 2 * static_cast<std::size_t>(side) * sizeof(ResizeTap);
  const std::size_t before_pixels = places + images.size() * taps_of_one;
  std::size_t pixel_bytes = 0;
  for (detail::ResizeUpload& upload : uploads) {
    upload.place.first = static_cast<std::int64_t>(pixel_bytes);
    pixel_bytes += upload.bytes();
  }
  std::vector<std::uint8_t> block(before_pixels + pixel_bytes);
  ctx.pool().parallel_for(count, [&](std::int64_t i) {
    const auto n = static_cast<std::size_t>(i);
    std::memcpy(block.data() + n * sizeof(UploadedImage), &uploads[n].place, sizeof(UploadedImage));
    uploads[n].write_taps(block.data() + places + n * taps_of_one);
    uploads[n].write_pixels(block.data() + before_pixels + uploads[n].place.first);
  });

  Tensor<T> nchw = ctx.allocate<T>(shape, "prepare_images");
  if (count == 0) return nchw;
  const StorageRef on_device = ctx.block(block.size(), "prepare_images");
  ctx.memory().copy_from_host(on_device->data, block.data(), block.size());
  const auto* base = static_cast<const std::uint8_t*>(on_device->data);
  ResizeImagesArgs<T> args{};
  args.count = count, args.side = side;
  args.images = reinterpret_cast<const UploadedImage*>(base);
  args.taps = reinterpret_cast<const ResizeTap*>(base + places);
  args.pixels = base + before_pixels;
  args.y = nchw.mutable_data();
  ctx.kernels<T>().resize_images(ctx.kernel_context(), args);
  return nchw;
}

}  // namespace promptiqa
