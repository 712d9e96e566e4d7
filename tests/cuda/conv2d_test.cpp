// Convolution and its gradients on a device, in every kind of arithmetic, over awkward geometries.
// Surprising choice: everything is compared with the CPU's double kernels on the same inputs, within error bounds.
#include "../../kernels/conv2d_channels.hpp"
#include "products.hpp"

using namespace promptiqa_test;

namespace {

using std::int64_t;

Conv2dGeometry geometry(int64_t batch, int64_t in, int64_t h, int64_t w, int64_t out, int64_t kh, int64_t kw,
                        int64_t sh, int64_t sw, int64_t ph, int64_t pw) {
  return {batch, in, h, w, out, (h + 2 * ph - kh) / sh + 1, (w + 2 * pw - kw) / sw + 1, kh, kw, sh, sw, ph, pw};
}

const std::vector<Conv2dGeometry> geometries = {
    geometry(1, 1, 1, 1, 1, 1, 1, 1, 1, 0, 0),    // the smallest there is
    geometry(2, 3, 17, 19, 5, 3, 3, 2, 2, 1, 1),  // stem: stride 2, padded
    geometry(1, 3, 11, 12, 4, 7, 7, 2, 2, 3, 3),  // more padding than stride
    geometry(1, 2, 9, 10, 3, 5, 5, 3, 2, 4, 3),   // and not the same in both directions
    geometry(3, 5, 9, 11, 7, 3, 3, 1, 1, 1, 1),
    geometry(2, 6, 12, 12, 13, 5, 5, 1, 1, 0, 0),  // no padding
    geometry(1, 3, 24, 16, 9, 8, 8, 8, 8, 0, 0),   // patches
    geometry(1, 3, 18, 19, 9, 8, 8, 8, 8, 0, 0),   // patches, pixels left over at the edge
    geometry(3, 7, 5, 13, 10, 1, 1, 1, 1, 0, 0),   // pointwise
    geometry(2, 7, 9, 9, 3, 1, 1, 2, 2, 0, 0),     // 1 x 1 with stride: the pointwise path must not be taken
    geometry(1, 2, 4, 4, 3, 1, 1, 1, 1, 1, 1),     // 1 x 1 with padding
    geometry(2, 2, 3, 2, 4, 5, 5, 1, 1, 2, 2),     // kernel larger than the image
    geometry(1, 2, 2, 2, 3, 3, 3, 1, 1, 3, 3),     // pixels that see padding only
    geometry(2, 3, 10, 21, 6, 2, 5, 1, 3, 0, 2),   // nothing square
    geometry(1, 3, 21, 10, 6, 5, 2, 3, 1, 2, 1),
    geometry(1, 2, 30, 1, 4, 3, 1, 1, 1, 1, 0),    // one pixel wide
    geometry(1, 2, 1, 70, 4, 1, 3, 1, 2, 0, 1),    // one pixel high
    geometry(1, 2, 9, 9, 3, 1, 1, 3, 2, 1, 0),     // a kernel smaller than its stride: pixels that no tap meets
    geometry(2, 17, 5, 5, 130, 3, 3, 1, 1, 1, 1),  // more output channels than a tile has rows
    geometry(1, 66, 5, 5, 12, 3, 3, 1, 1, 1, 1),   // many steps, several tiles of taps
    geometry(2, 3, 24, 25, 34, 3, 3, 1, 1, 1, 1),  // several parts of the sum over pixels
};

/// Channels that come in chunks of 16 bytes: tensor cores take copies with their channels last.
const std::vector<Conv2dGeometry> channel_geometries = {
    geometry(2, 8, 9, 7, 16, 3, 3, 1, 1, 1, 1),    // a chunk for each tap
    geometry(2, 16, 8, 8, 24, 3, 3, 1, 1, 1, 1),   // pixels in vectors, of two images in a tile
    geometry(3, 24, 11, 9, 40, 5, 5, 2, 2, 2, 2),  // depth beyond the taps in the last step; classes of pixels
    geometry(1, 40, 6, 10, 72, 3, 2, 1, 1, 0, 1),  // more rows than a low tile has; nothing square
    geometry(2, 72, 4, 6, 136, 3, 1, 1, 1, 1, 0),  // and than a large one has; channels beyond a copy's tile
    geometry(1, 136, 5, 5, 8, 2, 2, 1, 1, 0, 0),   // a depth that is cut into parts, vectors of their sums
    geometry(1, 136, 4, 4, 8, 2, 2, 1, 1, 0, 0),   // and where there are none
    geometry(2, 16, 9, 9, 8, 1, 1, 2, 2, 0, 0),    // 1 x 1 with stride: classes that no tap meets
    geometry(1, 8, 3, 3, 136, 1, 1, 1, 1, 1, 1),   // 1 x 1 with padding; two tiles of rows, not in vectors
    geometry(1, 8, 10, 13, 8, 3, 3, 3, 2, 0, 2),   // two strides
    geometry(1, 8, 3, 2, 16, 5, 5, 1, 1, 4, 4),    // kernel larger than the image
    geometry(1, 8, 2, 2, 8, 3, 3, 1, 1, 3, 3),     // pixels that see padding only
    geometry(1, 8, 1, 150, 16, 1, 3, 1, 1, 0, 1),  // several tiles of pixels
    geometry(3, 8, 2, 2, 8, 3, 3, 1, 1, 1, 1),     // images smaller than a vector
    geometry(2, 16, 20, 20, 8, 3, 3, 1, 1, 1, 1),  // several parts of the sum over pixels
    geometry(1, 64, 12, 12, 128, 3, 3, 1, 1, 1, 1),  // two tiles, whose rows are all there
};
/// Those where not all three do, or not in all types.
const std::vector<Conv2dGeometry> mixed_geometries = {
    geometry(1, 8, 6, 5, 5, 3, 3, 1, 1, 1, 1),    // the result's channels come in no chunks
    geometry(1, 5, 6, 5, 8, 3, 3, 1, 1, 1, 1),    // nor here the picture's
    geometry(2, 12, 6, 6, 20, 3, 3, 1, 1, 1, 1),  // chunks of floats only
    geometry(2, 16, 5, 5, 24, 1, 1, 1, 1, 0, 0),  // pointwise: the gradient of the weight alone
};

std::string name_of(const Conv2dGeometry& g) {
  std::string text;
  for (int64_t n : {g.batch, g.in_channels, g.in_h, g.in_w, g.out_channels, g.kernel_h, g.kernel_w, g.stride_h,
                    g.stride_w, g.pad_h, g.pad_w})
    text += std::to_string(n) + " ";
  return text;
}

struct Result {
  Numbers plain, unit, in_place, packed, dx, dweight, dbias, dweight_alone;
  std::uint64_t launches[4];  // of plain, packed, dx, dweight_alone; on a real device 0
};

std::uint64_t launches_so_far() {
#if PROMPTIQA_TEST_ON_DEVICE
  return 0;
#else
  return emulation::launches();
#endif
}

/// Runs everything. `absolute_values`: on the inputs' absolute values and without relu, for error bounds.
template <class T, class In>
Result run(const Conv2dGeometry& g, const KernelTable<T>& table, const KernelContext& kc, bool absolute_values) {
  using A = accumulate_t<T>;
  const auto draw = [&](int64_t count, std::uint32_t seed) {
    const Numbers n = numbers<In>(count, seed);
    return absolute_values ? absolute(n) : n;
  };
  const int64_t x_size = g.batch * g.in_channels * g.in_h * g.in_w,
                y_size = g.batch * g.out_channels * g.out_h * g.out_w;
  const int64_t w_size = g.out_channels * g.in_channels * g.kernel_h * g.kernel_w;
  const Activation relu = absolute_values ? Activation::none : Activation::relu;
  const Buffer<T> x(draw(x_size, 1)), w(draw(w_size, 2)), dy(draw(y_size, 3)), residual(draw(y_size, 4)), y(y_size);
  const Buffer<A> bias(draw(g.out_channels, 5)), scale(draw(g.out_channels, 6)), dbias(g.out_channels);
  const Buffer<T> in_place(draw(y_size, 4)), dx(x_size), dw(w_size), dw_alone(w_size);
  Result r;
  std::uint64_t before = launches_so_far();
  const auto count = [&](int i) { r.launches[i] = launches_so_far() - before; };
  table.conv2d(kc, {g, x.data(), w.data(), nullptr, y.data()});
  count(0);
  r.plain = y.values();
  table.conv2d(kc, {g, x.data(), w.data(), bias.data(), y.data(), nullptr, residual.data(), relu});
  r.unit = y.values();
  table.conv2d(kc, {g, x.data(), w.data(), nullptr, in_place.data(), nullptr, in_place.data(), relu});
  r.in_place = in_place.values();
  const std::size_t bytes = table.packed_conv2d_bytes(g.out_channels, g.in_channels, g.kernel_h, g.kernel_w);
  const StorageRef packed =
      (sizeof(T) == 8 && kc.memory == exact().kernel_context().memory ? exact() : device_context())
          .memory()
          .allocate(bytes);
  table.pack_conv2d(kc, {g.out_channels, g.in_channels, g.kernel_h, g.kernel_w, w.data(), scale.data(), packed->data});
  before = launches_so_far();
  table.conv2d(kc, {g, x.data(), nullptr, bias.data(), y.data(), packed->data});
  count(1);
  r.packed = y.values();
  before = launches_so_far();
  table.conv2d_backward_data(kc, {g, dy.data(), w.data(), dx.data()});
  count(2);
  r.dx = dx.values();
  table.conv2d_backward_weight(kc, {g, dy.data(), x.data(), dw.data(), dbias.data()});
  r.dweight = dw.values();
  r.dbias = dbias.values();
  before = launches_so_far();
  table.conv2d_backward_weight(kc, {g, dy.data(), x.data(), dw_alone.data(), nullptr});
  count(3);
  r.dweight_alone = dw_alone.values();
  return r;
}

/// Which kernels ran, told by their number: one and two where operands are gathered as they lie, more where they are
/// copied before. A product of pixels is no launch, or one more where something is added.
template <class T>
void check_launches(const Path& path, const Conv2dGeometry& g, const Result& r) {
#if !PROMPTIQA_TEST_ON_DEVICE
  const bool parts = r.launches[0] > 3;  // of the depth, added by one more
  if (cuda::conv2d_on_channels<T>(path.traits, g)) {
    CHECK((r.launches[0] == 3 || r.launches[0] == 4));  // x, weight, product
    const bool packed = cuda::packs_channels<T>(g.in_channels, g.kernel_h, g.kernel_w);
    CHECK(r.launches[1] == (packed ? 2u : 3u) + (parts ? 1u : 0u));
  } else if (!cuda::pointwise(g)) {
    CHECK(r.launches[0] == 1);
    CHECK(r.launches[1] == 1);
  }
  if (cuda::conv2d_data_on_channels<T>(path.traits, g))
    CHECK((r.launches[2] == 3 || r.launches[2] == 4));
  else if (!cuda::pointwise(g))
    CHECK(r.launches[2] == 1);
  CHECK(r.launches[3] == (cuda::conv2d_weight_on_channels<T>(path.traits, g) ? 4 : 2));
#else
  (void)path, (void)g, (void)r;
#endif
}

template <class T>
void check(const Path& path, const Conv2dGeometry& g) {
  if (!can_be_given(path.traits, sizeof(T))) return;
  INFO(path.name << ", " << sizeof(T) << " bytes an element, " << name_of(g));
  const WithTraits traits(path.traits);
  Result got[2];
  for (int i = 0; i < 2; ++i) {
    const InOrder order(i == 0 ? emulation::Order::forward : emulation::Order::reverse);
    got[i] = run<T, T>(g, cuda::kernel_table<T>(), device_context().kernel_context(), false);
  }
  check_launches<T>(path, g, got[0]);
  const Result want = run<double, T>(g, exact().kernels<double>(), exact().kernel_context(), false);
  const Result size = run<double, T>(g, exact().kernels<double>(), exact().kernel_context(), true);
  const double store = epsilon_of<T> / 2, sum = epsilon_of<accumulate_t<T>> / 2;
  const auto compare = [&](const char* what, Numbers Result::*part, int64_t terms, double operand_error) {
    INFO(what);
    CHECK((got[0].*part == got[1].*part));
    const double unit = operand_error + sum * static_cast<double>(terms + 3);
    CHECK(worst_ratio(got[0].*part, want.*part, size.*part, unit, store) <= 1);
  };
  // bfloat16 operands are what they are; TF32 rounds them (bf16's operand_error is of sums that become operands).
  const double operand = path.traits.tf32 ? blas_tf32_error : 0;
  const int64_t depth = g.in_channels * g.kernel_h * g.kernel_w, pixels = g.batch * g.out_h * g.out_w;
  compare("y", &Result::plain, depth, operand);
  compare("y of a residual unit", &Result::unit, depth, operand);
  compare("y over its residual", &Result::in_place, depth, operand);
  compare("y of a packed weight", &Result::packed, depth, operand + (sizeof(T) == 2 ? 0x1p-8 : 2 * sum));
  compare("dx", &Result::dx, g.out_channels * g.kernel_h * g.kernel_w, operand);
  compare("dweight", &Result::dweight, pixels, operand);
  compare("dbias", &Result::dbias, pixels, 0);
  CHECK((got[0].dweight == got[0].dweight_alone));
}

}  // namespace

