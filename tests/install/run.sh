#!/usr/bin/env bash
# What a user of an installed longspan does: builds a C++ program with the CMake package and a C program with pkg-config,
# and runs both.   run.sh BUILD_FOLDER C++_COMPILER C_COMPILER
set -euo pipefail
build=$1 cxx=$2 cc=$3
here=$(dirname "$(readlink -f "$0")")
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

cmake --install "$build" --prefix "$work/prefix" >"$work/install.log"
library=$(dirname "$(find "$work/prefix" -name 'liblongspan.so')")

cmake -G Ninja -S "$here/cmake_consumer" -B "$work/consumer" -DCMAKE_PREFIX_PATH="$work/prefix" -DCMAKE_CXX_COMPILER="$cxx" >"$work/configure.log"
cmake --build "$work/consumer" >"$work/build.log" || { cat "$work/build.log"; exit 1; }
"$work/consumer/consumer"

export PKG_CONFIG_PATH=$library/pkgconfig
flags=$(pkg-config --cflags longspan | sed 's/-std=c++20//')
# shellcheck disable=SC2046,SC2086
"$cc" -std=c99 -Wall -Wextra -Werror "$here/pkgconfig_consumer/main.c" -o "$work/c_consumer" $flags $(pkg-config --libs longspan)
LD_LIBRARY_PATH=$library "$work/c_consumer"

"$work/prefix/bin/longspan" --help >/dev/null
nm -DC --defined-only "$library/liblongspan.so" >"$work/symbols"
grep -q 'longspan::Communicator::create' "$work/symbols"
if grep -q 'longspan::runtime::Domain::' "$work/symbols"; then
  echo "internal symbols are visible"; exit 1
fi
objdump -p "$library/liblongspan.so" >"$work/dynamic"
grep -q 'SONAME.*liblongspan.so.0' "$work/dynamic"
echo "consumers of the CMake package and of pkg-config work"
