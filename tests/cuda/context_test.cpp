// The Context of a CUDA device, its memory and its errors, on the emulated device.
// Surprising choice: kernels/context.cpp is the file the real library compiles; only the runtime below it is another.
#include <set>

#include <promptiqa/core/tape.hpp>
#include <promptiqa/ops/all.hpp>
#include "emulated.hpp"

using namespace promptiqa_test;

TEST_CASE("tensors go to the device and come back", "[cuda]") {
  Context ctx = make_cuda_context(0, std::make_shared<ThreadPool>(1));
  CHECK(ctx.device() == Device::cuda);
  const Tensor<float> x = ctx.from<float>(Shape{2, 3}, {1, 2, 3, 4, 5, 6});
  CHECK(x.device() == Device::cuda);
  CHECK(x.host() == std::vector<float>{1, 2, 3, 4, 5, 6});
  CHECK_THROWS_AS(x.values(), Error);
  CHECK_THROWS_WITH(x.values(), ContainsSubstring("values: expected a tensor in the CPU's memory, got (2, 3)"));
  CHECK_THROWS_AS(x.item(), ShapeError);
  CHECK(ctx.full<double>(Shape{1}, 2.5).item() == 2.5);
  CHECK(ctx.copy(x).host() == x.host());
  CHECK(x.reshape({3, 2}).device() == Device::cuda);
  CHECK(ctx.from<float>(Shape{0, 4}, std::span<const float>()).host().empty());
  CHECK_THROWS_AS(ctx.from<float>(Shape{2}, {1, 2, 3}), ShapeError);
  CHECK(Tensor<float>().host().empty());
  synchronize(ctx);

  Context cpu = Context::cpu(1);
  CHECK(cpu.from<float>(Shape{2}, {1, 2}).host() == std::vector<float>{1, 2});
  CHECK(cpu.from<float>(Shape{1}, {7}).item() == 7);
  synchronize(cpu);
}

TEST_CASE("ops of a CUDA context run as launches, and are recorded", "[cuda]") {
  Context ctx = make_cuda_context(0, std::make_shared<ThreadPool>(1));
  const std::uint64_t before = emulation::launches();
  const Tensor<float> x = ctx.from<float>(Shape{4}, {1, -2, 3, -4});
  CHECK(emulation::launches() == before);  // a copy
  Tape tape;
  const TapeScope scope(ctx, &tape);
  tape.watch(x);
  const Tensor<float> y = mean(ctx, multiply(ctx, relu(ctx, x), x), 0);
  CHECK(emulation::launches() == before + 3);
  CHECK(y.item() == 2.5f);
  tape.backward(ctx, y);
  CHECK(tape.gradient(x).device() == Device::cuda);
  CHECK(tape.gradient(x).host() == std::vector<float>{0.5f, 0, 1.5f, 0});
}

TEST_CASE("device memory is reused, given back and outlives its context", "[cuda]") {
  const std::size_t blocks = emulation::device_blocks();
  Tensor<float> survivor;
  {
    Context ctx = make_cuda_context(0, std::make_shared<ThreadPool>(1));
    for (int i = 0; i < 5; ++i) {
      const Tensor<float> a = ctx.full<float>(Shape{100}, 1);
      const Tensor<float> b = add(ctx, a, a);
    }
    CHECK(emulation::device_blocks() == blocks + 2);
    CHECK(ctx.memory().system_allocations() == 2);
    ctx.memory().trim();
    CHECK(emulation::device_blocks() == blocks);
    CHECK(ctx.memory().bytes_reserved() == 0);
    survivor = ctx.full<float>(Shape{3}, 4);
  }
  CHECK(survivor.host() == std::vector<float>{4, 4, 4});
  survivor = Tensor<float>();
  CHECK(emulation::device_blocks() == blocks);
}

TEST_CASE("two CUDA contexts have queues and memory of their own", "[cuda]") {
  Context a = make_cuda_context(0, std::make_shared<ThreadPool>(1));
  Context b = make_cuda_context(0, a.shared_pool());
  CHECK(a.kernel_context().execution != b.kernel_context().execution);
  CHECK(&a.memory() != &b.memory());
  const Tensor<float> x = a.full<float>(Shape{2}, 3);
  CHECK(add(b, x, x).host() == std::vector<float>{6, 6});  // the memory is the device's
  Context moved = std::move(a);
  CHECK(moved.full<float>(Shape{1}, 3).item() == 3);
}

