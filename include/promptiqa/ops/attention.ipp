// Bodies of the attention ops.
// Surprising choice: backward keeps one number per row and head (log-sum-exp) and recomputes the softmax.
#pragma once

#include <promptiqa/ops/attention.hpp>
#include <promptiqa/ops/check.hpp>

namespace promptiqa {

namespace detail {

inline std::int64_t attention_head_dim(const char* op, std::int64_t width, int num_heads) {
  if (num_heads < 1) shape_error(op, "num_heads must be at least 1, got " + std::to_string(num_heads));
  if (width < 1 || width % num_heads != 0)
    shape_error(op, "the width must be a positive multiple of num_heads = " + std::to_string(num_heads) + ", got " +
                        std::to_string(width));
  return width / num_heads;
}

// Arguments for rows of `q_row` (k_row) elements; a batch entry is its rows, a head D neighbouring elements.
template <class T>
AttentionArgs<T> attention_args(std::int64_t batch, std::int64_t heads, std::int64_t queries, std::int64_t keys,
                                std::int64_t head_dim, double scale, std::int64_t q_row, std::int64_t kv_row) {
  AttentionArgs<T> a{};
  a.batch = batch, a.heads = heads, a.queries = queries, a.keys = keys, a.head_dim = head_dim;
  a.scale = static_cast<accumulate_t<T>>(scale);
  a.q_row = q_row, a.q_head = head_dim, a.q_batch = queries * q_row;
  a.k_row = kv_row, a.k_head = head_dim, a.k_batch = keys * kv_row;
  a.v_row = kv_row, a.v_head = head_dim, a.v_batch = keys * kv_row;
  a.o_row = heads * head_dim, a.o_head = head_dim, a.o_batch = queries * a.o_row;
  return a;
}

}  // namespace detail

template <class T>
Tensor<T> attention(Context& ctx, const Tensor<T>& q, const Tensor<T>& k, const Tensor<T>& v, int num_heads,
                    double scale) {
  using A = accumulate_t<T>;
  detail::check_rank("attention", "q", q, 3);
  detail::check_rank("attention", "k", k, 3);
  const std::int64_t batch = q.dim(0), queries = q.dim(1), width = q.dim(2), keys = k.dim(1);
  const std::int64_t head_dim = detail::attention_head_dim("attention", width, num_heads);
  detail::check_shape("attention", "k", k, Shape{batch, keys, width});
  detail::check_shape("attention", "v", v, Shape{batch, keys, width});
  if (keys == 0) detail::shape_error("attention", "k must have at least one row, got shape " + k.shape().str());
  const bool record = detail::recording(ctx, q, k, v);
  Tensor<T> o = ctx.allocate<T>(q.shape(), "attention");
  Tensor<A> lse;
  if (record) lse = ctx.allocate<A>(Shape{batch, num_heads, queries}, "attention");
  AttentionArgs<T> args = detail::attention_args<T>(batch, num_heads, queries, keys, head_dim, scale, width, width);
  args.q = q.data(), args.k = k.data(), args.v = v.data(), args.o = o.mutable_data(),
  args.log_sum_exp = lse.mutable_data();
  ctx.kernels<T>().attention(ctx.kernel_context(), args);
  if (record)
    ctx.tape()->record(o, [tape = ctx.tape(), q, k, v, o, lse, args](Context& c, const Tensor<T>& d_o) {
      Tensor<T> dq = c.allocate<T>(q.shape(), "attention_backward"),
                dk = c.allocate<T>(k.shape(), "attention_backward"),
                dv = c.allocate<T>(v.shape(), "attention_backward");
      c.kernels<T>().attention_backward(c.kernel_context(),
                                        {args, d_o.data(), dq.mutable_data(), dk.mutable_data(), dv.mutable_data()});
      tape->accumulate(c, q, dq);
      tape->accumulate(c, k, dk);
      tape->accumulate(c, v, dv);
    });
  return o;
}

template <class T>
Tensor<T> attention_qkv(Context& ctx, const Tensor<T>& qkv, int num_heads, double scale) {
  using A = accumulate_t<T>;
  detail::check_rank("attention_qkv", "qkv", qkv, 3);
  if (qkv.dim(2) % 3 != 0)
    detail::shape_error("attention_qkv", "the last dimension of qkv must be a multiple of 3, got " + qkv.shape().str());
  const std::int64_t batch = qkv.dim(0), rows = qkv.dim(1), width = qkv.dim(2) / 3;
  const std::int64_t head_dim = detail::attention_head_dim("attention_qkv", width, num_heads);
  const bool record = detail::recording(ctx, qkv);
  Tensor<T> o = ctx.allocate<T>(Shape{batch, rows, width}, "attention_qkv");
  Tensor<A> lse;
  if (record) lse = ctx.allocate<A>(Shape{batch, num_heads, rows}, "attention_qkv");
  AttentionArgs<T> args =
      detail::attention_args<T>(batch, num_heads, rows, rows, head_dim, scale, 3 * width, 3 * width);
  args.q = qkv.data(), args.k = args.q + width, args.v = args.q + 2 * width;
  args.o = o.mutable_data(), args.log_sum_exp = lse.mutable_data();
  ctx.kernels<T>().attention(ctx.kernel_context(), args);
  if (record)
    ctx.tape()->record(o, [tape = ctx.tape(), qkv, o, lse, args, width](Context& c, const Tensor<T>& d_o) {
      Tensor<T> d = c.allocate<T>(qkv.shape(), "attention_backward");
      T* base = d.mutable_data();
      c.kernels<T>().attention_backward(c.kernel_context(), {args, d_o.data(), base, base + width, base + 2 * width});
      tape->accumulate(c, qkv, d);
    });
  return o;
}

}  // namespace promptiqa
