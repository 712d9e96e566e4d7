// Tests of SHA-256 against the standard's examples, both bodies, in one piece and in many.
// Surprising choice: lengths around the padding's boundaries are checked body against body and split against whole.
#include <promptiqa/io/sha256.hpp>
#include "catch.hpp"
#include "io_test_tools.hpp"

using promptiqa::Sha256;

namespace {
std::string sha256(const std::string& text, bool portable) {
  Sha256 hash(portable);
  hash.update(text.data(), text.size());
  return hash.hex();
}
}  // namespace

TEST_CASE("SHA-256 gives the digests of FIPS 180-4's examples") {
  const bool portable = GENERATE(true, false);
  CHECK(sha256("", portable) == "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
  CHECK(sha256("abc", portable) == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
  CHECK(sha256("abcdbcdecdefdefgefghfghighijhijkijkljklmklmnlmnomnopnopq", portable) ==
        "248d6a61d20638b8e5c026930c3e6039a33ce45964ff2167f6ecedd419db06c1");
  CHECK(sha256("abcdefghbcdefghicdefghijdefghijkefghijklfghijklmghijklmnhijklmnoijklmnopjklmnopqklmnopqrlmnopqrs"
               "mnopqrstnopqrstu",
               portable) == "cf5b16a778af8380036ce59e7b0492370b249b11e8f07a51afac45037afee9d1");
  CHECK(sha256(std::string(1000000, 'a'), portable) ==
        "cdc76e5c9914fb9281a1c7e284d73e67f1809a48a497200e046d39ccc7112cd0");
}

TEST_CASE("SHA-256 does not depend on how the message is cut, nor on the body") {
  std::string text;
  for (int i = 0; i < 300; ++i) text += static_cast<char>(i * 37 + i / 7);
  for (std::size_t length = 0; length <= 200; ++length) {
    CAPTURE(length);
    const std::string message = text.substr(0, length);
    const std::string expected = sha256(message, true);
    CHECK(sha256(message, false) == expected);
    for (const std::size_t cut : {std::size_t{1}, std::size_t{63}, std::size_t{64}, std::size_t{65}}) {
      Sha256 hash;
      for (std::size_t i = 0; i < length; i += cut) {
        hash.update(message.data() + i, std::min(cut, length - i));
        (void)hash.digest();  // reading the digest must not disturb what follows
      }
      CHECK(hash.hex() == expected);
    }
  }
}
