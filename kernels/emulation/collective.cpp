// The bodies of collective.hpp for tests on a CPU: ranks are threads of one process, which meet at the id.
// Surprising choice: whoever comes last does the sum for all, in the order of the ranks, as MpiCommunicator does it; so
// the bits are known.
#include "../collective.hpp"

#include <chrono>
#include <condition_variable>
#include <cstdint>
#include <cstring>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <string>

#include <promptiqa/train/training_error.hpp>
#include "device_memory.hpp"

namespace promptiqa::cuda {

namespace {

/// All ranks of one id.
struct Meeting {
  std::mutex mutex;
  std::condition_variable changed;
  int joined = 0, arrived = 0;
  std::uint64_t sums = 0;                               // done
  bool broken = false;                                  // a rank has left or given up
  std::vector<const std::vector<SummedArray>*> arrays;  // of each rank, in the sum under way
};

/// All ids that were made, and their meetings, which the ranks keep.
struct Meetings {
  std::mutex mutex;
  std::map<CollectiveId, std::weak_ptr<Meeting>> by_id;
};
Meetings& meetings() {
  static Meetings instance;
  return instance;
}

std::shared_ptr<Meeting> meeting_of(const CollectiveId& id) {
  const std::lock_guard<std::mutex> lock(meetings().mutex);
  const auto found = meetings().by_id.find(id);
  if (found == meetings().by_id.end()) throw CudaError("nccl: ncclCommInitRankConfig failed: nobody has made this id");
  std::shared_ptr<Meeting> meeting = found->second.lock();
  if (!meeting) found->second = meeting = std::make_shared<Meeting>();
  return meeting;
}

}  // namespace

struct Collective {
  std::shared_ptr<Meeting> meeting;
  int rank, size;
  double timeout;
  bool failed = false;  // it has thrown before
};

namespace {

/// Waits, with the lock held, for done(). Throws TrainingError, and breaks the meeting, when that does not come.
void wait(Collective& collective, std::unique_lock<std::mutex>& lock, const char* what,
          const std::function<bool()>& done) {
  Meeting& meeting = *collective.meeting;
  const bool in_time = meeting.changed.wait_for(lock, std::chrono::duration<double>(collective.timeout),
                                                [&] { return done() || meeting.broken; });
  if (done()) return;
  meeting.broken = collective.failed = true;
  meeting.changed.notify_all();
  throw TrainingError(std::string("nccl: ") + what + " on rank " + std::to_string(collective.rank) + " of " +
                      std::to_string(collective.size) + ": " +
                      (in_time ? "another rank is gone" : "the other ranks did not come"));
}

/// Sums what the ranks have brought. All must have brought the same counts.
void sum_in_order(Meeting& meeting) {
  const emulation::DeviceAccess access;
  const std::vector<SummedArray>& first = *meeting.arrays[0];
  for (const auto* other : meeting.arrays) {
    if (other->size() != first.size())
      throw CudaError("nccl: ncclAllReduce: the ranks have different numbers of tensors");
    for (std::size_t i = 0; i < first.size(); ++i)
      if ((*other)[i].count != first[i].count)
        throw CudaError("nccl: ncclAllReduce: the ranks' tensors differ in size");
  }
  for (std::size_t i = 0; i < first.size(); ++i) {
    for (std::size_t r = 1; r < meeting.arrays.size(); ++r)
      for (std::size_t k = 0; k < first[i].count; ++k) first[i].data[k] += (*meeting.arrays[r])[i].data[k];
    for (std::size_t r = 1; r < meeting.arrays.size(); ++r)
      std::memcpy((*meeting.arrays[r])[i].data, first[i].data, first[i].count * sizeof(float));
  }
}

}  // namespace

DeviceUuid device_uuid(const Queue& queue) {
  DeviceUuid uuid = {};
  uuid[0] = 0xE0;
  uuid[15] = static_cast<unsigned char>(queue.ordinal);
  return uuid;
}

CollectiveId make_collective_id() {
  const std::lock_guard<std::mutex> lock(meetings().mutex);
  CollectiveId id;
  id.fill(0xFF);  // no byte may be lost or changed
  const std::uint64_t number = meetings().by_id.size();
  std::memcpy(id.data() + id.size() - sizeof(number), &number, sizeof(number));
  meetings().by_id[id];
  return id;
}

Collective* join_collective(const Queue&, const CollectiveId& id, int rank, int size, double timeout) {
  std::unique_ptr<Collective> collective(new Collective{meeting_of(id), rank, size, timeout});
  Meeting& meeting = *collective->meeting;
  std::unique_lock<std::mutex> lock(meeting.mutex);
  meeting.arrays.resize(static_cast<std::size_t>(size));
  ++meeting.joined;
  meeting.changed.notify_all();
  wait(*collective, lock, "ncclCommInitRankConfig", [&] { return meeting.joined == size; });
  return collective.release();
}

void sum_over_ranks(Collective& collective, const Queue& queue, const std::vector<SummedArray>& arrays) {
  refuse_in_capture(queue, "ranks sum");
  Meeting& meeting = *collective.meeting;
  std::unique_lock<std::mutex> lock(meeting.mutex);
  if (collective.failed)
    throw TrainingError("nccl: ncclAllReduce on rank " + std::to_string(collective.rank) + " of " +
                        std::to_string(collective.size) + ": the ranks have lost each other before");
  meeting.arrays[static_cast<std::size_t>(collective.rank)] = &arrays;
  const std::uint64_t number = meeting.sums + 1;
  if (++meeting.arrived == collective.size && !meeting.broken) {
    try {
      sum_in_order(meeting);
    } catch (...) {
      meeting.broken = collective.failed = true;
      meeting.changed.notify_all();
      throw;
    }
    meeting.arrived = 0;
    meeting.sums = number;
    meeting.changed.notify_all();
  }
  wait(collective, lock, "ncclAllReduce", [&] { return meeting.sums >= number; });
}

void leave_collective(Collective* collective, bool) noexcept {
  const std::unique_ptr<Collective> owner(collective);
  const std::lock_guard<std::mutex> lock(collective->meeting->mutex);
  collective->meeting->broken = true;
  collective->meeting->changed.notify_all();
}

}  // namespace promptiqa::cuda
