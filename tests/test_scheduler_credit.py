"""Xen's credit scheduler: every rule has a case that would come out otherwise without it."""

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from homenode.errors import HomenodeError
from homenode.scheduler.codes import Happening, Kind
from homenode.scheduler.tasks import Task
from homenode.scheduler.versions import CREDIT_VERSIONS, credit_version
from simulated import MS, S, cpus, credit, cycle, host, idle_waits, runs, task, told


def shares_of_time(engine):
    total = sum(engine.numbers("cpu_ns"))
    return [own / total for own in engine.numbers("cpu_ns")]


def queue_of(engine, cpu):
    waiting, at = [], engine.first[cpu]
    while at >= 0:
        waiting.append(at)
        at = engine.next_in[at]
    return waiting


def wait_at(engine, busy, waiting):
    """Let vcpus run on cpus, and others wait there, without anything that would follow."""
    for cpu, vcpu in busy.items():
        engine.running[cpu] = vcpu
        engine.on_cpu[vcpu] = cpu
        engine._set_idle(cpu, 0)
    for vcpu, cpu in waiting.items():
        engine.processor[vcpu] = cpu
        engine.ready[vcpu] = 1
        engine._runq_insert(vcpu)


def test_ten_credits_are_burnt_in_a_millisecond_and_what_is_left_over_is_kept():
    engine = credit(host(), [cycle(run=150_000, sleep=50_000)], ratelimit_us=0)
    engine.run(9 * MS)
    # 45 bursts of 150 us: 67 credits and half of one, of which none is lost to rounding.
    assert engine.numbers("credit") == [-67]


def test_the_tick_burns_and_activates_and_accounting_hands_out_by_slice():
    engine = credit(host(), [task()], seed=1)
    engine.run(10 * MS + 1)
    assert engine.numbers("active") == [1]
    assert engine.numbers("credit") == [-100]
    engine.run(1 * S)
    # Alone on the host it earns what it burns, and is never far from nothing.
    assert -300 <= engine.numbers("credit")[0] <= 300


def test_weights_rule_where_the_host_is_saturated():
    ground = host(cores=2)
    tasks = [task(guest) for guest in range(3) for _ in range(2)]
    engine = credit(ground, tasks, weights=(128, 256, 512), seed=3)
    engine.run(60 * S)
    got = shares_of_time(engine)
    by_guest = [got[2 * at] + got[2 * at + 1] for at in range(3)]
    assert by_guest == pytest.approx([1 / 7, 2 / 7, 4 / 7], rel=0.02)


def test_weights_do_not_rule_on_one_cpu_of_many():
    # Credits are handed out for all cpus: those who share one have more than they can burn.
    ground = host(cores=8)
    tasks = [task(guest, hard=cpus(1)) for guest in range(3)]
    engine = credit(ground, tasks, weights=(128, 256, 512), seed=3)
    engine.run(10 * S)
    assert shares_of_time(engine) == pytest.approx([1 / 3] * 3, abs=0.05)


@pytest.mark.parametrize("cap", [10, 25, 60, 150])
def test_a_cap_holds(cap):
    ground = host(cores=4)
    tasks = [task(0), task(0), task(1)]
    engine = credit(ground, tasks, caps=(cap, 0), seed=1)
    engine.run(60 * S)
    capped = sum(engine.numbers("cpu_ns")[:2]) / (60 * S)
    assert capped == pytest.approx(cap / 100, rel=0.02)
    assert told(engine, Happening.PARK)
    assert told(engine, Happening.UNPARK)


def test_without_a_cap_nobody_is_parked():
    engine = credit(host(), [task(), task(1)])
    engine.run(1 * S)
    assert not told(engine, Happening.PARK)


def test_who_is_unparked_is_not_boosted():
    engine = credit(host(), [task()], caps=(10,))
    engine.run(5 * S)
    unparked = {time for time, *_ in told(engine, Happening.UNPARK)}
    assert unparked
    assert not unparked & {time for time, *_ in told(engine, Happening.BOOST)}


