"""Whatever is in a file that is said to describe a host: a host, or one line that says why not."""

import bz2
import random
from functools import cache

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from homenode.bitmap import CpuMap
from homenode.drivers.archive import ArchiveTree
from homenode.drivers.capture import CaptureDriver
from homenode.drivers.trees import read_tree
from homenode.errors import HomenodeError
from homenode.formats import snapshot, sysfs
from test_hwloc_xml import distances, machine
from test_libvirt_capabilities import CAPTURES, CELLS
from trees import CPU, NODE, TOPOLOGIES, TREES, needs_trees, packed, small_tree


def read_or_refuse(path, content):
    """Read a file that has that content; return whether it described a host."""
    path.write_bytes(content)
    try:
        host = CaptureDriver(str(path)).snapshot().host
    except HomenodeError as error:
        message = str(error)
        assert "\n" not in message
        assert message.startswith(str(path))
        return False
    assert sum(len(own) for own in host.cpus_by_node.values()) <= len(host.cpu_map)
    if len(host.nodes) < 99:
        assert snapshot.parse(snapshot.dump(host, ()), source="saved") == (host, ())
    assert all(node.usable_kib is None or node.usable_kib >= 0 for node in host.nodes)
    return True


def documents():
    made = {
        "hwloc": machine(memory='subtype="HBM"', more=distances()).encode(),
        "libvirt": CELLS.format(second=3, domain="kvm").encode(),
        "tree": packed(small_tree(), links=[("sys/bus/pci/devices/0000:00:04.0", "../../..")]),
    }
    for name in ("n2", "n8"):
        made[name] = (CAPTURES / name / "virsh-capabilities.xml").read_bytes()
    if TREES.is_dir():
        for name in ("16em64t-4s2c2t-offlines", "64intel64-heteromem", "cxlmem+dax.v3"):
            made[name] = (TOPOLOGIES / "hwloc-xml" / f"{name}.xml").read_bytes()
        made["2arm-2c"] = bz2.decompress((TREES / "2arm-2c.tar.bz2").read_bytes())
        made["2arm-2c.bz2"] = (TREES / "2arm-2c.tar.bz2").read_bytes()
    return made


DOCUMENTS = documents()


@pytest.fixture(scope="module")
def file(tmp_path_factory):
    return tmp_path_factory.mktemp("damaged") / "file"


@pytest.mark.parametrize("name", DOCUMENTS)
def test_a_whole_document_is_a_host(file, name):
    assert read_or_refuse(file, DOCUMENTS[name])


WORDS = [
    b"",
    b"0",
    b"-1",
    b"9" * 30,
    b"0xf...f",
    b'"',
    b"<",
    b"/>",
    b"\0",
    b"\xff",
    b",",
    b"-",
    b"\n",
]
places = st.lists(
    st.tuples(st.floats(0, 1, exclude_max=True), st.integers(0, 9), st.sampled_from(WORDS)),
    min_size=1,
    max_size=5,
)


@pytest.mark.parametrize("name", DOCUMENTS)
@settings(max_examples=60)
@given(places)
def test_a_document_that_is_garbled_anywhere_is_read_or_refused(file, name, places):
    content = DOCUMENTS[name]
    for at, length, put in places:
        start = int(at * len(content))
        content = content[:start] + put + content[start + length :]
    read_or_refuse(file, content)


@pytest.mark.parametrize("name", DOCUMENTS)
@settings(max_examples=30)
@given(st.integers(0, 2**32), st.sampled_from(["cut", "flip", "double", "drop", "swap"]))
def test_a_document_whose_lines_or_bits_are_mixed_up_is_read_or_refused(file, name, seed, how):
    chance = random.Random(seed)  # noqa: S311 - a test that repeats itself
    content = DOCUMENTS[name]
    if how == "cut":
        content = content[: chance.randrange(len(content))]
    elif how == "flip":
        flipped = bytearray(content)
        for _ in range(chance.randrange(1, 30)):
            flipped[chance.randrange(len(flipped))] ^= 1 << chance.randrange(8)
        content = bytes(flipped)
    else:
        lines = content.split(b"\n")
        one, other = sorted(chance.choices(range(len(lines)), k=2))
        if how == "double":
            lines[other:other] = lines[one : other + 1]
        elif how == "drop":
            del lines[one:other]
        else:
            lines[one], lines[other] = lines[other], lines[one]
        content = b"\n".join(lines)
    read_or_refuse(file, content)


