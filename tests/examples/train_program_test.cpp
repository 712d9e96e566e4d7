// The program train as a user runs it: data in, weights, log and curve out, signals, and going on after them.
// Surprising choice: the program is stopped or killed at whatever step it happens to be, and must still end with the
// very bits of a run that nobody disturbed.
#include <fcntl.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <csignal>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <string>
#include <thread>
#include <vector>

#include <nlohmann/json.hpp>

#include <promptiqa/model.hpp>

#include "../../examples/common/training_log.hpp"
#include "catch.hpp"
#include "program_files.hpp"

#if defined(PROMPTIQA_TRAIN)

namespace fs = std::filesystem;

namespace {

// A folder with forty small pictures, their scores, and the configuration of a model of a few thousand weights.
struct Workshop {
  const promptiqa_test::TemporaryFolder folder;
  const fs::path dir = folder.path();

  Workshop() {
    fs::create_directories(dir / "photos");
    std::string csv = "image,score,camera\n";
    for (int i = 0; i < 40; ++i) {
      const std::string name = "photos/p" + std::to_string(100 + i) + ".ppm";
      std::string picture = "P6\n64 48\n255\n";
      for (int p = 0; p < 64 * 48; ++p)
        for (int c = 0; c < 3; ++c)
          picture += static_cast<char>(30 + 4 * i + (p * (7 + i) + c * 31) % 41 + ((p / 8 + p / 640) % 2 ? 25 : 0));
      spill(dir / name, picture);
      csv += name + "," + std::to_string(100 - 2 * i) + ",x\n";
    }
    spill(dir / "scores.csv", csv);
    spill(dir / "tiny.json",
          R"({"image_size":32,"patch_size":8,"stem":"residual","stem_channels":[8,8,16],"vit_dim":16,"vit_depth":2,
              "vit_heads":2,"block_heads":2,"taps":[0,1],"num_mals":2,"cnn_channels":[16,16],"cnn_kernels":[3,1],
              "cnn_pools":[2,1],"prompt_dim":16,"prompt_heads":2,"ip_depth":1,"pf_depth":1,"fuse_depth":1,
              "class_token":false,"score_token":"learned"})");
  }

  struct Run {
    int code;
    std::string err;
  };
  Run command(const std::string& line) const {
    const int status = std::system(("cd '" + dir.string() + "' && " + line + " >out.txt 2>err.txt </dev/null").c_str());
    return {WIFEXITED(status) ? WEXITSTATUS(status) : -1, slurp(dir / "err.txt")};
  }
  Run train(const std::string& arguments) const { return command("'" PROMPTIQA_TRAIN "' " + arguments); }

  // Starts the program, sends `signal` once the log has `lines` lines, and returns its exit code, or minus the signal
  // that ended it.
  int train_until(const std::string& log, int lines, int signal, const std::vector<std::string>& arguments) const {
    std::vector<std::string> words = {PROMPTIQA_TRAIN};
    words.insert(words.end(), arguments.begin(), arguments.end());
    const pid_t child = fork();
    if (child == 0) {
      std::vector<char*> argv;
      for (std::string& word : words) argv.push_back(word.data());
      argv.push_back(nullptr);
      const int err = open((dir / "err.txt").c_str(), O_WRONLY | O_CREAT | O_TRUNC, 0666);
      std::signal(SIGHUP, SIG_DFL);  // not as it may have been inherited
      if (chdir(dir.c_str()) != 0 || err < 0 || dup2(err, STDERR_FILENO) < 0) _exit(99);
      execv(argv[0], argv.data());
      _exit(99);
    }
    int status = 0;
    for (int i = 0; i < 6000; ++i) {  // a minute at most
      const std::string text = slurp(dir / log);
      if (std::count(text.begin(), text.end(), '\n') >= lines) break;
      if (waitpid(child, &status, WNOHANG) == child) return WIFEXITED(status) ? 1000 + WEXITSTATUS(status) : -1000;
      std::this_thread::sleep_for(std::chrono::milliseconds(10));
    }
    kill(child, signal);
    waitpid(child, &status, 0);
    return WIFEXITED(status) ? WEXITSTATUS(status) : -WTERMSIG(status);
  }
};

