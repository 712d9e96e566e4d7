// Tests of the safetensors reader and writer: round trips, and a broken file for every rule.
// Surprising choice: each broken file differs from a valid one in the one thing its rule forbids.
#include <cmath>

#include <promptiqa/io/safetensors.hpp>
#include "catch.hpp"
#include "io_test_tools.hpp"

using namespace io_test;
using promptiqa::DType;
using promptiqa::NamedTensor;
using promptiqa::Shape;
using promptiqa::TensorFile;
using promptiqa::WeightsError;

namespace {
// Keeps the bytes alive that the result points into.
struct Parsed {
  explicit Parsed(std::string contents)
      : bytes(std::move(contents)), file(promptiqa::parse_safetensors(as_bytes(bytes), "memory")) {}
  std::string bytes;
  TensorFile file;
};

void refused(const std::string& bytes, const std::string& reason) {
  CAPTURE(bytes.substr(0, 300));
  CHECK_THROWS_AS(promptiqa::parse_safetensors(as_bytes(bytes), "some.safetensors"), WeightsError);
  CHECK_THROWS_WITH(promptiqa::parse_safetensors(as_bytes(bytes), "some.safetensors"),
                    ContainsSubstring("some.safetensors") && ContainsSubstring(reason) && !ContainsSubstring("\n"));
}

// One tensor 'w' whose entry is given, with `data` bytes of data.
void refused_entry(const std::string& entry, std::size_t data, const std::string& reason) {
  refused(safetensors("{\"w\":" + entry + "}", std::string(data, 'd')), reason);
  refused(safetensors("{\"w\":" + entry + "}", std::string(data, 'd')), "'w'");
}

NamedTensor tensor(const std::string& name, DType dtype, const Shape& shape, const void* data) {
  return {name, dtype, shape, data, static_cast<std::size_t>(shape.numel()) * promptiqa::dtype_size(dtype), nullptr};
}

const std::string valid_entry = R"({"dtype":"F32","shape":[2],"data_offsets":[0,8]})";
}  // namespace

TEST_CASE("a minimal safetensors file parses without copies") {
  const Parsed parsed(
      safetensors(R"({"__metadata__":{"a":"1","b":"x\"y"},"w":{"shape":[1,2],"data_offsets":[0,8],"dtype":"F32"}, )"
                  R"("s":{"dtype":"I64","shape":[],"data_offsets":[8,16]},)"
                  R"("e":{"dtype":"F16","shape":[3,0],"data_offsets":[8,8]}}  )",
                  little_endian(0x3F800000, 4) + little_endian(0xC0000000, 4) + little_endian(7, 8)));
  const TensorFile& file = parsed.file;
  CHECK(file.path == "memory");
  CHECK(file.metadata == std::map<std::string, std::string>{{"a", "1"}, {"b", "x\"y"}});
  REQUIRE(file.tensors.size() == 3);
  CHECK(file.tensors[0].name == "e");
  CHECK(file.tensors[1].name == "s");
  CHECK(file.tensors[2].name == "w");
  const NamedTensor* w = file.find("w");
  REQUIRE(w == &file.tensors[2]);
  CHECK(w->dtype == DType::f32);
  CHECK(w->shape == Shape{1, 2});
  CHECK(w->bytes == 8);
  CHECK(w->data == parsed.bytes.data() + parsed.bytes.size() - 16);
  CHECK(values(*w) == std::vector<double>{1.0, -2.0});
  CHECK(values(*file.find("s")) == std::vector<double>{7.0});
  CHECK(file.find("s")->shape.rank() == 0);
  CHECK(file.find("e")->bytes == 0);
  CHECK(file.find("missing") == nullptr);
  CHECK(file.find("") == nullptr);
  CHECK(Parsed(safetensors("{}")).file.tensors.empty());
  CHECK(Parsed(safetensors(R"({"__metadata__":{}})")).file.metadata.empty());
}