TEST_CASE("convolutions in plain arithmetic", "[cuda]") {
  for (const Conv2dGeometry& g : geometries) check<float>(plain, g);
}

TEST_CASE("convolutions in plain arithmetic, double and widened bfloat16", "[cuda]") {
  for (const std::size_t i : {1u, 4u, 6u, 11u, 15u}) {
    check<double>(plain, geometries[i]);
    check<bfloat16>(plain, geometries[i]);
  }
}

TEST_CASE("convolutions on tensor cores", "[cuda]") {
  for (const Conv2dGeometry& g : geometries) check<bfloat16>(bf16_tensor_cores, g);
  for (const std::size_t i : {0u, 1u, 2u, 6u, 12u, 16u}) check<float>(tf32_tensor_cores, geometries[i]);
}

TEST_CASE("convolutions on tensor cores, channels in chunks", "[cuda]") {
  for (const Conv2dGeometry& g : channel_geometries) {
    INFO(name_of(g));
    REQUIRE(cuda::conv2d_on_channels<bfloat16>(bf16_tensor_cores.traits, g));
    REQUIRE(cuda::conv2d_data_on_channels<bfloat16>(bf16_tensor_cores.traits, g));
    REQUIRE(cuda::conv2d_weight_on_channels<bfloat16>(bf16_tensor_cores.traits, g));
    REQUIRE(cuda::conv2d_on_channels<float>(tf32_tensor_cores.traits, g));
    REQUIRE_FALSE(cuda::conv2d_on_channels<float>(bf16_tensor_cores.traits, g));
    REQUIRE_FALSE(cuda::conv2d_on_channels<bfloat16>(plain.traits, g));
    REQUIRE_FALSE(cuda::conv2d_on_channels<double>(tf32_tensor_cores.traits, g));
    check<bfloat16>(bf16_tensor_cores, g);
    check<float>(tf32_tensor_cores, g);
  }
}

