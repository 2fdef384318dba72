"""``homenode tax``: what misplacement costs on this machine, measured."""

import sys
from argparse import ArgumentParser
from typing import TYPE_CHECKING, NamedTuple

from homenode.cli.common import (
    add_connection,
    connect,
    end_as_interrupted,
    parser,
    print_json,
    read_text,
)
from homenode.errors import ExitStatus, HomenodeError
from homenode.units import format_memory, parse_memory_kib

if TYPE_CHECKING:
    from argparse import Namespace
    from collections.abc import Callable, Sequence

    from homenode.drivers.base import Driver
    from homenode.drivers.trees import Tree
    from homenode.host import Host
    from homenode.tax.guests import Work
    from homenode.tax.protocol import Case, Turn
    from homenode.tax.results import Measure, Sample

_EXAMPLES = """\
  homenode tax                             about a minute; the machine should be idle
  homenode tax --quick
  homenode tax --copies 1,4,16 --runs 10   several copies at once, as guests would be
  homenode tax -o r740.json                write what can be shared, too
  homenode tax --show r740.json epyc.json  side by side
  homenode tax --dry-run                   what would be done, in which order
  homenode tax -c xen:/// --guest web.cfg --measure 'ssh web ./work' --unit jobs/s

The four cases of the series: default (scheduler and allocator decide), pinned (on one node's cpus,
memory spread over all nodes), best (cpus and memory of one node), worst (the same cpus, memory of
the farthest node). Processes of homenode's own walk a list in random order (latency) and copy a
buffer (bandwidth), each larger than the caches; each case once in each round, in random order.
Nothing on the machine is changed. A measurement whose pages were not where they should be is not
counted.

With --guest it is a guest of yours: it is created for each case under another name, the command is
run with its name in $GUEST, its last word is the figure, and the guest is destroyed. It refuses to
measure beside running guests.

The document (-o, --json) names the hardware and not the machine: docs/json.md has all of its keys.
"""

_MOST_RUNS = 1000
_MOST_COPIES = 4096
_MOST_SECONDS = 600.0
_LEAST_SECONDS = 0.01
_LEAST_KIB = 64
_GUEST_ONLY = ("measure", "unit", "less_is_better")
_SEED = 2012


class _Chosen(NamedTuple):
    """What the options come to, on a host."""

    host: "Host"
    cases: "tuple[Case, ...]"
    order: "list[Turn]"
    tree: "Tree"
    notes: list[str]
    protocol: dict[str, object]


def options() -> ArgumentParser:
    """Return the parser of the verb."""
    made = parser("tax", "Measure what misplacement costs on this machine.", examples=_EXAMPLES)
    add_connection(made)
    made.add_argument("--dry-run", action="store_true", help="print the plan, and do nothing")
    made.add_argument("--quick", action="store_true", help="3 rounds, smaller and shorter")
    made.add_argument("--node", type=int, metavar="N", help="the node that is home")
    made.add_argument("--runs", type=int, metavar="N", help="rounds (default: 5)")
    made.add_argument(
        "--seconds", type=float, metavar="S", help="for each figure of a case (default: 1)"
    )
    made.add_argument(
        "--size", metavar="SIZE", help="what each process works on (default: 4 x the last cache)"
    )
    made.add_argument(
        "--copies", default="1", metavar="N[,N]...", help="so many processes at once (default: 1)"
    )
    made.add_argument("--seed", type=int, default=_SEED, metavar="N", help="of the random order")
    made.add_argument("--guest", metavar="FILE", help="measure by a guest, created from this file")
    made.add_argument("--measure", metavar="COMMAND", help="prints what the guest gets done")
    made.add_argument("--unit", metavar="UNIT", help="of what the command prints")
    made.add_argument(
        "--less-is-better", action="store_true", help="what the command prints is a time"
    )
    made.add_argument(
        "--beside-guests", action="store_true", help="measure although guests run here"
    )
    made.add_argument("-o", "--output", metavar="FILE", help="write the document into a new file")
    made.add_argument(
        "--show", nargs="+", metavar="FILE", help="compare documents that were written before"
    )
    return made


