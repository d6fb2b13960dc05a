#!/usr/bin/env bash
# Inside the virtual machine: two Soft-RoCE devices, rxe0 and rxe1, on the two ends of a veth pair (10.88.0.1 and
# 10.88.0.2), and a command that runs with them.   tests/rdma_vm/network.sh COMMAND...
# Both ends are in one network namespace, since rdma_rxe knows only the first one; the rules below make what goes from one
# address to the other leave by the veth all the same, instead of turning round in the kernel.
set -euo pipefail
for module in veth sch_netem sch_fq tcp_bbr ib_uverbs rdma_ucm rdma_rxe; do /sbin/modprobe "$module"; done

mtu=${VM_MTU:-4200}  # room for RoCE's largest packet, 4096 bytes and headers
ip link add roce0 type veth peer name roce1
for end in 0 1; do
  other=$((1 - end))
  ip link set "roce$end" mtu "$mtu" up
  ip addr add "10.88.0.$((end + 1))/32" dev "roce$end"
  sysctl -qw "net.ipv4.conf.roce$end.accept_local=1" "net.ipv4.conf.roce$end.rp_filter=0"
  ip rule add pref 10 iif "roce$end" lookup local
  ip route add "10.88.0.$((other + 1))/32" dev "roce$end" src "10.88.0.$((end + 1))"
done
sysctl -qw net.ipv4.conf.all.rp_filter=0 net.ipv4.conf.all.accept_local=1
ip rule add pref 11 to 127.0.0.0/8 lookup local
ip rule del pref 0
ip rule add pref 40000 lookup local
for end in 0 1; do rdma link add "rxe$end" type rxe netdev "roce$end"; done
exec "$@"
