// The bodies of distortions and synthesis, compiled once; stb_image_write lives here and nowhere else.
// Surprising choice: without stb on the build machine they are left out, as file reading is in image.cpp.
#if __has_include(<stb_image.h>) && __has_include(<stb_image_write.h>)
#include <promptiqa/data/distortions.ipp>
#include <promptiqa/data/synthesis.ipp>
#endif
