#!/usr/bin/env bash
# Measures what docs/performance.md states, on the emulated networks of perf/topologies, and writes one JSON file each into
# a folder: perf/results/collect.sh FOLDER      (needs a release build and an idle machine; about 5 minutes)
set -euo pipefail
cd "$(dirname "$(readlink -f "$0")")/../.."
out=$(mkdir -p "$1" && cd "$1" && pwd)
bin=$PWD/build/release/bin
per_host=1
on() {  # topology, name, program, its options
  local topology=$1 name=$2 program=$3; shift 3
  echo "== $name"
  "$bin/longspan-lab" run --topology "perf/topologies/$topology.toml" --ranks-per-host "$per_host" --prefix others --json "$out/$name-links.json" -- \
    "$bin/$program" -J "$out/$name.json" "$@" 2>&1 | grep -v '^# *$' ||
    echo "== $name: failed, or INVALID: see above; its files are $name*.json all the same"
}
on two_regions all_reduce all_reduce_perf -b 4K -e 16M -f 16 -n 9 -w 3
on two_regions all_reduce_64M all_reduce_perf -b 64M -e 64M -n 11 -w 3
on two_regions all_reduce_1M all_reduce_perf -b 1M -e 1M -n 15 -w 3
on two_regions all_reduce_ring all_reduce_perf -b 64M -e 64M -n 5 -w 1 --algorithm allreduce=ring
on two_regions all_gather all_gather_perf -b 64M -e 64M -n 9 -w 2
on two_regions reduce_scatter reduce_scatter_perf -b 64M -e 64M -n 9 -w 2
on three_facing_one three_facing_one all_reduce_perf -b 64M -e 64M -n 7 -w 2
on three_regions_single three_regions_single all_reduce_perf -b 64M -e 64M -n 7 -w 2
on three_regions three_regions all_reduce_perf -b 64M -e 64M -n 7 -w 2
on three_regions_500M three_regions_500M all_reduce_perf -b 64M -e 64M -n 7 -w 2
# HSDP's shape: one group of ranks per rank of a host, all at once over the same link.
per_host=2
on two_regions two_groups all_reduce_perf -b 64M -e 64M -n 7 -w 2 --groups 2
{
  echo "date $(date -u +%Y-%m-%d)"
  echo "commit $(git rev-parse --short HEAD)"
  echo "kernel $(uname -r | sed 's/-.*//')"
  grep -m1 'model name' /proc/cpuinfo | sed 's/.*: /processor /'
  echo "cores $(nproc)"
} >"$out/machine.txt"
