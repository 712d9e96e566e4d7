// Products of a warpgroup (wgmma) on the emulated device: the twin, the layout of its tiles, what it finds out.
// Surprising choice: the kernel here can be told to make each of the mistakes that would be garbage on a device and
// nothing but garbage, to see that the twin names them.
#include <iostream>

#include "../../kernels/launch.cuh"
#include "../../kernels/warpgroup.cuh"
#include "products.hpp"

using namespace promptiqa_test;
using namespace promptiqa::cuda;

namespace {

constexpr int depth = 128, rows = 64, right_rows = 128, groups = 2;
constexpr int small_rows = 64;  // of the right operand of one instruction

enum Mistake {
  none,
  no_begin,
  no_end,
  no_wait,
  no_publish,
  late_publish,
  no_barrier,
  one_warp_absent,
  warps_differ,
  overwritten,
  overwritten_in_flight,
  plain_layout,
  outside,
  not_begun_again,
  not_swizzled,
  offset_swizzle,
  transposes_differ,
  at_half_a_chunk,
  static_memory
};

template <int Rows>
void fill_tile(Shared<bfloat16> tile, const bfloat16* numbers) {
  for (int i = static_cast<int>(threadIdx.x); i < Rows * depth; i += static_cast<int>(blockDim.x))
    tile[swizzled_place<Rows>(i / depth, i % depth)] = numbers[i];
}

/// c (64, 128) = a b^T for a (64, 128) and b (128, 128); d (64, 128) = c b: once by each warpgroup of the block.
void products_kernel(const bfloat16* a, const bfloat16* b, double* c, double* d) {
  const Shared<bfloat16> a_tile = dynamic_shared<bfloat16>(0, rows * depth);
  const Shared<bfloat16> b_tile = dynamic_shared<bfloat16>(rows * depth * 2, right_rows * depth);
  fill_tile<rows>(a_tile, a);
  fill_tile<right_rows>(b_tile, b);
  publish_to_tensor_cores();
  __syncthreads();
  const int thread = static_cast<int>(threadIdx.x), first = thread % 128 / 32 * 16;
  const auto left = WarpgroupMath::load<depth, rows>(a_tile, first);
  Fragment<float, right_rows / 8> sum;
  Fragment<float, depth / 8> product;
  product.clear();
  WarpgroupMath::rows_times_rows(sum, left, b_tile);
  WarpgroupMath::add_fragment_times_matrix(product, sum, b_tile);
  const int row = first + fragment_row();
  c += thread / 128 * rows * right_rows;
  d += thread / 128 * rows * depth;
  sum.for_each([&](float& v, int second, int column) { c[(row + 8 * second) * right_rows + column] = v; });
  product.for_each([&](float& v, int second, int column) { d[(row + 8 * second) * depth + column] = v; });
}

/// One product of 64 x 64 x 16, in which something is wrong; sums go to c.
void mistaken_kernel(const bfloat16* b, float* c, int mistake) {
  const Shared<bfloat16> tile = dynamic_shared<bfloat16>(0, small_rows * 64);
  PROMPTIQA_SHARED(bfloat16, elsewhere, 64);
  const int thread = static_cast<int>(threadIdx.x);
  for (int i = thread; i < small_rows * 64; i += 128)
    tile[mistake == plain_layout ? i : swizzled_place<small_rows>(i / 64, i % 64)] = b[i];
  if (mistake != no_publish && mistake != late_publish) publish_to_tensor_cores();
  if (mistake != no_barrier) __syncthreads();
  if (mistake == late_publish) publish_to_tensor_cores();

  const unsigned one = 0x3F803F80u;  // two of them
  const unsigned left[4] = {one, one, one, one};
  Fragment<float, 8> sum;
  sum.clear();
  if (mistake == one_warp_absent && thread / 32 == 3) return;
  if (mistake != no_begin) begin_products();
  const int first = mistake == warps_differ ? thread / 32 % 2 * 16 : mistake == outside ? small_rows * 64 : 0;
  std::uint64_t right = describe_matrix(mistake == static_memory     ? elsewhere
                                        : mistake == at_half_a_chunk ? tile + 4
                                                                     : tile + first);
  if (mistake == not_swizzled) right &= ~(std::uint64_t{3} << 62);
  if (mistake == offset_swizzle) right |= std::uint64_t{1} << 49;
  multiply_by_warpgroup(sum.values, left, right, mistake == transposes_differ && thread / 32 == 2, false);
  if (mistake == not_begun_again) {
    end_products();
    wait_for_products();
    multiply_by_warpgroup(sum.values, left, right, false, true);
  }
  if (mistake != no_end) end_products();
  if (mistake == overwritten_in_flight && thread == 5) tile[8] = bfloat16{};
  if (mistake != no_wait) wait_for_products();
  if (mistake == overwritten && thread == 5) tile[8] = bfloat16{};
  const int row = thread / 32 * 16 + fragment_row();
  sum.for_each([&](float& v, int second, int column) { c[(row + 8 * second) * 64 + column] = v; });
}

}  // namespace

