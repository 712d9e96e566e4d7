// CnnHead: the fused map (B, D, g, g) down to the image feature V(I), (B, M) (model.md section 2.6).
// Surprising choice: a stage takes four places in the file's numbering (conv, norm, relu, pool) whatever its pool
// is, so the names are cnn.0, cnn.1, cnn.4, cnn.5, ...
#pragma once

#include <string>
#include <vector>

#include <promptiqa/model/config.hpp>
#include <promptiqa/model/pass.hpp>
#include <promptiqa/nn/modules.hpp>

namespace promptiqa {

template <class T>
struct CnnHead {
  struct Stage {
    ConvNormRelu<T> conv;
    std::int64_t pool;
  };
  std::vector<Stage> stages;

  explicit CnnHead(const ModelConfig& c) {
    std::int64_t in = c.vit_dim;
    for (std::size_t i = 0; i < c.cnn_channels.size(); ++i) {
      stages.push_back(
          {ConvNormRelu<T>(Conv2d<T>(in, c.cnn_channels[i], c.cnn_kernels[i], 1, 0, true)), c.cnn_pools[i]});
      in = c.cnn_channels[i];
    }
  }

  /// x (B, D, g, g) -> (B, M).
  Tensor<T> operator()(Context& ctx, Tensor<T> x, const Pass<T>& pass) const {
    for (std::size_t i = 0; i < stages.size(); ++i) {
      const Stage& stage = stages[i];
      x = avg_pool2d(ctx, stage.conv(ctx, x, pass.training), stage.pool);
      pass.note("cnn.stage" + std::to_string(i), x);
    }
    return x.reshape({x.dim(0), -1});
  }

  void pack(Context& ctx) {
    for (Stage& stage : stages) stage.conv.pack(ctx);
  }
  void unpack() {
    for (Stage& stage : stages) stage.conv.unpack();
  }

  template <class V>
  void visit(V& v, const std::string& prefix) {
    for (std::size_t i = 0; i < stages.size(); ++i)
      stages[i].conv.visit(v, prefix + std::to_string(4 * i) + ".", prefix + std::to_string(4 * i + 1) + ".");
  }
};

}  // namespace promptiqa
