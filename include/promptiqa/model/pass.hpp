// Pass<T>: how one walk through the model is done.
// Surprising choice: intermediates are handed out by name through an optional trace, so that golden data can be
// compared without a second implementation of the forward pass.
#pragma once

#include <map>
#include <string>

#include <promptiqa/core/tensor.hpp>

namespace promptiqa {

/// Named intermediates, as in tests/golden/README.md.
template <class T>
using Trace = std::map<std::string, Tensor<T>>;

template <class T>
struct Pass {
  bool training = false;       // dropout and batch statistics
  bool rewrites = true;        // the exact rewrites of model.md section 5, at inference only
  Trace<T>* trace = nullptr;   // filled when given

  void note(const std::string& name, const Tensor<T>& value) const {
    if (trace) (*trace)[name] = value;
  }
};

}  // namespace promptiqa
