#!/usr/bin/env bash
# Installs what longspan needs to build, test and measure, by the system's package manager. Safe to run again; quick
# when nothing is missing.   cmake/setup.sh [--ci]   (--ci: also clang, for the second compiler, tidy and the fuzzers)
set -euo pipefail

packages=(
  g++ cmake ninja-build pkg-config ccache git ca-certificates iproute2
  libtomlplusplus-dev libspdlog-dev libfmt-dev libcli11-dev nlohmann-json3-dev libhwy-dev libhwloc-dev
  libibverbs-dev librdmacm-dev libucx-dev
  catch2 librapidcheck-dev libbenchmark-dev
  openmpi-bin libopenmpi-dev
)
ci_packages=(clang-19 clang-tidy-19 clang-format-19 libclang-rt-19-dev)
[ "${1:-}" = "--ci" ] && packages+=("${ci_packages[@]}")

if ! command -v apt-get >/dev/null; then
  cat >&2 <<'TEXT'
setup: this script knows Debian and Ubuntu (apt-get). Elsewhere please install, under your system's names:
  a C++20 compiler (GCC 12 or clang 19), CMake 3.25, Ninja, pkg-config, iproute2,
  toml++ 3, spdlog, fmt, CLI11, nlohmann-json, Google Highway 1, hwloc 2,
  Catch2 (2.13 or 3), rapidcheck, Google Benchmark; optional: libibverbs, librdmacm, UCX, Open MPI, the CUDA Toolkit
and then build:  cmake --preset release && cmake --build --preset release
TEXT
  exit 0
fi

missing=()
for package in "${packages[@]}"; do
  dpkg-query -W -f='${Status}' "$package" 2>/dev/null | grep -q 'ok installed' || missing+=("$package")
done
if [ ${#missing[@]} -eq 0 ]; then
  echo "setup: everything is installed"
  exit 0
fi

as_root=()
if [ "$(id -u)" -ne 0 ]; then
  command -v sudo >/dev/null || { echo "setup: needs root to install: ${missing[*]}" >&2; exit 1; }
  as_root=(sudo)
fi
echo "setup: installing ${missing[*]}"
export DEBIAN_FRONTEND=noninteractive
"${as_root[@]}" apt-get update -qq
"${as_root[@]}" apt-get install -y -qq --no-install-recommends "${missing[@]}" >/dev/null
echo "setup: done"
