// Bodies of the restricted pickle machine (opcodes as in Python's pickletools).
// Surprising choice: a tensor keeps a pointer to its arguments instead of a copy, because a small pickle may "call"
// one large tuple a million times.
#pragma once

#include <cstring>
#include <unordered_map>

#include <promptiqa/io/named_tensor.hpp>
#include <promptiqa/io/pickle.hpp>

namespace promptiqa::detail {

PROMPTIQA_INLINE const char* pickle_kind_name(PickleValue::Kind kind) {
  switch (kind) {
    case PickleValue::Kind::none:
      return "None";
    case PickleValue::Kind::boolean:
      return "a boolean";
    case PickleValue::Kind::integer:
      return "an integer";
    case PickleValue::Kind::text:
      return "a string";
    case PickleValue::Kind::sequence:
      return "a tuple or list";
    case PickleValue::Kind::dict:
      return "a dictionary";
    case PickleValue::Kind::global:
      return "a type or function";
    case PickleValue::Kind::storage:
      return "a storage";
    case PickleValue::Kind::tensor:
      return "a tensor";
    default:
      return "a number or byte string";
  }
}

class PickleMachine {
 public:
  PickleMachine(std::span<const std::byte> bytes, const std::string& file)
      : code_(reinterpret_cast<const unsigned char*>(bytes.data())), size_(bytes.size()), file_(file) {}

  Pickle run() {
    if (size_ > code_limit) fail("it is longer than 64 MB");
    if (size_ < 2 || code_[0] != 0x80) fail("expected a pickle of protocol 2 to 5");
    while (step()) {
    }
    return std::move(pickle_);
  }

 private:
  using Kind = PickleValue::Kind;
  static constexpr std::size_t code_limit = 64'000'000, value_limit = 1'000'000, mark_limit = 256;

  [[noreturn]] void fail(const std::string& what) const {
    throw WeightsError(file_ + ": pickle: " + what + " (at byte " + std::to_string(opcode_at_) + ")");
  }
  [[noreturn]] void fail_opcode(unsigned opcode, const std::string& what) const {
    constexpr const char* digits = "0123456789abcdef";
    fail(std::string("opcode 0x") + digits[opcode >> 4] + digits[opcode & 15] + " " + what);
  }

  // ---- reading the code
  const unsigned char* take(std::uint64_t bytes) {
    if (bytes > size_ - position_) fail("it ends in the middle of an instruction");
    const unsigned char* start = code_ + position_;
    position_ += static_cast<std::size_t>(bytes);
    return start;
  }
  template <class T>
  T read() {
    T value;
    std::memcpy(&value, take(sizeof(T)), sizeof(T));
    return value;
  }
  std::string_view take_text(std::uint64_t bytes) {
    const auto* start = reinterpret_cast<const char*>(take(bytes));
    return {start, static_cast<std::size_t>(bytes)};
  }
  std::string_view take_line() {
    const void* newline = std::memchr(code_ + position_, '\n', size_ - position_);
    if (!newline) fail("it ends in the middle of an instruction");
    const std::string_view line =
        take_text(static_cast<std::uint64_t>(static_cast<const unsigned char*>(newline) - (code_ + position_)));
    take(1);
    return line;
  }

