// ThreadPool: the one source of parallelism, shared by the Contexts that want it.
// Surprising choice: the caller works too and only waits for chunks already taken by others, so nested
// calls and many calling threads cannot deadlock, and a pool of one thread has no worker at all.
#pragma once

#include <atomic>
#include <condition_variable>
#include <cstdint>
#include <exception>
#include <memory>
#include <mutex>
#include <string>
#include <system_error>
#include <thread>
#include <type_traits>
#include <vector>

#include <promptiqa/core/error.hpp>

namespace promptiqa {

/// A fixed set of worker threads that run index ranges. Safe to call from many threads at once.
class ThreadPool {
 public:
  /// threads: how many threads work on one parallel_for, the caller included; 0 = the machine's number of cores.
  /// Throws Error when the system does not give that many.
  explicit ThreadPool(int threads = 0);
  ~ThreadPool();
  ThreadPool(const ThreadPool&) = delete;
  ThreadPool& operator=(const ThreadPool&) = delete;

  /// Threads that work on one parallel_for, the caller included.
  int size() const { return static_cast<int>(workers_.size()) + 1; }

  /// Calls body(i) once for every i in [0, count), on several threads, and returns when all are done.
  /// The first exception a body throws is rethrown here after the others have finished.
  template <class Body>
  void parallel_for(std::int64_t count, Body&& body) {
    using Plain = std::remove_reference_t<Body>;
    run(count, [](void* state, std::int64_t i) { (*static_cast<Plain*>(state))(i); },
        const_cast<void*>(static_cast<const void*>(&body)));
  }

 private:
  struct Job {
    void (*call)(void*, std::int64_t);
    void* state;
    std::int64_t count;
    std::atomic<std::int64_t> next{0};
    std::atomic<int> helpers{0};  // workers inside the job; it lives on the caller's stack until this is 0
    std::exception_ptr error;     // guarded by the pool's mutex
  };

  void run(std::int64_t count, void (*call)(void*, std::int64_t), void* state);
  void work_on(Job& job);
  void worker_loop();
  void stop_workers();

  std::mutex mutex_;
  std::condition_variable wake_;
  std::vector<Job*> jobs_;             // jobs that may still have indices to hand out
  std::atomic<std::uint64_t> epoch_{0};  // bumped when a job arrives: lets workers spin briefly before sleeping
  std::atomic<bool> stop_{false};
  std::vector<std::thread> workers_;     // last: they use everything above
};

}  // namespace promptiqa

#include <promptiqa/core/macros.hpp>
#if PROMPTIQA_WITH_BODIES
#include <promptiqa/core/thread_pool.ipp>
#endif
