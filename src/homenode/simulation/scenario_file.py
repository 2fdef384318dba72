"""Scenarios, from a TOML file.

    name = "does soft affinity hold?"
    host = "e5620"               # a machine whose memory was measured, a host file, or -c's host
    duration = "20s"             # of the simulated host
    warmup = "2s"                # before anything is counted
    seeds = 5                    # how many; or which: [1, 2, 3]

    [[guest]]
    name = "web"
    count = 4                    # web1 to web4
    vcpus = 2
    memory = "4GiB"
    nodes = "0"                  # its home; without, the variant's policy decides
    weight = 256
    cap = 0                      # percent of a cpu; 0: none
    work = "specjbb2005"         # what it wants of memory and of threads
    run = "2ms"                  # what its vcpus do, see below
    sleep = "8ms"

    [[compare]]
    name = "soft"
    scheduler = "credit2 socket"
    affinity = "soft"
    memory = "home"

=================================== ===============================================================
what is said of a guest             what its vcpus do
=================================== ===============================================================
nothing                             run for ever
``run``, ``sleep``                  run, sleep, and so on
``run``, ``clients``, ``think``     serve requests of clients who think between two
``run``, ``then`` (and ``sleep``)   run, wake the vcpu of that guest (after so long), wait
``total``                           run for so long, and end: a batch
``run``, ``yields = true``          run, yield, and so on
``idle = true``                     nothing
=================================== ===============================================================

Times are means of exponential distributions, unless ``random = false``. ``work`` is a name (see
``homenode simulate --list``) or a table: ``{sensitivity = 0.2, threads_yield = 1.3, gb_s = 1.5}``.
Unknown keys are errors, and the complaint names the line.
"""

import re
from collections.abc import Callable, Sequence
from typing import Any

from homenode.bitmap import NodeMap
from homenode.errors import HomenodeError, NoHostError, ParseError
from homenode.formats.table import Table
from homenode.formats.toml_text import document
from homenode.host import Host
from homenode.placement.policies import policy
from homenode.scheduler.agenda import LATEST_NS
from homenode.scheduler.codes import Kind
from homenode.scheduler.memory import Machine, machine_of
from homenode.scheduler.models import Work, machine, machine_names, work, work_names
from homenode.scheduler.run_queues import ARRANGEMENTS
from homenode.scheduler.tasks import WEIGHT
from homenode.scheduler.versions import CREDIT_VERSIONS
from homenode.simulation.scenario import (
    AFFINITIES,
    MEMORIES,
    SCHEDULERS,
    Doing,
    GuestPlan,
    Scenario,
    SchedulerChoice,
    Variant,
)
from homenode.units import parse_memory_kib, parse_time_ns

MOST_GUESTS = 4096
MOST_VCPUS = 8192
MOST_SEEDS = 1000

_SCENARIO = ("name", "host", "duration", "warmup", "seeds", "guest", "compare")
_GUEST = (
    "name", "count", "vcpus", "memory", "nodes", "weight", "cap", "work", "run", "sleep", "random",
    "clients", "think", "then", "in_flight", "total", "yields", "idle", "start",
)  # fmt: skip
_WORK = ("sensitivity", "threads_yield", "gb_s")
_COMPARE = ("name", "scheduler", "affinity", "memory", "policy", "keeper", *(
    "slice_ms", "ratelimit_us", "migration_delay_us", "idle_first",
    "timer_delay_us",
))  # fmt: skip

Hosts = Callable[[str], Host]


def parse(text: str, *, source: str, host_of: Hosts, guests: Sequence[GuestPlan] = ()) -> Scenario:
    """Return the scenario that `text` describes.

    `host_of` gives the host for what ``host`` says, unless that is a machine's name; `guests` are
    those that are there already. Raises `ParseError` with the line for what is wrong.
    """
    said = document(text, source=source)
    try:
        return _scenario(said, source, host_of, guests)
    except ParseError as error:
        place = re.match(r"[\w.\[\]-]+(?=: )", error.message)
        line = line_of(text, place.group()) if place else None
        raise (
            error.within(source, line)
            if error.source is None
            else ParseError(
                error.message, source=error.source, line=error.line or line, hint=error.hint
            )
        ) from None


