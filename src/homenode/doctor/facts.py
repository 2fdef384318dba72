"""What the rooms of the doctor are told of a machine; who reads it knows nothing of findings."""

from collections.abc import Mapping
from typing import Literal, NamedTuple

from homenode.bitmap import CpuMap, NodeMap

WATCHED = ("numad", "irqbalance", "ksmtuned", "tuned", "libvirtd", "virtqemud")
"""Processes that move what homenode places or its interrupts, and the daemons of libvirt."""

KeeperUnit = Literal["absent", "installed", "enabled"]


class LinuxFacts(NamedTuple):
    """What a Linux host tells of itself; None is unknown or not there.

    `processes` are the names of those of `WATCHED` that run. `command_line` is the kernel's.
    `controllers` are the controllers of control groups that there are, `control_groups` their
    version, and `libvirt_controllers` those that libvirt may use, where its file says;
    `machine_cpus` and `machine_nodes` are what the group of all guests is confined to. `qemu_conf`
    has what libvirt's file says of memory. `numad` is what /usr/bin/numad is. `has_socket` is
    whether a daemon of libvirt can be reached. `left_to_numad` are guests that are defined with
    ``placement="auto"``, `strict` those that run and are bound strictly. `vfio` are the addresses
    of devices that guests can be given.
    """

    processes: frozenset[str] = frozenset()
    command_line: str | None = None
    numa_balancing: int | None = None
    ksm_run: int | None = None
    ksm_merge_across_nodes: int | None = None
    zone_reclaim_mode: int | None = None
    transparent_hugepage: str | None = None
    overcommit_memory: int | None = None
    min_free_kib: int | None = None
    swap_used_kib: int | None = None
    demotion: bool | None = None
    controllers: frozenset[str] | None = None
    control_groups: Literal[1, 2] | None = None
    libvirt_controllers: frozenset[str] | None = None
    machine_cpus: CpuMap | None = None
    machine_nodes: NodeMap | None = None
    isolated: CpuMap = CpuMap()
    tickless: CpuMap = CpuMap()
    qemu_conf: Mapping[str, str] = {}
    numad: Literal["absent", "numad", "homenode"] = "absent"
    has_hook: bool = False
    has_libvirt: bool = False
    has_socket: bool = True
    has_binding: bool = False
    can_see_guests: bool = True
    left_to_numad: tuple[str, ...] = ()
    strict: tuple[str, ...] = ()
    vfio: tuple[str, ...] = ()


class XenFacts(NamedTuple):
    """What a Xen host tells beside its nodes and guests; None is unknown.

    `command_line` is Xen's. `conf` has what xl.conf says, by its keys. `version` is the
    hypervisor's and `tools` those whose libraries are installed, as ``4.17``. `claimed_kib` is
    what Xen has promised to guests that are being built (its own claims). `xl_held_by` is the
    process that has xl's lock.
    """

    command_line: str | None = None
    conf: Mapping[str, str] = {}
    version: str | None = None
    tools: frozenset[str] = frozenset()
    scheduler: str | None = None
    claimed_kib: int | None = None
    xl_held_by: int | None = None

    def option(self, name: str) -> str | None:
        """Return the last value of an option of Xen's command line; None if it is not there.

        An option without a value is ``""``; ``no-NAME`` is ``"no"``.
        """
        found = None
        for word in (self.command_line or "").split():
            key, _, value = word.partition("=")
            if key == name:
                found = value
            elif key == f"no-{name}":
                found = "no"
        return found


class InstallationFacts(NamedTuple):
    """What there is of homenode and beside it. None: not there, or nobody can say.

    The versions are those of the distributions that are installed. `numad_program` is where
    ``homenode-numad`` is. `unit` is how the keeper's service is set up, and `keeper` the process
    of a keeper that is at work. `state_folder` is where the ledger is; `state_error`,
    `ledger_error` and `configuration_error` are why it, the ledger, or the configuration cannot
    be used.
    """

    version: str = ""
    python: str = ""
    rich: str | None = None
    binding: str | None = None
    ssh: str | None = None
    numad_program: str | None = None
    unit: KeeperUnit = "absent"
    keeper: int | None = None
    state_folder: str = ""
    state_error: str | None = None
    ledger_error: str | None = None
    configuration_error: str | None = None
