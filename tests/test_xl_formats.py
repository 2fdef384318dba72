import json
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from homenode.bitmap import CpuMap, NodeMap
from homenode.errors import ParseError
from homenode.formats import xen_debug_keys, xl_info, xl_list

CAPTURES = Path(__file__).parent / "data" / "xen-captures"
FOLDERS = [f"{name}/{state}" for name in ("n2", "n4", "n8") for state in ("empty", "guests")]

every_folder = pytest.mark.parametrize("folder", FOLDERS)


def text(folder, name):
    return (CAPTURES / folder / name).read_text()


# --- xl info -n -------------------------------------------------------------------------------


@every_folder
def test_info_has_as_many_cpus_and_nodes_as_its_head_says(folder):
    info = xl_info.parse(text(folder, "xl-info-n.txt"))
    assert [len(info.cpus), len(info.nodes)] == [info.told("nr_cpus"), info.told("nr_nodes")]
    assert sum(node.free_kib >> 10 for node in info.nodes) <= info.told("free_memory")


def test_info_is_read_by_column_headings_with_the_sizes_in_kib():
    info = xl_info.parse(text("n8/empty", "xl-info-n.txt"))
    assert (info.nodes[3].spanned_kib, info.nodes[3].free_kib) == (512 << 10, 381 << 10)
    assert info.distances[3] == [16, 16, 16, 10, 22, 22, 22, 22]
    assert (info.cpus[13].core, info.cpus[13].socket, info.cpus[13].node) == (1, 6, 6)
    assert info.head["xen_commandline"].startswith("com1=115200,8n1 console=com1")


UNEVEN = """\
nr_cpus                : 3
nr_nodes               : 2
cpu_topology           :
cpu:    socket    core     node     shelf
  0:       0        0        0        9
  2:       0        1       -1        9
  5:       1        0        3        9
a line of a later version
device topology        :
device           node
0000:3b:00.0      3
0000:00:1f.2      -1
numa_info              :
node:    memsize    memfree    distances
   0:      4096       2011      10,-1,-1,21
   3:         0          0      4294967295,-1,-1,10
xen_major              : 4
"""


def test_holes_unknown_distances_and_new_columns_are_read():
    info = xl_info.parse(UNEVEN)
    assert [(cpu.id, cpu.node, cpu.core, cpu.socket) for cpu in info.cpus] == [
        (0, 0, 0, 0), (2, None, 1, 0), (5, 3, 0, 1),
    ]  # fmt: skip
    assert [node.id for node in info.nodes] == [0, 3]
    assert info.distances == [[10, 21], [None, 10]]
    assert [(device.address, device.node) for device in info.devices] == [
        ("0000:3b:00.0", 3),
        ("0000:00:1f.2", None),
    ]


@pytest.mark.parametrize(
    ("old", "new", "complaint"),
    [
        ("numa_info              :", "", "'numa_info'"),
        ("cpu_topology           :", "", "'cpu_topology'"),
        ("memfree", "memory", "no column 'memfree'"),
        ("4096       2011", "4096       5011", "more memory is free"),
        ("10,-1,-1,21", "10,-1,21", "different lengths"),
        ("4294967295,-1,-1,10", "4294967295", "no distance"),
        ("  2:       0", "  x:       0", "2 lines, and nr_cpus is 3"),
        ("4096", "4o96", "'memsize' is no number"),
        ("4096", "9" * 17, "out of range"),
        ("  5:", "99999999:", "no number of a cpu"),
    ],
)
def test_broken_info_is_refused_by_name(old, new, complaint):
    with pytest.raises(ParseError, match=r"host\.txt") as caught:
        xl_info.parse(UNEVEN.replace(old, new, 1), source="host.txt")
    assert complaint in str(caught.value)


def test_info_cut_off_within_a_number_is_not_taken_for_another_number():
    cut = UNEVEN[: UNEVEN.index(",10\nxen_major") + 2]
    with pytest.raises(ParseError, match="cut off"):
        xl_info.parse(cut)


# --- xl list, xl vcpu-list, xl cpupool-list ---------------------------------------------------

