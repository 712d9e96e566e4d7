#!/usr/bin/env bash
# All there is to do on a machine with a CUDA device, in stages of less than ten minutes each, without a network:
#
#   bash bench/gpu.sh [STAGE...] [--dry-run]
#   build      configures and compiles for the device's architecture (see README.md for what it needs)
#   ops        ops, kernels, precisions and training steps on the device against the CPU, values and gradients
#   golden     golden parity, resized pictures and graphs on the device
#   official   the official size with seeded weights made here: fp32, TF32 and bf16 features against the CPU's
#   sanitize   two stages: compute-sanitizer memcheck and racecheck over the tests of ops and golden; another call goes
#              on with the parts that the one before had no time for
#   bench      two stages: kernels (against copy bandwidth, cuBLAS, cuDNN), models (with and without graphs)
#   peers      the same kernels and models by PyTorch, eager and torch.compile (where python3 has it); another call on
#              the same day and device measures what the one before had no time for
#   report     joins what bench and peers measured: gpu-DATE-DEVICE.json and .md; needs no device
#   pack       before, on a machine that has them: copies the packages that build needs to build-gpu/deps
# No STAGE: build to report. Results: $OUT or bench/results; what they are made of: build-gpu/raw and $OUT/raw.
# Exit status: 0 all passed or not run for want of a tool, 1 something failed, 3 nothing failed but sanitize is
# unfinished, 4 no device, 130 interrupted.
# Surprising choice: without a device, or with --dry-run, it compiles all, runs the emulated suite and ends with 4:
# what has run on no device must not look as if it had.
set -uo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
source_dir=$(dirname "$here")
work=${PROMPTIQA_GPU_BUILD:-$source_dir/build-gpu}
build=$work/build deps=$work/deps raw=${PROMPTIQA_GPU_RAW:-$work/raw}
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
    sanitize) stages+=(memcheck racecheck) ;;
    build | ops | golden | official | memcheck | racecheck | kernels | models | peers | report | pack)
      stages+=("$argument") ;;
    *) sed -n '2,/^# Surprising/p' "${BASH_SOURCE[0]}" | sed 's/^# \{0,1\}//' >&2; exit 2 ;;
  esac
