"""Choosing host and nodes in a fleet: the index against going through everything."""

from itertools import permutations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fleet_oracle import Books
from homenode.bitmap import CpuMap
from homenode.errors import HomenodeError
from homenode.fleet import (
    Fleet,
    FleetHost,
    Membership,
    OverCommit,
    fleet_policy,
    place,
)
from homenode.fleet import hosts as hosts_room
from homenode.fleet import nodes as nodes_room
from homenode.fleet import outlook as outlook_room
from homenode.fleet.choosing import Chooser
from homenode.fleet.demand import Part
from homenode.fleet.groups import GROUP_RULES
from homenode.fleet.live import fleet_of
from homenode.fleet.measures import most_alike, room_for
from homenode.fleet.parts import Parts
from homenode.fleet.policies import DEFAULT
from homenode.formats import host_toml
from homenode.guest import Guest, GuestRequest, MemoryByNode, Vcpu, VirtualNode
from homenode.placement.view import View

GIB = 1 << 20


def host(nodes=2, cores=4, memory=8, **more):
    text = f'nodes = {nodes}\ncores = {cores}\nmemory = "{memory}GiB"\n'
    text += "".join(f"{key} = {value}\n" for key, value in more.items())
    return host_toml.parse(
        f"{text}[distances]\nlocal = 10\nsocket = 12\nmachine = 21\n", source="test"
    )


KINDS = [
    host(1, 4, 8),
    host(2, 4, 8),
    host(2, 2, 16, sockets=2),
    host(4, 3, 6, sockets=2, threads_per_core=2),
    host_toml.parse(
        'nodes = 2\n[[node]]\nid = 0\ncores = 6\nmemory = "4GiB"\n'
        '[[node]]\nid = 1\ncores = 2\nmemory = "12GiB"\n',
        source="uneven",
    ),
]


@st.composite
def requests(draw):
    vcpus = draw(st.integers(1, 8))
    kib = draw(st.integers(1, 10)) * GIB
    how = draw(st.sampled_from(["one", "some", "any", "cells"]))
    if how == "cells":
        sizes = draw(
            st.lists(st.tuples(st.integers(1, 4), st.integers(1, 6)), min_size=2, max_size=3)
        )
        cells, first = [], 0
        for at, (own, gib) in enumerate(sizes):
            cells.append(VirtualNode(at, CpuMap(range(first, first + own)), gib * GIB))
            first += own
        total = sum(gib for _, gib in sizes) * GIB
        return GuestRequest("guest", first, total, total, virtual_nodes=tuple(cells))
    count = {"one": 1, "some": draw(st.integers(2, 3)), "any": None}[how]
    return GuestRequest("guest", max(vcpus, count or 1), kib, kib, node_count=count)


POLICIES = [
    "first/first-fit", "pack/best-fit", "spread/worst-fit", "pack/balanced", "first/xapi",
    "guests,-memory~2GiB/best-fit", "-empty,size,vcpus~4,memory/-usable",
]  # fmt: skip


def book(books, found):
    books.on[found.host].append(
        [(at, part.vcpus, part.kib) for at, part in zip(found.ats, found.wanted.parts, strict=True)]
    )


@settings(max_examples=100)
@given(
    st.lists(st.sampled_from(KINDS), min_size=1, max_size=5),
    st.lists(st.tuples(requests(), st.integers(0, 9)), min_size=1, max_size=14),
    st.sampled_from(POLICIES),
    st.sampled_from([1, 2]),
)
def test_every_choice_is_the_best_of_all(kinds, asked, name, ratio):
    hosts = [FleetHost(f"h{at}", kind) for at, kind in enumerate(kinds)]
    fleet = Fleet(hosts, OverCommit(vcpus=ratio))
    books, policy = Books(hosts, ratio), fleet_policy(name)
    chooser = Chooser(fleet, policy)
    there = []
    for request, leaving in asked:
        if there and leaving < 3:
            gone = there.pop(leaving % len(there))
            fleet.give(gone)
            parts = [
                (at, part.vcpus, part.kib)
                for at, part in zip(gone.ats, gone.wanted.parts, strict=True)
            ]
            books.on[gone.host].remove(parts)
        demand = fleet.demand(request)
        found = chooser.choose(demand)
        for wanted in demand.alternatives:
            able = [at for at in range(len(hosts)) if books.can_hold(at, wanted.parts)]
            if wanted.is_nested:
                holders = fleet.holders(wanted)
                assert [at for at in range(len(hosts)) if holders >> at & 1] == able
            if able:
                best = min(able, key=lambda at: books.rank(at, policy.host.terms))
                assert found is not None
                assert (found.host, found.wanted) == (best, wanted)
                kind = fleet.kinds[fleet.kind_of[best]]
                nodes = books.engine_nodes(best, wanted, policy.node)
                assert sorted(kind.ids[at] for at in found.ats) == list(nodes)
                break
        else:
            assert found is None
        if found is not None:
            fleet.take(found)
            book(books, found)
            there.append(found)
    for at in range(len(hosts)):
        seen = [
            (state.vcpus, state.kib)
            for state in fleet.states[fleet.first[at] : fleet.first[at + 1]]
        ]
        assert seen == [(free, kib) for _, _, free, kib, _ in books.nodes(at)]
    while there:
        fleet.give(there.pop())
    assert not any(state.is_touched for state in fleet.states)


