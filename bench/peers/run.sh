#!/usr/bin/env bash
# Compares promptiqa's speed with PyTorch, ONNX Runtime and OpenVINO: makes a Python environment, builds our side, runs
# everything in turn and writes bench/results/. Arguments go to run.py (--help lists them), after a first one "train" to
# train.py, which compares training steps. Takes several GB of disk and of memory.
# Surprising choice: an environment with the packages can be lent with PROMPTIQA_PEERS_VENV; it is used as it is.
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
source_dir=$(cd "$here/../.." && pwd)
build=${PROMPTIQA_PEERS_BUILD:-$source_dir/build-peers}
venv=${PROMPTIQA_PEERS_VENV:-$build/venv}

if [ -z "${PROMPTIQA_PEERS_VENV:-}" ] && [ ! -e "$venv/complete" ]; then
  command -v python3 >/dev/null || { echo "run.sh: python3 is missing (Debian: python3 python3-venv)" >&2; exit 1; }
  python3 -m venv "$venv" || { echo "run.sh: python3 cannot make environments (Debian: python3-venv)" >&2; exit 1; }
  "$venv/bin/pip" install --quiet torch numpy safetensors onnx onnxscript onnxruntime openvino
  touch "$venv/complete"
fi
[ -x "$venv/bin/python" ] || { echo "run.sh: no Python environment at '$venv'" >&2; exit 1; }

mkdir -p "$build"
generator=()
if [ ! -e "$build/CMakeCache.txt" ] && command -v ninja >/dev/null; then generator=(-G Ninja); fi
cmake -S "$source_dir" -B "$build" "${generator[@]}" -DCMAKE_BUILD_TYPE=Release -DPROMPTIQA_BUILD_BENCH=ON \
  -DPROMPTIQA_BUILD_TESTS=OFF -DPROMPTIQA_BUILD_EXAMPLES=OFF >"$build/configure.log" 2>&1 ||
  { cat "$build/configure.log" >&2; exit 1; }
cmake --build "$build" --target bench_peers_ours bench_peers_train -j 2

driver=("$here/run.py")
if [ "${1:-}" = train ]; then
  shift
  driver=("$here/train.py" --ours-train "$build/bench/bench_peers_train")
fi
exec "$venv/bin/python" "${driver[@]}" --ours "$build/bench/bench_peers_ours" --work "$build/peers" "$@"
