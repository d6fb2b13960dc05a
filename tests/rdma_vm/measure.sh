#!/usr/bin/env bash
# Inside the virtual machine: verbs beside ib_write_bw, and TCP over netem beside iperf3. Files go to $OUT.
#   tests/rdma_vm/vm.py --out DIR -- tests/rdma_vm/network.sh tests/rdma_vm/measure.sh BUILD verbs|collectives|netem
set -u
build=$1
what=$2
here=$(dirname "$0")
job() { timeout 120 "$here/job.sh" "$@"; }
# Until somebody listens on PORT.
listens() {
  local deadline=$((SECONDS + 20))
  until [ -n "$(ss -Hltn "sport = :$1")" ]; do
    [ $SECONDS -lt $deadline ] || { echo "nobody listens on port $1"; return 1; }
    read -rt 0.05 _ <>/dev/null || true
  done
}

measure_verbs() {
  {
    echo "# 4 MiB from 10.88.0.1 to 10.88.0.2, $(uname -r), $(nproc) processors, $(grep -m1 -o "QEMU.*" /proc/cpuinfo || echo "the host's processor")"
    for turn in 1 2; do
      ib_write_bw -d rxe1 -x 1 -F -s 4194304 -n 40 >/dev/null 2>&1 &
      server=$!
      listens 18515
      echo "turn $turn ib_write_bw, MB/s (2^20):" "$(timeout 60 ib_write_bw -F -d rxe0 -x 1 -s 4194304 -n 40 10.88.0.2 2>/dev/null | awk '$1 == 4194304 { print $4 }')"
      wait $server
      echo "turn $turn longspan, one way:"
      LONGSPAN_TRANSPORTS=verbs timeout 60 "$build/bin/transport_bench" verbs 1 4194304 40 1000
    done
  } >"$OUT/verbs_bandwidth.txt" 2>&1
}

measure_collectives() {
  for program in all_reduce sendrecv; do
    LONGSPAN_TRANSPORTS=verbs job "$here/two_hosts.toml" "eu-1 eu-2" "$build/bin/${program}_perf" -b 1K -e 4M -f 16 -n 5 -w 2 -c 1 -J "$OUT/verbs_${program}_2.json" >/dev/null 2>"$OUT/errors_${program}_2.txt"
  done
  LONGSPAN_TRANSPORTS=verbs job "$here/two_hosts.toml" "eu-1 eu-1 eu-2 eu-2" "$build/bin/all_reduce_perf" -b 1K -e 4M -f 16 -n 5 -w 2 -J "$OUT/verbs_all_reduce_4.json" >/dev/null 2>"$OUT/errors_4.txt"
}

measure_netem() {
  # A link of 100 Mbit/s and 20 ms each way by the kernel's own netem, with fq below it for pacing.
  for end in 0 1; do
    tc qdisc add dev "roce$end" root handle 1: netem delay 20ms rate 100mbit limit 2000
  done
  sysctl -qw net.ipv4.tcp_rmem="4096 131072 33554432" net.ipv4.tcp_wmem="4096 131072 33554432"
  {
    echo "# 100 Mbit/s, 20 ms one way: netem on both ends of a veth pair"
    iperf3 -s -1 -B 10.88.0.2 >/dev/null &
    listens 5201
    for congestion in cubic bbr; do
      echo "iperf3, 1 stream, $congestion, 10 s:" "$(timeout 40 iperf3 -c 10.88.0.2 -B 10.88.0.1 -t 10 -C $congestion -J | python3 -c 'import json, sys; e = json.load(sys.stdin)["end"]; print(round(e["sum_received"]["bits_per_second"] / 1e6, 1), "Mbit/s,", e["sum_sent"]["retransmits"], "retransmits")')"
      iperf3 -s -1 -B 10.88.0.2 >/dev/null &
      listens 5201
    done
    LONGSPAN_TRANSPORTS=tcp job "$here/netem_link.toml" "eu-1 us-1" "$build/bin/all_reduce_perf" -b 8M -e 8M -n 5 -w 3 -J "$OUT/netem_tcp_all_reduce.json"
    tc -s qdisc show dev roce0
  } >"$OUT/netem_tcp.txt" 2>&1
  kill %% 2>/dev/null
}

"measure_$what"
for file in "$OUT"/errors_*; do [ -s "$file" ] || rm -f "$file"; done
exit 0
