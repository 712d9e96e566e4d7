// gemm of every backend against a triple loop in a wider type, over shapes with awkward remainders.
// Surprising choice: all unused memory (gaps between rows, c before a product with beta = 0) holds NaN or a
// sentinel, so reading or writing a single element too much fails a test.
#include <cmath>
#include <cstdint>
#include <cstring>
#include <limits>
#include <random>
#include <string>
#include <type_traits>
#include <vector>

#include <promptiqa/cpu/gemm.hpp>
#include <promptiqa/cpu/gemm_eigen.hpp>

#include "catch.hpp"

using namespace promptiqa;
using cpu::GemmTile;

namespace {

using Random = std::mt19937_64;

struct EigenBackend {};

/// The four functions of a backend, as the kernel table will hold them.
template <class T, class Isa>
struct Backend {
  static bool supported() { return Isa::supported(); }
  static const char* name() { return Isa::name; }
  static constexpr int layout = cpu::packed_layout<T, Isa>;
  static void gemm(const KernelContext& kc, const GemmArgs<T>& args) { cpu::gemm<T, Isa>(kc, args); }
  static void pack(const KernelContext& kc, const PackMatrixArgs<T>& args) { cpu::pack_matrix<T, Isa>(kc, args); }
  static std::size_t packed_bytes(std::int64_t k, std::int64_t n) { return cpu::packed_bytes<T, Isa>(k, n); }
};
template <class T>
struct Backend<T, EigenBackend> {
  static bool supported() { return true; }
  static const char* name() { return "eigen"; }
  static constexpr int layout = cpu::packed_layout_eigen<T>;
  static void gemm(const KernelContext& kc, const GemmArgs<T>& args) { cpu::gemm_eigen<T>(kc, args); }
  static void pack(const KernelContext& kc, const PackMatrixArgs<T>& args) { cpu::pack_matrix_eigen<T>(kc, args); }
  static std::size_t packed_bytes(std::int64_t k, std::int64_t n) { return cpu::packed_bytes_eigen<T>(k, n); }
};

/// Calls body(T{}, Isa{}) for each element type and each backend that runs here.
template <class Body>
void for_each_backend(Body&& body) {
  const auto both = [&](auto isa) {
    if (Backend<float, decltype(isa)>::supported()) {
      body(float{}, isa);
      body(double{}, isa);
    }
  };
  both(EigenBackend{});
  both(cpu::Portable{});
#if PROMPTIQA_X86_64
  both(cpu::Avx2{});
  both(cpu::Avx512{});
  if (cpu::Avx512Bf16::supported()) body(float{}, cpu::Avx512Bf16{});
#endif
}

template <class T>
constexpr T sentinel = T(123456);

/// `batch` matrices of rows x columns with gaps between rows and entries; the gaps hold `gap`.
template <class T>
struct Matrices {
  std::int64_t batch, rows, columns, ld, stride;
  std::vector<T> data;

  Matrices(std::int64_t b, std::int64_t r, std::int64_t c, std::int64_t row_gap, T gap)
      : batch(b),
        rows(r),
        columns(c),
        ld(c + row_gap),
        stride(r * (c + row_gap) + row_gap),
        data(static_cast<std::size_t>(b * stride + 1), gap) {}
  T& at(std::int64_t b, std::int64_t i, std::int64_t j) {
    return data[static_cast<std::size_t>(b * stride + i * ld + j)];
  }
  T at(std::int64_t b, std::int64_t i, std::int64_t j) const {
    return data[static_cast<std::size_t>(b * stride + i * ld + j)];
  }
  void randomise(Random& random) {
    std::uniform_real_distribution<double> value(-1, 1);
    for (std::int64_t b = 0; b < batch; ++b)
      for (std::int64_t i = 0; i < rows; ++i)
        for (std::int64_t j = 0; j < columns; ++j) at(b, i, j) = static_cast<T>(value(random));
  }
  /// Values in [-1, 1] become multiples of 1/64, which bfloat16 holds exactly.
  void round_to_bfloat16() {
    for (T& x : data) x = static_cast<T>(std::ldexp(std::nearbyint(std::ldexp(static_cast<double>(x), 6)), -6));
  }
  /// Overwrites the elements but not the gaps.
  void set_all(T x) {
    for (std::int64_t b = 0; b < batch; ++b)
      for (std::int64_t i = 0; i < rows; ++i)
        for (std::int64_t j = 0; j < columns; ++j) at(b, i, j) = x;
  }
};

struct Case {
  std::int64_t m = 1, n = 1, k = 1, batch = 1, gap = 3;
  bool transpose_a = false, transpose_b = false, packed = false, shared_a = false, shared_b = false, serial = false;
  double alpha = 1, beta = 0;
  bool bias = false, residual = false, residual_is_c = false;
  Activation activation = Activation::none;

