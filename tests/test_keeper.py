"""The keeper on a simulated host: it leaves no mask of its own, and touches none of a user's."""

import json
import os
import random
import sys
from contextlib import suppress
from pathlib import Path

import pytest

from homenode import affinity
from homenode.bitmap import CpuMap, NodeMap
from homenode.cli.main import main
from homenode.doctor import LinuxFacts
from homenode.drivers.base import Masks, Snapshot
from homenode.drivers.simulated import SimulatedDriver
from homenode.drivers.simulated_load import parse_load
from homenode.errors import Conflict, ExitStatus, HomenodeError, HypervisorError
from homenode.formats import host_toml
from homenode.guest import Guest, MemoryByNode, Vcpu
from homenode.keeper import balancers
from homenode.keeper.loop import Clocks, Keeper
from homenode.keeper.settings import Settings
from homenode.keeper_record import Record, Recorded, record_file
from homenode.ledger import Remembered

FOUR_NODES = """
nodes = 4
cores = 2
memory = "4GiB"
distances = [[10, 16, 22, 22], [16, 10, 22, 22], [22, 22, 10, 16], [22, 22, 16, 10]]
"""
EVERY = CpuMap.parse("0-7")


def guest(name, node, *, vcpus=1, hard=EVERY, number, **fields):
    return Guest(
        name,
        vcpus=tuple(Vcpu(vcpu, hard, EVERY) for vcpu in range(vcpus)),
        id=number,
        uuid=f"{number:08x}-0000-4000-8000-000000000000",
        memory_kib=1024,
        memory_by_node=None if node is None else MemoryByNode({node: 1024}, "a test"),
        node_affinity=NodeMap([0, 1, 2, 3] if node is None else [node]),
        pool="Pool-0",
        **fields,
    )


class World:
    """A simulated host, its clock, and keepers one after the other."""

    def __init__(self, folder, guests, *, load="busy", description=FOUR_NODES, numbers=None):
        self.now_s = 1000.0
        self.driver = SimulatedDriver(
            str(folder / "host.json"), clock=lambda: self.now_s, load=parse_load(load)
        )
        host = host_toml.parse(description, source="test.toml")
        numbered = tuple(one(number) for number, one in enumerate(guests, 1))
        self.driver.make(Snapshot(host, numbered), made_from="a test")
        self.numbers = numbers or Settings()
        self.events = []

    def keeper(self, **how):
        return Keeper(
            self.driver.watcher(),
            self.record(),
            self.numbers,
            report=self.events.append,
            clocks=Clocks(lambda: self.now_s, lambda: self.now_s),
            **how,
        )

    def record(self):
        ledger = self.driver.ledger
        return Record(record_file(ledger.path), boot_id=ledger.boot_id)

    def rounds(self, keeper, count):
        for _ in range(count):
            keeper.round()
            self.now_s += self.numbers.round_s

    def masks(self):
        return {
            one.name: [str(vcpu.hard) for vcpu in one.vcpus]
            for one in self.driver.snapshot().guests
            if not one.is_control
        }

    def pin(self, name, *masks):
        there = self.driver.snapshot().guest(name)
        self.driver.pin(there, [Masks(CpuMap.parse(mask), EVERY) for mask in masks])

    def kinds(self):
        return [event.kind for event in self.events]


def of(name, node, **fields):
    return lambda number: guest(name, node, number=number, **fields)


def test_guests_are_held_and_given_back(tmp_path):
    world = World(tmp_path, [of("a", 0, vcpus=2), of("b", 1), of("c", 3)])
    before = world.masks()
    keeper = world.keeper()
    world.rounds(keeper, 3)
    assert world.masks() == {"a": ["0-1", "0-1"], "b": ["2-3"], "c": ["6-7"]}
    assert keeper.release(why="a test") == []
    assert world.masks() == before
    assert world.record().read() == {}


def test_one_too_many_spreads_and_comes_back_and_all_is_counted(tmp_path):
    guests = [of("a", 0), of("b", 0), of("c", 0)]
    world = World(tmp_path, guests, load="c:square/200,busy")
    keeper = world.keeper()
    world.now_s = 1110.0  # c is still
    world.rounds(keeper, 2)
    assert world.masks() == {"a": ["0-1"], "b": ["0-1"], "c": ["0-1"]}
    world.now_s = 1200.0
    world.rounds(keeper, 15)
    assert sorted(mask for masks in world.masks().values() for mask in masks) == [
        "0-1", "0-1", "0-3",
    ]  # fmt: skip
    world.rounds(keeper, 15)
    assert world.masks() == {"a": ["0-1"], "b": ["0-1"], "c": ["0-1"]}
    assert [kind for kind in world.kinds() if kind in ("spread", "return")] == ["spread", "return"]
    accounts = {account.name: account for account in keeper.accounts.values()}
    assert accounts.keys() == {"a", "b", "c"}
    assert sum(one.home_s for one in accounts.values()) < sum(
        one.ran_s for one in accounts.values()
    )


