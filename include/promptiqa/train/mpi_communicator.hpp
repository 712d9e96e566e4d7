// MpiCommunicator: ranks of an MPI job.
// Surprising choice: sums are gathered on rank 0 in rank order and sent back, so they have the same bits on every rank
// and in every run, which MPI_Allreduce does not promise. Empty unless PROMPTIQA_MPI is defined (the option
// -DPROMPTIQA_MPI=ON).
#pragma once

#if defined(PROMPTIQA_MPI)

#include <mpi.h>

#include <algorithm>
#include <cstddef>
#include <cstdlib>
#include <span>
#include <string>
#include <vector>

#include <promptiqa/train/communicator.hpp>
#include <promptiqa/train/training_error.hpp>

namespace promptiqa {

/// Initialises MPI when made and finalises it when destroyed: make one, first thing in main, outliving all else that
/// trains. Errors of MPI become TrainingError where the library reports them; OpenMPI's launcher ends the job by
/// itself, with its own message, when a rank dies.
class MpiCommunicator final : public Communicator {
 public:
  MpiCommunicator(int* argc, char*** argv) {
    int provided = 0;
    check(MPI_Init_thread(argc, argv, MPI_THREAD_FUNNELED, &provided), "start");
    check(MPI_Comm_set_errhandler(MPI_COMM_WORLD, MPI_ERRORS_RETURN), "set the error handler");
    check(MPI_Comm_rank(MPI_COMM_WORLD, &rank_), "ask for the rank");
    check(MPI_Comm_size(MPI_COMM_WORLD, &size_), "ask for the number of ranks");
    MPI_Comm machine = MPI_COMM_NULL;
    check(MPI_Comm_split_type(MPI_COMM_WORLD, MPI_COMM_TYPE_SHARED, rank_, MPI_INFO_NULL, &machine),
          "find the ranks of this machine");
    check(MPI_Comm_rank(machine, &local_rank_), "ask for the rank on this machine");
    MPI_Comm_free(&machine);
    if (provided < MPI_THREAD_FUNNELED)
      throw TrainingError("MPI: this library does not allow threads beside the main one");
  }
  ~MpiCommunicator() override { MPI_Finalize(); }
  MpiCommunicator(const MpiCommunicator&) = delete;
  MpiCommunicator& operator=(const MpiCommunicator&) = delete;

  int rank() const override { return rank_; }
  int size() const override { return size_; }
  int local_rank() const override { return local_rank_; }
  void sum(std::span<float> values) override { sum_all(values, MPI_FLOAT); }
  void sum(std::span<double> values) override { sum_all(values, MPI_DOUBLE); }

  /// Ends every rank of the job at once: what a rank does that cannot go on while the others wait for it.
  [[noreturn]] static void abort(int code) {
    MPI_Abort(MPI_COMM_WORLD, code);
    std::abort();  // MPI_Abort does not return
  }

 private:
  static void check(int code, const std::string& what) {
    if (code == MPI_SUCCESS) return;
    char text[MPI_MAX_ERROR_STRING] = "unknown error";
    int length = 0;
    MPI_Error_string(code, text, &length);
    throw TrainingError("MPI: cannot " + what + ": " + text);
  }

  template <class T>
  void sum_all(std::span<T> values, MPI_Datatype type) {
    if (size_ == 1) return;
    constexpr std::size_t piece = std::size_t{1} << 22;  // elements: bounds the memory of rank 0
    std::vector<T> other;
    for (std::size_t begin = 0; begin < values.size(); begin += piece) {
      const std::span<T> part = values.subspan(begin, std::min(piece, values.size() - begin));
      const int count = static_cast<int>(part.size());
      if (rank_ == 0) {
        other.resize(part.size());
        for (int r = 1; r < size_; ++r) {
          check(MPI_Recv(other.data(), count, type, r, 0, MPI_COMM_WORLD, MPI_STATUS_IGNORE),
                "receive from rank " + std::to_string(r));
          for (std::size_t i = 0; i < part.size(); ++i) part[i] += other[i];
        }
      } else {
        check(MPI_Send(part.data(), count, type, 0, 0, MPI_COMM_WORLD), "send to rank 0");
      }
      check(MPI_Bcast(part.data(), count, type, 0, MPI_COMM_WORLD), "receive the sum from rank 0");
    }
  }

  int rank_ = 0, size_ = 1, local_rank_ = 0;
};

}  // namespace promptiqa

#endif  // PROMPTIQA_MPI
