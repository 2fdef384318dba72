"""The keeper's rule: what it does with steady loads, and that unsteady ones do not make it flap."""

from itertools import pairwise
from math import log2

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from homenode.bitmap import NodeMap
from homenode.keeper.rule import Ground, Kept, Measured, State, Watched, decide, nearest
from homenode.keeper.settings import NUMBERS, Settings
from homenode.scheduler.fluid import Wish, shared
from keeping import Bench, busy, vcpus


def test_vcpus_are_held_where_their_memory_is():
    bench = Bench(vcpus(a=0, b=0, c=1, d=3), busy).run(60)
    assert {move.key[0]: str(move.reach) for move in bench.moves()} == {
        "a": "0", "b": "0", "c": "1", "d": "3",
    }  # fmt: skip
    assert bench.residency(since_s=5) == 1.0
    assert bench.ran(since_s=5) == pytest.approx(4.0)


def test_vcpus_that_run_in_each_others_homes_are_exchanged():
    bench = Bench(vcpus(a=0, b=0, c=1, d=1), busy)
    bench.at = {("a", 0): 1, ("b", 0): 1, ("c", 0): 0, ("d", 0): 0}
    bench.run(10)
    assert bench.residency(since_s=5) == 1.0


def test_one_too_many_goes_to_the_nearest_node_and_the_others_stay():
    bench = Bench(vcpus(a=2, b=2), busy).run(60)
    bench.homes[("c", 0)] = NodeMap([2])
    bench.run(60)
    spread = bench.moves("spread", "hold")[-1]
    assert (spread.key, str(spread.reach)) == (("c", 0), "2-3")
    assert bench.ran(since_s=90) == pytest.approx(3.0)
    assert bench.residency(since_s=90) == pytest.approx(2 / 3)


def test_a_vcpu_that_starts_to_spin_at_a_full_home_spreads_and_later_comes_back():
    def load(key, at_s):
        return 1.0 if key[0] != "c" or at_s > 60 else 0.0

    def later(key, at_s):
        return 0.0 if key[0] == "a" and at_s > 200 else load(key, at_s)

    bench = Bench(vcpus(a=0, b=0, c=0), later).run(400)
    kinds = [move.kind for move in bench.moves()]
    assert kinds == ["hold", "hold", "hold", "spread", "return"]
    assert bench.ran(since_s=100) == pytest.approx(sum([3.0] * 20 + [2.0] * 40) / 60, rel=0.03)
    assert bench.residency(since_s=250) == 1.0


def test_nearer_nodes_that_are_full_are_passed_over():
    bench = Bench(vcpus(a=0, b=0, c=0, d=1, e=1), busy).run(60)
    away = [move for move in bench.moves() if move.reach != bench.homes[move.key]]
    assert [str(move.reach) for move in away] == ["0,2"]
    assert bench.ran(since_s=30) == pytest.approx(5.0)


def test_where_no_node_has_room_everyone_stays_home():
    homes = {(f"g{number}", 0): number % 4 for number in range(12)}
    bench = Bench(homes, busy).run(300)
    assert bench.moves("spread") == []
    assert bench.ran(since_s=10) == pytest.approx(8.0)


def test_who_is_in_the_way_of_vcpus_that_start_at_their_home_goes_further():
    def load(key, at_s):
        return 1.0 if key[0] < "d" or at_s > 100 else 0.0

    bench = Bench(vcpus(a=0, b=0, c=0, d=1, e=1), load).run(300)
    assert str(bench.moves()[-1].reach) == "0,2"
    assert bench.reach(("d", 0)) == bench.reach(("e", 0)) == NodeMap([1])
    assert bench.ran(since_s=200) == pytest.approx(5.0)


@pytest.mark.parametrize(("others", "reach"), [({}, "0,2"), ({0: 2, 2: 2, 3: 2}, "0")])
def test_strangers_leave_a_node_whose_own_vcpus_starve(others, reach):
    home, may = NodeMap([1]), NodeMap([0, 1, 2, 3])
    state = State(
        {
            ("own", 0): Kept(0.66, 0.33, home, 0.0),
            ("other", 0): Kept(0.66, 0.33, home, 0.0),
            ("stranger", 0): Kept(0.66, 0.33, NodeMap([0, 1]), 0.0),
        }
    )
    seen = [
        Watched(("own", 0), home, may, 0.66, 0.33, 1),
        Watched(("other", 0), home, may, 0.66, 0.33, 1),
        Watched(("stranger", 0), NodeMap([0]), may, 0.66, 0.33, 1),
    ]
    full = {0: 2.0, **others}
    decision = decide(state, Measured(1000.0, 5.0, seen, full), Bench({}, busy).ground, Settings())
    assert [(move.key[0], move.kind, str(move.reach)) for move in decision.moves] == [
        ("stranger", "yield", reach)
    ]


