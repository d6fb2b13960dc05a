#!/usr/bin/env bash
# Installs what longspan needs to build, test and measure, by the system's package manager. Safe to run again; quick
# when nothing is missing.   cmake/setup.sh [--ci | --torch | --compare | --vm | --cuda]   (--ci: also clang, for the second
# compiler, tidy and the fuzzers; --torch: PyTorch for CPUs into build/compare-venv; --compare: that, and the MPIs of
# perf/compare; --vm: QEMU, and a kernel unpacked into build/rdma_vm, for tests/rdma_vm; --cuda: NVIDIA's compiler into
# build/cuda-venv, 0.4 GB, for the device kernels; needs no GPU and no driver)
set -euo pipefail

packages=(
  g++ cmake ninja-build pkg-config ca-certificates iproute2
  libtomlplusplus-dev libspdlog-dev libfmt-dev libcli11-dev nlohmann-json3-dev libhwy-dev
  catch2 librapidcheck-dev
)
# The build does without these, and says what it leaves out.
optional=(ccache libbenchmark-dev libssl-dev libhwloc-dev libibverbs-dev librdmacm-dev libucx-dev openmpi-bin libopenmpi-dev)
ci_packages=(git clang-19 clang-tidy-19 clang-format-19 libclang-rt-19-dev)
case "${1:-}" in
  "") ;;
  --ci) packages+=("${ci_packages[@]}") ;;
  --torch | --compare)
    optional+=(python3-venv python3-dev)
    if [ "$1" = --compare ]; then optional+=(mpich libmpich-dev); fi
    trap 'code=$?; [ "$code" -ne 0 ] || install_torch' EXIT
    ;;
  --vm)
    optional+=(qemu-system-x86 busybox-static kmod ibverbs-providers ibverbs-utils perftest iperf3 python3)
    trap 'code=$?; [ "$code" -ne 0 ] || fetch_kernel' EXIT
    ;;
  --cuda)
    optional+=(python3-venv)
    trap 'code=$?; [ "$code" -ne 0 ] || install_nvcc' EXIT
    ;;
  *) echo "setup: unknown option '$1'; usage: cmake/setup.sh [--ci | --torch | --compare | --vm | --cuda]" >&2; exit 2 ;;
esac

fetch_kernel() {
  local root
  root=$(dirname "$(readlink -f "$0")")/..
  "$root/tests/rdma_vm/fetch_kernel.sh" "$root/build/rdma_vm/kernel" ||
    echo "setup: the kernel could not be had; tests/rdma_vm is skipped" >&2
}

# The toolkit's own packages for Python: those of CUDA 12 lack nvcc itself. 13.0: drivers from 580 on run its code.
install_nvcc() {
  local venv
  venv=$(dirname "$(readlink -f "$0")")/../build/cuda-venv
  if command -v nvcc >/dev/null || [ -x /usr/local/cuda/bin/nvcc ]; then echo "setup: nvcc is installed"; return; fi
  if ls "$venv"/lib/python3*/site-packages/nvidia/cu13/bin/nvcc >/dev/null 2>&1; then return; fi
  echo "setup: installing nvcc into build/cuda-venv"
  python3 -m venv "$venv" &&
    "$venv/bin/pip" install -q 'nvidia-cuda-nvcc==13.0.*' 'nvidia-nvvm==13.0.*' 'nvidia-cuda-crt==13.0.*' 'nvidia-cuda-runtime==13.0.*' 'nvidia-cuda-cccl==13.0.*' ||
    echo "setup: nvcc could not be installed: the build goes on without device kernels" >&2
}

# Gloo comes with PyTorch; its build for CPUs is enough, and a tenth of the size.
install_torch() {
  local venv
  venv=$(dirname "$(readlink -f "$0")")/../build/compare-venv
  if "$venv/bin/python" -c 'import torch, expecttest' 2>/dev/null; then return; fi
  echo "setup: installing PyTorch into build/compare-venv"
  local wanted=('torch==2.13.0+cpu' numpy expecttest scikit-build-core)
  # Some mirrors have that build; asking PyTorch's own index first would cost two minutes of retries where it is out of reach.
  { python3 -m venv "$venv" &&
    { "$venv/bin/pip" install -q "${wanted[@]}" 2>/dev/null ||
      "$venv/bin/pip" install -q "${wanted[@]}" --extra-index-url https://download.pytorch.org/whl/cpu; }; } ||
    echo "setup: PyTorch could not be installed: no process group for it, and perf/compare/wan.py goes on without Gloo" >&2
}

if ! command -v apt-get >/dev/null; then
  cat >&2 <<'TEXT'
setup: this script knows Debian and Ubuntu (apt-get). Elsewhere please install, under your system's names:
  a C++20 compiler (GCC 12 or clang 19), CMake 3.25, Ninja, pkg-config, iproute2,
  toml++ 3, spdlog, fmt, CLI11, nlohmann-json, Google Highway 1, Catch2 (2.13 or 3), rapidcheck;
  optional: ccache, Google Benchmark, hwloc 2, libibverbs, librdmacm, UCX, Open MPI, the CUDA Toolkit
and then build:  cmake --preset release && cmake --build --preset release
TEXT
  exit 0
fi

# Those of the arguments that are not installed.
not_installed() {
  local package
  for package in "$@"; do
    dpkg-query -W -f='${Status}\n' "$package" 2>/dev/null | grep -q 'ok installed' || echo "$package"
  done
}
mapfile -t missing < <(not_installed "${packages[@]}")
mapfile -t missing_optional < <(not_installed "${optional[@]}")
if [ $((${#missing[@]} + ${#missing_optional[@]})) -eq 0 ]; then
  echo "setup: everything is installed"
  exit 0
fi

as_root=()
if [ "$(id -u)" -ne 0 ]; then
  if ! command -v sudo >/dev/null; then
    if [ ${#missing[@]} -eq 0 ]; then
      echo "setup: everything needed is installed; these optional packages are not, and need root: ${missing_optional[*]}"
      exit 0
    fi
    echo "setup: needs root to install: ${missing[*]} ${missing_optional[*]}" >&2
    exit 1
  fi
  as_root=(sudo)
fi
apt_get() { "${as_root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get -qq -o DPkg::Lock::Timeout=120 "$@"; }
apt_get update
# Some releases have no package of that name: what is optional is left out then.
for package in "${missing_optional[@]}"; do
  if apt-cache show --no-all-versions "$package" >/dev/null 2>&1; then
    missing+=("$package")
  else
    echo "setup: this system has no package $package; going on without"
  fi
done
[ ${#missing[@]} -eq 0 ] && exit 0
echo "setup: installing ${missing[*]}"
apt_get install -y --no-install-recommends "${missing[@]}" >/dev/null
echo "setup: done"
