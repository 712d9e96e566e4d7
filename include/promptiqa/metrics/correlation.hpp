// Agreement of predicted with human scores: SROCC, PLCC, KROCC, RMSE, and the logistic fitted before PLCC and RMSE.
// Surprising choice: a correlation with a constant series is NaN, as SciPy has it, not 0: nothing was measured.
#pragma once

#include <span>
#include <vector>

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

/// Ranks 1 .. n in rising order, ties averaged. A NaN has no rank: values must not have one.
std::vector<double> average_ranks(std::span<const double> values);

/// Root of the mean squared difference. Throws ShapeError unless both have the same length, at least 1.
double rmse(std::span<const double> a, std::span<const double> b);

/// The five-parameter logistic of IQA evaluation, which takes out what is nonlinear between predictions and scores
/// before PLCC and RMSE: b1 (1/2 - 1 / (1 + exp(b2 (x - b3)))) + b4 x + b5, from Sheikh, Sabir, Bovik, "A statistical
/// evaluation of recent full reference image quality assessment algorithms", IEEE TIP 2006.
struct Logistic5 {
  /// What it was possible to fit: all five parameters; b4 and b5 only (b1 = 0); or nothing (f(x) = x).
  enum class Kind { logistic, line, identity };

  double b1 = 0, b2 = 0, b3 = 0, b4 = 1, b5 = 0;
  Kind kind = Kind::identity;

  /// The function's value; finite for every finite x unless b4 x overflows.
  double apply(double x) const;
  std::vector<double> apply(std::span<const double> x) const;
};

/// Fits apply(predicted[i]) = score[i] by least squares: Levenberg-Marquardt from nine starts (b3 at three quantiles,
/// b2 at three steepnesses), the best of them, with b2 >= 0 (b1 takes the sign). Never worse than the least-squares
/// line. Where five parameters cannot be fitted the result is that line: fewer than 6 points, predictions or scores all
/// equal, or no start that beats the line. Where a value is not finite (the PSNR of identical pictures, say) or its
/// square overflows it is the identity. The parameters are always finite. Throws ShapeError unless both have the same
/// length, at least 2.
Logistic5 fit_logistic5(std::span<const double> predicted, std::span<const double> score);

/// plcc of the scores with the predictions after the logistic fitted to these very values. Not negative; NaN where
/// plcc would be: a series is constant or holds a NaN. Throws as plcc does.
double plcc_after_logistic(std::span<const double> predicted, std::span<const double> score);

/// rmse of the same, in units of the scores. Throws as plcc does.
double rmse_after_logistic(std::span<const double> predicted, std::span<const double> score);

}  // namespace promptiqa

#if PROMPTIQA_WITH_BODIES
#include <promptiqa/metrics/correlation.ipp>
#include <promptiqa/metrics/logistic.ipp>
#endif
