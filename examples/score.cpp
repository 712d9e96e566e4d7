// score: a prompt and images in, quality scores out.
// Surprising choice: an image that fails never stops the others; its row says why, and the exit code is 1.
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <csignal>
#include <cstdio>
#include <filesystem>
#include <optional>
#include <string>
#include <vector>

#include <promptiqa/io/safetensors.hpp>
#include <promptiqa/prompt/prompt_file.hpp>
#include <promptiqa/prompt/sampling.hpp>

#include "common/any_model.hpp"
#include "common/data_files.hpp"
#include "common/image_stream.hpp"
#include "common/program.hpp"
#include "common/progress.hpp"
#include "common/prompt_csv.hpp"
#include "common/results.hpp"
#include "common/score_options.hpp"
#include "common/stage_times.hpp"

namespace {

using namespace examples;
using Model = AnyModel;
using promptiqa::Context;
using promptiqa::Prompt;
using promptiqa::PromptData;

volatile std::sig_atomic_t interrupted = 0;

void note(const ScoreOptions& options, const std::string& text) {
  if (!options.quiet) std::fprintf(stderr, "score: note: %s\n", text.c_str());
}

std::uint64_t max_pixels(const ScoreOptions& options) {
  return static_cast<std::uint64_t>(options.max_megapixels * 1e6);
}

// ---- the prompt ---------------------------------------------------------------------------------------------------

// Keeps the rows of interval sampling, in the order of the file.
void keep_spread(PromptCsv& csv, std::size_t pairs) {
  if (pairs > csv.images.size())
    throw promptiqa::PromptError(csv.path + ": --pairs asks for " + std::to_string(pairs) + " of " +
                                 std::to_string(csv.images.size()) + " pairs");
  PromptCsv kept = csv;
  kept.images.clear(), kept.scores.clear(), kept.lines.clear();
  for (std::size_t i : promptiqa::interval_sample(csv.scores, pairs)) {
    kept.images.push_back(csv.images[i]);
    kept.scores.push_back(csv.scores[i]);
    kept.lines.push_back(csv.lines[i]);
  }
  csv = std::move(kept);
}

Prompt prompt_from_csv(Context& ctx, const Model& model, const ScoreOptions& options) {
  const promptiqa::ScoreScale scale = {options.scale.first, options.scale.second};
  PromptCsv csv = read_prompt_csv(options.prompt_csv, scale);
  if (options.pairs > 0) keep_spread(csv, options.pairs);
  for (const std::string& notice : csv.notices) note(options, notice);

  std::vector<ImageFile> files;
  for (const std::string& image : csv.images) files.push_back({image, {}});
  StageTimes times;  // not reported
  ImageStream stream(files, static_cast<int>(model.config().image_size), max_pixels(options), ctx.pool().size(),
                     options.batch, times);
  std::vector<promptiqa::Image> images;
  for (std::size_t i = 0; i < files.size(); ++i) {
    DecodedImage decoded = stream.next();
    if (!decoded.error.empty()) throw promptiqa::PromptError(csv.where(i) + ": " + decoded.error);
    images.push_back(std::move(decoded.image));
  }
  return model.encode_prompt(ctx, images, csv.scores, scale);
}

// The same prompt under another name.
Prompt renamed(Context& ctx, const Model& model, const Prompt& prompt, const ScoreOptions& options) {
  PromptData data = prompt.data();
  if (!options.prompt_name.empty())
    data.name = options.prompt_name;
  else if (data.name.empty())
    data.name = std::filesystem::path(options.prompt_csv).stem().string();
  if (!options.prompt_description.empty()) data.description = options.prompt_description;
  return model.bind_prompt(ctx, std::move(data), prompt.weights_id());
}

Prompt reversed(Context& ctx, const Model& model, const Prompt& prompt) {
  const promptiqa::ScoreScale scale = prompt.data().scale;
  std::vector<float> scores;
  for (float s : prompt.data().scores)
    scores.push_back(std::clamp(scale.minimum + scale.maximum - s, scale.minimum, scale.maximum));
  return model.with_scores(ctx, prompt, scores);
}

Prompt make_prompt(Context& ctx, const Model& model, const ScoreOptions& options, std::string& source) {
  Prompt prompt;
  if (!options.prompt_csv.empty()) {
    source = options.prompt_csv;
    prompt = prompt_from_csv(ctx, model, options);
  } else {
    source = options.prompt_file.empty() ? find_data_file("prompts/general.safetensors", "--prompt or --prompt-file")
                                         : options.prompt_file;
    try {
      prompt = model.load_prompt(ctx, source);
    } catch (const promptiqa::PromptError& error) {
      if (!options.prompt_file.empty() || options.weights.empty()) throw;
      throw promptiqa::PromptError(std::string(error.what()) +
                                   " (the shipped prompt fits the shipped weights only: with --weights give --prompt)");
    }
  }
  if (options.reverse_prompt) prompt = reversed(ctx, model, prompt);
  if (!options.save_prompt.empty() || !options.prompt_csv.empty()) prompt = renamed(ctx, model, prompt, options);
  for (const std::string& warning : prompt.warnings()) note(options, source + ": " + warning);
  return prompt;
}

// ---- the images ---------------------------------------------------------------------------------------------------

struct Scored {
  std::vector<Result> results;  // shorter than the list of files when interrupted
  std::vector<float> features;  // of the images without error, when wanted
};

// Weights can be finite and their features not (overflow): such an image is an error row, and its features are taken
// out.
void mark_not_finite(std::vector<float>& features, std::size_t width, std::vector<Result>& results, std::size_t first) {
  std::vector<float> kept;
  std::size_t k = 0;
  for (std::size_t i = first; i < results.size(); ++i) {
    if (!results[i].error.empty()) continue;
    const auto begin = features.begin() + static_cast<std::ptrdiff_t>(width * k++),
               end = begin + static_cast<std::ptrdiff_t>(width);
    if (std::all_of(begin, end, [](float x) { return std::isfinite(x); }))
      kept.insert(kept.end(), begin, end);
    else
      results[i].error = "image '" + results[i].path + "': the model's features of it are not finite";
  }
  features = std::move(kept);
}

Scored score_all(Context& ctx, const Model& model, const Prompt& prompt, const std::vector<ImageFile>& files,
                 const ScoreOptions& options) {
  Scored scored;
  StageTimes times;
  times.model_threads = ctx.pool().size();
  const auto start = std::chrono::steady_clock::now();
  const double processor = program_processor_seconds();
  ImageStream stream(files, static_cast<int>(model.config().image_size), max_pixels(options), ctx.pool().size(),
                     2 * options.batch, times);
  ProgressBar progress(files.size(), !options.quiet);
  while (scored.results.size() < files.size() && !interrupted) {
    // One batch: what could be decoded goes through the model, the rest keeps its error.
    const std::size_t first = scored.results.size(), count = std::min(options.batch, files.size() - first);
    std::vector<promptiqa::Image> images;
    for (std::size_t i = first; i < first + count; ++i) {
      DecodedImage decoded = stream.next();
      scored.results.push_back({files[i].path, std::move(decoded.error)});
      if (scored.results.back().error.empty()) images.push_back(std::move(decoded.image));
    }
    std::vector<float> features;
    {
      const StageTime::Scope computing(times.features);
      features = model.features(ctx, images);
    }
    const StageTime::Scope scoring(times.scores);
    mark_not_finite(features, static_cast<std::size_t>(model.config().prompt_dim), scored.results, first);
    const std::vector<promptiqa::Prediction> predictions = model.score_features(ctx, features, prompt);
    for (std::size_t i = first, k = 0; i < first + count; ++i) {
      Result& result = scored.results[i];
      if (!result.error.empty()) continue;
      result.score = predictions[k].score;
      result.logit = predictions[k++].logit;
    }
    if (!options.features.empty()) scored.features.insert(scored.features.end(), features.begin(), features.end());
    progress.update(scored.results.size());
  }
  progress.clear();
  if (options.timing) {
    const std::chrono::duration<double> elapsed = std::chrono::steady_clock::now() - start;
    const double used = program_processor_seconds() - processor;
    std::fputs(stage_table(times, scored.results.size(), elapsed.count(), used).c_str(), stderr);
  }
  return scored;
}

void write_features(const std::string& path, const Scored& scored, const Model& model,
                    const std::string& preprocessing) {
  Json paths = Json::array();
  for (const Result& result : scored.results)
    if (result.error.empty()) paths.push_back(result.path);
  const auto n = static_cast<std::int64_t>(paths.size());
  const promptiqa::NamedTensor tensor = {"image_feature", promptiqa::DType::f32,
                                         promptiqa::Shape{n, model.config().prompt_dim}, scored.features.data(),
                                         scored.features.size() * sizeof(float)};
  promptiqa::write_safetensors(path,
                               {{"format", "promptiqa-features/1"},
                                {"paths", paths.dump(-1, ' ', false, Json::error_handler_t::replace)},
                                {"preprocessing", preprocessing},
                                {"weights_id", model.weights_id()}},
                               {&tensor, 1});
}

// Throws when a file that is written at the end could not be, because of its folder.
void check_writable(const std::string& path) {
  if (path.empty()) return;
  const std::string folder = std::filesystem::path(path).parent_path().string();
  if (access(folder.empty() ? "." : folder.c_str(), W_OK | X_OK) != 0 || std::filesystem::is_directory(path))
    throw promptiqa::FileError(path + ": cannot be written: the folder is missing or not writable");
}

Json describe(const Prompt& prompt, const std::string& source) {
  const PromptData& data = prompt.data();
  return {{"path", source},
          {"name", data.name},
          {"description", data.description},
          {"pairs", data.size()},
          {"scale", {data.scale.minimum, data.scale.maximum}},
          {"scores", data.scores},
          {"warnings", prompt.warnings()}};
}

int run(const ScoreOptions& options) {
  std::optional<OutputFile> json, csv;
  if (!options.json.empty()) json.emplace(options.json);
  if (!options.csv.empty()) csv.emplace(options.csv);
  check_writable(options.features);
  check_writable(options.save_prompt);

  std::string notice;
  Context ctx = make_context(options.device, options.precision, options.threads, &notice);
  if (!notice.empty() && !options.quiet) std::fprintf(stderr, "score: %s\n", notice.c_str());
  const std::string weights =
      options.weights.empty() ? find_data_file("promptiqa-compact.safetensors", "--weights") : options.weights;
  const Model model = Model::load(ctx, weights, options.precision);
  std::string prompt_source;
  const Prompt prompt = make_prompt(ctx, model, options, prompt_source);
  if (!options.save_prompt.empty()) promptiqa::save_prompt(options.save_prompt, prompt);
  if (options.images.empty()) return 0;

  const std::vector<ImageFile> files = collect_images(options.images, options.recursive);
  Scored scored = score_all(ctx, model, prompt, files, options);
  const std::size_t done = scored.results.size();
  std::size_t failed = 0;
  for (const Result& result : scored.results) {
    if (result.error.empty()) continue;
    ++failed;
    const bool named = result.error.find(result.path) != std::string::npos;
    std::fprintf(stderr, "score: %s\n", printable((named ? "" : result.path + ": ") + result.error).c_str());
  }

  if (!options.features.empty()) write_features(options.features, scored, model, prompt.data().preprocessing);
  if (options.sort != "none") sort_by_score(scored.results, options.sort == "score");
  if (json)
    json->write_all(
        json_text(scored.results, {{"path", weights}, {"id", model.weights_id()}}, describe(prompt, prompt_source)));
  if (csv) csv->write_all(csv_text(scored.results));
  if (!options.quiet && !options.stdout_is_data())
    OutputFile("-").write_all(table_text(scored.results, prompt.data().scale.maximum - prompt.data().scale.minimum));

  if (failed > 0 && files.size() > 1) std::fprintf(stderr, "score: %zu of %zu images failed\n", failed, done);
  if (interrupted) {
    std::fprintf(stderr, "score: interrupted: %zu of %zu images were scored\n", done, files.size());
    return 130;
  }
  return failed > 0 ? 1 : 0;
}

}  // namespace

int main(int argc, char** argv) {
  ScoreOptions options;
  if (const int code = parse_score_options(argc, argv, options); code >= 0) return code;
  on_stop_signals([](int) { interrupted = 1; });  // ends the run after the current batch
  return exit_code_of("score", 2, [&] { return run(options); });
}
