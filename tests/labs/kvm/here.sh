#!/bin/bash
# A private libvirtd on this very machine, without the lab, for one command; nothing is left behind.
#
#   here.sh virsh capabilities
#   SYSFS=DIR here.sh COMMAND    shows DIR/node and DIR/cpu as the machine's topology
#
# Needs root, and libvirt-daemon, libvirt-daemon-driver-qemu, libvirt-clients, qemu-system-x86, binutils.
# All is done in a mount namespace, with /etc/libvirt, /run/libvirt and /var/lib/libvirt of its own. The
# firmware of tiny guests is in $GUESTS.
set -e
if [ "$1" != --inside ]; then
    exec unshare --mount --propagation private -- "$0" --inside "$@"
fi
shift
source=$(cd "$(dirname "$0")" && pwd)
work=$(mktemp -d "${TMPDIR:-/tmp}/libvirtd-here.XXXXXX")
mkdir -p "$work"/{etc,run,lib,log,cache,guests,homenode}
cp "$source"/host/{qemu,libvirtd}.conf "$work/etc"
# libvirtd wants its usual user to exist.
for file in passwd group; do
    cp "/etc/$file" "$work/$file"
    user=libvirt-qemu:x:64055:
    [ $file = passwd ] && user=libvirt-qemu:x:64055:64055::/:/bin/false
    grep -q ^libvirt-qemu: "$work/$file" || echo "$user" >>"$work/$file"
    mount --bind "$work/$file" "/etc/$file"
done
for pair in etc:/etc/libvirt run:/run/libvirt lib:/var/lib/libvirt log:/var/log/libvirt \
            cache:/var/cache/libvirt homenode:/run/homenode; do
    mkdir -p "${pair#*:}"
    mount --bind "$work/${pair%%:*}" "${pair#*:}"
done
# A mount of version 2 without controllers beside version 1 confuses libvirt 9.0.
unified=/sys/fs/cgroup/unified
if [ -e $unified/cgroup.controllers ] && [ ! -s $unified/cgroup.controllers ]; then
    umount $unified
fi
if [ -n "$SYSFS" ]; then
    for folder in node cpu; do mount --bind "$SYSFS/$folder" "/sys/devices/system/$folder"; done
fi
export GUESTS=$work/guests
for rom in idle burn; do
    as --32 -o "$work/rom.o" "$source/host/$rom.S"
    ld -m elf_i386 -Ttext=0 -e 0 --oformat=binary -o "$GUESTS/$rom.rom" "$work/rom.o"
done
libvirtd --daemon --config /etc/libvirt/libvirtd.conf --pid-file "$work/pid"
finish() {
    for guest in $(virsh -q list --name 2>/dev/null); do virsh -q destroy "$guest"; done
    pid=$(cat "$work/pid")
    kill "$pid"
    while [ -d "/proc/$pid" ]; do sleep 0.1; done
    rm -rf "$work"
}
trap finish EXIT
"$@"
