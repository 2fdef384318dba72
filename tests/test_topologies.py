"""Every machine of other people's that we have, against what lstopo and a plain count say of it."""

import subprocess
from pathlib import Path
from shutil import which
from xml.etree import ElementTree as ET

import pytest

from homenode.bitmap import CpuMap
from homenode.drivers.archive import ArchiveTree
from homenode.drivers.capture import CaptureDriver
from homenode.drivers.trees import FolderTree, read_tree
from trees import TOPOLOGIES, TREES, needs_trees

LSTOPO = which("lstopo-no-graphics")
needs_lstopo = pytest.mark.skipif(LSTOPO is None, reason="lstopo is not installed (hwloc-nox)")

TREE_NAMES = [
    "128arm-2pa2n8cluster4co",
    "16amd64-8n2c",
    "256ppc-8n8s4t",
    "2arm-2c",
    "40intel64-4n10c+pci-conflicts",
    "48amd64-4pa2n6c-sparse",
    "64amd64-4s2n4ca2co",
    "8em64t-2s2ca2c-buggynuma",
    "fakeheteromemtiers",
    "offline-cpu0-node0",
]
XML_NAMES = [
    "16amd64-4distances",
    "16em64t-4s2c2t-offlines",
    "192em64t-24n8c2t",
    "64intel64-heteromem",
    "cxlmem+dax.v2",
    "cxlmem+dax.v3",
    "nvidiaDGX2",
]
# What lstopo and homenode see in different ways, and why.
OTHER_CORES = {
    # The kernel says that two cpus share a core; lstopo counts AMD's halves of a module as cores.
    "64amd64-4s2n4ca2co": 64,
}
OTHER_PACKAGES = {
    # The kernel says "unknown", -1, and lstopo makes a package of every core.
    "256ppc-8n8s4t": 64,
    # core_siblings of cpu 3 say cpus 0-3, which cannot be, and lstopo drops that package.
    "40intel64-4n10c+pci-conflicts": 3,
}
OTHER_CACHES = {
    # For the same reason it lacks the cache of a package.
    "40intel64-4n10c+pci-conflicts",
}
OTHER_KINDS = {
    # Its own memory is ten times as fast as that of other nodes: fast, but it is all that it has.
    ("fakeheteromemtiers", 2): "HBM",
}
SUBTYPES = {"DRAM": "dram", "HBM": "hbm", "NVM": "pmem"}


def members(mask):
    """Return the set that hwloc writes as ``0x00000001,,0x0000000f``."""
    words = [word.removeprefix("0x").zfill(8) for word in mask.split(",")]
    bits = int("".join(words), 16)
    return {at for at in range(bits.bit_length()) if bits >> at & 1}


class Counted:
    """What a plain count finds in hwloc XML, of any version."""

    def __init__(self, path):
        root = ET.parse(path).getroot()  # noqa: S314 - a document that hwloc wrote
        self.objects = list(root.iter("object"))
        self.cpus = {int(one.get("os_index")) for one in self.of("PU")}
        self.cores = len(self.of("Core"))
        self.packages = len(self.of("Package"))
        self.devices = {
            one.get("pci_busid"): one.get("pci_type").split()[0] for one in self.of("PCIDev")
        }
        nodes = sorted(self.of("NUMANode"), key=lambda one: int(one.get("os_index")))
        self.near = {int(one.get("os_index")): members(one.get("cpuset")) for one in nodes}
        self.memory = {
            int(one.get("os_index")): int(one.get("local_memory", 0)) >> 10 for one in nodes
        }
        self.subtypes = {int(one.get("os_index")): one.get("subtype") for one in nodes}
        self.distances = self.matrix(root)

    def of(self, kind):
        return [one for one in self.objects if one.get("type") == kind]

    @staticmethod
    def matrix(root):
        for table in root.findall("distances2"):
            if table.get("type") == "NUMANode" and table.get("name") == "NUMALatency":
                ids, values = (
                    [int(word) for part in table.findall(tag) for word in part.text.split()]
                    for tag in ("indexes", "u64values")
                )
                rows = [values[at : at + len(ids)] for at in range(0, len(values), len(ids))]
                return dict(
                    zip(ids, [dict(zip(ids, row, strict=True)) for row in rows], strict=True)
                )
        return {}


