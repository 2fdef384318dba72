"""What Xen's trace buffers tell, as ``xentrace`` writes them: binary records of events.

The format is that of xen/include/public/trace.h: a word with the event in its lower 28 bits, then
three bits with the number of extra words and one that says whether a time stamp of 64 bits comes
first; then those. Records are grouped by cpu: a record ``TRC_TRACE_CPU_CHANGE`` says whose follow,
and how many bytes of them. All words are little-endian, as on x86.

What the extra words mean is in the code that writes them: xen/common/sched/core.c, credit.c and
credit2.c, here as of Xen 4.17. (tools/xentrace/formats is no help there: it takes waking and
blocking for each other, and credit2's events from 0x22212 on for those before them.)
"""

import struct
from collections.abc import Iterator, Mapping
from typing import NamedTuple

from homenode.errors import ParseError

IDLE_DOMAIN = 0x7FFF
"""The domain of the idle vcpus (DOMID_IDLE)."""

_CPU_CHANGE = 0x0001F003
_LOST = 0x0001F001
_RUN_STATE = 0x00021001
_RUN_STATE_BITS = 0x330
_STATES = ("running", "runnable", "blocked", "offline")

# The extra words hold these fields one after the other, of 32 bits unless they say how many, and
# unsigned unless they say s. Where there is one of 64 bits, the words are filled up to pairs. What
# xen/common/sched calls a unit is a vcpu: they differ only with sched-gran=core. Loads are those
# of credit2, 2**18 for a vcpu that always runs.
_APART = "guest vcpu"
_PACKED = "vcpu:16 guest:16"
_DESCRIBED = {
    0x21002: ("continue_running", _PACKED),
    0x22001: ("csched:sched_tasklet", ""),
    0x22002: ("csched:account_start", f"{_APART} active"),
    0x22003: ("csched:account_stop", f"{_APART} active"),
    0x22004: ("csched:stolen_vcpu", f"from_cpu {_APART}"),
    0x22005: ("csched:picked_cpu", f"{_APART} picked"),
    0x22006: ("csched:tickle", "tickled"),
    0x22007: ("csched:boost_start", _APART),
    0x22008: ("csched:boost_end", _APART),
    0x22009: ("csched:schedule", "of_cpu:16 tasklet:8 idle:8"),
    0x2200A: ("csched:ratelimit", f"{_PACKED} ran_ns"),
    0x2200B: ("csched:steal_check", "peer checked"),
    0x22201: ("csched2:tick", ""),
    0x22202: ("csched2:runq_pos", f"{_PACKED} position"),
    0x22203: ("csched2:credit_burn", f"{_PACKED} credit:s32 budget_ns:s32 ran_ns:s32"),
    0x22205: ("csched2:tickle_check", f"{_PACKED} credit:s32 score:s32"),
    0x22206: ("csched2:tickle", "tickled:16"),
    0x22207: ("csched2:credit_reset", f"{_PACKED} credit:s32 new_credit:s32"),
    0x22208: ("csched2:sched_tasklet", ""),
    0x22209: ("csched2:update_load", ""),
    0x2220A: ("csched2:runq_assign", f"{_PACKED} runqueue:16"),
    0x2220B: ("csched2:update_unit_load", f"load:64 {_PACKED} shift"),
    0x2220C: (
        "csched2:update_runq_load",
        "load:64 expected_load:64 runnable:16 runqueue:8 shift:8",
    ),
    0x2220D: ("csched2:tickle_new", f"{_PACKED} on_cpu credit:s32"),
    0x2220E: ("csched2:runq_max_weight", "runqueue:16 weight:16"),
    0x2220F: ("csched2:migrate", f"{_PACKED} runqueue:16 new_runqueue:16"),
    0x22210: ("csched2:load_check", "runqueue:16 other_runqueue:16 difference"),
    0x22211: ("csched2:load_balance", "load:64 other_load:64 runqueue:16 other_runqueue:16"),
    0x22213: ("csched2:picked_cpu", f"load:64 {_PACKED} runqueue:s16 picked:16"),
    0x22214: ("csched2:runq_candidate", f"{_PACKED} tickled:s32 credit:s32"),
    0x22215: ("csched2:schedule", "of_cpu:16 runqueue:16 tasklet:8 idle:8 smt_idle:8 tickled:8"),
    0x22216: ("csched2:ratelimit", f"{_PACKED} ran_ns"),
    0x22217: ("csched2:runq_cand_check", _PACKED),
    0x28001: ("dom_add", "guest"),
    0x28002: ("dom_rem", "guest"),
    0x28003: ("sleep", _APART),
    0x28004: ("wake", _APART),
    0x28005: ("yield", _APART),
    0x28006: ("block", _APART),
    0x28007: ("shutdown", f"{_APART} reason"),
    0x28008: ("ctl", ""),
    0x28009: ("adjdom", "guest"),
    0x2800A: ("switch", f"{_APART} next_guest next_vcpu"),
    0x2800E: ("switch_infprev", f"{_APART} ran_ns"),
    0x2800F: ("switch_infnext", f"{_APART} waited_ns slice_ns"),
    0x28010: ("shutdown_code", f"{_APART} reason"),
    0x28011: ("switch_infcont", f"{_APART} ran_ns slice_ns"),
}

EVENTS = {event: name for event, (name, _) in _DESCRIBED.items()}
"""Names of the scheduler's events, as trace.h and the schedulers have them, less what they share.

``csched`` is credit, ``csched2`` is credit2. Changes of run states have many numbers, and names
that `Record.name` gives: ``running_to_blocked``.
"""


