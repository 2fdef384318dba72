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
    Vcpu,
    VirtualNode,
)
from homenode.host import Cpu, Cpupool, Host, Node, PagePool
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
    """A guest on some nodes, whose cpus may be its own."""
    nodes = sorted(draw(st.sets(st.integers(0, count - 1), min_size=1, max_size=2)))
    cpus = CpuMap(cpu for node in nodes for cpu in range(node * CPUS, (node + 1) * CPUS))
    page_kib = draw(st.sampled_from([4, 4, 4, HUGE_KIB]))
    memory = {node: draw(st.integers(0, 4)) * page_kib * MIB // 4 for node in nodes}
    if page_kib == HUGE_KIB:
        memory = {node: draw(st.integers(0, 2)) * HUGE_KIB for node in nodes}
    return Guest(
        f"g{at}",
        (Vcpu(0, draw(st.sampled_from([CpuMap(), cpus])), CpuMap()),),
        id=at,
        memory_by_node=draw(st.sampled_from([None, *[MemoryByNode(memory, "made up")] * 5])),
        page_kib=page_kib,
        exclusive=draw(st.integers(0, 9)) == 0,
    )


@st.composite
def views(draw):
    """A small host that is nearly full."""
    count = draw(st.integers(1, 3))
    running = [draw(guests(at, count)) for at in range(1, 1 + draw(st.integers(0, 3)))]
    control = Guest("dom0", memory_by_node=MemoryByNode({0: 9 * MIB}, "made up"), id=0)
    nodes = [
        Node(
            at,
            present_kib=draw(st.sampled_from([None, 24 * MIB, 24 * MIB, 24 * MIB])),
            free_kib=draw(st.sampled_from([None, 0, 1, 2, 3, 5, 8])),
            pages=(PagePool(HUGE_KIB, 9, draw(st.integers(0, 2))),),
        )
        for at in range(count)
    ]
    nodes = [
        node if node.free_kib is None else node._replace(free_kib=node.free_kib * MIB)
        for node in nodes
    ]
    host = Host(
        cpus=[Cpu(n, n // CPUS, core=n, socket=n // CPUS) for n in range(count * CPUS)],
        nodes=nodes,
        distances=[[10 if a == b else 20 for b in range(count)] for a in range(count)],
        pools=draw(st.sampled_from([(), (
            Cpupool("A", CpuMap(range(CPUS))), Cpupool("B", CpuMap(range(CPUS, count * CPUS))),
        )])) if count > 1 else (),
    )  # fmt: skip
    claims = draw(st.sampled_from([{}, {}, {0: MIB}]))
    return View(host, (control, *running), claims)


@st.composite
def requests(draw, view):
    """A guest that asks for this and that, and is often too large."""
    count = len(view.host.nodes)
    cells = ()
    page_kib = draw(st.sampled_from([4, 4, 4, HUGE_KIB]))
    vcpus = draw(st.integers(1, CPUS * count + 2))
    memory_kib = draw(st.integers(1, 16)) * MIB + draw(st.sampled_from([0, 0, 4, 512]))
    if page_kib == HUGE_KIB:
        memory_kib = draw(st.integers(1, 6)) * HUGE_KIB
    wish = draw(st.integers(0, 11))
    if wish == 0 and vcpus > 1:
        half = memory_kib // 2
        cells = (
            VirtualNode(0, CpuMap([0]), half), VirtualNode(1, CpuMap(range(1, vcpus)), half),
        )  # fmt: skip
        memory_kib = 2 * half
    some = NodeMap(draw(st.sets(st.integers(0, count - 1), min_size=1)))
    one = draw(st.integers(0, count - 1))
    return GuestRequest(
        "new",
        vcpus,
        memory_kib,
        guest_memory_kib=memory_kib - draw(st.sampled_from([0, 1])) * MIB,
        page_kib=page_kib,
        virtual_nodes=cells,
        explicit=ExplicitNodes(some, "nodes") if wish == 1 else None,
        node_count=draw(st.integers(1, 3)) if wish in (2, 3) else None,
        hard=(view.host.cpus_of(some),) if wish in (3, 4) else (),
        excluded=some if wish in (5, 6) else NodeMap(),
        apart_from=("g1",) if wish in (6, 7) else (),
        devices=(NearDevice("d", one, required=True), NearDevice("e", 0)) if wish == 8 else (),
        exclusive=wish == 9,
        whole_cores=wish == 10,
        pool=draw(st.sampled_from(["A", "B"])) if view.host.pools else None,
    )


def with_memory(request, kib):
    """The request with so much memory: its virtual nodes have less alike."""
    cells = tuple(
        cell._replace(memory_kib=cell.memory_kib * kib // request.memory_kib)
        for cell in request.virtual_nodes
    )
    own_kib = max(0, request.guest_memory_kib - request.memory_kib + kib)
    return request._replace(memory_kib=kib, guest_memory_kib=own_kib, virtual_nodes=cells)


class Tried:
    """What helps one guest, by trying everything."""

    def __init__(self, view, request, order):
        self.view, self.request, self.order = view, request, order

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
            "leave the choice": request._replace(explicit=None),
            "allow another number": request._replace(node_count=None),
            "allow more than": request._replace(hard=()),
            "allow node": request._replace(excluded=NodeMap()),
            "let it share": request._replace(apart_from=()),
            "only prefer": request._replace(
                devices=tuple(one._replace(required=False) for one in request.devices)
            ),
            "do without pages": request._replace(page_kib=4),
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


@settings(deadline=None, max_examples=150)
@given(refusals())
def test_each_wish_that_keeps_a_guest_out_by_itself_is_named_and_no_other(tried):
    expected = tried.wishes()
    told = {remedy.text: remedy.nodes for remedy in said(tried, "nodes", "options")}
    assert len(told) == len(expected)
    for text, nodes in told.items():
        (beginning,) = [one for one in expected if text.startswith(one)]
        assert nodes == expected[beginning]
        assert text.endswith(f": {nodes.named}")


@settings(deadline=None, max_examples=150)
@given(refusals())
def test_the_smallest_guest_that_makes_room_is_named_or_some_that_are_all_needed(tried):
    movable = tried.movable()
    named = said(tried, "guest")
    alone = [memory_of(guest) for guest in movable if tried.suffices([guest])]
    if not tried.suffices(movable):
        assert not named
        return
    (remedy,) = named
    gone = [guest for guest in movable if f" {guest.name} (" in remedy.text.split(":")[0]]
    assert remedy.nodes == tried.nodes(view=tried.view.without(gone))
    if alone:
        assert [memory_of(guest) for guest in gone] == [min(alone)]
    for fewer in combinations(gone, len(gone) - 1):
        assert not tried.suffices(fewer)


@settings(deadline=None, max_examples=150)
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


@settings(deadline=None, max_examples=150)
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


@settings(deadline=None, max_examples=150)
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
