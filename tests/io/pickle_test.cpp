// Tests of the restricted pickle machine, on pickles written opcode by opcode.
// Surprising choice: what is refused is tested as much as what is read.
#include <promptiqa/io/pickle.hpp>
#include "catch.hpp"
#include "io_test_tools.hpp"

using namespace io_test;
using promptiqa::WeightsError;
using promptiqa::detail::parse_pickle;
using promptiqa::detail::Pickle;
using promptiqa::detail::PickleValue;
using Kind = PickleValue::Kind;

namespace {
std::string program(const std::string& code) { return "\x80\x02" + code + "."; }
std::string unicode(const std::string& text) { return "X" + little_endian(text.size(), 4) + text; }

void refused(const std::string& bytes, const std::string& reason) {
  CAPTURE(bytes.substr(0, 200));
  CHECK_THROWS_AS(parse_pickle(as_bytes(bytes), "some.pth"), WeightsError);
  CHECK_THROWS_WITH(parse_pickle(as_bytes(bytes), "some.pth"),
                    ContainsSubstring("some.pth") && ContainsSubstring(reason));
}

std::int64_t integer(const std::string& code) {
  const std::string bytes = program(code);
  const Pickle pickle = parse_pickle(as_bytes(bytes), "memory");
  REQUIRE(pickle.root->kind == Kind::integer);
  return pickle.root->integer;
}

Kind kind(const std::string& code) {
  const std::string bytes = program(code);
  return parse_pickle(as_bytes(bytes), "memory").root->kind;
}

const std::string ordered_dict = "ccollections\nOrderedDict\n";
}  // namespace

TEST_CASE("pickled numbers and strings have their values") {
  CHECK(integer("K\xFF") == 255);
  CHECK(integer("M\xFF\xFF") == 65535);
  CHECK(integer("J\xFE\xFF\xFF\xFF") == -2);
  CHECK(integer(std::string("\x8A\x00", 2)) == 0);
  CHECK(integer("\x8A\x01\xFF") == -1);
  CHECK(integer(std::string("\x8A\x02\xFF\x00", 4)) == 255);
  CHECK(integer("\x8A\x08\xFF\xFF\xFF\xFF\xFF\xFF\xFF\x7F") == 0x7FFFFFFFFFFFFFFF);
  CHECK(kind("\x8A\x09" + std::string(9, '\x01')) == Kind::other);
  CHECK(kind("N") == Kind::none);
  CHECK(kind("\x88") == Kind::boolean);
  CHECK(kind("\x89") == Kind::boolean);
  CHECK(kind("G12345678") == Kind::other);
  CHECK(kind("C\x03"
             "abc") == Kind::other);
  CHECK(kind("B" + little_endian(3, 4) + "abc") == Kind::other);
  CHECK(kind("\x8E" + little_endian(3, 8) + "abc") == Kind::other);
  CHECK(kind("\x96" + little_endian(3, 8) + "abc") == Kind::other);
  for (const std::string& code :
       {unicode("name"), "\x8C\x04name" + std::string(), "\x8D" + little_endian(4, 8) + "name"}) {
    const std::string bytes = program(code);
    const Pickle pickle = parse_pickle(as_bytes(bytes), "memory");
    REQUIRE(pickle.root->kind == Kind::text);
    CHECK(pickle.root->text == "name");
  }
}

TEST_CASE("pickled containers hold their items, by every instruction that makes or fills them") {
  const auto items = [](const std::string& code, Kind expected) {
    const std::string bytes = program(code);
    const Pickle pickle = parse_pickle(as_bytes(bytes), "memory");
    REQUIRE(pickle.root->kind == expected);
    std::vector<std::int64_t> result;
    for (const PickleValue* item : pickle.root->items) result.push_back(item->integer);
    return result;
  };
  using List = std::vector<std::int64_t>;
  CHECK(items(")", Kind::sequence) == List{});
  CHECK(items("K\1\x85", Kind::sequence) == List{1});
  CHECK(items("K\1K\2\x86", Kind::sequence) == List{1, 2});
  CHECK(items("K\1K\2K\3\x87", Kind::sequence) == List{1, 2, 3});
  CHECK(items("(K\1K\2K\3K\4t", Kind::sequence) == List{1, 2, 3, 4});
  CHECK(items("]K\1a(K\2K\3e", Kind::sequence) == List{1, 2, 3});
  CHECK(items("}K\1K\2s(K\3K\4K\5K\6u", Kind::dict) == List{1, 2, 3, 4, 5, 6});
  CHECK(items(ordered_dict + ")RK\1K\2s}b", Kind::dict) == List{1, 2});
  // The memo: put and get by short and long index, and numbered by MEMOIZE.
  CHECK(items("K\1q\5K\2r" + little_endian(700, 4) + "h\5\x87", Kind::sequence) == List{1, 2, 1});
  CHECK(items("K\1K\2r" + little_endian(700, 4) + "j" + little_endian(700, 4) + "\x87", Kind::sequence) ==
        List{1, 2, 2});
  CHECK(items("K\7\x94K\x08\x94h" + little_endian(0, 1) + "\x87", Kind::sequence) == List{7, 8, 7});
}

TEST_CASE("a pickle may refer to itself") {
  const std::string bytes = program("]q\1h\1a");
  const Pickle pickle = parse_pickle(as_bytes(bytes), "memory");
  REQUIRE(pickle.root->items.size() == 1);
  CHECK(pickle.root->items[0] == pickle.root);
}

