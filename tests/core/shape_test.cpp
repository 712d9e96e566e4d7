// Shape: sizes, indices, overflow and the text of its errors.
// Surprising choice: overflow is tested around zero-sized dimensions too, where the product alone hides it.
#include <promptiqa/core/shape.hpp>

#include <cstdint>
#include <limits>
#include <vector>

#include "catch.hpp"

using promptiqa::Shape;
using promptiqa::ShapeError;

TEST_CASE("a shape knows its dimensions", "[core][shape]") {
  const Shape scalar;
  CHECK(scalar.rank() == 0);
  CHECK(scalar.numel() == 1);
  CHECK(scalar.str() == "()");

  const Shape shape{2, 3, 5};
  CHECK(shape.rank() == 3);
  CHECK(shape.numel() == 30);
  CHECK(shape[0] == 2);
  CHECK(shape[-1] == 5);
  CHECK(shape[-3] == 2);
  CHECK(shape.product(0, 2) == 6);
  CHECK(shape.product(1, 3) == 15);
  CHECK(shape.product(3, 3) == 1);
  CHECK(shape.str() == "(2, 3, 5)");
  CHECK(Shape{4, 0, 3}.numel() == 0);

  const std::vector<int> dims = {2, 3, 5};
  CHECK(Shape(dims.begin(), dims.end()) == shape);
  CHECK(std::vector<std::int64_t>(shape.begin(), shape.end()) == std::vector<std::int64_t>{2, 3, 5});
}

TEST_CASE("shapes compare by rank and dimensions", "[core][shape]") {
  CHECK(Shape{2, 3} == Shape{2, 3});
  CHECK(Shape{2, 3} != Shape{3, 2});
  CHECK(Shape{2, 3} != Shape{2, 3, 1});
  CHECK(Shape{} != Shape{1});
}

TEST_CASE("a dimension can be replaced and appended", "[core][shape]") {
  Shape shape{2, 3};
  shape.set(0, 7);
  shape.set(-1, 5);
  shape.push_back(4);
  CHECK(shape == Shape{7, 5, 4});
}

TEST_CASE("impossible shapes are refused", "[core][shape]") {
  CHECK_THROWS_AS((Shape{1, 1, 1, 1, 1, 1, 1}), ShapeError);
  CHECK_NOTHROW((Shape{1, 1, 1, 1, 1, 1}));
  CHECK_THROWS_WITH((Shape{2, -1}), ContainsSubstring("negative, got -1"));
  Shape shape{2, 3};
  CHECK_THROWS_WITH(shape[2], ContainsSubstring("index 2 is out of range for rank 2"));
  CHECK_THROWS_AS(shape[-3], ShapeError);
  CHECK_THROWS_AS(shape.set(2, 1), ShapeError);
  CHECK_THROWS_AS(shape.set(0, -1), ShapeError);
  CHECK_THROWS_AS(Shape{}[0], ShapeError);
}

TEST_CASE("the number of elements cannot overflow", "[core][shape]") {
  constexpr std::int64_t big = std::int64_t{1} << 32;
  CHECK_THROWS_WITH((Shape{big, big}), ContainsSubstring("overflows"));
  CHECK_THROWS_AS((Shape{0, big, big}), ShapeError);  // strides would overflow although there are no elements
  CHECK_THROWS_AS((Shape{std::numeric_limits<std::int64_t>::max()}), ShapeError);  // bytes would
  CHECK(Shape{big, 1024}.numel() == big * 1024);
  Shape shape{big, 2};
  CHECK_THROWS_AS(shape.set(1, big), ShapeError);
}
