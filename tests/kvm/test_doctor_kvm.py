"""The doctor on a real Linux with libvirt: faults of each kind are put there, and found."""

import json

import pytest


def found(lab):
    result = lab.run("homenode doctor --json", timeout_s=300)
    assert result.status in (0, 4), result
    return {one["code"]: one for one in json.loads(result.stdout)["findings"]}


def states(lab):
    return {code: one["state"] for code, one in found(lab).items() if one["state"] != "fine"}


@pytest.mark.parametrize(
    ("fault", "mended", "code", "state"),
    [
        (
            "sysctl -w vm.overcommit_memory=2 vm.overcommit_ratio=100",
            "sysctl -w vm.overcommit_memory=0",
            "overcommit",
            "know",
        ),
        (
            "cp /proc/sys/vm/min_free_kbytes /root/min; sysctl -w vm.min_free_kbytes=500000",
            "cat /root/min >/proc/sys/vm/min_free_kbytes",
            "min-free",
            "mend",
        ),
        (
            "cd /etc/libvirt; cp qemu.conf /root/; echo memory_backing_dir=/ram >>qemu.conf",
            "cp /root/qemu.conf /etc/libvirt/",
            "memory-backing",
            "know",
        ),
        (
            "mkdir -p /etc/homenode; echo '[keeper' >/etc/homenode/homenode.toml",
            "rm -r /etc/homenode",
            "configuration",
            "mend",
        ),
    ],
)
def test_each_fault_is_found_and_gone_once_it_is_mended(lab, fault, mended, code, state):
    assert code not in states(lab)
    lab.run(fault, check=True)
    try:
        told = found(lab)
    finally:
        lab.run(mended, check=True)
    assert told[code]["state"] == state
    assert told[code]["remedy"]
    assert code not in states(lab)


def test_guests_that_are_confined_as_a_whole_are_found(lab):
    folder = "/sys/fs/cgroup/machine.slice"
    lab.run(f"echo +cpuset >/sys/fs/cgroup/cgroup.subtree_control; mkdir -p {folder}")
    lab.run(f"echo 0-1 >{folder}/cpuset.cpus", check=True)
    try:
        assert states(lab)["machine-slice"] == "mend"
    finally:
        lab.run(f"echo >{folder}/cpuset.cpus")
    assert "machine-slice" not in states(lab)


def test_a_daemon_that_cannot_be_reached_is_found(lab):
    stop = 'kill "$(cat /run/libvirtd.pid)"; while [ -e /run/libvirtd.pid ]; do sleep 0.1; done'
    lab.run(stop, check=True)
    try:
        result = lab.run("homenode doctor -c qemu:///system --json", timeout_s=300)
    finally:
        lab.run("libvirtd --daemon && sleep 1", check=True)
    told = {one["code"]: one["state"] for one in json.loads(result.stdout)["findings"]}
    assert result.status == 4
    assert told["no-answer"] == "mend"


@pytest.mark.kvm("n2", arguments="isolcpus=3 nohz_full=3 hugepages=4 numa_balancing=enable")
def test_what_the_kernel_was_booted_with_is_told(lab):
    told = states(lab)
    assert told["boot-huge-pages"] == "know"


@pytest.mark.kvm("n2", arguments="numa=fake=4")
def test_nodes_that_are_made_up_are_found(lab):
    assert states(lab)["kernel-numa"] == "mend"
