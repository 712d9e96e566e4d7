// Catch2, whichever major version the system has.
#pragma once

#if defined(PROMPTIQA_CATCH2_V3)
#include <catch2/catch_all.hpp>
using Catch::Approx;
using Catch::Matchers::ContainsSubstring;
#else
#include <catch2/catch.hpp>
using Catch::Matchers::Contains;
inline auto ContainsSubstring(const std::string& s) { return Contains(s); }
#endif
