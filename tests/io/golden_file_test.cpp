// Tests that the golden files, written by another program, are read in full.
// Surprising choice: their numbers are the business of the model's tests; here every value must only be finite.
#include <cmath>

#include <promptiqa/io/tensor_file.hpp>
#include "catch.hpp"
#include "io_test_tools.hpp"

using namespace io_test;
using promptiqa::DType;

TEST_CASE("the golden files are read in full") {
  struct Golden {
    const char* name;
    std::size_t tensors;
    promptiqa::Shape image;
    double loss;
  };
  const auto golden_file = GENERATE(Golden{"golden_tiny", 896, {5, 3, 16, 16}, 0.198454828},
                                    Golden{"golden_alt", 640, {5, 3, 36, 36}, 0.399612776},
                                    Golden{"golden_stem", 810, {5, 3, 32, 32}, 0.193197916});
  CAPTURE(golden_file.name);
  const auto file = promptiqa::read_tensor_file(golden(std::string(golden_file.name) + ".safetensors"));
  CHECK(file.tensors.size() == golden_file.tensors);
  CHECK(file.metadata.count("config") == 1);
  REQUIRE(file.find("in.train.image"));
  CHECK(file.find("in.train.image")->shape == golden_file.image);
  REQUIRE(file.find("out.train.loss"));
  // Given with nine decimals, stored as a float.
  CHECK(values(*file.find("out.train.loss"))[0] == Approx(golden_file.loss).epsilon(1e-7));
  for (const auto& tensor : file.tensors) {
    CAPTURE(tensor.name);
    CHECK(tensor.dtype == (tensor.name.ends_with("num_batches_tracked") ? DType::i64 : DType::f32));
    bool finite = true;
    for (const double x : values(tensor)) finite = finite && std::isfinite(x);
    CHECK(finite);
  }
}
