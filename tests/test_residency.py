"""Where guests ran, against a count by hand."""

from fractions import Fraction

from hypothesis import given
from hypothesis import strategies as st

from homenode.bitmap import CpuMap
from homenode.guest import MemoryByNode, Vcpu
from homenode.host import Cpu, Host, Node
from homenode.residency import resident, run_ns

HOST = Host(
    cpus=[Cpu(number, number // 2) for number in range(6)], nodes=[Node(n) for n in range(3)]
)
EVERY = CpuMap.parse("0-5")

steps = st.lists(
    st.lists(st.tuples(st.integers(0, 5), st.integers(0, 3)), min_size=2, max_size=2),
    min_size=1,
    max_size=6,
)


def looks_of(walk):
    """Return what is seen of two vcpus that run so long until they are on that cpu."""
    times, looks = [0, 0], [{7: [Vcpu(0, EVERY, EVERY, 0, 0), Vcpu(1, EVERY, EVERY, 0, 0)]}]
    for step in walk:
        times = [time + ran for time, (_, ran) in zip(times, step, strict=True)]
        looks.append({7: [Vcpu(at, EVERY, EVERY, step[at][0], times[at]) for at in range(2)]})
    return looks


@given(steps, st.dictionaries(st.integers(0, 2), st.integers(0, 1000)))
def test_shares_are_those_of_a_count_by_hand(walk, kib):
    ran = [(cpu // 2, time) for step in walk for cpu, time in step]
    total, memory = sum(time for _, time in ran), sum(kib.values())
    found = resident(run_ns(looks_of(walk), HOST).get(7, {}), MemoryByNode(kib, "a test"))
    if not total or not memory:
        assert (found.residency, found.locality) == (None, None)
        return
    home = sum(Fraction(time, total) for node, time in ran if kib.get(node))
    local = sum(Fraction(time * kib.get(node, 0), total * memory) for node, time in ran)
    assert (found.residency, found.locality) == (int(home * 100), int(local * 100))


@given(steps)
def test_what_ran_is_counted_once(walk):
    ran = run_ns(looks_of(walk), HOST).get(7, {})
    assert sum(ran.values()) == sum(time for step in walk for _, time in step)


def test_a_guest_that_came_in_between_or_has_unknown_times_is_not_guessed():
    vcpu = Vcpu(0, EVERY, EVERY, 3, 50)
    assert run_ns([{}, {1: [vcpu]}], HOST) == {}
    assert run_ns([{1: [vcpu._replace(time_ns=None)]}, {1: [vcpu]}], HOST) == {}
    assert resident({1: 10}, None).residency is None
