// The five-parameter logistic against scipy.optimize.curve_fit (golden/logistic_vectors.txt) and where nothing fits.
// Surprising choice: the error is compared far more tightly than the parameters, of which one trades for another.
#include <promptiqa/metrics/correlation.hpp>

#include <cmath>
#include <fstream>
#include <limits>
#include <numeric>
#include <sstream>
#include <string>
#include <vector>

#include "catch.hpp"
#include "metrics/metric_pictures.hpp"

using namespace promptiqa;

namespace {

struct Series {
  std::vector<double> x, y;
};

// The same as logistic_series() of golden/make_metric_vectors.py.
Series make_series(const std::string& kind, int count) {
  Series series;
  for (std::uint32_t i = 0; i < static_cast<std::uint32_t>(count); ++i) {
    const double x = metric_pictures::mix(i, 0, 1) % 10001 / 10000.0;
    const double noise = metric_pictures::mix(i, 1, 1) % 2001 / 1000.0 - 1;
    if (kind == "rising") {
      series.x.push_back(x);
      series.y.push_back(20 + 60 / (1 + std::exp(-9 * (x - 0.4))) + 4 * noise);
    } else if (kind == "falling") {
      series.x.push_back(100 * x);
      series.y.push_back(1 - 0.7 / (1 + std::exp(-14 * (x - 0.6))) - 0.2 * x + 0.05 * noise);
    } else {
      series.x.push_back(x - 5);
      series.y.push_back(1 - std::exp(-4 * x) + 0.02 * noise);
    }
  }
  return series;
}

bool all_finite(const Logistic5& f) {
  return std::isfinite(f.b1) && std::isfinite(f.b2) && std::isfinite(f.b3) && std::isfinite(f.b4) &&
         std::isfinite(f.b5);
}

}  // namespace

TEST_CASE("the logistic is the published one") {
  Logistic5 f;
  f.b1 = 3, f.b2 = 2, f.b3 = 0.5, f.b4 = -1, f.b5 = 7;
  for (double x : {-4.0, 0.0, 0.5, 0.7, 10.0})
    CHECK(f.apply(x) == Approx(3 * (0.5 - 1 / (1 + std::exp(2 * (x - 0.5)))) - x + 7).epsilon(1e-13));
  CHECK(f.apply(1e6) == Approx(1.5 - 1e6 + 7));  // exp(2e6) is infinite
  const std::vector<double> x = {1, 2};
  CHECK(f.apply(x) == std::vector<double>{f.apply(1), f.apply(2)});
}

// Both sides minimise the same sum until steps gain less than 1e-12 of it; at a minimum the error is flat to second
// order, so it agrees to 1e-8 while the parameters, in a valley of the sum, agree to 1e-3 of their size.
TEST_CASE("fits are as good as SciPy's") {
  std::ifstream file(PROMPTIQA_TEST_DIR "/golden/logistic_vectors.txt");
  REQUIRE(file);
  int lines = 0;
  for (std::string line; std::getline(file, line);) {
    if (line[0] == '#') continue;
    INFO(line);
    std::istringstream words(line);
    std::string kind;
    int count = 0;
    double error = 0, correlation = 0, b1 = 0, b2 = 0, b3 = 0, b4 = 0, b5 = 0;
    words >> kind >> count >> error >> correlation >> b1 >> b2 >> b3 >> b4 >> b5;
    REQUIRE(words);
    const Series series = make_series(kind, count);
    const Logistic5 f = fit_logistic5(series.x, series.y);
    CHECK(f.kind == Logistic5::Kind::logistic);
    CHECK(rmse_after_logistic(series.x, series.y) == Approx(error).epsilon(1e-8));
    CHECK(plcc_after_logistic(series.x, series.y) == Approx(correlation).epsilon(1e-8));
    CHECK(f.b1 == Approx(b1).epsilon(1e-3));
    CHECK(f.b2 == Approx(b2).epsilon(1e-3));
    CHECK(f.b3 == Approx(b3).epsilon(1e-3));
    CHECK(f.b4 == Approx(b4).epsilon(1e-3));
    CHECK(f.b5 == Approx(b5).epsilon(1e-3));
    ++lines;
  }
  CHECK(lines == 6);
}

