// SHA-256 (FIPS 180-4), incrementally.
// Surprising choice: the processor's SHA instructions are used when it has them, found at run time; the model's
// weights_id is a hash over a gigabyte.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <string>

#include <promptiqa/core/macros.hpp>

namespace promptiqa {

/// Feed bytes with update(), then read the digest of all of them. Copyable: a copy continues on its own.
class Sha256 {
 public:
  /// portable = true keeps to the plain C++ body, for tests.
  explicit Sha256(bool portable = false);

  /// Appends bytes to the message.
  void update(const void* data, std::size_t bytes);

  /// The digest of the bytes so far; more may follow.
  std::array<std::uint8_t, 32> digest() const;

  /// The digest as 64 lower-case hexadecimal digits.
  std::string hex() const;

 private:
  using Compress = void (*)(std::uint32_t* state, const unsigned char* blocks, std::size_t count);

  Compress compress_;
  std::array<std::uint32_t, 8> state_;
  std::array<unsigned char, 64> block_{};  // the message's incomplete last block
  std::uint64_t bytes_ = 0;
};

}  // namespace promptiqa

#if PROMPTIQA_WITH_BODIES
#include <promptiqa/io/sha256.ipp>
#endif
