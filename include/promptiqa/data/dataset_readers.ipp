// Readers of the paper's twelve data sets (Table 1) and BIQ2021, in their published layouts.
// Surprising choice: a missing name is looked for without regard to case; TID2013's list and disk disagree.
//
// Where the layouts were learned: the data loaders of the authors' release (github.com/chencn2020/PromptIQA,
// PromptIQA/utils/dataset/folders.py) for all twelve, the loaders of SSL92/hyperIQA (folders.py) for LIVE, LIVEC, CSIQ,
// KonIQ-10k, BID and TID2013, and chaofengc/IQA-PyTorch (scripts/process_*.py) for LIVE, LIVEC, CSIQ, KonIQ-10k,
// KADID-10k, SPAQ and TID2013; BIQ2021 from its repository, nisarahmedrana/BIQ2021.
#pragma once

#include <cmath>
#include <cstddef>
#include <filesystem>
#include <map>
#include <optional>
#include <sstream>
#include <system_error>
#include <utility>

#include <promptiqa/data/csv.hpp>
#include <promptiqa/data/dataset.ipp>
#include <promptiqa/data/mat_file.hpp>
#include <promptiqa/io/mapped_file.hpp>

namespace promptiqa {

namespace detail {

inline bool file_exists(const std::string& path) {
  std::error_code ignored;
  return std::filesystem::is_regular_file(path, ignored);
}

inline bool folder_exists(const std::string& path) {
  std::error_code ignored;
  return std::filesystem::is_directory(path, ignored);
}

/// A data set being read: its items, and what keeps them apart.
class DatasetBuilder {
 public:
  DatasetBuilder(Dataset& dataset, std::string dir) : dataset_(dataset), dir_(std::move(dir)) {}

  /// "DIR/name"
  std::string path(const std::string& name) const { return dir_ + "/" + name; }

  /// The first of these subfolders that exists, else the first.
  std::string folder(const std::vector<std::string>& names) const {
    for (const std::string& name : names)
      if (folder_exists(path(name))) return name;
    return names.front();
  }

  /// The first of these label files that exists. Throws DataError that names them all and adds `advice`.
  std::string label_file(const std::vector<std::string>& names, const std::string& advice = {}) const {
    std::string list;
    for (const std::string& name : names) {
      if (file_exists(path(name))) return path(name);
      list += (list.empty() ? "'" : " or '") + path(name) + "'";
    }
    throw DataError(dataset_.name + ": there is no label file " + list + advice);
  }

  /// Appends a picture of `folder` (below the data set's). `where` names the label's place in messages. Throws
  /// DataError for a score that is not finite or a picture that was appended before.
  void add(const std::string& folder, const std::string& image, double score, const std::string& where,
           const std::string& reference = {}, const std::string& split = {}) {
    if (!std::isfinite(score)) throw DataError(where + ": the score must be finite, found " + std::to_string(score));
    DatasetItem item;
    item.image = find_picture(folder, image);
    item.score = static_cast<float>(score);
    item.reference = reference;
    item.split = split;
    repeats_.add(item.image, where);
    dataset_.items.push_back(std::move(item));
  }

  void notice(const std::string& text) { dataset_.notices.push_back(dataset_.name + ": " + text); }

 private:
  // The exact name, else one that differs in case only, else where it should have been.
  std::string find_picture(const std::string& folder, const std::string& name) {
    const std::string exact = path((folder.empty() ? "" : folder + "/") + name);
    if (file_exists(exact)) return exact;
    auto [listing, is_new] = listings_.try_emplace(folder);
    if (is_new) {
      std::error_code error;
      std::filesystem::directory_iterator entry(path(folder), error);
      for (; !error && entry != std::filesystem::directory_iterator(); entry.increment(error))
        listing->second.emplace(column_key(entry->path().filename().string()), entry->path().string());
    }
    const auto found = listing->second.find(column_key(name));
    return found == listing->second.end() ? exact : found->second;
  }

