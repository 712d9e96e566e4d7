// promptiqa's side of the comparison with other libraries: makes seeded weights, serves forward passes on request, and
// measures what the processor's multiply-add units can do at most. run.py drives it.
// Surprising choice: it waits for a line on its standard input before every pass, so that one driver can run several
// libraries in turn, seconds apart, and a machine that speeds up or slows down does so for all of them.
#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <cstring>
#include <exception>
#include <iostream>
#include <string>
#include <string_view>
#include <thread>
#include <utility>
#include <vector>

#include <nlohmann/json.hpp>

#include <promptiqa/cpu/kernel_table.hpp>
#include <promptiqa/model.hpp>

#include "service.hpp"

#if PROMPTIQA_X86_64
#include <immintrin.h>
#endif

namespace {

using namespace promptiqa;
using nlohmann::json;
using bench_peers::Clock;
using bench_peers::peak_mb;
using bench_peers::print;
using bench_peers::read;
using bench_peers::seconds_since;

// ---- make ---------------------------------------------------------------------------------------------------------

// What the initial values of a tensor, uniform in +-1/sqrt(inputs), are multiplied by. With them alone every layer
// would shrink its input by 0.58 and all images would get nearly the same score; so linear layers keep the size of
// their inputs, queries and keys stay small enough for attention to look at many tokens, and embeddings show.
float liveliness(const std::string& name, int rank) {
  const auto has = [&](const char* part) { return name.find(part) != std::string::npos; };
  if (has("cls_token") || has("pos_embed")) return 25.0f;
  if (rank < 2) return 1.0f;
  if (has("qConv") || has("kConv")) return 0.7f;
  if (has("c_q") || has("c_k")) return 1.2f;
  if (has("attn.proj") || has("fc2")) return 0.9f;
  return 1.7f;
}

int make(const std::string& file, const std::string& preset, std::uint64_t seed) {
  if (preset != "base" && preset != "compact") throw Error("make: expected base or compact, got '" + preset + "'");
  Context ctx = Context::cpu();
  Model<float> model = Model<float>::create(ctx, preset == "base" ? ModelConfig::base() : ModelConfig::compact(), seed);
  for (const auto& parameter : model.parameters()) {
    Tensor<float> value = parameter.value;
    float* x = value.mutable_data();
    const bool gamma = parameter.name.find("gamma") != std::string::npos;
    const float factor = liveliness(parameter.name, value.rank());
    for (std::int64_t i = 0; i < value.numel(); ++i) x[i] = gamma ? 0.6f : x[i] * factor;
  }
  model.weights_changed();
  model.save(file);
  print({{"file", file}, {"config", preset}, {"seed", seed}});
  return 0;
}

// ---- serve --------------------------------------------------------------------------------------------------------

// The backend of a precision. One that the processor lacks is an error here, not a fall back.
CpuBackend backend_of(const std::string& precision) {
  if (precision == "fp32") return CpuBackend::automatic;
  if (precision == "bf16") return CpuBackend::avx512_bf16;
  if (precision == "int8") return CpuBackend::avx512_int8;
  throw Error("serve: --precision must be fp32, bf16 or int8, got '" + precision + "'");
}

// How many images it takes until the model has formed the merged products of weights that save work on every later
// image. It does so when they have paid; that is at most width / rows images for each attention (model.md section 5).
std::int64_t images_until_merged(const ModelConfig& c) {
  std::int64_t images = 4;
  for (const std::int64_t views : {static_cast<std::int64_t>(c.taps.size()), c.num_mals})
    images = std::max({images, views * c.vit_dim / c.tokens() + 1, views * c.tokens() / c.vit_dim + 1});
  return images;
}

int serve(const std::string& weights, const std::string& io, int threads, const std::string& precision) {
  const CpuBackend backend = backend_of(precision);
  const std::string missing = cpu::missing_instructions(backend);
  if (!missing.empty()) {
    print({{"unavailable", "this processor lacks " + missing}});
    return 0;
  }
  Context ctx = Context::cpu(threads, backend);
  const auto load_start = Clock::now();
  const Model<float> model = Model<float>::load(ctx, weights);
  const double load_s = seconds_since(load_start);
  print({{"load_s", load_s}, {"backend", ctx.kernels<float>().name}, {"threads", threads}});

  const TensorFile file = read_tensor_file(io);
  const Tensor<float> image = read(ctx, file, "image"), prompt = read(ctx, file, "prompt_features");
  const std::int64_t batch = image.dim(0), n = prompt.dim(0), width = prompt.dim(1);
  const auto forward = [&] {
    const Tensor<float> feature = model.image_features(ctx, image);
    const Tensor<float> fused = model.fuse_prompt(ctx, prompt.reshape({1, n, width}));
    return sigmoid(ctx, model.logits(ctx, feature, expand(ctx, fused, 0, batch)));
  };

  const auto first_start = Clock::now();
  forward();
  const double first_s = seconds_since(first_start);
  double merging_s = 0;  // the pass that forms the products is the slowest of these
  for (std::int64_t seen = batch; seen < images_until_merged(model.config()) + 1; seen += batch) {
    const auto start = Clock::now();
    forward();
    merging_s = std::max(merging_s, seconds_since(start));
  }
  print({{"ready", true}, {"first_s", first_s}, {"merging_s", merging_s}});

  for (std::string line; std::getline(std::cin, line);) {
    if (line != "run") throw Error("serve: expected the line 'run', got '" + line + "'");
    const auto start = Clock::now();
    const Tensor<float> score = forward();
    const double seconds = seconds_since(start);
    print({{"seconds", seconds},
           {"score", std::vector<float>(score.values().begin(), score.values().end())},
           {"peak_mb", peak_mb()}});
  }
  return 0;
}

// ---- peak ---------------------------------------------------------------------------------------------------------

#if PROMPTIQA_X86_64
// Each function below runs `rounds` rounds of multiply-adds whose results do not wait for each other: enough of them
// (12 to 16) to hide the latency of every unit, few enough to stay in registers. Returns a sum that depends on all, so
// that nothing is optimised away.
PROMPTIQA_TARGET_AVX2 float multiply_add_avx2(std::int64_t rounds, float start) {
  constexpr int chains = 12;
  const __m256 factor = _mm256_set1_ps(0.5f + start), term = _mm256_set1_ps(start);
  __m256 sums[chains];
  for (int i = 0; i < chains; ++i) sums[i] = _mm256_set1_ps(static_cast<float>(i));
  for (std::int64_t round = 0; round < rounds; ++round)
#pragma GCC unroll 16
    for (int i = 0; i < chains; ++i) sums[i] = _mm256_fmadd_ps(sums[i], factor, term);
  float all = 0;
  for (int i = 0; i < chains; ++i) all += _mm256_cvtss_f32(sums[i]);
  return all;
}

PROMPTIQA_TARGET_AVX512 float multiply_add_avx512(std::int64_t rounds, float start) {
  constexpr int chains = 16;
  const __m512 factor = _mm512_set1_ps(0.5f + start), term = _mm512_set1_ps(start);
  __m512 sums[chains];
  for (int i = 0; i < chains; ++i) sums[i] = _mm512_set1_ps(static_cast<float>(i));
  for (std::int64_t round = 0; round < rounds; ++round)
#pragma GCC unroll 16
    for (int i = 0; i < chains; ++i) sums[i] = _mm512_fmadd_ps(sums[i], factor, term);
  float all = 0;
  for (int i = 0; i < chains; ++i) all += _mm512_cvtss_f32(sums[i]);
  return all;
}

PROMPTIQA_TARGET_AVX512_BF16 float multiply_add_bf16(std::int64_t rounds, float start) {
  constexpr int chains = 16;
  const __m512i bits = _mm512_set1_epi32(start > 1 ? 0x3f803f80 : 0x3f003f00);  // pairs of bfloat16
  __m512bh a, b;
  std::memcpy(&a, &bits, sizeof a);
  std::memcpy(&b, &bits, sizeof b);
  __m512 sums[chains];
  for (int i = 0; i < chains; ++i) sums[i] = _mm512_set1_ps(static_cast<float>(i));
  for (std::int64_t round = 0; round < rounds; ++round)
#pragma GCC unroll 16
    for (int i = 0; i < chains; ++i) sums[i] = _mm512_dpbf16_ps(sums[i], a, b);
  float all = 0;
  for (int i = 0; i < chains; ++i) all += _mm512_cvtss_f32(sums[i]);
  return all;
}

// GFLOP/s (a multiply-add is two) of `body` on all threads: the best of several short stretches.
double rate(int threads, double flops_per_round, float (*body)(std::int64_t, float)) {
  constexpr std::int64_t rounds = 20'000'000;
  double best = 0;
  for (int attempt = 0; attempt < 10; ++attempt) {
    std::vector<std::thread> workers;
    std::vector<float> kept(static_cast<std::size_t>(threads));
    const auto start = Clock::now();
    for (float& sum : kept) workers.emplace_back([&sum, body] { sum = body(rounds, 0.25f); });
    for (std::thread& worker : workers) worker.join();
    const double seconds = seconds_since(start);
    if (std::any_of(kept.begin(), kept.end(), [](float sum) { return !std::isfinite(sum); }))
      throw Error("peak: a sum is not finite");
    best = std::max(best, flops_per_round * static_cast<double>(rounds) * threads / seconds / 1e9);
  }
  return best;
}
#endif

int peak(int threads) {
  json line = {{"threads", threads}, {"fp32_gflop_s", nullptr}, {"bf16_gflop_s", nullptr}};
#if PROMPTIQA_X86_64
  if (cpu::missing_instructions(CpuBackend::avx512).empty()) {
    line["fp32_gflop_s"] = rate(threads, 16 * 16 * 2, multiply_add_avx512);
    line["fp32_instructions"] = "avx512";
  } else if (cpu::missing_instructions(CpuBackend::avx2).empty()) {
    line["fp32_gflop_s"] = rate(threads, 12 * 8 * 2, multiply_add_avx2);
    line["fp32_instructions"] = "avx2";
  }
  if (cpu::missing_instructions(CpuBackend::avx512_bf16).empty()) {
    line["bf16_gflop_s"] = rate(threads, 16 * 32 * 2, multiply_add_bf16);
    line["bf16_instructions"] = "avx512_bf16";
  }
#endif
  print(line);
  return 0;
}

// A whole number of at least `least`.
long long number(const std::string& what, const std::string& text, long long least) {
  char* end = nullptr;
  const long long value = std::strtoll(text.c_str(), &end, 10);
  if (text.empty() || *end != '\0' || value < least)
    throw Error(what + ": expected a whole number of at least " + std::to_string(least) + ", got '" + text + "'");
  return value;
}

int run(std::vector<std::string> arguments) {
  std::string precision = "fp32";
  const auto option = std::find(arguments.begin(), arguments.end(), "--precision");
  if (option != arguments.end() && option + 1 != arguments.end()) {
    precision = *(option + 1);
    arguments.erase(option, option + 2);
  }
  const std::string mode = arguments.empty() ? "" : arguments[0];
  if (mode == "make" && arguments.size() == 4)
    return make(arguments[1], arguments[2], static_cast<std::uint64_t>(number("make: SEED", arguments[3], 0)));
  if (mode == "serve" && arguments.size() == 4)
    return serve(arguments[1], arguments[2], static_cast<int>(number("serve: THREADS", arguments[3], 1)), precision);
  if (mode == "peak" && arguments.size() == 2) return peak(static_cast<int>(number("peak: THREADS", arguments[1], 1)));
  std::cerr << "usage: bench_peers_ours make FILE base|compact SEED\n"
               "       bench_peers_ours serve WEIGHTS IO THREADS [--precision fp32|bf16|int8]\n"
               "       bench_peers_ours peak THREADS\n";
  return 2;
}

}  // namespace

int main(int argc, char** argv) {
  try {
    return run(std::vector<std::string>(argv + 1, argv + argc));
  } catch (const std::exception& error) {
    print({{"error", error.what()}});
    std::cerr << "bench_peers_ours: " << error.what() << "\n";
    return 2;
  }
}
