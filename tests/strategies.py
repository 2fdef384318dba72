"""Random hosts and guests, as odd as real ones, for the property tests of every module."""

from typing import get_args

from hypothesis import strategies as st

from homenode.bitmap import CpuMap, NodeMap
from homenode.guest import Guest, GuestState, MemoryByNode, Vcpu, VirtualNode
from homenode.host import (
    Cpu,
    Cpupool,
    Device,
    DeviceKind,
    Host,
    Node,
    NodeKind,
    PagePool,
    Reservation,
)

GIB = 1 << 20

names = st.text(st.characters(codec="utf-8", categories=("L", "N", "P")), min_size=1, max_size=8)
sizes_kib = st.integers(0, 64).map(lambda gib: gib * GIB) | st.integers(0, 2**40)


def maybe(strategy):
    return st.none() | strategy


@st.composite
def node_numbers(draw, *, most=10):
    """Ascending numbers with holes: what machines with empty sockets have."""
    steps = draw(st.lists(st.sampled_from([1, 1, 1, 2, 7]), min_size=1, max_size=most))
    numbers, at = [], -1
    for step in steps:
        at += step
        numbers.append(at)
    return numbers


@st.composite
def nodes(draw, number):
    present = draw(maybe(sizes_kib))
    return Node(
        number,
        kind=draw(maybe(st.sampled_from(get_args(NodeKind)))),
        present_kib=present,
        free_kib=draw(maybe(st.integers(0, present if present is not None else GIB))),
        reclaimable_kib=draw(maybe(sizes_kib)),
        reserved=tuple(draw(st.lists(st.builds(Reservation, sizes_kib, names), max_size=2))),
        committed_kib=draw(maybe(sizes_kib)),
        pages=tuple(
            PagePool(kib, total, draw(maybe(st.integers(0, total))))
            for kib in draw(st.sets(st.sampled_from([64, 2048, 1 << 20])))
            for total in [draw(st.integers(0, 999))]
        ),
    )