const std::string small = "--group-size 5 --groups 2 --warmup 4 --threads 1 --seed 3 ";
const std::string tiny = small + "--config tiny.json --dtype f32 ";

std::vector<std::string> words_of(const std::string& text) {
  std::vector<std::string> words;
  std::string word;
  for (char c : text + " ")
    if (c != ' ')
      word += c;
    else if (!word.empty())
      words.push_back(word), word.clear();
  return words;
}

// The lines of a log without the times.
std::vector<nlohmann::json> steps_of(const fs::path& log) {
  std::vector<nlohmann::json> steps;
  std::ifstream file(log);
  for (std::string line; std::getline(file, line);) {
    nlohmann::json j = nlohmann::json::parse(line);
    if (j.contains("validation")) continue;
    j.erase("seconds");
    steps.push_back(j);
  }
  return steps;
}

}  // namespace

TEST_CASE("a CSV of scores becomes weights, a log and a curve", "[train]") {
  const Workshop shop;
  const auto run = shop.train(
      tiny + "--data csv:scores.csv --steps 12 --out w.safetensors --log l.jsonl --curve c.html --validate 60");
  INFO(run.err);
  REQUIRE(run.code == 0);
  CHECK_THAT(run.err, ContainsSubstring("camera"));  // a column nobody asked for
  CHECK_THAT(run.err, ContainsSubstring("32 pictures in 1 set") && ContainsSubstring("validation at step 12") &&
                          ContainsSubstring("8 pictures: SROCC"));
  promptiqa::Context ctx = promptiqa::Context::cpu(1);
  const auto model = promptiqa::Model<float>::load(ctx, (shop.dir / "w.safetensors").string());
  CHECK(model.config().prompt_dim == 16);
  CHECK(model.config().score_token == "learned");
  const auto steps = steps_of(shop.dir / "l.jsonl");
  REQUIRE(steps.size() == 12);
  CHECK(steps[11].at("step") == 12);
  CHECK(steps[11].at("images") == 10);
  CHECK(steps[0].at("prompt_loss").get<double>() > 0);
  const std::string page = slurp(shop.dir / "c.html");
  CHECK_THAT(page, ContainsSubstring("<svg") && ContainsSubstring("prompt loss") && ContainsSubstring("</html>"));
  CHECK(page.find("http") == std::string::npos);  // needs nothing from elsewhere
  CHECK(fs::exists(shop.dir / "w.safetensors.checkpoint"));
  CHECK(fs::exists(shop.dir / "w.safetensors.cache/scores-split.csv"));
}

TEST_CASE("photographs alone are enough", "[train]") {
  const Workshop shop;
  const auto run = shop.train(
      small +
      "--config tiny.json --photos photos --versions 4 --epochs 0.5 --out w.safetensors --log l.jsonl --validate 60");
  INFO(run.err);
  REQUIRE(run.code == 0);
  CHECK_THAT(run.err, ContainsSubstring("144 pictures in 1 set") && ContainsSubstring("photographs ssim, 16 pictures"));
  CHECK(steps_of(shop.dir / "l.jsonl").size() == 8);  // half of 144 pictures, 10 a step
  promptiqa::Context ctx = promptiqa::Context::cpu(1);
  CHECK_NOTHROW(promptiqa::Model<float>::load(ctx, (shop.dir / "w.safetensors").string()));
}

