"""Traces of Xen's scheduler: what real ones say, and that no damage to them goes unnoticed."""

import itertools
import struct
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from homenode.errors import ParseError
from homenode.formats import xentrace
from homenode.formats.xentrace import IDLE_DOMAIN, Record, RunStateChange

CAPTURES = Path(__file__).parent / "data" / "xen-captures" / "schedules"
# Recorded as those of proof/schedules.py, with all of the scheduler's events: two
# vcpus on cpu 1, of which one spins and one runs for 2 ms and sleeps for 2 ms by turns.
REAL = sorted(CAPTURES.glob("*-short.bin"))
CPU_CHANGE = 0x1F003


def parsed(content, mhz=1000):
    return list(xentrace.parse(content, mhz=mhz))


def record(event, *words, tsc=None):
    header = event | len(words) << 28 | (tsc is not None) << 31
    stamp = b"" if tsc is None else struct.pack("<Q", tsc)
    return struct.pack("<I", header) + stamp + struct.pack(f"<{len(words)}I", *words)


def window(cpu, *records):
    content = b"".join(records)
    return record(CPU_CHANGE, cpu, len(content)) + content


def one(event, *words):
    (found,) = parsed(window(3, record(event, *words, tsc=5000)))
    return found


def test_there_are_real_traces_of_both_schedulers():
    assert [path.name for path in REAL] == ["credit-short.bin", "credit2-short.bin"]


@pytest.mark.parametrize("path", REAL, ids=lambda path: path.name)
class TestReal:
    def test_every_event_is_known_and_in_order_of_time(self, path):
        records = parsed(path.read_bytes())
        assert len(records) > 50
        assert not [found.name for found in records if found.name.startswith("0x")]
        times = [found.time_ns for found in records]
        assert times == sorted(times)

    def test_a_cpu_runs_one_vcpu_after_the_other(self, path):
        running = {}
        for found in parsed(path.read_bytes()):
            change = xentrace.run_state_change(found)
            if change and change.new == "running":
                assert running.get(found.cpu) is None
                running[found.cpu] = change.guest, change.vcpu
            elif change and change.old == "running":
                # Before the first change, whoever it was ran.
                expected = change.guest, change.vcpu
                assert running.get(found.cpu, expected) == expected
                running[found.cpu] = None

    def test_a_switch_is_what_the_run_states_say_and_what_the_scheduler_said(self, path):
        records = parsed(path.read_bytes())
        switches = [found for found in records if found.name == "switch"]
        assert len(switches) > 5
        for switch in switches:
            own = [found for found in records if found.cpu == switch.cpu]
            at = own.index(switch)
            before, after = own[at - 2 : at], own[at + 1 : at + 3]
            said = switch.numbers
            old, new = (said["guest"], said["vcpu"]), (said["next_guest"], said["next_vcpu"])
            assert [found.name for found in before] == ["switch_infprev", "switch_infnext"]
            assert [whom(found) for found in before + after] == [old, new, old, new]

    def test_the_working_vcpu_runs_for_two_ms_and_sleeps_for_two(self, path):
        records = parsed(path.read_bytes())
        worker = next(found.numbers["guest"] for found in records if found.name == "wake"
                      and found.numbers["guest"] not in {0, IDLE_DOMAIN})  # fmt: skip
        own = [found for found in records if found.numbers.get("guest") == worker]
        blocks = [found.time_ns for found in own if found.name == "block"]
        wakes = [found.time_ns for found in own if found.name == "wake"][1:]
        assert len(wakes) > 2
        for block, wake in zip(blocks, wakes, strict=False):
            # It asks for 2 ms when it has looked at the time, a little before it blocks.
            assert 1_980_000 < wake - block < 2_200_000
        ran = [found.numbers["ran_ns"] for found in own if found.name == "switch_infprev"]
        assert 1_900_000 < sum(ran) / len(blocks) < 2_300_000

    def test_cut_anywhere_it_is_refused(self, path):
        content = path.read_bytes()
        for length in range(1, len(content), 7):
            if length in whole_windows(content):
                continue
            with pytest.raises(ParseError, match=r"xentrace: byte \d+: ends amid"):
                parsed(content[:length])


def whom(found):
    return found.numbers["guest"], found.numbers["vcpu"]


def whole_windows(content):
    at = 0
    ends = set()
    while at < len(content):
        at += 12 + struct.unpack_from("<I", content, at + 8)[0]
        ends.add(at)
    return ends


