"""The hosts of a fleet, from a file: TOML, or what Huawei Cloud has published.

A hundred hosts of one kind in ten racks, and twenty older ones in another::

    name = "hall 3"

    [overcommit]
    vcpus = 2.0                  # vcpus that are given away for each cpu; 1, if not said
    memory = 1.0                 # the same for memory

    [[hosts]]
    count = 100                  # 1, if not said
    name = "epyc"                # epyc-0 to epyc-99; the host's own name, if not said
    racks = 10                   # the first ten hosts in the first rack, and so on
    sockets = 2                  # and all else that homenode.formats.host_toml reads
    nodes = 8
    cores = 16
    threads_per_core = 2
    memory = "64GiB"
    distances = {local = 10, socket = 12, machine = 32}

    [[hosts]]
    count = 20
    host = "captures/r640"       # whatever `homenode -c capture:` reads, beside this file
    rack = "old"                 # all in one rack; without either, each is in one of its own

Hosts of the same name are numbered on from one table to the next, and so are their racks. Unknown
keys are errors. A fleet has at most 50,000 hosts.

Huawei's file is ``pm_res.csv``, see `homenode.fleet.reading.huawei_hosts`, with racks from
``topology_provider.csv`` in the same folder, if that is there. It tells what is free on two
nodes of each host; a host of the fleet has just that, as one thread on each core. How far the
nodes are from each other is not told, and taken to be 20 (10 to themselves). A node without free
cpus is there and gives nothing; a host without any is left out, since no guest can be on it.
"""

import json
import re
from collections.abc import Callable, Iterator
from fractions import Fraction
from pathlib import Path
from typing import NamedTuple

from homenode.errors import HomenodeError, ParseError
from homenode.fleet.hosts import FleetHost, OverCommit
from homenode.formats import host_toml
from homenode.formats.table import Table
from homenode.formats.toml_text import document
from homenode.host import Cpu, Host, Node

MOST_HOSTS = 50_000
"""A set of hosts is a number with a bit for each: the index of so many takes some 400 MiB."""
LARGEST_BYTES = 64 << 20

_FLEET = ("name", "overcommit", "hosts")
_OWN = ("count", "name", "racks", "rack", "host")
_HOSTS = tuple(dict.fromkeys((*_OWN, *host_toml.KEYS)))
_LEAST_RATIO, _MOST_RATIO = Fraction(1, 100), Fraction(100)

_PACKED = (b"PAR1", b"\x1f\x8b")
_HUAWEI_COLUMN = b"CPU1"
_RACKS_NAME = "topology_provider.csv"

Hosts = Callable[[str], Host]


class FleetPlan(NamedTuple):
    """A fleet as a file describes it. Hosts that are alike share one `Host`."""

    name: str
    hosts: tuple[FleetHost, ...]
    over_commit: OverCommit
    source: str


def read_fleet(path: Path | str, *, host_of: Hosts) -> FleetPlan:
    """Return the fleet that the file at `path` describes.

    `host_of` gives the host that is described by the file or folder whose path it is given.
    Raises `ParseError` for what is wrong, and where.
    """
    path = Path(path)
    source = str(path)
    try:
        with path.open("rb") as file:
            data = file.read(LARGEST_BYTES + 1)
    except OSError as error:
        raise HomenodeError(f"{source}: cannot read it: {error.strerror or error}") from None
    if len(data) > LARGEST_BYTES:
        raise ParseError(f"is larger than {LARGEST_BYTES >> 20} MiB", source=source)
    if data.startswith(_PACKED) or _HUAWEI_COLUMN in data.partition(b"\n")[0]:
        return _of_huawei(path)
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError:
        raise ParseError("is not UTF-8", source=source) from None
    return parse(text, source=source, host_of=lambda named: host_of(str(path.parent / named)))


def parse(text: str, *, source: str, host_of: Hosts) -> FleetPlan:
    """Return the fleet that `text` describes in TOML; `host_of` gives what ``host`` names."""
    hint = "a fleet is TOML, or Huawei's pm_res.csv"
    fleet = Table(document(text, source=source, hint=hint), _FLEET, path="", source=source)
    kinds = _Kinds(host_of)
    counts = _Counts({}, {})
    hosts: list[FleetHost] = []
    for table in fleet.tables("hosts", _HOSTS, most=MOST_HOSTS):
        hosts += _hosts(table, kinds, counts)
        if len(hosts) > MOST_HOSTS:
            raise table.error("count", f"with it there are more than {MOST_HOSTS} hosts")
    if not hosts:
        raise fleet.error("hosts", "there is none", hint="add [[hosts]] with count, cores, memory")
    return FleetPlan(
        fleet.maybe_text("name") or _stem(source), tuple(hosts), _over_commit(fleet), source
    )


def _stem(source: str) -> str:
    return source.rpartition("/")[2].partition(".")[0] or "fleet"


def _over_commit(fleet: Table) -> OverCommit:
    if "overcommit" not in fleet:
        return OverCommit()
    table = fleet.table("overcommit", OverCommit._fields)
    return OverCommit(_ratio(table, "vcpus"), _ratio(table, "memory"))


