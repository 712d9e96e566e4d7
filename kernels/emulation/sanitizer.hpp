// Whether the address sanitizer is on: PROMPTIQA_ASAN is 1 or 0, and with 1 its interface is included.
// Surprising choice: GCC and clang say so in different ways.
#pragma once

#if defined(__SANITIZE_ADDRESS__)
#define PROMPTIQA_ASAN 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer)
#define PROMPTIQA_ASAN 1
#endif
#endif

#if defined(PROMPTIQA_ASAN)
#include <sanitizer/asan_interface.h>
#include <sanitizer/common_interface_defs.h>
#else
#define PROMPTIQA_ASAN 0
#endif
