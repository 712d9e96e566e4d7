// train: data sets and photographs in, weights out.
// Surprising choice: the weights file is replaced at every checkpoint, so whatever ends the run, the last averaged
// weights are there to be used.
#include <cmath>
#include <csignal>
#include <cstdio>
#include <fstream>
#include <memory>
#include <new>
#include <optional>
#include <sstream>
#include <string>

#include <promptiqa/data.hpp>
#include <promptiqa/train.hpp>
#include <promptiqa/train/mpi_communicator.hpp>
#include <promptiqa/train/nccl_communicator.hpp>

#include "common/device.hpp"
#include "common/number.hpp"
#include "common/program.hpp"
#include "common/training_curve.hpp"
#include "common/training_data.hpp"
#include "common/training_log.hpp"
#include "common/training_options.hpp"
#include "common/training_progress.hpp"

namespace {

using namespace examples;
using Model = promptiqa::Model<float>;
using promptiqa::Context;

volatile std::sig_atomic_t interrupted = 0;  // the signal

void note(const TrainingOptions& options, const std::string& text) {
  if (!options.quiet) std::fprintf(stderr, "train: note: %s\n", text.c_str());
}

promptiqa::ModelConfig model_config(const std::string& name) {
  if (name == "compact") return promptiqa::ModelConfig::compact();
  if (name == "base") return promptiqa::ModelConfig::base();
  std::ifstream file(name, std::ios::binary);
  std::stringstream text;
  text << file.rdbuf();
  if (!file) throw promptiqa::FileError(name + ": cannot be read; --config takes compact, base or a JSON file");
  return promptiqa::ModelConfig::from_json(text.str(), name);
}

Model initial_model(Context& ctx, const TrainingOptions& options) {
  if (options.init.empty()) return Model::create(ctx, model_config(options.config), options.trainer.seed);
  promptiqa::ModelOptions trainable;
  trainable.training = true;
  return Model::load(ctx, options.init, trainable);
}

promptiqa::DType weights_type(const std::string& name) {
  return name == "f32" ? promptiqa::DType::f32 : name == "bf16" ? promptiqa::DType::bf16 : promptiqa::DType::f16;
}

bool exists(const std::string& path) {
  std::error_code ignored;
  return std::filesystem::exists(path, ignored);
}

std::string minutes_text(double seconds) { return rounded_text(seconds / 60, 1) + " minutes"; }

// What a rank other than 0 must not do: print, log, write.
void silence(TrainingOptions& options) {
  options.quiet = true;
  options.log.clear();
  options.curve.clear();
}

// Sets of which too little is held out for a correlation are not validated.
void drop_unmeasurable(TrainingData& data, const TrainingOptions& options) {
  std::vector<HeldOut> measurable;
  for (HeldOut& held : data.held_out) {
    if (held.test.pictures.size() >= 2)
      measurable.push_back(std::move(held));
    else
      note(options, "validation of " + held.test.name + " needs two held-out pictures, there is " +
                        std::to_string(held.test.pictures.size()));
  }
  data.held_out = std::move(measurable);
}

void wait_for_all(promptiqa::Communicator& ranks) {
  double nothing[1] = {0};
  ranks.sum(std::span<double>(nothing));
}

#if defined(PROMPTIQA_NCCL)
constexpr bool has_nccl = true;
#else
constexpr bool has_nccl = false;
#endif

// The ranks with their devices connected; null where their sums go through the host.
std::unique_ptr<promptiqa::Communicator> connect_devices([[maybe_unused]] Context& ctx,
                                                         [[maybe_unused]] promptiqa::Communicator& ranks) {
#if defined(PROMPTIQA_NCCL)
  if (ctx.device() == promptiqa::Device::cuda && ranks.size() > 1)
    return std::make_unique<promptiqa::NcclCommunicator>(ctx, ranks);
#endif
  return nullptr;
}

int run(TrainingOptions& options, promptiqa::Communicator& ranks) {
  if (!options.shards_given) options.trainer.shards = ranks.size();
  if (ranks.rank() != 0) silence(options);
  if (options.resume && !exists(options.checkpoint))
    throw promptiqa::FileError(options.checkpoint + ": there is no checkpoint to resume from");
  if (!options.resume && !options.restart && exists(options.checkpoint))
    throw promptiqa::FileError(options.checkpoint +
                               ": a checkpoint is there already; --resume continues its run, --restart replaces it");
  std::string notice;
  Context ctx = make_context(options.device, options.precision, options.threads, &notice, true,
                             has_nccl ? ranks.local_rank() : 0);
  if (!notice.empty()) note(options, notice);
  const std::unique_ptr<promptiqa::Communicator> connected = connect_devices(ctx, ranks);
  Model model = initial_model(ctx, options);
  // Rank 0 makes the caches, the others find them.
  if (ranks.rank() != 0) wait_for_all(ranks);
  TrainingData data = load_training_data(options, static_cast<int>(model.config().image_size), ctx.pool(),
                                         [] { return interrupted != 0; });
  if (ranks.rank() == 0) wait_for_all(ranks);
  for (const std::string& text : data.notices) note(options, text);
  if (options.epochs > 0) {
    double pictures = 0;
    for (const auto& set : data.sets) pictures += static_cast<double>(set.pictures.size());
    const double step =
        static_cast<double>(options.trainer.groups * options.trainer.shards * options.trainer.sampler.group_size);
    const double steps = std::ceil(options.epochs * pictures / step);
    if (!(steps <= 1e15))  // no run takes that many, and a double counts them exactly
      throw promptiqa::TrainingError("--epochs " + rounded_text(options.epochs, 0) + " is too many: " +
                                     rounded_text(pictures, 0) + " pictures, " + rounded_text(step, 0) + " a step");
    options.trainer.steps = std::max<std::int64_t>(1, static_cast<std::int64_t>(steps));
  }
  if (options.validate_minutes > 0) drop_unmeasurable(data, options);

  promptiqa::Trainer trainer(ctx, std::move(model), data.sets, options.trainer, connected ? connected.get() : &ranks);
  if (options.resume && !options.init.empty())
    note(options, "the weights are those of " + options.checkpoint + "; --init is for the beginning of a run");
  if (options.resume) {
    const std::vector<std::string> changed = trainer.load_checkpoint(options.checkpoint);
    note(options, options.checkpoint + ": continuing after step " + std::to_string(trainer.steps_taken()));
    for (const std::string& text : changed) note(options, "not quite the steps that the run would have taken: " + text);
  }
  TrainingLog log(options.log, options.resume ? trainer.steps_taken() : -1);
  TrainingProgress progress(!options.quiet);
  std::size_t parameters = 0;
  for (const auto& parameter : trainer.model().parameters())
    parameters += static_cast<std::size_t>(parameter.value.numel());
  progress.print("train: " + std::to_string(parameters) + " parameters, " +
                 std::to_string(trainer.sampler().picture_count()) + " pictures in " +
                 std::to_string(data.sets.size()) + (data.sets.size() == 1 ? " set, " : " sets, ") +
                 std::to_string(trainer.sampler().labels().size()) + " labels, " + std::to_string(ctx.pool().size()) +
                 " threads, " + ctx.kernels<float>().name +
                 (ranks.size() > 1 ? ", " + std::to_string(ranks.size()) + " ranks" : "") +
                 (connected ? " that sum by NCCL" : ""));

  const auto write_weights = [&] {
    trainer.averaged_model().save(
        options.out, weights_type(options.dtype),
        {{"training", "steps " + std::to_string(trainer.steps_taken()) + ", images " +
                          std::to_string(trainer.images_seen()) + ", " + minutes_text(trainer.seconds()) + ", seed " +
                          std::to_string(options.trainer.seed)}});
  };
  const auto write_page = [&] {
    if (!options.curve.empty()) write_curve(options.curve, log, "Training of " + options.out);
  };
  promptiqa::RunOptions run_options;
  run_options.checkpoint = options.checkpoint;
  run_options.checkpoint_minutes = options.checkpoint_minutes;
  run_options.validation_minutes = options.validate_minutes;
  run_options.stop = [] { return interrupted != 0; };
  run_options.after_step = [&](const promptiqa::StepReport& report) {
    log.add(report);
    progress.update(report, trainer);
  };
  std::int64_t saved = trainer.steps_taken();
  run_options.after_checkpoint = [&] {
    saved = trainer.steps_taken();
    write_weights();
    write_page();
  };
  const auto still_there = [&] {
    return saved > 0 ? "; " + options.checkpoint + " is of step " + std::to_string(saved) : std::string();
  };
  run_options.checkpoint_failed = [&](const promptiqa::FileError& error) {
    progress.print(std::string("train: ") + error.what() + "; training goes on" + still_there());
  };
  bool page_is_old = false;
  if (options.validate_minutes > 0)
    run_options.validation = [&] {
      const Model averaged = trainer.averaged_model();
      for (const HeldOut& held : data.held_out) {
        const auto pairs = static_cast<std::int64_t>(std::min<std::size_t>(10, held.prompts.pictures.size()));
        const promptiqa::Validation v =
            promptiqa::validate(ctx, averaged, held.prompts, held.test, held.label, options.validation_images, pairs);
        log.add(v, trainer.steps_taken(), trainer.seconds() / 60);
        progress.print("validation at step " + std::to_string(trainer.steps_taken()) + ", " +
                       minutes_text(trainer.seconds()) + ": " + v.set + " " + v.label + ", " +
                       std::to_string(v.images) + " pictures: SROCC " + rounded_text(v.srocc, 4) +
                       ", prompt inverted " + rounded_text(v.srocc_inverted, 4) + ", PLCC " + rounded_text(v.plcc, 4) +
                       (v.srocc - v.srocc_inverted < 0.2 ? "; the prompt is not followed yet" : ""));
      }
      try {
        write_page();
        page_is_old = false;
      } catch (const promptiqa::FileError& error) {
        page_is_old = true;
        progress.print(std::string("train: ") + error.what() + "; training goes on");
      }
    };

  promptiqa::RunEnd end;
  try {
    end = promptiqa::run_training(trainer, run_options);
  } catch (const promptiqa::FileError& error) {
    std::string kept;
    if (ranks.rank() == 0 && trainer.steps_taken() > saved) {
      try {  // they are a tenth of a checkpoint
        write_weights();
        kept = "; " + options.out + " has the weights of step " + std::to_string(trainer.steps_taken());
      } catch (const promptiqa::FileError&) {  // the error that is thrown below says it
      }
    }
    throw promptiqa::FileError(error.what() + kept + still_there());
  }
  progress.clear();
  if (log.failed()) note(options, options.log + ": lines of the log could not be written");
  std::vector<std::string> skipped = trainer.sampler().skipped();
  skipped.insert(skipped.end(), data.unreadable.begin(), data.unreadable.end());
  if (!skipped.empty() && ranks.rank() == 0) {
    std::fprintf(stderr, "train: %zu pictures could not be read and were left out:\n", skipped.size());
    for (const std::string& one : skipped) std::fprintf(stderr, "  %s\n", one.c_str());
  }
  if (end == promptiqa::RunEnd::stopped) {
    const int signal = interrupted != 0 ? interrupted : SIGTERM;  // 0: another rank was told to stop
    if (ranks.rank() == 0)
      std::fprintf(stderr, "train: stopped by %s after step %lld; the checkpoint is %s, --resume continues it\n",
                   signal == SIGINT   ? "Ctrl-C (SIGINT)"
                   : signal == SIGHUP ? "SIGHUP"
                                      : "SIGTERM",
                   static_cast<long long>(trainer.steps_taken()), options.checkpoint.c_str());
    return 128 + signal;
  }
  if (page_is_old) write_page();
  note(options, options.out + ": the weights of " + std::to_string(trainer.steps_taken()) + " steps, " +
                    std::to_string(trainer.images_seen()) + " images, " + minutes_text(trainer.seconds()));
  return 0;
}

}  // namespace

int main(int argc, char** argv) {
  TrainingOptions options;
#if defined(PROMPTIQA_MPI)
  std::optional<promptiqa::MpiCommunicator> mpi;
  mpi.emplace(&argc, &argv);
  promptiqa::Communicator& ranks = *mpi;
#else
  promptiqa::SingleProcess ranks;
#endif
  constexpr int failed = -1;
  bool stopped_early = false;
  const int code = exit_code_of("train", failed, [&] {
    if (const int parsed = parse_training_options(argc, argv, options); parsed >= 0) return parsed;
    on_stop_signals(
        [](int signal) { interrupted = signal; });  // ends the run after the current step, with a checkpoint
    try {
      return run(options, ranks);
    } catch (const StoppedEarly&) {
      stopped_early = true;
      throw;
    }
  });
  if (code != failed) return code;
  const int exit_code = stopped_early ? 128 + interrupted : 2;
#if defined(PROMPTIQA_MPI)
  if (ranks.size() > 1) promptiqa::MpiCommunicator::abort(exit_code);  // the others would wait for this rank for ever
#endif
  return exit_code;
}
