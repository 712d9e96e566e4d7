// Contexts of CUDA devices: link promptiqa::cuda and use them as any other; no nvcc and no CUDA header is needed.
// Surprising choice: nothing here waits for the device but copies to the host; work of one Context happens in the order
// of its calls, so a tensor that two Contexts share must be kept until both have synchronised.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include <promptiqa/core/context.hpp>
#include <promptiqa/core/thread_pool.hpp>

namespace promptiqa {

/// The names of the CUDA devices, by ordinal; empty when there is none. Throws CudaError when the driver is missing or
/// too old for the library.
std::vector<std::string> cuda_devices();

/// A Context whose tensors live on CUDA device `ordinal` and whose ops run there, in a stream of their own. What stays
/// on the CPU (reading images) uses `pool`, or a fresh one with all cores. Throws CudaError when the driver is missing,
/// there is no such device, or a later call fails; what() names the CUDA call and the op.
Context make_cuda_context(int ordinal, std::shared_ptr<ThreadPool> pool = nullptr);

/// Waits until everything asked of a CUDA context has been done; returns at once for another one. Throws CudaError for
/// a fault of any op before.
void synchronize(const Context& ctx);

}  // namespace promptiqa
