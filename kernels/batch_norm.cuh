// Batch norm per channel of (batch, channels, area) and its gradients.
// Surprising choice: a channel's values are cut into a fixed number of parts, a block each; the parts' means and squared
// deviations are merged exactly, so the variance does not cancel although blocks work apart.
#pragma once

#include "launch.cuh"
#include "reduce.cuh"

namespace promptiqa::cuda {

/// Values [begin, end) of a channel that are one block's, numbered over (batch, area).
struct ChannelPart {
  std::int64_t channel, begin, end;
};
/// blockIdx.x = channel * parts + part; parts of equal length but for the last.
PROMPTIQA_DEVICE ChannelPart channel_part(std::int64_t values, int parts) {
  const std::int64_t length = ceil_div(values, parts), part = blockIdx.x % static_cast<unsigned>(parts);
  const std::int64_t begin = part * length, end = begin + length;
  return {blockIdx.x / static_cast<unsigned>(parts), begin < values ? begin : values, end < values ? end : values};
}
/// Where value i of a channel lies.
PROMPTIQA_DEVICE std::int64_t channel_offset(std::int64_t channels, std::int64_t area, std::int64_t channel, std::int64_t i) {
  return (i / area * channels + channel) * area + i % area;
}

/// moments[block] = {mean, sum of squared deviations from it} of the block's values.
template <class T>
__global__ void __launch_bounds__(256) batch_moments_kernel(BatchNormArgs<T> args, int parts, accumulate_t<T>* moments) {
  using A = accumulate_t<T>;
  const ChannelPart part = channel_part(args.batch * args.area, parts);
  A sum = 0, squares = 0;
  for (std::int64_t i = part.begin + threadIdx.x; i < part.end; i += blockDim.x)
    sum += widen(args.x[channel_offset(args.channels, args.area, part.channel, i)]);
  sum = block_sum(sum);
  const A mean = part.end > part.begin ? sum / static_cast<A>(part.end - part.begin) : A(0);
  for (std::int64_t i = part.begin + threadIdx.x; i < part.end; i += blockDim.x) {
    const A v = widen(args.x[channel_offset(args.channels, args.area, part.channel, i)]) - mean;
    squares += v * v;
  }
  squares = block_sum(squares);
  if (threadIdx.x > 0) return;
  moments[2 * blockIdx.x] = mean;
  moments[2 * blockIdx.x + 1] = squares;
}

/// One thread a channel: the mean and rstd to apply, from the parts' moments or the running statistics, which are
/// updated when training.
template <class T>
__global__ void __launch_bounds__(128) batch_statistics_kernel(BatchNormArgs<T> args, int parts, const accumulate_t<T>* moments,
                                        accumulate_t<T>* applied) {
  using A = accumulate_t<T>;
  const std::int64_t c = std::int64_t{blockIdx.x} * blockDim.x + threadIdx.x;
  if (c >= args.channels) return;
  A mean, variance;
  if (args.training) {
    const std::int64_t values = args.batch * args.area, length = ceil_div(values, parts);
    std::int64_t merged = 0;
    A squares = 0;
    mean = 0;
    for (int part = 0; part < parts; ++part) {
      const std::int64_t left = values - part * length, count = left < length ? left : length;
      if (count <= 0) break;
      const A part_mean = moments[2 * (c * parts + part)], difference = part_mean - mean;
      const A share = static_cast<A>(count) / static_cast<A>(merged + count);
      mean += difference * share;
      squares += moments[2 * (c * parts + part) + 1] + difference * difference * share * static_cast<A>(merged);
      merged += count;
    }
    variance = squares / static_cast<A>(values);
    const A unbiased = values > 1 ? squares / static_cast<A>(values - 1) : variance;
    args.running_mean[c] = (1 - args.momentum) * args.running_mean[c] + args.momentum * mean;
    args.running_var[c] = (1 - args.momentum) * args.running_var[c] + args.momentum * unbiased;
  } else {
    mean = args.running_mean[c];
    variance = args.running_var[c];
  }
  const A rstd = 1 / sqrt(variance + args.eps);
  applied[c] = mean;
  applied[args.channels + c] = rstd;
  if (args.mean) {
    args.mean[c] = mean;
    args.rstd[c] = rstd;
  }
}

/// y = (x - mean) * (rstd * weight) + bias with (mean, rstd) = applied; one thread an element.
template <class T>
__global__ void __launch_bounds__(256) batch_norm_kernel(BatchNormArgs<T> args, const accumulate_t<T>* applied) {
  using A = accumulate_t<T>;
  const std::int64_t i = std::int64_t{blockIdx.x} * blockDim.x + threadIdx.x;
  if (i >= args.batch * args.channels * args.area) return;
  const std::int64_t c = i / args.area % args.channels;
  const A mean = applied[c], factor = applied[args.channels + c] * args.weight[c];
  args.y[i] = narrow<T>((widen(args.x[i]) - mean) * factor + args.bias[c]);
}

/// sums[block] = {sum of dy, sum of dy * xhat} over the block's values.
template <class T>
__global__ void __launch_bounds__(256) batch_norm_sums_kernel(BatchNormBackwardArgs<T> args, int parts, accumulate_t<T>* sums) {
  using A = accumulate_t<T>;
  const ChannelPart part = channel_part(args.batch * args.area, parts);
  const A mean = args.mean[part.channel], rstd = args.rstd[part.channel];
  A sum = 0, dot = 0;
  for (std::int64_t i = part.begin + threadIdx.x; i < part.end; i += blockDim.x) {
    const std::int64_t at = channel_offset(args.channels, args.area, part.channel, i);
    const A dy = widen(args.dy[at]);
    sum += dy;
    dot += dy * ((widen(args.x[at]) - mean) * rstd);
  }
  sum = block_sum(sum);
  dot = block_sum(dot);
  if (threadIdx.x > 0) return;
  sums[2 * blockIdx.x] = sum;
  sums[2 * blockIdx.x + 1] = dot;
}

/// One thread a channel: dbias and dweight, and as totals (2, channels) for dx.
template <class T>
__global__ void __launch_bounds__(128)
    batch_norm_parameters_kernel(BatchNormBackwardArgs<T> args, int parts, const accumulate_t<T>* sums, accumulate_t<T>* totals) {
  using A = accumulate_t<T>;
  const std::int64_t c = std::int64_t{blockIdx.x} * blockDim.x + threadIdx.x;
  if (c >= args.channels) return;
  A sum = 0, dot = 0;
  for (int part = 0; part < parts; ++part) {
    sum += sums[2 * (c * parts + part)];
    dot += sums[2 * (c * parts + part) + 1];
  }
  totals[c] = sum;
  totals[args.channels + c] = dot;
  if (!args.dweight) return;
  args.dbias[c] = sum;
  args.dweight[c] = dot;
}

/// dx = (dy - mean(dy) - xhat * mean(dy * xhat)) * rstd * weight; without the means in evaluation mode (totals null).
template <class T>
__global__ void __launch_bounds__(256) batch_norm_backward_kernel(BatchNormBackwardArgs<T> args, const accumulate_t<T>* totals) {
  using A = accumulate_t<T>;
  const std::int64_t i = std::int64_t{blockIdx.x} * blockDim.x + threadIdx.x;
  if (i >= args.batch * args.channels * args.area) return;
  const std::int64_t c = i / args.area % args.channels;
  const A rstd = args.rstd[c];
  A g = widen(args.dy[i]);
  if (totals) {
    const A n = static_cast<A>(args.batch * args.area), xhat = (widen(args.x[i]) - args.mean[c]) * rstd;
    g = g - totals[c] / n - xhat * (totals[args.channels + c] / n);
  }
  args.dx[i] = narrow<T>(g * (rstd * args.weight[c]));
}

}  // namespace promptiqa::cuda
