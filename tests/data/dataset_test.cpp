// The plain CSV reader, the readers of published data sets on miniature trees, and the normalisation.
// Surprising choice: every published layout is one table entry, so all go through the same checks: what is read, and
// what is said when the label file or a picture is missing.
#include <promptiqa/data/dataset.hpp>

#include <cmath>
#include <filesystem>
#include <functional>
#include <limits>
#include <string>
#include <vector>

#include <promptiqa/data/csv.hpp>
#include <promptiqa/data/mat_file.hpp>

#include "catch.hpp"
#include "data_test_tools.hpp"

using namespace promptiqa;
using data_test::TemporaryFolder;
using data_test::write_file;
namespace fs = std::filesystem;

namespace {

/// Reads a CSV of these lines in a folder with pictures a.png, b.png and "c, d.png".
Dataset read_lines(const TemporaryFolder& folder, const std::string& text) {
  for (const char* name : {"a.png", "b.png", "c, d.png"}) write_file(folder / name, "x");
  write_file(folder / "labels.csv", text);
  return read_csv_dataset(folder / "labels.csv");
}

}  // namespace

TEST_CASE("a plain CSV becomes a data set", "[data]") {
  const TemporaryFolder folder;
  const Dataset data = read_lines(
      folder, "\xEF\xBB\xBF Score ,note,IMAGE,split,Reference\r\n2.5,,a.png,train,r1\r\n-1,x," + (folder / "b.png") +
                  ",test,r2\r\n\r\n,,,,\r\n7e0,,\"c, d.png\",,\r\n");
  CHECK(data.name == "labels");
  CHECK(data.label_type == LabelType::mos);
  CHECK(data.short_side == 0);
  REQUIRE(data.items.size() == 3);
  CHECK(data.items[0].image == folder / "a.png");
  CHECK(data.items[0].score == 2.5f);
  CHECK(data.items[0].reference == "r1");
  CHECK(data.items[0].split == "train");
  CHECK(data.items[1].image == folder / "b.png");
  CHECK(data.items[1].score == -1.0f);
  CHECK(data.items[2].image == folder / "c, d.png");
  CHECK(data.items[2].reference.empty());
  CHECK(data.scale_min == -1.0f);
  CHECK(data.scale_max == 7.0f);
  REQUIRE(data.notices.size() == 1);
  CHECK_THAT(data.notices[0], ContainsSubstring("ignored: note"));

  const Dataset plain = read_lines(folder, "image,score\na.png,1\n");
  CHECK(plain.notices.empty());
}

