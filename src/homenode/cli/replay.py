"""``homenode replay``: what each policy would have made of a trace of arrivals on a fleet."""

import os
import re
import sys
from argparse import ArgumentParser, ArgumentTypeError, Namespace
from collections.abc import Iterator
from contextlib import contextmanager
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING

from homenode.cli.common import end_as_interrupted, parser
from homenode.errors import ExitStatus, HomenodeError
from homenode.fleet.hosts import OverCommit
from homenode.fleet.policies import DEFAULT, HOST_FACTS, HOST_POLICIES, fleet_policy
from homenode.fleet.reading.rules import Rules
from homenode.placement.facts import FACTS
from homenode.placement.policies import DEFAULT as DEFAULT_NODES
from homenode.placement.policies import POLICIES

if TYPE_CHECKING:
    from homenode.fleet.sweep import Grid, Progress

_MOST = 1 << 30
_MOST_SEEDS = 10_000
_COMPARED = ("first/first-fit", "pack", "spread", DEFAULT)

_EXAMPLES = """\
  homenode replay trace.csv --fleet fleet.toml                  every kind of policy, compared
  homenode replay trace.csv --fleet fleet.toml --policy preserve,pack/best-fit
  homenode replay trace.csv --fleet fleet.toml --policy 'empty,-vcpus~8/nodes,usable'
  homenode replay trace.parquet --fleet fleet.toml --fill       nobody goes; until one is refused
  homenode replay azure_v1_test.csv.gz --fleet fleet.toml --wide 8:2 --seeds 5
  homenode replay vm_data_c1.csv --fleet pm_res.csv --pictures out/
  homenode replay *.csv --fleet small.toml --fleet large.toml --seeds 20 --dataset results/
  homenode replay trace.csv --fleet fleet.toml --cluster tcp://scheduler:8786 --dataset results/
  homenode replay azure_v1_test.csv.gz --save trace.parquet     the trace in homenode's own format

A policy is HOST/NODE: an order on the hosts that can hold the guest, then one on the nodes of that
host. Either is a name or an order of facts (see homenode policies); one that is left out is the
default. Hosts: {hosts}. Nodes: {nodes}.

A dataset is a folder of Parquet files, one for each replay, with all parameters in it. What it has
is not computed again: an interrupted sweep goes on where it was.

--json prints {{"version": 1, "homenode", "rows": [{{"trace", "trace_file", "fleet",
"fleet_file", "policy", "host_order", "node_order", "seeds": [int], "guests", "hosts",
"synthetic": [sentence],
"values": {{NAME: {{"mean", "margin"}}}}, "bounds": {{NAME: number}},
"refused_of": {{KIND: guests}}, "over_time": [{{"time_ms", "guests", "hosts", "hosts_least", ...}}]
}}]}}; docs/replay.md has the names and what they mean.
"""


def run(arguments: list[str]) -> int:
    """Run the verb."""
    asked = options().parse_args(arguments)
    if asked.save:
        return _save(asked)
    if not asked.fleet:
        raise HomenodeError("no fleet is named", hint="--fleet FILE; docs/replay.md has examples")
    grid = _grid(asked)
    end_as_interrupted()
    _replay(grid, asked)
    return ExitStatus.DONE


def _replay(grid: "Grid", asked: Namespace) -> None:
    from homenode.cli import replay_report  # noqa: PLC0415 - it draws
    from homenode.fleet.executors import executor  # noqa: PLC0415 - what reads and computes
    from homenode.fleet.sweep import sweep  # noqa: PLC0415 - the same

    dataset = None
    if asked.dataset:
        from homenode.fleet.dataset import Dataset  # noqa: PLC0415 - needs polars

        dataset = Dataset(Path(asked.dataset))
    if asked.pictures:
        replay_report.make_ready(Path(asked.pictures))
    cells = grid.cells()
    with _progress() as told:
        if len(cells) == 1 and not asked.cluster:
            results = sweep(cells, None, dataset=dataset, progress=told)
        else:
            with executor(asked.cluster, asked.workers) as pool:
                results = sweep(cells, pool, dataset=dataset, progress=told)
    if asked.pictures:
        replay_report.draw(Path(asked.pictures), results)
    if asked.json:
        replay_report.print_document(results)
    else:
        replay_report.print_text(results, everything=asked.all)
        if asked.pictures:
            print(f"\npictures: {asked.pictures}")


def _save(asked: Namespace) -> int:
    from homenode.fleet.reading.own import write_trace  # noqa: PLC0415 - needs polars
    from homenode.fleet.reading.recognising import read_trace  # noqa: PLC0415 - the same

    if len(asked.traces) != 1:
        raise HomenodeError("--save writes one TRACE", hint="name one")
    trace = read_trace(Path(asked.traces[0]), _rules(asked))
    write_trace(trace, Path(asked.save))
    print(f"{asked.save}: {trace.guests} guests, {len(trace.requests)} kinds")
    for sentence in trace.synthetic:
        print(f"synthetic: {sentence}")
    return ExitStatus.DONE


def _grid(asked: Namespace) -> "Grid":
    from homenode.fleet.sweep import Grid  # noqa: PLC0415 - it reads and computes

    if asked.seeds > _MOST_SEEDS:
        raise HomenodeError(f"--seeds {asked.seeds}: more than {_MOST_SEEDS}")
    policies = [name for text in asked.policy or _COMPARED for name in _policies(text)]
    return Grid(
        [Path(path) for path in asked.traces],
        [Path(path) for path in asked.fleet],
        list(dict.fromkeys(policies)),
        range(1, asked.seeds + 1),
        _rules(asked),
        stay=asked.fill,
        over_commit=None if asked.overcommit is None else _over_commit(asked.overcommit),
    )