TEST_CASE("convolutions of warpgroups", "[cuda]") {
  for (const std::size_t i : {1u, 2u, 3u, 4u, 5u, 10u, 12u}) {
    const std::uint64_t before = warpgroup_products();
    check<bfloat16>(wgmma_tensor_cores, channel_geometries[i]);
    CHECK(warpgroup_products() > before);
  }
  // Tiles of 64, 128 and 256 rows, the last of them not full; and the tile that little shared memory leaves.
  for (const int64_t channels : {64, 128, 136, 264})
    check<bfloat16>(wgmma_tensor_cores, geometry(1, 8, 12, 12, channels, 2, 2, 1, 1, 1, 0));
  Path small = wgmma_tensor_cores;
  small.traits.shared_bytes = cuda::conv2d_channels_shared_bytes;
  check<bfloat16>(small, geometry(1, 8, 12, 12, 264, 2, 2, 1, 1, 1, 0));
}

TEST_CASE("convolutions on tensor cores, channels in chunks for some", "[cuda]") {
  const cuda::DeviceTraits traits = bf16_tensor_cores.traits;
  const auto on_channels = [&](const Conv2dGeometry& g) {
    return std::vector<bool>{cuda::conv2d_on_channels<bfloat16>(traits, g),
                             cuda::conv2d_data_on_channels<bfloat16>(traits, g),
                             cuda::conv2d_weight_on_channels<bfloat16>(traits, g)};
  };
  CHECK((on_channels(mixed_geometries[0]) == std::vector<bool>{true, false, false}));
  CHECK((on_channels(mixed_geometries[1]) == std::vector<bool>{false, true, false}));
  CHECK((on_channels(mixed_geometries[2]) == std::vector<bool>{false, false, false}));
  CHECK(cuda::conv2d_on_channels<float>(tf32_tensor_cores.traits, mixed_geometries[2]));
  CHECK((on_channels(mixed_geometries[3]) == std::vector<bool>{false, false, true}));
  for (const Conv2dGeometry& g : mixed_geometries) {
    check<bfloat16>(bf16_tensor_cores, g);
    check<float>(tf32_tensor_cores, g);
  }
}

