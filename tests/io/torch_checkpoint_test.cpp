// Tests of the checkpoint reader on files that PyTorch itself wrote (golden/make_checkpoints.py).
// Surprising choice: the files are told apart by contents only, so the same tests run through read_tensor_file.
#include <promptiqa/io/tensor_file.hpp>
#include <promptiqa/io/torch_checkpoint.hpp>
#include "catch.hpp"
#include "io_test_tools.hpp"

using namespace io_test;
using promptiqa::DType;
using promptiqa::NamedTensor;
using promptiqa::Shape;
using promptiqa::TensorFile;
using promptiqa::WeightsError;

namespace {
using Values = std::vector<double>;

void refused(const std::string& name, const std::string& reason) {
  CAPTURE(name);
  CHECK_THROWS_AS(promptiqa::read_torch_checkpoint(checkpoint(name)), WeightsError);
  CHECK_THROWS_WITH(promptiqa::read_torch_checkpoint(checkpoint(name)),
                    ContainsSubstring(name) && ContainsSubstring(reason) && !ContainsSubstring("\n"));
  CHECK_THROWS_AS(promptiqa::read_tensor_file(checkpoint(name)), WeightsError);
}

void check_tensor(const TensorFile& file, const std::string& name, DType dtype, const Shape& shape,
                  const Values& expected) {
  CAPTURE(name);
  const NamedTensor* tensor = file.find(name);
  REQUIRE(tensor);
  CHECK(tensor->dtype == dtype);
  CHECK(tensor->shape == shape);
  CHECK(tensor->bytes == expected.size() * promptiqa::dtype_size(dtype));
  CHECK(tensor->owner == file.file);
  CHECK(values(*tensor) == expected);
}

void check_module(const TensorFile& file) {
  CHECK(file.tensors.size() == 7);
  CHECK(file.metadata.empty());
  check_tensor(file, "fc.weight", DType::f32, {2, 3}, {0, 0.5, 1, 1.5, 2, 2.5});
  check_tensor(file, "fc.bias", DType::f32, {2}, {-1, -0.5});
  check_tensor(file, "bn.weight", DType::f32, {2}, {1, 1});
  check_tensor(file, "bn.bias", DType::f32, {2}, {0, 0});
  check_tensor(file, "bn.running_mean", DType::f32, {2}, {0, 0});
  check_tensor(file, "bn.running_var", DType::f32, {2}, {4, 4.5});
  check_tensor(file, "bn.num_batches_tracked", DType::i64, {}, {7});
}
}  // namespace

TEST_CASE("a module's state dict is read whatever wraps it") {
  // A bare state dict with its _metadata; DataParallel's names beside another key; every pickle protocol; archives
  // of another ZIP writer, under another folder, without the byte order.
  for (const char* name : {"module.pth", "official.pth.tar", "protocol2.pth", "protocol3.pth", "protocol4.pth",
                           "protocol5.pth", "other_prefix.pth", "no_byteorder.pth"}) {
    CAPTURE(name);
    check_module(promptiqa::read_torch_checkpoint(checkpoint(name)));
    const TensorFile file = promptiqa::read_tensor_file(checkpoint(name));
    CHECK(file.path == checkpoint(name));
    REQUIRE(file.file);
    check_module(file);
  }
}

TEST_CASE("the prefix module. is removed only when every name has it") {
  const TensorFile file = promptiqa::read_torch_checkpoint(checkpoint("mixed_prefix.pth"));
  CHECK(file.tensors.size() == 2);
  check_tensor(file, "module.a", DType::f32, {2}, {0, 0.5});
  check_tensor(file, "b", DType::f32, {3}, {0, 0.5, 1});
}

TEST_CASE("a state dict under the key model is read and its neighbours are ignored") {
  const TensorFile file = promptiqa::read_torch_checkpoint(checkpoint("model_key.pth"));
  CHECK(file.tensors.size() == 1);
  check_tensor(file, "w", DType::f32, {2, 2}, {0, 0.5, 1, 1.5});
}

