// The kernels of the avx512 backend, for float and double.
// Surprising choice: no compiler flag selects the instructions; the bodies carry target attributes.
#include <promptiqa/cpu/kernel_table.ipp>

#if PROMPTIQA_X86_64
namespace promptiqa::cpu {

template const KernelTable<float>& isa_kernel_table<float, Avx512>();
template const KernelTable<double>& isa_kernel_table<double, Avx512>();

}  // namespace promptiqa::cpu
#endif
