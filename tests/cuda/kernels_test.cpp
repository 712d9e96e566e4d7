// The kernels of a device one by one, for float, double and bfloat16, at sizes the op cases are too small for:
// rows longer than registers, sums in several parts, vectors with a tail, addresses that are not aligned.
// Surprising choice: tolerances are counted roundings of the type sums are kept in, against a reference in double; see
// kernel_parity.hpp.
#include <string>

#include "kernel_parity.hpp"

using namespace promptiqa_test;

namespace {

// Awkward row lengths: one vector (of 2, 4 or 8 elements) below, at and above what 1, 2, 4 or 8 vectors a lane hold, and odd.
const std::vector<std::int64_t> row_lengths = {1,   2,   3,   31,  32,  33,  40,  64,  66,   127,  128,  129,  130,  132,  192,  255,
                                               256, 257, 258, 260, 264, 384, 512, 514, 516,  520,  768,  1000, 1024, 1028, 1032, 1500,
                                               2047, 2048, 2056, 3001, 4097, 8200};

/// `unaligned`: which of x, dy and dx is an element behind an aligned address.
void check_layer_norm_backward(std::int64_t rows, std::int64_t columns, bool with_dx, bool with_parameters,
                               int unaligned = -1) {
  check_all("layer_norm_backward " + shape({rows, columns}), 60 + 2 * std::sqrt(static_cast<double>(rows)), 8,
            [&](const auto& t) {
              using T = ELEMENT(t);
              using A = accumulate_t<T>;
              const Buffer<T> x(random_numbers(rows * columns, 1), unaligned == 0),
                  dy(random_numbers(rows * columns, 4), unaligned == 1), dx(rows * columns, unaligned == 2);
              const Buffer<A> weight(positive_numbers(columns, 2)), mean(random_numbers(rows, 5)),
                  rstd(positive_numbers(rows, 6)), dweight(columns), dbias(columns);
              t.kernels.layer_norm_backward(
                  t.context, {rows, columns, x.data(), dy.data(), weight.data(), mean.data(), rstd.data(),
                              with_dx ? dx.data() : nullptr, with_parameters ? dweight.data() : nullptr,
                              with_parameters ? dbias.data() : nullptr});
              Outputs outputs;
              if (with_dx) outputs.push_back(dx.values());
              if (with_parameters) outputs.push_back(dweight.values()), outputs.push_back(dbias.values());
              return outputs;
            });
}

}  // namespace

TEST_CASE("softmax and its gradient of rows of any length", "[cuda]") {
  for (std::int64_t columns : row_lengths)
    for (std::int64_t rows : {1, 5}) {
      for (std::int64_t shift : {0, 1}) {
        check_all("softmax " + shape({rows, columns}), 40, 0, [&](const auto& t) {
          using T = ELEMENT(t);
          const Buffer<T> x(random_numbers(rows * columns, 1), shift), y(rows * columns);
          t.kernels.softmax(t.context, {rows, columns, accumulate_t<T>(1.5), x.data(), y.data()});
          return Outputs{y.values()};
        });
      }
      check_wide("softmax backward " + shape({rows, columns}), 40, 4.0, [&](const auto& t) {
        using T = ELEMENT(t);
        const Buffer<T> y(positive_numbers(rows * columns, 2)), dy(random_numbers(rows * columns, 3)), dx(rows * columns);
        std::vector<double> scaled = y.values();  // a row of y sums to about 1
        for (double& v : scaled) v /= static_cast<double>(columns);
        const Buffer<T> rounded(scaled);
        t.kernels.softmax_backward(t.context, {rows, columns, accumulate_t<T>(0.5), rounded.data(), dy.data(), dx.data()});
        return Outputs{dx.values()};
      });
    }
}

