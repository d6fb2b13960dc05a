#!/usr/bin/env bash
# CPU seconds (user and system, sender and receiver together) for each GB that crosses the WAN: longspan beside iperf3, both
# with one host in each region and the same bytes in both directions at once, paced to 99 % of the same emulated link. Each
# runs twice, short and long, and what is told is the difference: no start, no warm-up, no end.
#   perf/wan/cpu_per_gb.sh [BIN [RESULT.json]]     (about 50 s; needs iperf3 3.7 or later)
set -euo pipefail
cd "$(dirname "$(readlink -f "$0")")/../.."
bin=$(readlink -f "${1:-build/release/bin}")
result=${2:-/dev/null}
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
TIMEFORMAT='%U %S %R'
{ time "$@" >"$CPU_FOLDER/out.$RANK" 2>&1; } 2>"$CPU_FOLDER/cpu.$RANK"
END
cat >"$folder/iperf.sh" <<'END'
#!/usr/bin/env bash
if [ "$RANK" = 0 ]; then
  for _ in $(seq 50); do iperf3 -c 10.77.1.1 --bidir -t "$CPU_SECONDS" --fq-rate 990M -J && exit 0; sleep 0.1; done
  exit 1
fi
exec timeout 60 iperf3 -s -1
END
chmod +x "$folder"/*.sh
export CPU_FOLDER=$folder CPU_SECONDS
size=134217728 # of one iteration and direction: 1.1 s of the link
run() {        # name, command: keeps what both ranks wrote, what they took and what the lab counted
  local name=$1; shift
  "$bin/longspan-lab" run --topology "$folder/topology.toml" --quiet --allow-invalid --timeout 80s --json "$folder/lab.$name" \
    -- "$folder/rank.sh" "$@" >/dev/null
  for rank in 0 1; do
    mv "$folder/cpu.$rank" "$folder/cpu.$name.$rank"
    mv "$folder/out.$rank" "$folder/out.$name.$rank"
  done
}
# sendrecv: each rank sends to the next, so both directions carry the same.
run longspan-short "$bin/sendrecv_perf" -b $size -e $size -n 2 -w 1 -c 0
run longspan-long "$bin/sendrecv_perf" -b $size -e $size -n 10 -w 1 -c 0
CPU_SECONDS=2; run iperf3-short "$folder/iperf.sh"
CPU_SECONDS=11; run iperf3-long "$folder/iperf.sh"
python3 - "$folder" "$size" "$result" <<'END'
import json
import sys
from pathlib import Path

folder, size, result = Path(sys.argv[1]), int(sys.argv[2]), sys.argv[3]


def seconds(name):
    """User and system time of both ranks, and how long the longer one ran."""
    both = [[float(word) for word in (folder / f"cpu.{name}.{rank}").read_text().split()[-3:]] for rank in (0, 1)]
    return {"user": sum(each[0] for each in both), "system": sum(each[1] for each in both), "wall": max(each[2] for each in both)}


def iperf_bytes(name):
    end = json.loads((folder / f"out.{name}.0").read_text())["end"]
    return end["sum_received"]["bytes"] + end["sum_received_bidir_reverse"]["bytes"]


told = {"unit": "CPU seconds for each GB that crosses, both directions at once, sender and receiver together"}
gigabytes = {"longspan": 8 * 2 * size / 1e9, "iperf3": (iperf_bytes("iperf3-long") - iperf_bytes("iperf3-short")) / 1e9}
for name, gb in gigabytes.items():
    short, long = seconds(name + "-short"), seconds(name + "-long")
    each = {kind: (long[kind] - short[kind]) / gb for kind in ("user", "system")}
    labs = [json.loads((folder / f"lab.{name}-{which}").read_text()) for which in ("short", "long")]
    told[name] = {"gb": gb, **each, "total": sum(each.values()), "wall_seconds": long["wall"] - short["wall"],
                  "dropped": sum(link["dropped_packets"] for lab in labs for link in lab["links"]),
                  "late_share": max(lab["late_share"] for lab in labs)}
    print(f"{name + ':':10}{sum(each.values()):.2f} CPU seconds for each GB ({each['user']:.2f} user, {each['system']:.2f} system; "
          f"{gb:.2f} GB in {long['wall'] - short['wall']:.1f} s; {100 * told[name]['late_share']:.2f} % of the packets late)")
Path(result).write_text(json.dumps(told, indent=1) + "\n")
END
