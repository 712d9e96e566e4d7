// CSV reading and writing, numbers to text and back.
// Surprising choice: the cases are what spreadsheets and editors on three systems really write.
#include "../../examples/common/csv.hpp"

#include <limits>
#include <vector>

#include "../../examples/common/number.hpp"
#include "catch.hpp"

using namespace examples;

TEST_CASE("CSV records keep their fields and lines", "[csv]") {
  const auto rows =
      parse_csv("\xEF\xBB\xBFimage, score\r\n\r\n\"a, b.png\" ,0.5\r\n\"say \"\"hi\"\"\nthere\",1\r\nlast,", "x.csv");
  REQUIRE(rows.size() == 4);
  CHECK(rows[0].fields == std::vector<std::string>{"image", "score"});
  CHECK(rows[1].fields == std::vector<std::string>{"a, b.png", "0.5"});
  CHECK(rows[1].line == 3);
  CHECK(rows[2].fields == std::vector<std::string>{"say \"hi\"\nthere", "1"});
  CHECK(rows[2].line == 4);
  CHECK(rows[3].fields == std::vector<std::string>{"last", ""});
  CHECK(rows[3].line == 6);
  CHECK(parse_csv("a,b\rc,d\r", "x.csv").size() == 2);
  CHECK(parse_csv("", "x.csv").empty());
}

TEST_CASE("CSV errors name file and line", "[csv]") {
  CHECK_THROWS_WITH(parse_csv("a\nb,\"c", "x.csv"), ContainsSubstring("x.csv:2") && ContainsSubstring("never closed"));
  CHECK_THROWS_WITH(parse_csv("a\n\"b\"c,d", "x.csv"),
                    ContainsSubstring("x.csv:2") && ContainsSubstring("closing quote"));
  CHECK_THROWS_WITH(parse_csv("\xFF\xFEi", "x.csv"), ContainsSubstring("UTF-16"));
  CHECK_THROWS_WITH(read_csv("no/such/file.csv"),
                    ContainsSubstring("no/such/file.csv") && ContainsSubstring("cannot open"));
  CHECK_THROWS_WITH(read_csv(PROMPTIQA_TEST_DIR), ContainsSubstring("found a folder"));  // a folder
}

TEST_CASE("CSV fields are written so that they read back", "[csv]") {
  for (const std::string& text : {std::string("plain"), std::string("a,b"), std::string("\"quoted\""),
                                  std::string(" blank "), std::string("two\nlines"), std::string("last\r")}) {
    const auto rows = parse_csv(csv_field(text) + ",end\n", "x.csv");
    REQUIRE(rows.size() == 1);
    CHECK(rows[0].fields[0] == text);
  }
}

TEST_CASE("floats survive the way through text", "[csv]") {
  for (float value : {0.1f, 1.0f / 3, -2.5e-30f, 16777217.0f, std::numeric_limits<float>::max(),
                      std::numeric_limits<float>::denorm_min()})
    CHECK(parse_float(exact_text(value)) == value);
  CHECK(parse_float("+0.5") == 0.5f);
  CHECK(rounded_text(0.75, 1).size() == 3);
  for (const char* bad : {"", "+", "0,5", "0.5x", " 1", "+-1", "one", "1e400", "1e-400"})
    CHECK_FALSE(parse_float(bad).has_value());
}