TEST_CASE("softmax and layer norm where one tensor does not begin at a whole vector", "[cuda]") {
  const std::int64_t rows = 5, columns = 24, count = rows * columns;
  for (int unaligned = 0; unaligned < 3; ++unaligned) {
    const auto shift = [&](int number) { return number == unaligned ? 1 : 0; };
    const std::string name = ", tensor " + std::to_string(unaligned);
    check_all("softmax" + name, 40, 0, [&](const auto& t) {
      using T = ELEMENT(t);
      const Buffer<T> x(random_numbers(count, 1), shift(0)), y(count, shift(1));
      t.kernels.softmax(t.context, {rows, columns, accumulate_t<T>(1.5), x.data(), y.data()});
      return Outputs{y.values()};
    });
    check_all("softmax backward" + name, 40, 2 * 1.5 * columns, [&](const auto& t) {  // a row of y sums to about 24
      using T = ELEMENT(t);
      const Buffer<T> y(positive_numbers(count, 2), shift(0)), dy(random_numbers(count, 3), shift(1)),
          dx(count, shift(2));
      t.kernels.softmax_backward(t.context, {rows, columns, accumulate_t<T>(0.5), y.data(), dy.data(), dx.data()});
      return Outputs{dx.values()};
    });
    check_all("layer_norm" + name, 60, 2, [&](const auto& t) {
      using T = ELEMENT(t);
      using A = accumulate_t<T>;
      const Buffer<T> x(random_numbers(count, 1), shift(0)), y(count, shift(1));
      const Buffer<A> weight(positive_numbers(columns, 2)), bias(random_numbers(columns, 3));
      t.kernels.layer_norm(t.context,
                           {rows, columns, A(0.01), x.data(), weight.data(), bias.data(), y.data(), nullptr, nullptr});
      return Outputs{y.values()};
    });
    check_layer_norm_backward(rows, columns, true, true, unaligned);
  }
}

TEST_CASE("softmax in place", "[cuda]") {
  for (std::int64_t columns : {7, 96, 3000})
    check_all("softmax " + shape({3, columns}), 40, 0, [&](const auto& t) {
      using T = ELEMENT(t);
      const Buffer<T> x(random_numbers(3 * columns, 1));
      t.kernels.softmax(t.context, {3, columns, accumulate_t<T>(1), x.data(), x.data()});
      return Outputs{x.values()};
    });
}

TEST_CASE("layer norm of rows of any length", "[cuda]") {
  for (std::int64_t columns : row_lengths)
    for (std::int64_t rows : {1, 6})
      for (std::int64_t shift : {0, 1})
        check_all("layer_norm " + shape({rows, columns}), 60, 2, [&](const auto& t) {
          using T = ELEMENT(t);
          using A = accumulate_t<T>;
          const Buffer<T> x(random_numbers(rows * columns, 1), shift), y(rows * columns);
          const Buffer<A> weight(positive_numbers(columns, 2)), bias(random_numbers(columns, 3)), mean(rows), rstd(rows);
          t.kernels.layer_norm(t.context, {rows, columns, A(0.01), x.data(), weight.data(), bias.data(), y.data(),
                                           mean.data(), rstd.data()});
          t.kernels.layer_norm(t.context, {rows, columns, A(0.01), x.data(), weight.data(), bias.data(), y.data(),
                                           nullptr, nullptr});
          return Outputs{y.values(), mean.values(), rstd.values()};
        });
}

TEST_CASE("gradients of layer norm for rows of any length and number", "[cuda]") {
  for (std::int64_t columns : row_lengths) check_layer_norm_backward(3, columns, true, true);
  for (std::int64_t rows : {1, 4, 5, 31, 32, 33, 70, 200}) {  // one block of four warps, up to twelve
    check_layer_norm_backward(rows, 24, true, true);
    check_layer_norm_backward(rows, 19, true, true);
  }
  check_layer_norm_backward(70, 2100, true, true);  // several blocks without registers
  check_layer_norm_backward(40, 37, true, false);
  check_layer_norm_backward(40, 37, false, true);
  check_layer_norm_backward(17, 2077, true, false);
  check_layer_norm_backward(17, 2077, false, true);
}

