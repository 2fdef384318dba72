"""What prunes the search is true, against all sets there are, and it prunes."""

from fractions import Fraction
from itertools import combinations

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from homenode.guest import GuestRequest, NearDevice
from homenode.host import Cpu, Host, Node
from homenode.placement.facts import FACTS, Ratio
from homenode.placement.policies import policy
from homenode.placement.problem import prepare
from homenode.placement.search import Search
from homenode.placement.view import View
from homenode.placement.weights import Pairs, Weights, positions, twins_of
from test_search import distances, requests_on, views, wants_beyond_cpus

numbers = st.integers(0, 9)
weights = st.lists(numbers, min_size=1, max_size=6) | st.integers(1, 5).map(lambda n: [7] * n)


@st.composite
def tables(draw):
    """Symmetric distances, trees among them, and what nodes are far from themselves."""
    count = draw(st.integers(1, 6))
    drawn = [[value or 99 for value in row] for row in distances(draw, count)]
    own = draw(st.just([10] * count) | st.lists(st.integers(8, 12), min_size=count, max_size=count))
    return [
        [own[a] if a == b else max(drawn[a][b], drawn[b][a]) for b in range(count)]
        for a in range(count)
    ]


def sets_of(nodes, count):
    return [sum(1 << at for at in some) for some in combinations(list(positions(nodes)), count)]


@given(st.sets(st.integers(0, 80)))
def test_positions_are_the_members_in_ascending_order(nodes):
    assert list(positions(sum(1 << at for at in nodes))) == sorted(nodes)


@given(weights, st.data())
def test_sums_of_weights_are_the_least_and_the_greatest_there_are(of, data):
    nodes = data.draw(st.integers(0, 2 ** len(of) - 1))
    count = data.draw(st.integers(0, nodes.bit_count()))
    sums = [sum(of[at] for at in positions(some)) for some in sets_of(nodes, count)]
    made = Weights(of)
    assert made.total(nodes) == sum(of[at] for at in positions(nodes))
    assert (made.least(nodes, count), made.most(nodes, count)) == (min(sums), max(sums))
    if count:
        largest = [max(of[at] for at in positions(some)) for some in sets_of(nodes, count)]
        assert made.least_maximum(nodes, count) == min(largest)


def test_no_weights_have_no_least_maximum_and_are_not_uniform():
    assert Weights([]).least_maximum(0, 1) == 0
    assert Weights([]).uniform is None
    assert Weights([3, 3]).uniform == 3
    assert Weights([3, 4]).uniform is None


@given(weights, st.data())
def test_what_can_and_what_must_join_to_reach_a_sum_is_exact(of, data):
    nodes = data.draw(st.integers(1, 2 ** len(of) - 1))
    count = data.draw(st.integers(1, nodes.bit_count()))
    sums = sorted({sum(of[at] for at in positions(some)) for some in sets_of(nodes, count)})
    needed = data.draw(st.sampled_from(sums[::-1])) + data.draw(st.integers(-1, 1))
    enough = [
        some for some in sets_of(nodes, count) if sum(of[at] for at in positions(some)) >= needed
    ]
    can, must = Weights(of).squeeze(nodes, count, needed)
    if not enough:
        assert (can, must) == (-1, 0)
        return
    in_some, in_all = 0, -1
    for some in enough:
        in_some |= some
        in_all &= some
    assert can == in_some
    # Where all are alike, nobody asks which must.
    assert must == in_all or (must == 0 and len(set(of)) == 1)


@given(tables())
def test_pairs_know_the_nearest_and_the_farthest(table):
    size = len(table)
    pairs = Pairs(table)
    between = [table[a][b] for a, b in combinations(range(size), 2)]
    assert pairs.least_pair == min(between, default=0)
    assert pairs.most_pair == max(between, default=0)
    assert pairs.twins == [1 << at for at in range(size)]
    for at in range(size):
        assert [value for value, _ in pairs.rings[at]] == sorted(
            {table[at][other] for other in range(size) if other != at}
        )
        for value, ring in pairs.rings[at]:
            assert set(positions(ring)) == {
                other for other in range(size) if other != at and table[at][other] == value
            }
    for count in range(2, size + 1):
        # Around the best placed node lie so many, itself among them.
        reach = min(
            sorted(table[at][other] for other in range(size) if other != at)[count - 2]
            for at in range(size)
        )
        assert pairs.least_reach[count] == reach
    assert pairs.least_reach[1] == min(table[at][at] for at in range(size))


