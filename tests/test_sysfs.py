import os
import subprocess
from pathlib import Path
from shutil import which

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from homenode.bitmap import CpuMap, NodeMap
from homenode.drivers.archive import ArchiveTree
from homenode.drivers.local import LocalDriver
from homenode.drivers.trees import FolderTree, read_tree
from homenode.errors import HomenodeError, ParseError
from homenode.formats import sysfs
from homenode.guest import GuestRequest
from trees import CPU, NODE, TREES, needs_trees, small_tree


def archived(name):
    path = TREES / f"{name}.tar.bz2"
    return ArchiveTree(path.read_bytes(), source=path.name)


def described(name):
    return sysfs.parse(read_tree(archived(name)), source=name)


def processors(tree):
    """Return what another file of the kernel's says: (cpu, its socket) by /proc/cpuinfo."""
    found = {}
    for line in tree.text("proc/cpuinfo").splitlines():
        name, _, value = line.partition(":")
        if name.strip() == "processor":
            cpu = int(value)
            found[cpu] = None
        elif name.strip() == "physical id":
            found[cpu] = int(value)
    return found


# The names of the trees say what the machines are: cpus, then packages, nodes, cores, threads.
@needs_trees
@pytest.mark.parametrize(
    ("name", "nodes", "cpus", "cores", "sockets", "llcs"),
    [
        ("128arm-2pa2n8cluster4co", "0-3", 128, 128, 2, 4),
        ("16amd64-8n2c", "0-7", 16, 16, 8, 16),
        ("256ppc-8n8s4t", "0-1,4-5,8-9,12-13", 256, 64, None, 64),
        ("40intel64-4n10c+pci-conflicts", "0-3", 40, 40, 4, 4),
        ("48amd64-4pa2n6c-sparse", "0-2,33-34,45,72-73", 48, 48, 4, 8),
        ("64amd64-4s2n4ca2co", "0-7", 64, 32, 4, 8),
        ("fakeheteromemtiers", "0-2,4,6,8-9", 6, 6, 1, 1),
    ],
)
def test_real_machines_are_what_their_names_say(name, nodes, cpus, cores, sockets, llcs):  # noqa: PLR0917 - a table of facts
    host = described(name)
    assert host.node_map == NodeMap.parse(nodes)
    assert len(host.cpu_map) == cpus
    assert len(host.cores) == cores
    assert len({cpu.llc for cpu in host.cpus}) == llcs
    if sockets is not None:
        assert len({cpu.socket for cpu in host.cpus}) == sockets
    seen = processors(archived(name))
    assert set(seen) == set(host.cpu_map)
    assert sum(len(own) for own in host.cpus_by_node.values()) == cpus
    assert all(seen[cpu.id] in (None, cpu.socket) for cpu in host.cpus)


@needs_trees
def test_a_matrix_without_levels_and_sparse_nodes_are_read_as_stated():
    host = described("48amd64-4pa2n6c-sparse")
    assert host.distance(0, 33) == 22
    assert host.distance(2, 73) == 16
    assert host.cpus_by_node[72] == CpuMap.parse("36-41")
    assert host.nodes_by_id[72].present_kib == 8388608
    assert host.nodes_by_id[73].free_kib == 16478272
    assert host.nodes_by_id[73].pages[0] == (2048, 0, 0)
    assert not host.notes


@needs_trees
def test_a_broken_table_counts_no_cpu_twice_and_says_so():
    host = described("8em64t-2s2ca2c-buggynuma")
    assert [len(host.cpus_by_node[node]) for node in host.node_map] == [8, 0, 0, 0, 0, 0, 0, 0]
    assert len(host.cpu_map) == 8
    assert any("more than one node claims cpus 0-7" in note for note in host.notes)
    assert "all distances are 10, of a node to itself too" in host.notes


@needs_trees
def test_nodes_of_memory_alone_have_no_cpus():
    host = described("fakeheteromemtiers")
    bare = [node for node in host.node_map if not host.cpus_by_node[node]]
    assert bare == [4, 6, 8, 9]
    assert all(host.nodes_by_id[node].free_kib for node in bare)


