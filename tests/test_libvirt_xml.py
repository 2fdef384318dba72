"""Domain XML: what it is to libvirt, whose test driver has the real parser, and refusals."""

import os
import re
import shutil
import subprocess
from contextlib import suppress
from pathlib import Path
from xml.etree import ElementTree as ET

import pytest
from hypothesis import given
from hypothesis import strategies as st

from homenode.bitmap import CpuMap, NodeMap
from homenode.errors import ParseError
from homenode.formats import libvirt_xml
from homenode.formats.libvirt_elements import scaled_kib
from homenode.formats.libvirt_xml import parse

needs_virsh = pytest.mark.skipif(
    not shutil.which("virsh"), reason="no virsh here (Debian: libvirt-clients)"
)

NUMA = (
    "<memory unit='MiB'>96</memory><vcpu>4</vcpu>"
    "<cpu><numa><cell id='0' cpus='0-1' memory='64' unit='MiB'/>"
    "<cell id='1' cpus='2-3' memory='32768'/></numa></cpu>"
)


UNITS = ["b", "bytes", "KB", "k", "KiB", "M", "MB", "MiB", "mib", "G", "GB", "GiB", "gib"]

TAKEN = [
    "<vcpu placement='auto' cpuset='1'>3</vcpu>",
    "<vcpu current='1' cpuset='0-7,^3,9'>3</vcpu>",
    "<currentMemory>32768</currentMemory>",
    "<currentMemory unit='GiB'>4</currentMemory>",
    NUMA,
    NUMA.replace("<cell id='0'", "<cell").replace("<cell id='1'", "<cell"),
    NUMA + "<numatune><memory nodeset='1-3,^2'/></numatune>",
    "<vcpu placement='auto'>2</vcpu><numatune><memory mode='strict'/></numatune>",
    "<iothreads>2</iothreads><iothreadids><iothread id='5'/></iothreadids>",
]

REFUSED = [
    ("<memory>0</memory>", "has no memory"),
    ("<memory unit='MiBi'>64</memory>", "no such unit: 'MiBi'"),
    ("<memory>64.5</memory>", "no whole number"),
    ("<memory unit='EiB'>64</memory>", "out of range"),
    ("<memory>64</memory><memory>65</memory>", "twice"),
    ("<maxMemory unit='MiB'>32</maxMemory>", "less than the memory"),
    ("<vcpu>0</vcpu>", "out of range"),
    ("<vcpu current='3'>2</vcpu>", "out of range"),
    ("<vcpu cpuset='^0'>2</vcpu>", "names none"),
    ("<vcpu cpuset='3-1'>2</vcpu>", "backwards"),
    ("<vcpu placement='numad'>2</vcpu>", "one of static, auto"),
    ("<vcpu>1</vcpu><cputune><vcpupin vcpu='0'/></cputune>", "no cpuset"),
    (
        "<cputune><vcpupin vcpu='0' cpuset='0'/><vcpupin vcpu='0' cpuset='1'/></cputune>",
        "pinned twice",
    ),
    ("<numatune><memory mode='bind' nodeset='0'/></numatune>", "one of strict"),
    ("<numatune><memory mode='strict'/></numatune>", "no nodeset"),
    ("<numatune><memnode cellid='0' mode='strict' nodeset='0'/></numatune>", "the guest has 0"),
    (
        NUMA + "<numatune><memory placement='auto'/>"
        "<memnode cellid='0' mode='strict' nodeset='0'/></numatune>",
        "does not go with",
    ),
    (NUMA.replace("2-3", "1-3"), "in more than one cell"),
    (NUMA.replace("2-3", "2-4"), "but the guest has 4 vcpus"),
    (NUMA.replace("id='1'", "id='0'"), "two cells 0"),
    (NUMA.replace("id='1'", "id='2'"), "out of range"),
    (NUMA.replace(" memory='32768'", ""), "no memory"),
    (
        NUMA.replace(
            "memory='32768'/>",
            "memory='32768'><distances><sibling id='0' value='9'/></distances></cell>",
        ),
        "out of range",
    ),
    (
        (
            "<memoryBacking><hugepages><page size='2' unit='MiB' nodeset='1'/></hugepages>"
            "</memoryBacking>"
        ),
        "cells that the guest has not",
    ),
    (
        (
            "<devices><hostdev mode='subsystem' type='pci'><source><address bus='0x100'/>"
            "</source></hostdev></devices>"
        ),
        "out of range",
    ),
    (
        (
            "<devices><hostdev mode='subsystem' type='pci'><source><address/>"
            "</source></hostdev></devices>"
        ),
        "which is none",
    ),
]


def in_unit(unit):
    return domain(f"<memory unit='{unit}'>7000001</memory>")


