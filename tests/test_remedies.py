"""What would make a guest fit: all of that, and of each kind the least, as trying it all gives.

Hosts are of a few MiB, so that every amount of memory can be tried.
"""

from itertools import combinations

from hypothesis import assume, given, settings
from hypothesis import strategies as st

from homenode.bitmap import CpuMap, NodeMap
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
from homenode.host import Cpu, Cpupool, Host, Node, PagePool, Reservation
from homenode.placement.deciding import place
from homenode.placement.policies import policy
from homenode.placement.remedies import remedies_for
from homenode.placement.view import View

MIB = 1 << 10
HUGE_KIB = 2 * MIB
CPUS = 3
"""Of each node."""


@st.composite
def guests(draw, at, count):
    """A guest on some nodes, whose cpus may be its own, and which may grow."""
    nodes = sorted(draw(st.sets(st.integers(0, count - 1), min_size=1, max_size=2)))
    cpus = CpuMap(cpu for node in nodes for cpu in range(node * CPUS, (node + 1) * CPUS))
    page_kib = draw(st.sampled_from([4, 4, 4, 64, HUGE_KIB]))
    unit_kib = max(page_kib, MIB)
    memory = MemoryByNode({node: draw(st.integers(0, 4)) * unit_kib for node in nodes}, "made up")
    held = st.sampled_from([CpuMap(), CpuMap(), cpus])
    return Guest(
        f"g{at}",
        (Vcpu(0, draw(held), CpuMap()), Vcpu(1, draw(held), CpuMap())),
        id=at,
        memory_by_node=memory if draw(st.integers(0, 5)) else None,
        page_kib=page_kib,
        max_memory_kib=draw(st.sampled_from([None, None, 8 * MIB])),
        node_affinity=NodeMap(nodes),
        exclusive=draw(st.integers(0, 9)) == 0,
    )


@st.composite
def nodes(draw, at, kind=None):
    """A node that is nearly full, or of which little is known."""
    free_kib = draw(st.sampled_from([0, 1, 2, 3, 5, 8])) * MIB
    taken_kib = draw(st.sampled_from([0, 2, 24, 24])) * MIB
    known = draw(st.integers(0, 7))
    return Node(
        at,
        kind,
        present_kib=None if known == 0 else free_kib + taken_kib,
        free_kib=None if known == 1 else free_kib,
        reserved=draw(st.sampled_from([(), (), (Reservation(MIB, "low"),)])),
        committed_kib=draw(st.sampled_from([None, None, 3 * MIB])),
        touched_kib=draw(st.sampled_from([None, 2 * MIB])),
        pages=(PagePool(HUGE_KIB, 9, draw(st.integers(0, 2))),),
    )