TEST_CASE("products of a warpgroup's tiles", "[cuda]") {
  const Numbers a = numbers<bfloat16>(rows * depth, 1), b = numbers<bfloat16>(right_rows * depth, 2);
  const Buffer<bfloat16> a_data(a), b_data(b);
  const Buffer<double> c(groups * rows * right_rows), d(groups * rows * depth);
  const Op op("products", emulated().kernel_context());
  const std::uint64_t before = promptiqa_test::warpgroup_products();
  launch(products_kernel, 1, 128 * groups, (rows + right_rows) * depth * 2, op, a_data.data(), b_data.data(), c.data(),
         d.data());
  CHECK(promptiqa_test::warpgroup_products() - before ==
        groups * (right_rows / 64 * depth / 16 + right_rows / 16 * (depth / 64)));
  const Numbers c_values = c.values();
  Numbers a_of_groups;  // each has the same rows
  for (int group = 0; group < groups; ++group) a_of_groups.insert(a_of_groups.end(), a.begin(), a.end());
  const auto both = [&](bool of_sizes) {
    const auto part = [&](const Numbers& n) { return of_sizes ? absolute(n) : n; };
    return std::pair(exact_product(groups * rows, right_rows, depth, part(a_of_groups), part(b), true),
                     exact_product(groups * rows, depth, right_rows, part(c_values), part(b), false));
  };
  const auto [want_c, want_d] = both(false);
  const auto [size_c, size_d] = both(true);
  const double rounding = depth * epsilon_of<float>;
  CHECK(worst_ratio(c_values, want_c, size_c, rounding, 0) <= 1);
  CHECK(worst_ratio(d.values(), want_d, size_d, 0x1p-9 + rounding, 0) <= 1);
}

TEST_CASE("a swizzled tile's chunks lie in different banks, whether rows or columns are read", "[cuda]") {
  // Eight neighbouring rows' chunks of the same number, as ldmatrix reads them, and a row's eight chunks.
  for (int chunk = 0; chunk < 8; ++chunk) {
    unsigned of_column = 0, of_row = 0;
    for (int i = 0; i < 8; ++i) {
      of_column |= 1u << swizzled_place<64>(16 + i, 8 * chunk) / 8 % 8;
      of_row |= 1u << swizzled_place<64>(16 + chunk, 8 * i) / 8 % 8;
    }
    CHECK(of_column == 0xFF);
    CHECK(of_row == 0xFF);
  }
  std::vector<int> seen(64 * 128);
  for (int r = 0; r < 64; ++r)
    for (int d = 0; d < 128; ++d) ++seen[static_cast<std::size_t>(swizzled_place<64>(r, d))];
  CHECK((seen == std::vector<int>(64 * 128, 1)));
}

