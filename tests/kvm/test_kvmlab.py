"""The lab itself: what the other tests take for granted."""

from concurrent.futures import ThreadPoolExecutor

import guests
import pytest


def test_a_guest_lies_where_its_file_binds_it(lab):
    bound = "<memory mode='strict' nodeset='2'/>"
    lab.put(guests.xml("g", memory=64, numatune=bound).encode(), "/root/g.xml")
    lab.run("virsh -q create g.xml", check=True)
    maps = lab.run("cat /proc/$(cat /run/libvirt/qemu/g.pid)/numa_maps", check=True).stdout
    ram = [line for line in maps.splitlines() if "bind:2 anon=16384" in line]
    assert ram
    assert "N2=16384" in ram[0]


def test_several_commands_run_at_once(lab):
    with ThreadPoolExecutor(6) as pool:
        outputs = list(pool.map(lambda n: lab.run(f"sleep 0.3; echo {n}").stdout, range(12)))
    assert outputs == [f"{number}\n" for number in range(12)]


def test_cleaning_leaves_nothing_behind(lab):
    lab.put(guests.xml("g").encode(), "/root/g.xml")
    lab.run("virsh -q define g.xml; virsh -q start g; mkdir -p /run/homenode", check=True)
    pools = "/sys/devices/system/node/node*/hugepages/hugepages-2048kB/nr_hugepages"
    lab.run(f"for pool in {pools}; do echo 4 >$pool; done", check=True)
    lab.clean()
    left = lab.run(f"virsh -q list --all; cat {pools} | sort -u; ls /run/homenode; ls /root").stdout
    assert left.split() == ["0"]


def test_memory_is_touched_bit_by_bit(lab):
    lab.put(guests.xml("t", memory=64, filled=False, rom="touch").encode(), "/root/t.xml")
    lab.run("virsh -q create t.xml", check=True)
    stat = "sed -n 's/^anon //p' /sys/fs/cgroup/machine/qemu-*-t.*/memory.numa_stat"
    wait = (
        f"for i in $(seq 100); do {stat} | tr ' ' '\\n' | awk -F= '{{s+=$2}} END {{exit s<66e6}}'"
    )
    assert lab.run(f"{wait} && exit 0; sleep 0.2; done; exit 1").status == 0


@pytest.mark.kvm("n2", arguments="lab.nolibvirtd")
def test_a_host_can_be_had_without_its_daemon(lab_of):
    lab = lab_of("n2", arguments="lab.nolibvirtd")
    told = lab.run("homenode list -c qemu:///system")
    assert told.status == 3
    assert "is libvirtd (or virtqemud) running?" in told.stderr
    assert len(told.stderr.splitlines()) == 1
