// Decodes images on threads of its own, a bounded number ahead of the reader, and hands them out in order.
// Surprising choice: an image is shrunk to the model's input size as soon as it is decoded. The model's own resize then
// leaves it as it is, bit for bit, and a hundred waiting photographs cost 15 MB instead of gigabytes.
#pragma once

#include <algorithm>
#include <condition_variable>
#include <exception>
#include <mutex>
#include <string>
#include <system_error>
#include <thread>
#include <utility>
#include <vector>

#include <promptiqa/image/file.hpp>
#include <promptiqa/image/resize.hpp>

#include "image_files.hpp"
#include "stage_times.hpp"

namespace examples {

/// One file's pixels, or why there are none.
struct DecodedImage {
  promptiqa::Image image;  // side x side
  std::string error;       // empty: image is there
};

class ImageStream {
 public:
  /// Starts decoding `files`, which must outlive the stream. side: the model's input size; threads: decoders;
  /// ahead: how many decoded images may wait; times: where the decoders' time is added, must outlive the stream.
  ImageStream(const std::vector<ImageFile>& files, int side, std::uint64_t max_pixels, int threads, std::size_t ahead,
              StageTimes& times)
      : files_(files), side_(side), max_pixels_(max_pixels), times_(times), slots_(std::max<std::size_t>(ahead, 1)) {
    const auto count = std::min(files.size(), static_cast<std::size_t>(std::max(threads, 1)));
    try {
      for (std::size_t i = 0; i < count; ++i) decoders_.emplace_back([this] { decode_all(); });
    } catch (const std::system_error&) {  // fewer decoders do; none do not
      if (decoders_.empty()) throw;
    }
    times.decoders = static_cast<int>(std::max<std::size_t>(decoders_.size(), 1));
  }

  /// Stops early if not all was read: waits for the images being decoded, no others.
  ~ImageStream() {
    {
      std::lock_guard<std::mutex> lock(mutex_);
      stop_ = true;
    }
    changed_.notify_all();
    for (std::thread& decoder : decoders_) decoder.join();
  }
  ImageStream(const ImageStream&) = delete;
  ImageStream& operator=(const ImageStream&) = delete;

  /// The next file's result; call it files.size() times at most.
  DecodedImage next() {
    const StageTime::Scope waiting(times_.wait);
    std::unique_lock<std::mutex> lock(mutex_);
    Slot& slot = slots_[read_ % slots_.size()];
    changed_.wait(lock, [&] { return slot.ready; });
    DecodedImage result = std::move(slot.result);
    slot = Slot{};
    ++read_;
    lock.unlock();
    changed_.notify_all();
    return result;
  }

 private:
  struct Slot {
    bool ready = false;
    DecodedImage result;
  };

  void decode_all() {
    for (;;) {
      std::size_t index;
      {
        std::unique_lock<std::mutex> lock(mutex_);
        changed_.wait(lock, [&] { return stop_ || claimed_ >= files_.size() || claimed_ < read_ + slots_.size(); });
        if (stop_ || claimed_ >= files_.size()) return;
        index = claimed_++;
      }
      DecodedImage result = decode(files_[index]);
      {
        std::lock_guard<std::mutex> lock(mutex_);
        slots_[index % slots_.size()] = {true, std::move(result)};
      }
      changed_.notify_all();
    }
  }

  promptiqa::Image load(const std::string& path) const {
    const StageTime::Scope decoding(times_.decode);
    return promptiqa::load_image(path, {.max_pixels = max_pixels_});
  }

  DecodedImage decode(const ImageFile& file) const {
    DecodedImage result;
    result.error = file.error;
    if (!file.error.empty()) return result;
    try {
      promptiqa::Image photograph = load(file.path);
      const StageTime::Scope resizing(times_.resize);
      if (file.short_side > 0) photograph = promptiqa::resize_short_side(photograph, file.short_side);
      result.image = promptiqa::resize_cubic(photograph, side_, side_);
    } catch (const std::bad_alloc&) {
      result.error = "image '" + file.path + "': not enough memory to decode it";
    } catch (const std::exception& error) {
      result.error = error.what();
    }
    return result;
  }

  const std::vector<ImageFile>& files_;
  const int side_;
  const std::uint64_t max_pixels_;
  StageTimes& times_;
  std::mutex mutex_;
  std::condition_variable changed_;
  std::vector<Slot> slots_;             // ring: file i waits in slot i % size
  std::size_t claimed_ = 0, read_ = 0;  // files taken by decoders, files handed out
  bool stop_ = false;
  std::vector<std::thread> decoders_;
};

}  // namespace examples
