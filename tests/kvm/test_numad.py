"""In numad's place, with libvirtd asking, and libvirt's hook."""

import json
import re
import time
from pathlib import Path

import guests
import pytest

HOOK = (Path(__file__).parents[2] / "examples/kvm/hook").read_bytes()


@pytest.fixture
def in_place(lab):
    """Give the lab with homenode-numad in numad's place, and the hook."""
    install(lab)
    return lab


def install(lab, *, hook=True):
    if hook:
        lab.put(HOOK, "/etc/libvirt/hooks/qemu.d/homenode", 0o755)
    lab.run(
        "mv /usr/bin/numad /usr/bin/numad.distrib; ln -s /usr/bin/homenode-numad /usr/bin/numad;"
        # It looks for hooks when it starts.
        " kill $(cat /run/libvirtd.pid); while [ -e /run/libvirtd.pid ]; do sleep 0.1; done;"
        " libvirtd --daemon; virsh -q list",
        check=True,
    )


def put(lab, name, **how):
    how = {"memory": 300, "vcpus": 2, "placement": "auto", **how}
    lab.put(guests.xml(name, **how).encode(), f"/root/{name}.xml")
    return f"{name}.xml"


def advised(lab, name):
    status = lab.run(f"cat /run/libvirt/qemu/{name}.xml", check=True).stdout
    return re.search(r"<numad nodeset='([^']*)'", status)[1]


def claims(lab):
    told = json.loads(lab.run("homenode claims --json", check=True).stdout)["claims"]
    return {claim["name"]: claim for claim in told}


def test_two_equal_guests_that_start_at_once_land_apart(in_place):
    for name in "ab":
        put(in_place, name)
    in_place.run("virsh -q create a.xml & virsh -q create b.xml & wait", timeout_s=300, check=True)
    nodes = {advised(in_place, name) for name in "ab"}
    assert len(nodes) == 2
    assert all(node in "0123" for node in nodes)
    seen = json.loads(in_place.run("homenode list --sample 0 --json", check=True).stdout)["guests"]
    assert {guest["name"]: guest["match"] for guest in seen} == {"a": 100, "b": 100}


def test_guests_of_which_each_fills_a_node_start_at_once(in_place):
    names = [f"s{number}" for number in range(4)]
    for name in names:
        put(in_place, name, memory=500)
    count = "sed -n 's/^oom_kill //p' /proc/vmstat"
    before = in_place.run(count).stdout
    start = " & ".join(f"virsh -q create {name}.xml" for name in names)
    in_place.run(f"{start} & wait", timeout_s=600, check=True)
    assert sorted(in_place.run("virsh -q list --name").stdout.split()) == names
    assert sorted(advised(in_place, name) for name in names) == ["0", "1", "2", "3"]
    assert in_place.run(count).stdout == before


def test_a_claim_is_confirmed_at_the_start_and_ends_with_its_guest(in_place):
    in_place.run(f"virsh -q create {put(in_place, 'g')}", timeout_s=300, check=True)
    claim = claims(in_place)["g"]
    assert claim["state"] == "seen"
    assert claim["uuid"] == in_place.run("virsh domuuid g").stdout.strip()
    assert in_place.run("ls /run/homenode/starting").stdout == ""
    in_place.run("virsh -q destroy g", check=True)
    assert claims(in_place) == {}


def test_a_guest_that_does_not_start_leaves_no_promise(in_place):
    file = put(in_place, "bad", rom="absent")
    assert in_place.run(f"virsh -q create {file}", timeout_s=300).status != 0
    assert claims(in_place) == {}
    assert in_place.run("ls /run/homenode/starting").stdout == ""


def test_the_note_tells_of_huge_pages_that_the_question_leaves_out(in_place):
    pool = "/sys/devices/system/node/node2/hugepages/hugepages-2048kB/nr_hugepages"
    in_place.run(f"echo 60 >{pool}", check=True)
    file = put(in_place, "huge", memory=100, huge_kib=2048, filled=False)
    in_place.run(f"virsh -q create {file}", timeout_s=300, check=True)
    assert advised(in_place, "huge") == "2"


def test_without_the_hook_guests_are_told_apart_by_their_size(lab):
    install(lab, hook=False)
    for name in "ab":
        put(lab, name)
    lab.run("virsh -q create a.xml & virsh -q create b.xml & wait", timeout_s=300, check=True)
    assert advised(lab, "a") != advised(lab, "b")


def test_a_broken_homenode_lets_guests_start(in_place):
    broken = "/usr/lib/python3/dist-packages/homenode"
    in_place.run(f"mv {broken}/placement {broken}/placement.away", check=True)
    try:
        file = put(in_place, "g")
        in_place.run(f"virsh -q create {file}", timeout_s=300, check=True)
        assert advised(in_place, "g") == "0-3"
    finally:
        in_place.run(f"mv {broken}/placement.away {broken}/placement", check=True)