TEST_CASE("a plain CSV that is wrong says where", "[data]") {
  const TemporaryFolder folder;
  const auto error = [&](const std::string& text) -> std::string {
    try {
      read_lines(folder, text);
    } catch (const DataError& e) {
      return e.what();
    }
    return "no DataError";
  };
  const std::string file = folder / "labels.csv";
  CHECK_THAT(error(""), ContainsSubstring(file) && ContainsSubstring("empty"));
  CHECK_THAT(error("image,score\n"), ContainsSubstring(file) && ContainsSubstring("no image"));
  CHECK_THAT(error("picture,score\na.png,1\n"), ContainsSubstring(file + ":1") && ContainsSubstring("\"image\""));
  CHECK_THAT(error("\nimage;mos\n"), ContainsSubstring(file + ":2") && ContainsSubstring("separated by commas"));
  CHECK_THAT(error("image,mos\na.png,1\n"), ContainsSubstring(file + ":1") && ContainsSubstring("\"score\"") &&
                                                ContainsSubstring("\"mos\""));
  CHECK_THAT(error("image,score,Score\na.png,1,2\n"), ContainsSubstring(":1: ") && ContainsSubstring("occurs twice"));
  CHECK_THAT(error("image,score\na.png,1\nb.png\n"), ContainsSubstring(file + ":3") && ContainsSubstring("1 columns"));
  CHECK_THAT(error("image,score\na.png,0,5\n"), ContainsSubstring(file + ":2") && ContainsSubstring("decimals"));
  CHECK_THAT(error("image,score\n,1\n"),
             ContainsSubstring(file + ":2, column \"image\"") && ContainsSubstring("empty"));
  CHECK_THAT(error("image,score\na.png,\n"), ContainsSubstring(file + ":2, column \"score\""));
  CHECK_THAT(error("image,score\na.png,good\n"),
             ContainsSubstring(file + ":2, column \"score\"") && ContainsSubstring("\"good\""));
  CHECK_THAT(error("image,score,note\na.png,1,\"two\nlines\"\nb.png,x,\n"), ContainsSubstring(file + ":4, column"));
  for (const char* bad : {"nan", "inf", "-inf", "NaN"})
    CHECK_THAT(error("image,score\n\na.png," + std::string(bad) + "\n"),
               ContainsSubstring(file + ":3, column \"score\"") && ContainsSubstring("finite"));
  CHECK_THAT(error("image,score\na.png,1\nb.png,2\n./a.png,3\n"),
             ContainsSubstring(file + ":4") && ContainsSubstring("occurs twice") && ContainsSubstring(file + ":2"));
  CHECK_THAT(error("image,score\na.png,1\nm1.png,1\nm2.png,1\nm3.png,1\nm4.png,1\n"),
             ContainsSubstring("4 of 5 images do not exist") && ContainsSubstring("m1.png") &&
                 ContainsSubstring("m3.png") && ContainsSubstring("and 1 more") && !ContainsSubstring("m4.png"));
  CHECK_THROWS_AS(read_csv_dataset(folder / "none.csv"), FileError);
}

TEST_CASE("scores are normalised by the published range, not turned around", "[data]") {
  Dataset data;
  data.label_type = LabelType::dmos;
  data.scale_min = 1;
  data.scale_max = 5;
  CHECK(normalised(data, 1) == 0.0f);
  CHECK(normalised(data, 2) == 0.25f);
  CHECK(normalised(data, 5) == 1.0f);
  CHECK(normalised(data, 0.5f) == 0.0f);  // beyond the scale
  CHECK(normalised(data, 5.5f) == 1.0f);
  CHECK_THROWS_AS(normalised(data, std::nanf("")), DataError);
  CHECK_THROWS_AS(normalised(data, std::numeric_limits<float>::infinity()), DataError);
  data.scale_max = 1;
  CHECK(normalised(data, 1) == 0.5f);
  data.scale_max = 0;
  CHECK_THROWS_AS(normalised(data, 1), DataError);
  data.scale_min = -std::numeric_limits<float>::max();  // the difference overflows a float
  data.scale_max = std::numeric_limits<float>::max();
  CHECK(normalised(data, 0) == 0.5f);
}

