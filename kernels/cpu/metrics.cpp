// The bodies of metrics/, compiled once for promptiqa::compiled.
// Surprising choice: none; no body is a template, so including them is all there is to do.
#include <promptiqa/metrics/attributes.ipp>
#include <promptiqa/metrics/correlation.ipp>
#include <promptiqa/metrics/fft.ipp>
#include <promptiqa/metrics/fsim.ipp>
#include <promptiqa/metrics/full_reference.ipp>
#include <promptiqa/metrics/logistic.ipp>
#include <promptiqa/metrics/phase_congruency.ipp>
#include <promptiqa/metrics/plane.ipp>