def agree(host, counted, name):
    """Assert that a host is what was counted."""
    assert list(host.node_map) == list(counted.near)
    assert set(host.cpu_map) == counted.cpus
    assert {node.id: node.present_kib or 0 for node in host.nodes} == counted.memory
    for node, near in counted.near.items():
        # Memory alone is near cpus whose home is another node, which is near them, too.
        own = set(host.cpus_by_node[node])
        assert own == near or (
            not own and near in [set(cpus) for cpus in host.cpus_by_node.values()]
        )
    if counted.distances:
        ids = list(host.node_map)
        stated = {row: {column: host.distance(row, column) for column in ids} for row in ids}
        assert stated == counted.distances
    else:
        assert all(len({*row} - {10, None}) == 0 for row in host.distances)
    assert OTHER_CORES.get(name, len(host.cores)) == counted.cores
    sockets = {cpu.socket for cpu in host.cpus if cpu.online} - {None}
    assert OTHER_PACKAGES.get(name, len(sockets)) == counted.packages
    for node in host.nodes:
        if subtype := counted.subtypes[node.id]:
            assert OTHER_KINDS.get((name, node.id)) == subtype or node.kind == SUBTYPES[subtype]


@pytest.fixture(scope="module")
def lstopo(tmp_path_factory):
    """Have lstopo write XML of a folder or a file, and return the path."""

    def write(source, form):
        made = tmp_path_factory.mktemp("lstopo") / "made.xml"
        command = [LSTOPO, "--input", source, "--if", form, "--no-io", "--of", "xml", made]
        subprocess.run(command, check=True, capture_output=True, timeout=60)
        return made

    return write


@pytest.fixture(scope="module")
def unpacked(tmp_path_factory):
    """Unpack a tree, once, and return its folder."""
    made = {}

    def unpack(name):
        if name not in made:
            folder = tmp_path_factory.mktemp("tree")
            command = ["tar", "-xf", TREES / f"{name}.tar.bz2", "-C", folder]
            subprocess.run(command, check=True, timeout=60)
            made[name] = next(folder.iterdir())
        return made[name]

    return unpack


def seen(path):
    return CaptureDriver(str(path)).snapshot().host


@needs_trees
def test_all_the_files_that_there_are_have_their_tests():
    assert {path.name for path in TREES.iterdir()} == {f"{name}.tar.bz2" for name in TREE_NAMES}
    documents = {path.name for path in (TOPOLOGIES / "hwloc-xml").iterdir()}
    assert documents == {f"{name}.xml" for name in XML_NAMES}


@needs_trees
@needs_lstopo
def test_where_nodes_claim_the_same_cpus_lstopo_drops_nodes_and_homenode_keeps_them(
    unpacked, lstopo
):
    name = "8em64t-2s2ca2c-buggynuma"
    counted = Counted(lstopo(unpacked(name), "fsroot"))
    host = seen(TREES / f"{name}.tar.bz2")
    assert list(counted.near) == [0]
    assert list(host.node_map) == list(range(8))
    assert set(host.cpus_by_node[0]) == counted.near[0] == counted.cpus == set(host.cpu_map)
    assert host.nodes[0].present_kib == counted.memory[0]
    assert not any(host.cpus_by_node[node] for node in range(1, 8))
    assert (len(host.cores), len({cpu.socket for cpu in host.cpus})) == (
        counted.cores,
        counted.packages,
    )


@needs_trees
@needs_lstopo
@pytest.mark.parametrize("name", [name for name in TREE_NAMES if "buggynuma" not in name])
def test_a_tree_is_what_lstopo_sees_and_what_lstopo_writes_is_read_as_the_tree(
    name, unpacked, lstopo
):
    document = lstopo(unpacked(name), "fsroot")
    there, here = seen(document), seen(TREES / f"{name}.tar.bz2")
    counted = Counted(document)
    agree(here, counted, name)
    agree(there, counted, None if name in OTHER_CORES else name)
    assert there.cpus_by_node == here.cpus_by_node
    assert there.distances == here.distances
    assert there.latency_ns == here.latency_ns
    assert there.bandwidth_mb_s == here.bandwidth_mb_s
    assert [node.present_kib for node in there.nodes] == [node.present_kib for node in here.nodes]
    for one, other in zip(there.nodes, here.nodes, strict=True):
        if one.pages:  # lstopo leaves out all sizes of old kernels
            assert [pool[:2] for pool in one.pages] == [pool[:2] for pool in other.pages]
        assert one.free_kib is None
    if name not in OTHER_CORES:
        assert set(there.cores) == set(here.cores)
    if name not in OTHER_CACHES:
        assert parts(there, "llc") == parts(here, "llc")