namespace {

struct ExpectedItem {
  std::string image;  // below the data set's folder
  float score;
  std::string reference, split;
};

/// A published layout in miniature, and what must be read from it.
struct Layout {
  std::string name, kind;
  bool needs_matio;
  std::vector<std::pair<std::string, std::string>> label_files;  // path and contents
  std::vector<ExpectedItem> items;
};

/// The 982 entries of LIVE, all undistorted but six; entry i has the score i / 10.
struct LiveLabels {
  std::vector<double> dmos, orgs;
  std::vector<std::string> names;
  LiveLabels() {
    for (int i = 0; i < 982; ++i) {
      dmos.push_back(i / 10.0);
      const bool distorted = i == 0 || i == 226 || i == 227 || i == 460 || i == 634 || i == 981;
      orgs.push_back(distorted ? 0 : 1);
      names.push_back(i % 2 ? "bikes.bmp" : "churchandcapitol.bmp");
    }
  }
  std::string csv() const {
    std::string text = "dmos,orgs,reference\n";
    for (std::size_t i = 0; i < dmos.size(); ++i)
      text += std::to_string(dmos[i]) + "," + std::to_string(static_cast<int>(orgs[i])) + "," + names[i] + "\n";
    return text;
  }
};

std::vector<Layout> layouts() {
  using namespace data_test;
  const LiveLabels live;
  const std::vector<ExpectedItem> live_items = {
      {"jp2k/img1.bmp", 0.0f, "churchandcapitol.bmp", ""},  {"jp2k/img227.bmp", 22.6f, "churchandcapitol.bmp", ""},
      {"jpeg/img1.bmp", 22.7f, "bikes.bmp", ""},            {"wn/img1.bmp", 46.0f, "churchandcapitol.bmp", ""},
      {"gblur/img1.bmp", 63.4f, "churchandcapitol.bmp", ""}, {"fastfading/img174.bmp", 98.1f, "bikes.bmp", ""}};
  const std::string live_names = mat_file(mat_strings("refnames_all", live.names));
  std::vector<double> other = live.dmos;
  for (double& score : other) score += 1;

  std::vector<std::string> livec_names;
  std::vector<double> livec_scores;
  std::string livec_csv = "image,mos\n";
  for (int i = 1; i <= 7; ++i) {
    livec_names.push_back("t" + std::to_string(i) + ".bmp");
    livec_scores.push_back(10 * i);
  }
  for (const auto& [name, score] : {std::pair<std::string, double>{"3.bmp", 63.9634}, {"1000.JPG", 74.4286}}) {
    livec_names.push_back(name);
    livec_scores.push_back(score);
  }
  for (std::size_t i = 0; i < livec_names.size(); ++i)
    livec_csv += livec_names[i] + "," + std::to_string(livec_scores[i]) + "\n";
  const std::vector<ExpectedItem> livec_items = {{"Images/3.bmp", 63.9634f, "", ""},
                                                 {"Images/1000.JPG", 74.4286f, "", ""}};

  const std::vector<ExpectedItem> csiq_items = {
      {"dst_imgs/awgn/1600.AWGN.1.png", 0.062f, "1600", ""},
      {"dst_imgs/jpeg2000/sunset_sparrow.jpeg2000.5.png", 0.9f, "sunset_sparrow", ""},
      {"dst_imgs/contrast/1600.contrast.3.png", 0.25f, "1600", ""}};
  std::vector<ExpectedItem> csiq_flat = csiq_items;
  for (ExpectedItem& item : csiq_flat) item.image = "dst_imgs_all/" + fs::path(item.image).filename().string();
  const std::string csiq_text =
      "1600.AWGN.1.png 0.062\nsunset_sparrow.jpeg2000.5.png\t0.9\n\n1600.contrast.3.png 0.25\r\n";

  return {
      {"live", "live", true,
       {{"dmos.mat", mat_file(mat_numbers("dmos", live.dmos) + mat_numbers("orgs", live.orgs))},
        {"refnames_all.mat", live_names}},
       live_items},
      {"live, realigned file with dmos", "live", true,
       {{"dmos_realigned.mat", mat_file(mat_numbers("dmos_new", other) + mat_numbers("dmos", live.dmos) +
                                        mat_numbers("orgs", live.orgs))},
        {"refnames_all.mat", live_names}},
       live_items},
      {"live, realigned only", "live", true,
       {{"dmos_realigned.mat", mat_file(mat_numbers("dmos_new", live.dmos) + mat_numbers("orgs", live.orgs))},
        {"refnames_all.mat", live_names}},
       live_items},
      {"live, CSV", "live", false, {{"dmos.csv", live.csv()}}, live_items},
      {"csiq", "csiq", false, {{"csiq_label.txt", csiq_text}}, csiq_items},
      {"csiq, flat folder", "csiq", false, {{"csiq_label.txt", csiq_text}}, csiq_flat},
      {"csiq, spreadsheet", "csiq", false,
       {{"csiq.DMOS.csv",
         "image,dst_idx,dst_type,dst_lev,dmos_std,dmos\n1600,1,noise,1,0.061,0.062\n"
         "sunset_sparrow,3,jpeg 2000,5,0.1,0.9\n1600,6,contrast,3,0.1,0.25\n"}},
       csiq_items},
      {"tid2013", "tid2013", false,
       {{"mos_with_names.txt", "5.51429 I01_01_1.bmp\r\n5.56757 I01_01_2.bmp\n3.5 i25_24_5.bmp\n"}},
       // The list says I01_01_2.bmp, the disk i01_01_2.BMP: the picture is found, and its reference is i01 as well.
       {{"distorted_images/I01_01_1.bmp", 5.51429f, "i01", ""},
        {"distorted_images/i01_01_2.BMP", 5.56757f, "i01", ""},
        {"distorted_images/i25_24_5.bmp", 3.5f, "i25", ""}}},
      {"kadid10k", "kadid10k", false,
       {{"dmos.csv", "dist_img,ref_img,dmos,var\nI01_01_01.png,I01.png,4.57,0.496\nI81_25_05.png,I81.png,1.2,0.5\n"}},
       {{"images/I01_01_01.png", 4.57f, "I01.png", ""}, {"images/I81_25_05.png", 1.2f, "I81.png", ""}}},
      {"bid", "bid", false,
       {{"DatabaseGrades.csv", "Image Number,Average Subjective Grade\n1,2.75\n585.0,4.5\n,\n"}},
       {{"DatabaseImage0001.JPG", 2.75f, "", ""}, {"DatabaseImage0585.JPG", 4.5f, "", ""}}},
      {"bid, subfolder", "bid", false,
       {{"DatabaseGrades.csv", "n,g\n7,0.5\n"}},
       {{"ImageDatabase/DatabaseImage0007.JPG", 0.5f, "", ""}}},
      {"spaq", "spaq", false,
       {{"Annotations/MOS and Image attribute scores.csv",
         "Image name,MOS,Brightness,Colorfulness,Contrast,Noisiness,Sharpness\n00001.jpg,32.08,1,2,3,4,5\n"
         "11125.jpg,77.5,1,2,3,4,5\n"}},
       {{"TestImage/00001.jpg", 32.08f, "", ""}, {"TestImage/11125.jpg", 77.5f, "", ""}}},
      {"livec", "livec", true,
       {{"Data/AllMOS_release.mat", mat_file(mat_numbers("AllMOS_release", livec_scores))},
        {"Data/AllImages_release.mat", mat_file(mat_strings("AllImages_release", livec_names, true))}},
       livec_items},
      {"livec, CSV", "livec", false, {{"Data/AllMOS_release.csv", livec_csv}}, livec_items},
      {"koniq10k", "koniq10k", false,
       {{"koniq10k_distributions_sets.csv",
         "image_name,c1,c2,c3,c4,c5,c_total,MOS,SD,set\n10004473376.jpg,0,0,25,73,7,105,71.36,0.5,training\n"
         "9999.jpg,0,0,25,73,7,105,13.5,0.5,validation\n1.jpg,0,0,25,73,7,105,50,0.5,test\n"}},
       {{"1024x768/10004473376.jpg", 71.36f, "", "training"},
        {"1024x768/9999.jpg", 13.5f, "", "validation"},
        {"1024x768/1.jpg", 50.0f, "", "test"}}},
      {"koniq10k, older list", "koniq10k", false,
       {{"koniq10k_scores_and_distributions.csv",
         "\"image_name\",\"c1\",\"MOS\",\"SD\",\"MOS_zscore\"\n\"10004473376.jpg\",0,3.83,0.5,\"71.36\"\n"}},
       {{"1024x768/10004473376.jpg", 71.36f, "", ""}}},
      {"gfiqa20k", "gfiqa20k", false,
       {{"mos.csv", "img_name,mos\n1.png,0.5625\n20000.png,0.125\n"}},
       {{"image/1.png", 0.5625f, "", ""}, {"image/20000.png", 0.125f, "", ""}}},
      {"agiqa3k", "agiqa3k", false,
       {{"data.csv",
         "name,prompt,adj1,adj2,style,mos_quality,std_quality,mos_align,std_align\n"
         "AttnGAN_normal_000.jpg,\"a chef, cooking\",,,,1.25,0.4,0.9,0.5\nxl2.2_normal_299.jpg,p,,,,4.5,0.4,3,0.5\n"}},
       {{"img/AttnGAN_normal_000.jpg", 0.25f, "", ""}, {"img/xl2.2_normal_299.jpg", 0.9f, "", ""}}},
      {"agiqa3k, flat folder", "agiqa3k", false,
       {{"data.csv", "name,mos_quality\na.jpg,2.5\n"}},
       {{"a.jpg", 0.5f, "", ""}}},
      {"aigciqa2023", "aigciqa2023", true,
       {{"DATA/MOS/mosz1.mat", mat_file(mat_numbers("MOSz", {37.5, 62.5}, true))}},
       {{"Image/allimg/0.png", 0.375f, "", ""}, {"Image/allimg/1.png", 0.625f, "", ""}}},
      {"aigciqa2023, CSV", "aigciqa2023", false,
       {{"DATA/MOS/mosz1.csv", "MOSz\n37.5\n62.5\n"}},
       {{"Image/allimg/0.png", 0.375f, "", ""}, {"Image/allimg/1.png", 0.625f, "", ""}}},
      {"uwiqa", "uwiqa", false,
       {{"IQA_Value.csv", "Image,MOS\n1,0.425\n890,0.7\n"}},
       {{"img/0001.png", 0.425f, "", ""}, {"img/0890.png", 0.7f, "", ""}}},
      {"biq2021", "biq2021", false,
       {{"Train (Images and MOS).csv", "Image Name,MOS\nss01 (1).jpg,0.4921\nss01 (2).jpg,0.5\n"},
        {"Test (Images and MOS).csv", "Image Name,MOS\nss03 (7805).jpg,0.7321\n"}},
       {{"Images/ss01 (1).jpg", 0.4921f, "", "train"},
        {"Images/ss01 (2).jpg", 0.5f, "", "train"},
        {"Images/ss03 (7805).jpg", 0.7321f, "", "test"}}},
  };
}

void write_layout(const TemporaryFolder& folder, const Layout& layout) {
  for (const auto& [path, contents] : layout.label_files) write_file(folder / path, contents);
  for (const ExpectedItem& item : layout.items) write_file(folder / item.image, "x");
}

}  // namespace