TEST_CASE("data that are not aligned for their type are read and said to be so") {
  const std::string header = R"({"h":{"dtype":"F16","shape":[1],"data_offsets":[0,2]},)"
                             R"("f":{"dtype":"F32","shape":[1],"data_offsets":[2,6]}})";
  const Parsed parsed(safetensors(header, little_endian(0x3C00, 2) + little_endian(0x40400000, 4)));
  CHECK(values(*parsed.file.find("h")) == std::vector<double>{1.0});
  CHECK(values(*parsed.file.find("f")) == std::vector<double>{3.0});
  NamedTensor moved = *parsed.file.find("f");
  const auto address = reinterpret_cast<std::uintptr_t>(moved.data);
  CHECK(moved.is_aligned() == (address % 4 == 0));
  alignas(8) static const char memory[16] = {};
  moved.data = memory + 4;
  CHECK(moved.is_aligned());
  moved.data = memory + 2;
  CHECK_FALSE(moved.is_aligned());
  moved.dtype = DType::bf16;
  CHECK(moved.is_aligned());
  moved.dtype = DType::f64;
  moved.data = memory + 4;
  CHECK_FALSE(moved.is_aligned());
}

TEST_CASE("a safetensors header of a wrong length is refused") {
  refused("", "at least 8 bytes");
  refused("1234567", "at least 8 bytes");
  refused(little_endian(0, 8) + "{}", "length 0");
  refused(little_endian(3, 8) + "{}", "exceeds the file's 10 bytes");
  refused(little_endian(~std::uint64_t{0}, 8) + "{}", "exceeds the file's");
  // Above the cap in a file that is long enough: a sparse file, of which only the first page is ever read.
  const TemporaryFolder folder;
  write_file(folder / "large", little_endian(100'000'001, 8) + "{}");
  std::filesystem::resize_file(folder / "large", 100'001'000);
  CHECK_THROWS_WITH(promptiqa::read_safetensors(folder / "large"), ContainsSubstring("limit of 100 MB"));
}

TEST_CASE("a safetensors header that is no JSON object of tensors is refused") {
  refused(safetensors("[]"), "begins with '{'");
  refused(safetensors(" {}"), "begins with '{'");
  refused(safetensors("\xEF\xBB\xBF{}"), "begins with '{'");
  refused(safetensors("{"), "not valid JSON");
  refused(safetensors("{}}"), "not valid JSON at byte 3");
  refused(safetensors("{} x"), "not valid JSON");
  refused(safetensors("{}{}"), "not valid JSON");
  refused(safetensors("{\"w\":1e999}"), "JSON");
  refused(safetensors("{/* comment */}"), "not valid JSON");
  refused(safetensors("{\"\xFF\":{}}"), "not valid JSON");  // no UTF-8
  // The parser below us takes a NUL for the end.
  refused(safetensors(std::string("{}\0", 3)), "not valid JSON at byte 3");
  refused(safetensors(std::string("{}\0garbage", 10)), "not valid JSON");
  for (const char* value : {"1", "-1", "1.5", "null", "true", "\"x\"", "[]"})
    refused(safetensors(std::string("{\"w\":") + value + "}"), "entry 'w': expected an object");
}

TEST_CASE("nesting bombs in a safetensors header end at once") {
  const std::string deep(1'000'000, '[');
  refused(safetensors("{\"w\":" + deep), "entry 'w'");
  refused(safetensors("{\"w\":{\"shape\":" + deep), "tensor 'w'");
  std::string objects = "{";
  for (int i = 0; i < 100000; ++i) objects += "\"w\":{";
  refused(safetensors(objects), "'w'");
  refused(safetensors("{\"__metadata__\":{\"a\":{}}}"), "__metadata__");
}

TEST_CASE("repeated keys in a safetensors header are refused at every level") {
  refused(safetensors("{\"w\":" + valid_entry + ",\"w\":" + valid_entry + "}", "12345678"), "overlap");
  const std::string empty = R"({"dtype":"F32","shape":[0],"data_offsets":[0,0]})";
  refused(safetensors("{\"w\":" + empty + ",\"w\":" + empty + "}"), "tensor 'w' occurs twice");
  refused(safetensors(R"({"__metadata__":{"a":"1","a":"1"}})"), "'a' occurs twice");
  refused(safetensors(R"({"__metadata__":{},"__metadata__":{}})"), "__metadata__: it occurs twice");
  refused_entry(R"({"dtype":"F32","dtype":"F32","shape":[2],"data_offsets":[0,8]})", 8, "'dtype' occurs twice");
  refused_entry(R"({"dtype":"F32","shape":[2],"shape":[2],"data_offsets":[0,8]})", 8, "'shape' occurs twice");
  refused_entry(R"({"dtype":"F32","shape":[2],"data_offsets":[0,8],"data_offsets":[0,8]})", 8,
                "'data_offsets' occurs twice");
}

