// Parity of a device with the definitions and with the CPU, case by case of op_cases.hpp: shared by the tests on the
// emulated and on a real device.
// Surprising choice: device memory is only reached through the pool's copies, so the same checks hold for both.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>
#include <random>
#include <string>
#include <vector>

#include "catch.hpp"
#include "op_cases.hpp"

namespace promptiqa_test {

/// Fills free blocks of a device's pool with NaN, of every size that small tensors have: what is not written shows.
inline void poison_device(Context& ctx) {
  static const std::vector<unsigned char> ones(std::size_t{1} << 18, 0xFF);
  std::vector<StorageRef> blocks;
  for (std::size_t bytes = 1; bytes <= (std::size_t{1} << 17);) {
    for (int i = 0; i < (bytes <= (std::size_t{1} << 14) ? 3 : 1); ++i) {
      blocks.push_back(ctx.memory().allocate(bytes));
      ctx.memory().copy_from_host(blocks.back()->data, ones.data(), std::min(ones.size(), blocks.back()->capacity));
    }
    bytes = blocks.back()->capacity + 1;
  }
}

/// True when the bytes between a tensor's last element and its block's end are still poison.
template <class T>
bool end_is_poisoned(const Tensor<T>& x) {
  const std::size_t used = static_cast<std::size_t>(x.numel()) * sizeof(T);
  std::vector<unsigned char> rest(x.storage()->capacity - used);
  x.storage()->pool->copy_to_host(rest.data(), static_cast<const unsigned char*>(x.storage()->data) + used, rest.size());
  return std::all_of(rest.begin(), rest.end(), [](unsigned char byte) { return byte == 0xFF; });
}

template <class T>
bool same_bits(const std::vector<T>& a, const std::vector<T>& b) {
  return a.size() == b.size() && (a.empty() || std::memcmp(a.data(), b.data(), a.size() * sizeof(T)) == 0);
}

/// The kernels of an op that a table may lack.
template <class T>
bool has_kernels(const KernelTable<T>& table, const std::string& op) {
  if (op == "linear" || op == "matmul") return table.gemm && table.pack_matrix;
  if (op == "attention" || op == "attention_qkv") return table.attention && table.attention_backward;
  if (op == "conv2d") return table.conv2d && table.conv2d_backward_data && table.conv2d_backward_weight;
  return true;
}

inline std::vector<double> random_values(std::int64_t count, std::uint32_t seed) {
  std::mt19937 generator(seed);
  std::vector<double> values(static_cast<std::size_t>(count));
  for (double& v : values) v = static_cast<float>((generator() / 4294967296.0 - 0.5) * 3.4641016);
  return values;
}

template <class T>
struct Result {
  std::vector<T> value;
  std::vector<std::vector<T>> gradients;  // of each input; empty where none is asked for
};

/// Runs the case, and its backward pass when any input is differentiable.
template <class T>
Result<T> run_case(Context& ctx, const OpCase& c, const Inputs& inputs) {
  const Tensors<T> in = upload<T>(ctx, inputs);
  Result<T> result;
  Tape tape;
  const TapeScope scope(ctx, &tape);
  bool any = false;
  for (std::size_t i = 0; i < in.size(); ++i)
    if (c.inputs[i].differentiable) {
      tape.watch(in[i]);
      any = true;
    }
  poison_device(ctx);
  const Tensor<T> y = c.run(ctx, in);
  const bool is_input = std::any_of(in.begin(), in.end(), [&](const Tensor<T>& x) { return x.id() == y.id(); });
  CHECK((is_input || end_is_poisoned(y)));
  result.value = y.host();
  if (any) {
    const std::vector<double> wide = random_values(y.numel(), 99);
    const std::vector<T> narrow(wide.begin(), wide.end());
    const Tensor<T> cotangent = ctx.from<T>(y.shape(), std::span<const T>(narrow));
    poison_device(ctx);
    tape.backward(ctx, y, cotangent);
    CHECK(same_bits(cotangent.host(), narrow));
    for (std::size_t i = 0; i < in.size(); ++i) {
      const Tensor<T> g = tape.gradient(in[i]);
      CHECK(static_cast<bool>(g) == c.inputs[i].differentiable);
      result.gradients.push_back(g ? g.host() : std::vector<T>());
    }
  }
  for (std::size_t i = 0; i < in.size(); ++i) {  // inputs are never written
    const std::vector<T> before(inputs[i].values.begin(), inputs[i].values.end());
    CHECK(same_bits(in[i].host(), before));
  }
  return result;
}

template <class T>
double largest(const std::vector<T>& values) {
  double m = 0;
  for (T v : values) m = std::max(m, std::abs(static_cast<double>(v)));
  return m;
}

/// The largest difference; NaN when one is NaN.
template <class T>
double largest_difference_from(const std::vector<double>& want, const std::vector<T>& got) {
  double worst = 0;
  for (std::size_t i = 0; i < want.size(); ++i) {
    const double difference = std::abs(static_cast<double>(got[i]) - want[i]);
    worst = difference <= worst ? worst : difference;  // a NaN stays
  }
  return worst;
}

/// Gradients against the CPU's in double, as for the CPU's own backends (gradient_test.cpp): a random walk of as many
/// roundings as a gradient has terms, and `rounded`, relative to the largest.
template <class T>
void check_gradients(const Result<double>& exact, const Result<T>& result, double rounded) {
  const double cotangent = largest(random_values(static_cast<std::int64_t>(result.value.size()), 99));
  const double epsilon = static_cast<double>(std::numeric_limits<T>::epsilon());
  for (std::size_t which = 0; which < result.gradients.size(); ++which) {
    const std::vector<T>& g = result.gradients[which];
    const std::vector<double>& want = exact.gradients[which];
    INFO("input " << which);
    REQUIRE(g.size() == want.size());
    const double terms = static_cast<double>(std::max(result.value.size(), g.size()));
    const double tolerance = 16 * epsilon * std::sqrt(terms) + rounded;
    CHECK(largest_difference_from(want, g) <= tolerance * std::max(largest(want), cotangent));
  }
}

inline Context& parity_cpu() {
  static Context cpu = Context::cpu(1);
  return cpu;
}

/// The value of a case against its definition and its gradients against the CPU's.
template <class T>
void check_parity(const OpCase& c, const Inputs& inputs, const Result<T>& result) {
  CHECK(mismatch(result.value, c.reference(inputs)) == "");
  if (!result.gradients.empty()) check_gradients(run_case<double>(parity_cpu(), c, inputs), result, 0);
}

/// Whether an op multiplies matrices: what TF32 and bfloat16 products change.
inline bool has_products(const std::string& op) {
  return op == "linear" || op == "matmul" || op == "attention" || op == "attention_qkv" || op == "conv2d";
}

/// The same where operands of products are rounded by up to `roundoff`. Errors of a sum's terms add like a random walk,
/// as do the terms, so a result is off by some roundoffs of the largest; attention rounds four operands one after the
/// other. Of `wide` scores, some tens, an error is as many times as large a part of its weight. Returns how far the value
/// was off, in roundoffs of the largest.
inline double check_rounded_parity(const OpCase& c, const Inputs& inputs, const Result<float>& result,
                                   double roundoff) {
  const Result<double> exact = run_case<double>(parity_cpu(), c, inputs);
  REQUIRE(result.value.size() == exact.value.size());
  const double off = largest_difference_from(exact.value, result.value) / (roundoff * largest(exact.value) + 1e-300);
  const bool wide = !c.inputs.empty() && c.inputs[0].draw == Draw::wide;
  const double allowed = wide ? 32 : 8;
  CHECK(off <= allowed);
  check_gradients(exact, result, allowed * roundoff);
  return off;
}

}  // namespace promptiqa_test
