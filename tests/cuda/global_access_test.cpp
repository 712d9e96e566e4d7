// Kernels that touch global memory that is not theirs, one element at a time, and what the emulation says of them.
// Surprising choice: this file is compiled as the kernels are, with calls before every access; with a compiler that
// cannot do that its tests say so and pass.
#include <memory>
#include <string>
#include <vector>

#include "../../kernels/emulation/device_memory.hpp"
#include "../../kernels/portability.cuh"
#include "catch.hpp"

using namespace promptiqa::cuda;
namespace emulation = promptiqa::emulation;

namespace {

#if defined(PROMPTIQA_WATCHES_GLOBAL_MEMORY)
constexpr bool watched = true;
#else
constexpr bool watched = false;
#endif

struct FreeBlock {
  void operator()(float* p) const { emulation::device_free(p); }
};
using Block = std::unique_ptr<float, FreeBlock>;
Block block_of(std::size_t values) {
  return Block(static_cast<float*>(emulation::device_allocate(values * sizeof(float))));
}

/// What a launch of one block of 32 threads says. The kernel gets p as a device would: by value.
template <class P>
std::string report_of(void (*kernel)(P*), P* p) {
  try {
    emulation::run_grid("test_op", 1, 32, 0, [kernel, p] { kernel(p); });
  } catch (const emulation::EmulationError& e) {
    return e.what();
  }
  return "";
}

template <int Offset>
void read_at(float* p) {
  const volatile float value = p[Offset];
  (void)value;
}
template <int Offset>
void write_at(float* p) {
  if (threadIdx.x == 7) p[Offset] = 1;
}
void add_own(float* p) {
  PROMPTIQA_SHARED(float, tile, 32);
  tile[threadIdx.x] = p[threadIdx.x];
  __syncthreads();
  float local[4] = {1, 2, 3, 4};
  const float neighbour = tile[(threadIdx.x + 1) % 32];
  p[threadIdx.x] = __shfl_xor_sync(0xFFFFFFFFu, neighbour + local[threadIdx.x % 4], 1);
}

}  // namespace

TEST_CASE("elements beside a device block, of the host, or given back are reported", "[emulation]") {
  if (!watched) {
    WARN("this compiler does not watch accesses: kernels that leave their memory by an element are not found");
    return;
  }
  const Block block = block_of(32), other = block_of(32);
  CHECK(report_of(add_own, block.get()).empty());
  CHECK(report_of(read_at<0>, block.get()).empty());
  CHECK(report_of(read_at<31>, block.get()).empty());
  CHECK(report_of(write_at<31>, block.get()).empty());
  CHECK_THAT(report_of(read_at<32>, block.get()),
             ContainsSubstring("test_op: block (0,0,0) thread (0,0,0) reads a value of 4 bytes"));
  CHECK_THAT(report_of(read_at<-1>, block.get()), ContainsSubstring("reads a value of 4 bytes"));
  const float kept = block.get()[31];
  CHECK_THAT(report_of(write_at<-1>, block.get()), ContainsSubstring("thread (7,0,0) writes a value of 4 bytes"));
  block.get()[-1] = other.get()[-1];  // the canary as it was
  CHECK(block.get()[31] == kept);

  std::vector<float> host(32, 1.0f);
  CHECK_THAT(report_of(read_at<3>, host.data()), ContainsSubstring("in no device block"));
  CHECK_THAT(report_of(write_at<3>, host.data()), ContainsSubstring("in no device block"));

  Block gone = block_of(32);
  float* const address = gone.get();
  CHECK(report_of(read_at<3>, address).empty());
  gone.reset();
  CHECK_THAT(report_of(read_at<3>, address), ContainsSubstring("in no device block"));
}

TEST_CASE("what lies beside a device block reads as NaN", "[emulation]") {
  if (emulation::sanitizer_guards_blocks()) return;  // it may not be read at all
  const Block block = block_of(33);
  CHECK(block.get()[-1] != block.get()[-1]);
  CHECK(block.get()[33] != block.get()[33]);
}