def run(arguments: list[str]) -> int:
    """Run the verb."""
    chosen = options().parse_args(arguments)
    _refuse_nonsense(chosen)
    if chosen.show:
        return _show(chosen)
    end_as_interrupted()
    if chosen.output is not None and not chosen.dry_run:
        _refuse_to_overwrite(chosen.output)
    return _by_guest(chosen) if chosen.guest is not None else _by_processes(chosen)


def _refuse_nonsense(chosen: "Namespace") -> None:
    if chosen.guest is None and any(getattr(chosen, name) for name in _GUEST_ONLY):
        raise HomenodeError(
            "--measure, --unit and --less-is-better are for a guest", hint="--guest"
        )
    if chosen.guest is not None and not chosen.measure:
        raise HomenodeError(
            "--guest without --measure: nobody says what the guest gets done",
            hint="--measure COMMAND prints a number; $GUEST is the guest's name",
        )
    if chosen.guest is not None and (chosen.copies != "1" or chosen.size or chosen.seconds):
        raise HomenodeError("--copies, --size and --seconds are for processes, not for a guest")
    if chosen.runs is not None and not 1 <= chosen.runs <= _MOST_RUNS:
        raise HomenodeError(f"--runs {chosen.runs}", hint=f"1 to {_MOST_RUNS}")
    seconds = chosen.seconds
    if seconds is not None and not _LEAST_SECONDS <= seconds <= _MOST_SECONDS:
        hint = f"{_LEAST_SECONDS:g} to {_MOST_SECONDS:g} seconds"
        raise HomenodeError(f"--seconds {seconds:g}", hint=hint)


def _copies(text: str) -> list[int]:
    words = text.split(",")
    if not all(word.isdecimal() and 1 <= int(word[:9]) <= _MOST_COPIES for word in words):
        raise HomenodeError(f"--copies {text[:40]!r}", hint=f"1 to {_MOST_COPIES}, such as 1,4,16")
    return sorted({int(word) for word in words})


def _runs(chosen: "Namespace") -> int:
    return int(chosen.runs or (3 if chosen.quick else 5))


# --- processes of our own ---


def _by_processes(chosen: "Namespace") -> int:
    from homenode.tax import workers  # noqa: PLC0415 - only where it measures
    from homenode.tax.results import COPY, MEASURES, WALK  # noqa: PLC0415 - the same

    plan, size = _processes_chosen(chosen)
    seconds = float(chosen.seconds or (0.3 if chosen.quick else 1.0))
    plan.protocol.update(size_kib=size, seconds=seconds)
    if chosen.dry_run:
        words = f"each process works on {format_memory(size)}, {seconds:g} s each for the"
        return _print_plan(plan, [f"{words} {WALK.title} and the {COPY.title}"], chosen)
    workers.refuse_without_leave()

    def measure(turn: "Turn") -> "Sample":
        return workers.measured(turn, plan.host, size_kib=size, seconds=seconds)

    return _measure(plan, MEASURES, measure, chosen, by="processes")


def _processes_chosen(chosen: "Namespace") -> tuple[_Chosen, int]:
    """Return the plan, and what each process works on, in KiB."""
    from homenode.tax import protocol, workers  # noqa: PLC0415 - only where it measures

    uri = chosen.connect or "local:///"
    described = uri.startswith("capture:")
    if not described:
        _refuse_elsewhere(uri)
    elif not chosen.dry_run:
        raise HomenodeError(
            f"{uri}: is a description, and nothing can be measured on it", hint="--dry-run plans"
        )
    host = connect(uri if described else "local:///").snapshot().host
    cpus, nodes = (host.cpu_map, host.node_map) if described else workers.allowed(host)
    cases = protocol.four_cases(host, cpus=cpus, nodes=nodes, home=chosen.node)
    if not (chosen.dry_run or chosen.beside_guests):
        from homenode.tax.guests import refuse_beside  # noqa: PLC0415 - as above

        refuse_beside(workers.guests_here())
    plan = _plan(host, cases, _copies(chosen.copies), _tree(here=not described), chosen)
    return plan, _size_kib(plan, chosen)


