"""Virtual nodes on a real Xen: each on the node that was decided, to the page, or refused.

xl makes only hvm guests with them, so Xen needs SVM, emulated. The guests stand still, with a
device model that emulates nothing.
"""

import json

import pytest
from test_create import complaint, homenode, id_of, masks_of, pages_of, put, xl

pytestmark = pytest.mark.xen("n4", cpu="max,-smap,-la57,-pku")

HVM = """\
type = "hvm"
firmware_override = "/guest/still"
device_model_version = "qemu-xen-traditional"
device_model_override = "/guest/device-model"
"""
PVH = 'type = "pvh"\nkernel = "/guest/nano"\n'
PV = 'type = "pv"\nkernel = "/guest/nano"\n'

MIB_PAGES = 256
VIDEO_PAGES = 4 * MIB_PAGES
"""Memory of the screen: missing from the first virtual node, for the device model to allocate."""
VGA_HOLE_PAGES = 0x20
LOWEST_PAGES = 0xA0
SPECIAL_PAGES = 16
"""These two come from the nodes of the guest's node affinity in turn (xg_dom_x86.c, meminit_hvm());
all other memory of a virtual node comes from its node."""

TABLE = """
import ctypes, json, sys
xc = ctypes.CDLL("libxenctrl.so.4.17")
xc.xc_interface_open.restype = ctypes.c_void_p
handle = ctypes.c_void_p(xc.xc_interface_open(None, None, 0))
nodes, ranges, vcpus = ctypes.c_uint32(8), ctypes.c_uint32(8), ctypes.c_uint32(64)
memory, distances = (ctypes.c_uint64 * 24)(), (ctypes.c_uint32 * 64)()
homes = (ctypes.c_uint32 * 64)()
status = xc.xc_domain_getvnuma(
    handle, int(sys.argv[1]), ctypes.byref(nodes), ctypes.byref(ranges), ctypes.byref(vcpus),
    memory, distances, homes,
)
print(json.dumps([status, list(distances)[: nodes.value**2], list(homes)[: vcpus.value]]))
"""


def cell(size, vcpus, distances=None, node=None):
    parts = [f"size={size}", f"vcpus={vcpus}"]
    if node is not None:
        parts.insert(0, f"pnode={node}")
    if distances:
        parts.append(f"vdistances={distances}")
    return f"[{', '.join(map(json.dumps, parts))}]"


def vnuma(*cells):
    return f"vnuma = [{', '.join(cells)}]"


def seen_by_guest(lab, name):
    """Return the distances and the virtual node of each vcpu that Xen tells the guest."""
    lab.put(TABLE.encode(), "/root/table.py")
    run = lab.run(["python3", "/root/table.py", str(id_of(lab, name))], check=True)
    status, distances, homes = json.loads(run.stdout)
    assert status == 0
    return distances, homes


def pages_planned(cells):
    """Return the pages by node of cells of (node, MiB), each on a node of its own."""
    planned = {node: mib * MIB_PAGES for node, mib in cells}
    first = cells[0][0]
    planned[first] -= VIDEO_PAGES + VGA_HOLE_PAGES + LOWEST_PAGES
    for node in planned:
        planned[node] += (LOWEST_PAGES + SPECIAL_PAGES) // len(planned)
    return planned


def cells_of(made):
    return [(one["node"], one["memory_kib"] >> 10) for one in made["decision"]["virtual_nodes"]]


def free_mib(lab, node):
    (one,) = [one for one in homenode(lab, "topology")["host"]["nodes"] if one["id"] == node]
    return one["free_kib"] >> 10


def test_a_guest_that_fits_no_node_gets_virtual_nodes_where_their_memory_is_to_the_page(lab):
    path = put(lab, "w", 'virtual_nodes = "auto"', vcpus=4, memory=1500, kind=HVM)
    (made,) = homenode(lab, "create", path)["guests"]
    cells = cells_of(made)
    assert {node for node, _ in cells} in ({0, 1}, {2, 3})
    assert sum(mib for _, mib in cells) == 1500
    assert pages_of(lab, id_of(lab, "w")) == pages_planned(cells)
    assert made["created"]["match"] == 100
    assert seen_by_guest(lab, "w") == ([10, 16, 16, 10], [0, 0, 1, 1])
    # credit2 does not heed what vcpus prefer: each is held to the node of its virtual node.
    own = [f"{2 * node}-{2 * node + 1}" for node, _ in cells]
    assert masks_of(lab, "w") == {(cpus, cpus) for cpus in own}
    assert [warned["code"] for warned in made["warnings"]] == ["virtual-nodes-stay"]
    (listed,) = [
        one for one in homenode(lab, "list", "--sample", "0")["guests"] if one["name"] == "w"
    ]
    assert listed["node_affinity"] == sorted(node for node, _ in cells)