@st.composite
def cpus_of_nodes(draw, numbers, *, sockets, threads, most):
    """Cpus of nodes that may have none, threads numbered adjacent, some of them offline."""
    cpus, known, cores = [], draw(st.booleans()), dict.fromkeys(range(sockets), 0)
    for at, number in enumerate(numbers):
        socket = at * sockets // len(numbers)
        for _ in range(draw(st.integers(0, most))):
            core, cores[socket] = cores[socket], cores[socket] + 1
            llc = core // 2 + 1000 * socket
            where = {"core": core, "socket": socket, "die": core // 4, "llc": llc} if known else {}
            for thread in range(threads):
                online = draw(st.sampled_from([True] * 7 + [False]))
                number_of_cpu = len(cpus) + draw(st.sampled_from([0, 0, 0, 3])) * (not cpus)
                number_of_cpu = max(number_of_cpu, cpus[-1].id + 1 if cpus else 0)
                cpus.append(Cpu(number_of_cpu, number, thread=thread, online=online, **where))
    return cpus


def matrices(size, *, symmetric=False):
    """Square tables as firmware states them: uneven, asymmetric, with unreachable pairs."""
    far = maybe(st.sampled_from([11, 12, 16, 20, 21, 22, 32, 255]))
    cells = st.lists(far, min_size=size * size, max_size=size * size)

    def table(values):
        def cell(row, column):
            if row == column:
                return 10
            if symmetric and row > column:
                row, column = column, row
            return values[row * size + column]

        return tuple(tuple(cell(row, column) for column in range(size)) for row in range(size))

    return cells.map(table)


@st.composite
def tree_distances(draw, size):
    """Distances in levels, as of sockets and boards."""
    near, middle, far = sorted(draw(st.tuples(*[st.integers(11, 60)] * 3)))
    small = draw(st.integers(1, 4))
    large = small * draw(st.integers(1, 4))

    def cell(row, column):
        if row == column:
            return 10
        if row // small == column // small:
            return near
        return middle if row // large == column // large else far

    return tuple(tuple(cell(row, column) for column in range(size)) for row in range(size))


@st.composite
def hosts(draw, *, most_nodes=10, most_cores=4):
    """Hosts with uneven nodes, nodes without cpus or memory, holes, SMT, odd distances."""
    numbers = draw(node_numbers(most=most_nodes))
    sockets = draw(st.integers(1, min(4, len(numbers))))
    threads = draw(st.sampled_from([1, 2, 4]))
    cpus = draw(cpus_of_nodes(numbers, sockets=sockets, threads=threads, most=most_cores))
    size = len(numbers)
    distances = matrices(size) | matrices(size, symmetric=True) | tree_distances(size)
    return Host(
        cpus=cpus,
        nodes=[draw(nodes(number)) for number in numbers],
        distances=draw(maybe(distances)),
        latency_ns=draw(maybe(matrices(size))),
        bandwidth_mb_s=draw(maybe(matrices(size))),
        name=draw(names),
        source=draw(names),
        hypervisor=draw(maybe(names)),
        pools=draw(cpupools(cpus)),
        devices=draw(
            st.lists(
                st.builds(
                    Device,
                    names,
                    maybe(st.sampled_from(numbers)),
                    maybe(st.sampled_from(get_args(DeviceKind))),
                ),
                max_size=2,
            )
        ),
        notes=draw(st.lists(names, max_size=2)),
        taken_at=draw(maybe(st.floats(0, 4e9))),
    )


@st.composite
def cpupools(draw, cpus):
    """No cpupools, or some that share the cpus out."""
    count = draw(st.integers(0, 3))
    scheduler = maybe(st.sampled_from(["credit", "credit2", "null"]))
    return [
        Cpupool(
            f"Pool-{at}",
            CpuMap(cpu.id for cpu in cpus if cpu.id % count == at),
            draw(scheduler),
            draw(maybe(st.sampled_from(["cpu", "core"]))),
        )
        for at in range(count)
    ]


def cpu_maps(host):
    """Sets of cpus of the host, the empty one and all of them among these."""
    ids = [cpu.id for cpu in host.cpus]
    some = st.sets(st.sampled_from(ids)).map(CpuMap) if ids else st.just(CpuMap())
    return st.just(host.cpu_map) | some


def node_maps(host, *, least=0):
    """Sets of nodes of the host."""
    return st.sets(st.sampled_from([node.id for node in host.nodes]), min_size=least).map(NodeMap)


@st.composite
def vcpus(draw, host, number):
    ids = [cpu.id for cpu in host.cpus]
    return Vcpu(
        number,
        hard=draw(cpu_maps(host)),
        soft=draw(cpu_maps(host)),
        cpu=draw(maybe(st.sampled_from(ids))) if ids else None,
        time_ns=draw(maybe(st.integers(0, 2**50))),
        online=draw(st.booleans()),
    )


@st.composite
def guests(draw, host, *, name=names, most_vcpus=4):
    """Guests with masks, memory by node and virtual nodes, on `host`."""
    count = draw(st.integers(0, most_vcpus))
    numbers = [node.id for node in host.nodes]
    by_node = st.builds(
        MemoryByNode,
        st.dictionaries(st.sampled_from(numbers), st.integers(0, 8 * GIB)),
        names,
        maybe(st.floats(0, 4e9)),
    )
    virtual_nodes = st.builds(
        VirtualNode,
        st.integers(0, 7),
        st.just(CpuMap.full(count)),
        sizes_kib,
        st.lists(st.integers(10, 255), max_size=2).map(tuple),
        maybe(st.sampled_from(numbers)),
        maybe(st.sampled_from([4, 2048])),
    )
    return Guest(
        draw(name),
        vcpus=tuple(draw(vcpus(host, number)) for number in range(count)),
        id=draw(maybe(st.integers(0, 9))),
        uuid=draw(maybe(st.uuids().map(str))),
        generation=draw(st.integers(0, 3)),
        type=draw(maybe(st.sampled_from(["pv", "pvh", "hvm"]))),
        state=draw(st.sampled_from(get_args(GuestState))),
        memory_kib=draw(maybe(sizes_kib)),
        max_memory_kib=draw(maybe(sizes_kib)),
        memory_by_node=draw(maybe(by_node)),
        node_affinity=draw(maybe(node_maps(host))),
        pool=draw(maybe(st.sampled_from([pool.name for pool in host.pools])))
        if host.pools
        else None,
        virtual_nodes=tuple(draw(st.lists(virtual_nodes, max_size=2))),
        page_kib=draw(st.sampled_from([4, 2048])),
        exclusive=draw(st.booleans()),
    )


@st.composite
def machines(draw, *, most_nodes=10, most_guests=3):
    """A host and its guests, whose names differ."""
    host = draw(hosts(most_nodes=most_nodes))
    count = draw(st.integers(0, most_guests))
    return host, tuple(draw(guests(host, name=st.just(f"guest{at}"))) for at in range(count))
