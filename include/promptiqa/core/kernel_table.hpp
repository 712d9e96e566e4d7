// KernelTable<T>: every computation the library knows, as one struct of function pointers over plain arguments.
// Surprising choice: this is the whole device interface. Ops check shapes, allocate and call through it, so a
// device is one table; the header is C++17 and includes nothing of ours, so .cu files can read it.
//
// All pointers are to contiguous row-major memory unless an argument says otherwise. T is the element type of
// activations and matrix weights, A = accumulate_t<T> that of norm parameters, biases, statistics and sums.
// Kernels trust their arguments: shapes have been checked by the op.
#pragma once

#include <cstddef>
#include <cstdint>

namespace promptiqa {

/// The type sums are kept in: T itself for float and double, float for 16-bit types.
template <class T>
struct Accumulate {
  using type = T;
};
template <class T>
using accumulate_t = typename Accumulate<T>::type;

/// What a kernel may know of the Context that runs it.
struct KernelContext {
  void* execution;  // CPU: ThreadPool*; CUDA: the stream and its library handles
  void* memory;     // CPU: MemoryPool* for scratch
};

// ---- matrix products ----------------------------------------------------------------------------------------

/// What happens to alpha * op(a) op(b) + bias before it is stored.
enum class Activation : int { none, relu, gelu };

/// A matrix b laid out once for many products. Opaque: made by pack_matrix, read by gemm of the same table.
struct PackedMatrixView {
  const void* data;
  std::int64_t k, n;
  int layout;  // the table's own tag for the layout; gemm refuses others
};

/// c[i] = activation(alpha * op(a[i]) op(b[i]) + bias) + residual[i] + beta * c[i]   for i in [0, batch).
/// op(a) is (m, k), op(b) is (k, n), c is (m, n). A transposed operand is stored the other way round.
template <class T>
struct GemmArgs {
  using A = accumulate_t<T>;
  std::int64_t m, n, k;
  std::int64_t batch;                        // independent products
  const T* a;
  std::int64_t lda, stride_a;                // elements between rows, and between batch entries (0 = shared)
  bool transpose_a;                          // a is stored (k, m)
  const T* b;                                // null when packed_b is given
  std::int64_t ldb, stride_b;
  bool transpose_b;                          // b is stored (n, k): a Linear's weight
  const PackedMatrixView* packed_b;          // or null
  T* c;
  std::int64_t ldc, stride_c;
  A alpha, beta;
  const A* bias;                             // (n) added to each row; or null
  Activation activation;
  const T* residual;                         // laid out as c, or null; may be c itself
};

/// Lays op(b), (k, n), out for gemm. Call with packed = null to learn the size.
template <class T>
struct PackMatrixArgs {
  const T* b;
  std::int64_t k, n, ldb;
  bool transpose_b;
  void* packed;        // packed_bytes(k, n) bytes, 64-byte aligned
};

// ---- attention ----------------------------------------------------------------------------------------------

/// Scaled dot-product attention, softmax(scale * q k^T) v, per batch entry and head, without the N x N matrix.
/// Element (b, h, i, d) of q is q[b * q_batch + h * q_head + i * q_row + d]; k, v and o alike.
template <class T>
struct AttentionArgs {
  using A = accumulate_t<T>;
  std::int64_t batch, heads, queries, keys, head_dim;  // B, H, Nq, Nk, D
  A scale;
  const T *q, *k, *v;
  std::int64_t q_batch, q_head, q_row;
  std::int64_t k_batch, k_head, k_row;
  std::int64_t v_batch, v_head, v_row;
  T* o;
  std::int64_t o_batch, o_head, o_row;
  A* log_sum_exp;  // (B, H, Nq): log of the softmax denominators, for the backward pass; or null
};

/// Gradients of attention; the softmax is recomputed from log_sum_exp. dq, dk, dv are laid out as q, k, v;
/// do and o share o's strides. dq, dk, dv are overwritten.
template <class T>
struct AttentionBackwardArgs {
  AttentionArgs<T> forward;  // o and log_sum_exp are inputs here
  const T* d_o;
  T *dq, *dk, *dv;
};

// ---- normalisation and softmax --------------------------------------------------------------------------------

/// y = softmax(scale * x) over rows of `columns` elements.
template <class T>
struct SoftmaxArgs {
  std::int64_t rows, columns;
  accumulate_t<T> scale;
  const T* x;
  T* y;  // may be x
};

/// dx = scale * y * (dy - sum(dy * y)) per row.
template <class T>
struct SoftmaxBackwardArgs {
  std::int64_t rows, columns;
  accumulate_t<T> scale;
  const T *y, *dy;
  T* dx;
};

/// y = (x - mean) / sqrt(var + eps) * weight + bias per row; mean and 1/sqrt(var + eps) are kept for backward.
template <class T>
struct LayerNormArgs {
  using A = accumulate_t<T>;
  std::int64_t rows, columns;
  A eps;
  const T* x;
  const A *weight, *bias;  // (columns)
  T* y;
  A *mean, *rstd;          // (rows), or both null
};

template <class T>
struct LayerNormBackwardArgs {
  using A = accumulate_t<T>;
  std::int64_t rows, columns;
  const T *x, *dy;
  const A *weight, *mean, *rstd;
  T* dx;                    // or null
  A *dweight, *dbias;       // overwritten; or both null
};

/// Batch norm of x (batch, channels, area), per channel. Training: statistics of this batch are written to mean
/// and rstd and the running ones updated, running = (1 - momentum) * running + momentum * (mean, unbiased
/// variance). Otherwise the running statistics are used. In both modes mean and rstd, when not null, receive the
/// mean and 1/sqrt(var + eps) that were applied.
template <class T>
struct BatchNormArgs {
  using A = accumulate_t<T>;
  std::int64_t batch, channels, area;
  A eps, momentum;
  bool training;
  const T* x;
  const A *weight, *bias;            // (channels)
  A *running_mean, *running_var;     // (channels); written when training
  T* y;
  A *mean, *rstd;                    // (channels) or null
};

/// Gradients of batch norm. mean and rstd are those the forward pass used (in evaluation mode: made from the
/// running statistics); in evaluation mode they are constants.
template <class T>
struct BatchNormBackwardArgs {
  using A = accumulate_t<T>;
  std::int64_t batch, channels, area;
  bool training;
  const T *x, *dy;
  const A *weight, *mean, *rstd;
  T* dx;                   // or null
  A *dweight, *dbias;      // overwritten; or both null
};

// ---- convolution and pooling ----------------------------------------------------------------------------------

/// Geometry of a 2-D cross-correlation: x (batch, in_channels, in_h, in_w), weight (out_channels, in_channels,
/// kernel_h, kernel_w), y (batch, out_channels, out_h, out_w); zero padding; one group.
struct Conv2dGeometry {
  std::int64_t batch, in_channels, in_h, in_w, out_channels, out_h, out_w;
  std::int64_t kernel_h, kernel_w, stride_h, stride_w, pad_h, pad_w;
};

/// y = activation(x * weight + bias + residual). Unlike a GEMM's, the residual is inside the activation: so a residual
/// unit ends.
template <class T>
struct Conv2dArgs {
  Conv2dGeometry geometry;
  const T *x, *weight;                   // weight is not read when packed_weight is given
  const accumulate_t<T>* bias;           // (out_channels) or null
  T* y;
  const void* packed_weight = nullptr;   // made by pack_conv2d of the same table, or null
  const T* residual = nullptr;           // laid out as y, or null; not y itself
  Activation activation = Activation::none;  // none or relu
};

/// Lays a convolution's weight out for inference, multiplied by `scale`: a batch norm behind it is folded in.
template <class T>
struct PackConv2dArgs {
  std::int64_t out_channels, in_channels, kernel_h, kernel_w;
  const T* weight;
  const accumulate_t<T>* scale;  // (out_channels) or null
  void* packed;                  // packed_conv2d_bytes(out_channels, in_channels, kernel_h, kernel_w), 64-byte aligned
};

/// dx from dy and weight; overwritten.
template <class T>
struct Conv2dBackwardDataArgs {
  Conv2dGeometry geometry;
  const T *dy, *weight;
  T* dx;
};

/// dweight (and dbias unless null) from dy and x; overwritten.
template <class T>
struct Conv2dBackwardWeightArgs {
  Conv2dGeometry geometry;
  const T *dy, *x;
  T* dweight;
  accumulate_t<T>* dbias;
};

/// Mean over kernel x kernel windows, stride = kernel, no padding, incomplete windows dropped.
template <class T>
struct AvgPool2dArgs {
  std::int64_t planes, in_h, in_w, out_h, out_w, kernel;  // planes = batch * channels
  const T* x;
  T* y;
};

template <class T>
struct AvgPool2dBackwardArgs {
  std::int64_t planes, in_h, in_w, out_h, out_w, kernel;
  const T* dy;
  T* dx;  // overwritten, zero where no window reached
};

// ---- element by element ---------------------------------------------------------------------------------------

enum class UnaryKind : int { relu, gelu, sigmoid, scale_shift };  // scale_shift: alpha * x + beta

template <class T>
struct UnaryArgs {
  UnaryKind kind;
  std::int64_t count;
  accumulate_t<T> alpha, beta;  // scale_shift only
  const T* x;
  T* y;  // may be x
};

/// dx = dy * f'(x); x for relu and gelu, y for sigmoid, neither for scale_shift.
template <class T>
struct UnaryBackwardArgs {
  UnaryKind kind;
  std::int64_t count;
  accumulate_t<T> alpha;
  const T *x, *y, *dy;
  T* dx;
};

enum class BinaryKind : int { add, subtract, multiply };

/// y = a op b over the shape `dims`; an operand's stride is 0 along a dimension it is broadcast over.
template <class T>
struct BinaryArgs {
  BinaryKind kind;
  int rank;                              // <= 6
  std::int64_t dims[6], a_strides[6], b_strides[6];
  const T *a, *b;
  T* y;
};

/// y[o, i] = scale * sum over a of x[o, a, i], for x (outer, axis, inner).
template <class T>
struct ReduceSumArgs {
  std::int64_t outer, axis, inner;
  accumulate_t<T> scale;
  const T* x;
  T* y;
};

/// The same with sums in the accumulation type: the gradient of a bias.
template <class T>
struct ColumnSumArgs {
  std::int64_t rows, columns;
  const T* x;
  accumulate_t<T>* y;  // (columns), overwritten
};

/// y[o, a, i] = scale * x[o, i]: the gradient of a reduction.
template <class T>
struct ExpandArgs {
  std::int64_t outer, axis, inner;
  accumulate_t<T> scale;
  const T* x;
  T* y;
};

/// y = x with dimensions reordered: dimension i of y is dimension order[i] of x.
template <class T>
struct PermuteArgs {
  int rank;
  std::int64_t dims[6];  // of x
  int order[6];
  const T* x;
  T* y;
};

/// Copies `rows` runs of `run` elements, from x[i * x_stride] to y[i * y_stride]: concat, slice and their gradients.
template <class T>
struct CopyRowsArgs {
  std::int64_t rows, run, x_stride, y_stride;
  const T* x;
  T* y;
};

/// y[o, j, i] = x[o, index[j], i] for x (outer, axis, inner) and y (outer, count, inner).
template <class T>
struct IndexSelectArgs {
  std::int64_t outer, axis, inner, count;
  const std::int64_t* index;  // (count), each in [0, axis)
  const T* x;
  T* y;
};

/// dx[o, index[j], i] += dy[o, j, i] after zeroing dx; repeated indices add up, in the order of j.
template <class T>
struct IndexSelectBackwardArgs {
  std::int64_t outer, axis, inner, count;
  const std::int64_t* index;
  const T* dy;
  T* dx;
};

/// Zeroes each element with probability p and divides the others by 1 - p. Element i is kept when
/// uniform(key, i) >= p, so the backward pass (x = dy) repeats the mask without storing it.
template <class T>
struct DropoutArgs {
  std::int64_t count;
  double p;
  std::uint64_t key;
  const T* x;
  T* y;
};

/// loss = mean |a - b|, one element.
template <class T>
struct L1LossArgs {
  std::int64_t count;
  const T *a, *b;
  T* loss;
};

/// da = dloss * sign(a - b) / count; sign(0) = 0.
template <class T>
struct L1LossBackwardArgs {
  std::int64_t count;
  const T *a, *b, *dloss;
  T* da;
};

template <class T>
struct FillArgs {
  std::int64_t count;
  T value;
  T* y;
};

/// y += x: accumulation of gradients.
template <class T>
struct AddInPlaceArgs {
  std::int64_t count;
  const T* x;
  T* y;
};

// ---- training -------------------------------------------------------------------------------------------------

/// One step of Adam, element by element, with g = gradient_scale * gradient, plus weight_decay * parameter unless
/// `decoupled`:  m += (1 - beta1) (g - m);  v = beta2 v + (1 - beta2) g^2;
/// parameter = shrink * parameter - learning_rate (m / correction1) / (sqrt(v / correction2) + eps), with
/// shrink = 1 - learning_rate * weight_decay when `decoupled` (AdamW), else 1.
template <class T>
struct AdamStepArgs {
  using A = accumulate_t<T>;
  std::int64_t count;
  A learning_rate, beta1, beta2, eps, weight_decay;
  bool decoupled;
  A correction1, correction2;  // 1 - beta1^t and 1 - beta2^t at step t = 1, 2, ...
  A gradient_scale;            // of clipping
  const T* gradient;
  T *parameter, *m, *v;
};

/// sum += the sum of x^2. The same bits for any number of threads.
template <class T>
struct SumOfSquaresArgs {
  std::int64_t count;
  const T* x;
  double* sum;  // one number, in the device's memory
};

/// y += weight * (x - y): an exponential moving average.
template <class T>
struct LerpArgs {
  std::int64_t count;
  accumulate_t<T> weight;
  const T* x;
  T* y;
};

#if defined(__CUDACC__)
#define PROMPTIQA_HOST_DEVICE __host__ __device__
#else
#define PROMPTIQA_HOST_DEVICE
#endif

/// The 53 bits of counter_uniform, as an integer.
PROMPTIQA_HOST_DEVICE inline std::uint64_t counter_bits(std::uint64_t key, std::uint64_t i) {
  std::uint64_t z = key + i * 0x9E3779B97F4A7C15ull;
  for (int round = 0; round < 2; ++round) {
    z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9ull;
    z = (z ^ (z >> 27)) * 0x94D049BB133111EBull;
    z ^= z >> 31;
    z += 0x9E3779B97F4A7C15ull;
  }
  return z >> 11;
}

/// uniform(key, i) in [0, 1): a counter-based generator, the same on every device and for any number of threads
/// (two rounds of the splitmix64 finaliser; enough for dropout masks, not for cryptography).
inline double counter_uniform(std::uint64_t key, std::uint64_t i) {
  return static_cast<double>(counter_bits(key, i)) * 0x1.0p-53;
}

// ---- pictures -------------------------------------------------------------------------------------------------

/// Where one output coordinate reads: four source coordinates (see image/resize.hpp) and their weights.
struct ResizeTap {
  std::int32_t index[4];  // columns, or rows of those uploaded
  float weight[4];
};

/// One picture's bytes in ResizeImagesArgs::pixels.
struct UploadedImage {
  std::int64_t first;             // byte of its first row
  std::int64_t row_bytes;
  std::int32_t pixel_bytes;       // 1: grey, 3: colour
  std::int32_t red, green, blue;  // bytes from the pixel's first
};

/// y[i] (3, side, side) = picture i resized bicubically, rounded to 8 bits, v / 255, (v - 0.5) / 0.5: the bits of
/// preprocess_to_chw. All pointers are to memory of the device.
template <class T>
struct ResizeImagesArgs {
  std::int64_t count, side;
  const UploadedImage* images;  // (count)
  const ResizeTap* taps;        // (count, 2, side): columns, rows
  const std::uint8_t* pixels;
  T* y;                         // (count, 3, side, side)
};

template <class Args>
using Kernel = void (*)(const KernelContext&, const Args&);

/// One device's bodies of every computation above, for activations of type T.
template <class T>
struct KernelTable {
  const char* name;  // "cpu avx512", "cpu eigen", "cuda": for reports