TEST_CASE("a run that is stopped or killed ends with the same bits as one that is not", "[train]") {
  const Workshop shop;
  const std::string common = tiny + "--data csv:scores.csv --steps 250 --cache cache ";
  REQUIRE(shop.train(common + "--out whole.safetensors --log whole.jsonl").code == 0);
  const auto whole = steps_of(shop.dir / "whole.jsonl");
  REQUIRE(whole.size() == 250);

  const std::string arguments = common + "--out w.safetensors --log l.jsonl --checkpoint-minutes 0.001 ";
  CHECK(shop.train_until("l.jsonl", 20, SIGTERM, words_of(arguments)) == 128 + SIGTERM);
  const std::string message = slurp(shop.dir / "err.txt");
  CHECK_THAT(message,
             ContainsSubstring("stopped by SIGTERM after step") && ContainsSubstring("w.safetensors.checkpoint"));
  CHECK(fs::exists(shop.dir / "w.safetensors"));
  CHECK(shop.train_until("l.jsonl", 60, SIGKILL, words_of(arguments + "--resume")) == -SIGKILL);
  CHECK(shop.train_until("l.jsonl", 100, SIGINT, words_of(arguments + "--resume")) == 128 + SIGINT);
  CHECK_THAT(slurp(shop.dir / "err.txt"), ContainsSubstring("continuing after step"));
  const auto last = shop.train(arguments + "--resume");
  INFO(last.err);
  REQUIRE(last.code == 0);
  CHECK_THAT(last.err, ContainsSubstring("continuing after step"));
  CHECK(steps_of(shop.dir / "l.jsonl") == whole);
  // The metadata differ in the minutes; the tensors must not.
  const auto tensors = [&](const char* name) {
    promptiqa::Context ctx = promptiqa::Context::cpu(1);
    return promptiqa::Model<float>::load(ctx, (shop.dir / name).string()).weights_id();
  };
  CHECK(tensors("w.safetensors") == tensors("whole.safetensors"));
}

TEST_CASE("a checkpoint is neither missed nor overwritten by accident", "[train]") {
  const Workshop shop;
  const std::string arguments = tiny + "--data csv:scores.csv --steps 3 --out w.safetensors ";
  auto run = shop.train(arguments + "--resume");
  CHECK(run.code == 2);
  CHECK_THAT(run.err, ContainsSubstring("no checkpoint"));
  REQUIRE(shop.train(arguments).code == 0);
  run = shop.train(arguments);
  CHECK(run.code == 2);
  CHECK_THAT(run.err, ContainsSubstring("--resume") && ContainsSubstring("--restart"));
  CHECK(shop.train(arguments + "--restart").code == 0);
  run = shop.train(arguments + "--resume --requirements 2");
  CHECK(run.code == 2);
  CHECK_THAT(run.err, ContainsSubstring("another run: its requirements: 3, here: 2"));
  run = shop.train(arguments + "--resume --lr 1e-5");
  CHECK(run.code == 2);
  CHECK_THAT(run.err, ContainsSubstring("another run: its learning rate"));
  run = shop.train(tiny + "--data csv:scores.csv --steps 5 --out w.safetensors --resume --init w.safetensors");
  CHECK(run.code == 0);
  CHECK_THAT(run.err, ContainsSubstring("the weights are those of w.safetensors.checkpoint"));
  CHECK_THAT(run.err, ContainsSubstring("not quite the steps") && ContainsSubstring("3 before, 5 now"));
}