def domain(body="", *, name="<name>g</name>", memory="<memory unit='MiB'>64</memory>"):
    return (
        f"<domain type='test'>\n{name}\n{'' if '</memory>' in body else memory}\n{body}\n"
        "<os><type>hvm</type></os></domain>"
    )


def read(body="", **parts):
    return parse(domain(body, **parts), source="g.xml")


def refused(body="", **parts):
    with pytest.raises(ParseError) as caught:
        read(body, **parts)
    assert "\n" not in str(caught.value)
    assert caught.value.line
    return str(caught.value)


@pytest.fixture(scope="module")
def libvirt(tmp_path_factory):
    """What real libvirt makes of all the guests of the tests below; None where it refuses."""
    folder = tmp_path_factory.mktemp("libvirt")
    texts = dict.fromkeys([domain(body) for body, _ in REFUSED] + [domain(body) for body in TAKEN])
    texts |= dict.fromkeys(in_unit(unit) for unit in UNITS)
    commands = []
    for number, text in enumerate(texts):
        file = folder / f"{number}.xml"
        file.write_text(text.replace("<name>g<", f"<name>g{number}<"))
        commands.append(f"define {file}\ndumpxml g{number}\n")
    made = subprocess.run(
        ["virsh", "-q", "-c", "test:///default"],
        input="".join(commands),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    found = re.findall("^<domain .*?^</domain>", made.stdout, re.DOTALL | re.MULTILINE)
    trees = [ET.fromstring(one) for one in found]  # noqa: S314 - libvirt's own
    by_name = {tree.findtext("name"): tree for tree in trees}
    assert by_name
    return {text: by_name.get(f"g{number}") for number, text in enumerate(texts)}


# --- what is there is read ---


def test_a_whole_guest_is_read():
    made = read(
        "<uuid>00112233-4455-6677-8899-AABBCCDDEEFF</uuid>"
        "<maxMemory slots='4' unit='GiB'>2</maxMemory><currentMemory unit='MiB'>48</currentMemory>"
        "<memory unit='MiB'>96</memory>"
        "<vcpu placement='static' cpuset='0-7,^3' current='3'>4</vcpu><iothreads>2</iothreads>"
        "<cputune><vcpupin vcpu='1' cpuset='5'/><emulatorpin cpuset='0-1'/>"
        "<iothreadpin iothread='2' cpuset='6'/></cputune>"
        "<numatune><memory mode='strict' nodeset='0-2,^1'/>"
        "<memnode cellid='1' mode='preferred' nodeset='2'/></numatune>"
        "<cpu><topology sockets='1' cores='2' threads='2'/><numa>"
        "<cell cpus='0-1' memory='65536'><distances><sibling id='0' value='10'/>"
        "<sibling id='1' value='21'/></distances></cell>"
        "<cell cpus='2-3' memory='32' unit='MiB'/></numa></cpu>"
    )
    assert made.uuid == "00112233-4455-6677-8899-aabbccddeeff"
    assert (made.memory_kib, made.current_kib, made.max_kib) == (96 << 10, 48 << 10, 2 << 20)
    assert (made.vcpus, made.online_vcpus, made.threads) == (4, 3, 2)
    assert made.cpuset == CpuMap([0, 1, 2, 4, 5, 6, 7])
    assert (made.pins, made.iothread_pins) == ({1: CpuMap([5])}, {2: CpuMap([6])})
    assert (made.emulator_pin, made.iothreads) == (CpuMap([0, 1]), (1, 2))
    assert made.memory_nodes is not None
    assert made.memory_nodes.nodes == NodeMap([0, 2])
    assert [one[:3] for one in made.cell_nodes] == [(1, "preferred", NodeMap([2]))]
    assert [cell[:4] for cell in made.cells] == [
        (0, CpuMap([0, 1]), 65536, {0: 10, 1: 21}),
        (1, CpuMap([2, 3]), 32768, {}),
    ]


def test_vcpus_that_no_cell_names_are_in_the_first_as_libvirt_has_it():
    made = read(NUMA.replace("cpus='0-1'", "cpus='1'"))
    assert made.cells[0].vcpus == CpuMap([0, 1])


def test_memory_that_is_not_set_is_that_of_the_cells():
    assert (
        read(NUMA.replace("<memory unit='MiB'>96</memory>", ""), memory="").memory_kib == 96 << 10
    )


def test_a_cell_may_have_no_vcpus():
    made = read(NUMA.replace("cpus='0-1'", "cpus='0-3'").replace("cpus='2-3' ", ""))
    assert [len(cell.vcpus) for cell in made.cells] == [4, 0]


def test_memory_modules_count_and_what_is_kept_in_files_does_not():
    module = "<memory model='{}'><target><size unit='MiB'>32</size><node>1</node></target></memory>"
    text = NUMA.replace(">96<", ">128<") + "<devices>" + module.format("dimm")
    made = read(text + module.format("nvdimm") + "</devices>")
    assert (made.memory_kib, [one[:2] for one in made.modules]) == (128 << 10, [(32 << 10, 1)])


@pytest.mark.parametrize(
    ("body", "filled", "pinned"),
    [
        ("", False, False),
        ("<memoryBacking><allocation mode='immediate'/></memoryBacking>", True, False),
        ("<memoryBacking><allocation mode='ondemand'/></memoryBacking>", False, False),
        ("<memoryBacking><allocation threads='2'/></memoryBacking>", False, False),
        ("<memoryBacking><hugepages/></memoryBacking>", False, False),
        ("<memoryBacking><locked/></memoryBacking>", False, True),
        ("<devices><hostdev mode='subsystem' type='usb'/></devices>", False, False),
        ("<devices><hostdev mode='subsystem' type='mdev'/></devices>", False, True),
        (
            (
                "<devices><hostdev mode='subsystem' type='pci'><source><address bus='0x41'/>"
                "</source></hostdev></devices>"
            ),
            False,
            True,
        ),
    ],
)
def test_it_is_known_whether_all_memory_is_allocated_at_the_start(body, filled, pinned):
    made = read(body)
    assert (made.filled_at_start, made.pinned_at_start) == (filled, pinned)


def test_devices_of_the_host_are_known_by_their_pci_addresses():
    made = read(
        "<devices><hostdev mode='subsystem' type='pci' managed='yes'><source>"
        "<address domain='0x0000' bus='0x41' slot='0x00' function='0x1'/></source></hostdev>"
        "<hostdev mode='subsystem' type='usb'><source><vendor id='0x1'/></source></hostdev>"
        "<interface type='hostdev'><source>"
        "<address type='pci' domain='1' bus='010' slot='31' function='7'/></source></interface>"
        "<interface type='network'><source network='default'/></interface></devices>"
    )
    assert [one.address for one in made.devices] == ["0000:41:00.1", "0001:08:1f.7"]


def test_huge_pages_are_for_all_cells_or_for_some():
    made = read(
        NUMA + "<memoryBacking><hugepages><page size='1' unit='GiB' nodeset='0'/>"
        "<page size='2048'/></hugepages></memoryBacking>"
    )
    assert [one[:2] for one in made.huge_pages] == [(1 << 20, NodeMap([0])), (2048, None)]
    bare = read("<memoryBacking><hugepages/></memoryBacking>")
    assert [one[:2] for one in bare.huge_pages] == [(None, None)]


@pytest.mark.parametrize(
    "element",
    [
        '<homenode:placement xmlns:homenode="urn:homenode:placement:1" nodes="0-1" spill="yes"/>',
        '<h:placement xmlns:h="urn:homenode:placement:1" nodes="0-1" spill="yes"/>',
        '<placement xmlns="urn:homenode:placement:1" nodes="0-1" spill="yes"/>',
    ],
)
def test_homenodes_own_wishes_are_found_by_their_namespace(element):
    other = '<app:placement xmlns:app="http://example.org/app" nodes="7"/>'
    made = read(f"<metadata>{other}{element}</metadata>")
    assert made.wishes == {"nodes": "0-1", "spill": "yes"}


def test_metadata_of_others_is_not_ours():
    assert read('<metadata><a:placement xmlns:a="urn:a" tier="x"/></metadata>').wishes == {}


# --- what libvirt refuses, and what nobody could mean ---


@pytest.mark.parametrize(("body", "said"), REFUSED)
def test_what_libvirt_refuses_is_refused_with_its_line(body, said):
    assert said in refused(body)


# libvirt's parser takes these: it is the start that fails, or what is meant is anyone's guess
TAKEN_BY_ITS_PARSER = (
    "</memory><memory>",
    "<maxMemory",
    "^0",
    "vcpu='0'/>",
    "nodeset='1'/></huge",
    "<address/>",
)


@needs_virsh
def test_libvirt_refuses_them_indeed(libvirt):
    taken = [body for body, _ in REFUSED if libvirt[domain(body)] is not None]
    assert [body for body in taken if not any(part in body for part in TAKEN_BY_ITS_PARSER)] == []


@pytest.mark.parametrize(
    ("body", "said"),
    [
        (NUMA.replace(">96<", ">128<"), "but the cells and modules have 98304 KiB"),
        (
            (
                '<metadata><homenode:placement xmlns:homenode="urn:homenode:placement:1" node="1"/>'
                "</metadata>"
            ),
            "there are nodes, policy",
        ),
        (
            '<metadata><homenode:placement xmlns:homenode="urn:homenode:placement:2"/></metadata>',
            "is not known",
        ),
        ('<metadata><homenode:placement nodes="1"/></metadata>', "is not known"),
    ],
)
def test_what_libvirt_passes_over_is_refused_with_its_line(body, said):
    assert said in refused(body)


def test_a_name_is_needed():
    assert "has no name" in refused(name="")
    assert "no such name" in refused(name="<name>a/b</name>")


def test_the_line_is_that_of_the_element():
    text = domain("\n\n<vcpu\n cpuset='x'>2</vcpu>")
    with pytest.raises(ParseError, match=r"^g.xml:6: <vcpu> cpuset: not a cpu number") as caught:
        parse(text, source="g.xml")
    assert caught.value.line == 6


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("<capabilities/>", "no domain of libvirt"),
        ("<domain type='kvm'>", "is not XML"),
        ("<!DOCTYPE domain [<!ENTITY a 'b'>]><domain type='kvm'>&a;</domain>", "entities"),
        ("name = 'g'", "is not XML"),
        ("<domain type='kvm'><memory>1</memory></domain>", "has no name"),
    ],
)
def test_what_is_no_domain_is_one_line(text, said):
    with pytest.raises(ParseError, match=said):
        parse(text, source="g.xml")


