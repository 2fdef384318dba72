"""A placement as xl's config of a guest has it: written in, for xl to do.

Source: xl 4.17, tools/xl/xl_parse.c, parse_config_data(); libxl then does not place the guest
itself (tools/libs/light/libxl_dom.c, libxl__build_pre()), and its node affinity follows from the
masks (xen/common/sched/core.c, domain_update_node_aff()).
"""

from collections.abc import Sequence
from itertools import cycle

from homenode.bitmap import CpuMap, NodeMap
from homenode.formats.xl_cfg import GuestConfig, Value
from homenode.guest import GuestRequest
from homenode.host import Host
from homenode.placement.decision import Decision


def handed_over(config: GuestConfig, request: GuestRequest, decision: Decision, host: Host) -> str:
    """Return the text of the config with the decision in it, as the hypervisor gets it.

    xl does not place a guest itself that has ``cpus_soft`` or a list of ``cpus`` (it does if
    ``cpus`` is a string), and it ignores ``nodes``, which records the decision.
    """
    if not decision.fits:
        return config.text
    changes: dict[str, Value | None] = {"uuid": request.uuid} if request.uuid else {}
    if decision.nodes:
        changes["nodes"] = tuple(str(node) for node in decision.nodes)
    cells = config.values.get("vnuma")
    if request.virtual_nodes and isinstance(cells, tuple):
        changes["vnuma"] = _with_pnodes(cells, request, decision)
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


def homed(config: GuestConfig, masks: Sequence[tuple[CpuMap, CpuMap]], host: Host) -> str:
    """Return the text of the config of a guest that runs with other (hard, soft) masks of vcpus.

    Both become lists, so that libxl does not place the guest itself.
    """
    hard = tuple(_xen_text(mask, host) for mask, _ in masks)
    soft = tuple(_xen_text(mask, host) for _, mask in masks)
    changes: dict[str, Value | None] = {"nodes": None, "cpus": hard, "cpus_soft": soft}
    return config.edited(changes)


def _with_pnodes(cells: tuple[Value, ...], request: GuestRequest, decision: Decision) -> Value:
    # Memory of a virtual node comes from its pnode alone, whatever the masks say; a virtual node
    # without one gets one of the decided nodes, in turn.
    nodes = cycle(decision.nodes or NodeMap([0]))
    written: list[Value] = []
    for cell, virtual in zip(cells, request.virtual_nodes, strict=True):
        node = next(nodes) if virtual.node is None else virtual.node
        items = cell if isinstance(cell, tuple) else (cell,)
        others = (item for item in items if not str(item).lstrip().startswith("pnode"))
        written.append((f"pnode={node}", *others))
    return tuple(written)


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