def _ratio(table: Table, key: str) -> Fraction:
    value = table.value(key)
    if value is None:
        return Fraction(1)
    # 1.1 is meant, and not the binary number that is next to it.
    text = "" if isinstance(value, bool) else str(value)
    if not re.fullmatch(r"\d{1,9}(\.\d{1,9})?", text, re.ASCII):
        raise table.error(key, f"a number such as 1.5 is wanted, not {value!r:.40}")
    ratio = Fraction(text)
    if not _LEAST_RATIO <= ratio <= _MOST_RATIO:
        raise table.error(key, f"{text} is not from {float(_LEAST_RATIO)} to {_MOST_RATIO}")
    return ratio


class _Counts(NamedTuple):
    """How many hosts, and how many racks, have been named after each name."""

    hosts: dict[str, int]
    racks: dict[str, int]


def _hosts(table: Table, kinds: "_Kinds", counts: _Counts) -> Iterator[FleetHost]:
    host = kinds.of(table)
    count = table.maybe_integer("count", least=1, most=MOST_HOSTS) or 1
    name = table.maybe_text("name") or host.name
    rack = table.maybe_text("rack")
    racks = table.maybe_integer("racks", least=1, most=MOST_HOSTS)
    if rack is not None and racks is not None:
        raise table.error("racks", "stands instead of rack, not beside it")
    if racks is not None and racks > count:
        raise table.error("racks", f"{racks} racks for {count} hosts")
    first, first_rack = counts.hosts.get(name, 0), counts.racks.get(name, 0)
    counts.hosts[name] = first + count
    counts.racks[name] = first_rack + (racks or 0)
    for at in range(count):
        if racks is not None:
            rack = f"{name}-rack-{first_rack + at * racks // count}"
        yield FleetHost(f"{name}-{first + at}", host, rack)


class _Kinds:
    """The hosts that tables describe, one for all tables that describe the same."""

    def __init__(self, host_of: Hosts) -> None:
        self._host_of = host_of
        self._known: dict[str, Host] = {}

    def of(self, table: Table) -> Host:
        own = {key: table.value(key) for key in host_toml.KEYS if key in table and key != "name"}
        stated = table.maybe_text("host")
        if stated is not None and own:
            raise table.error(next(iter(own)), "is not stated beside host, which describes it all")
        key = json.dumps([stated, own], sort_keys=True, default=repr)
        host = self._known.get(key)
        if host is None:
            host = self._inline(table) if stated is None else self._named(table, stated)
            self._check(table, host)
            self._known[key] = host
        return host

    def _named(self, table: Table, stated: str) -> Host:
        try:
            return self._host_of(stated)
        except ParseError:
            raise
        except HomenodeError as error:
            raise table.error("host", error.message, hint=error.hint) from None

    def _inline(self, table: Table) -> Host:
        try:
            return host_toml.host_of(table)
        except ParseError as error:
            if error.message.startswith(table.path):
                raise
            raise ParseError(
                f"{table.path}: {error.message}", source=table.source, hint=error.hint
            ) from None

    @staticmethod
    def _check(table: Table, host: Host) -> None:
        if not host.cpu_map:
            raise table.error("host" if "host" in table else "cores", "the host has no cpus")
        nodes = host.nodes_of(host.cpu_map)
        if not nodes or any(host.nodes_by_id[node].usable_kib is None for node in nodes):
            raise table.error(
                "host" if "host" in table else "memory", "what memory its nodes have is not told"
            )


def _of_huawei(path: Path) -> FleetPlan:
    # It needs polars, which takes a while to import and may be missing.
    from homenode.fleet.reading.huawei_hosts import read_hosts  # noqa: PLC0415

    racks_path = path.parent / _RACKS_NAME
    source = str(path)
    known: dict[object, Host] = {}
    hosts = []
    for name, nodes, rack in read_hosts(path, racks_path if racks_path.exists() else None):
        if not any(cpus for cpus, _ in nodes):
            continue
        host = known.get(nodes)
        if host is None:
            host = known[nodes] = _two_nodes(nodes, source)
        hosts.append(FleetHost(name, host, rack))
    if not hosts:
        raise ParseError("there is no host with free cpus", source=source)
    return FleetPlan(_stem(source), tuple(hosts), OverCommit(), source)


def _two_nodes(nodes: tuple[tuple[int, int], tuple[int, int]], source: str) -> Host:
    cpus = [node for node, (count, _) in enumerate(nodes) for _ in range(count)]
    return Host(
        cpus=[Cpu(at, node, core=at, socket=node, thread=0) for at, node in enumerate(cpus)],
        nodes=[
            Node(node, present_kib=gib << 20, free_kib=gib << 20)
            for node, (_, gib) in enumerate(nodes)
        ],
        distances=((10, 20), (20, 10)),
        name="+".join(f"{count}x{gib}GiB" for count, gib in nodes),
        source=source,
    )
