// Matrix products on a device: every argument of GemmArgs, with cuBLAS's fused kernels and without.
// Surprising choice: in emulation cuBLAS itself is a reference body; what is tested there is how it is called and what
// surrounds it.
#include "products.hpp"

using namespace promptiqa_test;

namespace {

using std::int64_t;

struct Case {
  int64_t m, n, k, batch = 1;
  bool transpose_a = false, transpose_b = false;
  double alpha = 1, beta = 0;
  bool bias = false, residual = false;
  Activation activation = Activation::none;
  bool residual_is_c = false, packed = false, shared_b = false;
  int64_t gap = 0;  // unused elements behind each row and each matrix
};

std::string name_of(const Case& c) {
  std::string text;
  for (int64_t n : {c.m, c.n, c.k, c.batch}) text += std::to_string(n) + " ";
  if (c.transpose_a) text += "a^T ";
  if (c.transpose_b) text += "b^T ";
  if (c.alpha != 1) text += "alpha ";
  if (c.beta != 0) text += "beta ";
  if (c.bias) text += "bias ";
  if (c.activation != Activation::none) text += c.activation == Activation::relu ? "relu " : "gelu ";
  if (c.residual) text += c.residual_is_c ? "residual is c " : "residual ";
  if (c.packed) text += "packed ";
  return text + (c.gap ? "gaps" : "");
}

/// A matrix, or one for each batch entry, with gaps: elements of gaps are -77.
struct Layout {
  int64_t rows, columns, batch, ld, stride;
  Layout(int64_t rows_, int64_t columns_, int64_t batch_, int64_t gap)
      : rows(rows_), columns(columns_), batch(batch_), ld(columns + gap), stride(rows * ld + 3 * gap) {}
  Numbers spread(const Numbers& dense) const {
    Numbers all(static_cast<std::size_t>(batch * stride), -77);
    std::size_t i = 0;
    for (int64_t e = 0; e < batch; ++e)
      for (int64_t r = 0; r < rows; ++r)
        for (int64_t c = 0; c < columns; ++c) all[static_cast<std::size_t>(e * stride + r * ld + c)] = dense[i++];
    return all;
  }
};

/// c with its gaps, from operands rounded to bfloat16 if asked for. `size` instead of the product:
/// the sum of absolute values, for error bounds.
template <class T, class In>
Numbers run(const Case& c, const KernelTable<T>& table, Context& ctx, bool size, bool round = false) {
  using A = accumulate_t<T>;
  const auto draw = [&](const Layout& l, std::uint32_t seed) {
    const Numbers n = numbers<In>(l.batch * l.rows * l.columns, seed);
    return l.spread(size ? absolute(n) : n);
  };
  const Layout a(c.transpose_a ? c.k : c.m, c.transpose_a ? c.m : c.k, c.batch, c.gap);
  const Layout b(c.transpose_b ? c.n : c.k, c.transpose_b ? c.k : c.n, c.shared_b || c.packed ? 1 : c.batch, c.gap);
  const Layout out(c.m, c.n, c.batch, c.gap);
  Numbers a_numbers = draw(a, 1), b_numbers = draw(b, 2);
  if (round)
    for (Numbers* operand : {&a_numbers, &b_numbers})
      for (double& v : *operand) v = to_double(from_double<bfloat16>(v));
  const Buffer<T> a_data(a_numbers), b_data(b_numbers), residual(draw(out, 3)), result(draw(out, 4));
  Numbers bias_numbers = numbers<In>(c.n, 5);  // bfloat16 holds them: cuBLAS's fused kernels round them to it
  if (size) bias_numbers = absolute(bias_numbers);
  const Buffer<A> bias(bias_numbers);

  GemmArgs<T> args{};
  args.m = c.m, args.n = c.n, args.k = c.k, args.batch = c.batch;
  args.a = a_data.data(), args.lda = a.ld, args.stride_a = a.stride, args.transpose_a = c.transpose_a;
  args.b = b_data.data(), args.ldb = b.ld, args.stride_b = b.batch == 1 ? 0 : b.stride,
  args.transpose_b = c.transpose_b;
  args.c = result.data(), args.ldc = out.ld, args.stride_c = out.stride;
  args.alpha = static_cast<A>(size ? std::abs(c.alpha) : c.alpha);
  args.beta = static_cast<A>(size ? std::abs(c.beta) : c.beta);
  args.bias = c.bias ? bias.data() : nullptr;
  args.activation = size ? Activation::none : c.activation;
  args.residual = !c.residual ? nullptr : c.residual_is_c ? result.data() : residual.data();
  StorageRef packed;
  PackedMatrixView view{};
  if (c.packed) {
    packed = ctx.memory().allocate(table.packed_bytes(c.k, c.n));
    table.pack_matrix(ctx.kernel_context(), {b_data.data(), c.k, c.n, b.ld, c.transpose_b, packed->data});
    view = {packed->data, c.k, c.n, table.packed_layout};
    args.packed_b = &view;
    args.b = nullptr;
  }
  table.gemm(ctx.kernel_context(), args);
  return result.values();
}

template <class T>
void check(const Case& c, const Path& path, bool fuses) {
  if (!can_be_given(path.traits, sizeof(T)) || !can_fuse(fuses)) return;
  INFO(name_of(c) << ", " << path.name << ", " << sizeof(T) << " bytes an element" << (fuses ? "" : ", nothing fused"));
  const WithTraits traits(path.traits);
  const Fusing fusing(fuses);
  const bool rounds = path.traits.bf16 && std::is_same_v<T, float>;
  const Numbers got = run<T, T>(c, cuda::kernel_table<T>(), device_context(), false);
  const Numbers want = run<double, T>(c, exact().kernels<double>(), exact(), false, rounds);
  const Numbers size = run<double, T>(c, exact().kernels<double>(), exact(), true);
  // gelu's slope is at most 1.13; the fused one is the tanh form, 5e-4 off at most.
  const double gelu = c.activation == Activation::gelu && sizeof(T) == 2 && fuses ? 5e-4 : 0;
  const double unit = 1.13 * (path.traits.tf32 && !rounds && sizeof(T) == 4 ? blas_tf32_error : 0) +
                      epsilon_of<accumulate_t<T>> * static_cast<double>(c.k + 8);
  Numbers bound = size;
  for (double& s : bound) s = s * unit + gelu;
  CHECK(worst_ratio(got, want, bound, 1, epsilon_of<T> / 2) <= 1);
}

template <class T>
void check_all(const Path& path) {
  const auto none = Activation::none, relu = Activation::relu, gelu = Activation::gelu;
  for (int flags = 0; flags < 4; ++flags) {
    const bool ta = flags & 1, tb = flags & 2;
    for (const Case& c : std::vector<Case>{{5, 7, 9, 1, ta, tb},
                                           {33, 35, 6, 1, ta, tb, -0.5},
                                           {4, 3, 8, 3, ta, tb, 0.25, 0.5, false, false, none, false, false, false, 2},
                                           {4, 9, 5, 2, ta, tb, 1, 0, true, true, gelu, false, false, true, 1},
                                           {1, 34, 40, 1, ta, tb, 1, 0, true, false, none, false, true, false, 3}})
      check<T>(c, path, true);
  }
  check<T>({4, 9, 5, 3, false, true, 1, 0, true}, path, true);  // a batch is never fused
  check<T>({4, 9, 5, 3, false, false, 1, 0, false, true, none, false, false, true}, path, true);
  for (const bool bias : {false, true})
    for (const Activation activation : {none, relu, gelu})
      for (const int residual : {0, 1, 2})
        for (const double beta : {0.0, 0.75})
          for (const bool fuses : {false, true}) {
            const Case c = {6, 11, 4, 1, false, true, 1.5, beta, bias, residual > 0, activation, residual == 2};
            check<T>(c, path, fuses);
          }
  check<T>({5, 6, 0, 2, false, false, 1, 0, true, true, gelu}, path, true);  // nothing to sum up
  check<T>({5, 6, 0, 1, false, false, 1, 0.5}, path, true);
  check<T>({0, 6, 3}, path, true);
  check<T>({3, 0, 3}, path, true);
  check<T>({3, 4, 3, 0}, path, true);
}

}  // namespace

