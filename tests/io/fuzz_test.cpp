// Deterministic mutation tests of everything that reads untrusted bytes: success or a typed error, nothing else.
// Surprising choice: this program's operator new remembers the largest request, so that a lying size that is believed
// fails the test even where the memory would have been there. Run it with the address sanitizer, too.
#include <algorithm>
#include <atomic>
#include <cstdlib>
#include <memory>
#include <new>
#include <random>

#include <promptiqa/io/pickle.hpp>
#include <promptiqa/io/safetensors.hpp>
#include <promptiqa/io/tensor_file.hpp>
#include <promptiqa/io/torch_checkpoint.hpp>
#include <promptiqa/io/zip_archive.hpp>
#include "catch.hpp"
#include "io_test_tools.hpp"

namespace {
std::atomic<std::size_t> largest_request{0};
}

// The address sanitizer has its own operators, which check more; a normal build checks the sizes.
#if defined(__has_feature)
#if __has_feature(address_sanitizer)
#define PROMPTIQA_TEST_OWN_NEW 0
#endif
#elif defined(__SANITIZE_ADDRESS__)
#define PROMPTIQA_TEST_OWN_NEW 0
#endif
#if !defined(PROMPTIQA_TEST_OWN_NEW)
void* operator new(std::size_t bytes) {
  if (bytes > largest_request) largest_request = bytes;
  if (void* memory = std::malloc(bytes ? bytes : 1)) return memory;
  throw std::bad_alloc();
}
void operator delete(void* memory) noexcept { std::free(memory); }
void operator delete(void* memory, std::size_t) noexcept { std::free(memory); }
#endif

using namespace io_test;
using promptiqa::TensorFile;

namespace {
struct Outcome {
  int accepted = 0, refused = 0, wrong = 0;
};

// Bytes in a block of exactly their size, so that the address sanitizer sees the first one too far.
class ExactBytes {
 public:
  explicit ExactBytes(const std::string& text) : size_(text.size()), data_(new std::byte[text.size()]) {
    if (size_ > 0) std::memcpy(data_.get(), text.data(), size_);
  }
  std::span<const std::byte> span() const { return {data_.get(), size_}; }

 private:
  std::size_t size_;
  std::unique_ptr<std::byte[]> data_;
};

// What a parser promises of the tensors it returns.
bool sound(const TensorFile& file, std::span<const std::byte> bytes) {
  unsigned sum = 0;
  for (const auto& tensor : file.tensors) {
    const auto* data = static_cast<const std::byte*>(tensor.data);
    if (data < bytes.data() || tensor.bytes > bytes.size() ||
        static_cast<std::size_t>(data - bytes.data()) > bytes.size() - tensor.bytes)
      return false;
    if (tensor.bytes != static_cast<std::size_t>(tensor.shape.numel()) * promptiqa::dtype_size(tensor.dtype))
      return false;
    for (std::size_t i = 0; i < tensor.bytes; ++i) sum += static_cast<unsigned>(data[i]);
  }
  volatile unsigned used = sum;
  (void)used;
  return std::is_sorted(file.tensors.begin(), file.tensors.end(),
                        [](const auto& a, const auto& b) { return a.name < b.name; });
}

// Flips, replaces, inserts, removes or repeats bytes in [begin, end), or cuts the text.
std::string mutate(std::string text, std::size_t begin, std::size_t end, std::mt19937_64& random) {
  const auto below = [&random](std::size_t n) { return n == 0 ? 0 : static_cast<std::size_t>(random() % n); };
  const int changes = 1 + static_cast<int>(below(3));
  for (int i = 0; i < changes && begin < end; ++i) {
    const std::size_t at = begin + below(end - begin);
    switch (below(8)) {
      case 0:
        text[at] = static_cast<char>(text[at] ^ 1 << below(8));
        break;
      case 1:
        text[at] = static_cast<char>(below(256));
        break;
      case 2:
        text[at] = "\0\xFF\x7F\x80"[below(4)];
        break;
      case 3:
        text[at] = "0123456789[]{}\",:-.eE(tsuaR"[below(27)];
        break;
      case 4: {
        const std::size_t count = 1 + below(8);
        std::string inserted;
        for (std::size_t j = 0; j < count; ++j) inserted += static_cast<char>(below(256));
        text.insert(at, inserted);
        end += count;
        break;
      }
      case 5: {
        const std::size_t count = std::min(1 + below(8), end - at);
        text.erase(at, count);
        end -= count;
        break;
      }
      case 6: {
        const std::string repeated = text.substr(at, std::min(1 + below(40), end - at));
        text.insert(begin + below(end - begin), repeated);
        end += repeated.size();
        break;
      }
      default:
        if (below(4) > 0) break;  // a cut hides the other changes: keep it rare
        text.resize(at);
        end = at;
    }
  }
  return text;
}

template <class Parse>
Outcome fuzz(const std::string& valid, std::size_t begin, std::size_t end, int rounds, std::uint64_t seed,
             Parse parse) {
  std::mt19937_64 random(seed);
  Outcome outcome;
  for (int round = 0; round < rounds; ++round) {
    const ExactBytes bytes(mutate(valid, begin, end, random));
    largest_request = 0;
    try {
      outcome.wrong += !parse(bytes.span());
      ++outcome.accepted;
    } catch (const promptiqa::WeightsError&) {
      ++outcome.refused;
    } catch (const promptiqa::FileError&) {
      ++outcome.refused;
    }
    // The inputs are some kilobytes; nothing they say may cost more than a small multiple of that.
    outcome.wrong += largest_request > (std::size_t{1} << 20);
  }
  return outcome;
}

bool parse_any(std::span<const std::byte> bytes) { return sound(promptiqa::parse_tensor_file(bytes, "fuzz"), bytes); }
bool parse_checkpoint(std::span<const std::byte> bytes) {
  return sound(promptiqa::parse_torch_checkpoint(bytes, "fuzz"), bytes);
}
bool parse_safetensors(std::span<const std::byte> bytes) {
  return sound(promptiqa::parse_safetensors(bytes, "fuzz"), bytes);
}

constexpr int rounds = 4000;
}  // namespace

