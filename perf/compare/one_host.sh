#!/usr/bin/env bash
# Allreduce among processes of this host: longspan beside Open MPI, in turn, several rounds interleaved; prints a table and
# writes JSON.   perf/compare/one_host.sh [rounds; 5] [JSON file]     (needs a release build; see README)
set -euo pipefail
cd "$(dirname "$(readlink -f "$0")")/../.."
rounds=${1:-5}
json=${2:-build/one_host.json}
bin=build/release/bin
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cases=("2 1024 500" "2 1048576 50" "2 67108864 7" "4 67108864 7")  # ranks, bytes, iterations
mpi=(mpirun --oversubscribe --bind-to none --mca btl self,vader)
[ "$(id -u)" -eq 0 ] && mpi+=(--allow-run-as-root)

for round in $(seq "$rounds"); do
  for i in "${!cases[@]}"; do
    read -r ranks bytes iterations <<<"${cases[$i]}"
    "$bin/all_reduce_perf" --ranks "$ranks" -b "$bytes" -e "$bytes" -n "$iterations" -w 5 -c 0 |
      awk '!/^#/ { print $6 }' >>"$work/longspan.$i"
    timeout 120 "${mpi[@]}" -n "$ranks" "$bin/mpi_all_reduce" "$iterations" "$bytes" | awk '{ print $2 }' >>"$work/mpi.$i"
  done
  echo "round $round of $rounds done" >&2
done

median() { sort -n "$1" | awk '{ x[NR] = $1 } END { print (NR % 2) ? x[(NR + 1) / 2] : (x[NR / 2] + x[NR / 2 + 1]) / 2 }'; }
printf '%6s %10s %14s %14s %8s   median of %s rounds, us\n' ranks bytes longspan "Open MPI" ratio "$rounds"
{
  echo '{"what": "allreduce fp32 sum on one host, median us of rounds interleaved", "rounds": '"$rounds"', "cores": '"$(nproc)"', "cases": ['
  for i in "${!cases[@]}"; do
    read -r ranks bytes _ <<<"${cases[$i]}"
    ours=$(median "$work/longspan.$i") theirs=$(median "$work/mpi.$i")
    printf '%6s %10s %14.2f %14.2f %8.2f\n' "$ranks" "$bytes" "$ours" "$theirs" "$(awk "BEGIN { print $ours / $theirs }")" >&2
    [ "$i" -gt 0 ] && echo ','
    printf '  {"ranks": %s, "bytes": %s, "longspan_us": %s, "open_mpi_us": %s}' "$ranks" "$bytes" "$ours" "$theirs"
  done
  printf '\n]}\n'
} >"$json"
echo "saved in $json"
