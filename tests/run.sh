#!/usr/bin/env bash
# Installs what is missing, builds into build/ and runs all tests. Further arguments go to ctest, e.g. -R model.
# Surprising choice: as many tests at once as there are cores; `ctest --test-dir build` runs them one by one.
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
source_dir=$(dirname "$here")
. "$source_dir/examples/common/install.sh"

promptiqa_install libeigen3-dev nlohmann-json3-dev libcli11-dev libstb-dev libmatio-dev catch2
mpi=ON  # for the training test with two processes, which is the one thing that can be left out
promptiqa_install libopenmpi-dev openmpi-bin || { mpi=OFF; echo "No Open MPI: training on two processes is not tested." >&2; }
promptiqa_build "$source_dir" -DPROMPTIQA_MPI=$mpi -DPROMPTIQA_BUILD_EXAMPLES=ON -DPROMPTIQA_BUILD_TESTS=ON -DPROMPTIQA_BUILD_BENCH=OFF
cd "$source_dir/build"
exec ctest --output-on-failure -j "$(nproc 2>/dev/null || echo 2)" "$@"