def test_of_many_none_starves_and_yet_the_surplus_spreads():
    homes = {(f"g{number:02}", 0): 0 for number in range(10)}
    bench = Bench(homes, lambda key, at_s: 1.0 if key[0] < "g08" or at_s > 60 else 0.0, cpus=8)
    bench.run(120)
    assert len(bench.moves("spread")) == 2
    assert bench.ran(since_s=90) == pytest.approx(10.0)


def test_what_others_use_is_not_room():
    bench = Bench(vcpus(a=0, b=0, c=0), busy, others={1: 1.5}).run(30)
    away = [move for move in bench.moves() if move.reach != bench.homes[move.key]]
    assert [str(move.reach) for move in away] == ["0,2"]


def _one_round(ran, waited, *, others, reach="0"):
    key = ("a", 0)
    state = State({key: Kept(ran, waited, NodeMap.parse(reach), 0.0)})
    ground = Ground({0: 2, 1: 2}, {0: {0: 10, 1: 20}, 1: {0: 20, 1: 10}})
    vcpu = Watched(key, NodeMap([0]), NodeMap([0, 1]), ran, waited, 0)
    return decide(state, Measured(1000.0, 5.0, [vcpu], others), ground, Settings()).moves


def test_who_waits_at_a_home_with_idle_cpus_waits_for_something_else():
    # A cap: it is ready to run and may not.
    assert _one_round(0.3, 0.7, others={0: 0.5}) == ()
    assert [move.kind for move in _one_round(0.3, 0.7, others={0: 1.7})] == ["spread"]


def test_who_waits_little_or_wants_little_stays():
    assert _one_round(0.9, 0.05, others={0: 1.2}) == ()
    assert _one_round(0.03, 0.05, others={0: 1.97}) == ()


def test_who_has_just_stopped_is_not_sent_away_for_what_he_wanted():
    home, may = NodeMap([0]), NodeMap([0, 1])
    kept = {(name, 0): Kept(0.66, 0.33, home, 0.0) for name in ("a", "b", "stopped")}
    seen = [
        Watched(("a", 0), home, may, 1.0, 0.0, 0),
        Watched(("b", 0), home, may, 1.0, 0.0, 0),
        Watched(("stopped", 0), home, may, 0.0, 0.0, 0),
    ]
    ground = Ground({0: 2, 1: 2}, {0: {0: 10, 1: 20}, 1: {0: 20, 1: 10}})
    decision = decide(State(kept), Measured(1000.0, 5.0, seen), ground, Settings())
    assert "stopped" not in {move.key[0] for move in decision.moves}


def test_nearest_goes_by_the_sum_of_distances_from_home():
    ground = Ground(
        {0: 1, 1: 1, 2: 1, 3: 0},
        {0: {1: 30, 2: 20, 3: 11}, 1: {0: 30, 2: 12, 3: 11}, 2: {0: 20, 1: 12, 3: 11}},
    )
    assert nearest(ground, NodeMap([0])) == (2, 1)
    assert nearest(ground, NodeMap([0, 1])) == (2,)


def test_no_more_guests_are_changed_in_a_minute_than_may_be():
    homes = {(f"g{number:03}", vcpu): number % 4 for number in range(100) for vcpu in (0, 1)}
    few = Settings(changes_per_minute=7)
    bench = Bench(homes, lambda _key, _at: 0.01, settings=few).run(900)
    for step in bench.steps:
        lately = [
            move.key[0]
            for other in bench.steps
            if step.at_s - 60 < other.at_s <= step.at_s
            for move in other.moves
        ]
        assert len(set(lately)) <= 7
    assert len({move.key for move in bench.moves()}) == 200


def _most_changes(seconds: float, numbers: Settings) -> float:
    """Pairs of changes at one home: those while the stay doubles, and one in each longest cycle."""
    doublings = log2(numbers.longest_stay_s / numbers.return_after_s)
    shortest_s = numbers.return_after_s * (1 + numbers.soon_stays)
    return 2 * (doublings + 2 + seconds / shortest_s)