@needs_trees
def test_offline_cpus_and_a_node_that_is_gone_are_stated():
    host = described("offline-cpu0-node0")
    assert host.cpu_map == CpuMap.parse("4-20")
    assert len(host.cpus) == 24
    assert host.cpus_by_node == {1: CpuMap.parse("5-19:1/2")}
    assert host.distances == ((10,),)
    assert (
        "the nodes that are described have 64 GiB of memory, and the machine has 125.6 GiB"
        in host.notes
    )
    assert any("cpus 4,6,8,10,12,14,16,18,20 are on no node" in note for note in host.notes)


@needs_trees
def test_a_kernel_without_nodes_has_one():
    host = described("2arm-2c")
    assert host.node_map == NodeMap([0])
    assert host.cpus_by_node[0] == CpuMap([0, 1])
    assert host.nodes[0].present_kib == 280840
    assert any("node 0" in note for note in host.notes)


@needs_trees
def test_two_nodes_of_one_socket_share_it_and_nothing_below_it():
    host = described("64amd64-4s2n4ca2co")
    nodes_of, llcs_of = {}, {}
    for cpu in host.cpus:
        nodes_of.setdefault(cpu.socket, set()).add(cpu.node)
        llcs_of.setdefault(cpu.llc, set()).add(cpu.node)
    assert sorted(map(sorted, nodes_of.values())) == [[0, 1], [2, 3], [4, 5], [6, 7]]
    assert all(len(nodes) == 1 for nodes in llcs_of.values())


def test_the_memory_of_gpus_is_nodes_with_high_numbers_and_without_cpus():
    # As POWER 9 has it: the numbers of its GPUs' nodes go down from 255.
    numbers = (0, 8, 252, 253, 254, 255)
    files = {}
    for at, node in enumerate(numbers):
        row = ["80"] * len(numbers)
        row[at] = "10"
        files[f"{NODE}node{node}/distance"] = " ".join(row)
        files[f"{NODE}node{node}/cpulist"] = {0: "0-79", 8: "80-159"}.get(node, "")
        status = f"Node:\t\t{node if node > 8 else 'none'}\nStatus:\tonline\n"
        files[f"proc/driver/nvidia/gpus/0004:0{at}:00.0/numa_status"] = status
    host = sysfs.parse(files, source="test")
    assert host.node_map == NodeMap(numbers)
    assert [node.kind for node in host.nodes] == ["dram"] * 2 + ["gpu"] * 4
    assert host.distance(8, 255) == 80
    assert host.cpus_by_node[8] == CpuMap.parse("80-159")
    assert host.notes == ()


def test_a_node_without_memory_has_none_and_one_that_does_not_tell_may_have_some():
    nothing = "Node 1 MemTotal:  0 kB\nNode 1 MemFree:  0 kB\n"
    host = sysfs.parse(small_tree(node1__meminfo=nothing), source="test")
    assert [node.present_kib for node in host.nodes] == [8192, 0, None]
    assert [node.usable_kib for node in host.nodes] == [4096, 0, None]
    assert host.cpus_by_node[1] == CpuMap([2])


needs_linux = pytest.mark.skipif(
    not Path("/sys/devices/system/cpu/online").exists(), reason="no Linux /sys on this machine"
)


@needs_linux
def test_this_machine_has_the_cpus_that_the_kernel_lets_us_run_on():
    snapshot = LocalDriver().snapshot()
    assert snapshot.guests == ()
    assert snapshot.host.taken_at is not None
    assert os.sched_getaffinity(0) <= set(snapshot.host.cpu_map)
    assert len(snapshot.host.cpu_map) == os.sysconf("SC_NPROCESSORS_ONLN")


@needs_linux
def test_this_machine_has_its_name():
    assert LocalDriver().snapshot().host.name == os.uname().nodename[:64]


@needs_linux
@pytest.mark.skipif(which("lscpu") is None, reason="lscpu is not installed")
def test_this_machine_is_as_lscpu_sees_it():
    host = LocalDriver().snapshot().host
    columns = "--parse=CPU,CORE,SOCKET,NODE"
    printed = subprocess.run(["lscpu", columns], capture_output=True, text=True, check=True)
    rows = [line.split(",") for line in printed.stdout.splitlines() if line[:1].isdigit()]
    assert {int(row[0]) for row in rows} == set(host.cpu_map)
    cores, nodes = {}, {}
    for cpu, core, socket, node in rows:
        cores.setdefault((core, socket), set()).add(int(cpu))
        nodes.setdefault(int(node or 0), set()).add(int(cpu))
    assert {frozenset(core) for core in cores.values()} == {frozenset(core) for core in host.cores}
    assert nodes == {node: set(cpus) for node, cpus in host.cpus_by_node.items() if cpus}


