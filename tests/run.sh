#!/usr/bin/env bash
# Set-up, build and all tests: tests/run.sh [ctest options]. Prints what was skipped and why, then ctest's summary.
set -euo pipefail
cd "$(dirname "$(readlink -f "$0")")/.."

preset=${TEST_PRESET:-dev}
cmake/setup.sh
mkdir -p "build/$preset"
cmake --preset "$preset" ${TEST_CMAKE_ARGS:-} >"build/$preset/configure.log" 2>&1 || { cat "build/$preset/configure.log"; exit 1; }
sed -n '/^-- longspan /,$p' "build/$preset/configure.log" | grep -v '^-- \(Configuring\|Generating\|Build files\)' || true
cmake --build --preset "$preset"

status=0
ctest --test-dir "build/$preset" --output-on-failure --no-tests=error -j 2 "$@" || status=$?
log="build/$preset/Testing/Temporary/LastTest.log"
if grep -qsE '^(SKIP: |conformance: [a-z_]+ skips )' "$log"; then
  echo "Skipped here:"
  grep -E '^(SKIP: |conformance: [a-z_]+ skips )' "$log" | sort -u
fi
exit $status
