#!/usr/bin/env bash
# Installs what is missing, builds, and scores: your photographs, or scenes drawn here when none are given.
#   bash examples/quickstart.sh                  draw scenes, spoil them, score all, show whether the order is right
#   bash examples/quickstart.sh IMAGE|DIR...     score these with the shipped general prompt
# Surprising choice: the order that was measured is shown, right or wrong.
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
source_dir=$(dirname "$here")
. "$here/common/install.sh"

case "${1:-}" in -h|--help) sed -n '2,4s/^# *//p' "${BASH_SOURCE[0]}"; exit 0 ;; esac

promptiqa_install libeigen3-dev nlohmann-json3-dev libcli11-dev libstb-dev
promptiqa_build "$source_dir" -DPROMPTIQA_BUILD_EXAMPLES=ON -DPROMPTIQA_BUILD_TESTS=OFF -DPROMPTIQA_BUILD_BENCH=OFF
programs=$source_dir/build/examples

if [ $# -gt 0 ]; then
  exec "$programs/score" --recursive --sort score "$@"
fi

out=$source_dir/build/quickstart
mkdir -p "$out"
echo
echo "== Drawing scenes, each spoiled in five ways at three levels, into $out/scenes"
"$programs/scenes" "$out/scenes"
echo
echo "== Scoring the undistorted scenes with the shipped weights and prompt (0 worst, 1 best)"
"$programs/score" "$out"/scenes/*/none.png
echo
echo "== Scoring all of them, then once more with the prompt's scores reversed"
"$programs/score" --recursive --quiet --csv "$out/scores.csv" "$out/scenes"
"$programs/score" --recursive --quiet --csv "$out/reversed.csv" --reverse-prompt "$out/scenes"
echo
"$programs/order_report" "$out/scenes/manifest.csv" "$out/scores.csv" --reversed "$out/reversed.csv"
echo
echo "Your own photographs: bash examples/quickstart.sh FOLDER, or build/examples/score --help"
