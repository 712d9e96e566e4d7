// Attention and its gradients on a device: every kind of arithmetic, head dimension, length and layout.
// Surprising choice: the reference (the CPU's table, in double, on the same inputs) comes with the sum of absolute
// values behind each number, so tolerances are error bounds: roundings of operands and sums times that sum.
#include "products.hpp"

using namespace promptiqa_test;

namespace {

using std::int64_t;

struct Case {
  int64_t batch, heads, queries, keys, head_dim;
  bool interleaved = false;  // q, k and v as the three parts of one row
  int64_t shift = 0;         // elements behind an aligned address
  double scale = 0;          // 0: 1 / sqrt(head_dim)
  int64_t gap = 0;           // q, k, v and o with strides of their own: unused elements, a multiple of this
  int misaligned = -1;       // number of the tensor, 0 to 3 for q, k, v, o, of which one stride has one more
  enum Stride { row, head, batch_entry } stride = row;
  int unaligned = -1;  // number of the tensor, 0 to 7 for q, k, v, o, d_o, dq, dk, dv, that is an element behind
};

/// Where the elements of q, k, v or o lie: distances of batch entries, heads and rows, and elements in all.
struct Layout {
  int64_t batch, head, row, count;
};

/// Tensor number 0, 1, 2, 3 is q, k, v, o. With gaps no two strides are equal: heads lie within rows in q and v, rows
/// within heads in k and o.
Layout layout_of(const Case& c, int number, int64_t length) {
  const int64_t width = c.heads * c.head_dim;
  if (c.interleaved && number < 3) return {3 * length * width, c.head_dim, 3 * width, 3 * c.batch * length * width};
  if (c.gap == 0) return {length * width, c.head_dim, width, c.batch * length * width};
  const int64_t gap = c.gap * (number + 1), inner = c.head_dim + gap;  // of heads or of rows
  const auto more = [&](Case::Stride stride) { return number == c.misaligned && stride == c.stride ? 1 : 0; };
  const auto whole = [&](int64_t n) { return (n + c.gap - 1) / c.gap * c.gap; };  // only one stride is misaligned
  if (number % 2 == 0) {
    const int64_t head = inner + more(Case::head), row = whole(c.heads * head) + gap + more(Case::row);
    const int64_t batch = whole(length * row) + gap + more(Case::batch_entry);
    return {batch, head, row, c.batch * batch};
  }
  const int64_t row = inner + more(Case::row), head = whole(length * row) + gap + more(Case::head);
  const int64_t batch = whole(c.heads * head) + gap + more(Case::batch_entry);
  return {batch, head, row, c.batch * batch};
}

/// f(index in (B, N, H, D), index in the layout).
template <class F>
void for_each_element(const Case& c, const Layout& l, int64_t length, F&& f) {
  std::size_t dense = 0;
  for (int64_t b = 0; b < c.batch; ++b)
    for (int64_t n = 0; n < length; ++n)
      for (int64_t h = 0; h < c.heads; ++h)
        for (int64_t d = 0; d < c.head_dim; ++d)
          f(dense++, static_cast<std::size_t>(b * l.batch + h * l.head + n * l.row + d));
}

/// (B, N, H, D) as the layout has it, NaN in between.
Numbers spread(const Case& c, const Layout& l, int64_t length, const Numbers& dense) {
  Numbers all(static_cast<std::size_t>(l.count), std::numeric_limits<double>::quiet_NaN());
  for_each_element(c, l, length, [&](std::size_t from, std::size_t to) { all[to] = dense[from]; });
  return all;
}

/// The reverse, of what was NaN before: nothing in between may have been written.
Numbers gathered(const Case& c, const Layout& l, int64_t length, const Numbers& all) {
  Numbers dense(static_cast<std::size_t>(c.batch * length * c.heads * c.head_dim));
  std::size_t written = 0;
  for (double v : all) written += !std::isnan(v);
  for_each_element(c, l, length, [&](std::size_t to, std::size_t from) {
    dense[to] = all[from];
    written -= !std::isnan(all[from]);
  });
  CHECK(written == 0);
  return dense;
}

std::string name_of(const Case& c, const Path& path) {
  std::string text = path.name;
  for (int64_t n : {c.batch, c.heads, c.queries, c.keys, c.head_dim}) text += " " + std::to_string(n);
  if (c.gap)
    text += " gaps of " + std::to_string(c.gap) + ", misaligned: " + std::to_string(c.misaligned) + " in stride " +
            std::to_string(c.stride);
  if (c.unaligned >= 0) text += " unaligned tensor " + std::to_string(c.unaligned);
  return text + (c.interleaved ? " interleaved" : "") + (c.shift ? " unaligned" : "");
}

struct Values {
  Numbers q, k, v, d_o;    // inputs
  Numbers o, log_sum_exp;  // of forward
  Numbers dq, dk, dv;
};

/// Runs forward and backward with a table, on inputs that `In` holds. When `given` is not null, backward starts from
/// its o and log_sum_exp.
template <class T, class In>
Values run(const Case& c, const KernelTable<T>& table, const KernelContext& context, const Values* given) {
  using A = accumulate_t<T>;
  const int64_t width = c.heads * c.head_dim;
  const int64_t q_count = c.batch * c.queries * width, k_count = c.batch * c.keys * width;
  Values r;
  Numbers qkv;
  if (c.interleaved) {
    qkv = numbers<In>(3 * q_count, 1);
  } else {
    r.q = numbers<In>(q_count, 1);
    r.k = numbers<In>(k_count, 2);
    r.v = numbers<In>(k_count, 3);
  }
  r.d_o = numbers<In>(q_count, 4);
  const Layout q_at = layout_of(c, 0, c.queries), k_at = layout_of(c, 1, c.keys), v_at = layout_of(c, 2, c.keys),
               o_at = layout_of(c, 3, c.queries);
  const auto placed = [&](const Layout& at, int64_t length, const Numbers& dense) {
    return dense.empty() ? dense : spread(c, at, length, dense);
  };
  const auto shift = [&](int number) { return c.shift + (number == c.unaligned ? 1 : 0); };
  const Buffer<T> all(qkv, c.shift), q(placed(q_at, c.queries, r.q), shift(0)), k(placed(k_at, c.keys, r.k), shift(1)),
      v(placed(v_at, c.keys, r.v), shift(2)), d_o(placed(o_at, c.queries, r.d_o), shift(4));
  const Buffer<T> o(o_at.count, shift(3));
  const Buffer<A> lse(c.batch * c.heads * c.queries);
  AttentionArgs<T> f{};
  f.batch = c.batch, f.heads = c.heads, f.queries = c.queries, f.keys = c.keys, f.head_dim = c.head_dim;
  f.scale = static_cast<A>(c.scale != 0 ? c.scale : static_cast<float>(1 / std::sqrt(static_cast<double>(c.head_dim))));
  f.q_batch = q_at.batch, f.q_head = q_at.head, f.q_row = q_at.row;
  f.k_batch = k_at.batch, f.k_head = k_at.head, f.k_row = k_at.row;
  f.v_batch = v_at.batch, f.v_head = v_at.head, f.v_row = v_at.row;
  f.o_batch = o_at.batch, f.o_head = o_at.head, f.o_row = o_at.row;
  f.q = c.interleaved ? all.data() : q.data();
  f.k = c.interleaved ? f.q + width : k.data();
  f.v = c.interleaved ? f.q + 2 * width : v.data();
  f.o = o.data();
  table.attention(context, f);  // inference: without log_sum_exp
  const Numbers inferred = gathered(c, o_at, c.queries, o.values());
  f.log_sum_exp = lse.data();
  table.attention(context, f);
  r.o = gathered(c, o_at, c.queries, o.values());
  CHECK((r.o == inferred));
  r.log_sum_exp = lse.values();

  const Buffer<T> given_o(placed(o_at, c.queries, given ? given->o : r.o), shift(3));
  const Buffer<A> given_lse(given ? given->log_sum_exp : r.log_sum_exp);
  const Buffer<T> d_all(c.interleaved ? 3 * q_count : 0, c.shift), dq(q_at.count, shift(5)), dk(k_at.count, shift(6)),
      dv(v_at.count, shift(7));
  AttentionBackwardArgs<T> b{};
  b.forward = f;
  b.forward.o = given_o.data();
  b.forward.log_sum_exp = given_lse.data();
  b.d_o = d_o.data();
  b.dq = c.interleaved ? d_all.data() : dq.data();
  b.dk = c.interleaved ? b.dq + width : dk.data();
  b.dv = c.interleaved ? b.dq + 2 * width : dv.data();
  table.attention_backward(context, b);
  if (c.interleaved) {
    const Numbers gradients = d_all.values();
    for (std::size_t i = 0; i < gradients.size(); ++i) {
      const auto part = static_cast<int64_t>(i) / width % 3;
      (part == 0 ? r.dq : part == 1 ? r.dk : r.dv).push_back(gradients[i]);
      (part == 0 ? r.q : part == 1 ? r.k : r.v).push_back(qkv[i]);
    }
  } else {
    r.dq = gathered(c, q_at, c.queries, dq.values());
    r.dk = gathered(c, k_at, c.keys, dk.values());
    r.dv = gathered(c, v_at, c.keys, dv.values());
  }
  return r;
}

/// Error bounds of every output in units of roundoff: `terms` additions and `operand` for a rounded factor.
struct Bounds {
  Numbers o, log_sum_exp, dq, dk, dv;
};
Bounds bounds_of(const Case& c, const Values& x, double sum_roundoff, double operand) {
  const int64_t width = c.heads * c.head_dim;
  const double scale = c.scale != 0 ? c.scale : 1 / std::sqrt(static_cast<double>(c.head_dim)), size = std::abs(scale);
  Bounds b;
  b.o.assign(x.o.size(), 0), b.dq.assign(x.dq.size(), 0), b.dk.assign(x.dk.size(), 0), b.dv.assign(x.dv.size(), 0);
  b.log_sum_exp.assign(x.log_sum_exp.size(), 0);
  const double unit = operand + sum_roundoff * static_cast<double>(c.head_dim + c.queries + c.keys + 32);
  const auto at = [](const Numbers& v, int64_t i) { return v[static_cast<std::size_t>(i)]; };
  const auto add = [](Numbers& v, int64_t i, double d) { v[static_cast<std::size_t>(i)] += d; };
  for (int64_t e = 0; e < c.batch; ++e)
    for (int64_t h = 0; h < c.heads; ++h)
      for (int64_t i = 0; i < c.queries; ++i) {
        const int64_t q = (e * c.queries + i) * width + h * c.head_dim, row = (e * c.heads + h) * c.queries + i;
        double delta = 0;  // of absolute values
        for (int64_t d = 0; d < c.head_dim; ++d) delta += std::abs(at(x.d_o, q + d) * at(x.o, q + d));
        for (int64_t j = 0; j < c.keys; ++j) {
          const int64_t k = (e * c.keys + j) * width + h * c.head_dim;
          double s = 0, s_size = 0, dp_size = 0;
          for (int64_t d = 0; d < c.head_dim; ++d) {
            s += scale * at(x.q, q + d) * at(x.k, k + d);
            s_size += std::abs(scale * at(x.q, q + d) * at(x.k, k + d));
            dp_size += std::abs(at(x.d_o, q + d) * at(x.v, k + d));
          }
          // p's relative error is s's absolute one; its size counts once more for the exponential and the sum.
          const double p = std::exp(s - at(x.log_sum_exp, row)) * (2 + 2 * s_size), ds = size * p * (dp_size + delta);
          add(b.log_sum_exp, row, unit * p);
          for (int64_t d = 0; d < c.head_dim; ++d) {
            add(b.o, q + d, unit * p * std::abs(at(x.v, k + d)));
            add(b.dv, k + d, unit * p * std::abs(at(x.d_o, q + d)));
            add(b.dq, q + d, unit * ds * std::abs(at(x.k, k + d)));
            add(b.dk, k + d, unit * ds * std::abs(at(x.q, q + d)));
          }
        }
      }
  return b;
}

void compare(const char* what, const Numbers& got, const Numbers& want, const Numbers& bound, double store_roundoff) {
  INFO(what);
  CHECK(worst_ratio(got, want, bound, 1, store_roundoff) <= 1);
}

template <class T>
void check(const Case& c, const Path& path) {
  if (!can_be_given(path.traits, sizeof(T))) return;
  INFO(name_of(c, path) << ", " << sizeof(T) << " bytes an element");
  const WithTraits traits(path.traits);
  Values got[2];
  const std::uint64_t products_before = warpgroup_products();
  for (int i = 0; i < 2; ++i) {
    const InOrder order(i == 0 ? emulation::Order::forward : emulation::Order::reverse);
    got[i] = run<T, T>(c, cuda::kernel_table<T>(), device_context().kernel_context(), nullptr);
  }
  if (path.traits.wgmma && c.head_dim > 32 && c.head_dim <= 128 && c.batch > 0)
    CHECK(warpgroup_products() > products_before);
  CHECK((got[0].o == got[1].o && got[0].log_sum_exp == got[1].log_sum_exp));
  CHECK((got[0].dq == got[1].dq && got[0].dk == got[1].dk && got[0].dv == got[1].dv));
  Case aligned = c;
  aligned.shift = 0, aligned.unaligned = -1;
  const Values want = run<double, T>(aligned, exact().kernels<double>(), exact().kernel_context(), &got[0]);
  const double sum_roundoff = epsilon_of<accumulate_t<T>> / 2, store = epsilon_of<T> / 2;
  const Bounds b = bounds_of(c, want, sum_roundoff, path.operand_error);
  compare("o", got[0].o, want.o, b.o, store);
  compare("log_sum_exp", got[0].log_sum_exp, want.log_sum_exp, b.log_sum_exp, 2 * sum_roundoff);
  compare("dq", got[0].dq, want.dq, b.dq, store);
  compare("dk", got[0].dk, want.dk, b.dk, store);
  compare("dv", got[0].dv, want.dv, b.dv, store);
}

const std::vector<Case> small_cases = {
    {1, 1, 1, 1, 1},
    {2, 3, 1, 1, 32},
    {1, 2, 7, 49, 17},
    {2, 1, 49, 7, 3},
    {1, 2, 5, 9, 33, false, 1},
    {1, 2, 10, 33, 8, false, 0, 3.0},  // one key takes nearly all: the maximum must be subtracted
    {1, 1, 40, 40, 64, false, 0, -0.25},
    {1, 2, 13, 13, 32, true},
    {2, 2, 9, 9, 5, true, 1},
    {2, 1, 64, 64, 32},  // whole tiles
    {1, 1, 63, 63, 16},  // one row and one key less
};
const std::vector<Case> long_cases = {
    {1, 1, 65, 130, 32}, {1, 1, 130, 65, 64}, {1, 1, 66, 70, 128},
    {1, 1, 65, 67, 100}, {1, 2, 130, 1, 64},  {1, 2, 1, 130, 64},
};

template <class T>
void check_cases(const Path& path, const std::vector<Case>& cases) {
  for (const Case& c : cases) check<T>(c, path);
}

}  // namespace

