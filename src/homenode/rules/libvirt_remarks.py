"""What to know of a guest whose libvirt XML has the decision in it: remarks beside what is written.

Each was seen with libvirt 9.0 and QEMU 7.2, as `homenode.rules.libvirt_config` has it.
"""

from homenode.bitmap import CpuMap, NodeMap
from homenode.formats.libvirt_xml import DomainXml
from homenode.guest import GuestRequest
from homenode.host import ORDINARY_PAGE_KIB, Host
from homenode.placement.decision import Decision, Warned
from homenode.rules.libvirt_config import cpus_that_fill, emulator_pin_stays, may_spill


def remarks(
    config: DomainXml, request: GuestRequest, decision: Decision, host: Host
) -> tuple[Warned, ...]:
    """Return what to know of the guest as its file describes it with the decision in it."""
    return (
        *cells_against_topology(config, decision),
        *emulator_away(config, decision, host),
        *spills_nearer(config, request, decision, host),
    )


def cells_against_topology(config: DomainXml, decision: Decision) -> tuple[Warned, ...]:
    """Tell of virtual nodes that part the threads of one of the guest's own cores."""
    threads = config.threads
    parted = [
        cell.id
        for cell in decision.virtual_nodes
        if any(
            not set(range(vcpu // threads * threads, (vcpu // threads + 1) * threads))
            <= set(cell.vcpus)
            for vcpu in cell.vcpus
        )
    ]
    if not parted:
        return ()
    text = f"<topology> has {threads} threads to a core, and virtual node"
    text += f"{'s' if len(parted) > 1 else ''} {NodeMap(parted)} parts them"
    return (Warned("cells-part-cores", text),)


def emulator_away(config: DomainXml, decision: Decision, host: Host) -> tuple[Warned, ...]:
    """Tell of an emulator that the user has pinned away from memory that its threads fill."""
    pin = config.emulator_pin
    huge = any(share.page_kib > ORDINARY_PAGE_KIB for share in decision.memory)
    if huge and not any(cell.page_kib for cell in decision.virtual_nodes):
        config = config._replace(filled_at_start=True)
    if pin is None or not emulator_pin_stays(config, decision, host):
        return ()
    missed = [cpus for cpus in cpus_that_fill(config, decision, host) if cpus.isdisjoint(pin)]
    if not missed:
        return ()
    text = f"<emulatorpin> {pin} has no cpus of {host.nodes_of(CpuMap.union(missed)).named}, whose"
    text += " memory is filled at the start: QEMU 7.2 of libvirt 9.0 does not start so"
    return (Warned("emulator-away-from-memory", text),)


def spills_nearer(
    config: DomainXml, request: GuestRequest, decision: Decision, host: Host
) -> tuple[Warned, ...]:
    """Tell of memory that is to spill to a node, where the kernel takes a nearer one's first.

    libvirt 9.0 has no mode that prefers several nodes in their order: it names those with cpus, and
    the kernel goes on by distance. Seen: decided were nodes 1 and 2 (without cpus), at distance 28,
    and what did not fit on node 1 came to lie on node 0, at 21.
    """
    nodes = NodeMap(share.node for share in decision.memory)
    huge = any(share.page_kib > ORDINARY_PAGE_KIB for share in decision.memory)
    if huge or decision.virtual_nodes or not may_spill(config, request, nodes, host):
        return ()
    near = nodes & host.nodes_of(host.cpu_map)
    others = [node.id for node in host.nodes if node.id not in nodes and node.usable_kib != 0]
    first = NodeMap(
        other
        for other in others
        for home in near
        for far in nodes - near
        if host.distance(home, other) < host.distance(home, far)
    )
    if not first:
        return ()
    text = f"what does not fit on {near.named} the kernel puts on {first.named}, not on"
    text += f" {(nodes - near).named}, which is farther; memory allocated at the start is bound"
    return (Warned("spills-nearer", text),)
