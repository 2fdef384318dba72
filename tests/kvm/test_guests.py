"""Creating, looking at and moving guests on a real libvirt."""

import json
import re

import guests
import pytest

MIB = 1024


def put(lab, name, **how):
    lab.put(guests.xml(name, **how).encode(), f"/root/{name}.xml")
    return f"{name}.xml"


def ram_of(lab, name):
    """Return the KiB by node of what QEMU has mapped for the guest, by its page tables."""
    pages = json.loads(lab.run("homenode list --pages --sample 0 --json", check=True).stdout)
    (guest,) = [guest for guest in pages["guests"] if guest["name"] == name]
    return {share["node"]: share["kib"] for share in guest["memory"] if share["kib"]}


def listed(lab, name):
    told = json.loads(lab.run("homenode list --sample 0 --json", check=True).stdout)
    return next(guest for guest in told["guests"] if guest["name"] == name)


def once_pages_are_on(node, name):
    """Return shell that waits until pages of a guest's memory have come to a node."""
    maps = f"/proc/$(cat /run/libvirt/qemu/{name}.pid)/numa_maps"
    return f"until grep -qE 'bind.* anon=.* N{node}=' {maps}; do sleep 0.1; done;"


def policies(lab, name):
    maps = lab.run(f"cat /proc/$(cat /run/libvirt/qemu/{name}.pid)/numa_maps", check=True).stdout
    return {
        line.split()[1]
        for line in maps.splitlines()
        if (found := re.search(r" anon=(\d+)", line)) and int(found[1]) > 8000
    }


def test_guests_are_created_where_they_fit_and_lie_there(lab):
    small, wide = put(lab, "small", memory=300, vcpus=2), put(lab, "wide", memory=1400, vcpus=4)
    told = lab.run(f"homenode create {small} {wide} --json", timeout_s=300, check=True)
    made = json.loads(told.stdout)["guests"]
    for created, name, nodes in zip(made, ("small", "wide"), (1, 2), strict=True):
        decided = created["decision"]["nodes"]
        assert len(decided) == nodes
        assert set(ram_of(lab, name)) == set(decided)
        assert listed(lab, name)["node_affinity"] == decided
    assert not set(made[0]["decision"]["nodes"]) & set(made[1]["decision"]["nodes"])
    assert lab.run("homenode check").status == 0


def test_the_next_start_is_decided_anew_unless_the_nodes_are_to_be_kept(lab):
    lab.run(f"homenode create {put(lab, 'free')}", timeout_s=300, check=True)
    lab.run(f"homenode create --pin {put(lab, 'kept')}", timeout_s=300, check=True)
    free = lab.run("virsh dumpxml --inactive free", check=True).stdout
    assert "nodeset" not in free
    assert "cpuset" not in free
    assert "nodeset" in lab.run("virsh dumpxml free", check=True).stdout
    assert "nodeset" in lab.run("virsh dumpxml --inactive kept", check=True).stdout


def test_a_guest_that_has_ended_is_created_again_under_its_uuid(lab):
    file = put(lab, "again")
    lab.run(f"homenode create {file}", timeout_s=300, check=True)
    before = lab.run("virsh domuuid again", check=True).stdout
    lab.run("homenode destroy again", check=True)
    assert "shut off" in lab.run("virsh list --all").stdout
    lab.run(f"homenode create {file}", timeout_s=300, check=True)
    assert lab.run("virsh domuuid again", check=True).stdout == before


def test_what_libvirt_refuses_leaves_nothing(lab):
    file = put(lab, "bad", emulator="/usr/bin/nonsense")
    told = lab.run(f"homenode create {file}", timeout_s=300)
    assert told.status == 3
    assert "nonsense" in told.stderr
    assert len(told.stderr.splitlines()) == 1
    assert lab.run("virsh -q list --all").stdout.strip() == ""
    assert "nothing is claimed" in lab.run("homenode claims").stdout