  // ---- values and the stack
  PickleValue& make(Kind kind) {
    if (pickle_.values.size() == value_limit) fail("it makes more than a million values");
    PickleValue& value = pickle_.values.emplace_back();
    value.kind = kind;
    return value;
  }
  void push(PickleValue& value) {
    if (stack_.size() == value_limit) fail("its stack grows beyond a million values");
    stack_.push_back(&value);
  }
  void push_integer(Kind kind, std::int64_t integer) {
    PickleValue& value = make(kind);
    value.integer = integer;
    push(value);
  }
  void push_text(std::string_view text) {
    PickleValue& value = make(Kind::text);
    value.text = text;
    push(value);
  }
  // Values below the last mark belong to an outer list: out of reach, as in Python.
  std::size_t floor() const { return marks_.empty() ? 0 : marks_.back(); }
  void need(std::size_t count) const {
    if (stack_.size() - floor() < count) fail("its stack is empty");
  }
  PickleValue& top() const {
    need(1);
    return *stack_.back();
  }
  PickleValue& pop() {
    PickleValue& value = top();
    stack_.pop_back();
    return value;
  }
  PickleValue& pop(Kind kind) {
    PickleValue& value = pop();
    if (value.kind != kind)
      fail(std::string("expected ") + pickle_kind_name(kind) + ", found " + pickle_kind_name(value.kind));
    return value;
  }
  // Moves the last `count` values of the stack behind `items`.
  void move_items(std::size_t count, std::vector<const PickleValue*>& items) {
    need(count);
    items.insert(items.end(), stack_.end() - static_cast<std::ptrdiff_t>(count), stack_.end());
    stack_.resize(stack_.size() - count);
  }
  // How many values lie above the last mark, which is removed.
  std::size_t close_mark() {
    if (marks_.empty()) fail("a mark is missing");
    const std::size_t count = stack_.size() - marks_.back();
    marks_.pop_back();
    return count;
  }
  void make_tuple(std::size_t count) {
    PickleValue& tuple = make(Kind::sequence);
    move_items(count, tuple.items);
    push(tuple);
  }
  void extend(Kind kind, std::size_t count) {
    need(count + 1);
    PickleValue& target = *stack_[stack_.size() - 1 - count];
    if (target.kind != kind)
      fail(std::string("expected ") + pickle_kind_name(kind) + ", found " + pickle_kind_name(target.kind));
    if (kind == Kind::dict && count % 2 != 0) fail("a dictionary key has no value");
    move_items(count, target.items);
  }

  void put(std::uint64_t index) {
    if (memo_.size() == value_limit) fail("its memo grows beyond a million values");
    memo_[index] = &top();
  }
  void get(std::uint64_t index) {
    const auto found = memo_.find(index);
    if (found == memo_.end()) fail("memo " + std::to_string(index) + " was never set");
    push(*found->second);
  }

  // ---- what a checkpoint may name and call
  void push_global(std::string_view module, std::string_view name) {
    struct Allowed {
      std::string_view module, name, full_name;
      PickleGlobal global;
    };
    static constexpr Allowed allowed[] = {
        {"collections", "OrderedDict", "collections.OrderedDict", PickleGlobal::ordered_dict},
        {"torch._utils", "_rebuild_tensor_v2", "torch._utils._rebuild_tensor_v2", PickleGlobal::rebuild_tensor},
        {"torch._utils", "_rebuild_parameter", "torch._utils._rebuild_parameter", PickleGlobal::rebuild_parameter},
        {"torch", "Size", "torch.Size", PickleGlobal::size},
        {"torch", "FloatStorage", "torch.FloatStorage", PickleGlobal::float_storage},
        {"torch", "HalfStorage", "torch.HalfStorage", PickleGlobal::half_storage},
        {"torch", "BFloat16Storage", "torch.BFloat16Storage", PickleGlobal::bfloat16_storage},
        {"torch", "DoubleStorage", "torch.DoubleStorage", PickleGlobal::double_storage},
        {"torch", "LongStorage", "torch.LongStorage", PickleGlobal::long_storage},
        {"torch", "IntStorage", "torch.IntStorage", PickleGlobal::other_storage},
        {"torch", "ShortStorage", "torch.ShortStorage", PickleGlobal::other_storage},
        {"torch", "CharStorage", "torch.CharStorage", PickleGlobal::other_storage},
        {"torch", "ByteStorage", "torch.ByteStorage", PickleGlobal::other_storage},
        {"torch", "BoolStorage", "torch.BoolStorage", PickleGlobal::other_storage},
        {"torch", "ComplexFloatStorage", "torch.ComplexFloatStorage", PickleGlobal::other_storage},
        {"torch", "ComplexDoubleStorage", "torch.ComplexDoubleStorage", PickleGlobal::other_storage},
    };
    for (const Allowed& entry : allowed) {
      if (entry.module != module || entry.name != name) continue;
      PickleValue& value = make(Kind::global);
      value.integer = static_cast<std::int64_t>(entry.global);
      value.text = entry.full_name;
      push(value);
      return;
    }
    fail("global " + quoted_name(std::string(module) + "." + std::string(name)) +
         " is refused: only tensors and plain containers are read and nothing is ever executed; save a state dict");
  }

