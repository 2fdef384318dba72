"""Guests and cpupools as ``xl`` lists them: five printed tables and one JSON document.

The tables are read by their column headings, and a row by the word of its state (``r-----``),
since names may hold spaces and overflow their column. A guest that is going away may have the
name ``(null)``.

Source: Xen, tools/xl/xl_list.c, list_domains(); xl_vcpu.c, print_vcpuinfo(); xl_cpupool.c,
main_cpupoollist(); the JSON is libxl_domain_config of tools/libs/light/libxl_types.idl.
"""

from collections.abc import Iterable
from typing import NamedTuple, TypeVar

from homenode.bitmap import LARGEST_MEMBER, Bitmap, CpuMap, NodeMap
from homenode.errors import ParseError
from homenode.formats.columns import LARGEST_MIB, Line, Row, lines_of
from homenode.guest import GuestState, Vcpu, VirtualNode

LARGEST_DOMAIN_ID = 65_535
MOST_VCPUS = 8192
"""Xen's own limit for a guest."""

_Map = TypeVar("_Map", bound=Bitmap)


class ListedGuest(NamedTuple):
    """One row of ``xl list``; memory is rounded to MiB, `vcpus` counts those online.

    `memory_kib` counts what is only claimed as yet for a guest that is being built. Told only
    with an option: `uuid` (-v), `node_affinity` (-n), `pool` (-c); `claimed_kib` is only in
    ``xl claims``.
    """

    id: int
    name: str
    memory_kib: int
    vcpus: int
    state: GuestState
    node_affinity: NodeMap | None = None
    pool: str | None = None
    uuid: str | None = None
    claimed_kib: int | None = None


class ListedVcpu(NamedTuple):
    """One row of ``xl vcpu-list``."""

    guest_id: int
    guest_name: str
    vcpu: Vcpu


class ListedPool(NamedTuple):
    """One row of ``xl cpupool-list``: how many cpus it has, and its scheduler."""

    name: str
    cpus: int
    scheduler: str


class ConfiguredGuest(NamedTuple):
    """One guest of ``xl list -l``: its configuration. None, or an empty tuple, is not stated."""

    id: int
    name: str | None
    uuid: str | None
    type: str | None
    pool: str | None
    target_kib: int | None
    max_kib: int | None
    vcpus: int | None
    hard: tuple[CpuMap, ...]
    soft: tuple[CpuMap, ...]
    virtual_nodes: tuple[VirtualNode, ...]


def parse_list(text: str, *, nodes: NodeMap, source: str = "xl list") -> tuple[ListedGuest, ...]:
    """Read ``xl list``, also with -v, -c or -n, and ``xl claims``.

    `nodes` are the host's, for the word ``all``.
    """
    rows = _rows(text, flags="rbpscd", needed=("ID", "Mem", "VCPUs"), source=source)
    return tuple(
        ListedGuest(
            row.number("ID", most=LARGEST_DOMAIN_ID),
            _name(row, "ID"),
            row.number("Mem", most=LARGEST_MIB) << 10,
            row.number("VCPUs", most=MOST_VCPUS),
            _state(row.word("State")),
            _map(row, row.rest("NODE"), nodes) if "NODE" in row.columns else None,
            row.word("Cpupool") if "Cpupool" in row.columns else None,
            row.word("UUID").lower() if "UUID" in row.columns else None,
            row.number("Claimed", most=LARGEST_MIB) << 10 if "Claimed" in row.columns else None,
        )
        for row in rows
    )


def parse_vcpu_list(
    text: str, *, cpus: CpuMap, source: str = "xl vcpu-list"
) -> tuple[ListedVcpu, ...]:
    """Read ``xl vcpu-list``; `cpus` are the host's, for the word ``all``.

    Masks are returned as they are printed: they may name cpus that the host has not.
    """
    listed = []
    for row in _rows(text, flags="rbp", needed=("ID", "VCPU", "CPU", "Affinity"), source=source):
        hard, slash, soft = row.rest("Affinity").partition("/")
        offline = row.word("CPU") == "-"
        vcpu = Vcpu(
            row.number("VCPU", most=MOST_VCPUS - 1),
            _map(row, hard, cpus),
            _map(row, soft, cpus) if slash else cpus,
            cpu=None if offline else row.number("CPU", most=LARGEST_MEMBER),
            time_ns=row.nanoseconds("Time(s)"),
            online=not offline,
        )
        listed.append(ListedVcpu(row.number("ID", most=LARGEST_DOMAIN_ID), _name(row, "ID"), vcpu))
    return tuple(listed)