TEST_CASE("the split of a label file is followed whatever its case, and said where there is none", "[train]") {
  const Workshop shop;
  const auto labels = [&](const std::string& name, const char* train, const char* test, int tests, double step = 1) {
    std::string csv = "image,score,split\n";
    for (int i = 0; i < 40; ++i)
      csv += "photos/p" + std::to_string(100 + i) + ".ppm," + std::to_string(step * i) + "," +
             (i < tests ? test : train) + "\n";
    spill(shop.dir / (name + ".csv"), csv);
  };
  const auto said = [&](const std::string& name, const std::string& more = "") {
    const auto run =
        shop.train(tiny + "--steps 2 --validate 60 --out " + name + ".safetensors --data csv:" + name + ".csv " + more);
    INFO(run.err);
    CHECK(run.code == 0);
    return run.err;
  };
  labels("shouted", "TRAIN", "Testing", 8);
  CHECK_THAT(said("shouted"), ContainsSubstring("32 pictures in 1 set") && ContainsSubstring("8 pictures: SROCC") &&
                                  ContainsSubstring("held out: the 8 of 40 pictures that are marked test"));
  CHECK_FALSE(fs::exists(shop.dir / "shouted.safetensors.cache/shouted-split.csv"));
  labels("trained", "train", "", 0);
  CHECK_THAT(said("trained"), ContainsSubstring("no picture is marked test; held out: 8 of 40"));
  labels("single", "train", "test", 1);
  CHECK_THAT(said("single"), ContainsSubstring("needs two held-out pictures, there is 1"));
  CHECK(fs::exists(shop.dir / "single.safetensors"));
  labels("flat", "train", "test", 8, 0);
  CHECK_THAT(said("flat"), ContainsSubstring("all pictures to train on have the same score"));
  std::string differ = "image,score,split\n";  // the test pictures' scores do, which is of no use
  for (int i = 0; i < 40; ++i)
    differ += "photos/p" + std::to_string(100 + i) + ".ppm," + std::to_string(i < 8 ? i : 9) +
              (i < 8 ? ",test\n" : ",train\n");
  spill(shop.dir / "differ.csv", differ);
  CHECK_THAT(said("differ"), ContainsSubstring("all pictures to train on have the same score"));
  const std::string both = said("shouted", "--data csv:trained.csv --restart");
  CHECK_THAT(both, ContainsSubstring("shouted: 6 of its 8 held-out pictures are among those of trained"));
  labels("validated", "train", "val", 4);
  const auto run = shop.train(tiny + "--steps 2 --out v.safetensors --data csv:validated.csv");
  CHECK(run.code == 2);
  CHECK_THAT(run.err, ContainsSubstring("marked neither train nor test: 4"));
}

TEST_CASE("a log keeps whole lines when the disk was full for a while", "[train]") {
  const promptiqa_test::TemporaryFolder folder;
  const std::string path = (fs::path(folder.path()) / "l.jsonl").string();
  const auto ignored = std::signal(SIGXFSZ, SIG_IGN);
  rlimit limit;
  REQUIRE(getrlimit(RLIMIT_FSIZE, &limit) == 0);
  const rlim_t before = limit.rlim_cur;
  examples::TrainingLog log(path, -1);
  promptiqa::StepReport report;
  report.step = 1;
  log.add(report);
  limit.rlim_cur = fs::file_size(path) + 10;
  setrlimit(RLIMIT_FSIZE, &limit);
  report.step = 2;
  log.add(report);
  const bool failed = log.failed();
  limit.rlim_cur = before;
  setrlimit(RLIMIT_FSIZE, &limit);
  std::signal(SIGXFSZ, ignored);
  report.step = 3;
  log.add(report);
  CHECK(failed);
  const auto steps = steps_of(path);
  REQUIRE(steps.size() == 2);
  CHECK(steps[1].at("step") == 3);
}

TEST_CASE("full disks, cut files and hang-ups end a run with a word and with its last checkpoint", "[train]") {
  const Workshop shop;
  const std::string arguments = tiny + "--data csv:scores.csv --cache cache --out w.safetensors ";
  REQUIRE(shop.train(arguments + "--steps 4").code == 0);
  const std::string checkpoint = slurp(shop.dir / "w.safetensors.checkpoint");

  // A limit of 20 blocks, 10 to 20 kB: no checkpoint fits, nor do the files in which Open MPI would keep its data.
  const auto run = shop.command("ulimit -f 20 && PMIX_MCA_gds=hash exec '" PROMPTIQA_TRAIN "' " + arguments +
                                "--steps 9 --resume --checkpoint-minutes 0");
  INFO(run.err);
  CHECK(run.code == 2);
  CHECK_THAT(run.err, ContainsSubstring("training goes on; w.safetensors.checkpoint is of step 4") &&
                          ContainsSubstring("File too large"));
  CHECK(slurp(shop.dir / "w.safetensors.checkpoint") == checkpoint);
  for (const auto& entry : fs::directory_iterator(shop.dir))
    CHECK(entry.path().filename().string().find(".tmp") == std::string::npos);

  // 0.5 to 1 MB: the weights fit, the checkpoint, eight times their size, does not.
  fs::remove(shop.dir / "w.safetensors");
  const auto last = shop.command("ulimit -f 1000 && PMIX_MCA_gds=hash exec '" PROMPTIQA_TRAIN "' " + arguments +
                                 "--steps 9 --resume");
  INFO(last.err);
  CHECK(last.code == 2);
  CHECK_THAT(last.err,
             ContainsSubstring("w.safetensors has the weights of step 9; w.safetensors.checkpoint is of step 4"));
  CHECK(fs::exists(shop.dir / "w.safetensors"));

  CHECK(shop.train_until("l.jsonl", 30, SIGHUP, words_of(arguments + "--log l.jsonl --steps 100000 --resume")) ==
        128 + SIGHUP);
  CHECK_THAT(slurp(shop.dir / "err.txt"), ContainsSubstring("stopped by SIGHUP after step"));
  CHECK(slurp(shop.dir / "w.safetensors.checkpoint") != checkpoint);
}