def test_a_local_machine_is_never_changed():
    with pytest.raises(HomenodeError, match="read-only"):
        LocalDriver().create(GuestRequest("a", 1, 1), None, None, None)


# What Linux 6 printed on a machine of ours with 4 KiB pages (counters and empty zones are left
# out); the MemAvailable in it is the oracle.
MEMINFO = """\
MemTotal:       24684084 kB
MemFree:        24004880 kB
MemAvailable:   24267164 kB
Active(file):     172028 kB
Inactive(file):   172096 kB
SReclaimable:     213024 kB
"""
ZONEINFO = """\
Node 0, zone      DMA
  pages free     3840
        min      47
        low      58
        high     69
        managed  3840
        protection: (0, 3019, 5323, 5323, 5323)
  pagesets
    cpu: 0
              high:     0
Node 0, zone    DMA32
        min      9556
        low      11945
        high     14334
        managed  772915
        protection: (0, 0, 2304, 2304, 2304)
Node 0, zone   Normal
        min      7292
        low      9115
        high     10938
        managed  589824
        protection: (0, 0, 0, 0, 0)
"""


def test_usable_memory_is_what_linux_calls_available():
    files = {"proc/meminfo": MEMINFO, "proc/zoneinfo": ZONEINFO}
    node = sysfs.parse(files, source="test").nodes[0]
    assert abs(node.usable_kib - 24267164) < 1024
    assert "watermarks" in node.reserved[0].reason


@needs_linux
def test_usable_memory_of_this_machine_is_what_linux_calls_available():
    names = ("proc/meminfo", "proc/zoneinfo")
    files = {name: Path("/", name).read_text() for name in names}
    node = sysfs.parse(files, source="test").nodes[0]
    meminfo = {line.split(":")[0]: line.split()[1] for line in files[names[0]].splitlines()}
    assert abs(node.usable_kib - int(meminfo["MemAvailable"])) < node.present_kib * 0.05


@needs_linux
def test_usable_memory_of_all_nodes_is_what_linux_calls_available():
    host = LocalDriver().snapshot().host
    lines = Path("/proc/meminfo").read_text().splitlines()
    meminfo = {line.split(":")[0]: int(line.split()[1]) for line in lines}
    present = sum(node.present_kib for node in host.nodes)
    # Some kernels take memory up as they need it: what is left counts for no node until then.
    left = meminfo["MemTotal"] - present
    usable = sum(node.usable_kib for node in host.nodes)
    assert abs(usable - (meminfo["MemAvailable"] - left)) < present * 0.05
    assert any("of memory, and the machine has" in note for note in host.notes) == (
        left * 8 >= meminfo["MemTotal"]
    )


@pytest.mark.parametrize("page_kib", [4, 16, 64])
def test_watermarks_count_in_pages_of_the_size_that_makes_up_the_memory(page_kib):
    pages = 3840 + 772915 + 589824
    meminfo = f"Node 0 MemTotal: {pages * page_kib} kB\n"
    files = {NODE + "node0/meminfo": meminfo, "proc/zoneinfo": ZONEINFO}
    node = sysfs.parse(files, source="test").nodes[0]
    kept = min(3840, 69 + 5323) + (14334 + 2304) + 10938
    assert node.reserved_kib == kept * page_kib


def test_a_small_tree_is_read_in_full():
    host = sysfs.parse(small_tree(), source="test")
    assert host.cpus_by_node == {0: CpuMap([0, 1]), 1: CpuMap([2]), 2: CpuMap()}
    assert [(cpu.core, cpu.thread, cpu.llc, cpu.online) for cpu in host.cpus] == [
        (0, 0, 0, True),
        (0, 1, 0, True),
        (1, 0, 1, True),
        (1, 1, 1, False),
    ]
    assert host.distances == ((10, 21, 28), (21, 10, 28), (28, 28, 10))
    assert host.latency_ns == ((80, None, None), (None,) * 3, (None,) * 3)
    assert host.bandwidth_mb_s == ((1000, None, 4000), (None,) * 3, (None,) * 3)
    assert [node.kind for node in host.nodes] == ["dram", "dram", "hbm"]
    assert host.nodes[0].pages == ((2048, 8, 3),)
    assert host.nodes[1].present_kib is None
    assert [(device.node, device.kind) for device in host.devices] == [
        (1, "network"),
        (None, None),
        (None, None),
    ]
    assert host.notes == ("devices are stated to hang on node 7, which is not described",)


