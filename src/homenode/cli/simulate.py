"""``homenode simulate``: what guests would get done, by scheduler, affinity and placement."""

import os
import sys
import time
from argparse import ArgumentParser, ArgumentTypeError, Namespace
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from homenode.cli.common import (
    add_connection,
    connect,
    end_as_interrupted,
    name_of,
    parser,
    print_json,
    read_text,
)
from homenode.errors import ExitStatus, HomenodeError
from homenode.scheduler.agenda import LATEST_NS
from homenode.simulation import live, scenario_file
from homenode.simulation.scenario import Scenario, Variant
from homenode.units import parse_time_ns

if TYPE_CHECKING:
    from homenode.drivers.base import Driver
    from homenode.guest import Guest, Vcpu
    from homenode.host import Host
    from homenode.simulation.comparison import Comparison

_EXAMPLES = """\
  homenode simulate scenario.toml                      compare its variants
  homenode simulate scenario.toml --seeds 20 --svg bars.svg
  homenode simulate scenario.toml --timeline cpus.svg --variant soft --from 1s --for 200ms
  homenode simulate scenario.toml --timeline - --for 100ms      the same as text
  homenode simulate -c xen:/// --now --what-if 'affinity db 0'
  homenode simulate -c sim:try --now --what-if 'hold db 1' --what-if 'scheduler credit 4.18'
  homenode simulate scenario.toml --what-if keeper     the first variant, and one with the keeper
  homenode simulate --list                             machines, kinds of work, schedulers

changes for --what-if (all that are given make one variant, beside the first one):
{changes}

--json prints {{"version": 1, "scenario", "host", "duration_s", "seeds": [int], "variants":
[{{"name", "scheduler", "affinity", "memory", "policy", "keeper", "values", "guests": [{{"name",
"vcpus", "values"}}]}}]}}; values are {{NAME: {{"mean", "margin"}}}}, and margin is half of the
95 % confidence interval over the seeds (null with one). docs/simulation.md has the names, their
units, and what the models cannot say.
"""

_MOST_FROM_COMMAND = 1000

_WAITS_FOR_LOOKS = 4
"""Between two looks passes so many times as long as one takes: it is not known when within."""

_LONGEST_NS = LATEST_NS // 2


def run(arguments: list[str]) -> int:
    """Run the verb."""
    asked = options().parse_args(arguments)
    if asked.list:
        _print_known(asked)
        return ExitStatus.DONE
    for path in (asked.csv, asked.svg, asked.timeline):
        _refuse_unwritable(path)
    scenario = _scenario(asked)
    if asked.timeline is not None:
        _draw_timeline(scenario, asked)
        return ExitStatus.DONE
    end_as_interrupted()
    from homenode.simulation.comparison import compare  # noqa: PLC0415 - brings in processes

    runs = len(scenario.variants) * len(scenario.seeds)
    with _progress(runs) as advance:
        compared = compare(scenario, workers=asked.workers, progress=advance)
    _report(compared, asked)
    return ExitStatus.DONE


def options() -> ArgumentParser:
    """Return the parser of the verb."""
    made = parser(
        "simulate",
        "Simulate a host, its guests and Xen's schedulers, and compare.",
        examples=_EXAMPLES.format(
            changes="\n".join(f"  {line}" for line in live.WHAT_IF.splitlines())
        ),
    )
    add_connection(made)
    made.add_argument("scenario", nargs="?", help="a TOML file (see docs/simulation.md), or -")
    made.add_argument("--now", action="store_true", help="what runs on the host of -c at present")
    made.add_argument(
        "--what-if", action="append", default=[], metavar="CHANGE", help="compare with that change"
    )
    made.add_argument("--seeds", type=_count, metavar="N", help="how many (default: as the file)")
    made.add_argument("--duration", metavar="TIME", help="simulated time, such as 10s")
    made.add_argument("--work", metavar="KIND", help="with --now: what the guests' work is like")
    made.add_argument(
        "--busy",
        type=_share,
        metavar="SHARE",
        help="with --now: the share of time that every vcpu wants a cpu, instead of looking twice",
    )
    made.add_argument("--workers", type=_count, metavar="N", help="processes (default: all cores)")
    made.add_argument("--csv", metavar="FILE", help="write every run's figures, a line each")
    made.add_argument("--svg", metavar="FILE", help="draw bars of the comparison")
    made.add_argument(
        "--timeline", metavar="FILE", help="draw which cpu ran which vcpu when; - is text"
    )
    made.add_argument("--variant", metavar="NAME", help="of the timeline (default: the first)")
    made.add_argument("--from", dest="begin", metavar="TIME", help="of the timeline")
    made.add_argument("--for", dest="length", metavar="TIME", help="of the timeline (200ms)")
    made.add_argument(
        "--list", action="store_true", help="list machines, kinds of work and schedulers"
    )
    return made


