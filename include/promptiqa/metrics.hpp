// Everything in metrics/: agreement with human scores, full-reference metrics, attributes of a picture.
// Surprising choice: none; it only includes.
#pragma once

#include <promptiqa/metrics/attributes.hpp>
#include <promptiqa/metrics/correlation.hpp>
#include <promptiqa/metrics/full_reference.hpp>
