#!/usr/bin/env bash
# The CUDA suites and figures on a real GPU:  tests/gpu/run.sh [MiB of the figures, default 256] [FILE]
# Builds what is missing (preset release), and skips with the reason where there is no GPU. FILE: keeps what is printed (results
# belong into perf/results/DATE/gpu_NAME.txt). With one GPU its ranks share it: CUDA IPC is the same between processes then.
set -euo pipefail
cd "$(dirname "$(readlink -f "$0")")/../.."

if ! ldconfig -p 2>/dev/null | grep -q 'libcuda\.so\.1' && ! find ${LD_LIBRARY_PATH//:/ } -name libcuda.so.1 2>/dev/null | grep -q .; then
  echo "SKIP: tests/gpu: no NVIDIA driver here (libcuda.so.1); the suites ran on the double of the driver (ctest -R cuda)"
  exit 0
fi
if ! command -v nvidia-smi >/dev/null || ! nvidia-smi -L 2>/dev/null | grep -q '^GPU'; then
  echo "SKIP: tests/gpu: a driver, but no GPU that nvidia-smi -L lists"
  exit 0
fi
if [ -n "${2:-}" ]; then exec > >(tee "$2") 2>&1; fi
nvidia-smi --query-gpu=name,driver_version,pcie.link.gen.current,pcie.link.width.current --format=csv,noheader
preset=${GPU_PRESET:-release}
cmake --preset "$preset" >/dev/null
cmake --build --preset "$preset" --target test_cuda test_cuda_kernels test_cuda_conformance test_cuda_processes gpu_bench | tail -n 1
export LONGSPAN_TEST_GPU=1
"build/$preset/tests/test_cuda_kernels"
"build/$preset/tests/test_cuda_conformance"
"build/$preset/tests/test_cuda"
"build/$preset/tests/test_cuda_processes"  # each rank a process: CUDA IPC
"build/$preset/tests/gpu_bench" "${1:-256}"
