// Attention and its gradients: every body against a double-precision oracle that keeps the whole score matrix.
// Surprising choice: the oracle also returns the sum of absolute values behind each result, so that tolerances are
// error bounds (unit roundoff x number of operations x that sum) and not numbers that happened to pass.
#include <promptiqa/cpu/attention.hpp>

#include <cmath>
#include <cstring>
#include <limits>
#include <random>
#include <string>
#include <vector>

#include <promptiqa/cpu/attention_reference.hpp>
#include "catch.hpp"

namespace {

using namespace promptiqa;
using std::int64_t;

template <class T>
struct Body {
  std::string name;
  Kernel<AttentionArgs<T>> forward;
  Kernel<AttentionBackwardArgs<T>> backward;
};

template <class T>
std::vector<Body<T>> bodies() {
  std::vector<Body<T>> all;
  all.push_back({"reference", cpu::attention_reference<T>, cpu::attention_backward_reference<T>});
  all.push_back({"portable", cpu::attention<T, cpu::Portable>, cpu::attention_backward<T, cpu::Portable>});
#if PROMPTIQA_X86_64
  if (cpu::Avx2::supported())
    all.push_back({"avx2", cpu::attention<T, cpu::Avx2>, cpu::attention_backward<T, cpu::Avx2>});
  if (cpu::Avx512::supported())
    all.push_back({"avx512", cpu::attention<T, cpu::Avx512>, cpu::attention_backward<T, cpu::Avx512>});
#endif
  return all;
}

// How q, k, v lie: separate (B, H, N, D) tensors, slices of one (B, N, 3, H, D) tensor, or rows with gaps.
enum class Layout { separate, packed_qkv, gaps };

template <class T>
struct Problem {
  Layout layout;
  int64_t batch, heads, queries, keys, dim;
  std::vector<T> q, k, v, o, log_sum_exp, d_o, dq, dk, dv;  // packed_qkv: q holds all three, dq too
  AttentionArgs<T> args;
  AttentionBackwardArgs<T> backward;

  Problem(Layout layout_, int64_t b, int64_t h, int64_t nq, int64_t nk, int64_t d, unsigned seed)
      : layout(layout_), batch(b), heads(h), queries(nq), keys(nk), dim(d) {
    const T nan = std::numeric_limits<T>::quiet_NaN();
    std::mt19937 engine(seed);
    std::normal_distribution<double> normal;
    const auto random = [&](int64_t n) {
      std::vector<T> x(static_cast<std::size_t>(n));
      for (T& e : x) e = static_cast<T>(normal(engine));
      return x;
    };
    const int64_t row = layout == Layout::gaps ? d + 3 : d;
    const int64_t c = h * d;
    const bool packed = layout == Layout::packed_qkv;
    q = random(packed ? b * nq * 3 * c : b * h * nq * row);
    if (!packed) {
      k = random(b * h * nk * row);
      v = random(b * h * nk * row);
    }
    o.assign(static_cast<std::size_t>(b * h * nq * row), nan);
    d_o = random(b * h * nq * row);
    log_sum_exp.assign(static_cast<std::size_t>(b * h * nq), nan);
    dq.assign(q.size(), nan);
    dk.assign(k.size(), nan);
    dv.assign(v.size(), nan);

    args = {};
    args.batch = b;
    args.heads = h;
    args.queries = nq;
    args.keys = nk;
    args.head_dim = d;
    args.scale = static_cast<T>(1 / std::sqrt(static_cast<double>(d)));
    args.o_batch = packed ? nq * c : h * nq * row;
    args.o_head = packed ? d : nq * row;
    args.o_row = packed ? c : row;
    if (packed) {
      args.q_batch = args.k_batch = args.v_batch = nq * 3 * c;
      args.q_head = args.k_head = args.v_head = d;
      args.q_row = args.k_row = args.v_row = 3 * c;
    } else {
      args.q_batch = h * nq * row;
      args.q_head = nq * row;
      args.k_batch = args.v_batch = h * nk * row;
      args.k_head = args.v_head = nk * row;
      args.q_row = args.k_row = args.v_row = row;
    }
    bind();
  }
  Problem(const Problem& other) { *this = other; }
  Problem& operator=(const Problem& other) {
    layout = other.layout;
    batch = other.batch, heads = other.heads, queries = other.queries, keys = other.keys, dim = other.dim;
    q = other.q, k = other.k, v = other.v, o = other.o, log_sum_exp = other.log_sum_exp, d_o = other.d_o;
    dq = other.dq, dk = other.dk, dv = other.dv, args = other.args;
    bind();
    return *this;
  }