  std::string str() const {
    std::string s = std::to_string(m) + " x " + std::to_string(n) + " x " + std::to_string(k) + ", batch " +
                    std::to_string(batch) + ", alpha " + std::to_string(alpha) + ", beta " + std::to_string(beta) +
                    ", activation " + std::to_string(static_cast<int>(activation));
    if (transpose_a) s += ", transpose_a";
    if (transpose_b) s += ", transpose_b";
    if (packed) s += ", packed";
    if (shared_a) s += ", shared_a";
    if (shared_b) s += ", shared_b";
    if (serial) s += ", serial";
    if (bias) s += ", bias";
    if (residual) s += residual_is_c ? ", residual is c" : ", residual";
    return s;
  }
};

template <class R>
R reference_activation(Activation activation, R x) {
  if (activation == Activation::relu) return x < 0 ? R(0) : x;
  if (activation == Activation::gelu) return x * std::erfc(-x / std::sqrt(R(2))) / 2;
  return x;
}

/// Runs one case and returns c as it lies in memory; *worst becomes the largest error in units of its bound, infinite
/// when an element is NaN or memory around c was written.
template <class T, class Isa>
std::vector<T> run_case(const Case& test, ThreadPool& threads, std::uint64_t seed, double* worst) {
  // The reference sums in a wider type where there is one.
  using R = std::conditional_t<std::is_same_v<T, float>, double, long double>;
  using B = Backend<T, Isa>;
  constexpr T nan = std::numeric_limits<T>::quiet_NaN();
  const auto memory = MemoryPool::create();
  const KernelContext kc{&threads, memory.get()};
  Random random(seed);

  const std::int64_t a_batch = test.shared_a ? 1 : test.batch, b_batch = test.shared_b || test.packed ? 1 : test.batch;
  Matrices<T> a(a_batch, test.transpose_a ? test.k : test.m, test.transpose_a ? test.m : test.k, test.gap, nan);
  Matrices<T> b(b_batch, test.transpose_b ? test.n : test.k, test.transpose_b ? test.k : test.n, test.gap, nan);
  Matrices<T> c(test.batch, test.m, test.n, test.gap, sentinel<T>);
  Matrices<T> residual(test.batch, test.m, test.n, test.gap, nan);
  Matrices<T> bias(1, 1, test.n, 1, nan);
  a.randomise(random);
  b.randomise(random);
  if (cpu::PackedElement<T, Isa>::depth > 1) {  // exact in bfloat16, so that the same bound holds
    a.round_to_bfloat16();
    b.round_to_bfloat16();
  }
  bias.randomise(random);
  residual.randomise(random);
  if (test.beta != 0 || test.residual_is_c)
    c.randomise(random);
  else
    c.set_all(nan);
  const Matrices<T> before = c;

  GemmArgs<T> args{};
  args.m = test.m;
  args.n = test.n;
  args.k = test.k;
  args.batch = test.batch;
  args.a = a.data.data();
  args.lda = a.ld;
  args.stride_a = test.shared_a ? 0 : a.stride;
  args.transpose_a = test.transpose_a;
  args.b = b.data.data();
  args.ldb = b.ld;
  args.stride_b = b_batch == 1 ? 0 : b.stride;
  args.transpose_b = test.transpose_b;
  args.c = c.data.data();
  args.ldc = c.ld;
  args.stride_c = c.stride;
  args.alpha = static_cast<T>(test.alpha);
  args.beta = static_cast<T>(test.beta);
  args.activation = test.activation;
  if (test.bias) args.bias = bias.data.data();
  if (test.residual) args.residual = test.residual_is_c ? c.data.data() : residual.data.data();

  StorageRef packed;
  PackedMatrixView view{};
  if (test.packed) {
    packed = memory->allocate(B::packed_bytes(test.k, test.n));
    std::memset(packed->data, 0xFF, packed->capacity);  // NaN: whatever pack leaves out shows
    B::pack(kc, {args.b, test.k, test.n, args.ldb, test.transpose_b, packed->data});
    view = {packed->data, test.k, test.n, B::layout};
    args.packed_b = &view;
    args.b = nullptr;
  }
  ThreadPool single(1);
  B::gemm(test.serial ? KernelContext{&single, memory.get()} : kc, args);
  if (!worst) return c.data;

  // A sum of k products is off by at most about k roundings of sum |a||b| (half an epsilon each); 8 more cover alpha,
  // bias, activation (slope <= 1.13, float GELU within a few epsilon), residual and beta.
  const double unit = std::numeric_limits<T>::epsilon() * static_cast<double>(test.k + 8);
  *worst = 0;
  for (std::int64_t e = 0; e < test.batch; ++e)
    for (std::int64_t i = 0; i < test.m; ++i)
      for (std::int64_t j = 0; j < test.n; ++j) {
        R sum = 0, size = 0;
        for (std::int64_t kk = 0; kk < test.k; ++kk) {
          const std::int64_t ea = test.shared_a ? 0 : e, eb = b_batch == 1 ? 0 : e;
          const R x = test.transpose_a ? a.at(ea, kk, i) : a.at(ea, i, kk);
          const R y = test.transpose_b ? b.at(eb, j, kk) : b.at(eb, kk, j);
          sum += x * y;
          size += std::fabs(x * y);
        }
        R expected = R(args.alpha) * sum;
        size *= std::fabs(R(args.alpha));
        const auto add = [&](R x) {
          expected += x;
          size += std::fabs(x);
        };
        if (test.bias) add(bias.at(0, 0, j));
        expected = reference_activation(test.activation, expected);
        if (test.residual) add(test.residual_is_c ? before.at(e, i, j) : residual.at(e, i, j));
        if (test.beta != 0) add(R(args.beta) * R(before.at(e, i, j)));
        const double error = static_cast<double>(std::fabs(R(c.at(e, i, j)) - expected));
        const double bound = unit * static_cast<double>(size);
        if (!(error <= bound))  // a NaN too
          *worst = std::numeric_limits<double>::infinity();
        else if (bound > 0)
          *worst = std::max(*worst, error / bound);
        c.at(e, i, j) = sentinel<T>;
      }
  for (const T x : c.data)
    if (x != sentinel<T>) *worst = std::numeric_limits<double>::infinity();
  return {};
}

template <class T, class Isa>
void check_case(const Case& test, ThreadPool& threads, std::uint64_t seed) {
  double worst = -1;
  run_case<T, Isa>(test, threads, seed, &worst);
  using B = Backend<T, Isa>;
  INFO(B::name() << (sizeof(T) == 4 ? " float " : " double ") << test.str());
  CHECK(worst <= 1);
}

Case random_case(Random& random, std::int64_t largest) {
  const auto below = [&](std::int64_t n) {
    return static_cast<std::int64_t>(random() % static_cast<std::uint64_t>(n));
  };
  Case test;
  test.m = 1 + below(largest);
  test.n = 1 + below(largest);
  test.k = 1 + below(largest);
  test.batch = below(4) == 0 ? 1 + below(5) : 1;
  test.gap = below(2) * below(9);
  test.transpose_a = below(2) == 0;
  test.transpose_b = below(2) == 0;
  test.packed = below(3) == 0;
  test.shared_a = below(3) == 0;
  test.shared_b = below(3) == 0;
  test.serial = below(2) == 0;
  test.alpha = below(2) ? 1 : -0.75;
  test.beta = below(3) ? 0 : 0.5;
  test.bias = below(2) == 0;
  test.residual = below(3) == 0;
  test.residual_is_c = test.residual && below(2) == 0;
  test.activation = static_cast<Activation>(below(3));
  return test;
}

}  // namespace