def test_who_wakes_is_boosted_and_preempts_after_the_rate_limit():
    # It blocks at 11.1 ms and wakes at 11.3: the hog is left alone until 12.1.
    tasks = [task(0), cycle(1, run=100_000, sleep=200_000, start=11 * MS)]
    engine = credit(host(), tasks)
    engine.run(13 * MS)
    assert [time for time, *_ in runs(engine, vcpu=1)[:2]] == [11 * MS, 12 * MS + 100_000]
    assert (11 * MS, 0, 1) in [
        (time, cpu, vcpu) for time, _, cpu, vcpu in told(engine, Happening.BOOST)
    ]


def test_without_a_rate_limit_it_preempts_at_once():
    tasks = [task(0), cycle(1, run=100_000, sleep=200_000, start=11 * MS)]
    engine = credit(host(), tasks, ratelimit_us=0)
    engine.run(13 * MS)
    assert [time for time, *_ in runs(engine, vcpu=1)[:2]] == [11 * MS, 11 * MS + 300_000]


def test_who_is_over_is_not_boosted():
    # It wants nearly all of the cpu, and shares it with a hog: it burns more than it is given.
    tasks = [task(0), cycle(1, run=20 * MS, sleep=100_000)]
    engine = credit(host(), tasks, seed=2)
    engine.run(3 * S)
    boosts = told(engine, Happening.BOOST)
    wakes = [one for one in told(engine, Happening.WAKE) if one[3] == 1]
    assert len(boosts) < len(wakes)


def test_who_is_found_running_at_a_tick_is_boosted_no_longer():
    tasks = [task(0, start=1), cycle(1, run=25 * MS, sleep=1 * MS)]
    engine = credit(host(), tasks)
    engine.run(9 * MS)
    boosted = engine.numbers("priority")[1]
    engine.run(10 * MS + 1)
    assert (boosted, engine.numbers("priority")[1]) == (0, -1)


def test_the_slice_is_thirty_milliseconds():
    engine = credit(host(), [task(0), task(1)])
    engine.run(1 * S)
    starts = [time for time, *_ in runs(engine)]
    lengths = {later - sooner for sooner, later in pairwise(starts[2:])}
    assert lengths == {30 * MS}
    shorter = credit(host(), [task(0), task(1)], slice_ms=5)
    shorter.run(1 * S)
    assert len(runs(shorter)) > 5 * len(runs(engine))


def test_an_idle_cpu_is_told_before_anybody_is_preempted():
    ground = host(cores=2)
    # All three belong to cpu 0 at first: the one that wakes is told of where it was.
    tasks = [task(0, hard=cpus(0)), cycle(1, run=MS, sleep=5 * MS, start=12 * MS)]
    for version, preempts in (("4.3", False), ("4.2", True)):
        engine = credit(ground, tasks, version=version)
        engine.processor[1] = 0
        engine.run(12 * MS)
        tickled = {cpu for time, what, cpu, vcpu in told(engine, Happening.TICKLE) if vcpu == 1}
        assert (0 in tickled) is preempts
        assert 1 in tickled


def test_one_idle_cpu_is_told_or_all_of_them():
    ground = host(cores=4)
    tasks = [task(0, hard=cpus(0)), cycle(1, run=MS, sleep=5 * MS, start=12 * MS)]
    for one, count in ((True, 1), (False, 3)):
        engine = credit(ground, tasks, tickle_one_idle=one)
        engine.processor[1] = 0
        engine.run(12 * MS)
        assert len([1 for *_, vcpu in told(engine, Happening.TICKLE) if vcpu == 1]) == count


def test_who_prefers_a_node_is_woken_there_only_since_it_has_a_step():
    ground = host(nodes=2, cores=2)
    tasks = [
        task(0, hard=cpus(0)),
        cycle(1, soft=cpus(2, 3), run=MS, sleep=5 * MS, start=2 * MS),
    ]
    where = {}
    for version in CREDIT_VERSIONS:
        engine = credit(ground, tasks, version=version)
        engine.processor[1] = 0
        engine.run(3 * MS)
        where[version] = runs(engine, vcpu=1)[0][1]
    assert where["4.2"] == 1
    assert {where[version] for version in where if version != "4.2"} == {2}