def parts(host, level):
    """Return the cpus that share each thing of a level."""
    shared = {}
    for cpu in host.cpus:
        if cpu.online and getattr(cpu, level) is not None:
            shared.setdefault(getattr(cpu, level), set()).add(cpu.id)
    return {frozenset(cpus) for cpus in shared.values()}


@needs_trees
@pytest.mark.parametrize("name", TREE_NAMES)
def test_an_archive_is_read_as_the_folder_that_tar_makes_of_it(name, unpacked):
    path = TREES / f"{name}.tar.bz2"
    files = read_tree(ArchiveTree(path.read_bytes(), source=name))
    assert files == read_tree(FolderTree(str(unpacked(name))))
    assert len(files) > 10


@needs_trees
@pytest.mark.parametrize("name", XML_NAMES)
def test_a_document_is_what_a_plain_count_finds(name):
    path = TOPOLOGIES / "hwloc-xml" / f"{name}.xml"
    host, counted = seen(path), Counted(path)
    agree(host, counted, name)
    assert {device.address for device in host.devices} == set(counted.devices)
    bases = {"01": "storage", "02": "network", "06": "chipset"}
    for device in host.devices:
        base = counted.devices[device.address][:2]
        assert base not in bases or device.kind == bases[base]


@needs_trees
@needs_lstopo
def test_a_document_of_version_2_is_what_lstopo_sees(lstopo):
    path = TOPOLOGIES / "hwloc-xml" / "cxlmem+dax.v2.xml"
    agree(seen(path), Counted(lstopo(path, "xml")), "cxlmem+dax.v2")


@needs_trees
def test_the_two_versions_of_a_document_are_one_machine():
    old, new = (seen(TOPOLOGIES / "hwloc-xml" / f"cxlmem+dax.v{at}.xml") for at in (2, 3))
    assert old.replace(source="") == new.replace(source="")
    assert old.name == "efi"


@needs_trees
def test_offline_cpus_of_a_document_are_those_that_only_the_whole_machine_has():
    host = seen(TOPOLOGIES / "hwloc-xml" / "16em64t-4s2c2t-offlines.xml")
    assert host.cpu_map == CpuMap.parse("0-1,3-4,6,12,15")
    assert [cpu.id for cpu in host.cpus if not cpu.online] == [2, 5, 7, 8, 9, 10, 11, 13, 14]
    assert {cpu.node for cpu in host.cpus} == {0}
    assert any("cpus 2,5,7-11,13-14 are offline" in note for note in host.notes)


@needs_trees
def test_fast_memory_is_nodes_without_cpus_beside_the_nodes_with_them():
    host = seen(TOPOLOGIES / "hwloc-xml" / "64intel64-heteromem.xml")
    assert [node.kind for node in host.nodes] == ["dram"] * 4 + ["hbm"] * 4
    assert host.cpus_by_node[0] == CpuMap.parse("0-3,16-19,32-35,48-51")
    assert host.bandwidth_mb_s[0] == (22500, None, None, None, None, None, None, 90000)
    assert not any(value for row in host.bandwidth_mb_s[4:] for value in row)
    # The memory in front of memory is no cache of cpus: two cores share an L2.
    assert len(parts(host, "llc")) == 8


@needs_trees
def test_devices_hang_on_the_node_of_their_package():
    host = seen(TOPOLOGIES / "hwloc-xml" / "nvidiaDGX2.xml")
    kinds = [device.kind for device in host.devices]
    assert kinds.count("accelerator") == 16
    assert {device.node for device in host.devices} == {0, 1}
    address = {device.address: device.node for device in host.devices}
    assert (address["0000:34:00.0"], address["0000:c1:00.0"]) == (0, 1)


@needs_trees
@pytest.mark.parametrize("name", TREE_NAMES)
def test_what_is_odd_is_said_shortly_and_once(name):
    notes = seen(Path(TREES, f"{name}.tar.bz2")).notes
    assert len(set(notes)) == len(notes) <= 3
    assert all(len(note) < 120 for note in notes)
