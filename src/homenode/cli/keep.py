"""``homenode keep``: hold guests at home while it has room, let them spread when it has not."""

import gc
import json
import sys
import time
from argparse import ArgumentParser
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from homenode.cli.common import add_connection, connect, end_as_interrupted, parser
from homenode.errors import ExitStatus, HomenodeError, HypervisorError

if TYPE_CHECKING:
    from argparse import Namespace
    from collections.abc import Callable

    from homenode.configuration import KeeperConfiguration
    from homenode.drivers.base import Driver
    from homenode.keeper.events import Event
    from homenode.keeper.loop import Keeper
    from homenode.keeper_record import Record

_EXAMPLES = """\
  homenode keep --once --dry-run            what would it do now, and why?
  homenode keep                             do it, until Ctrl-C; then all masks are as before
  homenode keep --release                   give back what a keeper that was killed has left
  homenode keep --json --metrics /var/lib/node_exporter/textfile/homenode.prom
  homenode keep --settings                  every number, its meaning, and where it is set
  homenode keep -c sim:try?load=busy        on a simulated host, whose guests are busy
  systemctl enable --now homenode-keeper    as a service (the unit is shipped, not enabled)

Every few seconds it looks how long each vcpu ran and waited. Vcpus are held to the nodes of their
guest's memory while these have room; where home is saturated, starving ones may use the nearest
node with room as well; when home has room again they come back. On Xen masks are set by xl
vcpu-pin: hard affinity, under the credit scheduler soft affinity. On KVM the threads' masks are set
(virsh vcpuinfo shows them), and nothing of that is in a guest's XML. Guests whose user has pinned
them, and those with cpus of their own, are left alone, and it says so. Whenever it ends, all masks
are as they were; if it is killed, when it is started again or by --release. It has to run on the
host itself. Other programs that move vcpus or memory (numad, the kernel's NUMA balancing) are named
at the start.

--json prints an object for each line: {"version": 1, "at": seconds, "event": "start"|"hold"|
"spread"|"return"|"yield"|"left-alone"|"let-go"|"release"|"trouble"|"stop", "guest", "vcpus",
"nodes": [node], "cpus", "text", "dry_run"}
"""

_ROUNDS_OF_COST = 12
"""Over so many rounds the cost of one is averaged."""


def options() -> ArgumentParser:
    """Return the parser of the verb."""
    made = parser("keep", "Keep guests at home while it has room.", examples=_EXAMPLES)
    add_connection(made)
    made.add_argument("--once", action="store_true", help="decide once, with --dry-run")
    made.add_argument("--dry-run", action="store_true", help="say what it would do, and do nothing")
    made.add_argument(
        "--release", action="store_true", help="give back all masks that a keeper has left, and end"
    )
    made.add_argument("--settings", action="store_true", help="print all settings, and end")
    made.add_argument(
        "--config", metavar="FILE", help="settings (default: /etc/homenode/homenode.toml)"
    )
    made.add_argument(
        "--metrics", metavar="FILE", help="a text file for node_exporter, written now and then"
    )
    return made


def run(arguments: list[str]) -> int:
    """Run the verb."""
    gc.enable()  # it lives for long
    chosen = _chosen(arguments)
    from homenode.configuration import keeper_configuration  # noqa: PLC0415 - after --help

    configured = keeper_configuration(chosen.config)
    if chosen.settings:
        _print_settings(configured, as_json=chosen.json)
        return ExitStatus.DONE
    driver = connect(chosen.connect or configured.connect)
    record = _record(driver)
    if chosen.dry_run:
        return _would(driver, record, configured, chosen)
    _refuse_from_afar(driver)
    with record.alone():
        keeper = _keeper(driver, record, configured, chosen)
        if chosen.release:
            return _release(keeper)
        return _Service(keeper, driver, chosen.metrics or configured.metrics).run()


def _chosen(arguments: list[str]) -> "Namespace":
    chosen = options().parse_args(arguments)
    if chosen.once and not chosen.dry_run:
        raise HomenodeError(
            "--once goes with --dry-run: a keeper that ends gives all masks back",
            hint="homenode keep --once --dry-run",
        )
    if chosen.release and chosen.dry_run:
        raise HomenodeError("--release sets masks, and --dry-run sets none", hint="leave one out")
    return chosen


def _record(driver: "Driver") -> "Record":
    from homenode.keeper_record import Record, record_file  # noqa: PLC0415 - after --help

    ledger = driver.ledger
    if ledger is None:
        raise HomenodeError(
            f"{driver.uri}: nothing runs there that could be kept",
            hint="xen:///, qemu:///system, or sim:NAME?load=busy to try it",
        )
    return Record(record_file(ledger.path, storage=ledger.storage), boot_id=ledger.boot_id)


def _refuse_from_afar(driver: "Driver") -> None:
    if "+" in driver.uri.partition(":")[0]:
        raise HomenodeError(
            f"{driver.uri}: a keeper that loses its host could give nothing back",
            hint="run it on the host itself; --once --dry-run works from here",
        )


def _keeper(
    driver: "Driver", record: "Record", configured: "KeeperConfiguration", chosen: "Namespace"
) -> "Keeper":
    from homenode.keeper.loop import Clocks, Keeper  # noqa: PLC0415 - after --help

    return Keeper(
        driver.watcher(),
        record,
        configured.settings,
        report=_report(as_json=chosen.json),
        clocks=Clocks(time.monotonic, time.time),
        dry_run=chosen.dry_run,
    )


