#!/usr/bin/env bash
# Set-up, build and tests of PyTorch's process group: bindings/torch/tests/run.sh [ctest options]. PyTorch comes into
# build/compare-venv, unless LONGSPAN_PYTHON names a Python that has it.
set -euo pipefail
cd "$(dirname "$(readlink -f "$0")")/../../.."

preset=${TEST_PRESET:-dev}
python=${LONGSPAN_PYTHON:-$PWD/build/compare-venv/bin/python3}
cmake/setup.sh
[ -n "${LONGSPAN_PYTHON:-}" ] || cmake/setup.sh --torch
if ! "$python" -c 'import torch' 2>/dev/null; then
  echo "SKIP: PyTorch's process group: there is no PyTorch in $python"
  exit 0
fi
mkdir -p "build/$preset"
cmake --preset "$preset" -DLONGSPAN_TORCH=ON -DPython3_EXECUTABLE="$python" ${TEST_CMAKE_ARGS:-} \
  >"build/$preset/configure.log" 2>&1 || { cat "build/$preset/configure.log"; exit 1; }
cmake --build --preset "$preset" --target longspan_torch
ctest --test-dir "build/$preset" -R '^torch_' --output-on-failure --no-tests=error "$@"
