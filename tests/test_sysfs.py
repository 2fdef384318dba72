import os
import subprocess
import tarfile
from pathlib import Path
from shutil import which

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from homenode.bitmap import CpuMap, NodeMap
from homenode.drivers.local import LocalDriver
from homenode.drivers.trees import FolderTree, read_tree
from homenode.errors import HomenodeError, ParseError
from homenode.formats import sysfs
from homenode.guest import GuestRequest

DATA = os.environ.get("HOMENODE_DATA")
TREES = Path(DATA or "no-data") / "topologies" / "hwloc-linux"
# Most files of a tree are about other things, and unpacking them takes most of the time.
UNREAD = {"class", "device-tree", "power", "cpufreq", "cpuidle", "index0", "index1", "uevent"}
needs_trees = pytest.mark.skipif(
    not TREES.is_dir(), reason="HOMENODE_DATA names no folder with topologies/hwloc-linux"
)
NODE = "sys/devices/system/node/"
CPU = "sys/devices/system/cpu/"


@pytest.fixture
def tree(tmp_path):
    """Unpack a saved tree, and return its folder."""

    def unpack(name):
        with tarfile.open(TREES / f"{name}.tar.bz2") as archive:
            kept = [item for item in archive if UNREAD.isdisjoint(item.name.split("/"))]
            # extractall() would set owners and times, too, and take three times as long.
            for item in kept:
                if item.isdir():
                    (tmp_path / item.name).mkdir(exist_ok=True)
                elif item.issym():
                    (tmp_path / item.name).symlink_to(item.linkname)
                else:
                    (tmp_path / item.name).write_bytes(archive.extractfile(item).read())
        return next(tmp_path.iterdir())

    return unpack


def described(root):
    return sysfs.parse(read_tree(FolderTree(str(root))), source=str(root))


def processors(root):
    """Return what another file of the kernel's says: (cpu, its socket) by /proc/cpuinfo."""
    found = {}
    for line in (root / "proc/cpuinfo").read_text(errors="replace").splitlines():
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
def test_real_machines_are_what_their_names_say(tree, name, nodes, cpus, cores, sockets, llcs):  # noqa: PLR0917 - a table of facts
    root = tree(name)
    host = described(root)
    assert host.node_map == NodeMap.parse(nodes)
    assert len(host.cpu_map) == cpus
    assert len(host.cores) == cores
    assert len({cpu.llc for cpu in host.cpus}) == llcs
    if sockets is not None:
        assert len({cpu.socket for cpu in host.cpus}) == sockets
    seen = processors(root)
    assert set(seen) == set(host.cpu_map)
    assert sum(len(own) for own in host.cpus_by_node.values()) == cpus
    assert all(seen[cpu.id] in (None, cpu.socket) for cpu in host.cpus)


@needs_trees
def test_a_matrix_without_levels_and_sparse_nodes_are_read_as_stated(tree):
    host = described(tree("48amd64-4pa2n6c-sparse"))
    assert host.distance(0, 33) == 22
    assert host.distance(2, 73) == 16
    assert host.cpus_by_node[72] == CpuMap.parse("36-41")
    assert host.nodes_by_id[72].present_kib == 8388608
    assert host.nodes_by_id[73].free_kib == 16478272
    assert host.nodes_by_id[73].pages[0] == (2048, 0, 0)
    assert not host.notes


@needs_trees
def test_a_broken_table_counts_no_cpu_twice_and_says_so(tree):
    host = described(tree("8em64t-2s2ca2c-buggynuma"))
    assert [len(host.cpus_by_node[node]) for node in host.node_map] == [8, 0, 0, 0, 0, 0, 0, 0]
    assert len(host.cpu_map) == 8
    assert any("more than one node claims cpus 0-7" in note for note in host.notes)
    assert "all distances are 10, of a node to itself too" in host.notes


@needs_trees
def test_nodes_of_memory_alone_have_no_cpus(tree):
    host = described(tree("fakeheteromemtiers"))
    bare = [node for node in host.node_map if not host.cpus_by_node[node]]
    assert bare == [4, 6, 8, 9]
    assert all(host.nodes_by_id[node].free_kib for node in bare)