@settings(max_examples=40)
@given(
    st.lists(st.sampled_from(KINDS), min_size=1, max_size=4),
    st.lists(requests(), min_size=1, max_size=10),
    st.sampled_from(["flat/best-fit", "flat/worst-fit", "flat/vcpus_per_core,-usable"]),
)
def test_flat_takes_the_best_nodes_of_the_whole_fleet(kinds, asked, name):
    hosts = [FleetHost(f"h{at}", kind) for at, kind in enumerate(kinds)]
    fleet, policy = Fleet(hosts), fleet_policy(name)
    chooser = Chooser(fleet, policy)
    for request in asked:
        found = chooser.choose(fleet.demand(request))
        if found is None:
            continue
        able = [at for at in range(len(hosts)) if fleet.holders(found.wanted) >> at & 1]
        values = {at: chooser.nodes.value(at, found.wanted) for at in able}
        assert all(not value < values[found.host] for value in values.values())
        fleet.take(found)


@settings(max_examples=100)
@given(
    st.integers(2, 4),
    st.lists(
        st.tuples(st.integers(0, 3), st.integers(0, 2), st.integers(1, 4), st.booleans()),
        max_size=16,
    ),
    st.sampled_from(["first", "pack", "spread"]),
)
def test_groups_hold_and_nobody_is_refused_who_could_be_there(racks, asked, name):
    hosts = [FleetHost(f"h{at}", KINDS[1], rack=f"r{at % racks}") for at in range(5)]
    fleet = Fleet(hosts)
    chooser = Chooser(fleet, fleet_policy(name))
    members = []
    for group, domain, vcpus, leave in asked:
        if leave and members:
            gone, member = members.pop(0)
            fleet.give(gone)
            fleet.group(member).leave(gone.host, member.domain)
        rule = GROUP_RULES[group % 3]
        member = Membership(f"g{group}", rule, str(domain))
        demand = fleet.demand(GuestRequest("guest", vcpus, vcpus * GIB, node_count=1))
        found = chooser.choose(demand, member)

        def allowed(at, member=member):
            others = [(one, own) for one, own in members if own.group == member.group]
            if member.rule == "affinity":
                return all(one.host == at for one, _ in others)
            if member.rule == "anti-affinity":
                return all(one.host != at for one, _ in others)
            return all(
                own.domain == member.domain or hosts[one.host].rack != hosts[at].rack
                for one, own in others
            )

        able = [
            at for at in range(5) if fleet.holders(demand.alternatives[0]) >> at & 1 and allowed(at)
        ]
        assert (found is None) == (not able)
        if found is not None:
            assert found.host in able
            fleet.take(found)
            fleet.group(member).join(found.host, member.domain)
            members.append((found, member))


def test_a_group_has_one_rule():
    fleet = Fleet([FleetHost("h", KINDS[0])])
    fleet.group(Membership("g", "affinity"))
    with pytest.raises(HomenodeError, match="group 'g' is affinity and anti-affinity"):
        fleet.group(Membership("g", "anti-affinity"))


@given(st.lists(st.integers(0, 5), min_size=1, max_size=6), st.integers(1, 4))
def test_how_many_like_guests_fit_is_what_trying_finds(fits, count):
    def most(left):
        found = 0
        for ats in permutations(range(len(left)), count):
            if list(ats) == sorted(ats) and all(left[at] for at in ats):
                rest = [own - (at in ats) for at, own in enumerate(left)]
                found = max(found, 1 + most(tuple(rest)))
        return found

    small = tuple(own % 4 for own in fits[:5])
    assert most_alike(small, count) == most(small)


