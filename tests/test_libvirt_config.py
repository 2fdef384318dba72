"""The decision in libvirt's XML: what is written, and that all else stays as it was."""

import difflib
import re
from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from lxml import etree

from homenode.asking import Overrides, ask
from homenode.bitmap import CpuMap, NodeMap
from homenode.errors import HomenodeError
from homenode.formats.libvirt_xml import NAMESPACE, parse
from homenode.guest import VirtualNode
from homenode.host import Cpu, Host, Node, PagePool
from homenode.placement import View, place
from homenode.placement.decision import MemoryShare, VcpuAffinity
from homenode.placement.policies import DEFAULT, policy
from homenode.rules.libvirt_config import written
from homenode.rules.libvirt_remarks import cells_against_topology, remarks
from homenode.rules.libvirt_request import request

MIB, GIB = 1 << 10, 1 << 20
SCHEMA = Path("/usr/share/libvirt/schemas/domain.rng")

# Four nodes of four cpus, two by two near, and node 4 with memory alone.
HOST = Host(
    cpus=[Cpu(cpu, cpu // 4, core=cpu // 2) for cpu in range(16)],
    nodes=[Node(node, free_kib=8 * GIB, pages=(PagePool(2048, 4096, 4096),)) for node in range(4)]
    + [Node(4, kind="cxl", free_kib=32 * GIB)],
    distances=[
        [10, 16, 22, 22, 30],
        [16, 10, 22, 22, 30],
        [22, 22, 10, 16, 30],
        [22, 22, 16, 10, 30],
        [30, 30, 30, 30, 10],
    ],
)

GUEST = """<?xml version='1.0'?>
<!-- kept by hand -->
<domain type='kvm'
        xmlns:qemu='http://libvirt.org/schemas/domain/qemu/1.0'>
  <name>g</name>   <!-- the guest -->
  <uuid>00112233-4455-6677-8899-aabbccddeeff</uuid>
  <memory unit='GiB'>2</memory>
  <vcpu   placement = "static">4</vcpu> <!-- four -->
  <os>
    <type arch='x86_64'>hvm</type>
  </os>
  <features><acpi/><apic></apic></features>
  <cpu mode='host-passthrough'/>
  <devices>
    <emulator>/usr/bin/qemu-system-x86_64</emulator>
  </devices>
  <qemu:commandline>
    <qemu:arg value='-name'/>
    <qemu:arg value='&lt;a&#x20;b&gt;'/>
  </qemu:commandline>
</domain>
<!-- the end -->
"""
OURS = f'<metadata><homenode:placement xmlns:homenode="{NAMESPACE}" {{}}/></metadata>\n  '
IMMEDIATE = "<memoryBacking><allocation mode='immediate'/></memoryBacking>\n  "
HUGE = "<memoryBacking><hugepages><page size='2048'/></hugepages></memoryBacking>\n  "


def guest(inserted="", *, vcpu=None):
    text = GUEST.replace("<memory unit", f"{inserted}<memory unit")
    return text.replace("""<vcpu   placement = "static">4</vcpu>""", vcpu) if vcpu else text


def decide(text, host=HOST, name=DEFAULT):
    config = parse(text, source="g.xml")
    asked = request(config, host).request
    return config, asked, place(View(host), asked, policy(name))


def write(text, host=HOST):
    config, asked, decision = decide(text, host)
    assert decision.fits
    return written(config, asked, decision, host)


def changes(before, after):
    lines = difflib.ndiff(before.splitlines(), after.splitlines())
    return [line[0] + line[2:].strip() for line in lines if line[0] in "+-"]


CELLS = (
    VirtualNode(0, CpuMap([0, 1]), GIB, (10, 16), 2),
    VirtualNode(1, CpuMap([2, 3]), GIB, (16, 10), 3),
)


def split(text, cells=CELLS):
    """What the decision is if homenode makes virtual nodes."""
    config, asked, decision = decide(text)
    decision = decision._replace(
        nodes=NodeMap(cell.node for cell in cells if cell.vcpus),
        memory=tuple(MemoryShare(cell.node, cell.memory_kib, 4, "bound") for cell in cells),
        vcpus=tuple(
            VcpuAffinity(str(cell.vcpus), None, HOST.cpus_by_node[cell.node])
            for cell in cells
            if cell.vcpus
        ),
        virtual_nodes=cells,
    )
    return config, asked, decision


# --- what is written ---


def test_a_guest_of_one_node():
    assert changes(GUEST, write(GUEST)) == [
        '-<vcpu   placement = "static">4</vcpu> <!-- four -->',
        '+<vcpu   placement = "static" cpuset="0-3">4</vcpu> <!-- four -->',
        "+<cputune>",
        "+<emulatorpin cpuset='0-3'/>",
        "+</cputune>",
        "+<numatune>",
        "+<memory mode='preferred' nodeset='0'/>",
        "+</numatune>",
    ]


@pytest.mark.parametrize(
    ("inserted", "tune"),
    [
        ("", "<memory mode='preferred' nodeset='0'/>"),
        (IMMEDIATE, "<memory mode='strict' nodeset='0'/>"),
        (HUGE, "<memory mode='strict' nodeset='0'/>"),
        (OURS.format('nodes="1-2"'), "<memory mode='interleave' nodeset='1-2'/>"),
        (OURS.format('nodes="1-2"') + IMMEDIATE, "<memory mode='interleave' nodeset='1-2'/>"),
        (OURS.format('nodes="4"'), "<memory mode='preferred' nodeset='4'/>"),
        (OURS.format('nodes="4"') + IMMEDIATE, "<memory mode='restrictive' nodeset='4'/>"),
    ],
)
def test_the_mode_is_one_that_does_no_harm(inserted, tune):
    assert tune in write(guest(inserted))


def test_uneven_shares_of_memory_that_is_there_at_the_start_are_bound():
    config, asked, decision = decide(guest(OURS.format('nodes="1-2"') + IMMEDIATE))
    uneven = (MemoryShare(1, 2 * GIB, 4, "bound"), MemoryShare(2, 64 * MIB, 4, "bound"))
    made = written(config, asked, decision._replace(memory=uneven), HOST)
    assert "<memory mode='strict' nodeset='1-2'/>" in made


def test_huge_pages_are_interleaved_only_where_every_pool_has_its_turn():
    # A page that its turn's pool has not is taken from any other one, named or not.
    text = guest(OURS.format('nodes="0-2"') + HUGE)  # 1024 pages
    for pools, mode in (
        ((400, 400, 400, 400), "interleave"),
        ((400, 342, 400, 400), "interleave"),
        ((400, 341, 400, 400), "strict"),
        ((342, 342, 340, 400), "strict"),
    ):
        nodes = tuple(
            node._replace(pages=(PagePool(2048, 400, free),))
            for node, free in zip(HOST.nodes, (*pools, 0), strict=True)
        )
        host = Host(cpus=HOST.cpus, nodes=nodes, distances=HOST.distances)
        assert f"<memory mode='{mode}' nodeset='0-2'/>" in write(text, host)


TWO_CELLS = """<cpu><numa>
    <cell id='0' cpus='0-1' memory='1' unit='GiB'/><cell id='1' cpus='2-3' memory='1' unit='GiB'/>
  </numa></cpu>"""
HUGE_FOR_ONE = HUGE.replace("size='2048'", "size='2048' nodeset='1'")


def test_of_cells_that_alone_in_huge_pages_is_filled_at_the_start():
    text = guest(HUGE_FOR_ONE).replace("<cpu mode='host-passthrough'/>", TWO_CELLS)
    made = write(text)
    assert "<memnode cellid='0' mode='preferred' nodeset='0'/>" in made
    assert "<memnode cellid='1' mode='strict' nodeset='1'/>" in made
    made = write(text.replace("</memoryBacking>", "<allocation mode='immediate'/></memoryBacking>"))
    assert "<memnode cellid='0' mode='strict' nodeset='0'/>" in made


def test_huge_pages_asked_for_where_the_file_has_them_for_some_cells_are_refused():
    text = guest(HUGE_FOR_ONE).replace("<cpu mode='host-passthrough'/>", TWO_CELLS)
    config = parse(text, source="g.xml")
    asked, chosen, _ = ask(config, HOST, Overrides(pages="2MiB"))
    decision = place(View(HOST), asked, chosen)
    with pytest.raises(HomenodeError, match=r"g.xml:7: .* for all .* has them for cell 1 alone"):
        written(config, asked, decision, HOST)
    text = text.replace(" nodeset='1'", " nodeset='0-1'")
    config = parse(text, source="g.xml")
    assert "nodeset='0-1'" in written(config, asked, decision, HOST)


def test_memory_that_spills_is_preferred_near_the_cpus_and_all_nodes_are_named():
    text = guest(OURS.format('nodes="0,4" spill="yes"')).replace("'GiB'>2<", "'GiB'>9<")
    config, asked, decision = decide(text)
    assert [share.node for share in decision.memory] == [0, 4]
    made = written(config, asked, decision, HOST)
    assert "<memory mode='preferred' nodeset='0'/>" in made
    bare = parse(guest(), source="g.xml")
    made = written(bare, request(bare, HOST).request._replace(spill=True), decision, HOST)
    ours = f'<homenode:placement xmlns:homenode="{NAMESPACE}" spill="yes" nodes="0,4"/>'
    assert ours.replace('"', "'") in made
    assert decide(made)[1].explicit.nodes == NodeMap([0, 4])


@pytest.mark.parametrize(
    ("nodes", "memory", "backing", "told"),
    [
        ("0,4", 9, "", True),  # the kernel takes node 1 first, which is nearer to node 0
        ("0,4", 9, IMMEDIATE, False),  # and is bound then
        ("0,4", 7, "", False),  # nothing spills
        ("0-4", 33, "", False),  # all nearer ones are taken
        ("0-1,4", 17, "", True),
    ],
)
def test_spilling_that_the_kernel_does_to_nearer_nodes_is_told(nodes, memory, backing, told):
    text = guest(OURS.format(f'nodes="{nodes}" spill="yes"') + backing)
    config, asked, decision = decide(text.replace("'GiB'>2<", f"'GiB'>{memory}<"))
    assert decision.fits
    codes = [one.code for one in remarks(config, asked, decision, HOST)]
    assert codes == (["spills-nearer"] if told else [])


def test_named_nodes_to_spill_to_give_nothing_as_long_as_nothing_spills():
    text = guest(OURS.format('nodes="0,4" spill="yes"'))
    config, asked, decision = decide(text)
    assert [share.node for share in decision.memory] == [0]
    made = written(config, asked, decision, HOST)
    assert "<memory mode='preferred' nodeset='0'/>" in made
    assert 'nodes="0,4" spill="yes"' in made


def test_virtual_nodes_are_written_with_their_distances_and_nodes():
    config, asked, decision = split(GUEST)
    made = written(config, asked, decision, HOST)
    assert changes(GUEST, made) == [
        "+<cputune>",
        *(f"+<vcpupin vcpu='{vcpu}' cpuset='{cpus}'/>" for vcpu, cpus in enumerate(
            ("8-11", "8-11", "12-15", "12-15"))),
        "+<emulatorpin cpuset='8-15'/>",
        "+</cputune>",
        "+<numatune>",
        "+<memnode cellid='0' mode='preferred' nodeset='2'/>",
        "+<memnode cellid='1' mode='preferred' nodeset='3'/>",
        "+</numatune>",
        "-<cpu mode='host-passthrough'/>",
        "+<cpu mode='host-passthrough'>",
        "+<numa>",
        "+<cell id='0' cpus='0-1' memory='1048576' unit='KiB'>",
        "+<distances>",
        "+<sibling id='0' value='10'/>",
        "+<sibling id='1' value='16'/>",
        "+</distances>",
        "+</cell>",
        "+<cell id='1' cpus='2-3' memory='1048576' unit='KiB'>",
        "+<distances>",
        "+<sibling id='0' value='16'/>",
        "+<sibling id='1' value='10'/>",
        "+</distances>",
        "+</cell>",
        "+</numa>",
        "+</cpu>",
    ]  # fmt: skip
    again = parse(made, source="g.xml")
    assert request(again, HOST).request.virtual_nodes == CELLS


def test_virtual_nodes_that_do_not_make_the_guests_memory_are_refused():
    config, asked, decision = split(GUEST, (CELLS[0], CELLS[1]._replace(memory_kib=GIB - 4)))
    with pytest.raises(HomenodeError, match="do not make the guest's 2097152"):
        written(config, asked, decision, HOST)


def test_a_cell_of_memory_alone_is_written_where_qemu_can_start_it():
    cells = (CELLS[0]._replace(vcpus=CpuMap.full(4)), VirtualNode(1, CpuMap(), GIB, (), 4))
    config, asked, decision = split(GUEST, cells)
    made = written(config, asked, decision, HOST)
    assert "<cell id='1' memory='1048576' unit='KiB'/>" in made
    assert "<memnode cellid='1' mode='preferred' nodeset='4'/>" in made
    config, asked, decision = split(guest(IMMEDIATE), cells)
    with pytest.raises(HomenodeError, match=r"g.xml:7: QEMU cannot fill .* node 1 on node 4"):
        written(config, asked, decision, HOST)


def test_threads_that_fill_memory_at_the_start_may_use_cpus_beside_it():
    # QEMU fills memory by threads that it sends to its node's cpus, and ends if they may not go.
    cells = (CELLS[0]._replace(vcpus=CpuMap.full(4)), CELLS[1]._replace(vcpus=CpuMap()))
    config, asked, decision = split(guest(IMMEDIATE), cells)
    made = written(config, asked, decision, HOST)
    assert "<emulatorpin cpuset='8-15'/>" in made
    assert write(made) == made
    config, asked, decision = split(GUEST, cells)
    lazily = written(config, asked, decision, HOST)
    assert "<emulatorpin cpuset='8-11'/>" in lazily
    assert "<emulatorpin cpuset='8-15'/>" in write(
        lazily.replace("<memory unit", f"{IMMEDIATE}<memory unit")
    )


def test_vcpus_that_are_held_away_from_memory_leave_the_threads_that_fill_it_their_way():
    away = guest(OURS.format('nodes="2"') + IMMEDIATE, vcpu="<vcpu cpuset='0-1'>4</vcpu>")
    assert "<emulatorpin cpuset='0-1,8-11'/>" in write(away)
    wide = guest(OURS.format('nodes="1-2"') + IMMEDIATE, vcpu="<vcpu cpuset='4-5'>4</vcpu>")
    assert "<emulatorpin cpuset='4-5'/>" in write(wide)


def test_an_emulator_that_the_user_keeps_from_memory_to_be_filled_is_warned_of():
    tune = "<cputune><emulatorpin cpuset='0-1'/></cputune>"
    text = guest(OURS.format('nodes="2"') + IMMEDIATE, vcpu=f"<vcpu>4</vcpu>\n  {tune}")
    for there, codes in (
        (text, ["emulator-away-from-memory"]),
        (text.replace(IMMEDIATE, HUGE), ["emulator-away-from-memory"]),
        (text.replace(IMMEDIATE, ""), []),
        (text.replace('nodes="2"', 'nodes="0,2"'), []),
        (text.replace("emulatorpin cpuset='0-1'", "emulatorpin cpuset='0-3'"), []),
    ):
        config, asked, decision = decide(there)
        assert [one.code for one in remarks(config, asked, decision, HOST)] == codes
    assert "<emulatorpin cpuset='0-1'/>" in write(text)


def test_huge_pages_that_do_not_divide_the_memory_are_refused():
    text = guest(HUGE).replace("'GiB'>2<", "'MiB'>2047<")
    config, asked, decision = decide(text)
    with pytest.raises(HomenodeError, match="make it 2097152 KiB"):
        written(config, asked, decision, HOST)


def test_virtual_nodes_that_part_a_core_of_the_guest_are_warned_of():
    for threads, codes in ((1, []), (2, []), (4, ["cells-part-cores"])):
        cores = 4 // threads
        topology = f"<topology sockets='1' cores='{cores}' threads='{threads}'/>"
        text = GUEST.replace("'host-passthrough'/>", f"'host-passthrough'>{topology}</cpu>")
        config, _, decision = split(text)
        assert [one.code for one in cells_against_topology(config, decision)] == codes


def test_io_threads_are_pinned_and_numad_is_relieved():
    vcpu = "<vcpu placement='auto'>4</vcpu>\n  <iothreads>2</iothreads>"
    text = guest(vcpu=vcpu).replace(
        "  <os>",
        "  <numatune>\n    <memory mode='interleave' placement='auto'/>\n  </numatune>\n  <os>",
    )
    made = changes(text, write(text))
    assert "+<vcpu placement='static' cpuset='0-3'>4</vcpu>" in [
        line.partition(" <!--")[0] for line in made
    ]
    assert "+<iothreadpin iothread='2' cpuset='0-3'/>" in made
    assert "+<memory mode='interleave' placement='static' nodeset='0'/>" in made


def test_a_uuid_that_was_made_is_written():
    config, asked, decision = decide(re.sub("  <uuid>.*\n", "", GUEST))
    made = written(config, asked._replace(uuid=config.uuid or "u"), decision, HOST)
    assert "  <name>g</name>   <!-- the guest -->\n  <uuid>u</uuid>\n" in made


def test_a_guest_that_does_not_fit_keeps_its_text():
    text = GUEST.replace("'GiB'>2<", "'GiB'>200<")
    config, asked, decision = decide(text)
    assert not decision.fits
    assert written(config, asked, decision, HOST) == text


# --- what stays ---

PLACED = """<vcpu placement='static' cpuset="0-15">4</vcpu>
  <cputune>
    <shares>2048</shares>
    <vcpupin vcpu="0" cpuset="8"/>
    <vcpupin vcpu='1'  cpuset='9' /> <!-- by hand -->
    <vcpupin vcpu='2' cpuset='10'/>
    <vcpupin vcpu='3' cpuset='11'/>
    <emulatorpin cpuset='0'/>
  </cputune>
  <numatune><memory nodeset='2'  mode="strict"/></numatune>"""


def test_what_the_decision_agrees_with_stays_byte_for_byte():
    text = guest(vcpu=PLACED)
    assert write(text) == text


def test_a_placement_is_replaced_by_another_and_housekeeping_cpus_stay():
    text = write(guest(OURS.format('nodes="1"')))
    assert "<emulatorpin cpuset='4-7'/>" in text
    moved = text.replace('nodes="1"', 'nodes="3"')
    assert changes(moved, write(moved)) == [
        '-<vcpu   placement = "static" cpuset="4-7">4</vcpu> <!-- four -->',
        '+<vcpu   placement = "static" cpuset="12-15">4</vcpu> <!-- four -->',
        "-<emulatorpin cpuset='4-7'/>",
        "+<emulatorpin cpuset='12-15'/>",
        "-<memory mode='preferred' nodeset='1'/>",
        "+<memory mode='preferred' nodeset='3'/>",
    ]
    kept = moved.replace("emulatorpin cpuset='4-7'", "emulatorpin cpuset='0-1'")
    assert "<emulatorpin cpuset='0-1'/>" in write(kept)


def test_pins_of_vcpus_give_way_to_one_set_for_all():
    text = guest(OURS.format('nodes="3"'), vcpu=PLACED.replace("'9' ", "'9-11,8'"))
    for old, new in (('"8"', '"8-11"'), ("'10'", "'8-11'"), ("'11'", "'8-11'")):
        text = text.replace(old, new)
    made = write(text)
    assert "vcpupin" not in made
    assert "<!-- by hand -->" in made
    assert "cpuset='12-15'" in made or 'cpuset="12-15"' in made


def test_a_number_of_nodes_becomes_the_nodes():
    made = write(guest(OURS.format('nodes="2 nodes" policy="packed"')))
    assert 'nodes="0-1" policy="packed"/>' in made
    assert 'nodes="auto"' in write(guest(OURS.format('nodes="auto"')))


# --- whatever the guest looks like ---

TUNES = st.sampled_from(
    [
        "",
        "<cputune><vcpupin vcpu='0' cpuset='0-3'/></cputune>",
        "<cputune>\n    <shares>7</shares>\n    <vcpupin vcpu='1' cpuset='4,6'/>\n  </cputune>",
        "<cputune/>",
        '<cputune><emulatorpin cpuset="12"/></cputune>',
    ]
)
NUMATUNES = st.sampled_from(
    [
        "",
        "<numatune/>",
        "<numatune>\n    <!-- nothing -->\n  </numatune>",
        "<numatune><memory mode='strict' nodeset='2-3'/></numatune>",
        "<numatune><memory mode='preferred' nodeset='1'/></numatune>",
        "<numatune>\n    <memory placement='auto'/>\n  </numatune>",
    ]
)
VCPUS = st.sampled_from(
    [
        "<vcpu>4</vcpu>",
        "<vcpu placement='auto' cpuset='9'>4</vcpu>",
        '<vcpu cpuset="0-7,^1">4</vcpu>',
        "<vcpu current='1'>6</vcpu><iothreads>1</iothreads>",
        "<vcpu placement='static'>17</vcpu>",
    ]
)
OWN = st.sampled_from(["", *(f'nodes="{nodes}"' for nodes in ("auto", "1", "0,2", "3 nodes", "4"))])
BACKING = st.sampled_from(["", HUGE, IMMEDIATE])
TOUCHED = re.compile(
    r"</?(vcpu|cputune|vcpupin|emulatorpin|iothreadpin|numatune|memory |memnode|homenode:placement"
    r"|metadata)"
)


@settings(max_examples=150)
@given(TUNES, NUMATUNES, VCPUS, OWN, st.tuples(st.sampled_from(["\n", "\r\n"]), BACKING))
def test_written_again_it_is_the_same_and_read_again_it_names_the_same_nodes(
    tune, numatune, vcpu, own, line_end_and_backing
):
    line_end, backing = line_end_and_backing
    ours = OURS.format(own) if own else ""
    text = guest(ours + backing, vcpu=f"{vcpu}\n  {tune}\n  {numatune}")
    text = text.replace("\n", line_end)
    config, asked, decision = decide(text)
    made = written(config, asked, decision, HOST)
    if not decision.fits:
        assert made == text
        return
    for line in changes(text, made):
        assert TOUCHED.search(line), line
    assert made.count(line_end) == made.count("\n")
    _, asked_again, decision_again = decide(made)
    nodes = decision.nodes | NodeMap(share.node for share in decision.memory)
    assert asked_again.explicit.nodes == nodes
    assert decision_again.nodes == decision.nodes
    assert write(made) == made
    if SCHEMA.is_file():
        schema().assertValid(etree.fromstring(made.encode()))


SCRAPS = st.sampled_from(
    [*"'<>&0-,ü\n\0\ud800", "", "<vcpu/>", "<numatune/>", "<cell/>", "<memory>1</memory>", "<!--"]
)


@settings(max_examples=300)
@given(st.lists(st.tuples(st.integers(0), st.integers(0, 30), SCRAPS), min_size=1, max_size=3))
def test_a_text_with_holes_and_scraps_never_ends_in_a_traceback(wounds):
    text = guest(OURS.format('nodes="2" devices="required"') + HUGE, vcpu=PLACED)
    for at, length, scrap in wounds:
        start = at % len(text)
        text = text[:start] + scrap + text[start + length :]
    with suppress(HomenodeError):
        config, asked, decision = decide(text)
        parse(written(config, asked, decision, HOST))


_SCHEMAS = []


def schema():
    if not _SCHEMAS:
        _SCHEMAS.append(etree.RelaxNG(etree.parse(SCHEMA)))
    return _SCHEMAS[0]


@pytest.mark.skipif(not SCHEMA.is_file(), reason="no schemas of libvirt here (Debian: libvirt0)")
@pytest.mark.parametrize("cells", [(), CELLS], ids=["whole", "split"])
def test_libvirts_schema_takes_what_is_written(cells):
    text = guest(OURS.format('nodes="auto"') + IMMEDIATE)
    config, asked, decision = split(text, cells) if cells else decide(text)
    made = written(config, asked, decision, HOST)
    schema().assertValid(etree.fromstring(made.encode()))


@pytest.mark.skipif(not SCHEMA.is_file(), reason="no schemas of libvirt here (Debian: libvirt0)")
@pytest.mark.parametrize(
    "wishes",
    [
        {"pages": "2MiB"},
        {"pages": "2MiB", "virtual_nodes": "auto", "nodes": "1-2"},
        {"tier": "cxl:256MiB"},
        {"tier": "cxl"},
        {"spill": True, "exclude": "1-3"},
    ],
)
def test_libvirts_schema_takes_what_options_ask_for(wishes):
    config = parse(guest().replace("'GiB'>2<", "'GiB'>9<" if "spill" in wishes else "'GiB'>2<"))
    asked = ask(config, HOST, Overrides(**wishes))
    decision = place(View(HOST), asked.request, asked.policy)
    assert decision.fits
    made = written(config, asked.request, decision, HOST)
    schema().assertValid(etree.fromstring(made.encode()))
    again = ask(parse(made), HOST)
    decided = place(View(HOST), again.request, again.policy)
    assert {(one.node, one.kib) for one in decided.memory} == {
        (one.node, one.kib) for one in decision.memory
    }


def test_another_parser_sees_nothing_else_changed():
    config, asked, decision = split(GUEST)
    before = etree.fromstring(GUEST.encode())
    after = etree.fromstring(written(config, asked, decision, HOST).encode())
    for tag in ("cputune", "numatune", "cpu/numa"):
        found = after.find(tag)
        found.getparent().remove(found)

    def canonical(root):
        for element in root.iter(etree.Element):
            element.text = element.text.strip() if element.text else None
            element.tail = None
        return etree.tostring(root, method="c14n")

    assert canonical(after) == canonical(before)
