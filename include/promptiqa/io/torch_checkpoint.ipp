// Bodies of the checkpoint reader: archive -> pickle -> state dict -> tensors.
// Surprising choice: a tensor's arguments are examined only when the state dict refers to it, so an optimiser's state
// beside the weights may hold whatever tensors it likes.
#pragma once

#include <algorithm>
#include <cstring>
#include <optional>

#include <promptiqa/io/pickle.hpp>
#include <promptiqa/io/torch_checkpoint.hpp>
#include <promptiqa/io/zip_archive.hpp>

namespace promptiqa {
namespace detail {

class CheckpointReader {
 public:
  CheckpointReader(std::span<const std::byte> bytes, const std::string& file) : bytes_(bytes), file_(file) {}

  TensorFile read() {
    check_container();
    entries_ = read_zip_directory(bytes_, file_);
    find_prefix();
    const ZipEntry* order = find("byteorder");
    if (order && as_text(order->data) != "little")
      fail("its byte order is " +
           quoted_name(std::string(as_text(order->data.first(std::min<std::size_t>(order->data.size(), 16))))) +
           ", expected 'little'; save it again on a little-endian machine");
    const Pickle pickle = parse_pickle(find("data.pkl")->data, file_);
    return read_state_dict(find_state_dict(*pickle.root));
  }

 private:
  using Kind = PickleValue::Kind;

  [[noreturn]] void fail(const std::string& what) const { throw WeightsError(file_ + ": " + what); }
  [[noreturn]] void fail_tensor(const std::string& name, const std::string& what) const {
    fail("tensor " + quoted_name(name) + ": " + what);
  }
  static std::string_view as_text(std::span<const std::byte> data) {
    return {reinterpret_cast<const char*>(data.data()), data.size()};
  }

  void check_container() const {
    const std::string_view text = as_text(bytes_);
    const std::string advice = ": load it with torch.load and save its state dict again with PyTorch 1.6 or later";
    if (text.substr(0, 4) == "PK\x03\x04") return;
    if (text.size() > 262 && text.substr(257, 5) == "ustar")
      fail("a tar archive (PyTorch before 0.1.2 or a bundle)" + advice);
    if (text.substr(0, 1) == "\x80") fail("a plain pickle, as PyTorch before 1.6 wrote" + advice);
    if (text.substr(0, 2) == "\x1f\x8b") fail("compressed with gzip, expected a PyTorch checkpoint: unpack it first");
    fail("expected a PyTorch checkpoint, which begins with 'PK', found something else");
  }

  // The archive's folder: that of its only data.pkl.
  void find_prefix() {
    constexpr std::string_view pickle_name = "/data.pkl";
    const ZipEntry* pickle = nullptr;
    for (const ZipEntry& entry : entries_) {
      if (entry.name.size() <= pickle_name.size() || !entry.name.ends_with(pickle_name)) continue;
      if (pickle)
        fail("it holds two pickles, " + quoted_name(std::string(pickle->name)) + " and " +
             quoted_name(std::string(entry.name)));
      pickle = &entry;
    }
    if (!pickle) fail("a ZIP archive without data.pkl: expected a PyTorch checkpoint");
    prefix_ = std::string(pickle->name.substr(0, pickle->name.size() - pickle_name.size() + 1));
    if (find("constants.pkl")) fail("a TorchScript archive: save the module's state_dict() with torch.save instead");
  }

  const ZipEntry* find(std::string_view name) const {
    const std::string full = prefix_ + std::string(name);
    const auto found = std::lower_bound(entries_.begin(), entries_.end(), full,
                                        [](const ZipEntry& e, const std::string& n) { return e.name < n; });
    return found != entries_.end() && found->name == full ? &*found : nullptr;
  }

  const PickleValue& find_state_dict(const PickleValue& root) const {
    if (root.kind != Kind::dict)
      fail(std::string("expected a dictionary of tensors, found ") + pickle_kind_name(root.kind));
    for (const std::string_view key : {"state_dict", "model"})
      for (std::size_t i = 0; i < root.items.size(); i += 2)
        if (root.items[i]->kind == Kind::text && root.items[i]->text == key && root.items[i + 1]->kind == Kind::dict)
          return *root.items[i + 1];
    return root;
  }

  TensorFile read_state_dict(const PickleValue& dict) const {
    // Repeated names are found before any is copied: a small pickle may refer to one long string many times.
    std::vector<std::string_view> names;
    names.reserve(dict.items.size() / 2);
    for (std::size_t i = 0; i < dict.items.size(); i += 2) {
      if (dict.items[i]->kind != Kind::text)
        fail(std::string("expected names as keys of the state dict, found ") + pickle_kind_name(dict.items[i]->kind));
      names.push_back(dict.items[i]->text);
    }
    std::sort(names.begin(), names.end());
    const auto repeated = std::adjacent_find(names.begin(), names.end());
    if (repeated != names.end()) fail_tensor(std::string(*repeated), "its name occurs twice");

    // When every name has the prefix, removing it cannot make two of them equal.
    constexpr std::string_view parallel = "module.";
    const bool strip =
        std::all_of(names.begin(), names.end(), [&](std::string_view name) { return name.starts_with(parallel); });
    TensorFile result;
    result.path = file_;
    result.tensors.reserve(names.size());
    for (std::size_t i = 0; i < dict.items.size(); i += 2) {
      const std::string_view name = dict.items[i]->text.substr(strip ? parallel.size() : 0);
      result.tensors.push_back(read_tensor(std::string(name), *dict.items[i + 1]));
    }
    std::sort(result.tensors.begin(), result.tensors.end(),
              [](const NamedTensor& a, const NamedTensor& b) { return a.name < b.name; });
    return result;
  }