def test_masks_of_users_are_left_alone_and_said(tmp_path):
    world = World(tmp_path, [of("a", 0), of("mine", 0, hard=CpuMap.parse("4-5"))])
    keeper = world.keeper()
    world.rounds(keeper, 3)
    assert world.masks() == {"a": ["0-1"], "mine": ["4-5"]}
    told = [event for event in world.events if event.kind == "left-alone"]
    assert [(event.guest, event.text) for event in told] == [("mine", "its user has pinned vcpu 0")]


def test_a_mask_that_somebody_sets_meanwhile_is_his(tmp_path):
    world = World(tmp_path, [of("a", 0, vcpus=2), of("b", 1)])
    keeper = world.keeper()
    world.rounds(keeper, 3)
    world.pin("a", "0-1", "6")
    world.rounds(keeper, 3)
    assert world.masks() == {"a": ["0-7", "6"], "b": ["2-3"]}
    assert "let-go" in world.kinds()
    world.rounds(keeper, 20)
    keeper.release(why="a test")
    assert world.masks() == {"a": ["0-7", "6"], "b": ["0-7"]}


def test_guests_that_nothing_is_known_of_or_that_live_everywhere_are_left_alone(tmp_path):
    everywhere = MemoryByNode(dict.fromkeys(range(4), 256), "a test")
    world = World(
        tmp_path,
        [
            of("lost", None),
            lambda number: guest("wide", 0, number=number)._replace(memory_by_node=everywhere),
            of("own", 0, hard=CpuMap.parse("0"), exclusive=True),
        ],
    )
    keeper = world.keeper()
    world.rounds(keeper, 3)
    assert {event.guest: event.text for event in world.events} == {
        "lost": "nobody knows where its memory is",
        "wide": "its memory is on all nodes where it may run",
        "own": "it has cpus of its own",
    }


def test_cpus_of_exclusive_guests_and_of_other_pools_are_not_used(tmp_path):
    world = World(
        tmp_path,
        [of("own", 0, hard=CpuMap.parse("0"), exclusive=True), of("a", 0), of("b", 0)],
    )
    keeper = world.keeper()
    world.rounds(keeper, 5)
    assert world.masks() == {"own": ["0"], "a": ["1"], "b": ["1-3"]}


def test_a_mask_that_somebody_sets_before_the_keeper_does_is_his_too(tmp_path):
    # Twelve that spin on eight cpus: for some there is no room, and these are not held.
    world = World(tmp_path, [of(f"g{number:02}", 0) for number in range(12)])
    keeper = world.keeper()
    world.rounds(keeper, 3)
    free = [name for name, masks in world.masks().items() if masks == ["0-7"]]
    assert len(free) == 4
    world.pin(free[0], "6")
    for name in world.masks():
        if name not in free:
            world.driver.destroy(world.driver.snapshot().guest(name))
    keeper._watcher._seen = world.driver.snapshot()  # not looked at wholly, as in most rounds
    keeper._watcher._written = world.driver.written()
    world.rounds(keeper, 2)
    masks = world.masks()
    assert masks.pop(free[0]) == ["6"]
    assert set(map(tuple, masks.values())) <= {("0-1",), ("0-3",)}


def test_cpus_that_an_exclusive_guest_gets_are_left_to_it(tmp_path):
    world = World(tmp_path, [of("a", 0), of("b", 1)])
    keeper = world.keeper()
    world.rounds(keeper, 3)
    ledger = world.driver.ledger
    new = guest("own", 0, number=9, hard=CpuMap.parse("0"))
    with ledger.lock():
        ledger.remember(Remembered(new.uuid, masks=(CpuMap.parse("0"),), exclusive=True))
    state = world.driver._read()
    world.driver._write(state._replace(guests=(*state.guests, new)))
    world.rounds(keeper, 3)
    assert world.masks() == {"a": ["1"], "b": ["2-3"], "own": ["0"]}
    keeper.release(why="a test")
    assert world.masks() == {"a": ["0-7"], "b": ["0-7"], "own": ["0"]}


