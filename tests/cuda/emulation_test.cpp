// The emulation itself: what it computes, and that each of its detectors catches a kernel that is wrong in one way.
// Surprising choice: the broken kernels compute right results in the order threads run in here, so only a detector, not
// a wrong number, can give them away.
#include <sys/wait.h>
#include <unistd.h>

#include <cmath>
#include <csignal>
#include <cstring>
#include <functional>
#include <string>
#include <vector>

#include "../../kernels/portability.cuh"
#include "../../kernels/reduce.cuh"
#include "emulated.hpp"

using namespace promptiqa::cuda;
namespace emulation = promptiqa::emulation;
using promptiqa::bfloat16;
using promptiqa_test::WithTraits;

namespace {

void run(dim3 grid, dim3 block, const std::function<void()>& kernel, std::size_t shared_bytes = 0) {
  emulation::run_grid("test_op", grid, block, shared_bytes, kernel);
}

/// What a launch reports, or "".
std::string report_of(dim3 grid, dim3 block, const std::function<void()>& kernel, std::size_t shared_bytes = 0) {
  try {
    run(grid, block, kernel, shared_bytes);
  } catch (const emulation::EmulationError& e) {
    return e.what();
  }
  return "";
}

unsigned linear_thread() { return threadIdx.x + blockDim.x * (threadIdx.y + blockDim.y * threadIdx.z); }

constexpr unsigned everyone = 0xFFFFFFFFu;

}  // namespace

TEST_CASE("every thread of a grid runs once and knows its place", "[emulation]") {
  const dim3 grid(3, 2, 2), block(5, 4, 3);
  std::vector<int> visits(12 * 60);
  for (emulation::Order order : {emulation::Order::forward, emulation::Order::reverse}) {
    emulation::order = order;
    run(grid, block, [&] {
      const unsigned b = blockIdx.x + gridDim.x * (blockIdx.y + gridDim.y * blockIdx.z);
      ++visits[b * 60 + linear_thread()];
    });
  }
  emulation::order = emulation::Order::forward;
  CHECK(visits == std::vector<int>(12 * 60, 2));
}

TEST_CASE("a barrier lets every thread see what the others wrote", "[emulation]") {
  for (unsigned threads : {1u, 31u, 32u, 33u, 256u, 1024u}) {
    std::vector<unsigned> seen(threads);
    run(2, threads, [&] {
      PROMPTIQA_SHARED(unsigned, numbers, 1024);
      for (unsigned round = 0; round < 3; ++round) {
        numbers[threadIdx.x] = threadIdx.x + round;
        __syncthreads();
        seen[threadIdx.x] = numbers[(threadIdx.x + 1) % blockDim.x];
        __syncthreads();
      }
    });
    bool right = true;
    for (unsigned i = 0; i < threads; ++i) right = right && seen[i] == (i + 1) % threads + 2;
    CHECK(right);
  }
}

TEST_CASE("shuffles and votes do what CUDA's do", "[emulation]") {
  std::vector<int> index(32), up(32), down(32), exclusive(32), narrow_xor(32), narrow_down(32);
  std::vector<unsigned> ballots(64);
  std::vector<int> any(64), all(64);
  std::vector<double> wide(32);
  run(1, 64, [&] {
    const int lane = static_cast<int>(threadIdx.x % 32);
    const int i = __shfl_sync(everyone, lane * 10, 5), u = __shfl_up_sync(everyone, lane, 3),
              d = __shfl_down_sync(everyone, lane, 3), x = __shfl_xor_sync(everyone, lane, 17),
              nx = __shfl_xor_sync(everyone, lane, 5, 8), nd = __shfl_down_sync(everyone, lane, 2, 4);
    const double w = __shfl_xor_sync(everyone, lane + 0.5, 1);
    if (threadIdx.x >= 32) {
      index[lane] = i, up[lane] = u, down[lane] = d, exclusive[lane] = x, narrow_xor[lane] = nx, narrow_down[lane] = nd;
      wide[lane] = w;
    }
    ballots[threadIdx.x] = __ballot_sync(everyone, lane % 3 == 0);
    any[threadIdx.x] = __any_sync(everyone, threadIdx.x == 40);
    all[threadIdx.x] = __all_sync(everyone, threadIdx.x != 40);
  });
  for (int lane = 0; lane < 32; ++lane) {
    const auto l = static_cast<std::size_t>(lane);
    CHECK(index[l] == 50);
    CHECK(up[l] == (lane < 3 ? lane : lane - 3));
    CHECK(down[l] == (lane > 28 ? lane : lane + 3));
    CHECK(exclusive[l] == (lane ^ 17));
    CHECK(narrow_xor[l] == (lane ^ 5));  // stays within groups of 8
    CHECK(narrow_down[l] == (lane % 4 < 2 ? lane + 2 : lane));
    CHECK(wide[l] == (lane ^ 1) + 0.5);
    CHECK(ballots[l] == 0x49249249u);
    CHECK(any[l] == 0);
    CHECK(any[l + 32] == 1);
    CHECK(all[l] == 1);
    CHECK(all[l + 32] == 0);
  }
}