TEST_CASE("attention in plain arithmetic", "[cuda]") {
  check_cases<float>(plain, small_cases);
  check_cases<float>(plain, long_cases);
  for (const std::size_t i : {3u, 4u, 5u, 7u, 8u}) {
    check<double>(small_cases[i], plain);
    check<bfloat16>(small_cases[i], plain);
  }
}

TEST_CASE("attention on tensor cores", "[cuda]") {
  check_cases<bfloat16>(bf16_tensor_cores, small_cases);
  check_cases<bfloat16>(bf16_tensor_cores, long_cases);
  check_cases<float>(tf32_tensor_cores, small_cases);
  check_cases<float>(tf32_tensor_cores, {long_cases[0], long_cases[3]});
}

TEST_CASE("attention of warpgroups", "[cuda]") {
  check_cases<bfloat16>(wgmma_tensor_cores, small_cases);
  check_cases<bfloat16>(wgmma_tensor_cores, long_cases);
  check_cases<bfloat16>(wgmma_tensor_cores, {
                                                {1, 1, 129, 64, 64},   // a block with one warpgroup that has rows
                                                {1, 2, 64, 129, 64},   // a last step of one key
                                                {1, 1, 128, 128, 64},  // nothing left over
                                                {1, 1, 192, 63, 96},
                                                {1, 1, 63, 192, 128},
                                                {1, 1, 70, 66, 34},
                                            });
}

