// Training pictures without human labels: any photographs, spoiled in known ways, with labels that are computed.
// Surprising choice: what a photograph becomes depends on its file's name and size, not on its place in the list, so
// that adding photographs later computes only those.
#pragma once

#include <cstdint>
#include <functional>
#include <span>
#include <string>
#include <vector>

#include <promptiqa/core/thread_pool.hpp>
#include <promptiqa/data/training_set.hpp>

namespace promptiqa {

/// What is made of each photograph.
struct SynthesisOptions {
  int versions = 30;       // pictures of each photograph, 1 to 1000; the first is the photograph itself
  int side = 224;          // pictures are stored side x side
  int longest_side = 768;  // larger photographs are shrunk to this before anything else; 64 to 8192
  std::uint64_t seed = 1;  // other seeds draw other distortions
};

/// Called on the calling thread after every few photographs: photographs done, photographs in all. What it throws ends
/// the work and reaches the caller; an old cache file then stays as it was.
using SynthesisProgress = std::function<void(std::int64_t done, std::int64_t total)>;

/// The images in a folder and its folders, by file extension, sorted bytewise by path. Links to folders are not
/// followed. Throws FileError when a folder cannot be read, DataError when there are no images.
std::vector<std::string> find_photographs(const std::string& folder);

/// Spoils every photograph in versions - 1 ways, kind and level drawn without repetition (as long as there are enough),
/// and labels the pictures: columns "psnr", "ssim", "ms_ssim", "fsim", "gmsd" (negated), "vif" (LabelKind::metric,
/// against the photograph, at its size), "level" (1 = pristine, 0 = level 5), and "brightness", "contrast",
/// "colourfulness", "sharpness", "noise" (LabelKind::attribute) of the stored picture. All but "level" are ranks in
/// [0,1] among all pictures; NaN where a photograph is too small for a metric (ms_ssim: 176 pixels). `photo` is the
/// photograph's index in `photographs`, `distortion` its kind, -1 for the photograph itself.
///
/// Pictures are stored as the model sees them (resize_cubic to side x side) with their labels in one ImageCache file at
/// `cache`. When that file is there, made from the same photographs (names, sizes, times) with the same options, it is
/// only opened; otherwise it is made anew, keeping what is still good, and replaced atomically. A picture of 768 x 512
/// pixels takes a thread about 0.2 s, mostly for the metrics.
///
/// A photograph that is unreadable, damaged or smaller than 16 x 16 is left out: TrainingSet::skipped lists its row,
/// where images->source().file is its name and images->error() the reason; it is tried again once the file has changed.
/// Throws DataError: options out of range, no photographs, one named twice, none readable (which names the first
/// reason), a file at `cache` that is no image cache; FileError when the cache cannot be written.
TrainingSet synthesise(std::span<const std::string> photographs, const std::string& cache,
                       const SynthesisOptions& options, ThreadPool& pool, const SynthesisProgress& progress = {});

/// The same for find_photographs(folder).
TrainingSet synthesise_folder(const std::string& folder, const std::string& cache, const SynthesisOptions& options,
                              ThreadPool& pool, const SynthesisProgress& progress = {});

}  // namespace promptiqa

#if PROMPTIQA_WITH_BODIES
#include <promptiqa/data/synthesis.ipp>
#endif
