"""What the keeper's looks are made of: lists, files of the kernel, loads, an ideal scheduler."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from homenode.bitmap import CpuMap, NodeMap
from homenode.drivers.simulated_load import parse_load
from homenode.drivers.waiting import Waiting
from homenode.errors import HomenodeError, ParseError
from homenode.formats import process_stat
from homenode.formats.xl_list import parse_running, parse_vcpu_list
from homenode.guest import Guest, MemoryByNode, Vcpu, VirtualNode
from homenode.host import Cpu, Host, Node
from homenode.keeper.lodging import homes_of
from homenode.scheduler.fluid import Wish, shared

LISTS = sorted((Path(__file__).parent / "data" / "xen-captures").rglob("xl-vcpu-list.txt"))
EVERY = CpuMap.full(64)
HEADING = (
    "Name                                ID  VCPU   CPU State   Time(s) Affinity (Hard / Soft)\n"
)


@pytest.mark.parametrize("path", LISTS, ids=lambda path: "/".join(path.parts[-3:-1]))
def test_the_quick_reading_of_a_list_is_that_of_the_careful_one(path):
    text = path.read_text()
    careful = [(row.guest_id, row.vcpu) for row in parse_vcpu_list(text, cpus=EVERY)]
    quick = parse_running(text)
    assert [
        (row.guest_id, row.vcpu, row.cpu, row.time_ns, _map(row.hard), _map(row.soft))
        for row in quick
    ] == [(guest, vcpu.id, vcpu.cpu, vcpu.time_ns, vcpu.hard, vcpu.soft) for guest, vcpu in careful]


def _map(text):
    return EVERY if text == "all" else CpuMap.parse(text)


def test_names_with_blanks_and_states_are_read():
    rows = (
        "a b r-- 3                            7     2    5   ---      12.3  0-1,4 / all\n"
        "(null)                               8     0    -   --p       0.0  all / all\n"
        "busy                                 9     0    1   r--    1200.9  all / 0-1\n"
    )
    seen = parse_running(HEADING + rows)
    assert [(row.guest_id, row.vcpu, row.cpu, row.state) for row in seen] == [
        (7, 2, 5, "-"),
        (8, 0, None, "p"),
        (9, 0, 1, "r"),
    ]
    assert (seen[0].hard, seen[0].time_ns) == ("0-1,4", 12_300_000_000)


@pytest.mark.parametrize(
    ("text", "said"),
    [("", "no column"), ("Name ID VCPU\n", "no column"), (f"{HEADING}web 1 0\n", "no vcpu: 'web")],
)
def test_what_is_no_list_is_refused(text, said):
    with pytest.raises(ParseError, match=said):
        parse_running(text)


def test_files_of_the_kernel_are_read():
    text = "cpu  9 9 9 9 9 9 9 9 9 9\ncpu0 1 2 3 400 50 6 7 8 1 0\ncpu12 10 0 0 1 1 0 0 0\nintr 5\n"
    assert process_stat.busy_ticks(text) == {0: 27, 12: 10}
    words = [str(number) for number in range(3, 53)]
    line = f"77 (CPU 0/KVM) x) {' '.join(words)}"
    assert process_stat.last_cpu(line.encode()) == 39
    assert process_stat.started_at(line) == "22"
    assert process_stat.last_cpu(b"77 (short) S 1") == -1


def test_this_very_machine_says_so():
    assert process_stat.busy_ticks(Path("/proc/stat").read_text())
    assert process_stat.last_cpu(Path("/proc/self/stat").read_bytes()) >= 0


def test_who_runs_nearly_all_the_time_waits_for_next_to_nothing_whatever_a_look_shows():
    waiting = Waiting()
    assert [waiting.waited("a", ran=0.98, state="-") for _ in range(5)][-1] == pytest.approx(0.02)


def test_who_spins_waited_all_the_rest_and_who_sleeps_did_not():
    waiting = Waiting()
    for state in "r-r--r":
        spinning = waiting.waited("spins", ran=0.6, state=state)
    for state in "rbbrbb":
        sleeping = waiting.waited("sleeps", ran=0.3, state=state)
    assert spinning == pytest.approx(0.4)
    assert sleeping == 0.0


def test_who_never_ran_is_paused_and_waits_for_nothing():
    waiting = Waiting()
    assert [waiting.waited("paused", ran=0.0, state="-") for _ in range(3)] == [0.0] * 3
    assert waiting.waited("paused", ran=0.9, state="r") == 0.0


@pytest.mark.parametrize(
    ("text", "wants"),
    [
        ("busy", {"a": 1.0, "b": 1.0}),
        ("a:0.25,busy", {"a": 0.25, "b": 1.0}),
        ("a:square/10", {"a": 1.0, "b": 0.0}),
        ("with:colon:busy,idle", {"with:colon": 1.0, "a": 0.0}),
    ],
)
def test_loads_are_read(text, wants):
    load = parse_load(text)
    assert {guest: load(guest, 0, 1003.0) for guest in wants} == wants


@pytest.mark.parametrize("text", ["", "lazy", "2", "-1", "nan", "square/", "square/0", "busy,"])
def test_what_is_no_load_is_refused(text):
    with pytest.raises(HomenodeError, match="no guest can do"):
        parse_load(text)


nodes = st.sets(st.integers(0, 3), min_size=1).map(NodeMap)
wishes = st.lists(
    st.builds(Wish, st.floats(0, 1), nodes, st.none() | st.integers(0, 3)), max_size=12
)


@given(wishes, st.integers(1, 4))
def test_nobody_gets_more_than_there_is_and_nobody_waits_beside_an_idle_cpu(wanted, cpus):
    there = dict.fromkeys(range(4), cpus)
    found = shared(wanted, there)
    used = dict.fromkeys(there, 0.0)
    for wish, share in zip(wanted, found, strict=True):
        assert share.node in wish.nodes
        assert 0 <= share.ran <= wish.wants + 1e-9
        assert share.ran + share.waited == pytest.approx(wish.wants)
        used[share.node] += share.ran
    assert all(ran <= cpus + 1e-9 for ran in used.values())
    for wish, share in zip(wanted, found, strict=True):
        if share.waited > 1e-6:
            assert used[share.node] == pytest.approx(cpus)
            gain = max((cpus - used[node] for node in wish.nodes), default=0.0)
            assert gain <= wish.wants + 1e-6


HOST = Host(cpus=[Cpu(cpu, cpu // 2) for cpu in range(8)], nodes=[Node(node) for node in range(4)])


def _guest(memory=None, affinity=None, kib=1000, cells=()):
    return Guest(
        "g",
        vcpus=(Vcpu(0, EVERY, EVERY), Vcpu(1, EVERY, EVERY)),
        memory_kib=kib,
        memory_by_node=None if memory is None else MemoryByNode(memory, "a test"),
        node_affinity=None if affinity is None else NodeMap(affinity),
        virtual_nodes=cells,
    )


@pytest.mark.parametrize(
    ("guest", "home"),
    [
        (_guest({0: 990, 1: 10}), "0"),
        (_guest({0: 600, 1: 400}), "0-1"),
        (_guest({2: 1000}, affinity=[1]), "2"),
        (_guest({2: 10}, affinity=[1]), "1"),  # it has not touched the rest yet
        (_guest({2: 10}, affinity=[0, 1, 2, 3]), "2"),
        (_guest(affinity=[3]), "3"),
    ],
)
def test_home_is_where_the_memory_is(guest, home):
    assert homes_of(guest, HOST, 0.5) == {0: NodeMap.parse(home), 1: NodeMap.parse(home)}


def test_home_is_unknown_where_nobody_says():
    assert homes_of(_guest(), HOST, 0.5) is None
    assert homes_of(_guest(affinity=[0, 1, 2, 3]), HOST, 0.5) is None


def test_a_virtual_node_is_the_home_of_its_vcpus():
    cells = (
        VirtualNode(0, CpuMap([0]), 500, node=2),
        VirtualNode(1, CpuMap([1]), 500, node=3),
    )
    homes = homes_of(_guest({2: 500, 3: 500}, cells=cells), HOST, 0.5)
    assert homes == {0: NodeMap([2]), 1: NodeMap([3])}