TEST_CASE("attention of a warp a row", "[cuda]") {
  for (const std::size_t i : {0u, 1u, 3u, 4u, 5u, 8u}) {
    check<float>(small_cases[i], little_shared);
    check<bfloat16>(small_cases[i], little_shared);
    check<double>(small_cases[i], little_shared);
  }
  check<float>({1, 2, 5, 7, 131}, plain);
  check<bfloat16>({1, 2, 5, 7, 131}, bf16_tensor_cores);
}

TEST_CASE("attention with strides of each tensor's own", "[cuda]") {
  Case c = {2, 2, 5, 9, 16};
  c.gap = 8;
  check<double>(c, plain);
  check<bfloat16>(c, plain);
  check<float>(c, little_shared);
  const auto check_vectors = [&] {
    check<bfloat16>(c, bf16_tensor_cores);
    check<float>(c, tf32_tensor_cores);
    check<float>(c, plain);
  };
  const auto check_warpgroups = [&] {
    Case wide = c;
    wide.head_dim = 40;
    check<bfloat16>(wide, wgmma_tensor_cores);
  };
  check_vectors();
  check_warpgroups();
  for (const int misaligned : {0, 1, 2, 3})  // one stride of one of them is enough to do without vectors
    for (const Case::Stride stride : {Case::row, Case::head, Case::batch_entry}) {
      c.misaligned = misaligned, c.stride = stride;
      check_vectors();
      if (stride == Case::row) check_warpgroups();
    }
  c.gap = 1, c.misaligned = -1;
  check<bfloat16>(c, bf16_tensor_cores);
  check<float>(c, plain);
  check<bfloat16>(c, little_shared);
}

