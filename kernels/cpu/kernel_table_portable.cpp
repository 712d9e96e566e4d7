// The kernels of the portable backend, for float and double.
// Surprising choice: vectors of 16 bytes, which every processor with vectors at all can do; the compiler splits others.
#include <promptiqa/cpu/kernel_table.ipp>

namespace promptiqa::cpu {

template const KernelTable<float>& isa_kernel_table<float, Portable>();
template const KernelTable<double>& isa_kernel_table<double, Portable>();

}  // namespace promptiqa::cpu