TEST_CASE("batch norm of channels in one part and in several", "[cuda]") {
  struct Size {
    std::int64_t batch, channels, area;
  };
  for (const Size s :
       {Size{3, 4, 5}, Size{2, 2, 4100}, Size{1, 1, 12289}, Size{8200, 1, 1}, Size{2, 130, 3}, Size{1, 3, 1}})
    for (bool training : {true, false}) {
      check_wide("batch_norm " + shape({s.batch, s.channels, s.area}), 150, 2, [&](const auto& t) {
        using T = ELEMENT(t);
        using A = accumulate_t<T>;
        const std::int64_t count = s.batch * s.channels * s.area;
        std::vector<double> values = random_numbers(count, 1);
        for (double& v : values) v += 8;  // a mean that is large beside the deviations
        const Buffer<T> x(values), y(count);
        const Buffer<A> weight(positive_numbers(s.channels, 2)), bias(random_numbers(s.channels, 3)),
            running_mean(random_numbers(s.channels, 4)), running_var(positive_numbers(s.channels, 5)), mean(s.channels),
            rstd(s.channels);
        t.kernels.batch_norm(t.context, {s.batch, s.channels, s.area, A(0.01), A(0.25), training, x.data(), weight.data(),
                                         bias.data(), running_mean.data(), running_var.data(), y.data(), mean.data(),
                                         rstd.data()});
        return Outputs{y.values(), running_mean.values(), running_var.values(), mean.values(), rstd.values()};
      });
      for (bool parameters : {true, false})
        check_all("batch_norm_backward " + shape({s.batch, s.channels, s.area}),
                  60 + std::sqrt(static_cast<double>(s.batch * s.area)), 16, [&](const auto& t) {
                    using T = ELEMENT(t);
                    using A = accumulate_t<T>;
                    const std::int64_t count = s.batch * s.channels * s.area;
                    const Buffer<T> x(random_numbers(count, 1)), dy(random_numbers(count, 6)), dx(count);
                    const Buffer<A> weight(positive_numbers(s.channels, 2)), mean(random_numbers(s.channels, 4)),
                        rstd(positive_numbers(s.channels, 5)), dweight(s.channels), dbias(s.channels);
                    t.kernels.batch_norm_backward(
                        t.context, {s.batch, s.channels, s.area, training, x.data(), dy.data(), weight.data(),
                                    mean.data(), rstd.data(), dx.data(), parameters ? dweight.data() : nullptr,
                                    parameters ? dbias.data() : nullptr});
                    Outputs outputs{dx.values()};
                    if (parameters) outputs.push_back(dweight.values()), outputs.push_back(dbias.values());
                    return outputs;
                  });
    }
}

TEST_CASE("batch norm without statistics to keep", "[cuda]") {
  check_all("batch_norm", 60, 2, [&](const auto& t) {
    using T = ELEMENT(t);
    using A = accumulate_t<T>;
    const Buffer<T> x(random_numbers(2 * 3 * 7, 1)), y(2 * 3 * 7);
    const Buffer<A> weight(positive_numbers(3, 2)), bias(random_numbers(3, 3)), running_mean(random_numbers(3, 4)),
        running_var(positive_numbers(3, 5));
    t.kernels.batch_norm(t.context, {2, 3, 7, A(0.01), A(0.25), false, x.data(), weight.data(), bias.data(),
                                     running_mean.data(), running_var.data(), y.data(), nullptr, nullptr});
    return Outputs{y.values(), running_mean.values(), running_var.values()};
  });
}