TEST_CASE("matrix products with every epilogue, transpose, stride and packing", "[cuda]") {
  check_all<float>(plain);
  check_all<double>(plain);
  check_all<bfloat16>(bf16_tensor_cores);
  check_all<float>(tf32_tensor_cores);
  check_all<float>(bf16_products);  // no operand error: the expectation is of rounded operands
  check_all<double>(bf16_products);
}

TEST_CASE("operands of floats are rounded to bfloat16 to nearest, ties to even, and results are not", "[cuda]") {
  CudaOptions options;
  options.bf16_products = true;
  Context ctx = make_cuda_context(0, std::make_shared<ThreadPool>(1), options);
  // Spacing at 1 is 2^-7; the last column is in a group of its own.
  const Buffer<float> a(Numbers{1 + 0x1p-8, 1 + 0x3p-8, 1 + 0x1p-8 + 0x1p-20, 0, 0, 0, 0, 0x1p-120, -1 - 0x3p-8});
  const Numbers want = {1, 1 + 0x1p-6, 1 + 0x1p-7, 0, 0, 0, 0, 0x1p-120, -1 - 0x1p-6};
  Numbers identity(81, 0);
  for (std::size_t i = 0; i < 9; ++i) identity[10 * i] = 1;
  const Buffer<float> b(identity), c(9), residual(Numbers(9, 0x1p-20));
  GemmArgs<float> args{};
  args.m = 1, args.n = args.k = 9, args.batch = 1, args.a = a.data(), args.lda = 9, args.b = b.data(), args.ldb = 9;
  args.c = c.data(), args.ldc = 9, args.alpha = 1;
  cuda::kernel_table<float>().gemm(ctx.kernel_context(), args);
  CHECK(c.values() == want);
  args.residual = residual.data();
  cuda::kernel_table<float>().gemm(ctx.kernel_context(), args);
  CHECK(c.values()[1] == want[1] + 0x1p-20);
}

