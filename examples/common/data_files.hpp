// Where the shipped weights and prompts lie.
// Surprising choice: looked up when the program runs, relative to the program itself first, so a build folder, an
// installed copy and a moved copy all find theirs.
#pragma once

#include <cstdlib>
#include <filesystem>
#include <stdexcept>
#include <string>
#include <vector>

namespace examples {

/// Folders that may hold the shipped weights, best first. PROMPTIQA_WEIGHTS_DIR, when set, is the only one.
inline std::vector<std::string> weights_folders() {
  namespace fs = std::filesystem;
  if (const char* chosen = std::getenv("PROMPTIQA_WEIGHTS_DIR"); chosen && *chosen) return {chosen};
  std::vector<std::string> folders;
  std::error_code error;
  const fs::path program = fs::read_symlink("/proc/self/exe", error);
  if (!error) {
    const fs::path folder = program.parent_path();
    folders.push_back((folder / "../../weights").lexically_normal().string());               // <source>/build/examples
    folders.push_back((folder / "../share/promptiqa/weights").lexically_normal().string());  // <prefix>/bin
  }
#ifdef PROMPTIQA_SOURCE_WEIGHTS_DIR
  folders.push_back(PROMPTIQA_SOURCE_WEIGHTS_DIR);
#endif
#ifdef PROMPTIQA_INSTALLED_WEIGHTS_DIR
  folders.push_back(PROMPTIQA_INSTALLED_WEIGHTS_DIR);
#endif
  return folders;
}

/// The path of a shipped file, e.g. "prompts/general.safetensors". Throws std::runtime_error that tells where it looked
/// and which option names a file instead.
inline std::string find_data_file(const std::string& name, const std::string& option) {
  std::string looked;
  for (const std::string& folder : weights_folders()) {
    const std::string path = (std::filesystem::path(folder) / name).string();
    std::error_code ignored;
    if (std::filesystem::is_regular_file(path, ignored)) return path;
    looked += (looked.empty() ? "" : ", ") + path;
  }
  throw std::runtime_error("the shipped " + name + " was not found; give one with " + option +
                           " or set PROMPTIQA_WEIGHTS_DIR. Looked for: " + looked);
}

}  // namespace examples
