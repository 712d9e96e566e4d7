// Sizes at which kernels take another path because the hardware ends there: grids of more than 65535 rows, offsets of
// more than 32 bits, rows that are no multiple of 16 bytes apart. Surprising choice: an operand that reaches over
// gigabytes is two small blocks, one of the heap and one of a far region.
#include <algorithm>
#include <type_traits>

#include "../../kernels/attention_choice.cuh"
#include "../../kernels/launch.cuh"
#include "../../kernels/rearrange.cuh"
#include "products.hpp"

using namespace promptiqa_test;

namespace {

using std::int64_t;

/// c (batch, m, 1) = bias + residual of no product at all: nothing but the epilogue's kernel.
void check_epilogue(int64_t m, int64_t batch) {
  INFO(batch << " entries of " << m << " rows");
  const Numbers numbers = promptiqa_test::numbers<float>(m * batch, 1);
  const Buffer<float> residual(numbers), c(m * batch), bias(Numbers{2});
  GemmArgs<float> args{};
  args.m = m, args.n = 1, args.batch = batch;
  args.c = c.data(), args.ldc = 1, args.stride_c = m;
  args.alpha = 1, args.bias = bias.data(), args.residual = residual.data();
  cuda::kernel_table<float>().gemm(emulated().kernel_context(), args);
  const Numbers got = c.values();
  int64_t wrong = 0;
  for (std::size_t i = 0; i < got.size(); ++i)
    wrong += !(got[i] == static_cast<float>(2 + static_cast<float>(numbers[i])));
  CHECK(wrong == 0);
}

template <class T>
void check_far_broadcast() {
  INFO(sizeof(T) << " bytes an element");
  // A block of the heap, and one of a region mapped elsewhere: their distance is the stride of a's rows.
  const Numbers near_row = numbers<T>(3, 1), far_row = numbers<T>(3, 2), b_row = numbers<T>(3, 3);
  const Buffer<T> near(near_row), b(b_row), y(6);
  void* memory = nullptr;
  {
    const emulation::HostBarred region;
    memory = emulation::device_allocate(3 * sizeof(T));
  }
  T* const far = static_cast<T*>(memory);
  for (std::size_t i = 0; i < 3; ++i) far[i] = from_double<T>(far_row[i]);
  const std::intptr_t distance = reinterpret_cast<std::intptr_t>(far) - reinterpret_cast<std::intptr_t>(near.data());
  const int64_t stride = static_cast<int64_t>(std::abs(distance)) / static_cast<int64_t>(sizeof(T));
  REQUIRE(stride > int64_t{1} << 32);
  const bool upwards = distance > 0;
  BinaryArgs<T> args = {};
  args.kind = BinaryKind::add;
  args.rank = 2;
  args.dims[0] = 2, args.dims[1] = 3;
  args.a_strides[0] = stride, args.a_strides[1] = 1;
  args.b_strides[0] = 0, args.b_strides[1] = 1;
  args.a = upwards ? near.data() : far, args.b = b.data(), args.y = y.data();
  cuda::kernel_table<T>().binary(emulated().kernel_context(), args);
  std::swap(args.a, args.b);
  std::swap(args.a_strides, args.b_strides);
  const Numbers got = y.values();
  cuda::kernel_table<T>().binary(emulated().kernel_context(), args);  // b is the far one
  CHECK(got == y.values());
  Numbers want;
  for (const bool first : {true, false})
    for (std::size_t i = 0; i < 3; ++i)
      want.push_back(to_double(from_double<T>((first == upwards ? near_row : far_row)[i] + b_row[i])));
  CHECK(got == want);
  emulation::device_free(memory);
}

/// Attention and its gradients of three queries and keys, on a device where a block has `shared` bytes: the emulator
/// refuses a launch that wants more.
template <class T>
void check_shared_limit(cuda::DeviceTraits traits, int64_t head_dim, std::size_t shared) {
  INFO(sizeof(T) << " bytes an element, heads of " << head_dim << ", " << shared << " bytes of shared memory");
  using A = accumulate_t<T>;
  traits.shared_bytes = shared;
  const WithTraits device(traits);
  const int64_t count = 3 * head_dim;
  const Buffer<T> q(numbers<T>(count, 1)), k(numbers<T>(count, 2)), v(numbers<T>(count, 3)), d_o(numbers<T>(count, 4)),
      o(count), dq(count), dk(count), dv(count);
  const Buffer<A> log_sum_exp(3);
  AttentionBackwardArgs<T> b{};
  AttentionArgs<T>& f = b.forward;
  f.batch = f.heads = 1, f.queries = f.keys = 3, f.head_dim = head_dim, f.scale = 1;
  f.q_row = f.k_row = f.v_row = f.o_row = head_dim;
  f.q = q.data(), f.k = k.data(), f.v = v.data(), f.o = o.data(), f.log_sum_exp = log_sum_exp.data();
  b.d_o = d_o.data(), b.dq = dq.data(), b.dk = dk.data(), b.dv = dv.data();
  CHECK_NOTHROW(cuda::kernel_table<T>().attention(emulated().kernel_context(), f));
  CHECK_NOTHROW(cuda::kernel_table<T>().attention_backward(emulated().kernel_context(), b));
}

/// With exactly what each of the tiled kernels takes, and with one byte less.
template <class T, class Forward, class Backward>
void check_shared_limits(const cuda::DeviceTraits& traits) {
  for (const std::size_t bytes : {Forward::shared_bytes(1, 0), Forward::shared_bytes(1, 4 * Forward::step),
                                  Backward::shared_bytes(2, 0), Backward::shared_bytes(2, 4 * Backward::step)})
    for (const std::size_t less : {0u, 1u}) check_shared_limit<T>(traits, Forward::D, bytes - less);
}
template <class T, class Math, int D, int Step, int BackwardStep>
void check_shared_limits(const cuda::DeviceTraits& traits) {
  check_shared_limits<T, cuda::AttentionTile<Math, D, Step>, cuda::AttentionTile<Math, D, BackwardStep>>(traits);
}

template <class Index>
Numbers gathered(int64_t count, const PermuteLoops& loops, const Buffer<float>& x) {
  const Buffer<float> y(count);
  const cuda::Op op("gather", emulated().kernel_context());
  cuda::launch(cuda::gather_kernel<Index, float>, 1, 256, 0, op, count, loops, x.data(), y.data());
  return y.values();
}

}  // namespace

