// --device of score, evaluate and train: what is no device, and what happens where there is no GPU or no CUDA library.
// Surprising choice: a machine with a GPU is asked for GPU number 99, which is not there either.
#include <sys/wait.h>

#include <algorithm>
#include <cstdlib>
#include <string>

#include "../../examples/common/device.hpp"
#include "catch.hpp"
#include "program_files.hpp"

#if defined(PROMPTIQA_TRAIN)

namespace {

// A folder with eight small pictures and their scores.
struct Workshop {
  const promptiqa_test::TemporaryFolder folder;

  Workshop() {
    std::string csv = "image,score\n";
    for (int i = 0; i < 8; ++i) {
      std::string picture = "P6\n16 16\n255\n";
      for (int p = 0; p < 16 * 16 * 3; ++p) picture += static_cast<char>(40 + 20 * i + p * (3 + i) % 50);
      const std::string name = "p" + std::to_string(i) + ".ppm";
      spill(folder / name, picture);
      csv += name + "," + std::to_string(0.1 * i) + "\n";
    }
    spill(folder / "scores.csv", csv);
    spill(folder / "tiny.json",
          R"({"image_size":32,"patch_size":8,"stem":"residual","stem_channels":[8,8,16],"vit_dim":16,"vit_depth":1,
              "vit_heads":2,"block_heads":2,"taps":[0],"num_mals":1,"cnn_channels":[16,16],"cnn_kernels":[3,1],
              "cnn_pools":[2,1],"prompt_dim":16,"prompt_heads":2,"ip_depth":1,"pf_depth":1,"fuse_depth":1,
              "class_token":false,"score_token":"learned"})");
  }

  struct Run {
    int code;
    std::string out, err;
    std::ptrdiff_t lines() const { return std::count(err.begin(), err.end(), '\n'); }
  };
  // The program's usual work on the pictures, with more options.
  Run run(const std::string& program, const std::string& options) const {
    std::string line = program == "score"      ? "'" PROMPTIQA_SCORE "' p0.ppm -q --csv - "
                       : program == "evaluate" ? "'" PROMPTIQA_EVALUATE
                                                 "' --data csv:scores.csv --prompt-size 3 -q --csv - "
                                               : "'" PROMPTIQA_TRAIN
                                                 "' --data csv:scores.csv --config tiny.json --group-size 3 "
                                                 "--groups 1 --steps 1 -q --restart --out w.safetensors ";
    line = "cd '" + folder.path() + "' && PROMPTIQA_WEIGHTS_DIR='" PROMPTIQA_SOURCE_DIR "/weights' " + line + options +
           " >out.txt 2>err.txt </dev/null";
    const int status = std::system(line.c_str());
    return {WIFEXITED(status) ? WEXITSTATUS(status) : -1, slurp(folder / "out.txt"), slurp(folder / "err.txt")};
  }
};

const char* const programs[] = {"score", "evaluate", "train"};

}  // namespace

TEST_CASE("devices by name", "[device]") {
  CHECK(examples::cuda_ordinal("cpu") == -1);
  CHECK(examples::cuda_ordinal("cuda") == 0);
  CHECK(examples::cuda_ordinal("cuda:0") == 0);
  CHECK(examples::cuda_ordinal("cuda:12") == 12);
  for (const char* text :
       {"", "gpu", "CPU", "cpu:0", "cuda:", "cuda:x", "cuda:1x", "cuda:-1", "cuda: 1", "cuda:99999999999"}) {
    INFO(text);
    CHECK(examples::cuda_ordinal(text) == -2);
  }
}

TEST_CASE("what is no device, or not its precision, is wrong usage", "[device]") {
  const Workshop shop;
  for (const char* program : programs) {
    for (const char* text : {"gpu", "cuda:x"}) {
      INFO(program << " " << text);
      const auto run = shop.run(program, std::string("--device ") + text);
      CHECK(run.code == 2);
      CHECK_THAT(run.err, ContainsSubstring("must be cpu, cuda or cuda:N"));
      CHECK_THAT(run.err, ContainsSubstring(std::string("\"") + text + "\""));
    }
    const auto tf32 = shop.run(program, "--precision tf32");
    CHECK(tf32.code == 2);
    CHECK_THAT(tf32.err, ContainsSubstring("needs --device cuda"));
  }
  for (const char* program : {"score", "evaluate"}) {
    const auto int8 = shop.run(program, "--device cuda --precision int8");
    CHECK(int8.code == 2);
    CHECK_THAT(int8.err, ContainsSubstring("is for --device cpu"));
  }
}

TEST_CASE("a GPU that is not there is one clear line, and the CPU works in the same program", "[device]") {
  const Workshop shop;
  for (const char* program : programs) {
    INFO(program);
    const auto missing = shop.run(program, "--device cuda:99");
    INFO(missing.err);
    CHECK(missing.code == 2);
    CHECK(missing.lines() == 1);
    CHECK_THAT(missing.err, ContainsSubstring(std::string(program) + ": --device cuda:99: "));
    CHECK_THAT(missing.err, ContainsSubstring("--device cpu works"));
    CHECK(missing.out.empty());
    const auto cpu = shop.run(program, "--device cpu");
    INFO(cpu.err);
    CHECK(cpu.code == 0);
  }
}

#endif
