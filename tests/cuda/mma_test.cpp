// The pieces of tensor-core kernels on the emulated device: fragments, mma.sync, ldmatrix, cp.async.
// Surprising choice: the twins are tested against products of whole matrices, and a kernel without its wait or its
// barrier is shown to be found out.
#include <iostream>

#include "../../kernels/async_copy.cuh"
#include "../../kernels/attention_tile.cuh"
#include "../../kernels/launch.cuh"
#include "../../kernels/mma.cuh"
#include "products.hpp"

using namespace promptiqa_test;
using namespace promptiqa::cuda;

namespace {

// c (16 R, 24 or 32) = a (16 R, 32) b, with b transposed (rows times rows) or not (fragment times matrix).
constexpr int depth = 32, width = 32, row_tiles = 2;

template <class Math>
void fill_tile(Shared<typename Math::Operand> tile, const double* numbers, int rows) {
  using Operand = typename Math::Operand;
  for (int i = static_cast<int>(threadIdx.x); i < rows * depth; i += 32)
    tile[i / depth * padded<Operand>(depth) + i % depth] = from_double<Operand>(numbers[i]);
}

/// c = a b^T for a (32, 32) and b (32, 32); then d = c's first 16 rows times b.
template <class Math>
void products_kernel(const double* a, const double* b, double* c, double* d) {
  using Operand = typename Math::Operand;
  using Sum = typename Math::Sum;
  constexpr int pitch = padded<Operand>(depth);
  PROMPTIQA_SHARED(Operand, a_tile, 16 * row_tiles * pitch);
  PROMPTIQA_SHARED(Operand, b_tile, width * pitch);
  fill_tile<Math>(a_tile, a, 16 * row_tiles);
  fill_tile<Math>(b_tile, b, width);
  __syncthreads();
  Fragment<Sum, width / 8> sums[row_tiles], product;
  for (auto& s : sums) s.clear();
  product.clear();
  Math::template add_rows_times_rows<depth>(sums, a_tile, pitch, b_tile, pitch);
  for (int r = 0; r < row_tiles; ++r)
    sums[r].for_each(
        [&](Sum& v, int second, int column) { c[(16 * r + 8 * second + fragment_row()) * width + column] = v; });
  Math::add_fragment_times_matrix(product, sums[0], b_tile, pitch);
  product.for_each([&](Sum& v, int second, int column) { d[(8 * second + fragment_row()) * depth + column] = v; });
}

template <class Math>
void check_products(const char* what, double operand_error) {
  INFO(what);
  const Numbers a = numbers<float>(16 * row_tiles * depth, 1), b = numbers<float>(width * depth, 2);
  const Buffer<double> a_data(a), b_data(b), c(16 * row_tiles * width), d(16 * depth);
  const Op op("products", emulated().kernel_context());
  launch(products_kernel<Math>, 1, 32, 0, op, a_data.data(), b_data.data(), c.data(), d.data());
  const Numbers c_values = c.values();
  const auto both = [&](bool of_sizes) {
    const auto part = [&](const Numbers& n) { return of_sizes ? absolute(n) : n; };
    return std::pair(exact_product(16 * row_tiles, width, depth, part(a), part(b), true),
                     exact_product(16, depth, width, part(c_values), part(b), false));
  };
  const auto [want_c, want_d] = both(false);
  const auto [size_c, size_d] = both(true);
  const double unit = 2 * operand_error + 40 * epsilon_of<typename Math::Sum>;
  CHECK(worst_ratio(c_values, want_c, size_c, unit, 0) <= 1);
  CHECK(worst_ratio(d.values(), want_d, size_d, unit, 0) <= 1);
  CHECK(worst_ratio(d.values(), want_d, size_d, unit / 200, 0) >
        (operand_error == 0 ? -1 : 1));  // operands are rounded
}

/// a (32, 32) and b (32, 32) have equal rows each, so c and d of products_kernel have one value each.
struct Uniform {
  float c, d;
};
Uniform uniform_products(const Numbers& a_row, const Numbers& b_row) {
  Numbers a, b;
  for (int i = 0; i < 32; ++i) {
    a.insert(a.end(), a_row.begin(), a_row.end());
    b.insert(b.end(), b_row.begin(), b_row.end());
  }
  const Buffer<double> a_data(a), b_data(b), c(16 * row_tiles * width), d(16 * depth);
  const Op op("products", emulated().kernel_context());
  launch(products_kernel<Tf32Math>, 1, 32, 0, op, a_data.data(), b_data.data(), c.data(), d.data());
  const Numbers c_values = c.values(), d_values = d.values();
  CHECK((c_values == Numbers(c_values.size(), c_values[0])));
  CHECK((d_values == Numbers(d_values.size(), d_values[0])));
  return {static_cast<float>(c_values[0]), static_cast<float>(d_values[0])};
}

void copy_kernel(const float* from, float* to, int count, int mistake) {
  PROMPTIQA_SHARED(float, tile, 2 * 32 * 4);
  const int lane = static_cast<int>(threadIdx.x);
  for (int stage = 0; stage < 2; ++stage) {
    const int first = (stage * 32 + lane) * 4;
    copy_async(tile + first, from + (first < count ? first : 0), first < count);
    commit_copies();
  }
  if (mistake == 1)
    wait_for_copies<2>();
  else
    wait_for_copies<1>();
  if (mistake != 2) __syncthreads();
  for (int i = 0; i < 4; ++i) to[lane + 32 * i] = tile[lane + 32 * i];
  wait_for_copies<0>();
  __syncthreads();
  for (int i = 4; i < 8; ++i) to[lane + 32 * i] = tile[lane + 32 * i];
  if (mistake == 3) copy_async(tile + (128 + lane * 4), from, true);  // over what others may still be reading
}

}  // namespace

