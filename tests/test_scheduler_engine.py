"""What all simulators have in common: work, time, threads of a core, and the ideal scheduler."""

import heapq
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from homenode.drivers.capture import CaptureDriver
from homenode.scheduler.agenda import FlatAgenda
from homenode.scheduler.codes import Happening, Kind
from homenode.scheduler.credit import Credit
from homenode.scheduler.tasks import Queue, Share, ground
from homenode.scheduler.versions import credit_version
from simulated import MS, S, cpus, credit, credit2, cycle, host, ideal, runs, task
from test_scheduler_credit import workloads


@given(st.lists(st.integers(0, 1 << 62)))
def test_the_flat_agenda_is_a_heap(events):
    flat, heap = FlatAgenda(), []
    popped, expected = [], []
    for at, event in enumerate(events):
        flat.push(event)
        heapq.heappush(heap, event)
        if at % 3 == 2:
            popped.append(flat.pop())
            expected.append(heapq.heappop(heap))
    while heap:
        popped.append(flat.pop())
        expected.append(heapq.heappop(heap))
    assert popped == expected


def test_runs_and_sleeps_as_told():
    engine = ideal(host(), [cycle(run=2 * MS, sleep=3 * MS)])
    engine.run(1 * S)
    assert engine.numbers("finished") == [200]
    assert engine.numbers("cpu_ns") == [400 * MS]
    assert engine.numbers("wait_ns") == [0]


def test_a_batch_ends_and_says_when():
    engine = ideal(host(), [task(0, Kind.BATCH, burst_ns=30 * MS, start=5 * MS)])
    engine.run(1 * S)
    assert engine.numbers("ended_at") == [35 * MS]


def test_a_chain_goes_round():
    tasks = [
        task(0, Kind.CHAIN, burst_ns=1 * MS, sleep_ns=2 * MS, then=1, tokens=1),
        task(1, Kind.CHAIN, burst_ns=3 * MS, sleep_ns=4 * MS, then=0),
    ]
    engine = ideal(host(cores=2), tasks)
    engine.run(1 * S)
    assert engine.numbers("finished") == [100, 100]


def test_a_chain_of_several_at_once_is_bound_by_its_slowest():
    tasks = [
        task(0, Kind.CHAIN, burst_ns=1 * MS, then=1, tokens=5),
        task(1, Kind.CHAIN, burst_ns=4 * MS, then=0),
    ]
    engine = ideal(host(cores=2), tasks)
    engine.run(1 * S)
    assert engine.numbers("finished")[1] == pytest.approx(250, abs=3)


def test_clients_are_served_as_queueing_theory_has_it():
    # Four clients who think for 10 ms, one server of 2 ms, all exponential: the machine repairman.
    tasks = [task(0, Kind.SERVE, burst_ns=2 * MS, random=True, queue=0)]
    made = Credit(host(), tasks, [Share()], [Queue(4, 10 * MS)], version=credit_version("4.18"),
                  seed=5)  # fmt: skip
    made.begin()
    made.run(200 * S)
    ratio = 2 / 10
    terms = [1.0]
    for served in range(4):
        terms.append(terms[-1] * (4 - served) * ratio)
    busy = 1 - terms[0] / sum(terms)
    assert made.numbers("cpu_ns")[0] / (200 * S) == pytest.approx(busy, rel=0.03)
    rate = made.numbers("responses")[0] / 200
    response = made.numbers("response_ns")[0] / made.numbers("responses")[0] / 1e9
    # Little's law over the whole circle: who does not think waits or is served.
    assert rate * (response + 0.010) == pytest.approx(4, rel=0.03)


@pytest.mark.parametrize("start", [0, 20 * MS])
def test_clients_begin_to_think_when_their_guest_starts(start):
    # Before, a request came 2 ms after the beginning, and stood in line for ever.
    tasks = [task(0, Kind.SERVE, burst_ns=MS, queue=0, start=start)]
    made = Credit(host(), tasks, [Share()], [Queue(1, 2 * MS, random=False)],
                  version=credit_version("4.18"), seed=1)  # fmt: skip
    made.begin()
    made.run(start + 60 * MS)
    # Each of its rounds is 2 ms of thinking and 1 ms of service.
    assert made.numbers("responses") == [20]
    assert made.numbers("response_ns") == [20 * MS]


def test_threads_of_a_core_share_it():
    ground_ = host(threads=2)
    tasks = [task(at, hard=cpus(at), threads_yield=1.3) for at in range(2)]
    engine = ideal(ground_, tasks)
    engine.run(1 * S)
    assert engine.reals("work") == pytest.approx([0.65 * S] * 2)
    alone = ideal(ground_, tasks[:1])
    alone.run(1 * S)
    assert alone.reals("work") == pytest.approx([1.0 * S])


def test_who_shares_a_core_for_a_while_ends_as_much_later():
    tasks = [
        task(0, Kind.BATCH, hard=cpus(0), burst_ns=100 * MS, threads_yield=1.0),
        task(1, Kind.BATCH, hard=cpus(1), burst_ns=10 * MS, threads_yield=1.0),
    ]
    engine = ideal(host(threads=2), tasks)
    engine.run(1 * S)
    # Both at half the pace for 20 ms; then the longer one has 90 ms left, alone.
    assert engine.numbers("ended_at") == [110 * MS, 20 * MS]


@pytest.mark.parametrize("make", [credit, ideal])
def test_timers_may_be_late(make):
    for delay_us in (0, 200):
        engine = make(host(), [task(0), task(1)], timer_delay_us=delay_us)
        engine.run(500 * MS)
        starts = [time for time, *_ in runs(engine)][3:]
        slice_ns = 30 * MS + delay_us * 1000
        assert {(later - sooner) % slice_ns for sooner, later in pairwise(starts)} == {0}


