// The Context that --device and --precision ask for.
// Surprising choice: of all that the programs are made of, only this file depends on whether the CUDA library is there,
// so that both kinds of a program share everything else.
#include "device.hpp"

#include <memory>

#include <promptiqa/core/error.hpp>
#if defined(PROMPTIQA_EXAMPLES_CUDA)
#include <promptiqa/cuda.hpp>
#endif

namespace examples {

promptiqa::Context make_context(const std::string& device, const std::string& precision, int threads,
                                std::string* notice, [[maybe_unused]] bool trains, [[maybe_unused]] int local_rank) {
  if (!is_cuda(device))
    return promptiqa::Context::cpu(threads, promptiqa::cpu_backend(precision_named(precision), notice));
#if defined(PROMPTIQA_EXAMPLES_CUDA)
  promptiqa::CudaOptions options;
  options.allow_tf32 = precision == "tf32";
  options.bf16_products = trains && precision == "bf16";  // scoring has Model<bfloat16>
  try {
    int ordinal = cuda_ordinal(device);
    if (device == "cuda" && local_rank > 0) {
      const auto devices = static_cast<int>(promptiqa::cuda_devices().size());
      ordinal = devices > 0 ? local_rank % devices : 0;
    }
    return promptiqa::make_cuda_context(ordinal, std::make_shared<promptiqa::ThreadPool>(threads), options);
  } catch (const promptiqa::CudaError& error) {
    throw promptiqa::CudaError("--device " + device + ": " + error.what() + "; --device cpu works without a GPU");
  }
#else
  throw promptiqa::CudaError("--device " + device +
                             ": this program was built without CUDA (configure with -DPROMPTIQA_CUDA=ON, which needs "
                             "nvcc); --device cpu works without a GPU");
#endif
}

}  // namespace examples