  void bind() {
    const bool packed = layout == Layout::packed_qkv;
    const int64_t c = heads * dim;
    args.q = q.data();
    args.k = packed ? q.data() + c : k.data();
    args.v = packed ? q.data() + 2 * c : v.data();
    args.o = o.data();
    args.log_sum_exp = log_sum_exp.data();
    backward = {args, d_o.data(), dq.data(), packed ? dq.data() + c : dk.data(),
                packed ? dq.data() + 2 * c : dv.data()};
  }

  int64_t q_at(int64_t b, int64_t h, int64_t i) const { return b * args.q_batch + h * args.q_head + i * args.q_row; }
  int64_t k_at(int64_t b, int64_t h, int64_t j) const { return b * args.k_batch + h * args.k_head + j * args.k_row; }
  int64_t v_at(int64_t b, int64_t h, int64_t j) const { return b * args.v_batch + h * args.v_head + j * args.v_row; }
  int64_t o_at(int64_t b, int64_t h, int64_t i) const { return b * args.o_batch + h * args.o_head + i * args.o_row; }
};

struct Value {
  double value = 0, magnitude = 0;  // magnitude: the same sum over absolute values
  void add(double term, double size) {
    value += term;
    magnitude += size;
  }
};

// One pair's results in double, contiguous (N, D).
struct Oracle {
  std::vector<Value> o, dq, dk, dv, log_sum_exp;
  double largest_score = 0;  // of scale * sum |q_d k_d|: what rounding of scores is proportional to
};

template <class T>
Oracle oracle(const Problem<T>& p, int64_t b, int64_t h) {
  const auto at = [](int64_t i) { return static_cast<std::size_t>(i); };
  const int64_t n = p.queries, m = p.keys, dim = p.dim;
  Oracle r;
  r.o.resize(at(n * dim));
  r.dq.resize(at(n * dim));
  r.dk.resize(at(m * dim));
  r.dv.resize(at(m * dim));
  r.log_sum_exp.resize(at(n));
  std::vector<double> prob(at(n * m));
  const double scale = static_cast<double>(p.args.scale);
  for (int64_t i = 0; i < n; ++i) {
    const T* q = p.args.q + p.q_at(b, h, i);
    double largest = -std::numeric_limits<double>::infinity(), sum = 0;
    for (int64_t j = 0; j < m; ++j) {
      const T* k = p.args.k + p.k_at(b, h, j);
      double s = 0, size = 0;
      for (int64_t d = 0; d < dim; ++d) {
        s += static_cast<double>(q[d]) * static_cast<double>(k[d]);
        size += std::abs(static_cast<double>(q[d]) * static_cast<double>(k[d]));
      }
      prob[at(i * m + j)] = scale * s;
      largest = std::max(largest, scale * s);
      r.largest_score = std::max(r.largest_score, scale * size);
    }
    for (int64_t j = 0; j < m; ++j) sum += prob[at(i * m + j)] = std::exp(prob[at(i * m + j)] - largest);
    r.log_sum_exp[at(i)].add(largest + std::log(sum), std::abs(largest) + 1 + std::log(sum));
    for (int64_t j = 0; j < m; ++j) {
      const double w = prob[at(i * m + j)] /= sum;
      const T* v = p.args.v + p.v_at(b, h, j);
      for (int64_t d = 0; d < dim; ++d)
        r.o[at(i * dim + d)].add(w * static_cast<double>(v[d]), w * std::abs(static_cast<double>(v[d])));
    }
    const T* d_o = p.backward.d_o + p.o_at(b, h, i);
    Value delta;
    for (int64_t d = 0; d < dim; ++d) {
      const Value& o = r.o[at(i * dim + d)];
      delta.add(static_cast<double>(d_o[d]) * o.value, std::abs(static_cast<double>(d_o[d])) * o.magnitude);
    }
    for (int64_t j = 0; j < m; ++j) {
      const T* k = p.args.k + p.k_at(b, h, j);
      const T* v = p.args.v + p.v_at(b, h, j);
      Value dp;
      for (int64_t d = 0; d < dim; ++d) {
        const double term = static_cast<double>(d_o[d]) * static_cast<double>(v[d]);
        dp.add(term, std::abs(term));
      }
      const double w = prob[at(i * m + j)];
      const double ds = scale * w * (dp.value - delta.value), size = scale * w * (dp.magnitude + delta.magnitude);
      for (int64_t d = 0; d < dim; ++d) {
        const double qd = static_cast<double>(q[d]), kd = static_cast<double>(k[d]), od = static_cast<double>(d_o[d]);
        r.dq[at(i * dim + d)].add(ds * kd, size * std::abs(kd));
        r.dk[at(j * dim + d)].add(ds * qd, size * std::abs(qd));
        r.dv[at(j * dim + d)].add(w * od, w * std::abs(od));
      }
    }
  }
  return r;
}

// The largest |got - want| / (unit * want.magnitude), infinite when anything is not finite.
template <class T>
double worst(const T* got, const std::vector<Value>& want, std::size_t first, int64_t count) {
  double most = 0;
  for (int64_t d = 0; d < count; ++d) {
    const Value& w = want[first + static_cast<std::size_t>(d)];
    const double g = static_cast<double>(got[d]);
    if (!std::isfinite(g)) return std::numeric_limits<double>::infinity();
    const double unit = static_cast<double>(std::numeric_limits<T>::epsilon()) / 2 * (w.magnitude + 1e-30);
    most = std::max(most, std::abs(g - w.value) / unit);
  }
  return most;
}

template <class T>
void check_problem(Problem<T> p, ThreadPool& pool) {
  const auto memory = MemoryPool::create();
  const KernelContext ctx{&pool, memory.get()};
  for (const Body<T>& body : bodies<T>()) {
    INFO(body.name << ": B " << p.batch << " H " << p.heads << " Nq " << p.queries << " Nk " << p.keys << " D " << p.dim
                   << " layout " << static_cast<int>(p.layout));
    Problem<T> run = p;
    body.forward(ctx, run.args);
    body.backward(ctx, run.backward);
    // Without log_sum_exp: the same output.
    Problem<T> plain = p;
    plain.args.log_sum_exp = nullptr;
    body.forward(ctx, plain.args);
    double o = 0, lse = 0, dq = 0, dk = 0, dv = 0, bound = 0;
    bool same = true;
    for (int64_t b = 0; b < p.batch; ++b)
      for (int64_t h = 0; h < p.heads; ++h) {
        const Oracle want = oracle(p, b, h);
        // A relative error of exp(s): s has D + 2 roundings of its magnitude, then exp (2) and the subtraction.
        bound = std::max(bound, 4 * static_cast<double>(p.dim + 4) * (want.largest_score + 1));
        for (int64_t i = 0; i < p.queries; ++i) {
          const auto row = static_cast<std::size_t>(i * p.dim);
          o = std::max(o, worst(run.o.data() + p.o_at(b, h, i), want.o, row, p.dim));
          dq = std::max(dq, worst(run.dq.data() + p.q_at(b, h, i), want.dq, row, p.dim));
          lse = std::max(lse, worst(&run.log_sum_exp[static_cast<std::size_t>((b * p.heads + h) * p.queries + i)],
                                    want.log_sum_exp, static_cast<std::size_t>(i), 1));
          same = same && std::memcmp(run.o.data() + p.o_at(b, h, i), plain.o.data() + p.o_at(b, h, i),
                                     static_cast<std::size_t>(p.dim) * sizeof(T)) == 0;
        }
        for (int64_t j = 0; j < p.keys; ++j) {
          const auto row = static_cast<std::size_t>(j * p.dim);
          dk = std::max(dk, worst(run.backward.dk + p.k_at(b, h, j), want.dk, row, p.dim));
          dv = std::max(dv, worst(run.backward.dv + p.v_at(b, h, j), want.dv, row, p.dim));
        }
      }
    const double n = static_cast<double>(p.queries + p.keys + p.dim) + 16;
    CHECK(o <= bound + n);
    CHECK(lse <= bound + n);
    CHECK(dq <= 2 * bound + 2 * n);
    CHECK(dk <= 2 * bound + 2 * n);
    CHECK(dv <= 2 * bound + 2 * n);
    CHECK(same);
    if (p.layout == Layout::gaps) {
      // Nothing is written between rows: what was NaN there still is.
      bool untouched = true;
      for (std::size_t i = 0; i < run.o.size(); ++i)
        if (static_cast<int64_t>(i) % (p.dim + 3) >= p.dim)
          untouched = untouched && std::isnan(run.o[i]) && std::isnan(run.dq[i]);
      for (std::size_t i = 0; i < run.dk.size(); ++i)
        if (static_cast<int64_t>(i) % (p.dim + 3) >= p.dim)
          untouched = untouched && std::isnan(run.dk[i]) && std::isnan(run.dv[i]);
      CHECK(untouched);
    }
  }
}

template <class T>
void check_all_shapes() {
  ThreadPool pool(2);
  unsigned seed = 1;
  for (const int64_t dim : {1, 2, 7, 16, 31, 32, 33, 64, 65, 128, 200})
    check_problem(Problem<T>(Layout::separate, 1, 2, 5, 9, dim, seed++), pool);
  for (const int64_t queries : {1, 2, 3, 6, 7, 48, 49, 97})
    for (const int64_t keys : {1, 2, 8, 17, 64, 65, 100})
      check_problem(Problem<T>(Layout::gaps, 1, 1, queries, keys, 9, seed++), pool);
  for (const int64_t n : {1, 2, 12, 49, 101})
    check_problem(Problem<T>(Layout::packed_qkv, 2, 4, n, n, 32, seed++), pool);
  check_problem(Problem<T>(Layout::separate, 1, 1, 64, 256, 300, seed++), pool);  // wide heads, padded row pitch
  check_problem(Problem<T>(Layout::separate, 40, 4, 3, 3, 8, seed++), pool);      // many small pairs in a task
  check_problem(Problem<T>(Layout::separate, 1, 1, 200, 150, 64, seed++), pool);  // threads share one pair
}

TEST_CASE("attention and its gradients match the oracle in float") { check_all_shapes<float>(); }
TEST_CASE("attention and its gradients match the oracle in double") { check_all_shapes<double>(); }

TEST_CASE("attention in float is within a few ulp of softmax in double") {
  ThreadPool pool(2);
  const auto memory = MemoryPool::create();
  const KernelContext ctx{&pool, memory.get()};
  const Problem<float> p(Layout::packed_qkv, 1, 2, 197, 197, 64, 77);
  for (const Body<float>& body : bodies<float>()) {
    INFO(body.name);
    Problem<float> run = p;
    body.forward(ctx, run.args);
    double most = 0;
    bool finite = true;
    for (int64_t h = 0; h < 2; ++h) {
      const Oracle want = oracle(p, 0, h);
      for (int64_t i = 0; i < 197; ++i)
        for (int64_t d = 0; d < 64; ++d) {
          const double got = static_cast<double>(run.o[static_cast<std::size_t>(p.o_at(0, h, i) + d)]);
          finite = finite && std::isfinite(got);
          most = std::max(most, std::abs(got - want.o[static_cast<std::size_t>(i * 64 + d)].value));
        }
    }
    CHECK(finite);
    // The largest scores lie in [4, 8), where an ulp is 4 epsilon, and the weights inherit their error: two ulp of a
    // score for its chain of 64 additions, and values of a unit or two.
    CHECK(most <= 16 * static_cast<double>(std::numeric_limits<float>::epsilon()));
  }
}

TEST_CASE("the reference's gradients match finite differences") {
  ThreadPool pool(1);
  const auto memory = MemoryPool::create();
  const KernelContext ctx{&pool, memory.get()};
  Problem<double> p(Layout::separate, 2, 2, 3, 4, 5, 5);
  cpu::attention_reference(ctx, p.args);
  cpu::attention_backward_reference(ctx, p.backward);
  const auto loss = [&] {
    Problem<double> run = p;
    cpu::attention_reference(ctx, run.args);
    double sum = 0;
    for (std::size_t i = 0; i < run.o.size(); ++i) sum += run.o[i] * p.d_o[i];
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
  CHECK(check(p.q, p.dq) <= 1);
  CHECK(check(p.k, p.dk) <= 1);
  CHECK(check(p.v, p.dv) <= 1);
}

TEST_CASE("attention gives the same bits for any number of threads") {
  ThreadPool one(1), two(2), three(3);
  const auto memory = MemoryPool::create();
  const auto same = [&](const Problem<float>& p) {
    for (const Body<float>& body : bodies<float>()) {
      Problem<float> first = p;
      KernelContext ctx{&one, memory.get()};
      body.forward(ctx, first.args);
      body.backward(ctx, first.backward);
      for (ThreadPool* pool : {&two, &three}) {
        Problem<float> other = p;
        ctx.execution = pool;
        body.forward(ctx, other.args);
        body.backward(ctx, other.backward);
        const auto equal = [](const std::vector<float>& a, const std::vector<float>& b) {
          return a.empty() || std::memcmp(a.data(), b.data(), a.size() * sizeof(float)) == 0;
        };
        INFO(body.name << " with " << pool->size() << " threads");
        CHECK((equal(first.o, other.o) && equal(first.log_sum_exp, other.log_sum_exp)));
        CHECK((equal(first.dq, other.dq) && equal(first.dk, other.dk) && equal(first.dv, other.dv)));
      }
    }
  };
  same(Problem<float>(Layout::separate, 1, 1, 200, 150, 64, 1));  // shared by the threads when there are several
  same(Problem<float>(Layout::packed_qkv, 3, 5, 50, 50, 32, 2));
  same(Problem<float>(Layout::packed_qkv, 60, 4, 4, 4, 32, 3));
}

TEST_CASE("attention survives huge scores and minus infinity") {
  ThreadPool pool(2);
  const auto memory = MemoryPool::create();
  const KernelContext ctx{&pool, memory.get()};
  for (const double size : {1e2, 1e4, 1e15}) {
    Problem<float> p(Layout::separate, 1, 1, 20, 30, 8, 9);
    for (float& x : p.q) x = std::abs(x) * static_cast<float>(size) + 1;
    for (float& x : p.k) x = std::round(x);
    // Keys 0 and 29 are masked by minus infinity (queries are positive).
    for (std::size_t d = 0; d < 8; ++d) p.k[d] = p.k[29 * 8 + d] = -std::numeric_limits<float>::infinity();
    Problem<float> want = p;
    cpu::attention_reference(ctx, want.args);
    bool reference_finite = true;
    for (const float o : want.o) reference_finite = reference_finite && std::isfinite(o);
    REQUIRE(reference_finite);
    for (const Body<float>& body : bodies<float>()) {
      INFO(body.name << " at " << size);
      Problem<float> run = p;
      body.forward(ctx, run.args);
      bool finite = true, masked = true;
      for (const float o : run.o) finite = finite && std::isfinite(o);
      for (const float l : run.log_sum_exp) finite = finite && std::isfinite(l);
      // Masked keys have no weight at all: other values there change nothing.
      Problem<float> changed = p;
      for (std::size_t d = 0; d < 8; ++d) changed.v[d] = changed.v[29 * 8 + d] = 1e30f;
      body.forward(ctx, changed.args);
      masked = std::memcmp(run.o.data(), changed.o.data(), run.o.size() * sizeof(float)) == 0;
      CHECK(finite);
      CHECK(masked);
    }
  }
}

}  // namespace