  Kernel<GemmArgs<T>> gemm;
  std::size_t (*packed_bytes)(std::int64_t k, std::int64_t n);
  Kernel<PackMatrixArgs<T>> pack_matrix;
  int packed_layout;

  Kernel<AttentionArgs<T>> attention;
  Kernel<AttentionBackwardArgs<T>> attention_backward;

  Kernel<SoftmaxArgs<T>> softmax;
  Kernel<SoftmaxBackwardArgs<T>> softmax_backward;
  Kernel<LayerNormArgs<T>> layer_norm;
  Kernel<LayerNormBackwardArgs<T>> layer_norm_backward;
  Kernel<BatchNormArgs<T>> batch_norm;
  Kernel<BatchNormBackwardArgs<T>> batch_norm_backward;

  Kernel<Conv2dArgs<T>> conv2d;
  std::size_t (*packed_conv2d_bytes)(std::int64_t out_channels, std::int64_t in_channels, std::int64_t kernel_h,
                                     std::int64_t kernel_w);
  Kernel<PackConv2dArgs<T>> pack_conv2d;
  Kernel<Conv2dBackwardDataArgs<T>> conv2d_backward_data;
  Kernel<Conv2dBackwardWeightArgs<T>> conv2d_backward_weight;
  Kernel<AvgPool2dArgs<T>> avg_pool2d;
  Kernel<AvgPool2dBackwardArgs<T>> avg_pool2d_backward;

  Kernel<UnaryArgs<T>> unary;
  Kernel<UnaryBackwardArgs<T>> unary_backward;
  Kernel<BinaryArgs<T>> binary;
  Kernel<ReduceSumArgs<T>> reduce_sum;
  Kernel<ColumnSumArgs<T>> column_sum;
  Kernel<ExpandArgs<T>> expand;
  Kernel<PermuteArgs<T>> permute;
  Kernel<CopyRowsArgs<T>> copy_rows;
  Kernel<IndexSelectArgs<T>> index_select;
  Kernel<IndexSelectBackwardArgs<T>> index_select_backward;
  Kernel<DropoutArgs<T>> dropout;
  Kernel<L1LossArgs<T>> l1_loss;
  Kernel<L1LossBackwardArgs<T>> l1_loss_backward;
  Kernel<FillArgs<T>> fill;
  Kernel<AddInPlaceArgs<T>> add_in_place;

  Kernel<AdamStepArgs<T>> adam_step;
  Kernel<SumOfSquaresArgs<T>> sum_of_squares;
  Kernel<LerpArgs<T>> lerp;

  Kernel<ResizeImagesArgs<T>> resize_images = nullptr;  // devices only: the CPU has preprocess_to_chw
};

}  // namespace promptiqa
