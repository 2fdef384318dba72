"""Memory sizes, in and out.

Inside, memory is an integer number of KiB. People write and read MiB and GiB.
"""

from homenode.errors import ParseError

_KIB_PER_UNIT = {"K": 1, "M": 1 << 10, "G": 1 << 20, "T": 1 << 30}


def parse_memory_kib(text: str, *, bare: str = "") -> int:
    """Return the KiB that `text` means: ``4GiB``, ``4G``, ``4096MiB``, ``4096m``, ``1.5G``.

    `bare` is the unit (``K``, ``M``, ``G``, ``T``) of a number without one; by default a number
    without a unit is an error, since half of the field means MiB by it and the other half KiB.
    """
    number = text.strip()
    unit = number.lstrip("0123456789.")
    number = number[: len(number) - len(unit)]
    letter = unit.strip().upper().removesuffix("IB").removesuffix("B") or bare
    per_unit = _KIB_PER_UNIT.get(letter)
    whole, _, fraction = number.partition(".")
    if per_unit is None or not whole.isdecimal() or (fraction and not fraction.isdecimal()):
        raise ParseError(f"not a size of memory: {text[:24]!r}", hint="write it as 4GiB or 512MiB")
    if len(whole) + len(fraction) > 18:
        raise ParseError(f"size of memory is out of range: {text[:24]!r}...")
    return (int(whole + fraction) * per_unit) // int("1" + "0" * len(fraction))


def format_memory(kib: int | None) -> str:
    """Return `kib` as people read it: MiB below 10 GiB, else GiB with one decimal; unknown is ?."""
    if kib is None:
        return "?"
    if abs(kib) < 1024 and kib:
        return f"{kib} KiB"
    if abs(kib) < 10 << 20:
        return f"{kib / 1024:.0f} MiB"
    return f"{kib / (1 << 20):.1f}".removesuffix(".0") + " GiB"


def format_page(page_kib: int) -> str:
    """Return a size of pages as people call it: ``64 KiB``, ``2 MiB``, ``1 GiB``."""
    for unit, kib in (("GiB", 1 << 20), ("MiB", 1 << 10)):
        if page_kib >= kib and page_kib % kib == 0:
            return f"{page_kib // kib} {unit}"
    return f"{page_kib} KiB"


_NS_PER_UNIT = {"ns": 1, "us": 1_000, "µs": 1_000, "ms": 1_000_000, "s": 10**9, "min": 60 * 10**9}


def parse_time_ns(text: str) -> int:
    """Return the nanoseconds that `text` means: ``30ms``, ``1.5 s``, ``250us``, ``2min``."""
    number = text.strip()
    unit = number.lstrip("0123456789.")
    number = number[: len(number) - len(unit)]
    per_unit = _NS_PER_UNIT.get(unit.strip())
    whole, _, fraction = number.partition(".")
    if per_unit is None or not whole.isdecimal() or (fraction and not fraction.isdecimal()):
        raise ParseError(f"not a time: {text[:24]!r}", hint="write it as 30ms, 1.5s or 250us")
    if len(whole) + len(fraction) > 18:
        raise ParseError(f"time is out of range: {text[:24]!r}...")
    return (int(whole + fraction) * per_unit) // int("1" + "0" * len(fraction))


def format_time(ns: float) -> str:
    """Return a time as people read it, with three digits: ``12.3 ms``."""
    for unit, per_unit in (("s", 1e9), ("ms", 1e6), ("us", 1e3)):
        if abs(ns) >= per_unit:
            return f"{ns / per_unit:.3g} {unit}"
    return f"{ns:.0f} ns"
