"""``homenode top``: a live screen of nodes, guests, residency, and what the keeper did."""

import gc
import json
import sys
import time
from argparse import ArgumentParser
from typing import TYPE_CHECKING

from homenode.cli.common import add_connection, colours_wanted, connect, end_as_interrupted, parser
from homenode.errors import ExitStatus, HomenodeError

if TYPE_CHECKING:
    from argparse import Namespace
    from collections.abc import Callable

    from homenode.drivers.base import Driver
    from homenode.keeper.board import Board, GuestRow, Total
    from homenode.keeper_record import Recorded

_EXAMPLES = """\
  homenode top
  homenode top --sort resident              who is away from home first
  homenode top --interval 5
  homenode top --once                       one look, as plain text
  homenode top --json | jq .guests          an object for each look, a line each
  homenode top -c sim:try?load=busy

Runs and waits are in cpus. Home is where a guest's memory is; resident the share of its running
time there since the look before, overall since top was started. Held are the nodes whose cpus its
vcpus may use, (kept) if the keeper holds them. Ctrl-C ends it. With --json: {"version": 1, "at":
seconds, "seconds", "keeper": "works"|"absent", "nodes": [{"id", "cpus", "busy", "free_kib",
"present_kib", "guests"}], "guests": [{"name", "vcpus", "home": [node], "held": [node], "kept",
"ran", "waited", "by_node": [{"node", "cpus"}], "residency", "residency_total": shares}],
"events": [text]}
"""

_SORTS = ("name", "runs", "waits", "resident")
_LINES_OF_EVENTS = 8
_OTHER_LINES = 12


def options() -> ArgumentParser:
    """Return the parser of the verb."""
    made = parser("top", "Watch nodes and guests live.", examples=_EXAMPLES)
    add_connection(made)
    made.add_argument("--interval", type=float, default=2.0, metavar="S", help="seconds (2)")
    made.add_argument("--once", action="store_true", help="look once, and end")
    made.add_argument("--sort", choices=_SORTS, default="name", help="the order of the guests")
    return made


def run(arguments: list[str]) -> int:
    """Run the verb."""
    gc.enable()  # it lives for long
    chosen = options().parse_args(arguments)
    if not 0.1 <= chosen.interval <= 3600:
        raise HomenodeError(f"--interval {chosen.interval:g}", hint="0.1 to 3600 seconds")
    end_as_interrupted()
    try:
        _watch(connect(chosen.connect), chosen)
    except KeyboardInterrupt:
        if chosen.once:
            raise
    return ExitStatus.DONE


def _watch(driver: "Driver", chosen: "Namespace") -> None:
    looks = _Looks(driver, chosen)
    if chosen.json or chosen.once or not sys.stdout.isatty():
        while True:
            time.sleep(chosen.interval)
            board, recorded, seconds = looks.next()
            if chosen.json:
                print(
                    json.dumps(_document(board, recorded, seconds, works=looks.works(recorded))),
                    flush=True,
                )
            else:
                _draw(looks, board, recorded)
            if chosen.once:
                return
    _live(looks, chosen)


class _Looks:
    """Looks again and again, and adds up."""

    def __init__(self, driver: "Driver", chosen: "Namespace") -> None:
        from homenode.keeper.settings import Settings  # noqa: PLC0415 - the same
        from homenode.keeper_record import Record, record_file  # noqa: PLC0415 - after --help

        self._watcher = driver.watcher()
        self._home_share = Settings().home_share
        self._sort = chosen.sort
        self._totals: dict[str, Total] = {}
        ledger = driver.ledger
        self._record = None
        self._lives: Callable[[int], bool] = lambda _process: False
        if ledger is not None:
            file = record_file(ledger.path, storage=ledger.storage)
            self._record = Record(file, boot_id=ledger.boot_id)
            self._lives = ledger.lives
        self.uri = driver.uri
        self._wholly_at_s = float("-inf")
        self.look_first()

    def look_first(self) -> None:
        """Look once, for what ran until then."""
        self._watcher.look(wholly=True)

    def works(self, recorded: "Recorded") -> bool:
        """Return whether a keeper is at work on the host."""
        return recorded.process is not None and self._lives(recorded.process)

    def next(self) -> "tuple[Board, Recorded, float]":
        """Look, and return what is to be seen, what the keeper noted, and the seconds between."""
        from homenode.keeper.board import board  # noqa: PLC0415 - after --help
        from homenode.keeper_record import Recorded  # noqa: PLC0415 - the same

        now_s = time.monotonic()
        wholly = now_s - self._wholly_at_s > 60
        if wholly:
            self._wholly_at_s = now_s
        sight = self._watcher.look(wholly=wholly)
        recorded = Recorded() if self._record is None else self._record.read_whole()
        kept = {
            key: {vcpu: mask.ours[-1] for vcpu, mask in guest.masks.items()}
            for key, guest in recorded.guests.items()
        }
        made = board(sight, self._totals, kept=kept, home_share=self._home_share)
        self._totals = dict(made.totals)
        ordered = tuple(sorted(made.guests, key=lambda row: _order(row, self._sort)))
        return made._replace(guests=ordered), recorded, sight.seconds


def _order(row: "GuestRow", sort: str) -> tuple[float, str]:
    share = 2.0 if row.residency is None else row.residency
    number = {"runs": -row.ran, "waits": -row.waited, "resident": share}.get(sort, 0.0)
    return number, row.name


def _title(uri: str, *, works: bool) -> str:
    keeper = "a keeper is at work" if works else "no keeper is at work"
    return f"{uri}   {time.strftime('%H:%M:%S')}   {keeper}"


def _draw(looks: _Looks, board: "Board", recorded: "Recorded") -> None:
    from rich.console import Console  # noqa: PLC0415 - only where something is drawn

    from homenode.cli.top_screen import screen  # noqa: PLC0415 - brings in rich

    events = recorded.events[-_LINES_OF_EVENTS:]
    width = None if sys.stdout.isatty() else 160
    console = Console(no_color=not colours_wanted(), highlight=False, width=width)
    console.print(screen(board, events, title=_title(looks.uri, works=looks.works(recorded))))


def _live(looks: _Looks, chosen: "Namespace") -> None:
    from rich.console import Console  # noqa: PLC0415 - only where something is drawn
    from rich.live import Live  # noqa: PLC0415 - the same

    from homenode.cli.top_screen import screen  # noqa: PLC0415 - brings in rich

    console = Console(no_color=not colours_wanted(), highlight=False)
    with Live(console=console, screen=True, auto_refresh=False) as live:
        while True:
            time.sleep(chosen.interval)
            board, recorded, _ = looks.next()
            events = recorded.events[-min(_LINES_OF_EVENTS, console.height // 6) :]
            room = console.height - len(board.nodes) - len(events) - _OTHER_LINES
            live.update(
                screen(
                    board,
                    events,
                    title=_title(looks.uri, works=looks.works(recorded)),
                    most_guests=max(1, room),
                ),
                refresh=True,
            )


def _document(
    board: "Board", recorded: "Recorded", seconds: float, *, works: bool
) -> dict[str, object]:
    guests = [
        {
            **row._asdict(),
            "home": None if row.home is None else list(row.home),
            "held": None if row.held is None else list(row.held),
            "by_node": [{"node": node, "cpus": ran} for node, ran in sorted(row.by_node.items())],
        }
        for row in board.guests
    ]
    return {
        "version": 1,
        "at": time.time(),
        "seconds": seconds,
        "keeper": "works" if works else "absent",
        "nodes": [row._asdict() for row in board.nodes],
        "guests": guests,
        "events": list(recorded.events),
    }