def _count(text: str) -> int:
    if not text.isdecimal() or not 1 <= int(text) <= _MOST_FROM_COMMAND:
        raise ArgumentTypeError(f"not a number from 1 to {_MOST_FROM_COMMAND}: {text!r}")
    return int(text)


def _share(text: str) -> float:
    try:
        share = float(text)
    except ValueError:
        share = -1.0
    if not 0 <= share <= 1:
        raise ArgumentTypeError(f"not a share from 0 to 1: {text!r}")
    return share


def _scenario(asked: Namespace) -> Scenario:
    if asked.now and asked.scenario:
        raise HomenodeError("either a scenario or --now", hint="see homenode simulate --help")
    if not asked.now and not asked.scenario:
        raise HomenodeError(
            "no scenario is named", hint="a TOML file, or --now; see homenode simulate --help"
        )
    scenario = _from_host(asked) if asked.now else _from_file(asked)
    if asked.seeds is not None:
        scenario = scenario._replace(seeds=tuple(range(1, asked.seeds + 1)))
    if asked.duration is not None and not asked.now:
        duration = _positive(asked.duration, "--duration")
        scenario = scenario._replace(duration_ns=duration, warmup_ns=duration // 10)
    if asked.what_if:
        first = scenario._replace(variants=scenario.variants[:1])
        scenario = live.what_if(first, [name_of(text) for text in asked.what_if])
    return scenario


def _from_file(asked: Namespace) -> Scenario:
    path = asked.scenario
    source = "standard input" if path == "-" else path

    def host_of(name: str) -> "Host":
        if not name:
            return connect(asked.connect).snapshot().host
        if ":" in name:
            return connect(name).snapshot().host
        beside = Path(path).parent / name
        return connect(f"capture:{beside if beside.exists() else name}").snapshot().host

    return scenario_file.parse(read_text(path), source=source, host_of=host_of)


def _from_host(asked: Namespace) -> Scenario:
    driver = connect(asked.connect)
    snapshot = driver.snapshot()
    before: Sequence[Guest] = snapshot.guests
    after = before
    seconds = 0.0
    if asked.busy is None and any(
        vcpu.time_ns is not None for guest in snapshot.guests for vcpu in guest.vcpus
    ):
        # A snapshot takes long, and here and there in it times are read: these lists are short.
        first, begun, look_s = _cpu_times(driver)
        time.sleep(max(1.0, _WAITS_FOR_LOOKS * look_s))
        second, ended, _ = _cpu_times(driver)
        seconds = ended - begun
        before, after = live.with_times(before, first), live.with_times(after, second)
    from homenode.scheduler.models import work  # noqa: PLC0415 - reads its file

    scenario = live.scenario_of(
        snapshot.host,
        before,
        after,
        seconds,
        duration_ns=_positive(asked.duration or "10s", "--duration"),
        seeds=range(1, 6),
        kind=work(asked.work) if asked.work else None,
        assume_busy=asked.busy,
    )
    if scenario.variants[0].scheduler.kind == "ideal":
        print("note: the scheduler of this host is not modelled; an ideal one stands for it",
              file=sys.stderr)  # fmt: skip
    return scenario


def _cpu_times(driver: "Driver") -> "tuple[Mapping[int, Sequence[Vcpu]], float, float]":
    """Return the vcpus, in the mean when they were looked at, and how long that took."""
    begun = time.monotonic()
    vcpus = driver.vcpus()
    ended = time.monotonic()
    return vcpus, (begun + ended) / 2, ended - begun


def _positive(text: str, option: str) -> int:
    value = parse_time_ns(text)
    if value <= 0:
        raise HomenodeError(f"{option} {text}: has to be more than 0")
    if value >= _LONGEST_NS:
        raise HomenodeError(f"{option} {text}: longer than {_LONGEST_NS // 10**9} s")
    return value


def _refuse_unwritable(path: str | None) -> None:
    # Before the work is done, not after it.
    if path is not None and (not path or not os.access(Path(path).parent, os.W_OK)):
        raise HomenodeError(f"{path}: cannot be written")


@contextmanager
def _progress(runs: int) -> Iterator[Callable[[int, int], None] | None]:
    if not sys.stderr.isatty():
        yield None
        return
    from rich.console import Console  # noqa: PLC0415 - only where something is drawn
    from rich.progress import Progress, TimeElapsedColumn  # noqa: PLC0415 - the same

    columns = (*Progress.get_default_columns(), TimeElapsedColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task("simulating", total=runs)
        yield lambda done, _total: bar.update(task, completed=done)


def _report(compared: "Comparison", asked: Namespace) -> None:
    from homenode.cli import simulate_report  # noqa: PLC0415 - after the work is done

    if asked.csv:
        simulate_report.write_csv(asked.csv, compared)
    if asked.svg:
        simulate_report.write_bars(asked.svg, compared)
    if asked.json:
        print_json(simulate_report.document(compared))
    else:
        simulate_report.print_text(compared)


def _draw_timeline(scenario: Scenario, asked: Namespace) -> None:
    from homenode.cli import simulate_report  # noqa: PLC0415 - only for pictures
    from homenode.simulation.run import run as run_once  # noqa: PLC0415 - the same

    variant = _variant(scenario, asked.variant)
    begin = scenario.warmup_ns if asked.begin is None else parse_time_ns(asked.begin)
    length = _positive(asked.length or "200ms", "--for")
    whole = scenario.warmup_ns + scenario.duration_ns
    if begin + length > whole:
        raise HomenodeError(
            "--from and --for: end after the simulation", hint=f"that ends at {whole / 1e9:g}s"
        )
    cut = scenario._replace(duration_ns=begin + length, warmup_ns=0)
    recorded = run_once(cut, variant, scenario.seeds[0], record=True)
    simulate_report.draw_timeline(
        asked.timeline, scenario, variant, recorded, (begin, begin + length)
    )


def _variant(scenario: Scenario, name: str | None) -> Variant:
    if name is None:
        return scenario.variants[0]
    for variant in scenario.variants:
        if variant.name == name:
            return variant
    names = ", ".join(variant.name for variant in scenario.variants)
    raise HomenodeError(f"there is no variant {name!r}", hint=f"there are: {names}")


def _print_known(asked: Namespace) -> None:
    from homenode.scheduler.models import (  # noqa: PLC0415 - the same
        machine,
        machine_names,
        work,
        work_names,
    )
    from homenode.scheduler.run_queues import ARRANGEMENTS  # noqa: PLC0415 - only for the list
    from homenode.scheduler.versions import CREDIT_VERSIONS  # noqa: PLC0415 - the same

    machines = [machine(name) for name in machine_names()]
    kinds = [work(name) for name in work_names()]
    if asked.json:
        print_json(
            {
                "version": 1,
                "machines": [
                    {"name": one.name, "title": one.title, "source": one.source,
                     "assumed": one.assumed}
                    for one in machines
                ],
                "work": [one._asdict() for one in kinds],
                "schedulers": {
                    "credit": list(CREDIT_VERSIONS), "credit2": list(ARRANGEMENTS), "ideal": [],
                },
            }
        )  # fmt: skip
        return
    print("machines (host = ...):")
    for one in machines:
        print(f"  {one.name:<14} {one.title}\n    {one.source}")
        if one.assumed:
            print(f"    assumed: {one.assumed}")
    print("\nwork (work = ...): lost if all memory is remote, both threads of a core, GB/s a vcpu")
    for kind in kinds:
        print(f"  {kind.name:<14} {kind.sensitivity:4.0%}  x{kind.threads_yield:.2f}"
              f"  {kind.gb_s:4g}  {kind.title}")  # fmt: skip
    print(f"\nschedulers: credit {' | '.join(CREDIT_VERSIONS)}; credit2 {' | '.join(ARRANGEMENTS)};"
          " ideal")  # fmt: skip
