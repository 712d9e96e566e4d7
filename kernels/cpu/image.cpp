// The bodies of image/, compiled once; stb_image lives here and nowhere else.
// Surprising choice: without stb_image on the build machine the file reading of file.hpp is left out, not the rest.
#include <promptiqa/image/file_format.ipp>
#include <promptiqa/image/image.ipp>
#include <promptiqa/image/orientation.ipp>
#include <promptiqa/image/prepare.ipp>
#include <promptiqa/image/preprocess.ipp>
#include <promptiqa/image/resize.ipp>

#if __has_include(<stb_image.h>)
#include <promptiqa/image/file.ipp>
#endif

namespace promptiqa {

template Tensor<float> prepare_images(Context&, std::span<const Image>, int);
template Tensor<double> prepare_images(Context&, std::span<const Image>, int);
template Tensor<bfloat16> prepare_images(Context&, std::span<const Image>, int);

}  // namespace promptiqa