TEST_CASE("parameters are tensors") {
  const TensorFile file = promptiqa::read_torch_checkpoint(checkpoint("parameters.pth"));
  CHECK(file.tensors.size() == 2);
  check_tensor(file, "w", DType::f32, {2, 2}, {0, 0.5, 1, 1.5});
  check_tensor(file, "scalar", DType::f32, {}, {0});
}

TEST_CASE("every supported element type is read from a checkpoint") {
  const TensorFile file = promptiqa::read_torch_checkpoint(checkpoint("dtypes.pth"));
  CHECK(file.tensors.size() == 6);
  const Values expected{-1, -0.5, 0, 0.5, 1};
  check_tensor(file, "f32", DType::f32, {5}, expected);
  check_tensor(file, "f16", DType::f16, {5}, expected);
  check_tensor(file, "bf16", DType::bf16, {5}, expected);
  check_tensor(file, "f64", DType::f64, {5}, expected);
  check_tensor(file, "i64", DType::i64, {5}, {-2, -1, 0, 1, 2});
  check_tensor(file, "empty", DType::f32, {0, 4}, {});
}

TEST_CASE("tensors that share a storage are read at their offsets") {
  const TensorFile file = promptiqa::read_torch_checkpoint(checkpoint("shared_storage.pth"));
  Values all;
  for (int i = 0; i < 24; ++i) all.push_back(0.5 * i);
  check_tensor(file, "all", DType::f32, {4, 6}, all);
  check_tensor(file, "row2", DType::f32, {6}, Values(all.begin() + 12, all.begin() + 18));
  check_tensor(file, "rows1to2", DType::f32, {2, 6}, Values(all.begin() + 6, all.begin() + 18));
  const auto* begin = static_cast<const char*>(file.find("all")->data);
  CHECK(file.find("row2")->data == begin + 48);
}

TEST_CASE("tensors that are not contiguous are refused, unit dimensions aside") {
  refused("not_contiguous.pth", "tensor 'columns': it is not contiguous");
  refused("transposed.pth", "tensor 'w': it is not contiguous");
  check_tensor(promptiqa::read_torch_checkpoint(checkpoint("unit_strides.pth")), "w", DType::f32, {1, 6, 1},
               {0, 0.5, 1, 1.5, 2, 2.5});
}

TEST_CASE("a malicious checkpoint is refused and runs nothing") {
  refused("malicious.pth", "posix.system' is refused");
  CHECK_FALSE(std::filesystem::exists("pickle_was_executed"));
  refused("whole_module.pth", "Small' is refused");
}

TEST_CASE("checkpoints that cannot be used say why") {
  refused("int32.pth", "tensor 'steps': torch.IntStorage is not supported");
  refused("not_a_tensor.pth", "tensor 'lr': expected a tensor, found a number");
  refused("list.pth", "expected a dictionary of tensors, found a tuple or list");
  refused("seven_dimensions.pth", "tensor 'w': expected at most 6 dimensions, got 7");
  refused("legacy.pth", "PyTorch before 1.6");
  refused("compressed.pth", "is compressed");
  refused("big_endian.pth", "byte order is 'big'");
  refused("missing_storage.pth", "tensor 'fc.weight': the archive lacks its storage 'data/0'");
  refused("short_storage.pth", "tensor 'fc.weight': its storage should have 6 elements of F32");
  refused("no_pickle.pth", "without data.pkl");
  refused("torchscript.pth", "TorchScript");
}

