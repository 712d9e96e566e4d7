// The kernels of the avx512_bf16 backend.
// Surprising choice: none; double has no such kernels.
#include <promptiqa/cpu/bf16_kernel_table.ipp>
