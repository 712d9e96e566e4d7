// The command line of the program score.
// Surprising choice: everything that can be known to be wrong from the words alone is refused here, with exit code 2.
#pragma once

#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include <CLI/CLI.hpp>

#include <promptiqa/model/prompt.hpp>
#include <promptiqa/version.hpp>

#include "run_limits.hpp"

namespace examples {

struct ScoreOptions : RunLimits {
  std::vector<std::string> images;
  std::string weights, prompt_csv, prompt_file;  // empty: the shipped ones
  std::pair<float, float> scale = {0.0f, 1.0f};  // of the CSV's scores: minimum, maximum
  std::size_t pairs = 0;                         // 0: all of the CSV
  bool reverse_prompt = false;
  std::string save_prompt, prompt_name, prompt_description;
  std::string json, csv, features;  // empty: not wanted
  std::string sort = "none";
  bool recursive = false, quiet = false, timing = false;

  bool stdout_is_data() const { return json == "-" || csv == "-"; }
};

/// Reads the command line. Returns the exit code when the program has nothing more to do, otherwise -1.
inline int parse_score_options(int argc, char** argv, ScoreOptions& options) {
  CLI::App app(
      "Scores the quality of photographs without a reference. What \"quality\" means is taken from a prompt: a few\n"
      "images with scores. A general prompt for photographs is built in; give your own to measure something else.\n",
      "score");
  app.set_version_flag("--version", "promptiqa " PROMPTIQA_VERSION_STRING);
  app.option_defaults()->always_capture_default(false);
  app.add_option(
         "images", options.images,
         "Images (PNG, JPEG, BMP, TGA, PGM, PPM) and folders;\nof a folder, its images are scored, sorted by name")
      ->type_name("IMAGE|DIR");
  app.add_flag("-r,--recursive", options.recursive, "Go into folders of folders (not through links)");

  auto* csv =
      app.add_option("--prompt", options.prompt_csv,
                     "Your prompt: a CSV file with columns image and score,\nabout ten rows; paths are relative to "
                     "the file, other\ncolumns are ignored");
  csv->type_name("CSV")->group("What to measure");
  auto* file =
      app.add_option("--prompt-file", options.prompt_file,
                     "A prompt saved with --save-prompt; needs no images.\nDefault: the shipped general prompt");
  file->type_name("FILE")->excludes(csv)->group("What to measure");
  app.add_option("--scale", options.scale, "The range of your scores; results come back in it.\nDefault: 0 1")
      ->type_name("MIN MAX")
      ->needs(csv)
      ->group("What to measure");
  app.add_option("--pairs", options.pairs,
                 "Use only N rows of the CSV, spread evenly over its\nsorted scores (interval sampling)")
      ->type_name("N")
      ->needs(csv)
      ->check(CLI::PositiveNumber)
      ->group("What to measure");
  app.add_flag("--reverse-prompt", options.reverse_prompt,
               "Turn the prompt's scores round, s becomes MIN + MAX - s:\nmeasures the opposite")
      ->group("What to measure");
  auto* save =
      app.add_option("--save-prompt", options.save_prompt,
                     "Save the prompt (features and scores, no pixels) for\n--prompt-file; works without images");
  save->type_name("FILE")->group("What to measure");
  app.add_option("--prompt-name", options.prompt_name, "Name stored in it. Default: the name of the CSV")
      ->type_name("TEXT")
      ->needs(save)
      ->group("What to measure");
  app.add_option("--prompt-description", options.prompt_description, "A sentence stored in it")
      ->type_name("TEXT")
      ->needs(save)
      ->group("What to measure");
  app.add_option("--weights", options.weights,
                 "The model: a safetensors file or a PyTorch checkpoint.\nDefault: the shipped compact model")
      ->type_name("FILE")
      ->group("What to measure");

  app.add_option("--json", options.json, "Write results as one JSON object with full precision;\n- is standard output")
      ->type_name("FILE|-")
      ->group("Output");
  app.add_option("--csv", options.csv, "Write results as CSV: path,score,logit,error;\n- is standard output")
      ->type_name("FILE|-")
      ->group("Output");
  app.add_option("--features", options.features, "Write the image features, a safetensors file:\nimage_feature (n, M)")
      ->type_name("FILE")
      ->group("Output");
  app.add_option("--sort", options.sort,
                 "Order of the results: none (as given), score (highest\nfirst), rising. Default: none")
      ->type_name("ORDER")
      ->check(CLI::IsMember({"none", "score", "rising"}))
      ->group("Output");
  app.add_flag("-q,--quiet", options.quiet, "No table, no notes, no progress bar; errors only")->group("Output");
  app.add_flag("--timing", options.timing,
               "After the run, print where its time went to standard\nerror: reading and decoding, resizing, the model")
      ->group("Output");

  add_run_limits(app, options, "Images scored at a time. Default: 16");
  app.footer(
      "Examples:\n"
      "  score photo.jpg                                    one photograph, the general prompt\n"
      "  score -r ~/Pictures --sort score                   a whole tree, best first\n"
      "  score --prompt mine.csv photos/                    quality as mine.csv shows it\n"
      "  score --prompt mine.csv --scale 1 5 photos/        the same with scores from 1 to 5\n"
      "  score --prompt mine.csv --save-prompt mine.safetensors\n"
      "  score --prompt-file mine.safetensors --csv scores.csv photos/\n"
      "  score --json - photos/ | jq '.images[] | select(.score < 0.3) | .path'\n"
      "\n"
      "A prompt CSV looks like this:\n"
      "  image,score\n"
      "  sharp.jpg,0.9\n"
      "  blurred.jpg,0.2\n"
      "\n"
      "Exit code: 0 all images scored, 1 some failed (the others are scored), 2 wrong usage, prompt or weights,\n"
      "130 interrupted (Ctrl-C; what was scored is written).");
  try {
    app.parse(argc, argv);
    if (options.json == "-" && options.csv == "-") throw CLI::ValidationError("--json - and --csv -", "choose one");
    if (options.images.empty() && options.save_prompt.empty())
      throw CLI::ValidationError("images", "give at least one image or folder");
    if (options.images.empty() && !(options.json + options.csv + options.features).empty())
      throw CLI::ValidationError("images", "there is nothing to write without images");
    check_run_limits(options);
    std::vector<std::string> outputs;
    for (const std::string& file : {options.json, options.csv, options.features, options.save_prompt})
      if (!file.empty() && file != "-") outputs.push_back(file);
    std::sort(outputs.begin(), outputs.end());
    if (std::adjacent_find(outputs.begin(), outputs.end()) != outputs.end())
      throw CLI::ValidationError("outputs", "two of them have the same name");
    promptiqa::ScoreScale{options.scale.first, options.scale.second}.validate();
  } catch (const CLI::Error& error) {
    return app.exit(error) == 0 ? 0 : 2;
  } catch (const promptiqa::PromptError& error) {
    return app.exit(CLI::ValidationError("--scale", error.what())) == 0 ? 0 : 2;
  }
  return -1;
}

}  // namespace examples