TEST_CASE("element-wise functions at every tail and alignment", "[cuda]") {
  for (std::int64_t count : {1, 2, 3, 7, 8, 9, 255, 256, 257, 1023, 1025, 2047, 2049, 4099})
    for (std::int64_t shift : {0, 1}) {
      for (UnaryKind kind : {UnaryKind::relu, UnaryKind::gelu, UnaryKind::sigmoid, UnaryKind::scale_shift}) {
        check_all("unary " + std::to_string(static_cast<int>(kind)) + " of " + shape({count}), 16, 0.1, [&](const auto& t) {
          using T = ELEMENT(t);
          using A = accumulate_t<T>;
          const Buffer<T> x(random_numbers(count, 1), shift), y(count, shift);
          t.kernels.unary(t.context, {kind, count, A(0.75), A(-0.5), x.data(), y.data()});
          return Outputs{y.values()};
        });
        check_all("unary_backward " + std::to_string(static_cast<int>(kind)) + " of " + shape({count}), 16, 0.1,
                  [&](const auto& t) {
                    using T = ELEMENT(t);
                    const Buffer<T> x(random_numbers(count, 1), shift), y(positive_numbers(count, 2)),
                        dy(random_numbers(count, 3)), dx(count);
                    t.kernels.unary_backward(
                        t.context, {kind, count, accumulate_t<T>(0.75), x.data(), y.data(), dy.data(), dx.data()});
                    return Outputs{dx.values()};
                  });
      }
      check_all("add_in_place, fill, lerp and dropout of " + shape({count}), 8, 0.5, [&](const auto& t) {
        using T = ELEMENT(t);
        const Buffer<T> x(random_numbers(count, 1), shift), y(random_numbers(count, 2)), z(count, shift), w(random_numbers(count, 3)),
            dropped(count);
        t.kernels.add_in_place(t.context, {count, x.data(), y.data()});
        t.kernels.fill(t.context, {count, from_double<T>(1.75), z.data()});
        t.kernels.lerp(t.context, {count, accumulate_t<T>(0.125), x.data(), w.data()});
        t.kernels.dropout(t.context, {count, 0.25, 12345, x.data(), dropped.data()});
        return Outputs{y.values(), z.values(), w.values(), dropped.values()};
      });
    }
}

TEST_CASE("one step of Adam and of AdamW", "[cuda]") {
  for (std::int64_t count : {1, 255, 257, 1000})
    for (bool decoupled : {false, true})
      check_all("adam_step of " + shape({count}), 16, 0.5, [&](const auto& t) {
        using T = ELEMENT(t);
        using A = accumulate_t<T>;
        const Buffer<T> gradient(random_numbers(count, 1)), parameter(random_numbers(count, 2)), m(random_numbers(count, 3)),
            v(positive_numbers(count, 4));
        t.kernels.adam_step(t.context, {count, A(0.25), A(0.875), A(0.75), A(0.125), A(0.0625), decoupled, A(0.5), A(0.75),
                                        A(0.5), gradient.data(), parameter.data(), m.data(), v.data()});
        return Outputs{parameter.values(), m.values(), v.values()};
      });
}

TEST_CASE("broadcasts, also of operands that advance in steps", "[cuda]") {
  struct Case {
    int rank;
    std::int64_t dims[6], a[6], b[6], a_size, b_size;
  };
  const Case cases[] = {
      {2, {3, 700}, {700, 1}, {0, 1}, 2100, 700},                                     // a bias
      {2, {3, 700}, {700, 1}, {1, 0}, 2100, 3},                                       // a row's constant
      {4, {2, 3, 5, 7}, {105, 35, 7, 1}, {0, 1, 0, 0}, 210, 3},                       // a channel's
      {6, {2, 2, 3, 2, 3, 5}, {90, 0, 30, 15, 5, 1}, {0, 15, 0, 5, 0, 1}, 180, 30},   // both stretch
      {1, {300}, {2, 0, 0, 0, 0, 0}, {3, 0, 0, 0, 0, 0}, 599, 898},                   // steps
      {2, {4, 5}, {0, 0}, {0, 0}, 1, 1},                                              // one number each
      {0, {}, {}, {}, 1, 1},
  };
  for (const Case& c : cases)
    for (BinaryKind kind : {BinaryKind::add, BinaryKind::subtract, BinaryKind::multiply})
      check_all("binary of rank " + std::to_string(c.rank), 4, 0.5, [&](const auto& t) {
        using T = ELEMENT(t);
        std::int64_t count = 1;
        for (int d = 0; d < c.rank; ++d) count *= c.dims[d];
        const Buffer<T> a(random_numbers(c.a_size, 1)), b(random_numbers(c.b_size, 2)), y(count);
        BinaryArgs<T> args = {};
        args.kind = kind;
        args.rank = c.rank;
        for (int d = 0; d < c.rank; ++d) {
          args.dims[d] = c.dims[d];
          args.a_strides[d] = c.a[d];
          args.b_strides[d] = c.b[d];
        }
        args.a = a.data();
        args.b = b.data();
        args.y = y.data();
        t.kernels.binary(t.context, args);
        return Outputs{y.values()};
      });
}