def test_paces_by_node_are_followed():
    ground_ = host(nodes=2)
    engine = ideal(ground_, [task(0, Kind.BATCH, hard=cpus(1), burst_ns=10 * MS)])
    engine.set_pace([1.0, 0.5])
    engine.run(1 * S)
    assert engine.numbers("ended_at") == [20 * MS]


def test_a_pace_that_changes_under_way_counts_from_then():
    engine = ideal(host(), [task(0, Kind.BATCH, burst_ns=10 * MS)])
    engine.run(4 * MS)
    engine.set_pace([0.5])
    engine.run(1 * S)
    assert engine.numbers("ended_at") == [16 * MS]


def test_moves_are_counted_by_cpu_and_by_node():
    engine = credit(host(nodes=2, cores=2), [task(0, hard=cpus(0))])
    for cpu in (1, 3, 2, 0):
        engine.run(engine.now + 5 * MS)
        engine.set_affinity(0, cpus(cpu), cpus(cpu))
    engine.run(engine.now + 5 * MS)
    assert engine.numbers("cpu_moves") == [4]
    assert engine.numbers("node_moves") == [2]


def test_times_that_are_drawn_have_their_mean_and_differ_by_seed():
    ended = {}
    for seed in (1, 2):
        engine = ideal(host(), [cycle(run=1 * MS, sleep=1 * MS, random=True)], seed=seed)
        engine.run(20 * S)
        ended[seed] = engine.numbers("finished")[0]
    assert ended[1] != ended[2]
    assert ended[1] == pytest.approx(10_000, rel=0.05)


@pytest.mark.parametrize("make", [credit, credit2, ideal])
def test_the_same_seed_gives_the_same_events(make):
    ground_ = host(nodes=2, cores=2, threads=2)
    tasks = [cycle(at, run=MS, sleep=2 * MS, random=True, soft=cpus(at % 8)) for at in range(20)]
    logs = []
    for _ in range(2):
        engine = make(ground_, tasks, seed=7)
        engine.run(300 * MS)
        logs.append(engine.happenings())
    assert logs[0] == logs[1]


@pytest.mark.parametrize("make", [credit, credit2, ideal])
def test_it_does_not_matter_in_how_many_steps_time_passes(make):
    ground_ = host(nodes=2, cores=2)
    tasks = [cycle(at, run=MS, sleep=2 * MS, random=True) for at in range(9)]
    whole, steps = make(ground_, tasks, seed=3), make(ground_, tasks, seed=3)
    whole.run(200 * MS)
    for at in range(1, 201):
        steps.run(at * MS)
    assert whole.numbers("cpu_ns") == steps.numbers("cpu_ns")
    assert whole.happenings() == steps.happenings()


def test_hosts_of_more_than_64_cpus_have_sets_of_several_words():
    ground_ = host(nodes=4, cores=40)
    tasks = [task(at, soft=cpus(*range(120, 160))) for at in range(24)]
    for make in (credit, credit2, ideal):
        engine = make(ground_, tasks)
        # Later, credit2 balances its queues, and does not look at what is preferred.
        engine.run(5 * MS)
        assert all(cpu >= 120 for cpu in engine.numbers("last_cpu")), make


@given(workloads(), st.integers(0, 3))
def test_the_ideal_scheduler_leaves_nobody_waiting_while_a_cpu_idles(workload, seed):
    ground_, tasks = workload
    engine = ideal(ground_, tasks, seed=seed)
    running = dict.fromkeys(range(ground_.cpus), -1)
    engine.run(60 * MS)
    waiting = set()
    moments = {}
    for time, what, cpu, vcpu in engine.happenings():
        if what == Happening.WAKE:
            waiting.add(vcpu)
        elif what == Happening.BLOCK:
            waiting.discard(vcpu)
        elif what == Happening.RUN:
            running[cpu] = vcpu
        moments[time] = (set(waiting) - set(running.values()), dict(running))
    for time, (left, at) in moments.items():
        for vcpu in left:
            for cpu, who in at.items():
                assert who >= 0 or not tasks[vcpu].hard >> cpu & 1, (time, vcpu, cpu)
    assert sum(engine.numbers("cpu_ns")) + sum(engine.numbers("idle_ns")) == 60 * MS * ground_.cpus


def test_the_ideal_scheduler_brings_home_who_is_away():
    ground_ = host(nodes=2, cores=1)
    tasks = [task(0, Kind.BATCH, hard=cpus(0), burst_ns=10 * MS), task(1, soft=cpus(0), start=1)]
    engine = ideal(ground_, tasks)
    engine.run(100 * MS)
    assert [(time, cpu) for time, cpu, _ in runs(engine, vcpu=1)] == [(1, 1), (10 * MS, 0)]


def test_the_ideal_scheduler_takes_cores_of_their_own_first():
    ground_ = host(cores=4, threads=2)
    tasks = [task(at, threads_yield=1.2) for at in range(4)]
    engine = ideal(ground_, tasks)
    engine.run(100 * MS)
    assert engine.reals("work") == pytest.approx([100 * MS] * 4)


CAPTURES = Path(__file__).parent / "data" / "xen-captures"


@pytest.mark.parametrize("name", ["n2", "n4", "n8", "memless4", "cpuless4"])
def test_real_hosts_become_grounds(name):
    made = CaptureDriver(str(CAPTURES / name / "guests")).snapshot().host
    floor = ground(made)
    assert list(floor.cpu_ids) == list(made.cpu_map)
    for at, cpu in enumerate(floor.cpu_ids):
        assert cpu in made.cpus_by_node[floor.node_ids[floor.node[at]]]