TEST_CASE("attention where one tensor does not begin at a whole vector", "[cuda]") {
  Case c = {1, 2, 5, 9, 16};
  for (c.unaligned = 0; c.unaligned < 8; ++c.unaligned) {
    check<bfloat16>(c, bf16_tensor_cores);
    check<float>(c, tf32_tensor_cores);
  }
}

// The most shared memory of a block, from the CUDA C++ Programming Guide's technical specifications per compute
// capability: 64 KB for 7.5, 163 for 8.0 and 8.7, 99 for 8.6, 8.9 and 12.0, 227 for 9.0 and 10.0.
TEST_CASE("attention on devices with less shared memory", "[cuda]") {
  const std::size_t kb = 1024;
  const Path sm_75 = {"64 KB", {75, 64 * kb, false}, 0}, sm_86 = {"99 KB", {86, 99 * kb, false}, 0},
             sm_86_bf16 = {"99 KB, bf16", {86, 99 * kb, false}, bf16_tensor_cores.operand_error},
             sm_86_tf32 = {"99 KB, TF32", {86, 99 * kb, true}, tf32_tensor_cores.operand_error};
  for (const int64_t head_dim : {32, 64, 128}) {
    const Case c = {1, 2, 3, 5, head_dim};
    check<float>(c, sm_75);
    check<double>(c, sm_75);
    check<bfloat16>(c, sm_75);
    check<float>(c, sm_86);
    check<double>(c, sm_86);
    check<float>(c, sm_86_tf32);
    check<bfloat16>(c, sm_86_bf16);
  }
}