def test_in_4_3_the_preference_is_of_the_guest_and_of_whole_nodes():
    ground = host(nodes=3, cores=2)
    tasks = [task(0, soft=cpus(0)), task(0, soft=cpus(2)), task(1)]
    masks = {}
    for version in ("4.3", "4.5"):
        engine = credit(ground, tasks, version=version)
        engine.run(1 * MS)
        before = engine.numbers("soft")
        engine.set_affinity(1, cpus(0, 1, 2, 3, 4, 5), cpus(4))
        masks[version] = (before, engine.numbers("soft"), engine.numbers("has_soft"))
    everywhere = cpus(0, 1, 2, 3, 4, 5)
    nodes_before, nodes_after = cpus(0, 1, 2, 3), cpus(0, 1, 4, 5)
    assert masks == {
        "4.3": ([nodes_before] * 2 + [everywhere], [nodes_after] * 2 + [everywhere], [1, 1, 0]),
        "4.5": ([cpus(0), cpus(2), everywhere], [cpus(0), cpus(4), everywhere], [1, 1, 0]),
    }


def test_in_4_3_one_vcpu_without_a_preference_takes_it_from_its_guest():
    ground = host(nodes=2, cores=2)
    where = {}
    for version in ("4.3", "4.5"):
        # cpu 0 is busy: who prefers node 1 is woken there.
        tasks = [
            task(0, hard=cpus(0)), task(1, Kind.IDLE),
            cycle(1, soft=cpus(2, 3), run=MS, sleep=5 * MS, start=2 * MS),
        ]  # fmt: skip
        engine = credit(ground, tasks, version=version)
        engine.processor[2] = 0
        engine.run(3 * MS)
        where[version] = runs(engine, vcpu=2)[0][1]
    assert where == {"4.3": 1, "4.5": 2}


def test_a_preference_yields_where_no_cpu_of_it_is_idle():
    ground = host(nodes=2, cores=1)
    tasks = [task(0, hard=cpus(0)), task(1, soft=cpus(0), start=2 * MS)]
    engine = credit(ground, tasks)
    engine.run(5 * MS)
    assert runs(engine, vcpu=1)[0][1] == 1


def test_picks_spread_over_the_cores_of_a_socket():
    ground = host(nodes=1, cores=4, threads=2)
    tasks = [task(guest, start=guest * 20 * MS) for guest in range(4)]
    engine = credit(ground, tasks)
    engine.run(1 * S)
    assert len({ground.core[cpu] for cpu in engine.numbers("last_cpu")}) == 4


def test_another_socket_is_picked_only_if_it_is_twice_as_idle():
    # On one socket three cpus are busy and one is idle; on the other, two of four, or none.
    ground = host(nodes=2, cores=4)
    picked = {}
    for others in (0, 2):
        tasks = [task(guest, hard=cpus(guest)) for guest in range(3)]
        tasks += [task(3 + at, hard=cpus(4 + at)) for at in range(others)]
        tasks += [task(9, start=20 * MS)]
        engine = credit(ground, [one._replace(guest=at) for at, one in enumerate(tasks)])
        engine.run(5 * MS)
        engine.processor[len(tasks) - 1] = 3
        picked[others] = ground.socket[engine.pick(len(tasks) - 1)]
    assert picked == {0: 1, 2: 0}


def test_a_pick_that_saves_power_fills_cores():
    ground = host(nodes=1, cores=2, threads=2)
    tasks = [task(guest, start=guest * 20 * MS) for guest in range(2)]
    engine = credit(ground, tasks, power_savings=True)
    engine.run(1 * S)
    assert len({ground.core[cpu] for cpu in engine.numbers("last_cpu")}) == 1


def test_a_busy_cpu_passes_for_idle_only_before():
    # The vcpu may not stay on cpu 0; the next one is busy, the one after it idle.
    ground = host(nodes=1, cores=3)
    picks = {}
    for version in ("4.2", "4.3"):
        tasks = [task(0, hard=cpus(1)), task(1, hard=cpus(1, 2), start=50 * MS)]
        engine = credit(ground, tasks, version=version)
        engine.run(1 * MS)
        engine.processor[1] = 0
        picks[version] = engine.pick(1)
    assert picks == {"4.2": 1, "4.3": 2}