TEST_CASE("a page of curves that cannot be written does not end the training, but the run does not pass", "[train]") {
  const Workshop shop;
  fs::create_directories(shop.dir / "page");
  std::thread cut([&] {
    for (int i = 0; i < 6000; ++i) {  // a minute at most
      const std::string log = slurp(shop.dir / "l.jsonl");
      if (std::count(log.begin(), log.end(), '\n') >= 5) break;
      std::this_thread::sleep_for(std::chrono::milliseconds(10));
    }
    fs::remove_all(shop.dir / "page");
  });
  const auto run = shop.train(tiny +
                              "--data csv:scores.csv --out w.safetensors --log l.jsonl --steps 400 --validate 0.001 "
                              "--curve page/c.html");
  cut.join();
  INFO(run.err);
  CHECK(run.code == 2);
  CHECK_THAT(run.err, ContainsSubstring("page/c.html") && ContainsSubstring("training goes on"));
  CHECK(steps_of(shop.dir / "l.jsonl").size() == 400);
  CHECK(fs::exists(shop.dir / "w.safetensors"));
}

TEST_CASE("held-out pictures that cannot be read are named, and are no reason not to train", "[train]") {
  const Workshop shop;
  spill(shop.dir / "broken.ppm", "P6\n64 48\n255\n");
  for (int i = 1; i < 5; ++i)  // so many that one may be broken
    for (int p = 0; p < 40; ++p)
      fs::create_hard_link(shop.dir / ("photos/p" + std::to_string(100 + p) + ".ppm"),
                           shop.dir / ("photos/p" + std::to_string(100 + 40 * i + p) + ".ppm"));
  std::string csv = "image,score,split\n";
  for (int i = 0; i < 200; ++i)
    csv += "photos/p" + std::to_string(100 + i) + ".ppm," + std::to_string(i % 40) + ",train\n";
  spill(shop.dir / "one.csv", csv + "broken.ppm,7,test\n");
  const auto run = shop.train(tiny + "--data csv:one.csv --steps 2 --out w.safetensors --validate 1");
  INFO(run.err);
  CHECK(run.code == 0);
  CHECK_THAT(run.err, ContainsSubstring("no held-out picture can be read") &&
                          ContainsSubstring("1 pictures could not be read") && ContainsSubstring("broken.ppm"));
}

TEST_CASE("a cache that is cut while it is in use ends the run with a line", "[train]") {
  const Workshop shop;
  std::thread cut([&] {
    for (int i = 0; i < 6000; ++i) {  // a minute at most
      const std::string log = slurp(shop.dir / "l.jsonl");
      if (std::count(log.begin(), log.end(), '\n') >= 5) break;
      std::this_thread::sleep_for(std::chrono::milliseconds(10));
    }
    fs::resize_file(shop.dir / "cache/scores-32.cache", 0);
  });
  const auto run =
      shop.train(tiny + "--data csv:scores.csv --cache cache --out w.safetensors --log l.jsonl --steps 100000");
  cut.join();
  INFO(run.err);
  CHECK(run.code == 2);
  CHECK_THAT(run.err, ContainsSubstring("was cut short"));
}