class Running(NamedTuple):
    """A vcpu as ``xl vcpu-list`` shows it running, with its masks as they are printed.

    `cpu` is None for one that is offline. `state` is ``r`` (it runs), ``b`` (it wants nothing),
    ``-`` (it waits for a cpu) or ``p`` (paused).
    """

    guest_id: int
    vcpu: int
    cpu: int | None
    state: str
    time_ns: int
    hard: str
    soft: str


def parse_running(text: str, *, source: str = "xl vcpu-list") -> list[Running]:
    """Read ``xl vcpu-list`` for who runs and waits where.

    For a list of thousands every few seconds: a tenth of what `parse_vcpu_list` takes. Rows are
    read from the right, since names may hold blanks and all that follows a name is one word.
    """
    heading, _, rows = text.partition("\n")
    if heading.split()[-3:] != ["(Hard", "/", "Soft)"]:
        raise ParseError("has no column of affinities, hard and soft", source=source, line=1)
    found = []
    for number, line in enumerate(rows.splitlines(), 2):
        words = line.rsplit(None, 8)
        try:
            _, guest, vcpu, cpu, state, seconds, hard, _, soft = words
            whole, _, tenths = seconds.partition(".")
            time_ns = int(whole) * 1_000_000_000 + int(tenths) * 100_000_000
            letter = state.replace("-", "")[:1] or "-"
            at = None if cpu == "-" else int(cpu)
            found.append(Running(int(guest), int(vcpu), at, letter, time_ns, hard, soft))
        except ValueError:
            raise ParseError(
                f"no vcpu: {line.strip()[:80]!r}", source=source, line=number
            ) from None
    return found


def _rows(text: str, *, flags: str, needed: Iterable[str], source: str) -> list[Row]:
    lines = [line for line in lines_of(text) if line.text.strip()]
    while lines and not {"Name", "State"} <= set(lines[0].text.split()):
        del lines[0]
    if not lines:
        raise ParseError("has no line of column headings (Name, ID, ... State)", source=source)
    # A heading of two words, with one word below it.
    columns = lines[0].text.replace("Security Label", "Security-Label").split()
    for column in needed:
        if column not in columns:
            raise ParseError(f"has no column {column!r}", source=source, line=lines[0].number)
    return [_row(line, columns, flags=flags, source=source) for line in lines[1:]]


def _row(line: Line, columns: list[str], *, flags: str, source: str) -> Row:
    row = Row(line, columns, source=source, words=line.text.split())
    # From the right: a name may have words that look like a state, and like all that follows it.
    for at in range(len(row.words) - 1, columns.index("State") - 1, -1):
        followed_by_time = at + 1 == len(row.words) or "." in row.words[at + 1]
        if followed_by_time and _is_state(row.words[at], flags):
            row.shift = at - columns.index("State")
            return row
    raise row.error(f"no state like {flags!r} in this line")


def _is_state(word: str, flags: str) -> bool:
    return len(word) == len(flags) and all(
        letter in ("-", flag) for letter, flag in zip(word, flags, strict=True)
    )


def _name(row: Row, next_column: str) -> str:
    at = row.columns.index(next_column) + row.shift
    name = " ".join(row.words[:at])
    return f"domain {row.word(next_column)}" if name == "(null)" else name


def _state(flags: str) -> GuestState:
    # A crashed guest (c) that is kept has been shut down (s) as well, and stays.
    if "d" in flags or ("s" in flags and "c" not in flags):
        return "dying"
    return "paused" if "p" in flags or "c" in flags else "running"


def _map(row: Row, text: str, everything: _Map) -> _Map:
    """Read what xl's print_bitmap() writes."""
    text = text.strip()
    if text == "all":
        return everything
    if text == "none":
        return type(everything)()
    try:
        members = type(everything).parse(text)
    except ParseError as error:
        raise row.error(error.message) from None
    if not members:
        raise row.error(f"no {everything.noun}s where a list of them is expected")
    return members


def parse_cpupool_cpus(
    text: str, *, source: str = "xl cpupool-list -c"
) -> tuple[tuple[str, CpuMap], ...]:
    """Read ``xl cpupool-list -c``: the name and the cpus of every cpupool."""
    pools = []
    for line, name, rest in _pool_rows(text, "CPU list", source):
        try:
            pools.append((name, CpuMap.parse(rest)))
        except ParseError as error:
            raise error.within(source, line.number) from None
    return tuple(pools)


def parse_cpupools(text: str, *, source: str = "xl cpupool-list") -> tuple[ListedPool, ...]:
    """Read ``xl cpupool-list``: how many cpus every cpupool has, and its scheduler."""
    pools = []
    for line, name, rest in _pool_rows(text, "CPUs", source):
        row = Row(line, ["CPUs", "Sched"], source=source, words=rest.split())
        pools.append(ListedPool(name, row.number("CPUs", most=LARGEST_MEMBER), row.word("Sched")))
    return tuple(pools)


