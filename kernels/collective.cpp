// The bodies of collective.hpp over NCCL.
// Surprising choice: the communicator never blocks, so that every wait is ours and ends: for a rank on this machine
// that is gone NCCL itself reports nothing and waits for ever.
#include "collective.hpp"

#include <cuda_runtime_api.h>
#include <nccl.h>

#include <chrono>
#include <cstring>
#include <functional>
#include <future>
#include <memory>
#include <string>
#include <thread>
#include <utility>

#include <promptiqa/core/error.hpp>
#include <promptiqa/train/training_error.hpp>

#if NCCL_VERSION_CODE < NCCL_VERSION(2, 14, 3)
#error "PROMPTIQA_NCCL needs NCCL 2.14.3 or newer, which has communicators that do not block"
#endif

namespace promptiqa::cuda {

struct Collective {
  ncclComm_t communicator = nullptr;  // null after a failure
  int rank = 0, size = 0;
  double timeout = 0;
};

namespace {

void check(cudaError_t code, const char* call) {
  if (code == cudaSuccess) return;
  cudaGetLastError();
  throw CudaError(std::string("nccl: ") + call + " failed: " + cudaGetErrorString(code) + " (" +
                  cudaGetErrorName(code) + ")");
}

std::string seconds_text(double seconds) {
  std::string text = std::to_string(seconds);
  text.erase(text.find_last_not_of('0') + 1);
  if (text.back() == '.') text.pop_back();
  return text;
}

/// Ends a communicator's kernels at once. What NCCL does after that may wait for ranks that are gone, so it is waited
/// for only a while, on a thread that is then left to itself.
void abort_communicator(ncclComm_t communicator) noexcept {
  if (!communicator) return;
  try {
    std::packaged_task<void()> abort([communicator] { ncclCommAbort(communicator); });
    const std::future<void> done = abort.get_future();
    std::thread(std::move(abort)).detach();
    done.wait_for(std::chrono::seconds(10));
  } catch (...) {  // no thread to be had
    ncclCommAbort(communicator);
  }
}

std::string position(const Collective& collective) {
  return "rank " + std::to_string(collective.rank) + " of " + std::to_string(collective.size);
}

[[noreturn]] void fail(Collective& collective, ncclResult_t code, const std::string& what) {
  const char* last = ncclGetLastError(nullptr);
  const std::string reason = std::string("nccl: ") + what + " failed on " + position(collective) + ": " +
                             ncclGetErrorString(code) +
                             (last && *last ? std::string(" (") + last + ")" : std::string());
  abort_communicator(std::exchange(collective.communicator, nullptr));
  if (code == ncclRemoteError) throw TrainingError(reason + "; another rank is gone");
  throw CudaError(reason);
}

/// ncclInProgress is what a call of a communicator that does not block may say.
bool accepted(ncclResult_t code) { return code == ncclSuccess || code == ncclInProgress; }

/// Looks at the communicator until it has done what it was asked for and finished() says so too.
void wait(Collective& collective, const std::string& what, const std::function<bool()>& finished) {
  using Clock = std::chrono::steady_clock;
  const Clock::time_point start = Clock::now();
  for (;;) {
    ncclResult_t state = ncclInProgress;
    const ncclResult_t asked = ncclCommGetAsyncError(collective.communicator, &state);
    if (asked != ncclSuccess) fail(collective, asked, "ncclCommGetAsyncError");
    if (!accepted(state)) fail(collective, state, what);
    if (state == ncclSuccess && finished()) return;
    if (std::chrono::duration<double>(Clock::now() - start).count() >= collective.timeout) {
      abort_communicator(std::exchange(collective.communicator, nullptr));
      throw TrainingError("nccl: " + what + " on " + position(collective) + ": the other ranks did not come within " +
                          seconds_text(collective.timeout) + " s");
    }
    std::this_thread::sleep_for(std::chrono::microseconds(50));
  }
}

}  // namespace

DeviceUuid device_uuid(const Queue& queue) {
  cudaDeviceProp properties;
  check(cudaGetDeviceProperties(&properties, queue.ordinal), "cudaGetDeviceProperties");
  DeviceUuid uuid;
  static_assert(sizeof(properties.uuid) == sizeof(uuid));
  std::memcpy(uuid.data(), &properties.uuid, uuid.size());
  return uuid;
}

CollectiveId make_collective_id() {
  ncclUniqueId made;
  static_assert(sizeof(made) == sizeof(CollectiveId));
  const ncclResult_t code = ncclGetUniqueId(&made);
  if (code != ncclSuccess) throw CudaError(std::string("nccl: ncclGetUniqueId failed: ") + ncclGetErrorString(code));
  CollectiveId id;
  std::memcpy(id.data(), &made, id.size());
  return id;
}

Collective* join_collective(const Queue& queue, const CollectiveId& id, int rank, int size, double timeout) {
  check(cudaSetDevice(queue.ordinal), "cudaSetDevice");
  auto collective = std::make_unique<Collective>();
  collective->rank = rank;
  collective->size = size;
  collective->timeout = timeout;
  ncclUniqueId meeting;
  std::memcpy(&meeting, id.data(), id.size());
  ncclConfig_t config = NCCL_CONFIG_INITIALIZER;
  config.blocking = 0;
  const ncclResult_t code = ncclCommInitRankConfig(&collective->communicator, size, meeting, rank, &config);
  if (!accepted(code)) fail(*collective, code, "ncclCommInitRankConfig");
  wait(*collective, "ncclCommInitRankConfig", [] { return true; });
  return collective.release();
}

void sum_over_ranks(Collective& collective, const Queue& queue, const std::vector<SummedArray>& arrays) {
  refuse_in_capture(queue, "ranks sum");
  if (!collective.communicator)
    throw TrainingError("nccl: ncclAllReduce on " + position(collective) + ": the ranks have lost each other before");
  check(cudaSetDevice(queue.ordinal), "cudaSetDevice");
  const auto stream = static_cast<cudaStream_t>(queue.stream);
  const std::string what = "ncclAllReduce of " + std::to_string(arrays.size()) + " tensors";
  ncclResult_t code = ncclGroupStart();
  if (code != ncclSuccess) fail(collective, code, "ncclGroupStart");
  for (const SummedArray& array : arrays)
    if (accepted(code))
      code = ncclAllReduce(array.data, array.data, array.count, ncclFloat32, ncclSum, collective.communicator, stream);
  const ncclResult_t ended = ncclGroupEnd();  // also after an error, or all calls to come would belong to the group
  if (!accepted(code)) fail(collective, code, what);
  if (!accepted(ended)) fail(collective, ended, what);
  wait(collective, what, [&] {
    const cudaError_t done = cudaStreamQuery(stream);
    if (done == cudaErrorNotReady) {
      cudaGetLastError();  // or the next launch would seem to have failed
      return false;
    }
    check(done, "cudaStreamQuery");
    return true;
  });
}

void leave_collective(Collective* collective, bool in_order) noexcept {
  const std::unique_ptr<Collective> owner(collective);
  if (!collective->communicator) return;
  try {
    if (!in_order) {
      abort_communicator(collective->communicator);
      return;
    }
    const ncclResult_t code = ncclCommFinalize(collective->communicator);
    if (!accepted(code)) fail(*collective, code, "ncclCommFinalize");
    wait(*collective, "ncclCommFinalize", [] { return true; });
    ncclCommDestroy(collective->communicator);
  } catch (...) {  // the sums are done, and the communicator is gone
  }
}

}  // namespace promptiqa::cuda