TEST_CASE("safetensors metadata must be strings") {
  for (const char* value : {"1", "-1", "0.5", "null", "false", "[]", "{}"})
    refused(safetensors(std::string("{\"__metadata__\":{\"key\":") + value + "}}"),
            "__metadata__: expected a string for 'key'");
  refused(safetensors("{\"__metadata__\":\"x\"}"), "expected an object");
}

TEST_CASE("a safetensors entry must have exactly its three fields, of the right kinds") {
  refused_entry("{}", 0, "dtype is missing");
  refused_entry(R"({"shape":[2],"data_offsets":[0,8]})", 8, "dtype is missing");
  refused_entry(R"({"dtype":"F32","data_offsets":[0,8]})", 8, "shape is missing");
  refused_entry(R"({"dtype":"F32","shape":[2]})", 8, "data_offsets is missing");
  refused_entry(R"({"dtype":"F32","shape":[2],"data_offsets":[0,8],"x":0})", 8, "unknown field 'x'");
  refused_entry(R"({"dtype":1,"shape":[2],"data_offsets":[0,8]})", 8, "expected a string for dtype");
  refused_entry(R"({"dtype":[],"shape":[2],"data_offsets":[0,8]})", 8, "expected a string for dtype");
  refused_entry(R"({"dtype":"F32","shape":2,"data_offsets":[0,8]})", 8, "expected a list for shape");
  refused_entry(R"({"dtype":"F32","shape":"2","data_offsets":[0,8]})", 8, "expected a list for shape");
  refused_entry(R"({"dtype":"F32","shape":[2],"data_offsets":{}})", 8, "expected a list for data_offsets");
}

TEST_CASE("safetensors dtypes that are unknown or not supported are refused") {
  refused_entry(R"({"dtype":"F31","shape":[2],"data_offsets":[0,8]})", 8, "unknown dtype 'F31'");
  refused_entry(R"({"dtype":"f32","shape":[2],"data_offsets":[0,8]})", 8, "unknown dtype 'f32'");
  for (const char* dtype : {"BOOL", "U8", "I8", "U16", "I16", "U32", "I32", "U64", "F8_E4M3", "F8_E5M2"})
    refused_entry(std::string(R"({"dtype":")") + dtype + R"(","shape":[8],"data_offsets":[0,8]})", 8,
                  std::string("dtype ") + dtype + " is not supported");
}

TEST_CASE("safetensors shapes that are too large, too deep or no shapes are refused") {
  refused_entry(R"({"dtype":"F32","shape":[1,1,1,1,1,1,2],"data_offsets":[0,8]})", 8, "at most 6 dimensions");
  refused_entry(R"({"dtype":"F32","shape":[-2],"data_offsets":[0,8]})", 8, "non-negative integer in shape");
  refused_entry(R"({"dtype":"F32","shape":[2.0],"data_offsets":[0,8]})", 8, "non-negative integer in shape");
  refused_entry(R"({"dtype":"F32","shape":["2"],"data_offsets":[0,8]})", 8, "non-negative integer in shape");
  refused_entry(R"({"dtype":"F32","shape":[[2]],"data_offsets":[0,8]})", 8, "non-negative integer in shape");
  refused_entry(R"({"dtype":"F32","shape":[null],"data_offsets":[0,8]})", 8, "non-negative integer in shape");
  refused_entry(R"({"dtype":"F32","shape":[18446744073709551615],"data_offsets":[0,8]})", 8, "too large");
  refused_entry(R"({"dtype":"F32","shape":[99999999999999999999],"data_offsets":[0,8]})", 8, "non-negative integer");
  // 2^62 elements of four bytes are 0 modulo 2^64.
  refused_entry(R"({"dtype":"F32","shape":[4611686018427387904],"data_offsets":[0,0]})", 0, "overflows");
  refused_entry(R"({"dtype":"F32","shape":[2147483648,2147483648,4],"data_offsets":[0,0]})", 0, "overflows");
}

TEST_CASE("safetensors data_offsets must describe the data exactly") {
  refused_entry(R"({"dtype":"F32","shape":[2],"data_offsets":[8,0]})", 8, "reversed");
  refused_entry(R"({"dtype":"F32","shape":[2],"data_offsets":[0,8]})", 7, "exceed the file's 7 bytes");
  refused_entry(R"({"dtype":"F32","shape":[2],"data_offsets":[18446744073709551608,18446744073709551615]})", 8,
                "exceed the file's");
  refused_entry(R"({"dtype":"F32","shape":[2],"data_offsets":[0,4]})", 4, "expected 8 bytes for F32 of shape (2)");
  refused_entry(R"({"dtype":"F64","shape":[2],"data_offsets":[0,8]})", 8, "expected 16 bytes for F64");
  refused_entry(R"({"dtype":"F32","shape":[2],"data_offsets":[0]})", 8, "expected two data_offsets, got 1");
  refused_entry(R"({"dtype":"F32","shape":[2],"data_offsets":[]})", 8, "expected two data_offsets, got 0");
  refused_entry(R"({"dtype":"F32","shape":[2],"data_offsets":[0,8,8]})", 8, "expected two data_offsets, got more");
  refused_entry(R"({"dtype":"F32","shape":[2],"data_offsets":[0,-8]})", 8, "non-negative integer in data_offsets");
  refused_entry(R"({"dtype":"F32","shape":[2],"data_offsets":[0,8.0]})", 8, "non-negative integer in data_offsets");

  const auto two = [](const std::string& first, const std::string& second, std::size_t data) {
    return safetensors(R"({"a":{"dtype":"F32","shape":[2],"data_offsets":)" + first +
                           R"(},"b":{"dtype":"F32","shape":[2],"data_offsets":)" + second + "}}",
                       std::string(data, 'd'));
  };
  CHECK(Parsed(two("[0,8]", "[8,16]", 16)).file.tensors.size() == 2);
  CHECK(Parsed(two("[8,16]", "[0,8]", 16)).file.tensors.size() == 2);
  refused(two("[0,8]", "[4,12]", 12), "tensor 'b': its data overlap");
  refused(two("[0,8]", "[0,8]", 8), "overlap");
  refused(two("[0,8]", "[12,20]", 20), "tensor 'b': there is a hole of 4 bytes");
  refused(two("[4,12]", "[12,20]", 20), "tensor 'a': there is a hole of 4 bytes");
  refused(two("[0,8]", "[8,16]", 17), "1 bytes after the last tensor");
  refused(safetensors("{}", "x"), "1 bytes after the last tensor");
  // An empty tensor inside another one's data is an overlap, too.
  refused(safetensors(R"({"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]},)"
                      R"("e":{"dtype":"F32","shape":[0],"data_offsets":[4,4]}})",
                      "12345678"),
          "tensor 'e': its data overlap");
}

