import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from homenode.bitmap import CpuMap
from homenode.drivers.capture import CaptureDriver
from homenode.errors import ParseError
from homenode.formats import libvirt_capabilities
from homenode.rules.xen import memory_shares

CAPTURES = Path(__file__).parent / "data" / "kvm-captures"
CELLS_OF = {"n2": 2, "n4": 4, "n8": 8, "memless3": 3, "memonly3": 3, "smt2": 2}
every_capture = pytest.mark.parametrize("name", CELLS_OF)
TREES = [name for name in CELLS_OF if (CAPTURES / name / "tree.tar.gz").exists()]


def seen(name):
    return CaptureDriver(str(CAPTURES / name)).snapshot().host


@every_capture
def test_a_capture_has_the_cells_that_a_plain_count_finds(name):
    text = (CAPTURES / name / "virsh-capabilities.xml").read_text()
    host = seen(name)
    memory = re.findall(r"<memory unit='KiB'>(\d+)</memory>", text)
    assert [node.present_kib for node in host.nodes if node.present_kib] == list(map(int, memory))
    assert len(host.nodes) == CELLS_OF[name]
    assert len(host.cpu_map) == len(re.findall(r"<cpu id=", text))
    values = [int(value) for value in re.findall(r"<sibling id='\d+' value='(\d+)'/>", text)]
    assert [value for row in host.distances for value in row] == values
    assert len({cpu.llc for cpu in host.cpus}) == len(re.findall(r"<bank id=.* level='3'", text))
    assert host.hypervisor == "QEMU by libvirt"
    assert host.notes == ()


@every_capture
def test_free_memory_is_what_virsh_counts_in_pages(name):
    text = (CAPTURES / name / "virsh-freepages.txt").read_text()
    free = [
        {
            int(size): int(count)
            for size, count in re.findall(r"^(\d+)KiB: (\d+)$", node, re.MULTILINE)
        }
        for node in text.split("Node ")[1:]
    ]
    host = seen(name)
    assert len(host.nodes) == len(free)
    for node, pages in zip(host.nodes, free, strict=True):
        assert node.free_kib == node.usable_kib == pages[4] * 4
        assert [(pool.page_kib, pool.free) for pool in node.pages] == [*pages.items()][1:]


@pytest.mark.parametrize("name", TREES)
def test_libvirt_and_the_kernel_describe_one_machine(name):
    libvirt, kernel = seen(name), seen(f"{name}/tree.tar.gz")
    assert libvirt.cpus_by_node == kernel.cpus_by_node
    assert libvirt.cores == kernel.cores
    assert [cpu.socket for cpu in libvirt.cpus] == [cpu.socket for cpu in kernel.cpus]
    assert [cpu.thread for cpu in libvirt.cpus] == [cpu.thread for cpu in kernel.cpus]
    assert [cpu.llc for cpu in libvirt.cpus] == [cpu.llc for cpu in kernel.cpus]
    assert libvirt.distances == kernel.distances
    for one, other in zip(libvirt.nodes, kernel.nodes, strict=True):
        assert (one.id, one.kind, one.present_kib) == (other.id, other.kind, other.present_kib)
        assert one.pages == other.pages
        # They were asked one after the other.
        assert abs(one.free_kib - other.free_kib) < 8 << 10


def test_without_free_pages_free_memory_is_unknown():
    path = CAPTURES / "n2" / "virsh-capabilities.xml"
    host = CaptureDriver(str(path)).snapshot().host
    assert [node.free_kib for node in host.nodes] == [None, None]
    assert [node.usable_kib for node in host.nodes] == [None, None]


CELLS = """\
<capabilities><host><topology><cells num="3">
 <cell id="0"><memory unit="MiB">4</memory><pages unit="KiB" size="4">512</pages>
  <pages unit="KiB" size="2048">1</pages>
  <distances><sibling id="0" value="10"/><sibling id="1" value="21"/></distances>
  <cpus num="2">
   <cpu id="0" socket_id="0" die_id="0" core_id="0" siblings="0-1"/>
   <cpu id="1" socket_id="0" die_id="0" core_id="0" siblings="0-1"/>
  </cpus></cell>
 <cell id="2"><cpus num="2"><cpu id="2"/>
  <cpu id="{second}" socket_id="-1" die_id="0" core_id="0" siblings="3"/></cpus></cell>
 <cell id="1"><memory>4096</memory><distances><sibling id="0" value="21"/></distances>
  <cpus num="0"></cpus></cell></cells>
 <interconnects>
  <latency initiator="0" target="0" type="read" value="80"/>
  <latency initiator="0" target="0" type="write" value="90"/>
  <latency initiator="0" target="1" type="read" value="0"/>
  <latency initiator="0" target="1" cache="1" type="read" value="5"/>
  <bandwidth initiator="0" target="0" type="access" value="1024000" unit="KiB"/>
  <bandwidth initiator="0" target="1" type="access" value="4000" unit="MiB"/>
 </interconnects></topology>
 <cache><bank id="0" level="3" type="both" size="16" unit="MiB" cpus="0-1"/>
  <bank id="1" level="2" cpus="0"/><bank id="1" level="3" cpus="2-3"/></cache>
</host><guest><arch name="x86_64"><domain type="{domain}"/></arch></guest></capabilities>
"""