TEST_CASE("every published layout is read", "[data]") {
  for (const Layout& layout : layouts()) {
    if (layout.needs_matio && !mat_files_supported()) continue;
    INFO(layout.name);
    const TemporaryFolder folder;
    write_layout(folder, layout);
    const Dataset data = read_dataset(layout.kind, folder.path());
    CHECK(data.name == layout.kind);
    REQUIRE(data.items.size() == layout.items.size());
    for (std::size_t i = 0; i < data.items.size(); ++i) {
      CHECK(fs::equivalent(data.items[i].image, folder / layout.items[i].image));
      CHECK(data.items[i].score == layout.items[i].score);
      CHECK(data.items[i].reference == layout.items[i].reference);
      CHECK(data.items[i].split == layout.items[i].split);
    }
    bool counted = false;
    for (const std::string& notice : data.notices)
      counted = counted || notice.find("pictures, found " + std::to_string(data.items.size())) != std::string::npos;
    CHECK(counted);  // a miniature is not the whole set, and the reader says so
  }
}

TEST_CASE("a missing label file or picture of a published set is named", "[data]") {
  for (const Layout& layout : layouts()) {
    if (layout.needs_matio && !mat_files_supported()) continue;
    INFO(layout.name);
    for (const auto& [path, contents] : layout.label_files) {
      const TemporaryFolder folder;
      write_layout(folder, layout);
      fs::remove(folder / path);
      CHECK_THROWS_AS(read_dataset(layout.kind, folder.path()), DataError);
      CHECK_THROWS_WITH(read_dataset(layout.kind, folder.path()),
                        ContainsSubstring("no label file '" + folder.path()) && ContainsSubstring(layout.kind));
      write_file(folder / path, "\n");  // there, but without a label
      CHECK_THROWS_AS(read_dataset(layout.kind, folder.path()), DataError);
    }
    const TemporaryFolder folder;
    write_layout(folder, layout);
    const std::string gone = layout.items.back().image;
    fs::remove(folder / gone);
    CHECK_THROWS_AS(read_dataset(layout.kind, folder.path()), DataError);
    // What the label file calls it: TID2013's names differ from the disk's in case.
    CHECK_THROWS_WITH(read_dataset(layout.kind, folder.path()),
                      ContainsSubstring("1 of " + std::to_string(layout.items.size()) + " images do not exist") &&
                          ContainsSubstring(fs::path(gone).filename().string()));
  }
}

