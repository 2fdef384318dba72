"""Guests of libvirt and QEMU as they run: what their files and the daemon tell, as the model's.

libvirt has no soft affinity: a vcpu is pinned to cpus, or may use any. Where new memory comes from
is what ``<numatune>`` names, or numad advised; without it Linux takes it from the node where a
vcpu that touches it runs.
"""

from collections.abc import Sequence

from homenode.bitmap import CpuMap, NodeMap
from homenode.formats.libvirt_xml import DomainXml
from homenode.guest import Guest, GuestState, MemoryByNode, Vcpu, VirtualNode
from homenode.host import ORDINARY_PAGE_KIB, Host
from homenode.placement.view import commitment_kib
from homenode.rules.libvirt_request import page_kib_of, virtual_nodes_of
from homenode.rules.qemu import overhead_kib


def guest_of(  # noqa: PLR0913 - all that is known of a guest
    config: DomainXml,
    host: Host,
    *,
    id: int | None,  # noqa: A002 - the model's word
    state: GuestState = "running",
    masks: Sequence[CpuMap] | None = None,
    chosen: NodeMap | None = None,
    bound: NodeMap | None = None,
    memory: MemoryByNode | None = None,
) -> Guest:
    """Return the guest that `config` is the file of, as it runs.

    `masks` are the cpus of its vcpus as the daemon says, None for those of the file. `chosen` are
    the nodes that its memory is told to come from, where the file leaves that to numad. `bound` are
    those that its control group allows, if it does not allow all: that outranks the file.
    """
    hard = _masks(config, host, masks, chosen)
    page_kib = page_kib_of(config, host)
    return Guest(
        config.name,
        vcpus=tuple(
            Vcpu(number, mask, host.cpu_map, online=number < config.online_vcpus)
            for number, mask in enumerate(hard)
        ),
        id=id,
        uuid=config.uuid,
        type=config.type,
        state=state,
        memory_kib=config.current_kib,
        # What is plugged in later is not promised: nobody knows that it ever will be.
        max_memory_kib=config.memory_kib,
        memory_by_node=memory,
        node_affinity=_bound(_affinity(config, host, hard, chosen), bound),
        virtual_nodes=_cells(config, host),
        page_kib=page_kib,
        devices=tuple(device.address for device in config.devices),
    )


def _masks(
    config: DomainXml, host: Host, masks: Sequence[CpuMap] | None, chosen: NodeMap | None
) -> list[CpuMap]:
    usual = host.cpu_map if config.cpuset is None else config.cpuset & host.cpu_map
    if config.vcpus_placed_by_numad and chosen is not None:
        usual = host.cpus_of(chosen)
    stated = [config.pins.get(vcpu, usual) & host.cpu_map for vcpu in range(config.vcpus)]
    known = list(masks or ())[: config.vcpus]
    return [mask or host.cpu_map for mask in (*known, *stated[len(known) :])]


def _bound(named: NodeMap, bound: NodeMap | None) -> NodeMap:
    return named if bound is None else (named & bound) or bound


def _affinity(
    config: DomainXml, host: Host, masks: Sequence[CpuMap], chosen: NodeMap | None
) -> NodeMap:
    named = NodeMap.union(cell.nodes for cell in config.cell_nodes)
    if not named or len(config.cell_nodes) < len(config.cells):
        named |= _named(config, chosen)
    return (named & host.node_map) or host.nodes_of(CpuMap.union(masks))


def _named(config: DomainXml, chosen: NodeMap | None) -> NodeMap:
    stated = config.memory_nodes
    nodes = NodeMap() if stated is None or stated.nodes is None else stated.nodes
    nodes = nodes if chosen is None else chosen
    # It takes one node, the first (docs/guests.md).
    preferred = stated is not None and stated.mode == "preferred" and bool(nodes)
    return NodeMap([nodes.first]) if preferred else nodes


def _cells(config: DomainXml, host: Host) -> tuple[VirtualNode, ...]:
    cells = virtual_nodes_of(config, host)
    return tuple(
        cell if cell.node is None or cell.node in host.node_map else cell._replace(node=None)
        for cell in cells
    )


def part_sizes_kib(config: DomainXml) -> tuple[int, ...]:
    """Return the sizes of the parts that QEMU maps a guest's memory in: cells, and modules."""
    modules = sum(module.kib for module in config.modules)
    cells = [cell.memory_kib for cell in config.cells] or [config.memory_kib - modules]
    return tuple({*cells, *(module.kib for module in config.modules)})


def with_commitments(host: Host, guests: Sequence[Guest]) -> Host:
    """Return the host with what these guests have of it, and may come to have, on each node.

    QEMU's own memory is counted where the guest's is; it is part of what is seen of a guest. Where
    nobody tells what one of them has, what all of them have already is unknown.
    """
    known = all(guest.memory_by_node is not None for guest in guests)
    committed = dict.fromkeys(host.nodes_by_id, 0)
    touched = dict.fromkeys(host.nodes_by_id, 0)
    for guest in guests:
        for node, kib in _commitment_kib(guest, host).items():
            committed[node] = committed.get(node, 0) + kib
        for node, kib in _ordinary_kib(guest).items():
            touched[node] = touched.get(node, 0) + kib
    nodes = [
        node._replace(
            committed_kib=committed[node.id], touched_kib=touched[node.id] if known else None
        )
        for node in host.nodes
    ]
    return host.replace(nodes=nodes)


def _ordinary_kib(guest: Guest) -> dict[int, int]:
    huge = guest.page_kib > ORDINARY_PAGE_KIB
    return {} if huge or guest.memory_by_node is None else guest.memory_by_node.kib


def _commitment_kib(guest: Guest, host: Host) -> dict[int, int]:
    size_kib = guest.max_memory_kib or guest.memory_kib or 0
    extra_kib = overhead_kib(size_kib, guest.page_kib)
    if guest.page_kib <= ORDINARY_PAGE_KIB:
        return commitment_kib(guest._replace(max_memory_kib=size_kib + extra_kib), host)
    own = guest._replace(
        page_kib=4, max_memory_kib=extra_kib, memory_by_node=None, virtual_nodes=()
    )
    return commitment_kib(own, host)