TEST_CASE("epilogues of more rows and entries than a grid has", "[cuda]") {
  check_epilogue(65537, 1);
  check_epilogue(1, 65537);
}

TEST_CASE("attention takes no more shared memory than a block has", "[cuda]") {
  check_shared_limits<float, cuda::PlainMath<float>, 32, 32, 32>(plain.traits);
  check_shared_limits<float, cuda::PlainMath<float>, 128, 32, 32>(plain.traits);
  check_shared_limits<double, cuda::PlainMath<double>, 64, 32, 32>(plain.traits);
  check_shared_limits<float, cuda::Tf32Math, 64, 64, 32>(tf32_tensor_cores.traits);
  check_shared_limits<bfloat16, cuda::Bf16Math, 128, 64, 32>(bf16_tensor_cores.traits);
  using Forward = cuda::AttentionForwardSteps;
  check_shared_limits<bfloat16, Forward::Warpgroup64, cuda::AttentionDqSteps::Warpgroup64>(wgmma_tensor_cores.traits);
  check_shared_limits<bfloat16, Forward::Warpgroup64, cuda::AttentionDkvSteps::Warpgroup64>(wgmma_tensor_cores.traits);
  check_shared_limits<bfloat16, Forward::Warpgroup128, cuda::AttentionDqSteps::Warpgroup128>(wgmma_tensor_cores.traits);
}

TEST_CASE("which attention kernel a device and a head have", "[cuda]") {
  struct Chosen {
    int together = 0, D = 0;  // rows of threads that multiply together; 0: no tiled kernel
  };
  const auto chosen = [](auto steps, auto type, const Path& path, int64_t head_dim, std::size_t shared = much_shared,
                         int64_t queries = 1) {
    AttentionArgs<decltype(type)> args{};
    args.head_dim = head_dim, args.queries = queries, args.keys = 1;
    cuda::DeviceTraits traits = path.traits;
    traits.shared_bytes = shared;
    Chosen found;
    cuda::with_attention_tile<decltype(steps)>(traits, args, 1, [&](auto tile) {
      using Tile = decltype(tile);
      found = {Tile::rows_together, Tile::D};
    });
    return std::pair(found.together, found.D);
  };
  using Pair = std::pair<int, int>;
  const cuda::AttentionForwardSteps forward;
  const cuda::AttentionDkvSteps dkv;
  const Path& wgmma = wgmma_tensor_cores;
  CHECK(chosen(forward, bfloat16(), wgmma, 32) == Pair(16, 32));
  CHECK(chosen(forward, bfloat16(), wgmma, 33) == Pair(64, 64));
  CHECK(chosen(forward, bfloat16(), wgmma, 64) == Pair(64, 64));
  CHECK(chosen(forward, bfloat16(), wgmma, 65) == Pair(64, 128));
  CHECK(chosen(forward, bfloat16(), wgmma, 128) == Pair(64, 128));
  CHECK(chosen(forward, bfloat16(), wgmma, 129) == Pair(0, 0));
  CHECK(chosen(dkv, bfloat16(), wgmma, 64) == Pair(64, 64));
  CHECK(chosen(dkv, bfloat16(), wgmma, 65) == Pair(16, 128));
  CHECK(chosen(forward, float(), wgmma, 64) == Pair(16, 64));
  CHECK(chosen(forward, bfloat16(), bf16_tensor_cores, 64) == Pair(16, 64));
  // Exactly enough shared memory, and a byte less: then the tile of single warps.
  const std::size_t enough = cuda::AttentionForwardSteps::Warpgroup64::shared_bytes(1, 4 * 64);
  CHECK(chosen(forward, bfloat16(), wgmma, 64, enough) == Pair(64, 64));
  CHECK(chosen(forward, bfloat16(), wgmma, 64, enough - 1) == Pair(16, 64));
  const std::size_t wide = cuda::AttentionForwardSteps::Warpgroup128::shared_bytes(1, 4 * 64);
  CHECK(chosen(forward, bfloat16(), wgmma, 128, wide) == Pair(64, 128));
  CHECK(chosen(forward, bfloat16(), wgmma, 128, wide - 1) == Pair(16, 128));
  CHECK(chosen(forward, bfloat16(), wgmma, 64, 1024) == Pair(0, 0));
  CHECK(chosen(forward, bfloat16(), wgmma, 64, much_shared, int64_t{1} << 31) == Pair(0, 0));  // rows are int
}