TEST_CASE("convolutions round the copies of float operands to the nearest TF32", "[cuda]") {
  const Conv2dGeometry g = geometry(1, 4, 1, 1, 4, 1, 2, 1, 1, 0, 1);
  const WithTraits traits(tf32_tensor_cores.traits);
  REQUIRE(cuda::conv2d_weight_on_channels<float>(tf32_tensor_cores.traits, g));
  const KernelTable<float>& table = cuda::kernel_table<float>();
  const KernelContext kc = device_context().kernel_context();
  const double v = 1 + 3 * 0x1p-12, nearest = 1 + 0x1p-10;  // the tensor cores themselves would make it 1
  for (int which = 0; which < 3; ++which) {
    INFO(which);
    const double of_x = which == 0 ? v : 1, of_weight = which == 1 ? v : 1, of_dy = which == 2 ? v : 1;
    Numbers weight(32, 0.0), dy(8, 0.0), dweight(32, 0.0);
    for (std::size_t o = 0; o < 4; ++o) {
      weight[10 * o] = weight[10 * o + 1] = of_weight;  // channel o of row o
      dy[2 * o] = of_dy;                                // the second tap's
      for (std::size_t c = 0; c < 4; ++c) dweight[8 * o + 2 * c + 1] = which == 1 ? 1 : nearest;
    }
    const Buffer<float> x(Numbers(4, of_x)), w(weight), from(dy), y(8), from_packed(8), dx(4), dw(32);
    table.conv2d(kc, {g, x.data(), w.data(), nullptr, y.data()});
    CHECK((y.values() == Numbers(8, which == 2 ? 1 : nearest)));
    const StorageRef packed = device_context().memory().allocate(table.packed_conv2d_bytes(4, 4, 1, 2));
    table.pack_conv2d(kc, {4, 4, 1, 2, w.data(), nullptr, packed->data});
    table.conv2d(kc, {g, x.data(), nullptr, nullptr, from_packed.data(), packed->data});
    CHECK((from_packed.values() == y.values()));
    table.conv2d_backward_data(kc, {g, from.data(), w.data(), dx.data()});
    CHECK((dx.values() == Numbers(4, which == 0 ? 1 : nearest)));
    table.conv2d_backward_weight(kc, {g, from.data(), x.data(), dw.data(), nullptr});
    CHECK((dw.values() == dweight));
  }
}

