// Scaled dot-product attention and its gradients as plain loops: the `eigen` backend's bodies, and the oracle of
// the fast ones.
// Surprising choice: nothing is blocked and one row of scores at a time is kept, so the code reads like the formula.
#pragma once

#include <cmath>
#include <limits>
#include <vector>

#include <promptiqa/core/kernel_table.hpp>
#include <promptiqa/core/thread_pool.hpp>

namespace promptiqa::cpu {

/// scores[j] = scale * q[i] . k[j] for query row i of pair (b, h).
template <class T>
void attention_scores_reference(const AttentionArgs<T>& args, std::int64_t b, std::int64_t h, std::int64_t i,
                                std::vector<T>& scores) {
  const T* q = args.q + b * args.q_batch + h * args.q_head + i * args.q_row;
  for (std::int64_t j = 0; j < args.keys; ++j) {
    const T* k = args.k + b * args.k_batch + h * args.k_head + j * args.k_row;
    T dot = 0;
    for (std::int64_t d = 0; d < args.head_dim; ++d) dot += q[d] * k[d];
    scores[static_cast<std::size_t>(j)] = args.scale * dot;
  }
}

/// o = softmax(scale * q k^T) v; see AttentionArgs.
template <class T>
void attention_reference(const KernelContext& ctx, const AttentionArgs<T>& args) {
  auto& pool = *static_cast<ThreadPool*>(ctx.execution);
  pool.parallel_for(args.batch * args.heads, [&](std::int64_t pair) {
    const std::int64_t b = pair / args.heads, h = pair % args.heads;
    std::vector<T> p(static_cast<std::size_t>(args.keys));
    for (std::int64_t i = 0; i < args.queries; ++i) {
      attention_scores_reference(args, b, h, i, p);
      T largest = -std::numeric_limits<T>::infinity();
      for (const T s : p) largest = s > largest ? s : largest;
      T sum = 0;
      for (T& s : p) sum += s = std::exp(s - largest);
      T* o = args.o + b * args.o_batch + h * args.o_head + i * args.o_row;
      for (std::int64_t d = 0; d < args.head_dim; ++d) o[d] = 0;
      for (std::int64_t j = 0; j < args.keys; ++j) {
        const T* v = args.v + b * args.v_batch + h * args.v_head + j * args.v_row;
        for (std::int64_t d = 0; d < args.head_dim; ++d) o[d] += p[static_cast<std::size_t>(j)] / sum * v[d];
      }
      if (args.log_sum_exp) args.log_sum_exp[pair * args.queries + i] = largest + std::log(sum);
    }
  });
}

/// dq, dk, dv from d_o; see AttentionBackwardArgs. With p = softmax(s), s = scale * q k^T:
/// dv = p^T do, ds = p * (do v^T - sum(do * o)), dq = scale * ds k, dk = scale * ds^T q.
template <class T>
void attention_backward_reference(const KernelContext& ctx, const AttentionBackwardArgs<T>& args) {
  const AttentionArgs<T>& f = args.forward;
  auto& pool = *static_cast<ThreadPool*>(ctx.execution);
  pool.parallel_for(f.batch * f.heads, [&](std::int64_t pair) {
    const std::int64_t b = pair / f.heads, h = pair % f.heads, dim = f.head_dim;
    const std::int64_t q_pair = b * f.q_batch + h * f.q_head, k_pair = b * f.k_batch + h * f.k_head;
    const std::int64_t v_pair = b * f.v_batch + h * f.v_head, o_pair = b * f.o_batch + h * f.o_head;
    std::vector<T> s(static_cast<std::size_t>(f.keys));
    for (std::int64_t j = 0; j < f.keys; ++j)
      for (std::int64_t d = 0; d < dim; ++d)
        args.dk[k_pair + j * f.k_row + d] = args.dv[v_pair + j * f.v_row + d] = 0;

    for (std::int64_t i = 0; i < f.queries; ++i) {
      attention_scores_reference(f, b, h, i, s);
      const T* q = f.q + q_pair + i * f.q_row;
      const T* o = f.o + o_pair + i * f.o_row;
      const T* d_o = args.d_o + o_pair + i * f.o_row;
      T* dq = args.dq + q_pair + i * f.q_row;
      T delta = 0;
      for (std::int64_t d = 0; d < dim; ++d) {
        delta += d_o[d] * o[d];
        dq[d] = 0;
      }
      for (std::int64_t j = 0; j < f.keys; ++j) {
        const T* k = f.k + k_pair + j * f.k_row;
        const T* v = f.v + v_pair + j * f.v_row;
        T* dk = args.dk + k_pair + j * f.k_row;
        T* dv = args.dv + v_pair + j * f.v_row;
        const T p = std::exp(s[static_cast<std::size_t>(j)] - f.log_sum_exp[pair * f.queries + i]);
        T dp = 0;
        for (std::int64_t d = 0; d < dim; ++d) {
          dp += d_o[d] * v[d];
          dv[d] += p * d_o[d];
        }
        const T ds = f.scale * p * (dp - delta);
        for (std::int64_t d = 0; d < dim; ++d) {
          dq[d] += ds * k[d];
          dk[d] += ds * q[d];
        }
      }
    }
  });
}

}  // namespace promptiqa::cpu
