"""What a guest's xl config asks for, as the decision understands it.

The settings mean what they mean to xl 4.17 (tools/xl/xl_parse.c, parse_config_data()), and some
are homenode's own, which xl ignores::

    nodes = "auto" | "0-1,^3" | ["0", "3"] | 2      # 2 is "any two nodes", "2" is node 2
    nodes_policy = "greedy" | "packed" | "spread" | any policy
    nodes_exclude = "3"                             # these give neither cpus nor memory
    nodes_apart = ["db1", "db2"]                    # guests whose nodes are not for this one
    nodes_devices = "required" | "preferred" | "ignored"    # being near what it has by pci=
    nodes_tier = "cxl:8GiB"                         # from nodes without cpus, as a virtual node
    virtual_nodes = "auto"                          # if it fits no single node, it is given some

Nodes that the user names are taken, not searched, and the first of these that names any holds:
``nodes``, the ``pnode`` of virtual nodes, ``cpus_soft``, ``cpus`` as a list (in libxl, too, a list
ends automatic placement, and a string only says where vcpus may run). Contradictions between
them are warnings. What xl would ignore without a word is an error here: a setting of the wrong
type, a cpu or node that the host lacks, a virtual node that is not wholly described.
"""

from collections.abc import Callable, Sequence
from typing import NamedTuple, TypeVar

from homenode.bitmap import CpuMap, NodeMap, parse_xen_per_vcpu
from homenode.errors import HomenodeError, ParseError
from homenode.formats.xl_cfg import GuestConfig, Number
from homenode.guest import ExplicitNodes, GuestRequest, NearDevice, Tier, VirtualNode
from homenode.host import Host
from homenode.rules.wishes import (
    Requested,
    anywhere,
    device_wish,
    guest_names,
    listed_nodes,
    near_devices,
    tier_of,
)
from homenode.rules.xen import memory_needed_kib, node_affinity
from homenode.rules.xen_vnuma import (
    LARGEST_MIB,
    MOST_VCPUS,
    refuse_split,
    refuse_virtual_nodes,
    virtual_nodes_of,
)

_READ = (
    "nodes", "nodes_policy", "nodes_exclude", "nodes_apart", "nodes_devices", "nodes_tier",
    "virtual_nodes",
    "cpus", "cpus_soft", "vnuma", "pool", "memory", "maxmem", "vcpus", "maxvcpus", "pci",
)  # fmt: skip
"""The settings that decide where a guest goes; none of xl's others is a slip away from them."""

_TYPES = ("pv", "pvh", "hvm")
_BUILDERS = {"hvm": "hvm", "generic": "pv"}
_UUID_GROUPS = [8, 4, 4, 4, 12]

Warnings = tuple[tuple[str, str], ...]
"""Pairs of a stable code and a sentence."""

_Asked = TypeVar("_Asked")
_Read = TypeVar("_Read")


class _Memory(NamedTuple):
    target_kib: int
    max_kib: int


def request(config: GuestConfig, host: Host) -> Requested:
    """Return what `config` asks for on `host`; `ParseError` with source and line if it cannot be.

    `GuestRequest.vcpus` are all that the guest may ever have (``maxvcpus``): libxl places it for
    those, and each has its masks.
    """
    warnings: list[tuple[str, str]] = []
    _refuse_misspelt(config)
    virtual_nodes = virtual_nodes_of(config, host)
    vcpus = _vcpus(config, host, virtual_nodes)
    memory = _memory(config, virtual_nodes)
    guest_type = _type(config)
    if virtual_nodes:
        _refused_at(config, "vnuma", refuse_virtual_nodes, guest_type)
    tier = _tier(config, memory)
    asked = GuestRequest(
        name=_name(config),
        vcpus=vcpus,
        memory_kib=_memory_needed_kib(config, memory, vcpus, guest_type),
        guest_memory_kib=memory.target_kib,
        max_memory_kib=memory.max_kib,
        uuid=_uuid(config),
        type=guest_type,
        pool=_pool(config, host, warnings),
        hard=_affinity(config, "cpus", vcpus, host),
        soft=_affinity(config, "cpus_soft", vcpus, host),
        policy=config.string("nodes_policy"),
        virtual_nodes=virtual_nodes,
        devices=_devices(config, host, warnings),
        excluded=_excluded(config, host),
        apart_from=_apart_from(config),
        tier=tier,
        split=_split(config) or tier is not None,
    )
    _refuse_outside_pool(config, asked, host)
    if asked.split:
        setting = "virtual_nodes" if tier is None else "nodes_tier"
        _refused_at(config, setting, refuse_split, asked)
    asked = _with_wishes(config, asked, host, warnings)
    warnings += _short_lists(config, asked)
    warnings += _affinity_warnings(asked, host)
    return Requested(asked, tuple(warnings))