TEST_CASE("files of other kinds are refused with advice") {
  const TemporaryFolder folder;
  const auto refuse = [&](const std::string& contents, const std::string& checkpoint_reason,
                          const std::string& any_reason) {
    write_file(folder / "file", contents);
    CHECK_THROWS_WITH(promptiqa::read_torch_checkpoint(folder / "file"),
                      ContainsSubstring(folder / "file") && ContainsSubstring(checkpoint_reason));
    CHECK_THROWS_WITH(promptiqa::read_tensor_file(folder / "file"),
                      ContainsSubstring(folder / "file") && ContainsSubstring(any_reason));
    CHECK_THROWS_AS(promptiqa::read_tensor_file(folder / "file"), WeightsError);
  };
  std::string tar(512, '\0');
  tar.replace(257, 5, "ustar");
  refuse(tar, "tar archive", "tar archive");
  refuse(
      "\x1f\x8b"
      "0123456789",
      "gzip", "gzip");
  refuse("\x80\x02}.", "plain pickle", "plain pickle");
  refuse("<!DOCTYPE html><html>not found</html>", "begins with 'PK'", "neither a safetensors file nor a PyTorch");
  refuse("PK", "begins with 'PK'", "neither");
  refuse("PK\x03\x04 and nothing else that an archive needs", "end record is missing", "end record is missing");
  refuse("", "begins with 'PK'", "the file is empty");
  refuse(safetensors("{]"), "begins with 'PK'", "not valid JSON");
  CHECK_THROWS_AS(promptiqa::read_tensor_file(folder / "missing"), promptiqa::FileError);
  CHECK_THROWS_AS(promptiqa::read_torch_checkpoint(folder / "missing"), promptiqa::FileError);
}

namespace {
// A checkpoint with this pickle and one storage '0' of `storage` bytes, as a minimal ZIP archive.
std::string archive(const std::string& pickle, std::size_t storage, const std::vector<std::string>& more = {}) {
  std::string bytes, directory;
  std::size_t count = 0;
  const auto add = [&](const std::string& name, const std::string& data) {
    const std::string sizes = little_endian(data.size(), 4) + little_endian(data.size(), 4);
    directory += little_endian(0x02014B50, 4) + little_endian(0, 16) + sizes + little_endian(name.size(), 2) +
                 little_endian(0, 12) + little_endian(bytes.size(), 4) + name;
    bytes += little_endian(0x04034B50, 4) + little_endian(0, 14) + sizes + little_endian(name.size(), 2) +
             little_endian(0, 2) + name + data;
    ++count;
  };
  add("x/data.pkl", pickle);
  add("x/data/0", std::string(storage, '\0'));
  for (const std::string& name : more) add(name, "");
  const std::size_t offset = bytes.size();
  return bytes + directory + little_endian(0x06054B50, 4) + little_endian(0, 4) + little_endian(count, 2) +
         little_endian(count, 2) + little_endian(directory.size(), 4) + little_endian(offset, 4) + little_endian(0, 2);
}

std::string text(const std::string& value) { return "X" + little_endian(value.size(), 4) + value; }
std::string number(std::int64_t value) { return "\x8A\x08" + little_endian(static_cast<std::uint64_t>(value), 8); }
std::string tuple(const std::vector<std::int64_t>& numbers) {
  std::string code = "(";
  for (const std::int64_t n : numbers) code += number(n);
  return code + "t";
}

// Pickle code of a float tensor over storage `key` of `elements` elements.
std::string tensor_code(const std::vector<std::int64_t>& size, const std::vector<std::int64_t>& stride,
                        std::int64_t offset, std::int64_t elements, const std::string& key = "0") {
  return "ctorch._utils\n_rebuild_tensor_v2\n((" + text("storage") + "ctorch\nFloatStorage\n" + text(key) +
         text("cpu") + number(elements) + "tQ" + number(offset) + tuple(size) + tuple(stride) +
         "\x89"
         "ccollections\nOrderedDict\n)RtR";
}

std::string dict(const std::string& items) { return "\x80\x02}(" + items + "u."; }
}  // namespace

