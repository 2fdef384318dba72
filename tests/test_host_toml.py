from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from homenode.bitmap import CpuMap, NodeMap
from homenode.errors import ParseError
from homenode.formats.host_toml import parse
from homenode.units import parse_memory_kib

EXAMPLES = sorted((Path(__file__).parent.parent / "examples" / "hosts").glob("*.toml"))
GIB = 1 << 20


def example(name):
    path = next(path for path in EXAMPLES if path.stem == name)
    return parse(path.read_text(), source=path.name)


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_every_example_is_read_and_is_named_as_its_file(path):
    host = parse(path.read_text(), source=str(path))
    assert host.name == path.stem
    assert len(host.cpu_map) == sum(len(cpus) for cpus in host.cpus_by_node.values())


def test_the_epyc_has_the_nodes_cpus_and_distances_that_such_machines_report():
    host = example("epyc-7763-2s-nps4")
    assert len(host.nodes) == 8
    assert len(host.cpu_map) == 256
    assert {len(core) for core in host.cores} == {2}
    assert len(host.cores) == 128
    assert {node.present_kib for node in host.nodes} == {64 * GIB}
    assert host.distances[0] == (10, 12, 12, 12, 32, 32, 32, 32)
    assert all(row[at] == 10 for at, row in enumerate(host.distances))
    caches = {cpu.llc: (cpu.node, cpu.socket) for cpu in host.cpus}
    assert len(caches) == 16
    assert dict(caches.values()) == {n: n // 4 for n in range(8)}


def test_threads_are_numbered_as_xen_does_unless_split_as_linux_does():
    described = 'nodes = 2\ncores = 2\nthreads_per_core = 2\nthreads = "{}"'
    adjacent = parse(described.format("adjacent"), source="test")
    assert adjacent.cores == tuple(map(CpuMap.parse, ["0-1", "2-3", "4-5", "6-7"]))
    assert adjacent.cpus_by_node == {0: CpuMap.parse("0-3"), 1: CpuMap.parse("4-7")}
    split = parse(described.format("split"), source="test")
    assert set(split.cores) == set(map(CpuMap.parse, ["0,4", "1,5", "2,6", "3,7"]))
    assert split.cpus_by_node == {0: CpuMap.parse("0-1,4-5"), 1: CpuMap.parse("2-3,6-7")}


def test_uneven_nodes_holes_and_nodes_without_cpus_or_memory_are_stated():
    host = example("uneven")
    assert host.node_map == NodeMap.parse("0-1,4,9")
    assert host.nodes_by_id[0].free_kib == 20 * GIB
    assert host.nodes_by_id[4].present_kib == host.nodes_by_id[4].free_kib == 0
    assert host.nodes_by_id[9].kind == "cxl"
    assert not host.cpus_by_node[9]
    assert [len(host.cpus_by_node[node]) for node in host.node_map] == [12, 8, 8, 0]


def test_groups_of_nodes_make_a_tree_of_distances():
    host = example("tree-64n")
    assert host.distance(0, 0) == 10
    assert host.distance(4, 7) == 12
    assert host.distance(3, 4) == 20
    assert host.distance(15, 16) == 40
    assert all(
        host.distances[one][other] == host.distances[other][one]
        for one in range(64)
        for other in range(64)
    )


@settings(max_examples=40, deadline=None)
@given(
    counts=st.tuples(*[st.integers(1, 4)] * 5),
    order=st.sampled_from(["adjacent", "split"]),
    mib=st.integers(0, 2**40),
)
def test_counts_are_as_described(counts, order, mib):
    sockets, per_socket, cores, threads, per_llc = counts
    host = parse(
        f"sockets = {sockets}\nnodes = {sockets * per_socket}\ncores = {cores}\n"
        f'threads_per_core = {threads}\nthreads = "{order}"\ncores_per_llc = {per_llc}\n'
        f'cores_per_die = {per_llc}\nmemory = "{mib}MiB"\n'
        "[distances]\nsocket = 12\nmachine = 32",
        source="test",
    )
    assert len(host.nodes) == sockets * per_socket
    assert len(host.cpu_map) == sockets * per_socket * cores * threads
    assert host.cpu_map == CpuMap.full(len(host.cpu_map))
    assert {len(core) for core in host.cores} == {threads}
    assert {node.free_kib for node in host.nodes} == {parse_memory_kib(f"{mib}MiB")}
    for node in host.nodes:
        own = [cpu for cpu in host.cpus if cpu.node == node.id]
        assert len({cpu.socket for cpu in own}) == 1
        assert len({cpu.llc for cpu in own}) == -(-cores // per_llc)
    for cpu in host.cpus:
        for other in host.cpus:
            if cpu.node != other.node:
                near = cpu.socket == other.socket
                assert host.distance(cpu.node, other.node) == (12 if near else 32)
                assert cpu.llc != other.llc
                assert not near or cpu.die != other.die


def test_what_is_not_said_is_unknown():
    host = parse("", source="folder/box.toml")
    assert host.name == "box"
    assert len(host.nodes) == len(host.cpus) == 1
    assert host.nodes[0].present_kib is None
    assert host.nodes[0].free_kib is None
    assert host.cpus[0].llc is None
    assert parse("nodes = 2", source="test").distances == ((10, None), (None, 10))


def test_cpupools_by_cpus_or_by_nodes_and_devices():
    host = parse(
        'nodes = 2\ncores = 4\n[[cpupool]]\nname = "a"\nnodes = "1"\nscheduler = "credit2"\n'
        '[[cpupool]]\nname = "b"\ncpus = "0-1"\n[[device]]\naddress = "0000:41:00.0"\nnode = 1',
        source="test",
    )
    assert host.pool("a").cpus == CpuMap.parse("4-7")
    assert host.pool("b").cpus == CpuMap.parse("0-1")
    assert host.devices[0].node == 1


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("memroy = 8", "memroy: there is no such key; did you mean 'memory'?"),
        ("[[node]]\nid = 0\nmemroy = '1GiB'", "node[0].memroy: there is no such key; did you mean"),
        ("nodes = true", "nodes: an integer is wanted, not True"),
        ("nodes = 0", "nodes: not from 1 to 1024"),
        ("nodes = 1025", "nodes: not from 1 to 1024"),
        ("nodes = '0-2000'", "a host has at most 1024"),
        ("nodes = '3-1'", "nodes: range runs backwards"),
        ("sockets = 2\nnodes = 3", "3 nodes do not spread evenly over 2 sockets"),
        ("nodes = 1024\ncores = 9", "9216 cpus; a host has at most 8192"),
        ("cores = 8192\nthreads_per_core = 8192", "a host has at most 8192"),
        ("memory = 64", "memory: a text is wanted, not 64"),
        ("memory = '64'", "memory: not a size of memory: '64'; write it as"),
        ("memory = '1GiB'\nfree = '2GiB'", "free: node 0 has less memory than is free"),
        ("threads = 'near'", "threads: one of adjacent, split is wanted, not 'near'"),
        ("nodes = 2\ndistances = [[10]]", "distances: no table of 2 x 2"),
        ("nodes = 2\ndistances = [[10, -1], [1, 10]]", "distances[0]: not from 0 to"),
        ("nodes = 2\ndistances.groups = [[1, 12]]", "groups grow from near to far"),
        ("nodes = 2\ndistances.groups = [[2]]", "a group is [nodes, distance], not [2]"),
        ("distances.machine = 1\ndistances.groups = [[1, 12]]", "not beside them"),
        ("[[node]]\nid = 1\n[[node]]\nid = 1", "node[1].id: node 1 is described twice"),
        ("[[node]]\nsocket = 0", "node[0].id: is missing"),
        ("[[cpupool]]\nname = 'a'", "cpupool[0].cpus: a cpupool has either cpus or nodes"),
        ("[[cpupool]]\nname = 'a'\ncpus = '7'", "cpupool[0].cpus: '7' names cpu 7"),
        ("[[device]]\naddress = 'a'\nnode = 3", "device[0].node: there is no node 3"),
        ("nodes = ", "is not TOML: Invalid value (at end of document)"),
        ("x = " + "[" * 100_000, "is nested too deep"),
        ("nodes = " + "9" * 5000, "is not TOML"),
    ],
)  # fmt: skip
def test_a_wrong_description_is_refused_in_one_line_that_names_the_place(text, message):
    with pytest.raises(ParseError) as caught:
        parse(text, source="host.toml")
    assert str(caught.value).startswith("host.toml: ")
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def outcome(text):
    """Return the refusal, or None if the text was read."""
    try:
        parse(text, source="test")
    except ParseError as error:
        return str(error)
    return None


@settings(max_examples=150, deadline=None)
@given(st.sampled_from(EXAMPLES), st.integers(0), st.characters())
def test_a_truncated_or_corrupted_file_is_refused_or_read_and_never_a_traceback(path, at, letter):
    text = path.read_text()
    at %= len(text)
    for damaged in (text[:at], text[:at] + letter + text[at + 1 :]):
        refusal = outcome(damaged)
        assert refusal is None or "\n" not in refusal


def test_a_text_that_only_looked_like_toml_is_answered_with_what_is_read():
    with pytest.raises(ParseError, match=r"^dump: is not TOML: .*`xl info -n`"):
        parse("(XEN) memory = all of it\n", source="dump")
