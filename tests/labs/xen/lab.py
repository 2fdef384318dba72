#!/usr/bin/env python3
"""A real Xen with several NUMA nodes, booted under qemu without KVM; commands run in its dom0.

    lab.py start [--topology n4] [--xen 'sched=credit']
    lab.py exec 'xl info -n'          input, output and exit status are the command's
    lab.py ssh ARGUMENT...            as OpenSSH's ssh, with the lab's name as the host
    lab.py put LOCAL REMOTE | get REMOTE [LOCAL]
    lab.py console                    what Xen and dom0 wrote on the serial line
    lab.py status | stop

Several labs run side by side with --name. See also ../common/machine.py.
"""

import argparse
import shlex
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

XEN_ARGUMENTS = (
    "com1=115200,8n1 console=com1 loglvl=all guest_loglvl=all noreboot "
    # Xen would touch all memory at boot, and qemu really take it.
    "bootscrub=0 spec-ctrl=no xpti=no conring_size=512k"
)
DOM0_ARGUMENTS = (
    "console=hvc0 quiet loglevel=4 mitigations=off xen_scrub_pages=0 init_on_alloc=0 rodata=off"
)
DOM0_MIB = 512
DOM0_MIB_WITH_GUEST = 1024
"""With the files of a Linux guest; homenode has room beside them, and a guest that is saved."""

CLEAN = r"""
i=0
while guests=$(xl list | awk 'NR > 1 && $2 != 0 { print $2 }'); [ "$guests" ]; do
    [ $((i += 1)) -gt 50 ] && { echo "guests stay: $guests" >&2; exit 1; }
    for id in $guests; do xl destroy "$id" 2>/dev/null; done
done
xl cpupool-list | awk 'NR > 1 && $1 != "Pool-0" { print $1 }' | while read -r pool; do
    cpus=$(xl cpupool-list -c "$pool" | awk 'NR > 1 { print $2 }')
    xl cpupool-destroy "$pool"
    xl cpupool-cpu-add Pool-0 "$cpus"
done
rm -rf /run/homenode
until xl debug-keys H; xl dmesg | awk "
        /'H' pressed/ { dirty = 0 } /unscrubbed pages/ { dirty = 1 } END { exit dirty }"; do
    [ $((i += 1)) -gt 300 ] && { echo "memory stays unscrubbed" >&2; exit 1; }
    sleep 0.2
done
"""
"""Takes dom0 back to how it was after the boot, but for what it wrote elsewhere in its files."""


class Lab(Machine):
    """A Xen; commands run in its dom0."""

    kind = "xenlab"
    builder = HERE / "build.py"
    topologies = HERE / "topologies.json"
    crashes = ("Dom0 crashed", "Panic on CPU")

    def start(
        self,
        topology: str | Mapping = "n4",
        *,
        xen_args: str = "",
        dom0_args: str = "",
        dom0_mem: int | None = None,
        dom0_vcpus: int = 2,
        cpu: str = "Nehalem",
        linux_guest: bool = False,
        accel: str = ACCELERATOR,
        qemu_args: Sequence[str] = (),
        timeout: float = 300,
    ) -> float:
        """Boot; return the seconds that it took. ``dom0_mem`` is in MiB.

        ``linux_guest`` adds the kernel and initramfs of a Linux guest to dom0 (190 MB of its
        memory). Raises LabError when the lab runs, cannot be built or does not come up.
        """
        images = self.prepare()
        # Its files are in its memory, of which they may take a quarter.
        dom0_mem = dom0_mem or (DOM0_MIB_WITH_GUEST if linux_guest else DOM0_MIB)
        xen = f"{XEN_ARGUMENTS} dom0_mem={dom0_mem}M,max:{dom0_mem}M dom0_max_vcpus={dom0_vcpus}"
        dom0 = f"{DOM0_ARGUMENTS} {dom0_args}".strip().replace(",", ",,")
        disk = images / ("dom0+linux.cpio" if linux_guest else "dom0.cpio")
        command = [
            *("-machine", "q35", "-accel", accel, "-cpu", cpu),
            *("-kernel", str(images / "xen"), "-append", f"{xen} {xen_args}"),
            *("-initrd", f"{images / 'vmlinux'} {dom0},{disk}"),
            *qemu_args,
        ]
        return self.boot(topology, command, timeout=timeout)

    def clean(self) -> None:
        """Take dom0 back to how it was: no guests, one cpupool, no state of homenode, all scrubbed.

        Memory of a guest that ended is free, and not yet to be had, until idle cpus scrubbed it.
        """
        self.run(CLEAN, timeout_s=180, check=True)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--name", default="lab")
    verbs = parser.add_subparsers(dest="verb", required=True)
    start = verbs.add_parser("start")
    start.add_argument("--topology", default="n4", help="of topologies.json, or a file")
    start.add_argument("--xen", default="", help="more parameters of Xen")
    start.add_argument("--dom0", default="", help="more parameters of dom0's kernel")
    start.add_argument(
        "--dom0-mem",
        type=int,
        help=f"MiB ({DOM0_MIB}; {DOM0_MIB_WITH_GUEST} with --linux-guest)",
    )
    start.add_argument("--dom0-vcpus", type=int, default=2)
    start.add_argument("--cpu", default="Nehalem")
    start.add_argument("--accel", default=ACCELERATOR)
    start.add_argument(
        "--qemu",
        default="",
        help="more arguments of qemu: with --accel tcg,thread=single,"
        " '-icount shift=3,sleep=off' gives exact virtual time",
    )
    start.add_argument("--linux-guest", action="store_true", help="have /guest/vmlinux in dom0")
    start.add_argument("--timeout", type=int, default=300, help="seconds")
    add_verbs(verbs)
    return parser


def _start(lab: Lab, asked: argparse.Namespace) -> float:
    return lab.start(
        asked.topology,
        xen_args=asked.xen,
        dom0_args=asked.dom0,
        dom0_mem=asked.dom0_mem,
        dom0_vcpus=asked.dom0_vcpus,
        cpu=asked.cpu,
        linux_guest=asked.linux_guest,
        accel=asked.accel,
        qemu_args=shlex.split(asked.qemu),
        timeout=asked.timeout,
    )


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:], _parser(), _start, Lab))
