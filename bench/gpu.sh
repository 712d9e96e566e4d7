#!/usr/bin/env bash
# All there is to do on a machine with a CUDA device, in stages of less than ten minutes each, without a network:
#
#   bash bench/gpu.sh [STAGE...] [--dry-run]
#   build      configures and compiles for the device's architecture (see README.md for what it needs)
#   ops        every op case on the device against the CPU, values and gradients
#   golden     golden parity, resized pictures and graphs on the device
#   official   the official size with seeded weights made here: fp32, TF32 and bf16 features against the CPU's
#   sanitize   compute-sanitizer memcheck and racecheck over the op cases
#   bench      two stages: kernels (against copy bandwidth, cuBLAS, cuDNN), models (with and without graphs)
#   peers      the same kernels and models by PyTorch, eager and torch.compile (where python3 has it)
#   report     joins what bench and peers measured: gpu-DATE-DEVICE.json and .md
#   pack       before, on a machine that has them: copies the packages that build needs to build-gpu/deps
# No STAGE: build to report. Results: $OUT or bench/results. Exit status: 0 all passed, 1 something failed, 4 no device.
# Surprising choice: without a device, or with --dry-run, it compiles all, runs the emulated suite and ends with 4:
# what has run on no device must not look as if it had.
set -uo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
source_dir=$(dirname "$here")
work=${PROMPTIQA_GPU_BUILD:-$source_dir/build-gpu}
build=$work/build deps=$work/deps raw=$work/raw
out=${OUT:-$here/results}
python=${PROMPTIQA_GPU_PYTHON:-python3}
jobs=${PROMPTIQA_GPU_JOBS:-$(nproc)}
seconds=570  # of one stage
export PATH=$PATH:/usr/local/cuda/bin:/usr/local/nvidia/bin

stages=() dry_run=0
for argument in "$@"; do
  case $argument in
    --dry-run) dry_run=1 ;;
    bench) stages+=(kernels models) ;;
    build | ops | golden | official | sanitize | kernels | models | peers | report | pack) stages+=("$argument") ;;
    *) sed -n '2,/^# Surprising/p' "${BASH_SOURCE[0]}" | sed 's/^# \{0,1\}//' >&2; exit 2 ;;
  esac