# --- against libvirt's own parser ---


@needs_virsh
def test_units_mean_what_they_mean_to_libvirt(libvirt):
    for unit in UNITS:
        theirs = libvirt[in_unit(unit)].findtext("memory")
        assert (unit, parse(in_unit(unit)).memory_kib) == (unit, int(theirs))


@needs_virsh
@pytest.mark.parametrize("body", TAKEN)
def test_a_guest_is_what_it_is_to_libvirt(body, libvirt):
    root, made = libvirt[domain(body)], parse(domain(body))
    assert root is not None
    vcpu = root.find("vcpu")
    assert made.memory_kib == int(root.findtext("memory"))
    assert made.current_kib == int(root.findtext("currentMemory"))
    assert (made.vcpus, made.online_vcpus) == (int(vcpu.text), int(vcpu.get("current", vcpu.text)))
    assert str(made.cpuset or "") == vcpu.get("cpuset", "")
    cells = root.findall("cpu/numa/cell")
    assert [(cell.id, str(cell.vcpus), cell.memory_kib) for cell in made.cells] == [
        (int(cell.get("id")), cell.get("cpus", ""), int(cell.get("memory"))) for cell in cells
    ]
    nodes = root.find("numatune/memory")
    if made.memory_nodes is None:
        assert nodes is None or nodes.get("placement") == "auto"
    else:
        assert str(made.memory_nodes.nodes or "") == nodes.get("nodeset", "")
        assert (made.memory_nodes.mode or "strict") == nodes.get("mode")


