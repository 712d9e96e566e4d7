#!/usr/bin/env bash
# Every public header by itself, with nothing included before it:  headers_test.sh COMPILER INCLUDE_DIR [SYSTEM_DIR...]
# Surprising choice: it only checks syntax and types, mostly in the compiled mode, so that a hundred headers take seconds.
set -euo pipefail
compiler=$1 include_dir=$2
shift 2
system=()
for folder in "$@"; do system+=(-isystem "$folder"); done

check() {  # HEADER COMPILER OPTION...: includes it twice, so that a missing include guard shows as well
  local header=$1
  shift
  printf '#include <%s>\n#include <%s>\n' "$header" "$header" | "$@" && return 0
  echo "not self-contained: $header"
  return 1
}
export -f check

cd "$include_dir"
count=$(find promptiqa -name '*.hpp' | wc -l)
[ "$count" -gt 0 ] || { echo "no headers in $include_dir" >&2; exit 1; }
find promptiqa -name '*.hpp' -print0 | sort -z |
  xargs -0 -P "$(nproc)" -I HEADER bash -c 'check "$@"' check HEADER "$compiler" -std=c++20 -x c++ -fsyntax-only \
    -Wall -Wextra -Wpedantic -Wno-psabi -Werror -DPROMPTIQA_COMPILED -I"$include_dir" "${system[@]}" -
# Header-only, bodies and all, which takes longer: those whose bodies depend on each other's order.
find promptiqa/core promptiqa/cpu -name '*.hpp' -print0 | sort -z |
  xargs -0 -P "$(nproc)" -I HEADER bash -c 'check "$@"' check HEADER "$compiler" -std=c++20 -x c++ -fsyntax-only \
    -Wall -Wextra -Wpedantic -Wno-psabi -Werror -I"$include_dir" "${system[@]}" -
echo "$count headers are self-contained"
