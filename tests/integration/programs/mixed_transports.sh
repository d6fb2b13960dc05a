#!/usr/bin/env bash
# One communicator over several transports: four processes, two on one host, one on another of its rack, one in another
# region ("hosts" in the topology's sense: all are this machine). Each tier must use the transport that is named here.
#   mixed_transports.sh BIN TRANSPORTS TIER=TRANSPORT...     TRANSPORTS: LONGSPAN_TRANSPORTS, "" for all;
#   with slashes between them, one per rank
set -euo pipefail
bin=$1 transports=$2
shift 2
work=$(mktemp -d)
ranks=()
finish() {
  for pid in "${ranks[@]}"; do kill "$pid" 2>/dev/null || true; done
  rm -rf "$work"
}
trap finish EXIT

cat >"$work/topology.toml" <<'TEXT'
version = 1
[[host]]
name = "eu-1"
region = "eu"
address = "127.0.0.1"
[[host]]
name = "eu-2"
region = "eu"
address = "127.0.0.1"
[[host]]
name = "us-1"
region = "us"
address = "127.0.0.1"
[[wan]]
from = "eu"
to = "us"
bandwidth = "10 Gbit/s"
latency = "1 ms"
TEXT
hosts=(eu-1 eu-1 eu-2 us-1)
export LONGSPAN_TOPOLOGY=$work/topology.toml LONGSPAN_LOG=debug LONGSPAN_TIMEOUT=60s
export WORLD_SIZE=4 MASTER_ADDR=file://$work/rendezvous
IFS=/ read -ra allowed <<<"$transports"
for rank in 0 1 2 3; do
  mine=${allowed[rank]:-${allowed[0]:-}}
  if [ -n "$mine" ]; then export LONGSPAN_TRANSPORTS=$mine; fi
  RANK=$rank LONGSPAN_HOST=${hosts[rank]} "$bin/all_reduce_perf" -b 1K -e 4M -f 64 -n 2 -w 1 --algorithm direct >"$work/rank$rank" 2>&1 &
  ranks+=($!)
done
failed=0
for rank in 0 1 2 3; do wait "${ranks[rank]}" || failed=1; done
grep -q '^# Out of bounds values : 0 OK$' "$work/rank0" || failed=1
for expected in "$@"; do
  for log in "$work"/rank?; do
    if grep -E ": ${expected%%=*} over " "$log" | grep -vq " over ${expected##*=}:"; then
      echo "not $expected everywhere:"; failed=1
    fi
  done
  grep -qE ": ${expected%%=*} over ${expected##*=}:" "$work"/rank? || { echo "nobody used $expected"; failed=1; }
done
if [ $failed -ne 0 ]; then tail -n 30 "$work"/rank?; exit 1; fi
echo "right, with $*"
