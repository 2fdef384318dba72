import multiprocessing
import os
import time
from pathlib import Path

import pytest

from homenode.affinity import apply, change
from homenode.arrival import landed
from homenode.asking import Overrides
from homenode.bitmap import CpuMap, NodeMap
from homenode.claims import PENDING_S, outstanding_kib
from homenode.drivers.base import Moving, Snapshot
from homenode.drivers.simulated import SimulatedDriver, _failing_at
from homenode.errors import Conflict, HomenodeError, HypervisorError, Undone
from homenode.formats import host_toml
from homenode.formats.xl_cfg import GuestConfig
from homenode.lifecycle import Wanted, create, create_all, destroy
from homenode.rules import xen_request

FOUR_NODES = """
nodes = 4
cores = 4
memory = "1GiB"
[distances]
machine = 20
"""
CREATE_STEPS = ("create-domain", "set-affinity", "allocate", "start", "write-state")


class Clock:
    """A clock that stands until it is set."""

    def __init__(self):
        self.now = 1000.0

    def __call__(self):
        return self.now


def opened(path, **settings):
    settings.setdefault("clock", Clock())
    return SimulatedDriver(str(path), **settings)


@pytest.fixture
def path(tmp_path):
    path = tmp_path / "host.json"
    host = host_toml.parse(FOUR_NODES, source="test.toml")
    opened(path).make(Snapshot(host, ()), made_from="a test")
    return path


def uuid_of(name):
    return f"00000000-0000-4000-8000-{name.encode().hex():0>12}"


def config_text(name, *lines, memory=256, vcpus=2):
    settings = (f'name = "{name}"', 'type = "pvh"', f"memory = {memory}", f"vcpus = {vcpus}")
    return "\n".join((*settings, *lines)) + "\n"


def walk(driver, name, *lines, overrides=Overrides(), dry_run=False, **sizes):  # noqa: B008 - immutable
    return create(
        driver,
        config_text(name, *lines, **sizes),
        source=f"{name}.cfg",
        overrides=overrides,
        new_uuid=lambda: uuid_of(name),
        dry_run=dry_run,
    )


def homed(driver, name, nodes, *, move):
    seen = driver.snapshot()
    apply(driver, change(seen, seen.guest(name), nodes), Moving() if move else None)


def outstanding(driver):
    guests = driver.snapshot().guests
    return outstanding_kib(driver.ledger.holding(guests), guests)


def nodes_of(created):
    return created.planned.decision.nodes


def test_a_guest_is_where_it_was_decided_and_nothing_is_owed_to_it(path):
    driver = opened(path)
    created = walk(driver, "web")
    assert landed(created.guest, nodes_of(created)).match == 100
    assert created.guest.node_affinity == nodes_of(created)
    assert created.warnings == ()
    assert [claim.state for claim in driver.ledger.read()] == ["seen"]
    assert outstanding(driver) == {}


def test_the_config_that_is_handed_over_means_the_decision_to_xl(path):
    driver = opened(path)
    created = walk(driver, "web", "# a comment", 'nodes = "2-3"')
    text = created.planned.config.text
    host = driver.snapshot().host
    read = xen_request.request(GuestConfig.parse(text, source="web.cfg"), host).request
    assert read.explicit.nodes == NodeMap([2, 3])
    assert set(read.soft) == {host.cpus_of(NodeMap([2, 3]))}
    assert read.uuid == uuid_of("web")
    assert "# a comment\n" in text


def test_an_exclusive_guest_is_handed_over_with_a_cpu_for_each_vcpu(path):
    driver = opened(path)
    created = walk(driver, "web", overrides=Overrides(exclusive=True))
    masks = [vcpu.hard for vcpu in created.guest.vcpus]
    assert [len(mask) for mask in masks] == [1, 1]
    assert len(set(masks)) == 2
    assert created.guest.exclusive


@pytest.mark.parametrize("lines", [(), ('cpus = "4"',), ('cpus_soft = "4"',)])
def test_one_exclusive_vcpu_is_handed_over_as_a_list_so_that_libxl_does_not_place_it(path, lines):
    overrides = Overrides(nodes="1", exclusive=True)
    config = walk(opened(path), "web", *lines, vcpus=1, overrides=overrides).planned.config
    assert config.values["cpus"] == ("4",)
    assert "cpus_soft" not in config.values