class _Field(NamedTuple):
    """A number in the extra words: its lowest bit, counted from the first word's, and its width."""

    name: str
    at: int
    bits: int
    is_signed: bool


def _layout(description: str) -> tuple[_Field, ...]:
    fields = []
    at = 0
    for part in description.split():
        name, _, form = part.partition(":")
        bits = int(form.removeprefix("s") or 32)
        fields.append(_Field(name, at, bits, form.startswith("s")))
        at += bits
    return tuple(fields)


_LAYOUTS = {event: _layout(description) for event, (_, description) in _DESCRIBED.items()}
_LAYOUT_OF_RUN_STATE = _layout(_PACKED)


def _width(fields: tuple[_Field, ...]) -> int:
    # Words that hold the fields, as a C compiler lays them out.
    if not fields:
        return 0
    widest = max(32, *(field.bits for field in fields))
    return -(-(fields[-1].at + fields[-1].bits) // widest) * widest // 32


def _fields(event: int) -> tuple[_Field, ...]:
    if event & ~_RUN_STATE_BITS == _RUN_STATE:
        return _LAYOUT_OF_RUN_STATE
    return _LAYOUTS.get(event, ())


class Record(NamedTuple):
    """One event: when, in ns of Xen's time stamp counter, on which cpu, and its extra words."""

    time_ns: int
    cpu: int
    event: int
    words: tuple[int, ...]

    @property
    def name(self) -> str:
        """The name of the event; its number where it has none here."""
        if self.event & ~_RUN_STATE_BITS == _RUN_STATE:
            old, new = _states(self.event)
            return f"{old}_to_{new}"
        return EVENTS.get(self.event, f"{self.event:#x}")

    @property
    def numbers(self) -> Mapping[str, int]:
        """What the extra words say, by name; nothing of an event that is not known here.

        ``guest`` is a domain, ``vcpu`` its vcpu: the one that the event is about, or that was
        running until a ``switch``. Times are in ns as their names say; Xen cuts them to 32 bits,
        so they are right below 4.29 s.
        """
        whole = sum(word << (32 * at) for at, word in enumerate(self.words))
        found = {}
        for field in _fields(self.event):
            value = (whole >> field.at) & ((1 << field.bits) - 1)
            if field.is_signed and value >> (field.bits - 1):
                value -= 1 << field.bits
            found[field.name] = value
        return found


class RunStateChange(NamedTuple):
    """A vcpu of a domain went from one run state to another."""

    guest: int
    vcpu: int
    old: str
    new: str


def parse(content: bytes, *, mhz: int, source: str = "xentrace") -> Iterator[Record]:
    """Yield the records that have a time, in order of time.

    `mhz` is the frequency of the time stamps: that of the cpus, which ``xl info`` gives as
    ``cpu_mhz``. Xen has measured it, so it is to be rounded. In the lab's exact time it is 1000:
    there the counter is qemu's virtual time in ns.

    Raises `ParseError` for what is no trace, ends amid a record, tells of lost records, or has
    an event that is known here with other words than those of Xen 4.17.
    """
    found: list[Record] = []
    cpu = -1
    at = end = 0
    while at < len(content):
        begin = at
        event, stamp, words, at = _record(content, at, source)
        if (event == _CPU_CHANGE) != (begin == end):
            what = "no cpu is named before it" if begin == end else "amid records of a cpu"
            raise ParseError(f"byte {begin}: event {event:#x}: {what}", source=source)
        if event == _CPU_CHANGE and len(words) > 1:
            cpu, end = words[0], at + words[1]
        elif event == _LOST:
            raise ParseError(
                f"byte {begin}: records were lost", source=source, hint="trace with larger buffers"
            )
        elif (fields := _fields(event)) and len(words) != _width(fields):
            raise ParseError(
                f"byte {begin}: event {event:#x} has {len(words)} words, not {_width(fields)}",
                source=source,
                hint="is this a trace of Xen 4.17?",
            )
        elif stamp is not None:
            found.append(Record(stamp * 1000 // mhz, cpu, event, words))
    if at < end:
        raise ParseError(f"byte {at}: ends amid the records of cpu {cpu}", source=source)
    yield from sorted(found, key=lambda record: record.time_ns)


def _record(content: bytes, at: int, source: str) -> tuple[int, int | None, tuple[int, ...], int]:
    # Event, time stamp, extra words, and where the next record begins.
    try:
        (header,) = struct.unpack_from("<I", content, at)
        form = f"<{'Q' if header >> 31 else ''}{(header >> 28) & 7}I"
        values = struct.unpack_from(form, content, at + 4)
    except struct.error:
        raise ParseError(f"byte {at}: ends amid a record", source=source) from None
    stamp = values[0] if header >> 31 else None
    words = values[1:] if header >> 31 else values
    return header & 0x0FFFFFFF, stamp, words, at + 4 + struct.calcsize(form)


def _states(event: int) -> tuple[str, str]:
    # The old one is in bits 8 and 9, the new one in bits 4 and 5.
    return _STATES[(event >> 8) & 3], _STATES[(event >> 4) & 3]


def run_state_change(record: Record) -> RunStateChange | None:
    """Return what the record says of a vcpu's run state; None if it is another event."""
    if record.event & ~_RUN_STATE_BITS != _RUN_STATE:
        return None
    numbers = record.numbers
    return RunStateChange(numbers["guest"], numbers["vcpu"], *_states(record.event))
