// The directory of a ZIP archive whose entries are stored, not compressed: what PyTorch's checkpoints are.
// Surprising choice: an archive with a compressed or encrypted entry is refused as a whole; the point is to use the
// bytes where they lie. Checksums are not verified: that would read the whole file.
#pragma once

#include <cstddef>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include <promptiqa/core/error.hpp>
#include <promptiqa/core/macros.hpp>

namespace promptiqa::detail {

/// One stored entry. Name and data point into the archive.
struct ZipEntry {
  std::string_view name;
  std::span<const std::byte> data;
};

/// The entries of a ZIP or ZIP64 archive, sorted by name. Throws WeightsError, naming the file and the entry, when the
/// archive is damaged, spans disks, repeats a name, or holds an entry that is compressed, encrypted or out of bounds.
std::vector<ZipEntry> read_zip_directory(std::span<const std::byte> archive, const std::string& file);

}  // namespace promptiqa::detail

#if PROMPTIQA_WITH_BODIES
#include <promptiqa/io/zip_archive.ipp>
#endif
