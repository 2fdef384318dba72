"""Memory by node, by guest and by zone, as ``xl debug-keys`` has Xen print it into its log.

``xl debug-keys u; xl dmesg`` prints what each node has and where each domain's pages are, and
``xl debug-keys H`` the free pages of each node and zone, and how many are not scrubbed yet. The
log is a ring that others write to as well: the last dump in a text counts, lines of it may be
missing, and a line that is garbled is as good as missing. So nothing here is an error: what is
not there is unknown.

Source: Xen, xen/common/numa.c, dump_numa(); xen/common/page_alloc.c, dump_heap(). All figures
are pages of 4 KiB.
"""

from typing import NamedTuple

from homenode.bitmap import LARGEST_MEMBER, CpuMap
from homenode.formats.columns import LARGEST_MIB, lines_of, whole_number

_MOST_PAGES = LARGEST_MIB << 8


NUMA_TITLE = "dumping numa info"
HEAP_TITLE = "dumping heap info"


class NodePages(NamedTuple):
    """Where a node begins, how many pages it spans (holes included), and how many are free."""

    start: int
    spanned: int
    free: int


class DomainPages(NamedTuple):
    """The pages of one domain: all of them, and by node."""

    total: int
    by_node: dict[int, int]

    @property
    def is_whole(self) -> bool:
        """Whether every page is accounted for; if not, lines are missing or it was changing.

        A guest that populates its memory on demand has pages that are on no node yet.
        """
        return sum(self.by_node.values()) == self.total


class NumaDump(NamedTuple):
    """What ``xl debug-keys u`` printed, as far as it is there."""

    nodes: dict[int, NodePages]
    cpus: CpuMap
    """The online cpus."""
    domains: dict[int, DomainPages]


def parse_numa(text: str) -> NumaDump:
    """Read the last dump of ``xl debug-keys u`` in `text`; everything is empty without one."""
    nodes: dict[int, NodePages] = {}
    online = 0
    totals: dict[int, int] = {}
    by_node: dict[int, dict[int, int]] = {}
    domain: int | None = None
    for line in _last_dump(text, NUMA_TITLE):
        words = line.replace("->", " ").split()
        if line.startswith("NODE"):
            nodes.update(_node(words))
        elif line.startswith("CPU"):
            online |= _cpus(words)
        elif line.endswith("):") and "(total:" in line:
            domain = _domain(words)
            if domain is not None:
                totals[domain], by_node[domain] = _pages(words[-1][:-2]) or 0, {}
        elif line.startswith("Node ") and len(words) == 3 and domain is not None:
            number, pages = _member(words[1].removesuffix(":")), _pages(words[2])
            if number is not None and number <= max(by_node[domain], default=-1):
                domain = None  # nodes go up: the heading of another domain is missing
            elif number is not None and pages is not None:
                by_node[domain][number] = pages
    domains = {domain: DomainPages(total, by_node[domain]) for domain, total in totals.items()}
    return NumaDump(nodes, CpuMap.from_bits(online), domains)


def parse_heap(text: str) -> dict[int, dict[int, int]]:
    """Read the last dump of ``xl debug-keys H`` in `text`: free pages by node and zone."""
    heap: dict[int, dict[int, int]] = {}
    for line in _last_dump(text, HEAP_TITLE):
        words = line.replace("heap[node=", "").replace("][zone=", " ").replace("]", " ").split()
        if line.startswith("heap[node=") and len(words) == 5 and words[4] == "pages":
            node, zone, pages = _member(words[0]), _member(words[1]), _pages(words[3])
            if node is not None and zone is not None and pages is not None:
                heap.setdefault(node, {})[zone] = pages
    return heap


def parse_unscrubbed(text: str) -> dict[int, int]:
    """Read the same dump: the free pages by node that Xen has yet to scrub; only nodes with any."""
    unscrubbed: dict[int, int] = {}
    for line in _last_dump(text, HEAP_TITLE):
        words = line.split()
        if line.startswith("Node ") and line.endswith(" unscrubbed pages") and len(words) == 6:
            node, pages = _member(words[1]), _pages(words[3])
            if node is not None and pages is not None:
                unscrubbed[node] = pages
    return unscrubbed


def dumped_at(text: str, title: str) -> int | None:
    """Return when (nanoseconds since Xen started) the last dump of that title was made.

    None if its first line is not in `text`: it was never made, or the ring has dropped it.
    """
    line = next((line.text for line in reversed(lines_of(text)) if title in line.text), "")
    return whole_number(line.rpartition("now = ")[2].partition(")")[0])


def _last_dump(text: str, title: str) -> list[str]:
    lines = lines_of(text)
    if not text.endswith("\n"):
        # A number that is cut off is another number.
        del lines[-1:]
    bare = [_bare(line.text) for line in lines]
    starts = [at for at, line in enumerate(bare) if title in line]
    return bare[starts[-1] :] if starts else bare


def _bare(line: str) -> str:
    bare = line.strip()
    if bare.startswith("(XEN)"):
        bare = bare[5:].strip()
        if bare.startswith("["):  # the time, where Xen was told to print it
            bare = bare.partition("]")[2].strip()
    return bare


def _pages(text: str) -> int | None:
    number = whole_number(text)
    return number if number is not None and number <= _MOST_PAGES else None


def _member(text: str) -> int | None:
    number = whole_number(text)
    return number if number is not None and number <= LARGEST_MEMBER else None


def _node(words: list[str]) -> dict[int, NodePages]:
    number = _member(words[0][4:])
    told = {key: _pages(value) for key, value in zip(words[1::2], words[2::2], strict=False)}
    start, spanned, free = told.get("start"), told.get("size"), told.get("free")
    if number is None or start is None or spanned is None or free is None or free > spanned:
        return {}
    return {number: NodePages(start, spanned, free)}


def _cpus(words: list[str]) -> int:
    first_text, _, last_text = words[0][3:].partition("...")
    first, last = _member(first_text), _member(last_text or first_text)
    if first is None or last is None or last < first:
        return 0
    return (1 << (last + 1)) - (1 << first)


def _domain(words: list[str]) -> int | None:
    # "Domain 7 (total: 9):", and since Xen 4.18 "d7 (total: 9):"
    numbered = words[1] if words[0] == "Domain" else words[0].removeprefix("d")
    return whole_number(numbered) if _pages(words[-1][:-2]) is not None else None