def test_guests_come_and_go(tmp_path):
    world = World(tmp_path, [of("a", 0), of("b", 1)])
    keeper = world.keeper()
    world.rounds(keeper, 3)
    world.driver.destroy(world.driver.snapshot().guest("a"))
    world.rounds(keeper, 3)
    assert keeper.own.keys() == keeper.kept.keys()
    assert len(keeper.kept) == 1
    keeper.release(why="a test")
    assert world.masks() == {"b": ["0-7"]}


def test_what_cannot_be_noted_is_not_set(tmp_path, monkeypatch):
    world = World(tmp_path, [of("a", 0)])
    keeper = world.keeper()

    def full(_record, _recorded):
        raise HomenodeError("the disk is full")

    monkeypatch.setattr(Record, "write", full)
    world.rounds(keeper, 3)
    assert world.masks() == {"a": ["0-7"]}
    assert "trouble" in world.kinds()
    monkeypatch.undo()
    world.rounds(keeper, 1)
    assert world.masks() == {"a": ["0-1"]}


def test_a_refusal_is_told_and_tried_again(tmp_path):
    world = World(tmp_path, [of("a", 0), of("b", 1)])
    refuse = ["set-affinity"]

    def step(name):
        if name in refuse:
            raise HypervisorError("no")

    world.driver._step = step
    keeper = world.keeper()
    world.rounds(keeper, 3)
    assert world.masks() == {"a": ["0-7"], "b": ["0-7"]}
    assert keeper.own == {}
    refuse.clear()
    world.rounds(keeper, 2)
    assert world.masks() == {"a": ["0-1"], "b": ["2-3"]}
    assert "let-go" not in world.kinds()


def test_masks_are_given_back_though_the_host_cannot_be_looked_at(tmp_path, monkeypatch):
    world = World(tmp_path, [of("a", 0), of("b", 1)])
    keeper = world.keeper()
    world.rounds(keeper, 3)

    def refused(**_how):
        raise HypervisorError("xl does not answer")

    monkeypatch.setattr(keeper._watcher, "look", refused)
    with pytest.raises(HypervisorError):
        keeper.round()
    assert not keeper.is_blind
    world.now_s += 60
    assert keeper.is_blind
    assert keeper.release(why="a test") == []
    assert world.masks() == {"a": ["0-7"], "b": ["0-7"]}


def test_a_dry_run_changes_nothing(tmp_path):
    world = World(tmp_path, [of("a", 0), of("b", 1)])
    files = sorted(path.name for path in tmp_path.iterdir())
    keeper = world.keeper(dry_run=True)
    world.rounds(keeper, 3)
    assert world.masks() == {"a": ["0-7"], "b": ["0-7"]}
    assert world.kinds() == ["hold", "hold"]
    assert sorted(path.name for path in tmp_path.iterdir()) == files


def test_what_the_keeper_holds_is_seen_as_its_own_and_survives_other_changes(tmp_path):
    world = World(tmp_path, [of("a", 0), of("b", 1)])
    keeper = world.keeper()
    world.rounds(keeper, 2)
    seen = world.driver.snapshot()
    kept = seen.guest("a")
    assert (kept.kept, kept.held, kept.replaced) == (True, None, (EVERY,))
    with pytest.raises(Conflict, match="the keeper holds 'a'"):
        affinity.opened(seen, kept)
    # Preferring is beside what the keeper does: it goes on.
    affinity.apply(world.driver, affinity.change(seen, kept, NodeMap([2])))
    world.rounds(keeper, 2)
    assert world.masks()["a"] == ["0-1"]
    # Holding is the user's: what comes back when he opens it is not the keeper's mask.
    seen = world.driver.snapshot()
    held = affinity.change(seen, seen.guest("b"), NodeMap([3]), kind="hard")
    assert held.replaced == (EVERY,)
    affinity.apply(world.driver, held)
    world.rounds(keeper, 2)
    keeper.release(why="a test")
    assert world.masks() == {"a": ["0-7"], "b": ["6-7"]}
    seen = world.driver.snapshot()
    affinity.apply(world.driver, affinity.opened(seen, seen.guest("b")))
    assert world.masks() == {"a": ["0-7"], "b": ["0-7"]}


