import pytest
from hypothesis import given
from hypothesis import strategies as st

from homenode.bitmap import CpuMap, NodeMap
from homenode.formats.described import (
    dax_kind,
    node_kinds,
    pair_table,
    with_consistent_cores,
)
from homenode.formats.doubts import doubts, with_doubts
from homenode.host import Cpu, Host, Node
from strategies import hosts


def host(*rows):
    return Host(
        cpus=[Cpu(at, at) for at in range(len(rows))],
        nodes=[Node(at) for at in range(len(rows))],
        distances=rows or None,
    )


@pytest.mark.parametrize(
    ("rows", "notes"),
    [
        (([10, 20], [20, 10]), []),
        (([10, 20, 20], [20, 10, 20], [20, 20, 10]), []),  # flat, and nothing wrong with it
        (([10],), []),
        (([None],), []),
        (([10, 10], [10, 10]), ["all distances are 10, of a node to itself too"]),
        (
            ([10, 10, 20], [10, 10, 20], [20, 20, 10]),
            ["nodes 0-1 state that another node is as near as they are"],
        ),
        (
            ([10, 9], [20, 10]),
            [
                "nodes 0 state that another node is as near as they are",
                "distances differ by direction: node 0 to 1 is 9, and back 20",
            ],
        ),
        (
            ([10, 20, 30], [21, 10, 30], [31, 31, 10]),
            ["distances differ by direction: node 0 to 1 is 20, and back 21; so do 2 more pairs"],
        ),
        (
            ([10, None], [None, 10]),
            ["no distances between nodes are stated: all count as far apart"],
        ),
        (
            ([10, None], [20, 10]),
            ["distances from nodes 0 are not all stated: what is unknown counts as far"],
        ),
        (
            ([None, None], [None, None]),
            ["no distances between nodes are stated: all count as far apart"],
        ),
    ],
)
def test_what_can_hardly_be_true_of_distances_is_said(rows, notes):
    assert doubts(host(*rows)) == notes


def test_cpus_on_no_node_are_named_if_they_run():
    cpus = [Cpu(0, 0), Cpu(1, None), Cpu(2, None, online=False)]
    assert doubts(Host(cpus=cpus, nodes=[Node(0)])) == ["cpus 1 are on no node that is described"]


@given(hosts())
def test_any_host_has_few_doubts_each_said_once_and_stays_what_it_is(host):
    found = doubts(host)
    assert len(set(found)) == len(found) <= 4
    assert with_doubts(host).replace(notes=host.notes) == host
    assert with_doubts(host).notes == (*host.notes, *found)


@given(st.data())
def test_doubts_do_not_depend_on_the_order_of_nodes(data):
    made = data.draw(hosts(most_nodes=4)).replace(cpus=(), pools=())
    order = data.draw(st.permutations(range(len(made.nodes))))
    rows = [[made.distances[row][column] for column in order] for row in order]
    assert len(doubts(made.replace(distances=rows))) == len(doubts(made))


@given(
    st.dictionaries(st.tuples(st.integers(0, 3), st.integers(0, 3)), st.integers(1, 9), min_size=1)
)
def test_a_table_has_what_is_stated_and_nothing_else(pairs):
    table = pair_table([0, 2, 3], pairs)
    for row, reader in enumerate([0, 2, 3]):
        for column, read in enumerate([0, 2, 3]):
            assert table[row][column] == pairs.get((reader, read))


def test_without_any_word_there_is_no_table():
    assert pair_table([0, 1], {}) is None


@pytest.mark.parametrize(
    ("stated", "own", "there", "kind"),
    [
        (None, 100, 200, "hbm"),
        (None, 100, 199, None),
        ("cxl", 100, 900, "cxl"),
        (None, None, 900, None),
        (None, 100, None, None),
    ],
)
def test_fast_memory_is_fast_beside_the_memory_of_those_who_read_it(stated, own, there, kind):
    kinds = node_kinds(
        [0, 4],
        {4: stated},
        with_cpus=NodeMap([0]),
        bandwidth=[[own, there], [None, None]],
    )
    assert kinds == {0: "dram", 4: kind}


def test_cores_keep_their_numbers_where_they_tell_cores_apart():
    cpus = [Cpu(0, 0, core=7), Cpu(1, 0, core=7), Cpu(2, 0, core=8), Cpu(3, 0)]
    siblings = {0: CpuMap([0, 1]), 1: CpuMap([0, 1]), 2: CpuMap([2]), 3: CpuMap()}
    notes = []
    assert with_consistent_cores(cpus, siblings, notes) == cpus
    assert notes == []
    siblings[1] = CpuMap([1])
    assert [cpu.core for cpu in with_consistent_cores(cpus, siblings, notes)] == [0, 1, 2, 3]
    assert len(notes) == 1


@pytest.mark.parametrize(
    ("path", "kind"),
    [
        ("../../../devices/LNXSYSTM:00/LNXSYBUS:00/ACPI0012:00/ndbus0/region5/dax5.1", "pmem"),
        ("/sys/devices/platform/ACPI0017:00/root0/decoder0.0/region0/dax_region0/dax0.0", "cxl"),
        ("../../../devices/platform/hmem.0/dax0.0", None),
        ("", None),
    ],
)
def test_the_bus_of_a_device_says_what_its_memory_is(path, kind):
    assert dax_kind(path) == kind
