// The ops, compiled once for each element type.
// Surprising choice: this list is the only place that names the element types of the compiled library.
#include <promptiqa/ops/attention.ipp>
#include <promptiqa/ops/conv2d.ipp>
#include <promptiqa/ops/elementwise.ipp>
#include <promptiqa/ops/linear.ipp>
#include <promptiqa/ops/norm.ipp>
#include <promptiqa/ops/pool.ipp>
#include <promptiqa/ops/rearrange.ipp>
#include <promptiqa/ops/softmax.ipp>

namespace promptiqa {

#define PROMPTIQA_INSTANTIATE_OPS(T)                                                                                  \
  template class PackedMatrix<T>;                                                                                     \
  template Tensor<T> linear(Context&, const Tensor<T>&, const Tensor<T>&, const Tensor<accumulate_t<T>>&,             \
                            const LinearEpilogue<T>&);                                                                \
  template Tensor<T> matmul(Context&, const Tensor<T>&, const Tensor<T>&, bool, bool, double);                        \
  template Tensor<T> matmul_by_rows(Context&, const Tensor<T>&, const Tensor<T>&, std::int64_t,                       \
                                    const std::function<void(std::int64_t, std::int64_t)>&);                          \
  template Tensor<T> relu(Context&, const Tensor<T>&);                                                                \
  template Tensor<T> gelu(Context&, const Tensor<T>&);                                                                \
  template Tensor<T> sigmoid(Context&, const Tensor<T>&);                                                             \
  template Tensor<T> scale_shift(Context&, const Tensor<T>&, double, double);                                         \
  template Tensor<T> add(Context&, const Tensor<T>&, const Tensor<T>&);                                               \
  template Tensor<T> subtract(Context&, const Tensor<T>&, const Tensor<T>&);                                          \
  template Tensor<T> multiply(Context&, const Tensor<T>&, const Tensor<T>&);                                          \
  template Tensor<T> dropout(Context&, const Tensor<T>&, double, bool);                                               \
  template Tensor<T> l1_loss(Context&, const Tensor<T>&, const Tensor<T>&);                                           \
  template Tensor<T> softmax(Context&, const Tensor<T>&, double);                                                     \
  template Tensor<T> layer_norm(Context&, const Tensor<T>&, const Tensor<accumulate_t<T>>&,                           \
                                const Tensor<accumulate_t<T>>&, double);                                              \
  template Tensor<T> batch_norm_training(Context&, const Tensor<T>&, const Tensor<accumulate_t<T>>&,                  \
                                         const Tensor<accumulate_t<T>>&, Tensor<accumulate_t<T>>&,                    \
                                         Tensor<accumulate_t<T>>&, double, double);                                   \
  template Tensor<T> batch_norm_inference(Context&, const Tensor<T>&, const Tensor<accumulate_t<T>>&,                 \
                                          const Tensor<accumulate_t<T>>&, const Tensor<accumulate_t<T>>&,             \
                                          const Tensor<accumulate_t<T>>&, double);                                    \
  template Tensor<T> attention(Context&, const Tensor<T>&, const Tensor<T>&, const Tensor<T>&, int, double);          \
  template Tensor<T> attention_qkv(Context&, const Tensor<T>&, int, double);                                          \
  template Tensor<T> conv2d(Context&, const Tensor<T>&, const Tensor<T>&, const Tensor<accumulate_t<T>>&,             \
                            const Conv2dOptions&);                                                                    \
  template class PackedConv2d<T>;                                                                                     \
  template Tensor<T> conv2d(Context&, const Tensor<T>&, const PackedConv2d<T>&, const Tensor<accumulate_t<T>>&,       \
                            const Conv2dOptions&, const Conv2dEpilogue<T>&);                                          \
  template Tensor<T> avg_pool2d(Context&, const Tensor<T>&, std::int64_t);                                            \
  template Tensor<T> permute(Context&, const Tensor<T>&, std::span<const int>);                                       \
  template Tensor<T> transpose(Context&, const Tensor<T>&);                                                           \
  template Tensor<T> concat(Context&, std::span<const Tensor<T>>, int);                                               \
  template Tensor<T> slice(Context&, const Tensor<T>&, int, std::int64_t, std::int64_t);                              \
  template Tensor<T> mean(Context&, const Tensor<T>&, int);                                                           \
  template Tensor<T> expand(Context&, const Tensor<T>&, int, std::int64_t);                                           \
  template Tensor<T> index_select(Context&, const Tensor<T>&, int, std::span<const std::int64_t>);

PROMPTIQA_INSTANTIATE_OPS(float)
PROMPTIQA_INSTANTIATE_OPS(double)
PROMPTIQA_INSTANTIATE_OPS(bfloat16)  // on devices

#undef PROMPTIQA_INSTANTIATE_OPS

}  // namespace promptiqa