TEST_CASE("gemm agrees with a triple loop on random shapes", "[gemm]") {
  ThreadPool threads(2);
  for_each_backend([&](auto type, auto isa) {
    using T = decltype(type);
    using Isa = decltype(isa);
    Random random(20240607);
    for (int i = 0; i < 150; ++i) check_case<T, Isa>(random_case(random, 70), threads, random());
    for (int i = 0; i < 6; ++i) check_case<T, Isa>(random_case(random, 230), threads, random());
  });
}

TEST_CASE("gemm handles every remainder of the register tile", "[gemm]") {
  ThreadPool threads(2);
  for_each_backend([&](auto type, auto isa) {
    using T = decltype(type);
    using Isa = decltype(isa);
    for (std::int64_t m = 1; m <= 30; ++m) {
      Case test;
      test.m = m;
      test.n = 67 - m;
      test.k = 5 + m % 3;
      test.bias = true;
      for (const bool transpose_a : {false, true})
        for (const bool transpose_b : {false, true}) {
          test.transpose_a = transpose_a;
          test.transpose_b = transpose_b;
          test.packed = (m + transpose_a) % 2 == 0;
          check_case<T, Isa>(test, threads, static_cast<std::uint64_t>(m));
        }
    }
  });
}

TEST_CASE("gemm handles sums longer than a block and c larger than a block", "[gemm]") {
  ThreadPool threads(2);
  for_each_backend([&](auto type, auto isa) {
    using T = decltype(type);
    using Isa = decltype(isa);
    for (const bool few_rows : {true, false})
      for (const bool packed : {true, false}) {
        Case test;
        test.m = few_rows ? 9 : 101;
        test.n = 75;
        test.k = 2501;
        test.packed = packed;
        test.transpose_b = true;
        test.bias = test.residual = test.residual_is_c = true;
        test.activation = Activation::gelu;
        test.beta = -0.5;
        check_case<T, Isa>(test, threads, 5);
      }
    Case wide;
    wide.m = 260;
    wide.n = 1100;
    wide.k = 390;  // a is larger than a block, c has several
    wide.beta = 0.25;
    wide.gap = 0;
    check_case<T, Isa>(wide, threads, 6);
    Case tall;
    tall.m = 130;
    tall.n = 8;
    tall.k = 1000;
    tall.batch = 3;  // b shared and entries side by side: computed as one product
    tall.shared_b = true;
    tall.gap = 0;
    tall.transpose_b = true;
    check_case<T, Isa>(tall, threads, 7);
  });
}

