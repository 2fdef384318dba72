"""homenode's own description of a host and its guests: JSON, versioned, lossless.

The document is one object::

    {"format": "homenode-snapshot", "version": 1, "host": {...}, "guests": [{...}, ...]}

Its tables have the fields of `homenode.host.Host` and `homenode.guest.Guest`, and of what these
are made of, under the same names and in the same units. Maps of cpus and of nodes are texts in
the Linux list form (``"0-3,8"``). Null means unknown, and so does a field that is left out.
A reader of this version refuses fields that it does not know.

`digest` names a snapshot by its content, so that a decision can say what it was made from.
"""

from typing import NamedTuple, get_args

from homenode.bitmap import LARGEST_MEMBER, CpuMap, NodeMap
from homenode.errors import HomenodeError, ParseError
from homenode.formats.table import Table
from homenode.guest import Guest, GuestState, MemoryByNode, Vcpu, VirtualNode
from homenode.host import (
    Cpu,
    Cpupool,
    Device,
    DeviceKind,
    Host,
    Node,
    NodeKind,
    PagePool,
    Reservation,
)

FORMAT = "homenode-snapshot"
VERSION = 1
_HINT = "`homenode topology --save FILE` writes one"
LARGEST_TEXT = 256 << 20
MOST_GUESTS = 65_536

_HOST = (
    "name", "source", "hypervisor", "taken_at", "cpus", "nodes", "distances", "latency_ns",
    "bandwidth_mb_s", "pools", "devices", "notes",
)  # fmt: skip


def dump(host: Host, guests: tuple[Guest, ...], *, indent: int | None = 2) -> str:
    """Return the document that describes `host` and `guests`; `parse` reads it back."""
    import json  # noqa: PLC0415 - most commands write no snapshot

    return json.dumps(document(host, guests), indent=indent)