def _size_kib(plan: _Chosen, chosen: "Namespace") -> int:
    """Return what each process works on; a size that caches hold much of is noted."""
    from homenode.tax import hardware, protocol  # noqa: PLC0415 - only where it measures

    host, cases = plan.host, plan.cases
    copies = max(turn.copies for turn in plan.order)
    known = hardware.caches(plan.tree, host.cpus_by_node[_home(cases)].first)
    cache_kib = known[-1].kib if known else None
    if chosen.size:
        size = parse_memory_kib(chosen.size, bare="M")
    else:
        size = protocol.size_kib(
            host, cases, copies=copies, cache_kib=cache_kib, quick=chosen.quick
        )
    if size < _LEAST_KIB:
        raise HomenodeError(f"--size {chosen.size}", hint=f"{_LEAST_KIB}KiB or more")
    protocol.refuse_too_little(host, cases, copies=copies, size=size)
    if cache_kib is not None and size < 2 * cache_kib:
        plan.notes.append(
            f"each process works on {format_memory(size)}, and the last-level cache has"
            f" {format_memory(cache_kib)}: much of it never left the cache"
        )
    return size


def _refuse_elsewhere(uri: str) -> None:
    from homenode.drivers.connect import is_dom0  # noqa: PLC0415 - only here

    if uri.startswith("xen") or is_dom0():
        raise HomenodeError(
            "a Xen dom0 does not see the nodes of the machine: its processes cannot measure them",
            hint="--guest FILE --measure COMMAND measures by a guest; docs/tax.md tells how",
        )
    if not uri.startswith(("local:", "qemu:///")):
        raise HomenodeError(
            f"{uri}: processes measure the machine that they run on",
            hint="run it there, or name a guest of it: --guest",
        )


# --- a guest ---


def _by_guest(chosen: "Namespace") -> int:
    from homenode.tax import guests, protocol  # noqa: PLC0415 - only where it measures
    from homenode.tax.results import Measure  # noqa: PLC0415 - the same

    work = guests.Work(read_text(chosen.guest), chosen.guest, chosen.measure)
    driver = connect(chosen.connect)
    host = _guests_host(driver, work)
    cases = protocol.four_cases(host, cpus=host.cpu_map, nodes=host.node_map, home=chosen.node)
    if not (chosen.dry_run or chosen.beside_guests):
        guests.refuse_company(driver)
    here = driver.uri.startswith(("xen:", "qemu:"))
    plan = _plan(host, cases, [1], _tree(here=here), chosen)
    if not here:
        plan.notes.append("the host is simulated: nothing here was measured on hardware")
    if chosen.dry_run:
        return _print_plan(plan, _guest_lines(driver, cases, work), chosen)
    unit = chosen.unit or "as printed"
    measure = Measure(guests.FIGURE, "figure", unit, "the guest's work", not chosen.less_is_better)
    return _measure(
        plan, (measure,), lambda turn: guests.measured(driver, turn, host, work), chosen, by="guest"
    )


def _guests_host(driver: "Driver", work: "Work") -> "Host":
    from homenode.tax.guests import hypervisor, refuse_unsuitable  # noqa: PLC0415 - as above

    if driver.ledger is None or not driver.uri.startswith(("xen:", "qemu:///", "sim:")):
        raise HomenodeError(
            f"{driver.uri}: guests are measured on the host itself",
            hint="run homenode there, with -c xen:/// or -c qemu:///system",
        )
    host = driver.snapshot().host
    refuse_unsuitable(work, host)
    return host.replace(hypervisor=hypervisor(driver, host))


def _guest_lines(driver: "Driver", cases: "Sequence[Case]", work: "Work") -> list[str]:
    from homenode.tax.guests import plan  # noqa: PLC0415 - as above

    lines = []
    for case in cases:
        then = "" if case.cpus is None else f", and pinned to cpus {case.cpus} then"
        lines.append(f"{case.name}: created from this{then}:")
        lines += [f"    {line}".rstrip() for line in plan(driver, case, work).splitlines()]
    lines.append(f"measured each time by: {work.command}")
    lines.append("destroyed each time, and undefined")
    return lines


# --- both ---


def _tree(*, here: bool) -> "Tree":
    from homenode.drivers.trees import FolderTree  # noqa: PLC0415 - only where it measures

    return FolderTree("/") if here else _Nothing()


class _Nothing:
    """The files of a machine that is not here."""

    def names(self, folder: str) -> list[str]:  # noqa: ARG002 - the protocol's
        return []

    def text(self, path: str) -> str | None:  # noqa: ARG002 - the protocol's
        return None

    def link(self, path: str) -> str | None:  # noqa: ARG002 - the protocol's
        return None


