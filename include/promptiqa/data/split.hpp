// Splits of a data set into training and test pictures that share no reference picture (paper section 4.1).
// Surprising choice: the split file names pictures relative to their common folder, so it means the same on a machine
// where the data lie elsewhere.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include <promptiqa/data/dataset.hpp>

namespace promptiqa {

/// Rows of Dataset::items, each list in ascending order. Rows in neither are left out.
struct Split {
  std::vector<std::int64_t> train, test;
};

/// Draws round(train_share * groups) groups for training, the rest for testing; a group is the pictures of one
/// reference, or one picture where it has none. At least one group goes to each side. The same data set and seed give
/// the same split on every machine. Throws DataError unless 0 < train_share < 1 and there are two groups or more.
Split split_by_reference(const Dataset& dataset, double train_share, std::uint64_t seed);

/// How many items DatasetItem::split puts where, whatever their case: "train" or "training", "test" or "testing",
/// something else ("validation"), or nothing.
struct SplitMarks {
  std::int64_t train = 0, test = 0, other = 0, none = 0;
};
SplitMarks split_marks(const Dataset& dataset);

/// The publisher's own split: items marked for training against those marked for testing; all others are left out, and
/// a sentence that says how many is added to `notices`, if given. Throws DataError when either side is empty.
Split published_split(const Dataset& dataset, std::vector<std::string>* notices = nullptr);

/// Writes `image,split` rows, atomically. Throws FileError, or DataError when an index is out of range or used twice.
void write_split(const std::string& path, const Dataset& dataset, const Split& split);

/// Reads what write_split wrote, for the same pictures in any order and place. Throws FileError, or DataError, naming
/// file and line, for an image that is not in the data set, a split other than train and test, or a repeated image.
Split read_split(const std::string& path, const Dataset& dataset);

}  // namespace promptiqa

#if PROMPTIQA_WITH_BODIES
#include <promptiqa/data/split.ipp>
#endif