TEST_CASE("halves of a warp may shuffle on their own", "[emulation]") {
  std::vector<int> sums(32);
  run(1, 32, [&] {
    int v = static_cast<int>(threadIdx.x);
    if (threadIdx.x < 16) {
      for (int lanes = 8; lanes > 0; lanes /= 2) v += __shfl_xor_sync(0x0000FFFFu, v, lanes);
    } else {
      for (int lanes = 8; lanes > 0; lanes /= 2) v += __shfl_xor_sync(0xFFFF0000u, v, lanes);
    }
    sums[threadIdx.x] = v;
  });
  for (std::size_t i = 0; i < 32; ++i) CHECK(sums[i] == (i < 16 ? 120 : 376));
}

TEST_CASE("lanes that have ended are not waited for", "[emulation]") {
  std::vector<unsigned> ballots(32);
  run(1, 32, [&] {
    if (threadIdx.x >= 20) return;
    __syncwarp();
    ballots[threadIdx.x] = __ballot_sync(everyone, 1);
  });
  for (std::size_t i = 0; i < 20; ++i) CHECK(ballots[i] == 0xFFFFFu);
}

TEST_CASE("sums over warps and blocks", "[emulation]") {
  for (unsigned threads : {32u, 96u, 256u}) {
    std::vector<double> sums(threads), largest(threads);
    run(1, threads, [&] {
      const double v = threadIdx.x;
      sums[threadIdx.x] = block_sum(v) + block_sum(1.0);  // twice: the scratch array is used again
      largest[threadIdx.x] = block_max(-v) + block_max(v);
    });
    const double want = threads * (threads - 1) / 2.0 + threads;
    CHECK(sums == std::vector<double>(threads, want));
    CHECK(largest == std::vector<double>(threads, threads - 1));
  }
}

TEST_CASE("atomics add up in global and in shared memory", "[emulation]") {
  float total = 0;
  int most = -5;
  run(3, 70, [&] {
    PROMPTIQA_SHARED(float, sum, 1);
    if (threadIdx.x == 0) sum[0] = 0.f;
    __syncthreads();
    atomicAdd(sum, 2.f);
    atomicMax(&most, static_cast<int>(threadIdx.x));
    __syncthreads();
    if (threadIdx.x == 69) atomicAdd(&total, static_cast<float>(sum[0]));
  });
  CHECK(total == 420);
  CHECK(most == 69);
}

TEST_CASE("dynamic shared memory holds what the launch asked for", "[emulation]") {
  std::vector<double> result(40);
  const auto kernel = [&] {
    const Shared<float> a = dynamic_shared<float>(0, 40);
    const Shared<double> b = dynamic_shared<double>(160, 40);
    a[threadIdx.x] = 1.5f * static_cast<float>(threadIdx.x);
    b[threadIdx.x] = threadIdx.x;
    __syncthreads();
    result[threadIdx.x] = a[39 - threadIdx.x] + b[threadIdx.x];
  };
  run(1, 40, kernel, 160 + 320);
  for (std::size_t i = 0; i < 40; ++i) CHECK(result[i] == 1.5 * (39.0 - static_cast<double>(i)) + static_cast<double>(i));
  CHECK_THAT(report_of(1, 40, kernel, 160 + 319), ContainsSubstring("dynamic shared memory") && ContainsSubstring("479"));
}

