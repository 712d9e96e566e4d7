// SROCC, PLCC, KROCC and RMSE against values from SciPy 1.17 (scipy.stats) and against definitions.
// Surprising choice: Kendall's fast count is compared with the quadratic definition on random data with ties.
#include <promptiqa/metrics/correlation.hpp>

#include <cmath>
#include <random>
#include <vector>

#include "catch.hpp"

using namespace promptiqa;

namespace {

double krocc_by_definition(const std::vector<double>& a, const std::vector<double>& b) {
  double score = 0, free_a = 0, free_b = 0;
  const auto sign = [](double x) { return (x > 0) - (x < 0); };
  for (std::size_t i = 0; i < a.size(); ++i)
    for (std::size_t j = i + 1; j < a.size(); ++j) {
      score += sign(a[i] - a[j]) * sign(b[i] - b[j]);
      free_a += a[i] != a[j];
      free_b += b[i] != b[j];
    }
  return score / std::sqrt(free_a * free_b);
}

}  // namespace

TEST_CASE("correlations of a small series with ties match SciPy") {
  const std::vector<double> a = {1, 2, 2, 3, 5, 8, 13, 21}, b = {2.5, 1, 4, 4, 3, 9, 7, 20};
  CHECK(plcc(a, b) == Approx(0.9284609338866032));
  CHECK(srocc(a, b) == Approx(0.8373493975903614));
  CHECK(krocc(a, b) == Approx(2.0 / 3));
  CHECK(rmse(a, b) == Approx(std::sqrt((2.25 + 1 + 4 + 1 + 4 + 1 + 36 + 1) / 8)));
}

TEST_CASE("a monotone map keeps ranks and breaks linearity") {
  std::vector<double> a, b, reversed;
  for (int i = 0; i < 50; ++i) a.push_back(i), b.push_back(std::exp(0.2 * i)), reversed.push_back(-std::exp(0.2 * i));
  CHECK(srocc(a, b) == Approx(1));
  CHECK(krocc(a, b) == Approx(1));
  CHECK(plcc(a, b) < 0.9);
  CHECK(srocc(a, reversed) == Approx(-1));
  CHECK(krocc(a, reversed) == Approx(-1));
}

TEST_CASE("Kendall's tau-b equals its definition") {
  std::mt19937 random(5);
  for (int values : {2, 5, 1000}) {
    std::vector<double> a, b;
    for (int i = 0; i < 300; ++i) a.push_back(random() % values), b.push_back(random() % values);
    CHECK(krocc(a, b) == Approx(krocc_by_definition(a, b)).margin(1e-12));
  }
}

TEST_CASE("constant or NaN series have no correlation") {
  // The mean of three times 0.1 is not 0.1, so deviations from the mean do not tell.
  const std::vector<double> a = {1, 2, 3}, constant = {4, 4, 4}, tenth = {0.1, 0.1, 0.1}, broken = {1, std::nan(""), 3};
  for (const auto& other : {constant, tenth, broken}) {
    CHECK(std::isnan(plcc(other, a)));
    CHECK(std::isnan(plcc(a, other)));
    CHECK(std::isnan(srocc(a, other)));
    CHECK(std::isnan(krocc(a, other)));
  }
}

TEST_CASE("many ties in both series match SciPy") {
  // scipy.stats.kendalltau, spearmanr and pearsonr 1.17.1 of these very lists.
  const std::vector<double> a = {1, 1, 1, 2, 2, 3, 3, 3, 3, 4}, b = {2, 1, 1, 1, 2, 2, 3, 3, 1, 3};
  CHECK(krocc(a, b) == Approx(0.5590653920196746).epsilon(1e-12));
  CHECK(srocc(a, b) == Approx(0.6262945776223707).epsilon(1e-12));
  CHECK(plcc(a, b) == Approx(0.6348785252761305).epsilon(1e-12));
  CHECK(krocc(b, a) == Approx(krocc(a, b)));
}

TEST_CASE("series of different or too small lengths are refused") {
  const std::vector<double> one = {1}, two = {1, 2}, three = {1, 2, 3};
  CHECK_THROWS_AS(plcc(two, three), ShapeError);
  CHECK_THROWS_AS(srocc(one, one), ShapeError);
  CHECK_THROWS_AS(krocc(one, one), ShapeError);
  CHECK_THROWS_AS(rmse({}, {}), ShapeError);
  CHECK(rmse(one, one) == 0);
}
