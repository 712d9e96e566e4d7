// The matrix product of the CPU: packing, cache blocking, threads and the epilogue around the micro-kernels.
// Surprising choice: threads only decide who computes which tiles. Where tiles begin and how k is cut follows from
// the shape and the instruction set, and one thread sums a tile from front to back: any pool gives the same bits.
//
// c is cut into column panels (as wide as the register tile) and row panels (at most as high, all about equal, so
// that no thin remainder is left). Few rows: each thread takes column panels and lays out what it needs of b as
// it goes. Many rows: b is laid out by all threads, then blocks of c are shared out; a block of a is laid out by
// whoever needs it and stays in the second-level cache while the panels of b pass by.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <string>

#include <promptiqa/core/error.hpp>
#include <promptiqa/core/kernel_table.hpp>
#include <promptiqa/core/memory_pool.hpp>
#include <promptiqa/core/thread_pool.hpp>
#include <promptiqa/cpu/gemm_micro_kernel.hpp>
#include <promptiqa/cpu/gemm_pack.hpp>
#include <promptiqa/cpu/gemm_product.hpp>
#include <promptiqa/cpu/parallel.hpp>
#include <promptiqa/cpu/simd.hpp>

namespace promptiqa::cpu {

/// The tag of matrices packed for this element type and instruction set.
template <class T, class Isa>
inline constexpr int packed_layout =
    Isa::bytes * 16 + static_cast<int>(sizeof(T)) + 4096 * (PackedElement<T, Isa>::depth - 1);

namespace detail {

// Sizes for 512 KB or more of second-level cache: it holds a block of a, two passing panels of b and a few tiles.
inline constexpr std::int64_t a_block_bytes = 256 * 1024;
inline constexpr std::int64_t column_block_panels = 64;             // column panels of a block of c
inline constexpr std::int64_t b_chunk_bytes = 16 * 1024 * 1024;     // of b laid out at a time, for the last-level cache
inline constexpr std::int64_t fewest_chunk_panels = 16;             // of such a chunk: a is read once for each chunk
inline constexpr std::int64_t serial_work = std::int64_t{1} << 18;  // multiplications below which threads do not pay
inline constexpr std::int64_t entry_work = std::int64_t{1} << 26;   // of a batch entry that one thread should do

/// body(i) for i in [0, count), on the pool or, without one, on this thread.
template <class Body>
void for_each_task(ThreadPool* pool, std::int64_t count, Body&& body) {
  if (pool)
    pool->parallel_for(count, body);
  else
    for (std::int64_t i = 0; i < count; ++i) body(i);
}

/// Whether a is read often enough, once for each column panel, to be laid out first. Rows a multiple of 2 KB apart
/// would push each other out of the first-level cache.
template <class T, class Isa>
bool worth_packing_a(const GemmArgs<T>& args, std::int64_t column_panels) {
  if (PackedElement<T, Isa>::depth > 1) return true;  // it is not in memory as the micro-kernel reads it
  const bool aliased = args.lda * std::int64_t{sizeof(T)} % 2048 == 0;
  return args.m > 1 && column_panels >= (aliased ? 2 : 4);
}

/// Few rows, or so few that a stays in the cache: threads share out column panels.
template <class T, class Isa, class B>
void product_by_columns(ThreadPool* pool, MemoryPool& memory, const GemmArgs<T>& args, const B& b) {
  Product<T, Isa, B> product(args, b);
  StorageRef packed;
  if (worth_packing_a<T, Isa>(args, product.column_panels)) {
    packed = memory.allocate(product.packed_a_bytes());
    product.pack_a(packed->data);
  }
  const std::int64_t tasks = pool ? std::min<std::int64_t>(product.column_panels, 4 * pool->size()) : 1;
  for_each_task(pool, tasks, [&](std::int64_t task) {
    const StorageRef scratch = memory.allocate(product.scratch_bytes(product.row_panels, 1));
    const std::int64_t end = part_begin(task + 1, product.column_panels, tasks);
    for (std::int64_t i = part_begin(task, product.column_panels, tasks); i < end; ++i)
      product.block(0, product.row_panels, i, i + 1, scratch->data);
  });
}

/// How many blocks c is cut into, down and across.
struct Blocks {
  std::int64_t down, across;
};

/// The fewest blocks of at most `rows` x `columns` panels, or more when threads would wait for the last ones.
inline Blocks choose_blocks(std::int64_t row_panels, std::int64_t column_panels, std::int64_t rows,
                            std::int64_t columns, std::int64_t threads) {
  const std::int64_t fewest_down = ceil_div(row_panels, rows), fewest_across = ceil_div(column_panels, columns);
  Blocks best{fewest_down, fewest_across};
  if (threads == 1) return best;
  const auto time = [&](const Blocks& b) {  // of the busiest thread, in tiles
    return ceil_div(b.down * b.across, threads) * ceil_div(row_panels, b.down) * ceil_div(column_panels, b.across);
  };
  const std::int64_t most_down = std::min(row_panels, fewest_down + std::min<std::int64_t>(2 * threads, 64));
  for (std::int64_t down = fewest_down; down <= most_down; ++down)
    for (std::int64_t rounds = 1; rounds <= 4; ++rounds) {
      const Blocks next{down, std::clamp(rounds * threads / down, fewest_across, column_panels)};
      // Finer blocks pass over a and b more often: they must save 2% of the time.
      if (time(next) * 50 < time(best) * 49) best = next;
    }
  return best;
}

/// Computes all of a packed b's columns of c in blocks.
template <class T, class Isa>
void product_of_packed(ThreadPool* pool, MemoryPool& memory, const GemmArgs<T>& args, const PackedB<T, Isa>& b) {
  constexpr std::int64_t rows = GemmTile<T, Isa>::rows;
  Product<T, Isa, PackedB<T, Isa>> product(args, b);
  if (worth_packing_a<T, Isa>(args, product.column_panels)) product.use_a_copies();
  constexpr std::int64_t element_bytes = sizeof(packed_element_t<T, Isa>);
  const std::int64_t block_rows = std::clamp<std::int64_t>(
      a_block_bytes / (std::max<std::int64_t>(1, product.k_block()) * rows * element_bytes), 1, 32);
  const Blocks blocks = choose_blocks(product.row_panels, product.column_panels, block_rows, column_block_panels,
                                      pool ? pool->size() : 1);
  // Neighbouring tasks share columns, so that panels of b are read from main memory once.
  for_each_task(pool, blocks.down * blocks.across, [&](std::int64_t task) {
    const std::int64_t i = task % blocks.down, j = task / blocks.down;
    const std::int64_t row_begin = part_begin(i, product.row_panels, blocks.down);
    const std::int64_t row_end = part_begin(i + 1, product.row_panels, blocks.down);
    const std::int64_t column_begin = part_begin(j, product.column_panels, blocks.across);
    const std::int64_t column_end = part_begin(j + 1, product.column_panels, blocks.across);
    const StorageRef scratch = memory.allocate(product.scratch_bytes(row_end - row_begin, column_end - column_begin));
    product.block(row_begin, row_end, column_begin, column_end, scratch->data);
  });
}

/// Many rows: b is laid out first, a chunk of columns at a time, unless it is packed already.
template <class T, class Isa, class B>
void product_by_blocks(ThreadPool* pool, MemoryPool& memory, const GemmArgs<T>& args, const B& b) {
  if constexpr (B::packed) {
    product_of_packed<T, Isa>(pool, memory, args, b);
  } else {
    constexpr std::int64_t width = GemmTile<T, Isa>::columns;
    using P = packed_element_t<T, Isa>;
    const std::int64_t panels = ceil_div(args.n, width), depth = packed_depth<T, Isa>(args.k);
    const std::int64_t panel_bytes = std::max<std::int64_t>(1, depth * width * std::int64_t{sizeof(P)});
    const std::int64_t most = std::max(fewest_chunk_panels, b_chunk_bytes / panel_bytes);
    const std::int64_t chunk = ceil_div(panels, ceil_div(panels, most));  // about equal ones
    const StorageRef packed = memory.allocate(static_cast<std::size_t>(chunk * panel_bytes));
    for (std::int64_t begin = 0; begin < panels; begin += chunk) {
      const std::int64_t first = begin * width;
      GemmArgs<T> part = args;
      part.n = std::min(args.n - first, chunk * width);
      part.c += first;
      if (part.bias) part.bias += first;
      if (part.residual) part.residual += first;
      for_each_task(pool, ceil_div(part.n, width), [&](std::int64_t panel) {
        const std::int64_t column = panel * width;
        b.panel(static_cast<P*>(packed->data) + column * depth, 0, args.k, first + column,
                std::min(width, part.n - column));
      });
      product_of_packed(pool, memory, part, PackedB<T, Isa>{static_cast<const P*>(packed->data), depth});
    }
  }
}

template <class T, class Isa, class B>
void product(ThreadPool* pool, MemoryPool& memory, const GemmArgs<T>& args, const B& b) {
  if (args.m <= 0 || args.n <= 0) return;
  if (pool && (pool->size() == 1 || args.m * args.n * std::max<std::int64_t>(1, args.k) < serial_work)) pool = nullptr;
  const bool few_rows =
      args.m <= 4 * GemmTile<T, Isa>::rows || args.m * args.k * std::int64_t{sizeof(T)} <= a_block_bytes;
  if (few_rows)
    product_by_columns<T, Isa>(pool, memory, args, b);
  else
    product_by_blocks<T, Isa>(pool, memory, args, b);
}

/// Throws Error when packed_b was made by other kernels, ShapeError when it has another shape.
template <class T>
void check_packed(const GemmArgs<T>& args, int layout, const char* kernels) {
  const PackedMatrixView& view = *args.packed_b;
  if (view.layout != layout)
    throw Error("gemm: packed_b has layout " + std::to_string(view.layout) + ", these kernels (" + kernels +
                ") need " + std::to_string(layout));
  if (view.k != args.k || view.n != args.n)
    throw ShapeError("gemm: packed_b must be (" + std::to_string(args.k) + ", " + std::to_string(args.n) + "), got (" +
                     std::to_string(view.k) + ", " + std::to_string(view.n) + ")");
}

template <class T, class Isa>
PackedB<T, Isa> packed_of(const GemmArgs<T>& args) {
  check_packed(args, packed_layout<T, Isa>, Isa::name);
  return {static_cast<const packed_element_t<T, Isa>*>(args.packed_b->data), packed_depth<T, Isa>(args.k)};
}

/// The i-th product of a batch.
template <class T>
GemmArgs<T> batch_entry(const GemmArgs<T>& args, std::int64_t i) {
  GemmArgs<T> entry = args;
  entry.batch = 1;
  entry.a += i * args.stride_a;
  if (args.b) entry.b += i * args.stride_b;
  entry.c += i * args.stride_c;
  if (args.residual) entry.residual += i * args.stride_c;
  return entry;
}

template <class T, class Isa>
void product_entry(ThreadPool* pool, MemoryPool& memory, const GemmArgs<T>& args) {
  if (args.packed_b) {
    product<T, Isa>(pool, memory, args, packed_of<T, Isa>(args));
  } else {
    const bool direct = !args.transpose_b && args.m <= GemmTile<T, Isa>::rows;
    product<T, Isa>(pool, memory, args, MemoryB<T, Isa>{b_source(args.b, args.ldb, args.transpose_b), direct});
  }
}

template <class T, class Isa>
void pack_matrix_on(ThreadPool* pool, const PackMatrixArgs<T>& args) {
  constexpr std::int64_t width = GemmTile<T, Isa>::columns;
  if (args.k * args.n < serial_work) pool = nullptr;
  for_each_task(pool, ceil_div(args.n, width), [&](std::int64_t panel) {
    PanelSource<T> source = b_source(args.b, args.ldb, args.transpose_b);
    source.data += panel * width * source.lane_stride;
    auto* packed = static_cast<packed_element_t<T, Isa>*>(args.packed) + panel * width * packed_depth<T, Isa>(args.k);
    pack_panel<T, Isa, width>(packed, source, args.k,
                              std::min(width, args.n - panel * width));
  });
}

template <class T, class Isa>
void gemm_on(ThreadPool* pool, MemoryPool& memory, const GemmArgs<T>& args);

}  // namespace detail

/// Bytes of op(b), (k, n), laid out by pack_matrix.
template <class T, class Isa>
std::size_t packed_bytes(std::int64_t k, std::int64_t n) {
  constexpr std::int64_t width = GemmTile<T, Isa>::columns;
  return static_cast<std::size_t>(packed_depth<T, Isa>(k)) *
         static_cast<std::size_t>(ceil_div(n, width) * width) * sizeof(packed_element_t<T, Isa>);
}

/// Lays op(b) out for gemm: panels of GemmTile::columns columns, one after the other, each k rows high.
template <class T, class Isa>
void pack_matrix(const KernelContext& kc, const PackMatrixArgs<T>& args) {
  detail::pack_matrix_on<T, Isa>(&pool_of(kc), args);
}

/// The product described at GemmArgs, on all threads. Throws Error when packed_b was made by other kernels and
/// ShapeError when it has another shape.
template <class T, class Isa>
void gemm(const KernelContext& kc, const GemmArgs<T>& args) {
  detail::gemm_on<T, Isa>(&pool_of(kc), memory_of(kc), args);
}

template <class T, class Isa>
void detail::gemm_on(ThreadPool* pool, MemoryPool& memory, const GemmArgs<T>& args) {
  if (args.batch <= 0 || args.m <= 0 || args.n <= 0) return;
  GemmArgs<T> all = args;
  const bool shared_b = args.packed_b || args.stride_b == 0;
  if (all.batch > 1 && shared_b && !args.transpose_a && args.stride_a == args.m * args.lda &&
      args.stride_c == args.m * args.ldc) {  // one tall product
    all.m *= all.batch;
    all.batch = 1;
  }
  if (all.batch == 1) {
    product_entry<T, Isa>(pool, memory, all);
    return;
  }
  StorageRef packed;
  PackedMatrixView view{};
  if (shared_b && !args.packed_b) {
    packed = memory.allocate(packed_bytes<T, Isa>(args.k, args.n));
    pack_matrix_on<T, Isa>(pool, {args.b, args.k, args.n, args.ldb, args.transpose_b, packed->data});
    view = {packed->data, args.k, args.n, packed_layout<T, Isa>};
    all.packed_b = &view;
    all.b = nullptr;
  }
  const std::int64_t work = args.m * args.n * std::max<std::int64_t>(1, args.k);
  const bool by_entry = pool && work < entry_work && args.batch >= pool->size();
  if (by_entry && work * args.batch >= serial_work) {
    pool->parallel_for(args.batch,
                       [&](std::int64_t i) { product_entry<T, Isa>(nullptr, memory, batch_entry(all, i)); });
  } else {
    for (std::int64_t i = 0; i < args.batch; ++i) product_entry<T, Isa>(pool, memory, batch_entry(all, i));
  }
}

}  // namespace promptiqa::cpu
