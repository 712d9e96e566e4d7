// Which files a list of image and folder names stands for.
// Surprising choice: links to folders inside a scanned folder are not followed, so a loop of links ends by itself.
#pragma once

#include <algorithm>
#include <filesystem>
#include <string>
#include <system_error>
#include <vector>

#include <promptiqa/image/file_format.hpp>

namespace examples {

/// A file to be scored, or a name that cannot be and why.
struct ImageFile {
  std::string path;
  std::string error;   // empty: try it
  int short_side = 0;  // resize first so that the shorter side has this many pixels; 0 = not
};

namespace detail {

inline void scan_folder(const std::string& folder, bool recursive, std::vector<ImageFile>& files, bool& has_folders) {
  namespace fs = std::filesystem;
  std::error_code error;
  std::vector<fs::directory_entry> entries;
  for (fs::directory_iterator it(folder, error), end; !error && it != end; it.increment(error)) entries.push_back(*it);
  if (error) files.push_back({folder, "the folder cannot be read: " + error.message()});
  std::sort(entries.begin(), entries.end(),
            [](const auto& a, const auto& b) { return a.path().native() < b.path().native(); });
  for (const fs::directory_entry& entry : entries) {
    std::error_code ignored;
    if (entry.is_directory(ignored)) {
      const bool link = entry.is_symlink(ignored);
      if (!link) has_folders = true;
      if (recursive && !link) scan_folder(entry.path().string(), recursive, files, has_folders);
    } else if (promptiqa::has_image_extension(entry.path().string())) {
      files.push_back({entry.path().string(), {}});
    }
  }
}

}  // namespace detail

/// The files that `arguments` name: a file stands for itself whatever its name, a folder for the images in it, by file
/// extension, sorted bytewise; `recursive` goes into folders of folders. A folder without images or that cannot be read
/// becomes an entry with an error. Order: that of the arguments.
inline std::vector<ImageFile> collect_images(const std::vector<std::string>& arguments, bool recursive) {
  std::vector<ImageFile> files;
  for (const std::string& argument : arguments) {
    std::error_code ignored;
    if (!std::filesystem::is_directory(argument, ignored)) {
      files.push_back({argument, {}});
      continue;
    }
    const std::size_t before = files.size();
    bool has_folders = false;
    detail::scan_folder(argument, recursive, files, has_folders);
    if (files.size() == before)
      files.push_back({argument, std::string("there are no images in the folder") +
                                     (has_folders && !recursive ? "; --recursive looks into its folders" : "")});
  }
  return files;
}

}  // namespace examples