TEST_CASE("attention of nothing", "[cuda]") {
  for (const Path& path : {plain, bf16_tensor_cores, little_shared}) {
    check<bfloat16>({0, 2, 3, 4, 5}, path);
    check<bfloat16>({2, 2, 0, 4, 5}, path);  // dk and dv are zeros, not garbage
  }
}

TEST_CASE("attention's gradients where every score is far below zero", "[cuda]") {
  // exp(0 - log_sum_exp) overflows for the keys behind the last one: they must be left out, not multiplied by 0.
  for (const Path& path : {plain, tf32_tensor_cores, little_shared}) {
    if (!can_be_given(path.traits, sizeof(float))) continue;
    INFO(path.name);
    const WithTraits traits(path.traits);
    const Buffer<float> q(Numbers{20, 20}), k(Numbers{-20, -20}), v(Numbers{1, 3}), d_o(Numbers{1, 1}),
        o(Numbers{2, 2});
    const Buffer<float> lse(Numbers{-400 + std::log(2), -400 + std::log(2)}), dq(2), dk(2), dv(2);
    AttentionBackwardArgs<float> b{};
    AttentionArgs<float>& f = b.forward;
    f.batch = f.heads = f.head_dim = 1, f.queries = f.keys = 2, f.scale = 1;
    f.q_row = f.k_row = f.v_row = f.o_row = 1;
    f.q = q.data(), f.k = k.data(), f.v = v.data(), f.o = o.data(), f.log_sum_exp = lse.data();
    b.d_o = d_o.data(), b.dq = dq.data(), b.dk = dk.data(), b.dv = dv.data();
    const auto backward = [&] { cuda::kernel_table<float>().attention_backward(device_context().kernel_context(), b); };
    backward();
    // p = 1/2 each, up to |log_sum_exp| roundings; ds = p (v - 2) = -1/2, 1/2; dq = -20 (ds0 + ds1), dk = 2 * 20 ds.
    const double error = 400 * 4 * epsilon_of<float>;
    CHECK(worst_ratio(dq.values(), Numbers{0, 0}, Numbers{20, 20}, error, 0) <= 1);
    CHECK(worst_ratio(dk.values(), Numbers{-20, 20}, Numbers{20, 20}, error, 0) <= 1);
    CHECK(worst_ratio(dv.values(), Numbers{1, 1}, Numbers{1, 1}, error, 0) <= 1);
    // The same where a step lacks just one key, with equal values: ds = 0.
    const int64_t keys = 31;
    const Numbers zeros(keys, 0), twos(keys, 2), twenties(keys, -20), parts(keys, 2.0 / keys);
    const Buffer<float> many_k(twenties), many_v(twos), many_dk(keys), many_dv(keys);
    f.keys = keys, f.k = many_k.data(), f.v = many_v.data(), b.dk = many_dk.data(), b.dv = many_dv.data();
    for (int i = 0; i < 2; ++i) lse.data()[i] = -400 + std::log(static_cast<float>(keys));
    backward();
    CHECK(worst_ratio(dq.values(), Numbers{0, 0}, Numbers{40, 40}, error, 0) <= 1);
    CHECK(worst_ratio(many_dk.values(), zeros, twos, 20 * error, 0) <= 1);
    CHECK(worst_ratio(many_dv.values(), parts, parts, error, 0) <= 1);
  }
}