TEST_CASE("a logistic without noise is found, whatever the scales") {
  for (double x_scale : {1e-6, 1.0, 1e6})
    for (double y_scale : {1e-4, -1e5}) {
      Logistic5 truth;
      truth.b1 = 5 * y_scale, truth.b2 = 6 / x_scale, truth.b3 = 0.3 * x_scale, truth.b4 = y_scale / x_scale,
      truth.b5 = 40 * y_scale;
      std::vector<double> x, y;
      for (int i = 0; i < 100; ++i) x.push_back(i * x_scale / 99), y.push_back(truth.apply(x.back()));
      const Logistic5 f = fit_logistic5(x, y);
      CHECK(f.b1 == Approx(truth.b1).epsilon(1e-5));
      CHECK(f.b2 == Approx(truth.b2).epsilon(1e-5));
      CHECK(f.b3 == Approx(truth.b3).epsilon(1e-5));
      CHECK(f.b4 == Approx(truth.b4).epsilon(1e-5));
      CHECK(f.b5 == Approx(truth.b5).epsilon(1e-5));
      CHECK(plcc_after_logistic(x, y) == Approx(1).epsilon(1e-12));
    }
}

TEST_CASE("a fit is never worse than a line, on any data") {
  for (std::uint32_t seed = 0; seed < 150; ++seed) {
    INFO(seed);
    const auto random = [&](std::uint32_t i, std::uint32_t c) {
      return metric_pictures::mix(i, seed, c) % 101 / 100.0;
    };
    std::vector<double> x, y;
    for (std::uint32_t i = 0; i < 6 + seed; ++i) {
      // Noise, outliers, two clusters, ties and steps in turn.
      const double v = random(i, 1);
      x.push_back(seed % 5 == 1 ? v + 1e4 * (i == 3) : seed % 5 == 2 ? v + 100 * (i % 2) : seed % 5 == 3 ? i % 3 : v);
      y.push_back(seed % 5 == 4 ? (v > 0.5 ? 1 : 0) : random(i, 2));
    }
    const Logistic5 f = fit_logistic5(x, y);
    CHECK(all_finite(f));
    CHECK(f.b2 >= 0);
    const double after = plcc_after_logistic(x, y);
    CHECK(std::isfinite(after));
    CHECK(after >= std::abs(plcc(x, y)) - 1e-9);  // rounding of the correlation of 66 values
    const double mean = std::accumulate(y.begin(), y.end(), 0.0) / static_cast<double>(y.size());
    const double deviation = rmse(y, std::vector<double>(y.size(), mean));
    CHECK(rmse_after_logistic(x, y) <= deviation * std::sqrt(1 - plcc(x, y) * plcc(x, y)) + 1e-9);
  }
}

TEST_CASE("b2 is not negative, also where the descent steps over zero") {
  // Noise of which the best start ends at a steepness below zero, found among thousands.
  std::vector<double> x, y;
  for (std::uint32_t i = 0; i < 36; ++i) {
    x.push_back(metric_pictures::mix(i, 1050, 1) % 101 / 100.0);
    y.push_back(metric_pictures::mix(i, 1050, 2) % 101 / 100.0);
  }
  const Logistic5 f = fit_logistic5(x, y);
  CHECK(f.kind == Logistic5::Kind::logistic);
  CHECK(f.b2 >= 0);
  CHECK(plcc(f.apply(x), y) >= std::abs(plcc(x, y)));  // the sign of b1 went along
}

