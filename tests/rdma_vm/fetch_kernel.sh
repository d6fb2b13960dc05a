#!/usr/bin/env bash
# Unpacks Debian's kernel into FOLDER, without installing it: no boot loader, no hooks, no root.
#   tests/rdma_vm/fetch_kernel.sh FOLDER
set -euo pipefail
folder=${1:?usage: fetch_kernel.sh FOLDER}
[ ! -e "$folder/vmlinuz" ] || exit 0
package=${LINUX_IMAGE:-$(apt-cache depends linux-image-amd64 | awk '/Depends: linux-image/ { print $2; exit }')}
[ -n "$package" ] || { echo "fetch_kernel: the package list knows no linux-image-amd64" >&2; exit 1; }
work=$(mktemp -d "${TMPDIR:-/tmp}/longspan-kernel.XXXXXX")
trap 'rm -rf "$work"' EXIT
# apt downloads as a user of its own, and warns where that one may not write.
chmod 1777 "$work"
(cd "$work" && apt-get -qq download "$package" && dpkg -x ./*.deb unpacked)
release=$(ls "$work/unpacked/lib/modules")
/sbin/depmod -b "$work/unpacked" "$release"
mkdir -p "$folder"
rm -rf "$folder/lib"
cp -r "$work/unpacked/lib" "$folder/lib"
echo "$release" >"$folder/release"
cp "$work/unpacked/boot/vmlinuz-$release" "$folder/vmlinuz"  # last: it says that all is there
echo "fetch_kernel: $package is in $folder"
