// What JPEG 2000 does to a picture: its 9/7 wavelet coefficients, quantised with a dead zone.
// Surprising choice: nothing is coded. Entropy coding loses nothing, so the artefacts are there without it.
#pragma once

#include <promptiqa/data/planes.hpp>

namespace promptiqa::distortion {

/// Quantises the coefficients of up to 5 decompositions with one step, in 8-bit levels of an orthonormal transform;
/// twice the step for chroma.
Planes wavelet_quantised(const Planes& rgb, int step);

}  // namespace promptiqa::distortion

#if PROMPTIQA_WITH_BODIES
#include <promptiqa/data/wavelet.ipp>
#endif
