"""Xen's credit2 scheduler: every rule has a case that would come out otherwise without it."""

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from homenode.errors import HomenodeError
from homenode.scheduler.codes import Happening, Kind
from homenode.scheduler.credit2 import CREDIT_MIN
from homenode.scheduler.run_queues import ARRANGEMENTS, run_queues
from simulated import MS, S, cpus, credit2, cycle, host, idle_waits, runs, task, told
from test_scheduler_credit import workloads


def shares_of_time(engine):
    total = sum(engine.numbers("cpu_ns"))
    return [own / total for own in engine.numbers("cpu_ns")]


def test_run_queues_are_arranged_as_asked():
    ground = host(nodes=4, cores=2, threads=2, sockets=2)
    count = {name: len(set(run_queues(ground, name))) for name in ARRANGEMENTS}
    assert count == {"cpu": 16, "core": 8, "socket": 2, "node": 4, "all": 1}


def test_run_queues_have_sixteen_cpus_at_most_and_are_even():
    ground = host(nodes=1, cores=20, threads=2)
    queues = run_queues(ground, "all")
    sizes = sorted(queues.count(queue) for queue in set(queues))
    # 40 cpus need three queues; 13 cpus each, and threads of a core stay together.
    assert max(sizes) <= 16
    for core in set(ground.core):
        assert len({queues[cpu] for cpu in range(40) if ground.core[cpu] == core}) == 1


def test_an_unknown_arrangement_names_those_that_are_known():
    with pytest.raises(HomenodeError, match=r"'chip'.*cpu, core, socket, node, all"):
        run_queues(host(), "chip")


def test_weights_rule_within_a_run_queue():
    ground = host(cores=2)
    tasks = [task(guest) for guest in range(3) for _ in range(2)]
    engine = credit2(ground, tasks, weights=(128, 256, 512), arrangement="all", seed=1)
    engine.run(60 * S)
    got = shares_of_time(engine)
    assert [got[2 * at] + got[2 * at + 1] for at in range(3)] == pytest.approx(
        [1 / 7, 2 / 7, 4 / 7], rel=0.02
    )


@pytest.mark.parametrize("cap", [10, 25, 60, 150])
def test_a_cap_holds(cap):
    tasks = [task(0), task(0), task(1)]
    engine = credit2(host(cores=4), tasks, caps=(cap, 0), seed=1)
    engine.run(30 * S)
    capped = sum(engine.numbers("cpu_ns")[:2]) / (30 * S)
    assert capped == pytest.approx(cap / 100, rel=0.02)
    assert told(engine, Happening.PARK)
    assert told(engine, Happening.UNPARK)


def test_credits_are_reset_when_the_next_one_has_none():
    engine = credit2(host(), [task(0), task(1)])
    engine.run(1 * S)
    resets = [time for time, *_ in told(engine, Happening.RESET)]
    # Two share a cpu: each burns its 10 ms in 20.
    assert len(resets) == pytest.approx(50, abs=3)
    assert max(engine.numbers("credit")) <= 10_500_000


def test_credits_burn_by_weight():
    engine = credit2(host(cores=2), [task(0, hard=cpus(0)), task(1, hard=cpus(1))],
                     weights=(256, 512), arrangement="all")  # fmt: skip
    engine.run(4 * MS)
    # The lighter one burns two for the heavier one's one: at 4 ms neither has been charged more.
    for vcpu in (0, 1):
        engine._burn_credits(vcpu, 0)
    assert engine.numbers("credit") == [2 * MS, 6 * MS]


def test_who_runs_goes_on_until_its_credit_is_that_of_the_next():
    engine = credit2(host(), [task(0), task(1)])
    engine.run(1 * S)
    starts = [time for time, *_ in runs(engine)]
    lengths = [later - sooner for sooner, later in pairwise(starts[3:])]
    assert min(lengths) >= 500_000
    assert max(lengths) <= 10 * MS


def test_nobody_is_preempted_before_the_rate_limit():
    lengths = {}
    for limit in (0, 5000):
        tasks = [task(0), cycle(1, run=100_000, sleep=300_000)]
        engine = credit2(host(), tasks, ratelimit_us=limit)
        engine.run(200 * MS)
        hog = runs(engine)
        lengths[limit] = min(
            later[0] - sooner[0] for sooner, later in pairwise(hog) if sooner[2] == 0
        )
    assert lengths[5000] >= 5 * MS - 50_000
    assert lengths[0] < 1 * MS


def test_an_idle_core_is_told_before_an_idle_thread():
    ground = host(cores=2, threads=2)
    tasks = [task(0, hard=cpus(0)), task(1, start=5 * MS)]
    woken = {}
    for saves in (False, True):
        engine = credit2(ground, tasks, power_savings=saves)
        engine.processor[1] = 1
        engine.run(6 * MS)
        woken[saves] = ground.core[runs(engine, vcpu=1)[0][1]]
    assert woken == {False: 1, True: 0}


