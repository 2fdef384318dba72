"""What works against placement: every finding is found where it is, and not where it is not."""

import json
import re
from pathlib import Path

import pytest

from homenode import doctor
from homenode.bitmap import CpuMap, NodeMap
from homenode.cli import doctor as verb
from homenode.doctor import Patient, examine
from homenode.drivers.linux_facts import linux_facts
from homenode.guest import Guest, MemoryByNode, Vcpu
from homenode.host import Cpu, Device, Host, Node, PagePool, Reservation
from kvm_tree import unpacked

DOCS = Path(__file__).parent.parent / "docs/doctor.md"
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
        "proc/8/comm": "libvirtd\n",
        "proc/cmdline": "root=/dev/vda1 quiet\n",
        "proc/meminfo": "MemTotal: 2097152 kB\nSwapTotal: 1048576 kB\nSwapFree: 1048576 kB\n",
        "proc/sys/vm/overcommit_memory": "0\n",
        "proc/sys/vm/min_free_kbytes": "8192\n",
        "sys/fs/cgroup/machine.slice/cpuset.cpus": "\n",
        "sys/kernel/mm/numa/demotion_enabled": "false\n",
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
        ("proc/9/comm", "numad\n", "numad-running"),
        ("proc/9/comm", "virtqemud\n", "libvirt-daemons"),
        ("run/libvirt/libvirt-sock", None, "libvirt-daemons"),
        ("proc/cmdline", "numa=fake=4\n", "kernel-numa"),
        ("proc/cmdline", "ro numa=off\n", "kernel-numa"),
        ("proc/sys/vm/min_free_kbytes", "400000\n", "min-free"),
        ("sys/fs/cgroup/machine.slice/cpuset.cpus", "0-1\n", "machine-slice"),
        ("sys/fs/cgroup/machine.slice/cpuset.mems", "1\n", "machine-slice"),
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
    nodes = [
        Node(0, present_kib=1 << 20, committed_kib=2 << 20, touched_kib=3),
        Node(1, present_kib=1),
    ]
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


TIERS = [Node(0, present_kib=1 << 20), Node(1, present_kib=1 << 20), Node(2, present_kib=1 << 20)]


def known(root, *, guests=(), on=None):
    facts = linux_facts(str(root))._replace(has_binding=True, can_see_guests=True)
    found = examine(Patient(on or host(), guests, facts))
    return {one.code: one.text for one in found if one.state == "know"}


@pytest.mark.parametrize(
    ("path", "text", "code", "on"),
    [
        ("proc/sys/vm/overcommit_memory", "2\n", "overcommit", None),
        ("proc/sys/kernel/numa_balancing", "2\n", "memory-tiering", TIERS),
        ("sys/kernel/mm/numa/demotion_enabled", "true\n", "demotion", TIERS),
        ("proc/cmdline", "hugepages=512 quiet\n", "boot-huge-pages", None),
        ("sys/devices/system/cpu/nohz_full", "0-1\n", "tickless-cpus", None),
        ("etc/libvirt/qemu.conf", 'memory_backing_dir = "/var/lib/ram"\n', "memory-backing", None),
        ("sys/bus/pci/drivers/vfio-pci/0000:41:00.0/x", "", "locked-memory", None),
        ("proc/meminfo", "SwapTotal: 1048576 kB\nSwapFree: 8 kB\n", "swap-in-use", None),
    ],
)
def test_what_may_be_meant_so_is_told(root, path, text, code, on):
    on = on and host(nodes=on)
    guests = [guest(cpus="0-1")]
    assert code not in known(root, guests=guests, on=on)
    (root / path).parent.mkdir(parents=True, exist_ok=True)
    (root / path).write_text(text)
    assert code in known(root, guests=guests, on=on)


def test_huge_pages_that_libvirt_may_not_use_are_found(root):
    pool = (PagePool(2048, 8, 8),)
    pooled = host(nodes=[Node(number, present_kib=1 << 20, pages=pool) for number in range(2)])
    assert to_mend(root, on=pooled) == {}
    (root / "etc/libvirt/qemu.conf").write_text('hugetlbfs_mount = ""\n')
    assert list(to_mend(root, on=pooled)) == ["huge-pages-unused"]
    assert to_mend(root) == {}


def test_strictly_bound_guests_are_in_danger_where_their_node_cannot_hold_them(root):
    (root / "run/libvirt/qemu").mkdir()
    text = "<domstatus><numatune><memory mode='strict' nodeset='0'/></numatune></domstatus>"
    (root / "run/libvirt/qemu/web.xml").write_text(text)
    nodes = [Node(0, present_kib=1 << 20, committed_kib=1000 << 10), Node(1, present_kib=1 << 20)]
    assert to_mend(root, on=host(nodes=nodes)) == {}
    nodes[0] = nodes[0]._replace(reserved=(Reservation(64 << 10, "watermarks"),))
    found = to_mend(root, on=host(nodes=nodes))
    assert list(found) == ["strict-guests"]
    assert "web" in found["strict-guests"].text


def test_a_guest_that_may_not_run_where_its_memory_is_is_found():
    apart = guest(cpus="0-1")._replace(memory_by_node=MemoryByNode({1: 4096}, "a test"))
    found = {one.code: one.state for one in examine(Patient(host(), (apart,)))}
    assert found["guests-apart"] == "mend"
    near = apart._replace(memory_by_node=MemoryByNode({0: 1, 1: 4096}, "a test"))
    found = {one.code: one.state for one in examine(Patient(host(), (near,)))}
    assert found["guests-apart"] == "fine"


def test_a_device_of_another_node_is_told():
    on = host(devices=[Device("0000:41:00.0", 1, "other")])
    having = guest()._replace(devices=("0000:41:00.0",), node_affinity=NodeMap([0]))
    found = {one.code: one for one in examine(Patient(on, (having,)))}
    assert found["device-remote"].state == "know"
    assert "node 1" in found["device-remote"].text
    there = having._replace(node_affinity=NodeMap([1]))
    assert {one.code: one.state for one in examine(Patient(on, (there,)))}[
        "device-remote"
    ] == "fine"


def test_what_cannot_be_read_is_unknown_and_nothing_to_mend_but_control_groups(tmp_path):
    found = examine(Patient(host(), (), linux_facts(str(tmp_path))))
    states = {one.code: one.state for one in found}
    assert states["numa-balancing"] == "unknown"
    assert [code for code, state in states.items() if state == "mend"] == ["no-cpuset"]


def test_another_machine_is_looked_at_by_its_description_alone():
    found = examine(Patient(host(), (), None))
    assert {one.code for one in found} == {
        "one-node", "lacking-nodes", "odd-description", "pool-on-one-node", "over-committed",
        "guests-apart",
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


def test_every_code_is_in_the_docs_and_nothing_else():
    rooms = Path(doctor.__file__).parent.glob("*.py")
    codes = {
        code for room in rooms for code in re.findall(r'Finding\(\s*"([\w-]+)"', room.read_text())
    }
    tables = DOCS.read_text().partition("## Any host")[2]
    documented = re.findall(r"^\| `([\w-]+)` \|", tables, flags=re.MULTILINE)
    assert sorted(codes) == sorted(documented)