TEST_CASE("published sets have Table 1's label types and ranges", "[data]") {
  struct Row {
    const char* kind;
    LabelType type;
    float low, high;
  };
  // Paper, Table 1, in its order; BIQ2021 (MOS in [0, 1]) is not in it.
  const Row table[] = {{"live", LabelType::dmos, 1, 100},     {"csiq", LabelType::dmos, 0, 1},
                       {"tid2013", LabelType::mos, 0, 9},     {"kadid10k", LabelType::mos, 1, 5},
                       {"bid", LabelType::mos, 0, 5},         {"spaq", LabelType::mos, 0, 100},
                       {"livec", LabelType::mos, 1, 100},     {"koniq10k", LabelType::mos, 0, 100},
                       {"gfiqa20k", LabelType::mos, 0, 1},    {"agiqa3k", LabelType::mos, 0, 1},
                       {"aigciqa2023", LabelType::mos, 0, 1}, {"uwiqa", LabelType::mos, 0, 1},
                       {"biq2021", LabelType::mos, 0, 1}};
  const std::vector<std::string> kinds = dataset_kinds();
  REQUIRE(kinds.size() == std::size(table));
  for (std::size_t i = 0; i < kinds.size(); ++i) CHECK(kinds[i] == table[i].kind);
  for (const Layout& layout : layouts()) {
    if (layout.needs_matio && !mat_files_supported()) continue;
    const TemporaryFolder folder;
    write_layout(folder, layout);
    const Dataset data = read_dataset(layout.kind, folder.path());
    for (const Row& row : table) {
      if (layout.kind != row.kind) continue;
      INFO(row.kind);
      CHECK(data.label_type == row.type);
      CHECK(data.scale_min == row.low);
      CHECK(data.scale_max == row.high);
      CHECK(data.short_side == (layout.kind == "spaq" ? 512 : 0));
      CHECK_FALSE(dataset_layout(row.kind).empty());
    }
  }
}