  Dataset& dataset_;
  std::string dir_;
  RepeatCheck repeats_;
  std::map<std::string, std::map<std::string, std::string>> listings_;  // folder -> lower-case name -> path
};

/// What to do about a label file of a kind that is not read, as the end of a message.
inline std::string advice(const std::string& command) { return "; make it, in that folder, with: " + command; }

/// The pandas line that turns a spreadsheet into the CSV of the same name.
inline std::string spreadsheet_advice(const std::string& stem, const std::string& extension) {
  return advice("python3 -c \"import pandas; pandas.read_excel('" + stem + "." + extension + "').to_csv('" + stem +
                ".csv', index=False)\"");
}

/// Calls add(first, second, where) for the two words of each line of a text file; lines without words are skipped.
/// Throws DataError naming the line when add returns false or there are not two words.
template <class Add>
void read_pairs(const std::string& labels, const std::string& example, Add&& add) {
  const auto file = MappedFile::open(labels);
  std::istringstream text(std::string(reinterpret_cast<const char*>(file->bytes().data()), file->bytes().size()));
  std::size_t line = 0;
  for (std::string row; std::getline(text, row);) {
    const std::string where = labels + ":" + std::to_string(++line);
    std::istringstream words(row);
    std::string first, second, rest;
    if (!(words >> first)) continue;
    words >> second >> rest;
    if (second.empty() || !rest.empty() || !add(first, second, where))
      throw DataError(where + ": expected \"" + example + "\", found \"" + row.substr(0, 200) + "\"");
  }
}

// ---- one reader a data set ----------------------------------------------------------------------------------------

// LIVE release 2: five folders of img1.bmp, img2.bmp, ..., whose labels follow each other in one array of 982; entries
// marked in `orgs` are undistorted. `dmos` is on Table 1's scale, and what the released loader reads; the realigned
// `dmos_new` goes up to 112.
inline void read_live(DatasetBuilder& data) {
  constexpr std::pair<const char*, int> folders[] = {
      {"jp2k", 227}, {"jpeg", 233}, {"wn", 174}, {"gblur", 174}, {"fastfading", 174}};
  std::vector<double> dmos, originals;
  std::vector<std::string> references;
  std::string labels;
  const bool has_mat = file_exists(data.path("dmos.mat")) || file_exists(data.path("dmos_realigned.mat"));
  if (mat_files_supported() && has_mat) {
    std::string variable = "dmos";
    labels = data.label_file({"dmos.mat", "dmos_realigned.mat"});
    if (!mat_has_variable(labels, variable)) {
      variable = "dmos_new";
      data.notice("scores are the realigned dmos_new of " + labels + ", which exceed the scale; dmos.mat is preferred");
    }
    dmos = read_mat_numbers(labels, variable);
    originals = read_mat_numbers(labels, "orgs");
    references = read_mat_strings(data.label_file({"refnames_all.mat"}), "refnames_all");
  } else {
    labels = data.label_file(
        {"dmos.csv"}, (has_mat ? ", and this build cannot read MAT files (no libmatio)" : ", nor 'dmos.mat'") +
            advice("python3 -c \"import scipy.io as s; d=s.loadmat('dmos.mat'); r=s.loadmat('refnames_all.mat'); "
                   "print('dmos,orgs,reference'); [print(a,b,c[0],sep=',') for a,b,c in "
                   "zip(d['dmos'][0],d['orgs'][0],r['refnames_all'][0])]\" > dmos.csv"));
    const CsvTable table(labels);
    const std::size_t score = table.column({"dmos"}), original = table.column({"orgs"}),
                      reference = table.column({"reference"});
    for (std::size_t row = 0; row < table.rows(); ++row) {
      dmos.push_back(table.number(row, score));
      originals.push_back(table.number(row, original));
      references.push_back(table.filled(row, reference));
    }
  }
  std::size_t expected = 0;
  for (const auto& [folder, count] : folders) expected += static_cast<std::size_t>(count);
  for (const std::size_t found : {dmos.size(), originals.size(), references.size()})
    if (found != expected)
      throw DataError(labels + ": expected " + std::to_string(expected) + " scores, flags and reference names, found " +
                      std::to_string(found));
  std::size_t i = 0;
  for (const auto& [folder, count] : folders)
    for (int number = 1; number <= count; ++number, ++i) {
      const std::string image = "img" + std::to_string(number) + ".bmp";
      if (originals[i] == 0)
        data.add(folder, image, dmos[i], labels + ", entry " + std::to_string(i + 1), references[i]);
    }
}

// CSIQ: dst_imgs/<kind>/1600.AWGN.1.png (or all of them in dst_imgs_all), labels as the list that the loaders above
// share, or the sheet "all_by_image" of csiq.DMOS.xlsx as CSV.
inline void read_csiq(DatasetBuilder& data) {
  const bool flat = folder_exists(data.path("dst_imgs_all"));
  const auto add = [&](const std::string& source, const std::string& kind, const std::string& level, double score,
                       const std::string& where) {
    data.add(flat ? "dst_imgs_all" : "dst_imgs/" + column_key(kind), source + "." + kind + "." + level + ".png", score,
             where, source);
  };
  const std::string labels = data.label_file(
      {"csiq_label.txt", "csiq.DMOS.csv"},
      advice("python3 -c \"import pandas; t=pandas.read_excel('csiq.DMOS.xlsx', sheet_name='all_by_image', "
             "header=None); t[(t=='dmos').any(axis=1).cumsum()>0].dropna(axis=1, how='all')"
             ".to_csv('csiq.DMOS.csv', index=False, header=False)\""));
  if (labels.ends_with(".txt")) {
    read_pairs(labels, "1600.AWGN.1.png 0.062", [&](const std::string& image, const std::string& number,
                                                    const std::string& where) {
      std::vector<std::string> parts;
      std::istringstream dotted(image);
      for (std::string part; std::getline(dotted, part, '.');) parts.push_back(part);
      const auto score = parse_float(number);
      if (score && parts.size() == 4) add(parts[0], parts[1], parts[2], *score, where);
      return score && parts.size() == 4;
    });
    return;
  }
  const std::map<std::string, std::string> kinds = {{"noise", "AWGN"},     {"awgn", "AWGN"},
                                                    {"blur", "BLUR"},      {"jpeg", "JPEG"},
                                                    {"contrast", "contrast"}, {"fnoise", "fnoise"},
                                                    {"jpeg 2000", "jpeg2000"}, {"jpeg2000", "jpeg2000"}};
  const CsvTable table(labels);
  const std::size_t image = table.column({"image"}), type = table.column({"dst_type"}),
                    level = table.column({"dst_lev"}), dmos = table.column({"dmos"});
  for (std::size_t row = 0; row < table.rows(); ++row) {
    const auto kind = kinds.find(column_key(table.filled(row, type)));
    if (kind == kinds.end())
      throw DataError(table.where(row, type) + ": unknown distortion \"" + table.text(row, type) + "\"");
    add(table.filled(row, image), kind->second, table.filled(row, level), table.number(row, dmos), table.where(row));
  }
}

// TID2013: "5.51429 I01_01_1.bmp" a line; I01 is the reference.
inline void read_tid2013(DatasetBuilder& data) {
  const std::string labels = data.label_file({"mos_with_names.txt"});
  read_pairs(labels, "5.51429 I01_01_1.bmp", [&](const std::string& number, const std::string& image,
                                                 const std::string& where) {
    const auto score = parse_float(number);
    const std::size_t end = image.find('_');
    if (!score || end == std::string::npos) return false;
    data.add("distorted_images", image, *score, where, column_key(image.substr(0, end)));
    return true;
  });
}

// The columns of a CSV label file that hold a picture's name, its score, and perhaps its reference and split.
struct CsvColumns {
  std::vector<std::string> image, score, reference = {}, split = {};
};

inline void read_csv_labels(DatasetBuilder& data, const std::string& labels, const std::string& folder,
                            const CsvColumns& columns, double divisor = 1, const std::string& split = {}) {
  const CsvTable table(labels);
  const std::size_t image = table.column(columns.image), score = table.column(columns.score);
  const auto optional_column = [&](const std::vector<std::string>& names) {
    return names.empty() ? std::nullopt : table.find(names.front());
  };
  const auto reference = optional_column(columns.reference), own_split = optional_column(columns.split);
  for (std::size_t row = 0; row < table.rows(); ++row)
    data.add(folder, table.filled(row, image), table.number(row, score) / divisor, table.where(row),
             reference ? table.text(row, *reference) : "", own_split ? table.text(row, *own_split) : split);
}

// The columns are called dmos, yet higher is better: Table 1 lists them as MOS.
inline void read_kadid10k(DatasetBuilder& data) {
  read_csv_labels(data, data.label_file({"dmos.csv"}), "images", {{"dist_img"}, {"dmos"}, {"ref_img"}});
}

// A whole number in a CSV field, however a spreadsheet wrote it ("7", "7.0").
inline int whole_number(const CsvTable& table, std::size_t row, std::size_t column) {
  const float value = table.number(row, column);
  if (value < 0 || value > 1e6f || value != std::floor(value))
    throw DataError(table.where(row, column) + ": expected a picture's number, found \"" + table.text(row, column) +
                    "\"");
  return static_cast<int>(value);
}

inline std::string four_digits(int number) {
  const std::string digits = std::to_string(number);
  return std::string(digits.size() < 4 ? 4 - digits.size() : 0, '0') + digits;
}

// A spreadsheet of a picture's number and its MOS in the first two columns, whatever they are called.
inline void read_numbered(DatasetBuilder& data, const std::string& labels, const std::string& folder,
                          const std::string& prefix, const std::string& extension) {
  const CsvTable table(labels);
  if (table.header().size() < 2)
    throw DataError(labels + ": expected the columns picture number and MOS, found only \"" + table.header()[0] + "\"");
  for (std::size_t row = 0; row < table.rows(); ++row)
    data.add(folder, prefix + four_digits(whole_number(table, row, 0)) + extension, table.number(row, 1),
             table.where(row));
}

inline void read_bid(DatasetBuilder& data) {
  const std::string labels =
      data.label_file({"DatabaseGrades.csv"}, spreadsheet_advice("DatabaseGrades", "xlsx"));
  read_numbered(data, labels, data.folder({"ImageDatabase", ""}), "DatabaseImage", ".JPG");
}

inline void read_uwiqa(DatasetBuilder& data) {
  read_numbered(data, data.label_file({"IQA_Value.csv"}, spreadsheet_advice("IQA_Value", "xlsx")), "img", "", ".png");
}

inline void read_spaq(DatasetBuilder& data) {
  const std::string labels = data.label_file({"Annotations/MOS and Image attribute scores.csv",
                                              "Annotations/MOS_and_Image_attribute_scores.csv"},
                                             spreadsheet_advice("MOS and Image attribute scores", "xlsx"));
  read_csv_labels(data, labels, "TestImage", {{"Image name"}, {"MOS"}});
}

// The first seven entries are the pictures of the training session and lie in a folder of their own.
inline void read_livec(DatasetBuilder& data) {
  constexpr std::size_t training = 7;
  std::vector<std::string> names;
  std::vector<double> scores;
  std::string labels;
  if (mat_files_supported() && file_exists(data.path("Data/AllMOS_release.mat"))) {
    labels = data.path("Data/AllMOS_release.mat");
    scores = read_mat_numbers(labels, "AllMOS_release");
    names = read_mat_strings(data.label_file({"Data/AllImages_release.mat"}), "AllImages_release");
  } else {
    labels = data.label_file(
        {"Data/AllMOS_release.csv"},
        (file_exists(data.path("Data/AllMOS_release.mat")) ? ", and this build cannot read MAT files (no libmatio)"
                                                           : ", nor 'AllMOS_release.mat'") +
            advice("python3 -c \"import scipy.io as s; n=s.loadmat('AllImages_release.mat')['AllImages_release'][:,0]; "
                   "m=s.loadmat('AllMOS_release.mat')['AllMOS_release'][0]; print('image,mos'); "
                   "[print(a[0],b,sep=',') for a,b in zip(n,m)]\" > AllMOS_release.csv"));
    const CsvTable table(labels);
    const std::size_t image = table.column({"image"}), mos = table.column({"mos"});
    for (std::size_t row = 0; row < table.rows(); ++row) {
      names.push_back(table.filled(row, image));
      scores.push_back(table.number(row, mos));
    }
  }
  if (names.size() != scores.size() || names.size() <= training)
    throw DataError(labels + ": expected as many names as scores, and more than " + std::to_string(training) +
                    ", found " + std::to_string(names.size()) + " and " + std::to_string(scores.size()));
  for (std::size_t i = training; i < names.size(); ++i)
    data.add("Images", names[i], scores[i], labels + ", entry " + std::to_string(i + 1));
}

// The MOS of 0..100 and the publishers' split are in the list that came with the release; the older list has the same
// scores as MOS_zscore.
inline void read_koniq10k(DatasetBuilder& data) {
  const std::string labels =
      data.label_file({"koniq10k_distributions_sets.csv", "koniq10k_scores_and_distributions.csv"});
  const bool sets = labels.find("distributions_sets") != std::string::npos;
  read_csv_labels(data, labels, "1024x768", {{"image_name"}, {sets ? "MOS" : "MOS_zscore"}, {}, {"set"}});
}

inline void read_gfiqa20k(DatasetBuilder& data) {
  read_csv_labels(data, data.label_file({"mos.csv", "mos_rating.csv", "mos_val_rating.csv"}), "image",
                  {{"img_name"}, {"mos"}});
}

inline void read_agiqa3k(DatasetBuilder& data) {
  data.notice("mos_quality, published on 0..5, is divided by 5 to the scale of the paper's Table 1, [0, 1]");
  read_csv_labels(data, data.label_file({"data.csv"}), data.folder({"img", "images", "image", ""}),
                  {{"name"}, {"mos_quality"}}, 5);
}

// Quality is the first of three aspects (mosz1); pictures are numbered from 0.
inline void read_aigciqa2023(DatasetBuilder& data) {
  data.notice("MOSz, published on 0..100, is divided by 100 to the scale of the paper's Table 1, [0, 1]");
  std::vector<double> scores;
  std::string labels = data.path("DATA/MOS/mosz1.mat");
  if (mat_files_supported() && file_exists(labels)) {
    scores = read_mat_numbers(labels, "MOSz");
  } else {
    labels = data.label_file(
        {"DATA/MOS/mosz1.csv"},
        (file_exists(labels) ? ", and this build cannot read MAT files (no libmatio)" : ", nor 'mosz1.mat'") +
            advice("python3 -c \"import scipy.io as s; print('MOSz'); "
                   "[print(a[0]) for a in s.loadmat('mosz1.mat')['MOSz']]\" > mosz1.csv"));
    const CsvTable table(labels);
    const std::size_t mos = table.column({"MOSz"});
    for (std::size_t row = 0; row < table.rows(); ++row) scores.push_back(table.number(row, mos));
  }
  for (std::size_t i = 0; i < scores.size(); ++i)
    data.add("Image/allimg", std::to_string(i) + ".png", scores[i] / 100, labels + ", entry " + std::to_string(i + 1));
}

inline void read_biq2021(DatasetBuilder& data) {
  const CsvColumns columns{{"Image Name"}, {"MOS"}};
  read_csv_labels(data, data.label_file({"Train (Images and MOS).csv"}), "Images", columns, 1, "train");
  read_csv_labels(data, data.label_file({"Test (Images and MOS).csv"}), "Images", columns, 1, "test");
}

// ---- the table ----------------------------------------------------------------------------------------------------

struct PublishedSet {
  const char* kind;
  LabelType label_type;
  float scale_min, scale_max;  // Table 1
  std::size_t pictures;        // Table 1
  int short_side;
  const char* layout;  // the files that are read
  void (*read)(DatasetBuilder&);
};

inline const std::vector<PublishedSet>& published_sets() {
  constexpr LabelType mos = LabelType::mos, dmos = LabelType::dmos;
  static const std::vector<PublishedSet> sets = {
      {"live", dmos, 1, 100, 779, 0,
       "jp2k/ jpeg/ wn/ gblur/ fastfading/ (img1.bmp ...), dmos.mat or dmos_realigned.mat, refnames_all.mat",
       read_live},
      {"csiq", dmos, 0, 1, 866, 0, "dst_imgs/<kind>/ or dst_imgs_all/, csiq_label.txt or csiq.DMOS.csv", read_csiq},
      {"tid2013", mos, 0, 9, 3000, 0, "distorted_images/, mos_with_names.txt", read_tid2013},
      {"kadid10k", mos, 1, 5, 10125, 0, "images/, dmos.csv", read_kadid10k},
      {"bid", mos, 0, 5, 586, 0, "DatabaseImage0001.JPG ... (or in ImageDatabase/), DatabaseGrades.csv", read_bid},
      {"spaq", mos, 0, 100, 11125, 512, "TestImage/, Annotations/MOS and Image attribute scores.csv", read_spaq},
      {"livec", mos, 1, 100, 1162, 0, "Images/, Data/AllImages_release.mat, Data/AllMOS_release.mat", read_livec},
      {"koniq10k", mos, 0, 100, 10073, 0,
       "1024x768/, koniq10k_distributions_sets.csv or koniq10k_scores_and_distributions.csv", read_koniq10k},
      {"gfiqa20k", mos, 0, 1, 19988, 0, "image/, mos.csv", read_gfiqa20k},
      {"agiqa3k", mos, 0, 1, 2982, 0, "img/, data.csv", read_agiqa3k},
      {"aigciqa2023", mos, 0, 1, 2400, 0, "Image/allimg/ (0.png ...), DATA/MOS/mosz1.mat", read_aigciqa2023},
      {"uwiqa", mos, 0, 1, 890, 0, "img/ (0001.png ...), IQA_Value.csv", read_uwiqa},
      {"biq2021", mos, 0, 1, 12000, 0, "Images/, Train (Images and MOS).csv, Test (Images and MOS).csv", read_biq2021},
  };
  return sets;
}

inline const PublishedSet& published_set(const std::string& kind) {
  std::string kinds;
  for (const PublishedSet& set : published_sets()) {
    if (kind == set.kind) return set;
    kinds += (kinds.empty() ? "" : ", ") + std::string(set.kind);
  }
  throw DataError("unknown data set '" + kind + "'; known are " + kinds);
}

}  // namespace detail

PROMPTIQA_INLINE std::vector<std::string> dataset_kinds() {
  std::vector<std::string> kinds;
  for (const detail::PublishedSet& set : detail::published_sets()) kinds.push_back(set.kind);
  return kinds;
}

PROMPTIQA_INLINE std::string dataset_layout(const std::string& kind) { return detail::published_set(kind).layout; }

PROMPTIQA_INLINE Dataset read_dataset(const std::string& kind, const std::string& dir) {
  const detail::PublishedSet& set = detail::published_set(kind);
  if (!detail::folder_exists(dir)) throw DataError(kind + ": '" + dir + "' is no folder");
  Dataset dataset;
  dataset.name = kind;
  dataset.label_type = set.label_type;
  dataset.scale_min = set.scale_min;
  dataset.scale_max = set.scale_max;
  dataset.short_side = set.short_side;
  detail::DatasetBuilder builder(dataset, dir);
  set.read(builder);
  if (dataset.items.empty()) throw DataError(kind + ": the label file in '" + dir + "' names no picture");
  detail::check_images_exist(kind, dataset);
  std::size_t beyond = 0;
  for (const DatasetItem& item : dataset.items) beyond += item.score < set.scale_min || item.score > set.scale_max;
  if (beyond > 0)
    builder.notice(std::to_string(beyond) + " scores lie beyond the published scale and count as its ends");
  if (dataset.items.size() != set.pictures)
    builder.notice("expected " + std::to_string(set.pictures) + " pictures, found " +
                   std::to_string(dataset.items.size()));
  return dataset;
}

}  // namespace promptiqa
