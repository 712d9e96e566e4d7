// Convolution and its gradients: every body against a double-precision oracle, over awkward geometries.
// Surprising choice: the oracle's three results come from one loop over products, each with the sum of absolute
// values behind it, so tolerances are error bounds: unit roundoff x number of additions x that sum.
#include <promptiqa/cpu/conv2d.hpp>

#include <cmath>
#include <cstring>
#include <limits>
#include <random>
#include <string>
#include <vector>

#include <promptiqa/cpu/conv2d_reference.hpp>
#include "catch.hpp"

namespace {

using namespace promptiqa;
using std::int64_t;

template <class T>
struct Body {
  std::string name;
  Kernel<Conv2dArgs<T>> forward;
  Kernel<Conv2dBackwardDataArgs<T>> data;
  Kernel<Conv2dBackwardWeightArgs<T>> weight;
  std::size_t (*packed_bytes)(int64_t, int64_t, int64_t, int64_t);
  Kernel<PackConv2dArgs<T>> pack;
  bool bf16 = false;  // operands of the forward pass are rounded
};

template <class T, class Isa>
Body<T> fast() {
  return {Isa::name,
          cpu::conv2d<T, Isa>,
          cpu::conv2d_backward_data<T, Isa>,
          cpu::conv2d_backward_weight<T, Isa>,
          cpu::packed_conv2d_bytes<T, Isa>,
          cpu::pack_conv2d<T, Isa>};
}

template <class T>
std::vector<Body<T>> bodies() {
  std::vector<Body<T>> all;
  all.push_back({"reference", cpu::conv2d_reference<T>, cpu::conv2d_backward_data_reference<T>,
                 cpu::conv2d_backward_weight_reference<T>, cpu::packed_conv2d_bytes_reference<T>,
                 cpu::pack_conv2d_reference<T>});
  all.push_back(fast<T, cpu::Portable>());
#if PROMPTIQA_X86_64
  if (cpu::Avx2::supported()) all.push_back(fast<T, cpu::Avx2>());
  if (cpu::Avx512::supported()) all.push_back(fast<T, cpu::Avx512>());
#endif
  return all;
}

// Those that infer, which bf16 does too; its gradients are avx512's.
std::vector<Body<float>> inference_bodies() {
  std::vector<Body<float>> all = bodies<float>();
#if PROMPTIQA_X86_64
  if (cpu::Avx512Bf16::supported()) {
    Body<float> bf16 = fast<float, cpu::Avx512>();
    bf16.name = "avx512_bf16";
    bf16.forward = cpu::conv2d<float, cpu::Avx512Bf16>;
    bf16.packed_bytes = cpu::packed_conv2d_bytes<float, cpu::Avx512Bf16>;
    bf16.pack = cpu::pack_conv2d<float, cpu::Avx512Bf16>;
    bf16.bf16 = true;
    all.push_back(bf16);
  }
#endif
  return all;
}

Conv2dGeometry geometry(int64_t batch, int64_t in, int64_t h, int64_t w, int64_t out, int64_t kh, int64_t kw,
                        int64_t sh, int64_t sw, int64_t ph, int64_t pw) {
  return {batch, in, h, w, out, (h + 2 * ph - kh) / sh + 1, (w + 2 * pw - kw) / sw + 1, kh, kw, sh, sw, ph, pw};
}

std::vector<Conv2dGeometry> geometries() {
  return {
      geometry(1, 1, 1, 1, 1, 1, 1, 1, 1, 0, 0),       // the smallest there is
      geometry(2, 3, 17, 19, 5, 3, 3, 2, 2, 1, 1),     // stem: stride 2, padded
      geometry(3, 5, 9, 11, 7, 3, 3, 1, 1, 1, 1),      // rows narrower than a vector
      geometry(2, 4, 14, 70, 24, 3, 3, 1, 1, 1, 1),    // rows of several vectors and a tail
      geometry(2, 6, 12, 12, 13, 5, 5, 1, 1, 0, 0),    // no padding
      geometry(2, 3, 24, 24, 9, 8, 8, 8, 8, 0, 0),     // patches
      geometry(2, 3, 26, 27, 9, 8, 8, 8, 8, 0, 0),     // patches, pixels left over at the edge
      geometry(3, 7, 5, 13, 10, 1, 1, 1, 1, 0, 0),     // pointwise
      geometry(2, 7, 9, 9, 3, 1, 1, 2, 2, 0, 0),       // 1 x 1 with stride: the pointwise path must not be taken
      geometry(1, 2, 4, 4, 3, 1, 1, 1, 1, 1, 1),       // 1 x 1 with padding
      geometry(2, 2, 3, 2, 4, 5, 5, 1, 1, 2, 2),       // kernel larger than the image
      geometry(1, 2, 2, 2, 3, 3, 3, 1, 1, 3, 3),       // pixels that see padding only
      geometry(2, 3, 10, 21, 6, 2, 5, 1, 3, 0, 2),     // nothing square
      geometry(1, 3, 21, 10, 6, 5, 2, 3, 1, 2, 1),
      geometry(1, 2, 30, 1, 4, 3, 1, 1, 1, 1, 0),      // one pixel wide
      geometry(1, 2, 1, 300, 4, 1, 3, 1, 2, 0, 1),     // one pixel high
      geometry(20, 2, 4, 5, 3, 3, 3, 1, 1, 1, 1),      // more images than groups of partial sums
      geometry(2, 70, 7, 7, 12, 3, 3, 1, 1, 1, 1),     // several depth blocks
      geometry(1, 3, 40, 50, 8, 3, 3, 1, 1, 1, 1),     // several pixel blocks
      geometry(1, 40, 33, 30, 12, 3, 3, 1, 1, 1, 1),   // several blocks of channels and of rows, the last one lower
      geometry(3, 3, 16, 60, 21, 2, 3, 1, 1, 0, 1),    // wide rows, nothing square
      geometry(2, 9, 6, 64, 17, 3, 3, 1, 1, 2, 2),     // padding as wide as it can be for a padded backward pass
      geometry(1, 96, 60, 60, 8, 3, 3, 2, 2, 1, 1),    // stride 2 with several depth blocks and pixel blocks
      geometry(1, 2, 9, 33, 3, 3, 3, 2, 2, 1, 1),      // stride 2, a last vector that ends at the image's edge
      geometry(1, 2, 9, 32, 3, 3, 3, 2, 2, 0, 0),
      geometry(1, 2, 34, 34, 3, 2, 2, 2, 2, 0, 0),     // stride 2 without padding: runs that begin the image
  };
}

template <class T>
struct Problem {
  Conv2dGeometry g;
  std::vector<T> x, weight, bias, y, dy, dx, dweight, dbias;