TEST_CASE("gemm with empty operands", "[gemm]") {
  ThreadPool threads(2);
  for_each_backend([&](auto type, auto isa) {
    using T = decltype(type);
    using Isa = decltype(isa);
    Case test;
    test.m = 20;
    test.n = 35;
    test.k = 0;
    for (const bool packed : {false, true}) {
      test.packed = packed;
      test.bias = true;
      test.beta = 0;
      test.activation = Activation::none;
      check_case<T, Isa>(test, threads, 1);  // the bias alone; c was NaN
      test.beta = 2;
      test.activation = Activation::gelu;
      check_case<T, Isa>(test, threads, 2);
    }
    test.bias = false;
    for (int empty = 0; empty < 3; ++empty) {
      Case none = test;
      none.packed = empty == 1;
      none.k = 4;
      (empty == 0 ? none.m : empty == 1 ? none.n : none.batch) = 0;
      check_case<T, Isa>(none, threads, 3);  // writes nothing
    }
  });
}

TEST_CASE("gemm gives the same bits for any number of threads", "[gemm]") {
  ThreadPool one(1), two(2), five(5);
  for_each_backend([&](auto type, auto isa) {
    using T = decltype(type);
    using Isa = decltype(isa);
    Random random(99);
    for (int i = 0; i < 12; ++i) {
      Case test = random_case(random, 300);
      test.serial = false;
      if (i == 0) test.m = 400, test.n = 700, test.k = 700, test.batch = 1;
      if (i == 1) test.m = 3, test.n = 900, test.k = 700, test.batch = 1;
      const std::uint64_t seed = random();
      const auto expected = run_case<T, Isa>(test, one, seed, nullptr);
      const auto same = [&](const std::vector<T>& c) {
        return c.size() == expected.size() && std::memcmp(c.data(), expected.data(), c.size() * sizeof(T)) == 0;
      };
      using B = Backend<T, Isa>;
      INFO(B::name() << " " << test.str());
      CHECK(same(run_case<T, Isa>(test, two, seed, nullptr)));
      CHECK(same(run_case<T, Isa>(test, five, seed, nullptr)));
      test.serial = true;
      CHECK(same(run_case<T, Isa>(test, two, seed, nullptr)));
    }
  });
}

TEST_CASE("gemm gives the same bits when b is laid out in chunks of columns as when it is packed", "[gemm]") {
  ThreadPool threads(2);
  for_each_backend([&](auto type, auto isa) {
    using T = decltype(type);
    using Isa = decltype(isa);
    if constexpr (!std::is_same_v<Isa, EigenBackend>) {
      Case test;
      test.m = 4 * GemmTile<T, Isa>::rows + 1;
      test.n = 17 * GemmTile<T, Isa>::columns + 2;
      test.k = 9 * (1 << 17) / (GemmTile<T, Isa>::columns * std::int64_t{sizeof(T)});  // a panel of b has 1.1 MB
      test.bias = test.residual = true;
      const auto chunked = run_case<T, Isa>(test, threads, 8, nullptr);
      test.packed = true;
      const auto packed = run_case<T, Isa>(test, threads, 8, nullptr);
      INFO(Isa::name << " " << test.str());
      CHECK(std::isfinite(static_cast<double>(chunked[0])));
      CHECK(chunked.size() == packed.size());
      CHECK(std::memcmp(chunked.data(), packed.data(), chunked.size() * sizeof(T)) == 0);
    }
  });
}