masks = st.sets(st.integers(0, 300), min_size=1).map(CpuMap)
words = st.text("ab-_.1 ", min_size=1, max_size=50).map(lambda name: " ".join(name.split()) or "x")
flags = st.tuples(*(st.sampled_from(["-", letter]) for letter in "rbpscd")).map("".join)


@given(
    st.lists(st.tuples(words, flags, st.integers(0, 1 << 24), st.sets(st.integers(0, 9)))),
    st.booleans(),
)
def test_lists_are_read_as_xl_prints_them(guests, with_nodes):
    heading = "Name                                        ID   Mem VCPUs\tState\tTime(s)"
    lines = [heading + (" NODE Affinity" if with_nodes else "         Cpupool")]
    for number, (name, state, mib, nodes) in enumerate(guests):
        last = str(NodeMap(nodes)) or "none" if with_nodes else f"{'Pool-0':>16}"
        lines.append(f"{name:<40} {number:5d} {mib:5d} {2:5d}     {state}  {12.5:8.1f} {last}")
    listed = xl_list.parse_list("\n".join(lines) + "\n", nodes=NodeMap.full(10))
    assert [(row.id, row.name, row.memory_kib, row.vcpus) for row in listed] == [
        (number, name, mib << 10, 2) for number, (name, _, mib, _) in enumerate(guests)
    ]
    for row, (_, state, _, nodes) in zip(listed, guests, strict=True):
        assert row.node_affinity == (NodeMap(nodes) if with_nodes else None)
        assert row.pool == (None if with_nodes else "Pool-0")
        assert (row.state == "dying") == ("d" in state or ("s" in state and "c" not in state))


@given(st.lists(st.tuples(words, masks, masks, st.booleans()), max_size=5))
@example([("1 1 1 1 ---", CpuMap([0]), CpuMap([0]), False)])
@example([("1 1 1 1 --- 1.1", CpuMap([0]), CpuMap([0]), True)])
def test_vcpu_lists_are_read_as_xl_prints_them(vcpus):
    lines = [
        "Name                                ID  VCPU   CPU State   Time(s) Affinity (Hard / Soft)"
    ]
    for at, (name, hard, soft, online) in enumerate(vcpus):
        where = f"{at:5d} {'-b-':3} " if online else f"{'-':>5} {'--p':3} "
        lines.append(f"{name:<32} {7:5d} {at:5d}{where} {1234.5:9.1f}  {hard} / {soft}")
    text = "\n".join(lines) + "\n"
    for row, (at, (name, hard, soft, online)) in zip(
        xl_list.parse_vcpu_list(text, cpus=CpuMap.full(4)), enumerate(vcpus), strict=True
    ):
        assert (row.guest_id, row.guest_name, row.vcpu.id) == (7, name, at)
        assert (row.vcpu.hard, row.vcpu.soft) == (hard, soft)
        assert (row.vcpu.cpu, row.vcpu.online) == (at if online else None, online)
        assert row.vcpu.time_ns == 1_234_500_000_000


def test_words_for_whole_masks_mean_the_cpus_and_nodes_of_the_host():
    vcpus = xl_list.parse_vcpu_list(text("n8/guests", "xl-vcpu-list.txt"), cpus=CpuMap.full(16))
    by_name = {row.guest_name: row.vcpu for row in vcpus}
    assert (str(by_name["g"].hard), str(by_name["g"].soft)) == ("0-15", "0-1,4-5")
    assert (str(by_name["d"].hard), str(by_name["d"].soft)) == ("2-3", "4-5")
    guests = xl_list.parse_list(text("n8/guests", "xl-list-n.txt"), nodes=NodeMap.full(8))
    assert {row.name: str(row.node_affinity) for row in guests} == {
        "Domain-0": "0-7", "a": "0", "b": "6", "c": "4-5", "d": "2", "e": "0", "f": "1", "g": "0,2",
    }  # fmt: skip


def test_a_guest_that_goes_away_without_a_name_is_named_by_its_number():
    listed = xl_list.parse_list(
        "Name                                        ID   Mem VCPUs\tState\tTime(s)\n"
        "(null)                                       1    48     4     --ps--      47.9\n",
        nodes=NodeMap(),
    )
    assert [(row.name, row.state) for row in listed] == [("domain 1", "dying")]