@pytest.mark.parametrize(
    ("row", "read", "note"),
    [
        ("10", (10, None, None), "node 0 states 1 distances for 3 nodes"),
        ("", (None, None, None), "node 0 states 0 distances for 3 nodes"),
        ("10 x 28", (10, None, 28), "is no number: 10 x 28"),
        ("10 x 28", (10, None, 28), "distances from nodes 0 are not all stated"),
        ("10 21 28 31", (None, None, None), "node 0 states 4 distances for 3 nodes"),
        ("10 10 28", (10, 10, 28), "nodes 0 state that another node is as near as"),
        ("10 20 28", (10, 20, 28), "distances differ by direction: node 0 to 1 is 20, and back 21"),
    ],
)
def test_odd_distances_are_read_as_far_as_stated_and_noted(row, read, note):
    host = sysfs.parse(small_tree(node0__distance=row), source="test")
    assert host.distances[0] == read
    assert any(note in text for text in host.notes)
    assert len(set(host.notes)) == len(host.notes)


def test_a_row_for_each_node_that_is_not_there_too_is_read_by_the_list_of_nodes():
    rows = {f"node{node}__distance": "10 20 30 40" for node in range(3)}
    host = sysfs.parse(small_tree(**rows, online="0-2", possible="0-3"), source="test")
    assert host.distances == ((10, 20, 30),) * 3
    assert "nodes 0-2 state 4 distances for 3 nodes" in host.notes


def test_tables_that_tell_nothing_are_said_to():
    same = {f"node{node}__distance": "10 10 10" for node in range(3)}
    host = sysfs.parse(small_tree(**same), source="test")
    assert "all distances are 10, of a node to itself too" in host.notes
    none = {f"node{node}__distance": "" for node in range(3)}
    host = sysfs.parse(small_tree(**none), source="test")
    assert "nodes 0-2 state 0 distances for 3 nodes" in host.notes


def tier(number):
    return f"sys/devices/virtual/memory_tiering/memory_tier{number}/nodelist"


READ_0 = NODE + "node2/access0/initiators/read_bandwidth"
READ_1 = NODE + "node2/access1/initiators/read_bandwidth"
DAX = "sys/bus/dax/devices/dax0.0"
ACPI = "../../../devices/LNXSYSTM:00/LNXSYBUS:00/ACPI0012:00"
CXL = "../../../devices/platform/ACPI0017:00/root0/decoder0.0/region0/dax_region0"
GPU = "proc/driver/nvidia/gpus/0000:09:00.0/numa_status"


@pytest.mark.parametrize(
    ("changes", "kind"),
    [
        ({}, "hbm"),  # by four times the bandwidth
        ({READ_0: "1999"}, None),
        ({READ_0: "2000"}, "hbm"),
        ({READ_1: "900", NODE + "node2/access1/initiators/node0": ""}, None),
        ({tier(4): "0-2"}, "dram"),
        ({tier(22): "2", READ_0: "500"}, None),
        ({tier(3): "2", READ_0: "0"}, "hbm"),
        ({DAX: f"{ACPI}/ndbus0/region5/dax5.1/dax0.0"}, "pmem"),
        ({DAX: f"{CXL}/dax0.0"}, "cxl"),
        ({DAX: f"{CXL}/dax0.0", DAX + "/target_node": "17"}, "hbm"),
        ({GPU: "Node:\t\t2\nStatus:\tonline\n"}, "gpu"),
    ],
)
def test_a_node_without_cpus_is_of_the_kind_that_the_source_tells(changes, kind):
    host = sysfs.parse({**small_tree(), **changes}, source="test")
    assert [node.kind for node in host.nodes] == ["dram", "dram", kind]


