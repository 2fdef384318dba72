"""What is asked for: a guest's file, and what the command line says on top of it."""

from typing import TYPE_CHECKING, NamedTuple

from homenode.bitmap import CpuMap, NodeMap
from homenode.errors import HomenodeError
from homenode.formats.xl_cfg import GuestConfig
from homenode.guest import ExplicitNodes, GuestRequest
from homenode.host import ORDINARY_PAGE_KIB, Host
from homenode.placement.decision import Decision, Warned
from homenode.placement.policies import DEFAULT, Policy, policy
from homenode.rules import wishes

if TYPE_CHECKING:
    from homenode.formats.guest_file import GuestFile

Warnings = list[tuple[str, str]]


class Overrides(NamedTuple):
    """What is asked for beside the guest's file, and outranks it; None leaves the file's word.

    `nodes` is a list (``0-1,^3``), ``auto``, or ``N nodes`` for any N of them. `hold` is whether
    hard affinity keeps it there. `exclude`, `apart`, `near`, `devices`, `pages`, `tier` and
    `virtual_nodes` are in the words of `homenode.rules.wishes`.
    """

    policy: str | None = None
    nodes: str | None = None
    whole_cores: bool = False
    exclusive: bool = False
    hold: bool | None = None
    exclude: str | None = None
    apart: tuple[str, ...] = ()
    near: tuple[str, ...] = ()
    devices: str | None = None
    pages: str | None = None
    spill: bool = False
    tier: str | None = None
    virtual_nodes: str | None = None


class Asked(NamedTuple):
    """A request with the policy that decides on it, and what is odd about it."""

    request: GuestRequest
    policy: Policy
    warnings: tuple[Warned, ...]


def ask(config: "GuestFile", host: Host, overrides: Overrides = Overrides()) -> Asked:  # noqa: B008 - immutable
    """Return what `config` and `overrides` ask for on `host`.

    The policy is that of the overrides, else of the file, else the default.
    """
    made, oddities = _requested(config, host)
    warnings = list(oddities)
    made = made._replace(whole_cores=overrides.whole_cores, exclusive=overrides.exclusive)
    made = _with_shape(made, overrides, host)
    if overrides.nodes is not None:
        made = _with_nodes(config, made, overrides.nodes, host, warnings)
    if isinstance(config, GuestConfig) or _is_xen(host):
        _refuse_for_xen(made)
    from_file = overrides.policy is None and made.policy is not None
    name = made.policy if overrides.policy is None else overrides.policy
    try:
        chosen = policy(DEFAULT if name is None else name)
    except HomenodeError as error:
        if not from_file:
            raise
        at = "nodes_policy" if isinstance(config, GuestConfig) else "placement"
        raise config.error(error.message, at=at, hint=error.hint) from None
    return Asked(made, chosen, tuple(Warned(*warning) for warning in warnings))


def handed_over(config: "GuestFile", request: GuestRequest, decision: Decision, host: Host) -> str:
    """Return the text of the guest's file with the decision in it.

    Raises `HomenodeError` for a decision that the file has no words for.
    """
    if isinstance(config, GuestConfig):
        from homenode.rules import xen_config  # noqa: PLC0415 - one of the two

        return xen_config.handed_over(config, request, decision, host)
    from homenode.rules import libvirt_config  # noqa: PLC0415 - the other

    return libvirt_config.written(config, request, decision, host)


def named(config: "GuestFile", request: GuestRequest) -> "GuestFile":
    """Return the guest's file with the uuid that it is known by, and nothing of a decision."""
    if isinstance(config, GuestConfig):
        return config
    from homenode.rules import libvirt_config  # noqa: PLC0415 - only libvirt keeps it

    return libvirt_config.named(config, request)


def own_masks(
    config: "GuestFile", request: GuestRequest, decision: Decision, host: Host
) -> tuple[CpuMap, ...]:
    """Return the hard masks of the vcpus that are homenode's; none if they are the guest's own."""
    if request.hard and not request.exclusive:
        return ()
    if isinstance(config, GuestConfig):
        from homenode.rules.xen_config import masks_of  # noqa: PLC0415 - one of the two

        masks = masks_of(decision, request.vcpus, soft=False) or []
    else:
        from homenode.rules.libvirt_config import wanted_masks  # noqa: PLC0415 - the other

        masks = wanted_masks(decision, request, host)
    return tuple(mask or host.cpu_map for mask in masks) if any(masks) else ()


def remarks(
    config: "GuestFile", request: GuestRequest, decision: Decision, host: Host
) -> tuple[Warned, ...]:
    """Return what to know of the guest as its file describes it with the decision in it."""
    if isinstance(config, GuestConfig):
        if not decision.virtual_nodes:
            return ()
        from homenode.rules import xen_config  # noqa: PLC0415 - one of the two

        return xen_config.remarks(decision)
    from homenode.rules import libvirt_remarks  # noqa: PLC0415 - the other

    return libvirt_remarks.remarks(config, request, decision, host)


def _requested(config: "GuestFile", host: Host) -> wishes.Requested:
    if isinstance(config, GuestConfig):
        from homenode.rules import xen_request  # noqa: PLC0415 - one of the two

        return xen_request.request(config, host)
    from homenode.rules import libvirt_request  # noqa: PLC0415 - the other

    return libvirt_request.request(config, host)


