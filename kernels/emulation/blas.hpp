// What tests may choose of the emulated device and its matrix products.
// Surprising choice: plain variables of the process; tests put them back.
#pragma once

#include <cstdint>

#include "../blas.hpp"

namespace promptiqa::emulation {

/// The emulated device; at first a Hopper one without TF32, which a context may allow itself.
extern cuda::DeviceTraits traits;
/// Whether fused_matrix_product has kernels (never for double), and how many it has run.
extern bool fuses;
extern std::uint64_t fused_products;

/// x with 10 fraction bits, as cvt.rna.tf32.
float round_to_tf32(float x);

}  // namespace promptiqa::emulation
