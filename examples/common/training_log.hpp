// The history of a training run: a JSON line for each step and validation, in a file and in memory.
// Surprising choice: a resumed run drops the lines of steps that its checkpoint does not know, because they are about
// to be taken again.
#pragma once

#include <unistd.h>

#include <cstdio>
#include <fstream>
#include <string>
#include <utility>
#include <vector>

#include <nlohmann/json.hpp>

#include <promptiqa/io/atomic_file.hpp>
#include <promptiqa/train.hpp>

namespace examples {

/// One point of the curves.
struct LoggedStep {
  std::int64_t step = 0;
  double prompt_loss = 0, auxiliary_loss = 0, learning_rate = 0;
};
struct LoggedValidation {
  std::int64_t step = 0;
  std::string set;
  double srocc = 0, srocc_inverted = 0;
};

class TrainingLog {
 public:
  /// path may be empty: then the history is kept in memory only. With `resumed_at` >= 0 an existing file is continued
  /// after that step, otherwise begun anew. Throws FileError when it cannot be written.
  TrainingLog(const std::string& path, std::int64_t resumed_at) : path_(path) {
    if (path_.empty()) return;
    std::string kept;
    if (resumed_at >= 0) {
      std::ifstream old(path_);
      for (std::string line; std::getline(old, line);) {
        const nlohmann::json j = nlohmann::json::parse(line, nullptr, false);
        if (!j.is_object() || !j.contains("step") || !j["step"].is_number_integer() ||
            j["step"].get<std::int64_t>() > resumed_at)
          continue;
        remember(j);
        kept += line + "\n";
      }
    }
    promptiqa::AtomicFile fresh(path_);
    fresh.write(kept.data(), kept.size());
    fresh.commit();
    file_ = std::fopen(path_.c_str(), "a");
    if (!file_) throw promptiqa::FileError(path_ + ": cannot be opened for the log");
    std::setvbuf(file_, nullptr, _IONBF, 0);  // what could not be written must not come later
    whole_ = static_cast<off_t>(kept.size());
  }
  ~TrainingLog() {
    if (file_) std::fclose(file_);
  }
  TrainingLog(const TrainingLog&) = delete;
  TrainingLog& operator=(const TrainingLog&) = delete;

  void add(const promptiqa::StepReport& report) {
    write({{"step", report.step},
           {"prompt_loss", report.prompt_loss},
           {"auxiliary_loss", report.auxiliary_loss},
           {"gradient_norm", report.gradient_norm},
           {"learning_rate", report.learning_rate},
           {"images", report.images},
           {"seconds", report.seconds}});
  }
  void add(const promptiqa::Validation& v, std::int64_t step, double minutes) {
    write({{"step", step},
           {"validation", v.set},
           {"label", v.label},
           {"images", v.images},
           {"srocc", v.srocc},
           {"plcc", v.plcc},
           {"srocc_inverted", v.srocc_inverted},
           {"minutes", minutes}});
  }

  const std::vector<LoggedStep>& steps() const { return steps_; }
  const std::vector<LoggedValidation>& validations() const { return validations_; }

  /// Whether a line could not be written (a full disk); the run goes on, and the log without that line.
  bool failed() const { return failed_; }

 private:
  void write(const nlohmann::ordered_json& j) {
    remember(j);
    if (!file_) return;
    const std::string line = j.dump(-1, ' ', false, nlohmann::ordered_json::error_handler_t::replace) + "\n";
    if (std::fwrite(line.data(), 1, line.size(), file_) == line.size()) {
      whole_ += static_cast<off_t>(line.size());
    } else {
      failed_ = true;
      std::clearerr(file_);
      if (ftruncate(fileno(file_), whole_) != 0) std::fclose(std::exchange(file_, nullptr));  // no half line
    }
  }

  template <class J>
  void remember(const J& j) {
    const auto number = [&](const char* key) {
      const auto found = j.find(key);
      return found != j.end() && found->is_number() ? found->template get<double>() : 0.0;
    };
    const auto step = static_cast<std::int64_t>(number("step"));
    if (j.contains("validation"))
      validations_.push_back({step,
                              j["validation"].is_string() ? j["validation"].template get<std::string>() : std::string(),
                              number("srocc"), number("srocc_inverted")});
    else
      steps_.push_back({step, number("prompt_loss"), number("auxiliary_loss"), number("learning_rate")});
  }

  std::string path_;
  std::FILE* file_ = nullptr;
  off_t whole_ = 0;  // bytes of the lines that were written
  bool failed_ = false;
  std::vector<LoggedStep> steps_;
  std::vector<LoggedValidation> validations_;
};

}  // namespace examples
