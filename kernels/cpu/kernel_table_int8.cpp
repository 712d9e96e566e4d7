// The kernels of the avx512_int8 backend.
// Surprising choice: none; double has no such kernels.
#include <promptiqa/cpu/int8_kernel_table.ipp>
