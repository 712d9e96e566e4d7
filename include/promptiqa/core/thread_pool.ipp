// Bodies of ThreadPool.
// Surprising choice: an idle worker spins for some microseconds before it sleeps, because a model makes
// hundreds of short parallel loops in a row and waking a sleeper costs more than many of them.
#pragma once

#include <algorithm>

#include <promptiqa/core/thread_pool.hpp>

namespace promptiqa {

PROMPTIQA_INLINE ThreadPool::ThreadPool(int threads) {
  if (threads <= 0) threads = std::max(1, static_cast<int>(std::thread::hardware_concurrency()));
  jobs_.reserve(16);
  workers_.reserve(static_cast<std::size_t>(threads - 1));
  try {
    for (int i = 1; i < threads; ++i) workers_.emplace_back([this] { worker_loop(); });
  } catch (const std::system_error& e) {
    const std::string started = std::to_string(workers_.size() + 1);
    stop_workers();
    throw Error("thread pool: wanted " + std::to_string(threads) + " threads, the system gave " + started + ": " +
                e.what());
  }
}

PROMPTIQA_INLINE ThreadPool::~ThreadPool() { stop_workers(); }

PROMPTIQA_INLINE void ThreadPool::stop_workers() {
  {
    std::lock_guard<std::mutex> lock(mutex_);
    stop_ = true;
    epoch_.fetch_add(1);
  }
  wake_.notify_all();
  for (std::thread& worker : workers_) worker.join();
}

PROMPTIQA_INLINE void ThreadPool::work_on(Job& job) {
  for (;;) {
    const std::int64_t i = job.next.fetch_add(1, std::memory_order_relaxed);
    if (i >= job.count) return;
    try {
      job.call(job.state, i);
    } catch (...) {
      std::lock_guard<std::mutex> lock(mutex_);
      if (!job.error) job.error = std::current_exception();
    }
  }
}

PROMPTIQA_INLINE void ThreadPool::run(std::int64_t count, void (*call)(void*, std::int64_t), void* state) {
  if (count <= 0) return;
  if (count == 1 || workers_.empty()) {
    for (std::int64_t i = 0; i < count; ++i) call(state, i);
    return;
  }
  Job job{call, state, count, {}, {}, {}};
  {
    std::lock_guard<std::mutex> lock(mutex_);
    jobs_.push_back(&job);
    epoch_.fetch_add(1, std::memory_order_release);
  }
  if (count == 2)
    wake_.notify_one();
  else
    wake_.notify_all();
  work_on(job);
  {
    // From here no worker can enter the job; those inside finish their index and leave.
    std::lock_guard<std::mutex> lock(mutex_);
    jobs_.erase(std::find(jobs_.begin(), jobs_.end(), &job));
  }
  while (job.helpers.load(std::memory_order_acquire) != 0) std::this_thread::yield();
  if (job.error) std::rethrow_exception(job.error);
}

PROMPTIQA_INLINE void ThreadPool::worker_loop() {
  constexpr int spins = 2000;
  std::uint64_t seen = epoch_.load(std::memory_order_acquire);
  for (;;) {
    for (int i = 0; i < spins && epoch_.load(std::memory_order_acquire) == seen; ++i) {
#if PROMPTIQA_X86_64
      __builtin_ia32_pause();
#endif
    }
    Job* job = nullptr;
    {
      std::unique_lock<std::mutex> lock(mutex_);
      const auto available = [&] {
        for (Job* candidate : jobs_)
          if (candidate->next.load(std::memory_order_relaxed) < candidate->count) return candidate;
        return static_cast<Job*>(nullptr);
      };
      wake_.wait(lock, [&] { return stop_ || epoch_.load() != seen || (job = available()) != nullptr; });
      if (stop_) return;
      seen = epoch_.load();
      job = available();
      if (job) job->helpers.fetch_add(1, std::memory_order_relaxed);
    }
    if (!job) continue;
    work_on(*job);
    job->helpers.fetch_sub(1, std::memory_order_release);
  }
}

}  // namespace promptiqa