def test_the_room_for_a_guest_is_how_many_come_until_one_is_refused():
    hosts = [FleetHost(f"h{at}", kind) for at, kind in enumerate(KINDS)]
    fleet = Fleet(hosts)
    chooser = Chooser(fleet, fleet_policy("first/first-fit"))
    for vcpus, gib, nodes in ((1, 3, 1), (2, 2, 2)):
        demand = fleet.demand(GuestRequest("g", vcpus, gib * GIB, node_count=nodes))
        expected, count = room_for(fleet, demand.alternatives[0]), 0
        if nodes == 1:
            while (found := chooser.choose(demand)) is not None and count < 2:
                fleet.take(found)
                count += 1
            assert room_for(fleet, demand.alternatives[0]) == expected - count
        while (found := chooser.choose(demand)) is not None:
            fleet.take(found)
            count += 1
        assert count == expected if nodes == 1 else count <= expected


def test_place_says_where_and_why_and_changes_nothing():
    fleet = Fleet([FleetHost("small", KINDS[0]), FleetHost("large", KINDS[3])])
    policy = fleet_policy("pack/balanced")
    wide = GuestRequest("wide", 6, 6 * GIB, node_count=2)
    for _ in range(2):
        choice = place(fleet, wide, policy)
        assert (choice.fits, choice.host, len(choice.nodes)) == (True, "large", 2)
        assert choice.reason.startswith("the only host that can hold it")
    fleet.take(choice.place)
    small = place(fleet, GuestRequest("g", 4, GIB), policy)
    assert small.host == "large"
    assert small.reason == (
        "of 2 hosts that can hold it, the best by pack; there, the best of its nodes by balanced"
    )
    assert (
        place(fleet, GuestRequest("g", 4, GIB), policy, allowed={"small"}.__contains__).host
        == "small"
    )


@pytest.mark.parametrize(
    ("request_", "reason"),
    [
        (
            GuestRequest("g", 7, GIB, node_count=1),
            "a node with 7 vcpus and 1 GiB: of 2 hosts 0 have the vcpus, 2 the memory",
        ),
        (
            GuestRequest("g", 6, 14 * GIB, node_count=2),
            "2 nodes with 3 vcpus and 7 GiB each: of 2 hosts 1 have the vcpus, 0 the memory",
        ),
    ],
)
def test_what_fits_nowhere_is_refused_with_what_is_short(request_, reason):
    fleet = Fleet([FleetHost("small", KINDS[0]), FleetHost("large", KINDS[3])])
    choice = place(fleet, request_, fleet_policy("first"))
    assert (choice.fits, choice.reason) == (False, f"no host has {reason}, and none both")


def test_a_group_that_bars_the_hosts_is_named():
    fleet = Fleet([FleetHost("one", KINDS[0])])
    member = Membership("db", "anti-affinity")
    request = GuestRequest("g", 1, GIB)
    choice = place(fleet, request, fleet_policy("first"), membership=member)
    fleet.take(choice.place)
    fleet.group(member).join(choice.place.host, "")
    refused = place(fleet, request, fleet_policy("first"), membership=member)
    assert refused.reason == (
        "no host: 1 have a node with 1 vcpus and 1 GiB, and group 'db' bars them"
    )


@pytest.mark.parametrize(
    ("text", "name"),
    [("pack", "pack/balanced"), ("best-fit", "{}/best-fit"), ("spread", "spread/balanced"),
     ("first/spread", "first/worst-fit"), ("-vcpus/nodes,usable", "-vcpus/nodes,usable"),
     ("vcpus~3/2/nodes,usable~1/8", "vcpus~3/2/nodes,usable~1/8"),
     ("nodes,usable~1/8", "{}/nodes,usable~1/8"), ("vcpus~3/2", "vcpus~3/2/balanced")],
)  # fmt: skip
def test_policies_are_pairs_of_words(text, name):
    assert fleet_policy(text).name == name.format(DEFAULT)


@pytest.mark.parametrize(
    ("text", "complaint"),
    [("packed-full", "no policy"), ("pack/nothing", "no policy 'nothing'"),
     ("most/balanced", "no host policy 'most'"), ("vcpus~0/balanced", "not a step"),
     ("vcpus,vcpus", "names vcpus again"), ("", "no policy ''")],
)  # fmt: skip
def test_a_policy_that_does_not_exist_is_refused(text, complaint):
    with pytest.raises(HomenodeError, match=complaint):
        fleet_policy(text)