def _with_shape(made: GuestRequest, overrides: Overrides, host: Host) -> GuestRequest:
    """Return the request with what the options say of its memory, devices and neighbours."""
    if overrides.exclude is not None:
        with _Option("--exclude"):
            made = made._replace(excluded=wishes.listed_nodes(overrides.exclude, host))
    if overrides.apart:
        made = made._replace(apart_from=tuple(dict.fromkeys((*made.apart_from, *overrides.apart))))
    return _with_memory(_with_devices(made, overrides, host), overrides, host)


def _with_devices(made: GuestRequest, overrides: Overrides, host: Host) -> GuestRequest:
    required = overrides.devices == "required"
    if overrides.devices is not None:
        own = tuple(device._replace(required=required) for device in made.devices)
        made = made._replace(devices=() if overrides.devices == "ignored" else own)
    for address in overrides.near:
        with _Option("--near"):
            near = wishes.near_device(address, host, required=required)
        others = tuple(device for device in made.devices if device.address != near.address)
        made = made._replace(devices=(*others, near))
    return made


def _with_memory(made: GuestRequest, overrides: Overrides, host: Host) -> GuestRequest:
    if overrides.pages is not None:
        with _Option("--huge-pages"):
            made = _in_pages(made, wishes.page_size_kib(overrides.pages, host))
    if overrides.spill:
        made = made._replace(spill=True)
    if overrides.tier is not None:
        with _Option("--tier"):
            tier = wishes.tier_of(overrides.tier, made.guest_memory_kib or made.memory_kib)
            made = made._replace(tier=tier, split=_as_virtual_node(made, overrides))
    return _split(made, overrides, host)


def _as_virtual_node(made: GuestRequest, overrides: Overrides) -> bool:
    # A hypervisor can be told of a tier as a virtual node without vcpus alone.
    if made.virtual_nodes:
        raise HomenodeError("the guest has virtual nodes, which say where its memory is")
    if overrides.virtual_nodes == "none":
        raise HomenodeError("it becomes a virtual node, and --virtual-nodes none forbids that")
    return True


class _Option:
    """Has a complaint say which option it is about."""

    # A class of one's own: importing contextlib takes longer than all of this.

    __slots__ = ("_name",)

    def __init__(self, name: str) -> None:
        self._name = name

    def __enter__(self) -> None:
        pass

    def __exit__(self, _: object, error: BaseException | None, __: object) -> None:
        if isinstance(error, HomenodeError):
            raise HomenodeError(f"{self._name}: {error.message}", hint=error.hint) from None


def _in_pages(made: GuestRequest, page_kib: int) -> GuestRequest:
    whole_kib = -(-(made.guest_memory_kib or made.memory_kib) // page_kib) * page_kib
    return made._replace(page_kib=page_kib, memory_kib=whole_kib)


def _split(made: GuestRequest, overrides: Overrides, host: Host) -> GuestRequest:
    wanted = overrides.virtual_nodes
    if wanted is None or made.virtual_nodes or made.tier is not None:
        return made
    if wanted == "auto" and _is_xen(host):
        from homenode.rules.xen_vnuma import refuse_split  # noqa: PLC0415 - only on Xen

        with _Option("--virtual-nodes"):
            refuse_split(made)
    return made._replace(split=wanted == "auto")


def _is_xen(host: Host) -> bool:
    return (host.hypervisor or "").lower().startswith("xen")


def _refuse_for_xen(made: GuestRequest) -> None:
    """Refuse what Xen cannot be told of, rather than plan on it."""
    if made.spill:
        raise HomenodeError(
            f"{made.name[:40]}: Xen takes a guest's memory from nodes where it has cpus, and cannot"
            " be told of others",
            hint="leave out --spill; --tier gives an hvm guest memory there, as a virtual node",
        )
    if made.tier is not None:
        from homenode.rules.xen_vnuma import refuse_split  # noqa: PLC0415 - only on Xen

        with _Option("--tier"):
            refuse_split(made)
            if made.tier.kib >= made.guest_memory_kib:
                raise HomenodeError(
                    "Xen gives a guest some memory where it has cpus", hint="ask for a part of it"
                )
    if made.page_kib > ORDINARY_PAGE_KIB:
        raise HomenodeError(
            f"{made.name[:40]}: Xen has no pools of huge pages; it uses large pages by itself",
            hint="leave out --huge-pages",
        )


def _with_nodes(
    config: "GuestFile", made: GuestRequest, text: str, host: Host, warnings: Warnings
) -> GuestRequest:
    with _Option("--nodes"):
        nodes = wishes.nodes_or_count(text, host)
    if nodes is None:
        return wishes.anywhere(made)
    if isinstance(nodes, int):
        return wishes.anywhere(made)._replace(node_count=nodes)
    return _onto(config, made, nodes, host, warnings)


def _onto(
    config: "GuestFile", made: GuestRequest, nodes: NodeMap, host: Host, warnings: Warnings
) -> GuestRequest:
    if not isinstance(config, GuestConfig):
        from homenode.rules.libvirt_request import with_nodes  # noqa: PLC0415 - only libvirt's

        return with_nodes(made, ExplicitNodes(nodes, "--nodes"), host)
    from homenode.rules.xen_request import with_cpus  # noqa: PLC0415 - only Xen's

    nodes = with_cpus(nodes, made, host, warnings)
    if made.hard and nodes.isdisjoint(host.nodes_of(CpuMap.union(made.hard))):
        text = f"its vcpus cannot run on {nodes.named}, which --nodes names, and Xen gives memory"
        warnings.append(("vcpus-away-from-memory", f"{text} where the cpus are"))
    return wishes.anywhere(made)._replace(explicit=ExplicitNodes(nodes, "--nodes"))
