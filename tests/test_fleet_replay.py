"""Replaying traces: what is counted, against counting everything anew; and the bounds."""

from array import array
from math import ceil

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fleet_oracle import Books
from homenode.fleet import Fleet, FleetHost, Membership, fleet_policy
from homenode.fleet.bounds import bounds
from homenode.fleet.choosing import Chooser
from homenode.fleet.replay import Replay, reading_times
from homenode.fleet.trace import Trace
from homenode.formats import host_toml
from homenode.guest import GuestRequest

GIB = 1 << 20
WIDE = host_toml.parse(
    'nodes = 4\nsockets = 2\ncores = 4\nmemory = "8GiB"\n'
    "[distances]\nlocal = 10\nsocket = 12\nmachine = 21\n",
    source="wide",
)
SMALL = host_toml.parse('nodes = 1\ncores = 6\nmemory = "4GiB"\n', source="small")
SIZES = [(1, 1, 1), (2, 2, None), (4, 4, 2), (3, 6, 2), (5, 3, None), (8, 8, 4), (4, 9, 1)]
REQUESTS = tuple(
    GuestRequest(f"{vcpus}x{gib}GiB", vcpus, gib * GIB, node_count=nodes)
    for vcpus, gib, nodes in SIZES
)


@st.composite
def traces(draw, most=25):
    """Draw guests that come at some time and go at a later one, or never."""
    count = draw(st.integers(1, most))
    wanted = array("I", (draw(st.integers(0, len(SIZES) - 1)) for _ in range(count)))
    happens, now = [], 0
    for guest in range(count):
        now += draw(st.sampled_from([0, 0, 1000, 5000, 60_000]))
        happens.append((now, 1, guest))
        if draw(st.booleans()):
            happens.append((now + draw(st.integers(1, 90)) * 1000, 0, ~guest))
    happens.sort(key=lambda one: one[:2])
    return Trace(
        "drawn", "test", REQUESTS, wanted,
        array("q", (event for _, _, event in happens)), array("q", (at for at, _, _ in happens)),
    )  # fmt: skip


fleets = st.lists(st.sampled_from([WIDE, SMALL]), min_size=1, max_size=4).map(
    lambda kinds: [FleetHost(f"h{at}", kind) for at, kind in enumerate(kinds)]
)
names = st.sampled_from(["first/first-fit", "pack/balanced", "spread/worst-fit", "flat/best-fit"])


def replayed(trace, hosts, name, *, stay=False):
    fleet = Fleet(hosts)
    return Replay(trace, fleet, Chooser(fleet, fleet_policy(name)), stay=stay).run()


def distance(model, ids):
    return sum(model.distance(a, b) for a in ids for b in ids) / len(ids) ** 2


def counted(trace, hosts, name):
    """Replay it by hand: lists of who is where, and everything counted from them."""
    fleet = Fleet(hosts)
    chooser, books = Chooser(fleet, fleet_policy(name)), Books(hosts)
    empty = Fleet(hosts)
    found = {
        "placed": 0,
        "refused": 0,
        "vcpus_refused": 0,
        "impossible": 0,
        "narrow": 0,
        "distances": [],
        "wide": [],
    }
    where, touched, used, first = {}, set(), [], None
    for event, at in zip(trace.events, trace.times_ms, strict=True):
        if event < 0:
            if (place := where.pop(~event, None)) is not None:
                fleet.give(place)
                books.on[place.host].remove(parts_of(place))
        else:
            request = trace.requests[trace.wanted[event]]
            place = chooser.choose(fleet.demand(request))
            possible = [
                len(wanted.parts)
                for wanted in empty.demand(request).alternatives
                if any(Books(hosts).can_hold(host, wanted.parts) for host in range(len(hosts)))
            ]
            if place is None:
                found["refused"] += 1
                found["vcpus_refused"] += request.vcpus
                found["impossible"] += not possible
                if possible and first is None:
                    first = found["placed"]
            else:
                found["placed"] += 1
                fleet.take(place)
                where[event] = place
                books.on[place.host].append(parts_of(place))
                touched.add(place.host)
                found["narrow"] += len(place.ats) == possible[0]
                model = hosts[place.host].host
                ids = [list(model.nodes_of(model.cpu_map))[own] for own in place.ats]
                found["distances"].append(distance(model, ids))
                if len(ids) > 1:
                    found["wide"].append(distance(model, ids))
        used.append((at, sum(map(bool, books.on))))
    return found, touched, used, first, books