TEST_CASE("mutated safetensors files are read or refused") {
  const std::string header = R"({"__metadata__":{"config":"{\"a\": 1}"},)"
                             R"("a.weight":{"dtype":"F32","shape":[2,3],"data_offsets":[0,24]},)"
                             R"("b":{"dtype":"I64","shape":[],"data_offsets":[24,32]},)"
                             R"("c":{"dtype":"BF16","shape":[1,0,7],"data_offsets":[32,32]},)"
                             R"("d":{"dtype":"F16","shape":[4],"data_offsets":[32,40]}})";
  const std::string valid = safetensors(header, std::string(40, '\x3F'));
  REQUIRE(parse_safetensors(ExactBytes(valid).span()));
  const Outcome whole = fuzz(valid, 0, valid.size(), rounds, 1, parse_any);
  const Outcome in_header = fuzz(valid, 8, 8 + header.size(), rounds, 2, parse_safetensors);
  // Header changes that keep its length come through to the JSON and the layout; the length field alone is three rules.
  const Outcome in_length = fuzz(valid, 0, 8, rounds / 4, 3, parse_safetensors);
  for (const Outcome& outcome : {whole, in_header, in_length}) {
    CHECK(outcome.wrong == 0);
    CHECK(outcome.refused > 0);
  }
  CHECK(whole.accepted > 0);
  CHECK(in_header.accepted > 0);
}

TEST_CASE("mutated checkpoints are read or refused") {
  for (const char* name : {"official.pth.tar", "protocol4.pth", "other_prefix.pth", "shared_storage.pth"}) {
    CAPTURE(name);
    const std::string valid = read_file(checkpoint(name));
    REQUIRE(parse_checkpoint(ExactBytes(valid).span()));
    const Outcome whole = fuzz(valid, 0, valid.size(), rounds, 4, parse_any);
    CHECK(whole.wrong == 0);
    CHECK(whole.accepted > 0);
    CHECK(whole.refused > 0);

    // The pickle and the directory are small parts of the file: aim at each of them.
    const auto entries = promptiqa::detail::read_zip_directory(as_bytes(valid), name);
    const auto pickle =
        std::find_if(entries.begin(), entries.end(), [](const auto& e) { return e.name.ends_with("data.pkl"); });
    REQUIRE(pickle != entries.end());
    const auto begin = static_cast<std::size_t>(pickle->data.data() - as_bytes(valid).data());
    const Outcome in_pickle = fuzz(valid, begin, begin + pickle->data.size(), rounds, 5, parse_checkpoint);
    const Outcome in_directory = fuzz(valid, valid.find("PK\x01\x02"), valid.size(), rounds, 6, parse_checkpoint);
    for (const Outcome& outcome : {in_pickle, in_directory}) {
      CHECK(outcome.wrong == 0);
      CHECK(outcome.accepted > 0);
      CHECK(outcome.refused > 0);
    }
  }
}

TEST_CASE("mutated pickles are read or refused") {
  for (const char* name : {"module.pth", "protocol5.pth", "parameters.pth", "model_key.pth"}) {
    CAPTURE(name);
    const std::string archive = read_file(checkpoint(name));
    for (const auto& entry : promptiqa::detail::read_zip_directory(as_bytes(archive), name)) {
      if (!entry.name.ends_with("data.pkl")) continue;
      const std::string valid(reinterpret_cast<const char*>(entry.data.data()), entry.data.size());
      const Outcome outcome = fuzz(valid, 0, valid.size(), rounds, 7, [](std::span<const std::byte> bytes) {
        const auto parsed = promptiqa::detail::parse_pickle(bytes, "fuzz");
        return parsed.root != nullptr;
      });
      CHECK(outcome.wrong == 0);
      CHECK(outcome.accepted > 0);
      CHECK(outcome.refused > 0);
    }
  }
}

TEST_CASE("every truncation of a valid file is refused") {
  for (const std::string& name : {checkpoint("module.pth"), checkpoint("dtypes.pth"), checkpoint("protocol4.pth")}) {
    CAPTURE(name);
    const std::string valid = read_file(name);
    int accepted = 0;
    for (std::size_t length = 0; length < valid.size(); ++length) {
      const ExactBytes bytes(valid.substr(0, length));
      try {
        parse_any(bytes.span());
        ++accepted;
      } catch (const promptiqa::WeightsError&) {
      }
    }
    CHECK(accepted == 0);
  }
}