def test_a_guest_that_does_not_start_is_as_it_was(lab):
    file = put(lab, "g")
    lab.run(f"virsh -q define {file}", check=True)
    before = lab.run("virsh dumpxml g", check=True).stdout
    # A second definition with the same name whose firmware is not there: QEMU ends at once.
    uuid = lab.run("virsh domuuid g", check=True).stdout.strip()
    bad = put(lab, "g", rom="absent", uuid=uuid)
    told = lab.run(f"homenode create {bad}", timeout_s=300)
    assert told.status in (3, 5)
    assert len(told.stderr.splitlines()) == 1
    assert lab.run("virsh dumpxml g", check=True).stdout == before
    assert lab.run("virsh -q list").stdout.strip() == ""


def test_a_running_guest_is_not_created_again(lab):
    file = put(lab, "g")
    lab.run(f"homenode create {file}", timeout_s=300, check=True)
    told = lab.run(f"homenode create {file}")
    assert told.status == 2
    assert "is there already" in told.stderr


def test_huge_pages_come_from_the_pool_that_has_them(lab):
    pool = "/sys/devices/system/node/node3/hugepages/hugepages-2048kB/nr_hugepages"
    lab.run(f"echo 40 >{pool}", check=True)
    file = put(lab, "huge", memory=64, filled=False, huge_kib=2048)
    lab.run(f"homenode create {file}", timeout_s=300, check=True)
    assert ram_of(lab, "huge") == {3: 64 * MIB}
    # The rest of the pool is too small, and no other node has one.
    told = lab.run(f"homenode create {put(lab, 'more', filled=False, huge_kib=2048)}")
    assert told.status == 1
    assert "does not fit" in told.stdout


@pytest.mark.parametrize("mode", ["none", "preferred", "strict", "interleave", "restrictive"])
def test_memory_follows_whatever_its_policy_was(lab, mode):
    nodes = "0,2" if mode == "interleave" else "2"
    bound = "" if mode == "none" else f"<memory mode='{mode}' nodeset='{nodes}'/>"
    lab.run(f"virsh -q create {put(lab, 'g', memory=200, vcpus=2, numatune=bound)}", check=True)
    lab.run("homenode affinity g 1", timeout_s=300, check=True)
    assert ram_of(lab, "g") == {1: 200 * MIB}
    now = listed(lab, "g")
    assert (now["node_affinity"], now["match"], now["held"]) == ([1], 100, [1])
    assert lab.run("homenode check").status == 0
    lab.run("homenode affinity g 2-3", timeout_s=300, check=True)
    there = ram_of(lab, "g")
    assert set(there) == {2, 3}
    assert sum(there.values()) == 200 * MIB
    assert abs(there[2] - there[3]) <= 64 * MIB


def test_memory_that_is_touched_later_comes_from_the_new_node(lab):
    bound = "<memory mode='preferred' nodeset='2'/>"
    file = put(lab, "t", memory=200, filled=False, rom="touch", numatune=bound)
    lab.run(f"virsh -q create {file}", check=True)
    lab.run("homenode affinity t 3", timeout_s=300, check=True)
    for _ in range(200):
        if sum(ram_of(lab, "t").values()) > 198 * MIB:
            break
    there = ram_of(lab, "t")
    assert there.get(3, 0) == sum(there.values())


@pytest.mark.kvm("uneven4")
def test_a_node_that_is_too_small_is_refused_before_the_first_page(lab):
    bound = "<memory mode='restrictive' nodeset='2'/>"
    lab.run(f"virsh -q create {put(lab, 'big', memory=600, numatune=bound)}", check=True)
    before = listed(lab, "big")
    told = lab.run("homenode affinity big 1")
    assert told.status == 1
    assert len(told.stderr.splitlines()) == 1
    assert "is not moved" in told.stderr
    assert ram_of(lab, "big") == {2: 600 * MIB}
    assert listed(lab, "big")["node_affinity"] == before["node_affinity"]
    pins = lab.run("virsh -q vcpupin big", check=True).stdout
    assert pins.split() == ["0", "0-7"]