def test_work_of_the_own_node_is_taken_first():
    # cpu 3 becomes idle: one waits on its node, one on the other, which comes first otherwise.
    ground = host(nodes=2, cores=2)
    tasks = [
        task(0, hard=cpus(0)), task(1, hard=cpus(2)),
        task(2, hard=cpus(0, 3), start=MS), task(3, hard=cpus(2, 3), start=MS),
        task(4, Kind.BATCH, hard=cpus(3), burst_ns=5 * MS),
    ]  # fmt: skip
    taken = {}
    for version in ("4.2", "4.18"):
        engine = credit(ground, tasks, version=version)
        engine.processor[2], engine.processor[3] = 0, 2
        engine.run(6 * MS)
        taken[version] = next(who for _, _, cpu, who in told(engine, Happening.STEAL) if cpu == 3)
    assert taken == {"4.2": 2, "4.18": 3}


def test_work_that_prefers_this_cpu_is_taken_before_other_work_of_the_own_node():
    ground = host(nodes=2, cores=2)
    taken = {}
    for soft in (None, cpus(3)):
        tasks = [
            task(0, hard=cpus(2)), task(1, hard=cpus(0)),
            task(2, hard=cpus(2, 3), start=MS), task(3, hard=cpus(0, 3), soft=soft, start=MS),
            task(4, Kind.BATCH, hard=cpus(3), burst_ns=5 * MS),
        ]  # fmt: skip
        engine = credit(ground, tasks)
        engine.processor[2], engine.processor[3] = 2, 0
        engine.run(6 * MS)
        taken[soft] = next(who for _, _, cpu, who in told(engine, Happening.STEAL) if cpu == 3)
    assert taken == {None: 2, cpus(3): 3}


def test_who_is_over_takes_only_from_those_who_are_not():
    # cpu 1 is about to go on with one that is over; others, who may run there, wait on cpu 0.
    taken = {}
    for waiting in (-2, -1):
        engine = credit(host(cores=2), [task(at) for at in range(4)])
        engine.priority[0] = -2
        engine.priority[2] = engine.priority[3] = waiting
        wait_at(engine, {0: 1}, {0: 1, 2: 0, 3: 0})
        engine.now = 5 * MS
        taken[waiting] = engine.do_schedule(1)
    assert taken == {-2: 0, -1: 2}


def test_who_ran_lately_is_not_taken_where_moving_has_a_delay():
    ground = host(cores=2)
    tasks = [task(0), task(1), task(2, Kind.BATCH, burst_ns=35 * MS, hard=cpus(1))]
    taken = {}
    for delay in (0, 100_000):
        engine = credit(ground, tasks, migration_delay_us=delay)
        engine.processor[0] = engine.processor[1] = 0
        engine.run(36 * MS)
        taken[delay] = len(told(engine, Happening.STEAL))
    assert taken[0] > taken[100_000] == 0


def test_who_yields_lets_the_next_one_run():
    tasks = [task(0, Kind.YIELD, burst_ns=2 * MS), task(1)]
    engine = credit(host(), tasks)
    engine.run(1 * S)
    share = shares_of_time(engine)[0]
    assert share < 0.2


def test_who_yields_goes_one_place_further_back_since_2023():
    order = {}
    for spares in (False, True):
        engine = credit(host(), [task(at) for at in range(3)], changes={"spares_yielded": spares})
        engine.priority[1] = engine.priority[2] = -2
        engine.yields[0] = 1
        wait_at(engine, {}, {1: 0, 2: 0, 0: 0})
        order[spares] = queue_of(engine, 0)
    assert order == {False: [0, 1, 2], True: [1, 0, 2]}


