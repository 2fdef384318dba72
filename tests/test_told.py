"""What a decision says: the reason, warnings, what single nodes lack, and what would help."""

import pytest

from homenode.bitmap import CpuMap, NodeMap
from homenode.errors import HomenodeError, ParseError
from homenode.guest import (
    ExplicitNodes,
    Guest,
    GuestRequest,
    MemoryByNode,
    NearDevice,
    Tier,
    Vcpu,
    VirtualNode,
)
from homenode.host import Cpu, Cpupool, Device, Host, Node, PagePool
from homenode.placement.deciding import place
from homenode.placement.explain import explain
from homenode.placement.facts import Ratio
from homenode.placement.policies import parse_order, policy
from homenode.placement.remedies import remedies_for
from homenode.placement.view import View

GIB = 1 << 20
BALANCED = policy("balanced")


def host(*gib, cpus=4, threads=1, distances=None, far=(), **more):
    """A host of nodes with so much free memory each, and nodes without cpus after them."""
    nodes = [Node(at, present_kib=99 * GIB, free_kib=free * GIB) for at, free in enumerate(gib)]
    nodes += [
        Node(len(gib) + at, kind, present_kib=99 * GIB, free_kib=free * GIB)
        for at, (kind, free) in enumerate(far)
    ]
    listed = [Cpu(at * cpus + n, at, core=n // threads, thread=n % threads, socket=at)
              for at in range(len(gib)) for n in range(cpus)]  # fmt: skip
    flat = [[10 if a is b else 20 for b in nodes] for a in nodes]
    return Host(cpus=listed, nodes=nodes, distances=distances or flat, **more)


def wanted(vcpus, gib, **more):
    return GuestRequest("new", vcpus, gib * GIB, guest_memory_kib=gib * GIB, **more)


def named(*nodes):
    return ExplicitNodes(NodeMap(nodes), "nodes")


def guest_on(name, gib_by_node, **more):
    memory = MemoryByNode({node: gib * GIB for node, gib in gib_by_node.items()}, "made up")
    return Guest(name, **{"memory_by_node": memory, "id": 3, **more})


def reason(view, request, order="balanced"):
    return place(view, request, policy(order)).reason


def warned(view, request, order="balanced"):
    return {one.code: one.text for one in place(view, request, policy(order)).warnings}


def lacks(view, request, order="balanced"):
    """What is said of nodes that are not taken."""
    decision = place(view, request, policy(order))
    told = explain(view, request, policy(order), decision, limit=None)
    return {node: rejected.reason for rejected in told.rejected for node in rejected.nodes}


def remedies(view, request, *kinds):
    told = remedies_for(view, request, BALANCED)
    return [one.text for one in told if not kinds or one.kind in kinds]


# -- the reason --


@pytest.mark.parametrize(
    ("gib", "request_", "said"),
    [
        ((8, 2), wanted(1, 4), "the only node that it fits on"),
        ((8, 8, 2), wanted(1, 4), "the best node by balanced; 2 could hold it alone"),
        ((8, 8), wanted(1, 4, node_count=2), "the best nodes by balanced; 2 could hold it alone"),
        ((8, 2), wanted(1, 4, node_count=2), "the best nodes by balanced; 1 could hold it alone"),
        ((8, 8), wanted(1, 12), "no node can hold it alone; the best 2 by balanced"),
        ((8, 8), wanted(1, 4, explicit=named(1)), "explicit: nodes names node 1"),
        (
            (8, 1),
            wanted(1, 4, explicit=named(1)),
            (
                "explicit: nodes names node 1, but it does not fit:"
                " 3072 MiB of memory short (1024 MiB usable, 4096 MiB needed)"
            ),
        ),
    ],
)
def test_the_reason_says_how_many_nodes_could_have_held_it(gib, request_, said):
    assert reason(View(host(*gib)), request_) == said


def virtual(*cells, **more):
    """A guest of virtual nodes, each of so many vcpus and GiB."""
    made, first = [], 0
    for at, (vcpus, gib) in enumerate(cells):
        made.append(VirtualNode(at, CpuMap(range(first, first + vcpus)), gib * GIB))
        first += vcpus
    return wanted(first, sum(gib for _, gib in cells), virtual_nodes=tuple(made), **more)


def test_the_reason_for_virtual_nodes_says_how_many_nodes_they_have():
    view = View(host(8, 8))
    assert reason(view, virtual((1, 1))) == "the best node for its virtual node by balanced"
    assert (
        reason(view, virtual((1, 1), (1, 1)))
        == "the best 2 nodes for its virtual nodes by balanced"
    )
    assert warned(view, virtual((1, 1), (1, 1), node_count=2)) == {}
    shared = place(view, virtual((1, 1), (1, 1), node_count=1), BALANCED)
    assert shared.fits
    assert shared.reason.endswith("; virtual nodes share nodes")
    assert {cell.node for cell in shared.virtual_nodes} == {0}
    assert warned(View(host(8, 8, 8)), virtual((1, 1), (1, 1), node_count=3)) == {
        "node-count-overruled": "3 nodes are asked for, and its 2 virtual nodes need one each"
    }


def test_too_little_time_is_said_in_the_reason():
    apart = [[10 if a == b else 11 + a * b % 13 for b in range(12)] for a in range(12)]
    view, ticks = View(host(*[8] * 12, distances=apart)), iter(range(10**9))
    wide = wanted(1, 40)
    hurried = place(view, wide, policy("nodes,distance"), clock=lambda: next(ticks), time_limit_s=8)
    assert hurried.fits
    assert not hurried.optimal
    assert hurried.reason.endswith("; the best 5 by nodes,distance that were found in time")
    unhurried = place(
        view, wide, policy("nodes,distance"), clock=lambda: next(ticks), time_limit_s=10**9
    )
    assert unhurried.optimal
    assert unhurried.reason.endswith("; the best 5 by nodes,distance")
    late = place(view, wide, policy("nodes,distance"), clock=lambda: next(ticks), time_limit_s=0)
    assert late.fits, "what fits is found where there is no time at all"
    for narrow, count in ((wanted(1, 1, node_count=3), 3), (virtual((1, 1), (1, 1)), 2)):
        late = place(view, narrow, BALANCED, clock=lambda: next(ticks), time_limit_s=0)
        assert (late.fits, len(late.nodes), late.optimal) == (True, count, False)
    nothing = place(
        View(host(*[0] * 12)), wide, policy("nodes,distance"), clock=lambda: 1.0, time_limit_s=8
    )
    assert nothing.optimal
    assert nothing.reason.startswith("does not fit: ")


@pytest.mark.parametrize(
    ("view", "request_", "said"),
    [
        (View(host(8, 8)), wanted(9, 1), "1 cpus short (8 for 9 vcpus)"),
        (
            View(host(8, 8, threads=2)),
            wanted(5, 1, whole_cores=True),
            "1 cores short (4 for 5 vcpus)",
        ),
        (
            View(host(8, 8)),
            wanted(1, 17),
            "1024 MiB of memory short (16 GiB usable, 17 GiB needed)",
        ),
        (
            View(host(8, 8)),
            wanted(9, 17),
            "1024 MiB of memory short (16 GiB usable, 17 GiB needed); 1 cpus short (8 for 9 vcpus)",
        ),
        (
            View(host(8, 8)),
            wanted(5, 1, node_count=1),
            "no 1 nodes have enough cpus and memory together",
        ),
        (
            View(host(8, 8)),
            wanted(1, 9, devices=(NearDevice("a", 0, required=True),), node_count=1),
            "no 1 nodes with its devices have enough cpus and memory together",
        ),
        (
            View(host(1, 8)),
            wanted(1, 1, excluded=NodeMap([0, 1])),
            "no node has a cpu that the guest may use",
        ),
        (
            View(host(8, 8)),
            wanted(1, 1, excluded=NodeMap([0]), devices=(NearDevice("a", 0, required=True),)),
            "device a is on node 0, where the guest cannot have cpus, and has to be near",
        ),
        (
            View(host(8)),
            wanted(1, 4, tier=Tier("cxl", GIB)),
            "no node without cpus has cxl memory for it",
        ),
        (
            View(host(8)),
            wanted(1, 4, tier=Tier("cxl", GIB), page_kib=2048),
            "no node without cpus has cxl memory in pages of 2 MiB for it",
        ),
        (
            View(host(8, far=[("cxl", 1), ("hbm", 9)])),
            wanted(1, 4, tier=Tier("cxl", 3 * GIB)),
            "2048 MiB of cxl memory short (1024 MiB usable on node 1, 3072 MiB wanted)",
        ),
        (
            View(host(8, far=[("cxl", 1)])),
            wanted(1, 12, spill=True),
            (
                "3072 MiB of memory short (8192 MiB usable and 1024 MiB on nodes without cpus,"
                " 12 GiB needed)"
            ),
        ),
        (
            View(host(8, 8)),
            wanted(1, 4, page_kib=2048),
            "the number of free pages of 2 MiB of nodes 0-1 is unknown",
        ),
        (
            View(Host(cpus=[Cpu(0, 0)], nodes=[Node(0)])),
            wanted(1, 4),
            "the free memory of node 0 is unknown",
        ),
        (View(host(1, 1)), virtual((1, 2)), "virtual node 0 (2048 MiB, 1 vcpu) fits on no node"),
        (
            View(host(1, 1)),
            virtual((1, 2), (2, 3)),
            "virtual node 0 (2048 MiB, 1 vcpu) fits on no node",
        ),
        (
            View(host(1, 4)),
            virtual((1, 2), (2, 3)),
            "virtual nodes 0-1 fit on node 1 alone, and need 2 nodes",
        ),
    ],
)
def test_a_refusal_says_what_is_short_and_by_how_much(view, request_, said):
    decision = place(view, request_, BALANCED)
    assert (decision.fits, decision.reason) == (False, f"does not fit: {said}")


def test_policy_xl_warns_of_nothing_where_all_that_is_free_is_usable():
    assert warned(View(host(8, 8)), wanted(2, 12), "xl") == {}
    promised = View(host(8), outstanding_kib={0: 5 * GIB})
    assert warned(promised, wanted(1, 4), "xl") == {
        "free-not-usable":
            "free is not usable: 1024 MiB of the share on node 0 will come from other nodes"
    }  # fmt: skip
    assert warned(promised, wanted(1, 3), "xl") == {}


def test_policy_xl_calls_what_it_looks_at_free():
    assert "8192 MiB free, 9216 MiB needed" in reason(View(host(8)), wanted(1, 9), "xl")


# -- warnings --


def test_nodes_that_nobody_knows_are_said_to_get_nothing():
    silent = Node(1, present_kib=GIB)
    nodes = (*host(8, 8).nodes[:1], silent)
    view = View(host(8, 8).replace(nodes=nodes))
    assert warned(view, wanted(1, 1)) == {
        "free-memory-unknown": "free memory of node 1 is unknown: nothing is placed there"
    }
    pools = (Node(0, pages=(PagePool(2048, 9, 9),)), Node(1, pages=(PagePool(2048, 9, None),)))
    huge = GuestRequest("new", 1, 2048, page_kib=2048)
    assert warned(View(host(8, 8).replace(nodes=pools)), huge) == {
        "free-pages-unknown": "free pages of 2 MiB of node 1 are unknown: nothing is placed there"
    }


@pytest.mark.parametrize(
    ("more", "said"),
    [
        ({}, False),
        ({"spill": True}, True),
        ({"tier": Tier("any", 0)}, True),
        ({"explicit": named(0)}, True),
        ({"virtual_nodes": (VirtualNode(0, CpuMap([0]), GIB),)}, False),
        ({"virtual_nodes": (VirtualNode(0, CpuMap([0]), GIB), VirtualNode(1, CpuMap(), 0))}, True),
    ],
)
def test_unknown_nodes_without_cpus_are_named_only_to_whom_they_matter(more, said):
    known = host(8, far=[("cxl", 1)])
    view = View(known.replace(nodes=(known.nodes[0], Node(1, "cxl"))))
    assert ("free-memory-unknown" in warned(view, wanted(1, 1, **more))) == said


def test_guests_to_keep_apart_from_have_to_be_there_and_known():
    silent, there = Guest("silent", id=3), guest_on("there", {0: 1})
    view = View(host(8, 8), (silent, there))
    assert warned(view, wanted(1, 1, apart_from=("there",))) == {}
    long = "n" * 50
    assert warned(view, wanted(1, 1, apart_from=("there", long))) == {
        "apart-from-nobody": f"there is no guest {long[:40]!r} to be kept apart from"
    }
    unknown = View(host(8), (Guest(long, id=3),))
    assert warned(unknown, wanted(1, 1, apart_from=(long,))) == {
        "apart-unknown":
            f"nobody knows on which nodes {long[:40]} is: it cannot be kept apart from it"
    }  # fmt: skip
    assert warned(view, wanted(1, 1, apart_from=("silent",))) == {
        "apart-unknown": "nobody knows on which nodes silent is: it cannot be kept apart from it"
    }


def test_named_nodes_that_go_against_other_wishes_are_taken_and_said():
    view = View(host(8, 8, 8), (guest_on("other", {1: 1}),))
    devices = (NearDevice("near", 2, required=True), NearDevice("away", 0, required=True))
    request = wanted(
        1, 1, explicit=named(1, 2), excluded=NodeMap([2]), apart_from=("other",), devices=devices
    )
    decision = place(view, request, BALANCED)
    assert decision.fits
    assert {one.code: one.text for one in decision.warnings} == {
        "excluded-overruled": "nodes names nodes 1-2, which it is to be kept off",
        "device-away": "away is required to be near and is on node 0, but nodes names 1-2",
    }
    assert warned(view, wanted(1, 1, explicit=named(0), excluded=NodeMap([2]))) == {}


def test_fewer_cpus_than_vcpus_are_the_users_choice_and_said():
    view = View(host(8, 8, threads=2))
    assert warned(view, wanted(5, 1, explicit=named(0))) == {
        "fewer-cpus-than-vcpus": "node 0: 4 cpus for the guest's 5 vcpus"
    }
    assert warned(view, wanted(4, 1, explicit=named(0))) == {}
    assert warned(view, wanted(3, 1, explicit=named(0), whole_cores=True)) == {
        "fewer-cpus-than-vcpus": "node 0: 2 cores for the guest's 3 vcpus"
    }


def test_a_tier_of_any_kind_is_none_that_is_asked_for_by_name_alone():
    near_first = [[10, 20, 12, 14, 16], [20, 10, 12, 14, 16], [12, 12, 10, 20, 20],
                  [14, 14, 20, 10, 20], [16, 16, 20, 20, 10]]  # fmt: skip
    beside = host(8, 8, far=[("hbm", 4), ("cxl", 1), ("dram", 4)], distances=near_first)

    def given(kind, gib, **more):
        decision = place(View(beside), wanted(1, 6, tier=Tier(kind, gib * GIB), **more), BALANCED)
        return decision.fits and {s.node: s.kib // GIB for s in decision.memory}

    assert given("any", 2) == {0: 4, 3: 1, 4: 1}
    assert given("hbm", 2) == {0: 4, 2: 2}
    assert given("cxl", 2) is False
    assert given("any", 6) is False
    assert given("hbm", 6) is False
    # The tier comes first, and what is spilled from the nearest that has something left.
    assert given("cxl", 1, excluded=NodeMap([1])) == {0: 5, 3: 1}
    full = host(2, 1, far=[("hbm", 4), ("cxl", 2), ("dram", 4)], distances=near_first)
    spilt = place(View(full), wanted(1, 6, tier=Tier("cxl", GIB), spill=True), BALANCED)
    assert {s.node: s.kib // GIB for s in spilt.memory} == {0: 2, 1: 1, 3: 2, 4: 1}


def test_a_tier_is_taken_before_spill_and_neither_from_the_part_of_the_other():
    table = [[10, 20, 12, 14], [20, 10, 12, 14], [12, 12, 10, 20], [14, 14, 20, 10]]
    nearer = View(host(2, 1, far=[("dram", 4), ("cxl", 2)], distances=table))
    decision = place(nearer, wanted(1, 6, tier=Tier("cxl", GIB), spill=True), BALANCED)
    assert {s.node: s.kib // GIB for s in decision.memory} == {0: 2, 1: 1, 2: 2, 3: 1}
    apart = View(host(2, far=[("hbm", 4), ("cxl", 2)]))
    decision = place(apart, wanted(1, 8, tier=Tier("hbm", 4 * GIB), spill=True), BALANCED)
    assert {s.node: s.kib // GIB for s in decision.memory} == {0: 2, 1: 4, 2: 2}
    assert not place(apart, wanted(1, 9, tier=Tier("hbm", 4 * GIB), spill=True), BALANCED).fits
    alone = place(apart, wanted(1, 5, explicit=named(1), spill=True), BALANCED)
    assert (alone.fits, alone.memory) == (False, ())


def test_memory_alone_on_named_nodes_overrules_a_tier():
    view = View(host(8, far=[("hbm", 4)]))
    decision = place(view, wanted(1, 2, explicit=named(1), tier=Tier("hbm", GIB)), BALANCED)
    assert [(share.node, share.kib) for share in decision.memory] == [(1, 2 * GIB)]
    assert decision.nodes == NodeMap()
    assert {one.code: one.text for one in decision.warnings} == {
        "tier-overruled": "nodes names node 1 for all of its memory, not hbm memory alone"
    }
    assert warned(view, wanted(1, 2, explicit=named(1))) == {}
    both = place(view, wanted(1, 2, explicit=named(0, 1), tier=Tier("hbm", GIB)), BALANCED)
    assert [(share.node, share.kib) for share in both.memory] == [(0, GIB), (1, GIB)]
    assert both.warnings == ()


def test_a_guest_that_cannot_be_split_over_named_nodes_is_told():
    view = View(host(8, 8))
    split = place(view, wanted(2, 2, explicit=named(0, 1), split=True), BALANCED)
    assert [cell.node for cell in split.virtual_nodes] == [0, 1]
    assert split.warnings == ()
    assert warned(view, wanted(1, 2, explicit=named(0, 1), split=True)) == {
        "not-split":
            "nodes 0-1 cannot have a virtual node each, with vcpus and memory: it has none"
    }  # fmt: skip
    three = View(host(8, 8, 8))
    assert "not-split" in warned(three, wanted(2, 3, explicit=named(0, 1, 2), split=True))
    assert "not-split" not in warned(view, wanted(1, 99, explicit=named(0, 1), split=True))


def test_virtual_nodes_that_share_named_nodes_are_dealt_out_in_turn_or_as_there_is_room():
    request = virtual((1, 1), (1, 3), (1, 1))
    turn = place(View(host(8, 8)), request._replace(explicit=named(0, 1)), BALANCED)
    assert [cell.node for cell in turn.virtual_nodes] == [0, 1, 0]
    packed = place(View(host(4, 2)), request._replace(explicit=named(0, 1)), BALANCED)
    # The largest first, to where most is left; of equal nodes the first.
    assert [cell.node for cell in packed.virtual_nodes] == [1, 0, 0]
    full = place(View(host(2, 2)), request._replace(explicit=named(0, 1)), BALANCED)
    assert full.reason == (
        "explicit: nodes names nodes 0-1, but it does not fit: "
        "node 1 is 1024 MiB short (2048 MiB usable, 3072 MiB needed)"
    )
    assert (full.memory, full.vcpus) == ((), ())
    both = place(View(host(1, 1)), virtual((1, 2), (1, 3), explicit=named(0, 1)), BALANCED)
    assert both.reason.endswith(
        "node 0 is 1024 MiB short (1024 MiB usable, 2048 MiB needed); "
        "node 1 is 2048 MiB short (1024 MiB usable, 3072 MiB needed)"
    )


# -- what nodes lack --


def test_every_node_that_cannot_hold_a_guest_says_why():
    pools = (Cpupool("Pool-0", CpuMap(range(4, 32))), Cpupool("odd", CpuMap(range(4))))
    held = Guest("held", (Vcpu(0, CpuMap(range(8, 12)), CpuMap()),), id=4, exclusive=True)
    there = guest_on("there", {3: 1})
    nodes = list(host(8, 8, 8, 8, 8, 1, 8, 0, far=[("cxl", 4)]).nodes)
    nodes[6] = Node(6)
    view = View(
        host(*[8] * 8, far=[("cxl", 4)], pools=pools).replace(nodes=tuple(nodes)), (held, there)
    )
    hard = (CpuMap([n for n in range(32) if not 16 <= n < 20]),)
    request = wanted(1, 20, excluded=NodeMap([1]), apart_from=("there",), hard=hard)
    assert lacks(view, request) == {
        0: "it has no cpu in cpupool Pool-0",
        1: "it is excluded",
        2: "other guests have its cpus for themselves, or are pinned to them",
        3: "a guest is there that it is to be kept apart from",
        4: "cpus= leaves the guest none of its cpus",
        5: "alone it is 19 GiB of memory short (1024 MiB usable, 20 GiB needed)",
        6: "its free memory is unknown",
        7: "alone it is 20 GiB of memory short (0 MiB usable, 20 GiB needed)",
        8: "it has no cpus",
    }
    assert lacks(view, request._replace(split=True))[7] == "it has no memory for a virtual node"


def test_as_many_nodes_as_are_asked_for_are_said_to_lack_something():
    view, request = View(host(*[1] * 9)), wanted(1, 20)
    decision = place(view, request, BALANCED)
    assert len(explain(view, request, BALANCED, decision, limit=2).rejected) == 2
    assert len(explain(view, request, BALANCED, decision).rejected) == 5
    assert lacks(View(host(8)), wanted(1, 9), "xl") == {
        0: "alone it is 1024 MiB of memory short (8192 MiB free, 9216 MiB needed)"
    }


def test_nodes_that_are_chosen_or_named_or_could_hold_it_are_not_said_to_lack_anything():
    view = View(host(8, 8, 2))
    assert lacks(view, wanted(1, 4)) == {
        2: "alone it is 2048 MiB of memory short (2048 MiB usable, 4096 MiB needed)"
    }
    assert lacks(view, wanted(1, 4, explicit=named(2))) == {}
    assert list(lacks(view, wanted(1, 9, explicit=named(2)))) == [0, 1]
    far = View(host(2, far=[("cxl", 4)]))
    assert lacks(far, wanted(1, 4, spill=True)) == {}


def test_devices_tiers_and_virtual_nodes_keep_it_off_a_node():
    view = View(host(8, 8))
    near = wanted(1, 4, devices=(NearDevice("a", 1, required=True), NearDevice("b", 0)))
    assert lacks(view, near) == {0: "it is not where device a is"}
    assert lacks(view, wanted(1, 4, tier=Tier("hbm", GIB))) == dict.fromkeys(
        (0, 1), "there is too little hbm memory for it, on whichever cpus"
    )
    assert lacks(View(host(8, 2, 8)), virtual((1, 4))) == {
        1: "none of the virtual nodes fits there"
    }


# -- rivals --


def test_rivals_say_by_which_fact_they_lost_and_in_what_steps():
    view = View(host(8, 9, 14, 2))

    def lost(order, **more):
        request = wanted(1, 1, **more)
        decision = place(view, request, policy(order))
        told = explain(view, request, policy(order), decision, limit=3)
        return told.ranked_by, told.lost_by, [str(one.nodes) for one in told.candidates]

    assert lost("nodes,-usable") == (
        ("nodes", "usable"),
        ("chosen", "its usable is 9216 MiB, not 14 GiB", "its usable is 8192 MiB, not 14 GiB"),
        ["2", "1", "0"],
    )
    assert lost("usable~4GiB")[1] == (
        "chosen",
        "its usable is 8192 MiB, not 2048 MiB, in steps of 4GiB",
        "its usable is 9216 MiB, not 2048 MiB, in steps of 4GiB",
    )
    assert lost("nodes")[1] == ("chosen",) + ("as good, but later in the order of nodes",) * 2
    assert lost("-nodes")[1:] == (("chosen",), ["0-3"])
    assert lost("vcpus_per_core", node_count=1)[1][1] == "as good, but later in the order of nodes"


def test_larger_sets_are_rivals_only_where_all_are_asked_for():
    view, request = View(host(8, 8)), wanted(1, 1)
    decision = place(view, request, BALANCED)

    def sets(**more):
        asked = request._replace(**more)
        told = explain(view, asked, BALANCED, place(view, asked, BALANCED), limit=None)
        return [str(one.nodes) for one in told.candidates]

    assert sets() == ["0", "1", "0-1"]
    assert sets(node_count=1) == ["0", "1"]
    few = explain(view, request, BALANCED, decision, limit=5)
    assert [str(one.nodes) for one in few.candidates] == ["0", "1"]
    assert explain(view, request._replace(explicit=named(0)), BALANCED, decision).candidates == ()
    facts = dict(few.candidates[0].facts)
    assert all(value == round(value, 3) for value in facts.values())


def test_rivals_of_a_guest_that_could_not_be_split_are_sets_that_hold_it_whole():
    view, request = View(host(8, 8, 7)), wanted(1, 12, split=True)
    decision = place(view, request, BALANCED)
    assert (decision.fits, decision.virtual_nodes) == (True, ())
    told = explain(view, request, BALANCED, decision, limit=5)
    assert [str(one.nodes) for one in told.candidates] == ["0-1", "0,2", "1-2"]
    assert told.rejected[0].reason.startswith("alone it is 5120 MiB of memory short")
    bare = View(host(8, 8, 0))
    for_cpus = wanted(9, 12, split=True)
    decision = place(bare, for_cpus, BALANCED)
    assert decision.nodes == NodeMap([0, 1, 2])
    told = explain(bare, for_cpus, BALANCED, decision, limit=5)
    assert [str(one.nodes) for one in told.candidates] == ["0-2"]
    wide = wanted(2, 12, split=True)
    made = explain(view, wide, BALANCED, place(view, wide, BALANCED), limit=5)
    assert [share.guarantee for share in made.candidates[1].memory] == ["bound", "bound"]


def test_beyond_what_can_be_gone_through_rivals_differ_by_a_node():
    view, request = View(host(*[2] * 24)), wanted(1, 24)
    decision = place(view, request, BALANCED)
    assert len(decision.nodes) == 12
    told = explain(view, request, BALANCED, decision, limit=None)
    rivals = {one.nodes for one in told.candidates[1:]}
    assert len(rivals) == 12 * 12
    assert all(len(one) == 12 and len(one - decision.nodes) == 1 for one in rivals)


# -- what would help --


@pytest.mark.parametrize(
    ("view", "request_", "said"),
    [
        (
            View(host(8, 1)),
            wanted(1, 4, explicit=named(1)),
            ["leave the choice to homenode, not nodes: node 0"],
        ),
        (
            View(host(8, 8)),
            wanted(1, 12, node_count=1),
            ["allow another number of nodes than 1: nodes 0-1"],
        ),
        (
            View(host(8, 1)),
            wanted(1, 4, hard=(CpuMap(range(4, 8)),)),
            ["allow more than node 1 in cpus=: node 0"],
        ),
        (View(host(8, 1)), wanted(1, 4, excluded=NodeMap([0])), ["allow node 0 as well: node 0"]),
        (
            View(host(8, 1), (guest_on("g" * 50, {0: 1}),)),
            wanted(1, 4, apart_from=("g" * 50,)),
            [f"let it share nodes with {'g' * 40}: node 0"],
        ),
        (
            View(host(8, 1)),
            wanted(1, 4, devices=(NearDevice("a", 1, required=True),), node_count=1),
            [
                "allow another number of nodes than 1: nodes 0-1",
                "only prefer to be near its devices: node 0",
            ],
        ),
        (View(host(8, 1)), wanted(1, 4, page_kib=2048), ["do without pages of 2 MiB: node 0"]),
        (View(host(8, 1)), wanted(1, 4, tier=Tier("hbm", GIB)), ["do without hbm memory: node 0"]),
        (
            View(host(8, threads=2)),
            wanted(3, 4, whole_cores=True),
            ["do without whole cores: node 0"],
        ),
        (
            View(host(8), (Guest("g", (Vcpu(0, CpuMap([0]), CpuMap()),), id=3),)),
            wanted(4, 4, exclusive=True),
            ["do without exclusive cpus: node 0"],
        ),
        (
            View(
                host(
                    8, 1, pools=(Cpupool("A", CpuMap(range(4, 8))), Cpupool("B", CpuMap(range(4))))
                )
            ),
            wanted(1, 4),
            ["create it in cpupool B: node 0"],
        ),
        (View(host(1, 1)), wanted(1, 4, node_count=1, excluded=NodeMap([0])), []),
    ],
)
def test_the_wish_that_keeps_a_guest_out_is_the_one_that_is_named(view, request_, said):
    assert remedies(view, request_, "nodes", "options") == said


def test_options_that_do_not_help_are_not_named():
    request = wanted(
        1, 4, whole_cores=True, exclusive=True, excluded=NodeMap([2]), apart_from=("nobody",),
        hard=(CpuMap(range(8)),), devices=(NearDevice("a", 0),),
    )  # fmt: skip
    assert remedies(View(host(1, 1, 1)), request, "nodes", "options") == []
    assert remedies(View(host(1)), wanted(1, 4, page_kib=64)) == ["free 3072 MiB on node 0: node 0"]


def test_guests_to_stop_are_named_with_their_memory_and_cut_short():
    view = View(host(1, 1), (guest_on("n" * 50, {1: 5}), guest_on("dom0", {0: 9}, id=0)))
    assert remedies(view, wanted(1, 6), "guest") == [
        f"stop or move {'n' * 40} (5120 MiB on node 1): node 1"
    ]
    several = View(host(0, 0), (guest_on("a", {0: 2}), guest_on("b", {0: 1, 1: 2})))
    assert remedies(several, wanted(1, 5), "guest") == [
        "stop or move b (3072 MiB on nodes 0-1), a (2048 MiB on node 0): nodes 0-1"
    ]
    vcpus = (Vcpu(0, CpuMap(range(4)), CpuMap()), Vcpu(1, CpuMap(), CpuMap()))
    pinned = Guest("p" * 50, vcpus, id=3, exclusive=True)
    assert remedies(View(host(8), (pinned,)), wanted(4, 1), "guest") == [
        f"stop or move {'p' * 40} (its memory is unknown): node 0"
    ]
    assert remedies(View(host(8), (guest_on("dom0", {0: 9}, id=0),)), wanted(4, 9), "guest") == []


def test_of_guests_that_make_room_together_none_is_named_that_is_not_needed():
    running = (guest_on("big", {0: 3}), guest_on("a", {1: 2}), guest_on("b", {1: 2}))
    view = View(host(0, 0), running)
    assert remedies(view, wanted(1, 4, node_count=1), "guest") == [
        "stop or move b (2048 MiB on node 1), a (2048 MiB on node 1): node 1"
    ]


def test_cpus_that_others_have_for_themselves_make_room_together_with_memory():
    own = (Vcpu(0, CpuMap(range(4)), CpuMap()),)
    alone = guest_on("alone", {0: 2}, vcpus=own, exclusive=True)
    view = View(host(0), (alone, guest_on("other", {0: 3})))
    assert remedies(view, wanted(4, 5), "guest") == [
        "stop or move other (3072 MiB on node 0), alone (2048 MiB on node 0): node 0"
    ]


def test_a_guest_of_which_one_vcpu_is_pinned_is_in_the_way_of_exclusive_cpus():
    pinned = Guest("g", (Vcpu(0, CpuMap([0]), CpuMap()), Vcpu(1, CpuMap(), CpuMap())), id=3)
    assert remedies(View(host(8), (pinned,)), wanted(4, 1, exclusive=True), "guest") == [
        "stop or move g (its memory is unknown): node 0"
    ]


def test_devices_that_are_to_be_near_may_be_only_preferred_beside_others_that_are():
    devices = (NearDevice("a", 1, required=True), NearDevice("b", 0))
    assert remedies(View(host(8, 1)), wanted(1, 4, devices=devices), "options") == [
        "only prefer to be near its devices: node 0"
    ]


def test_all_guests_that_it_is_kept_apart_from_are_named():
    view = View(host(8, 1), (guest_on("a", {0: 1}), guest_on("b", {0: 1})))
    assert remedies(view, wanted(1, 4, apart_from=("a", "b")), "nodes") == [
        "let it share nodes with a, b: node 0"
    ]


def test_vcpus_and_memory_to_do_without_are_named_alone_and_together():
    view = View(host(8, 8))
    assert remedies(view, wanted(9, 4)) == ["drop 1 of 9 vcpus: nodes 0-1"]
    assert remedies(view, wanted(1, 17), "shrink", "vcpus") == [
        "give the guest 1024 MiB less: nodes 0-1"
    ]
    assert remedies(view, wanted(9, 17)) == ["drop 1 vcpus and 1024 MiB of memory: nodes 0-1"]
    kinds = {one.kind for one in remedies_for(view, wanted(9, 17), BALANCED)}
    assert kinds == {"shrink"}
    assert [one.kind for one in remedies_for(view, wanted(9, 4), BALANCED)] == ["vcpus"]
    half = wanted(1, 32)
    assert remedies(View(host(8, 8)), half, "shrink") == [], "not half of itself"


def test_memory_to_free_is_on_the_first_node_where_that_helps():
    view = View(host(2, 3))
    assert remedies(view, wanted(1, 4, node_count=1), "memory") == [
        "free 1024 MiB on node 1: node 1"
    ]
    pools = tuple(
        Node(at, present_kib=99 * GIB, free_kib=GIB, pages=(PagePool(2048, 9, free),))
        for at, free in enumerate((1, 2))
    )
    huge = GuestRequest("new", 1, 4 * 2048, page_kib=2048)
    assert remedies(View(host(1, 1).replace(nodes=pools)), huge, "memory") == [
        "make 1 more pages of 2 MiB on node 0: nodes 0-1"
    ]


def test_memory_and_guests_are_told_where_virtual_nodes_or_named_nodes_want_them():
    view = View(host(1, 8), (guest_on("a", {0: 4}),))
    request = virtual(
        (1, 4), (1, 4), devices=(NearDevice("d", 1, required=True), NearDevice("e", 0))
    )
    assert remedies(view, request, "guest") == ["stop or move a (4096 MiB on node 0): nodes 0-1"]
    assert remedies(view, request, "memory") == ["free 3072 MiB on node 0: nodes 0-1"]
    bare = request._replace(devices=())
    assert remedies(view, bare, "guest", "memory") == [
        "stop or move a (4096 MiB on node 0): nodes 0-1",
        "free 3072 MiB on node 0: nodes 0-1",
    ]
    named_one = wanted(1, 4, explicit=named(1))
    assert remedies(View(host(8, 3)), named_one, "memory", "shrink") == [
        "free 1024 MiB on node 1: node 1",
        "give the guest 1024 MiB less: node 1",
    ]
    assert remedies(View(host(8, 3), (guest_on("b", {1: 2}),)), named_one, "guest") == [
        "stop or move b (2048 MiB on node 1): node 1"
    ]


def test_what_is_to_be_given_up_is_told_to_the_mib_and_leaves_a_tier_alone():
    little = GuestRequest("new", 1, 8 * GIB + 1024, guest_memory_kib=8 * GIB + 1024)
    assert remedies(View(host(8)), little, "shrink") == ["give the guest 1 MiB less: node 0"]
    tiered = wanted(9, 10, tier=Tier("cxl", 4 * GIB))
    assert remedies(View(host(8, far=[("cxl", 4)])), tiered, "vcpus") == [
        "drop 5 of 9 vcpus: nodes 0-1"
    ]


# -- values and orders as they are written --


@pytest.mark.parametrize(
    ("term", "value", "spoken"),
    [
        ("nodes", 2, "2"),
        ("-nodes", -2, "2"),
        ("level", 2, "socket"),
        ("-level", -3, "machine"),
        ("level~2", 1, "2"),
        ("usable", 3 * GIB, "3072 MiB"),
        ("-usable", -3 * GIB, "3072 MiB"),
        ("usable~4GiB", 2, "8192 MiB"),
        ("-usable~4GiB", -2, "8192 MiB"),
        ("vcpus_per_core~1/8", 12, "1"),
        ("vcpus~3/2", 3, "4"),
        ("vcpus_per_core", Ratio(5, 2), "2.5"),
        ("-vcpus_per_core", Ratio(-5, 2), "2.5"),
    ],
)
def test_a_compared_value_is_told_as_the_fact_itself(term, value, spoken):
    assert parse_order(term)[0].spoken(value) == spoken


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("nodes~x", "not a step: 'nodes~x': not a number: 'x'"),
        ("nodes~x", "; write a step as 8, 1/8 or 4GiB"),
        ("nodes~1234567890123456789", "not a number"),
        ("nodes~1/x", "not a number: 'x'"),
        ("nodes~-1", "not a number: '-1'"),
        ("nodes~\N{SUPERSCRIPT TWO}", "not a number"),
        ("nodes~0", "a step is larger than nothing"),
        ("level,-level", "names level again"),
    ],
)
def test_a_step_that_is_none_is_refused_with_its_place(text, said):
    with pytest.raises(ParseError, match=said):
        parse_order(text)


def test_a_fact_may_come_again_after_a_step_and_blanks_are_nothing():
    assert [str(term) for term in parse_order("usable~4GiB, -usable")] == ["usable~4GiB", "-usable"]
    assert parse_order("nodes~123456789012345678")[0].step == (123456789012345678, 1)
    assert parse_order("usable~4GiB")[0].step == (4 * GIB, 1)


def test_an_order_is_told_as_it_is_written():
    assert policy("nodes,-usable~4GiB").order == "nodes,-usable~4GiB"
    assert policy("spread").order == "nodes,-usable"


def test_a_policy_that_there_is_not_is_refused_with_those_that_there_are():
    said = "no policy 'fastest'.*there are balanced, first-fit, "
    with pytest.raises(HomenodeError, match=said):
        policy("fastest")


def test_aliases_and_capitals_of_the_series_are_understood():
    for alias, name in (("greedy", "first-fit"), ("packed", "best-fit"), ("spread", "worst-fit")):
        assert policy(alias).name == name
    assert policy("xl").admission == "libxl"
    assert policy("balanced").admission == policy("nodes").admission == "usable"


def test_devices_that_a_guest_has_no_use_for_are_scarce_to_others():
    devices = (Device("0:0", 0, "network"), Device("1:0", 1, "chipset"), Device("2:0", 1, None))
    view = View(host(8, 8, devices=devices))
    own = wanted(1, 1, devices=(NearDevice("2:0", 1),))
    assert place(view, own, policy("device_scarcity")).nodes == NodeMap([1])
    assert dict(place(view, wanted(1, 1), policy("device_scarcity")).facts)["device_scarcity"] == 1