TEST_CASE("indices are computed in 32 bits exactly where they fit", "[cuda]") {
  const auto bytes = [](int64_t largest) {
    std::size_t size = 0;
    cuda::with_index_type(largest, [&](auto index) {
      static_assert(std::is_unsigned_v<decltype(index)>);
      size = sizeof index;
    });
    return size;
  };
  CHECK(bytes(0) == 4);
  CHECK(bytes((int64_t{1} << 32) - 1) == 4);
  CHECK(bytes(int64_t{1} << 32) == 8);
  CHECK(bytes(int64_t{1} << 50) == 8);
}

TEST_CASE("a broadcast operand that reaches over more than 32 bits", "[cuda]") {
  check_far_broadcast<float>();
  check_far_broadcast<double>();
  check_far_broadcast<bfloat16>();
}

TEST_CASE("a permutation in indices of 64 bits is that in 32", "[cuda]") {
  const Numbers numbers = promptiqa_test::numbers<float>(3 * 4 * 5, 1);
  const Buffer<float> x(numbers);
  const PermuteLoops loops = {3, {4, 3, 5}, {5, 20, 1}, {15, 5, 1}};
  Numbers want;
  for (std::size_t j = 0; j < 4; ++j)
    for (std::size_t i = 0; i < 3; ++i)
      for (std::size_t k = 0; k < 5; ++k) want.push_back(numbers[i * 20 + j * 5 + k]);
  CHECK(gathered<std::uint32_t>(60, loops, x) == want);
  CHECK(gathered<std::uint64_t>(60, loops, x) == want);
}

TEST_CASE("floats are rounded for tensor cores wherever their matrices begin", "[cuda]") {
  // Rows of whole vectors, but matrices 2 or 1 elements beyond: those cannot be read in vectors.
  const WithTraits traits(bf16_products.traits);
  const int64_t m = 2, n = 8, k = 8, batch = 3, a_stride = m * k + 2, b_stride = k * n + 1;
  const auto integers = [](int64_t count, int64_t step) {  // bfloat16 holds them, and float their products' sums
    Numbers values;
    for (int64_t i = 0; i < count; ++i) values.push_back(static_cast<double>(i * step % 13 - 6));
    return values;
  };
  const Numbers a = integers(batch * a_stride, 5), b = integers(batch * b_stride, 7);
  const Buffer<float> a_data(a), b_data(b), c(batch * m * n);
  GemmArgs<float> args{};
  args.m = m, args.n = n, args.k = k, args.batch = batch;
  args.a = a_data.data(), args.lda = k, args.stride_a = a_stride;
  args.b = b_data.data(), args.ldb = n, args.stride_b = b_stride;
  args.c = c.data(), args.ldc = n, args.stride_c = m * n, args.alpha = 1;
  cuda::kernel_table<float>().gemm(emulated().kernel_context(), args);
  Numbers want;
  for (int64_t e = 0; e < batch; ++e)
    for (int64_t i = 0; i < m; ++i)
      for (int64_t j = 0; j < n; ++j) {
        double sum = 0;
        for (int64_t p = 0; p < k; ++p)
          sum += a[static_cast<std::size_t>(e * a_stride + i * k + p)] *
                 b[static_cast<std::size_t>(e * b_stride + p * n + j)];
        want.push_back(sum);
      }
  CHECK(c.values() == want);
}
