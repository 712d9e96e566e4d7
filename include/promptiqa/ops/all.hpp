// Every op, for code that composes many of them.
// Surprising choice: only declarations come along when PROMPTIQA_COMPILED is set.
#pragma once

#include <promptiqa/ops/attention.hpp>
#include <promptiqa/ops/conv2d.hpp>
#include <promptiqa/ops/elementwise.hpp>
#include <promptiqa/ops/linear.hpp>
#include <promptiqa/ops/norm.hpp>
#include <promptiqa/ops/pool.hpp>
#include <promptiqa/ops/rearrange.hpp>
#include <promptiqa/ops/softmax.hpp>
