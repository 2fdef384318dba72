"""Files that homenode itself keeps or is configured by, fleets, scenarios and traces."""

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from functools import partial

from fuzz import seeds
from fuzz.oracle import Defect, expect
from fuzz.seeds import text
from fuzz.target import Target
from fuzz.targets.xen import HOST
from fuzz.workplace import FOLDER
from homenode.bitmap import CpuMap, NodeMap
from homenode.claims import Claim
from homenode.configuration import keeper_configuration
from homenode.drivers import simulated_state
from homenode.drivers.base import Snapshot
from homenode.errors import HomenodeError
from homenode.fleet import fleet_file
from homenode.fleet.reading.own import write_trace
from homenode.fleet.reading.recognising import read_trace
from homenode.formats import host_toml
from homenode.guest import MemoryByNode
from homenode.host import Host
from homenode.keeper_record import KeptGuest, OwnMask, Record, Recorded, record_file
from homenode.ledger import Entries, Ledger, Remembered
from homenode.simulation import scenario_file
from homenode.state_file import StateFile

BOOT = "boot"
_PATH = "/run/ledger.json"
_CONFIGURATION = FOLDER / "homenode.toml"
_TRACE = FOLDER / "trace.csv"


class Memory:
    """A machine whose one file is in memory (`homenode.state_file.Storage`)."""

    def __init__(self, data: bytes = b"") -> None:
        self.data = data

    def read(self, _path: str, *, most: int) -> bytes | None:
        """Return the file."""
        return self.data[:most]

    def replace(self, _path: str, data: bytes) -> None:
        """Put another in its place."""
        self.data = data

    def lock(self, _path: str, *, wait_s: float) -> AbstractContextManager[None]:  # noqa: ARG002 - as the protocol has it
        """Return a lock that nobody else wants."""
        return nullcontext()


def _ledger(memory: Memory) -> Ledger:
    return Ledger(_PATH, boot_id=BOOT, clock=lambda: 1000.0, storage=memory, creator=1, lives=bool)


def _ledgers(data: bytes) -> None:
    ledger = _ledger(Memory(data))
    entries = ledger.entries()
    ledger.holding(())
    ledger.write(entries)
    expect(ledger.entries(), entries, "the ledger")


def _record(memory: Memory) -> Record:
    return Record(record_file(_PATH, storage=memory), boot_id=BOOT)


def _records(data: bytes) -> None:
    record = _record(Memory(data))
    recorded = record.read_whole()
    record.write(recorded)
    expect(record.read_whole(), recorded, "the keeper's record")


def _state(memory: Memory) -> StateFile:
    return StateFile("/var/sim.json", "simulated host", 1, "remove it", 0.0, memory)


def _states(data: bytes) -> None:
    file = _state(Memory(data))
    state = simulated_state.parse(file.read() or {}, file)
    if len(data) % 4:
        return  # the way back takes a while
    file.write(simulated_state.document(state))
    expect(simulated_state.parse(file.read() or {}, file), state, "the simulated host")


def _configuration(data: bytes) -> None:
    _CONFIGURATION.write_bytes(data)
    found = keeper_configuration(str(_CONFIGURATION))
    for value in found.settings:
        if not isinstance(value, float):
            raise Defect(f"a setting is {value!r}")


def _scenario(data: bytes) -> None:
    found = scenario_file.parse(text(data), source="s.toml", host_of=lambda _name: HOST)
    if not found.guests or not found.variants:
        raise Defect("a scenario of nothing")


def _fleet(data: bytes) -> None:
    plan = fleet_file.parse(text(data), source="f.toml", host_of=_host_of)
    names = [host.name for host in plan.hosts]
    expect(len(names), len(set(names)), "different names of hosts")


def _host_of(name: str) -> Host:
    if name == "gone":
        raise HomenodeError("there is no such file")
    return HOST


def _trace(data: bytes) -> None:
    _TRACE.write_bytes(data)
    trace = read_trace(_TRACE)
    if b"time_s" in data.partition(b"\n")[0]:
        write_trace(trace, _TRACE)
        expect(read_trace(_TRACE), trace, "a trace that was written and read again")


def _written(write: Callable[[Memory], None]) -> bytes:
    memory = Memory()
    write(memory)
    return memory.data


def _write_ledger(memory: Memory, entries: Entries) -> None:
    _ledger(memory).write(entries)


