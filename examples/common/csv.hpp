// Comma-separated values: the library's reader, under the names the programs use.
// Surprising choice: parse_float is not among them; number.hpp has it with the rest of the numbers.
#pragma once

#include <promptiqa/data/csv.hpp>

namespace examples {

using promptiqa::column_key;
using promptiqa::csv_field;
using promptiqa::CsvRow;
using promptiqa::parse_csv;
using promptiqa::read_csv;
using promptiqa::trimmed;

}  // namespace examples
