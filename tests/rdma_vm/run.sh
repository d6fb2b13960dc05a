#!/usr/bin/env bash
# The tests of transports/verbs over Soft-RoCE, in a virtual machine: tests/rdma_vm/run.sh [BUILD]   (default build/dev)
# Skipped with the reason where there is no QEMU or kernel, or verbs is not built.
set -euo pipefail
cd "$(dirname "$(readlink -f "$0")")/../.."
build=$(readlink -f "${1:-build/dev}")
started=$SECONDS
cmake/setup.sh --vm || true
if ! why=$(tests/rdma_vm/vm.py --check); then
  echo "SKIP: rdma_vm: $why"
  exit 0
fi
if [ ! -x "$build/tests/test_verbs" ]; then
  echo "SKIP: rdma_vm: verbs is not built (libibverbs-dev)"
  exit 0
fi
tests/rdma_vm/vm.py --timeout 280 -- tests/rdma_vm/network.sh tests/rdma_vm/inside.sh "$build"
echo "rdma_vm: passed in $((SECONDS - started)) s"
