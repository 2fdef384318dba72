import pytest
from hypothesis import given
from hypothesis import strategies as st

from homenode.bitmap import CpuMap
from homenode.errors import ParseError
from homenode.formats import hwloc_xml

MACHINE = """\
<topology version="{version}">
 <object type="Machine" cpuset="0xf" complete_cpuset="0x1f" nodeset="0x7" gp_index="1">
  <object type="Package" os_index="0" cpuset="0x3" nodeset="0x5" gp_index="2">
   <object type="NUMANode" os_index="0" cpuset="0x3" gp_index="7" local_memory="4194304">
    <page_type size="4096" count="512"/><page_type size="2097152" count="1"/>
    <page_type size="1073741824" count="0"/>
   </object>
   <object type="NUMANode" os_index="2" cpuset="0x3" nodeset="0x4" gp_index="9" {memory}/>
   <object type="L3Cache" cpuset="0x3" gp_index="20">
    <object type="Core" os_index="0" cpuset="0x3" gp_index="21">
     <object type="PU" os_index="0" cpuset="0x1" gp_index="22"/>
     <object type="PU" os_index="1" cpuset="0x2" gp_index="23"/>
    </object>
   </object>
   <object type="Bridge" bridge_type="0-1" gp_index="24">
    <object type="PCIDev" pci_busid="0000:01:00.0" pci_type="0200 [8086:1521]" gp_index="25"/>
   </object>
  </object>
  <object type="Package" os_index="1" cpuset="0xc" nodeset="0x2" gp_index="3">
   <object type="NUMANode" os_index="1" cpuset="0xc" complete_cpuset="0x1c" gp_index="8"/>
   <object type="Core" os_index="0" cpuset="0x4" gp_index="31">
    <object type="PU" os_index="2" cpuset="0x4" gp_index="32"/>
   </object>
   <object type="Core" os_index="1" cpuset="0x8" gp_index="33">
    <object type="PU" os_index="3" cpuset="0x8" gp_index="34"/>
   </object>
  </object>
  <object type="Bridge" bridge_type="0-1" gp_index="40">
   <object type="PCIDev" pci_busid="0000:00:02.0" pci_type="0300 [1234:1111]" gp_index="41"/>
  </object>
 </object>
 {more}
</topology>
"""
DISTANCES = """
 <distances2 type="NUMANode" nbobjs="{count}" kind="{kind}" name="{name}" indexing="{indexing}">
  <indexes length="9">{indexes}</indexes>
  <u64values length="9">{values}</u64values>
  <u64values length="9">{last}</u64values>
 </distances2>
"""


def machine(*, version="2.0", memory="", more=""):
    return MACHINE.format(version=version, memory=memory, more=more)


def distances(**changes):
    stated = {
        "count": 3, "kind": 5, "name": "NUMALatency", "indexing": "os", "indexes": "0 1 2",
        "values": "10 21 17 22 10 31", "last": "17 31 10",
    }  # fmt: skip
    return DISTANCES.format(**{**stated, **changes})


def read(**parts):
    return hwloc_xml.parse(machine(**parts), source="test")


@pytest.mark.parametrize("version", ["2.0", "3.0"])
def test_a_machine_is_read_in_full(version):
    host = read(version=version, memory='subtype="HBM"', more=distances())
    assert host.cpus_by_node == {0: CpuMap([0, 1]), 1: CpuMap([2, 3]), 2: CpuMap()}
    assert [tuple(cpu) for cpu in host.cpus] == [
        (0, 0, 0, 0, 0, None, 0, True),
        (1, 0, 0, 0, 1, None, 0, True),
        (2, 1, 0, 1, 0, None, None, True),
        (3, 1, 1, 1, 0, None, None, True),
        (4, 1, None, None, None, None, None, False),
    ]
    assert host.distances == ((10, 21, 17), (22, 10, 31), (17, 31, 10))
    assert [(node.kind, node.present_kib, node.free_kib) for node in host.nodes] == [
        ("dram", 4096, None),
        ("dram", None, None),
        ("hbm", None, None),
    ]
    assert host.nodes[0].pages == ((2048, 1, None), (1048576, 0, 0))
    assert host.nodes[0].usable_in_pages_kib(2048) is None
    assert [tuple(device) for device in host.devices] == [
        ("0000:00:02.0", None, "display"),
        ("0000:01:00.0", 0, "network"),
    ]
    assert host.notes == (
        "cpus 4 are offline, or were not allowed to who ran lstopo",
        "distances differ by direction: node 0 to 1 is 21, and back 22",
    )