TEST_CASE("products of a warp's tiles", "[cuda]") {
  check_products<PlainMath<float>>("plain float", 0);
  check_products<PlainMath<double>>("plain double", 0);
  check_products<Bf16Math>("mma.m16n8k16.bf16", 0x1p-8);
  check_products<Tf32Math>("mma.m16n8k8.tf32", 0x1p-11);
}

TEST_CASE("every TF32 operand is rounded to nearest, none is cut off", "[cuda]") {
  // Spacing at 1 is 2^-10: three quarters of it are rounded up, and the tensor cores themselves would drop them.
  const double up = 1 + 0x1p-10, above = 1 + 0x3p-12;
  const Numbers ones(depth, 1), odd(depth, above);
  const Uniform a = uniform_products(odd, ones), b = uniform_products(ones, odd);
  CHECK(a.c == 32 * up);
  CHECK(b.c == 32 * up);
  CHECK(b.d == Approx(32 * 32 * up * up).epsilon(1e-5));  // 32 up is a number of TF32; 32 roundings of sums
  Numbers row(depth, 0);  // a sum that is none: 1 + 3 / 4 of the spacing, of two that are
  row[0] = 1, row[1] = 0x3p-12;
  const Uniform sums = uniform_products(row, ones);
  CHECK(sums.c == static_cast<float>(above));
  CHECK(sums.d == 32 * up);
}

TEST_CASE("powers of 2 of scores", "[cuda]") {
  const float infinity = std::numeric_limits<float>::infinity();
  CHECK(power_of_2(0.f) == 1);
  CHECK(power_of_2(-infinity) == 0);
  CHECK(power_of_2(200.f) == infinity);
  CHECK(std::isnan(power_of_2(std::nanf(""))));
  CHECK(power_of_2(-125.f) == 0x1p-125f);
  CHECK(power_of_2(-127.f) == 0);  // below the smallest normal number
  CHECK(power_of_2(-1000.0) == std::exp2(-1000.0));
}

TEST_CASE("asynchronous copies arrive when they are waited for", "[cuda]") {
  const Numbers n = numbers<float>(256, 3);
  const Buffer<float> from(n), to(256);
  const Op op("copies", emulated().kernel_context());
  launch(copy_kernel, 1, 32, 0, op, from.data(), to.data(), 200, 0);
  Numbers want = n;
  for (std::size_t i = 200; i < 256; ++i) want[i] = 0;  // what is not valid is zeros
  CHECK((to.values() == want));
  for (const int mistake : {1, 2, 3}) {
    INFO("mistake " << mistake);
    CHECK_THROWS_AS(launch(copy_kernel, 1, 32, 0, op, from.data(), to.data(), 256, mistake), emulation::EmulationError);
  }
  std::cout << "CUDA: emulated twins were run of mma.sync (m16n8k16 bf16, m16n8k8 tf32), ldmatrix, cp.async, "
               "ex2.approx and cvt.rna.tf32; their PTX, and the calls of cuBLAS, only compile here."
            << std::endl;
}
