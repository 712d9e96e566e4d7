// Launch of the resize.
// Surprising choice: one launch for pictures of all sizes; where their bytes lie and what they are blended with was
// uploaded with them.
#include "kernel_table.hpp"
#include "launch.cuh"
#include "resize.cuh"

namespace promptiqa::cuda {

template <class T>
void resize_images(const KernelContext& kc, const ResizeImagesArgs<T>& args) {
  const Op op("resize_images", kc);
  const std::int64_t pixels = args.count * args.side * args.side;
  launch(resize_images_kernel<T>, blocks_for(op, pixels, 256), 256, 0, op, pixels, args);
}
PROMPTIQA_CUDA_INSTANTIATE(resize_images, ResizeImagesArgs)

}  // namespace promptiqa::cuda