TEST_CASE("a tensor's shape, strides and place are checked against its storage") {
  const auto parse = [](const std::string& bytes) {
    return promptiqa::parse_torch_checkpoint(as_bytes(bytes), "f.pth");
  };
  const auto w = [&](const std::string& code) { return dict(text("w") + code); };
  const auto refuse = [&](const std::string& bytes, const std::string& reason) {
    CHECK_THROWS_AS(parse(bytes), WeightsError);
    CHECK_THROWS_WITH(parse(bytes),
                      ContainsSubstring("f.pth") && ContainsSubstring("'w'") && ContainsSubstring(reason));
  };
  const std::string valid = archive(w(tensor_code({2, 3}, {3, 1}, 2, 8)), 32);
  const TensorFile file = parse(valid);
  REQUIRE(file.find("w"));
  CHECK(file.find("w")->bytes == 24);
  CHECK(file.find("w")->owner == nullptr);

  refuse(archive(w(tensor_code({2, 3}, {3, 1}, 2, 8)), 31), "its storage should have 8 elements");
  refuse(archive(w(tensor_code({2, 3}, {3, 1}, 3, 8)), 32), "exceeds its storage of 8 elements");
  refuse(archive(w(tensor_code({2, 3}, {3, 1}, -1, 8)), 32), "exceeds its storage");
  refuse(archive(w(tensor_code({2, 3}, {3, 1}, std::numeric_limits<std::int64_t>::max(), 8)), 32),
         "exceeds its storage");
  refuse(archive(w(tensor_code({0}, {1}, 9, 8)), 32), "exceeds its storage");
  refuse(archive(w(tensor_code({2}, {1}, 0, -1)), 32), "its storage should have -1 elements");
  refuse(archive(w(tensor_code({2}, {1}, 0, std::int64_t{1} << 62)), 32), "its storage should have");
  refuse(archive(w(tensor_code({-2}, {1}, 0, 8)), 32), "must not be negative");
  refuse(archive(w(tensor_code({std::int64_t{1} << 40, std::int64_t{1} << 40}, {1, 1}, 0, 8)), 32), "overflows");
  refuse(archive(w(tensor_code({2, 3}, {1, 2}, 0, 8)), 32), "not contiguous");
  refuse(archive(w(tensor_code({2, 3}, {0, 1}, 0, 8)), 32), "not contiguous");
  refuse(archive(w(tensor_code({2, 3}, {3, -1}, 0, 8)), 32), "not contiguous");
  refuse(archive(w(tensor_code({2, 3}, {1}, 0, 8)), 32), "has 1 strides");
  refuse(archive(w(tensor_code({1, 1, 1, 1, 1, 1, 1}, {1, 1, 1, 1, 1, 1, 1}, 0, 8)), 32), "at most 6 dimensions");
  refuse(archive(w(tensor_code({2}, {1}, 0, 8, "1")), 32), "lacks its storage 'data/1'");
  refuse(archive(w(tensor_code({2}, {1}, 0, 8, "../data.pkl")), 32), "lacks its storage");
  const std::string rebuild = "ctorch._utils\n_rebuild_tensor_v2\n";
  refuse(archive(w(rebuild + "(K\1K\2K\3K\4tR"), 32), "unknown form");
  const std::string good = tensor_code({2}, {1}, 0, 8);
  refuse(archive(dict(text("w") + good + text("w") + good), 32), "tensor 'w': its name occurs twice");
  const std::string twice = archive(dict(text("module.w") + good + text("module.w") + good), 32);
  CHECK_THROWS_WITH(parse(twice), ContainsSubstring("tensor 'module.w': its name occurs twice"));
  refuse(archive(w(")"), 32), "expected a tensor, found a tuple or list");
  const std::string number_key = archive(dict("K\1" + good), 32);
  CHECK_THROWS_WITH(parse(number_key), ContainsSubstring("expected names as keys"));
  const std::string two_pickles = archive(w(good), 32, {"y/data.pkl"});
  CHECK_THROWS_WITH(parse(two_pickles), ContainsSubstring("two pickles"));
}
