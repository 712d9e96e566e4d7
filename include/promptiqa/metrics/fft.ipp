// Bodies of the Fourier transforms: Stockham's self-sorting passes of radix 2, 4 and odd ones; Bluestein's chirp.
// Surprising choice: an odd radix is computed from sums and differences of opposite inputs in a plain double loop, so
// one body does 3 and 5 as well as a prime like 37, which is still cheaper than a chirp transform.
#pragma once

#include <cmath>
#include <cstdint>
#include <string>
#include <utility>

#include <promptiqa/cpu/simd.hpp>
#include <promptiqa/metrics/fft.hpp>

namespace promptiqa::detail {

inline constexpr int largest_direct_radix = 127;

// exp(-2 pi i numerator / denominator), reduced first so that large numerators lose nothing.
inline void unit_root(std::int64_t numerator, std::int64_t denominator, double& re, double& im) {
  const double angle =
      -2 * 3.14159265358979323846 * static_cast<double>(numerator % denominator) / static_cast<double>(denominator);
  re = std::cos(angle);
  im = std::sin(angle);
}

// The factors of n in the order of the passes, the last one possibly a large prime.
inline std::vector<int> fft_factors(int n) {
  std::vector<int> factors;
  for (; n % 4 == 0; n /= 4) factors.push_back(4);
  for (int factor = 2; factor * factor <= n; ++factor)
    for (; n % factor == 0; n /= factor) factors.push_back(factor);
  if (n > 1) factors.push_back(n);
  return factors;
}

using FftVector = cpu::Simd<double, 32>;
using FftLanes = FftVector::Vector;  // two of them are the eight lanes; without AVX the compiler splits each in two

// a *= b with a complex constant b.
PROMPTIQA_ALWAYS_INLINE void multiply(FftLanes& re, FftLanes& im, double b_re, double b_im) {
  const FftLanes old_re = re;
  re = old_re * b_re - im * b_im;
  im = old_re * b_im + im * b_re;
}

// Where a butterfly of a pass reads (input k at in + k * in_step), writes and what it multiplies output j by.
struct Butterfly {
  const double *in_re, *in_im;
  double *out_re, *out_im;
  std::size_t in_step, out_step;
  const double *twiddle_re, *twiddle_im;
  const double *root_re, *root_im;
  int radix;
};

PROMPTIQA_ALWAYS_INLINE void store_output(const Butterfly& b, int j, FftLanes& re, FftLanes& im) {
  if (j > 0) multiply(re, im, b.twiddle_re[j], b.twiddle_im[j]);
  FftVector::store(b.out_re + static_cast<std::size_t>(j) * b.out_step, re);
  FftVector::store(b.out_im + static_cast<std::size_t>(j) * b.out_step, im);
}

PROMPTIQA_ALWAYS_INLINE void load_input(const Butterfly& b, int k, FftLanes& re, FftLanes& im) {
  FftVector::load(re, b.in_re + static_cast<std::size_t>(k) * b.in_step);
  FftVector::load(im, b.in_im + static_cast<std::size_t>(k) * b.in_step);
}

PROMPTIQA_ALWAYS_INLINE void butterfly_2(const Butterfly& b) {
  FftLanes a_re, a_im, c_re, c_im;
  load_input(b, 0, a_re, a_im);
  load_input(b, 1, c_re, c_im);
  FftLanes sum_re = a_re + c_re, sum_im = a_im + c_im, difference_re = a_re - c_re, difference_im = a_im - c_im;
  store_output(b, 0, sum_re, sum_im);
  store_output(b, 1, difference_re, difference_im);
}

PROMPTIQA_ALWAYS_INLINE void butterfly_4(const Butterfly& b) {
  FftLanes re[4], im[4];
  for (int k = 0; k < 4; ++k) load_input(b, k, re[k], im[k]);
  const FftLanes even_re = re[0] + re[2], even_im = im[0] + im[2], odd_re = re[1] + re[3], odd_im = im[1] + im[3];
  const FftLanes half_re = re[0] - re[2], half_im = im[0] - im[2];
  const FftLanes turned_re = im[1] - im[3], turned_im = re[3] - re[1];  // -i (x1 - x3)
  FftLanes y_re = even_re + odd_re, y_im = even_im + odd_im;
  store_output(b, 0, y_re, y_im);
  y_re = half_re + turned_re, y_im = half_im + turned_im;
  store_output(b, 1, y_re, y_im);
  y_re = even_re - odd_re, y_im = even_im - odd_im;
  store_output(b, 2, y_re, y_im);
  y_re = half_re - turned_re, y_im = half_im - turned_im;
  store_output(b, 3, y_re, y_im);
}

// Radix: 3 or 5, known to the compiler, or 0 for b.radix.
template <int Radix>
PROMPTIQA_ALWAYS_INLINE void butterfly_odd(const Butterfly& b) {
  const int radix = Radix ? Radix : b.radix, half = radix / 2;
  constexpr int room = (Radix ? Radix : largest_direct_radix) / 2 + 1;
  FftLanes sum_re[room], sum_im[room], difference_re[room], difference_im[room], first_re, first_im;
  load_input(b, 0, first_re, first_im);
  FftLanes total_re = first_re, total_im = first_im;
  for (int k = 1; k <= half; ++k) {
    FftLanes low_re, low_im, high_re, high_im;
    load_input(b, k, low_re, low_im);
    load_input(b, radix - k, high_re, high_im);
    sum_re[k] = low_re + high_re, sum_im[k] = low_im + high_im;
    difference_re[k] = low_re - high_re, difference_im[k] = low_im - high_im;
    total_re += sum_re[k], total_im += sum_im[k];
  }
  store_output(b, 0, total_re, total_im);
  for (int j = 1; j <= half; ++j) {
    // x[k] w^jk + x[radix - k] w^-jk = sum[k] Re w^jk + i difference[k] Im w^jk
    FftLanes even_re = first_re, even_im = first_im, odd_re = first_re - first_re, odd_im = odd_re;
    for (int k = 1, jk = j; k <= half; ++k, jk = jk + j < radix ? jk + j : jk + j - radix) {
      even_re += sum_re[k] * b.root_re[jk], even_im += sum_im[k] * b.root_re[jk];
      odd_re -= difference_im[k] * b.root_im[jk], odd_im += difference_re[k] * b.root_im[jk];
    }
    FftLanes y_re = even_re + odd_re, y_im = even_im + odd_im;
    store_output(b, j, y_re, y_im);
    y_re = even_re - odd_re, y_im = even_im - odd_im;
    store_output(b, radix - j, y_re, y_im);
  }
}

// All butterflies of one pass: `count` groups with twiddles of their own, each of `stride` doubles side by side.
template <class Body>
PROMPTIQA_ALWAYS_INLINE void for_each_butterfly(Butterfly b, std::size_t count, std::size_t stride, Body body) {
  Butterfly current = b;
  current.in_step = count * stride;
  current.out_step = stride;
  for (std::size_t p = 0; p < count; ++p) {
    current.twiddle_re = b.twiddle_re + p * static_cast<std::size_t>(b.radix);
    current.twiddle_im = b.twiddle_im + p * static_cast<std::size_t>(b.radix);
    for (std::size_t q = 0; q < stride; q += FftVector::width) {
      const std::size_t in = p * stride + q, out = p * stride * static_cast<std::size_t>(b.radix) + q;
      current.in_re = b.in_re + in, current.in_im = b.in_im + in;
      current.out_re = b.out_re + out, current.out_im = b.out_im + out;
      body(current);
    }
  }
}

PROMPTIQA_ALWAYS_INLINE void run_pass(const Butterfly& b, std::size_t count, std::size_t stride) {
  const auto run = [&](auto body) PROMPTIQA_SIMD_LAMBDA { for_each_butterfly(b, count, stride, body); };
  switch (b.radix) {
    case 2:
      return run([](const Butterfly& f) PROMPTIQA_SIMD_LAMBDA { butterfly_2(f); });
    case 3:
      return run([](const Butterfly& f) PROMPTIQA_SIMD_LAMBDA { butterfly_odd<3>(f); });
    case 4:
      return run([](const Butterfly& f) PROMPTIQA_SIMD_LAMBDA { butterfly_4(f); });
    case 5:
      return run([](const Butterfly& f) PROMPTIQA_SIMD_LAMBDA { butterfly_odd<5>(f); });
    default:
      return run([](const Butterfly& f) PROMPTIQA_SIMD_LAMBDA { butterfly_odd<0>(f); });
  }
}

struct Fft::Chirp {
  std::vector<double> re, im;  // exp(-pi i j^2 / size)
  Fft padded;                  // transform of a length of small factors, at least 2 size - 1
  FftBlock kernel;             // spectrum of the conjugate chirp, divided by the padded length; the lanes are equal
};

PROMPTIQA_INLINE FftBlock::FftBlock(int size)
    : re(static_cast<std::size_t>(size) * lanes), im(re.size()), spare_re(re.size()), spare_im(re.size()) {}

PROMPTIQA_INLINE Fft::Fft(int size) : size_(size) {
  if (size < 1 || size > 1 << 28) throw ShapeError("Fft: the size must be 1 to 2^28, got " + std::to_string(size));
  const std::vector<int> factors = fft_factors(size);
  if (!factors.empty() && factors.back() > largest_direct_radix) {
    int length = 2 * size - 1;
    while (fft_factors(length).back() > 5) ++length;
    Chirp chirp{{}, {}, Fft(length), FftBlock(length)};
    for (int j = 0; j < size; ++j) {
      double re, im;
      unit_root(static_cast<std::int64_t>(j) * j, 2 * static_cast<std::int64_t>(size), re, im);
      chirp.re.push_back(re), chirp.im.push_back(im);
      for (std::size_t lane = 0; lane < FftBlock::lanes; ++lane)
        for (int position : {j, j > 0 ? length - j : 0}) {
          chirp.kernel.re[static_cast<std::size_t>(position) * FftBlock::lanes + lane] = re / length;
          chirp.kernel.im[static_cast<std::size_t>(position) * FftBlock::lanes + lane] = -im / length;
        }
    }
    chirp.padded.forward(chirp.kernel);
    chirp_ = std::make_shared<const Chirp>(std::move(chirp));
    return;
  }
  int length = size;
  for (int radix : factors) {
    Pass pass;
    pass.radix = radix;
    for (int p = 0; p < length / radix; ++p)
      for (int j = 0; j < radix; ++j) {
        pass.twiddle_re.emplace_back(), pass.twiddle_im.emplace_back();
        unit_root(static_cast<std::int64_t>(p) * j, length, pass.twiddle_re.back(), pass.twiddle_im.back());
      }
    for (int j = 0; j < radix; ++j) {
      pass.root_re.emplace_back(), pass.root_im.emplace_back();
      unit_root(j, radix, pass.root_re.back(), pass.root_im.back());
    }
    passes_.push_back(std::move(pass));
    length /= radix;
  }
}

PROMPTIQA_INLINE void Fft::forward(FftBlock& block) const {
  if (chirp_)
    run_chirp(block);
  else
    run_passes(block);
}

PROMPTIQA_INLINE void Fft::inverse(FftBlock& block) const {
  block.re.swap(block.im);  // i conj(x): the forward transform of that is i conj(of the inverse transform)
  forward(block);
  block.re.swap(block.im);
}

PROMPTIQA_INLINE void Fft::run_passes(FftBlock& block) const {
  std::size_t count = static_cast<std::size_t>(size_), stride = FftBlock::lanes;
  for (const Pass& pass : passes_) {
    count /= static_cast<std::size_t>(pass.radix);
    const Butterfly b = {
        block.re.data(),        block.im.data(),        block.spare_re.data(), block.spare_im.data(), 0,         0,
        pass.twiddle_re.data(), pass.twiddle_im.data(), pass.root_re.data(),   pass.root_im.data(),   pass.radix};
#if PROMPTIQA_X86_64
    static const bool avx2 = cpu::Avx2::supported();
    if (avx2)
      cpu::Avx2::run([&]() PROMPTIQA_SIMD_LAMBDA { run_pass(b, count, stride); });
    else
#endif
      cpu::Portable::run([&]() PROMPTIQA_SIMD_LAMBDA { run_pass(b, count, stride); });
    block.re.swap(block.spare_re);
    block.im.swap(block.spare_im);
    stride *= static_cast<std::size_t>(pass.radix);
  }
}

PROMPTIQA_INLINE void Fft::run_chirp(FftBlock& block) const {
  const Chirp& chirp = *chirp_;
  FftBlock padded(chirp.padded.size());
  const auto times_chirp = [&](const FftBlock& from, FftBlock& to) {
    for (std::size_t i = 0; i < block.re.size(); ++i) {
      const double c_re = chirp.re[i / FftBlock::lanes], c_im = chirp.im[i / FftBlock::lanes], x_re = from.re[i];
      to.re[i] = x_re * c_re - from.im[i] * c_im;
      to.im[i] = x_re * c_im + from.im[i] * c_re;
    }
  };
  times_chirp(block, padded);
  chirp.padded.forward(padded);
  for (std::size_t i = 0; i < padded.re.size(); ++i) {
    const double x_re = padded.re[i];
    padded.re[i] = x_re * chirp.kernel.re[i] - padded.im[i] * chirp.kernel.im[i];
    padded.im[i] = x_re * chirp.kernel.im[i] + padded.im[i] * chirp.kernel.re[i];
  }
  chirp.padded.inverse(padded);
  times_chirp(padded, block);
}

}  // namespace promptiqa::detail