def test_an_idle_cpu_that_is_preferred_is_told_first():
    ground = host(nodes=2, cores=2)
    tasks = [task(0, soft=cpus(3), start=1 * MS)]
    engine = credit2(ground, tasks, arrangement="all")
    engine.processor[0] = 0
    engine.run(2 * MS)
    assert runs(engine)[0][1] == 3


def test_an_idle_cpu_of_another_run_queue_is_not_told():
    ground = host(nodes=2, cores=1)
    # Both belong to the queue of node 0, and there is one cpu; that of node 1 idles.
    tasks = [task(0), cycle(1, run=5 * MS, sleep=5 * MS, start=1 * MS)]
    engine = credit2(ground, tasks, arrangement="node")
    engine._runq_deassign(1)
    engine._runq_assign(1, engine.rqd[0])
    engine.processor[1] = engine.processor[0]
    engine.run(8 * MS)
    assert {cpu for *_, cpu, vcpu in told(engine, Happening.TICKLE) if vcpu == 1} <= {
        engine.processor[0]
    }


def test_whose_cpu_is_not_preferred_is_preempted_rather():
    # Both are equally poor; the newcomer prefers cpu 1, whose vcpu would rather be elsewhere.
    ground = host(cores=2)
    tasks = [
        task(0, hard=cpus(0)),
        task(1, hard=cpus(1, 0), soft=cpus(0)),
        task(2, soft=cpus(1), start=8 * MS),
    ]
    engine = credit2(ground, tasks, arrangement="all")
    engine.processor[1] = 1
    engine.processor[2] = 0
    engine.run(8 * MS)
    assert [cpu for *_, cpu, vcpu in told(engine, Happening.TICKLE) if vcpu == 2] == [1]


def test_who_suits_both_affinities_is_preempted_before_who_is_poorer():
    # cpus 1 and 2 run equals but for 5 ms; the newcomer, of cpu 0, prefers the richer one's cpu.
    ground = host(cores=3)
    best = {}
    for soft in (None, cpus(1)):
        tasks = [task(0, hard=cpus(1, 2), soft=soft), *(task(at) for at in range(1, 3))]
        engine = credit2(ground, tasks, arrangement="all")
        engine.credit[1], engine.credit[2] = 0, -5 * MS
        for cpu in (1, 2):
            engine.running[cpu] = engine.processor[cpu] = cpu
            engine.idle[0] &= ~cpus(cpu)
        engine.now = engine.burnt_at[1] = engine.burnt_at[2] = 3 * MS
        best[soft] = engine._preemptable_cpu(0, 0, 0)
    assert best == {None: 2, cpus(1): 1}


def test_a_reset_gives_more_if_the_next_one_is_at_the_bottom_and_leaves_little_over():
    after = {}
    for next_one, other in ((-1, 9 * MS), (CREDIT_MIN, -9 * MS - 800_000)):
        engine = credit2(host(), [task(0), task(1)])
        engine.credit[0], engine.credit[1] = next_one, other
        engine._reset_credit(0, 0)
        after[next_one] = engine.numbers("credit")
    # All are given 10 ms, or 20; nobody has more than 10.5.
    assert after == {
        -1: [10 * MS - 1, 10 * MS + 500_000],
        CREDIT_MIN: [10 * MS, 10 * MS + 200_000],
    }


def test_picks_go_round_in_a_run_queue():
    engine = credit2(host(cores=4), [task(0, Kind.IDLE)], arrangement="all")
    assert len({engine.pick(0) for _ in range(4)}) == 4


def test_within_the_rate_limit_a_cpu_goes_on_with_what_it_runs_unless_that_yields():
    chosen = {}
    for yields in (0, 1):
        for ran in (400_000, 600_000):
            engine = credit2(host(), [task(0), task(1)], ratelimit_us=500)
            engine.running[0] = 0
            engine.ready[0] = engine.ready[1] = 1
            # Who waits has less credit: only who yields lets it go first.
            engine.credit[1] = 1 * MS
            engine._runq_insert(1)
            engine.yields[0] = yields
            engine.now = ran
            poorer = engine._runq_candidate(0, 0, 0)
            engine.credit[1] = 20 * MS
            engine.yields[0] = yields
            chosen[yields, ran] = (poorer, engine._runq_candidate(0, 0, 0))
    assert chosen == {
        (0, 400_000): (0, 0), (0, 600_000): (0, 1), (1, 400_000): (1, 1), (1, 600_000): (1, 1),
    }  # fmt: skip


def test_moving_to_another_cpu_needs_more_credit_and_is_compensated():
    ground = host(cores=2)
    engine = credit2(ground, [task(0), task(1), task(2)], arrangement="all", seed=1)
    engine.run(1 * S)
    # With three on two cpus all get as much as the others, whoever moves.
    assert shares_of_time(engine) == pytest.approx([1 / 3] * 3, rel=0.05)
    assert sum(engine.numbers("cpu_moves")) < 200