@pytest.mark.parametrize(
    ("line", "complaint"),
    [
        ("a    1    64     1     -b----       0.0 0-x", "not a node number"),
        ("a    1    64     1     -b----       0.0", "no 'NODE'"),
        ("a    1    64     1     running      0.0 0", "no state"),
        ("a    1    64     99999 -b----       0.0 0", "out of range"),
        ("a    1    6_4    1     -b----       0.0 0", "'Mem' is no number"),
    ],
)
def test_broken_rows_are_refused_with_their_line(line, complaint):
    heading = "Name        ID   Mem VCPUs\tState\tTime(s) NODE Affinity\n"
    with pytest.raises(ParseError) as caught:
        xl_list.parse_list(heading + line, nodes=NodeMap(), source="list")
    assert str(caught.value).startswith("list:2: ")
    assert complaint in str(caught.value)


def test_cpupools_are_read_with_their_schedulers():
    cpus = xl_list.parse_cpupool_cpus(
        "Name               CPU list\nPool-node0         0,1\nan empty one       \n"
    )
    assert [(name, str(own)) for name, own in cpus] == [("Pool-node0", "0-1"), ("an empty one", "")]
    rows = xl_list.parse_cpupools(
        "Name               CPUs   Sched     Active   Domain count\n"
        "Pool-node0           2    credit       y         10\n"
    )
    assert [tuple(row) for row in rows] == [("Pool-node0", 2, "credit")]


def test_a_cpupool_name_that_runs_into_the_cpus_is_refused():
    with pytest.raises(ParseError, match="runs into"):
        xl_list.parse_cpupool_cpus("Name               CPU list\na-pool-for-ten-gues0,1\n")


# --- xl list -l -------------------------------------------------------------------------------


@pytest.mark.parametrize("folder", [folder for folder in FOLDERS if "guests" in folder])
def test_configs_agree_with_the_tables(folder):
    configured = {
        guest.id: guest for guest in xl_list.parse_configured(text(folder, "xl-list-l.json"))
    }
    for row in xl_list.parse_list(text(folder, "xl-list-n.txt"), nodes=NodeMap.full(8)):
        guest = configured[row.id]
        assert guest.name == row.name
        assert abs(guest.target_kib - row.memory_kib) < 1 << 10
        assert guest.vcpus in (row.vcpus, None)
    for row in xl_list.parse_vcpu_list(text(folder, "xl-vcpu-list.txt"), cpus=CpuMap.full(16)):
        hard = configured[row.guest_id].hard
        assert not hard or hard[row.vcpu.id] == row.vcpu.hard


def test_virtual_nodes_of_a_config_are_read():
    build = {
        "max_vcpus": 2,
        "vnuma_nodes": [
            {"memkb": 1024, "distances": [10, 20], "pnode": 1, "vcpus": [0]},
            {"memkb": 2048, "distances": [20, 10], "vcpus": [1]},
        ],
    }
    document = [{"domid": 3, "config": {"c_info": {"pool_name": "p"}, "b_info": build}}]
    (guest,) = xl_list.parse_configured(json.dumps(document))
    assert (guest.pool, guest.vcpus) == ("p", 2)
    assert [(node.memory_kib, node.node, node.distances) for node in guest.virtual_nodes] == [
        (1024, 1, (10, 20)), (2048, 0, (20, 10)),
    ]  # fmt: skip


@pytest.mark.parametrize(
    "document",
    [
        "", "[", "{}", "7", "[7]", '[{"domid": "1"}]', '[{"domid": true}]', '[{"domid": -1}]',
        '[{"domid": 1, "config": []}]', '[{"domid": 1, "config": {"b_info": {"max_vcpus": 1e9}}}]',
        '[{"domid": 1, "config": {"b_info": {"max_vcpus": 1000000}}}]',
        '[{"domid": 1, "config": {"b_info": {"vcpu_hard_affinity": [[70000]]}}}]',
        '[{"domid": 1, "config": {"c_info": {"name": "\\ud800"}}}]',
        "[" * 100_000, "[" + "9" * 5000 + "]",
    ],
)  # fmt: skip
def test_json_of_another_shape_is_refused_in_one_line(document):
    with pytest.raises(ParseError) as caught:
        xl_list.parse_configured(document, source="list.json")
    assert str(caught.value).startswith("list.json:")
    assert "\n" not in str(caught.value)


