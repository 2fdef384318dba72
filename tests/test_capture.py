import shutil
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from homenode.bitmap import CpuMap
from homenode.drivers import capture
from homenode.drivers.capture import CaptureDriver
from homenode.drivers.xen_snapshot import (
    DUMP_HEAP,
    DUMP_NUMA,
    INFO,
    LIST_CONFIGURED,
    LIST_NODES,
    LIST_POOLS,
    OUTPUTS,
    POOL_CPUS,
    POOLS,
    VCPUS,
    snapshot_of,
)
from homenode.errors import HomenodeError
from homenode.formats import snapshot as snapshot_format
from homenode.guest import Guest, GuestRequest
from homenode.placement.view import equal_shares
from homenode.rules.xen import memory_shares

CAPTURES = Path(__file__).parent / "data" / "xen-captures"
FOLDERS = [f"{name}/{state}" for name in ("n2", "n4", "n8") for state in ("empty", "guests")]

every_folder = pytest.mark.parametrize("folder", FOLDERS)


def texts(folder):
    paths = {name: CAPTURES / folder / name for name in OUTPUTS}
    return {name: path.read_text() for name, path in paths.items() if path.exists()}


def refused(outputs):
    with pytest.raises(HomenodeError) as caught:
        snapshot_of(outputs, source="folder")
    assert "\n" not in str(caught.value)
    return str(caught.value)


# --- a folder of outputs ----------------------------------------------------------------------


@every_folder
def test_a_capture_is_one_host_with_its_guests(folder):
    seen = CaptureDriver(str(CAPTURES / folder)).snapshot()
    names = "abcdefg" if folder in ("n4/guests", "n8/guests") else "abcdef" * ("guests" in folder)
    assert [guest.name for guest in seen.guests] == ["Domain-0", *names]
    assert seen.host.hypervisor == "Xen 4.17.7"
    assert [pool.scheduler for pool in seen.host.pools] == ["credit2"]
    for node in seen.host.nodes:
        held = sum(guest.memory_by_node.kib.get(node.id, 0) for guest in seen.guests)
        assert held + node.free_kib <= node.present_kib
    for guest in seen.guests:
        assert sum(guest.memory_by_node.kib.values()) == guest.memory_kib
        assert guest.pool == "Pool-0"


def test_every_output_adds_what_it_knows_of_a_guest():
    guest = CaptureDriver(str(CAPTURES / "n8/guests")).snapshot().guest("g")
    assert guest.uuid.count("-") == 4
    assert (guest.type, guest.id, guest.max_memory_kib) == ("pv", 7, 1044 << 10)
    assert guest.memory_by_node.kib == {0: 604 << 10, 2: 440 << 10}
    assert str(guest.node_affinity) == "0,2"
    assert [(vcpu.cpu, str(vcpu.soft)) for vcpu in guest.vcpus] == [(1, "0-1,4-5"), (0, "0-1,4-5")]


def test_pages_outrank_rounded_sizes():
    outputs = texts("n8/guests")
    free = [node.free_kib for node in snapshot_of(outputs, source="").host.nodes]
    del outputs[DUMP_NUMA]
    rounded = snapshot_of(outputs, source="").host.nodes
    assert free[0] == 54267 * 4
    assert all(size % 1024 == 0 for size in (node.free_kib for node in rounded))
    assert all(0 <= size - node.free_kib < 2048 for size, node in zip(free, rounded, strict=True))


@every_folder
@given(data=st.data())
@settings(max_examples=25)
def test_any_output_but_the_first_may_be_missing(folder, data):
    outputs = texts(folder)
    kept = data.draw(st.sets(st.sampled_from([name for name in outputs if name != INFO])))
    seen = snapshot_of({name: outputs[name] for name in {INFO, *kept}}, source="folder")
    whole = snapshot_of(outputs, source="folder")
    lists = kept & {LIST_NODES, LIST_POOLS, LIST_CONFIGURED, VCPUS, DUMP_NUMA}
    assert [guest.id for guest in seen.guests] == [guest.id for guest in whole.guests if lists]
    assert seen.host.cpus == whole.host.cpus
    for guest, known in zip(seen.guests, whole.guests, strict=bool(lists)):
        assert guest.uuid in (known.uuid, None)
        assert guest.node_affinity in (known.node_affinity, None)
        assert guest.memory_by_node in (known.memory_by_node, None)
        if VCPUS in kept:
            assert guest.vcpus == known.vcpus


def test_without_info_the_file_is_named():
    assert INFO in refused({LIST_NODES: ""})


@every_folder
def test_a_capture_survives_being_saved_as_a_snapshot(folder):
    seen = CaptureDriver(str(CAPTURES / folder)).snapshot()
    assert snapshot_format.parse(snapshot_format.dump(*seen), source="") == tuple(seen)