TEST_CASE("vectors of shared memory", "[emulation]") {
  std::vector<float> result(4);
  const auto kernel = [&](int first) {
    PROMPTIQA_SHARED(float, tile, 8);
    Vector<float, 4> v;
    for (int i = 0; i < 4; ++i) v.values[i] = static_cast<float>(i + 1);
    store_shared<4>(tile + 4, v);
    const Vector<float, 4> w = load_shared<4>(tile + first);
    for (int i = 0; i < 4; ++i) result[static_cast<std::size_t>(i)] = w.values[i];
  };
  run(1, 1, [&] { kernel(4); });
  CHECK(result == std::vector<float>{1, 2, 3, 4});
  CHECK_THAT(report_of(1, 1, [&] { kernel(0); }), ContainsSubstring("nobody has written"));
  CHECK_THAT(report_of(1, 1, [&] { kernel(5); }), ContainsSubstring("out of bounds"));
  CHECK_THAT(report_of(1, 1, [&] { kernel(3); }), ContainsSubstring("misaligned"));
}

// ---- detectors ------------------------------------------------------------------------------------------------------

TEST_CASE("of two faults of a thread the first is reported", "[emulation]") {
  const std::string report = report_of(1, 1, [] {
    emulation::note_fault("does one thing");
    emulation::report("does another");
  });
  CHECK_THAT(report, ContainsSubstring("does one thing"));
}

TEST_CASE("a shared element that nobody has written is reported", "[emulation]") {
  const std::string report = report_of(2, 64, [] {
    PROMPTIQA_SHARED(float, tile, 64);
    if (threadIdx.x != 7) tile[threadIdx.x] = 1.f;
    __syncthreads();
    const float v = tile[(threadIdx.x + 32) % 64];
    static_cast<void>(v);
  });
  CHECK_THAT(report, ContainsSubstring("test_op: block (0,0,0) thread (39,0,0) reads shared memory 'tile' element 7") &&
                         ContainsSubstring("nobody has written"));
}

TEST_CASE("shared memory of the block before is not initialised", "[emulation]") {
  const std::string report = report_of(2, 32, [] {
    PROMPTIQA_SHARED(int, tile, 32);
    if (blockIdx.x == 0) tile[threadIdx.x] = 1;
    const int v = tile[threadIdx.x];
    static_cast<void>(v);
  });
  CHECK_THAT(report, ContainsSubstring("block (1,0,0)") && ContainsSubstring("nobody has written"));
}

TEST_CASE("an index outside shared memory is reported", "[emulation]") {
  CHECK_THAT(report_of(1, dim3(4, 9), [] {
               PROMPTIQA_SHARED(int, tile, 8);
               tile[threadIdx.y] = 1;
             }),
             ContainsSubstring("thread (0,8,0) writes shared memory 'tile' element 8, out of bounds of its 8") ||
                 ContainsSubstring("a race"));
  CHECK_THAT(report_of(1, 9, [] {
               PROMPTIQA_SHARED(int, tile, 8);
               tile[threadIdx.x] = 1;
             }),
             ContainsSubstring("thread (8,0,0) writes shared memory 'tile' element 8, out of bounds of its 8"));
  CHECK_THAT(report_of(1, 9, [] {
               PROMPTIQA_SHARED(int, tile, 16);
               tile[static_cast<std::ptrdiff_t>(threadIdx.x) - 3] = 1;
             }),
             ContainsSubstring("thread (0,0,0)") && ContainsSubstring("element -3, out of bounds"));
}

TEST_CASE("too much static shared memory is reported", "[emulation]") {
  const auto kernel = [](bool second) {
    PROMPTIQA_SHARED(float, first, 8192);
    first[0] = 1.f;
    if (!second) return;
    PROMPTIQA_SHARED(float, more, 4097);
    more[0] = 1.f;
  };
  CHECK(report_of(1, 1, [&] { kernel(false); }) == "");
  CHECK_THAT(report_of(1, 1, [&] { kernel(true); }), ContainsSubstring("'more'") && ContainsSubstring("49152"));
}

TEST_CASE("a missing barrier is a race even when the values come out right", "[emulation]") {
  std::vector<float> result(64);
  // Thread 0 runs last in reverse order, so it would see all.
  const auto kernel = [&](bool before, bool after) {
    PROMPTIQA_SHARED(float, tile, 64);
    for (int round = 0; round < 2; ++round) {
      tile[threadIdx.x] = static_cast<float>(round);
      if (before) __syncthreads();
      if (threadIdx.x == 0)
        for (std::size_t i = 0; i < 64; ++i) result[i] = tile[static_cast<std::ptrdiff_t>(i)];
      if (after) __syncthreads();
    }
  };
  emulation::order = emulation::Order::reverse;
  CHECK(report_of(1, 64, [&] { kernel(true, true); }) == "");
  CHECK_THAT(report_of(1, 64, [&] { kernel(false, true); }), ContainsSubstring("a race with thread (1,0,0)") ||
                                                                 ContainsSubstring("a race with thread (0,0,0)"));
  CHECK_THAT(report_of(1, 64, [&] { kernel(true, false); }), ContainsSubstring("a race"));  // read, then overwritten
  emulation::order = emulation::Order::forward;
  CHECK_THAT(report_of(1, 64, [&] { kernel(true, false); }), ContainsSubstring("a race"));
}