@pytest.mark.kvm("uneven4")
def test_a_move_that_fails_half_way_is_undone(lab):
    bound = "<memory mode='strict' nodeset='0'/>"
    lab.run(f"virsh -q create {put(lab, 'big', memory=600, numatune=bound)}", check=True)
    hog = "import time\nkept = []\nfor _ in range(18): kept.append(bytearray(b'x') * (20 << 20))\n"
    lab.put(f"{hog}time.sleep(60)\n".encode(), "/root/hog.py")
    # It goes slowly enough for another to fill the node meanwhile.
    script = (
        f"homenode affinity big 3 --rate 20MiB 2>err & mover=$!; {once_pages_are_on(3, 'big')}"
        " numactl --membind=3 python3 hog.py & hog=$!; wait $mover; echo $?; kill $hog; cat err"
    )
    told = lab.run(script, timeout_s=300).stdout.splitlines()
    assert told[0] == "5", told
    assert "what had moved is moved back" in told[1]
    assert ram_of(lab, "big") == {0: 600 * MIB}
    assert policies(lab, "big") == {"bind:0"}
    assert lab.run("virsh -q vcpupin big", check=True).stdout.split() == ["0", "0-7"]
    assert "nothing is claimed" in lab.run("homenode claims").stdout


@pytest.mark.kvm("uneven4")
def test_being_interrupted_moves_back(lab):
    bound = "<memory mode='strict' nodeset='0'/>"
    lab.run(f"virsh -q create {put(lab, 'big', memory=600, numatune=bound)}", check=True)
    script = (
        f"homenode affinity big 2 --rate 30MiB & mover=$!; {once_pages_are_on(2, 'big')}"
        " kill -TERM $mover; wait $mover; echo $?"
    )
    told = lab.run(script, timeout_s=300)
    assert told.stdout.split() == ["130"]
    assert "moved back" in told.stderr
    assert ram_of(lab, "big") == {0: 600 * MIB}


def test_huge_pages_need_a_pool_where_they_go(lab):
    pool = "/sys/devices/system/node/node{}/hugepages/hugepages-2048kB/nr_hugepages"
    lab.run(f"echo 40 >{pool.format(2)}", check=True)
    bound = "<memory mode='strict' nodeset='2'/>"
    file = put(lab, "huge", memory=64, filled=False, huge_kib=2048, numatune=bound)
    lab.run(f"virsh -q create {file}", check=True)
    told = lab.run("homenode affinity huge 1")
    assert told.status == 1
    assert "2 MiB" in told.stderr
    lab.run(f"echo 40 >{pool.format(1)}", check=True)
    lab.run("homenode affinity huge 1", timeout_s=300, check=True)
    assert ram_of(lab, "huge") == {1: 64 * MIB}


def test_pins_alone_can_be_changed_and_given_back(lab):
    lab.run(f"homenode create {put(lab, 'g', memory=100, vcpus=2)}", timeout_s=300, check=True)
    home = listed(lab, "g")["node_affinity"]
    other = next(node for node in range(4) if [node] != home)
    lab.run(f"homenode affinity g {other} --stay", check=True)
    assert set(ram_of(lab, "g")) == set(home)
    told = lab.run("homenode check")
    assert told.status == 4
    assert "cpus-away-from-memory" in told.stdout
    lab.run("homenode affinity g --open", check=True)
    assert lab.run("virsh -q vcpupin g", check=True).stdout.split() == ["0", "0-7", "1", "0-7"]


def test_there_is_no_soft_affinity(lab):
    lab.run(f"homenode create {put(lab, 'g')}", timeout_s=300, check=True)
    told = lab.run("homenode affinity g 1 --soft")
    assert told.status == 2
    assert "no soft affinity" in told.stderr


def test_a_busy_guest_is_resident_where_it_is_held(lab):
    lab.run(f"homenode create {put(lab, 'b', rom='burn')}", timeout_s=300, check=True)
    told = json.loads(lab.run("homenode list --sample 2 --json", check=True).stdout)
    (guest,) = told["guests"]
    assert guest["residency"] == 100
    assert guest["locality"] >= 90


@pytest.mark.kvm("memonly3")
def test_a_node_without_cpus_is_no_place_for_vcpus(lab):
    lab.run(f"homenode create {put(lab, 'g')}", timeout_s=300, check=True)
    told = lab.run("homenode affinity g 2")
    assert told.status == 2
    assert "no cpus on node 2" in told.stderr


