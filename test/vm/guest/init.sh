#!/bin/sh
# PID 1 of the guest: what an init system would have set up, then /nodelet/.vm/command, then power off.
# `wait` reaps whatever is orphaned meanwhile, as PID 1 has to.
export PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin HOME=/root TERM=dumb LANG=C.UTF-8
results=/run/results
mkdir -p $results /run/lock
mount -t sysfs -o nosuid,nodev,noexec sys /sys
mkdir -p /dev/pts /dev/shm /dev/mqueue
mount -t devpts -o gid=5,mode=620,ptmxmode=666 devpts /dev/pts
mount -t tmpfs -o nosuid,nodev,mode=1777 shm /dev/shm
mount -t mqueue mqueue /dev/mqueue
mount -t bpf -o mode=700 bpf /sys/fs/bpf
# Pure cgroup v2, with systemd's options.
mount -t cgroup2 -o nsdelegate,memory_recursiveprot cgroup2 /sys/fs/cgroup
# As under systemd: mounts propagate unless a program says otherwise, and a service is no member of the root cgroup.
mount --make-rshared /
mkdir -p /sys/fs/cgroup/system.slice/vm.service
ip link set lo up
hostname vm
# What a node's administrator loads; the rest comes by the kernel's own requests to modprobe.
modprobe -a overlay br_netfilter virtio_rng
sysctl -q -p /run/vm/sysctl.conf
ln -s /opt/tools/node /usr/local/bin/node
ln -s /opt/tools/node_modules /nodelet/node_modules
cd /nodelet

shell() {
  echo "vm: a shell on the guest's console; /nodelet is the project, \`exit\` powers off"
  (
    echo 0 > /sys/fs/cgroup/system.slice/vm.service/cgroup.procs
    exec setsid sh -c 'exec sh -i < /dev/ttyS0 > /dev/ttyS0 2>&1'
  ) &
  wait $!
}

tests() {
  echo "vm: tests begin after $(cut -d' ' -f1 /proc/uptime) s, Linux $(uname -r)"
  (
    echo 0 > /sys/fs/cgroup/system.slice/vm.service/cgroup.procs
    . /nodelet/.vm/environment
    # shellcheck disable=SC2154 # deadline comes from that file
    exec timeout --signal=TERM --kill-after=10 "$deadline" sh /nodelet/.vm/command
  ) < /dev/null &
  wait $!
  echo $? > $results/status
  echo "vm: tests end after $(cut -d' ' -f1 /proc/uptime) s"
}

case " $(cat /proc/cmdline) " in
  *' nodelet.mode=shell '*) shell ;;
  *) tests ;;
esac
ps -ef > $results/processes 2>&1
cat /proc/self/mountinfo > $results/mountinfo
find /sys/fs/cgroup -type d > $results/cgroups
dmesg > $results/dmesg
tar -C $results -cf /dev/vdd .
sync
busybox poweroff -f