TEST_CASE("two threads that write one element race", "[emulation]") {
  CHECK_THAT(report_of(1, 2, [] {
               PROMPTIQA_SHARED(int, tile, 1);
               tile[0] = 5;
             }),
             ContainsSubstring("thread (1,0,0) writes shared memory 'tile' element 0, a race with thread (0,0,0)"));
  CHECK_THAT(report_of(1, 2, [] {
               PROMPTIQA_SHARED(int, tile, 1);
               if (threadIdx.x == 0)
                 tile[0] = 5;
               else
                 atomicAdd(tile, 1);
             }),
             ContainsSubstring("a race with thread (0,0,0)"));
}

TEST_CASE("__syncwarp orders a warp, not a block; a shuffle orders nothing", "[emulation]") {
  const auto kernel = [](unsigned distance, bool sync) {
    PROMPTIQA_SHARED(int, tile, 64);
    tile[threadIdx.x] = 1;
    if (sync)
      __syncwarp();
    else
      __shfl_xor_sync(everyone, 1, 1);
    const int v = tile[threadIdx.x ^ distance];
    if (sync) __syncwarp();
    tile[threadIdx.x] = v + 1;
  };
  CHECK(report_of(1, 64, [&] { kernel(5, true); }) == "");
  CHECK_THAT(report_of(1, 64, [&] { kernel(32, true); }), ContainsSubstring("nobody has written") ||
                                                              ContainsSubstring("a race"));
  CHECK_THAT(report_of(1, 64, [&] { kernel(5, false); }), ContainsSubstring("a race"));
}

TEST_CASE("threads that end before a barrier are reported", "[emulation]") {
  const std::string report = report_of(dim3(1, 2), dim3(8, 5), [] {
    if (blockIdx.y == 1 && threadIdx.y == 3 && threadIdx.x == 2) return;
    __syncthreads();
  });
  CHECK_THAT(report, ContainsSubstring("test_op: block (0,1,0) threads diverge: thread (0,0,0) waits at __syncthreads "
                                       "(emulation_test.cpp:") &&
                         ContainsSubstring("but thread (2,3,0) has ended"));
}

TEST_CASE("threads that wait at different barriers are reported", "[emulation]") {
  const std::string report = report_of(1, 64, [] {
    if (threadIdx.x < 32) {
      __syncthreads();
    } else {
      __syncthreads();
    }
  });
  CHECK_THAT(report, ContainsSubstring("thread (0,0,0) waits at __syncthreads") &&
                         ContainsSubstring("but thread (32,0,0) waits at __syncthreads"));
}

TEST_CASE("a warp of which a lane waits elsewhere is reported", "[emulation]") {
  const std::string report = report_of(1, 64, [] {
    if (threadIdx.x == 37)
      __syncthreads();
    else
      __shfl_xor_sync(everyone, 1, 1);
    __syncthreads();
  });
  CHECK_THAT(report, ContainsSubstring("thread (32,0,0) waits in __shfl_xor_sync") &&
                         ContainsSubstring("but thread (37,0,0) waits at __syncthreads"));
  // Different functions, and different masks.
  CHECK_THAT(report_of(1, 32,
                       [] {
                         if (threadIdx.x < 16)
                           __any_sync(everyone, 1);
                         else
                           __all_sync(everyone, 1);
                       }),
             ContainsSubstring("__any_sync") && ContainsSubstring("__all_sync"));
  CHECK_THAT(report_of(1, 32, [] { __syncwarp(threadIdx.x < 16 ? everyone : 0xFFFFFFFEu); }),
             ContainsSubstring("ffffffff") && ContainsSubstring("fffffffe"));
}

