// Pass<T>: how one walk through the model is done.
// Surprising choice: intermediates are handed out by name through an optional trace, so that golden data can be
// compared without a second implementation of the forward pass.
#pragma once

#include <map>
#include <string>
#include <utility>

#include <promptiqa/core/tape.hpp>
#include <promptiqa/core/tensor.hpp>

namespace promptiqa {

/// Named intermediates, as in tests/golden/README.md.
template <class T>
using Trace = std::map<std::string, Tensor<T>>;

template <class T>
struct Pass {
  bool training = false;       // dropout and batch statistics
  bool recompute = false;      // training in less memory: blocks keep their inputs and run again in backward
  bool rewrites = true;        // the exact rewrites of model.md section 5, at inference only
  Trace<T>* trace = nullptr;   // filled when given

  void note(const std::string& name, const Tensor<T>& value) const {
    if (trace) (*trace)[name] = value;
  }
};

/// part(ctx), so that its intermediates need not be kept when the pass says so (a trace keeps them anyway). What `part`
/// refers to must outlive the backward pass.
template <class T, class Part>
Tensor<T> repeatable(Context& ctx, const Pass<T>& pass, Part part) {
  return pass.recompute && ctx.tape() && !pass.trace ? ctx.tape()->template recompute<T>(ctx, std::move(part))
                                                     : part(ctx);
}

}  // namespace promptiqa