@given(
    period_s=st.floats(2, 3000),
    duty=st.floats(0.1, 0.9),
    low=st.sampled_from([0.0, 0.05, 0.3]),
    guests=st.integers(3, 9),
    phase=st.sampled_from([0.0, 0.2, 0.5]),
)
@settings(max_examples=40, deadline=None)
def test_a_square_wave_does_not_make_it_flap(period_s, duty, low, guests, phase):
    def load(key, at_s):
        shifted = at_s + phase * period_s * int(key[0][1:])
        return 1.0 if (shifted / period_s) % 1 < duty else low

    homes = {(f"g{number}", 0): 0 for number in range(guests)}
    numbers = Settings()
    seconds = 7200.0
    bench = Bench(homes, load).run(seconds)
    changes = bench.moves("spread", "return", "yield")
    assert len(changes) <= guests * _most_changes(seconds, numbers)
    for key in homes:
        times = [step.at_s for step in bench.steps for move in step.moves if move.key == key]
        gaps = [later - earlier for earlier, later in pairwise(times)]
        assert all(gap >= numbers.spread_after_s for gap in gaps)


@pytest.mark.parametrize("period_s", [20.0, 60.0, 100.0, 200.0])
def test_a_wave_that_is_shorter_than_its_patience_is_soon_left_alone(period_s):
    homes = vcpus(a=0, b=0, c=0)
    bench = Bench(homes, lambda _key, at_s: 1.0 if at_s % period_s < period_s / 2 else 0.0)
    bench.run(3600)
    before = len(bench.moves())
    bench.run(3600)
    assert len(bench.moves()) - before <= 2 * 3600 / Settings().longest_stay_s + 2


@given(
    homes=st.lists(st.integers(0, 3), min_size=1, max_size=14),
    loads=st.lists(st.sampled_from([0.0, 0.1, 0.5, 0.95, 1.0]), min_size=14, max_size=14),
    cpus=st.integers(1, 6),
)
@settings(max_examples=60, deadline=None)
def test_a_steady_load_comes_to_rest_and_gets_what_it_would_without(homes, loads, cpus):
    named = {(f"g{number:02}", 0): home for number, home in enumerate(homes)}
    wants = dict(zip(named, loads, strict=False))
    bench = Bench(named, lambda key, _at: wants[key], cpus=cpus).run(600)
    bench.steps.clear()
    bench.run(600)
    assert bench.moves() == []
    free = shared([Wish(wants[key], bench.may) for key in named], bench.cpus)
    assert bench.ran() >= 0.95 * sum(share.ran for share in free) - 0.1


@given(
    homes=st.lists(st.integers(0, 3), min_size=1, max_size=8),
    times=st.lists(st.tuples(st.floats(0, 1), st.floats(0, 1)), min_size=1, max_size=30),
)
@settings(max_examples=60, deadline=None)
def test_whatever_is_measured_nobody_is_kept_from_home_or_sent_where_he_may_not_be(homes, times):
    ground = Ground(
        dict.fromkeys(range(4), 1), {one: dict.fromkeys(range(4), 20) for one in range(4)}
    )
    state, may = State(), NodeMap([0, 1, 2, 3])
    for number, (ran, waited) in enumerate(times):
        seen = [
            Watched((f"g{at}", 0), NodeMap([home]), may - NodeMap([(home + 1) % 4]), ran,
                    min(waited, 1 - ran), (home + number) % 4)
            for at, home in enumerate(homes)
        ]  # fmt: skip
        decision = decide(state, Measured(number * 5.0, 5.0, seen), ground, Settings())
        again = decide(state, Measured(number * 5.0, 5.0, seen), ground, Settings())
        assert decision == again
        state = decision.state
        by_key = {vcpu.key: vcpu for vcpu in seen}
        for move in decision.moves:
            assert by_key[move.key].home <= move.reach <= by_key[move.key].may


def test_a_home_that_moves_is_followed():
    bench = Bench(vcpus(a=0), busy).run(60)
    bench.homes[("a", 0)] = NodeMap([3])
    bench.run(60)
    assert bench.reach(("a", 0)) == NodeMap([3])


def test_who_is_not_measured_once_is_not_forgotten_until_he_is_gone():
    bench = Bench(vcpus(a=0, b=0), busy).run(20)
    away = bench.homes.pop(("b", 0))
    bench.step()
    bench.homes[("b", 0)] = away
    assert bench.step().moves == ()
    assert {key[0] for key in bench.state.of({"a"}).vcpus} == {"a"}


def test_moves_that_failed_are_tried_again():
    bench = Bench(vcpus(a=0), busy)
    step = bench.step()
    bench.state = bench.state.without(step.moves, now_s=bench.now_s)
    assert bench.reach(("a", 0)) == bench.may
    assert [move.kind for move in bench.step().moves] == ["hold"]


def test_every_number_has_a_meaning_and_is_within_its_range():
    assert NUMBERS.keys() == Settings()._asdict().keys()
    for name, value in Settings()._asdict().items():
        assert NUMBERS[name].least <= value <= NUMBERS[name].most, name