done
[ ${#stages[@]} -gt 0 ] || stages=(build ops golden official memcheck racecheck kernels models peers report)

device=$(nvidia-smi --query-gpu=name --format=csv,noheader 2>/dev/null | head -1)
capability=$(nvidia-smi --query-gpu=compute_cap --format=csv,noheader 2>/dev/null | head -1 | tr -d '. ')
[ $dry_run = 0 ] || device=
mkdir -p "$raw/stages" "$out" || exit 1

say() { printf '== %s\n' "$*"; }

# not_run REASON: ends a stage that cannot do its work here, which is neither passed nor failed.
not_run() {
  printf '%s\n' "$*" >"$raw/reason"
  exit 5
}

# unfinished REASON: the same for a stage that another call goes on with.
unfinished() {
  printf '%s\n' "$*" >"$raw/reason"
  exit 6
}

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
  # 90a: wgmma is not in plain 90.
  local generator=() options=() architecture=${PROMPTIQA_GPU_ARCH:-${capability:-90}}
  [ "$architecture" != 90 ] || architecture=90a
  if [ ! -e "$build/CMakeCache.txt" ] && command -v ninja >/dev/null; then generator=(-G Ninja); fi
  # PyTorch brings a cuDNN of its own, for machines where the toolkit has none.
  local theirs
  theirs=$("$python" -c 'import nvidia.cudnn; print(list(nvidia.cudnn.__path__)[0])' 2>/dev/null)
  export CUDNN_PATH=${CUDNN_PATH:-$theirs}
  [ ! -d "$deps/usr" ] || options+=("-DCMAKE_PREFIX_PATH=$deps/usr")
  cmake -S "$source_dir" -B "$build" "${generator[@]}" -DCMAKE_BUILD_TYPE=Release -DPROMPTIQA_CUDA=ON \
    -DPROMPTIQA_CUDA_WERROR=OFF -DCMAKE_CUDA_ARCHITECTURES="$architecture" -DPROMPTIQA_BUILD_EXAMPLES=OFF \
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

# sanitize TOOL: part by part, small ones first, none longer than two shares of what time is left. What has passed is
# kept in TOOL.passed, for a program and device, until all has.
sanitize() {
  local program=$build/tests/test_cuda_device record=$raw/$1.passed head part filter limit status i
  local parts=(gemm extremes resize graph precision training kernels attention conv2d ops golden) bad=() left=()
  command -v compute-sanitizer >/dev/null || not_run "no compute-sanitizer here"
  head="$device, $(cksum <"$program")" || return 1
  [ "$(head -1 "$record" 2>/dev/null)" = "$head" ] || echo "$head" >"$record"
  for i in "${!parts[@]}"; do
    part=${parts[i]} status=124 filter="[#${parts[i]}_test]"  # Catch2's -#: a file's name is a tag of its tests
    ! grep -qx "$part" "$record" || continue
    case $part in resize | graph | golden) filter="[$part]" ;; esac
    [ "$part" != golden ] || filter+="~[resize]~[graph]"
    limit=$((seconds - 20 - SECONDS))
    [ $((${#parts[@]} - i)) -le 2 ] || limit=$((2 * limit / (${#parts[@]} - i)))
    say "compute-sanitizer --tool $1, $part, at most $limit s"
    if [ $limit -ge 5 ]; then
      timeout -k 5 $limit compute-sanitizer --tool "$1" --error-exitcode 9 --print-limit 20 "$program" -# "$filter" |
        tee "$raw/part.log"
      status=${PIPESTATUS[0]}
      # Of a filter that no test has Catch2 says nothing bad.
      [ "$status" != 0 ] || grep -q "All tests passed" "$raw/part.log" || status="no tests"
    fi
    case $status in
      0) echo "$part" >>"$record" ;;
      124 | 137) left+=("$part") ;;
      *) bad+=("$part ($status)") ;;
    esac
  done
  local passed
  passed=$(tail -n +2 "$record" | paste -sd ' ')
  echo "$1: passed: $passed; failed: ${bad[*]-}; not finished: ${left[*]-}"
  [ ${#bad[@]} = 0 ] || return 1
  [ ${#left[@]} = 0 ] || unfinished "no time for ${left[*]}: call again; passed: $passed"
  rm -f "$record"
}
stage_memcheck() { sanitize memcheck; }
stage_racecheck() { sanitize racecheck; }

# measure PROGRAM FILTER FILE: the table goes to the console, JSON to the file.
measure() {
  rm -f "$raw/$3"  # a figure of an earlier run must not stand for this one
  [ -x "$build/bench/$1" ] || not_run "no $1: Google Benchmark was not found when it was to be built"
  PROMPTIQA_BENCH_THREADS=$jobs "$build/bench/$1" --benchmark_filter="$2" --benchmark_out_format=json \
    --benchmark_out="$raw/$3" && [ -s "$raw/$3" ] || return 1
  # Google Benchmark ends with 0 whatever its rows end with.
  local rows errors
  rows=$(grep -c '"run_name":' "$raw/$3") errors=$(grep -c '"error_occurred": true' "$raw/$3")
  [ "$rows" -gt "$errors" ] || { echo "$1: of $rows rows $errors ended in an error: nothing was measured"; return 1; }
}
stage_kernels() { measure bench_kernels '/(copy|cublas|cudnn|cuda)_' kernels.json; }
stage_models() { measure bench_model '(compact|base)/.*/cuda_' models.json; }

# torch ARGUMENT...: gpu_torch.py, which exits with 3 where PyTorch cannot be used.
torch() {
  local status=0
  "$python" "$here/gpu_torch.py" "$@" 2>&1 | tee "$raw/torch.log" || status=${PIPESTATUS[0]}
  [ $status != 3 ] || not_run "$(tail -1 "$raw/torch.log")"
  return $status
}
stage_peers() {
  command -v "$python" >/dev/null || not_run "no $python here"
  if [ -x "$build/bench/bench_kernels" ]; then
    "$build/bench/bench_kernels" --benchmark_list_tests --benchmark_filter='/cuda_' >"$raw/names.txt" &&
      torch kernels "$raw/names.txt" "$raw/torch_kernels.json" --seconds 150 || return 1
  fi
  torch models "$raw/torch_models.json" --seconds $((seconds - 40 - SECONDS))
}

stage_report() {
  command -v "$python" >/dev/null || not_run "no $python here; what was measured lies in $raw"
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

# run_stage NAME: in a process group of its own, which ends with the stage's time or when somebody interrupts us.
child=
run_stage() {
  say "$1 ($(date -u +%H:%M:%S))"
  local start=$SECONDS status=0 result
  rm -f "$raw/reason"
  export -f "stage_$1" say not_run unfinished measure sanitize torch
  export source_dir here work build deps raw out python jobs device capability seconds
  timeout -k 10 "$seconds" bash -uo pipefail -c "stage_$1" &
  child=$!
  wait "$child" || status=$?
  child=
  case $status in
    0) result=passed ;;
    5) result="not run: $(cat "$raw/reason" 2>/dev/null || echo "nothing was measured")" ;;
    6) result="UNFINISHED: $(cat "$raw/reason")" ;;
    124 | 137) result="FAILED: cut off after $seconds s" ;;
    *) result="FAILED ($status)" ;;
  esac
  say "$1: $result, after $((SECONDS - start)) s"
  [ "$1" = report ] || echo "$result, $(date -u +%Y-%m-%dT%H:%M:%SZ)" >"$raw/stages/$1"
  results+=("$1: $result")
  if [ -n "${OUT:-}" ] && [ "$raw" != "$OUT/raw" ]; then mkdir -p "$OUT/raw" && cp -r "$raw/." "$OUT/raw"; fi
  [ $status != 5 ] || status=0
  return $status
}

results=()
main() {
  local stage status failed=0 incomplete=0 elsewhere=0
  if [ -z "$device" ]; then
    seconds=86400  # a laptop may take its time
    for stage in "${stages[@]}"; do
      case $stage in
        pack | build | report) run_stage "$stage" || return 1 ;;
        *) elsewhere=1 ;;
      esac
    done
    if [[ " ${stages[*]} " != *" build "* ]]; then
      [ $elsewhere = 1 ] || return 0
      say "no device: nothing was run on one"
      return 4
    fi
    emulated || { say "FAILED"; return 1; }
    say "no device: compiled and emulated only"
    return 4
  fi
  say "device: $device, compute capability $capability"
  export PROMPTIQA_REQUIRE_DEVICE=1
  for stage in "${stages[@]}"; do
    status=0
    run_stage "$stage" || status=$?
    case $status in 0) ;; 6) incomplete=3 ;; *) failed=1 ;; esac
    [ "$stage" != build ] || [ $failed = 0 ] || return 1
  done
  printf '== %s\n' "${results[@]}"
  [ $failed = 0 ] || return 1
  return $incomplete
}

exec > >(tee -i "${OUT:-$work}/gpu.log") 2>&1
log=$!
interrupted() {
  trap '' INT TERM HUP
  say "interrupted"
  [ -z "$child" ] || { kill "$child"; wait "$child"; }
  exit 130
}
trap interrupted INT TERM HUP
trap 'exec >&- 2>&-; wait "$log"' EXIT
main
