// Bodies of NcclCommunicator over collective.hpp.
// Surprising choice: the host's Communicator only sums numbers, so bytes are handed round as sums of doubles: one rank
// has the bytes, the others zeros.
#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <exception>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include <promptiqa/core/error.hpp>
#include <promptiqa/train/nccl_communicator.hpp>
#include <promptiqa/train/training_error.hpp>
#include "collective.hpp"
#include "device_pool.hpp"

namespace promptiqa {

/// The queue is kept for as long as NCCL may work in it.
struct NcclCommunicator::State {
  explicit State(std::shared_ptr<cuda::OwnedQueue> used) : owner(std::move(used)) {}
  ~State() {
    // While an exception is on its way, the other ranks are not going to end in order with us.
    if (collective) cuda::leave_collective(collective, std::uncaught_exceptions() == exceptions);
  }

  std::shared_ptr<cuda::OwnedQueue> owner;
  cuda::Collective* collective = nullptr;
  int exceptions = std::uncaught_exceptions();
};

namespace {

/// The pool when it is one of a CUDA device, otherwise null.
cuda::DevicePool* device_pool(MemoryPool* pool) { return dynamic_cast<cuda::DevicePool*>(pool); }

/// "CUDA device 1" or "the CPU".
std::string device_text(const cuda::DevicePool* pool) {
  return pool ? "CUDA device " + std::to_string(pool->owner()->queue.ordinal) : "the CPU";
}

/// As nvidia-smi -L prints it.
std::string uuid_text(const double* bytes) {
  static const char digits[] = "0123456789abcdef";
  std::string text = "GPU-";
  for (std::size_t i = 0; i < 16; ++i) {
    const auto byte = static_cast<unsigned>(bytes[i]);
    if (i == 4 || i == 6 || i == 8 || i == 10) text += '-';
    text += digits[byte / 16];
    text += digits[byte % 16];
  }
  return text;
}

/// Throws TrainingError, the same on all ranks, when two of them have the same device.
void refuse_shared_device(const cuda::Queue& queue, Communicator& host) {
  const cuda::DeviceUuid own = cuda::device_uuid(queue);
  const auto ranks = static_cast<std::size_t>(host.size()), rank = static_cast<std::size_t>(host.rank());
  std::vector<double> all(ranks * own.size());
  std::copy(own.begin(), own.end(), all.begin() + static_cast<std::ptrdiff_t>(rank * own.size()));
  host.sum(std::span<double>(all));
  const auto of = [&](std::size_t r) { return all.data() + r * own.size(); };
  for (std::size_t b = 1; b < ranks; ++b)
    for (std::size_t a = 0; a < b; ++a)
      if (std::equal(of(a), of(a) + own.size(), of(b)))
        throw TrainingError("nccl: expected a device for each of the " + std::to_string(ranks) + " ranks, but ranks " +
                            std::to_string(a) + " and " + std::to_string(b) + " have the same one, " +
                            uuid_text(of(a)));
}

/// Rank 0's id, on all ranks.
cuda::CollectiveId agree_on_id(Communicator& host) {
  cuda::CollectiveId id = {};
  if (host.rank() == 0) id = cuda::make_collective_id();
  std::vector<double> bytes(id.begin(), id.end());
  host.sum(std::span<double>(bytes));
  std::transform(bytes.begin(), bytes.end(), id.begin(), [](double byte) { return static_cast<unsigned char>(byte); });
  return id;
}

}  // namespace

NcclCommunicator::NcclCommunicator(Context& ctx, Communicator& host, double timeout) : host_(host) {
  const cuda::DevicePool* pool = device_pool(&ctx.memory());
  if (!pool) throw CudaError("nccl: expected a CUDA context, got one of the CPU");
  if (host.size() < 2) throw TrainingError("nccl: expected at least 2 ranks, got " + std::to_string(host.size()));
  state_ = std::make_unique<State>(pool->owner());
  const cuda::Queue& queue = state_->owner->queue;
  refuse_shared_device(queue, host);
  const cuda::CollectiveId id = agree_on_id(host);
  state_->collective = cuda::join_collective(queue, id, host.rank(), host.size(), timeout);
}

NcclCommunicator::~NcclCommunicator() = default;

void NcclCommunicator::sum_tensors(Context& ctx, std::span<Tensor<float>> tensors) {
  const int ordinal = state_->owner->queue.ordinal;
  const auto is_ours = [&](const cuda::DevicePool* pool) { return pool && pool->owner()->queue.ordinal == ordinal; };
  const cuda::DevicePool* own = device_pool(&ctx.memory());
  if (!is_ours(own))
    throw CudaError("nccl: expected a context of CUDA device " + std::to_string(ordinal) + ", got one of " +
                    device_text(own));
  std::vector<cuda::SummedArray> arrays;
  std::set<std::uint64_t> seen;
  for (std::size_t i = 0; i < tensors.size(); ++i) {
    Tensor<float>& tensor = tensors[i];
    if (tensor.numel() == 0) continue;
    const cuda::DevicePool* home = device_pool(tensor.storage()->home);
    if (!is_ours(home))
      throw CudaError("nccl: expected tensors of CUDA device " + std::to_string(ordinal) + ", got tensor " +
                      std::to_string(i) + " of shape " + tensor.shape().str() + " on " + device_text(home));
    // The gradients of two parameters may be one block, which would be summed twice.
    if (!seen.insert(tensor.id()).second) tensor = ctx.copy(tensor);
    arrays.push_back({tensor.mutable_data(), static_cast<std::size_t>(tensor.numel())});
  }
  if (arrays.empty()) return;
  cuda::sum_over_ranks(*state_->collective, own->owner()->queue, arrays);
}

}  // namespace promptiqa
