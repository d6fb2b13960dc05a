#!/usr/bin/env bash
# The main job on an emulated network: allreduce, planned and over a forced ring, and the trainer. Correctness and the
# bytes that cross; not speed, which a busy machine may not show.   two_regions.sh BIN TOPOLOGIES
set -euo pipefail
bin=$1 topology=$2/two_regions.toml
if [ ! -e /dev/net/tun ]; then echo "SKIP: no /dev/net/tun for the emulated network"; exit 77; fi
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
lab=("$bin/longspan-lab" run --topology "$topology" --allow-invalid --prefix others)

"${lab[@]}" --json "$work/links.json" -- "$bin/all_reduce_perf" -b 4K -e 4M -f 32 -n 2 -w 1 -J "$work/planned.json" | tee "$work/planned.txt"
grep -q '^# Out of bounds values : 0 OK$' "$work/planned.txt"
grep -q '"algorithm": "hierarchical' "$work/planned.json"
"${lab[@]}" -- "$bin/all_reduce_perf" -b 1M -e 1M -n 1 -w 1 --algorithm allreduce=ring -J "$work/ring.json" >"$work/ring.txt"
grep -q '^# Out of bounds values : 0 OK$' "$work/ring.txt"
grep -q '"algorithm": "ring' "$work/ring.json"
"${lab[@]}" -- "$bin/longspan-train" --epochs 1 --verify | tee "$work/train.txt"
grep -q 'bit-identical on all 4 ranks' "$work/train.txt"
# Sides that do not match: three hosts facing one.
"$bin/longspan-lab" run --topology "$2/three_facing_one.toml" --allow-invalid --prefix others -- \
  "$bin/all_gather_perf" -b 1M -e 1M -n 1 -w 1 >"$work/uneven.txt"
grep -q '^# Out of bounds values : 0 OK$' "$work/uneven.txt"
