// Context: everything an op needs besides its arguments - device, kernels, memory, threads, RNG, tape.
// Surprising choice: it is passed explicitly as the first argument of every op; there is no default one.
// Use one Context per thread; several may share a ThreadPool.
#pragma once

#include <cstdint>
#include <initializer_list>
#include <memory>
#include <span>
#include <string>

#include <promptiqa/core/arena.hpp>
#include <promptiqa/core/bfloat16.hpp>
#include <promptiqa/core/kernel_table.hpp>
#include <promptiqa/core/memory_pool.hpp>
#include <promptiqa/core/tensor.hpp>
#include <promptiqa/core/thread_pool.hpp>

namespace promptiqa {

class Tape;

/// Which CPU bodies a Context uses. `automatic` is the best this processor runs; `eigen` is the readable
/// reference whose matrix products are Eigen's. Results differ by rounding only. `avx512_bf16` is never chosen by
/// itself: its float matrix products round their operands to bfloat16, nearly twice as fast; sums stay float, and
/// denormals count as 0. `avx512_int8` goes on from there: weights that are packed are 8-bit integers with a scale for
/// each output, and what they are multiplied with is rounded to 8-bit integers row by row.
enum class CpuBackend { automatic, avx512, avx2, portable, eigen, avx512_bf16, avx512_int8 };

/// Of matrix products: float; operands rounded to bfloat16 with sums in float; or products with packed weights in 8-bit
/// integers and the others as bf16. The last is for inference: training packs no weights.
enum class Precision { fp32, bf16, int8 };

/// The fastest backend of this processor for a precision. fp32's where the processor lacks the instructions of bf16
/// (AVX512_BF16) or int8 (AVX512_VNNI); `notice`, unless null, then receives a sentence that says so.
CpuBackend cpu_backend(Precision precision, std::string* notice = nullptr);

/// The kernels of a CPU backend. Throws Error when this processor lacks the instructions.
template <class T>
const KernelTable<T>& cpu_kernel_table(CpuBackend backend);

class Context {
 public:
  /// A CPU context with a thread pool of its own. threads = 0: the machine's number of cores.
  static Context cpu(int threads = 0, CpuBackend backend = CpuBackend::automatic);

  /// A CPU context over a pool that other Contexts use too. Throws Error when there is no pool.
  static Context cpu(std::shared_ptr<ThreadPool> pool, CpuBackend backend = CpuBackend::automatic);

  /// What another device than the CPU brings; see make_cuda_context.
  struct DeviceParts {
    Device device;
    std::shared_ptr<void> execution;     // what the device's kernels find in KernelContext::execution
    std::shared_ptr<MemoryPool> memory;  // keeps `execution` alive as long as a block needs it
    const KernelTable<float>* float_kernels;
    const KernelTable<double>* double_kernels;
    const KernelTable<bfloat16>* bfloat16_kernels = nullptr;
  };
  /// A context of a device, with a pool for what stays on the CPU. Throws Error when there is no pool.
  static Context on_device(DeviceParts parts, std::shared_ptr<ThreadPool> pool);

  Device device() const { return device_; }
  ThreadPool& pool() const { return *pool_; }
  const std::shared_ptr<ThreadPool>& shared_pool() const { return pool_; }
  MemoryPool& memory() const { return *memory_; }
  const Arena& arena() const { return arena_; }

  /// Gives memory that nobody uses back to the system: free blocks of the pool and, outside an ArenaScope, the slab of
  /// inference, which is laid out again by the next pass.
  void trim() {
    if (!arena_.active()) arena_.forget();
    memory_->trim();
  }

  /// The device's kernels for element type T: float, double, and on a device bfloat16. Throws Error for bfloat16 on the
  /// CPU, whose bf16 is a backend.
  template <class T>
  const KernelTable<T>& kernels() const;

  KernelContext kernel_context() const {
    return {device_ == Device::cpu ? pool_.get() : device_execution_.get(), memory_.get()};
  }

  /// An uninitialised tensor from this Context's pool, or inside an ArenaScope from its arena. Throws std::bad_alloc
  /// when there is no memory, on a device CudaError, which begins with `op`, unless null: what asks for the tensor.
  template <class T>
  Tensor<T> allocate(const Shape& shape, const char* op = nullptr) {
    return Tensor<T>(block(static_cast<std::size_t>(shape.numel()) * sizeof(T), op, arena_.active()), shape, device_);
  }

  /// A block of this Context's pool, or of its arena, which then must be active. Errors of memory as allocate()'s.
  StorageRef block(std::size_t bytes, const char* op, bool of_arena = false);

