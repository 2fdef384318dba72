"""The keeper on a real libvirt: threads' masks, and nothing of them in any guest's file."""

import json

import guests
import pytest
from keepers import keeping, until_told
from proof import keeper_kills


def created(lab, name, node, **how):
    bound = f"<memory mode='strict' nodeset='{node}'/>"
    lab.put(guests.xml(name, numatune=bound, **how).encode(), f"/root/{name}.xml")
    lab.run(f"virsh -q create /root/{name}.xml", check=True)


def masks_of(lab, name):
    """Return the masks of a guest's vcpus as the kernel has them."""
    command = f"virsh -q vcpuinfo {name} | sed -n 's/^CPU Affinity: *//p'"
    return lab.run(command, check=True).stdout.split()


def test_threads_are_held_and_no_file_says_so(lab):
    created(lab, "g", 1, vcpus=2)
    created(lab, "h", 3)
    before = lab.run("virsh dumpxml --migratable g", check=True).stdout
    with keeping(lab):
        until_told(lab, "^hold", count=2)
        assert masks_of(lab, "g") == ["--yy----", "--yy----"]
        assert masks_of(lab, "h") == ["------yy"]
        assert lab.run("virsh dumpxml --migratable g", check=True).stdout == before
        top = json.loads(lab.run("homenode top --once --interval 1 --json", check=True).stdout)
        assert top["keeper"] == "works"
        assert [(one["name"], one["home"], one["kept"]) for one in top["guests"]] == [
            ("g", [1], True),
            ("h", [3], True),
        ]
    assert masks_of(lab, "g") == ["yyyyyyyy", "yyyyyyyy"]
    # Why libvirt is not asked to set them: what it sets is part of the file, and travels with it.
    lab.run("virsh -q vcpupin g 0 2-3 --live", check=True)
    assert "vcpupin" in lab.run("virsh dumpxml --migratable g", check=True).stdout


def test_who_pins_a_vcpu_through_libvirt_has_the_last_word(lab):
    created(lab, "g", 1, vcpus=2)
    created(lab, "own", 2, cpuset="4")
    with keeping(lab, "^hold") as told:
        lab.run("virsh -q vcpupin g 1 6 --live", check=True)
        until_told(lab, "^release: g")  # told after let-go, when it is done
        assert masks_of(lab, "g") == ["yyyyyyyy", "------y-"]
        assert "left-alone: own: its user has pinned vcpu 0" in told()
    assert masks_of(lab, "g") == ["yyyyyyyy", "------y-"]
    assert masks_of(lab, "own") == ["----y---"]


@pytest.mark.kvm("n4", arguments="numa_balancing=disable")
def test_one_too_many_is_given_another_node(lab):
    for name in ("a", "b", "c"):
        created(lab, name, 0, rom="burn")
    with keeping(lab) as told:
        until_told(lab, "vcpu 0: held to", count=3)
        until_told(lab, "held to nodes 0[-,]")
        assert "node 0 has no room for it" in told() or "cpus are wanted on node 0" in told()
        masks = [masks_of(lab, name)[0] for name in ("a", "b", "c")]
        # On an emulated host that gets too little time itself, there is not even room for two.
        fewest, _, most = sorted(mask.count("y") for mask in masks)
        assert (fewest, most) == (2, 4)
        assert all(mask.startswith("yy") for mask in masks)
    assert [masks_of(lab, name)[0] for name in ("a", "b", "c")] == ["yyyyyyyy"] * 3


def test_killed_at_random_points_masks_are_as_before(lab):
    found = keeper_kills.killed(lab, "kvm", kills=6, seed=1, longest_s=6.0)
    assert all(one.as_before for one in found), found
    assert any(one.masks_set for one in found), found
