// Every op case on a device: values against the definitions, gradients against the CPU's in double; those with products
// also in TF32 and with bfloat16 products.
// Surprising choice: an op whose kernels the table does not have yet is named in the output, not passed in silence.
#include <iostream>
#include <set>

#include "op_parity.hpp"
#include "products.hpp"

using namespace promptiqa_test;

namespace {

/// The case's result, after it was run in both orders with the same bits.
template <class T>
Result<T> run_in_both_orders(const OpCase& c, const Inputs& inputs) {
  Result<T> results[2];
  for (int i = 0; i < 2; ++i) {
    const InOrder order(i == 0 ? emulation::Order::forward : emulation::Order::reverse);
    results[i] = run_case<T>(device_context(), c, inputs);
  }
  CHECK(same_bits(results[0].value, results[1].value));
  for (std::size_t i = 0; i < results[0].gradients.size(); ++i)
    CHECK(same_bits(results[0].gradients[i], results[1].gradients[i]));
  return results[0];
}

template <class T>
void check_case(const OpCase& c) {
  INFO(c.name << ", " << sizeof(T) << " bytes an element");
  const Inputs inputs = c.draw();
  check_parity(c, inputs, run_in_both_orders<T>(c, inputs));
}

/// Every case with products on this path, whose operands lose up to `roundoff` of their size.
void check_products(const Path& path, double roundoff) {
  const WithTraits traits(path.traits);
  double worst = 0;
  for (const OpCase& c : op_cases()) {
    if (!has_products(c.op)) continue;
    INFO(c.name << ", " << path.name);
    const Inputs inputs = c.draw();
    worst = std::max(worst, check_rounded_parity(c, inputs, run_in_both_orders<float>(c, inputs), roundoff));
  }
  CHECK(worst > 0.01);  // not fp32 in disguise
}

}  // namespace

TEST_CASE("every op computes its definition and its gradients on a device", "[cuda]") {
  std::set<std::string> ops, missing;
  for (const OpCase& c : op_cases()) {
    if (!has_kernels(device_context().kernels<float>(), c.op)) {
      missing.insert(c.op);
      continue;
    }
    ops.insert(c.op);
    check_case<float>(c);
    check_case<double>(c);
  }
  std::cout << "CUDA: " << (PROMPTIQA_TEST_ON_DEVICE ? "run on a device" : "emulated, not run on a device")
            << ". Ops run this way:";
  for (const std::string& op : ops) std::cout << ' ' << op;
  if (!missing.empty()) {
    std::cout << "\nCUDA: no kernels yet for:";
    for (const std::string& op : missing) std::cout << ' ' << op;
  }
  std::cout << std::endl;
  CHECK(ops.size() >= 20);
}

TEST_CASE("ops with products of TF32 operands are near their definition, and so are their gradients", "[cuda]") {
  check_products(tf32_tensor_cores, 0x1p-10);  // cut, where it is not rounded
}

TEST_CASE("ops with products of bfloat16 operands are near their definition, and so are their gradients", "[cuda]") {
  check_products(bf16_products, 0x1p-9);
}

#if !PROMPTIQA_TEST_ON_DEVICE
namespace {

/// What the error names when `work` is done without memory: the word before ": memory". Empty when none is asked for.
template <class Work>
std::string named_without_memory(Context& ctx, const Work& work) {
  ctx.trim();
  const NoMemory none;
  try {
    work();
    return "";
  } catch (const CudaError& error) {
    const std::string what = error.what();
    return what.substr(0, what.find(": memory"));
  }
}

}  // namespace

TEST_CASE("an error of memory names the op, or the gradient, whose output does not fit", "[cuda]") {
  Context ctx = make_cuda_context(0, std::make_shared<ThreadPool>(1));
  std::set<std::string> ops, gradients;
  for (const OpCase& c : op_cases()) {
    INFO(c.name);
    const Tensors<float> in = upload<float>(ctx, c.draw());
    Tape tape;
    const TapeScope scope(ctx, &tape);
    for (std::size_t i = 0; i < in.size(); ++i)
      if (c.inputs[i].differentiable) tape.watch(in[i]);
    const std::string op = named_without_memory(ctx, [&] { c.run(ctx, in); });
    INFO(op);
    // A transpose is a permutation; some cases pack weights or copy running statistics before they call their op.
    const bool before = op == "pack" || op == "pack_conv2d" || (op == "copy" && c.op == "batch_norm_training");
    CHECK((op == c.op || op == (c.op == "transpose" ? "permute" : "") || before));
    ops.insert(op);
    const Tensor<float> y = c.run(ctx, in);
    if (!tape.tracks(y)) continue;
    const Tensor<float> cotangent = ctx.full<float>(y.shape(), 1);
    const std::string gradient = named_without_memory(ctx, [&] { tape.backward(ctx, y, cotangent); });
    INFO(gradient);
    CHECK(gradient.find(' ') == std::string::npos);  // no "memory, after" without a name
    gradients.insert(gradient);
  }
  CHECK(ops.size() >= 20);
  CHECK(gradients.size() >= 15);
}
#endif
