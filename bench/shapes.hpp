// The shapes that single kernels are timed at: the models' own, and larger ones that show what a kernel can do.
// Surprising choice: the large ones are for devices only; a CPU would need minutes for some.
#pragma once

#include <cstdint>
#include <string>

namespace bench {

/// c (m, n) = a (m, k) b (k, n).
struct GemmShape {
  const char* what;
  std::int64_t m, n, k;
  bool packed;  // weights as at inference; else plain, as in training
  bool device_only;
  std::string name() const {
    return std::string(what) + "_" + std::to_string(m) + "x" + std::to_string(n) + "x" + std::to_string(k) +
           (packed ? "/packed" : "/plain");
  }
};
// base: 784 = 28 x 28 tokens, 785 with the class token, 768 wide; over the 4 views of a MAL 3072 and 3136.
// compact: 49 = 7 x 7 tokens, 128 wide, 4 views: 512; eight images at a time below.
inline constexpr GemmShape gemm_shapes[] = {
    {"base_qkv", 785, 2304, 768, true, false},         {"base_mlp", 785, 3072, 768, true, false},
    {"base_mlp_back", 785, 768, 3072, true, false},    {"base_mal_channels", 784, 3072, 3072, true, false},
    {"base_mal_tokens", 768, 3136, 3136, true, false}, {"compact_qkv", 49, 384, 128, true, false},
    {"compact_mal", 49, 512, 512, true, false},        {"compact_mal8", 392, 512, 512, true, false},
    {"base_mlp", 785, 3072, 768, false, false},        {"square", 1024, 1024, 1024, false, false},
    {"square", 2048, 2048, 2048, true, false},         {"square", 4096, 4096, 4096, true, false},
    {"base32_qkv", 25120, 2304, 768, true, true},      {"base32_mlp", 25120, 3072, 768, true, true},
    {"square", 8192, 8192, 8192, true, true},
};

/// Self-attention of `batch` sequences.
struct AttentionShape {
  const char* what;
  std::int64_t batch, heads, tokens, head_dim;
  bool device_only;
  std::string name() const {
    return std::string(what) + "_" + std::to_string(batch) + "x" + std::to_string(heads) + "x" +
           std::to_string(tokens) + "x" + std::to_string(head_dim);
  }
};
inline constexpr AttentionShape attention_shapes[] = {
    {"base_vit", 1, 12, 785, 64, false}, {"compact_vit", 8, 4, 49, 32, false},  {"prompt", 8, 4, 11, 32, false},
    {"base_vit", 32, 12, 785, 64, true}, {"compact_vit", 256, 4, 49, 32, true}, {"long", 16, 16, 1024, 64, true},
    {"long", 4, 16, 4096, 64, true},     {"long", 4, 8, 4096, 128, true},
};

/// Attention of one head over `rows` rows of `width`, as products and a softmax: what a MAL does with its maps.
struct WideAttentionShape {
  const char* what;
  std::int64_t batch, rows, width;
  bool device_only;
  std::string name() const {
    return std::string(what) + "_" + std::to_string(batch) + "x" + std::to_string(rows) + "x" + std::to_string(width);
  }
};
inline constexpr WideAttentionShape wide_attention_shapes[] = {{"base_channels", 1, 784, 3072, false},
                                                               {"compact_channels", 8, 49, 512, false},
                                                               {"base_channels", 32, 784, 3072, true},
                                                               {"base_tokens", 32, 768, 3136, true}};

/// Rows of layer norms, or of softmaxes.
struct RowShape {
  std::int64_t rows, columns;
  bool device_only;
  std::string name() const { return std::to_string(rows) + "x" + std::to_string(columns); }
};
inline constexpr RowShape layer_norm_shapes[] = {
    {785, 768, false}, {392, 128, false}, {25120, 768, true}, {65536, 1024, true}, {16384, 4096, true}};
inline constexpr RowShape softmax_shapes[] = {{3072, 784, false}, {512, 49, false}, {65536, 1024, true}};
inline constexpr RowShape gelu_shapes[] = {{785, 3072, false}, {392, 512, false}, {25120, 3072, true}};

/// Sums of columns (gradients of biases), matrices that are transposed, copied beside others, added, multiplied, whose
/// rows are picked or repeated.
inline constexpr RowShape matrix_shapes[] = {{785, 768, false}, {25120, 768, true}};
/// Numbers of parameters: of small models and, for devices, of large ones.
inline constexpr std::int64_t parameter_counts[] = {4 << 20, 64 << 20};

/// Channels of square maps: batch norm, and pooling of 2 x 2.
struct MapShape {
  const char* what;
  std::int64_t batch, channels, side;
  bool device_only;
  std::string name() const {
    return std::string(what) + "_" + std::to_string(batch) + "x" + std::to_string(channels) + "x" +
           std::to_string(side) + "x" + std::to_string(side);
  }
};
inline constexpr MapShape map_shapes[] = {
    {"compact_stem", 8, 48, 56, false}, {"compact_stem", 64, 48, 56, true}, {"large", 32, 256, 56, true}};

/// Square images and kernels, the zero padding that keeps the size at stride 1; a patch embedding (stride = kernel) has
/// none.
struct ConvShape {
  const char* what;
  std::int64_t batch, in_channels, out_channels, side, kernel, stride;
  bool device_only;
  std::int64_t padding() const { return stride == kernel ? 0 : kernel / 2; }
  std::int64_t out_side() const { return (side + 2 * padding() - kernel) / stride + 1; }
  std::string name() const {
    return std::string(what) + "_" + std::to_string(batch) + "x" + std::to_string(in_channels) + "x" +
           std::to_string(side) + "_to_" + std::to_string(out_channels) + "_k" + std::to_string(kernel) + "s" +
           std::to_string(stride);
  }
};
inline constexpr ConvShape conv_shapes[] = {
    {"base_patch", 1, 3, 768, 224, 8, 8, false},   {"base_cnn", 1, 768, 256, 28, 5, 1, false},
    {"compact_stem", 1, 24, 48, 112, 3, 2, false}, {"compact_cnn", 8, 128, 128, 7, 3, 1, false},
    {"base_patch", 32, 3, 768, 224, 8, 8, true},   {"base_cnn", 32, 768, 256, 28, 5, 1, true},
    {"compact_stem", 64, 24, 48, 112, 3, 2, true}, {"large", 32, 256, 256, 56, 3, 1, true},
    {"large", 32, 512, 512, 28, 3, 1, true},
};

/// Photographs resized to the model's input, `batch` at a time.
struct ResizeShape {
  std::int64_t batch, width, height;
  std::string name() const {
    return std::to_string(batch) + "x" + std::to_string(width) + "x" + std::to_string(height);
  }
};
inline constexpr ResizeShape resize_shapes[] = {{1, 640, 480}, {32, 640, 480}, {8, 4000, 3000}};

}  // namespace bench
