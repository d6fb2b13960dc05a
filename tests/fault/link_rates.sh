#!/usr/bin/env bash
# A link that carries less than the topology states is found to, in both directions, and the results stay right.
#   link_rates.sh CASE BIN
set -euo pipefail
case=$1 bin=$2
if [ ! -e /dev/net/tun ]; then echo "SKIP: no /dev/net/tun for the emulated network"; exit 77; fi
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

# topology RATE FILE: two regions of two hosts; little enough for any machine
topology() {
  printf 'version = 1\n' >"$2"
  for host in "eu 0 1" "eu 0 2" "us 1 1" "us 1 2"; do
    read -r region net number <<<"$host"
    printf '[[host]]\nname = "%s-%s"\nregion = "%s"\naddress = "10.77.%s.%s"\nnic = "1 Gbit/s"\n' "$region" "$number" "$region" "$net" "$number" >>"$2"
  done
  printf '[[wan]]\nfrom = "eu"\nto = "us"\nbandwidth = "%s Mbit/s"\nlatency = "20 ms"\nbuffer = "4 MB"\n' "$1" >>"$2"
}
fail() {
  echo "FAILED: $1"
  tail -n 30 "$work/out" "$work/err"
  exit 1
}
# run REALLY ITERATIONS ARGUMENTS...: told 400 Mbit/s
run() {
  local really=$1 iterations=$2
  shift 2
  topology 400 "$work/told.toml"
  topology "$really" "$work/real.toml"
  LONGSPAN_LOG=warn timeout 70 "$bin/longspan-lab" run --topology "$work/real.toml" --allow-invalid --prefix others "$@" -- \
    "$bin/all_reduce_perf" --topology "$work/told.toml" -b 16M -e 16M -w 1 -n "$iterations" -c 1 --links -J "$work/result.json" \
    >"$work/out" 2>"$work/err" || fail "exit code $?"
  grep -q '# Out of bounds values : 0 OK' "$work/out" || fail "wrong results"
}
# found LEAST MOST: was each direction found to carry that at the end, in Mbit/s? Says what was found.
found() {
  local rates rate
  rates=$(grep -oE '"capacity_bytes_per_second": *[0-9.e+]+' "$work/result.json" | grep -oE '[0-9.e+]+$')
  [ "$(wc -l <<<"$rates")" -eq 2 ] || fail "not two links"
  echo "found to carry (bytes/s):" $rates
  for rate in $rates; do
    awk "BEGIN { m = $rate * 8e-6; exit !(m >= $1 && m <= $2) }" || return 1
  done
}
# carries REALLY LEAST MOST. Where the emulated network itself was late, links did look different: such a run is repeated.
carries() {
  local attempt
  for attempt in 1 2 3; do
    run "$1" 5
    if found "$2" "$3"; then return; fi
    grep -q "INVALID RUN" "$work/err" || break
  done
  fail "that is not $2 to $3 Mbit/s"
}

case $case in
  less) carries 240 192 288 ;;
  truthful) carries 400 392 408 ;;
  *) echo "link_rates.sh: no case \"$case\""; exit 2 ;;
esac