def _home(cases: "Sequence[Case]") -> int:
    return next(case.memory.first for case in cases if case.name == "best" and case.memory)


def _plan(
    host: "Host",
    cases: "tuple[Case, ...]",
    copies: list[int],
    tree: "Tree",
    chosen: "Namespace",
) -> _Chosen:
    from homenode.tax.protocol import turns  # noqa: PLC0415 - only where it measures

    home = _home(cases)
    far = next(case.memory.first for case in cases if case.name == "worst" and case.memory)
    runs = _runs(chosen)
    protocol: dict[str, object] = {
        "home": home,
        "farthest": far,
        "distance": host.distance(home, far),
        "runs": runs,
        "copies": copies,
        "seed": chosen.seed,
        "size_kib": None,
        "seconds": None,
        "own_ns": None,
    }
    order = turns(cases, copies=copies, runs=runs, seed=chosen.seed)
    return _Chosen(host, cases, order, tree, [], protocol)


def _print_plan(plan: _Chosen, lines: list[str], chosen: "Namespace") -> int:
    from homenode.cli.tax_report import order_lines, plan_document  # noqa: PLC0415 - only here

    if chosen.json:
        print_json(plan_document(plan.order, plan.protocol, lines))
    else:
        print("\n".join([*order_lines(plan.cases, plan.order), *lines]))
    return ExitStatus.DONE


def _measure(
    plan: _Chosen,
    measures: "tuple[Measure, ...]",
    measure: "Callable[[Turn], Sample]",
    chosen: "Namespace",
    *,
    by: str,
) -> int:
    from homenode.cli import tax_report  # noqa: PLC0415 - only where it measures
    from homenode.tax import hardware, results  # noqa: PLC0415 - the same

    home = _home(plan.cases)
    machine = hardware.machine(plan.tree, plan.host, home=home)
    notes = hardware.doubts(plan.tree, plan.host, machine) + plan.notes
    samples: list[Sample] = []
    for at, turn in enumerate(plan.order, start=1):
        _progress(f"{at} of {len(plan.order)}: {tax_report.turn_text(turn)}")
        samples.append(measure(turn))
    _progress("")
    own = [sample.figures["own_ns"] for sample in samples if "own_ns" in sample.figures]
    if own:
        plan.protocol["own_ns"] = round(sum(own) / len(own), 1)
    rows = results.summarised(samples, measures)
    told = results.sentences(rows, measures, home=home)
    report = tax_report.Report(by, machine, plan.protocol, measures, rows, told, notes)
    text = tax_report.document_text(report)
    if chosen.output is not None:
        _write(chosen.output, text)
    if chosen.json:
        print(text, end="")
    else:
        tax_report.print_report(report)
    return ExitStatus.DONE


def _progress(text: str) -> None:
    if sys.stderr.isatty():
        sys.stderr.write(f"\r\x1b[K{text}")
        sys.stderr.flush()


def _refuse_to_overwrite(path: str) -> None:
    import os  # noqa: PLC0415 - only where a file is written

    folder = os.path.dirname(path) or "."  # noqa: PTH120 - pathlib costs 5 ms
    if os.path.lexists(path):
        raise HomenodeError(f"{path}: is there already", hint="-o writes a new file")
    if not os.access(folder, os.W_OK):
        raise HomenodeError(f"{path}: cannot be written there", hint="-o names a file")


def _write(path: str, text: str) -> None:
    try:
        with open(path, "x", encoding="utf-8") as file:  # noqa: PTH123 - as above
            file.write(text)
    except OSError as error:
        raise HomenodeError(f"{path}: {error.strerror}") from None


def _show(chosen: "Namespace") -> int:
    from homenode.cli.guest_text import print_table  # noqa: PLC0415 - only here
    from homenode.tax.shared import read, side_by_side  # noqa: PLC0415 - the same

    shared = [read(read_text(path), source=path) for path in chosen.show]
    if chosen.json:
        print_json({"version": 1, "shared": [one.document for one in shared]})
    else:
        print_table(side_by_side(shared), wrapped=())
    return ExitStatus.DONE
