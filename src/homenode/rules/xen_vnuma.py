"""Virtual nodes in xl's config (``vnuma = [...]``), and for which guests xl makes any.

Source: Xen 4.17, tools/xl/xl_parse.c, parse_vnuma_config(); tools/libs/light/libxl_vnuma.c,
libxl__vnuma_config_check(). The parser of xl does not enforce what its manual calls mandatory;
what it would fail on, or quietly spoil, is refused here.
"""

from collections.abc import Sequence

from homenode.bitmap import CpuMap
from homenode.errors import HomenodeError, ParseError
from homenode.formats.xl_cfg import GuestConfig, Value
from homenode.guest import GuestRequest, VirtualNode
from homenode.host import Host

MOST_VCPUS = 8192
"""Xen's MAX_VIRT_CPUS on x86; what a guest really gets is less."""

LARGEST_MIB = 1 << 34
"""16 PiB: what 4-level paging of a host could ever map."""

_FARTHEST = 255


def refuse_virtual_nodes(guest_type: str | None) -> None:
    """Raise `HomenodeError` if xl makes no guest of that type with virtual nodes.

    It says of pv that this "is not yet supported" (libxl_create.c,
    libxl__domain_config_setdefault()). Of pvh it says nothing, and always fails once the memory is
    allocated (libxl_x86_acpi.c, init_acpi_config(); ``docs/upstream/pvh-virtual-nodes.md``).
    """
    if guest_type in ("pv", "pvh"):
        raise HomenodeError(
            f"xl cannot make a {guest_type} guest with virtual nodes", hint='say type = "hvm"'
        )


def refuse_split(asked: GuestRequest) -> None:
    """Raise `HomenodeError` if xl would not take virtual nodes for this guest.

    Memory less than maxmem is populate-on-demand: "Cannot enable PoD and vNUMA at the same time"
    (libxl_create.c, libxl__domain_config_setdefault()).
    """
    refuse_virtual_nodes(asked.type)
    if asked.max_memory_kib not in (None, asked.guest_memory_kib):
        raise HomenodeError(
            "xl refuses virtual nodes for a guest whose maxmem is more than its memory",
            hint="leave maxmem out",
        )


def virtual_nodes_of(config: GuestConfig, host: Host) -> tuple[VirtualNode, ...]:
    """Return what ``vnuma`` describes; `ParseError` for what xl would not take."""
    value = config.values.get("vnuma")
    if value is None:
        return ()
    if isinstance(value, str):
        raise config.error("vnuma is a single value, but should be a list of lists", at="vnuma")
    nodes = tuple(
        _virtual_node(config, host, index, described, len(value))
        for index, described in enumerate(value)
    )
    if nodes and not any(node.vcpus for node in nodes):
        raise config.error("no virtual node has a vcpu", at="vnuma", hint="add 'vcpus=LIST'")
    _refuse_uneven_vcpus(config, nodes)
    if len({node.node is None for node in nodes}) > 1:
        raise config.error(
            "some virtual nodes have a pnode and some have none",
            at="vnuma",
            hint="give it to all, or to none to have them placed",
        )
    return nodes


def _refuse_uneven_vcpus(config: GuestConfig, nodes: Sequence[VirtualNode]) -> None:
    seen = CpuMap()
    for node in nodes:
        if not seen.isdisjoint(node.vcpus):
            raise config.error(
                f"vcpu {seen & node.vcpus} is in more than one virtual node", at="vnuma"
            )
        seen |= node.vcpus
    missing = CpuMap.full(len(seen)) - seen
    if missing:
        raise config.error(f"vcpu {missing} is in no virtual node", at="vnuma")


def _virtual_node(
    config: GuestConfig, host: Host, index: int, described: Value, count: int
) -> VirtualNode:
    fields = _VirtualNodeFields(config, index, described)
    pnode = fields.number("pnode")
    if pnode is not None and pnode not in host.node_map:
        raise fields.error(f"there is no node {pnode} on this host; it has {host.node_map}")
    size_mib = fields.number("size")
    if not size_mib:
        raise fields.error("it needs size=MIB, and vcpus=LIST if it is to have any")
    vcpus = fields.vcpus()
    return VirtualNode(index, vcpus, size_mib * 1024, fields.distances(count), pnode)


class _VirtualNodeFields:
    """The ``key=value`` strings that describe one virtual node."""

    __slots__ = ("_config", "_fields", "_index")

    def __init__(self, config: GuestConfig, index: int, described: Value) -> None:
        self._config = config
        self._index = index
        self._fields: dict[str, str] = {}
        if isinstance(described, str):
            raise self.error("it should be a list of strings such as 'size=1024'")
        for text in config.items(described, "vnuma"):
            key, _, value = (part.strip() for part in text.partition("="))
            if key not in ("pnode", "size", "vcpus", "vdistances") or not value:
                raise self.error(f"{text[:40]!r} is none of pnode=, size=, vcpus=, vdistances=")
            if key in self._fields:
                raise self.error(f"{key} is there twice")
            self._fields[key] = value

    def error(self, message: str, *, hint: str | None = None) -> ParseError:
        return self._config.error(f"virtual node {self._index}: {message}", at="vnuma", hint=hint)

    def number(self, key: str) -> int | None:
        text = self._fields.get(key)
        return None if text is None else self._number(key, text, LARGEST_MIB)

    def vcpus(self) -> CpuMap:
        try:
            vcpus = CpuMap.parse(self._fields.get("vcpus", ""))
        except ParseError as error:
            raise self.error(f"vcpus: {error.message}", hint=error.hint) from None
        if vcpus and vcpus.bits >> MOST_VCPUS:
            raise self.error(f"more vcpus than Xen has ({MOST_VCPUS})")
        return vcpus

    def distances(self, count: int) -> tuple[int, ...]:
        text = self._fields.get("vdistances")
        if text is None:
            return ()
        row = tuple(self._number("vdistances", part.strip(), _FARTHEST) for part in text.split(","))
        if len(row) != count:
            raise self.error(f"{len(row)} vdistances for {count} virtual nodes")
        if row[self._index] > min(row):
            raise self.error("it is farther from itself than from another")
        return row

    def _number(self, key: str, text: str, largest: int) -> int:
        if not (text.isascii() and text.isdecimal()) or len(text) > 18:
            raise self.error(f"{key}={text[:40]} is no whole number")
        if int(text) > largest:
            raise self.error(f"{key}={text} is out of range: it is at most {largest}")
        return int(text)
