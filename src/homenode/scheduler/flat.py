"""Flat arrays of numbers, and the few operations on words of bits that the simulators need.

The simulators keep all their state in arrays that are indexed by cpu or vcpu. Interpreted, an
array is a list, which Python reads fastest; compiled (see ``flat.pxd``) it is a C array. The
functions here are the only ones that differ between the two, and give the same numbers.

A set of cpus is `words(cpus)` numbers of 64 bits each.
"""

from array import array
from collections.abc import Sequence
from functools import cache
from importlib.machinery import EXTENSION_SUFFIXES
from pathlib import Path
from typing import Any, cast

WORD = 64
"""Bits of one word of a set of cpus."""

Wide = int
"""A set of cpus as one number, of any size: never a C number (see ``setup.py``)."""

COMPILED = any(
    Path(__file__).with_name(f"agenda{suffix}").exists() for suffix in EXTENSION_SUFFIXES
)
"""Whether the modules that use this are compiled."""


def integers(size: int, value: int = 0) -> list[int]:
    """Return `size` signed numbers, all `value`."""
    return _made("q", [value] * size)


def bits(size: int, value: int = 0) -> list[int]:
    """Return `size` words of bits, all `value`."""
    return _made("Q", [value] * size)


def reals(size: int, value: float = 0.0) -> list[float]:
    """Return `size` real numbers, all `value`."""
    return _made("d", [value] * size)


def _made(kind: str, values: list[Any]) -> list[Any]:
    return cast("list[Any]", array(kind, values)) if COMPILED else values


def words(cpus: int) -> int:
    """Return how many words a set of that many cpus takes."""
    return (cpus + WORD - 1) // WORD


def split(cpus: Wide, count: int) -> list[int]:
    """Return the words of a set of the first `count` cpus; what is beyond them is left out."""
    within = cpus & ((1 << count) - 1)
    return [(within >> (WORD * word)) & ((1 << WORD) - 1) for word in range(words(count))]


@cache
def _grouped(group: tuple[int, ...]) -> dict[int, list[int]]:
    members: dict[int, list[int]] = {}
    for cpu, number in enumerate(group):
        members.setdefault(number, []).append(cpu)
    return members


def members(group: Sequence[int], number: int) -> list[int]:
    """Return the cpus whose group has that number, given the group of each cpu."""
    return _grouped(tuple(group))[number]


def bit(cpu: int) -> int:
    """Return the bit of a cpu in its word; for where a C number would be taken for a signed one."""
    return 1 << (cpu & 63)


def lowest_bit(word: int) -> int:
    """Return the number of the lowest bit that is set in a word that is not 0."""
    return (word & -word).bit_length() - 1


def count_bits(word: int) -> int:
    """Return how many bits are set."""
    return word.bit_count()


def whole(number: float) -> int:
    """Return the number without its fraction."""
    return int(number)