TEST_CASE("globals that are not on the list are refused by name") {
  const auto global = [](const std::string& module, const std::string& name) {
    refused(
        "\x80\x02"
        "c" +
            module + "\n" + name + "\n.",
        "'" + module + "." + name + "' is refused");
    refused("\x80\x04\x8C" + little_endian(module.size(), 1) + module + "\x8C" + little_endian(name.size(), 1) + name +
                "\x93.",
            "'" + module + "." + name + "' is refused");
  };
  global("os", "system");
  global("posix", "system");
  global("builtins", "eval");
  global("builtins", "getattr");
  global("torch.storage", "_load_from_bytes");
  global("torch._utils", "_rebuild_tensor_v3");
  global("torch", "load");
  global("collections", "OrderedDict.fromkeys");
  global("collections.OrderedDict", "");
  global("", "collections.OrderedDict");
}

TEST_CASE("opcodes that no file of weights needs are refused by number") {
  // Everything of pickletools' list that the machine does not know, and bytes that are no opcode at all.
  for (const char* code : {"0",    "1",    "2",    "F",    "I",    "L",    "S",    "T",    "U",    "V",
                           "P",    "d",    "g",    "i",    "l",    "o",    "p",    "\x81", "\x82", "\x83",
                           "\x84", "\x8B", "\x8F", "\x90", "\x91", "\x92", "\x97", "\x98", "\xFF", "\x01"})
    refused(program("N" + std::string(code) + "1234567890\n"), "is refused");
  refused(program("K\1}b"), "opcode 0x62 sets attributes of an integer");
}

TEST_CASE("calls of anything but the known constructors with known arguments are refused") {
  refused(program("ctorch\nFloatStorage\n)R"), "a storage type is called, torch.FloatStorage");
  refused(program(ordered_dict + "K\1\x85R"), "collections.OrderedDict has arguments of an unknown form");
  refused(program("ctorch._utils\n_rebuild_tensor_v2\nK\1\x85R"),
          "_rebuild_tensor_v2 has arguments of an unknown form");
  refused(program("ctorch._utils\n_rebuild_parameter\nK\1\x85R"),
          "_rebuild_parameter has arguments of an unknown form");
  refused(program("ctorch._utils\n_rebuild_parameter\n)R"), "_rebuild_parameter has arguments of an unknown form");
  refused(program("ctorch\nSize\nK\1\x85R"), "torch.Size has arguments of an unknown form");
  refused(program("K\1)R"), "expected a type or function, found an integer");
  refused(program(ordered_dict + "}R"), "expected a tuple or list, found a dictionary");
  CHECK(kind("ctorch\nSize\nK\1K\2\x86\x85R") == Kind::sequence);
}

TEST_CASE("persistent ids must be those of storages") {
  const auto id = [](const std::string& tag, const std::string& type, const std::string& key,
                     const std::string& count) {
    return program("(" + tag + type + key + unicode("cpu") + count + "tQ");
  };
  const std::string type = "ctorch\nFloatStorage\n", tag = unicode("storage"), key = unicode("0");
  CHECK(parse_pickle(as_bytes(id(tag, type, key, "K\4")), "memory").root->kind == Kind::storage);
  refused(id(unicode("module"), type, key, "K\4"), "persistent id");
  refused(id(tag, ordered_dict, key, "K\4"), "persistent id");
  refused(id(tag, "N", key, "K\4"), "persistent id");
  refused(id(tag, type, "K\1", "K\4"), "persistent id");
  refused(id(tag, type, key, "N"), "persistent id");
  refused(program(")Q"), "persistent id");
  refused(program("K\1Q"), "expected a tuple or list");
}

TEST_CASE("pickles that are cut, unbalanced or of another protocol are refused") {
  refused("", "protocol 2 to 5");
  refused("N.", "protocol 2 to 5");
  refused("\x80\x01N.", "protocol 2 to 5, found 1");
  refused("\x80\x06N.", "protocol 2 to 5, found 6");
  refused("\x80\x02N", "ends in the middle");
  refused(program("X" + little_endian(1000, 4) + "abc"), "ends in the middle");
  refused(program("\x8D" + little_endian(~std::uint64_t{0}, 8) + "abc"), "ends in the middle");
  refused(program("\x8E" + little_endian(std::uint64_t{1} << 63, 8) + "abc"), "ends in the middle");
  refused(program("cmodule without end"), "ends in the middle");
  refused(program("\x95" + little_endian(1000, 8) + "N"), "in the middle of a frame");
  refused(program("N") + "N", "bytes after its end");
  refused(program(""), "stack is not empty at the end");
  refused(program("NN"), "stack is not empty at the end");
  refused(program("(N"), "stack is not empty at the end");
  refused(program("K\1\x86"), "stack is empty");
  refused(program("K\1(\x85"), "stack is empty");  // what lies below a mark is out of reach
  refused(program("t"), "mark is missing");
  refused(program("a"), "stack is empty");
  refused(program("K\1K\2a"), "expected a tuple or list, found an integer");
  refused(program("]K\1K\2s"), "expected a dictionary");
  refused(program("}(K\1u"), "key has no value");
  refused(program("q\1"), "stack is empty");
  refused(program("h\1"), "memo 1 was never set");
  refused(program("K\1K\2\x93"), "expected a string");
}

TEST_CASE("a pickle cannot exhaust memory or nest without bound") {
  refused(program(std::string(1'000'001, 'N')), "more than a million values");
  refused(program("Nq\1" + std::string(257, '(')), "nests more than 256 deep");
  std::string references = "Nq\1";
  for (int i = 0; i < 1'000'001; ++i) references += "h\1";
  refused(program(references), "stack grows beyond a million");
  std::string memo = "N";
  for (std::uint64_t i = 0; i < 1'000'001; ++i) memo += "r" + little_endian(i, 4);
  refused(program(memo), "memo grows beyond a million");
  refused(program("B" + little_endian(64'000'000, 4) + std::string(64'000'000, 'b')), "longer than 64 MB");
}