TEST_CASE("gemm passes NaN and infinity on", "[gemm]") {
  ThreadPool threads(1);
  const auto memory = MemoryPool::create();
  const KernelContext kc{&threads, memory.get()};
  for_each_backend([&](auto type, auto isa) {
    using T = decltype(type);
    using B = Backend<T, decltype(isa)>;
    constexpr T nan = std::numeric_limits<T>::quiet_NaN(), infinity = std::numeric_limits<T>::infinity();
    for (const Activation activation : {Activation::none, Activation::relu, Activation::gelu}) {
      const std::vector<T> a = {nan, 1, infinity, 1, 1, 1}, b(40, T(1));
      std::vector<T> c(60, T(0));
      GemmArgs<T> args{};
      args.m = 3;
      args.n = 20;
      args.k = 2;
      args.batch = 1;
      args.a = a.data();
      args.lda = 2;
      args.b = b.data();
      args.ldb = 20;
      args.c = c.data();
      args.ldc = 20;
      args.alpha = 1;
      args.activation = activation;
      B::gemm(kc, args);
      INFO(B::name() << " activation " << static_cast<int>(activation));
      CHECK(std::isnan(c[0]));
      CHECK(std::isnan(c[19]));
      CHECK(c[20] == infinity);
      CHECK(c[39] == infinity);
      CHECK(c[40] == Approx(activation == Activation::gelu ? 1.9544997361 : 2.0).epsilon(1e-6));  // 2 Phi(2)
    }
  });
}

TEST_CASE("gemm refuses a matrix packed for other kernels or of another shape", "[gemm]") {
  ThreadPool threads(1);
  const auto memory = MemoryPool::create();
  const KernelContext kc{&threads, memory.get()};
  for_each_backend([&](auto type, auto isa) {
    using T = decltype(type);
    using B = Backend<T, decltype(isa)>;
    std::vector<T> a(6, T(1)), c(8, T(7));
    PackedMatrixView view{a.data(), 3, 4, -1};
    GemmArgs<T> args{};
    args.m = 2;
    args.n = 4;
    args.k = 3;
    args.batch = 1;
    args.a = a.data();
    args.lda = 3;
    args.packed_b = &view;
    args.c = c.data();
    args.ldc = 4;
    args.alpha = 1;
    CHECK_THROWS_WITH(B::gemm(kc, args), ContainsSubstring("packed_b has layout -1"));
    view.layout = B::layout;
    view.k = 2;
    CHECK_THROWS_AS(B::gemm(kc, args), ShapeError);
    CHECK_THROWS_WITH(B::gemm(kc, args), ContainsSubstring("must be (3, 4), got (2, 4)"));
    CHECK(c == std::vector<T>(8, T(7)));
  });
}

TEST_CASE("packed layouts of backends and element types differ", "[gemm]") {
  std::vector<int> layouts;
  for_each_backend([&](auto type, auto isa) { layouts.push_back(Backend<decltype(type), decltype(isa)>::layout); });
  for (std::size_t i = 0; i < layouts.size(); ++i)
    for (std::size_t j = 0; j < i; ++j) CHECK(layouts[i] != layouts[j]);
}

TEST_CASE("gemm asks the system for no memory once it has run", "[gemm]") {
  ThreadPool threads(1);
  const auto memory = MemoryPool::create();
  const KernelContext kc{&threads, memory.get()};
  std::vector<float> a(200 * 800, 1.0f), b(800 * 100, 1.0f), c(200 * 100);
  GemmArgs<float> args{};
  args.m = 200;
  args.n = 100;
  args.k = 800;
  args.batch = 1;
  args.a = a.data();
  args.lda = 800;
  args.b = b.data();
  args.ldb = 100;
  args.c = c.data();
  args.ldc = 100;
  args.alpha = 1;
  cpu::gemm<float, cpu::Portable>(kc, args);
  const std::uint64_t allocations = memory->system_allocations();
  for (int i = 0; i < 3; ++i) cpu::gemm<float, cpu::Portable>(kc, args);
  CHECK(memory->system_allocations() == allocations);
  CHECK(c[0] == 800.0f);
}