def line_of(text: str, place: str) -> int | None:
    """Return the line where ``guest[1].vcpus`` stands, or its table begins, if either is there."""
    parts = re.findall(r"([\w-]+)(?:\[(\d+)\])?", place)
    tables = [name for name, _ in parts]
    wanted = (parts[0][0], int(parts[0][1])) if parts and parts[0][1] else None
    seen: dict[str, int] = {}
    inside = wanted is None
    begun: int | None = None
    for number, line in enumerate(text.splitlines(), 1):
        header = re.match(r"\s*\[\[?\s*([\w-]+)", line)
        if header:
            name = header.group(1)
            seen[name] = seen.get(name, -1) + 1
            inside = wanted is not None and (name, seen[name]) == wanted
            if inside:
                begun = number
            continue
        key = re.match(r"\s*\"?([\w-]+)\"?\s*[=.]", line)
        if inside and key and key.group(1) in tables[0 if wanted is None else 1 :][:1]:
            return number
    return begun


def _scenario(
    said: dict[str, Any], source: str, host_of: Hosts, known: Sequence[GuestPlan]
) -> Scenario:
    whole = Table(said, _SCENARIO, path="", source=source)
    host, memory = _host(whole, host_of)
    duration = _time(whole, "duration", least=1)
    warmup = _time(whole, "warmup", default=duration // 10)
    if warmup + duration >= LATEST_NS:
        raise whole.error("duration", f"with the warmup longer than {LATEST_NS // 10**9} s")
    guests = [
        plan
        for table in whole.tables("guest", _GUEST, most=MOST_GUESTS)
        for plan in _guests(table, host)
    ]
    guests = [*known, *guests]
    if not guests:
        raise whole.error("guest", "there is none", hint='add [[guest]] with name = "..."')
    _check_guests(whole, guests)
    variants = [
        _variant(table, at)
        for at, table in enumerate(whole.tables("compare", _COMPARE, most=MOST_SEEDS))
    ]
    if not variants:
        variants = [Variant("credit2", SchedulerChoice("credit2", "socket"))]
    _refuse_twice(whole, "compare", [variant.name for variant in variants])
    return Scenario(
        whole.maybe_text("name") or source,
        host,
        memory,
        tuple(guests),
        tuple(variants),
        duration,
        warmup,
        _seeds(whole),
        host.cpu_map,
    )


def _host(whole: Table, host_of: Hosts) -> tuple[Host, Machine]:
    name = whole.maybe_text("host") or ""
    if name in machine_names():
        model = machine(name)
        return model.host, model.machine
    try:
        host = host_of(name)
    except ParseError:
        raise
    except HomenodeError as error:
        known = ", ".join(machine_names())
        if isinstance(error, NoHostError):
            hint = (
                f"host = a file, capture:PATH, sim:NAME, or one of {known}; or homenode simulate -c"
            )
            raise whole.error("host", "is missing, and there is no -c", hint=hint) from None
        raise whole.error(
            "host", str(error), hint=f"a file, capture:PATH, sim:NAME, or one of {known}"
        ) from None
    if not host.cpu_map:
        raise whole.error("host", "has no cpus that are known")
    return host, machine_of(host)


def _time(table: Table, key: str, *, default: int | None = None, least: int = 0) -> int:
    text = table.maybe_text(key)
    if text is None:
        if default is None:
            raise table.error(key, "is missing", hint='a time such as "10s" or "500ms"')
        return default
    try:
        value = parse_time_ns(text)
    except ParseError as error:
        raise table.error(key, error.message, hint=error.hint) from None
    if value < least:
        raise table.error(key, "has to be more than 0", hint='a time such as "10s" or "500ms"')
    if value >= LATEST_NS:
        raise table.error(key, f"longer than {LATEST_NS // 10**9} s")
    return value


def _seeds(whole: Table) -> tuple[int, ...]:
    value = whole.value("seeds")
    if isinstance(value, list):
        seeds = whole.integers("seeds")
        if not seeds or len(seeds) > MOST_SEEDS:
            raise whole.error("seeds", f"not from 1 to {MOST_SEEDS} of them")
        return seeds
    count = whole.maybe_integer("seeds", least=1, most=MOST_SEEDS)
    return tuple(range(1, 1 + (5 if count is None else count)))


def _guests(table: Table, host: Host) -> list[GuestPlan]:
    name = table.text("name")
    count = table.maybe_integer("count", least=1, most=MOST_GUESTS)
    vcpus = table.maybe_integer("vcpus", least=1, most=MOST_VCPUS) or 1
    if vcpus > len(host.cpu_map):
        raise table.error(
            "vcpus", f"{vcpus} are more than the {len(host.cpu_map)} cpus of {host.name}"
        )
    start = table.maybe_text("start")
    one = GuestPlan(
        name,
        vcpus,
        _memory(table, host),
        _doing(table),
        _work(table),
        nodes=_nodes(table, host),
        weight=table.maybe_integer("weight", least=1, most=65535) or WEIGHT,
        cap=table.maybe_integer("cap", least=0, most=100 * vcpus) or 0,
        start_ns=None if start is None else _time(table, "start"),
    )
    if count is None:
        return [one]
    return [one._replace(name=f"{name}{number}") for number in range(1, count + 1)]


def _memory(table: Table, host: Host) -> int:
    text = table.maybe_text("memory")
    if text is None:
        return 0
    try:
        kib = parse_memory_kib(text)
    except ParseError as error:
        raise table.error("memory", error.message, hint=error.hint) from None
    present = [node.present_kib for node in host.nodes]
    total = sum(kib_ for kib_ in present if kib_ is not None)
    if None not in present and kib > total:
        raise table.error("memory", f"{text} are more than the {total >> 20} GiB of {host.name}")
    return kib


def _nodes(table: Table, host: Host) -> NodeMap | None:
    text = table.maybe_text("nodes")
    if text is None or text == "auto":
        return None
    nodes = table.map("nodes", NodeMap, within=host.node_map)
    if not nodes or not nodes <= host.node_map:
        raise table.error("nodes", f"{text!r} is no set of nodes of {host.name}",
                          hint=f"it has {host.node_map}")  # fmt: skip
    if not host.cpus_of(nodes):
        raise table.error("nodes", f"{text!r} has no cpus")
    return nodes


def _doing(table: Table) -> Doing:  # noqa: PLR0911 - one for each kind
    random = table.flag("random", default=True)
    run = _time(table, "run", default=0)
    if table.flag("idle", default=False):
        return Doing(Kind.IDLE)
    if "total" in table:
        return Doing(Kind.BATCH, _time(table, "total", least=1), random=False)
    if not run:
        for key in ("run", "sleep", "clients", "then", "yields"):
            if key in table:
                raise table.error(key, "run is missing or 0", hint='add run = "2ms"')
        return Doing(Kind.SPIN)
    if "clients" in table:
        clients = table.integer("clients", least=1, most=100_000)
        think = _time(table, "think", default=0)
        return Doing(Kind.SERVE, run, random=random, clients=clients, think_ns=think)
    if "then" in table:
        flight = table.maybe_integer("in_flight", least=0, most=10_000)
        return Doing(
            Kind.CHAIN, run, _time(table, "sleep", default=0), random=random,
            then=table.text("then"), in_flight=1 if flight is None else flight,
        )  # fmt: skip
    if table.flag("yields", default=False):
        return Doing(Kind.YIELD, run, random=random)
    return Doing(Kind.CYCLE, run, _time(table, "sleep", least=1), random)


def _work(table: Table) -> Work:
    value = table.value("work")
    if value is None:
        return work("plain")
    if isinstance(value, dict):
        own = table.table("work", _WORK)
        return Work(
            "own", "of the scenario", _rate(own, "sensitivity", 0.0, most=0.6),
            _rate(own, "threads_yield", 1.25, least=0.1, most=8), _rate(own, "gb_s", 0.0),
            "the scenario",
        )  # fmt: skip
    return work(table.word("work", work_names()))


def _rate(table: Table, key: str, default: float, *, least: float = 0, most: float = 1e6) -> float:
    value = table.value(key)
    if value is None:
        return default
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not least <= value <= most:
        raise table.error(key, f"a number from {least:g} to {most:g} is wanted, not {value!r:.40}")
    return float(value)


def _check_guests(whole: Table, guests: Sequence[GuestPlan]) -> None:
    names = [guest.name for guest in guests]
    _refuse_twice(whole, "guest", names)
    if sum(guest.vcpus for guest in guests) > MOST_VCPUS:
        raise whole.error("guest", f"more than {MOST_VCPUS} vcpus in all")
    for at, guest in enumerate(guests):
        if guest.doing.then is not None and guest.doing.then not in names:
            raise whole.error(f"guest[{at}].then", f"there is no guest {guest.doing.then!r}")


def _refuse_twice(whole: Table, key: str, names: Sequence[str]) -> None:
    for at, name in enumerate(names):
        if name in names[:at]:
            raise whole.error(key, f"two are named {name!r}")


def _variant(table: Table, at: int) -> Variant:
    scheduler = _scheduler(table)
    name = table.maybe_text("name") or f"{at + 1}: {scheduler}"
    chosen = table.maybe_text("policy") or ""
    if chosen:
        try:
            policy(chosen)
        except HomenodeError as error:
            raise table.error("policy", error.message, hint=error.hint) from None
    return Variant(
        name,
        scheduler,
        table.word("affinity", AFFINITIES, default="soft"),
        table.word("memory", MEMORIES, default="home"),
        chosen,
        table.flag("keeper", default=False),
    )


def _scheduler(table: Table) -> SchedulerChoice:
    try:
        choice = scheduler_choice(table.text("scheduler"))
    except HomenodeError as error:
        raise table.error("scheduler", error.message, hint=error.hint) from None
    options = [
        (key, value)
        for key, least, most in (
            ("slice_ms", 1, 1000), ("ratelimit_us", 0, 500_000), ("migration_delay_us", 0, 100_000),
            ("timer_delay_us", 0, 100_000),
        )
        if (value := table.maybe_integer(key, least=least, most=most)) is not None
    ]  # fmt: skip
    if "idle_first" in table:
        options.append(("idle_first", int(table.flag("idle_first", default=True))))
    return choice._replace(options=tuple(options))


def scheduler_choice(text: str) -> SchedulerChoice:
    """Return the scheduler that is meant: ``credit 4.3``, ``credit2 node``, ``ideal``."""
    name, _, variant = text.strip().partition(" ")
    for kind in SCHEDULERS:
        if name != kind:
            continue
        allowed = {"credit": tuple(CREDIT_VERSIONS), "credit2": ARRANGEMENTS, "ideal": ()}[kind]
        default = {"credit": "4.18", "credit2": "socket", "ideal": ""}[kind]
        variant = variant.strip() or default
        if variant and variant not in allowed:
            noun = "version" if kind == "credit" else "arrangement of run queues"
            raise HomenodeError(
                f"{kind}: there is no {noun} {variant[:40]!r}", hint="known: " + ", ".join(allowed)
            )
        return SchedulerChoice(kind, variant)
    raise HomenodeError(
        f"there is no scheduler {name[:40]!r}",
        hint="known: credit VERSION, credit2 RUNQUEUE, ideal",
    )