  void reduce() {
    PickleValue& arguments = pop(Kind::sequence);
    PickleValue& callee = pop(Kind::global);
    const auto& items = arguments.items;
    const auto wrong_arguments = [&] { fail(std::string(callee.text) + " has arguments of an unknown form"); };
    switch (static_cast<PickleGlobal>(callee.integer)) {
      case PickleGlobal::ordered_dict:
        if (!items.empty()) wrong_arguments();
        push(make(Kind::dict));
        return;
      case PickleGlobal::rebuild_tensor: {
        if (items.size() < 4) wrong_arguments();
        PickleValue& tensor = make(Kind::tensor);
        tensor.items.push_back(&arguments);
        push(tensor);
        return;
      }
      case PickleGlobal::rebuild_parameter:
        if (items.empty() || items[0]->kind != Kind::tensor) wrong_arguments();
        push(const_cast<PickleValue&>(*items[0]));  // ours: every value lives in pickle_
        return;
      case PickleGlobal::size:
        if (items.size() != 1 || items[0]->kind != Kind::sequence) wrong_arguments();
        push(const_cast<PickleValue&>(*items[0]));
        return;
      default:
        fail("a storage type is called, " + std::string(callee.text));
    }
  }

  void persistent_id() {
    PickleValue& id = pop(Kind::sequence);
    const auto& items = id.items;
    if (items.size() < 5 || items[0]->kind != Kind::text || items[0]->text != "storage" ||
        items[1]->kind != Kind::global || items[1]->integer < static_cast<std::int64_t>(PickleGlobal::float_storage) ||
        items[2]->kind != Kind::text || items[4]->kind != Kind::integer)
      fail("a persistent id is not that of a storage");
    PickleValue& storage = make(Kind::storage);
    storage.items.push_back(&id);
    push(storage);
  }

