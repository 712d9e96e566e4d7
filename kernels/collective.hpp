// What the library needs of NCCL, without its headers: ranks that meet, each with a device of its own, and sum arrays.
// Surprising choice: a sum returns when the device has done it. A kernel that sums waits for the other ranks for ever,
// and only the host can end it; so the host looks on until the time is up.
#pragma once

#include <array>
#include <cstddef>
#include <vector>

#include "runtime.hpp"

namespace promptiqa::cuda {

/// 16 bytes that no other device has, on any machine.
using DeviceUuid = std::array<unsigned char, 16>;
DeviceUuid device_uuid(const Queue& queue);

/// Where ranks meet. One rank makes it and hands it to all. Throws CudaError when the library does not start.
using CollectiveId = std::array<unsigned char, 128>;
CollectiveId make_collective_id();

/// One rank's part in a meeting.
struct Collective;

/// Waits for all `size` ranks to come. Throws TrainingError when they are not there after `timeout` seconds or leave
/// meanwhile, CudaError when a call fails.
Collective* join_collective(const Queue& queue, const CollectiveId& id, int rank, int size, double timeout);

struct SummedArray {
  float* data;  // on the queue's device, overwritten; no two arrays overlap
  std::size_t count;
};
/// Sums arrays over the ranks, behind the queue's earlier work. All ranks must ask for the same counts in the same
/// order, and get the same bits. Throws as join_collective, while a graph is captured, and after an earlier failure;
/// when it throws, the arrays' contents are lost.
void sum_over_ranks(Collective& collective, const Queue& queue, const std::vector<SummedArray>& arrays);

/// Ends this rank's part. In order: together with the other ranks, which must do so too. Otherwise at once, and the
/// others find out.
void leave_collective(Collective* collective, bool in_order) noexcept;

}  // namespace promptiqa::cuda
