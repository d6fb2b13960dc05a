#!/usr/bin/env bash
# The main job, from nothing: set-up, build, then on an emulated network of two regions (2 hosts each, 1 Gbit/s and 20 ms
# one way between them) an allreduce planned by longspan beside a flat ring, and a training run. About a minute after
# the build.   perf/demo.sh [folder for the results; default build/demo]
set -euo pipefail
cd "$(dirname "$(readlink -f "$0")")/.."
out=$(mkdir -p "${1:-build/demo}" && cd "${1:-build/demo}" && pwd)
topology=$PWD/perf/topologies/two_regions.toml
bin=$PWD/build/release/bin

say() { printf '\n\033[1m%s\033[0m\n' "$*"; }
value() { awk -F'[:,]' -v key="\"$2\"" '$1 ~ key { gsub(/[ "]/, "", $2); print $2; exit }' "$1"; }

say "1/5  set-up and build"
cmake/setup.sh
mkdir -p build/release
cmake --preset release >build/release/configure.log 2>&1 || { cat build/release/configure.log; exit 1; }
cmake --build --preset release --target all_reduce_perf longspan-train longspan-lab longspan-command

measure() {  # name, extra arguments
  local name=$1; shift
  "$bin/longspan-lab" run --topology "$topology" --prefix others --json "$out/$name-links.json" -- \
    "$bin/all_reduce_perf" -b 4K -e 64M -f 128 -n 7 -w 2 -J "$out/$name.json" "$@" 2>&1 | tee "$out/$name.txt"
}
say "2/5  allreduce over the two regions, as longspan plans it"
measure planned
say "3/5  the same over a flat ring on the same links"
measure ring --algorithm allreduce=ring
say "4/5  training a network on handwritten digits across the two regions"
"$bin/longspan-lab" run --topology "$topology" --prefix others -- \
  "$bin/longspan-train" --epochs 12 --verify --json "$out/train.json" | tee "$out/train.txt"
say "5/5  the plan, drawn"
"$bin/longspan" explain --topology "$topology" --collective allreduce --size 64M --svg "$out/plan.svg" >"$out/plan.txt"

# The last result of each run is the 64 MiB one.
last() { tac "$out/$1.json" | awk -F'[:,]' -v key="\"$2\"" '$1 ~ key { gsub(/[ "]/, "", $2); print $2; exit }'; }
{
  echo "longspan demo: $(date -u +%Y-%m-%dT%H:%MZ), $(nproc) cores, emulated network"
  echo
  echo "What was run   allreduce of 4 KiB to 64 MiB (fp32, sum) on 2 regions x 2 hosts, one rank a host;"
  echo "               between the regions 1 Gbit/s and 20 ms one way, 8 MB of buffer; 5 Gbit/s inside."
  echo "               Every element was checked against its exact value."
  echo
  printf 'allreduce of 64 MiB       time (ms)   of the bound\n'
  for name in planned ring; do
    time=$(tac "$out/$name.json" | awk -F'[:,]' '/"time_us"/ { t=$2 } /"size"/ { print t; exit }')
    bound=$(last "$name" bound_us)
    printf '  %-22s %11.1f   %8.1f %%\n' "$name" "$(awk "BEGIN{print $time/1000}")" "$(awk "BEGIN{print 100*$bound/$time}")"
  done
  printf '  %-22s %11.1f       (what the links allow)\n' "bound" "$(awk "BEGIN{print $(last planned bound_us)/1000}")"
  echo
  echo "The WAN while the planned allreduce ran:"
  grep -E '^lab: .* -> ' "$out/planned.txt" | sed 's/^lab: /  /' || true
  echo
  echo "Training        $(head -n 1 "$out/train.txt" | sed 's/^training //')"
  grep '^epoch' "$out/train.txt" | sed -n '1p;$p' | sed 's/^/  /'
  grep -E '^(parameters|one process)' "$out/train.txt" | sed 's/^/  /'
  echo
  echo "Saved in $out: planned.json ring.json train.json *-links.json plan.txt plan.svg"
} | tee "$out/page.txt"