TEST_CASE("when a device has no memory left the error names the op and the call", "[cuda]") {
  Context ctx = make_cuda_context(0, std::make_shared<ThreadPool>(1));
  const Tensor<float> x = ctx.full<float>(Shape{2, 3}, 1), statistics = ctx.full<float>(Shape{2}, 1),
                      weight = ctx.full<float>(Shape{3}, 1);
  Tensor<float> dweight = ctx.full<float>(Shape{3}, 0), dbias = ctx.full<float>(Shape{3}, 0);
  const LayerNormBackwardArgs<float> args = {2,
                                             3,
                                             x.data(),
                                             x.data(),
                                             weight.data(),
                                             statistics.data(),
                                             statistics.data(),
                                             nullptr,
                                             dweight.mutable_data(),
                                             dbias.mutable_data()};
  const auto backward = [&] { cuda::kernel_table<float>().layer_norm_backward(ctx.kernel_context(), args); };
  {
    const NoMemory none;
    CHECK_THROWS_AS(backward(), CudaError);
    CHECK_THROWS_WITH(backward(), ContainsSubstring("layer_norm_backward: memory: cudaMallocAsync of "));
    // An output is asked for before its kernel begins: the op is named, and the kernel before.
    CHECK_THROWS_WITH(add(ctx, x, x), ContainsSubstring("add: memory, after layer_norm_backward: cudaMallocAsync of "));
    CHECK_THROWS_WITH(ctx.zeros<float>(Shape{64}), ContainsSubstring("zeros: memory, after "));
    CHECK_THROWS_WITH(ctx.full<float>(Shape{64}, 1), ContainsSubstring("full: memory, after "));
    CHECK_THROWS_WITH(ctx.copy(x), ContainsSubstring("copy: memory, after "));
    CHECK_THROWS_WITH(ctx.from<float>(Shape{1}, {1}), ContainsSubstring("from: memory, after "));
  }
  backward();
  CHECK(dbias.host() == std::vector<float>{2, 2, 2});
}

TEST_CASE("a device that is not there is refused by name", "[cuda]") {
  CHECK(cuda_devices().size() == 1);
  CHECK_THROWS_AS(make_cuda_context(1), CudaError);
  CHECK_THROWS_WITH(make_cuda_context(1), ContainsSubstring("expected a device below 1, got 1"));
  CHECK_THROWS_AS(make_cuda_context(-1), CudaError);
}

namespace {

/// Names of the table's fields that are null.
template <class T>
std::set<std::string> missing_kernels() {
  const KernelTable<T>& t = cuda::kernel_table<T>();
  std::set<std::string> missing;
  const auto need = [&](const char* name, bool there) {
    if (!there) missing.insert(name);
  };
#define NEED(name) need(#name, t.name != nullptr)
  NEED(name), NEED(gemm), NEED(packed_bytes), NEED(pack_matrix), NEED(attention), NEED(attention_backward),
      NEED(softmax), NEED(softmax_backward), NEED(layer_norm), NEED(layer_norm_backward), NEED(batch_norm),
      NEED(batch_norm_backward), NEED(conv2d), NEED(packed_conv2d_bytes), NEED(pack_conv2d), NEED(conv2d_backward_data),
      NEED(conv2d_backward_weight), NEED(avg_pool2d), NEED(avg_pool2d_backward), NEED(unary), NEED(unary_backward),
      NEED(binary), NEED(reduce_sum), NEED(column_sum), NEED(expand), NEED(permute), NEED(copy_rows),
      NEED(index_select), NEED(index_select_backward), NEED(dropout), NEED(l1_loss), NEED(l1_loss_backward), NEED(fill),
      NEED(add_in_place), NEED(adam_step), NEED(sum_of_squares), NEED(lerp), NEED(resize_images);
#undef NEED
  return missing;
}

}  // namespace

TEST_CASE("the table lacks nothing", "[cuda]") {
  for (const std::set<std::string>& missing :
       {missing_kernels<float>(), missing_kernels<double>(), missing_kernels<bfloat16>()})
    for (const std::string& name : missing) FAIL_CHECK(name);
  CHECK(std::string(cuda::kernel_table<float>().name) == "cuda");
}