def digest(host: Host, guests: tuple[Guest, ...]) -> str:
    """Return 12 hexadecimal digits that name this content; when it was taken does not count."""
    import hashlib  # noqa: PLC0415 - only where a digest is asked for
    import json  # noqa: PLC0415 - the same

    undated = tuple(
        guest._replace(memory_by_node=guest.memory_by_node._replace(taken_at=None))
        if guest.memory_by_node
        else guest
        for guest in guests
    )
    content = document(host.replace(taken_at=None), undated)
    canonical = json.dumps(content, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(canonical.encode()).hexdigest()[:12]


def document(host: Host, guests: tuple[Guest, ...]) -> dict[str, object]:
    """Return the document as dicts and lists, for `json`."""
    return {
        "format": FORMAT,
        "version": VERSION,
        "host": {field: _plain(getattr(host, field)) for field in _HOST},
        "guests": [_plain(guest) for guest in guests],
    }


def _plain(value: object) -> object:
    """Turn records into dicts, maps into their list form, keys into texts; the rest stays."""
    if isinstance(value, tuple) and hasattr(value, "_fields"):
        return {field: _plain(getattr(value, field)) for field in value._fields}
    if isinstance(value, tuple):
        return [_plain(item) for item in value]
    if isinstance(value, dict):
        return {str(key): value[key] for key in sorted(value)}
    if isinstance(value, (CpuMap, NodeMap)):
        return str(value)
    return value


def parse(text: str, *, source: str) -> tuple[Host, tuple[Guest, ...]]:
    """Return the host and the guests that `text` describes.

    Raises `ParseError` that names the place in the document, for whatever is not of the form.
    """
    loaded = _loaded(text, source)
    # Another tool's document is refused as a whole, not for the first key that is not known here.
    if not isinstance(loaded, dict) or loaded.get("format") != FORMAT:
        message = f"is no homenode snapshot: its format is not {FORMAT}"
        raise ParseError(message, source=source, hint=_HINT)
    top = Table(loaded, ("format", "version", "host", "guests"), path="", source=source)
    version = top.integer("version")
    if version != VERSION:
        raise top.error(
            "version",
            f"a snapshot of version {version}, and this homenode reads version {VERSION}",
            hint="take it again, or use the homenode that wrote it",
        )
    host = _host(top.table("host", _HOST))
    tables = top.tables("guests", Guest._fields, most=MOST_GUESTS)
    return host, tuple(_guest(table, host.node_map) for table in tables)


def _loaded(text: str, source: str) -> object:
    import json  # noqa: PLC0415 - other descriptions of a host are read without

    if len(text) > LARGEST_TEXT:
        raise ParseError("too long for a snapshot", source=source)
    try:
        return json.loads(text)
    except json.JSONDecodeError as error:
        message = f"is not JSON: {error.msg} at column {error.colno}"
        raise ParseError(message, source=source, line=error.lineno) from None
    except (RecursionError, ValueError):
        raise ParseError("is nested too deep, or has too long a number", source=source) from None


def _host(table: Table) -> Host:
    nodes = [_node(item) for item in table.tables("nodes", Node._fields, most=LARGEST_MEMBER)]
    latency, bandwidth = (
        table.matrix(key, size=len(nodes)) if key in table else None
        for key in ("latency_ns", "bandwidth_mb_s")
    )
    known = NodeMap(node.id for node in nodes)
    try:
        return Host(
            cpus=[_cpu(item) for item in table.tables("cpus", Cpu._fields, most=LARGEST_MEMBER)],
            nodes=nodes,
            distances=table.matrix("distances", size=len(nodes)),
            latency_ns=latency,
            bandwidth_mb_s=bandwidth,
            name=table.text("name"),
            source=table.text("source"),
            hypervisor=table.maybe_text("hypervisor"),
            pools=[_pool(item) for item in _records(table, "pools", Cpupool)],
            devices=[_device(item, known) for item in _records(table, "devices", Device)],
            notes=table.texts("notes"),
            taken_at=table.maybe_seconds("taken_at"),
        )
    except ParseError:
        raise
    except HomenodeError as error:
        raise ParseError(f"host: {error.message}", source=table.source, hint=error.hint) from None


def _records(table: Table, key: str, kind: type[NamedTuple]) -> list[Table]:
    return table.tables(key, kind._fields, most=LARGEST_MEMBER)


def _cpu(table: Table) -> Cpu:
    return Cpu(
        table.integer("id", most=LARGEST_MEMBER),
        table.maybe_integer("node", most=LARGEST_MEMBER),
        core=table.maybe_integer("core"),
        socket=table.maybe_integer("socket"),
        thread=table.maybe_integer("thread"),
        die=table.maybe_integer("die"),
        llc=table.maybe_integer("llc"),
        online=table.flag("online", default=True),
    )


def _node(table: Table) -> Node:
    reserved = table.tables("reserved", Reservation._fields, most=LARGEST_MEMBER)
    pages = table.tables("pages", PagePool._fields, most=LARGEST_MEMBER)
    return Node(
        table.integer("id", most=LARGEST_MEMBER),
        kind=table.maybe_word("kind", get_args(NodeKind)),
        present_kib=table.maybe_integer("present_kib"),
        free_kib=table.maybe_integer("free_kib"),
        reclaimable_kib=table.maybe_integer("reclaimable_kib"),
        reserved=tuple(Reservation(item.integer("kib"), item.text("reason")) for item in reserved),
        committed_kib=table.maybe_integer("committed_kib"),
        touched_kib=table.maybe_integer("touched_kib"),
        pages=tuple(
            PagePool(
                item.integer("page_kib", least=1),
                item.integer("total"),
                item.maybe_integer("free"),
            )
            for item in pages
        ),
    )


def _pool(table: Table) -> Cpupool:
    return Cpupool(
        table.text("name"),
        table.map("cpus", CpuMap),
        scheduler=table.maybe_text("scheduler"),
        granularity=table.maybe_text("granularity"),
    )


def _device(table: Table, known: NodeMap) -> Device:
    return Device(
        table.text("address"),
        _known_node(table, "node", known),
        kind=table.maybe_word("kind", get_args(DeviceKind)),
    )


def _known_node(table: Table, key: str, known: NodeMap) -> int | None:
    node = table.maybe_integer(key, most=LARGEST_MEMBER)
    if node is not None and node not in known:
        raise table.error(key, f"there is no node {node}", hint=f"the host has {known}")
    return node


def _guest(table: Table, known: NodeMap) -> Guest:
    vcpus = table.tables("vcpus", Vcpu._fields, most=LARGEST_MEMBER)
    virtual_nodes = table.tables("virtual_nodes", VirtualNode._fields, most=LARGEST_MEMBER)
    page_kib = table.maybe_integer("page_kib", least=1)
    return Guest(
        table.text("name"),
        vcpus=tuple(_vcpu(item) for item in vcpus),
        id=table.maybe_integer("id"),
        uuid=table.maybe_text("uuid"),
        generation=table.maybe_integer("generation") or 0,
        type=table.maybe_text("type"),
        state=table.word("state", get_args(GuestState), default="running"),
        memory_kib=table.maybe_integer("memory_kib"),
        max_memory_kib=table.maybe_integer("max_memory_kib"),
        memory_by_node=_memory_by_node(table, known) if "memory_by_node" in table else None,
        node_affinity=table.maybe_map("node_affinity", NodeMap, within=known),
        pool=table.maybe_text("pool"),
        virtual_nodes=tuple(_virtual_node(item, known) for item in virtual_nodes),
        page_kib=4 if page_kib is None else page_kib,
        exclusive=table.flag("exclusive", default=False),
        awaited_kib=table.maybe_integer("awaited_kib") or 0,
        held=table.maybe_map("held", NodeMap, within=known),
        replaced=tuple(CpuMap.parse(mask) for mask in table.texts("replaced")),
        held_by_default=table.flag("held_by_default", default=False),
        kept=table.flag("kept", default=False),
        devices=tuple(table.texts("devices")),
    )


def _vcpu(table: Table) -> Vcpu:
    return Vcpu(
        table.integer("id", most=LARGEST_MEMBER),
        table.map("hard", CpuMap),
        table.map("soft", CpuMap),
        cpu=table.maybe_integer("cpu", most=LARGEST_MEMBER),
        time_ns=table.maybe_integer("time_ns", most=2**63 - 1),
        online=table.flag("online", default=True),
    )


def _memory_by_node(guest: Table, known: NodeMap) -> MemoryByNode:
    table = guest.table("memory_by_node", MemoryByNode._fields)
    by_node = table.table("kib", [str(node) for node in known])
    return MemoryByNode(
        {node: by_node.integer(str(node)) for node in known if str(node) in by_node},
        source=table.text("source"),
        taken_at=table.maybe_seconds("taken_at"),
    )


def _virtual_node(table: Table, known: NodeMap) -> VirtualNode:
    return VirtualNode(
        table.integer("id", most=LARGEST_MEMBER),
        table.map("vcpus", CpuMap),
        table.integer("memory_kib"),
        distances=table.integers("distances"),
        node=_known_node(table, "node", known),
        page_kib=table.maybe_integer("page_kib", least=1),
    )