TEST_CASE("a context may do without wgmma", "[cuda]") {
  const Numbers n = numbers<bfloat16>(3 * 64, 1);
  const Buffer<bfloat16> q(n), o(3 * 64);
  AttentionArgs<bfloat16> f{};
  f.batch = f.heads = 1, f.queries = f.keys = 3, f.head_dim = 64, f.scale = 1;
  f.q_row = f.k_row = f.v_row = f.o_row = 64;
  f.q = f.k = f.v = q.data(), f.o = o.data();
  for (const bool wgmma : {true, false})
    for (const bool tf32 : {false, true}) {
      CudaOptions options;
      options.wgmma = wgmma, options.allow_tf32 = tf32;
      const Context ctx = make_cuda_context(0, std::make_shared<ThreadPool>(1), options);
      const std::uint64_t before = promptiqa_test::warpgroup_products();
      ctx.kernels<bfloat16>().attention(ctx.kernel_context(), f);
      CHECK((promptiqa_test::warpgroup_products() > before) == wgmma);
    }
}

TEST_CASE("what the twin of wgmma finds out", "[cuda]") {
  const Numbers n = numbers<bfloat16>(small_rows * 64, 3);
  const Buffer<bfloat16> b(n);
  Numbers want;
  for (int i = 0; i < rows * small_rows; ++i) {
    double sum = 0;
    for (int k = 0; k < 16; ++k) sum += n[static_cast<std::size_t>(i % 64 * 64 + k)];
    want.push_back(sum);
  }
  const auto run = [&](Mistake mistake) {
    INFO("mistake " << mistake);
    const Buffer<float> c(rows * small_rows);
    const Op op("products", emulated().kernel_context());
    std::string report;
    try {
      launch(mistaken_kernel, 1, 128, small_rows * 128, op, b.data(), c.data(), mistake);
    } catch (const emulation::EmulationError& error) {
      report = error.what();
    }
    return std::pair(report, worst_ratio(c.values(), want, Numbers(want.size(), 16), 4 * epsilon_of<float>, 0));
  };
  for (const auto order : {emulation::Order::forward, emulation::Order::reverse}) {
    const InOrder in_order(order);
    const auto right = run(none);
    CHECK(right.first == "");
    CHECK(right.second <= 1);
    CHECK(run(overwritten).first.find("a race with") != std::string::npos);  // others may still wait
    // No report, but nothing that could be taken for the product.
    for (const Mistake mistake : {no_end, no_wait, plain_layout}) {
      const auto wrong = run(mistake);
      CHECK(wrong.first == "");
      CHECK(wrong.second > 1);
    }
    const std::pair<Mistake, const char*> reports[] = {
        {no_begin, "without wgmma.fence before"},
        {no_publish, "has not published (fence.proxy.async) before the last barrier"},
        {late_publish, "has not published (fence.proxy.async) before the last barrier"},
        {no_barrier, "a race with"},
        {one_warp_absent, "for its warpgroup, but"},
        {warps_differ, "another right operand than its warpgroup's first thread there"},
        {overwritten_in_flight, "a race with"},
        {outside, "of dynamic shared memory, the launch has"},
        {not_begun_again, "without wgmma.fence before"},
        {not_swizzled, "not swizzled in 128 bytes"},
        {offset_swizzle, "swizzle has an offset"},
        {transposes_differ, "another right operand than its warpgroup's first thread"},
        {at_half_a_chunk, "not a multiple of 16"},
        {static_memory, "wants static shared memory"},
    };
    for (const auto& [mistake, text] : reports) {
      const auto wrong = run(mistake);
      INFO("mistake " << mistake << ": " << wrong.first);
      CHECK(wrong.first.find(text) != std::string::npos);
    }
  }
  const Buffer<float> c(rows * small_rows);
  const Op op("products", emulated().kernel_context());
  CHECK_THROWS_WITH(launch(mistaken_kernel, 1, 96, small_rows * 128, op, b.data(), c.data(), none),
                    ContainsSubstring("in a block of 96 threads"));
  std::cout << "CUDA: emulated twins were run of wgmma (m64n64k16 bf16; fence, commit_group, wait_group) and "
               "fence.proxy.async; their PTX only compiles here."
            << std::endl;
}
