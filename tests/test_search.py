"""The search gives the answer of exhaustive enumeration, for every policy."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import oracle
from homenode.bitmap import CpuMap, NodeMap
from homenode.guest import Guest, GuestRequest, MemoryByNode, NearDevice, Tier, Vcpu
from homenode.host import Cpu, Cpupool, Device, Host, Node, PagePool, Reservation
from homenode.placement.facts import FACTS
from homenode.placement.policies import POLICIES, Policy, policy
from homenode.placement.problem import prepare
from homenode.placement.search import Search
from homenode.placement.view import View


def distances(draw, count):
    """Draw a table: a tree of levels (with many ties), or anything, asymmetric and unknown too."""
    if draw(st.booleans()):
        near, far = draw(st.integers(11, 14)), draw(st.integers(15, 40))
        group = draw(st.integers(1, 4))
        return [
            [10 if a == b else near if a // group == b // group else far for b in range(count)]
            for a in range(count)
        ]
    value = st.one_of(st.integers(10, 30), st.none())
    return [[10 if a == b else draw(value) for b in range(count)] for a in range(count)]


@st.composite
def views(draw, most_nodes=6):
    count = draw(st.integers(1, most_nodes))
    ids = sorted(draw(st.sets(st.integers(0, 20), min_size=count, max_size=count)))
    even = draw(st.booleans())
    unit = draw(st.sampled_from([1, 1 << 20]))
    cpus, nodes = [], []
    for at, node in enumerate(ids):
        own = 4 if even else draw(st.integers(0, 5))
        for n in range(own):
            cpus.append(
                Cpu(
                    len(cpus), node, core=n // 2, socket=at // 3, die=at // 2 % 2,
                    llc=draw(st.sampled_from([at, 99])) if not even else at // 2,
                    online=even or draw(st.integers(0, 9)) > 0,
                )
            )  # fmt: skip
        free = draw(st.integers(0, 12)) * unit
        nodes.append(
            Node(node, present_kib=16 * unit, free_kib=draw(st.sampled_from([free, free, None])),
                 reserved=(Reservation(unit, "kept"),) if draw(st.booleans()) else (),
                 kind=draw(st.sampled_from(["dram", "cxl", "hbm", "gpu", None])),
                 pages=draw(pools()))
        )  # fmt: skip
    devices = [
        Device(f"{node}:{at}", draw(st.sampled_from([node, None])),
               draw(st.sampled_from(["network", "chipset", None])))
        for node in ids
        for at in range(draw(st.integers(0, 2)))
    ]  # fmt: skip
    host = Host(cpus=cpus, nodes=nodes, distances=distances(draw, count), devices=devices)
    if host.cpu_map and draw(st.integers(0, 3)) == 0:
        some = CpuMap(draw(st.sets(st.sampled_from(list(host.cpu_map)), min_size=1)))
        host = host.replace(pools=(Cpupool("Pool-0", some),))
    guests = tuple(draw(guests_on(host, ids)) for _ in range(draw(st.integers(0, 4))))
    claimed = draw(st.dictionaries(st.sampled_from(ids), st.integers(0, 4).map(lambda n: n * unit)))
    huge = draw(
        st.dictionaries(st.tuples(st.sampled_from(ids), st.just(2048)), st.integers(0, 9 * 2048))
    )
    return View(host, guests, claimed, outstanding_huge_kib=huge)


def pools():
    free = st.integers(0, 12)
    return st.just(()) | free.map(lambda count: (PagePool(2048, 16, count),))


@st.composite
def guests_on(draw, host, ids):
    everything = host.cpu_map
    maps = st.one_of(
        st.just(everything),
        st.sets(st.sampled_from(ids), min_size=1).map(lambda n: host.cpus_of(NodeMap(n))),
        st.sets(st.sampled_from(sorted(everything) or [0])).map(CpuMap),
    )
    vcpus = tuple(Vcpu(n, draw(maps), draw(maps)) for n in range(draw(st.integers(0, 3))))
    some = st.sets(st.sampled_from(ids), min_size=1)
    return Guest(
        name=draw(st.sampled_from(["g", "h"])),
        vcpus=vcpus,
        id=draw(st.integers(0, 2)),
        memory_by_node=draw(
            st.one_of(st.none(), some.map(lambda n: MemoryByNode(dict.fromkeys(n, 5), "drawn")))
        ),
        node_affinity=draw(st.one_of(st.none(), some.map(NodeMap))),
        exclusive=draw(st.integers(0, 5)) == 0,
    )


@st.composite
def requests_on(draw, view):
    host = view.host
    unit = host.nodes[0].present_kib // 16
    hard = ()
    if host.cpu_map and draw(st.integers(0, 4)) == 0:
        hard = (CpuMap(draw(st.sets(st.sampled_from(list(host.cpu_map)), min_size=1))),)
    huge = draw(st.integers(0, 4)) == 0
    memory_kib = draw(st.integers(0, 24)) * (2048 if huge else unit)
    wanted_there = st.builds(
        Tier, st.sampled_from(["cxl", "hbm", "gpu", "any"]), st.just(memory_kib // 3)
    )
    rarely = draw(st.integers(0, 3)) == 0
    return GuestRequest(
        name="new",
        vcpus=draw(st.integers(1, 10)),
        memory_kib=memory_kib,
        page_kib=2048 if huge else 4,
        excluded=NodeMap(draw(st.sets(st.sampled_from(list(host.node_map)))))
        if rarely
        else NodeMap(),
        apart_from=("g",) if draw(st.integers(0, 4)) == 0 else (),
        spill=draw(st.integers(0, 2)) == 0,
        tier=draw(st.one_of(st.none(), st.none(), wanted_there)),
        hard=hard,
        node_count=draw(st.one_of(st.none(), st.none(), st.integers(1, 4))),
        whole_cores=draw(st.integers(0, 4)) == 0,
        exclusive=draw(st.integers(0, 4)) == 0,
        devices=tuple(
            NearDevice(f"{node}:0", node, required=draw(st.integers(0, 3)) == 0)
            for node in draw(st.lists(st.sampled_from(list(host.node_map)), max_size=2))
        ),
    )


@st.composite
def wants_beyond_cpus(draw):
    """A small host with nodes without cpus, and a guest that is to have memory there."""
    near, far = draw(st.integers(1, 3)), draw(st.integers(1, 3))
    count = near + far
    free = st.integers(0, 6)
    nodes = [Node(at, present_kib=99, free_kib=draw(free)) for at in range(near)]
    kinds = st.sampled_from(["cxl", "cxl", "dram", None, "hbm", "gpu"])
    nodes += [
        Node(at, draw(kinds), present_kib=99, free_kib=draw(free)) for at in range(near, count)
    ]
    order = draw(st.permutations(range(count)))
    nodes = sorted(node._replace(id=order[node.id]) for node in nodes)
    cpus = [Cpu(2 * at + n, order[at]) for at in range(near) for n in range(2)]
    host = Host(cpus=cpus, nodes=nodes, distances=distances(draw, count))
    tier = st.builds(Tier, st.sampled_from(["cxl", "any", "hbm", "dram"]), st.integers(0, 6))
    request = GuestRequest(
        "new",
        draw(st.integers(1, 2 * near)),
        draw(st.integers(1, 3 * count)),
        spill=draw(st.sampled_from([True, True, False])),
        tier=draw(st.none() | tier),
        node_count=draw(st.sampled_from([None, None, 1, 2])),
        excluded=draw(st.sampled_from([NodeMap(), NodeMap(), NodeMap([order[-1]])])),
        devices=tuple(
            NearDevice(f"{node}:0", node, required=draw(st.booleans()))
            for node in draw(st.lists(st.sampled_from(range(count)), max_size=1))
        ),
    )
    return View(host), request


@st.composite
def orders(draw):
    names = draw(st.lists(st.sampled_from(list(FACTS)), min_size=1, max_size=5, unique=True))
    terms = []
    for name in names:
        step = ""
        if FACTS[name].unit == "KiB":
            step = draw(st.sampled_from(["", "", "~4GiB", "~3KiB"]))
        elif draw(st.integers(0, 3)) == 0:
            step = draw(st.sampled_from(["~2", "~1/8", "~3/2"]))
        terms.append(draw(st.sampled_from(["", "", "-"])) + name + step)
    return ",".join(terms)


def answer(view: View, request: GuestRequest, wanted: Policy):
    problem = prepare(view, request, as_libxl=wanted.admission == "libxl")
    found = Search(problem, wanted).find()
    assert found.proved
    return None if found.chosen is None else tuple(problem.nodes(found.chosen))


@pytest.mark.parametrize("name", sorted(POLICIES))
@settings(deadline=None, max_examples=60)
@given(data=st.data())
def test_every_named_policy_gives_the_answer_of_enumeration(name, data):
    view = data.draw(views())
    request = data.draw(requests_on(view))
    assert answer(view, request, policy(name)) == oracle.best(view, request, policy(name))


@settings(deadline=None, max_examples=200)
@given(data=st.data())
def test_composed_policies_give_the_answer_of_enumeration(data):
    view = data.draw(views())
    request = data.draw(requests_on(view))
    composed = policy(data.draw(orders()))
    assert answer(view, request, composed) == oracle.best(view, request, composed)


@settings(deadline=None, max_examples=15)
@given(data=st.data())
def test_ten_nodes_give_the_answer_of_enumeration(data):
    view = data.draw(views(most_nodes=10))
    request = data.draw(requests_on(view))
    wanted = policy(data.draw(st.one_of(st.sampled_from(sorted(POLICIES)), orders())))
    assert answer(view, request, wanted) == oracle.best(view, request, wanted)