@pytest.mark.kvm("memless3")
def test_a_node_without_memory_is_no_place_for_memory(lab):
    lab.run(f"homenode create {put(lab, 'g')}", timeout_s=300, check=True)
    told = lab.run("homenode affinity g 1")
    assert told.status == 1
    assert len(told.stderr.splitlines()) == 1


def test_a_daemon_that_goes_away_is_told_of(lab):
    lab.run(f"homenode create {put(lab, 'g', memory=300)}", timeout_s=300, check=True)
    script = (
        "import signal, subprocess, sys\n"
        "sys.path.insert(0, '/usr/lib/python3/dist-packages')\n"
        "from homenode.drivers.connect import driver_for\n"
        "from homenode.errors import HomenodeError\n"
        "driver = driver_for('qemu:///system')\n"
        "driver.snapshot()\n"
        "subprocess.run('kill -9 $(cat /run/libvirtd.pid)', shell=True)\n"
        "try:\n"
        "    driver.snapshot()\n"
        "except HomenodeError as error:\n"
        "    print(int(error.exit_status), error)\n"
    )
    lab.put(script.encode(), "/root/gone.py")
    told = lab.run("python3 gone.py", check=True).stdout
    assert told.startswith("3 qemu:///system: libvirtd went away")
    lab.run("rm -f /run/libvirtd.pid; libvirtd --daemon", check=True)
    assert "running" in lab.run("virsh -q list").stdout


def test_who_may_not_is_told_so_in_one_line(lab):
    as_other = "su -s /bin/sh libvirt-qemu -c"
    # Whoever may ask libvirt may look, though the ledger is root's.
    lab.run("mkdir -p -m 700 /run/homenode; touch /run/homenode/ledger.json", check=True)
    assert lab.run(f"{as_other} 'homenode list -c qemu:///system'").status == 0
    file = put(lab, "g")
    lab.run(f"cp {file} /tmp/g.xml; chmod 644 /tmp/g.xml", check=True)
    refused = lab.run(f"{as_other} 'homenode create -c qemu:///system /tmp/g.xml'")
    assert refused.status == 2
    assert len(refused.stderr.splitlines()) == 1
    assert "/run/homenode/ledger.json" in refused.stderr
    assert lab.run("virsh -q list --all").stdout.strip() == ""
    lab.run("chmod 700 /run/libvirt/libvirt-sock", check=True)
    try:
        told = lab.run(f"{as_other} 'homenode list -c qemu:///system'")
    finally:
        lab.run("chmod 777 /run/libvirt/libvirt-sock", check=True)
    assert told.status == 3
    assert len(told.stderr.splitlines()) == 1
    assert "root, or a member of the group libvirt, may" in told.stderr
    asked = lab.run(f"{as_other} 'homenode-numad -w 1:64'")
    assert (asked.status, asked.stdout) == (0, "0,1,2,3\n")


@pytest.mark.kvm("n2", arguments="lab.nocgroup")
def test_without_control_groups_memory_follows_all_the_same(lab):
    bound = "<memory mode='strict' nodeset='0'/>"
    lab.run(f"virsh -q create {put(lab, 'g', memory=100, numatune=bound)}", check=True)
    assert listed(lab, "g")["memory"] is None
    lab.run("homenode affinity g 1", timeout_s=300, check=True)
    assert ram_of(lab, "g") == {1: 100 * MIB}
    assert "no-cpuset" in lab.run("homenode doctor").stdout


@pytest.mark.kvm("n2", arguments="lab.cgroup1")
def test_version_1_of_control_groups_is_understood(lab):
    bound = "<memory mode='strict' nodeset='0'/>"
    lab.run(f"virsh -q create {put(lab, 'g', memory=100, numatune=bound)}", check=True)
    told = {share["node"]: share["kib"] for share in listed(lab, "g")["memory"]}
    assert told[0] >= 100 * MIB
    lab.run("homenode affinity g 1", timeout_s=300, check=True)
    assert ram_of(lab, "g") == {1: 100 * MIB}
    assert listed(lab, "g")["node_affinity"] == [1]


