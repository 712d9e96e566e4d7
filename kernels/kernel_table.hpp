// The launchers of all CUDA kernels and the table of them; the .cu files define one family each.
// Surprising choice: the launchers are templates that are declared here and instantiated in their file for float,
// double and bfloat16, so the table is plain C++ and no compiler but nvcc sees a kernel.
#pragma once

#include <promptiqa/core/bfloat16.hpp>
#include <promptiqa/core/kernel_table.hpp>

namespace promptiqa::cuda {

/// PROMPTIQA_CUDA_OP(name, Args): the launcher of one field of KernelTable.
#define PROMPTIQA_CUDA_OP(name, Args) \
  template <class T>                  \
  void name(const KernelContext& kc, const Args<T>& args);

PROMPTIQA_CUDA_OP(gemm, GemmArgs)
PROMPTIQA_CUDA_OP(pack_matrix, PackMatrixArgs)
PROMPTIQA_CUDA_OP(attention, AttentionArgs)
PROMPTIQA_CUDA_OP(attention_backward, AttentionBackwardArgs)
PROMPTIQA_CUDA_OP(conv2d, Conv2dArgs)
PROMPTIQA_CUDA_OP(pack_conv2d, PackConv2dArgs)
PROMPTIQA_CUDA_OP(conv2d_backward_data, Conv2dBackwardDataArgs)
PROMPTIQA_CUDA_OP(conv2d_backward_weight, Conv2dBackwardWeightArgs)
PROMPTIQA_CUDA_OP(softmax, SoftmaxArgs)
PROMPTIQA_CUDA_OP(softmax_backward, SoftmaxBackwardArgs)
PROMPTIQA_CUDA_OP(layer_norm, LayerNormArgs)
PROMPTIQA_CUDA_OP(layer_norm_backward, LayerNormBackwardArgs)
PROMPTIQA_CUDA_OP(batch_norm, BatchNormArgs)
PROMPTIQA_CUDA_OP(batch_norm_backward, BatchNormBackwardArgs)
PROMPTIQA_CUDA_OP(avg_pool2d, AvgPool2dArgs)
PROMPTIQA_CUDA_OP(avg_pool2d_backward, AvgPool2dBackwardArgs)
PROMPTIQA_CUDA_OP(unary, UnaryArgs)
PROMPTIQA_CUDA_OP(unary_backward, UnaryBackwardArgs)
PROMPTIQA_CUDA_OP(binary, BinaryArgs)
PROMPTIQA_CUDA_OP(reduce_sum, ReduceSumArgs)
PROMPTIQA_CUDA_OP(column_sum, ColumnSumArgs)
PROMPTIQA_CUDA_OP(expand, ExpandArgs)
PROMPTIQA_CUDA_OP(permute, PermuteArgs)
PROMPTIQA_CUDA_OP(copy_rows, CopyRowsArgs)
PROMPTIQA_CUDA_OP(index_select, IndexSelectArgs)
PROMPTIQA_CUDA_OP(index_select_backward, IndexSelectBackwardArgs)
PROMPTIQA_CUDA_OP(dropout, DropoutArgs)
PROMPTIQA_CUDA_OP(l1_loss, L1LossArgs)
PROMPTIQA_CUDA_OP(l1_loss_backward, L1LossBackwardArgs)
PROMPTIQA_CUDA_OP(fill, FillArgs)
PROMPTIQA_CUDA_OP(add_in_place, AddInPlaceArgs)
PROMPTIQA_CUDA_OP(adam_step, AdamStepArgs)
PROMPTIQA_CUDA_OP(sum_of_squares, SumOfSquaresArgs)
PROMPTIQA_CUDA_OP(lerp, LerpArgs)
PROMPTIQA_CUDA_OP(resize_images, ResizeImagesArgs)

#undef PROMPTIQA_CUDA_OP

/// Of KernelTable, too, but no launchers.
template <class T>
int packed_layout();
template <class T>
std::size_t packed_bytes(std::int64_t k, std::int64_t n);
template <class T>
std::size_t packed_conv2d_bytes(std::int64_t out_channels, std::int64_t in_channels, std::int64_t kernel_h,
                                std::int64_t kernel_w);

/// PROMPTIQA_CUDA_INSTANTIATE(name, Args): the launcher for every element type; once, where it is defined.
#define PROMPTIQA_CUDA_INSTANTIATE(name, Args)                              \
  template void name<float>(const KernelContext&, const Args<float>&);      \
  template void name<double>(const KernelContext&, const Args<double>&);    \
  template void name<bfloat16>(const KernelContext&, const Args<bfloat16>&);

/// All of them, for T float, double or bfloat16.
template <class T>
const KernelTable<T>& kernel_table();

}  // namespace promptiqa::cuda
