// The device under test, for tests that run in emulation and, in the program test_cuda_device, on a real device.
// Surprising choice: one test source serves both; a handful of names mean the emulator here and a GPU there.
#pragma once

#ifndef PROMPTIQA_TEST_ON_DEVICE
#define PROMPTIQA_TEST_ON_DEVICE 0
#endif

#if PROMPTIQA_TEST_ON_DEVICE
#include "real_device.hpp"
#else
#include "emulated.hpp"
#endif