TEST_CASE("attention's gradients of keys at -inf", "[cuda]") {
  // Such a key has no share, so no gradient either: also where the last step of queries is not full.
  const auto check_path = [](const Path& path, auto type, int64_t head_dim) {
    using T = decltype(type);
    if (!can_be_given(path.traits, sizeof(T))) return;
    INFO(path.name << ", heads of " << head_dim);
    const WithTraits traits(path.traits);
    const int64_t keys = 3;
    Numbers q_numbers(static_cast<std::size_t>(head_dim), 0), k_numbers(static_cast<std::size_t>(keys * head_dim), 0);
    q_numbers[0] = 1;
    k_numbers[0] = k_numbers[static_cast<std::size_t>(2 * head_dim)] = -std::numeric_limits<double>::infinity();
    const Numbers ones(static_cast<std::size_t>(keys * head_dim), 1);
    const Buffer<T> q(q_numbers), k(k_numbers), v(ones), d_o(Numbers(static_cast<std::size_t>(head_dim), 1)),
        o(head_dim), dq(head_dim), dk(keys * head_dim), dv(keys * head_dim);
    const Buffer<accumulate_t<T>> lse(1);
    AttentionBackwardArgs<T> b{};
    AttentionArgs<T>& f = b.forward;
    f.batch = f.heads = f.queries = 1, f.keys = keys, f.head_dim = head_dim, f.scale = 1;
    f.q_row = f.k_row = f.v_row = f.o_row = head_dim;
    f.q = q.data(), f.k = k.data(), f.v = v.data(), f.o = o.data(), f.log_sum_exp = lse.data();
    b.d_o = d_o.data(), b.dq = dq.data(), b.dk = dk.data(), b.dv = dv.data();
    cuda::kernel_table<T>().attention(device_context().kernel_context(), f);
    cuda::kernel_table<T>().attention_backward(device_context().kernel_context(), b);
    Numbers want = ones;
    for (int64_t i = 0; i < keys * head_dim; ++i)
      want[static_cast<std::size_t>(i)] = i / head_dim == 1;  // the one key that counts has all of it
    CHECK((o.values() == Numbers(static_cast<std::size_t>(head_dim), 1)));
    CHECK((dv.values() == want));
    CHECK((dk.values() == Numbers(want.size(), 0)));
  };
  check_path(plain, float(), 32);
  check_path(tf32_tensor_cores, float(), 64);
  check_path(little_shared, float(), 5);
  check_path(bf16_tensor_cores, bfloat16(), 64);
  check_path(wgmma_tensor_cores, bfloat16(), 64);
  check_path(wgmma_tensor_cores, bfloat16(), 128);
}

