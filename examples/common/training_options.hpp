// The command line of the program train.
// Surprising choice: the defaults are the recipe of the shipped weights; --paper switches all of them to the paper's at
// once, and single options still override it.
#pragma once

#include <unistd.h>

#include <cmath>
#include <cstdint>
#include <filesystem>
#include <string>
#include <vector>

#include <CLI/CLI.hpp>

#include <promptiqa/data/dataset.hpp>
#include <promptiqa/train/trainer.hpp>
#include <promptiqa/version.hpp>

#include "device.hpp"
#include "number.hpp"

namespace examples {

struct TrainingOptions {
  std::vector<std::string> data;  // "KIND:DIR" or "csv:FILE"
  std::string photos, out, config = "compact", init, cache, checkpoint, log, curve;
  double epochs = 0, checkpoint_minutes = 5, validate_minutes = 0;
  std::int64_t validation_images = 600, versions = 30;
  bool resume = false, restart = false, quiet = false, shards_given = false;
  int threads = 0;
  std::string device = "cpu", precision = "fp32", dtype = "f16";
  promptiqa::TrainerOptions trainer = promptiqa::TrainerOptions::recipe();
};

/// Reads the command line. Returns the exit code when the program has nothing more to do, otherwise -1.
inline int parse_training_options(int argc, char** argv, TrainingOptions& options) {
  using promptiqa::TrainerOptions;
  // --paper comes first wherever it stands, so that other options can change what it sets.
  for (int i = 1; i < argc; ++i)
    if (std::string(argv[i]) == "--paper") options.trainer = TrainerOptions::paper();
  TrainerOptions& trainer = options.trainer;
  std::string optimizer = trainer.optimizer.kind == promptiqa::OptimizerKind::adam ? "adam" : "adamw",
              scaling = trainer.sampler.augmentation.scaling == promptiqa::ScalingForm::paper ? "paper" : "released";
  bool paper = false;

  CLI::App app(
      "Trains a model that scores image quality as a prompt of image-score pairs asks. Any number of data sets with "
      "human\n"
      "scores, and any folder of photographs, from which requirements are made without scores, can be mixed.\n",
      "train");
  app.set_version_flag("--version", "promptiqa " PROMPTIQA_VERSION_STRING);
  app.option_defaults()->always_capture_default(false);

  // CLI11's ranges let a NaN through.
  const auto not_nan = [](const std::string& text) {
    const auto value = parse_float(text);
    return value && std::isnan(*value) ? "must be a number, got " + text : std::string();
  };
  std::string kinds = "csv";
  for (const std::string& kind : promptiqa::dataset_kinds()) kinds += ", " + kind;
  app.add_option(
         "--data", options.data,
         "A data set, KIND:DIR, or csv:FILE with columns\nimage,score[,reference][,split]; may be repeated.\nKinds: " +
             kinds)
      ->type_name("KIND:PATH")
      ->group("Data");
  app.add_option("--photos", options.photos,
                 "A folder of photographs: distorted versions with labels\nare made from them. Needs nothing else")
      ->type_name("DIR")
      ->group("Data");
  app.add_option("--versions", options.versions, "Versions of each photograph. Default: 30")
      ->type_name("N")
      ->check(CLI::Range(2, 1000))
      ->group("Data");
  app.add_option("--cache", options.cache, "Folder for decoded pictures. Default: OUT.cache")
      ->type_name("DIR")
      ->group("Data");

  app.add_option("-o,--out", options.out, "The weights: a safetensors file, replaced at every\ncheckpoint")
      ->type_name("FILE")
      ->required()
      ->group("Output");
  app.add_option("--dtype", options.dtype, "Type of the weights in it: f16, bf16 or f32. Default: f16")
      ->type_name("T")
      ->check(CLI::IsMember({"f16", "bf16", "f32"}))
      ->group("Output");
  app.add_option("--checkpoint", options.checkpoint, "What --resume needs. Default: OUT.checkpoint")
      ->type_name("FILE")
      ->group("Output");
  app.add_option("--checkpoint-minutes", options.checkpoint_minutes, "Time between checkpoints. Default: 5")
      ->type_name("N")
      ->check(not_nan)
      ->check(CLI::NonNegativeNumber)
      ->group("Output");
  auto* resume =
      app.add_flag("--resume", options.resume,
                   "Continue the run of the checkpoint; give the same other\noptions again. Only its length may change")
          ->group("Output");
  app.add_flag("--restart", options.restart, "Begin anew although a checkpoint exists")
      ->excludes(resume)
      ->group("Output");
  app.add_option("--log", options.log, "A line of JSON for every step and validation")
      ->type_name("FILE")
      ->group("Output");
  app.add_option("--curve", options.curve, "A page with the curves of loss and SROCC, replaced at\nevery checkpoint")
      ->type_name("FILE.html")
      ->group("Output");
  app.add_option(
         "--validate", options.validate_minutes,
         "Every N minutes, and at the end, SROCC on held-out\npictures, with the prompt and with its scores inverted")
      ->type_name("N")
      ->check(not_nan)
      ->check(CLI::NonNegativeNumber)
      ->group("Output");
  app.add_option("--validation-images", options.validation_images,
                 "Held-out pictures used, two at least; 0 = all.\nDefault: 600")
      ->type_name("N")
      ->check([](const std::string& text) {
        return parse_float(text) == 1.0f ? std::string("must be 0 or at least 2: one picture has no correlation")
                                         : std::string();
      })
      ->check(CLI::NonNegativeNumber)
      ->group("Output");
  app.add_flag("-q,--quiet", options.quiet, "Errors only")->group("Output");

  app.add_option("--config", options.config, "The model: compact, base, or a JSON file. Default: compact")
      ->type_name("NAME|FILE")
      ->group("Model");
  app.add_option("--init", options.init, "Start from these weights (and their configuration)")
      ->type_name("FILE")
      ->group("Model");

  auto* length = app.add_option_group("Length", "One of");
  length->add_option("--steps", trainer.steps, "Steps")->type_name("N")->check(CLI::PositiveNumber);
  length->add_option("--minutes", trainer.minutes, "Minutes of training")
      ->type_name("N")
      ->check(not_nan)
      ->check(CLI::PositiveNumber);
  length->add_option("--epochs", options.epochs, "Times every picture is seen, on average")
      ->type_name("N")
      ->check(not_nan)
      ->check(CLI::PositiveNumber);
  length->require_option(1);

  const auto number = [&](const char* name, auto& value, const char* text, const char* group) {
    app.add_option(name, value, text)->type_name("X")->group(group);
  };
  app.add_flag("--paper", paper,
               "Begin with the paper's settings: Adam, 1e-5, coupled\ndecay, one group of 11 with one requirement, "
               "flips 0.1,\n"
               "its scaling, no auxiliary head, no clipping, no averaging")
      ->group("Optimisation");
  app.add_option("--optimizer", optimizer, "adamw, or adam with coupled weight decay. Default: adamw")
      ->type_name("NAME")
      ->check(CLI::IsMember({"adam", "adamw"}))
      ->group("Optimisation");
  number("--lr", trainer.schedule.rate, "Learning rate. Default: 2.5e-4", "Optimisation");
  number("--warmup", trainer.schedule.warmup_steps,
         "Steps of linear warm-up; in a run of less than ten times\nas many, a tenth of it. Default: 400",
         "Optimisation");
  number("--lr-floor", trainer.schedule.floor, "Share of the rate left at the end of the cosine.\nDefault: 0.005",
         "Optimisation");
  number("--weight-decay", trainer.optimizer.weight_decay, "Weight decay. Default: 0.03", "Optimisation");
  number("--beta1", trainer.optimizer.beta1, "Adam's. Default: 0.9", "Optimisation");
  number("--beta2", trainer.optimizer.beta2, "Adam's. Default: 0.98", "Optimisation");
  number("--clip", trainer.clip_norm, "Largest norm of the gradient, 0 = any. Default: 1", "Optimisation");
  number("--ema", trainer.average_decay, "Decay of the averaged weights, which are the ones kept.\nDefault: 0.998",
         "Optimisation");
  number("--aux", trainer.auxiliary_weight, "Weight of the auxiliary head, 0 = none. Default: 1", "Optimisation");
  app.add_flag("--recompute", trainer.recompute,
               "Keep less for the backward pass and compute it again:\na third more time, a fraction of the memory")
      ->group("Machine");
  number("--groups", trainer.groups, "Groups through the backbone together. Default: 4", "Optimisation");
  number("--group-size", trainer.sampler.group_size, "Pictures of a group. Default: 11", "Optimisation");
  number("--shards", trainer.shards,
         "Batches that make a step, their gradients averaged;\nwith MPI shared by the ranks. Default: 1, or the ranks",
         "Optimisation");

  number("--requirements", trainer.sampler.requirements, "Label sets under which a group is scored. Default: 3",
         "Requirements");
  number("--score-share", trainer.sampler.score_share, "Share of groups from human scores. Default: 0.6",
         "Requirements");
  number("--flips", trainer.sampler.augmentation.flip_probability, "Probability of random flipping. Default: 0.3",
         "Requirements");
  number("--scales", trainer.sampler.augmentation.scale_probability, "Probability of random scaling. Default: 0.5",
         "Requirements");
  app.add_option(
         "--scaling", scaling,
         "Its divisor: the largest score (paper), or a number\nbetween that and 1 (released). Default: released")
      ->type_name("FORM")
      ->check(CLI::IsMember({"paper", "released"}))
      ->group("Requirements");
  number("--power", trainer.sampler.augmentation.power, "Scores to the power exp(u), u uniform in +-X. Default: 0.5",
         "Requirements");
  number("--squeezes", trainer.sampler.augmentation.squeeze_probability,
         "Probability of a squeeze into a part of the range.\nDefault: 0.2", "Requirements");
  number("--mirrors", trainer.sampler.mirror_probability, "Probability of mirroring a picture. Default: 0.5",
         "Requirements");

  number("--seed", trainer.seed, "Of weights and everything random. Default: 0", "Machine");
  add_device_option(app, options.device, "Machine");
  add_threads_option(app, options.threads, "Machine");
  app.add_option(
         "--precision", options.precision,
         "fp32; bf16: matrix products of bfloat16 operands (on a\nGPU attention and convolutions are tf32); tf32, "
         "on a\nGPU: products of operands with 10 fraction bits.\nDefault: fp32")
      ->type_name("P")
      ->check(CLI::IsMember({"fp32", "tf32", "bf16"}))
      ->group("Machine");
  app.footer(
      "Examples:\n"
      "  train --photos ~/Pictures --out mine.safetensors --minutes 30\n"
      "  train --data biq2021:BIQ2021 --photos BSDS500 --out w.safetensors --minutes 60 --validate 5 --curve w.html\n"
      "  train --data csv:scores.csv --init weights/promptiqa-compact.safetensors --lr 5e-5 --epochs 20 --out "
      "w.safetensors\n"
      "\n"
      "Ctrl-C writes a checkpoint first; the same command with --resume continues exactly where it ended.\n"
      "Exit code: 0 trained, 2 wrong usage or an error, 129, 130 or 143 stopped by a signal (with a checkpoint, "
      "unless\n"
      "that was before the first step).");
  try {
    app.parse(argc, argv);
    options.shards_given = app.count("--shards") > 0;
    trainer.optimizer.kind = optimizer == "adam" ? promptiqa::OptimizerKind::adam : promptiqa::OptimizerKind::adamw;
    trainer.sampler.augmentation.scaling =
        scaling == "paper" ? promptiqa::ScalingForm::paper : promptiqa::ScalingForm::released;
    check_precision(options.device, options.precision);
    if (options.data.empty() && options.photos.empty())
      throw CLI::ValidationError("--data or --photos", "there is nothing to train on; give at least one");
    if (options.checkpoint.empty()) options.checkpoint = options.out + ".checkpoint";
    if (options.cache.empty()) options.cache = options.out + ".cache";
    std::vector<std::string> outputs;
    for (const std::string& file : {options.out, options.checkpoint, options.log, options.curve}) {
      if (file.empty()) continue;
      for (const std::string& other : outputs)
        if (file == other) throw CLI::ValidationError(file, "two outputs must not go to the same file");
      outputs.push_back(file);
      const std::string folder = std::filesystem::path(file).parent_path().string();
      if (access(folder.empty() ? "." : folder.c_str(), W_OK | X_OK) != 0 || std::filesystem::is_directory(file))
        throw CLI::ValidationError(file, "cannot be written: the folder is missing or not writable");
    }
  } catch (const CLI::ParseError& error) {
    const int code = app.exit(error);
    return code == 0 ? 0 : 2;
  }
  return -1;
}

}  // namespace examples
