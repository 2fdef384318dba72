"""What the command line says outranks the guest's file, and takes what it outranks with it."""

import pytest

from homenode.asking import Overrides, ask, handed_over
from homenode.bitmap import NodeMap
from homenode.errors import HomenodeError
from homenode.formats.guest_file import read_guest
from homenode.formats.xl_cfg import GuestConfig
from homenode.host import Cpu, Host, Node
from homenode.placement import View, place

HOST = Host(
    cpus=[Cpu(cpu, cpu // 2) for cpu in range(8)],
    nodes=[Node(node, free_kib=1 << 20) for node in range(4)],
)
BASE = 'name = "g"\nmemory = 64\nvcpus = 2\n'


def decided(text, **overrides):
    asked = ask(GuestConfig.parse(BASE + text), HOST, Overrides(**overrides))
    return place(View(HOST), asked.request, asked.policy), asked


@pytest.mark.parametrize(
    ("text", "overrides", "nodes", "soft"),
    [
        ('cpus_soft = "node:1"', {}, [1], "2-3"),
        ('cpus_soft = "node:1"\nnodes = ["2"]', {}, [2], "4-5"),
        ('cpus_soft = "node:1"\nnodes = ["1", "2"]', {}, [1, 2], "2-5"),
        ('cpus_soft = "4"\nnodes = ["2"]', {}, [2], "4"),
        ('cpus_soft = "node:1"', {"nodes": "3"}, [3], "6-7"),
        ('cpus_soft = "node:1"', {"nodes": "auto"}, [0], "0-1"),
        ('nodes = ["2"]', {"nodes": "auto"}, [0], "0-1"),
        ("", {"nodes": "all"}, [0, 1, 2, 3], "0-7"),
        ('nodes = ["2"]', {"nodes": "2 nodes"}, [0, 1], "0-3"),
        ('nodes = "2"', {"nodes": "0-2,^2"}, [0, 1], "0-3"),
    ],
)
def test_vcpus_prefer_the_nodes_of_the_wish_that_wins(text, overrides, nodes, soft):
    decision, _ = decided(text, **overrides)
    assert decision.nodes == NodeMap(nodes)
    assert {str(run.soft) for run in decision.vcpus} == {soft}


def test_the_policy_is_the_flags_then_the_files_then_the_default():
    assert decided("")[1].policy.name == "balanced"
    assert decided('nodes_policy = "packed"')[1].policy.name == "best-fit"
    assert decided('nodes_policy = "packed"', policy="spread")[1].policy.name == "worst-fit"


def test_an_unknown_policy_in_the_file_is_placed_in_it():
    with pytest.raises(HomenodeError, match=r"g\.cfg:4: there is no policy 'fast'"):
        ask(GuestConfig.parse(BASE + 'nodes_policy = "fast"', source="g.cfg"), HOST)


def test_a_node_without_cpus_cannot_be_asked_for_and_is_said():
    nodes = [*HOST.nodes, Node(7, free_kib=1 << 24)]
    host = HOST.replace(nodes=nodes, distances=None)
    wide = GuestConfig.parse(BASE + 'nodes = ["1", "7"]')
    asked = ask(wide, host)
    assert asked.request.explicit.nodes == NodeMap([1])
    assert [warned.code for warned in asked.warnings] == ["node-without-cpus"]
    with pytest.raises(HomenodeError, match="no cpus for the guest on node 7"):
        ask(GuestConfig.parse(BASE), host, Overrides(nodes="7"))


@pytest.mark.parametrize(
    ("text", "overrides", "complaint"),
    [
        ("", {"policy": ""}, "no policy ''"),
        ("", {"nodes": "0 nodes"}, "ask for 1 to 4"),
        ("", {"nodes": "\u0663 nodes"}, "not a node number"),
        ("", {"nodes": "9" * 50 + " nodes"}, "ask for 1 to 4"),
        ("nodes = 5", {}, "g.cfg:4"),
    ],
)
def test_wishes_that_cannot_be_are_refused(text, overrides, complaint):
    with pytest.raises(HomenodeError) as caught:
        ask(GuestConfig.parse(BASE + text, source="g.cfg"), HOST, Overrides(**overrides))
    assert complaint in str(caught.value)


def test_virtual_nodes_are_handed_over_with_the_nodes_that_were_decided():
    cells = (
        'type = "hvm"\nvnuma = [["pnode=3", "size=32", "vcpus=0", "vdistances=10,20"],'
        ' ["pnode=1", "size=32", "vcpus=1", "vdistances=20,10"]]\n'
    )
    for wish, nodes in (
        ("", ["3", "1"]),
        ('nodes = "0,2"', ["0", "2"]),
        ('nodes = "2"', ["2", "2"]),
    ):
        config = GuestConfig.parse(BASE + cells + wish)
        asked = ask(config, HOST)
        decision = place(View(HOST), asked.request, asked.policy)
        handed = GuestConfig.parse(handed_over(config, asked.request, decision, HOST))
        assert [cell[0] for cell in handed.values["vnuma"]] == [f"pnode={node}" for node in nodes]
        assert {str(share.node) for share in decision.memory} == set(nodes)


def test_a_guests_file_is_recognised_by_its_first_character():
    with pytest.raises(HomenodeError, match="no domain of libvirt"):
        read_guest("\ufeff\n <network/>", source="g")
    assert isinstance(read_guest("name = '<domain>'", source="g"), GuestConfig)


def test_a_virtual_node_away_from_the_cpus_of_its_guest_is_read_again_where_it_was():
    # Hard affinity keeps the vcpus off node 1, which `nodes` then cannot name.
    text = (
        'type = "hvm"\ncpus = "0"\nvnuma = [["pnode=0", "size=32", "vcpus=0"],'
        ' ["pnode=1", "size=32", "vcpus=1"]]'
    )
    decision, asked = decided(text)
    assert [share.node for share in decision.memory] == [0, 1]
    config = GuestConfig.parse(BASE + text)
    written = handed_over(config, asked.request, decision, HOST)
    again = ask(GuestConfig.parse(written), HOST)
    assert place(View(HOST), again.request, again.policy).memory == decision.memory
    assert "vnuma-overruled" not in [one.code for one in again.warnings]


@pytest.mark.parametrize("wish", ["required", "preferred"])
def test_a_device_whose_address_would_break_the_line_is_told_of_in_one(wish):
    text = f'pci = ["a\\n\x1b[2J:0"]\nnodes_devices = "{wish}"'
    try:
        told = decided(text)[1].warnings[0].text
    except HomenodeError as error:
        told = str(error)
    assert r"'a\n\x1b[2j:0'" in told
    assert told.isprintable()
