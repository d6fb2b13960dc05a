#!/usr/bin/env bash
# What wan.py has the lab start once per rank for a peer of longspan; not to be called by hand.
#   wan_rank.sh FOLDER CONGESTION_CONTROL PEER COMMAND...
# FOLDER holds `hosts` and `nsswitch.conf` for /etc (hosts in the order of ranks) and, for MPI, a FIFO end.RANK for each
# rank but the first. Gloo's command runs on every rank. MPI's launcher runs on rank 0 only: the other ranks just keep
# their hosts alive, and wan_agent.sh, which stands in for ssh, starts the launcher's daemons in them.
set -euo pipefail
folder=$1 control=$2 peer=$3
here=$(dirname "$(readlink -f "$0")")

# Hosts of one machine share its name and /etc/hosts: MPI takes ranks of one name for neighbours, and a peer that
# resolves its own name would listen at an address outside of the lab. Nor is there a name server inside to wait for.
if [ -z "${WAN_RANK_HAS_OWN_NAME:-}" ]; then
  exec env WAN_RANK_HAS_OWN_NAME=1 unshare --uts --mount "$0" "$@"
fi
shift 3
echo "$LONGSPAN_HOST" >/proc/sys/kernel/hostname
mount --bind "$folder/hosts" /etc/hosts
mount --bind "$folder/nsswitch.conf" /etc/nsswitch.conf
[ "$control" = default ] || echo "$control" >/proc/sys/net/ipv4/tcp_congestion_control
address=$(awk -v name="$LONGSPAN_HOST" '$2 == name { print $1 }' "$folder/hosts")

if [ "$peer" = gloo ]; then
  export GLOO_SOCKET_IFNAME=eth0
  exec "$@"
fi

echo $$ >"$folder/pid.new.$RANK" && mv "$folder/pid.new.$RANK" "$folder/pid.$address"
if [ "$RANK" != 0 ]; then
  read -r _ <"$folder/end.$RANK" || true
  exit 0
fi
# The lab's --timeout ends this wait when a host never comes.
while [ "$(find "$folder" -maxdepth 1 -name 'pid.1*' | wc -l)" -lt "$WORLD_SIZE" ]; do sleep 0.05; done
addresses=$(awk '/^10/ { printf "%s%s", (n++ ? "," : ""), $1 }' "$folder/hosts")
export WAN_FOLDER=$folder
# What belongs to rank 0 alone must not reach all ranks through the launcher's environment.
unset RANK LOCAL_RANK
code=0
case $peer in
  open_mpi)
    # Ranks sleep where they would spin: these hosts share the cores of one machine.
    mpirun.openmpi --allow-run-as-root -H "$addresses" -n "$WORLD_SIZE" --map-by node --bind-to none \
      --mca plm rsh --mca plm_rsh_agent "$here/wan_agent.sh" --mca plm_rsh_no_tree_spawn 1 \
      --mca oob_tcp_if_include 10.77.0.0/16 --mca btl_tcp_if_include 10.77.0.0/16 \
      --mca pml ob1 --mca btl tcp,self --mca mpi_yield_when_idle 1 "$@" || code=$?
    ;;
  mpich)
    export MPIR_CVAR_NOLOCAL=1 UCX_TLS=tcp,self UCX_NET_DEVICES=eth0
    mpiexec.mpich -launcher ssh -launcher-exec "$here/wan_agent.sh" -localhost "$address" -iface eth0 \
      -hosts "$addresses" -n "$WORLD_SIZE" -ppn 1 "$@" || code=$?
    ;;
  *)
    echo "wan_rank.sh: unknown peer '$peer'" >&2
    code=2
    ;;
esac
for fifo in "$folder"/end.*; do timeout 5 sh -c 'echo done >"$1"' sh "$fifo" || true; done
exit "$code"
