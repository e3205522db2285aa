#!/bin/busybox sh
# PID 1 of the initramfs: reaches the virtio disks, puts them together, hands over to guest/init.sh.
# Disks in QEMU's order: vda the Debian root, vdb Node and node_modules, vdc the project, vdd the results.
bb=/bin/busybox
fail() {
  echo "vm: cannot boot: $1"
  $bb poweroff -f
}
$bb mount -t proc proc /proc
$bb mount -t devtmpfs dev /dev
while read -r module; do
  $bb insmod "/modules/$module.ko" || fail "module $module"
done < /modules/order
# The disks appear when their driver has probed them.
tries=0
until [ -b /dev/vdd ]; do
  tries=$((tries + 1))
  [ $tries -lt 500 ] || fail 'no virtio disks'
  $bb usleep 20000
done
$bb mount -t ext4 -o noatime /dev/vda /root || fail 'the root disk'
$bb mkdir -p /root/opt/tools /root/nodelet
$bb mount -t ext4 -o noatime /dev/vdb /root/opt/tools || fail 'the disk of tools'
$bb mount -t ext4 -o noatime /dev/vdc /root/nodelet || fail 'the disk of the project'
$bb mount -t tmpfs -o mode=755 run /root/run
$bb cp -r /guest /root/run/vm
$bb mount -o move /dev /root/dev
$bb mount -o move /proc /root/proc
exec $bb switch_root /root /bin/sh /run/vm/init.sh