def test_who_yielded_is_not_stolen_since_2023():
    ground = host(cores=2)
    stolen = {}
    for spares in (False, True):
        tasks = [task(0, hard=cpus(0, 1)), task(1, hard=cpus(0))]
        engine = credit(ground, tasks, changes={"spares_yielded": spares})
        engine.processor[0] = 0
        engine.yields[0] = 1
        engine.ready[0] = 1
        engine._runq_insert(0)
        engine.running[0] = 1
        stolen[spares] = engine._runq_steal(0, 1, -64, 1)
    assert stolen == {False: 0, True: -1}


def test_who_is_preempted_is_sent_to_an_idle_cpu_until_that_broke():
    # A hog that may run on both cpus is preempted on cpu 0 by one that may not go elsewhere.
    ground = host(cores=2)
    tasks = [task(0), cycle(1, hard=cpus(0), run=2 * MS, sleep=20 * MS, start=12 * MS)]
    moved = {}
    for version in ("4.5", "4.13"):
        engine = credit(ground, tasks, version=version,
                        changes={"kicks_without_idlers": False})  # fmt: skip
        engine.processor[0] = 0
        engine.run(13 * MS)
        moved[version] = [cpu for time, cpu, _ in runs(engine, vcpu=0) if time == 12 * MS]
    assert moved == {"4.5": [1], "4.13": []}


def test_until_2015_who_is_preempted_in_vain_comes_back_boosted():
    # Another cpu idles, which neither of them may use.
    tasks = [task(0, hard=cpus(0)),
             cycle(1, hard=cpus(0), run=200_000, sleep=2 * MS, start=12 * MS)]  # fmt: skip
    boosts = {}
    for before in (True, False):
        engine = credit(
            host(cores=2), tasks, version="4.5", changes={"kicks_without_idlers": before}
        )
        engine.run(30 * MS)
        boosts[before] = [1 for *_, vcpu in told(engine, Happening.BOOST) if vcpu == 0]
    # Without, the hog is boosted as it starts, and never again.
    assert len(boosts[True]) > len(boosts[False]) == 1


def test_since_4_18_a_cpu_does_not_look_for_work_twice_in_a_millisecond():
    chosen = {}
    for version in ("4.13", "4.18"):
        for now in (900_000, 1_100_000):
            engine = credit(host(cores=2), [task(0), task(1)], version=version)
            wait_at(engine, {0: 0}, {1: 0})
            engine.balanced_at[1] = 0
            engine.now = now
            chosen[version, now] = engine.do_schedule(1)
    assert chosen == {
        ("4.13", 900_000): 1, ("4.13", 1_100_000): 1,
        ("4.18", 900_000): -1, ("4.18", 1_100_000): 1,
    }  # fmt: skip


def test_since_4_13_the_search_for_work_goes_on_where_it_ended():
    taken = {}
    for version in ("4.5", "4.13"):
        engine = credit(host(cores=3), [task(at) for at in range(6)], version=version)
        wait_at(engine, {1: 0, 2: 1}, {2: 1, 3: 1, 4: 2, 5: 2})
        taken[version] = [engine._load_balance(0, -64) for _ in range(2)]
    assert taken == {"4.5": [2, 3], "4.13": [2, 4]}


def test_a_pick_goes_round_among_the_idle_cpus_of_a_socket_and_a_look_does_not():
    ground = host(nodes=2, cores=4)
    tasks = [*(task(at, hard=cpus(at)) for at in range(4)), task(4, Kind.IDLE)]
    engine = credit(ground, tasks)
    engine.run(1 * MS)
    engine.processor[4] = 3
    looks = {engine._cpu_pick(4, 0) for _ in range(4)}
    assert len(looks) == 1
    assert len({engine.pick(4) for _ in range(4)}) == 4


def test_what_all_owe_is_handed_out_on_top_of_the_slice():
    engine = credit(host(), [task()])
    engine.run(10 * MS + 1)
    assert engine.numbers("active") == [1]
    engine.credit[0], engine.balance = -600, -300
    engine.account()
    assert engine.numbers("credit") == [0]


def test_nobody_owes_more_than_a_slice():
    engine = credit(host(), [task()])
    engine.run(10 * MS + 1)
    engine.credit[0], engine.balance = -2000, 0
    engine.account()
    assert engine.numbers("credit") == [-300]


