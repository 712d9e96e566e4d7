// The kernel table of one instruction set.
// Surprising choice: the fields are named one by one, so a body that was forgotten is a compiler's warning or a
// null that the table's test finds, never a neighbour's function.
#pragma once

#include <promptiqa/cpu/attention.hpp>
#include <promptiqa/cpu/conv2d.hpp>
#include <promptiqa/cpu/elementwise.hpp>
#include <promptiqa/cpu/gemm.hpp>
#include <promptiqa/cpu/kernel_table.hpp>
#include <promptiqa/cpu/norm.hpp>
#include <promptiqa/cpu/optimizer.hpp>
#include <promptiqa/cpu/pool.hpp>
#include <promptiqa/cpu/rearrange.hpp>
#include <promptiqa/cpu/softmax.hpp>

namespace promptiqa::cpu {

template <class T, class Isa>
const KernelTable<T>& isa_kernel_table() {
  static const KernelTable<T> table = {
      .name = Isa::bytes == 64 ? "cpu avx512" : Isa::bytes == 32 ? "cpu avx2" : "cpu portable",
      .gemm = gemm<T, Isa>,
      .packed_bytes = packed_bytes<T, Isa>,
      .pack_matrix = pack_matrix<T, Isa>,
      .packed_layout = packed_layout<T, Isa>,
      .attention = attention<T, Isa>,
      .attention_backward = attention_backward<T, Isa>,
      .softmax = softmax<T, Isa>,
      .softmax_backward = softmax_backward<T, Isa>,
      .layer_norm = layer_norm<T, Isa>,
      .layer_norm_backward = layer_norm_backward<T, Isa>,
      .batch_norm = batch_norm<T, Isa>,
      .batch_norm_backward = batch_norm_backward<T, Isa>,
      .conv2d = conv2d<T, Isa>,
      .packed_conv2d_bytes = packed_conv2d_bytes<T, Isa>,
      .pack_conv2d = pack_conv2d<T, Isa>,
      .conv2d_backward_data = conv2d_backward_data<T, Isa>,
      .conv2d_backward_weight = conv2d_backward_weight<T, Isa>,
      .avg_pool2d = avg_pool2d<T, Isa>,
      .avg_pool2d_backward = avg_pool2d_backward<T, Isa>,
      .unary = unary<T, Isa>,
      .unary_backward = unary_backward<T, Isa>,
      .binary = binary<T, Isa>,
      .reduce_sum = reduce_sum<T, Isa>,
      .column_sum = column_sum<T, Isa>,
      .expand = expand<T, Isa>,
      .permute = permute<T, Isa>,
      .copy_rows = copy_rows<T, Isa>,
      .index_select = index_select<T, Isa>,
      .index_select_backward = index_select_backward<T, Isa>,
      .dropout = dropout<T, Isa>,
      .l1_loss = l1_loss<T, Isa>,
      .l1_loss_backward = l1_loss_backward<T, Isa>,
      .fill = fill<T, Isa>,
      .add_in_place = add_in_place<T, Isa>,
      .adam_step = adam_step<T, Isa>,
      .sum_of_squares = sum_of_squares<T, Isa>,
      .lerp = lerp<T, Isa>,
  };
  return table;
}

}  // namespace promptiqa::cpu