def _report(*, as_json: bool) -> "Callable[[Event], None]":
    def report(event: "Event") -> None:
        # Nobody reads any more: no reason to stop in the middle of giving masks back.
        with suppress(OSError):
            print(json.dumps(event.document()) if as_json else event.line(), flush=True)

    return report


def _would(
    driver: "Driver", record: "Record", configured: "KeeperConfiguration", chosen: "Namespace"
) -> int:
    """Say what a keeper would do, once or on and on."""
    keeper = _keeper(driver, record, configured, chosen)
    end_as_interrupted()
    keeper.round()
    while True:
        if sys.stderr.isatty() and chosen.once:
            sys.stderr.write(f"watching the vcpus for {configured.settings.round_s:g} s\n")
        time.sleep(configured.settings.round_s)
        keeper.round()
        if chosen.once:
            break
    if not keeper.changes and not chosen.json:
        print(f"nothing to do: {len(keeper.kept)} guests are kept where they are")
    return ExitStatus.DONE


def _release(keeper: "Keeper") -> int:
    left = keeper.release(why="asked for")
    if left:
        raise HypervisorError(f"masks of {', '.join(left)} are not given back", hint="try again")
    return ExitStatus.DONE


class _Service:
    """The keeper as a process: rounds until it is told to end, and then all is as before."""

    def __init__(self, keeper: "Keeper", driver: "Driver", metrics: str | None) -> None:
        from homenode.service_manager import ServiceManager  # noqa: PLC0415 - after --help

        self._keeper = keeper
        self._driver = driver
        self._manager = ServiceManager()
        self._metrics = None if metrics is None else _metrics_writer(metrics, keeper)
        self._metrics_at_s = float("-inf")
        self._failures = 0
        self._cost_s = 0.0

    def run(self) -> int:
        """Keep until interrupted."""
        keeper = self._keeper
        end_as_interrupted()
        try:
            self._begin()
            while True:
                began_s = time.monotonic()
                self._round()
                time.sleep(max(0.0, self._pause_s() - (time.monotonic() - began_s)))
        except KeyboardInterrupt:
            pass
        finally:
            self._manager.stopping()
            _ignore_interrupts()
            left = keeper.release(why="the keeper ends")
            keeper.tell("stop", "all masks are as before" if not left else "some masks stay")
        if left:
            raise HypervisorError(
                f"masks of {', '.join(left)} are not given back", hint="homenode keep --release"
            )
        return ExitStatus.DONE

    def _begin(self) -> None:
        from homenode.keeper.balancers import others_at_work  # noqa: PLC0415 - once

        self._keeper.release(why="an earlier keeper left them")
        words = "; ".join(others_at_work(self._driver.uri))
        self._keeper.tell("start", f"keeping guests of {self._driver.uri}; {words}")
        self._manager.ready("the first round")

    def _round(self) -> None:
        keeper = self._keeper
        try:
            done = keeper.round()
            self._failures = 0
            # Looking wholly, once a minute, costs more than the rounds between.
            self._cost_s += (done.own_cpu_s - self._cost_s) / _ROUNDS_OF_COST
        except HomenodeError as error:
            self._failures += 1
            if self._failures == 1:
                keeper.tell("trouble", str(error))
            if keeper.is_blind and keeper.own:
                with suppress(HomenodeError):  # it is tried again in the next round
                    keeper.release(why="nothing can be seen")
            return
        status = f"{len(keeper.kept)} guests kept, {len(keeper.left_alone)} left alone"
        self._manager.alive(f"{status}, {done.own_cpu_s * 1000:.0f} ms of cpu time in this round")
        now_s = time.monotonic()
        if self._metrics is not None and now_s - self._metrics_at_s >= keeper.settings.metrics_s:
            self._metrics_at_s = now_s
            try:
                self._metrics()
            except OSError as error:
                keeper.tell("trouble", f"metrics: {error.filename}: {error.strerror}")
                self._metrics = None

    def _pause_s(self) -> float:
        """Return how long a round is: longer, where it costs too much; but systemd waits."""
        settings = self._keeper.settings
        cost_s = self._cost_s / settings.own_cpu_share
        watchdog_s = self._manager.watchdog_s
        longest_s = (
            settings.blind_s if watchdog_s is None else min(settings.blind_s, watchdog_s / 2)
        )
        return max(settings.round_s, min(cost_s, longest_s))


def _ignore_interrupts() -> None:
    import signal  # noqa: PLC0415 - only here

    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)


def _metrics_writer(path: str, keeper: "Keeper") -> "Callable[[], None]":
    from homenode.keeper.metrics import writer  # noqa: PLC0415 - only where asked for

    folder = Path(path).parent
    if not folder.is_dir():
        raise HomenodeError(f"{path}: {folder} is no folder", hint="--metrics names a file")
    return writer(path, keeper)


def _print_settings(configured: "KeeperConfiguration", *, as_json: bool) -> None:
    from homenode.configuration import PATH  # noqa: PLC0415 - only here
    from homenode.keeper.settings import NUMBERS  # noqa: PLC0415 - the same

    values = configured.settings._asdict()
    rows = [
        {
            "name": name,
            "value": values[name],
            "least": number.least,
            "most": number.most,
            "meaning": number.meaning,
            "from": configured.sources.get(name),
        }
        for name, number in NUMBERS.items()
    ]
    if as_json:
        print(json.dumps({"version": 1, "settings": rows}, indent=2))
        return
    print(f"# [keeper] in {PATH}, or in homenode.d/*.toml beside it\n[keeper]")
    for row in rows:
        origin = f" (from {row['from']})" if row["from"] else ""
        print(f"# {row['meaning']}; {row['least']:g} to {row['most']:g}{origin}")
        print(f"{row['name']} = {row['value']:g}")