TEST_CASE("bad input is refused with a reason", "[train]") {
  const Workshop shop;
  const auto refused = [&](const std::string& arguments, const std::string& why) {
    const auto run = shop.train(arguments);
    INFO(arguments << "\n" << run.err);
    CHECK(run.code == 2);
    CHECK_THAT(run.err + slurp(shop.dir / "out.txt"), ContainsSubstring(why));
    CHECK_FALSE(fs::exists(shop.dir / "w.safetensors"));
  };
  const std::string rest = tiny + "--out w.safetensors --steps 3 ";
  refused(rest, "nothing to train on");
  refused(rest + "--data csv:scores.csv --validate nan", "must be a number");
  refused(rest + "--data csv:scores.csv --checkpoint-minutes nan", "must be a number");
  refused(rest + "--data csv:scores.csv --validation-images 01", "at least 2");
  refused(tiny + "--out w.safetensors --data csv:scores.csv", "--minutes");
  refused(rest + "--data scores.csv", "KIND:DIR");
  refused(rest + "--data nonsense:photos", "nonsense");
  refused(rest + "--data csv:gone.csv", "gone.csv");
  refused(small + "--out w.safetensors --steps 3 --data csv:scores.csv --config gone.json", "gone.json");
  refused(rest + "--data csv:scores.csv --init gone.safetensors", "gone.safetensors");
  refused(rest + "--data csv:scores.csv --lr 7", "learning rate");
  refused(rest + "--data csv:scores.csv --flips 1.5", "flip_probability");
  refused(rest + "--data csv:scores.csv --validation-images 1", "at least 2");
  refused(tiny + "--out w.safetensors --data csv:scores.csv --epochs 1e300", "too many");
  refused(rest + "--data csv:scores.csv --log w.safetensors", "same file");
  refused(tiny + "--out nowhere/w.safetensors --steps 3 --data csv:scores.csv", "nowhere");
  spill(shop.dir / "nan.csv", "image,score\nphotos/p100.ppm,nan\nphotos/p101.ppm,1\n");
  refused(rest + "--data csv:nan.csv", "nan.csv");
  fs::resize_file(shop.dir / "photos/p105.ppm", 100);  // one of forty is more than 1%
  refused(rest + "--data csv:scores.csv", "more than 1%");
}

#if defined(PROMPTIQA_MPIRUN)
TEST_CASE("two ranks have the losses of one process with twice the shards", "[train][mpi]") {
  const Workshop shop;
  const std::string common = tiny + "--data csv:scores.csv --cache cache --steps 6 ";
  REQUIRE(shop.train(common + "--shards 2 --out one.safetensors --log one.jsonl").code == 0);
  const auto run =
      shop.command("'" PROMPTIQA_MPIRUN "' --allow-run-as-root --oversubscribe -np 2 '" PROMPTIQA_TRAIN "' " + common +
                   "--shards 2 --out two.safetensors --log two.jsonl");
  INFO(run.err);
  REQUIRE(run.code == 0);
  const auto one = steps_of(shop.dir / "one.jsonl"), two = steps_of(shop.dir / "two.jsonl");
  REQUIRE(one.size() == 6);
  REQUIRE(two.size() == 6);
  for (std::size_t i = 0; i < 6; ++i)
    for (const char* key : {"prompt_loss", "auxiliary_loss", "gradient_norm"}) {
      INFO(key << " of step " << i + 1);
      // One sum of two gradients either way: the same numbers, added in the same order.
      CHECK(one[i].at(key).get<double>() == Approx(two[i].at(key).get<double>()).epsilon(1e-6));
    }
  const auto failed =
      shop.command("'" PROMPTIQA_MPIRUN "' --allow-run-as-root --oversubscribe -np 2 '" PROMPTIQA_TRAIN "' " + common +
                   "--out two.safetensors --restart --shards 3");
  CHECK(failed.code != 0);
  CHECK_THAT(failed.err, ContainsSubstring("3 shards"));
}
#endif

#endif  // PROMPTIQA_TRAIN
