// The reference kernels, for float and double.
// Surprising choice: this is the one source that sees Eigen; the portable bodies it shares are compiled elsewhere.
#include <promptiqa/cpu/eigen_kernel_table.ipp>

namespace promptiqa::cpu {

extern template const KernelTable<float>& isa_kernel_table<float, Portable>();
extern template const KernelTable<double>& isa_kernel_table<double, Portable>();
template const KernelTable<float>& eigen_kernel_table<float>();
template const KernelTable<double>& eigen_kernel_table<double>();

}  // namespace promptiqa::cpu
