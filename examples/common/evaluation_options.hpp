// The command line of the program evaluate.
// Surprising choice: lists (of data sets, samplings, prompts, sizes) are measured in one run, in all combinations,
// since the images go through the model once whatever is asked about them.
#pragma once

#include <algorithm>
#include <cstdint>
#include <cstdio>
#include <string>
#include <utility>
#include <vector>

#include <CLI/CLI.hpp>

#include <promptiqa/data/dataset.hpp>
#include <promptiqa/version.hpp>

#include "evaluation.hpp"
#include "run_limits.hpp"

namespace examples {

/// One --data argument.
struct DataSource {
  std::string text;        // as given
  std::string kind, path;  // "csv" or one of dataset_kinds(); a file or a folder
};

struct EvaluateOptions : RunLimits {
  std::string weights;  // empty: the shipped ones
  std::vector<DataSource> data;
  std::string split;  // empty: the publisher's if there is one, otherwise random
  std::uint64_t splits = 1;
  std::vector<std::string> sampling = {"interval"};
  std::vector<std::size_t> prompt_sizes = {10};
  std::uint64_t repeats = 1;
  std::vector<std::string> prompts = {"standard"};
  std::string prompt_file;
  bool attributes = false, near_duplicates = false;
  std::uint64_t seed = 0;
  std::string csv, json, scores, features;  // empty: not wanted
  bool quiet = false;

