#!/usr/bin/env bash
# A link between two regions goes dark while four ranks reduce: it heals, or every rank says what happened, in time.
#   lab_faults.sh CASE BIN TOPOLOGIES
set -euo pipefail
case=$1 bin=$2 topology=$3/two_regions.toml
if [ ! -e /dev/net/tun ]; then echo "SKIP: no /dev/net/tun for the emulated network"; exit 77; fi
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

# run SECONDS FAULT ARGUMENTS...: one all_reduce_perf on the lab; its output in $work, its exit code in $code.
run() {
  local limit=$1 fault=$2
  shift 2
  code=0
  LONGSPAN_LOG=error timeout "$limit" "$bin/longspan-lab" run --topology "$topology" --allow-invalid --prefix all --grace 10s \
    --fault "$fault" -- "$bin/all_reduce_perf" -b 16M -e 16M "$@" >"$work/out" 2>"$work/err" || code=$?
}
fail() {
  echo "FAILED: $1"
  tail -n 40 "$work/out" "$work/err"
  exit 1
}
# Nothing was wrong, all of it was checked, and the fault did strike: one iteration took longer than it lasted.
healed() {
  [ "$code" -eq 0 ] || fail "exit code $code"
  grep -q '# Out of bounds values : 0 OK' "$work/out" || fail "wrong results"
  slowest=$(grep -oE '"p99_us": *[0-9.]+' "$work/result.json" | grep -oE '[0-9.]+$' | sort -n | tail -n 1)
  awk "BEGIN { exit !($slowest > $1) }" || fail "no iteration met the fault (the slowest took $slowest us)"
  echo "the slowest iteration took $slowest us, nothing was wrong"
}

case $case in
  blackhole_heals)
    run 50 "at=2s wan=eu:us down=5s both" -n 25 -w 1 -c 8 -T 30 -J "$work/result.json"
    healed 2e6
    ;;
  one_way_blackhole_heals)  # data and acknowledgements of one direction vanish, those of the other arrive
    run 50 "at=2s wan=eu:us down=3s" -n 25 -w 1 -c 8 -T 30 -J "$work/result.json"
    healed 1e6
    ;;
  outage_is_named)
    deadline=4
    for attempt in 1 2 3; do  # the machine may stall, but hardly each time
      LONGSPAN_LOG=error LONGSPAN_TIMEOUT=${deadline}s timeout 50 "$bin/longspan-lab" run --topology "$topology" --allow-invalid \
        --prefix all --grace 10s --fault "at=2s wan=eu:us down=1000s both" -- "$bin/outage_probe" 30 >"$work/out" 2>"$work/err" || fail "exit code $?"
      late=""
      for rank in 0 1 2 3; do
        said=$(grep -hE "^\[$rank\] failed after [0-9.]+ s: .*rank [0-9] \(host (eu|us)-[12], region (eu|us)\)" "$work/out" "$work/err") || fail "rank $rank names nobody"
        echo "$said"
        # By the rank's own clock, from the call that failed to its return.
        took=$(sed -E 's/^\[[0-9]+\] failed after ([0-9.]+) s:.*/\1/' <<<"$said")
        awk "BEGIN { exit !($took < $deadline + 1) }" || late="$late; rank $rank after $took s"
      done
      if [ -z "$late" ]; then
        echo "every rank named the fault within a second of the deadline"
        exit 0
      fi
    done
    fail "too late$late"
    ;;
  *) echo "lab_faults.sh: no case \"$case\""; exit 2 ;;
esac