def _read_at(config: GuestConfig, setting: str, read: Callable[[], _Read]) -> _Read:
    """Return what is read; a complaint gets the place of the setting."""
    try:
        return read()
    except HomenodeError as error:
        raise config.error(f"{setting}: {error.message}", at=setting, hint=error.hint) from None


def _listed(config: GuestConfig, name: str) -> tuple[str, ...]:
    """Return the items of a setting that is a list, or one text with commas in it."""
    value = config.values.get(name, ())
    return guest_names(value) if isinstance(value, str) else config.items(value, name)


def _excluded(config: GuestConfig, host: Host) -> NodeMap:
    listed = _listed(config, "nodes_exclude")
    if not listed:
        return NodeMap()
    return _read_at(config, "nodes_exclude", lambda: listed_nodes(",".join(listed), host))


def _apart_from(config: GuestConfig) -> tuple[str, ...]:
    return tuple(dict.fromkeys(_listed(config, "nodes_apart")))


def _devices(
    config: GuestConfig, host: Host, warnings: list[tuple[str, str]]
) -> tuple[NearDevice, ...]:
    """Return the devices of ``pci``, as far as the host tells where they are.

    An item is ``[DOMAIN:]BUS:SLOT.FUNCTION[@VSLOT][,OPTION=...]``, or has the address as ``bdf=``
    (docs/man/xl-pci-configuration.5.pod).
    """
    said = config.string("nodes_devices") or "preferred"
    wish = _read_at(config, "nodes_devices", lambda: device_wish(said))
    value = config.values.get("pci", ())
    items = (value,) if isinstance(value, str) else config.items(value, "pci")
    addresses = [address for item in items if (address := _pci_address(item))]
    near, oddities = _read_at(config, "pci", lambda: near_devices(addresses, host, wish))
    warnings += oddities
    return near


def _pci_address(item: str) -> str:
    for part in item.split(","):
        name, equals, value = part.strip().partition("=")
        if not equals:
            return name.partition("@")[0].strip().lower()
        if name.strip() == "bdf":
            return value.partition("@")[0].strip().lower()
    return ""


def _tier(config: GuestConfig, memory: _Memory) -> Tier | None:
    text = config.string("nodes_tier")
    if text is None:
        return None
    if config.values.get("vnuma"):
        raise config.error("vnuma says where the guest's memory is", at="nodes_tier")
    tier = _read_at(config, "nodes_tier", lambda: tier_of(text, memory.target_kib))
    if tier.kib == memory.target_kib:
        raise config.error(
            "nodes_tier: Xen gives a guest some memory where it has cpus",
            at="nodes_tier",
            hint="ask for a part of it",
        )
    return tier


def _split(config: GuestConfig) -> bool:
    text = config.string("virtual_nodes")
    if text not in (None, "auto", "none"):
        raise config.error(
            f"virtual_nodes = {text[:40]!r} is not known",
            at="virtual_nodes",
            hint='it is "auto" or "none"; vnuma = [...] describes them',
        )
    return text == "auto" and not config.values.get("vnuma")


def _refused_at(
    config: GuestConfig, setting: str, refuse: Callable[[_Asked], None], asked: _Asked
) -> None:
    try:
        refuse(asked)
    except HomenodeError as error:
        raise config.error(error.message, at=setting, hint=error.hint) from None


def _refuse_misspelt(config: GuestConfig) -> None:
    """Refuse a setting that is nearly one of ours: xl ignores what it does not know."""
    for name in config.values:
        meant = next((known for known in _READ if _is_slip(name, known)), None)
        if name not in _READ and meant is not None:
            raise config.error(
                f"there is no setting {name!r}, and xl would ignore it",
                at=name,
                hint=f"{meant} is meant?",
            )


