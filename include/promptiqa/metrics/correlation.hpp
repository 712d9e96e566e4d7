// Agreement of predicted with human scores: SROCC, PLCC, KROCC, RMSE.
// Surprising choice: a correlation with a constant series is NaN, as SciPy has it, not 0: nothing was measured.
#pragma once

#include <span>

#include <promptiqa/core/error.hpp>
#include <promptiqa/core/macros.hpp>

namespace promptiqa {

/// Pearson's linear correlation (PLCC), raw, without a fitted mapping. Throws ShapeError unless both have the same
/// length, at least 2.
double plcc(std::span<const double> a, std::span<const double> b);

/// Spearman's rank correlation (SROCC); ties get their average rank. Throws as plcc does.
double srocc(std::span<const double> a, std::span<const double> b);

/// Kendall's rank correlation (KROCC), tau-b, which corrects for ties. O(n log n). Throws as plcc does.
double krocc(std::span<const double> a, std::span<const double> b);

/// Root of the mean squared difference. Throws ShapeError unless both have the same length, at least 1.
double rmse(std::span<const double> a, std::span<const double> b);

}  // namespace promptiqa

#if PROMPTIQA_WITH_BODIES
#include <promptiqa/metrics/correlation.ipp>
#endif
