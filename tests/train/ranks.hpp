// Ranks as threads of one process: where they meet on the host, and how a test runs them.
// Surprising choice: a rank catches what it throws; the main thread, where assertions belong, looks at it afterwards.
#pragma once

#include <chrono>
#include <condition_variable>
#include <exception>
#include <functional>
#include <mutex>
#include <span>
#include <string>
#include <thread>
#include <vector>

#include <promptiqa/train/communicator.hpp>
#include <promptiqa/train/training_error.hpp>

namespace promptiqa_test {

using namespace promptiqa;

/// Where threads meet to sum in the order of their ranks, as MpiCommunicator does.
class Hall {
 public:
  explicit Hall(int ranks) : values_(static_cast<std::size_t>(ranks)) {}

  template <class T>
  void sum(int rank, std::span<T> values) {
    std::unique_lock<std::mutex> lock(mutex_);
    values_[static_cast<std::size_t>(rank)].assign(values.begin(), values.end());
    const int number = sums_ + 1;
    if (++arrived_ == static_cast<int>(values_.size())) {
      sum_ = values_[0];
      for (std::size_t r = 1; r < values_.size(); ++r)
        for (std::size_t i = 0; i < sum_.size(); ++i)
          sum_[i] = static_cast<T>(static_cast<T>(sum_[i]) + static_cast<T>(values_[r].at(i)));
      arrived_ = 0;
      sums_ = number;
      changed_.notify_all();
    }
    // A test whose other rank has failed must end too.
    if (!changed_.wait_for(lock, std::chrono::seconds(120), [&] { return sums_ >= number; }))
      throw TrainingError("hall: the other ranks did not come");
    for (std::size_t i = 0; i < values.size(); ++i) values[i] = static_cast<T>(sum_[i]);
  }

 private:
  std::mutex mutex_;
  std::condition_variable changed_;
  std::vector<std::vector<double>> values_;
  std::vector<double> sum_;
  int arrived_ = 0, sums_ = 0;
};

class HallRank final : public Communicator {
 public:
  HallRank(Hall& hall, int rank, int size) : hall_(hall), rank_(rank), size_(size) {}
  int rank() const override { return rank_; }
  int size() const override { return size_; }
  int local_rank() const override { return rank_ + 10; }
  void sum(std::span<float> values) override {
    ++float_sums;
    hall_.sum(rank_, values);
  }
  void sum(std::span<double> values) override { hall_.sum(rank_, values); }
  int float_sums = 0;

 private:
  Hall& hall_;
  int rank_, size_;
};

/// Runs work(rank, communicator) on a thread for each rank; the errors that it threw, "" where there was none, marked
/// with their type.
inline std::vector<std::string> run_ranks(int ranks, const std::function<void(int, HallRank&)>& work) {
  Hall hall(ranks);
  std::vector<std::string> errors(static_cast<std::size_t>(ranks));
  std::vector<std::thread> threads;
  for (int rank = 0; rank < ranks; ++rank)
    threads.emplace_back([&, rank] {
      std::string& error = errors[static_cast<std::size_t>(rank)];
      try {
        HallRank communicator(hall, rank, ranks);
        work(rank, communicator);
      } catch (const TrainingError& e) {
        error = std::string("TrainingError: ") + e.what();
      } catch (const CudaError& e) {
        error = std::string("CudaError: ") + e.what();
      } catch (const std::exception& e) {
        error = e.what();
      }
    });
  for (std::thread& thread : threads) thread.join();
  return errors;
}

}  // namespace promptiqa_test