  // Executes one instruction; false after STOP.
  bool step() {
    opcode_at_ = position_;
    const unsigned opcode = *take(1);
    switch (opcode) {
      case 0x80: {  // PROTO
        const unsigned protocol = *take(1);
        if (protocol < 2 || protocol > 5)
          fail("expected a pickle of protocol 2 to 5, found " + std::to_string(protocol));
        return true;
      }
      case 0x95:  // FRAME: a hint for buffered readers
        if (read<std::uint64_t>() > size_ - position_) fail("it ends in the middle of a frame");
        return true;
      case '.':  // STOP
        if (!marks_.empty() || stack_.size() != 1) fail("its stack is not empty at the end");
        if (position_ != size_) fail("there are bytes after its end");
        pickle_.root = stack_[0];
        return false;

      case 'N':
        push(make(Kind::none));
        return true;
      case 0x88:
        push_integer(Kind::boolean, 1);
        return true;  // NEWTRUE
      case 0x89:
        push_integer(Kind::boolean, 0);
        return true;  // NEWFALSE
      case 'J':
        push_integer(Kind::integer, read<std::int32_t>());
        return true;  // BININT
      case 'K':
        push_integer(Kind::integer, read<std::uint8_t>());
        return true;  // BININT1
      case 'M':
        push_integer(Kind::integer, read<std::uint16_t>());
        return true;  // BININT2
      case 0x8A:
        long1();
        return true;  // LONG1
      case 'G':
        take(8), push(make(Kind::other));
        return true;  // BINFLOAT
      case 'C':
        take(read<std::uint8_t>()), push(make(Kind::other));
        return true;  // SHORT_BINBYTES
      case 'B':
        take(read<std::uint32_t>()), push(make(Kind::other));
        return true;  // BINBYTES
      case 0x8E:      // BINBYTES8
      case 0x96:
        take(read<std::uint64_t>()), push(make(Kind::other));
        return true;  // BYTEARRAY8
      case 0x8C:
        push_text(take_text(read<std::uint8_t>()));
        return true;  // SHORT_BINUNICODE
      case 'X':
        push_text(take_text(read<std::uint32_t>()));
        return true;  // BINUNICODE
      case 0x8D:
        push_text(take_text(read<std::uint64_t>()));
        return true;  // BINUNICODE8

      case '(':  // MARK
        if (marks_.size() == mark_limit) fail("it nests more than 256 deep");
        marks_.push_back(stack_.size());
        return true;
      case ')':
        make_tuple(0);
        return true;  // EMPTY_TUPLE
      case 0x85:
        make_tuple(1);
        return true;  // TUPLE1
      case 0x86:
        make_tuple(2);
        return true;  // TUPLE2
      case 0x87:
        make_tuple(3);
        return true;  // TUPLE3
      case 't':
        make_tuple(close_mark());
        return true;  // TUPLE
      case ']':
        push(make(Kind::sequence));
        return true;  // EMPTY_LIST
      case 'a':
        extend(Kind::sequence, 1);
        return true;  // APPEND
      case 'e':
        extend(Kind::sequence, close_mark());
        return true;  // APPENDS
      case '}':
        push(make(Kind::dict));
        return true;  // EMPTY_DICT
      case 's':
        extend(Kind::dict, 2);
        return true;  // SETITEM
      case 'u':
        extend(Kind::dict, close_mark());
        return true;  // SETITEMS

      case 'q':
        put(read<std::uint8_t>());
        return true;  // BINPUT
      case 'r':
        put(read<std::uint32_t>());
        return true;  // LONG_BINPUT
      case 0x94:
        put(memo_.size());
        return true;  // MEMOIZE
      case 'h':
        get(read<std::uint8_t>());
        return true;  // BINGET
      case 'j':
        get(read<std::uint32_t>());
        return true;  // LONG_BINGET

      case 'c': {  // GLOBAL
        const std::string_view module = take_line();
        push_global(module, take_line());
        return true;
      }
      case 0x93: {  // STACK_GLOBAL
        const std::string_view name = pop(Kind::text).text;
        push_global(pop(Kind::text).text, name);
        return true;
      }
      case 'Q':
        persistent_id();
        return true;  // BINPERSID
      case 'R':
        reduce();
        return true;  // REDUCE
      case 'b':       // BUILD: the attributes of an OrderedDict (its _metadata)
        pop();
        if (top().kind != Kind::dict)
          fail_opcode(opcode, std::string("sets attributes of ") + pickle_kind_name(top().kind));
        return true;
      default:
        fail_opcode(opcode, "is refused: no file of weights needs it");
    }
  }

  // A little-endian two's complement integer of up to 255 bytes; the long ones (random seeds) only pass through.
  void long1() {
    const std::size_t bytes = read<std::uint8_t>();
    const unsigned char* digits = take(bytes);
    if (bytes > 8) {
      push(make(Kind::other));
      return;
    }
    std::uint64_t value = bytes > 0 && (digits[bytes - 1] & 0x80) ? ~std::uint64_t{0} : 0;
    std::memcpy(&value, digits, bytes);
    push_integer(Kind::integer, static_cast<std::int64_t>(value));
  }

  const unsigned char* code_;
  std::size_t size_, position_ = 0, opcode_at_ = 0;
  const std::string& file_;
  Pickle pickle_;
  std::vector<PickleValue*> stack_;
  std::vector<std::size_t> marks_;
  std::unordered_map<std::uint64_t, PickleValue*> memo_;
};

PROMPTIQA_INLINE Pickle parse_pickle(std::span<const std::byte> bytes, const std::string& file) {
  return PickleMachine(bytes, file).run();
}

}  // namespace promptiqa::detail