def test_distances_count_by_row_and_by_either_index():
    host = read(more=distances(indexing="gp", indexes="9 8 7"))
    assert host.distances == ((10, 31, 17), (31, 10, 22), (17, 21, 10))


@pytest.mark.parametrize("changes", [{"kind": 9}, {"name": "XGMIBandwidth"}])
def test_a_table_of_something_else_is_no_distances(changes):
    host = read(more=distances(**changes) + distances())
    assert host.distances[1] == (22, 10, 31)
    host = read(more=distances(**changes))
    assert "no distances between nodes are stated: all count as far apart" in host.notes


def test_a_table_of_some_nodes_leaves_the_others_unknown():
    host = read(more=distances(count=2, indexes="0 1", values="10 21 22", last="10"))
    assert host.distances == ((10, 21, None), (22, 10, None), (None,) * 3)
    assert (
        "distances from nodes 0-2 are not all stated: what is unknown counts as far" in host.notes
    )


@pytest.mark.parametrize(
    ("memory", "kind"),
    [
        ('subtype="DRAM"', "dram"),
        ('subtype="HBM"', "hbm"),
        ('subtype="NVM"', "pmem"),
        ('subtype="GPUMemory"', "gpu"),
        ('subtype="CXL-DRAM"', "cxl"),
        ('subtype="SPM"', None),
        ("", None),
    ],
)
def test_memory_without_cpus_is_what_its_subtype_says(memory, kind):
    host = read(memory=memory)
    # Of two kinds of ordinary memory that are near the same cpus the first is their home.
    assert [node.kind for node in host.nodes] == ["dram", "dram", kind]
    assert not host.cpus_by_node[2]


ATTRIBUTE = """
 <memattr name="{name}" flags="5">
  <memattr_value target_obj_type="NUMANode" target_obj_gp_index="7" value="{own}" {initiator}/>
  <memattr_value target_obj_type="NUMANode" target_obj_gp_index="9" value="{other}" {initiator}/>
 </memattr>
"""


@pytest.mark.parametrize(
    "initiator",
    [
        'initiator_cpuset="0x3"',
        'initiator_cpuset="0x1"',
        'initiator_obj_type="NUMANode" initiator_obj_gp_index="7"',
        'initiator_obj_type="Package" initiator_obj_gp_index="2"',
    ],
)
def test_attributes_of_memory_are_from_the_cpus_to_the_node(initiator):
    more = "".join(
        ATTRIBUTE.format(name=name, own=own, other=other, initiator=initiator)
        for name, own, other in (
            ("Bandwidth", 1, 2),
            ("ReadBandwidth", 1000, 2500),
            ("WriteBandwidth", 3, 4),
            ("Latency", 80, 0),
            ("Capacity", 5, 6),
        )
    )
    host = read(more=more)
    assert host.bandwidth_mb_s == ((1000, None, 2500), (None,) * 3, (None,) * 3)
    assert host.latency_ns == ((80, None, None), (None,) * 3, (None,) * 3)
    assert host.nodes[2].kind == "hbm"  # by its bandwidth


def test_cores_that_their_numbers_do_not_tell_apart_are_numbered_by_their_first_cpus():
    text = machine().replace('os_index="1" cpuset="0x8"', 'os_index="0" cpuset="0x8"')
    host = hwloc_xml.parse(text, source="test")
    assert [set(core) for core in host.cores] == [{0, 1}, {2}, {3}]
    assert any("core_id" in note for note in host.notes)


def test_a_core_without_a_number_is_a_core():
    text = machine().replace('type="Core" os_index="0"', 'type="Core"')
    host = hwloc_xml.parse(text, source="test")
    assert [set(core) for core in host.cores] == [{0, 1}, {2}, {3}]