def _write_record(memory: Memory, recorded: Recorded) -> None:
    _record(memory).write(recorded)


def _ledger_seeds() -> list[bytes]:
    uuid = "11111111-2222-3333-4444-555555555555"
    claims = (
        Claim(uuid, "web", 2, {0: 1024, 1: 2048}, BOOT, 2000.0, after_id=3, creator=7),
        Claim(None, "(asked of numad)", 1, {2: 5}, "other", 1.5, page_kib=2048, after_id=-1),
    )
    one = Remembered(
        uuid,
        id=3,
        memory=MemoryByNode({0: 7}, "x", 1.5),
        memory_kib=9,
        held=NodeMap((1,)),
        masks=(CpuMap((1, 2)),),
        replaced=(CpuMap(),),
        exclusive=True,
    )
    entries = Entries(claims, (one, Remembered("b")), 9)
    return [_written(partial(_write_ledger, entries=some)) for some in (entries, Entries())]


def _record_seeds() -> list[bytes]:
    mask = OwnMask((CpuMap((0, 1)), CpuMap((4,))), CpuMap.full(8))
    guests = {
        "k": KeptGuest("web", "3", "hard", {0: mask, 1: mask}),
        "l": KeptGuest("b", "4", "soft", {}),
    }
    recorded = Recorded(guests, ("one", "two"), 12)
    return [_written(partial(_write_record, recorded=some)) for some in (recorded, Recorded())]


def _state_seeds() -> list[bytes]:
    host = host_toml.parse("nodes = 2\nmemory = '4GiB'", source="small")
    made = simulated_state.made(Snapshot(host, ()), made_from="x")
    return [_written(lambda memory: _state(memory).write(simulated_state.document(made)))]


def _traces() -> list[bytes]:
    """Return the first lines of traces in every format."""
    paths = sorted((seeds.OTHERS / "traces").rglob("*.csv"))
    lines = [path.read_bytes()[:3000].split(b"\n")[:12] for path in paths]
    return seeds.own("trace") + [b"\n".join(first) + b"\n" for first in lines]


TARGETS = (
    Target(
        "ledger",
        _ledgers,
        ("ledger", "state_file", "formats.table"),
        _ledger_seeds,
        "pending seen 0-3",
        shape="json",
        most_bytes=1300,
    ),
    Target(
        "keeper_record",
        _records,
        ("keeper_record", "state_file"),
        _record_seeds,
        "hard soft 0-3",
        shape="json",
        most_bytes=500,
    ),
    Target(
        "simulated_state",
        _states,
        ("drivers.simulated_state", "formats.snapshot"),
        _state_seeds,
        "high_kib low_kib running",
        shape="json",
        most_bytes=2700,
    ),
    Target(
        "configuration",
        _configuration,
        ("configuration", "keeper.settings", "formats.toml_text"),
        lambda: seeds.own("configuration"),
        "[keeper] round_s metrics connect metrics_s 1e400 inf nan ''' [[",
        shape="settings",
        most_bytes=1100,
    ),
    Target(
        "scenario",
        _scenario,
        ("simulation.scenario_file", "formats.toml_text"),
        lambda: seeds.files(seeds.EXAMPLES / "simulation", "*.toml") + seeds.own("scenario"),
        "[[guest]] [[compare]] run sleep then clients think total yields idle 30ms credit2__core"
        " ideal hard soft as-is home spread",
        shape="settings",
        most_bytes=1100,
    ),
    Target(
        "fleet",
        _fleet,
        ("fleet.fleet_file", "formats.host_toml", "formats.toml_text"),
        lambda: seeds.files(seeds.EXAMPLES / "fleets", "*.toml") + seeds.own("fleet"),
        "[[hosts]] [overcommit] count racks rack host gone 1.5 4GiB",
        shape="settings",
        most_bytes=1100,
    ),
    Target(
        "trace",
        _trace,
        (
            "fleet.reading.own",
            "fleet.reading.recognising",
            "fleet.reading.azure",
            "fleet.reading.huawei",
            "fleet.reading.vmagent",
            "fleet.reading.text_table",
            "fleet.reading.columns",
            "fleet.reading.events",
        ),
        _traces,
        'create delete affinity anti-affinity fault-domain , " 1.5 NaN',
        shape="lines",
        most_bytes=400,
        share=0.1,
    ),
)
