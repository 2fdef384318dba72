"""Timelines of the scenarios in ``examples/simulation``: which cpu ran whom, and who waited.

Each is what ``homenode simulate FILE --variant V --timeline X --from T --for T`` draws.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from homenode.cli.common import connect
from homenode.cli.simulate_report import timeline_svg
from homenode.host import Host
from homenode.simulation import scenario_file
from homenode.simulation.run import run
from homenode.units import parse_time_ns
from proof.pictures import EXAMPLES


class Drawn(NamedTuple):
    """A picture: its name, and what the command is told."""

    picture: str
    scenario: str
    variant: str
    begin: str
    length: str

    @property
    def command(self) -> str:
        """The command that draws it."""
        return (
            f"homenode simulate examples/simulation/{self.scenario}.toml --variant '{self.variant}'"
            f" --timeline {self.picture}.svg --from {self.begin} --for {self.length}"
        )


TIMELINES = (
    Drawn("turns-credit", "over", "credit", "1s", "300ms"),
    Drawn("turns-credit2", "over", "credit2", "1s", "300ms"),
    Drawn("weights-credit", "weights", "credit", "2s", "1s"),
    Drawn("weights-credit2", "weights", "credit2", "2s", "100ms"),
    Drawn("caps-credit", "caps", "credit", "1s", "300ms"),
    Drawn("caps-credit2", "caps", "credit2", "1s", "100ms"),
    Drawn("boost-credit", "boost", "credit", "1s", "100ms"),
    Drawn("boost-limited", "boost", "credit, a rate limit of 10 ms", "1s", "100ms"),
    Drawn("preempted-4.5", "preempted", "4.5", "1s", "30ms"),
    Drawn("preempted-4.13", "preempted", "4.13", "1s", "30ms"),
    Drawn("waiting-4.13", "waiting", "credit 4.13", "1s", "100ms"),
    Drawn("waiting-4.18", "waiting", "credit 4.18", "1s", "100ms"),
    Drawn("waiting-credit2", "waiting", "credit2", "1s", "100ms"),
    Drawn("waiting-held", "waiting", "held to the node", "1s", "100ms"),
    Drawn("drift-credit-4.2", "versions", "4.2", "2850ms", "600ms"),
    Drawn("drift-credit", "drift", "credit, soft affinity", "2850ms", "600ms"),
    Drawn("drift-credit2", "drift", "credit2, soft affinity", "2850ms", "600ms"),
    Drawn("drift-all", "queues", "all", "2900ms", "250ms"),
    Drawn("drift-cpu", "queues", "cpu", "2850ms", "600ms"),
    Drawn("drift-keeper", "drift", "credit2, the keeper", "3s", "22s"),
    Drawn("drift-held", "drift", "credit2, pinned to the node", "2850ms", "600ms"),
    Drawn("drift-ideal", "drift", "ideal", "2850ms", "600ms"),
)

NAMES = tuple(f"{drawn.picture}.svg" for drawn in TIMELINES)


def pictures() -> Iterator[tuple[str, str]]:
    """Yield the names and texts of the timelines."""
    for drawn in TIMELINES:
        yield f"{drawn.picture}.svg", timeline(drawn)


def timeline(drawn: Drawn) -> str:
    """Return the document that its command draws."""
    path = EXAMPLES / "simulation" / f"{drawn.scenario}.toml"
    scenario = scenario_file.parse(
        path.read_text(encoding="utf-8"), source=path.name, host_of=lambda name: _host(path, name)
    )
    variant = next(one for one in scenario.variants if one.name == drawn.variant)
    begin = parse_time_ns(drawn.begin)
    end = begin + parse_time_ns(drawn.length)
    cut = scenario._replace(duration_ns=end, warmup_ns=0)
    recorded = run(cut, variant, scenario.seeds[0], record=True)
    title = f"{scenario.name}: {variant.name} ({variant.scheduler})"
    return timeline_svg(title, recorded, (begin, end))


def _host(path: Path, name: str) -> Host:
    return connect(f"capture:{path.parent / name}").snapshot().host