TEST_CASE("names in messages stay on one line and of bounded length") {
  refused(safetensors(R"({"a\nb":1})"), "'a\\x0ab'");
  const std::string bytes = safetensors("{\"" + std::string(5000, 'n') + "\":1}");
  try {
    promptiqa::parse_safetensors(as_bytes(bytes), "f");
    FAIL("accepted");
  } catch (const WeightsError& error) {
    CHECK(std::string(error.what()).size() < 400);
  }
}

TEST_CASE("tensors written as safetensors are read back, aligned, in the reference's layout") {
  const TemporaryFolder folder;
  const std::string path = folder / "file.safetensors";
  const float f32[] = {1.5f, -2.0f, 3.25f};
  const std::uint16_t f16[] = {0x3C00}, bf16[] = {0xBF80, 0x0000, 0x4000};
  const double f64[] = {std::sqrt(2.0)};
  const std::int64_t i64[] = {-5, 1LL << 40};
  const std::vector<NamedTensor> tensors{tensor("half", DType::f16, {1}, f16),
                                         tensor("z.float", DType::f32, {3, 1}, f32),
                                         tensor("brain", DType::bf16, {3}, bf16),
                                         tensor("double", DType::f64, {}, f64),
                                         tensor("count \"\xC3\xA9", DType::i64, {2}, i64),
                                         tensor("empty", DType::f32, {0, 5}, nullptr)};
  const std::map<std::string, std::string> metadata{{"config", R"({"a": [1, "b"]})"}, {"line", "a\nb"}};
  promptiqa::write_safetensors(path, metadata, tensors);

  const TensorFile file = promptiqa::read_safetensors(path);
  CHECK(file.path == path);
  CHECK(file.metadata == metadata);
  REQUIRE(file.tensors.size() == tensors.size());
  REQUIRE(file.file);
  for (const NamedTensor& written : tensors) {
    CAPTURE(written.name);
    const NamedTensor* read = file.find(written.name);
    REQUIRE(read);
    CHECK(read->dtype == written.dtype);
    CHECK(read->shape == written.shape);
    CHECK(read->is_aligned());
    CHECK(read->owner == file.file);
    REQUIRE(read->bytes == written.bytes);
    CHECK((written.bytes == 0 || std::memcmp(read->data, written.data, written.bytes) == 0));
    file.release_pages(*read);
    CHECK((written.bytes == 0 || std::memcmp(read->data, written.data, written.bytes) == 0));
  }
  // 8-byte elements first, then 4, then 2; by name within a size; the header padded with spaces to 8.
  const std::string bytes = read_file(path);
  std::uint64_t header_bytes = 0;
  std::memcpy(&header_bytes, bytes.data(), 8);
  CHECK(header_bytes % 8 == 0);
  const std::string header = bytes.substr(8, header_bytes);
  std::size_t position = 0;
  for (const char* name : {"__metadata__", "count ", "double", "empty", "z.float", "brain", "half"}) {
    CAPTURE(name);
    const std::size_t found = header.find(std::string("\"") + name);
    REQUIRE(found != std::string::npos);
    CHECK(found >= position);
    position = found;
  }
  CHECK(bytes.size() == 8 + header_bytes + 12 + 2 + 6 + 8 + 16);
  // Without metadata there is no such entry, and without tensors a file of its header only.
  promptiqa::write_safetensors(path, {}, {});
  CHECK(read_file(path) == little_endian(8, 8) + "{}      ");
}

