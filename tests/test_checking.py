"""Findings on guests of a real Xen, and that a remedy mends what it is for."""

from pathlib import Path

import pytest

from homenode import affinity
from homenode.bitmap import CpuMap, NodeMap
from homenode.checking import check
from homenode.drivers.base import Moving
from homenode.drivers.capture import CaptureDriver
from homenode.drivers.simulated import SimulatedDriver
from homenode.residency import Residency

CAPTURES = Path(__file__).parent / "data" / "xen-captures"


def captured(name):
    return CaptureDriver(str(CAPTURES / name / "guests")).snapshot()


def codes(found, guest):
    return [one.code for one in found if one.guest == guest]


def test_a_guest_that_xl_held_away_from_its_memory_is_found_on_a_real_xen():
    """``cpus = "node:1"`` of guest d: its memory was put on node 2."""
    (found,) = [one for one in check(captured("n4")) if one.guest == "d"]
    assert (found.code, found.remedy) == ("cpus-away-from-memory", "homenode affinity d 2 --hard")


def test_guests_that_are_held_by_a_list_of_cpus_are_in_order():
    assert codes(check(captured("n4")), "e") == []


def test_soft_affinity_is_only_found_where_the_scheduler_drifts():
    seen = captured("n4")
    assert codes(check(seen), "a") == ["soft-drifts"]
    pools = [pool._replace(scheduler="credit") for pool in seen.host.pools]
    assert codes(check(seen._replace(host=seen.host.replace(pools=pools))), "a") == []


def test_memory_that_nobody_has_seen_is_a_question_and_nothing_to_mend():
    seen = captured("n4")
    guests = tuple(guest._replace(memory_by_node=None) for guest in seen.guests)
    found = check(seen._replace(guests=guests))
    assert {one.code for one in found if one.is_question} == {"memory-unknown"}
    assert not any(one.is_question for one in found if one.code == "soft-drifts")


@pytest.mark.parametrize(("percent", "found"), [(89, ["runs-elsewhere"]), (90, []), (None, [])])
def test_a_busy_guest_that_is_not_at_home_is_found(percent, found):
    seen = captured("n4")
    guest = seen.guest("e")
    ran = {guest.id: Residency({0: 1}, percent, percent)}
    assert codes(check(seen, residency=ran), "e") == found


@pytest.mark.parametrize("name", ["a", "b", "d", "f"])
def test_the_remedy_mends_what_was_found(tmp_path, name):
    driver = SimulatedDriver(str(tmp_path / "host.json"), clock=lambda: 0.0)
    driver.make(captured("n4"), made_from="a capture")
    seen = driver.snapshot()
    (found,) = [one for one in check(seen) if one.guest == name]
    words = found.remedy.split()
    assert words[:3] == ["homenode", "affinity", name]
    nodes = NodeMap.parse(words[3])
    change = affinity.change(seen, seen.guest(name), nodes, kind="hard")
    affinity.apply(driver, change, Moving() if "--move" in words else None)
    assert codes(check(driver.snapshot()), name) == []


def test_a_guest_on_two_nodes_that_one_could_hold_is_found():
    seen = captured("n4")
    (c,) = [guest for guest in seen.guests if guest.name == "c"]
    held = tuple(
        vcpu._replace(hard=CpuMap.parse("0-1,6-7"), soft=CpuMap.parse("0-1,6-7"))
        for vcpu in c.vcpus[:2]
    )
    guests = tuple(
        guest._replace(vcpus=held) if guest.name == "c" else guest for guest in seen.guests
    )
    assert codes(check(seen._replace(guests=guests)), "c") == ["more-nodes-than-needed"]