# --- xl debug-keys ----------------------------------------------------------------------------


@every_folder
def test_pages_by_node_are_those_that_xl_rounds(folder):
    dump = xen_debug_keys.parse_numa(text(folder, "debug-keys-u.txt"))
    info = xl_info.parse(text(folder, "xl-info-n.txt"))
    for node in info.nodes:
        assert dump.nodes[node.id].spanned * 4 >> 10 == node.spanned_kib >> 10
        # The two were not taken at the same moment.
        assert abs(dump.nodes[node.id].free * 4 - node.free_kib) <= 2 << 10
    assert dump.cpus == CpuMap(cpu.id for cpu in info.cpus)
    listed = xl_list.parse_list(text(folder, "xl-list-n.txt"), nodes=NodeMap.full(8))
    assert {row.id: row.memory_kib for row in listed} == {
        number: pages.total * 4 for number, pages in dump.domains.items()
    }
    assert all(pages.is_whole for pages in dump.domains.values())


@pytest.mark.parametrize("name", ["n2", "n4", "n8"])
def test_zones_add_up_to_the_free_pages_of_the_node(name):
    heap = xen_debug_keys.parse_heap(text(f"{name}/empty", "debug-keys-H.txt"))
    dump = xen_debug_keys.parse_numa(text(f"{name}/empty", "debug-keys-u.txt"))
    assert heap.keys() == dump.nodes.keys()
    for node, zones in heap.items():
        assert abs(sum(zones.values()) - dump.nodes[node].free) <= 1


@pytest.mark.parametrize(
    "prefix", ["", "(XEN) ", "(XEN) [2026-11-23 21:00:00] ", "(XEN) [    9.5] "]
)
def test_prefixes_of_the_log_do_not_matter(prefix):
    plain = text("n4/guests", "debug-keys-u.txt")
    prefixed = plain.replace("(XEN) ", prefix).replace("Domain 7 ", "d7 ")
    assert xen_debug_keys.parse_numa(prefixed) == xen_debug_keys.parse_numa(plain)


def test_only_the_last_dump_counts():
    before, after = text("n8/empty", "debug-keys-u.txt"), text("n8/guests", "debug-keys-u.txt")
    assert xen_debug_keys.parse_numa(after + "(XEN) noise\n" + before).domains.keys() == {0}
    zones = text("n2/empty", "debug-keys-H.txt")
    more = zones.replace("16128", "1")
    assert xen_debug_keys.parse_heap(zones + more)[0][15] == 1


@given(st.data(), st.sampled_from(FOLDERS))
def test_what_is_left_of_a_dump_is_true(data, folder):
    whole = text(folder, "debug-keys-u.txt")
    true = xen_debug_keys.parse_numa(whole)
    start = data.draw(st.integers(0, len(whole)))
    end = data.draw(st.integers(start, len(whole)))
    left = xen_debug_keys.parse_numa(whole[start:end].partition("\n")[2])
    assert left.nodes.items() <= true.nodes.items()
    assert left.cpus <= true.cpus
    for number, pages in left.domains.items():
        assert pages.total == true.domains[number].total
        assert not pages.is_whole or pages.by_node.items() <= true.domains[number].by_node.items()


@given(st.data())
def test_a_domain_without_its_heading_is_not_added_to_another(data):
    lines = text("n8/guests", "debug-keys-u.txt").splitlines(keepends=True)
    headings = [at for at, line in enumerate(lines) if "total:" in line]
    lost = data.draw(st.sets(st.sampled_from(headings)))
    left = "".join(line for at, line in enumerate(lines) if at not in lost)
    true = xen_debug_keys.parse_numa("".join(lines)).domains
    assert xen_debug_keys.parse_numa(left).domains.items() <= true.items()
