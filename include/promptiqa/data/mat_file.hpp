// Reads variables of MATLAB's MAT files, the label format of several published data sets, with libmatio.
// Surprising choice: libmatio is optional. promptiqa::compiled has it when it was there at build time; header-only
// users define PROMPTIQA_MATIO and link it.
#pragma once

#include <string>
#include <vector>

#include <promptiqa/core/macros.hpp>
#include <promptiqa/data/data_error.hpp>

namespace promptiqa {

/// Whether this build can read MAT files.
bool mat_files_supported();

/// Whether the file has a variable of this name. Throws FileError when the file cannot be read, DataError when it is no
/// MAT file or this build cannot read any.
bool mat_has_variable(const std::string& path, const std::string& variable);

/// A real numeric array as doubles, columns first as MATLAB stores it. Throws as above, and DataError, naming file and
/// variable, when it is missing or of another kind.
std::vector<double> read_mat_numbers(const std::string& path, const std::string& variable);

/// A cell array of strings, columns first. Throws as read_mat_numbers.
std::vector<std::string> read_mat_strings(const std::string& path, const std::string& variable);

}  // namespace promptiqa

#if PROMPTIQA_WITH_BODIES
#include <promptiqa/data/mat_file.ipp>
#endif
