// Launches of the element-wise kernels.
// Surprising choice: dimensions that both operands walk through alike are merged first, so that a broadcast of rank 6
// usually costs two divisions an element, and one of equal shapes none.
#include <cmath>

#include "elementwise.cuh"
#include "kernel_table.hpp"

namespace promptiqa::cuda {

template <class T>
void unary(const KernelContext& kc, const UnaryArgs<T>& args) {
  using A = accumulate_t<T>;
  const Op op("unary", kc);
  switch (args.kind) {
    case UnaryKind::relu:
      return map(op, args.count, Relu<A>(), args.y, args.x);
    case UnaryKind::gelu:
      return map(op, args.count, Gelu<A>(), args.y, args.x);
    case UnaryKind::sigmoid:
      return map(op, args.count, Sigmoid<A>(), args.y, args.x);
    case UnaryKind::scale_shift:
      return map(op, args.count, ScaleShift<A>{args.alpha, args.beta}, args.y, args.x);
  }
}
PROMPTIQA_CUDA_INSTANTIATE(unary, UnaryArgs)

template <class T>
void unary_backward(const KernelContext& kc, const UnaryBackwardArgs<T>& args) {
  using A = accumulate_t<T>;
  const Op op("unary_backward", kc);
  switch (args.kind) {
    case UnaryKind::relu:
      return map(op, args.count, ReluBackward<A>(), args.dx, args.x, args.dy);
    case UnaryKind::gelu:
      return map(op, args.count, GeluBackward<A>(), args.dx, args.x, args.dy);
    case UnaryKind::sigmoid:
      return map(op, args.count, SigmoidBackward<A>(), args.dx, args.y, args.dy);
    case UnaryKind::scale_shift:
      return map(op, args.count, ScaleShift<A>{args.alpha, A(0)}, args.dx, args.dy);
  }
}
PROMPTIQA_CUDA_INSTANTIATE(unary_backward, UnaryBackwardArgs)

namespace {

/// The loops of BinaryArgs without dimensions of size 1, neighbours merged wherever both operands allow it.
template <class T>
Broadcast merge_dimensions(const BinaryArgs<T>& args) {
  Broadcast loops = {};
  for (int i = 0; i < args.rank; ++i) {
    if (args.dims[i] == 1) continue;
    const int last = loops.rank - 1;
    const bool joins = last >= 0 && loops.a_strides[last] == args.a_strides[i] * args.dims[i] &&
                       loops.b_strides[last] == args.b_strides[i] * args.dims[i];
    const int at = joins ? last : loops.rank++;
    loops.dims[at] = joins ? loops.dims[at] * args.dims[i] : args.dims[i];
    loops.a_strides[at] = args.a_strides[i];
    loops.b_strides[at] = args.b_strides[i];
  }
  return loops;
}

template <class F, class T>
void binary_with(const Op& op, const F& f, const BinaryArgs<T>& args) {
  const Broadcast loops = merge_dimensions(args);
  std::int64_t count = 1, reach = 0;  // reach: the largest offset
  for (int d = 0; d < loops.rank; ++d) count *= loops.dims[d];
  if (count == 0) return;
  for (int d = 0; d < loops.rank; ++d)
    reach += (loops.dims[d] - 1) * (loops.a_strides[d] > loops.b_strides[d] ? loops.a_strides[d] : loops.b_strides[d]);
  if (loops.rank == 0 || (loops.rank == 1 && loops.a_strides[0] == 1 && loops.b_strides[0] == 1))
    return map(op, count, f, args.y, args.a, args.b);
  with_index_type(count > reach ? count : reach, [&](auto index) {
    launch(broadcast_kernel<decltype(index), F, T>, blocks_for(op, count, 256), 256, 0, op, count, f, loops, args.a,
           args.b, args.y);
  });
}

}  // namespace

template <class T>
void binary(const KernelContext& kc, const BinaryArgs<T>& args) {
  using A = accumulate_t<T>;
  const Op op("binary", kc);
  switch (args.kind) {
    case BinaryKind::add:
      return binary_with(op, Add<A>(), args);
    case BinaryKind::subtract:
      return binary_with(op, Subtract<A>(), args);
    case BinaryKind::multiply:
      return binary_with(op, Multiply<A>(), args);
  }
}
PROMPTIQA_CUDA_INSTANTIATE(binary, BinaryArgs)

template <class T>
void dropout(const KernelContext& kc, const DropoutArgs<T>& args) {
  using A = accumulate_t<T>;
  const Op op("dropout", kc);
  const auto least = static_cast<std::uint64_t>(std::ceil(args.p * 0x1.0p53));
  map(op, args.count, Dropout<A>{args.key, least, static_cast<A>(1 / (1 - args.p))}, args.y, args.x);
}
PROMPTIQA_CUDA_INSTANTIATE(dropout, DropoutArgs)

template <class T>
void l1_loss_backward(const KernelContext& kc, const L1LossBackwardArgs<T>& args) {
  const Op op("l1_loss_backward", kc);
  map(op, args.count, L1LossBackward<T>{args.dloss, static_cast<accumulate_t<T>>(args.count)}, args.da, args.a, args.b);
}
PROMPTIQA_CUDA_INSTANTIATE(l1_loss_backward, L1LossBackwardArgs)

template <class T>
void fill(const KernelContext& kc, const FillArgs<T>& args) {
  map(Op("fill", kc), args.count, Fill<T>{args.value}, args.y);
}
PROMPTIQA_CUDA_INSTANTIATE(fill, FillArgs)

template <class T>
void add_in_place(const KernelContext& kc, const AddInPlaceArgs<T>& args) {
  map(Op("add_in_place", kc), args.count, Add<accumulate_t<T>>(), args.y, static_cast<const T*>(args.y), args.x);
}
PROMPTIQA_CUDA_INSTANTIATE(add_in_place, AddInPlaceArgs)

template <class T>
void adam_step(const KernelContext& kc, const AdamStepArgs<T>& args) {
  const Op op("adam_step", kc);
  launch(adam_step_kernel<T>, blocks_for(op, args.count, 256), 256, 0, op, args);
}
PROMPTIQA_CUDA_INSTANTIATE(adam_step, AdamStepArgs)

template <class T>
void lerp(const KernelContext& kc, const LerpArgs<T>& args) {
  map(Op("lerp", kc), args.count, Lerp<accumulate_t<T>>{args.weight}, args.y, static_cast<const T*>(args.y), args.x);
}
PROMPTIQA_CUDA_INSTANTIATE(lerp, LerpArgs)

}  // namespace promptiqa::cuda
