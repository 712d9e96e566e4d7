// Arena: one block of memory for all tensors of a repeated computation, laid out from the record of its first run.
// Surprising choice: the arena holds a reference to every block it hands out, so "is it free again?" is one look at
// the count, and a run that differs from its record is noticed before anything is overwritten.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <vector>

#include <promptiqa/core/macros.hpp>
#include <promptiqa/core/memory_pool.hpp>

namespace promptiqa {

/// What a run computes: runs of the same key are expected to allocate the same sizes in the same order.
struct ArenaKey {
  const void* owner = nullptr;  // whose computation, such as a model's identity; only compared
  int what = 0;                 // which of the owner's computations
  std::int64_t size = 0;        // its batch size
  std::int64_t size2 = 0;       // a second size, where there is one
  bool operator==(const ArenaKey&) const = default;
};

/// The memory plans of one Context and the slab they share. A first run of a key is served by the pool and recorded;
/// tensors that live at the same time are then laid out beside each other, all others in the same place, and from the
/// second run on nothing is allocated. What outlives its run comes from the pool each time. A run that departs from the
/// record (another size, a tensor kept longer) is served by the pool from there on and recorded anew the next time; one
/// that ends early is not. Not for several threads at once; a copy starts empty, because it serves another Context.
class Arena {
 public:
  Arena() = default;
  Arena(const Arena&) {}
  Arena& operator=(const Arena&) {
    forget();
    return *this;
  }
  Arena(Arena&&) = default;
  Arena& operator=(Arena&&) = default;

  bool active() const { return mode_ != Mode::idle; }

  /// Begins a run. There must be none under way. At most 16 keys are remembered, the latest used.
  void begin(const ArenaKey& key);
  /// The next block of the run, of at least `bytes` bytes. Throws std::bad_alloc.
  StorageRef allocate(MemoryPool& pool, std::size_t bytes);
  /// Ends the run; after a recorded one makes the plan, and the slab if it is too small. Without memory for
  /// that, whatever the pool throws, everything is forgotten, and next runs are recorded again.
  void end(MemoryPool& pool) noexcept;

  /// Drops all plans and the slab. There must be no run under way.
  void forget() noexcept;

  /// Bytes of the slab. For tests.
  std::size_t slab_bytes() const { return slab_ ? (*slab_)->capacity : 0; }

 private:
  enum class Mode { idle, recording, following, departed };

  struct Piece {
    std::size_t bytes = 0;
    std::size_t offset = 0;               // in the slab
    std::size_t last = 0;                 // was free again when the piece of this number was asked for
    bool outlives = false;                // was not free at the end of the run: comes from the pool
    StorageRef block;                     // while recording: what the pool gave; then: the piece of the slab
    std::vector<std::uint32_t> expiring;  // the pieces whose `last` is this one
  };
  struct Plan {
    ArenaKey key;
    std::uint64_t used = 0;
    std::size_t bytes = 0;  // of slab
    std::vector<Piece> pieces;
    std::shared_ptr<const StorageRef> slab;  // which the blocks lie in
  };

  Plan& plan_of(const ArenaKey& key);
  void note_free_pieces(Plan& plan);
  static void lay_out(Plan& plan);
  void make_blocks(Plan& plan);

  Mode mode_ = Mode::idle;
  std::vector<Plan> plans_;
  std::size_t current_ = 0;             // index of the plan of the run under way
  std::size_t next_ = 0;                // pieces it has asked for
  std::vector<std::uint32_t> live_;     // while recording: pieces not yet seen free
  std::uint64_t runs_ = 0;
  std::shared_ptr<const StorageRef> slab_;
};

}  // namespace promptiqa

#if PROMPTIQA_WITH_BODIES
#include <promptiqa/core/arena.ipp>
#endif