def test_without_homenode_the_hook_lets_guests_start(in_place):
    in_place.run("mv /usr/bin/homenode /root/homenode.away", check=True)
    try:
        file = put(in_place, "g", placement="static")
        in_place.run(f"virsh -q create {file}", timeout_s=300, check=True)
        in_place.run("virsh -q save g saved && virsh -q restore saved", timeout_s=300, check=True)
    finally:
        in_place.run("mv /root/homenode.away /usr/bin/homenode", check=True)


def test_a_ledger_that_cannot_be_read_lets_guests_start(in_place):
    in_place.run("mkdir -p /run/homenode; echo nonsense >/run/homenode/ledger.json", check=True)
    in_place.run(f"virsh -q create {put(in_place, 'g')}", timeout_s=300, check=True)
    assert advised(in_place, "g") == "0-3"
    told = in_place.run("homenode-numad -w 2:300")
    assert (told.status, told.stdout) == (0, "0,1,2,3\n")
    assert "ledger.json" in told.stderr


def test_a_guest_too_large_for_the_host_is_told_all_nodes(in_place):
    told = in_place.run("homenode-numad -w 2:999999")
    assert (told.status, told.stdout) == (0, "0-3\n")
    assert "fits nowhere" in told.stderr
    assert claims(in_place) == {}


@pytest.mark.kvm("memonly3")
def test_nodes_without_cpus_or_memory_are_none_of_the_answer(in_place):
    assert in_place.run("numad -w 2:999999").stdout == "0-1\n"
    assert in_place.run("numad -w 2:200").stdout.strip() in ("0", "1")


def test_other_options_reach_the_numad_that_was_there(in_place):
    assert in_place.run("numad -V").stdout.startswith("homenode-numad")
    # The daemon of Debian's package, if someone starts it.
    assert "Usage: numad" in in_place.run("numad -u").stdout + in_place.run("numad -u").stderr


def test_a_guest_that_is_restored_is_placed_anew(in_place):
    numatune = "<memory mode='strict' nodeset='1'/>"
    how = {"placement": "static", "cpuset": "2-3", "numatune": numatune}
    in_place.run(f"virsh -q create {put(in_place, 'g', **how)}", timeout_s=300, check=True)
    in_place.run("virsh -q save g saved", timeout_s=300, check=True)
    # Its node is taken meanwhile.
    other = put(in_place, "other", memory=700, **how)
    in_place.run(f"virsh -q create {other}", timeout_s=300, check=True)
    in_place.run("virsh -q restore saved", timeout_s=300, check=True)
    now = in_place.run("virsh dumpxml g", check=True).stdout
    nodes = re.search(r"nodeset='([^']*)'", now)[1]
    assert nodes in ("0", "2", "3")
    seen = json.loads(in_place.run("homenode list --sample 0 --json", check=True).stdout)["guests"]
    found = next(guest for guest in seen if guest["name"] == "g")
    assert found["node_affinity"] == [int(nodes)]
    assert found["match"] >= 90


def test_the_hook_says_nothing_and_ends_well_whatever_it_is_given(in_place):
    for words, text in (
        ("libvirt g prepare begin -", "nonsense"),
        ("libvirt g", "<domain/>"),
        ("libvirt g release end -", ""),
        ("libvirt g restore begin -", "<domain type='qemu'><name>g</name></domain>"),
        ("elsewhere", ""),
    ):
        told = in_place.run(f"homenode hook {words}", input=text.encode())
        assert (told.status, told.stdout) == (0, ""), words


def test_a_lock_that_another_holds_keeps_no_guest_waiting_for_long(in_place):
    in_place.run("mkdir -p /run/homenode; touch /run/homenode/ledger.json.lock", check=True)
    hold = "import fcntl, time; f = open('/run/homenode/ledger.json.lock', 'r+');"
    hold += " fcntl.flock(f, fcntl.LOCK_EX); print('held', flush=True); time.sleep(60)"
    script = f'python3 -c "{hold}" >held & until [ -s held ]; do sleep 0.1; done; numad -w 1:64'
    began = time.monotonic()
    told = in_place.run(f"{script}; kill $!", timeout_s=50)
    assert told.stdout == "0,1,2,3\n"
    assert time.monotonic() - began < 45


SLOW = b"""#!/bin/sh
[ "$1 $2" = "slow prepare" ] && sleep 40
exec homenode hook libvirt "$@"
"""


def test_nobody_waits_for_a_guest_that_libvirt_keeps_locked(in_place):
    # libvirt has a guest locked while its hook runs. Who decides does not ask about it, or those
    # who wait for the ledger would wait for the hook.
    in_place.put(SLOW, "/etc/libvirt/hooks/qemu.d/homenode", 0o755)
    slow, other = put(in_place, "slow"), put(in_place, "other", placement="static")
    script = (
        f"virsh -q create {slow} & sleep 2; homenode create {other} >made & sleep 2;"
        " numad -w 1:64; pgrep -c -x sleep; wait; cat made"
    )
    told = in_place.run(script, timeout_s=300)
    node, sleeping = told.stdout.split()[:2]
    assert node in "0123"
    assert sleeping == "1"
    assert "slow" in in_place.run("virsh -q list --name").stdout
