// Dataset: pictures with human scores, read from a plain CSV or from a published data set's own folder.
// Surprising choice: a DMOS (lower is better) stays a DMOS. The model learns from the prompt which way a score points,
// so turning labels around would hide from it what it has to learn (paper section 4.1).
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include <promptiqa/core/macros.hpp>
#include <promptiqa/data/data_error.hpp>

namespace promptiqa {

/// Mean opinion score (higher is better) or differential mean opinion score (lower is better).
enum class LabelType { mos, dmos };

/// One picture and what people thought of it.
struct DatasetItem {
  std::string image;      // a path that opens as it is
  float score = 0;        // on the scale of the data set, see Dataset
  std::string reference;  // name of the picture it was made from; empty when there is none
  std::string split;      // the publisher's own split, e.g. "train", "test"; empty when there is none
};

/// A list of pictures with scores of one kind.
struct Dataset {
  std::string name;
  LabelType label_type = LabelType::mos;
  float scale_min = 0, scale_max = 1;  // Table 1's range for a published set, the scores' own for a plain CSV
  std::vector<DatasetItem> items;      // in the order of the label file
  std::vector<std::string> notices;    // for the user, one line each: ignored columns, scores beyond the scale
  int short_side = 0;                  // resize pictures first, so that the shorter side has this many pixels; 0 = not
};

/// (score - scale_min) / (scale_max - scale_min), clamped to [0,1]; a DMOS is not turned around. The same scale for
/// training and test pictures, as the released code has it (the paper's text takes each split's own extremes). A set
/// whose scores are all equal gives 0.5. Throws DataError for a score that is not finite or a scale that is not.
float normalised(const Dataset& dataset, float score);

/// Reads `image,score[,reference][,split]`: a header names the columns in any order and case; fields may be quoted;
/// relative images are meant relative to the CSV's folder; other columns are ignored with a notice. The label type is
/// MOS, the scale that of the scores, the name that of the file without ".csv". Throws FileError when the file cannot
/// be read, DataError, naming file, line and column: no header, a missing or repeated column, a row too short or too
/// long, an empty image, a score that is no number or not finite, an image that occurs twice, no rows at all; or
/// images that do not exist (how many, and the first few).
Dataset read_csv_dataset(const std::string& path);

/// Reads a published data set from `dir`, its folder as published; kinds are those of dataset_kinds(). Label files in
/// MAT format need a build with libmatio and spreadsheets are not read at all: where that matters, the error says which
/// CSV is taken instead and which line makes it. Throws DataError for an unknown kind, as read_csv_dataset for bad
/// labels and missing images, FileError when a label file cannot be read.
Dataset read_dataset(const std::string& kind, const std::string& dir);

/// "live", "csiq", "tid2013", "kadid10k", "bid", "spaq", "livec", "koniq10k", "gfiqa20k", "agiqa3k", "aigciqa2023",
/// "uwiqa" (the paper's Table 1, in its order) and "biq2021".
std::vector<std::string> dataset_kinds();

/// The files that a reader expects below the folder, one line for a help text. Throws DataError for an unknown kind.
std::string dataset_layout(const std::string& kind);

}  // namespace promptiqa

#if PROMPTIQA_WITH_BODIES
#include <promptiqa/data/dataset.ipp>
#include <promptiqa/data/dataset_readers.ipp>
#endif
