// Bodies of the Prefetcher.
// Surprising choice: bytes become floats through a table of 256 values, the very ones that preprocess_to_chw gives, so
// training and scoring see the same numbers to the last bit.
#pragma once

#include <array>
#include <cstring>
#include <string>
#include <system_error>
#include <utility>

#include <promptiqa/data/prefetch.hpp>

namespace promptiqa {

PROMPTIQA_INLINE void pictures_to_nchw(const std::vector<BatchPicture>& pictures, float* out) {
  if (pictures.empty()) return;
  std::array<float, 256> level;
  for (std::size_t v = 0; v < level.size(); ++v) level[v] = (static_cast<float>(v) / 255.0f - 0.5f) / 0.5f;
  for (std::size_t n = 0; n < pictures.size(); ++n) {
    const BatchPicture& picture = pictures[n];
    const std::string where = "batch picture " + std::to_string(n + 1);
    if (!picture.images) throw DataError(where + ": there is no image cache");
    if (picture.row < 0 || picture.row >= picture.images->size())
      throw DataError(where + ": row " + std::to_string(picture.row) + " is not in the image cache (" +
                      std::to_string(picture.images->size()) + " pictures)");
    if (!picture.images->usable(picture.row)) throw DataError(where + ": " + picture.images->error(picture.row));
    if (picture.images->side() != pictures[0].images->side())
      throw DataError(where + ": the side is " + std::to_string(picture.images->side()) + ", the first picture's " +
                      std::to_string(pictures[0].images->side()));
  }
  const auto side = static_cast<std::size_t>(pictures[0].images->side()), plane = side * side;
  for (const BatchPicture& picture : pictures) {
    const std::uint8_t* rgb = picture.images->pixels(picture.row);
    for (std::size_t y = 0; y < side; ++y, rgb += 3 * side) {
      float* row = out + y * side;
      for (std::size_t x = 0; x < side; ++x) {
        const std::size_t to = picture.flip ? side - 1 - x : x;
        for (std::size_t c = 0; c < 3; ++c) row[c * plane + to] = level[rgb[3 * x + c]];
      }
    }
    out += 3 * plane;
  }
}

PROMPTIQA_INLINE Prefetcher::Prefetcher() {
  try {
    thread_ = std::thread([this] { work(); });
  } catch (const std::system_error& error) {
    throw Error(std::string("prefetcher: the system gives no thread: ") + error.what());
  }
}

PROMPTIQA_INLINE Prefetcher::~Prefetcher() {
  {
    std::lock_guard<std::mutex> lock(mutex_);
    stop_ = true;
  }
  submitted_.notify_all();
  thread_.join();
}

PROMPTIQA_INLINE void Prefetcher::submit(std::vector<BatchPicture> pictures) {
  auto batch = std::make_unique<Batch>();
  batch->pictures = std::move(pictures);
  {
    std::lock_guard<std::mutex> lock(mutex_);
    batches_.push_back(std::move(batch));
  }
  submitted_.notify_one();
}

PROMPTIQA_INLINE void Prefetcher::take(std::vector<float>& out) {
  std::unique_lock<std::mutex> lock(mutex_);
  if (batches_.empty()) throw DataError("prefetcher: take() without a submitted batch");
  ready_.wait(lock, [this] { return batches_.front()->ready; });
  const std::unique_ptr<Batch> batch = std::move(batches_.front());
  batches_.pop_front();
  --next_;  // it counts from the front
  if (batch->error) std::rethrow_exception(batch->error);
  out.swap(batch->values);
  if (spare_.size() < 2) spare_.push_back(std::move(batch->values));
}

PROMPTIQA_INLINE std::size_t Prefetcher::pending() const {
  std::lock_guard<std::mutex> lock(mutex_);
  return batches_.size();
}

PROMPTIQA_INLINE void Prefetcher::work() {
  std::unique_lock<std::mutex> lock(mutex_);
  for (;;) {
    submitted_.wait(lock, [this] { return stop_ || next_ < batches_.size(); });
    if (stop_) return;
    Batch& batch = *batches_[next_];
    if (!spare_.empty()) {
      batch.values = std::move(spare_.back());
      spare_.pop_back();
    }
    lock.unlock();  // take() waits for `ready`, so nobody else touches the batch now
    try {
      const ImageCache* first = batch.pictures.empty() ? nullptr : batch.pictures[0].images.get();
      const std::size_t side = first ? static_cast<std::size_t>(first->side()) : 0;
      batch.values.resize(batch.pictures.size() * 3 * side * side);
      pictures_to_nchw(batch.pictures, batch.values.data());
    } catch (...) {
      batch.error = std::current_exception();
    }
    lock.lock();
    batch.ready = true;
    ++next_;
    ready_.notify_one();
  }
}

}  // namespace promptiqa
