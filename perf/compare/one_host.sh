#!/usr/bin/env bash
# Allreduce among processes of this host: longspan with alloc()ed and with heap memory beside Open MPI, and beside what
# copying alone takes (memory_bound), in turn, several rounds interleaved; prints a table and writes JSON.
#   perf/compare/one_host.sh [rounds; 5] [JSON file]     (needs a release build; see README; PERF_BIN: its programs)
set -euo pipefail
cd "$(dirname "$(readlink -f "$0")")/../.."
rounds=${1:-5}
json=${2:-build/one_host.json}
bin=${PERF_BIN:-build/release/bin}
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cases=("2 1024 500" "2 1048576 50" "2 67108864 7" "4 67108864 7")  # ranks, bytes, iterations
mpi=(mpirun --oversubscribe --bind-to none --mca btl self,vader)
[ "$(id -u)" -eq 0 ] && mpi+=(--allow-run-as-root)

ours() {  # ranks bytes iterations memory: out of place, in place
  "$bin/all_reduce_perf" --ranks "$1" -b "$2" -e "$2" -n "$3" -w 5 -c 0 --memory "$4" | awk '!/^#/ { print $6, $10 }'
}
for round in $(seq "$rounds"); do
  for i in "${!cases[@]}"; do
    read -r ranks bytes iterations <<<"${cases[$i]}"
    read -r out in < <(ours "$ranks" "$bytes" "$iterations" alloc)
    echo "$out" >>"$work/alloc.$i"
    echo "$in" >>"$work/in_place.$i"
    read -r out in < <(ours "$ranks" "$bytes" "$iterations" heap)
    echo "$out" >>"$work/heap.$i"
    timeout 120 "${mpi[@]}" -n "$ranks" "$bin/mpi_all_reduce" "$iterations" "$bytes" | awk '{ print $2 }' >>"$work/mpi.$i"
    timeout 120 "$bin/memory_bound" "$ranks" "$bytes" "$iterations" | awk '{ print $2 }' >>"$work/bound.$i"
  done
  echo "round $round of $rounds done" >&2
done

median() { sort -n "$1" | awk '{ x[NR] = $1 } END { print (NR % 2) ? x[(NR + 1) / 2] : (x[NR / 2] + x[NR / 2 + 1]) / 2 }'; }
echo "medians of $rounds rounds, us; ratio: alloc() over Open MPI; %copy: the time in which every rank can copy its buffer, of alloc()'s"
printf '%6s %10s %12s %12s %12s %12s %7s %12s %7s\n' ranks bytes 'alloc()' 'in place' heap 'Open MPI' ratio copy %copy
{
  echo '{"what": "allreduce fp32 sum on one host, median us of rounds interleaved", "rounds": '"$rounds"', "cores": '"$(nproc)"', "cases": ['
  for i in "${!cases[@]}"; do
    read -r ranks bytes _ <<<"${cases[$i]}"
    alloc=$(median "$work/alloc.$i") in_place=$(median "$work/in_place.$i") heap=$(median "$work/heap.$i")
    theirs=$(median "$work/mpi.$i") bound=$(median "$work/bound.$i")
    printf '%6s %10s %12.2f %12.2f %12.2f %12.2f %7.2f %12.2f %7.0f\n' "$ranks" "$bytes" "$alloc" "$in_place" "$heap" "$theirs" \
      "$(awk "BEGIN { print $alloc / $theirs }")" "$bound" "$(awk "BEGIN { print 100 * $bound / $alloc }")" >&2
    [ "$i" -gt 0 ] && echo ','
    printf '  {"ranks": %s, "bytes": %s, "longspan_us": %s, "longspan_in_place_us": %s, "longspan_heap_us": %s, "open_mpi_us": %s, "copy_us": %s}' \
      "$ranks" "$bytes" "$alloc" "$in_place" "$heap" "$theirs" "$bound"
  done
  printf '\n]}\n'
} >"$json"
echo "saved in $json"
