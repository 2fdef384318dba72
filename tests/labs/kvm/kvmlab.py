#!/usr/bin/env python3
"""A Linux with several NUMA nodes, libvirtd and QEMU, under qemu without KVM; commands run in it.

    kvmlab.py start [--topology n4] [--append 'numa_balancing=disable']
    kvmlab.py exec 'virsh capabilities'   input, output and exit status are the command's
    kvmlab.py ssh ARGUMENT...             as OpenSSH's ssh, with the lab's name as the host
    kvmlab.py put LOCAL REMOTE | get REMOTE [LOCAL]
    kvmlab.py console                     what was written on the serial line
    kvmlab.py status | stop

Several labs run side by side with --name. See also ../common/machine.py.
"""

import argparse
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path.append(str(HERE.parent / "common"))

from machine import (  # noqa: E402 - found by the line before
    ACCELERATOR,
    LabError,
    Machine,
    NoImageError,
    Result,
    add_verbs,
    main,
)

__all__ = ["Lab", "LabError", "NoImageError", "Result"]

ARGUMENTS = (
    "console=ttyS0 quiet loglevel=4 panic=-1 mitigations=off audit=0 apparmor=0 init_on_alloc=0"
    " rodata=off nokaslr nowatchdog random.trust_cpu=on"
)
CPU = "Nehalem,+rdrand,+pdpe1gb"
CLEAN = r"""
virsh -q list --name >/dev/null 2>&1 || { libvirtd --daemon && sleep 1; }
i=0
while guests=$(virsh -q list --uuid) && [ "$guests" ]; do
    [ $((i += 1)) -gt 50 ] && { echo "guests stay: $guests" >&2; exit 1; }
    for guest in $guests; do virsh -q destroy "$guest" 2>/dev/null; done
done
for guest in $(virsh -q list --all --uuid); do virsh -q undefine "$guest" --managed-save; done
if [ -e /etc/libvirt/hooks ] || [ -e /usr/bin/numad.distrib ]; then
    rm -rf /etc/libvirt/hooks
    [ -e /usr/bin/numad.distrib ] && mv -f /usr/bin/numad.distrib /usr/bin/numad
    # It looks for hooks when it starts.
    kill "$(cat /run/libvirtd.pid)"
    while [ -e /run/libvirtd.pid ]; do sleep 0.1; done
    libvirtd --daemon
fi
for pool in /sys/devices/system/node/node*/hugepages/hugepages-*/nr_hugepages; do
    echo 0 >"$pool"
done
echo always >/sys/kernel/mm/transparent_hugepage/enabled
rm -rf /run/homenode /root/*
echo 3 >/proc/sys/vm/drop_caches
"""
"""Takes the host back to how it was after the boot, but for what else is in its files."""


class Lab(Machine):
    """A Linux with libvirtd; commands run as its root."""

    kind = "kvmlab"
    builder = HERE / "build.py"
    topologies = HERE / "topologies.json"
    crashes = ("Kernel panic", "kvmlab-init FAILED")

    def start(
        self,
        topology: str | Mapping = "n4",
        *,
        arguments: str = "",
        cpu: str = CPU,
        accel: str = ACCELERATOR,
        qemu_args: Sequence[str] = (),
        timeout: float = 90,
    ) -> float:
        """Boot; return the seconds that it took. ``arguments`` are more of the kernel's.

        Raises LabError when the lab runs, cannot be built or does not come up.
        """
        images = self.prepare()
        disk = self.directory / "disk"
        create = ["qemu-img", "create", "-q", "-f", "qcow2", "-F", "raw"]
        subprocess.run([*create, "-b", images / "root.ext4", disk], check=True)
        command = [
            *("-machine", "q35", "-accel", accel, "-cpu", cpu),
            *("-kernel", str(images / "vmlinux"), "-initrd", str(images / "initrd.cpio")),
            *("-append", f"{ARGUMENTS} {arguments}".strip()),
            *("-drive", f"file={disk},format=qcow2,if=virtio,cache=unsafe"),
            *qemu_args,
        ]
        return self.boot(topology, command, timeout=timeout)

    def clean(self) -> None:
        """Take the host back to how it was: no guests, no hooks, no pools, Debian's own numad."""
        self.run(CLEAN, timeout_s=180, check=True)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--name", default="kvm")
    verbs = parser.add_subparsers(dest="verb", required=True)
    start = verbs.add_parser("start")
    start.add_argument("--topology", default="n4", help="of topologies.json, or a file")
    start.add_argument("--append", default="", help="more parameters of the kernel")
    start.add_argument("--cpu", default=CPU)
    start.add_argument("--accel", default=ACCELERATOR)
    start.add_argument("--timeout", type=int, default=90, help="seconds")
    add_verbs(verbs)
    return parser


def _start(lab: Lab, asked: argparse.Namespace) -> float:
    return lab.start(
        asked.topology,
        arguments=asked.append,
        cpu=asked.cpu,
        accel=asked.accel,
        timeout=asked.timeout,
    )


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:], _parser(), _start, Lab))
