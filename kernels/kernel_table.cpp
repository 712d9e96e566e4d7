// The CUDA kernel table of each element type.
// Surprising choice: the fields are named one by one, so a body that was forgotten is a null that the table's test finds.
#include "kernel_table.hpp"

namespace promptiqa::cuda {

template <class T>
const KernelTable<T>& kernel_table() {
  static const KernelTable<T> table = [] {
    KernelTable<T> t = {};
    t.name = "cuda";
    t.gemm = gemm<T>;
    t.packed_bytes = packed_bytes<T>;
    t.pack_matrix = pack_matrix<T>;
    t.packed_layout = packed_layout<T>();
    t.attention = attention<T>;
    t.attention_backward = attention_backward<T>;
    t.conv2d = conv2d<T>;
    t.packed_conv2d_bytes = packed_conv2d_bytes<T>;
    t.pack_conv2d = pack_conv2d<T>;
    t.conv2d_backward_data = conv2d_backward_data<T>;
    t.conv2d_backward_weight = conv2d_backward_weight<T>;
    t.softmax = softmax<T>;
    t.softmax_backward = softmax_backward<T>;
    t.layer_norm = layer_norm<T>;
    t.layer_norm_backward = layer_norm_backward<T>;
    t.batch_norm = batch_norm<T>;
    t.batch_norm_backward = batch_norm_backward<T>;
    t.avg_pool2d = avg_pool2d<T>;
    t.avg_pool2d_backward = avg_pool2d_backward<T>;
    t.unary = unary<T>;
    t.unary_backward = unary_backward<T>;
    t.binary = binary<T>;
    t.reduce_sum = reduce_sum<T>;
    t.column_sum = column_sum<T>;
    t.expand = expand<T>;
    t.permute = permute<T>;
    t.copy_rows = copy_rows<T>;
    t.index_select = index_select<T>;
    t.index_select_backward = index_select_backward<T>;
    t.dropout = dropout<T>;
    t.l1_loss = l1_loss<T>;
    t.l1_loss_backward = l1_loss_backward<T>;
    t.fill = fill<T>;
    t.add_in_place = add_in_place<T>;
    t.adam_step = adam_step<T>;
    t.sum_of_squares = sum_of_squares<T>;
    t.lerp = lerp<T>;
    t.resize_images = resize_images<T>;
    return t;
  }();
  return table;
}

template const KernelTable<float>& kernel_table<float>();
template const KernelTable<double>& kernel_table<double>();
template const KernelTable<bfloat16>& kernel_table<bfloat16>();

}  // namespace promptiqa::cuda
