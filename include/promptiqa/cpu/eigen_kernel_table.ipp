// The reference kernel table: slow where it is simple, and right.
// Surprising choice: it is the portable table with the three hard families replaced, so whatever differs between
// `eigen` and another backend beyond rounding is a bug in the other one.
#pragma once

#include <promptiqa/cpu/attention_reference.hpp>
#include <promptiqa/cpu/conv2d_reference.hpp>
#include <promptiqa/cpu/gemm_eigen.hpp>
#include <promptiqa/cpu/kernel_table.hpp>

namespace promptiqa::cpu {

template <class T>
const KernelTable<T>& eigen_kernel_table() {
  static const KernelTable<T> table = [] {
    KernelTable<T> t = isa_kernel_table<T, Portable>();
    t.name = "cpu eigen";
    t.gemm = gemm_eigen<T>;
    t.packed_bytes = packed_bytes_eigen<T>;
    t.pack_matrix = pack_matrix_eigen<T>;
    t.packed_layout = packed_layout_eigen<T>;
    t.attention = attention_reference<T>;
    t.attention_backward = attention_backward_reference<T>;
    t.conv2d = conv2d_reference<T>;
    t.packed_conv2d_bytes = packed_conv2d_bytes_reference<T>;
    t.pack_conv2d = pack_conv2d_reference<T>;
    t.conv2d_backward_data = conv2d_backward_data_reference<T>;
    t.conv2d_backward_weight = conv2d_backward_weight_reference<T>;
    return t;
  }();
  return table;
}

}  // namespace promptiqa::cpu