def test_a_host_that_does_not_tell_its_memory_is_refused():
    untold = host_toml.parse("nodes = 2\ncores = 2\n", source="x")
    with pytest.raises(HomenodeError, match="host 'h' does not tell what memory is free"):
        Fleet([FleetHost("h", untold)])


@given(
    st.lists(st.tuples(st.integers(1, 9), st.integers(1, 40), st.booleans()), min_size=1),
    st.tuples(st.integers(1, 6), st.integers(0, 20)),
    st.lists(st.tuples(st.integers(0, 9), st.integers(0, 12), st.integers(0, 50)), min_size=1),
)
def test_what_fits_without_waste_is_what_leaves_memory_to_the_vcpus_left(wanted, typical, nodes):
    parts = Parts()
    bits = [parts.bit_of(Part(vcpus, kib), thrifty=thrifty)[0] for vcpus, kib, thrifty in wanted]
    parts.set_typical(Part(*typical))
    for seats, vcpus, kib in nodes:
        seats = min(seats, vcpus)  # noqa: PLW2901 - no more than are free
        found = parts.fitting(seats, vcpus, kib)
        for (own, size, thrifty), bit in zip(wanted, bits, strict=True):
            fits = own <= seats and size <= kib
            if fits and thrifty:
                left = parts.usable(vcpus - own, kib - size)
                fits = parts.usable(vcpus, kib) - left <= own
            assert bool(found & bit) == fits
            assert parts.does_fit(bit, seats, vcpus, kib) == fits


def test_kinds_that_come_later_are_found_as_if_they_had_always_been_there():
    hosts = [FleetHost(f"h{at}", kind) for at, kind in enumerate(KINDS)]
    late, early = Fleet(hosts), Fleet(hosts)
    requests = [
        GuestRequest(f"g{at}", 1 + at % 5, (1 + at % 7) * GIB, node_count=1 + at % 2)
        for at in range(1, 36)
        if at % 2 == 0 or at % 5
    ]
    for request in requests:
        for wanted in early.demand(request).alternatives:
            early.holders(wanted)
            early.holders(early.thrifty(wanted))
    policy = fleet_policy("preserve/best-fit")
    one, other = Chooser(late, policy), Chooser(early, policy)
    for request in requests * 2:
        found, expected = one.choose(late.demand(request)), other.choose(early.demand(request))
        assert (found is None) == (expected is None)
        if found is not None:
            assert (found.host, found.ats) == (expected.host, expected.ats)
            late.take(found)
            early.take(expected)


def test_guests_that_run_tell_what_room_is_to_be_kept():
    wide, narrow = host(2, 4, 8), host(1, 4, 8)
    cpus = wide.cpu_map
    vcpus = tuple(Vcpu(at, cpus, cpus) for at in range(4))
    memory = MemoryByNode({0: GIB, 1: GIB}, "test")
    running = Guest("wide", vcpus, id=1, memory_kib=2 * GIB, memory_by_node=memory)
    policy, small = fleet_policy("breaks_wide/best-fit"), GuestRequest("small", 1, GIB)
    for guests, expected in (((), "a"), ((running,), "b")):
        views = {"a": View(wide), "b": View(narrow), "c": View(wide, guests)}
        assert place(fleet_of(views), small, policy).host == expected


@settings(max_examples=40)
@given(
    st.lists(st.sampled_from(KINDS), min_size=1, max_size=4),
    st.lists(st.tuples(requests(), st.integers(0, 9)), min_size=5, max_size=30),
    st.sampled_from([*POLICIES, "preserve", "flat/best-fit", "breaks_scarce,vcpus/balanced"]),
)
def test_what_is_forgotten_is_found_out_again(kinds, asked, name):
    hosts = [FleetHost(f"h{at}", kind) for at, kind in enumerate(kinds)]

    def decided():
        fleet, there, told = Fleet(hosts), [], []
        chooser = Chooser(fleet, fleet_policy(name))
        for request, leaving in asked:
            if there and leaving < 5:
                fleet.give(there.pop(leaving % len(there)))
            found = chooser.choose(fleet.demand(request))
            told.append(found and (found.host, found.ats))
            if found is not None:
                fleet.take(found)
                there.append(found)
        return told

    expected = decided()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(hosts_room, "MOST_STATES", 3)
        patch.setattr(hosts_room, "LONGEST_LOG", 8)
        patch.setattr(outlook_room, "MOST_STATES", 3)
        patch.setattr(nodes_room, "MOST_KEPT", 2)
        assert decided() == expected