TEST_CASE("sums of one part and of several", "[cuda]") {
  struct Size {
    std::int64_t outer, axis, inner;
  };
  for (const Size s : {Size{3, 5, 1}, Size{5, 33, 1}, Size{2, 8193, 1}, Size{1, 20000, 1}, Size{2, 7, 33}, Size{3, 1025, 5},
                       Size{1, 2600, 70}, Size{9, 1, 4}, Size{2, 3, 32}, Size{1, 1024, 31}})
    // Of n terms in (-1.73, 1.73) the sum is about sqrt(n), its rounding error less than log2(n) + n / 256 roundings of it.
    check_all("sums of " + shape({s.outer, s.axis, s.inner}), 100, std::sqrt(static_cast<double>(s.axis)),
              [&](const auto& t) {
                using T = ELEMENT(t);
                using A = accumulate_t<T>;
                const Buffer<T> x(random_numbers(s.outer * s.axis * s.inner, 1)), y(s.outer * s.inner);
                t.kernels.reduce_sum(t.context, {s.outer, s.axis, s.inner, A(0.25), x.data(), y.data()});
                return Outputs{y.values()};
              });
  for (std::int64_t rows : {1, 9, 1024, 3000})
    check_all("column_sum of " + shape({rows, 37}), 100, 60, [&](const auto& t) {
      using T = ELEMENT(t);
      const Buffer<T> x(random_numbers(rows * 37, 1));
      const Buffer<accumulate_t<T>> y(37);
      t.kernels.column_sum(t.context, {rows, 37, x.data(), y.data()});
      return Outputs{y.values()};
    });
}

TEST_CASE("sums over everything", "[cuda]") {
  for (std::int64_t count : {1, 2, 255, 256, 257, 8191, 8192, 8193, 30000}) {
    check_all("l1_loss and sum_of_squares of " + shape({count}), 16, 0, [&](const auto& t) {
      using T = ELEMENT(t);
      const Buffer<T> a(random_numbers(count, 1)), b(random_numbers(count, 2)), loss(1);
      const Buffer<double> sum(std::vector<double>{3.5});
      t.kernels.l1_loss(t.context, {count, a.data(), b.data(), loss.data()});
      t.kernels.sum_of_squares(t.context, {count, a.data(), sum.data()});
      return Outputs{loss.values(), sum.values()};
    });
    if (count < 10000)
      check_all("l1_loss_backward of " + shape({count}), 4, 0, [&](const auto& t) {
        using T = ELEMENT(t);
        const Buffer<T> a(random_numbers(count, 1)), b(random_numbers(count, 2)), da(count);
        const Buffer<T> dloss(std::vector<double>{0.75});
        t.kernels.l1_loss_backward(t.context, {count, a.data(), b.data(), dloss.data(), da.data()});
        return Outputs{da.values()};
      });
  }
}

TEST_CASE("copies keep every bit", "[cuda]") {
  struct Rows {
    std::int64_t rows, run, x_stride, y_stride;
  };
  for (const Rows r : {Rows{5, 8, 8, 8}, Rows{5, 8, 24, 16}, Rows{7, 3, 5, 9}, Rows{3, 16, 20, 17}, Rows{3, 16, 19, 24},
                       Rows{1, 2047, 2047, 2047}, Rows{300, 4, 12, 4}, Rows{2, 5, 0, 5}})
    for (std::int64_t shift : {0, 1})
      check_all("copy_rows " + shape({r.rows, r.run, r.x_stride, r.y_stride}), 0.5, 0, [&](const auto& t) {
        using T = ELEMENT(t);
        const Buffer<T> x(random_numbers(std::max(r.rows * r.x_stride, r.run), 1), shift);
        const Buffer<T> y(random_numbers(r.rows * r.y_stride, 2));  // what is not copied to stays
        t.kernels.copy_rows(t.context, {r.rows, r.run, r.x_stride, r.y_stride, x.data(), y.data()});
        return Outputs{y.values()};
      });
  for (std::vector<int> order : {std::vector<int>{1, 0, 2, 3}, {0, 2, 1, 3}, {0, 3, 1, 2}, {3, 1, 2, 0}, {0, 1, 3, 2}, {3, 2, 1, 0}})
    check_all("permute", 0.5, 0, [&](const auto& t) {
      using T = ELEMENT(t);
      PermuteArgs<T> args = {};
      args.rank = 4;
      const std::int64_t dims[] = {3, 33, 2, 66};
      const Buffer<T> x(random_numbers(3 * 33 * 2 * 66, 1)), y(3 * 33 * 2 * 66);
      for (int d = 0; d < 4; ++d) args.dims[d] = dims[d], args.order[d] = order[static_cast<std::size_t>(d)];
      args.x = x.data();
      args.y = y.data();
      t.kernels.permute(t.context, args);
      return Outputs{y.values()};
    });
  check_all("expand", 2, 0, [&](const auto& t) {
    using T = ELEMENT(t);
    const Buffer<T> x(random_numbers(3 * 7, 1)), y(3 * 40 * 7);
    t.kernels.expand(t.context, {3, 40, 7, accumulate_t<T>(0.5), x.data(), y.data()});
    return Outputs{y.values()};
  });
}

