// Launches of the sums.
// Surprising choice: the length of a part depends on the shape only, never on the device, so results do not either.
#include "kernel_table.hpp"
#include "sum.cuh"

namespace promptiqa::cuda {

namespace {

/// One launch over all parts of the axis.
template <class In, class Out, class A>
void sum_parts(const Op& op, const AxisSum& sum, A scale, const In* x, Out* y) {
  const std::int64_t items = sum.outer * sum.parts;
  if (sum.inner == 1)
    launch(sum_rows_kernel<In, Out, A>, blocks_for(op, items, 4), dim3(32, 4), 0, op, sum, scale, x, y);
  else
    launch(sum_columns_kernel<In, Out, A>, blocks_for(op, items * ceil_div(sum.inner, 32), 1), dim3(32, 8), 0, op, sum,
           scale, x, y);
}

/// y[o, i] = scale * sum over a of x[o, a, i].
template <class In, class Out, class A>
void sum_axis(const Op& op, std::int64_t outer, std::int64_t axis, std::int64_t inner, A scale, const In* x, Out* y) {
  if (outer == 0 || inner == 0) return;
  // Short enough for one warp or block; beyond, 256 rows or 4096 neighbours are a part.
  const std::int64_t one_part = inner == 1 ? 8192 : 1024, length = inner == 1 ? 4096 : 256;
  if (axis <= one_part) return sum_parts(op, AxisSum{outer, axis, inner, 1, axis}, scale, x, y);
  const std::int64_t parts = ceil_div(axis, length);
  const StorageRef scratch = op.memory.allocate(static_cast<std::size_t>(outer * parts * inner) * sizeof(A));
  A* partial = static_cast<A*>(scratch->data);
  sum_parts(op, AxisSum{outer, axis, inner, parts, length}, A(1), x, partial);
  sum_parts(op, AxisSum{outer, parts, inner, 1, parts}, scale, static_cast<const A*>(partial), y);
}

/// result = scale * sum of term(i), plus what is there when `add`.
template <class Term, class Out>
void sum_terms(const Op& op, std::int64_t count, const Term& term, double scale, bool add, Out* result) {
  const std::int64_t parts = ceil_div(count, terms_per_block);
  const StorageRef scratch = op.memory.allocate(static_cast<std::size_t>(parts) * sizeof(double));
  double* partial = static_cast<double*>(scratch->data);
  launch(sum_terms_kernel<Term>, blocks_for(op, parts, 1), 256, 0, op, count, term, partial);
  launch(finish_sum_kernel<Out>, 1, 256, 0, op, parts, static_cast<const double*>(partial), scale, add, result);
}

}  // namespace

template <class T>
void reduce_sum(const KernelContext& kc, const ReduceSumArgs<T>& args) {
  sum_axis(Op("reduce_sum", kc), args.outer, args.axis, args.inner, args.scale, args.x, args.y);
}
PROMPTIQA_CUDA_INSTANTIATE(reduce_sum, ReduceSumArgs)

template <class T>
void column_sum(const KernelContext& kc, const ColumnSumArgs<T>& args) {
  using A = accumulate_t<T>;
  sum_axis(Op("column_sum", kc), std::int64_t{1}, args.rows, args.columns, A(1), args.x, args.y);
}
PROMPTIQA_CUDA_INSTANTIATE(column_sum, ColumnSumArgs)

template <class T>
void l1_loss(const KernelContext& kc, const L1LossArgs<T>& args) {
  sum_terms(Op("l1_loss", kc), args.count, AbsoluteDifference<T>{args.a, args.b}, 1 / static_cast<double>(args.count),
            false, args.loss);
}
PROMPTIQA_CUDA_INSTANTIATE(l1_loss, L1LossArgs)

template <class T>
void sum_of_squares(const KernelContext& kc, const SumOfSquaresArgs<T>& args) {
  sum_terms(Op("sum_of_squares", kc), args.count, Square<T>{args.x}, 1, true, args.sum);
}
PROMPTIQA_CUDA_INSTANTIATE(sum_of_squares, SumOfSquaresArgs)

}  // namespace promptiqa::cuda
