// The bodies of image/, compiled once; stb_image lives here and nowhere else.
// Surprising choice: without stb_image on the build machine the file reading of file.hpp is left out, not the rest.
#include <promptiqa/image/file_format.hpp>
#include <promptiqa/image/image.hpp>
#include <promptiqa/image/orientation.hpp>
#include <promptiqa/image/preprocess.hpp>
#include <promptiqa/image/resize.hpp>

#if __has_include(<stb_image.h>)
#include <promptiqa/image/file.hpp>
#endif
