// Random numbers for pictures: integers that depend on a key and a counter alone.
// Surprising choice: a normal number is a sum of twelve uniform ones, in integers, and so reaches no further than 6
// standard deviations; std::normal_distribution and std::log differ from one standard library to the next.
#pragma once

#include <cstdint>

#include <promptiqa/core/kernel_table.hpp>

namespace promptiqa::distortion {

/// Element `i` of a random sequence is a function of i and the key: any order, any thread, any machine.
class CounterRandom {
 public:
  /// Sequences of different (seed, stream) have nothing to do with each other.
  CounterRandom(std::uint64_t seed, std::uint64_t stream)
      : key_(counter_bits(seed, 2 * stream) ^ (counter_bits(seed, 2 * stream + 1) << 11)) {}

  /// 53 random bits.
  std::uint64_t bits(std::uint64_t i) const { return counter_bits(key_, i); }

  /// An integer in [0, count), count < 2^32.
  std::uint64_t below(std::uint64_t i, std::uint64_t count) const { return (bits(i) >> 21) * count >> 32; }

  /// A normal number of mean 0 and standard deviation 1, times 65536. Reads counters 4 i to 4 i + 3.
  std::int64_t normal(std::uint64_t i) const {
    std::int64_t sum = 0;
    for (std::uint64_t k = 0; k < 4; ++k) {
      const std::uint64_t word = bits(4 * i + k);
      sum += static_cast<std::int64_t>((word & 0xffff) + (word >> 17 & 0xffff) + (word >> 34 & 0xffff));
    }
    return sum - 6 * 65535;  // each term has mean 65535 / 2 and variance 65536^2 / 12
  }

 private:
  std::uint64_t key_;
};

}  // namespace promptiqa::distortion