def test_who_cannot_use_its_share_comes_first_at_the_next_accounting():
    # On two cpus the heavy one's share is more than a cpu; who was asked before it gets the rest.
    engine = credit(host(cores=2), [task(0), task(1)], weights=(1024, 256))
    for vcpu in (0, 1):
        engine._acct_start(vcpu)
    assert engine.active_first == 1
    engine.account()
    assert engine.active_first == 0
    assert engine.numbers("credit") == [300, 120]


def test_changed_masks_take_a_vcpu_where_it_may_be():
    ground = host(nodes=2, cores=2)
    engine = credit(ground, [task(0)])
    engine.run(5 * MS)
    engine.set_affinity(0, cpus(2, 3), cpus(2, 3))
    engine.run(10 * MS)
    assert engine.numbers("last_cpu")[0] in (2, 3)


def test_preferences_that_contradict_hard_affinity_or_add_nothing_do_not_count():
    ground = host(nodes=2, cores=2)
    tasks = [
        task(0, hard=cpus(0, 1), soft=cpus(2, 3)),
        task(0, hard=cpus(0, 1), soft=cpus(0, 1, 2)),
        task(0, hard=cpus(0, 1, 2), soft=cpus(0, 3)),
    ]
    engine = credit(ground, tasks)
    assert engine.numbers("has_soft") == [0, 0, 1]


def test_an_unknown_version_names_those_that_are_known():
    with pytest.raises(HomenodeError, match=r"no version '9'.*4\.2, 4\.3, 4\.5, 4\.13, 4\.18"):
        credit_version("9")


@st.composite
def workloads(draw):
    ground = host(draw(st.integers(1, 3)), draw(st.integers(1, 3)), draw(st.integers(1, 2)))
    count = draw(st.integers(1, 8))
    tasks = []
    for guest in range(count):
        one = draw(st.integers(1, (1 << ground.cpus) - 1))
        hard = (1 << ground.cpus) - 1 if draw(st.booleans()) else one
        soft = draw(st.integers(1, (1 << ground.cpus) - 1))
        kind = draw(st.sampled_from((Kind.SPIN, Kind.CYCLE, Kind.YIELD, Kind.BATCH)))
        tasks.append(
            Task(guest, hard, soft, kind, draw(st.integers(1, 20)) * MS // 2,
                 draw(st.integers(1, 40)) * MS // 4, draw(st.booleans()),
                 start_ns=draw(st.integers(0, 30)) * MS,
                 threads_yield=draw(st.sampled_from((1.0, 1.3))))
        )  # fmt: skip
    return ground, tasks


@given(workloads(), st.sampled_from(sorted(CREDIT_VERSIONS)), st.integers(0, 5))
def test_cpu_time_handed_out_is_cpu_time_used(workload, version, seed):
    ground, tasks = workload
    engine = credit(ground, tasks, version=version, seed=seed)
    engine.run(100 * MS)
    assert sum(engine.numbers("cpu_ns")) + sum(engine.numbers("idle_ns")) == 100 * MS * ground.cpus
    assert engine.numbers("cpu_ns") == [
        sum(engine.numbers("node_ns")[at * ground.nodes : (at + 1) * ground.nodes])
        for at in range(len(tasks))
    ]
    for time, cpu, vcpu in runs(engine):
        assert tasks[vcpu].hard >> cpu & 1, (time, cpu, vcpu)


@given(workloads(), st.sampled_from(["4.3", "4.5", "4.13", "4.18"]), st.integers(0, 3))
def test_nobody_waits_for_more_than_a_tick_while_a_cpu_idles(workload, version, seed):
    ground, tasks = workload
    everywhere = (1 << ground.cpus) - 1
    tasks = [one._replace(hard=everywhere) for one in tasks]
    engine = credit(ground, tasks, version=version, seed=seed)
    engine.run(100 * MS)
    # Since 4.18 an idle cpu may have looked for work too lately. Then whoever runs where work waits
    # is sent to it at a tick; if it was not active, at the one after.
    ticks = 2 if version == "4.18" else 1
    assert max(idle_waits(engine, tasks)) <= ticks * 10 * MS + 1 * MS
