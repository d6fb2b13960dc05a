#!/usr/bin/env bash
# Builds every fuzz target with clang, ASan and UBSan into build/asan, where the suites under these sanitizers are, too,
# and runs each for SECONDS (default 60).
# Fails on a crash, a leak, an input that takes over 5 s or 1 GiB; the input is kept in build/asan/fuzz/artifacts.
# Usage: tests/fuzz/run.sh [SECONDS]
set -euo pipefail
cd "$(dirname "$0")/../.."

seconds="${1:-60}"
case "$seconds" in
  '' | *[!0-9]*) echo "usage: $0 [SECONDS]" >&2; exit 2 ;;
esac

if ! command -v clang++-19 >/dev/null; then
  echo "fuzz: clang++-19 not found (cmake/setup.sh --ci, or: apt-get install clang-19)" >&2
  exit 1
fi
mkdir -p build
cmake --preset asan ${FUZZ_CMAKE_ARGS:-} >build/asan-configure.log 2>&1 || { tail -20 build/asan-configure.log >&2; exit 1; }
cmake --build --preset asan --target fuzz

symbolizer="$(command -v llvm-symbolizer-19 || command -v llvm-symbolizer || true)"
if [ -n "$symbolizer" ]; then
  export ASAN_SYMBOLIZER_PATH="$symbolizer" UBSAN_OPTIONS="print_stacktrace=1:external_symbolizer_path=$symbolizer"
fi
# Runs one target; prints its line, or what it said.
run_one() {
  local program="$1" seconds="$2" name="${1##*/fuzz_}" dictionary=()
  local log="build/asan/fuzz/$name.log"
  mkdir -p "build/asan/fuzz/corpus/$name" "build/asan/fuzz/artifacts"
  if [ -f "tests/fuzz/$name.dict" ]; then dictionary=("-dict=tests/fuzz/$name.dict"); fi
  # New inputs go to the first folder, which is not tracked; the seeds stay as they are.
  if "$program" -max_total_time="$seconds" -timeout=5 -rss_limit_mb=1024 -max_len=4096 -print_final_stats=1 \
    -artifact_prefix="build/asan/fuzz/artifacts/$name-" "${dictionary[@]}" \
    "build/asan/fuzz/corpus/$name" "tests/fuzz/corpus/$name" >"$log" 2>&1; then
    echo "fuzz: $name: $(sed -n 's/^stat::number_of_executed_units: *//p' "$log") inputs in $seconds s, no failure"
  else
    { grep -v '^#[0-9]' "$log" | tail -60; echo "fuzz: $name FAILED; reproduce with: $program, and the input named above"; } >&2
    return 1
  fi
}
export -f run_one

# As many at once as there are cores: each is one thread.
printf '%s\0' build/asan/fuzz/fuzz_* | xargs -0 -n 1 -P "$(nproc)" bash -c 'run_one "$1" "$0"' "$seconds"