def test_a_node_without_cpus_is_a_node_with_memory():
    host = CaptureDriver(str(CAPTURES / "cpuless4/guests")).snapshot().host
    assert not host.cpus_by_node[3]
    assert host.nodes_by_id[3].usable_kib == 228860 * 4


def test_a_node_without_memory_is_a_node_with_cpus():
    host = CaptureDriver(str(CAPTURES / "memless4/guests")).snapshot().host
    assert (host.nodes_by_id[2].present_kib, host.nodes_by_id[2].usable_kib) == (0, 0)
    assert host.cpus_by_node[2] == CpuMap([4, 5])


def test_a_guest_that_left_only_low_memory_on_its_node_left_nothing_usable_there():
    seen = CaptureDriver(str(CAPTURES / "memless4/guests")).snapshot()
    assert seen.guest("my guest").memory_by_node.kib == {0: 624 << 10, 1: 76 << 10}
    assert seen.host.nodes_by_id[0].usable_kib < 2048


def test_a_hole_in_the_address_space_is_noted():
    host = CaptureDriver(str(CAPTURES / "hole2/guests")).snapshot().host
    assert any("counts holes" in note for note in host.notes)
    # A quarter of 5 GiB ends in the second GiB: the width is 31 bits.
    assert "2048 MiB" in host.nodes[0].reserved[0].reason


# --- outputs that do not fit together ---------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "old", "new", "complaint"),
    [
        (VCPUS, "2-3 / 4-5", "2-3 / 4-99", "names cpus 16-99, which this host has not"),
        (VCPUS, "13   -b-", "77   -b-", "names cpu 77"),
        (VCPUS, "7     1 ", "7     0 ", "lists vcpu 0 of 'g' twice"),
        (POOL_CPUS, "14,15", "14,15,16", "names cpu 16"),
        (LIST_NODES, "0,2", "0,9", "nodes 9, which this host has not"),
        (LIST_NODES, "2   128", "1   128", "lists domain 1 twice"),
        (DUMP_NUMA, "NODE7", "NODE8", "tells of node 8"),
        (INFO, "  6:       0", "  5:       0", "two lines for 5"),
        (INFO, "3        3\n  8", "3       33\n  8", "node 33, which is not described"),
    ],
)
def test_what_cannot_be_true_is_refused_with_its_file(name, old, new, complaint):
    outputs = texts("n8/guests")
    assert old in outputs[name]
    message = refused({**outputs, name: outputs[name].replace(old, new, 1)})
    assert message.startswith(f"folder/{name}:")
    assert complaint in message


def test_an_unknown_pool_of_a_guest_is_refused():
    outputs = texts("n8/empty")
    outputs[LIST_POOLS] = outputs[LIST_POOLS].replace("Pool-0", "Pool-9")
    assert "'Pool-9'" in refused(outputs)


@pytest.mark.parametrize(
    ("name", "old", "new", "note"),
    [
        (DUMP_NUMA, "Domain 7 ", "Domain 8 ", "domain 8 has 1044 MiB in debug-keys-u"),
        (DUMP_NUMA, "Domain 7 ", "Domain 8 ", "where all of the memory is of domain 7"),
        (DUMP_NUMA, "NODE7 ", "NODE ", "does not tell of node 7"),
        (DUMP_NUMA, "NODE", "", "does not tell of node 0"),
        (INFO, "claims     : 0", "claims     : 64", "64 MiB of the free memory"),
        (INFO, ": 4607", ": 4000", "counts holes"),
        (INFO, "nr_cpus                : 16", "nr_cpus : 15", "15 of 16 cpus are online"),
    ],
)
def test_what_is_only_of_another_moment_is_noted(name, old, new, note):
    outputs = texts("n8/guests")
    assert old in outputs[name]
    seen = snapshot_of({**outputs, name: outputs[name].replace(old, new)}, source="folder")
    assert any(note in sentence for sentence in seen.host.notes)


def test_cpus_that_are_parked_are_told_by_the_dump_or_by_the_pools():
    outputs = texts("n8/guests")
    outputs[INFO] = outputs[INFO].replace(
        "nr_cpus                : 16", "nr_cpus                : 14"
    )
    outputs[DUMP_NUMA] = outputs[DUMP_NUMA].replace("(XEN) CPU14...15 -> NODE7\n", "")
    by_dump = snapshot_of(outputs, source="").host
    del outputs[DUMP_NUMA]
    outputs[POOL_CPUS] = outputs[POOL_CPUS].replace(",14,15", "")
    by_pool = snapshot_of(outputs, source="").host
    assert by_dump.cpu_map == by_pool.cpu_map == CpuMap.full(14)
    assert not by_dump.cpus_by_node[7]