TEST_CASE("where five parameters cannot be fitted there is a line or nothing") {
  using Kind = Logistic5::Kind;
  const std::vector<double> x = {1, 2, 3, 4, 5}, y = {3, 5, 7, 9, 11.5}, constant(5, 0.1);
  SECTION("too few points") {
    const Logistic5 f = fit_logistic5(x, y);
    CHECK(f.kind == Kind::line);
    CHECK(f.b1 == 0);
    CHECK(f.b4 == Approx(2.1));  // least squares by hand: sum dx dy / sum dx^2 = 21 / 10
    CHECK(f.b5 == Approx(7.1 - 3 * 2.1));
    CHECK(fit_logistic5(std::vector<double>{1, 2}, std::vector<double>{4, 2}).b4 == Approx(-2));
  }
  SECTION("a line is a line") {
    std::vector<double> line_x, line_y;
    for (int i = 0; i < 20; ++i) line_x.push_back(i), line_y.push_back(3 - 0.5 * i);
    const Logistic5 f = fit_logistic5(line_x, line_y);
    for (int i = 0; i < 20; ++i) CHECK(f.apply(i) == Approx(3 - 0.5 * i).margin(1e-9));
    CHECK(plcc_after_logistic(line_x, line_y) == Approx(1));
  }
  SECTION("constant series") {
    const std::vector<double> many(50, 0.1);
    std::vector<double> rising;
    for (int i = 0; i < 50; ++i) rising.push_back(i);
    const Logistic5 f = fit_logistic5(many, rising), g = fit_logistic5(rising, many);
    CHECK(f.kind == Kind::line);
    CHECK(f.b4 == 0);
    CHECK(f.b5 == Approx(24.5));
    CHECK(g.kind == Kind::line);
    CHECK(g.b4 == 0);
    CHECK(g.apply(17) == Approx(0.1));
    CHECK(std::isnan(plcc_after_logistic(many, rising)));
    CHECK(std::isnan(plcc_after_logistic(rising, many)));
    CHECK(rmse_after_logistic(many, rising) == Approx(std::sqrt((50.0 * 50 - 1) / 12)));
    CHECK(rmse_after_logistic(rising, many) == Approx(0).margin(1e-12));
  }
  SECTION("values that are not finite") {
    for (double bad : {std::nan(""), static_cast<double>(INFINITY), -static_cast<double>(INFINITY)}) {
      std::vector<double> broken(20, 1.0), good;
      for (int i = 0; i < 20; ++i) good.push_back(i);
      broken[7] = bad;
      for (const Logistic5& f : {fit_logistic5(broken, good), fit_logistic5(good, broken)}) {
        CHECK(f.kind == Kind::identity);
        CHECK(f.apply(3.25) == 3.25);
      }
      CHECK(std::isnan(plcc_after_logistic(broken, good)));
      CHECK(std::isnan(plcc_after_logistic(good, broken)));
    }
  }
  SECTION("extreme values") {
    const double huge = std::numeric_limits<double>::max(), tiny = std::numeric_limits<double>::denorm_min();
    for (double scale : {huge, huge / 1e10, tiny, tiny * 1e6, 1e-300}) {
      std::vector<double> scaled, plain;
      for (int i = 0; i < 20; ++i) scaled.push_back((i % 2 ? -1 : 1) * scale / 20 * i), plain.push_back(i);
      CHECK(all_finite(fit_logistic5(scaled, plain)));
      CHECK(all_finite(fit_logistic5(plain, scaled)));
      if (scale != huge) continue;  // the squares of those overflow
      CHECK(fit_logistic5(scaled, plain).kind == Kind::identity);
      CHECK(fit_logistic5(plain, scaled).kind == Kind::identity);
    }
  }
  SECTION("lengths") {
    CHECK_THROWS_AS(fit_logistic5(x, std::vector<double>{1, 2}), ShapeError);
    CHECK_THROWS_AS(fit_logistic5(std::vector<double>{1}, std::vector<double>{1}), ShapeError);
    CHECK_THROWS_AS(plcc_after_logistic(x, {}), ShapeError);
    CHECK_THROWS_AS(rmse_after_logistic({}, {}), ShapeError);
  }
}