done
[ ${#stages[@]} -gt 0 ] || stages=(build ops golden official sanitize kernels models peers report)

device=$(nvidia-smi --query-gpu=name --format=csv,noheader 2>/dev/null | head -1)
capability=$(nvidia-smi --query-gpu=compute_cap --format=csv,noheader 2>/dev/null | head -1 | tr -d '. ')
[ $dry_run = 0 ] || device=
mkdir -p "$raw" "$out"

say() { printf '== %s\n' "$*"; }

# The headers and libraries that build needs, as Debian lays them out, so that their CMake files find each other.
stage_pack() {
  rm -rf "$deps"
  local package file
  for package in libeigen3-dev nlohmann-json3-dev libstb-dev catch2 libbenchmark-dev libbenchmark1debian; do
    dpkg -L "$package" >/dev/null || { echo "pack: the package $package is not installed" >&2; return 1; }
    dpkg -L "$package" | grep -E '^/usr/(include|lib|share/(cmake|eigen3))' | while read -r file; do
      if [ -f "$file" ] || [ -L "$file" ]; then mkdir -p "$deps$(dirname "$file")" && cp -P "$file" "$deps$file"; fi
    done
  done
  du -sh "$deps"
}

stage_build() {
  local generator=() options=()
  if [ ! -e "$build/CMakeCache.txt" ] && command -v ninja >/dev/null; then generator=(-G Ninja); fi
  # PyTorch brings a cuDNN of its own, for machines where the toolkit has none.
  local theirs
  theirs=$("$python" -c 'import nvidia.cudnn; print(list(nvidia.cudnn.__path__)[0])' 2>/dev/null)
  export CUDNN_PATH=${CUDNN_PATH:-$theirs}
  [ ! -d "$deps/usr" ] || options+=("-DCMAKE_PREFIX_PATH=$deps/usr")
  cmake -S "$source_dir" -B "$build" "${generator[@]}" -DCMAKE_BUILD_TYPE=Release -DPROMPTIQA_CUDA=ON \
    -DCMAKE_CUDA_ARCHITECTURES="${PROMPTIQA_GPU_ARCH:-${capability:-90}}" -DPROMPTIQA_BUILD_EXAMPLES=OFF \
    -DPROMPTIQA_BUILD_TESTS=ON -DPROMPTIQA_BUILD_BENCH=ON -DPROMPTIQA_INSTALL=OFF "${options[@]}" &&
    cmake --build "$build" -j "$jobs" --target test_cuda_device bench_peers_ours || return 1
  # Google Benchmark is the one thing that the tests can do without.
  if cmake --build "$build" --target help | grep -q bench_kernels; then
    cmake --build "$build" -j "$jobs" --target bench_kernels bench_model
  else
    echo "no Google Benchmark: nothing will be measured"
  fi
}

stage_ops() { "$build/tests/test_cuda_device" "[cuda]"; }
stage_golden() { "$build/tests/test_cuda_device" "[golden]"; }
stage_official() {
  local weights=$work/base.safetensors
  [ -s "$weights" ] || "$build/bench/bench_peers_ours" make "$weights" base 7 || return 1
  PROMPTIQA_DEVICE_WEIGHTS=$weights "$build/tests/test_cuda_device" "[official]"
}

stage_sanitize() {
  local tool failed=0
  command -v compute-sanitizer >/dev/null || { echo "no compute-sanitizer: not run"; return 0; }
  for tool in memcheck racecheck; do
    say "compute-sanitizer --tool $tool"
    timeout 280 compute-sanitizer --tool "$tool" --error-exitcode 9 --print-limit 20 \
      "$build/tests/test_cuda_device" "[cuda]" || { echo "$tool: exit status $?"; failed=1; }
  done
  return "$failed"
}

# measure PROGRAM FILTER FILE: the table goes to the console, JSON to the file.
measure() {
  [ -x "$build/bench/$1" ] || { echo "no $1: not run"; return 0; }
  PROMPTIQA_BENCH_THREADS=$jobs "$build/bench/$1" --benchmark_filter="$2" --benchmark_out_format=json \
    --benchmark_out="$raw/$3" && [ -s "$raw/$3" ]
}
stage_kernels() { measure bench_kernels '/(copy|cublas|cudnn|cuda)_' kernels.json; }
stage_models() { measure bench_model '(compact|base)/.*/cuda_' models.json; }

stage_peers() {
  "$python" -c 'import torch' 2>/dev/null || { echo "no PyTorch for $python: not run"; return 0; }
  if [ -x "$build/bench/bench_kernels" ]; then
    "$build/bench/bench_kernels" --benchmark_list_tests --benchmark_filter='/cuda_' >"$raw/names.txt" &&
      "$python" "$here/gpu_torch.py" kernels "$raw/names.txt" "$raw/torch_kernels.json" --seconds 150 || return 1
  fi
  "$python" "$here/gpu_torch.py" models "$raw/torch_models.json" --seconds 340
}

stage_report() {
  if ! command -v "$python" >/dev/null; then
    echo "no $python: what was measured, as it is"
    cp "$raw"/*.json "$out"
    return
  fi
  "$python" "$here/gpu_report.py" "$raw" "$out"
}

# What can be known without a device: that it compiles, and what the emulator computes.
emulated() {
  say "the emulated suite"
  cmake --build "$build" -j "$jobs" --target test_cuda && "$build/tests/test_cuda" &&
    "$build/tests/test_cuda_device" || return 1
  if [ -x "$build/bench/bench_kernels" ]; then
    "$build/bench/bench_kernels" --benchmark_filter='gelu/.*/portable' &&
      "$build/bench/bench_model" --benchmark_list_tests || return 1
  fi
}

run_stage() {
  say "$1 ($(date -u +%H:%M:%S))"
  local start=$SECONDS status=0
  export -f "stage_$1" say measure
  export source_dir here work build deps raw out python jobs capability
  timeout $seconds bash -uo pipefail -c "stage_$1" || status=$?
  [ $status != 124 ] || echo "$1: stopped after $seconds s"
  say "$1: $([ $status = 0 ] && echo passed || echo "FAILED ($status)") in $((SECONDS - start)) s"
  return $status
}

main() {
  local stage failed=0
  if [ -z "$device" ]; then
    seconds=86400  # a laptop may take its time
    for stage in "${stages[@]}"; do
      case $stage in pack | build) run_stage "$stage" || return 1 ;; esac
    done
    [ "${stages[*]}" != pack ] || return 0
    if [[ " ${stages[*]} " != *" build "* ]]; then
      say "no device: nothing was run"
      return 4
    fi
    emulated || { say "FAILED"; return 1; }
    say "no device: compiled and emulated only"
    return 4
  fi
  say "device: $device, compute capability $capability"
  export PROMPTIQA_REQUIRE_DEVICE=1
  for stage in "${stages[@]}"; do
    run_stage "$stage" || failed=1
    [ "$stage" != build ] || [ $failed = 0 ] || return 1
  done
  return $failed
}

main 2>&1 | tee "${OUT:-$work}/gpu.log"
exit "${PIPESTATUS[0]}"
