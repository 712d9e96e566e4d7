// Bodies of Arena.
// Surprising choice: the layout is first fit by falling size: not always the smallest possible, but within a few
// percent of what is alive at once, and no more code than that.
#pragma once

#include <algorithm>
#include <limits>

#include <promptiqa/core/arena.hpp>

namespace promptiqa {

namespace detail {
constexpr std::size_t arena_plans = 16;
constexpr std::size_t arena_alignment = 64;
}  // namespace detail

PROMPTIQA_INLINE Arena::Plan& Arena::plan_of(const ArenaKey& key) {
  for (Plan& plan : plans_)
    if (plan.key == key) return plan;
  if (plans_.size() < detail::arena_plans) return plans_.emplace_back();
  Plan& oldest = *std::min_element(plans_.begin(), plans_.end(),
                                   [](const Plan& a, const Plan& b) { return a.used < b.used; });
  oldest = Plan();
  return oldest;
}

PROMPTIQA_INLINE void Arena::begin(const ArenaKey& key) {
  Plan& plan = plan_of(key);
  plan.key = key;
  plan.used = ++runs_;
  current_ = static_cast<std::size_t>(&plan - plans_.data());
  next_ = 0;
  live_.clear();
  if (!plan.pieces.empty() && plan.slab != slab_) make_blocks(plan);
  mode_ = plan.pieces.empty() ? Mode::recording : Mode::following;
}

PROMPTIQA_INLINE StorageRef Arena::allocate(MemoryPool& pool, std::size_t bytes) {
  Plan& plan = plans_[current_];
  if (mode_ == Mode::following) {
    const bool expected = next_ < plan.pieces.size() && plan.pieces[next_].bytes == bytes &&
                          std::all_of(plan.pieces[next_].expiring.begin(), plan.pieces[next_].expiring.end(),
                                      [&](std::uint32_t i) { return plan.pieces[i].block.unique(); });
    if (expected) {
      Piece& piece = plan.pieces[next_++];
      if (piece.outlives) return pool.allocate(bytes);
      piece.block->id = MemoryPool::next_id();
      return piece.block;
    }
    mode_ = Mode::departed;
  }
  if (mode_ == Mode::departed) return pool.allocate(bytes);
  note_free_pieces(plan);
  StorageRef block = pool.allocate(bytes);
  Piece piece;
  piece.bytes = bytes;
  piece.block = block;
  try {
    plan.pieces.push_back(std::move(piece));
    live_.push_back(static_cast<std::uint32_t>(plan.pieces.size() - 1));
  } catch (...) {
    mode_ = Mode::departed;  // the record has a gap
    throw;
  }
  return block;
}

// Pieces that only the arena refers to are free: they go back to the pool, and the piece asked for next may lie there.
PROMPTIQA_INLINE void Arena::note_free_pieces(Plan& plan) {
  const auto free = [&](std::uint32_t i) {
    if (!plan.pieces[i].block.unique()) return false;
    plan.pieces[i].last = plan.pieces.size();
    plan.pieces[i].block = StorageRef();
    return true;
  };
  live_.erase(std::remove_if(live_.begin(), live_.end(), free), live_.end());
}

PROMPTIQA_INLINE void Arena::lay_out(Plan& plan) {
  std::vector<std::uint32_t> by_size, placed;
  for (std::size_t i = 0; i < plan.pieces.size(); ++i) {
    Piece& piece = plan.pieces[i];
    if (piece.outlives) continue;
    by_size.push_back(static_cast<std::uint32_t>(i));
    if (piece.last < plan.pieces.size()) plan.pieces[piece.last].expiring.push_back(static_cast<std::uint32_t>(i));
  }
  std::stable_sort(by_size.begin(), by_size.end(),
                   [&](std::uint32_t a, std::uint32_t b) { return plan.pieces[a].bytes > plan.pieces[b].bytes; });
  const auto end_of = [&](const Piece& p) {
    return p.offset + std::max<std::size_t>(1, (p.bytes + detail::arena_alignment - 1) / detail::arena_alignment) *
                          detail::arena_alignment;
  };
  // `placed` is kept in the order of offsets, so the first gap that is wide enough is met in one walk.
  for (const std::uint32_t i : by_size) {
    Piece& piece = plan.pieces[i];
    piece.offset = 0;
    for (const std::uint32_t j : placed) {
      const Piece& other = plan.pieces[j];
      const bool together = i < other.last && j < piece.last;
      if (!together) continue;
      if (end_of(piece) <= other.offset) break;
      piece.offset = std::max(piece.offset, end_of(other));
    }
    const auto after = std::find_if(placed.begin(), placed.end(),
                                    [&](std::uint32_t j) { return plan.pieces[j].offset > piece.offset; });
    placed.insert(after, i);
    plan.bytes = std::max(plan.bytes, end_of(piece));
  }
}

PROMPTIQA_INLINE void Arena::make_blocks(Plan& plan) {
  for (Piece& piece : plan.pieces)
    if (!piece.outlives)
      piece.block = MemoryPool::part_of(slab_, static_cast<char*>((*slab_)->data) + piece.offset, piece.bytes);
  plan.slab = slab_;
}

PROMPTIQA_INLINE void Arena::forget() noexcept {
  plans_.clear();
  live_.clear();
  slab_.reset();
}

PROMPTIQA_INLINE void Arena::end(MemoryPool& pool) noexcept {
  Plan& plan = plans_[current_];
  try {
    if (mode_ == Mode::recording) {
      note_free_pieces(plan);
      for (const std::uint32_t i : live_) {
        plan.pieces[i].outlives = true;
        plan.pieces[i].last = std::numeric_limits<std::size_t>::max();
        plan.pieces[i].block = StorageRef();
      }
      lay_out(plan);
      if (plan.bytes > 0 && slab_bytes() < plan.bytes) {
        slab_.reset();
        for (Plan& other : plans_) {  // their blocks are made again in the next slab, when they are used
          for (Piece& piece : other.pieces) piece.block = StorageRef();
          other.slab.reset();
        }
        pool.trim();  // what the recorded run took block by block would otherwise lie beside the slab
        slab_ = std::make_shared<const StorageRef>(pool.allocate(plan.bytes));
      }
      if (slab_) make_blocks(plan);
    } else if (!std::all_of(plan.pieces.begin(), plan.pieces.end(),
                            [](const Piece& piece) { return piece.outlives || piece.block.unique(); })) {
      forget();  // somebody keeps a piece, and other plans use the same place
    } else if (mode_ == Mode::departed) {
      plan = Plan();
    }
  } catch (...) {  // std::bad_alloc, or a device's own error
    forget();      // the other plans may have lost their slab
  }
  mode_ = Mode::idle;
}

}  // namespace promptiqa