ONE_NODE = """\
cpu_topology           :
cpu:    core    socket     node
  0:       0        0        0
numa_info              :
node:    memsize    memfree    distances
   0:      1536       1011      10
"""


def test_a_host_of_one_node_is_usable_to_the_last_page():
    seen = snapshot_of({INFO: ONE_NODE}, source="")
    (node,) = seen.host.nodes
    assert node.usable_kib == node.free_kib == 1011 << 10
    assert seen.host.notes == ()


def test_the_dma_width_on_xens_command_line_counts():
    plain = texts("n8/empty")[INFO]
    for option, mib in (("dma_bits=29", 512), ("dma_bits=12", 256), ("dma_bits=99", 0)):
        text = plain.replace("com1=115200", f"{option} com1=115200")
        seen = snapshot_of({INFO: text}, source="")
        assert seen.host.nodes[0].reserved_kib == mib << 10


def test_a_few_words_cannot_make_vcpus_without_end():
    guest = '{"domid": %d, "config": {"b_info": {"max_vcpus": 8192}}}'
    many = "[" + ", ".join(guest % number for number in range(99)) + "]"
    message = refused({INFO: texts("n2/empty")[INFO], LIST_CONFIGURED: many})
    assert "more than 262144 vcpus" in message


def test_a_pool_is_known_from_the_short_list_if_it_has_all_cpus():
    outputs = texts("n8/guests")
    del outputs[POOL_CPUS]
    (pool,) = snapshot_of(outputs, source="").host.pools
    assert (pool.name, pool.cpus) == ("Pool-0", CpuMap.full(16))
    outputs[POOLS] = outputs[POOLS].replace("16", " 8")
    assert snapshot_of(outputs, source="").host.pools == ()


# --- single files and other folders -----------------------------------------------------------


def test_a_file_of_xl_info_is_a_host_without_guests():
    seen = CaptureDriver(str(CAPTURES / "n4/empty" / INFO)).snapshot()
    assert (len(seen.host.nodes), seen.guests) == (4, ())


def test_a_snapshot_file_is_what_was_saved(tmp_path):
    seen = CaptureDriver(str(CAPTURES / "n4/guests")).snapshot()
    (tmp_path / "saved").write_text(snapshot_format.dump(*seen))
    driver = CaptureDriver(str(tmp_path / "saved"))
    assert driver.snapshot() == seen
    assert driver.share_rule is memory_shares


def test_a_folder_of_virsh_outputs_is_a_host_with_what_is_free_of_it():
    folder = Path(__file__).parent / "data" / "kvm-captures" / "n8"
    host = CaptureDriver(str(folder)).snapshot().host
    assert [node.free_kib for node in host.nodes] == [
        698044,
        493764,
        499788,
        428132,
        489932,
        498916,
        492100,
        481552,
    ]
    host = CaptureDriver(str(folder / "virsh-capabilities.xml")).snapshot().host
    assert [node.free_kib for node in host.nodes] == [None] * 8
    with pytest.raises(HomenodeError, match="describes no host"):
        CaptureDriver(str(folder / "virsh-freepages.txt")).snapshot()


@pytest.mark.parametrize(
    "begin", ["", "\n \t", "\ufeff", "<?xml version='1.0' encoding='UTF-16'?>"]
)
def test_xml_is_known_by_its_root(tmp_path, begin):
    pu = "<object type='PU' os_index='0'/>"
    node = "<object type='NUMANode' os_index='0' cpuset='0x1'/>"
    # A name that xl info has, too, is no sign of its output.
    text = f"<topology version='2.0'>{node}{pu}<info name='numa_info' value='a = b'/></topology>"
    (tmp_path / "file").write_text(begin + text)
    assert CaptureDriver(str(tmp_path / "file")).snapshot().host.cpu_map == CpuMap([0])


@pytest.mark.parametrize("text", ["<domain type='kvm'/>", "<html></html>"])
def test_xml_of_something_else_is_refused_with_what_is_understood(tmp_path, text):
    (tmp_path / "file").write_text(text)
    with pytest.raises(HomenodeError) as caught:
        CaptureDriver(str(tmp_path / "file")).snapshot()
    assert str(caught.value).startswith(f"{tmp_path}/file: describes no host, but is XML of <")
    for word in ("xl info -n", "virsh capabilities", "lstopo", "tar archive", "snapshot", "TOML"):
        assert word in str(caught.value)


def test_a_made_up_host_is_read(tmp_path):
    (tmp_path / "host").write_text('nodes = 2\ncores = 4\nmemory = "8GiB"\n')
    driver = CaptureDriver(str(tmp_path / "host"))
    assert len(driver.snapshot().host.cpu_map) == 8
    assert driver.share_rule is equal_shares