TEST_CASE("more indices than one launch takes along", "[cuda]") {
  for (std::int64_t count : {1, 255, 256, 257, 600}) {
    std::vector<std::int64_t> index;  // in the host's memory, as ops have it
    for (std::int64_t j = 0; j < count; ++j) index.push_back(j * 7 % 11);
    check_all("index_select of " + shape({count}), 0.5, 0, [&](const auto& t) {
      using T = ELEMENT(t);
      const Buffer<T> x(random_numbers(2 * 11 * 5, 1)), y(2 * count * 5);
      t.kernels.index_select(t.context, {2, 11, 5, count, index.data(), x.data(), y.data()});
      return Outputs{y.values()};
    });
    // Up to 55 terms a sum.
    check_wide("index_select_backward of " + shape({count}), 55, 8, [&](const auto& t) {
      using T = ELEMENT(t);
      const Buffer<T> dy(random_numbers(2 * count * 5, 2)), dx(2 * 11 * 5);
      t.kernels.index_select_backward(t.context, {2, 11, 5, count, index.data(), dy.data(), dx.data()});
      return Outputs{dx.values()};
    });
  }
}

TEST_CASE("average pooling with incomplete windows", "[cuda]") {
  check_all("avg_pool2d", 20, 0.1, [&](const auto& t) {
    using T = ELEMENT(t);
    const Buffer<T> x(random_numbers(7 * 11 * 13, 1)), y(7 * 3 * 4), dy(random_numbers(7 * 3 * 4, 2)), dx(7 * 11 * 13);
    t.kernels.avg_pool2d(t.context, {7, 11, 13, 3, 4, 3, x.data(), y.data()});
    t.kernels.avg_pool2d_backward(t.context, {7, 11, 13, 3, 4, 3, dy.data(), dx.data()});
    return Outputs{y.values(), dx.values()};
  });
}

#if !PROMPTIQA_TEST_ON_DEVICE
TEST_CASE("nothing is launched for nothing", "[cuda]") {
  const KernelTable<float>& table = cuda::kernel_table<float>();
  const KernelContext context = device_context().kernel_context();
  const std::uint64_t before = emulation::launches();
  float number = 5;
  table.softmax(context, {0, 5, 1, &number, &number});
  table.softmax(context, {5, 0, 1, &number, &number});
  table.layer_norm(context, {0, 5, 1, &number, &number, &number, &number, nullptr, nullptr});
  table.unary(context, {UnaryKind::relu, 0, 1, 0, &number, &number});
  table.fill(context, {0, 1, &number});
  table.copy_rows(context, {0, 5, 5, 5, &number, &number});
  table.copy_rows(context, {5, 0, 5, 5, &number, &number});
  table.expand(context, {2, 0, 3, 1, &number, &number});
  CHECK(emulation::launches() == before);
  CHECK(number == 5);
  // Gradients of parameters are sums of no rows: zero.
  float dweight[3] = {7, 7, 7}, dbias[3] = {7, 7, 7};
  table.layer_norm_backward(context, {0, 3, &number, &number, dbias, &number, &number, nullptr, dweight, dbias});
  for (int i = 0; i < 3; ++i) CHECK(dweight[i] == 0);
  for (int i = 0; i < 3; ++i) CHECK(dbias[i] == 0);
}
#endif