#if !PROMPTIQA_TEST_ON_DEVICE
TEST_CASE("epilogues are fused where cuBLAS has a kernel for them", "[cuda]") {
  const auto fused = [](auto element, const Case& c) {
    using T = decltype(element);
    const std::uint64_t before = emulation::fused_products;
    run<T, T>(c, cuda::kernel_table<T>(), device_context(), false);
    return emulation::fused_products - before == 1;
  };
  const auto relu = Activation::relu, gelu = Activation::gelu, none = Activation::none;
  CHECK(fused(float{}, {2, 3, 4, 1, false, true, 1, 0, true}));
  CHECK(fused(float{}, {2, 3, 4, 1, false, true, 1, 0, true, false, relu}));
  CHECK(fused(float{}, {2, 3, 4, 1, false, true, 1, 0, true, true, none}));
  CHECK(!fused(float{}, {2, 3, 4, 1, false, true, 1, 0, true, false, gelu}));  // only bfloat16 forgives the tanh form
  CHECK(fused(bfloat16{}, {2, 3, 4, 1, false, true, 1, 0, true, false, gelu}));
  CHECK(!fused(bfloat16{}, {2, 3, 4, 1, false, true, 1, 0, true, true, gelu}));
  CHECK(!fused(float{}, {2, 3, 4, 1, false, true, 1, 0}));  // nothing to fuse
}
#endif

TEST_CASE("gemm refuses a matrix that another table has packed", "[cuda]") {
  const Buffer<float> a(numbers<float>(4, 1)), b(numbers<float>(4, 2)), c(4);
  const PackedMatrixView view = {b.data(), 2, 2, 7};
  GemmArgs<float> args{};
  args.m = args.n = args.k = 2, args.batch = 1, args.a = a.data(), args.lda = 2, args.c = c.data(), args.ldc = 2;
  args.alpha = 1, args.packed_b = &view;
  CHECK_THROWS_WITH(cuda::kernel_table<float>().gemm(device_context().kernel_context(), args),
                    ContainsSubstring("gemm") && ContainsSubstring("got layout 7"));
}
