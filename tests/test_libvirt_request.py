"""What a domain of libvirt's asks for: whose wishes win, what is refused, what is warned of."""

import pytest

from homenode.bitmap import CpuMap, NodeMap
from homenode.errors import ParseError
from homenode.formats.libvirt_xml import parse
from homenode.guest import ExplicitNodes, NearDevice, Tier
from homenode.host import Cpu, Device, Host, Node, PagePool
from homenode.rules.libvirt_request import request
from homenode.rules.qemu import PROCESS_KIB, in_pages_kib, overhead_kib

MIB, GIB = 1 << 10, 1 << 20

# Four nodes of four cpus, and one with memory alone.
CPUS = [Cpu(cpu, cpu // 4) for cpu in range(16)]
DEVICES = [Device("0000:41:00.0", 2), Device("0000:81:00.0", None)]
HOST = Host(
    cpus=CPUS,
    nodes=[Node(node, free_kib=8 * GIB, pages=(PagePool(2048, 64, 64),)) for node in range(4)]
    + [Node(4, kind="cxl", free_kib=32 * GIB)],
    devices=DEVICES,
    name="h",
)

CELLS = (
    "<cpu><numa><cell cpus='0-1' memory='512' unit='MiB'/>"
    "<cell cpus='2-3' memory='512' unit='MiB'/></numa></cpu>"
)


def ask(body="", *, host=HOST, **wishes):
    attributes = " ".join(f"{name.replace('_', '-')}='{text}'" for name, text in wishes.items())
    ours = f"<h:placement xmlns:h='urn:homenode:placement:1' {attributes}/>"
    vcpu = "" if "<vcpu" in body.replace("<vcpupin", "") else "<vcpu>4</vcpu>"
    text = (
        "<domain type='kvm'>\n<name>g</name>\n<memory unit='GiB'>1</memory>\n"
        f"<metadata>{ours}</metadata>\n{vcpu}\n{body}\n</domain>"
    )
    return request(parse(text, source="g.xml"), host)


def asked(body="", **wishes):
    answer = ask(body, **wishes)
    assert answer.warnings == ()
    return answer.request


def codes(body="", **wishes):
    return [code for code, _ in ask(body, **wishes).warnings]


def refused(body="", **wishes):
    with pytest.raises(ParseError) as caught:
        ask(body, **wishes)
    assert "\n" not in str(caught.value)
    assert caught.value.line
    return str(caught.value)


def pins(*cpusets):
    each = "".join(f"<vcpupin vcpu='{v}' cpuset='{c}'/>" for v, c in enumerate(cpusets))
    return f"<cputune>{each}</cputune>"


def memory(nodeset, mode="strict"):
    return f"<numatune><memory mode='{mode}' nodeset='{nodeset}'/></numatune>"


def memnodes(*nodesets):
    each = "".join(
        f"<memnode cellid='{cell}' mode='strict' nodeset='{nodes}'/>"
        for cell, nodes in enumerate(nodesets)
    )
    return f"<numatune>{each}</numatune>{CELLS}"


def test_a_guest_that_says_nothing_may_go_anywhere():
    made = asked()
    assert (made.name, made.type, made.vcpus) == ("g", "kvm", 4)
    assert (made.guest_memory_kib, made.max_memory_kib) == (GIB, GIB)
    assert (made.hard, made.soft, made.explicit, made.virtual_nodes) == ((), (), None, ())


# --- memory ---


def test_qemus_overhead_is_ordinary_memory():
    # 262,144 pages of 4 KiB with two entries of 8 bytes each.
    assert asked().memory_kib == GIB + PROCESS_KIB + 4096
    huge = "<memoryBacking><hugepages><page size='2' unit='MiB'/></hugepages></memoryBacking>"
    made = asked(huge)
    assert (made.memory_kib, made.page_kib) == (GIB, 2048)


def test_the_overhead_is_what_was_measured():
    # Private memory of QEMU in the lab, less the guest's: 29.7 to 37.9 MiB.
    assert 37.9 * MIB <= PROCESS_KIB <= 40 * MIB
    assert overhead_kib(0, 4) == PROCESS_KIB


def test_memory_in_huge_pages_is_rounded_up_and_warned_of():
    odd = parse(
        "<domain type='kvm'><name>g</name><memory unit='MiB'>63</memory><memoryBacking><hugepages>"
        "<page size='2048'/></hugepages></memoryBacking></domain>"
    )
    answer = request(odd, HOST)
    assert answer.request.memory_kib == 64 * MIB
    assert [code for code, _ in answer.warnings] == ["memory-not-in-whole-pages"]
    assert in_pages_kib(63 * MIB, 4) == 63 * MIB


def test_huge_pages_of_no_stated_size_are_the_hosts_usual_ones():
    bare = "<memoryBacking><hugepages/></memoryBacking>"
    assert codes(bare) == ["page-size-assumed"]
    assert ask(bare).request.page_kib == 2048
    giant = [Node(0, pages=(PagePool(2048, 0, 0), PagePool(GIB, 4, 4)))]
    host = Host(nodes=giant, cpus=[Cpu(0, 0)])
    assert ask(bare, host=host).request.page_kib == GIB


def test_cells_may_have_pages_of_their_own():
    some = "<memoryBacking><hugepages><page size='2048' nodeset='1'/></hugepages></memoryBacking>"
    made = asked(some + CELLS)
    assert [cell.page_kib for cell in made.virtual_nodes] == [None, 2048]
    assert made.page_kib == 4
    assert made.memory_kib == GIB + overhead_kib(GIB, 4)


def test_cells_state_distances_as_the_guest_sees_them():
    cells = CELLS.replace(
        "<cell cpus='0-1' memory='512' unit='MiB'/>",
        "<cell cpus='0-1' memory='512' unit='MiB'><distances><sibling id='1' value='21'/>"
        "</distances></cell>",
    )
    assert [cell.distances for cell in asked(cells).virtual_nodes] == [(10, 21), (21, 10)]
    assert [cell.distances for cell in asked(CELLS).virtual_nodes] == [(), ()]


# --- vcpus ---


def test_a_cpuset_restricts_the_search_and_a_pin_of_one_vcpu_outranks_it():
    made = asked("<vcpu cpuset='0-6'>2</vcpu><cputune><vcpupin vcpu='1' cpuset='9'/></cputune>")
    assert made.hard == (CpuMap.parse("0-6"), CpuMap([9]))
    assert made.explicit is None


def test_pins_of_every_vcpu_name_the_nodes():
    made = asked(pins("0", "1", "5", "5"))
    assert made.explicit == ExplicitNodes(NodeMap([0, 1]), "vcpupin")
    assert made.hard == (CpuMap([0]), CpuMap([1]), CpuMap([5]), CpuMap([5]))


def test_pins_to_whole_nodes_are_a_placement_and_can_be_outranked():
    placed = pins("0-3", "0-3", "4-7", "4-7")
    made = asked(placed)
    assert (made.hard, made.explicit.nodes) == ((), NodeMap([0, 1]))
    assert made.soft[0] == CpuMap.parse("0-3")
    made = ask(placed, nodes="2").request
    assert (made.hard, made.soft, made.explicit.nodes) == ((), (), NodeMap([2]))


def test_a_cpuset_of_whole_nodes_is_a_placement_where_numatune_names_the_same():
    cpuset = "<vcpu cpuset='4-7'>2</vcpu>"
    assert asked(cpuset).hard == (CpuMap.parse("4-7"),) * 2
    made = asked(cpuset + memory("1"))
    assert (made.hard, made.soft) == ((), (CpuMap.parse("4-7"),) * 2)
    assert ask(cpuset + memory("1"), nodes="3").request.soft == ()


def test_what_numad_would_choose_is_open():
    body = "<vcpu placement='auto'>2</vcpu><numatune><memory placement='auto'/></numatune>"
    made = asked(body)
    assert (made.hard, made.explicit) == ((), None)


@pytest.mark.parametrize(
    ("body", "said"),
    [
        ("<vcpu cpuset='0-16'>2</vcpu>", "names cpu 16, which is not on this host"),
        (pins("0", "99"), "of vcpu 1 names cpu 99"),
        (memory("7"), "names node 7, which is not on this host; it has nodes 0-4"),
        (memnodes("0", "8-9"), "names nodes 8-9, which are not"),
    ],
)
def test_what_the_host_lacks_is_refused(body, said):
    assert said in refused(body)


def test_pins_of_vcpus_that_are_not_there_are_ignored_as_by_libvirt():
    assert codes("<vcpu>1</vcpu><cputune><vcpupin vcpu='3' cpuset='0'/></cputune>") == [
        "vcpupin-ignored"
    ]


# --- nodes that the user names ---


@pytest.mark.parametrize("mode", ["strict", "interleave", "restrictive"])
def test_numatune_names_the_nodes(mode):
    assert asked(memory("1-2", mode)).explicit == ExplicitNodes(NodeMap([1, 2]), "numatune")


def test_preferred_takes_the_first_node_alone():
    answer = ask(memory("1-2", "preferred"))
    assert answer.request.explicit.nodes == NodeMap([1])
    assert [code for code, _ in answer.warnings] == ["preferred-takes-one-node"]


def test_memnodes_name_the_node_of_each_cell():
    made = asked(memnodes("3", "1"))
    assert [cell.node for cell in made.virtual_nodes] == [3, 1]
    assert made.explicit == ExplicitNodes(NodeMap([1, 3]), "memnode")


def test_a_cell_without_memnode_has_its_memory_where_the_guests_is():
    body = memnodes("3").replace("<numatune>", "<numatune><memory mode='strict' nodeset='0'/>")
    answer = ask(body)
    assert [cell.node for cell in answer.request.virtual_nodes] == [3, 0]
    assert answer.request.explicit == ExplicitNodes(NodeMap([0, 3]), "memnode")
    assert codes(memnodes("3")) == ["memnode-for-some"]
    assert [cell.node for cell in ask(memnodes("3")).request.virtual_nodes] == [3, None]


def test_the_strongest_wish_wins_and_the_others_are_warned_of():
    body = memory("1") + pins("8", "8", "8", "8")
    answer = ask(body, nodes="2")
    assert answer.request.explicit == ExplicitNodes(NodeMap([2]), "nodes")
    assert [code for code, _ in answer.warnings] == ["numatune-overruled"]
    assert codes(body) == ["vcpus-away-from-memory"]
    answer = ask(memnodes("0", "1"), nodes="2-3")
    assert [cell.node for cell in answer.request.virtual_nodes] == [None, None]
    assert [code for code, _ in answer.warnings] == ["memnode-overruled"]


def test_a_number_of_nodes_leaves_open_which():
    answer = ask(memory("1"), nodes="2 nodes")
    assert (answer.request.node_count, answer.request.explicit) == (2, None)
    assert [code for code, _ in answer.warnings] == ["numatune-overruled"]
    assert asked(nodes="2").explicit.nodes == NodeMap([2])
    assert asked(nodes="all").explicit.nodes == NodeMap([0, 1, 2, 3])
    assert asked(nodes="auto").explicit is None


def test_memory_without_cpus_may_be_named():
    made = asked(memory("4") + pins("0-2", "0-2", "0-2", "0-2"))
    assert made.explicit.nodes == NodeMap([4])


# --- homenode's own attributes ---


def test_all_wishes_arrive():
    made = asked(
        policy="packed", exclude="0,3", apart="db1, db2", spill="yes", tier="cxl:512MiB",
        virtual_nodes="auto",
    )  # fmt: skip
    assert (made.policy, made.excluded, made.apart_from) == (
        "packed", NodeMap([0, 3]), ("db1", "db2"),
    )  # fmt: skip
    assert (made.spill, made.tier, made.split) == (True, Tier("cxl", 512 * MIB), True)


def test_a_guest_that_has_cells_is_neither_split_nor_given_a_tier():
    answer = ask(CELLS, tier="cxl:512MiB", virtual_nodes="auto")
    assert (answer.request.split, answer.request.tier) == (False, None)
    assert [code for code, _ in answer.warnings] == ["tier-overruled"]
    with_tier = CELLS.replace("cpus='0-1'", "cpus='0-3'").replace(" cpus='2-3'", "")
    assert codes(with_tier, tier="cxl:512MiB") == []


@pytest.mark.parametrize(
    ("wishes", "said"),
    [
        ({"nodes": "9"}, "names node 9"),
        ({"nodes": "9 nodes"}, "this host has 5 nodes"),
        ({"nodes": ""}, "names no node"),
        ({"nodes": "x"}, "nodes: not a node number"),
        ({"nodes": "^1"}, "names no node"),
        ({"exclude": "x"}, "exclude: not a node number"),
        ({"devices": "near"}, "required, preferred, ignored"),
        ({"spill": "true"}, "yes, no"),
        ({"tier": "8GiB"}, "write it as cxl:8GiB"),
        ({"tier": "tape:1GiB"}, "write it as cxl:8GiB"),
        ({"tier": "cxl:8"}, "tier: not a size of memory"),
        ({"tier": "cxl:1025MiB"}, "no part of the guest's"),
        ({"virtual-nodes": "2"}, "auto, no"),
    ],
)
def test_wishes_that_are_not_understood_are_refused(wishes, said):
    assert said in refused(**wishes)


def device(address):
    bus = address.partition(":")[2][:2]
    return (
        "<devices><hostdev mode='subsystem' type='pci'><source>"
        f"<address bus='0x{bus}'/></source></hostdev></devices>"
    )


def test_a_device_of_the_host_is_to_be_near():
    there = device("0000:41:00.0")
    assert asked(there).devices == (NearDevice("0000:41:00.0", 2, required=False),)
    assert asked(there, devices="required").devices[0].required
    assert asked(there, devices="ignored").devices == ()


def test_a_device_whose_node_nobody_knows_is_warned_of_or_refused():
    for address, said in (
        ("0000:81:00.0", "does not tell on which node 0000:81:00.0 hangs"),
        ("0000:c1:00.0", "has no device 0000:c1:00.0"),
    ):
        assert codes(device(address)) == ["device-unknown"]
        assert ask(device(address)).request.devices == ()
        assert said in refused(device(address), devices="required")
    bare = HOST.replace(devices=[])
    [(_, text)] = ask(device("0000:41:00.0"), host=bare).warnings
    assert "tells of no devices" in text