TEST_CASE("bad labels of published sets say where", "[data]") {
  const TemporaryFolder folder;
  const auto fails = [&](const std::string& kind, const std::string& labels, const std::string& contents,
                         const std::string& message) {
    write_file(folder / labels, contents);
    INFO(kind << " " << contents);
    CHECK_THROWS_AS(read_dataset(kind, folder.path()), DataError);
    CHECK_THROWS_WITH(read_dataset(kind, folder.path()), ContainsSubstring(message));
    fs::remove(folder / labels);
  };
  fails("kadid10k", "dmos.csv", "dist_img,dmos\na.png,1\nb.png,nan\n", "dmos.csv:3, column \"dmos\"");
  fails("kadid10k", "dmos.csv", "dist_img,dmos\na.png,1\na.png,2\n", "dmos.csv:3: the image");
  fails("kadid10k", "dmos.csv", "img,dmos\na.png,1\n", "\"dist_img\"");
  fails("tid2013", "mos_with_names.txt", "5.1 I01_01_1.bmp\n5,1 I01_01_2.bmp\n", "mos_with_names.txt:2");
  fails("tid2013", "mos_with_names.txt", "5.1\n", "mos_with_names.txt:1");
  fails("tid2013", "mos_with_names.txt", "5.1 I01_01_1.bmp 7\n", "mos_with_names.txt:1");
  fails("tid2013", "mos_with_names.txt", "inf I01_01_1.bmp\n", "finite");
  fails("csiq", "csiq_label.txt", "1600.AWGN.png 0.1\n", "csiq_label.txt:1");
  fails("csiq", "csiq.DMOS.csv", "image,dst_type,dst_lev,dmos\n1600,melted,1,0.5\n", "\"melted\"");
  fails("bid", "DatabaseGrades.csv", "n,g\n1.5,3\n", "DatabaseGrades.csv:2, column \"n\"");
  fails("bid", "DatabaseGrades.csv", "n\n1\n", "picture number and MOS");
  fails("livec", "Data/AllMOS_release.csv", "image,mos\na.bmp,1\n", "more than 7");
  fails("live", "dmos.csv", "dmos,orgs,reference\n1,0,a.bmp\n", "expected 982");
  CHECK_THROWS_WITH(read_dataset("imagenet", folder.path()),
                    ContainsSubstring("unknown data set 'imagenet'") && ContainsSubstring("tid2013"));
  CHECK_THROWS_WITH(read_dataset("live", folder / "none"), ContainsSubstring("no folder"));
  // Spreadsheets and MAT files that cannot be read come with the line that makes a CSV.
  write_file(folder / "DatabaseGrades.xlsx", "PK");
  CHECK_THROWS_WITH(read_dataset("bid", folder.path()), ContainsSubstring("pandas.read_excel('DatabaseGrades.xlsx')"));
  CHECK_THROWS_WITH(read_dataset("live", folder.path()), ContainsSubstring("s.loadmat('dmos.mat')"));
}