# --- whatever comes ---

WORDS = st.sampled_from(
    ["0", "1", "64", "-1", "99999999999999999999", "", "x", "0-3", "^1", "strict", "auto", "GiB"]
)


@given(st.data())
def test_a_mutated_guest_never_ends_in_a_traceback(data):
    text = domain(
        NUMA + "<iothreads>1</iothreads><cputune><vcpupin vcpu='0' cpuset='1'/></cputune>"
        "<numatune><memory mode='strict' nodeset='0-1'/></numatune><memoryBacking><hugepages>"
        "<page size='2' unit='MiB' nodeset='0'/></hugepages></memoryBacking><devices>"
        "<hostdev mode='subsystem' type='pci'><source><address bus='0x41'/></source></hostdev>"
        '</devices><metadata><h:placement xmlns:h="urn:homenode:placement:1" nodes="1"/></metadata>'
    )
    spans = [match.span(1) for match in re.finditer(r"(?:='|>)([^'<>\n]+)(?:'|<)", text)]
    for start, end in sorted(data.draw(st.sets(st.sampled_from(spans), max_size=3)), reverse=True):
        text = text[:start] + data.draw(WORDS) + text[end:]
    with suppress(ParseError):
        parse(text)


@given(st.integers(0, 10**18), st.text(max_size=4))
def test_no_unit_ends_in_a_traceback(number, unit):
    kib = scaled_kib(number, unit)
    assert kib is None or kib >= 0


DATA = Path(os.environ.get("HOMENODE_DATA", "/nonexistent")) / "kvm-captures"


@pytest.mark.skipif(not DATA.is_dir(), reason="HOMENODE_DATA has no kvm-captures")
def test_every_guest_that_libvirt_wrote_down_is_read():
    texts = [
        found
        for file in sorted(DATA.rglob("*.txt"))
        for found in re.findall(
            r"^<domain.*?^</domain>", file.read_text(), re.DOTALL | re.MULTILINE
        )
    ]
    assert len(texts) > 5
    for text in texts:
        root = ET.fromstring(text)  # noqa: S314 - our own captures
        assert libvirt_xml.parse(text).memory_kib == int(root.findtext("memory"))