  bool stdout_is_data() const { return json == "-" || csv == "-"; }
};

namespace detail {

template <class T>
std::vector<std::string> names_of(const std::vector<std::pair<std::string, T>>& named) {
  std::vector<std::string> names;
  for (const auto& entry : named) names.push_back(entry.first);
  return names;
}

// "koniq10k:DIR" or "csv:FILE". Throws CLI::ValidationError.
inline DataSource parse_data(const std::string& text) {
  const std::size_t colon = text.find(':');
  DataSource source = {text, text.substr(0, colon), colon == std::string::npos ? "" : text.substr(colon + 1)};
  std::vector<std::string> kinds = promptiqa::dataset_kinds();
  kinds.push_back("csv");
  if (std::find(kinds.begin(), kinds.end(), source.kind) == kinds.end()) {
    std::string known;
    for (const std::string& kind : kinds) known += (known.empty() ? "" : ", ") + kind;
    throw CLI::ValidationError("--data", "unknown kind \"" + source.kind + "\" in \"" + text + "\"; known: " + known);
  }
  if (source.path.empty())
    throw CLI::ValidationError("--data", "\"" + text + "\" names no " + (source.kind == "csv" ? "file" : "folder") +
                                             ", as in " + source.kind + (source.kind == "csv" ? ":FILE" : ":DIR"));
  return source;
}

// Each value once, in the order given.
template <class T>
void drop_repeated(std::vector<T>& values) {
  std::vector<T> kept;
  for (const T& value : values)
    if (std::find(kept.begin(), kept.end(), value) == kept.end()) kept.push_back(value);
  values = std::move(kept);
}

}  // namespace detail

/// Reads the command line. Returns the exit code when the program has nothing more to do, otherwise -1.
inline int parse_evaluate_options(int argc, char** argv, EvaluateOptions& options) {
  CLI::App app(
      "Measures how well scores agree with people on data sets: SROCC, PLCC, KROCC, RMSE. The test images are scored\n"
      "with prompts drawn from the training part (PromptIQA, section 4).\n",
      "evaluate");
  app.set_version_flag("--version", "promptiqa " PROMPTIQA_VERSION_STRING);
  app.option_defaults()->always_capture_default(false);

  std::vector<std::string> data;
  bool list = false;
  app.add_option("--data", data,
                 "Data sets: a kind and its folder as published, or csv:FILE\nwith columns image, score, "
                 "reference, split (the last two\nmay be missing). Several are measured one by one")
      ->type_name("KIND:DIR|csv:FILE")
      ->group("What is measured");
  app.add_flag("--list-data", list, "Print the kinds and what their folders must hold")->group("What is measured");
  app.add_option("--weights", options.weights,
                 "The model: a safetensors file or a PyTorch checkpoint.\nDefault: the shipped compact model")
      ->type_name("FILE")
      ->group("What is measured");
  auto* split = app.add_option("--split", options.split,
                               "test: the publisher's own split; random: 80% for training,\nwithout shared references; "
                               "FILE: a split written by train;\nall: every image is tested, needs --prompt-file.\n"
                               "Default: test where there is one, else random");
  split->type_name("test|random|all|FILE")->group("What is measured");
  app.add_option("--splits", options.splits, "With random splits: how many. Default: 1 (the paper: 10)")
      ->type_name("N")
      ->check(CLI::Range(1, 10000))
      ->group("What is measured");
  app.add_flag("--attributes", options.attributes,
               "Also ask for brightness, contrast, colourfulness,\nsharpness and noise, as ranks among the images")
      ->group("What is measured");
  app.add_flag("--near-duplicates", options.near_duplicates,
               "Also give figures without test images that nearly equal\na training image (difference hashes within "
               "30 of 256 bits)")
      ->group("What is measured");

  app.add_option("--sampling", options.sampling,
                 "How pairs are chosen from the training part: interval\n(evenly over the sorted scores), random. "
                 "Default: interval")
      ->type_name("LIST")
      ->delimiter(',')
      ->check(CLI::IsMember(detail::names_of(sampling_names)))
      ->group("Prompts");
  app.add_option("--prompt-size", options.prompt_sizes, "Pairs in a prompt, e.g. 1,3,5,10,20. Default: 10")
      ->type_name("LIST")
      ->delimiter(',')
      ->check(CLI::Range(1, 100000))
      ->group("Prompts");
  app.add_option("--repeats", options.repeats,
                 "Draws of every random prompt; results are medians and\nstandard deviations. "
                 "Default: 1")
      ->type_name("N")
      ->check(CLI::Range(1, 10000))
      ->group("Prompts");
  app.add_option(
         "--prompt", options.prompts,
         "standard; inverted: score s becomes 1 - s; random-scores,\nrandom-images: replaced by random numbers; "
         "random: both.\nDefault: standard")
      ->type_name("LIST")
      ->delimiter(',')
      ->check(CLI::IsMember(detail::names_of(prompt_names)))
      ->group("Prompts");
  auto* file = app.add_option("--prompt-file", options.prompt_file, "A prompt saved by score, instead of drawn ones");
  file->type_name("FILE")->group("Prompts");
  app.add_option("--seed", options.seed, "Of all random numbers. Default: 0")->type_name("N")->group("Prompts");

  app.add_option("--csv", options.csv, "Write medians and deviations as CSV; - is standard output")
      ->type_name("FILE|-")
      ->group("Output");
  app.add_option("--json", options.json, "Write them and every draw as JSON; - is standard output")
      ->type_name("FILE|-")
      ->group("Output");
  app.add_option("--scores", options.scores, "Write every score of every image as CSV")
      ->type_name("FILE")
      ->group("Output");
  app.add_option("--features", options.features,
                 "Keep image features in this file: the next evaluation\nof the same weights takes them from there")
      ->type_name("FILE")
      ->group("Output");
  app.add_flag("-q,--quiet", options.quiet, "No table, no notes, no progress bar; errors only")->group("Output");

  add_run_limits(app, options, "Images in the model at a time. Default: 16");
  app.footer(
      "Examples:\n"
      "  evaluate --data koniq10k:KonIQ-10k                               ten pairs by interval sampling\n"
      "  evaluate --data csv:mine.csv --splits 10                         the paper's protocol: median of ten splits\n"
      "  evaluate --data biq2021:BIQ --sampling interval,random --repeats 20            Table 4\n"
      "  evaluate --data biq2021:BIQ --prompt standard,inverted,random-scores,random-images,random   Table 5\n"
      "  evaluate --data biq2021:BIQ --prompt-size 1,3,5,10,20            Figure 3\n"
      "\n"
      "SROCC, KROCC (tau-b) and PLCC are of the scores as they come; PLCC* and RMSE* after the 5-parameter logistic,\n"
      "fitted to the test images of that draw (so PLCC* is never negative). RMSE and RMSE* are in the data set's "
      "scale.\n"
      "\n"
      "Exit code: 0 all images were read, 1 some failed (the figures are of the others), 2 wrong usage, data, prompt\n"
      "or weights, 130 interrupted (nothing is written but --features).");
  try {
    app.parse(argc, argv);
    if (list) {
      for (const std::string& kind : promptiqa::dataset_kinds())
        std::printf("%s:DIR\n%s\n\n", kind.c_str(), promptiqa::dataset_layout(kind).c_str());
      return 0;
    }
    if (data.empty()) throw CLI::ValidationError("--data", "give at least one data set");
    for (const std::string& text : data) options.data.push_back(detail::parse_data(text));
    const bool is_file =
        !options.split.empty() && options.split != "test" && options.split != "random" && options.split != "all";
    if (is_file && data.size() > 1)
      throw CLI::ValidationError("--split", "a split file fits one data set; give one --data");
    if (options.splits > 1 && !options.split.empty() && options.split != "random")
      throw CLI::ValidationError("--splits", "needs --split random");
    if (options.splits > 1) options.split = "random";
    if (options.split == "all" && options.prompt_file.empty())
      throw CLI::ValidationError("--split all", "leaves no images for prompts: give --prompt-file");
    if (options.split == "all" && options.near_duplicates)
      throw CLI::ValidationError("--near-duplicates", "compares with training images, --split all has none");
    if (!options.prompt_file.empty()) {
      if (options.attributes) throw CLI::ValidationError("--attributes", "needs prompts of its own, not --prompt-file");
      if (app.count("--sampling") + app.count("--prompt-size") > 0)
        throw CLI::ValidationError("--prompt-file", "excludes --sampling and --prompt-size");
    }
    if (options.json == "-" && options.csv == "-") throw CLI::ValidationError("--json - and --csv -", "choose one");
    check_run_limits(options);
    std::vector<std::string> outputs;
    for (const std::string& name : {options.json, options.csv, options.scores, options.features})
      if (!name.empty() && name != "-") outputs.push_back(name);
    std::sort(outputs.begin(), outputs.end());
    if (std::adjacent_find(outputs.begin(), outputs.end()) != outputs.end())
      throw CLI::ValidationError("outputs", "two of them have the same name");
    detail::drop_repeated(options.sampling);
    detail::drop_repeated(options.prompt_sizes);
    detail::drop_repeated(options.prompts);
  } catch (const CLI::Error& error) {
    return app.exit(error) == 0 ? 0 : 2;
  }
  return -1;
}

}  // namespace examples