def test_a_uuid_in_the_file_is_kept(path):
    uuid = "12345678-1234-1234-1234-1234567890ab"
    assert walk(opened(path), "web", f'uuid = "{uuid}"').guest.uuid == uuid


@pytest.mark.parametrize(
    ("flag", "line", "expected"),
    [
        ("spread", 'nodes_policy = "packed"', "worst-fit"),
        (None, 'nodes_policy = "packed"', "best-fit"),
        (None, "", "balanced"),
    ],
)
def test_the_flag_outranks_the_file_and_the_file_the_default(path, flag, line, expected):
    created = walk(opened(path), "web", line, overrides=Overrides(policy=flag), dry_run=True)
    assert created.planned.decision.policy == expected


def test_nodes_of_the_command_line_outrank_the_file(path):
    created = walk(opened(path), "web", 'nodes = "0"', overrides=Overrides(nodes="3"))
    assert set(created.guest.memory_by_node.kib) == {3}


def test_a_dry_run_changes_nothing(path):
    before = path.read_bytes()
    driver = opened(path)
    created = walk(driver, "web", dry_run=True)
    assert created.guest is None
    assert created.planned.decision.fits
    assert path.read_bytes() == before
    assert driver.ledger.read() == ()


def test_a_guest_that_does_not_fit_changes_nothing_and_claims_nothing(path):
    before = path.read_bytes()
    driver = opened(path)
    created = walk(driver, "web", memory=100_000)
    assert created.guest is None
    assert not created.planned.decision.fits
    assert path.read_bytes() == before
    assert driver.ledger.read() == ()


@pytest.mark.parametrize("step", CREATE_STEPS)
def test_a_failure_at_any_step_claims_nothing_and_leaves_the_host_byte_for_byte(path, step):
    before = path.read_bytes()
    failing = opened(path, on_step=_failing_at(step))
    with pytest.raises(Undone if step == "start" else HypervisorError, match=step):
        walk(failing, "web")
    assert path.read_bytes() == before
    assert failing.ledger.read() == ()
    assert walk(opened(path), "web").guest is not None


def interrupted(step):
    def on_step(reached):
        if reached == step:
            raise KeyboardInterrupt

    return on_step


def test_an_interrupted_creation_claims_nothing(path):
    driver = opened(path, on_step=interrupted("allocate"))
    with pytest.raises(KeyboardInterrupt):
        walk(driver, "web")
    assert driver.ledger.read() == ()


def test_the_same_guest_twice_is_a_conflict(path):
    driver = opened(path)
    walk(driver, "web")
    before = path.read_bytes(), driver.ledger.read()
    with pytest.raises(Conflict, match=r"web\.cfg: guest 'web' is there already"):
        walk(driver, "web")
    assert (path.read_bytes(), driver.ledger.read()) == before


def test_memory_that_went_elsewhere_is_said(path):
    # libxl's own policy trusts free memory, and a quarter of node 0 is Xen's DMA zone.
    driver = opened(path)
    overrides = Overrides(policy="xl", nodes="0")
    created = walk(driver, "web", memory=800, overrides=overrides)
    where = landed(created.guest, NodeMap([0]))
    assert where.match < 100
    assert [warned.code for warned in created.warnings] == ["memory-elsewhere"]
    assert f"on node {min(where.elsewhere_kib)}" in created.warnings[0].text
    assert outstanding(driver) == {}


def test_a_destroyed_guest_leaves_the_host_as_before_and_no_claim(path):
    driver = opened(path)
    free = [node.free_kib for node in driver.snapshot().host.nodes]
    walk(driver, "web")
    destroy(driver, driver.snapshot().guest("web"))
    assert [node.free_kib for node in driver.snapshot().host.nodes] == free
    assert driver.ledger.read() == ()


def test_moved_memory_is_claimed_where_it_is(path):
    driver = opened(path)
    walk(driver, "web", overrides=Overrides(nodes="0"))
    homed(driver, "web", NodeMap([2]), move=False)
    assert outstanding(driver) == {}
    homed(driver, "web", NodeMap([2]), move=True)
    assert outstanding(driver) == {}


