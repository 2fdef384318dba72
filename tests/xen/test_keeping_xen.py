"""The keeper on a real Xen: hard masks under credit2, soft ones under credit."""

import json

import pytest
from keepers import keeping, until_told
from proof import keeper_kills


def created(lab, name, node, *, vcpus=1, line=""):
    text = f'name="{name}"\ntype="pv"\nkernel="/guest/nano"\nmemory=32\nvcpus={vcpus}\n'
    line = line or f'cpus_soft="node:{node}"'
    lab.put(f"{text}{line}\n".encode(), f"/root/{name}.cfg")
    lab.run(f"xl create -q /root/{name}.cfg", check=True, timeout_s=300)


def masks_of(lab, name):
    """Return the hard and the soft mask of each vcpu, as xl prints them."""
    rows = lab.run(f"xl vcpu-list {name}", check=True).stdout.splitlines()[1:]
    return [tuple("".join(row.split()[6:]).split("/")) for row in rows]


def test_vcpus_are_held_by_hard_affinity_and_given_back(lab):
    created(lab, "g", 1, vcpus=2)
    created(lab, "own", 2, line='cpus=["7"]')
    configured = lab.run("xl list -l", check=True).stdout
    with keeping(lab, "^hold") as told:
        assert masks_of(lab, "g") == [("2-3", "2-3")] * 2
        assert "left-alone: own: its user has pinned vcpu 0" in told()
        # What libxl keeps of a guest, and sends along with it, says nothing of the keeper's masks.
        assert lab.run("xl list -l", check=True).stdout == configured
        top = json.loads(lab.run("homenode top --once --interval 1 --json", check=True).stdout)
        listed = json.loads(lab.run("homenode list --sample 0 --json", check=True).stdout)
        kept = {one["name"]: one["kept"] for one in listed["guests"]}
        assert kept == {"Domain-0": False, "g": True, "own": False}
        (row,) = [one for one in top["guests"] if one["name"] == "g"]
        assert (top["keeper"], row["kept"], row["held"]) == ("works", True, [1])
    assert masks_of(lab, "g") == [("all", "2-3")] * 2
    assert masks_of(lab, "own") == [("7", "all")]


def test_who_pins_a_vcpu_has_the_last_word(lab):
    created(lab, "g", 1, vcpus=2)
    with keeping(lab, "^hold"):
        lab.run("xl vcpu-pin g 1 6", check=True)
        until_told(lab, "^release: g")  # told after let-go, when it is done
        assert masks_of(lab, "g") == [("all", "2-3"), ("6", "2-3")]
    assert masks_of(lab, "g") == [("all", "2-3"), ("6", "2-3")]


@pytest.mark.xen("n4", xen_args="sched=credit")
def test_under_credit_soft_affinity_is_set_for_that_is_heeded(lab):
    created(lab, "g", 1)
    created(lab, "prefers", 2)
    lab.run("xl vcpu-pin g all all all", check=True)
    lab.run("homenode list --pages", check=True, timeout_s=120)
    with keeping(lab, "^hold") as told:
        assert masks_of(lab, "g") == [("all", "2-3")]
        assert "prefers cpus already" in told()
    assert masks_of(lab, "g") == [("all", "all")]
    assert masks_of(lab, "prefers") == [("all", "4-5")]


def test_killed_at_random_points_masks_are_as_before(lab):
    found = keeper_kills.killed(lab, "xen", kills=6, seed=1, longest_s=6.0)
    assert all(one.as_before for one in found), found
    assert any(one.masks_set for one in found), found