@settings(max_examples=200)
@given(st.data())
def test_no_attribute_of_any_element_gives_a_traceback(file, data):
    name = data.draw(st.sampled_from(["hwloc", "libvirt"]))
    parts = DOCUMENTS[name].split(b'"')
    at = data.draw(st.integers(0, len(parts) // 2 - 1)) * 2 + 1
    other = data.draw(st.integers(0, len(parts) // 2 - 1)) * 2 + 1
    put = data.draw(st.sampled_from(WORDS) | st.just(parts[other]))
    parts[at] = put.replace(b"<", b"(").replace(b"\0", b"").replace(b'"', b"")
    read_or_refuse(file, b'"'.join(parts))


@settings(max_examples=200)
@given(st.binary(max_size=600))
def test_any_bytes_after_any_beginning_are_refused_or_read(file, content):
    tar = bytes(257) + b"ustar\x0000" + content
    for begin in (b"", b"BZh9", b"\x1f\x8b\x08", b"\xfd7zXZ\0", b"<topology>", b"<capabilities>"):
        read_or_refuse(file, begin + content)
    read_or_refuse(file, tar)


@cache
def real_files():
    path = TREES / "fakeheteromemtiers.tar.bz2"
    return read_tree(ArchiveTree(path.read_bytes(), source=path.name))


@needs_trees
@settings(max_examples=300)
@given(st.data())
def test_a_real_tree_with_any_of_its_files_damaged_is_read_or_refused(data):
    files = real_files()
    changed = dict(files)
    for name in data.draw(st.lists(st.sampled_from(sorted(files)), min_size=1, max_size=4)):
        other = data.draw(st.sampled_from(sorted(files)))
        changed[name] = data.draw(
            st.sampled_from(["", "-1", "9" * 20, "0-9", files[other]]) | st.text(max_size=8)
        )
    try:
        host = sysfs.parse(changed, source="test")
    except HomenodeError as error:
        message = str(error)
        assert "\n" not in message
    else:
        assert sum(len(own) for own in host.cpus_by_node.values()) <= len(host.cpu_map)


@settings(max_examples=200)
@given(places)
def test_free_pages_that_are_garbled_anywhere_are_read_or_refused(tmp_path_factory, places):
    folder = tmp_path_factory.getbasetemp() / "virsh"
    folder.mkdir(exist_ok=True)
    (folder / "virsh-capabilities.xml").write_bytes(DOCUMENTS["n2"])
    content = (CAPTURES / "n2" / "virsh-freepages.txt").read_bytes()
    for at, length, put in places:
        start = int(at * len(content))
        content = content[:start] + put + content[start + length :]
    (folder / "virsh-freepages.txt").write_bytes(content)
    try:
        host = CaptureDriver(str(folder)).snapshot().host
    except HomenodeError as error:
        message = str(error)
        assert "\n" not in message
    else:
        assert all(0 <= (node.free_kib or 0) <= node.present_kib for node in host.nodes)


made_up_nodes = st.dictionaries(
    st.integers(0, 300),
    st.tuples(
        st.sets(st.integers(0, 12), max_size=5),
        st.lists(st.integers(9, 40), max_size=5),
        st.none() | st.integers(0, 1 << 30),
    ),
    min_size=1,
    max_size=4,
)


@given(made_up_nodes, st.sets(st.integers(0, 12), min_size=1), st.booleans())
def test_any_made_up_tree_is_read_as_it_states(file, nodes, online, folder):
    files = {CPU + "online": str(CpuMap(online)), CPU + "present": "0-12"}
    for node, (cpus, row, memory) in nodes.items():
        files[f"{NODE}node{node}/cpulist"] = str(CpuMap(cpus))
        files[f"{NODE}node{node}/distance"] = " ".join(map(str, row))
        if memory is not None:
            files[f"{NODE}node{node}/meminfo"] = f"Node {node} MemTotal: {memory} kB\n"
    file.write_bytes(packed(files, folder="machine/" * folder))
    host = CaptureDriver(str(file)).snapshot().host
    numbers = sorted(nodes)
    left = set(online)
    for at, node in enumerate(numbers):
        cpus, row, memory = nodes[node]
        assert set(host.cpus_by_node[node]) == cpus & left
        left -= cpus
        assert host.nodes_by_id[node].present_kib == memory
        stated = [*row, *[None] * len(numbers)] if len(row) <= len(numbers) else [None] * 9
        assert list(host.distances[at]) == stated[: len(numbers)]
    assert set(host.cpu_map) == online
    claimed = [cpu for cpus, _, _ in nodes.values() for cpu in cpus]
    assert any("more than one node" in note for note in host.notes) == (
        len(claimed) > len(set(claimed))
    )


@pytest.mark.parametrize(
    "text",
    [
        "<topology version='2.0'>" + "<object type='Machine'>" * 300,
        "<!DOCTYPE a [<!ENTITY b 'c'><!ENTITY d '&b;&b;'>]><topology version='2.0'>&d;</topology>",
        "<!DOCTYPE a [<!ENTITY b SYSTEM 'file:///etc/passwd'>]><capabilities>&b;</capabilities>",
        "<topology version='2.0'><object type='NUMANode' os_index='0' cpuset='0xf...f'/>"
        + "".join(
            f"<object type='NUMANode' os_index='{at}' cpuset='0x1'/>" for at in range(1, 2000)
        )
        + "</topology>",
        "<domain type='kvm'><name>guest</name></domain>",
        "<html/>",
    ],
)
def test_xml_that_is_dangerous_or_of_something_else_is_refused(file, text):
    assert not read_or_refuse(file, text.encode())


def test_a_thousand_caches_of_all_the_cpus_that_there_can_be_are_read(file):
    banks = "".join(f"<bank level='{2 + at % 3}' cpus='0-65535'/>" for at in range(1000))
    cell = "<cell id='0'><cpus><cpu id='1'/><cpu id='65535'/></cpus></cell>"
    host = f"<host><topology><cells>{cell}</cells></topology><cache>{banks}</cache></host>"
    assert read_or_refuse(file, f"<capabilities>{host}</capabilities>".encode())


def test_a_document_in_which_everything_is_as_large_as_may_be_is_read(file):
    numbers = " ".join(map(str, range(1024)))
    values = " ".join(["10"] * 1024 * 1024)
    nodes = "".join(
        f"<object type='NUMANode' os_index='{at}' gp_index='{at}' cpuset='0xf...f'/>"
        for at in range(1024)
    )
    cpus = "".join(f"<object type='PU' os_index='{at}'/>" for at in range(65_536))
    cpus = f"<object type='Core' os_index='0'>{cpus}</object>"
    table = (
        "<distances2 type='NUMANode' nbobjs='1024' kind='5' name='NUMALatency' indexing='os'>"
        f"<indexes>{numbers}</indexes><u64values>{values}</u64values></distances2>"
    )
    machine = f"<object type='Machine' complete_cpuset='0xf...f'>{nodes}{cpus}</object>"
    assert read_or_refuse(file, f"<topology version='2.0'>{machine}{table}</topology>".encode())