TEST_CASE("the data of a tensor live as long as the tensor") {
  const TemporaryFolder folder;
  const float one = 1.0f;
  const std::vector<NamedTensor> tensors{tensor("w", DType::f32, {1}, &one)};
  promptiqa::write_safetensors(folder / "f", {}, tensors);
  const NamedTensor kept = *promptiqa::read_safetensors(folder / "f").find("w");
  CHECK(values(kept) == std::vector<double>{1.0});
}

TEST_CASE("a file can be rewritten from its own map") {
  const TemporaryFolder folder;
  const double data[] = {1, 2, 3};
  const std::vector<NamedTensor> tensors{tensor("w", DType::f64, {3}, data)};
  promptiqa::write_safetensors(folder / "f", {}, tensors);
  const TensorFile file = promptiqa::read_safetensors(folder / "f");
  promptiqa::write_safetensors(folder / "f", {{"k", "v"}}, file.tensors);
  const TensorFile again = promptiqa::read_safetensors(folder / "f");
  CHECK(again.metadata.at("k") == "v");
  CHECK(values(*again.find("w")) == std::vector<double>{1, 2, 3});
}

TEST_CASE("what no safetensors file can hold is not written, and the old file stays") {
  const TemporaryFolder folder;
  const std::string path = folder / "f";
  write_file(path, "old");
  const float data[] = {1, 2};
  const auto refuse = [&](const std::vector<NamedTensor>& tensors, const std::map<std::string, std::string>& metadata,
                          const std::string& reason) {
    CHECK_THROWS_AS(promptiqa::write_safetensors(path, metadata, tensors), WeightsError);
    CHECK_THROWS_WITH(promptiqa::write_safetensors(path, metadata, tensors),
                      ContainsSubstring(path) && ContainsSubstring(reason));
  };
  const NamedTensor w = tensor("w", DType::f32, {2}, data);
  refuse({w, tensor("v", DType::f32, {2}, data), w}, {}, "tensor 'w' occurs twice");
  refuse({tensor("__metadata__", DType::f32, {2}, data)}, {}, "reserves");
  refuse({tensor("\xFF", DType::f32, {2}, data)}, {}, "UTF-8");
  refuse({w}, {{"key", "\xC3"}}, "UTF-8");
  NamedTensor wrong = w;
  wrong.bytes = 7;
  refuse({wrong}, {}, "expected 8 bytes for F32 of shape (2), got 7");
  refuse({tensor("w", DType::f32, {2}, nullptr)}, {}, "got 0");
  CHECK(read_file(path) == "old");
  CHECK(folder.files() == 1);
  CHECK_THROWS_AS(promptiqa::write_safetensors(folder / "missing/f", {}, {}), promptiqa::FileError);
  CHECK_THROWS_AS(promptiqa::read_safetensors(folder / "missing"), promptiqa::FileError);
}
