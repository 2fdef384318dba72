"""Policy ``xl`` decides as libxl decided on a real Xen 4.17, step by step.

Each recorded host is rebuilt as it was before each guest was created: free pages per node with
dom0 alone, less the pages of the guests created before, and those guests with the masks and the
node affinity that they got. libxl's own log says which candidate it took.
"""

from pathlib import Path

import pytest

from homenode.bitmap import NodeMap
from homenode.drivers.xen_snapshot import snapshot_of
from homenode.formats.xl_cfg import GuestConfig
from homenode.placement import View, place, policy
from homenode.rules.xen_request import request

CAPTURES = Path(__file__).parent / "data" / "xen-captures"
STEPS = [
    (host, guest)
    for host in ("n2", "n4", "n8")
    for guest in "abcdefg"
    if (host, guest) != ("n2", "g") and guest not in "ef"
]


def snapshot(host: str, when: str):
    texts = {file.name: file.read_text() for file in (CAPTURES / host / when).iterdir()}
    return snapshot_of(texts, source=f"{host}/{when}")


def before(host: str, name: str) -> View:
    """Return the host as it was just before guest `name` was created."""
    empty, later = snapshot(host, "empty"), snapshot(host, "guests")
    there = [guest for guest in later.guests if guest.id == 0 or guest.name < name]
    taken = dict.fromkeys(empty.host.node_map, 0)
    for guest in there:
        if guest.id != 0:
            for node, kib in guest.memory_by_node.kib.items():
                taken[node] += kib
    nodes = [node._replace(free_kib=node.free_kib - taken[node.id]) for node in empty.host.nodes]
    return View(empty.host.replace(nodes=nodes), tuple(there))


def decided(host: str, name: str) -> NodeMap:
    """Return the nodes that libxl took: the node affinity that it set."""
    (guest,) = [guest for guest in snapshot(host, "guests").guests if guest.name == name]
    return guest.node_affinity


def wanted(view: View, host: str, name: str, *, hard: bool):
    text = (CAPTURES / host / "guests" / f"{name}.cfg").read_text()
    made = request(GuestConfig.parse(text), view.host).request
    return made if hard else made._replace(hard=())


def test_there_are_fourteen_recorded_decisions():
    assert len(STEPS) == 14


@pytest.mark.parametrize(("host", "name"), STEPS)
def test_policy_xl_takes_the_nodes_that_libxl_took(host, name):
    view = before(host, name)
    decision = place(view, wanted(view, host, name, hard=False), policy("xl"))
    assert decision.fits
    assert decision.nodes == decided(host, name)
    log = (CAPTURES / host / "guests" / f"{name}-create.txt").read_text()
    (selected,) = [line for line in log.splitlines() if "KB free selected" in line]
    nodes, free_mib = (int(selected.split(word)[0].split()[-1]) for word in (" nodes", " KB free"))
    facts = dict(decision.facts)
    assert facts["nodes"] == nodes
    assert abs(facts["usable"] // 1024 - free_mib) <= 1


@pytest.mark.parametrize("host", ["n2", "n4", "n8"])
@pytest.mark.parametrize("name", ["xl", "balanced", "first-fit", "best-fit", "worst-fit", "xapi"])
def test_hard_affinity_restricts_the_search_where_libxl_ignores_it(host, name):
    view = before(host, "d")
    held = wanted(view, host, "d", hard=True)
    assert held.hard, "cpus= was read"
    decision = place(view, held, policy(name))
    assert decision.nodes == NodeMap([1])
    assert decided(host, "d") != NodeMap([1]), "libxl put the memory elsewhere"


def test_a_guest_that_libxl_could_not_place_does_not_fit():
    view = before("n2", "g")
    assert not place(view, wanted(view, "n2", "g", hard=True), policy("xl")).fits