def _pool_rows(text: str, heading: str, source: str) -> list[tuple[Line, str, str]]:
    """Split the rows at the column of `heading`; nothing else ends a name here."""
    lines = [line for line in lines_of(text) if line.text.strip()]
    start = lines[0].text.find(heading) if lines and lines[0].text.startswith("Name") else 0
    if start <= 0:
        raise ParseError(f"has no column headings (Name, {heading})", source=source)
    rows = []
    for line in lines[1:]:
        name, rest = line.text[:start], line.text[start:]
        if not name[-1].isspace() and rest.strip():
            raise ParseError(
                f"the name of a cpupool runs into the next column: {line.text.strip()[:80]!r}",
                source=source,
                line=line.number,
                hint=f"names of up to {start - 1} characters can be read",
            )
        rows.append((line, name.strip(), rest.strip()))
    return rows


def parse_configured(text: str, *, source: str = "xl list -l") -> tuple[ConfiguredGuest, ...]:
    """Read ``xl list -l``: a JSON list of {domid, config}; other fields are passed over."""
    import json  # noqa: PLC0415 - the tables are read without

    try:
        document = json.loads(text)
    except json.JSONDecodeError as error:
        raise ParseError(f"is not JSON: {error.msg}", source=source, line=error.lineno) from None
    except (RecursionError, ValueError):
        raise ParseError("is nested too deep, or has too long a number", source=source) from None
    listed = _Json(document, source, "").items()
    return tuple(_configured(guest) for guest in listed)


class _Json:
    """A value of a JSON document, where it stands, and typed access to what it holds."""

    __slots__ = ("path", "source", "value")

    def __init__(self, value: object, source: str, path: str) -> None:
        self.value = value
        self.source = source
        self.path = path

    def error(self, wanted: str) -> ParseError:
        return ParseError(
            f"{self.path or 'the document'}: {wanted} is expected, not {self.value!r:.40}",
            source=self.source,
        )

    def __getitem__(self, key: str) -> "_Json":
        if self.value is None:
            return _Json(None, self.source, f"{self.path}.{key}")
        if not isinstance(self.value, dict):
            raise self.error("a table")
        return _Json(self.value.get(key), self.source, f"{self.path}.{key}")

    def items(self, *, most: int = LARGEST_MEMBER) -> "list[_Json]":
        if self.value is None:
            return []
        if not isinstance(self.value, list) or len(self.value) > most:
            raise self.error(f"a list of at most {most}")
        return [
            _Json(item, self.source, f"{self.path}[{at}]") for at, item in enumerate(self.value)
        ]

    def text(self) -> str | None:
        if self.value is not None and not isinstance(self.value, str):
            raise self.error("a text")
        # JSON can write halves of characters, which nothing can print.
        if self.value is not None and any("\ud800" <= char <= "\udfff" for char in self.value):
            raise self.error("a text of whole characters")
        return self.value

    def number(self, *, most: int) -> int | None:
        if self.value is None:
            return None
        if type(self.value) is not int or not 0 <= self.value <= most:
            raise self.error(f"a number from 0 to {most}")
        return self.value

    def needed(self, *, most: int) -> int:
        number = self.number(most=most)
        if number is None:
            raise self.error("a number")
        return number

    def cpus(self) -> CpuMap:
        return CpuMap(item.needed(most=LARGEST_MEMBER) for item in self.items())


def _configured(guest: _Json) -> ConfiguredGuest:
    create, build = guest["config"]["c_info"], guest["config"]["b_info"]
    virtual_nodes = build["vnuma_nodes"].items(most=LARGEST_MEMBER)
    return ConfiguredGuest(
        guest["domid"].needed(most=LARGEST_DOMAIN_ID),
        create["name"].text(),
        create["uuid"].text(),
        create["type"].text(),
        create["pool_name"].text(),
        build["target_memkb"].number(most=LARGEST_MIB << 10),
        build["max_memkb"].number(most=LARGEST_MIB << 10),
        build["max_vcpus"].number(most=MOST_VCPUS),
        tuple(item.cpus() for item in build["vcpu_hard_affinity"].items(most=MOST_VCPUS)),
        tuple(item.cpus() for item in build["vcpu_soft_affinity"].items(most=MOST_VCPUS)),
        tuple(_virtual_node(number, item) for number, item in enumerate(virtual_nodes)),
    )


def _virtual_node(number: int, node: _Json) -> VirtualNode:
    return VirtualNode(
        number,
        node["vcpus"].cpus(),
        node["memkb"].needed(most=LARGEST_MIB << 10),
        distances=tuple(item.needed(most=1 << 16) for item in node["distances"].items()),
        # xl leaves out what is 0, and a virtual node always has one.
        node=node["pnode"].number(most=LARGEST_MEMBER) or 0,
    )
