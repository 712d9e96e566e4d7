// The few things kernels need that nvcc and a C++ compiler spell differently: the only header kernels include besides
// the kernel table's.
// Surprising choice: shared memory is reached through Shared<T>, on a device a plain pointer, in emulation one that
// checks bounds, initialisation and races at every access.
#pragma once

#include <cstddef>
#include <cstdint>

#include <promptiqa/core/bfloat16.hpp>
#include <promptiqa/core/kernel_table.hpp>

#if defined(__CUDACC__)
#include <cuda_bf16.h>
#include <cuda_runtime.h>
#define PROMPTIQA_EMULATED 0
#define PROMPTIQA_DEVICE __device__ __forceinline__
#define PROMPTIQA_UNROLL _Pragma("unroll")
#else
#include "emulation/device_memory.hpp"
#include "emulation/intrinsics.hpp"
#define PROMPTIQA_EMULATED 1
#define PROMPTIQA_DEVICE inline
#define PROMPTIQA_UNROLL
#define __global__
#define __host__
#define __device__
#define __launch_bounds__(...)
#endif

namespace promptiqa::cuda {

#if PROMPTIQA_EMULATED
using namespace promptiqa::emulation;
#endif

// ---- shared memory ------------------------------------------------------------------------------------------------

/// PROMPTIQA_SHARED(T, name, count): a static array of the block, as Shared<T> name.
/// dynamic_shared<T>(first_byte, count): elements of the launch's dynamic shared memory; first_byte a multiple of 16. The
/// first byte lies at a multiple of 1024, which swizzled tiles need.
#if PROMPTIQA_EMULATED
template <class T>
using Shared = SharedPointer<T>;
#define PROMPTIQA_SHARED(T, name, count)                                          \
  static const char name##_identity = 0;                                          \
  const ::promptiqa::cuda::Shared<T> name(::promptiqa::emulation::static_shared_range( \
      #name, &name##_identity, static_cast<std::size_t>(count) * sizeof(T)))
template <class T>
Shared<T> dynamic_shared(std::size_t first_byte, std::size_t count) {
  return Shared<T>(dynamic_shared_range(first_byte, count * sizeof(T)));
}
#else
template <class T>
using Shared = T*;
#define PROMPTIQA_SHARED(T, name, count) __shared__ T name[count]
template <class T>
PROMPTIQA_DEVICE Shared<T> dynamic_shared(std::size_t first_byte, std::size_t) {
  extern __shared__ __align__(1024) unsigned char dynamic_shared_memory[];
  return reinterpret_cast<T*>(dynamic_shared_memory + first_byte);
}
#endif

// ---- vector accesses ------------------------------------------------------------------------------------------------

/// N neighbouring elements that are moved by one instruction: N * sizeof(T) is 2, 4, 8 or 16 bytes.
template <class T, int N>
struct alignas(sizeof(T) * N) Vector {
  T values[N];
};

/// The elements at p, which is a multiple of their size.
template <int N, class T>
PROMPTIQA_DEVICE Vector<T, N> load_vector(const T* p) {
#if PROMPTIQA_EMULATED
  check_access(p, sizeof(Vector<T, N>), sizeof(Vector<T, N>), "reads a vector");
  Vector<T, N> v;
  std::memcpy(&v, p, sizeof v);
  return v;
#else
  return *reinterpret_cast<const Vector<T, N>*>(p);
#endif
}
template <int N, class T>
PROMPTIQA_DEVICE void store_vector(T* p, const Vector<T, N>& v) {
#if PROMPTIQA_EMULATED
  check_access(p, sizeof v, sizeof v, "writes a vector");
  std::memcpy(p, &v, sizeof v);
#else
  *reinterpret_cast<Vector<T, N>*>(p) = v;
#endif
}

/// The same in shared memory.
template <int N, class T>
PROMPTIQA_DEVICE Vector<T, N> load_shared(Shared<T> p) {
#if PROMPTIQA_EMULATED
  Vector<T, N> v;
  p.read(&v, sizeof v, sizeof v);
  return v;
#else
  return *reinterpret_cast<const Vector<T, N>*>(p);
#endif
}
template <int N, class T>
PROMPTIQA_DEVICE void store_shared(Shared<T> p, const Vector<T, N>& v) {
#if PROMPTIQA_EMULATED
  p.write(&v, sizeof v, sizeof v);
#else
  *reinterpret_cast<Vector<T, N>*>(p) = v;
#endif
}

// ---- element types --------------------------------------------------------------------------------------------------

/// An element as what sums are kept in, and back, rounded to nearest.
PROMPTIQA_DEVICE float widen(float x) { return x; }
PROMPTIQA_DEVICE double widen(double x) { return x; }
PROMPTIQA_DEVICE float widen(bfloat16 x) { return __uint_as_float(static_cast<unsigned>(x.bits) << 16); }

template <class T>
PROMPTIQA_DEVICE T narrow(accumulate_t<T> x) {
  return x;
}
template <>
PROMPTIQA_DEVICE bfloat16 narrow<bfloat16>(float x) {
#if PROMPTIQA_EMULATED
  return {float_to_bfloat16_bits(x)};
#else
  return {__bfloat16_as_ushort(__float2bfloat16_rn(x))};
#endif
}

/// Elements in 16 bytes.
template <class T>
constexpr int vector_width = 16 / static_cast<int>(sizeof(T));

}  // namespace promptiqa::cuda
