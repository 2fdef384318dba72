"""Files of tiny guests for the KVM lab: a firmware of 64 KiB is all that runs in them.

guests.xml("web", memory=128, vcpus=2, numatune="<memory mode='strict' nodeset='1'/>")
"""

from collections.abc import Sequence

FOLDER = "/var/lib/guests"


def xml(
    name: str,
    *,
    memory: int = 64,
    vcpus: int = 1,
    filled: bool = True,
    rom: str = "idle",
    placement: str = "static",
    cpuset: str = "",
    numatune: str = "",
    cputune: str = "",
    cells: Sequence[tuple[int, str]] = (),
    huge_kib: int = 0,
    uuid: str = "",
    emulator: str = "/usr/bin/qemu-system-x86_64",
) -> str:
    """Return the file of a guest with `memory` MiB, all of it written to at the start if `filled`.

    `rom` is ``idle``, ``burn`` (all vcpus busy) or ``touch`` (writes to its memory bit by bit).
    `cells` are (MiB, vcpus) of virtual nodes.
    """
    backing = f"<hugepages><page size='{huge_kib}' unit='KiB'/></hugepages>" if huge_kib else ""
    backing += "<allocation mode='immediate'/>" if filled else ""
    own = "".join(
        f"<cell id='{number}' cpus='{cpus}' memory='{mib}' unit='MiB'/>"
        for number, (mib, cpus) in enumerate(cells)
    )
    set_of_cpus = f" cpuset='{cpuset}'" if cpuset else ""
    return f"""<domain type='qemu'>
  <name>{name}</name>
  {f"<uuid>{uuid}</uuid>" if uuid else ""}
  <memory unit='MiB'>{memory}</memory>
  <memoryBacking>{backing}</memoryBacking>
  <vcpu placement='{placement}'{set_of_cpus}>{vcpus}</vcpu>
  {f"<cputune>{cputune}</cputune>" if cputune else ""}
  {f"<numatune>{numatune}</numatune>" if numatune else ""}
  <os>
    <type arch='x86_64' machine='pc'>hvm</type>
    <loader readonly='yes' type='rom'>{FOLDER}/{rom}.rom</loader>
  </os>
  <features><acpi/><apic/></features>
  {f"<cpu><numa>{own}</numa></cpu>" if own else ""}
  <devices>
    <emulator>{emulator}</emulator>
    <controller type='usb' model='none'/>
    <memballoon model='none'/>
  </devices>
</domain>
"""