TEST_CASE("convolutions whose channels come in chunks, without tensor cores or with little shared memory", "[cuda]") {
  check<float>(plain, channel_geometries[0]);
  check<bfloat16>(plain, channel_geometries[0]);
  Path small = bf16_tensor_cores;
  small.traits.shared_bytes = cuda::conv2d_channels_shared_bytes - 1;
  CHECK_FALSE(cuda::conv2d_on_channels<bfloat16>(small.traits, channel_geometries[0]));
  Conv2dGeometry huge = channel_geometries[0];
  huge.pad_h = huge.pad_w = 1 << 20;  // more pixels than 32 bits count
  CHECK_FALSE(cuda::conv2d_on_channels<bfloat16>(bf16_tensor_cores.traits, huge));
  const auto counted = [](int64_t batch, int64_t pad) {
    return cuda::conv2d_on_channels<bfloat16>(bf16_tensor_cores.traits,
                                              geometry(batch, 8, 16, 16, 8, 1, 1, 1, 1, pad, pad));
  };
  CHECK(counted(1 << 20, 1));
  CHECK_FALSE(counted(1 << 22, 0));   // pixels of x with those of padding beside: 2^22 * 17 * 17
  CHECK_FALSE(counted(1 << 16, 64));  // x alone would do: 2^16 * 16 * 81; y has 2^16 * 144 * 209
  CHECK(counted(1 << 14, 64));
}

