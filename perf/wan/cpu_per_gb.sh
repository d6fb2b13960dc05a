#!/usr/bin/env bash
# CPU seconds (user and system, sender and receiver together) for each GB that crosses the WAN: longspan beside iperf3, in
# one direction of the same emulated link, one host in each region. perf/wan/cpu_per_gb.sh [BIN]   (about 40 s; needs iperf3)
set -euo pipefail
cd "$(dirname "$(readlink -f "$0")")/../.."
bin=$(readlink -f "${1:-build/release/bin}")
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cat >"$folder/topology.toml" <<END
version = 1
[[host]]
name = "eu-1"
region = "eu"
address = "10.77.0.1"
nic = "5 Gbit/s"
[[host]]
name = "us-1"
region = "us"
address = "10.77.1.1"
nic = "5 Gbit/s"
[[wan]]
from = "eu"
to = "us"
bandwidth = "1 Gbit/s"
latency = "20 ms"
buffer = "8 MB"
END
cat >"$folder/rank.sh" <<'END'
#!/usr/bin/env bash
# One rank: runs what it is given and writes the CPU seconds that it took.
TIMEFORMAT='%U %S'
{ time "$@" >"$CPU_FOLDER/out.$RANK" 2>&1; } 2>"$CPU_FOLDER/cpu.$RANK"
END
cat >"$folder/iperf.sh" <<'END'
#!/usr/bin/env bash
if [ "$RANK" = 0 ]; then
  for _ in $(seq 50); do iperf3 -c 10.77.1.1 -n "$CPU_BYTES" --fq-rate 990M -J && exit 0; sleep 0.1; done
  exit 1
fi
exec timeout 60 iperf3 -s -1
END
chmod +x "$folder"/*.sh
export CPU_FOLDER=$folder CPU_BYTES=1073741824
lab() { "$bin/longspan-lab" run --topology "$folder/topology.toml" --quiet --allow-invalid --timeout 80s -- "$folder/rank.sh" "$@" >/dev/null; }
cpu() { awk '{ sum += $1 + $2 } END { printf "%.2f", sum }' "$folder/cpu.0" "$folder/cpu.1"; }
lab "$folder/iperf.sh"
iperf=$(cpu)
# sendrecv: each rank sends to the next, so both directions carry the same; starting and warming up is measured apart.
lab "$bin/sendrecv_perf" -b 128M -e 128M -n 1 -w 0 -c 0
short=$(cpu)
lab "$bin/sendrecv_perf" -b 128M -e 128M -n 5 -w 0 -c 0
long=$(cpu)
grep -E '^ +[0-9]' "$folder/out.0" || true
awk -v iperf="$iperf" -v short="$short" -v long="$long" 'BEGIN {
  gb = 4 * 2 * 134217728 / 1e9  # four more iterations, in two directions
  printf "iperf3:   %.2f CPU seconds for each GB\nlongspan: %.2f\n", iperf / 1.073741824, (long - short) / gb
}'
