// The core's bodies, compiled once for promptiqa::compiled.
// Surprising choice: it only needs the declarations of the kernel tables; each is compiled in a file of its own.
#include <promptiqa/core/arena.ipp>
#include <promptiqa/core/context.ipp>
#include <promptiqa/core/memory_pool.ipp>
#include <promptiqa/core/thread_pool.ipp>

namespace promptiqa {

template const KernelTable<float>& cpu_kernel_table<float>(CpuBackend);
template const KernelTable<double>& cpu_kernel_table<double>(CpuBackend);

}  // namespace promptiqa
