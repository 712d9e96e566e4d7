// The one place that knows stb_image: decodes a checked stream.
// Surprising choice: stb_image's allocations go through an arena of the calling thread that zeroes memory, bounds the
// size of a block, and throws. So its unchecked null pointers, leaks on error paths, uninitialised reads, failed
// asserts and decompression bombs all end as one exception with nothing lost.
//
// What is known against stb_image 2.27 (Debian 12), and why it does not reach us:
// - GIF (CVE-2023-45661, -45662, -45664, -45666, -45667), PIC (CVE-2023-43898), HDR (CVE-2021-42715), PSD: left out.
// - PNM (CVE-2021-42716) and BMP (CVE-2019-20056, uninitialised palettes): compiled out; plain_formats.ipp reads both.
// - TGA (CVE-2023-45663, uninitialised rows of a truncated file): truncated files are refused before, memory is zeroed.
// - PNG: indices beyond the palette read uninitialised stack, and a failed allocation is not noticed when interlaced;
//   png_check.ipp fills the palette up, the arena throws.
// - JPEG (CVE-2021-28021, CVE-2022-28042; unbounded Huffman tables, scans that leave components out): jpeg_check.ipp
//   checks tables and scans before, memory is zeroed. CVE-2022-28041 and -28048 are integer arithmetic that overflows
//   without touching memory; GCC compiles stb_image with wrapping integers here, later versions check. What remains is
//   a shift of the value 0 by 32 bits or more when coded data ends early: UBSan may report it, the result is 0.
#pragma once

#include <cstdlib>
#include <cstring>
#include <memory>
#include <new>
#include <utility>
#include <vector>

#include <promptiqa/image/decoders.hpp>

#if defined(STBI_INCLUDE_STB_IMAGE_H)
#error "include <promptiqa/image/file.hpp> before <stb_image.h>, or link promptiqa::compiled"
#endif

namespace promptiqa::detail {

/// Blocks that stb_image holds, of the decoding in progress on this thread.
class StbArena {
 public:
  explicit StbArena(std::size_t largest_block) : largest_block_(largest_block), outer_(current()) { current() = this; }
  ~StbArena() {
    for (void* block : blocks_) std::free(block);
    current() = outer_;
  }
  StbArena(const StbArena&) = delete;
  StbArena& operator=(const StbArena&) = delete;

  static StbArena*& current() {
    static thread_local StbArena* arena = nullptr;
    return arena;
  }

  void* allocate(std::size_t bytes) {
    if (bytes > largest_block_) throw ImageError("the pixel data is larger than the header allows");
    blocks_.reserve(blocks_.size() + 1);  // so that push_back cannot lose the block
    void* block = std::calloc(bytes ? bytes : 1, 1);
    if (!block) throw std::bad_alloc();
    blocks_.push_back(block);
    return block;
  }
  void* reallocate(void* old, std::size_t old_bytes, std::size_t bytes) {
    void* block = allocate(bytes);
    if (old) std::memcpy(block, old, old_bytes < bytes ? old_bytes : bytes);
    release(old);
    return block;
  }
  void release(void* block) {
    if (take(block)) std::free(block);
  }
  /// The block is the caller's from now on. True when the arena had it.
  bool take(void* block) {
    for (std::size_t i = blocks_.size(); i-- > 0;)
      if (blocks_[i] == block) {
        blocks_.erase(blocks_.begin() + static_cast<std::ptrdiff_t>(i));
        return true;
      }
    return false;
  }

 private:
  std::size_t largest_block_;
  StbArena* outer_;
  std::vector<void*> blocks_;  // a dozen at most
};

[[noreturn]] inline void stb_assertion_failed() { throw ImageError("the pixel data is damaged"); }

}  // namespace promptiqa::detail

#define STB_IMAGE_IMPLEMENTATION
#define STB_IMAGE_STATIC
#define STBI_NO_STDIO
#define STBI_NO_LINEAR
#define STBI_ONLY_PNG
#define STBI_ONLY_JPEG
#define STBI_ONLY_TGA
#define STBI_ASSERT(x) ((x) ? (void)0 : ::promptiqa::detail::stb_assertion_failed())
#define STBI_MALLOC(bytes) ::promptiqa::detail::StbArena::current()->allocate(bytes)
#define STBI_REALLOC_SIZED(block, old_bytes, bytes) \
  ::promptiqa::detail::StbArena::current()->reallocate(block, old_bytes, bytes)
#define STBI_FREE(block) ::promptiqa::detail::StbArena::current()->release(block)
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wpragmas"
#pragma GCC diagnostic ignored "-Wunused-function"
#pragma GCC diagnostic ignored "-Wunused-parameter"
#pragma GCC diagnostic ignored "-Wunused-but-set-variable"
#pragma GCC diagnostic ignored "-Wmissing-field-initializers"
#pragma GCC diagnostic ignored "-Wsign-compare"
#pragma GCC diagnostic ignored "-Wold-style-cast"
#pragma GCC diagnostic ignored "-Wcast-qual"
#pragma GCC diagnostic ignored "-Wtype-limits"
#if defined(__GNUC__) && !defined(__clang__)
#pragma GCC push_options
#pragma GCC optimize("wrapv")
#endif
#include <stb_image.h>
#if defined(__GNUC__) && !defined(__clang__)
#pragma GCC pop_options
#endif
#pragma GCC diagnostic pop
#undef STB_IMAGE_IMPLEMENTATION
#undef STB_IMAGE_STATIC
#undef STBI_NO_STDIO
#undef STBI_NO_LINEAR
#undef STBI_ONLY_PNG
#undef STBI_ONLY_JPEG
#undef STBI_ONLY_TGA
#undef STBI_ASSERT
#undef STBI_MALLOC
#undef STBI_REALLOC_SIZED
#undef STBI_FREE

namespace promptiqa::detail {

/// Decodes a checked PNG or JPEG stream or a TGA file. `largest_block` bounds every single allocation, in bytes.
static inline Image decode_with_stb(Bytes stream, std::size_t largest_block, const char* format,
                                    const std::string& name) {
  const std::string label = image_label(name) + ": " + format + ": ";
  StbArena arena(largest_block);
  int width = 0, height = 0, channels = 0;
  void* pixels = nullptr;
  try {
    pixels = stbi_load_from_memory(stream.data(), static_cast<int>(stream.size()), &width, &height, &channels, 0);
  } catch (const ImageError& error) {
    throw ImageError(label + error.what());
  } catch (const std::bad_alloc&) {
    throw ImageError(label + "not enough memory to decode it");
  }
  if (!pixels) {
    const char* reason = stbi_failure_reason();
    throw ImageError(label + "damaged or not supported (" + (reason ? reason : "no reason given") + ")");
  }
  auto owner = std::shared_ptr<const void>();
  arena.take(pixels);
  owner.reset(pixels, [](void* block) { std::free(block); });
  return Image::owning(std::move(owner), PixelType::u8, width, height, channels, 0, ChannelOrder::rgb, name);
}

}  // namespace promptiqa::detail
