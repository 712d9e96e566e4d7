// A convolution by cuDNN: the baseline of ours, forward and both gradients.
// Surprising choice: cuDNN may choose its algorithm by trying all, once; it keeps the layout that our tensors have
// (NCHW), so that both do the same work.
#pragma once

#include <algorithm>
#include <cstdint>
#include <string>
#include <type_traits>

#include <cudnn.h>

#include <promptiqa/core/bfloat16.hpp>
#include <promptiqa/core/kernel_table.hpp>

#include "device.hpp"

namespace bench {

inline void check(cudnnStatus_t status, const char* call) {
  if (status != CUDNN_STATUS_SUCCESS)
    throw promptiqa::CudaError(std::string(call) + " failed: " + cudnnGetErrorString(status));
}

/// One convolution's handle, descriptions, algorithms and workspace.
template <class T>
class Cudnn {
 public:
  enum class Pass { forward, data, weight };

  Cudnn(promptiqa::Context& ctx, const promptiqa::Conv2dGeometry& g, bool tf32, Pass pass) : pass_(pass) {
    check(cudnnCreate(&handle_), "cudnnCreate");
    check(cudnnSetStream(handle_, stream_of(ctx)), "cudnnSetStream");
    const cudnnDataType_t type = std::is_same_v<T, float> ? CUDNN_DATA_FLOAT : CUDNN_DATA_BFLOAT16;
    const auto i = [](std::int64_t n) { return static_cast<int>(n); };
    check(cudnnCreateTensorDescriptor(&x_), "cudnnCreateTensorDescriptor");
    check(cudnnCreateTensorDescriptor(&y_), "cudnnCreateTensorDescriptor");
    check(cudnnCreateFilterDescriptor(&w_), "cudnnCreateFilterDescriptor");
    check(cudnnCreateConvolutionDescriptor(&conv_), "cudnnCreateConvolutionDescriptor");
    check(cudnnSetTensor4dDescriptor(x_, CUDNN_TENSOR_NCHW, type, i(g.batch), i(g.in_channels), i(g.in_h), i(g.in_w)),
          "cudnnSetTensor4dDescriptor");
    check(
        cudnnSetTensor4dDescriptor(y_, CUDNN_TENSOR_NCHW, type, i(g.batch), i(g.out_channels), i(g.out_h), i(g.out_w)),
        "cudnnSetTensor4dDescriptor");
    check(cudnnSetFilter4dDescriptor(w_, type, CUDNN_TENSOR_NCHW, i(g.out_channels), i(g.in_channels), i(g.kernel_h),
                                     i(g.kernel_w)),
          "cudnnSetFilter4dDescriptor");
    check(cudnnSetConvolution2dDescriptor(conv_, i(g.pad_h), i(g.pad_w), i(g.stride_h), i(g.stride_w), 1, 1,
                                          CUDNN_CROSS_CORRELATION, CUDNN_DATA_FLOAT),
          "cudnnSetConvolution2dDescriptor");
    // Without TF32 tensor cores must be refused by name: the default allows them.
    check(cudnnSetConvolutionMathType(conv_, std::is_same_v<T, float> && !tf32 ? CUDNN_FMA_MATH : CUDNN_TENSOR_OP_MATH),
          "cudnnSetConvolutionMathType");
    choose();
    workspace_ = ctx.memory().allocate(std::max<std::size_t>(bytes_, 1));
  }
  ~Cudnn() {
    cudnnDestroyConvolutionDescriptor(conv_);
    cudnnDestroyFilterDescriptor(w_);
    cudnnDestroyTensorDescriptor(y_);
    cudnnDestroyTensorDescriptor(x_);
    cudnnDestroy(handle_);
  }
  Cudnn(const Cudnn&) = delete;
  Cudnn& operator=(const Cudnn&) = delete;

  /// forward: y = x * w; data: x from y and w; weight: w from y and x.
  void run(void* x, void* w, void* y) const {
    const float one = 1, zero = 0;
    if (pass_ == Pass::forward)
      check(
          cudnnConvolutionForward(handle_, &one, x_, x, w_, w, conv_, forward_, workspace_->data, bytes_, &zero, y_, y),
          "cudnnConvolutionForward");
    else if (pass_ == Pass::data)
      check(cudnnConvolutionBackwardData(handle_, &one, w_, w, y_, y, conv_, data_, workspace_->data, bytes_, &zero, x_,
                                         x),
            "cudnnConvolutionBackwardData");
    else
      check(cudnnConvolutionBackwardFilter(handle_, &one, x_, x, y_, y, conv_, weight_, workspace_->data, bytes_, &zero,
                                           w_, w),
            "cudnnConvolutionBackwardFilter");
  }

 private:
  void choose() {
    int count = 0;
    const auto settle = [&](cudnnStatus_t status, const auto& best, auto& algorithm, const char* call) {
      check(status, call);
      check(best.status, call);
      algorithm = best.algo, bytes_ = best.memory;
      check(cudnnSetConvolutionMathType(conv_, best.mathType), "cudnnSetConvolutionMathType");
    };
    if (pass_ == Pass::forward) {
      cudnnConvolutionFwdAlgoPerf_t best;
      settle(cudnnFindConvolutionForwardAlgorithm(handle_, x_, w_, conv_, y_, 1, &count, &best), best, forward_,
             "cudnnFindConvolutionForwardAlgorithm");
    } else if (pass_ == Pass::data) {
      cudnnConvolutionBwdDataAlgoPerf_t best;
      settle(cudnnFindConvolutionBackwardDataAlgorithm(handle_, w_, y_, conv_, x_, 1, &count, &best), best, data_,
             "cudnnFindConvolutionBackwardDataAlgorithm");
    } else {
      cudnnConvolutionBwdFilterAlgoPerf_t best;
      settle(cudnnFindConvolutionBackwardFilterAlgorithm(handle_, x_, y_, conv_, w_, 1, &count, &best), best, weight_,
             "cudnnFindConvolutionBackwardFilterAlgorithm");
    }
  }

  Pass pass_;
  cudnnHandle_t handle_ = nullptr;
  cudnnTensorDescriptor_t x_ = nullptr, y_ = nullptr;
  cudnnFilterDescriptor_t w_ = nullptr;
  cudnnConvolutionDescriptor_t conv_ = nullptr;
  cudnnConvolutionFwdAlgo_t forward_ = {};
  cudnnConvolutionBwdDataAlgo_t data_ = {};
  cudnnConvolutionBwdFilterAlgo_t weight_ = {};
  std::size_t bytes_ = 0;
  promptiqa::StorageRef workspace_;
};

}  // namespace bench
