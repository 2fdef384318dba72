"""The memory of a process, mapping by mapping, as Linux tells it.

``/proc/PID/numa_maps`` has the pages of each mapping by node and its memory policy, and walks page
tables for it; ``/proc/PID/maps`` has where each ends (Linux, Documentation/filesystems/proc.rst).
"""

from collections.abc import Iterator, Mapping
from typing import NamedTuple

from homenode.errors import ParseError
from homenode.formats.columns import whole_number

_WORDS = ("heap", "stack", "huge")
_SHARED = ("/memfd:", "/dev/shm/", "/SYSV", "/dev/zero")  # noqa: S108 - as the kernel names them
_ORDINARY_KIB = 4
_MOST_ORDERS = 64
"""Linux has 11 on x86, and nowhere more than some 20 (MAX_ORDER)."""


class Mapped(NamedTuple):
    """A mapping of a process: addresses in bytes, and its pages by node.

    `policy` is as the kernel writes it (``bind:0``, ``prefer (many):2``). `is_own` is whether it is
    memory of the process, and not what is cached of a file. `page_kib` is the size of its pages as
    the kernel counts them; transparent huge pages are told as ordinary ones.
    """

    start: int
    end: int
    policy: str
    pages: Mapping[int, int]
    page_kib: int = _ORDINARY_KIB
    is_own: bool = True

    @property
    def size_kib(self) -> int:
        """Its length."""
        return (self.end - self.start) >> 10

    @property
    def kib(self) -> dict[int, int]:
        """What is there of it, by node."""
        return {node: pages * self.page_kib for node, pages in self.pages.items()}


def parse(numa_maps: str, maps: str, *, source: str = "numa_maps") -> tuple[Mapped, ...]:
    """Return the mappings of a process that have any page; `ParseError` for what is no such file.

    One that is not in `maps`, for it was made in between, is left out.
    """
    ends = dict(_ends(maps, source))
    found = []
    for number, line in enumerate(numa_maps.splitlines(), start=1):
        if not line.strip():
            continue
        mapped = _mapped(line, ends, source, number)
        if mapped is not None and mapped.pages:
            found.append(mapped)
    return tuple(found)


def _ends(text: str, source: str) -> Iterator[tuple[int, int]]:
    for number, line in enumerate(text.splitlines(), start=1):
        start, dash, end = line.partition(" ")[0].partition("-")
        try:
            yield int(start, 16), int(end, 16)
        except ValueError:
            raise ParseError("is no mapping", source=source, line=number) from None
        if not dash:
            raise ParseError("is no mapping", source=source, line=number)


def _mapped(line: str, ends: Mapping[int, int], source: str, number: int) -> Mapped | None:
    first, *words = line.split()
    try:
        start = int(first, 16)
    except ValueError:
        raise ParseError("is no mapping", source=source, line=number) from None
    if start not in ends:
        return None
    policy: list[str] = []
    while words and "=" not in words[0] and words[0] not in _WORDS:
        policy.append(words.pop(0))
    facts = dict(word.partition("=")[::2] for word in words)
    pages = {
        node: count
        for name, value in facts.items()
        if name[:1] == "N"
        and (node := whole_number(name[1:])) is not None
        and (count := whole_number(value)) is not None
    }
    name = facts.get("file", "")
    return Mapped(
        start,
        ends[start],
        " ".join(policy),
        pages,
        page_kib=whole_number(facts.get("kernelpagesize_kB", "")) or _ORDINARY_KIB,
        is_own="anon" in facts or "huge" in facts or name.startswith(_SHARED),
    )


def of_guest(mappings: tuple[Mapped, ...], sizes_kib: frozenset[int]) -> tuple[Mapped, ...]:
    """Return the mappings that are a guest's memory, of parts (cells, modules) of those sizes.

    QEMU maps each part as a whole. Where none has such a size, all that is the process's own is
    taken for it.
    """
    own = tuple(mapped for mapped in mappings if mapped.is_own)
    return tuple(mapped for mapped in own if mapped.size_kib in sizes_kib) or own


def sum_kib(mappings: tuple[Mapped, ...]) -> dict[int, int]:
    """Return what is there of mappings, by node."""
    total: dict[int, int] = {}
    for mapped in mappings:
        for node, kib in mapped.kib.items():
            total[node] = total.get(node, 0) + kib
    return dict(sorted(total.items()))


def free_blocks(buddyinfo: str, *, order: int = 9) -> dict[int, int]:
    """Return, by node, the free blocks of 2^`order` pages of ``/proc/buddyinfo``.

    Larger ones count for what they can be broken into: with pages of 4 KiB, order 9 is 2 MiB.
    """
    total: dict[int, int] = {}
    for line in buddyinfo.splitlines():
        head, comma, rest = line.partition(",")
        words = rest.split()
        node = whole_number(head.removeprefix("Node").strip())
        if not comma or node is None or words[:1] != ["zone"]:
            continue
        counts = [
            count
            for word in words[2 : 2 + _MOST_ORDERS]
            if (count := whole_number(word)) is not None
        ]
        blocks = sum(count << at for at, count in enumerate(counts[order:]))
        total[node] = total.get(node, 0) + blocks
    return total


def value_kib(status: str, name: str) -> int:
    """Return a field of ``/proc/PID/status`` or ``smaps_rollup`` (``VmPin``) in KiB; 0 without."""
    for line in status.splitlines():
        head, colon, rest = line.partition(":")
        words = rest.split()
        kib = whole_number(words[0]) if colon and head == name and words else None
        if kib is not None:
            return kib
    return 0