def test_who_is_told_of_is_left_to_the_cpu_that_was_told():
    ground = host(cores=2)
    engine = credit2(ground, [task(0), task(1)], arrangement="all")
    engine.tickled_cpu[1] = 1
    engine.tickled[0] |= cpus(1)
    engine.ready[1] = 1
    assert not engine._is_for_this_cpu(1, 0)
    assert engine._is_for_this_cpu(1, 1)
    engine.tickled[0] = 0
    assert engine._is_for_this_cpu(1, 0)


def test_who_runs_where_it_does_not_prefer_goes_home_within_its_run_queue():
    ground = host(nodes=2, cores=1)
    tasks = [task(0, soft=cpus(1)), task(1, Kind.BATCH, hard=cpus(1), burst_ns=30 * MS)]
    for arrangement, goes in (("all", True), ("node", False)):
        engine = credit2(ground, tasks, arrangement=arrangement)
        if not goes:
            engine._runq_deassign(0)
            engine._runq_assign(0, 0)
        engine.processor[0] = 0
        engine.tickled[0] = 0
        engine.run(300 * MS)
        assert (engine.numbers("last_cpu")[0] == 1) is goes


def test_a_pick_goes_to_the_least_loaded_queue_that_is_preferred():
    ground = host(nodes=3, cores=2)
    tasks = [task(0, soft=cpus(2, 3, 4, 5)), *(task(at, hard=cpus(2, 3)) for at in range(1, 4))]
    engine = credit2(ground, tasks, arrangement="node")
    engine.run(500 * MS)
    assert engine.rqd_of[engine.pick(0)] == 2


def test_load_is_an_average_over_about_a_second():
    engine = credit2(host(cores=2), [task(0), task(1)], arrangement="all")
    engine.run(200 * MS)
    engine._update_runq_load(0, 0)
    early = engine.numbers("average")[0] / (1 << 18)
    engine.run(3 * S)
    engine._update_runq_load(0, 0)
    late = engine.numbers("average")[0] / (1 << 18)
    assert early < 1.0
    assert late == pytest.approx(2.0, abs=0.2)


def test_balancing_pushes_where_loads_differ_and_looks_at_hard_affinity_alone():
    ground = host(nodes=2, cores=2)
    # All at home on node 0, more than its cpus: two have to go, although they prefer node 0.
    tasks = [task(at, soft=cpus(0, 1), start=at) for at in range(4)]
    engine = credit2(ground, tasks, arrangement="node", seed=1)
    engine.run(5 * S)
    away = [cpu for cpu in engine.numbers("last_cpu") if cpu >= 2]
    assert len(away) == 2
    assert told(engine, Happening.MOVE)
    pinned = [one._replace(hard=cpus(0, 1)) for one in tasks]
    held = credit2(ground, pinned, arrangement="node", seed=1)
    held.run(5 * S)
    assert not told(held, Happening.MOVE)


def test_who_was_pushed_away_stays_away_though_its_home_idles():
    ground = host(nodes=2, cores=2)
    tasks = [task(at, soft=cpus(0, 1)) for at in range(2)]
    tasks += [task(2 + at, Kind.BATCH, soft=cpus(0, 1), burst_ns=2 * S) for at in range(2)]
    engine = credit2(ground, tasks, arrangement="node", seed=1)
    engine.run(20 * S)
    before = engine.numbers("node_ns")
    engine.run(30 * S)
    after = engine.numbers("node_ns")
    at_home = sum(after[2 * v] - before[2 * v] for v in range(2))
    away = sum(after[2 * v + 1] - before[2 * v + 1] for v in range(2))
    assert away > 0.4 * (away + at_home)


def test_who_yields_lets_the_next_one_run():
    engine = credit2(host(), [task(0, Kind.YIELD, burst_ns=1 * MS), task(1)])
    engine.run(1 * S)
    starts = [time for time, _, vcpu in runs(engine) if vcpu == 0]
    assert len(starts) > 50


@given(workloads(), st.sampled_from(ARRANGEMENTS), st.integers(0, 5))
def test_cpu_time_handed_out_is_cpu_time_used(workload, arrangement, seed):
    ground, tasks = workload
    engine = credit2(ground, tasks, arrangement=arrangement, seed=seed)
    engine.run(100 * MS)
    assert sum(engine.numbers("cpu_ns")) + sum(engine.numbers("idle_ns")) == 100 * MS * ground.cpus
    for time, cpu, vcpu in runs(engine):
        assert tasks[vcpu].hard >> cpu & 1, (time, cpu, vcpu)


@given(workloads(), st.integers(0, 3))
def test_within_one_run_queue_nobody_waits_while_a_cpu_idles(workload, seed):
    ground, tasks = workload
    everywhere = (1 << ground.cpus) - 1
    tasks = [one._replace(hard=everywhere) for one in tasks]
    engine = credit2(ground, tasks, arrangement="all", seed=seed)
    engine.run(100 * MS)
    assert max(idle_waits(engine, tasks)) <= 11 * MS