def test_what_is_wrong_with_the_host_is_told_with_its_remedy(lab):
    pool = "/sys/devices/system/node/node2/hugepages/hugepages-2048kB/nr_hugepages"
    lab.run(f"echo 8 >{pool}; echo 1 >/sys/kernel/mm/ksm/run; (numad -i 15 &)", check=True)
    lab.run(f"virsh -q define {put(lab, 'auto', placement='auto')}", check=True)
    try:
        told = json.loads(lab.run("homenode doctor --json").stdout)["findings"]
    finally:
        lab.run("echo 0 >/sys/kernel/mm/ksm/run; pkill -x numad; sleep 0.5")
    mend = {one["code"]: one["remedy"] for one in told if one["state"] == "mend"}
    assert set(mend) == {"pool-on-one-node", "ksm-across-nodes", "numad-running", "numad-program"}
    assert all(mend.values())


CONVERGE = """
import sys
sys.path.insert(0, "/usr/lib/python3/dist-packages")
from uuid import uuid4
from homenode.asking import Overrides
from homenode.bitmap import NodeMap
from homenode.drivers.connect import driver_for
from homenode.lifecycle import converged, create
from homenode.placement.decision import Warned

driver = driver_for("qemu:///system")
text = open("/root/g.xml").read()
made = create(driver, text, source="g.xml", overrides=Overrides(), new_uuid=lambda: str(uuid4()))
(there,) = made.planned.decision.nodes
other = (there + 1) % 4
# As if it had been planned there, and come from where it is.
shares = tuple(share._replace(node=other) for share in made.planned.decision.memory)
decision = made.planned.decision._replace(nodes=NodeMap([other]), memory=shares)
made = made._replace(
    planned=made.planned._replace(decision=decision),
    warnings=(Warned("memory-elsewhere", "not there"),),
)
done = converged(driver, made)
print(other, [warned.code for warned in done.warnings])
"""


def test_memory_that_came_from_elsewhere_can_be_brought_where_it_was_planned(lab):
    put(lab, "g", memory=100)
    lab.put(CONVERGE.encode(), "/root/converge.py")
    other, rest = lab.run("python3 converge.py", timeout_s=300, check=True).stdout.split(" ", 1)
    assert "memory-elsewhere" not in rest
    assert ram_of(lab, "g") == {int(other): 100 * MIB}


TERMINAL = """
import os, pty, sys
seen = b""
def read(fd):
    global seen
    data = os.read(fd, 1024)
    seen += data
    return data
pty.spawn(["homenode", "affinity", "g", "3", "--rate", "100MiB"], read)
print(seen.count(b"moving g"), b"100 %" in seen or b"100%" in seen)
"""


def test_progress_is_shown_on_a_terminal(lab):
    bound = "<memory mode='strict' nodeset='2'/>"
    lab.run(f"virsh -q create {put(lab, 'g', memory=300, numatune=bound)}", check=True)
    lab.put(TERMINAL.encode(), "/root/terminal.py")
    shown = lab.run("python3 terminal.py </dev/null", timeout_s=300, check=True).stdout.split()
    assert int(shown[-2]) > 5
    assert ram_of(lab, "g") == {3: 300 * MIB}


def test_a_daemon_that_goes_away_during_a_move_stops_no_page(lab):
    bound = "<memory mode='strict' nodeset='0'/>"
    lab.run(f"virsh -q create {put(lab, 'g', memory=300, numatune=bound)}", check=True)
    script = (
        f"homenode affinity g 2 --rate 30MiB & mover=$!; {once_pages_are_on(2, 'g')}"
        " kill -9 $(cat /run/libvirtd.pid); wait $mover; echo $?;"
        " rm -f /run/libvirtd.pid; libvirtd --daemon; virsh -q list --name"
    )
    told = lab.run(script, timeout_s=300)
    assert told.stdout.split() == ["3", "g"], told
    assert len(told.stderr.splitlines()) == 1
    assert "'g' is moved as it was to be, and then: " in told.stderr
    assert ram_of(lab, "g") == {2: 300 * MIB}