def test_time_is_that_of_the_counter_by_its_frequency():
    content = window(2, record(0x22209, tsc=7_500))
    assert [found.time_ns for found in parsed(content, mhz=2500)] == [3000]


def test_records_of_all_cpus_are_in_order_of_time():
    content = window(1, record(0x22006, 4, tsc=10), record(0x22006, 5, tsc=30)) + window(
        0, record(0x22006, 6, tsc=20)
    )
    assert [(found.cpu, found.numbers["tickled"]) for found in parsed(content)] == [
        (1, 4), (0, 6), (1, 5),
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("event", "words", "name", "numbers"),
    [
        (0x28004, (3, 1), "wake", {"guest": 3, "vcpu": 1}),
        (0x28006, (3, 1), "block", {"guest": 3, "vcpu": 1}),
        (0x22004, (6, 3, 1), "csched:stolen_vcpu", {"from_cpu": 6, "guest": 3, "vcpu": 1}),
        (0x22009, (0x01000007,), "csched:schedule", {"of_cpu": 7, "tasklet": 0, "idle": 1}),
        (
            0x22203,
            (0x00030001, 0xFFFFFFFF, 0x80000000, 500),
            "csched2:credit_burn",
            {"guest": 3, "vcpu": 1, "credit": -1, "budget_ns": -(2**31), "ran_ns": 500},
        ),
        (
            0x22213,
            (0xFFFFFFFF, 0x7FFFFFFF, 0x00030001, 0x0001FFFF),
            "csched2:picked_cpu",
            {"load": 2**63 - 1, "guest": 3, "vcpu": 1, "runqueue": -1, "picked": 1},
        ),
        (
            # The sixth word is what was on the stack.
            0x22211,
            (0x40000, 0, 0x20000, 1, 0x00010002, 0xFFFF8300),
            "csched2:load_balance",
            {"load": 2**18, "other_load": 2**32 + 2**17, "runqueue": 2, "other_runqueue": 1},
        ),
        (0x21201, (0x00030001,), "blocked_to_running", {"guest": 3, "vcpu": 1}),
        (0x2F123, (1, 2), "0x2f123", {}),
    ],
)
def test_what_the_words_say(event, words, name, numbers):
    found = one(event, *words)
    assert found == Record(5000, 3, event, words)
    assert (found.name, found.numbers) == (name, numbers)


def test_run_states():
    states = ("running", "runnable", "blocked", "offline")
    for (old, was), (new, becomes) in itertools.permutations(enumerate(states), 2):
        found = one(0x21001 | old << 8 | new << 4, 0x00050002)
        assert xentrace.run_state_change(found) == RunStateChange(5, 2, was, becomes)
        assert found.name == f"{was}_to_{becomes}"
    assert xentrace.run_state_change(one(0x21002, 0x00050002)) is None


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"CPU0  1234 (+ 0)  unknown", "byte 0: event 0x[0-9a-f]+: no cpu is named before it"),
        (b"\x01\x02", "byte 0: ends amid a record"),
        (record(0x22006, 4, tsc=1), "byte 0: event 0x22006: no cpu is named before it"),
        (window(0, record(0x22006, 4, tsc=1))[:-1], "byte 12: ends amid a record"),
        (record(CPU_CHANGE, 0, 40), "byte 12: ends amid the records of cpu 0"),
        (
            record(CPU_CHANGE, 0, 40) + window(1, record(0x22006, 4, tsc=1)),
            "byte 12: event 0x1f003: amid records of a cpu",
        ),
        (window(0, record(0x1F001, 9, 0, 0, 0)), "byte 12: records were lost; trace with larger"),
        (
            window(0, record(0x22214, 1, 2, 3, 4, tsc=1)),
            "byte 12: event 0x22214 has 4 words, not 3; is this a trace of Xen 4.17",
        ),
    ],
)
def test_what_is_no_whole_trace_is_refused(content, message):
    with pytest.raises(ParseError, match=f"trace.bin: {message}"):
        list(xentrace.parse(content, mhz=1000, source="trace.bin"))


@given(st.binary(max_size=64))
def test_any_bytes_are_read_or_refused(content):
    try:
        records = parsed(content)
    except ParseError:
        return
    for found in records:
        assert isinstance(found.name, str)
        assert isinstance(found.numbers, dict)
