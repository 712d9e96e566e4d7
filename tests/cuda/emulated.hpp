// What the tests of emulated CUDA kernels share: the Context of the emulated device, its memory, order and abilities.
// Surprising choice: everything is run twice, the second time with blocks and threads in reverse order, and the bits
// must agree: a kernel whose result depends on the order is not deterministic on a device.
#pragma once

#include <cmath>
#include <cstdint>
#include <cstring>
#include <limits>
#include <random>
#include <string>
#include <vector>

#include <promptiqa/core/bfloat16.hpp>
#include <promptiqa/cuda.hpp>
#include "../../kernels/emulation/blas.hpp"
#include "../../kernels/emulation/block.hpp"
#include "../../kernels/emulation/device_memory.hpp"
#include "../../kernels/emulation/warpgroup.hpp"
#include "../../kernels/kernel_table.hpp"
#include "catch.hpp"

namespace promptiqa_test {

using namespace promptiqa;
namespace emulation = promptiqa::emulation;

/// The context of the emulated device.
inline Context& emulated() {
  static Context ctx = make_cuda_context(0, std::make_shared<ThreadPool>(1));
  return ctx;
}

/// A context of the emulated device whose memory the host cannot touch: a model that reads a weight where it should
/// have asked for a copy ends the program, as it does with a real device. One at a time.
struct BarredDevice {
  emulation::HostBarred barred;
  Context ctx = make_cuda_context(0, std::make_shared<ThreadPool>(1));
};

/// While it lives, the emulated device has no memory left.
struct NoMemory {
  NoMemory() { emulation::largest_block = 0; }
  ~NoMemory() { emulation::largest_block = static_cast<std::size_t>(-1); }
};

/// While it lives, launches of this thread run in this order.
class InOrder {
 public:
  explicit InOrder(emulation::Order order) : previous_(emulation::order) { emulation::order = order; }
  ~InOrder() { emulation::order = previous_; }
  InOrder(const InOrder&) = delete;
  InOrder& operator=(const InOrder&) = delete;

 private:
  emulation::Order previous_;
};

/// The list of device blocks must outlive the static Context of emulated(), which returns its blocks at exit: it is
/// made first.
inline const std::size_t device_blocks_at_start = emulation::device_blocks();

/// The device that tests of tested_device.hpp run on.
inline Context& device_context() { return emulated(); }

/// While it lives, the emulated device has these abilities.
class WithTraits {
 public:
  explicit WithTraits(cuda::DeviceTraits traits) : previous_(emulation::traits) { emulation::traits = traits; }
  ~WithTraits() { emulation::traits = previous_; }
  WithTraits(const WithTraits&) = delete;
  WithTraits& operator=(const WithTraits&) = delete;

 private:
  cuda::DeviceTraits previous_;
};

/// Whether the tested device can be given these abilities for elements of so many bytes.
inline bool can_be_given(const cuda::DeviceTraits&, std::size_t) { return true; }

/// What TF32 takes off a product of two operands that a matrix product's library rounds, relative to it.
inline constexpr double blas_tf32_error = 0x1p-10;

/// Products of warpgroups so far.
inline std::uint64_t warpgroup_products() { return emulation::warpgroup_products; }

/// While it lives, matrix products have fused epilogues or not.
struct Fusing {
  explicit Fusing(bool fuses) { emulation::fuses = fuses; }
  ~Fusing() { emulation::fuses = true; }
};
inline bool can_fuse(bool) { return true; }

/// Canaries around a block show a write past its ends.
inline void* take_device_memory(std::size_t bytes) { return emulation::device_allocate(bytes); }
inline void give_back_device_memory(void* data) { emulation::device_free(data); }
inline void wait_for_device() {}

}  // namespace promptiqa_test

#include "buffer.hpp"