def _is_slip(one: str, other: str) -> bool:
    """Return whether two names are a letter apart, or two neighbours that changed places."""
    while one and other and one[0] == other[0]:
        one, other = one[1:], other[1:]
    while one and other and one[-1] == other[-1]:
        one, other = one[:-1], other[:-1]
    return (len(one) < 2 and len(other) < 2) or (len(one) == 2 and one == other[::-1])


def _name(config: GuestConfig) -> str:
    name = config.string("name")
    if not name:
        raise config.error("the guest has no name", at="name", hint='add name = "..."')
    return name


def _type(config: GuestConfig) -> str:
    """Return the type; ``builder`` is what said it before Xen 4.10."""
    named, builder = config.string("type"), config.string("builder")
    if named is not None and named not in _TYPES:
        raise config.error(
            f"there is no type {named[:40]!r}", at="type", hint=f"it is one of {', '.join(_TYPES)}"
        )
    if builder is None:
        return named or "pv"
    if builder not in _BUILDERS:
        raise config.error(
            f"there is no builder {builder[:40]!r}", at="builder", hint="say type = ... instead"
        )
    if named not in (None, _BUILDERS[builder]):
        raise config.error(
            f"builder = {builder!r} contradicts type = {named!r}",
            at="builder",
            hint="builder is obsolete; remove it",
        )
    return _BUILDERS[builder]


def _uuid(config: GuestConfig) -> str | None:
    text = config.string("uuid")
    if text is None:
        return None
    groups = text.lower().split("-")
    if [len(group) for group in groups] != _UUID_GROUPS or "".join(groups).strip(
        "0123456789abcdef"
    ):
        raise config.error(f"not a uuid: {text[:40]!r}", at="uuid")
    return text.lower()


def _vcpus(config: GuestConfig, host: Host, virtual_nodes: Sequence[VirtualNode]) -> int:
    online = config.integer("vcpus", smallest=1, largest=MOST_VCPUS)
    most = config.integer("maxvcpus", smallest=1, largest=MOST_VCPUS)
    if virtual_nodes:
        theirs = sum(len(node.vcpus) for node in virtual_nodes)
        if most not in (None, theirs):
            raise config.error(
                f"the virtual nodes have {theirs} vcpus, but maxvcpus = {most}", at="vnuma"
            )
        if most is None and theirs > len(host.cpu_map):
            raise config.error(
                f"the virtual nodes have {theirs} vcpus, and the host {len(host.cpu_map)} cpus",
                at="vnuma",
                hint=f"if that is meant, say so: maxvcpus = {theirs}",
            )
        most = theirs
    if online and most and online > most:
        raise config.error(f"vcpus = {online} is more than the guest may have: {most}", at="vcpus")
    return most or online or 1


def _memory(config: GuestConfig, virtual_nodes: Sequence[VirtualNode]) -> _Memory:
    target = config.integer("memory", smallest=1, largest=LARGEST_MIB)
    most = config.integer("maxmem", smallest=1, largest=LARGEST_MIB)
    if virtual_nodes:
        theirs = sum(node.memory_kib for node in virtual_nodes) // 1024
        # Less memory than maxmem is populate-on-demand, which libxl refuses with virtual nodes.
        for name, size in (("maxmem", most), ("memory", target)):
            if size not in (None, theirs):
                raise config.error(
                    f"the virtual nodes have {theirs} MiB, but {name} = {size}", at="vnuma"
                )
        most = theirs
    target = target or most
    if target is None:
        raise config.error(
            "no memory is set, and xl would make a guest of 32 MiB",
            hint="add memory = ... (in MiB)",
        )
    if most and target > most:
        raise config.error(f"memory = {target} is more than maxmem = {most}", at="memory")
    return _Memory(target * 1024, (most or target) * 1024)


def _memory_needed_kib(config: GuestConfig, memory: _Memory, vcpus: int, guest_type: str) -> int:
    shadow = config.integer("shadow_memory", largest=LARGEST_MIB)
    hap = config.flag("hap")
    return memory_needed_kib(
        target_kib=memory.target_kib,
        max_kib=memory.max_kib,
        vcpus=vcpus,
        type=guest_type,
        shadow_kib=None if shadow is None else shadow * 1024,
        hap=hap is None or hap,
    )


