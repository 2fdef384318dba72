"""What Xen's trace buffers tell, as ``xentrace`` writes them: binary records of events.

The format is that of xen/include/public/trace.h: a word with the event in its lower 28 bits, then
three bits with the number of extra words and one that says whether a time stamp of 64 bits comes
first; then those. Records are grouped by cpu: a record ``TRC_TRACE_CPU_CHANGE`` says whose follow.
All words are little-endian, as on x86.
"""

import struct
from collections.abc import Iterator
from typing import NamedTuple

from homenode.errors import ParseError

IDLE_DOMAIN = 0x7FFF
"""The domain of the idle vcpus (DOMID_IDLE)."""

_CPU_CHANGE = 0x0001F003
_LOST = 0x0001F001
_RUN_STATE = 0x00021001
_STATES = ("running", "runnable", "blocked", "offline")

EVENTS = {
    0x21002: "continue_running",
    0x22002: "csched:account_start",
    0x22003: "csched:account_stop",
    0x22004: "csched:stolen_vcpu",
    0x22005: "csched:picked_cpu",
    0x22006: "csched:tickle",
    0x22007: "csched:boost_start",
    0x22008: "csched:boost_end",
    0x22009: "csched:schedule",
    0x2200A: "csched:ratelimit",
    0x2200B: "csched:steal_check",
    0x22202: "csched2:runq_pos",
    0x22203: "csched2:credit_burn",
    0x22205: "csched2:tickle_check",
    0x22206: "csched2:tickle",
    0x22207: "csched2:credit_reset",
    0x2220A: "csched2:runq_assign",
    0x2220D: "csched2:tickle_new",
    0x2220F: "csched2:migrate",
    0x22210: "csched2:load_check",
    0x22211: "csched2:load_balance",
    0x28004: "block",
    0x28005: "yield",
    0x28006: "wake",
    0x2800A: "switch",
    0x2800E: "switch_infprev",
    0x2800F: "switch_infnext",
    0x28011: "switch_infcont",
}
"""Names of the scheduler's events, as trace.h and the schedulers have them."""


class Record(NamedTuple):
    """One event: when, in ns of Xen's time stamp counter, on which cpu, and its extra words."""

    time_ns: int
    cpu: int
    event: int
    words: tuple[int, ...]

    @property
    def name(self) -> str:
        """The name of the event; its number where it has none here."""
        if self.event & ~0x330 == _RUN_STATE:
            return "runstate_change"
        return EVENTS.get(self.event, f"{self.event:#x}")


class RunStateChange(NamedTuple):
    """A vcpu of a domain went from one run state to another."""

    guest: int
    vcpu: int
    old: str
    new: str


def parse(content: bytes, *, mhz: int, source: str = "xentrace") -> Iterator[Record]:
    """Yield the records that have a time, in order of time; `mhz` is that of the time stamps.

    Raises `ParseError` for what ends amid a record, or lost records.
    """
    found: list[Record] = []
    cpu = -1
    at = 0
    while at < len(content):
        begin = at
        header, at = _word(content, at, source)
        event, count = header & 0x0FFFFFFF, (header >> 28) & 7
        stamp = None
        if header >> 31:
            if at + 8 > len(content):
                raise ParseError(f"byte {begin}: ends amid a record", source=source)
            (stamp,) = struct.unpack_from("<Q", content, at)
            at += 8
        if at + 4 * count > len(content):
            raise ParseError(f"byte {begin}: ends amid a record", source=source)
        words = struct.unpack_from(f"<{count}I", content, at)
        at += 4 * count
        if event == _CPU_CHANGE and count >= 1:
            cpu = words[0]
        elif event == _LOST:
            raise ParseError(
                f"byte {begin}: records were lost", source=source, hint="trace with larger buffers"
            )
        elif stamp is not None:
            if cpu < 0:
                raise ParseError(f"byte {begin}: no cpu is named before it", source=source)
            found.append(Record(stamp * 1000 // mhz, cpu, event, words))
    yield from sorted(found, key=lambda record: record.time_ns)


def _word(content: bytes, at: int, source: str) -> tuple[int, int]:
    if at + 4 > len(content):
        raise ParseError(f"byte {at}: ends amid a record", source=source)
    (word,) = struct.unpack_from("<I", content, at)
    return word, at + 4


def run_state_change(record: Record) -> RunStateChange | None:
    """Return what the record says of a vcpu's run state; None if it is another event.

    The states are in the event itself: the old one in bits 8 and 9, the new one in 4 and 5.
    """
    if record.event & ~0x330 != _RUN_STATE or not record.words:
        return None
    packed = record.words[0]
    return RunStateChange(
        packed >> 16,
        packed & 0xFFFF,
        _STATES[(record.event >> 8) & 3],
        _STATES[(record.event >> 4) & 3],
    )