@given(tables(), st.data())
def test_costs_are_a_bound_that_is_exact_where_nothing_is_open(table, data):
    size = len(table)
    assume(size >= 3)
    chosen = data.draw(st.integers(0, 2**size - 1).filter(lambda some: size - some.bit_count() > 1))
    rest = (1 << size) - 1 & ~chosen
    missing = data.draw(st.integers(2, rest.bit_count()))
    added = [sum(table[at][one] for one in positions(chosen)) for at in range(size)]

    def cost(some):
        between = combinations(positions(some), 2)
        return sum(added[at] for at in positions(some)) + sum(table[a][b] for a, b in between)

    for pairs in (Pairs(table), Pairs(table, twins_of([table]))):
        costs = pairs.costs(added, rest, missing)
        each = {at: own for own, alike in costs.each for at in positions(alike)}
        assert set(each) == set(positions(rest))
        assert [own for own, _ in costs.each] == sorted(own for own, _ in costs.each)
        cheapest = sorted(each.values())[:missing]
        assert (costs.least, costs.dearest) == (sum(cheapest), cheapest[-1])
        for some in sets_of(rest, missing):
            assert costs.least <= sum(each[at] for at in positions(some))
            assert sum(each[at] for at in positions(some)) <= costs.scale * cost(some)
        if missing == rest.bit_count():
            assert costs.least == costs.scale * cost(rest)


@given(tables())
def test_costs_of_twins_are_what_each_pays_with_its_nearest(table):
    """Half of the way to each of those it is taken with: both ends pay their half."""
    size = len(table)
    twins = twins_of([table])
    assume(size >= 3 and len(twins) < size)
    everything, missing = (1 << size) - 1, 2
    costs = Pairs(table, twins).costs([0] * size, everything, missing)
    for own, alike in costs.each:
        for at in positions(alike):
            nearest = min(table[at][other] for other in range(size) if other != at)
            assert own * 2 == nearest * costs.scale