def _policies(text: str) -> list[str]:
    # Commas are between policies as well as within an order, which begins with a fact.
    words = [word.strip() for word in text.split(",")]
    named = all(
        part in HOST_POLICIES or part in _NODE_WORDS for word in words for part in word.split("/")
    )
    begins = {part.removeprefix("-").partition("~")[0] for part in words[0].split("/")}
    is_order = not named and bool(begins & {*FACTS, *HOST_FACTS})
    return [fleet_policy(word).name for word in ([text] if is_order else words)]


_NODE_WORDS = {name for policy in POLICIES.values() for name in (policy.name, *policy.aliases)}


def _rules(asked: Namespace) -> Rules:
    return Rules(
        seed=1,
        wide=None if asked.wide is None else _wide(asked.wide),
        lifetimes=asked.lifetimes,
        first=asked.first,
        groups=not asked.ignore_groups,
    )


def _wide(text: str) -> tuple[int, int]:
    vcpus, colon, nodes = text.partition(":")
    nodes = nodes if colon else "2"
    if not (vcpus.isascii() and vcpus.isdecimal() and nodes.isascii() and nodes.isdecimal()):
        raise HomenodeError(f"--wide {text}: is VCPUS or VCPUS:NODES", hint="--wide 8:2")
    return int(vcpus[:12]), int(nodes[:12])


def _over_commit(text: str) -> OverCommit:
    ratios = {"vcpus": Fraction(1), "memory": Fraction(1)}
    for part in text.split(","):
        name, equals, number = part.partition("=")
        is_number = re.fullmatch(r"[0-9]{1,3}(\.[0-9]{1,6})?", number)
        ratio = Fraction(number) if is_number else Fraction(0)
        if name not in ratios or not equals or not Fraction(1, 100) <= ratio <= 100:
            raise HomenodeError(
                f"--overcommit {text}: is vcpus=N,memory=N, each from 0.01 to 100",
                hint="--overcommit vcpus=3",
            )
        ratios[name] = ratio
    return OverCommit(**ratios)


@contextmanager
def _progress() -> Iterator["Progress | None"]:
    if not sys.stderr.isatty():
        yield None
        return
    from rich.console import Console  # noqa: PLC0415 - only where something is drawn
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn  # noqa: PLC0415 - the same

    columns = (
        TextColumn("replaying"), BarColumn(), MofNCompleteColumn(),
        TextColumn("{task.fields[left]}"),
    )  # fmt: skip
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task("", total=None, left="")

        def told(done: int, total: int, remaining_s: float | None) -> None:
            left = "" if remaining_s is None else f"{remaining_s:.0f} s left"
            bar.update(task, completed=done, total=total, left=left)

        yield told


def options() -> ArgumentParser:
    """Return the parser of the verb."""
    made = parser(
        "replay",
        "Replay a trace of arrivals on a fleet, by several policies, and compare what came of it.",
        examples=_EXAMPLES.format(
            hosts=", ".join(HOST_POLICIES), nodes=", ".join(POLICIES),
        ),
    )  # fmt: skip
    made.add_argument(
        "traces",
        nargs="+",
        metavar="TRACE",
        help="CSV (also .gz) or Parquet: homenode's own, Huawei's topology-aware requests,"
        " VMAgent's episodes, Azure V1",
    )
    made.add_argument(
        "--fleet",
        action="append",
        default=[],
        metavar="FILE",
        help="the hosts: TOML, or Huawei's pm_res.csv; given again, each is tried",
    )
    made.add_argument(
        "-p",
        "--policy",
        action="append",
        metavar="P[,P...]",
        help=f"HOST/NODE; may be given again (default: {', '.join(_COMPARED)}; what is left out is"
        f" {DEFAULT}/{DEFAULT_NODES})",
    )
    made.add_argument(
        "--fill", action="store_true", help="nobody goes, and it ends with the first refusal"
    )
    _add_rules(made)
    made.add_argument(
        "--overcommit", metavar="vcpus=N,memory=N", help="in place of what the fleet says"
    )
    made.add_argument("--seeds", type=_count, default=1, metavar="N", help="how many (default: 1)")
    made.add_argument("--dataset", metavar="FOLDER", help="keep results there, and go on from them")
    made.add_argument("--cluster", metavar="tcp://…", help="compute on a Dask cluster")
    made.add_argument(
        "--workers",
        type=_count,
        default=len(os.sched_getaffinity(0)),
        metavar="N",
        help="processes on this machine (default: one for each of its cpus)",
    )
    made.add_argument("--pictures", metavar="FOLDER", help="draw use, stranding and nodes there")
    made.add_argument("--all", action="store_true", help="every number, not those that matter most")
    made.add_argument(
        "--save", metavar="FILE", help="write the trace as own CSV or Parquet instead"
    )
    return made


def _add_rules(made: ArgumentParser) -> None:
    rules = made.add_argument_group(
        "what the trace does not say, or says and is not wanted (the result tells)"
    )
    rules.add_argument(
        "--wide",
        metavar="VCPUS[:NODES]",
        help="guests with so many vcpus or more need that many nodes (default 2), the others one",
    )
    rules.add_argument(
        "--lifetimes",
        type=_count,
        metavar="N",
        help="guests stay for N arrivals in the mean, exponentially distributed",
    )
    rules.add_argument(
        "--ignore-groups", action="store_true", help="nobody has to be with or apart from anybody"
    )
    rules.add_argument("--first", type=_count, metavar="N", help="only the first N guests")


def _count(text: str) -> int:
    if not (text.isascii() and text.isdecimal()) or not 1 <= int(text[:10]) <= _MOST:
        raise ArgumentTypeError(f"{text[:40]!r} is no number from 1")
    return int(text)