def test_guests_that_are_held_by_default_are_kept_and_those_held_by_wish_are_not(tmp_path):
    nodes = CpuMap.parse("0-1")
    world = World(tmp_path, [of("default", 0, hard=nodes), of("wished", 0, hard=nodes), of("c", 0)])
    ledger = world.driver.ledger
    with ledger.lock():
        for one in world.driver.snapshot().guests[1:3]:
            ledger.remember(
                Remembered(one.uuid, held=NodeMap([0]), masks=(nodes,), by_default=one.id == 1)
            )
    keeper = world.keeper()
    world.rounds(keeper, 5)
    masks = world.masks()
    assert masks["wished"] == ["0-1"]
    assert sorted(mask for name in ("default", "c") for mask in masks[name]) == ["0-1", "0-3"]
    keeper.release(why="a test")
    assert world.masks() == {"default": ["0-1"], "wished": ["0-1"], "c": ["0-7"]}


def test_what_is_held_by_default_stays_the_keepers_when_it_is_sent_to_another_node(tmp_path):
    """It was said which nodes, not that they bind; with `--hard` and for single vcpus it is."""
    nodes = CpuMap.parse("0-1")
    world = World(tmp_path, [of(name, 0, hard=nodes) for name in ("sent", "bound", "one")])
    ledger = world.driver.ledger
    with ledger.lock():
        for one in world.driver.snapshot().guests[1:4]:
            ledger.remember(
                Remembered(one.uuid, held=NodeMap([0]), masks=(nodes,), by_default=True)
            )
    for name, how in (("sent", {}), ("bound", {"kind": "hard"}), ("one", {"vcpus": CpuMap([0])})):
        seen = world.driver.snapshot()
        wanted = affinity.change(seen, seen.guest(name), NodeMap([1]), **how)
        affinity.apply(world.driver, wanted)
    guests = {guest.name: guest for guest in world.driver.snapshot().guests}
    assert [guests[name].held_by_default for name in ("sent", "bound", "one")] == [
        True,
        False,
        False,
    ]


def _open_files():
    return {int(path.name) for path in Path("/proc/self/fd").iterdir()}


class KilledError(BaseException):
    """The process ends here, at once."""


def killed_after(lines, function, *arguments):
    """Run `function`, and end it when so many lines of the keeper have been executed."""
    left = lines

    def trace(frame, event, _argument):
        nonlocal left
        if "homenode" not in frame.f_code.co_filename:
            return None
        if event == "line":
            left -= 1
            if left <= 0:
                sys.settrace(None)
                raise KilledError
        return trace

    files = _open_files()
    sys.settrace(trace)
    try:
        function(*arguments)
    except KilledError:
        # With a process its files and locks end.
        for left_open in _open_files() - files:
            with suppress(OSError):
                os.close(left_open)
        return True
    finally:
        sys.settrace(None)
    return False


def test_killed_at_a_hundred_random_points_all_masks_are_as_before(tmp_path):
    chance = random.Random(6)  # noqa: S311 - points that can be had again
    users = CpuMap.parse("3")
    guests = [of("a", 0, vcpus=2), of("b", 0), of("c", 0), of("d", 1), of("u", 2, hard=users)]
    world = World(tmp_path, guests, load="d:square/40,busy")
    before = world.masks()
    killed = 0
    states = set()

    def live_and_end(keeper):
        world.rounds(keeper, 8)
        keeper.release(why="the end, which is as good a time to die as any")

    for _ in range(100):
        killed += killed_after(chance.randrange(100_000), live_and_end, world.keeper())
        states.add(tuple(map(tuple, world.masks().values())))
        assert world.keeper().release(why="a test") == []
        assert world.masks() == before
        assert world.record().read() == {}
    assert killed > 60
    assert len(states) > 2, "it was never killed with masks set"


def test_guests_of_another_boot_or_run_are_not_touched(tmp_path):
    world = World(tmp_path, [of("a", 0)])
    world.rounds(world.keeper(), 3)
    assert world.masks() == {"a": ["0-1"]}
    record = world.record()
    other = Record(record.file, boot_id="another")
    assert other.read() == {}
    again = {key: one._replace(instance="77") for key, one in record.read().items()}
    record.write(Recorded(again))
    world.keeper().release(why="a test")
    assert world.masks() == {"a": ["0-1"]}