TEST_CASE("convolutions of tensors that do not begin at whole vectors, channels in chunks", "[cuda]") {
  const Conv2dGeometry g = geometry(1, 16, 4, 4, 16, 3, 3, 1, 1, 1, 1);  // whole vectors otherwise
  const auto run_shifted = [&](const Path& path, auto type) {
    using T = decltype(type);
    if (!can_be_given(path.traits, sizeof(T))) return;
    const WithTraits traits(path.traits);
    const KernelTable<T>& table = cuda::kernel_table<T>();
    const KernelContext kc = device_context().kernel_context();
    const Numbers image = numbers<T>(256, 1), weight = numbers<T>(16 * 144, 2), more = numbers<T>(256, 3);
    std::vector<Numbers> aligned;
    for (int shifted = 0; shifted <= 7; ++shifted) {  // number of the tensor that is shifted; 0: none
      INFO(path.name << ", tensor " << shifted);
      const auto shift = [&](int number) { return number == shifted ? 1 : 0; };
      const Buffer<T> x(image, shift(1)), w(weight, shift(2)), residual(more, shift(3)), y(256, shift(4)),
          dy(more, shift(5)), dx(256, shift(6)), dw(16 * 144, shift(7));
      table.conv2d(kc, {g, x.data(), w.data(), nullptr, y.data(), nullptr, residual.data(), Activation::none});
      table.conv2d_backward_data(kc, {g, dy.data(), w.data(), dx.data()});
      table.conv2d_backward_weight(kc, {g, dy.data(), x.data(), dw.data(), nullptr});
      const std::vector<Numbers> got = {y.values(), dx.values(), dw.values()};
      if (shifted == 0) aligned = got;
      CHECK((got == aligned));
    }
  };
  run_shifted(bf16_tensor_cores, bfloat16());
  run_shifted(wgmma_tensor_cores, bfloat16());
  run_shifted(tf32_tensor_cores, float());
}

TEST_CASE("convolution keeps what is not a number, and writes zeros where there are no images", "[cuda]") {
  const Conv2dGeometry g = geometry(1, 1, 2, 2, 1, 1, 2, 1, 1, 0, 0);
  const Buffer<float> x(Numbers{1, std::nan(""), 2, -3}), w(Numbers{1, 1}), y(2);
  cuda::kernel_table<float>().conv2d(device_context().kernel_context(),
                                     {g, x.data(), w.data(), nullptr, y.data(), nullptr, nullptr, Activation::relu});
  CHECK(std::isnan(y.values()[0]));
  CHECK(y.values()[1] == 0);

  const Conv2dGeometry none = geometry(0, 2, 3, 3, 2, 2, 2, 1, 1, 0, 0);
  const Buffer<float> nothing(0), dw(16);
  const Buffer<float> dbias(2);
  cuda::kernel_table<float>().conv2d_backward_weight(device_context().kernel_context(),
                                                     {none, nothing.data(), nothing.data(), dw.data(), dbias.data()});
  CHECK((dw.values() == Numbers(16, 0.0)));
  CHECK((dbias.values() == Numbers(2, 0.0)));
}