@needs_trees
def test_offline_cpus_and_a_node_that_is_gone_are_stated(tree):
    host = described(tree("offline-cpu0-node0"))
    assert host.cpu_map == CpuMap.parse("4-20")
    assert len(host.cpus) == 24
    assert host.cpus_by_node == {1: CpuMap.parse("5-19:1/2")}
    assert host.distances == ((10,),)
    assert any("cpus 4,6,8,10,12,14,16,18,20 are on no node" in note for note in host.notes)


@needs_trees
def test_a_kernel_without_nodes_has_one(tree):
    host = described(tree("2arm-2c"))
    assert host.node_map == NodeMap([0])
    assert host.cpus_by_node[0] == CpuMap([0, 1])
    assert host.nodes[0].present_kib == 280840
    assert any("node 0" in note for note in host.notes)


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
        LocalDriver().create(GuestRequest("a", 1, 1), None, None)


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


@pytest.mark.parametrize("page_kib", [4, 16, 64])
def test_watermarks_count_in_pages_of_the_size_that_makes_up_the_memory(page_kib):
    pages = 3840 + 772915 + 589824
    meminfo = f"Node 0 MemTotal: {pages * page_kib} kB\n"
    files = {NODE + "node0/meminfo": meminfo, "proc/zoneinfo": ZONEINFO}
    node = sysfs.parse(files, source="test").nodes[0]
    kept = min(3840, 69 + 5323) + (14334 + 2304) + 10938
    assert node.reserved_kib == kept * page_kib


def small_tree(**changes):
    files = {
        NODE + "online": "0-1\n",
        NODE + "node0/cpulist": "0-1\n",
        NODE + "node0/distance": "10 21\n",
        NODE + "node0/meminfo": "Node 0 MemTotal:  8192 kB\nNode 0 MemFree:  4096 kB\n",
        NODE + "node0/hugepages/hugepages-2048kB/nr_hugepages": "8\n",
        NODE + "node0/hugepages/hugepages-2048kB/free_hugepages": "3\n",
        NODE + "node1/cpumap": "c\n",
        NODE + "node1/distance": "21 10\n",
        CPU + "online": "0-2\n",
        CPU + "present": "0-3\n",
        "sys/bus/pci/devices/0000:00:01.0/numa_node": "1\n",
        "sys/bus/pci/devices/0000:00:02.0/numa_node": "-1\n",
        "sys/bus/pci/devices/0000:00:03.0/numa_node": "7\n",
    }
    for cpu in range(4):
        files[f"{CPU}cpu{cpu}/topology/core_id"] = f"{cpu // 2}\n"
        files[f"{CPU}cpu{cpu}/topology/physical_package_id"] = "0\n"
        files[f"{CPU}cpu{cpu}/topology/thread_siblings_list"] = f"{cpu // 2 * 2}-{cpu // 2 * 2 + 1}"
    return {**files, **{NODE + name.replace("__", "/"): text for name, text in changes.items()}}


def test_a_small_tree_is_read_in_full():
    host = sysfs.parse(small_tree(), source="test")
    assert host.cpus_by_node == {0: CpuMap([0, 1]), 1: CpuMap([2])}
    assert [(cpu.core, cpu.thread, cpu.online) for cpu in host.cpus] == [
        (0, 0, True),
        (0, 1, True),
        (1, 0, True),
        (1, 1, False),
    ]
    assert host.distances == ((10, 21), (21, 10))
    assert host.nodes[0].pages == ((2048, 8, 3),)
    assert host.nodes[1].present_kib is None
    assert [device.node for device in host.devices] == [1, None, None]
    assert host.notes == ("devices are stated to hang on node 7, which is not described",)


@pytest.mark.parametrize(
    ("row", "read", "note"),
    [
        ("10", (10, None), "states 1 distances, where 2"),
        ("", (None, None), "states 0 distances, where 2"),
        ("10 x", (10, None), "is no number: 10 x"),
        ("10 21 31", (None, None), "states 3 distances, where 2"),
        ("10 10", (10, 10), "as near as"),
    ],
)
def test_odd_distances_are_read_as_far_as_stated_and_noted(row, read, note):
    host = sysfs.parse(small_tree(node0__distance=row), source="test")
    assert host.distances[0] == read
    assert any(note in text for text in host.notes)


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