def _pool(config: GuestConfig, host: Host, warnings: list[tuple[str, str]]) -> str | None:
    name = config.string("pool")
    if name is None:
        return None
    if not host.pools:
        warnings.append(
            ("pool-unknown", f"cpupool {name!r} is not looked at: {host.name} tells of no cpupools")
        )
        return None
    try:
        return host.pool(name).name
    except HomenodeError as error:
        raise config.error(error.message, at="pool", hint=error.hint) from None


def _affinity(config: GuestConfig, name: str, vcpus: int, host: Host) -> tuple[CpuMap, ...]:
    """Return a map for each vcpu; none if the setting is not there, or leaves every cpu open."""
    value = config.values.get(name)
    if not isinstance(value, str) and not value:
        return ()
    written = value if isinstance(value, str) else config.items(value, name)
    try:
        maps = parse_xen_per_vcpu(written, vcpus, cpus=host.cpu_map, cpus_by_node=host.cpus_by_node)
    except ParseError as error:
        raise config.error(f"{name}: {error.message}", at=name, hint=error.hint) from None
    for vcpu, cpus in enumerate(maps):
        if not cpus:
            raise config.error(f"{name} names no cpu at all for vcpu {vcpu}", at=name)
    return () if all(cpus >= host.cpu_map for cpus in maps) else maps


def _refuse_outside_pool(config: GuestConfig, asked: GuestRequest, host: Host) -> None:
    pool = host.pool(asked.pool)
    for vcpu, cpus in enumerate(asked.hard):
        if cpus.isdisjoint(pool.cpus):
            raise config.error(
                f"vcpu {vcpu} may only use cpus {cpus}, none of which is in {pool.name}"
                f" ({pool.cpus})",
                at="cpus",
            )


# --- nodes that the user names ---


def _nodes(config: GuestConfig, host: Host) -> NodeMap | int | None:
    """Return the nodes that ``nodes`` names, or how many it wants; None if it leaves it open."""
    value = config.values.get("nodes")
    if value is None or value == "auto":
        return None
    if isinstance(value, Number):
        return config.integer("nodes", smallest=1, largest=len(host.nodes))
    text = value if isinstance(value, str) else ",".join(config.items(value, "nodes"))
    if text.strip() == "all":
        return host.nodes_of(host.cpu_map)
    if not text.strip():
        raise config.error("nodes names no node", at="nodes", hint='nodes = "auto" leaves it open')
    try:
        nodes = NodeMap.parse_libvirt(text, within=host.node_map)
    except ParseError as error:
        raise config.error(f"nodes: {error.message}", at="nodes", hint=error.hint) from None
    if not nodes:
        raise config.error("nodes names no node", at="nodes", hint='nodes = "auto" leaves it open')
    return nodes


def _with_wishes(
    config: GuestConfig, asked: GuestRequest, host: Host, warnings: list[tuple[str, str]]
) -> GuestRequest:
    nodes = _nodes(config, host)
    wishes = _wishes(config, asked, host)
    if isinstance(nodes, int):
        warnings += [
            _overruled(wish, f"nodes = {nodes}") for wish in wishes if wish.setting != "cpus"
        ]
        return anywhere(asked)._replace(node_count=nodes)
    if nodes is not None:
        try:
            nodes = with_cpus(nodes, asked, host, warnings)
        except HomenodeError as error:
            raise config.error(f"nodes: {error.message}", at="nodes", hint=error.hint) from None
        wishes.insert(0, ExplicitNodes(nodes, "nodes"))
    if not wishes:
        return asked
    first, *others = wishes
    for wish in others:
        # Node affinity follows from soft affinity, so a part of the nodes will not do there.
        # A virtual node without vcpus may lie where there are no cpus, which ``nodes`` cannot name.
        agrees = wish.nodes & host.nodes_of(host.cpu_map) <= first.nodes
        if wish.setting == "cpus_soft" and first.setting == "nodes":
            agrees = wish.nodes == first.nodes
        if wish.setting != "cpus" and not agrees:
            warnings.append(_overruled(wish, f"{first.setting}, which names {first.nodes}"))
            if first.setting == "nodes":
                asked = anywhere(asked)
    return asked._replace(explicit=first)


