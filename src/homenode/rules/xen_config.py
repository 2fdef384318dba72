"""A placement as xl's config of a guest has it: written in, for xl to do.

Source: xl 4.17, tools/xl/xl_parse.c, parse_config_data(); libxl then does not place the guest
itself (tools/libs/light/libxl_dom.c, libxl__build_pre()), and its node affinity follows from the
masks (xen/common/sched/core.c, domain_update_node_aff()).
"""

from collections.abc import Sequence

from homenode.bitmap import CpuMap, NodeMap
from homenode.formats.xl_cfg import GuestConfig, Value
from homenode.guest import GuestRequest, VirtualNode
from homenode.host import Host
from homenode.placement.decision import Decision, Warned

_LOCAL_DISTANCE = 10
_REMOTE_DISTANCE = 20


def handed_over(config: GuestConfig, request: GuestRequest, decision: Decision, host: Host) -> str:
    """Return the text of the config with the decision in it, as the hypervisor gets it.

    xl does not place a guest itself that has ``cpus_soft`` or a list of ``cpus`` (it does if
    ``cpus`` is a string), and it ignores ``nodes``, which records the decision.
    """
    if not decision.fits:
        return config.text
    changes: dict[str, Value | None] = {"uuid": request.uuid} if request.uuid else {}
    if _holds_virtual_nodes(decision, host):
        changes["nodes"] = tuple(str(node) for node in decision.nodes)
    elif decision.nodes:
        changes["nodes"] = None
    cells = config.values.get("vnuma")
    if request.virtual_nodes and isinstance(cells, tuple):
        changes["vnuma"] = _with_pnodes(cells, decision)
    elif decision.virtual_nodes:
        changes["vnuma"] = _written_cells(decision.virtual_nodes)
        # They say where its memory is, from now on.
        changes |= {name: None for name in ("virtual_nodes", "nodes_tier") if name in config}
    elif "virtual_nodes" in config and not request.split:
        changes["virtual_nodes"] = "none"
    soft = masks_of(decision, request.vcpus, soft=True)
    if soft is not None:
        changes["cpus_soft"] = _written(soft, host)
    hard = masks_of(decision, request.vcpus, soft=False)
    if hard is not None and soft is None:
        changes["cpus"] = tuple(_xen_text(mask, host) for mask in hard)
        changes["cpus_soft"] = None
    elif hard is not None and tuple(hard) != request.hard:
        changes["cpus"] = _written(hard, host)
    return config.edited(changes)


def _holds_virtual_nodes(decision: Decision, host: Host) -> bool:
    """Return whether ``nodes`` can be written beside ``vnuma`` without overruling it.

    It names nodes where the guest has cpus. Hard affinity may keep them off a node that a virtual
    node's ``pnode`` names; then ``vnuma`` alone records the decision.
    """
    named = NodeMap(cell.node for cell in decision.virtual_nodes if cell.node is not None)
    return bool(decision.nodes) and named & host.nodes_of(host.cpu_map) <= decision.nodes


def homed(config: GuestConfig, masks: Sequence[tuple[CpuMap, CpuMap]], host: Host) -> str:
    """Return the text of the config of a guest that runs with other (hard, soft) masks of vcpus.

    Both become lists, so that libxl does not place the guest itself.
    """
    hard = tuple(_xen_text(mask, host) for mask, _ in masks)
    soft = tuple(_xen_text(mask, host) for _, mask in masks)
    changes: dict[str, Value | None] = {"nodes": None, "cpus": hard, "cpus_soft": soft}
    return config.edited(changes)


def remarks(decision: Decision) -> tuple[Warned, ...]:
    """Return what to know of the guest that the config now describes.

    Source: tools/libs/light/libxl_dom_save.c, libxl__domain_save(), which migration goes through as
    well ("Cannot save a guest with vNUMA configured").
    """
    if not (decision.fits and decision.virtual_nodes):
        return ()
    text = "Xen can neither save nor migrate a guest with virtual nodes"
    return (Warned("virtual-nodes-stay", text),)


def _with_pnodes(cells: tuple[Value, ...], decision: Decision) -> Value:
    # Memory of a virtual node comes from its pnode alone, whatever the masks say.
    written: list[Value] = []
    for cell, virtual in zip(cells, decision.virtual_nodes, strict=True):
        items = cell if isinstance(cell, tuple) else (cell,)
        others = (item for item in items if not str(item).lstrip().startswith("pnode"))
        written.append((f"pnode={virtual.node}", *others))
    return tuple(written)


def _written_cells(cells: Sequence[VirtualNode]) -> Value:
    written: list[Value] = []
    for cell in cells:
        items = [f"pnode={cell.node}", f"size={cell.memory_kib // 1024}"]
        if cell.vcpus:  # xl fails on "vcpus=", and takes a virtual node without it
            items.append(f"vcpus={cell.vcpus}")
        distances = cell.distances or _assumed_distances(cell, cells)
        items.append(f"vdistances={','.join(map(str, distances))}")
        written.append(tuple(items))
    return tuple(written)


def _assumed_distances(cell: VirtualNode, cells: Sequence[VirtualNode]) -> list[int]:
    # Left out they would all be 0, a table (SLIT) that no guest can take for true. These are what
    # Linux assumes without one (include/linux/topology.h).
    return [_LOCAL_DISTANCE if other is cell else _REMOTE_DISTANCE for other in cells]


def masks_of(decision: Decision, vcpus: int, *, soft: bool) -> list[CpuMap | None] | None:
    """Return the soft or hard mask of each vcpu; None for "any cpu", and if all are that."""
    masks: list[CpuMap | None] = [None] * vcpus
    for run in decision.vcpus:
        for vcpu in CpuMap.parse(run.vcpus):
            masks[vcpu] = run.soft if soft else run.hard
    return masks if any(masks) else None


def _written(masks: list[CpuMap | None], host: Host) -> Value:
    texts = [_xen_text(mask, host) for mask in masks]
    return texts[0] if len(set(texts)) == 1 else tuple(texts)


def _xen_text(mask: CpuMap | None, host: Host) -> str:
    if mask is None or mask >= host.cpu_map:
        return "all"
    nodes = host.nodes_of(mask)
    return f"nodes:{nodes}".replace(",", ",nodes:") if host.cpus_of(nodes) == mask else str(mask)
