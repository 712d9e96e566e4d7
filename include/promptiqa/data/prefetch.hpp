// Prefetcher: one thread that turns cached pictures into the network's input while the trainer computes.
// Surprising choice: the trainer submits what it wants, in order, and takes results in that order. Nothing random
// happens on the thread, so the result of a run does not depend on timing.
#pragma once

#include <condition_variable>
#include <cstddef>
#include <cstdint>
#include <deque>
#include <exception>
#include <memory>
#include <mutex>
#include <thread>
#include <vector>

#include <promptiqa/data/image_cache.hpp>

namespace promptiqa {

/// One picture of a batch.
struct BatchPicture {
  std::shared_ptr<const ImageCache> images;
  std::int64_t row = 0;
  bool flip = false;  // mirrored left to right
};

/// Writes the pictures as float (N, 3, side, side): x / 255, (x - 0.5) / 0.5, as preprocess_to_chw does. `out` has room
/// for N * 3 * side * side floats. Throws DataError when a row is out of range or unusable, or sides differ.
void pictures_to_nchw(const std::vector<BatchPicture>& pictures, float* out);

/// Prepares batches ahead. submit() and take() are for one thread.
class Prefetcher {
 public:
  /// Starts the thread. Throws Error when the system gives none.
  Prefetcher();

  /// Stops it; batches not taken are dropped.
  ~Prefetcher();
  Prefetcher(const Prefetcher&) = delete;
  Prefetcher& operator=(const Prefetcher&) = delete;

  /// Asks for a batch and returns at once. Submit one or two more than you take; each waiting batch holds its floats.
  void submit(std::vector<BatchPicture> pictures);

  /// Waits for the oldest batch not yet taken and swaps its floats, (N, 3, side, side), into `out`, whose old memory is
  /// used again. Rethrows what pictures_to_nchw threw for this batch; the next take() goes on with the next batch.
  /// Throws DataError when nothing was submitted.
  void take(std::vector<float>& out);

  /// Batches submitted and not yet taken.
  std::size_t pending() const;

 private:
  struct Batch {
    std::vector<BatchPicture> pictures;
    std::vector<float> values;
    std::exception_ptr error;
    bool ready = false;
  };
  void work();

  mutable std::mutex mutex_;
  std::condition_variable submitted_, ready_;
  std::deque<std::unique_ptr<Batch>> batches_;  // oldest first; the front ones are ready
  std::size_t next_ = 0;                        // the first that nobody has worked on yet
  std::vector<std::vector<float>> spare_;       // memory to use again
  bool stop_ = false;
  std::thread thread_;  // last: it uses everything above
};

}  // namespace promptiqa

#if PROMPTIQA_WITH_BODIES
#include <promptiqa/data/prefetch.ipp>
#endif