@st.composite
def views(draw):
    """A small host without much room, maybe with a node that has memory alone."""
    count = draw(st.integers(1, 3))
    alone = draw(st.integers(0, 3)) == 0
    running = [draw(guests(at, count + alone)) for at in range(1, 1 + draw(st.integers(0, 3)))]
    control = Guest("dom0", memory_by_node=MemoryByNode({0: 9 * MIB}, "made up"), id=0)
    listed = [draw(nodes(at)) for at in range(count)]
    listed += [draw(nodes(count, "cxl"))] if alone else []
    pools = (Cpupool("A", CpuMap(range(CPUS))), Cpupool("B", CpuMap(range(CPUS, count * CPUS))))
    host = Host(
        cpus=[Cpu(n, n // CPUS, core=n, socket=n // CPUS) for n in range(count * CPUS)],
        nodes=listed,
        distances=[[10 if a is b else 20 for b in listed] for a in listed],
        pools=pools if count > 1 and draw(st.integers(0, 2)) == 0 else (),
    )
    claims = draw(st.sampled_from([{}, {}, {0: MIB}]))
    return View(host, (control, *running), claims)


@st.composite
def requests(draw, view):
    """A guest that asks for this and that, and is often too large."""
    host = view.host
    ids = list(host.nodes_of(host.cpu_map))
    page_kib = draw(st.sampled_from([4, 4, 4, 64, HUGE_KIB]))
    vcpus = draw(st.integers(1, CPUS * len(ids) + 2))
    memory_kib = draw(st.integers(1, 16)) * MIB + draw(st.sampled_from([0, 0, 64, 512]))
    if page_kib == HUGE_KIB:
        memory_kib = draw(st.integers(1, 6)) * HUGE_KIB
    some = NodeMap(draw(st.sets(st.sampled_from(ids), min_size=1)))
    cells = ()
    if draw(st.integers(0, 3)) == 0 and vcpus > 1 and page_kib == 4:
        half = memory_kib // 2
        memory_kib = 2 * half
        parts = CpuMap([0]), CpuMap(range(1, vcpus))
        cells = tuple(VirtualNode(at, part, half) for at, part in enumerate(parts))
    own_kib = memory_kib - draw(st.sampled_from([0, 0, 1])) * MIB
    wish = draw(st.sampled_from(WISHES))
    wishes = {
        "explicit": {"explicit": ExplicitNodes(some, "nodes"), "soft": (host.cpus_of(some),)},
        "count": {"node_count": draw(st.integers(1, 3))},
        "hard": {"hard": (host.cpus_of(some),)},
        "excluded": {"excluded": some},
        "apart": {"apart_from": ("g1", "g2")},
        "devices": {
            "devices": (NearDevice("d", draw(st.sampled_from(ids)), required=True),
                        NearDevice("e", 0)),
        },
        "cores": {"whole_cores": True},
        "exclusive": {"exclusive": True},
        "tier": {"tier": Tier("cxl", own_kib // 2)},
        "split": {"split": not cells},
        "spill": {"spill": True},
    }  # fmt: skip
    return GuestRequest(
        "new",
        vcpus,
        memory_kib,
        guest_memory_kib=own_kib,
        page_kib=page_kib,
        virtual_nodes=cells,
        pool=draw(st.sampled_from(["A", "B"])) if host.pools else None,
        **{key: value for one in wish for key, value in wishes[one].items()},
    )


WISHES = (
    (), ("explicit",), ("count",), ("count", "hard"), ("hard",), ("excluded",),
    ("excluded", "apart"), ("apart",), ("devices",), ("exclusive",), ("cores",), ("tier",),
    ("split",), ("spill",),
)  # fmt: skip


def with_memory(request, kib):
    """The request with so much memory: its virtual nodes have less alike, its tier no more."""
    cells = tuple(
        cell._replace(memory_kib=cell.memory_kib * kib // request.memory_kib)
        for cell in request.virtual_nodes
    )
    own_kib = max(0, request.guest_memory_kib - request.memory_kib + kib)
    tier = request.tier
    if tier is not None:
        tier = Tier(tier.kind, min(tier.kib, own_kib))
    return request._replace(
        memory_kib=kib, guest_memory_kib=own_kib, virtual_nodes=cells, tier=tier
    )


class Tried:
    """What helps one guest, by trying everything."""

    def __init__(self, view, request, order):
        self.view, self.request, self.order = view, request, order

    def __repr__(self):
        return f"{self.order.name}: {self.request} on {self.view}"

    def nodes(self, request=None, view=None):
        """The nodes that the guest would get; None where it does not fit."""
        decision = place(view or self.view, request or self.request, self.order)
        memory = NodeMap(share.node for share in decision.memory)
        return decision.nodes | memory if decision.fits else None

    def wishes(self):
        """What comes of leaving one wish out, by how that is told."""
        request = self.request
        pools = {pool.name for pool in self.view.host.pools} - {request.pool}
        left_out = {
            "leave the choice": request._replace(explicit=None, soft=()),
            "allow another number": request._replace(node_count=None),
            "allow more than": request._replace(hard=()),
            "allow node": request._replace(excluded=NodeMap()),
            "let it share": request._replace(apart_from=()),
            "only prefer": request._replace(
                devices=tuple(one._replace(required=False) for one in request.devices)
            ),
            "do without pages": request._replace(page_kib=4),
            "do without cxl": request._replace(tier=None),
            "do without whole": request._replace(whole_cores=False),
            "do without exclusive": request._replace(exclusive=False),
            **{f"create it in cpupool {name}": request._replace(pool=name) for name in pools},
        }
        tried = {text: self.nodes(changed) for text, changed in left_out.items()}
        return {text: nodes for text, nodes in tried.items() if nodes is not None}

    def vcpus(self):
        """The most vcpus that fit, fewer than it has; None if they are its virtual nodes'."""
        if self.request.virtual_nodes:
            return None
        fitting = (
            some
            for some in range(self.request.vcpus - 1, 0, -1)
            if self.nodes(self.request._replace(vcpus=some)) is not None
        )
        return next(fitting, None)

    def kib(self, request=None):
        """The most memory that fits, in whole MiB less than it wants."""
        request = request or self.request
        fitting = (
            mib * MIB
            for mib in range((request.memory_kib - 1) // MIB, 0, -1)
            if self.nodes(with_memory(request, mib * MIB)) is not None
        )
        return next(fitting, None)

    def freed(self, nodes):
        """The first of `nodes` where free memory helps, and the least KiB that do."""
        unit_kib = max(MIB, self.request.page_kib)
        for node in nodes:
            there = self.view.host.nodes_by_id[node]
            if self.request.page_kib == HUGE_KIB:
                most_kib = there.usable_kib or 0
            elif there.present_kib is None or there.free_kib is None:
                most_kib = 0
            else:
                most_kib = there.present_kib - there.free_kib
            for kib in range(unit_kib, most_kib + 1, unit_kib):
                view = self.view.with_free(node, kib, self.request.page_kib)
                if kib < self.request.memory_kib + unit_kib and self.nodes(view=view) is not None:
                    return node, kib
        return None

    def movable(self):
        """The guests that could make room."""
        return [
            guest
            for guest in self.view.guests
            if guest.id != 0
            and (guest.exclusive or memory_of(guest) or any(vcpu.hard for vcpu in guest.vcpus))
        ]

    def suffices(self, gone):
        """Whether the guest fits when those are gone."""
        return self.nodes(view=self.view.without(gone)) is not None


def memory_of(guest):
    return sum(guest.memory_by_node.kib.values()) if guest.memory_by_node else 0


@st.composite
def refusals(draw):
    """A guest that does not fit, with the host and a policy."""
    view = draw(views())
    request = draw(requests(view))
    order = policy(draw(st.sampled_from(["balanced", "balanced", "first-fit", "xl"])))
    tried = Tried(view, request, order)
    assume(tried.nodes() is None)
    return tried


def said(tried, *kinds):
    told = remedies_for(tried.view, tried.request, tried.order)
    return [remedy for remedy in told if remedy.kind in kinds]


def nodes_told(remedy):
    return remedy.text.rsplit(": ", 1)[1]


@settings(deadline=None, max_examples=120)
@given(refusals())
def test_each_wish_that_keeps_a_guest_out_by_itself_is_named_and_no_other(tried):
    expected = tried.wishes()
    told = {remedy.text: remedy.nodes for remedy in said(tried, "nodes", "options")}
    assert len(told) == len(expected)
    for text, nodes in told.items():
        (beginning,) = [one for one in expected if text.startswith(one)]
        assert nodes == expected[beginning]
        assert text.endswith(f": {nodes.named}")


@settings(deadline=None, max_examples=120)
@given(refusals())
def test_the_smallest_guest_that_makes_room_is_named_or_some_that_are_all_needed(tried):
    movable = tried.movable()
    named = said(tried, "guest")
    alone = [memory_of(guest) for guest in movable if tried.suffices([guest])]
    # More room is not always better: what is promised to others on one node may be in the way.
    if not alone and not tried.suffices(movable):
        assert not named
        return
    (remedy,) = named
    gone = [guest for guest in movable if f" {guest.name} (" in remedy.text.split(":")[0]]
    assert remedy.nodes == tried.nodes(view=tried.view.without(gone))
    if alone:
        assert [memory_of(guest) for guest in gone] == [min(alone)]
    for fewer in combinations(gone, len(gone) - 1):
        assert not tried.suffices(fewer)


@settings(deadline=None, max_examples=120)
@given(refusals())
def test_as_few_vcpus_are_dropped_as_can_be(tried):
    most, wanted = tried.vcpus(), tried.request.vcpus
    expected = []
    if most is not None:
        nodes = tried.nodes(tried.request._replace(vcpus=most))
        expected = [f"drop {wanted - most} of {wanted} vcpus: {nodes.named}"]
    assert [remedy.text for remedy in said(tried, "vcpus")] == expected


def amount(kib):
    return f"{kib} KiB" if kib < MIB else f"{kib / MIB:.0f} MiB"


@settings(deadline=None, max_examples=120)
@given(refusals())
def test_as_little_memory_is_freed_or_done_without_as_can_be(tried):
    request, kib = tried.request, tried.kib()
    freed, less = said(tried, "memory"), said(tried, "shrink")
    if kib is None:
        assert not freed
        return
    nodes = tried.nodes(with_memory(request, kib))
    short = request.memory_kib - kib
    if short < request.guest_memory_kib // 2:
        assert [one.text for one in less] == [f"give the guest {amount(short)} less: {nodes.named}"]
    helps = tried.freed(nodes)
    if helps is None:
        assert not freed
        return
    node, least = helps
    found = tried.nodes(view=tried.view.with_free(node, least, request.page_kib))
    how = f"free {amount(least)}"
    if request.page_kib == HUGE_KIB:
        how = f"make {least // HUGE_KIB} more pages of 2 MiB"
    assert [one.text for one in freed] == [f"{how} on node {node}: {found.named}"]


@settings(deadline=None, max_examples=120)
@given(refusals())
def test_vcpus_and_memory_are_dropped_together_where_nothing_else_helps(tried):
    told = list(remedies_for(tried.view, tried.request, tried.order))
    together = [
        one.text for one in told if one.text.startswith("drop") and " of memory" in one.text
    ]
    request = tried.request
    if len(told) > len(together):
        assert not together
        return
    bare = with_memory(request, 0)
    fitting = [
        some
        for some in range(1, request.vcpus)
        if tried.nodes(bare._replace(vcpus=some)) is not None
    ]
    if not fitting or tried.nodes(bare) is not None:
        assert not together
        return
    narrow = request._replace(vcpus=fitting[-1])
    kib = tried.kib(narrow)
    expected = []
    if kib is not None:
        nodes = tried.nodes(with_memory(narrow, kib))
        dropped, short = request.vcpus - narrow.vcpus, amount(request.memory_kib - kib)
        expected = [f"drop {dropped} vcpus and {short} of memory: {nodes.named}"]
    assert together == expected


# -- what sums of memory got wrong --


def small(*nodes, cpus=CPUS):
    listed = [Cpu(n, n // cpus, core=n, socket=n // cpus) for n in range(len(nodes) * cpus)]
    flat = [[10 if a is b else 20 for b in nodes] for a in nodes]
    return Host(cpus=listed, nodes=nodes, distances=flat)


def guest_on(name, mib_by_node, **more):
    memory = MemoryByNode({node: mib * MIB for node, mib in mib_by_node.items()}, "made up")
    return Guest(name, id=5, memory_by_node=memory, **more)


def texts(view, request, *kinds):
    return [one.text for one in said(Tried(view, request, policy("balanced")), *kinds)]


def test_a_guest_that_is_to_be_split_may_be_smaller_and_go_on_one_node():
    view = View(small(Node(0, present_kib=8 * MIB, free_kib=5 * MIB)))
    request = GuestRequest("new", 1, 6 * MIB, guest_memory_kib=6 * MIB, split=True)
    assert texts(view, request, "memory", "shrink") == [
        "free 1 MiB on node 0: node 0",
        "give the guest 1 MiB less: node 0",
    ]


def test_what_a_guest_leaves_is_no_room_where_the_host_wants_it_for_itself():
    low = (Reservation(MIB, "low"),)
    full = Node(0, present_kib=9 * MIB, free_kib=0, reserved=low)
    view = View(
        small(full, Node(1, present_kib=9 * MIB, free_kib=0)),
        (guest_on("a", {0: 4}), guest_on("b", {0: 1, 1: 1})),
    )
    request = GuestRequest("new", 1, 4 * MIB, guest_memory_kib=4 * MIB)
    # That of a alone is 3 MiB, for node 0 is a MiB short already.
    assert texts(view, request, "guest") == [
        "stop or move a (4 MiB on node 0), b (2 MiB on nodes 0-1): node 0"
    ]


def test_what_a_guest_may_still_come_to_have_is_room_when_it_is_gone():
    node = Node(
        0, present_kib=16 * MIB, free_kib=9 * MIB, committed_kib=12 * MIB, touched_kib=5 * MIB
    )
    grows = guest_on("grows", {0: 1}, max_memory_kib=8 * MIB)
    stays = guest_on("stays", {0: 4}, max_memory_kib=4 * MIB)
    view = View(small(node), (grows, stays))
    request = GuestRequest("new", 1, 8 * MIB, guest_memory_kib=8 * MIB)
    assert texts(view, request, "guest") == ["stop or move grows (1 MiB on node 0): node 0"]


def test_memory_of_a_tier_is_no_more_than_all_memory():
    nodes = (Node(0, present_kib=8 * MIB, free_kib=8 * MIB),
             Node(1, "cxl", present_kib=8 * MIB, free_kib=4 * MIB))  # fmt: skip
    listed = [Cpu(n, 0, core=n, socket=0) for n in range(CPUS)]
    view = View(Host(cpus=listed, nodes=nodes, distances=[[10, 20], [20, 10]]))
    request = GuestRequest("new", 1, 6 * MIB, guest_memory_kib=6 * MIB, tier=Tier("cxl", 5 * MIB))
    assert texts(view, request, "shrink") == ["give the guest 2 MiB less: nodes 0-1"]
