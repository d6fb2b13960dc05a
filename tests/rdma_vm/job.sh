#!/usr/bin/env bash
# Inside the virtual machine: one process per host named, each a rank of one job.
#   tests/rdma_vm/job.sh TOPOLOGY "HOST HOST ..." COMMAND...
set -u
topology=$1
read -ra hosts <<<"$2"
shift 2
export LONGSPAN_TOPOLOGY=$topology MASTER_ADDR=10.88.0.1 MASTER_PORT=29500 WORLD_SIZE=${#hosts[@]}
declare -A seen=()
ranks=()
for rank in "${!hosts[@]}"; do
  host=${hosts[$rank]}
  local_rank=${seen[$host]:-0}
  seen[$host]=$((local_rank + 1))
  RANK=$rank LOCAL_RANK=$local_rank LONGSPAN_HOST=$host "$@" &
  ranks+=($!)
done
status=0
for rank in "${ranks[@]}"; do wait "$rank" || status=$?; done
exit $status