TEST_CASE("attention with scores that are infinite or not numbers", "[cuda]") {
  const float infinity = std::numeric_limits<float>::infinity();
  for (const Path& path : {plain, tf32_tensor_cores, little_shared}) {
    if (!can_be_given(path.traits, sizeof(float))) continue;
    INFO(path.name);
    const WithTraits traits(path.traits);
    const Buffer<float> q(Numbers{1}), k(Numbers{-infinity, -infinity, 1, -infinity}), v(Numbers{5, 6, 7, 8}), o(1);
    AttentionArgs<float> f{};
    f.batch = f.heads = f.queries = f.head_dim = 1, f.keys = 4, f.scale = 1;
    f.q_row = f.k_row = f.v_row = f.o_row = 1;
    f.q = q.data(), f.k = k.data(), f.v = v.data(), f.o = o.data();
    const KernelTable<float>& table = cuda::kernel_table<float>();
    table.attention(device_context().kernel_context(), f);
    CHECK(o.values()[0] == 7);  // those at -inf do not count
    f.keys = 2;
    table.attention(device_context().kernel_context(), f);
    CHECK(std::isnan(o.values()[0]));
    k.data()[1] = std::numeric_limits<float>::quiet_NaN();
    f.keys = 3;
    table.attention(device_context().kernel_context(), f);
    CHECK(std::isnan(o.values()[0]));
  }
}

TEST_CASE("attention whose first steps have no score that counts", "[cuda]") {
  // A whole step of keys at -inf leaves the largest score at -inf: its exponential must not become that of NaN.
  const int64_t keys = 131;  // two steps of at most 64 keys, and some
  Numbers k_numbers(keys, -std::numeric_limits<double>::infinity()), v_numbers(keys, 5);
  k_numbers[129] = 1, v_numbers[129] = 7;
  for (const Path& path : {plain, tf32_tensor_cores, little_shared}) {
    if (!can_be_given(path.traits, sizeof(float))) continue;
    INFO(path.name);
    const WithTraits traits(path.traits);
    const Buffer<float> q(Numbers{1}), k(k_numbers), v(v_numbers), o(1), lse(1);
    AttentionArgs<float> f{};
    f.batch = f.heads = f.queries = f.head_dim = 1, f.keys = keys, f.scale = 1;
    f.q_row = f.k_row = f.v_row = f.o_row = 1;
    f.q = q.data(), f.k = k.data(), f.v = v.data(), f.o = o.data(), f.log_sum_exp = lse.data();
    cuda::kernel_table<float>().attention(device_context().kernel_context(), f);
    CHECK(o.values()[0] == 7);
    CHECK(worst_ratio(lse.values(), Numbers{1}, Numbers{1}, 4 * epsilon_of<float>, 0) <= 1);
  }
}