TEST_CASE("scores beyond the published scale are counted", "[data]") {
  const TemporaryFolder folder;
  write_file(folder / "mos.csv", "img_name,mos\n1.png,0.5\n2.png,1.5\n3.png,-0.1\n");
  for (const char* name : {"image/1.png", "image/2.png", "image/3.png"}) write_file(folder / name, "x");
  const Dataset data = read_dataset("gfiqa20k", folder.path());
  REQUIRE(data.notices.size() == 2);
  CHECK_THAT(data.notices[0], ContainsSubstring("2 scores lie beyond"));
  CHECK(data.items[1].score == 1.5f);
  CHECK(normalised(data, data.items[1].score) == 1.0f);
}

TEST_CASE("MAT files that are none or of another kind are refused", "[data]") {
  using namespace data_test;
  const TemporaryFolder folder;
  write_file(folder / "text.mat", "this is no MAT file, though it has a few bytes");
  CHECK_THROWS_AS(read_mat_numbers(folder / "text.mat", "x"), DataError);
  if (!mat_files_supported()) return;
  CHECK_THROWS_AS(read_mat_numbers(folder / "none.mat", "x"), FileError);
  const std::string whole = mat_file(mat_numbers("x", {1, 2, 3}) + mat_strings("names", {"a", "bc"}));
  write_file(folder / "good.mat", whole);
  CHECK(read_mat_numbers(folder / "good.mat", "x") == std::vector<double>{1, 2, 3});
  CHECK(read_mat_strings(folder / "good.mat", "names") == std::vector<std::string>{"a", "bc"});
  CHECK(mat_has_variable(folder / "good.mat", "names"));
  CHECK_FALSE(mat_has_variable(folder / "good.mat", "y"));
  CHECK_THROWS_WITH(read_mat_numbers(folder / "good.mat", "y"), ContainsSubstring("'y' is missing"));
  CHECK_THROWS_WITH(read_mat_numbers(folder / "good.mat", "names"), ContainsSubstring("real numbers"));
  CHECK_THROWS_WITH(read_mat_strings(folder / "good.mat", "x"), ContainsSubstring("strings"));
  for (std::size_t size = 0; size < whole.size(); size += 7) {  // truncated anywhere: an error or the whole array
    write_file(folder / "cut.mat", whole.substr(0, size));
    std::vector<double> values = {1, 2, 3};
    try {
      values = read_mat_numbers(folder / "cut.mat", "x");
    } catch (const Error&) {
    }
    CHECK(values == std::vector<double>{1, 2, 3});
  }
}