def test_whole_gib_that_no_node_has_are_no_hindrance(lab):
    """Without virtual nodes, the whole GiB of this guest would come from nodes it is not on."""
    put(lab, "w", vcpus=4, memory=1024, kind=HVM)
    (made,) = homenode(lab, "create", "/root/w.cfg", "--virtual-nodes", "auto")["guests"]
    assert len(cells_of(made)) == 2
    assert pages_of(lab, id_of(lab, "w")) == pages_planned(cells_of(made))


@pytest.mark.parametrize("distances", [("10,16", "16,10"), (None, None)])
def test_unequal_cells_are_matched_to_nodes_that_hold_them(lab, distances):
    most = free_mib(lab, 2)  # on node 3 is most of dom0
    cells = vnuma(cell(200, "0-1", distances[0]), cell(most - 40, "2-3", distances[1]))
    path = put(lab, "w", cells, 'nodes = "2-3"', vcpus=4, memory=most + 160, kind=HVM)
    (made,) = homenode(lab, "create", path)["guests"]
    assert cells_of(made) == [(3, 200), (2, most - 40)]
    assert pages_of(lab, id_of(lab, "w")) == pages_planned(cells_of(made))
    assert masks_of(lab, "w") == {("6-7", "6-7"), ("4-5", "4-5")}
    # What the user leaves out stays out, and xl makes zeros of it.
    told = [10, 16, 16, 10] if distances[0] else [0, 0, 0, 0]
    assert seen_by_guest(lab, "w") == (told, [0, 0, 1, 1])


def test_the_largest_cell_that_is_said_to_fit_does(lab):
    """The second one: Xen takes what it needs itself from its node, too, and before its memory."""

    def config(mib):
        cells = vnuma(cell(100, "0-1", "10,16", 2), cell(mib, "2-3", "16,10", 3))
        return put(lab, f"w{mib}", cells, soft, vcpus=4, memory=100 + mib, kind=HVM)

    soft = 'cpus_soft = ["nodes:2", "nodes:2", "nodes:3", "nodes:3"]'
    free = free_mib(lab, 3)
    paths = [config(mib) for mib in range(free - 12, free + 1)]
    decisions = json.loads(lab.run(["homenode", "place", "--json", *paths]).stdout)
    largest = free - 13 + sum(decision["fits"] for decision in decisions)
    assert free - 12 < largest < free
    homenode(lab, "create", config(largest))
    planned = pages_planned([(2, 100), (3, largest)])
    assert pages_of(lab, id_of(lab, f"w{largest}")) == planned
    lab.clean()
    # With 3 MiB more Xen has too little.
    refused = lab.run(["xl", "create", config(largest + 3)], timeout_s=300)
    assert refused.status
    assert "can't allocate low memory for domain" in refused.stderr


def test_a_virtual_node_without_vcpus_gets_its_memory(lab):
    cells = 'vnuma = [["pnode=1", "size=64", "vcpus=0-1"], ["pnode=2", "size=100"]]'
    (made,) = homenode(lab, "create", put(lab, "w", cells, memory=164, kind=HVM))["guests"]
    assert cells_of(made) == [(1, 64), (2, 100)]
    beside = LOWEST_PAGES + SPECIAL_PAGES
    first = 64 * MIB_PAGES - VIDEO_PAGES - VGA_HOLE_PAGES - LOWEST_PAGES
    assert pages_of(lab, id_of(lab, "w")) == {1: first + beside, 2: 100 * MIB_PAGES}


TWO = vnuma(cell(64, "0", "10,20", 1), cell(64, "1", "20,10", 2))