def test_access_that_may_be_of_devices_counts_only_where_that_of_cpus_is_unknown():
    files = small_tree()
    for initiator, text in (("node1", ""), ("read_latency", "300"), ("read_bandwidth", "7")):
        files[f"{NODE}node0/access0/initiators/{initiator}"] = text
    files[NODE + "node0/access0/initiators/node2"] = ""  # which has no cpus
    host = sysfs.parse(files, source="test")
    assert host.latency_ns == ((80, None, None), (300, None, None), (None,) * 3)
    assert [row[0] for row in host.bandwidth_mb_s] == [1000, 7, None]


@pytest.mark.parametrize(
    ("pci_class", "kind"),
    [
        ("0x010802", "storage"), ("0x020700", "network"), ("0x030000", "display"),
        ("0x030200", "accelerator"), ("0x120000", "accelerator"), ("0x060400", "chipset"),
        ("0x0c0330", "chipset"), ("0x050210", "other"), ("0xzzzzzz", None), ("", None), ("2", None),
    ],
)  # fmt: skip
def test_a_device_is_for_what_its_class_says(pci_class, kind):
    files = {**small_tree(), "sys/bus/pci/devices/0000:00:01.0/class": pci_class}
    assert sysfs.parse(files, source="test").devices[0].kind == kind


def test_more_nodes_than_any_kernel_has_are_refused():
    files = {f"{NODE}node{node}/cpulist": "" for node in range(1025)}
    with pytest.raises(ParseError, match="more than 1024 nodes"):
        sysfs.parse(files, source="test")


def test_cores_that_core_id_does_not_tell_apart_are_told_apart_by_their_siblings():
    files = small_tree()
    files.update({f"{CPU}cpu{cpu}/topology/core_id": "0" for cpu in range(4)})
    files[NODE + "node0/cpulist"] = "0-3"
    files[NODE + "node1/cpumap"] = "0"
    host = sysfs.parse(files, source="test")
    assert host.cores == (CpuMap([0, 1]), CpuMap([2]))
    assert any("core_id" in note for note in host.notes)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"node0__cpulist": "0-x"}, "node0/cpulist: not a cpu number"),
        ({"node1__cpumap": "0xzz"}, "node1/cpumap: not a hexadecimal mask"),
        ({"node0__meminfo": "Node 0 MemTotal: many kB"}, "line 1: not an amount of memory"),
        ({"node0__hugepages__hugepages-2048kB__nr_hugepages": "1.5"}, "not a number: '1.5'"),
    ],
)
def test_a_file_that_is_not_of_its_form_is_named(change, message):
    with pytest.raises(ParseError) as caught:
        sysfs.parse(small_tree(**change), source="saved")
    assert str(caught.value).startswith("saved: sys/devices/system/node/")
    assert message in str(caught.value)


def test_what_is_no_machine_is_refused():
    with pytest.raises(ParseError, match=r"^x: no files of /sys or /proc"):
        sysfs.parse({"etc/passwd": "root"}, source="x")


@settings(max_examples=150, deadline=None)
@given(st.sampled_from(sorted(small_tree())), st.text(max_size=12), st.integers(0, 6))
def test_no_content_of_any_file_gives_a_traceback(path, text, at):
    files = small_tree()
    for damaged in (text, files[path][:at], files[path][:at] + text + files[path][at:]):
        try:
            host = sysfs.parse({**files, path: damaged}, source="test")
        except ParseError as error:
            refusal = str(error)
            assert refusal.count("\n") == 0
        else:
            assert sum(len(own) for own in host.cpus_by_node.values()) <= len(host.cpu_map)


def test_only_regular_files_of_bounded_size_are_read(tmp_path):
    (tmp_path / "proc").mkdir()
    os.mkfifo(tmp_path / "proc/meminfo")
    (tmp_path / CPU).mkdir(parents=True)
    (tmp_path / CPU / "online").write_text("0-1")
    assert read_tree(FolderTree(str(tmp_path))) == {CPU + "online": "0-1"}
    with (tmp_path / CPU / "online").open("wb") as file:
        file.truncate(5 << 20)
    with pytest.raises(HomenodeError, match="too long"):
        read_tree(FolderTree(str(tmp_path)))
    with pytest.raises(HomenodeError, match="is no folder"):
        read_tree(FolderTree(str(tmp_path / "nothing")))
