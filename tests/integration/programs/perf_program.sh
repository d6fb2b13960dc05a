#!/usr/bin/env bash
# A perf program checks every element, prints what scripts expect, and writes JSON with the promised keys.
set -euo pipefail
program=$1
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

"$program" --ranks 3 -b 0 -e 100000 -i 50000 -n 2 -w 1 -r all -J "$work/out.json" | tee "$work/out.txt"
grep -q '^# Out of bounds values : 0 OK$' "$work/out.txt"
grep -q '^# Avg bus bandwidth    : ' "$work/out.txt"
for key in program world_size plan results size count type redop root time_us algbw_GBps busbw_GBps wrong in_place bound_us \
           bound_percent algorithm min_us p90_us p99_us; do
  grep -q "\"$key\"" "$work/out.json" || { echo "no $key in the JSON"; exit 1; }
done

# A refused option says why; -c 0 prints N/A.
if "$program" -g 2 >"$work/refused.txt" 2>&1; then echo "-g 2 was accepted"; exit 1; fi
grep -q 'one rank per process' "$work/refused.txt"
"$program" --ranks 2 -b 1K -e 1K -n 1 -w 0 -c 0 >"$work/unchecked.txt"
grep -q 'N/A' "$work/unchecked.txt"