  NamedTensor read_tensor(const std::string& name, const PickleValue& value) const {
    if (value.kind != Kind::tensor)
      fail_tensor(name, std::string("expected a tensor, found ") + pickle_kind_name(value.kind));
    const auto& arguments = value.items[0]->items;  // (storage, offset, size, stride, ...): at least four, see reduce()
    if (arguments[0]->kind != Kind::storage || arguments[1]->kind != Kind::integer ||
        arguments[2]->kind != Kind::sequence || arguments[3]->kind != Kind::sequence)
      fail_tensor(name, "its description has an unknown form");

    NamedTensor tensor;
    tensor.name = name;
    // ('storage', type, key, location, elements): see persistent_id()
    const auto& storage = arguments[0]->items[0]->items;
    tensor.dtype = storage_dtype(name, *storage[1]);
    tensor.shape = read_shape(name, arguments[2]->items);
    check_strides(name, tensor.shape, arguments[3]->items);

    const std::size_t element = dtype_size(tensor.dtype);
    const std::string key = "data/" + std::string(storage[2]->text.substr(0, 0xFFFF));  // a ZIP name's longest
    const ZipEntry* entry = find(key);
    if (!entry) fail_tensor(name, "the archive lacks its storage " + quoted_name(key));
    const std::int64_t elements = storage[4]->integer, offset = arguments[1]->integer;
    if (elements < 0 || static_cast<std::uint64_t>(elements) > entry->data.size() / element)
      fail_tensor(name, "its storage should have " + std::to_string(elements) + " elements of " +
                            dtype_name(tensor.dtype) + ", the archive holds " + std::to_string(entry->data.size()) +
                            " bytes");
    if (offset < 0 || offset > elements || tensor.shape.numel() > elements - offset)
      fail_tensor(name, "shape " + tensor.shape.str() + " at offset " + std::to_string(offset) +
                            " exceeds its storage of " + std::to_string(elements) + " elements");
    tensor.data = entry->data.data() + static_cast<std::size_t>(offset) * element;
    tensor.bytes = static_cast<std::size_t>(tensor.shape.numel()) * element;
    return tensor;
  }

  DType storage_dtype(const std::string& name, const PickleValue& type) const {
    switch (static_cast<PickleGlobal>(type.integer)) {
      case PickleGlobal::float_storage:
        return DType::f32;
      case PickleGlobal::half_storage:
        return DType::f16;
      case PickleGlobal::bfloat16_storage:
        return DType::bf16;
      case PickleGlobal::double_storage:
        return DType::f64;
      case PickleGlobal::long_storage:
        return DType::i64;
      default:
        fail_tensor(name,
                    std::string(type.text) + " is not supported; supported are float, half, bfloat16, double and long");
    }
  }

  Shape read_shape(const std::string& name, const std::vector<const PickleValue*>& size) const {
    if (size.size() > static_cast<std::size_t>(Shape::max_rank))
      fail_tensor(name, "expected at most 6 dimensions, got " + std::to_string(size.size()));
    Shape shape;
    for (const PickleValue* dim : size) {
      if (dim->kind != Kind::integer) fail_tensor(name, "its description has an unknown form");
      try {
        shape.push_back(dim->integer);
      } catch (const ShapeError& error) {
        fail_tensor(name, error.what());
      }
    }
    return shape;
  }

  // Row-major, as PyTorch's is_contiguous() defines it: the stride of a dimension of size 1 is never used.
  void check_strides(const std::string& name, const Shape& shape,
                     const std::vector<const PickleValue*>& strides) const {
    if (strides.size() != static_cast<std::size_t>(shape.rank()))
      fail_tensor(name, "shape " + shape.str() + " has " + std::to_string(strides.size()) + " strides");
    if (shape.numel() == 0) return;
    std::int64_t expected = 1;
    for (int i = shape.rank() - 1; i >= 0; --i) {
      const PickleValue& stride = *strides[static_cast<std::size_t>(i)];
      if (stride.kind != Kind::integer) fail_tensor(name, "its description has an unknown form");
      if (shape[i] != 1 && stride.integer != expected)
        fail_tensor(name, "it is not contiguous (stride " + std::to_string(stride.integer) + " in dimension " +
                              std::to_string(i) + " of shape " + shape.str() + ", expected " +
                              std::to_string(expected) + "): save tensor.contiguous()");
      expected *= shape[i];
    }
  }

  std::span<const std::byte> bytes_;
  const std::string& file_;
  std::vector<ZipEntry> entries_;
  std::string prefix_;  // with its slash
};
}  // namespace detail

PROMPTIQA_INLINE TensorFile parse_torch_checkpoint(std::span<const std::byte> bytes, const std::string& name) {
  return detail::CheckpointReader(bytes, name).read();
}

PROMPTIQA_INLINE TensorFile read_torch_checkpoint(const std::string& path) {
  const std::shared_ptr<const MappedFile> file = MappedFile::open(path);
  TensorFile result = parse_torch_checkpoint(file->bytes(), path);
  result.file = file;
  for (NamedTensor& tensor : result.tensors) tensor.owner = file;
  return result;
}

}  // namespace promptiqa