@pytest.mark.parametrize(
    ("kind", "settings", "said", "ours"),
    [
        (PV, ["memory = 128"], "PV vNUMA is not yet supported", "a pv guest with virtual nodes"),
        (PVH, ["memory = 128"], "xc_domain_getvnuma failed", "a pvh guest with virtual nodes"),
        (HVM, ["memory = 100"], "Cannot enable PoD and vNUMA", "but memory = 100"),
        (HVM, ["memory = 100", "maxmem = 128"], "Cannot enable PoD", "but memory = 100"),
        (HVM, ["maxmem = 256"], "maxmem and vnuma memory size mismatch", "but maxmem = 256"),
        (HVM, ["maxvcpus = 3"], "vnuma vcpus and maxvcpus= mismatch", "but maxvcpus = 3"),
    ],
)
def test_what_xl_refuses_is_refused_before_it_is_tried(lab, kind, settings, said, ours):
    text = "\n".join(['name = "w"', kind, TWO, *settings])
    lab.put(f"{text}\n".encode(), "/root/w.cfg")
    refused = lab.run(["xl", "create", "/root/w.cfg"], timeout_s=300)
    assert refused.status
    assert said in refused.stderr
    assert ours in complaint(lab, "create", "/root/w.cfg", status=2)


def test_a_guest_with_virtual_nodes_can_be_neither_saved_nor_migrated(lab):
    homenode(lab, "create", put(lab, "w", TWO, memory=128, kind=HVM))
    lab.put(b"#!/bin/sh\nexec xl migrate-receive\n", "/root/here", 0o755)
    for words in (["save", "w", "/root/w.save"], ["migrate", "-s", "/root/here", "w", "localhost"]):
        refused = lab.run(["xl", *words], timeout_s=120)
        assert refused.status or words[0] == "migrate"
        assert "Cannot save a guest with vNUMA configured" in refused.stderr
    assert xl(lab, "domid", "w").strip()


def test_excluded_nodes_and_those_of_a_guest_that_is_shunned_give_nothing(lab):
    first = put(lab, "db1", 'nodes_exclude = "0-1,3"', memory=100)
    second = put(lab, "db2", 'nodes_exclude = "0-1"', 'nodes_apart = ["db1"]', memory=100)
    homenode(lab, "create", first, second)
    found = [pages_of(lab, id_of(lab, name)) for name in ("db1", "db2")]
    assert found == [{2: 100 * MIB_PAGES}, {3: 100 * MIB_PAGES}]
    third = put(lab, "db3", 'nodes_exclude = "0-1,3"', 'nodes_apart = ["db1"]', memory=100)
    assert not homenode(lab, "create", third, status=1)["guests"][0]["decision"]["fits"]


def test_what_linux_has_available_is_usable(lab):
    """dom0's own Linux, one node: free and reclaimable memory less the watermarks."""
    script = "homenode topology -c local:/// --json; cat /proc/meminfo"
    document, _, rest = lab.run(script, check=True).stdout.rpartition("MemTotal:")
    (node,) = json.loads(document)["host"]["nodes"]
    available_kib = int(rest.partition("MemAvailable:")[2].split()[0])
    kept_kib = sum(one["kib"] for one in node["reserved"])
    usable_kib = node["free_kib"] + node["reclaimable_kib"] - kept_kib
    assert kept_kib > 0
    assert abs(usable_kib - available_kib) < available_kib // 10


@pytest.mark.xen("cpuless4", cpu="max,-smap,-la57,-pku")
def test_memory_of_a_node_without_cpus_is_a_virtual_node_without_vcpus(lab):
    path = put(lab, "t", 'nodes_tier = "any:128MiB"', vcpus=2, memory=384, kind=HVM)
    (made,) = homenode(lab, "create", path)["guests"]
    home, far = cells_of(made)
    # Xen numbers nodes as it comes upon their cpus, and those without any last.
    seen = homenode(lab, "topology")["host"]
    (without_cpus,) = {one["id"] for one in seen["nodes"]} - {cpu["node"] for cpu in seen["cpus"]}
    assert (home[1], far) == (256, (without_cpus, 128))
    assert pages_of(lab, id_of(lab, "t"))[without_cpus] == 128 * MIB_PAGES
    assert seen_by_guest(lab, "t")[1] == [0, 0]