@pytest.fixture
def at_home(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    monkeypatch.setenv("HOMENODE_CONFIG", str(tmp_path / "homenode.toml"))
    (tmp_path / "homenode.toml").write_text("[keeper]\nround_s = 0.2\n")
    folder = tmp_path / "homenode" / "sim"
    folder.mkdir(parents=True)
    return World(folder, [of("a", 0), of("mine", 1, hard=CpuMap.parse("7"))]), folder


@pytest.mark.usefixtures("at_home")
def test_the_verb_says_what_it_would_do(capsys):
    assert main(["keep", "-c", "sim:host?load=busy", "--once", "--dry-run", "--json"]) == 0
    events = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [(one["event"], one["guest"], one["dry_run"]) for one in events] == [
        ("left-alone", "mine", True),
        ("hold", "a", True),
    ]
    assert (events[1]["nodes"], events[1]["cpus"], events[1]["version"]) == ([0], "0-1", 1)


def test_one_keeper_at_a_time(at_home, capsys):
    world, _ = at_home
    with world.record().alone():
        assert main(["keep", "-c", "sim:host", "--release"]) == ExitStatus.BAD_INPUT
    assert "a keeper is at work on this host" in capsys.readouterr().err
    assert main(["keep", "-c", "sim:host", "--release"]) == 0


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--once"], "--once goes with --dry-run"),
        (["--release", "--dry-run"], "--release sets masks"),
        (["-c", "sim:host?load=lazy", "--once", "--dry-run"], "no guest can do 'lazy'"),
        (["-c", "local:///"], "nothing runs there that could be kept"),
        (["--config", "/nowhere.toml"], "/nowhere.toml: there is no such file"),
        (["-c", "sim:host", "--metrics", "/nowhere/file"], "/nowhere is no folder"),
    ],
)
@pytest.mark.usefixtures("at_home")
def test_what_makes_no_sense_is_one_line(capsys, arguments, said):
    assert main(["keep", *arguments]) == ExitStatus.BAD_INPUT
    error = capsys.readouterr().err
    assert said in error
    assert len(error.splitlines()) == 1


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[keeper]\nround_seconds = 3\n", "did you mean 'round_s'?"),
        ("[keeper]\nround_s = 0\n", "keeper.round_s: not from 0.2 to 60"),
        ("[keeper]\nround_s = true\n", "a number is wanted"),
        ("[keeper\n", "is not TOML"),
        (f"[keeper]\nround_s = {'9' * 5000}\n", "is not TOML"),
        (f"[keeper]\nround_s = {'[' * 5000}\n", "is nested too deep"),
        ("[kept]\n", "did you mean 'keeper'?"),
    ],
)
@pytest.mark.usefixtures("at_home")
def test_settings_are_read_strictly(tmp_path, capsys, text, said):
    (tmp_path / "homenode.toml").write_text(text)
    assert main(["keep", "--settings"]) == ExitStatus.BAD_INPUT
    assert said in capsys.readouterr().err


@pytest.mark.usefixtures("at_home")
def test_a_drop_in_outranks_the_file_and_is_named(tmp_path, capsys):
    drop_in = tmp_path / "homenode.d" / "10-slow.toml"
    drop_in.parent.mkdir()
    drop_in.write_text("[keeper]\nround_s = 7\n")
    assert main(["keep", "--settings", "--json"]) == 0
    rows = json.loads(capsys.readouterr().out)["settings"]
    (row,) = [row for row in rows if row["name"] == "round_s"]
    assert (row["value"], row["from"]) == (7.0, str(drop_in))
    assert len(rows) == len(Settings._fields)


def test_what_else_moves_guests_is_named():
    facts = LinuxFacts(processes=frozenset(["numad", "irqbalance"]), numa_balancing=1)
    said = "; ".join(balancers.phrases(facts, is_xen=False))
    assert "numad runs" in said
    assert "irqbalance" in said
    assert "NUMA balancing" in said
    assert balancers.phrases(LinuxFacts(numa_balancing=1), is_xen=True) == [
        "no other balancer is at work"
    ]


def test_metrics_are_what_node_exporter_reads(tmp_path):
    parser = pytest.importorskip("prometheus_client.parser")
    from homenode.keeper.metrics import writer  # noqa: PLC0415 - an extra

    world = World(tmp_path, [of("a", 0), of("b", 0), of("c", 0)])
    keeper = world.keeper()
    path = tmp_path / "homenode.prom"
    write = writer(str(path), keeper)
    world.rounds(keeper, 6)
    write()
    samples = {
        (sample.name, *sample.labels.values()): sample.value
        for family in parser.text_string_to_metric_families(Path(path).read_text())
        for sample in family.samples
    }
    assert samples["homenode_keeper_guests_kept",] == 3
    assert samples["homenode_keeper_events_total", "hold"] == 3
    assert samples["homenode_guest_run_seconds_total", "a"] == pytest.approx(25.0)
    assert samples["homenode_guest_run_home_seconds_total", "a"] <= 25.0
    assert samples["homenode_node_busy_cpus", "0"] == pytest.approx(2.0)