TEST_CASE("a shuffle from a lane that takes no part is reported", "[emulation]") {
  CHECK_THAT(report_of(1, 32,
                       [] {
                         if (threadIdx.x >= 20) return;
                         __shfl_xor_sync(everyone, 1, 16);
                       }),
             ContainsSubstring("thread (4,0,0) reads lane 20 in __shfl_xor_sync, which takes no part"));
  CHECK_THAT(report_of(1, 24, [] { __shfl_sync(everyone, 1, 30); }), ContainsSubstring("lane 30"));
  CHECK_THAT(report_of(1, 32, [] { __shfl_sync(0x0000FFFFu, 1, 3); }), ContainsSubstring("leaves itself out"));
  CHECK_THAT(report_of(1, 32, [] { __shfl_sync(everyone, 1, 3, 12); }), ContainsSubstring("width 12"));
}

TEST_CASE("a write outside a block of device memory is reported", "[emulation]") {
  if (emulation::sanitizer_guards_blocks()) return;  // it would end the program
  auto* data = static_cast<float*>(emulation::device_allocate(10 * sizeof(float)));
  CHECK(std::isnan(data[9]));  // fresh memory is NaN
  CHECK(report_of(1, 10, [&] { data[threadIdx.x] = 1; }) == "");
  CHECK_THAT(report_of(1, 11, [&] { data[threadIdx.x] = 1; }),
             ContainsSubstring("test_op: wrote outside a device block of 40 bytes"));
  CHECK_THROWS_AS(emulation::device_free(data), emulation::EmulationError);
  CHECK_THROWS_AS(emulation::device_free(data), emulation::EmulationError);  // it is none any more

  data = static_cast<float*>(emulation::device_allocate(10 * sizeof(float)));
  const float beside = data[-2];  // two of them are alike
  CHECK_THAT(report_of(1, 1, [&] { data[-1] = 1; }), ContainsSubstring("wrote outside"));
  std::memcpy(&data[-1], &beside, sizeof beside);
  CHECK_NOTHROW(emulation::device_free(data));
}

TEST_CASE("vector accesses of device memory are checked", "[emulation]") {
  auto* data = static_cast<float*>(emulation::device_allocate(10 * sizeof(float)));
  const auto read = [&](int first) {
    const Vector<float, 4> v = load_vector<4>(data + first);
    static_cast<void>(v);
  };
  const auto write = [&](int first) { store_vector<4>(data + first, Vector<float, 4>{{1, 2, 3, 4}}); };
  CHECK(report_of(1, 1, [&] { read(4); }) == "");
  CHECK(report_of(1, 1, [&] { write(4); }) == "");
  CHECK_THAT(report_of(1, 1, [&] { read(8); }), ContainsSubstring("reads a vector of bytes 32 to 48") &&
                                                    ContainsSubstring("block of 40"));
  CHECK_THAT(report_of(1, 1, [&] { write(8); }), ContainsSubstring("writes a vector of bytes 32 to 48"));
  CHECK_THAT(report_of(1, 1, [&] { read(2); }), ContainsSubstring("no multiple of 16"));
  emulation::device_free(data);
}

TEST_CASE("where host and device are kept apart, each is out of the other's reach", "[emulation]") {
  auto* before = static_cast<float*>(emulation::device_allocate(16));
  before[0] = 1;  // nothing is barred yet
  alignas(16) float here[4] = {1, 2, 3, 4};
  const auto read = [](const float* from) {
    return report_of(1, 1, [&] { (void)load_vector<4>(from); });
  };
  {
    const emulation::HostBarred barred;
    auto* there = static_cast<float*>(emulation::device_allocate(16));
    {
      const emulation::DeviceAccess launch;
      there[1] = 2;
      CHECK(read(there).empty());
      CHECK_THAT(read(here), ContainsSubstring("of host memory"));
    }
    const pid_t child = fork();
    if (child == 0) {
      signal(SIGSEGV, SIG_DFL);  // Catch2's handler would go on with the tests' end
      volatile float value = there[1];
      (void)value;
      _exit(0);
    }
    int status = 0;
    REQUIRE(waitpid(child, &status, 0) == child);
    CHECK((!WIFEXITED(status) || WEXITSTATUS(status) != 0));
    emulation::device_free(there);
  }
  CHECK(read(here).empty());
  emulation::device_free(before);
}