@pytest.mark.parametrize(
    ("mask", "cpus"),
    [
        ("0x000000ff,,,,,,0x000000ff", "0-7,192-199"),
        ("0x1,0x00000000", "32"),
        ("", ""),
        ("0x0", ""),
        ("0xf...f", "0-65535"),
        ("0xf...f,0x00000001,,0xf", "0-3,64,96-65535"),
    ],
)
def test_sets_are_read_as_hwloc_writes_them(mask, cpus):
    root = hwloc_xml.xml_tree.parse(machine(), source="test")
    reader = hwloc_xml._Reader(root, "test")
    root.set("cpuset", mask)
    assert CpuMap.from_bits(reader.mask(root, "cpuset")) == CpuMap.parse(cpus)


def test_a_machine_of_all_cpus_that_may_be_tells_of_none_offline():
    text = machine().replace('complete_cpuset="0x1f"', 'complete_cpuset="0xf...f"')
    assert len(hwloc_xml.parse(text, source="test").cpus) == 4


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ('version="2.0"', "", "hwloc XML of version 1, which is not read; write it again"),
        ('version="2.0"', 'version="4.1"', "version 4.1"),
        ("topology", "domain", "is no hwloc XML, but <domain>"),
        ("NUMANode", "Misc", "describes no node"),
        ('cpuset="0x3"', 'cpuset="0x3,0x3g"', "cpuset is no set: '0x3,0x3g'"),
        ('cpuset="0x3"', 'cpuset="0x111111111"', "cpuset is no set"),
        ('cpuset="0x3"', f'cpuset="0x1{"," * 2048}"', "cpuset is no set"),
        ('type="PU" os_index="1"', 'type="PU"', "PU: os_index is no number: ''"),
        ('type="PU" os_index="1"', 'type="PU" os_index="65536"', "more than 65535"),
        ('type="PU" os_index="1"', 'type="PU" os_index="0"', "describes cpu 0 twice"),
        ('type="NUMANode" os_index="1"', 'type="NUMANode" os_index="0"', "node 0 twice"),
        ('local_memory="4194304"', 'local_memory="lots"', "local_memory is no number: 'lots'"),
        ('nbobjs="3"', 'nbobjs="2"', "9 distances of 3 nodes are no table"),
        (">17 31 10<", f">17 31 {10**15}<", "u64values: no number: '1000000000000000'"),
        ('local_memory="4194304"', f'local_memory="{2**53}"', "local_memory is more than"),
        (">0 1 2<", ">0 1 x<", "indexes: no number: 'x'"),
    ],
)
def test_what_is_not_of_the_form_is_refused_in_one_line(old, new, message):
    text = machine(more=distances())
    assert old in text
    with pytest.raises(ParseError) as caught:
        hwloc_xml.parse(text.replace(old, new), source="saved.xml")
    assert str(caught.value).startswith("saved.xml:")
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def mask(cpus):
    """Write a set as hwloc does."""
    bits = sum(1 << cpu for cpu in cpus)
    words = []
    while bits or not words:
        words.append(f"0x{bits & 0xFFFFFFFF:08x}")
        bits >>= 32
    return ",".join(reversed(words))


@given(
    st.lists(st.lists(st.integers(1, 3), max_size=3), min_size=1, max_size=5),
    st.randoms(use_true_random=False),
)
def test_any_machine_is_read_as_it_was_written(cores_of_nodes, random):
    numbers = random.sample(range(100), sum(map(sum, cores_of_nodes)))
    nodes = sorted(random.sample(range(200), len(cores_of_nodes)))
    packages, cores, cpus_by_node = "", set(), {}
    for node, sizes in zip(nodes, cores_of_nodes, strict=True):
        drawn = [[numbers.pop() for _ in range(size)] for size in sizes]
        cores |= {frozenset(core) for core in drawn}
        cpus_by_node[node] = {cpu for core in drawn for cpu in core}
        parts = f'<object type="NUMANode" os_index="{node}" cpuset="{mask(cpus_by_node[node])}"/>'
        for at, core in enumerate(drawn):
            units = "".join(f'<object type="PU" os_index="{cpu}"/>' for cpu in core)
            parts += f'<object type="Core" os_index="{at}">{units}</object>'
        packages += f'<object type="Package" os_index="{node}">{parts}</object>'
    text = f'<topology version="2.0"><object type="Machine">{packages}</object></topology>'
    host = hwloc_xml.parse(text, source="test")
    assert {node: set(cpus) for node, cpus in host.cpus_by_node.items()} == cpus_by_node
    assert {frozenset(core) for core in host.cores} == cores
