"""What works against placement: every finding is found where it is, and not where it is not."""

import json
from pathlib import Path

import pytest

from homenode.bitmap import CpuMap
from homenode.cli import doctor as verb
from homenode.doctor import LinuxFacts, Patient, examine
from homenode.drivers.linux_facts import linux_facts
from homenode.guest import Guest, Vcpu
from homenode.host import Cpu, Host, Node, PagePool
from kvm_tree import unpacked

AUTO = "<domain type='kvm'><name>web</name><memory unit='MiB'>64</memory>"
AUTO += "<vcpu placement='auto'>1</vcpu><os><type>hvm</type></os></domain>"


def made(folder, **files):
    for name, text in files.items():
        path = folder / name.replace("__", "/")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)


@pytest.fixture
def root(tmp_path):
    """A healthy host: nothing is to mend there."""
    for path, text in {
        "proc/sys/kernel/numa_balancing": "0\n",
        "proc/sys/vm/zone_reclaim_mode": "0\n",
        "sys/kernel/mm/ksm/run": "0\n",
        "sys/kernel/mm/ksm/merge_across_nodes": "1\n",
        "sys/kernel/mm/transparent_hugepage/enabled": "always [madvise] never\n",
        "sys/fs/cgroup/cgroup.controllers": "cpuset cpu io memory\n",
        "run/libvirt/libvirt-sock": "",
        "usr/bin/numad": "#!/usr/bin/python3\nfrom homenode.cli.numad import console\n",
        "etc/libvirt/hooks/qemu.d/homenode": "#!/bin/sh\nexec homenode hook libvirt\n",
        "etc/libvirt/qemu/web.xml": AUTO,
        "proc/7/comm": "bash\n",
    }.items():
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).write_text(text)
    return tmp_path


def host(**changes):
    nodes = [Node(number, present_kib=1 << 20, free_kib=1 << 19) for number in range(2)]
    cpus = [Cpu(number, number // 2) for number in range(4)]
    return Host(**{"cpus": cpus, "nodes": nodes, **changes})


def guest(name="g", cpus="0-3", vcpus=1):
    masks = CpuMap.parse(cpus)
    return Guest(name, tuple(Vcpu(number, masks, masks) for number in range(vcpus)), id=3)


def to_mend(root, *, guests=(), on=None):
    facts = linux_facts(str(root))._replace(has_binding=True, can_see_guests=True)
    found = examine(Patient(on or host(), guests, facts))
    return {one.code: one for one in found if one.state == "mend"}


def test_a_healthy_host_has_nothing_to_mend(root):
    assert to_mend(root, guests=[guest(cpus="0-1")]) == {}


@pytest.mark.parametrize(
    ("path", "text", "code"),
    [
        ("proc/8/comm", "numad\n", "numad-running"),
        ("proc/sys/vm/zone_reclaim_mode", "1\n", "zone-reclaim"),
        ("sys/kernel/mm/ksm/run", "1\n", "ksm-across-nodes"),
        ("sys/fs/cgroup/cgroup.controllers", "cpu memory\n", "no-cpuset"),
        ("etc/libvirt/qemu.conf", 'cgroup_controllers = [ "cpu", "memory" ]\n', "no-cpuset"),
        ("etc/libvirt/hooks/qemu.d/homenode", "#!/bin/sh\n", "libvirt-hook"),
        ("usr/bin/numad", "\x7fELF\n", "numad-program"),
        ("usr/bin/numad", None, "numad-program"),
    ],
)
def test_each_thing_is_found_alone_with_a_remedy(root, path, text, code):
    if text is None:
        (root / path).unlink()
    else:
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_text(text)
    found = to_mend(root)
    assert list(found) == [code]
    assert found[code].remedy


def test_merging_within_nodes_is_fine(root):
    (root / "sys/kernel/mm/ksm/run").write_text("1\n")
    (root / "sys/kernel/mm/ksm/merge_across_nodes").write_text("0\n")
    assert to_mend(root) == {}


def test_a_pool_on_one_node_is_found_and_pools_on_all_are_not(root):
    pool = (PagePool(2048, 8, 8),)
    lonely = [Node(0, present_kib=1 << 20, pages=pool), Node(1, present_kib=1 << 20)]
    assert "pool-on-one-node" in to_mend(root, on=host(nodes=lonely))
    both = [node._replace(pages=pool) for node in lonely]
    assert to_mend(root, on=host(nodes=both)) == {}


def test_a_node_that_is_promised_more_than_it_has_is_found(root):
    nodes = [Node(0, present_kib=1000, committed_kib=1200, touched_kib=3), Node(1, present_kib=5)]
    assert list(to_mend(root, on=host(nodes=nodes))) == ["over-committed"]


@pytest.mark.parametrize(
    ("balancing", "cpus", "state"),
    [("1", "0-1", "know"), ("1", "0-3", "fine"), ("0", "0-1", "fine"), ("0", "0-3", "know")],
)
def test_balancing_is_for_guests_that_are_not_pinned(root, balancing, cpus, state):
    (root / "proc/sys/kernel/numa_balancing").write_text(balancing)
    found = examine(Patient(host(), (guest(cpus=cpus),), linux_facts(str(root))))
    assert {one.code: one.state for one in found}["numa-balancing"] == state


def test_vcpus_that_float_over_isolated_cpus_are_found(root):
    (root / "sys/devices/system/cpu").mkdir(parents=True)
    (root / "sys/devices/system/cpu/isolated").write_text("2-3\n")
    assert list(to_mend(root, guests=[guest(cpus="2-3", vcpus=2)])) == ["isolated-cpus"]
    assert to_mend(root, guests=[guest(cpus="2")]) == {}


def test_what_cannot_be_read_is_unknown_and_nothing_to_mend_but_control_groups(tmp_path):
    found = examine(Patient(host(), (), linux_facts(str(tmp_path))))
    states = {one.code: one.state for one in found}
    assert states["numa-balancing"] == "unknown"
    assert [code for code, state in states.items() if state == "mend"] == ["no-cpuset"]


def test_another_machine_is_looked_at_by_its_description_alone():
    found = examine(Patient(host(), (), None))
    assert {one.code for one in found} == {
        "one-node", "lacking-nodes", "odd-description", "pool-on-one-node", "over-committed",
    }  # fmt: skip


def test_the_recorded_host_is_healthy_but_for_its_pool(tmp_path):
    facts = linux_facts(str(unpacked(tmp_path)))
    assert facts.processes == frozenset()
    assert facts.numad == "absent"


def test_the_command_tells_of_this_machine(capsys):
    status = verb.run(["-c", "local:///", "--json"])
    told = json.loads(capsys.readouterr().out)
    assert status == (4 if any(one["state"] == "mend" for one in told["findings"]) else 0)
    assert len({one["code"] for one in told["findings"]}) == len(told["findings"])


def test_every_code_is_in_the_docs():
    text = (Path(__file__).parent.parent / "docs/doctor.md").read_text()
    everything = LinuxFacts(
        numad="homenode", has_libvirt=True, can_see_guests=False, isolated=CpuMap([1])
    )
    found = examine(Patient(host(), (guest(),), everything))
    assert [one.code for one in found if f"`{one.code}`" not in text] == []
