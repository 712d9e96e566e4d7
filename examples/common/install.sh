# What quickstart.sh and tests/run.sh share: installing what is missing (Debian and Ubuntu) and building into build/.
# Surprising choice: when everything is there, neither the network nor root is touched. Meant to be sourced.

# promptiqa_install PACKAGE...: installs the Debian packages that are missing, and a compiler, cmake and a build tool.
promptiqa_install() {
  local missing=() package
  command -v c++ >/dev/null || command -v g++ >/dev/null || command -v clang++ >/dev/null || missing+=(g++)
  command -v cmake >/dev/null || missing+=(cmake)
  command -v ninja >/dev/null || command -v make >/dev/null || missing+=(ninja-build)
  if command -v dpkg-query >/dev/null; then
    for package in "$@"; do
      dpkg-query -W -f '${Status}' "$package" 2>/dev/null | grep -q 'ok installed' || missing+=("$package")
    done
  fi
  [ ${#missing[@]} -eq 0 ] && return 0
  if ! command -v apt-get >/dev/null; then
    echo "Not found: ${missing[*]}. Please install them or their like; this is no Debian or Ubuntu." >&2
    return 1
  fi
  local root=()
  if [ "$(id -u)" -ne 0 ]; then
    command -v sudo >/dev/null || { echo "Missing: ${missing[*]}. Please install them as root." >&2; return 1; }
    root=(sudo)
  fi
  echo "Installing ${missing[*]}"
  "${root[@]}" apt-get update -q || echo "The package lists could not be renewed; going on with the old ones." >&2
  "${root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get install -q -y --no-install-recommends "${missing[@]}"
}

# promptiqa_build SOURCE OPTION...: configures SOURCE/build with the CMake options and builds it.
promptiqa_build() {
  local source=$1 build=$1/build generator=() jobs memory
  shift
  if [ ! -e "$build/CMakeCache.txt" ] && command -v ninja >/dev/null; then generator=(-G Ninja); fi
  # A compiler takes up to 1.5 GB here: no more of them than memory holds.
  jobs=$(nproc 2>/dev/null || echo 2)
  memory=$(awk '/^MemAvailable/ {print int($2 / 1500000)}' /proc/meminfo 2>/dev/null || echo 1)
  [ "${memory:-0}" -ge 1 ] || memory=1
  [ "$jobs" -le "$memory" ] || jobs=$memory
  cmake -S "$source" -B "$build" "${generator[@]}" -DCMAKE_BUILD_TYPE=Release "$@" && cmake --build "$build" -j "$jobs"
}
