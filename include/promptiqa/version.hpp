// The version of the library.
// Surprising choice: none; CMakeLists.txt repeats it and a test compares the two.
#pragma once

#define PROMPTIQA_VERSION_MAJOR 0
#define PROMPTIQA_VERSION_MINOR 1
#define PROMPTIQA_VERSION_PATCH 0
#define PROMPTIQA_VERSION_STRING "0.1.0"
