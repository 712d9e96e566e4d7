// evaluate: how well scores agree with people on whole data sets, under the prompts of the paper's experiments.
// Surprising choice: all of a run's settings are checked against the sizes of the splits before an image is opened.
#include <signal.h>

#include <csignal>
#include <cstdio>
#include <optional>
#include <set>
#include <stdexcept>
#include <string>
#include <vector>

#include <promptiqa/data/dataset.hpp>
#include <promptiqa/data/split.hpp>

#include "common/any_model.hpp"
#include "common/data_files.hpp"
#include "common/evaluation_options.hpp"
#include "common/evaluation_report.hpp"
#include "common/evaluation_run.hpp"
#include "common/free_name.hpp"
#include "common/program.hpp"
#include "common/results.hpp"

namespace {

using namespace examples;
using promptiqa::Dataset;
using promptiqa::Split;

volatile std::sig_atomic_t interrupted = 0;

void note(const EvaluateOptions& options, const std::string& text) {
  if (!options.quiet) std::fprintf(stderr, "evaluate: note: %s\n", printable(text).c_str());
}

// ---- the data -----------------------------------------------------------------------------------------------------

// A data set with the splits it is measured under.
struct Measured {
  DataSource source;
  Dataset data;
  std::string split;  // how the splits came about: test, random, all or the file
  std::vector<Split> splits;
};

void add_splits(Measured& measured, const EvaluateOptions& options) {
  const Dataset& data = measured.data;
  const bool marked = promptiqa::split_marks(data).none < static_cast<std::int64_t>(data.items.size());
  measured.split = !options.split.empty() ? options.split : marked ? "test" : "random";
  if (measured.split == "test") {
    std::vector<std::string> notices;
    try {
      measured.splits = {promptiqa::published_split(data, &notices)};
    } catch (const promptiqa::DataError& error) {
      throw promptiqa::DataError(std::string(error.what()) + "; --split random makes one");
    }
    for (const std::string& notice : notices) note(options, notice);
  } else if (measured.split == "all") {
    Split everything;
    for (std::size_t i = 0; i < data.items.size(); ++i) everything.test.push_back(static_cast<std::int64_t>(i));
    measured.splits = {everything};
  } else if (measured.split == "random") {
    for (std::uint64_t i = 0; i < options.splits; ++i)
      measured.splits.push_back(promptiqa::split_by_reference(data, 0.8, options.seed + i));
  } else {
    measured.splits = {promptiqa::read_split(measured.split, data)};
  }
  const std::size_t largest = *std::max_element(options.prompt_sizes.begin(), options.prompt_sizes.end());
  for (const Split& split : measured.splits)
    if (options.prompt_file.empty() && split.train.size() < largest)
      throw std::runtime_error(data.name + ": --prompt-size asks for " + std::to_string(largest) +
                               " pairs, the training " + "part has " + std::to_string(split.train.size()) + " images");
}

std::vector<Measured> read_data(const EvaluateOptions& options) {
  std::vector<Measured> all;
  std::set<std::string> names;
  for (const DataSource& source : options.data) {
    Measured measured;
    measured.source = source;
    measured.data = source.kind == "csv" ? promptiqa::read_csv_dataset(source.path)
                                         : promptiqa::read_dataset(source.kind, source.path);
    Dataset& data = measured.data;
    for (const std::string& notice : data.notices) note(options, notice);
    if (data.short_side > 0)
      note(options, source.text + ": pictures are first resized to a shorter side of " +
                        std::to_string(data.short_side) + " pixels, as the paper does");
    data.name = free_name(data.name, [&](const std::string& text) { return !names.insert(text).second; });
    add_splits(measured, options);
    all.push_back(std::move(measured));
  }
  return all;
}

std::vector<FailedImage> failed_images(const std::vector<Measured>& measured, const PictureStore& store) {
  std::vector<FailedImage> failed;
  for (const Measured& m : measured)
    for (const promptiqa::DatasetItem& item : m.data.items)
      if (const PictureId id{item.image, m.data.short_side}; store.failed(id))
        failed.push_back({m.data.name, item.image, store.error(id)});
  return failed;
}

// ---- the run ------------------------------------------------------------------------------------------------------

Plan make_plan(promptiqa::Context& ctx, const AnyModel& model, const EvaluateOptions& options) {
  Plan plan{options.sampling, options.prompts,    options.prompt_sizes,    options.repeats,
            options.seed,     options.attributes, options.near_duplicates, std::nullopt};
  if (!options.prompt_file.empty()) {
    plan.prompt = model.load_prompt(ctx, options.prompt_file);
    plan.samplings = {"file"};
    plan.sizes = {static_cast<std::size_t>(plan.prompt->size())};
  }
  return plan;
}

nlohmann::ordered_json describe(const EvaluateOptions& options, const std::vector<Measured>& measured,
                                const std::string& weights, const std::string& weights_id,
                                const std::string& precision) {
  nlohmann::ordered_json about = {{"version", PROMPTIQA_VERSION_STRING},
                                  {"weights", {{"path", weights}, {"id", weights_id}}},
                                  {"precision", precision},
                                  {"seed", options.seed}};
  if (!options.prompt_file.empty()) about["prompt_file"] = options.prompt_file;
  for (const Measured& m : measured)
    about["data"].push_back({{"name", m.data.name},
                             {"source", m.source.text},
                             {"images", m.data.items.size()},
                             {"label_type", m.data.label_type == promptiqa::LabelType::mos ? "MOS" : "DMOS"},
                             {"scale", {m.data.scale_min, m.data.scale_max}},
                             {"split", m.split},
                             {"splits", m.splits.size()},
                             {"train", m.splits[0].train.size()},
                             {"test", m.splits[0].test.size()}});
  return about;
}

int run(const EvaluateOptions& options) {
  std::optional<OutputFile> json, csv;
  std::optional<promptiqa::AtomicFile> scores;
  if (!options.json.empty()) json.emplace(options.json);
  if (!options.csv.empty()) csv.emplace(options.csv);
  const auto write_score = [&](const std::string& text) { scores->write(text.data(), text.size()); };
  if (!options.scores.empty()) {
    scores.emplace(options.scores);
    write_score(scores_header);
  }
  if (!options.features.empty()) const promptiqa::AtomicFile can_be_written(options.features);
  const std::vector<Measured> measured = read_data(options);

  std::string notice;
  promptiqa::Context ctx = make_context(options.device, options.precision, options.threads, &notice);
  if (!notice.empty()) note(options, notice);
  // A GPU's bf16 rounds more than the CPU's: features of one are not the other's.
  const std::string computed = notice.empty() ? options.precision : "fp32";
  const std::string precision = is_cuda(options.device) && computed != "fp32" ? "cuda " + computed : computed;
  const std::string weights =
      options.weights.empty() ? find_data_file("promptiqa-compact.safetensors", "--weights") : options.weights;
  const AnyModel model = AnyModel::load(ctx, weights, options.precision);

  FeatureCache cache(options.features,
                     {model.weights_id(), model.preprocessing(), precision, model.config().prompt_dim});
  PictureStore store(
      ctx, model, cache,
      {static_cast<std::uint64_t>(options.max_megapixels * 1e6), options.batch, !options.quiet, &interrupted});
  Evaluation::OnScore on_score;
  if (scores)
    on_score = [&](const Setting& setting, const Draw& draw, const ScoredImage& scored) {
      write_score(score_row(setting, draw, scored));
    };
  Evaluation evaluation(ctx, model, store, make_plan(ctx, model, options), on_score);
  try {
    for (const Measured& m : measured)
      for (std::size_t i = 0; i < m.splits.size(); ++i) evaluation.run(m.data, m.splits[i], i);
  } catch (const Interrupted&) {
    cache.save();
    std::fprintf(stderr, "evaluate: interrupted\n");
    return 130;
  }
  cache.save();

  const std::vector<FailedImage> failed = failed_images(measured, store);
  for (const FailedImage& f : failed) {
    const bool named = f.error.find(f.image) != std::string::npos;
    std::fprintf(stderr, "evaluate: %s\n", printable((named ? "" : f.image + ": ") + f.error).c_str());
    if (scores) write_score(failed_row(f));
  }
  if (scores) scores->commit();
  if (csv) csv->write_all(report_csv(evaluation.measurements()));
  if (json)
    json->write_all(report_json(describe(options, measured, weights, model.weights_id(), precision),
                                evaluation.measurements(), failed));
  if (!options.quiet && !options.stdout_is_data()) OutputFile("-").write_all(report_table(evaluation.measurements()));
  if (!failed.empty()) std::fprintf(stderr, "evaluate: images that could not be read: %zu\n", failed.size());
  return failed.empty() ? 0 : 1;
}

}  // namespace

int main(int argc, char** argv) {
  EvaluateOptions options;
  if (const int code = parse_evaluate_options(argc, argv, options); code >= 0) return code;
  on_stop_signals([](int) { interrupted = 1; });  // ends the run after the current batch
  return exit_code_of("evaluate", 2, [&] { return run(options); });
}