def test_a_saved_tree_is_read(tmp_path):
    node = tmp_path / "sys/devices/system/node/node0"
    node.mkdir(parents=True)
    (node / "cpulist").write_text("0-3\n")
    (node / "distance").write_text("10\n")
    (node / "meminfo").write_text("Node 0 MemTotal: 4096 kB\nNode 0 MemFree: 1024 kB\n")
    seen = CaptureDriver(str(tmp_path)).snapshot()
    assert seen.host.cpus_by_node == {0: CpuMap.full(4)}


def test_a_folder_without_a_machine_in_its_tree_is_refused(tmp_path):
    (tmp_path / "sys/devices/system").mkdir(parents=True)
    with pytest.raises(HomenodeError, match="no files of /sys or /proc of a Linux machine"):
        CaptureDriver(str(tmp_path)).snapshot()


@pytest.mark.parametrize(
    "content", [b"", b"\xff\xfe", b"{", b"hello", b"a = ", b"nr_cpus : 3\n", b"\0", b"[]"]
)
def test_a_file_of_something_else_is_refused_in_one_line(tmp_path, content):
    (tmp_path / "file").write_bytes(content)
    with pytest.raises(HomenodeError) as caught:
        CaptureDriver(str(tmp_path / "file")).snapshot()
    assert str(caught.value).startswith(f"{tmp_path}/file:")
    assert "\n" not in str(caught.value)


def test_what_cannot_be_opened_is_refused(tmp_path):
    for path in (tmp_path, tmp_path / "nothing", tmp_path / "nothing" / INFO):
        with pytest.raises(HomenodeError, match=str(path)):
            CaptureDriver(str(path)).snapshot()


def test_a_file_is_not_read_beyond_the_bound(tmp_path, monkeypatch):
    monkeypatch.setattr(capture, "LARGEST_FILE", 1 << 20)
    with (tmp_path / "long").open("wb") as file:
        file.truncate(1 << 40)
    with pytest.raises(HomenodeError, match="longer than 1 MiB"):
        CaptureDriver(str(tmp_path / "long")).snapshot()


def test_nothing_can_be_changed():
    driver = CaptureDriver(str(CAPTURES / "n2/guests"))
    request = GuestRequest("new", vcpus=1, memory_kib=1)
    for change in (
        lambda: driver.create(request, None, None, None),
        lambda: driver.destroy(Guest("a")),
        lambda: driver.pin(Guest("a"), ()),
        lambda: driver.move(Guest("a"), ()),
    ):
        with pytest.raises(HomenodeError, match="read-only"):
            change()


# --- whatever the input -----------------------------------------------------------------------

FILES = [f"{folder}/{name}" for folder in FOLDERS for name in texts(folder)]


@pytest.fixture(scope="module")
def copies(tmp_path_factory):
    copied = tmp_path_factory.mktemp("captures")
    shutil.copytree(CAPTURES, copied, dirs_exist_ok=True)
    return copied


def read_with(path, content):
    """Read a capture with `content` as one file of it, also that file alone, then mend it."""
    intact = path.read_bytes()
    path.write_bytes(content)
    try:
        for read in (path.parent, path):
            try:
                seen = CaptureDriver(str(read)).snapshot()
            except HomenodeError as error:
                assert "\n" not in str(error)  # noqa: PT017 - either way of ending is right
            else:
                assert all(node.usable_kib >= 0 for node in seen.host.nodes)
    finally:
        path.write_bytes(intact)


junk = st.binary(max_size=3) | st.sampled_from([b"9" * 30, b"-", b" ", b"\n"])
damaged = settings(
    max_examples=10, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)


@pytest.mark.parametrize("file", FILES)
@damaged
@given(at=st.floats(0, 1, exclude_max=True))
def test_a_file_that_is_cut_off_anywhere_is_read_or_refused(copies, file, at):
    content = (CAPTURES / file).read_bytes()
    read_with(copies / file, content[: int(at * len(content))])


@pytest.mark.parametrize("file", FILES)
@damaged
@given(
    st.lists(
        st.tuples(st.floats(0, 1, exclude_max=True), st.integers(0, 3), junk),
        min_size=1,
        max_size=6,
    )
)
def test_a_file_that_is_garbled_anywhere_is_read_or_refused(copies, file, places):
    content = (CAPTURES / file).read_bytes()
    for at, length, put in places:
        start = int(at * len(content))
        content = content[:start] + put + content[start + length :]
    read_with(copies / file, content)


@pytest.mark.parametrize("name", [DUMP_HEAP, DUMP_NUMA])
def test_a_dump_that_was_never_printed_is_as_good_as_none(name):
    outputs = texts("n8/empty")
    del outputs[name]
    without = snapshot_of(outputs, source="").host
    seen = snapshot_of({**outputs, name: "(XEN) something else\n"}, source="").host
    assert seen.nodes == without.nodes
