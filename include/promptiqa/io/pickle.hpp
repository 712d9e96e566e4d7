// A pickle reader that can build what a file of weights needs and nothing else.
// Surprising choice: a pickle is a program, and this machine has no instruction that runs anything: a global is only
// an entry of a short allow-list, and "calling" it builds a description.
#pragma once

#include <cstddef>
#include <cstdint>
#include <deque>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include <promptiqa/core/error.hpp>
#include <promptiqa/core/macros.hpp>

namespace promptiqa::detail {

/// The names a checkpoint may refer to.
enum class PickleGlobal {
  ordered_dict,       // collections.OrderedDict
  rebuild_tensor,     // torch._utils._rebuild_tensor_v2
  rebuild_parameter,  // torch._utils._rebuild_parameter
  size,               // torch.Size
  float_storage,      // torch.FloatStorage and so on: the element type of a storage
  half_storage,
  bfloat16_storage,
  double_storage,
  long_storage,
  other_storage  // an element type the library does not compute with
};

/// A value of the machine. What the fields hold depends on the kind.
struct PickleValue {
  enum class Kind {
    none,
    boolean,
    integer,   // integer
    text,      // text: UTF-8 as in the file
    sequence,  // items: a tuple or a list
    dict,      // items: key, value, key, value, ...
    global,    // integer: a PickleGlobal; text: its full name
    storage,   // items: the persistent id, ('storage', global, key, location, number of elements)
    tensor,    // items: one sequence, (storage, offset, size, stride, ...)
    other      // a number, byte string or long integer that no tensor needs
  };
  Kind kind = Kind::none;
  std::int64_t integer = 0;
  std::string_view text = {};
  std::vector<const PickleValue*> items = {};
};

/// The kind in words, for messages: "a dictionary".
const char* pickle_kind_name(PickleValue::Kind kind);

/// A parsed pickle. Values may refer to each other in any way, cycles included, so the pickle owns them all.
struct Pickle {
  std::deque<PickleValue> values;
  const PickleValue* root = nullptr;
};

/// Runs a pickle of protocol 2 to 5. `bytes` must outlive the result. Throws WeightsError, naming the file and the
/// opcode or global, for anything else than the construction of numbers, strings, tuples, lists, dictionaries and
/// tensors, and when it is longer than 64 MB, makes more than a million values or nests more than 256 deep.
Pickle parse_pickle(std::span<const std::byte> bytes, const std::string& file);

}  // namespace promptiqa::detail

#if PROMPTIQA_WITH_BODIES
#include <promptiqa/io/pickle.ipp>
#endif