TEST_CASE("grids that a device refuses are refused", "[emulation]") {
  const auto nothing = [] {};
  CHECK_THAT(report_of(1, dim3(32, 33), nothing), ContainsSubstring("1024 threads"));
  CHECK_THAT(report_of(1, dim3(1, 1, 65), nothing), ContainsSubstring("1024 threads"));
  CHECK_THAT(report_of(1, 0, nothing), ContainsSubstring("1024 threads"));
  CHECK_THAT(report_of(dim3(1, 65536), 1, nothing), ContainsSubstring("65535"));
  CHECK_THAT(report_of(0, 1, nothing), ContainsSubstring("blocks"));
  CHECK_THAT(report_of(1, 1, nothing, 232449), ContainsSubstring("232448"));
  {  // another device
    const WithTraits turing({75, 65536, false});
    CHECK(report_of(1, 1, nothing, 65536) == "");
    CHECK_THAT(report_of(1, 1, nothing, 65537), ContainsSubstring("at most 65536 bytes"));
  }
  CHECK(report_of(dim3(1, 65535), 1, nothing) == "");
  CHECK(report_of(dim3(1, 1, 65535), 1, nothing) == "");
  CHECK_THAT(report_of(dim3(1, 1, 65536), 1, nothing), ContainsSubstring("65535"));
  CHECK_THAT(report_of(dim3(0x80000000u), 1, nothing), ContainsSubstring("2147483647"));
  CHECK_THAT(report_of(1, 1, [&] { run(1, 1, nothing); }), ContainsSubstring("must not launch"));
}

TEST_CASE("after a report the next launch begins anew", "[emulation]") {
  for (int i = 0; i < 3; ++i) {
    CHECK(report_of(4, 100, [] {
            if (threadIdx.x == 50) emulation::report("gives up");
            __syncthreads();
          }) == "test_op: block (0,0,0) thread (50,0,0) gives up");
    int count = 0;
    run(2, 100, [&] {
      __syncthreads();
      ++count;
    });
    CHECK(count == 200);
  }
  CHECK_THROWS_AS(run(1, 3, [] { throw std::runtime_error("other exceptions come out as they are"); }),
                  std::runtime_error);
}

TEST_CASE("bfloat16 and half are rounded to nearest, ties to even", "[emulation]") {
  const auto through = [](float x) { return widen(promptiqa::cuda::narrow<bfloat16>(x)); };
  CHECK(through(1.f) == 1.f);
  CHECK(through(-3.140625f) == -3.140625f);
  CHECK(through(1.00390625f) == 1.f);         // half way between 1 and 1.0078125: to the even one
  CHECK(through(1.01171875f) == 1.015625f);   // half way, upwards to the even one
  CHECK(through(1.0040f) == 1.0078125f);      // above half way
  CHECK(through(3.4e38f) == std::numeric_limits<float>::infinity());
  CHECK(std::isnan(through(std::nanf(""))));
  CHECK(std::signbit(through(-0.f)));
  for (std::uint32_t bits = 0; bits < 0x10000; bits += 7) {
    const float x = widen(bfloat16{static_cast<std::uint16_t>(bits)});
    if (!std::isnan(x)) CHECK(promptiqa::cuda::narrow<bfloat16>(x).bits == bits);
    if (!std::isnan(x)) CHECK(promptiqa::to_bfloat16(x).bits == bits);
    CHECK((std::isnan(x) || promptiqa::to_float(bfloat16{static_cast<std::uint16_t>(bits)}) == x));
  }
  CHECK(emulation::float_to_half_bits(1.f) == 0x3C00);
  CHECK(emulation::float_to_half_bits(-2.f) == 0xC000);
  CHECK(emulation::float_to_half_bits(65504.f) == 0x7BFF);
  CHECK(emulation::float_to_half_bits(65519.f) == 0x7BFF);
  CHECK(emulation::float_to_half_bits(65520.f) == 0x7C00);
  CHECK(emulation::float_to_half_bits(0x1p-24f) == 1);
  CHECK(emulation::float_to_half_bits(0x1p-25f) == 0);  // half way to the smallest: to the even 0
  CHECK(emulation::float_to_half_bits(0x1.8p-25f) == 1);
  CHECK(emulation::float_to_half_bits(1.00048828125f) == 0x3C00);  // 1 + 2^-11: half way
  CHECK(emulation::float_to_half_bits(1.00146484375f) == 0x3C02);
  for (std::uint32_t bits = 0; bits < 0x10000; ++bits) {
    const float x = emulation::half_bits_to_float(static_cast<std::uint16_t>(bits));
    if (!std::isnan(x) && emulation::float_to_half_bits(x) != bits) FAIL("half " << bits << " does not survive");
  }
}