  /// A tensor of one repeated value. Errors of memory as allocate()'s.
  template <class T>
  Tensor<T> full(const Shape& shape, T value, const char* op = "full") {
    Tensor<T> y = allocate<T>(shape, op);
    kernels<T>().fill(kernel_context(), {y.numel(), value, y.mutable_data()});
    return y;
  }
  template <class T>
  Tensor<T> zeros(const Shape& shape, const char* op = "zeros") {
    return full<T>(shape, T{}, op);
  }

  /// A tensor with the given elements, row-major. Throws ShapeError when their number does not fit the shape.
  template <class T>
  Tensor<T> from(const Shape& shape, std::span<const T> values);
  template <class T>
  Tensor<T> from(const Shape& shape, std::initializer_list<T> values) {
    return from<T>(shape, std::span<const T>(values.begin(), values.size()));
  }

  /// The same elements in fresh memory.
  template <class T>
  Tensor<T> copy(const Tensor<T>& x) {
    Tensor<T> y = allocate<T>(x.shape(), "copy");
    kernels<T>().copy_rows(kernel_context(), {1, x.numel(), x.numel(), x.numel(), x.data(), y.mutable_data()});
    return y;
  }

  /// The tape ops record on; null means inference.
  Tape* tape() const { return tape_; }

  /// The key of the next random op (dropout). The stream is (seed, number of keys drawn): both can be saved.
  std::uint64_t next_random_key();
  void set_random_state(std::uint64_t seed, std::uint64_t drawn) {
    seed_ = seed;
    drawn_ = drawn;
  }
  std::uint64_t random_seed() const { return seed_; }
  std::uint64_t random_drawn() const { return drawn_; }

 private:
  friend class TapeScope;
  friend class ArenaScope;
  Context() = default;

  Device device_ = Device::cpu;
  std::shared_ptr<ThreadPool> pool_;
  std::shared_ptr<MemoryPool> memory_;
  std::shared_ptr<void> device_execution_;  // null on the CPU
  const KernelTable<float>* float_kernels_ = nullptr;
  const KernelTable<double>* double_kernels_ = nullptr;
  const KernelTable<bfloat16>* bfloat16_kernels_ = nullptr;
  Tape* tape_ = nullptr;
  Arena arena_;
  std::uint64_t seed_ = 0, drawn_ = 0;
};

template <>
inline const KernelTable<float>& Context::kernels<float>() const {
  return *float_kernels_;
}
template <>
inline const KernelTable<double>& Context::kernels<double>() const {
  return *double_kernels_;
}
template <>
inline const KernelTable<bfloat16>& Context::kernels<bfloat16>() const {
  if (!bfloat16_kernels_)
    throw Error(
        "context: expected a device for bfloat16 tensors, got the CPU, where bf16 is a backend for float tensors");
  return *bfloat16_kernels_;
}

/// While it lives, ops of `ctx` record on `tape` (null: nothing is recorded). Scopes nest.
class TapeScope {
 public:
  TapeScope(Context& ctx, Tape* tape) : ctx_(ctx), previous_(ctx.tape_) { ctx.tape_ = tape; }
  ~TapeScope() { ctx_.tape_ = previous_; }
  TapeScope(const TapeScope&) = delete;
  TapeScope& operator=(const TapeScope&) = delete;

 private:
  Context& ctx_;
  Tape* previous_;
};

/// While it lives, tensors of `ctx` are pieces of its arena, as the first run of `key` was laid out. Inside another
/// such scope, and while a tape records, it does nothing.
class ArenaScope {
 public:
  ArenaScope(Context& ctx, const ArenaKey& key) : ctx_(ctx.arena_.active() || ctx.tape_ ? nullptr : &ctx) {
    if (ctx_) ctx_->arena_.begin(key);
  }
  ~ArenaScope() {
    if (ctx_) ctx_->arena_.end(*ctx_->memory_);
  }
  ArenaScope(const ArenaScope&) = delete;
  ArenaScope& operator=(const ArenaScope&) = delete;

 private:
  Context* ctx_;
};

template <class T>
Tensor<T> Context::from(const Shape& shape, std::span<const T> values) {
  if (shape.numel() != static_cast<std::int64_t>(values.size()))
    throw ShapeError("from: shape " + shape.str() + " needs " + std::to_string(shape.numel()) + " values, got " +
                     std::to_string(values.size()));
  Tensor<T> y = allocate<T>(shape, "from");
  const auto n = static_cast<std::int64_t>(values.size());
  if (device_ == Device::cpu)
    kernels<T>().copy_rows(kernel_context(), {1, n, n, n, values.data(), y.mutable_data()});
  else
    memory_->copy_from_host(y.mutable_data(), values.data(), values.size() * sizeof(T));
  return y;
}

}  // namespace promptiqa

#if PROMPTIQA_WITH_BODIES
#include <promptiqa/core/context.ipp>
#endif
