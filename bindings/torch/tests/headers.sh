#!/bin/bash
# Compiles the binding's sources against the headers of other torch wheels: headers.sh [MINOR...]; by default 2.10 to
# 2.15. Only headers are kept, one wheel at a time; nothing is linked or run. pip takes the wheels from its own index.
set -u
here=$(cd "$(dirname "$0")/.." && pwd)
python=${PYTHON:-python3}
cxx=${CXX:-c++}
work=${WORK:-$(mktemp -d)}
mkdir -p "$work"
minors=("$@")
[ ${#minors[@]} -gt 0 ] || minors=(2.10 2.11 2.12 2.13 2.14 2.15)
include_python=$("$python" -c 'import sysconfig; print(sysconfig.get_paths()["include"])')
failed=0

headers_of() {  # MINOR: the folder with its torch/include, downloaded if need be; nothing if there is no such wheel
  local folder="$work/$1"
  if [ ! -d "$folder/torch/include" ]; then
    "$python" -m pip download -q "torch==$1.*" --no-deps --only-binary :all: -d "$folder" >"$folder.log" 2>&1 ||
      return 1
    "$python" - "$folder" <<'PYTHON' || return 1
import glob, sys, zipfile
wheel = glob.glob(sys.argv[1] + "/torch-*.whl")[0]
with zipfile.ZipFile(wheel) as file:
    wanted = [name for name in file.namelist() if name.startswith("torch/include/") or name == "torch/version.py"]
    file.extractall(sys.argv[1], wanted)
PYTHON
    rm -f "$folder"/*.whl
  fi
  echo "$folder"
}

for minor in "${minors[@]}"; do
  folder=$(headers_of "$minor") || { echo "$minor: no wheel here"; continue; }
  version=$(sed -n "s/^__version__ = '\(.*\)'/\1/p" "$folder/torch/version.py")
  include="$folder/torch/include"
  errors=0
  for source in "$here"/src/*.cpp; do
    "$cxx" -std=c++20 -fsyntax-only -w -DUSE_C10D_GLOO -D_GLIBCXX_USE_CXX11_ABI=1 -isystem "$include" \
      -isystem "$include/torch/csrc/api/include" -isystem "$include_python" -I"$here/../.." \
      -I"$here/../../include" "$source" \
      >"$folder/$(basename "$source").txt" 2>&1 && continue
    errors=$((errors + 1))
    echo "$version: $(basename "$source"): $(grep -m1 error: "$folder/$(basename "$source").txt")"
  done
  [ $errors -eq 0 ] && echo "$version: all sources compile" || failed=1
done
exit $failed
