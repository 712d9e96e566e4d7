// Everything of the data folder that a program trains or evaluates with. Opt-in like image/file.hpp: header-only use
// needs stb_image and stb_image_write.
// Surprising choice: MAT files are not among it; only the readers of published data sets use them.
#pragma once

#include <promptiqa/data/csv.hpp>
#include <promptiqa/data/dataset.hpp>
#include <promptiqa/data/distortions.hpp>
#include <promptiqa/data/image_cache.hpp>
#include <promptiqa/data/prefetch.hpp>
#include <promptiqa/data/split.hpp>
#include <promptiqa/data/synthesis.hpp>
#include <promptiqa/data/training_set.hpp>
