// The one include: load a model, encode a prompt, score images.
// Surprising choice: files are not read here; <promptiqa/image/file.hpp> brings the decoders for those who want them.
#pragma once

#include <promptiqa/model/model.hpp>
#include <promptiqa/version.hpp>