  Problem(const Conv2dGeometry& geometry_, unsigned seed) : g(geometry_) {
    std::mt19937 engine(seed);
    std::uniform_real_distribution<double> uniform(-1, 1);
    const auto random = [&](int64_t n) {
      std::vector<T> v(static_cast<std::size_t>(n));
      for (T& e : v) e = static_cast<T>(uniform(engine));
      return v;
    };
    x = random(g.batch * g.in_channels * g.in_h * g.in_w);
    weight = random(g.out_channels * g.in_channels * g.kernel_h * g.kernel_w);
    bias = random(g.out_channels);
    dy = random(g.batch * g.out_channels * g.out_h * g.out_w);
    const T nan = std::numeric_limits<T>::quiet_NaN();
    y.assign(dy.size(), nan);
    dx.assign(x.size(), nan);
    dweight.assign(weight.size(), nan);
    dbias.assign(bias.size(), nan);
  }

  void run(const Body<T>& body, const KernelContext& ctx, bool with_bias) {
    body.forward(ctx, {g, x.data(), weight.data(), with_bias ? bias.data() : nullptr, y.data()});
    body.data(ctx, {g, dy.data(), weight.data(), dx.data()});
    body.weight(ctx, {g, dy.data(), x.data(), dweight.data(), with_bias ? dbias.data() : nullptr});
  }
};

struct Value {
  double value = 0, magnitude = 0;
  int64_t terms = 1;
  void add(double term) {
    value += term;
    magnitude += std::abs(term);
    ++terms;
  }
};

struct Oracle {
  std::vector<Value> y, dx, dweight, dbias;
};

template <class T>
Oracle oracle(const Problem<T>& p, bool with_bias) {
  const Conv2dGeometry& g = p.g;
  Oracle r;
  r.y.resize(p.y.size());
  r.dx.resize(p.x.size());
  r.dweight.resize(p.weight.size());
  r.dbias.resize(p.bias.size());
  std::size_t yi = 0;
  for (int64_t b = 0; b < g.batch; ++b)
    for (int64_t o = 0; o < g.out_channels; ++o)
      for (int64_t oy = 0; oy < g.out_h; ++oy)
        for (int64_t ox = 0; ox < g.out_w; ++ox, ++yi) {
          const double d = static_cast<double>(p.dy[yi]);
          if (with_bias) r.y[yi].add(static_cast<double>(p.bias[static_cast<std::size_t>(o)]));
          r.dbias[static_cast<std::size_t>(o)].add(d);
          auto wi = static_cast<std::size_t>(o * g.in_channels * g.kernel_h * g.kernel_w);
          for (int64_t c = 0; c < g.in_channels; ++c)
            for (int64_t ky = 0; ky < g.kernel_h; ++ky)
              for (int64_t kx = 0; kx < g.kernel_w; ++kx, ++wi) {
                const int64_t iy = oy * g.stride_h - g.pad_h + ky, ix = ox * g.stride_w - g.pad_w + kx;
                if (iy < 0 || iy >= g.in_h || ix < 0 || ix >= g.in_w) continue;
                const auto xi = static_cast<std::size_t>(((b * g.in_channels + c) * g.in_h + iy) * g.in_w + ix);
                const double w = static_cast<double>(p.weight[wi]), x = static_cast<double>(p.x[xi]);
                r.y[yi].add(w * x);
                r.dx[xi].add(w * d);
                r.dweight[wi].add(x * d);
              }
        }
  return r;
}

// The largest |got - want| as a multiple of its bound, (terms + 2) * unit roundoff * magnitude; anything that is not
// finite is infinitely wrong. The last term forgives nothing but a division by zero: no product there, exactly 0.
template <class T>
double worst(const std::vector<T>& got, const std::vector<Value>& want) {
  double most = 0;
  for (std::size_t i = 0; i < got.size(); ++i) {
    const double g = static_cast<double>(got[i]);
    if (!std::isfinite(g)) return std::numeric_limits<double>::infinity();
    const double unit = static_cast<double>(std::numeric_limits<T>::epsilon()) / 2;
    const double bound = static_cast<double>(want[i].terms + 2) * unit * want[i].magnitude + 1e-300;
    most = std::max(most, std::abs(g - want[i].value) / bound);
  }
  return most;
}

template <class T>
void check_all() {
  ThreadPool pool(2);
  const auto memory = MemoryPool::create();
  const KernelContext ctx{&pool, memory.get()};
  unsigned seed = 1;
  for (const Conv2dGeometry& g : geometries())
    for (const bool with_bias : {true, false}) {
      const Problem<T> p(g, ++seed);
      const Oracle want = oracle(p, with_bias);
      for (const Body<T>& body : bodies<T>()) {
        INFO(body.name << ": x (" << g.batch << ", " << g.in_channels << ", " << g.in_h << ", " << g.in_w
                       << "), kernel " << g.kernel_h << " x " << g.kernel_w << ", " << g.out_channels
                       << " channels, stride " << g.stride_h << " " << g.stride_w
                       << ", padding " << g.pad_h << " " << g.pad_w);
        Problem<T> run = p;
        run.run(body, ctx, with_bias);
        CHECK(worst(run.y, want.y) <= 1);
        CHECK(worst(run.dx, want.dx) <= 1);
        CHECK(worst(run.dweight, want.dweight) <= 1);
        if (with_bias) {
          CHECK(worst(run.dbias, want.dbias) <= 1);
        } else {
          CHECK(std::isnan(run.dbias[0]));  // not asked for, not touched
        }
      }
    }
}

TEST_CASE("conv2d and its gradients match the oracle in float") { check_all<float>(); }
TEST_CASE("conv2d and its gradients match the oracle in double") { check_all<double>(); }

// x as a bfloat16, to nearest and ties to even: what a bf16 product sees of it.
float rounded(float x) {
  const double step = std::ldexp(1.0, std::ilogb(x) - 7);  // between neighbours, and never small here
  return x == 0 ? x : static_cast<float>(std::nearbyint(static_cast<double>(x) / step) * step);
}

TEST_CASE("a packed convolution folds a scale in, adds a residual and cuts below zero") {
  ThreadPool pool(2);
  const auto memory = MemoryPool::create();
  const KernelContext ctx{&pool, memory.get()};
  unsigned seed = 100;
  for (const Conv2dGeometry& g : geometries())
    for (const Body<float>& body : inference_bodies()) {
      Problem<float> p(g, ++seed);
      const std::vector<float> residual = p.dy;
      std::vector<float> scale(p.bias.size());
      for (std::size_t o = 0; o < scale.size(); ++o) scale[o] = 0.5f + 0.25f * static_cast<float>(o % 5);
      // Guarded at both ends: what is written outside is seen.
      const std::size_t bytes = body.packed_bytes(g.out_channels, g.in_channels, g.kernel_h, g.kernel_w);
      const StorageRef packed = memory->allocate(bytes + 64);
      std::memset(packed->data, 0x5A, bytes + 64);
      body.pack(ctx,
                {g.out_channels, g.in_channels, g.kernel_h, g.kernel_w, p.weight.data(), scale.data(), packed->data});
      for (std::size_t i = 0; i < 64; ++i) REQUIRE(static_cast<unsigned char*>(packed->data)[bytes + i] == 0x5A);

      Problem<float> seen = p;  // the operands as the product sees them
      for (std::size_t i = 0; i < seen.weight.size(); ++i)
        seen.weight[i] *= scale[i / (seen.weight.size() / scale.size())];
      if (body.bf16) {
        for (float& w : seen.weight) w = rounded(w);
        for (float& x : seen.x) x = rounded(x);
      }
      std::vector<Value> want = oracle(seen, true).y;
      for (std::size_t i = 0; i < want.size(); ++i) want[i].add(static_cast<double>(residual[i]));
      for (const bool relu : {false, true}) {
        if (relu)
          for (Value& v : want) v.value = std::max(0.0, v.value);
        Conv2dArgs<float> args{g, p.x.data(), nullptr, p.bias.data(), p.y.data()};
        args.packed_weight = packed->data;
        args.residual = residual.data();
        args.activation = relu ? Activation::relu : Activation::none;
        body.forward(ctx, args);
        INFO(body.name << ": x (" << g.batch << ", " << g.in_channels << ", " << g.in_h << ", " << g.in_w
                       << "), kernel " << g.kernel_h << " x " << g.kernel_w << ", " << g.out_channels
                       << " channels, stride " << g.stride_h << " " << g.stride_w << (relu ? ", relu" : ""));
        CHECK(worst(p.y, want) <= 1);
        if (relu) {  // a NaN is not cut away
          Problem<float> with_nan = p;
          const std::vector<float> nan(residual.size(), std::numeric_limits<float>::quiet_NaN());
          args.residual = nan.data();
          args.y = with_nan.y.data();
          body.forward(ctx, args);
          CHECK(std::isnan(with_nan.y.front()));
          CHECK(std::isnan(with_nan.y.back()));
        }
      }
      // Without a packed weight, and with one thread: the same bits as packed without a scale.
      Problem<float> plain = p, other = p;
      ThreadPool one(1);
      body.pack(ctx, {g.out_channels, g.in_channels, g.kernel_h, g.kernel_w, p.weight.data(), nullptr, packed->data});
      Conv2dArgs<float> args{g, p.x.data(), nullptr, nullptr, plain.y.data()};
      args.packed_weight = packed->data;
      body.forward(ctx, args);
      body.forward({&one, memory.get()}, {g, p.x.data(), p.weight.data(), nullptr, other.y.data()});
      CHECK(std::memcmp(plain.y.data(), other.y.data(), plain.y.size() * sizeof(float)) == 0);
    }
}

TEST_CASE("conv2d's reference gradients match finite differences") {
  ThreadPool pool(1);
  const auto memory = MemoryPool::create();
  const KernelContext ctx{&pool, memory.get()};
  const Body<double> reference = bodies<double>().front();
  Problem<double> p(geometry(2, 2, 5, 6, 3, 3, 2, 2, 1, 1, 1), 3);
  p.run(reference, ctx, true);
  const auto loss = [&] {
    Problem<double> run = p;
    reference.forward(ctx, {p.g, p.x.data(), p.weight.data(), p.bias.data(), run.y.data()});
    double sum = 0;
    for (std::size_t i = 0; i < run.y.size(); ++i) sum += run.y[i] * p.dy[i];
    return sum;
  };
  const auto check = [&](std::vector<double>& x, const std::vector<double>& dx) {
    double most = 0;
    for (std::size_t i = 0; i < x.size(); ++i) {
      const double before = x[i], step = 1e-6;
      x[i] = before + step;
      const double up = loss();
      x[i] = before - step;
      const double down = loss();
      x[i] = before;
      const double want = (up - down) / (2 * step), error = std::abs(dx[i] - want) / (1e-5 + 1e-3 * std::abs(want));
      most = std::isfinite(error) ? std::max(most, error) : std::numeric_limits<double>::infinity();
    }
    return most;
  };
  CHECK(check(p.x, p.dx) <= 1);
  CHECK(check(p.weight, p.dweight) <= 1);
  CHECK(check(p.bias, p.dbias) <= 1);
}

TEST_CASE("conv2d gives the same bits for any number of threads") {
  ThreadPool one(1), two(2), three(3);
  const auto memory = MemoryPool::create();
  for (const Conv2dGeometry& g : geometries()) {
    const Problem<float> p(g, 11);
    for (const Body<float>& body : bodies<float>()) {
      Problem<float> first = p;
      first.run(body, {&one, memory.get()}, true);
      for (ThreadPool* pool : {&two, &three}) {
        Problem<float> other = p;
        other.run(body, {pool, memory.get()}, true);
        const auto equal = [](const std::vector<float>& a, const std::vector<float>& b) {
          return std::memcmp(a.data(), b.data(), a.size() * sizeof(float)) == 0;
        };
        INFO(body.name << " with " << pool->size() << " threads, " << g.in_channels << " channels of " << g.in_h
                       << " x " << g.in_w);
        CHECK((equal(first.y, other.y) && equal(first.dx, other.dx)));
        CHECK((equal(first.dweight, other.dweight) && equal(first.dbias, other.dbias)));
      }
    }
  }
}

}  // namespace
