#!/usr/bin/env bash
# Builds every fuzz target with clang, ASan and UBSan into build/fuzz and runs each for SECONDS (default 60).
# Fails on a crash, a leak, an input that takes over 5 s or 1 GiB; the input is kept in build/fuzz/artifacts.
# Usage: tests/fuzz/run.sh [SECONDS]
set -euo pipefail
cd "$(dirname "$0")/../.."

seconds="${1:-60}"
case "$seconds" in
  '' | *[!0-9]*) echo "usage: $0 [SECONDS]" >&2; exit 2 ;;
esac

clang=""
for candidate in clang++-19 clang++; do
  if command -v "$candidate" >/dev/null; then clang="$candidate"; break; fi
done
if [ -z "$clang" ]; then
  echo "fuzz: clang++ not found (cmake/setup.sh, or: apt-get install clang-19)" >&2
  exit 1
fi

cmake -S . -B build/fuzz -G Ninja -DCMAKE_BUILD_TYPE=Debug -DCMAKE_CXX_FLAGS_DEBUG="-O1 -g1" \
  -DCMAKE_CXX_COMPILER="$clang" -DCMAKE_C_COMPILER="${clang/clang++/clang}" \
  -DLONGSPAN_FUZZ=ON -DLONGSPAN_SANITIZE="address,undefined,fuzzer-no-link" \
  -DLONGSPAN_PERF=OFF -DLONGSPAN_SUITES_ONLY=ON ${FUZZ_CMAKE_ARGS:-} >build/fuzz-configure.log 2>&1 ||
  { tail -20 build/fuzz-configure.log >&2; exit 1; }
cmake --build build/fuzz --target fuzz

symbolizer="$(command -v llvm-symbolizer-19 || command -v llvm-symbolizer || true)"
if [ -n "$symbolizer" ]; then
  export ASAN_SYMBOLIZER_PATH="$symbolizer" UBSAN_OPTIONS="print_stacktrace=1:external_symbolizer_path=$symbolizer"
fi
# Runs one target; prints its line, or what it said.
run_one() {
  local program="$1" seconds="$2" name="${1##*/fuzz_}" dictionary=()
  local log="build/fuzz/$name.log"
  mkdir -p "build/fuzz/corpus/$name" "build/fuzz/artifacts"
  if [ -f "tests/fuzz/$name.dict" ]; then dictionary=("-dict=tests/fuzz/$name.dict"); fi
  # New inputs go to the first folder, which is not tracked; the seeds stay as they are.
  if "$program" -max_total_time="$seconds" -timeout=5 -rss_limit_mb=1024 -max_len=4096 -print_final_stats=1 \
    -artifact_prefix="build/fuzz/artifacts/$name-" "${dictionary[@]}" \
    "build/fuzz/corpus/$name" "tests/fuzz/corpus/$name" >"$log" 2>&1; then
    echo "fuzz: $name: $(sed -n 's/^stat::number_of_executed_units: *//p' "$log") inputs in $seconds s, no failure"
  else
    { grep -v '^#[0-9]' "$log" | tail -60; echo "fuzz: $name FAILED; reproduce with: $program, and the input named above"; } >&2
    return 1
  fi
}
export -f run_one

# As many at once as there are cores: each is one thread.
printf '%s\0' build/fuzz/fuzz/fuzz_* | xargs -0 -n 1 -P "$(nproc)" bash -c 'run_one "$1" "$0"' "$seconds"