def test_create_and_destroy_many_times_uses_nothing_up(path):
    driver = opened(path)
    for _ in range(12):
        assert walk(driver, "web", memory=700).guest is not None
        destroy(driver, driver.snapshot().guest("web"))


def test_soft_masks_of_two_nodes_are_written_as_xen_reads_them(path):
    created = walk(opened(path), "web", 'nodes = "0,2"')
    assert created.guest.vcpus[0].soft == CpuMap.parse("0-3,8-11")
    assert set(created.guest.memory_by_node.kib) == {0, 2}


# --- several processes ---

spawned = multiprocessing.get_context("spawn")


def die_before_the_guest_is_there(path):
    driver = opened(path, on_step=lambda _step: os._exit(9))
    walk(driver, "ghost", memory=700)


def test_a_creator_that_dies_keeps_its_promise_for_a_while_and_no_longer(path):
    process = spawned.Process(target=die_before_the_guest_is_there, args=(str(path),))
    process.start()
    process.join()
    assert process.exitcode == 9
    clock = Clock()
    driver = opened(path, clock=clock)
    promised = outstanding(driver)
    assert sum(promised.values()) >= 700 << 10
    assert nodes_of(walk(driver, "web", memory=700)).isdisjoint(NodeMap(promised))
    clock.now += PENDING_S
    assert outstanding(driver) == {}


def test_guests_that_are_asked_for_again_together_are_promised_memory_once(path):
    process = spawned.Process(target=die_before_the_guest_is_there, args=(str(path),))
    process.start()
    process.join()
    driver = opened(path)
    wanted = [Wanted(config_text(name, memory=300), name) for name in ("other", "ghost")]
    uuids = iter(map(uuid_of, ("other", "ghost")))
    for created in create_all(driver, wanted, overrides=Overrides(), new_uuid=lambda: next(uuids)):
        assert landed(created.guest).match == 100
    assert len(driver.ledger.read()) == 2
    assert outstanding(driver) == {}


def wait_with_a_promise(path, name, go):
    driver = opened(path, on_step=lambda _step: go.wait())
    walk(driver, name, "nodes = 1", memory=600)


def started_with_a_promise(path, name, go):
    before = len(opened(path).ledger.read())
    process = spawned.Process(target=wait_with_a_promise, args=(str(path), name, go))
    process.start()
    while len(opened(path).ledger.read()) == before:
        assert process.is_alive()
        time.sleep(0.01)
    return process


def test_what_is_promised_to_a_guest_under_construction_is_not_promised_again(path):
    driver = opened(path)
    go = spawned.Event()
    processes = [started_with_a_promise(path, name, go) for name in ("one", "two", "three", "four")]
    # Four nodes, each promised; nothing is allocated yet, and nothing is left to promise.
    assert len(driver.snapshot().guests) == 1
    assert sorted(outstanding(driver)) == [0, 1, 2, 3]
    assert not walk(driver, "five", "nodes = 1", memory=600, dry_run=True).planned.decision.fits
    with pytest.raises(Conflict, match="'two' is being created"):
        walk(driver, "two")
    go.set()
    for process in processes:
        process.join()
    guests = driver.snapshot().guests[1:]
    assert sorted(node for guest in guests for node in guest.memory_by_node.kib) == [0, 1, 2, 3]
    assert outstanding(driver) == {}


def create_some(path, names):
    for name in names:
        try:
            walk(opened(path), name, memory=300)
        except HomenodeError as error:
            raise SystemExit(str(error)) from None


def test_processes_that_create_at_once_promise_no_memory_twice(path):
    names = [[f"{letter}{number}" for number in range(4)] for letter in "abc"]
    processes = [spawned.Process(target=create_some, args=(str(path), own)) for own in names]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    assert [process.exitcode for process in processes] == [0, 0, 0]
    driver = opened(path)
    guests = driver.snapshot().guests[1:]
    # Whoever was promised memory that another one had would have got it elsewhere.
    assert {landed(guest).match for guest in guests} == {100}
    assert len({guest.id for guest in guests}) == len(guests) > 8
    assert not walk(driver, "last", memory=300, dry_run=True).planned.decision.fits
    assert sorted(path.name for path in Path(driver.ledger.path).parent.iterdir()) == [
        "host.claims.json", "host.claims.json.lock", "host.json", "host.json.lock",
    ]  # fmt: skip
