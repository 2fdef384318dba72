"""Maps of cpus and of nodes: immutable sets of small integers over one Python int.

`CpuMap` and `NodeMap` are one mechanism and two types, so that a node number cannot be taken for
a cpu number: every operation on two of different types is a `TypeError`, and they never compare
equal. A `homenode.host.Host` converts between them (`cpus_of`, `nodes_of`).

The forms in which people and systems write them:

=============== ============================ ============================================
form            example                      read by
=============== ============================ ============================================
Linux list      ``0-3,8,16-31:2/4``          `Bitmap.parse`; ``str()`` writes it
Linux hex mask  ``ff,00000000``              `Bitmap.parse_mask`; `Bitmap.mask` writes it
libvirt         ``0-3,^2``                   `Bitmap.parse_libvirt`
Xen             ``nodes:0-1,^5`` ``all``     `parse_xen`, `parse_xen_per_vcpu`
=============== ============================ ============================================

Whatever is malformed, or names a member that the host lacks, is a `ParseError` that shows the
text and the place in it. Xen itself ignores unknown cpus and nodes without a word
(``xl create`` with ``cpus="0,99"`` runs on cpu 0); homenode refuses them.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import ClassVar, NoReturn, Self

from homenode.errors import ParseError

LARGEST_MEMBER = 65_535
"""No cpu or node number is larger; Linux and Xen both stop far below."""


class Bitmap:
    """An immutable set of integers from 0 to `LARGEST_MEMBER`, iterated in ascending order.

    The operators of `frozenset` (``& | - ^ <= < >= > in len bool``) between maps of one type.
    """

    __slots__ = ("bits",)
    noun: ClassVar[str] = "number"
    bits: int

    def __init__(self, members: Iterable[int] = ()) -> None:
        bits = 0
        for member in members:
            if not 0 <= member <= LARGEST_MEMBER:
                raise ValueError(f"no {self.noun} has the number {member}")
            bits |= 1 << member
        object.__setattr__(self, "bits", bits)

    @classmethod
    def from_bits(cls, bits: int) -> Self:
        """Return the map whose member n is bit n of `bits`."""
        if bits < 0 or bits >> (LARGEST_MEMBER + 1):
            raise ValueError(f"no map of {cls.noun}s has bits below 0 or above {LARGEST_MEMBER}")
        return cls._of(bits)

    @classmethod
    def _of(cls, bits: int) -> Self:
        made = object.__new__(cls)
        object.__setattr__(made, "bits", bits)
        return made

    @classmethod
    def union(cls, maps: Iterable[Self]) -> Self:
        """Return the members of all `maps`."""
        bits = 0
        for one in maps:
            bits |= one.bits
        return cls._of(bits)

    @classmethod
    def full(cls, count: int) -> Self:
        """Return the map of 0 up to, not including, `count`."""
        return cls.from_bits((1 << count) - 1)

    def __setattr__(self, name: str, value: object) -> NoReturn:
        raise AttributeError(f"{type(self).__name__} is immutable")

    def __reduce__(self) -> tuple[object, tuple[int]]:
        return type(self)._of, (self.bits,)  # noqa: SLF001 - our own class

    def __eq__(self, other: object) -> bool:
        return type(other) is type(self) and other.bits == self.bits

    def __hash__(self) -> int:
        return hash((type(self), self.bits))

    def __iter__(self) -> Iterator[int]:
        bits = self.bits
        while bits:
            lowest = bits & -bits
            yield lowest.bit_length() - 1
            bits ^= lowest

    def __len__(self) -> int:
        return self.bits.bit_count()

    def __bool__(self) -> bool:
        return self.bits != 0

    def __contains__(self, member: object) -> bool:
        return isinstance(member, int) and member >= 0 and self.bits >> member & 1 == 1

    def _bits_of(self, other: Self) -> int:
        if type(other) is not type(self):
            raise TypeError(f"{type(self).__name__} with {type(other).__name__}")
        return other.bits

    def __and__(self, other: Self) -> Self:
        return self._of(self.bits & self._bits_of(other))

    def __or__(self, other: Self) -> Self:
        return self._of(self.bits | self._bits_of(other))

    def __sub__(self, other: Self) -> Self:
        return self._of(self.bits & ~self._bits_of(other))

    def __xor__(self, other: Self) -> Self:
        return self._of(self.bits ^ self._bits_of(other))

    def __le__(self, other: Self) -> bool:
        return not self.bits & ~self._bits_of(other)

    def __lt__(self, other: Self) -> bool:
        return self <= other and self.bits != other.bits

    def __ge__(self, other: Self) -> bool:
        return not self._bits_of(other) & ~self.bits

    def __gt__(self, other: Self) -> bool:
        return self >= other and self.bits != other.bits

    def isdisjoint(self, other: Self) -> bool:
        """Return whether the two have no member in common."""
        return not self.bits & self._bits_of(other)

    @property
    def first(self) -> int:
        """The smallest member; `ValueError` if there is none."""
        if not self.bits:
            raise ValueError(f"no {self.noun} in an empty map")
        return (self.bits & -self.bits).bit_length() - 1

    def ranges(self) -> Iterator[tuple[int, int]]:
        """Yield the runs of consecutive members as (first, last), ascending."""
        bits, base = self.bits, 0
        while bits:
            skip = (bits & -bits).bit_length() - 1
            bits >>= skip
            length = (~bits & (bits + 1)).bit_length() - 1
            yield base + skip, base + skip + length - 1
            bits >>= length
            base += skip + length

    def __str__(self) -> str:
        """Return the Linux list form, ``0-3,8``; the empty map is the empty string."""
        return ",".join(
            str(first) if first == last else f"{first}-{last}" for first, last in self.ranges()
        )

    @property
    def named(self) -> str:
        """The map with its noun: ``node 3``, ``nodes 0-1,4``, ``no nodes``."""
        if not self.bits:
            return f"no {self.noun}s"
        return f"{self.noun}{'s' if len(self) > 1 else ''} {self}"

    def __repr__(self) -> str:
        return f"{type(self).__name__}.parse({str(self)!r})"

    def mask(self, width: int = 0) -> str:
        """Return the Linux mask form for `width` members: ``ff,00000000``, groups of 32 bits."""
        digits = -(-max(width, self.bits.bit_length()) // 4)
        text = f"{self.bits:0{digits}x}"
        head = len(text) % 8
        groups = [text[:head]] if head else []
        return ",".join(groups + [text[at : at + 8] for at in range(head, len(text), 8)])

    @classmethod
    def parse(cls, text: str, *, within: Self | None = None) -> Self:
        """Read the Linux list form, strides included: ``0-31:2/4`` is 0,1,4,5,8,9 and so on.

        Source: Linux, lib/bitmap-str.c, bitmap_parselist(). Members outside `within` are refused.
        """
        bits = 0
        if text.strip():
            for item in _items(text):
                bits |= _linux_range(cls, item)
        return cls._checked(text, bits, within)

    @classmethod
    def parse_mask(cls, text: str, *, within: Self | None = None) -> Self:
        """Read the Linux hexadecimal form: groups of up to 8 digits, the last one is lowest."""
        bits = 0
        for item in _items(text.strip().removeprefix("0x")):
            digits = item.text
            if not digits or len(digits) > 8 or digits.strip("0123456789abcdefABCDEF"):
                raise item.error(f"not a hexadecimal mask of {cls.noun}s")
            bits = bits << 32 | int(digits, 16)
            if bits >> (LARGEST_MEMBER + 1):
                raise item.error(f"mask has more than {LARGEST_MEMBER + 1} {cls.noun}s")
        return cls._checked(text, bits, within)

    @classmethod
    def parse_libvirt(cls, text: str, *, within: Self | None = None) -> Self:
        """Read libvirt's form: like Linux without strides, and ``^N`` takes N out again.

        Source: libvirt, src/util/virbitmap.c, virBitmapParse(): only single numbers can be
        taken out, and items count from left to right.
        """
        bits = 0
        for item in _items(text):
            if item.text.startswith("^"):
                bits &= ~(1 << item.number(item.text[1:], cls.noun))
            else:
                bits |= _plain_range(cls, item)
        return cls._checked(text, bits, within)

    @classmethod
    def _checked(cls, text: str, bits: int, within: Self | None) -> Self:
        if within is not None and bits & ~within.bits:
            unknown = cls._of(bits & ~within.bits)
            noun, do = (f"{cls.noun}s", "do") if len(unknown) > 1 else (cls.noun, "does")
            raise ParseError(
                f"{_shortened(text.strip())!r} names {noun} {_shortened(str(unknown))},"
                f" which {do} not exist here",
                hint=f"there are {_shortened(str(within)) or f'no {cls.noun}s'}",
            )
        return cls._of(bits)


class CpuMap(Bitmap):
    """A set of cpus: physical cpus as the hypervisor numbers them, or vcpus of a guest."""

    __slots__ = ()
    noun = "cpu"

    @property
    def named_vcpus(self) -> str:
        """The map with its noun, where it is of vcpus: ``vcpu 3``, ``vcpus 0-1``."""
        return f"v{self.named}" if self.bits else "no vcpus"


class NodeMap(Bitmap):
    """A set of NUMA nodes."""

    __slots__ = ()
    noun = "node"


def _shortened(text: str) -> str:
    return text if len(text) <= 80 else text[:77] + "..."


class _Item:
    """One comma-separated item of a written map, and where it stands in the whole text."""

    __slots__ = ("raw", "start", "text", "whole")

    def __init__(self, whole: str, start: int, text: str) -> None:
        self.whole = whole
        self.raw = text
        self.start = start + len(text) - len(text.lstrip())
        self.text = text.strip()

    def error(self, message: str, *, hint: str | None = None) -> ParseError:
        place = f"at character {self.start + 1} of {_shortened(self.whole)!r}"
        return ParseError(f"{message}: {self.text[:40]!r} {place}", hint=hint)

    def number(self, text: str, noun: str) -> int:
        # int() alone would take '1_0', ' 1' and digits of other scripts.
        if not (text.isascii() and text.isdecimal()):
            raise self.error(f"not a {noun} number or range")
        if len(text) > 18 or int(text) > LARGEST_MEMBER:
            raise self.error(f"{noun} number is out of range (0-{LARGEST_MEMBER})")
        return int(text)


def _items(text: str) -> Iterator[_Item]:
    start = 0
    for part in text.split(","):
        yield _Item(text, start, part)
        start += len(part) + 1


def _ends(item: _Item, text: str, noun: str) -> tuple[int, int]:
    first_text, dash, last_text = text.partition("-")
    first = item.number(first_text, noun)
    last = item.number(last_text, noun) if dash else first
    if last < first:
        raise item.error("range runs backwards")
    return first, last


def _run(first: int, last: int) -> int:
    return (1 << (last + 1)) - (1 << first)


def _plain_range(cls: type[Bitmap], item: _Item) -> int:
    return _run(*_ends(item, item.text, cls.noun))


def _linux_range(cls: type[Bitmap], item: _Item) -> int:
    ends, colon, stride = item.text.partition(":")
    first, last = _ends(item, ends, cls.noun)
    if not colon:
        return _run(first, last)
    used_text, slash, group_text = stride.partition("/")
    if not slash or "-" not in ends:
        raise item.error("a stride is written first-last:used/group")
    used, group = item.number(used_text, cls.noun), item.number(group_text, cls.noun)
    if not 0 < used <= group:
        raise item.error("a stride uses at least 1 and at most all of its group")
    pattern, length = _run(0, used - 1), group
    while length <= last - first:
        pattern |= pattern << length
        length *= 2
    return pattern << first & _run(first, last)


def parse_xen(text: str, *, cpus: CpuMap, cpus_by_node: Mapping[int, CpuMap]) -> CpuMap:
    """Read a set of cpus in Xen's grammar (``cpus=``, ``cpus_soft=``, ``xl vcpu-pin``).

    Items count from left to right, starting with no cpu: ``N``, ``N-M``, ``all``, each also with
    ``node:`` or ``nodes:`` before it for all cpus of those nodes, and ``^`` before that to take
    them out again. Empty items are skipped. The result may be empty. A blank may stand only before
    a number (``0, 2``), as xl has it.

    `cpus` are those of the host and `cpus_by_node` those of every node of it; a number that is
    in neither is an error here, unlike in xl. Source: Xen, tools/xl/xl_parse.c,
    update_cpumap_range().
    """
    bits = 0
    for item in _items(text):
        if item.raw:
            bits = _xen_item(item, bits, cpus, cpus_by_node)
    return CpuMap.from_bits(bits)


def _xen_item(item: _Item, bits: int, cpus: CpuMap, cpus_by_node: Mapping[int, CpuMap]) -> int:
    if item.raw != item.text and not (item.raw.endswith(item.text) and item.text[:1].isdecimal()):
        raise item.error("a blank where xl reads none")
    rest = item.text.removeprefix("^")
    out = rest != item.text
    by_node = rest.startswith(("node:", "nodes:"))
    if by_node:
        rest = rest.partition(":")[2]
    if rest == "all":
        if out:
            raise item.error("'^' and 'all' cannot be combined")
        return cpus.bits
    first, last = _ends(item, rest, "node" if by_node else "cpu")
    if by_node:
        for node in range(first, last + 1):
            if node not in cpus_by_node:
                raise _unknown(item, node, NodeMap(cpus_by_node))
        named = CpuMap.union([cpus_by_node[node] for node in range(first, last + 1)]).bits
    else:
        named = _run(first, last)
        missing = CpuMap.from_bits(named & ~cpus.bits)
        if missing:
            raise _unknown(item, missing.first, cpus)
    return bits & ~named if out else bits | named


def _unknown(item: _Item, number: int, there: Bitmap) -> ParseError:
    known = f"it has {there.noun}s {_shortened(str(there))}"
    return item.error(
        f"there is no {there.noun} {number} on this host",
        hint=f"{known}; xl would ignore this, homenode does not",
    )


def parse_xen_per_vcpu(
    value: str | Sequence[str],
    vcpus: int,
    *,
    cpus: CpuMap,
    cpus_by_node: Mapping[int, CpuMap],
) -> tuple[CpuMap, ...]:
    """Read Xen's ``cpus=`` value for a guest with `vcpus`: one map for each vcpu.

    A string holds for every vcpu. In a list, element i is for vcpu i, surplus elements are not
    looked at, and a vcpu without one may use all cpus.
    """
    if isinstance(value, str):
        return (parse_xen(value, cpus=cpus, cpus_by_node=cpus_by_node),) * vcpus
    listed = [parse_xen(text, cpus=cpus, cpus_by_node=cpus_by_node) for text in value[:vcpus]]
    return tuple(listed) + (cpus,) * (vcpus - len(listed))