def with_cpus(
    nodes: NodeMap, asked: GuestRequest, host: Host, warnings: list[tuple[str, str]]
) -> NodeMap:
    """Return those of `nodes` that xl can be told of, which are those where the guest has cpus.

    A guest's node affinity follows from the masks of its vcpus (Xen, xen/common/sched/core.c,
    domain_update_node_aff()), so memory of the others cannot be asked for. Adds a warning if
    there are any; `HomenodeError` if none has a cpu for the guest at all. Where only hard affinity
    leaves none, the nodes stay: that is a contradiction of the user's own, and warned of.
    """
    pool = host.pool(asked.pool).cpus & host.cpu_map
    held = pool
    if asked.hard:
        held = pool & CpuMap.union(asked.hard)
    there = nodes & host.nodes_of(held)
    lacking = nodes - there
    text = f"no cpus for the guest on {lacking.named}, and Xen gives memory where the cpus are"
    if there and lacking:
        warnings.append(("node-without-cpus", f"{text}: none of it will come from there"))
    if there:
        return there
    if not nodes & host.nodes_of(pool):
        raise HomenodeError(text, hint=f"it has cpus on {host.nodes_of(pool).named}")
    return nodes


def _wishes(config: GuestConfig, asked: GuestRequest, host: Host) -> list[ExplicitNodes]:
    """Return the nodes that settings other than ``nodes`` name, the strongest first."""
    wishes = []
    pinned = NodeMap(node.node for node in asked.virtual_nodes if node.node is not None)
    if pinned:
        wishes.append(ExplicitNodes(pinned, "vnuma"))
    pool_cpus = host.pool(asked.pool).cpus
    any_cpu = (host.cpu_map,)
    if asked.soft:
        nodes = node_affinity(asked.hard or any_cpu, asked.soft, pool_cpus=pool_cpus, host=host)
        wishes.append(ExplicitNodes(nodes, "cpus_soft"))
    if asked.hard and not isinstance(config.values["cpus"], str):
        nodes = node_affinity(asked.hard, any_cpu, pool_cpus=pool_cpus, host=host)
        wishes.append(ExplicitNodes(nodes, "cpus"))
    return wishes


def _overruled(wish: ExplicitNodes, by: str) -> tuple[str, str]:
    return (
        f"{wish.setting.replace('_', '-')}-overruled",
        f"{wish.setting} names nodes {wish.nodes}, but is overruled by {by}",
    )


def _short_lists(config: GuestConfig, asked: GuestRequest) -> list[tuple[str, str]]:
    return [
        (
            "short-list",
            f"{name} is for {len(value)} of {asked.vcpus} vcpus: the others take every cpu",
        )
        for name in ("cpus", "cpus_soft")
        for value in [config.values.get(name, "")]
        if isinstance(value, tuple) and 0 < len(value) < asked.vcpus
    ]


def _affinity_warnings(asked: GuestRequest, host: Host) -> list[tuple[str, str]]:
    warnings: list[tuple[str, str]] = []
    pool_cpus = host.pool(asked.pool).cpus & host.cpu_map
    allowed = [cpus & pool_cpus for cpus in asked.hard] or [pool_cpus] * asked.vcpus
    unreachable = _where(asked.soft, allowed)
    if unreachable:
        text = f"cpus_soft of {unreachable.named_vcpus} names no cpu that may be used: not heeded"
        warnings.append(("soft-outside-hard", text))
    if asked.explicit:
        nodes, setting = asked.explicit
        away = _where([host.cpus_of(nodes)] * asked.vcpus, allowed)
        if away:
            text = f"{away.named_vcpus} cannot run on {nodes.named}, which {setting} names"
            text += ", and Xen gives memory where the cpus are"
            warnings.append(("vcpus-away-from-memory", text))
    return warnings


def _where(wanted: Sequence[CpuMap], allowed: Sequence[CpuMap]) -> CpuMap:
    """Return the vcpus that may use none of the cpus wanted for them."""
    pairs = enumerate(zip(wanted, allowed, strict=False))
    return CpuMap(vcpu for vcpu, (want, may) in pairs if want.isdisjoint(may))
