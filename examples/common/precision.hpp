// The precisions that programs let one choose.
// Surprising choice: none.
#pragma once

#include <set>
#include <string>

#include <promptiqa/core/context.hpp>

namespace examples {

/// The names of promptiqa::Precision for inference.
inline std::set<std::string> precision_names() { return {"fp32", "bf16", "int8"}; }

/// A name that precision_names() has.
inline promptiqa::Precision precision_named(const std::string& name) {
  return name == "int8"   ? promptiqa::Precision::int8
         : name == "bf16" ? promptiqa::Precision::bf16
                          : promptiqa::Precision::fp32;
}

}  // namespace examples