@given(tables(), st.booleans())
def test_twins_can_be_exchanged_without_changing_any_distance(table, twice):
    size = len(table)
    other_table = [[0 if a == b else abs(a - b) // 3 for b in range(size)] for a in range(size)]
    matrices = [table, other_table] if twice else [table]
    groups = twins_of(matrices)
    assert sorted(at for group in groups for at in positions(group)) == list(range(size))

    def nearest(matrix, at):
        return min((matrix[at][one] for one in range(size) if one != at), default=0)

    def alike(a, b):
        return all(
            matrix[a][a] == matrix[b][b]
            and matrix[a][b] == nearest(matrix, a) == nearest(matrix, b)
            and all(matrix[a][c] == matrix[b][c] for c in range(size) if c not in (a, b))
            for matrix in matrices
        )

    for a, b in combinations(range(size), 2):
        together = any(group >> a & 1 and group >> b & 1 for group in groups)
        assert together == alike(a, b)


# -- facts --


@st.composite
def problems(draw):
    if draw(st.booleans()):
        view, request = draw(wants_beyond_cpus())
    else:
        view = draw(views(most_nodes=5))
        request = draw(requests_on(view))
    return prepare(view, request, as_libxl=draw(st.booleans()))


def parts_of(problem, draw):
    """Draw a part of a set, what may join it, and how many of these are missing."""
    chosen = draw(st.integers(0, problem.everything))
    rest = draw(st.integers(0, problem.everything)) & ~chosen
    missing = draw(st.integers(0 if chosen else min(1, rest.bit_count()), rest.bit_count()))
    return chosen, rest, missing


@settings(deadline=None, max_examples=80)
@given(data=st.data())
def test_bounds_and_limits_of_facts_hold_for_every_set_that_can_grow(data):
    problem = data.draw(problems())
    assume(problem.ids)
    search = Search(problem, policy("balanced"))
    chosen, rest, missing = parts_of(problem, data.draw)
    part = search.part_of(chosen)
    sets = [chosen | more for more in sets_of(rest, missing) if chosen | more]
    parts = {some: search.part_of(some) for some in sets}
    for name, kind in FACTS.items():
        fact = kind.make(problem)
        grown = {some: fact.lower(whole, 0, 0) for some, whole in parts.items()}
        for some, value in grown.items():
            # A set that is too small for the guest may be worth less than any that is not.
            assert not value < fact.lower(part, rest, missing) or not problem.fits(some), name
            assert not value > fact.upper(part, rest, missing), name
            floor = fact.floor(some.bit_count())
            assert floor is None or floor <= value, name
        if not missing and chosen:
            assert fact.upper(part, rest, 0) == grown[chosen], name
        if grown and isinstance(min(grown.values()), int):
            limit = sorted(grown.values())[len(grown) // 2]
            within = fact.within(part, rest, missing, limit)
            assert not within & ~rest, name
            for some, value in grown.items():
                assert value > limit or not some & ~chosen & ~within, name


@settings(deadline=None, max_examples=80)
@given(data=st.data())
def test_shortcuts_of_facts_are_their_values(data):
    problem = data.draw(problems())
    assume(problem.ids)
    search = Search(problem, policy("balanced"))
    fitting = problem.fitting_alone()
    assert fitting == [at for at in range(len(problem.ids)) if problem.fits(1 << at)]
    for at in range(len(problem.ids)) if not problem.cells else ():
        assert search.values_alone(at) == tuple(search.vector(search.part_of(1 << at)))
    chosen = data.draw(st.integers(1, problem.everything))
    for name, kind in FACTS.items():
        fact = kind.make(problem)

        def value(some, fact=fact):
            return fact.lower(search.part_of(some), 0, 0)

        alone = fact.singles(fitting)
        alone = alone if isinstance(alone, list) else [alone] * len(fitting)
        assert [value(1 << at) for at in fitting] == alone, name
        addends, attributes = fact.addends(), fact.attributes()
        if addends is not None:
            assert sum(addends[at] for at in positions(chosen)) == value(chosen), name
        for a, b in combinations(list(positions(chosen)), 2) if attributes is not None else ():
            alike = any(twins >> a & 1 and twins >> b & 1 for twins in problem.distances.twins)
            if alike and all(sign * of[a] <= sign * of[b] for of, sign in attributes):
                # With whatever others, the better twin is never worse than the other one.
                better, worse = chosen & ~(1 << b), chosen & ~(1 << a)
                assert not value(better) > value(worse), name


# -- how much is pruned --


def steps_of(view, request, order):
    """How many nodes the search adds to sets until its answer is proved, and how many it has."""
    search, steps = Search(prepare(view, request), policy(order)), []
    join = search._join
    search._join = lambda part, at: steps.append(at) or join(part, at)
    found = search.find()
    assert found.proved
    return len(steps), found.chosen.bit_count()


@pytest.mark.parametrize("order", ["balanced", "xapi", "distance", "nodes,distance,-usable"])
@pytest.mark.parametrize("uneven", [False, True], ids=["alike", "uneven"])
@pytest.mark.parametrize("count", [16, 32])
def test_on_a_tree_a_search_takes_few_steps_for_each_node_that_it_chooses(order, uneven, count):
    small, large = count // 8, count // 4

    def apart(a, b):
        return 12 if a // small == b // small else 20 if a // large == b // large else 40

    tree = [[10 if a == b else apart(a, b) for b in range(count)] for a in range(count)]
    free = [4 + at * 7 % 9 if uneven else 8 for at in range(count)]
    host = Host(
        cpus=[Cpu(4 * at + n, at) for at in range(count) for n in range(4)],
        nodes=[Node(at, present_kib=99, free_kib=kib) for at, kib in enumerate(free)],
        distances=tree,
    )
    for size in (3, 6, 10):
        for request in (GuestRequest("g", 1, 8 * size - 2), GuestRequest("g", 4 * size - 1, 1)):
            steps, chosen = steps_of(View(host), request, order)
            assert steps <= count * (chosen + 1)
    near = tuple(NearDevice(f"{at}:0", at, required=True) for at in (5, count - 5))
    for size in (2, 3, 4):
        request = GuestRequest("g", 1, 1, node_count=size, devices=near)
        assert steps_of(View(host), request, order)[0] <= count


whole = st.integers(1, 40)


@given(st.integers(-40, 40), whole, st.integers(-40, 40), whole)
def test_ratios_are_compared_as_fractions_are(a, b, c, d):
    one, other = Ratio(a, b), Ratio(c, d)
    first, second = Fraction(a, b), Fraction(c, d)
    assert (one < other, one > other) == (first < second, first > second)
    assert (one <= other, one == other) == (first <= second, first == second)
    assert -one == Ratio(-a, b)
    assert hash(one) == hash(Ratio(3 * a, 3 * b))
    assert one != first
    assert abs(Fraction(str(one)) - first) <= Fraction(1, 2000)


def test_a_ratio_is_written_without_noughts_that_say_nothing():
    assert [str(Ratio(*pair)) for pair in ((5, 2), (20, 2), (1, 3), (0, 7))] == [
        "2.5", "10", "0.333", "0",
    ]  # fmt: skip