def parts_of(place):
    return [
        (at, part.vcpus, part.kib) for at, part in zip(place.ats, place.wanted.parts, strict=True)
    ]


@settings(max_examples=80)
@given(traces(), fleets, names)
def test_what_is_counted_is_what_happened(trace, hosts, name):
    outcome = replayed(trace, hosts, name)
    found, touched, used, first, books = counted(trace, hosts, name)
    assert outcome.placed + outcome.refused == trace.guests
    for key in ("placed", "refused", "vcpus_refused", "impossible"):
        assert getattr(outcome, key) == found[key]
    assert outcome.placed_first == (found["placed"] if first is None else first)
    assert outcome.touched == len(touched)
    assert outcome.hosts_most == max(count for _, count in used)
    if found["placed"]:
        assert outcome.narrow == pytest.approx(found["narrow"] / found["placed"])
        assert outcome.distance == pytest.approx(sum(found["distances"]) / found["placed"])
    if found["wide"]:
        assert outcome.distance_wide == pytest.approx(sum(found["wide"]) / len(found["wide"]))
    lasted = used[-1][0] - used[0][0]
    if lasted:
        after = [at for at, _ in used[1:]]
        area = sum((then - at) * count for (at, count), then in zip(used, after, strict=False))
        assert outcome.hosts_mean == pytest.approx(area / lasted)
    assert sum(outcome.refused_of.values()) == outcome.refused
    check_reading(outcome.readings[-1], hosts, books)


def check_reading(reading, hosts, books):
    """Compare a reading with the books as they are at its time."""
    nodes = [node for host in range(len(hosts)) for node in books.nodes(host)]
    busy = [node for host in range(len(hosts)) if books.on[host] for node in books.nodes(host)]
    vcpus, free = sum(node[1] for node in nodes), sum(node[2] for node in nodes)
    assert reading.guests == sum(map(len, books.on))
    assert reading.vcpus == pytest.approx(1 - free / vcpus)
    if busy:
        packed = 1 - sum(node[2] for node in busy) / sum(node[1] for node in busy)
        assert reading.vcpus_packed == pytest.approx(packed)
    if free:
        fragments = sum(node[2] % 16 for node in nodes) / free
        assert reading.fragments == pytest.approx(fragments)
    # The least that any of the guests wants of a node is one vcpu and 1 GiB.
    stranded = sum(node[2] for node in nodes if node[3] < GIB)
    assert reading.vcpus_stranded == pytest.approx(stranded / vcpus)
    starved = sum(node[3] for node in nodes if node[2] < 1)
    capacity = sum(host.host.nodes_by_id[node[0]].free_kib for at, host in enumerate(hosts)
                   for node in books.nodes(at))  # fmt: skip
    assert reading.memory_stranded == pytest.approx(starved / capacity)


@settings(max_examples=80)
@given(traces(), fleets, names)
def test_no_policy_is_better_than_the_bounds(trace, hosts, name):
    outcome = replayed(trace, hosts, name)
    times = reading_times(trace)
    bound = bounds(trace, Fleet(hosts), times)
    assert outcome.placed_first <= bound.placed_first
    assert outcome.refused >= bound.refused
    if not outcome.refused:
        assert outcome.hosts_most >= bound.hosts
        assert outcome.hosts_mean >= bound.hosts_mean - 1e-9
        for reading, least in zip(outcome.readings, bound.hosts_over_time, strict=False):
            assert reading.hosts >= least
    filled = replayed(trace, hosts, name, stay=True)
    assert filled.placed_first <= bounds(trace, Fleet(hosts), [], stay=True).placed_first


