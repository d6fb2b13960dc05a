#!/bin/busybox sh
# The first process of the virtual machine: mounts the host's root read-only with a volatile layer above it, runs the
# command there, and reports its exit code. vm.py puts it into the initial file system.
/bin/busybox --install -s /bin
mount -t proc proc /proc
mount -t sysfs sysfs /sys
mount -t devtmpfs devtmpfs /dev
while read -r module; do insmod "/modules/$module"; done </modules/order

mkdir -p /lower /volatile /root
mount -t 9p -o trans=virtio,version=9p2000.L,ro,cache=loose,msize=512000 host /lower
mount -t tmpfs -o size=70% tmpfs /volatile
mkdir -p /volatile/upper /volatile/work
mount -t overlay -o lowerdir=/lower,upperdir=/volatile/upper,workdir=/volatile/work overlay /root
for folder in proc sys dev; do
  mkdir -p "/root/$folder"
  mount --move "/$folder" "/root/$folder"
done
mount -t tmpfs tmpfs /root/run
mkdir -p /root/dev/shm /root/dev/pts /root/run/out
mount -t tmpfs tmpfs /root/dev/shm
mount -t devpts devpts /root/dev/pts
if grep -qs out /root/sys/bus/virtio/drivers/9pnet_virtio/*/mount_tag; then
  mount -t 9p -o trans=virtio,version=9p2000.L,cache=none,msize=512000 out /root/run/out
fi
ip link set lo up
hostname longspan-vm
cp /command.sh /root/run/command.sh

# The kernel asks for modules by itself, too, from this first root.
mkdir -p /sbin /root/lib/modules
ln -s "$(cat /modules/folder)" "/root/lib/modules/$(uname -r)"
printf '#!/bin/sh\nexec chroot /root /sbin/modprobe "$@"\n' >/sbin/modprobe
chmod +x /sbin/modprobe
for port in /root/sys/class/virtio-ports/*; do
  ln -s "/root/dev/${port##*/}" "/$(cat "$port/name")"
done
chroot /root /bin/bash /run/command.sh </root/dev/null >/output 2>&1
echo "exit $?" >/status
sync
poweroff -f