def read(*, second="3", domain="kvm", free=None):
    text = CELLS.format(second=second, domain=domain)
    return libvirt_capabilities.parse(text, source="test", free=free)


def test_a_host_is_read_in_full():
    host = read()
    assert [tuple(cpu) for cpu in host.cpus] == [
        (0, 0, 0, 0, 0, 0, 0, True),
        (1, 0, 0, 0, 1, 0, 0, True),
        (2, 2, None, None, None, None, 1, True),
        (3, 2, 0, None, 0, 0, 1, True),
    ]
    assert [(node.id, node.kind, node.present_kib, node.free_kib) for node in host.nodes] == [
        (0, "dram", 4096, None),
        (1, "hbm", 4096, None),
        (2, "dram", 0, 0),
    ]
    assert host.nodes[0].pages == ((2048, 1, None),)
    assert host.distances == ((10, 21, None), (21, None, None), (None,) * 3)
    # libvirt multiplies the kernel's number by 1024.
    assert host.bandwidth_mb_s == ((1000, 4000, None), (None,) * 3, (None,) * 3)
    assert host.latency_ns == ((80, None, None), (None,) * 3, (None,) * 3)
    assert host.hypervisor == "KVM by libvirt"


def test_free_pages_are_those_of_their_node_and_size():
    text = "Node 0:\n4KiB: 100\n2048KiB: 9\n\nNode 1:\n4KiB: 9999\n\nNode 7:\n4KiB: 1\n"
    host = read(free=libvirt_capabilities.parse_free_pages(text, source="test"))
    assert host.nodes[0].free_kib == 400
    assert host.nodes[0].pages == ((2048, 1, 1),)
    assert host.nodes[1].free_kib == 4096  # no more than there is
    assert "free pages are told of nodes 7, which are not described" in host.notes


def test_a_cpu_of_two_cells_counts_for_the_first():
    host = read(second="1")
    assert host.cpus_by_node == {0: CpuMap([0, 1]), 1: CpuMap(), 2: CpuMap([2])}
    assert any("more than one node claims cpus 1" in note for note in host.notes)


def test_a_xen_host_by_libvirt_hands_out_memory_as_xen_does(tmp_path):
    (tmp_path / "host.xml").write_text(CELLS.format(second=3, domain="xen"))
    driver = CaptureDriver(str(tmp_path / "host.xml"))
    assert driver.snapshot().host.hypervisor == "Xen by libvirt"
    assert driver.share_rule is memory_shares


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("capabilities", "domain", "is no libvirt capabilities, but <domain>"),
        ("cells", "cell", "describes no cells"),
        ('id="2"><cpus', 'id="1"><cpus', "describes a cell twice"),
        ('id="2"><cpus', 'id="70000"><cpus', "<cell>: id: more than 65535"),
        ('unit="MiB">4', 'unit="MiB">x', "<memory>: no number: 'x'"),
        ('unit="MiB">4', 'unit="GiB">9007199254740991', "<memory>: more than there can be"),
        ('unit="MiB">4', 'unit="firkin">4', "<memory>: unknown unit 'firkin'"),
        ('siblings="0-1"', 'siblings="0-x"', "<cpu>: siblings:"),
        ('level="3" cpus', 'level="top" cpus', "<bank>: level: no number"),
        ('value="21"', 'value="near"', "<sibling>: value: no number"),
    ],
)
def test_what_is_not_of_the_form_is_refused_in_one_line(old, new, message):
    text = CELLS.format(second=3, domain="kvm")
    assert old in text
    with pytest.raises(ParseError) as caught:
        libvirt_capabilities.parse(text.replace(old, new), source="saved.xml")
    assert str(caught.value).startswith("saved.xml:")
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "text",
    [
        "4KiB: 1",
        "Node 0:\n4MiB: 1",
        "Node 0:\nlots",
        "Node 0:\n4KiB: x",
        "Node x:\n",
        "Node 65536:",
        "a:",
    ],
)
def test_free_pages_that_are_none_are_refused_with_their_line(text):
    with pytest.raises(ParseError, match=r"^free.txt:[12]: not a number of free pages"):
        libvirt_capabilities.parse_free_pages(text, source="free.txt")


@given(
    st.dictionaries(
        st.integers(0, 99),
        st.dictionaries(st.sampled_from([4, 64, 2048, 1 << 20]), st.integers(0, 10**9)),
    )
)
def test_any_free_pages_are_read_as_virsh_prints_them(free):
    text = "".join(
        f"Node {node}:\n" + "".join(f"{kib}KiB: {count}\n" for kib, count in pages.items()) + "\n"
        for node, pages in free.items()
    )
    assert libvirt_capabilities.parse_free_pages(text, source="test") == free
