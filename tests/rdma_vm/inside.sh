#!/usr/bin/env bash
# What CI runs inside the virtual machine: tests/rdma_vm/inside.sh BUILD
set -eu
build=$1
here=$(dirname "$0")
failed=0
step() {
  local name=$1 start=$SECONDS
  shift
  printf '\n--- %s\n' "$name"
  if "$@"; then printf -- '--- passed in %d s\n' $((SECONDS - start)); else
    printf -- '--- FAILED: %s\n' "$name"
    failed=1
  fi
}
# Fails unless the log says that this transport carried something.
carried() {
  local log=$1 transport
  shift
  for transport in "$@"; do
    grep -q "over $transport" "$log" || { echo "nothing went over $transport"; return 1; }
  done
}
mixed() {
  LONGSPAN_LOG=debug timeout 60 "$here/job.sh" "$here/two_regions.toml" "eu-1 eu-1 eu-2 us-1" "$build/bin/all_reduce_perf" -b 1M -e 1M -n 2 -w 1 >/run/mixed.log 2>&1 ||
    { tail -n 40 /run/mixed.log; return 1; }
  grep -E '^ +[0-9]|Out of bounds' /run/mixed.log
  carried /run/mixed.log shm verbs tcp
}
# Three ranks in two regions under a key, and the kernel's own count of those that it encrypts for.
encrypted() {
  LONGSPAN_LOG=info LONGSPAN_KEY=correct-horse-battery-staple LONGSPAN_ENCRYPT=all LONGSPAN_TRANSPORTS=tcp timeout 60 "$here/job.sh" \
    "$here/two_regions.toml" "eu-1 eu-2 us-1" "$build/bin/all_reduce_perf" -b 4K -e 256K -f 64 -n 1 -w 1 >/run/encrypted.log 2>&1 ||
    { tail -n 40 /run/encrypted.log; return 1; }
  grep -E '^ +[0-9]|Out of bounds|kTLS' /run/encrypted.log
  [ "$(grep -c 'the kernel encrypts' /run/encrypted.log)" = 3 ] || { echo "not all ranks left it to the kernel"; return 1; }
  awk '$1 == "TlsTxSw" { used = $2; print } $1 == "TlsDecryptError" { failed = $2 } END { exit !(used >= 12 && failed == 0) }' /proc/net/tls_stat
}

# Here there is a device, and a kernel that has everything: nothing may be skipped.
unit() {
  local status=0
  timeout 90 "$build/tests/$1" "${@:2}" >/run/unit.log 2>&1 || status=$?
  tail -n 40 /run/unit.log
  ! grep '^SKIP' /run/unit.log && return $status
}
step "transports/verbs/tests" unit test_verbs
LONGSPAN_TRANSPORTS=verbs step "conformance of verbs" timeout 200 "$build/tests/test_conformance"
LONGSPAN_TRANSPORTS=verbs step "4 ranks on 2 hosts over verbs" timeout 60 "$here/job.sh" "$here/two_hosts.toml" "eu-1 eu-1 eu-2 eu-2" \
  "$build/bin/all_reduce_perf" -b 1K -e 4M -f 64 -n 2 -w 1
step "shm, verbs and tcp in one collective" mixed
/sbin/modprobe tls
step "sessions that the kernel encrypts" unit test_security "[kernel]"
step "tcp where the kernel encrypts" unit test_tcp "[kernel]"
step "3 ranks in 2 regions, encrypted by the kernel" encrypted
exit $failed