def test_the_bounds_are_reached_where_nothing_is_lost():
    requests = (GuestRequest("half", 2, 4 * GIB, node_count=1),)
    trace = Trace(
        "x", "test", requests, array("I", [0] * 9), array("q", range(9)), array("q", range(9))
    )
    host = host_toml.parse('nodes = 2\ncores = 2\nmemory = "4GiB"\n', source="x")
    hosts = [FleetHost(f"h{at}", host) for at in range(4)]
    bound = bounds(trace, Fleet(hosts), [0, 3, 8])
    assert bound.hosts == 4
    assert bound.hosts_over_time == (1, 2, 4)
    assert (bound.placed_first, bound.refused) == (8, 1)
    outcome = replayed(trace, hosts, "first/first-fit")
    assert (outcome.placed_first, outcome.refused, outcome.hosts_most) == (8, 1, 4)


def test_wide_guests_alone_bound_the_hosts():
    requests = (GuestRequest("wide", 2, 2 * GIB, node_count=2),)
    trace = Trace(
        "x", "test", requests, array("I", [0] * 4), array("q", range(4)), array("q", range(4))
    )
    # Its second node is too small for more than one of them, so that each host holds one.
    uneven = host_toml.parse(
        'nodes = 2\n[[node]]\nid = 0\ncores = 8\nmemory = "8GiB"\n'
        '[[node]]\nid = 1\ncores = 1\nmemory = "8GiB"\n',
        source="uneven",
    )
    hosts = [FleetHost(f"h{at}", uneven) for at in range(5)]
    assert bounds(trace, Fleet(hosts), []).hosts == 4
    assert ceil(4 * 2 / 9) == 1  # by vcpus
    assert replayed(trace, hosts, "pack").hosts_most == 4


def test_filling_ends_with_the_first_refusal():
    requests = (GuestRequest("g", 6, GIB, node_count=1), GuestRequest("s", 1, GIB, node_count=1))
    trace = Trace(
        "x",
        "test",
        requests,
        array("I", [0, 0, 1]),
        array("q", [0, ~0, 1, 2]),
        array("q", range(4)),
    )
    hosts = [FleetHost("h", SMALL)]
    assert replayed(trace, hosts, "first").placed == 2
    filled = replayed(trace, hosts, "first", stay=True)
    assert (filled.placed, filled.refused, filled.vcpus_first) == (1, 1, 1.0)


def test_groups_are_left_with_their_guests():
    requests = (GuestRequest("g", 1, GIB, node_count=1),)
    trace = Trace(
        "x", "test", requests, array("I", [0, 0, 0]), array("q", [0, 1, ~0, 2]),
        array("q", range(4)),
        (Membership("g", "anti-affinity"),), array("i", [0, 0, 0]),
    )  # fmt: skip
    outcome = replayed(trace, [FleetHost("h", SMALL)], "first")
    assert (outcome.placed, outcome.refused) == (2, 1)


def test_who_is_refused_because_of_a_group_does_not_make_the_fleet_full():
    requests = (GuestRequest("g", 1, GIB, node_count=1),)
    trace = Trace(
        "x", "test", requests, array("I", [0, 0, 0]), array("q", [0, 1, 2]), array("q", range(3)),
        (Membership("g", "anti-affinity"),), array("i", [0, 0, -1]),
    )  # fmt: skip
    outcome = replayed(trace, [FleetHost("h", SMALL)], "first", stay=True)
    assert (outcome.placed, outcome.refused, outcome.placed_first) == (2, 1, 2)
    assert outcome.vcpus_first is None
